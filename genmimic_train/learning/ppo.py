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

from genmimic.core.robot import Robot
from genmimic_train.config import PpoConfig, TrainConfig
from genmimic_train.learning.distributed import DistributedPPO, World
from genmimic_train.learning.networks import actor_config
from genmimic_train.learning.warm_start import warm_start
from genmimic_train.runs import Run, chance_state, seed_everything, set_chance_state, stop_between_iterations
from genmimic_train.tracking.encoding import output_mirror, teacher_mirror
from genmimic_train.tracking.env import TrackingEnv


class SymmetricSurrogate(Symmetry):
    """L_PPO + lambda L_SYM (Eq. 2) by joining each minibatch with its mirror image.

    A mirrored sample keeps the old log-probability and the advantage of its original, so that its
    ratio is Eq. 3. The mean over both halves would weigh each by one half; advantages are scaled by
    2 and 2 lambda instead, which is exact, since the surrogate is linear in a positive scale. (The
    value loss and the entropy are means over both halves; the critic thus learns from both.)
    """

    def __init__(
        self, robot: Robot, coefficient: float, teacher_goal: str = "keypoints", learned_weights: bool = False
    ) -> None:
        super().__init__(None, self._mirror_batch, use_data_augmentation=True)  # type: ignore[arg-type]
        self._observation = teacher_mirror(robot, teacher_goal)
        self._action = output_mirror(robot, learned_weights)
        self._coefficient = coefficient

    def _mirror_batch(self, env: Any, obs: TensorDict, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor]:
        groups = {name: self._observation(values) for name, values in obs.items()}
        mirrored = TensorDict(groups, obs.batch_size, device=obs.device)
        return torch.cat([obs, mirrored]), torch.cat([actions, self._action(actions)])

    def augment_batch(self, batch: RolloutStorage.Batch, original_batch_size: int) -> None:
        super().augment_batch(batch, original_batch_size)
        scale = torch.full_like(batch.advantages, 2.0)  # type: ignore[arg-type]
        scale[original_batch_size:] *= self._coefficient
        batch.advantages = batch.advantages * scale  # type: ignore[operator]

    def compute_loss(self, actor: MLPModel, batch: RolloutStorage.Batch, original_batch_size: int) -> torch.Tensor:
        return torch.zeros(())  # the stock one runs another forward pass, for its log alone


