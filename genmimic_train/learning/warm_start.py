# SPDX-License-Identifier: Apache-2.0
"""A warm start for the teacher's arms: imitate the reference's joint angles before reinforcement begins.

Light arms under stiff position control go where they are told, so the reference's own angles are a
good first answer there, and nothing that PPO has to find by chance. The legs, which must balance,
keep what the actor does already. Ours; the paper starts from scratch on 1.5 billion samples.
"""

from __future__ import annotations

import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict

from genmimic_train.tracking.env import ARM_LEAD_S, TrackingEnv, arm_joints


def warm_start(
    actor: MLPModel,
    env: TrackingEnv,
    rounds: int = 6,
    steps: int = 40,
    epochs: int = 6,
    batch: int = 1024,
    learning_rate: float = 1e-3,
    arm_std: float = 0.3,
) -> list[float]:
    """Teach ``actor`` the arms of the reference in place; return the mean squared arm error of each round.

    Each round collects ``steps`` control steps of all environments under the present policy and fits
    all samples so far. ``arm_std`` is then the arms' exploration.
    """
    arms = arm_joints(env.robot)
    optimizer = torch.optim.Adam(actor.mlp.parameters(), lr=learning_rate)
    seen: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    errors: list[float] = []
    obs = env.get_observations()
    for _ in range(rounds):
        with torch.no_grad():
            for _ in range(steps):
                actions = actor(obs, stochastic_output=True).clone()
                label = actor.output_mean.clone()
                label[:, arms] = env.reference_action(ARM_LEAD_S)[:, arms]
                seen.append(obs["teacher"])
                labels.append(label)
                obs, _, _, _ = env.step(actions)
            if not errors:
                actor.train()
                actor.update_normalization(
                    TensorDict({"teacher": torch.cat(seen)}, batch_size=[len(seen[0]) * len(seen)])
                )
        all_obs, all_labels = torch.cat(seen), torch.cat(labels)
        total, count = 0.0, 0
        for _ in range(epochs):
            for idx in torch.randperm(len(all_obs)).split(batch):
                sample = TensorDict({"teacher": all_obs[idx]}, batch_size=[len(idx)])
                error = (actor(sample) - all_labels[idx]) ** 2
                optimizer.zero_grad()
                error.mean().backward()
                optimizer.step()
                total, count = total + float(error[:, arms].detach().mean()), count + 1
        errors.append(total / count)
    with torch.no_grad():
        actor.distribution.std_param[arms] = arm_std  # type: ignore[union-attr, index]
    return errors
