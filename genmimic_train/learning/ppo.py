# SPDX-License-Identifier: Apache-2.0
"""The teacher: rsl-rl's PPO with the symmetry loss of Eq. 2-3."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections import defaultdict
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.extensions import Symmetry
from rsl_rl.models import MLPModel
from rsl_rl.storage import RolloutStorage
from tensordict import TensorDict
from torch.utils.tensorboard import SummaryWriter

from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.observation import TEACHER
from genmimic.core.robot import Robot
from genmimic_train.config import PpoConfig, TrainConfig
from genmimic_train.learning.networks import actor_config
from genmimic_train.learning.warm_start import warm_start
from genmimic_train.runs import Run
from genmimic_train.tracking.env import TrackingEnv


class SymmetricSurrogate(Symmetry):
    """L_PPO + lambda L_SYM (Eq. 2) by joining each minibatch with its mirror image.

    A mirrored sample keeps the old log-probability and the advantage of its original, so that its
    ratio is Eq. 3. The mean over both halves would weigh each by one half; advantages are scaled by
    2 and 2 lambda instead, which is exact, since the surrogate is linear in a positive scale. (The
    value loss and the entropy are means over both halves; the critic thus learns from both.)
    """

    def __init__(self, robot: Robot, coefficient: float) -> None:
        super().__init__(None, self._mirror_batch, use_data_augmentation=True)  # type: ignore[arg-type]
        self._observation = observation_mirror(robot, TEACHER)
        self._action = action_mirror(robot)
        self._coefficient = coefficient

    def _mirror_batch(self, env: Any, obs: TensorDict, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor]:
        mirrored = TensorDict({name: self._observation(values) for name, values in obs.items()}, obs.batch_size)
        return torch.cat([obs, mirrored]), torch.cat([actions, self._action(actions)])

    def augment_batch(self, batch: RolloutStorage.Batch, original_batch_size: int) -> None:
        super().augment_batch(batch, original_batch_size)
        scale = torch.full_like(batch.advantages, 2.0)  # type: ignore[arg-type]
        scale[original_batch_size:] *= self._coefficient
        batch.advantages = batch.advantages * scale  # type: ignore[operator]

    def compute_loss(self, actor: MLPModel, batch: RolloutStorage.Batch, original_batch_size: int) -> torch.Tensor:
        return torch.zeros(())  # the stock one runs another forward pass, for its log alone


def build_ppo(env: TrackingEnv, config: PpoConfig, device: str = "cpu") -> PPO:
    """Return the learner for ``env``, its actor reading ``teacher`` and its critic ``critic``."""
    settings: dict[str, Any] = {
        "num_steps_per_env": config.steps_per_env,
        "obs_groups": {"actor": ["teacher"], "critic": ["critic"]},
        "actor": actor_config(config.hidden, config.init_std),
        "critic": actor_config(config.hidden, None),
        "multi_gpu": None,
        "algorithm": {
            "class_name": "rsl_rl.algorithms:PPO",
            "num_learning_epochs": config.epochs,
            "num_mini_batches": config.minibatches,
            "clip_param": config.clip,
            "gamma": config.gamma,
            "lam": config.gae_lambda,
            "entropy_coef": config.entropy,
            "learning_rate": config.learning_rate,
            "schedule": "adaptive",
            "desired_kl": config.desired_kl,
            "use_mixed_precision": config.mixed_precision,
        },
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints both networks
        learner = PPO.construct_algorithm(env.get_observations(), env, settings, device)
    if config.symmetry > 0.0:
        learner.symmetry = SymmetricSurrogate(env.robot, config.symmetry)
    return learner


def train_teacher(
    env: TrackingEnv,
    config: TrainConfig,
    run: Run,
    samples: float = math.inf,
    minutes: float = math.inf,
    report: Any = print,
    learner_threads: int = 2,
) -> dict[str, float]:
    """Train until ``samples`` in all or ``minutes`` in this call, from the run's checkpoint if it has one.

    Returns the last iteration's figures.
    """
    ppo = build_ppo(env, config.ppo, env.device)
    iteration, done_samples = 0, 0
    if run.checkpoint.exists():
        state = run.load()
        parts = {"actor": True, "critic": True, "optimizer": "optimizer_state_dict" in state}  # a packed run has none
        ppo.load(state, parts, True)
        iteration, done_samples = state["iteration"], state["samples"]
        if state["failures"].shape == env.library.failures.shape:  # else the run goes on with other motions
            env.library.failures.copy_(state["failures"])
        env.level = state["level"]
    elif config.ppo.warm_start:
        warm_start(ppo.get_policy(), env)

    def save() -> None:
        run.save(
            {
                **ppo.save(),
                "iteration": iteration,
                "samples": done_samples,
                "failures": env.library.failures.cpu(),
                "level": env.level,
            }
        )

    writer = SummaryWriter(str(run.folder / "curves"))
    start = last_save = time.monotonic()
    figures: dict[str, float] = {}
    per_iteration = config.ppo.steps_per_env * env.num_envs
    ppo.train_mode()
    obs = env.get_observations()
    try:
        while done_samples < samples and time.monotonic() - start < 60.0 * minutes:
            began = time.monotonic()
            logs: dict[str, list[torch.Tensor]] = defaultdict(list)
            torch.set_num_threads(1)
            with torch.inference_mode():
                reward_sum = 0.0
                for _ in range(config.ppo.steps_per_env):
                    actions = ppo.act(obs)
                    obs, reward, dones, extras = env.step(actions)
                    ppo.process_env_step(obs, reward, dones, extras)
                    reward_sum += float(reward.mean())
                    for name, value in extras.get("log", {}).items():
                        logs[name].append(value)
                ppo.compute_returns(obs)
            collected = time.monotonic()
            torch.set_num_threads(learner_threads)
            losses = ppo.update()
            ended = time.monotonic()

            iteration += 1
            done_samples += per_iteration
            figures = {name: float(torch.stack(values).mean()) for name, values in logs.items()}
            figures |= {f"loss/{name}": value for name, value in losses.items()}
            figures |= {
                "train/reward": reward_sum / config.ppo.steps_per_env,
                "train/std": float(ppo.get_policy().output_std.detach().mean()),
                "train/learning_rate": ppo.learning_rate,
                "train/level": env.level,
                "speed/collect_per_s": per_iteration / (collected - began),
                "speed/samples_per_s": per_iteration / (ended - began),
            }
            for name, value in figures.items():
                writer.add_scalar(name, value, done_samples)
            if "track/fell" in figures:
                env.adapt_level(figures["track/fell"])
            if ended - last_save > config.checkpoint_s:
                save()
                last_save = ended
            report(iteration, done_samples, figures)
    finally:
        save()
        writer.close()
    return figures
