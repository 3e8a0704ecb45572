# SPDX-License-Identifier: Apache-2.0
"""One rollout of eight robots, learnt from by one process or, half each, by two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from genmimic.core.robot import G1_23DOF
from genmimic_train.config import load_config
from genmimic_train.learning.distributed import World
from genmimic_train.learning.ppo import build_ppo
from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator
from genmimic_train.tracking.env import TrackingEnv
from genmimic_train.tracking.motions import MotionLibrary

OVERRIDES = ["env.num_envs=8", "ppo.hidden=[16]", "ppo.steps_per_env=4", "ppo.minibatches=1", "ppo.epochs=2",
             "ppo.symmetry=0.5", "ppo.init_std=0.5", "ppo.warm_start=false"]  # fmt: skip


def learn_from_half(motion: str, world: World) -> dict[str, Any]:
    """Return weights, learning rate and normaliser after learning from this rank's share of the same eight robots."""
    config = load_config(None, OVERRIDES)
    library = MotionLibrary.load(G1_23DOF, [motion], mirror=True)
    torch.manual_seed(0)
    everyone = TrackingEnv(config.env, MujocoCpuSimulator(8, threads=1), library, seed=1)
    whole = build_ppo(everyone, config.ppo)
    obs = everyone.get_observations()
    with torch.inference_mode():
        for _ in range(4):
            obs, reward, done, extras = everyone.step(whole.act(obs))
            whole.process_env_step(obs, reward + torch.arange(8) / 8.0, done, extras)  # the halves differ

    own = world.part_of(8, "robots")
    part = slice(own * world.rank, own * (world.rank + 1))
    env = TrackingEnv(replace(config.env, num_envs=own), MujocoCpuSimulator(own, threads=1), library, seed=1)
    ppo = build_ppo(env, config.ppo, world=world)
    ppo.actor.load_state_dict(whole.actor.state_dict())
    ppo.critic.load_state_dict(whole.critic.state_dict())
    for name in ("observations", "rewards", "actions", "dones", "values", "actions_log_prob"):
        getattr(ppo.storage, name).copy_(getattr(whole.storage, name)[:, part])
    ppo.storage.distribution_params = tuple(values[:, part].clone() for values in whole.storage.distribution_params)
    ppo.train_mode()
    with torch.inference_mode():
        ppo.compute_returns(obs[part])
    ppo.storage.advantages = ppo.storage.advantages.clone()
    ppo.update()
    gradient = [value.grad.clone() for model in (ppo.actor, ppo.critic) for value in model.parameters()]
    return {"gradient": gradient, "weights": ppo.actor.state_dict(), "learning_rate": ppo.learning_rate}