def build_ppo(env: TrackingEnv, config: PpoConfig, device: str = "cpu", world: World = World()) -> PPO:  # noqa: B008
    """Return the learner for ``env``, its actor reading ``teacher`` and its critic ``critic``."""
    together = world.size > 1
    settings: dict[str, Any] = {
        "num_steps_per_env": config.steps_per_env,
        "obs_groups": {"actor": ["teacher"], "critic": ["critic"]},
        "actor": actor_config(config.hidden, config.init_std),
        "critic": actor_config(config.hidden, None),
        "multi_gpu": world.multi_gpu,
        "algorithm": {
            "class_name": DistributedPPO if together else PPO,
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
        learner.symmetry = SymmetricSurrogate(
            env.robot, config.symmetry, env.cfg.teacher_goal, env.cfg.rewards.learned_weights
        )
    if together:
        learner.broadcast_parameters()
    return learner


def train_teacher(
    env: TrackingEnv,
    config: TrainConfig,
    run: Run,
    samples: float = math.inf,
    minutes: float = math.inf,
    report: Any = print,
    learner_threads: int = 2,
    world: World = World(),  # noqa: B008
) -> dict[str, float]:
    """Train until ``samples`` in all or ``minutes`` in this call, from the run's checkpoint if it has one.

    With the same motions, sizes and simulator a resumed run goes on bit for bit as if it had never stopped;
    otherwise from its weights, with new episodes. SIGINT and SIGTERM end it after the iteration, checkpoint written.

    Returns the last iteration's figures.

    Raises:
        KeyboardInterrupt: A signal ended it.
        TrainingError: Learning diverged; the checkpoint before stays.
    """
    seed_everything(config.seed + 7919 * world.rank)
    ppo = build_ppo(env, config.ppo, env.device, world)
    iteration, done_samples = 0, 0
    if run.checkpoint.exists():
        state = run.load()
        parts = {"actor": True, "critic": True, "optimizer": "optimizer_state_dict" in state}  # a packed run has none
        ppo.load(state, parts, True)
        iteration, done_samples = state["iteration"], state["samples"]
        exact = _go_on_exactly(env, run, state, world)
        if world.main:
            run.note_resumed(done_samples, exact)
        if not exact:
            seed_everything(config.seed + 7919 * world.rank + 104729 * iteration)
            if state["failures"].shape == env.library.failures.shape:  # else the run goes on with other motions
                env.library.failures.copy_(state["failures"])
            env.level = state["level"]
            env.assist = state.get("assist", env.assist)
    elif config.ppo.warm_start:
        warm_start(ppo.get_policy(), env)
        if world.size > 1:
            ppo.broadcast_parameters()

    def save() -> None:
        here = {"env": env.state_dict(), "chance": chance_state(), "world": world.size, "iteration": iteration}
        if not world.main:
            run.save(here, f"rank{world.rank}.pt")
            return
        run.save(
            {
                **ppo.save(),
                "iteration": iteration,
                "samples": done_samples,
                "failures": env.library.failures.cpu(),
                "level": env.level,
                "assist": env.assist,
                "exact": here,
            }
        )

    writer = SummaryWriter(str(run.folder / "curves")) if world.main else None
    start = last_save = time.monotonic()
    figures: dict[str, float] = {}
    per_iteration = config.ppo.steps_per_env * env.num_envs * world.size
    ppo.train_mode()
    obs = env.get_observations()
    saved_at = iteration
    try:
        with stop_between_iterations() as stop:
            while world.share(
                done_samples < samples and time.monotonic() - start < 60.0 * minutes and not stop.is_set()
            ):
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
                fell = _over_ranks(figures.get("track/fell"), world)
                figures |= {f"loss/{name}": value for name, value in losses.items()}
                figures |= {
                    "train/reward": reward_sum / config.ppo.steps_per_env,
                    "train/std": float(ppo.get_policy().output_std.detach().mean()),
                    "train/learning_rate": ppo.learning_rate,
                    "train/level": env.level,
                    "speed/collect_per_s": per_iteration / (collected - began),
                    "speed/samples_per_s": per_iteration / (ended - began),
                }
                if env.cfg.assist.on:
                    figures["train/assist"] = env.assist
                if writer is not None:
                    for name, value in figures.items():
                        writer.add_scalar(name, value, done_samples)
                if fell is not None:
                    env.adapt_level(fell)
                if world.share(ended - last_save > config.checkpoint_s):
                    save()
                    last_save, saved_at = ended, iteration
                if world.main:
                    report(iteration, done_samples, figures)
            if saved_at != iteration or not run.checkpoint.exists():
                save()
            if stop.is_set():
                raise KeyboardInterrupt
    finally:
        if writer is not None:
            writer.close()
    return figures


def _go_on_exactly(env: TrackingEnv, run: Run, state: dict[str, Any], world: World) -> bool:
    """Put environment and chance where the checkpoint left them, if it knows and they fit; return whether."""
    exact = state.get("exact")
    if not world.main:
        part = run.folder / f"rank{world.rank}.pt"
        exact = run.load(part.name) if part.is_file() else None
    fits = (
        exact is not None
        and exact["world"] == world.size
        and exact["iteration"] == state["iteration"]
        and env.load_state_dict(exact["env"])
    )
    if fits:
        set_chance_state(exact["chance"])  # type: ignore[index]
    return bool(fits)


def _over_ranks(fell: float | None, world: World) -> float | None:
    """Return the share of episodes that fell, averaged over the ranks where any ended."""
    if world.size == 1:
        return fell
    total = world.sum(torch.tensor([fell or 0.0, float(fell is not None)], dtype=torch.float64))
    return float(total[0] / total[1]) if total[1] else None
