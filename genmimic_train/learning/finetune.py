# SPDX-License-Identifier: Apache-2.0
"""A distilled student goes on learning from its own falls: PPO with the teacher's critic.

Imitation stops where the student cannot see what its teacher acts on: under Table 8's noise the difference of their
actions stays. The same rewards, earned through the student's own observations, go on from there. No part of the paper.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections import defaultdict
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from torch.utils.tensorboard import SummaryWriter

from genmimic.core.errors import ConfigError
from genmimic_train.config import TrainConfig
from genmimic_train.learning.networks import actor_config
from genmimic_train.runs import Run, seed_everything, stop_between_iterations
from genmimic_train.tracking.env import TrackingEnv


def build_student_ppo(env: TrackingEnv, config: TrainConfig, critic_hidden: tuple[int, ...]) -> PPO:
    """Return the learner whose actor is the student and whose critic is a teacher's."""
    settings = config.fine_tune
    with contextlib.redirect_stdout(io.StringIO()):  # it prints both networks
        return PPO.construct_algorithm(
            env.get_observations(),
            env,
            {
                "num_steps_per_env": settings.steps_per_env,
                "obs_groups": {"actor": ["student"], "critic": ["critic"]},
                "actor": actor_config(config.dagger.hidden, settings.init_std, config.dagger.equivariant),
                "critic": actor_config(critic_hidden, None),
                "multi_gpu": None,
                "algorithm": {
                    "class_name": PPO,
                    "num_learning_epochs": settings.epochs,
                    "num_mini_batches": settings.minibatches,
                    "clip_param": config.ppo.clip,
                    "gamma": config.ppo.gamma,
                    "lam": config.ppo.gae_lambda,
                    "entropy_coef": 0.0,
                    "learning_rate": settings.learning_rate,
                    "schedule": "adaptive",
                    "desired_kl": settings.desired_kl,
                },
            },
            env.device,
        )


def begin_from(student: Run, teacher: Run) -> dict[str, Any]:
    """Return the checkpoint that a new fine-tuning run begins with, of a student's and a teacher's run.

    Raises:
        ConfigError: One of the folders holds something else.
        InputFileError: One holds no checkpoint.
    """
    for run, kind in ((student, "student"), (teacher, "teacher")):
        if run.info()["kind"] != kind:
            raise ConfigError(f"{run.folder} holds a {run.info()['kind']} run, expected a {kind}'s")
    state, teachers = student.load(), teacher.load()
    if "critic_state_dict" not in teachers:
        raise ConfigError(f"{teacher.folder} holds no critic")
    return {
        "actor_state_dict": state["actor_state_dict"],
        "critic_state_dict": teachers["critic_state_dict"],
        "iteration": 0,
        "samples": state["samples"],
        "level": state["level"],
    }


def fine_tune(
    env: TrackingEnv,
    config: TrainConfig,
    critic_hidden: tuple[int, ...],
    run: Run,
    samples: float = math.inf,
    minutes: float = math.inf,
    report: Any = print,
    learner_threads: int = 2,
) -> dict[str, float]:
    """Go on from the run's checkpoint until ``samples`` in all, distillation included, or ``minutes`` in this call.

    Its first iterations teach the critic alone what this actor, and not its teacher, will earn.

    Returns the last iteration's figures.

    Raises:
        KeyboardInterrupt: A signal ended it, with a checkpoint written.
        TrainingError: Learning diverged; the checkpoint before stays.
    """
    settings = config.fine_tune
    state = run.load()
    seed_everything(config.seed + 104729 * state["iteration"])
    ppo = build_student_ppo(env, config, critic_hidden)
    actor = ppo.get_policy()
    actor.load_state_dict({**actor.state_dict(), **state["actor_state_dict"], **state.get("exploration", {})})
    ppo.critic.load_state_dict(state["critic_state_dict"])
    if "optimizer_state_dict" in state:
        ppo.optimizer.load_state_dict(state["optimizer_state_dict"])
        ppo.learning_rate = ppo.optimizer.param_groups[0]["lr"]
    iteration, done_samples = state["iteration"], state["samples"]
    env.level = state["level"]

    def save() -> None:
        weights = actor.state_dict()
        exploration = {name for name in weights if name.startswith("distribution")}
        run.save(
            {
                "actor_state_dict": {name: value for name, value in weights.items() if name not in exploration},
                "exploration": {name: weights[name] for name in exploration},
                "critic_state_dict": ppo.critic.state_dict(),
                "optimizer_state_dict": ppo.optimizer.state_dict(),
                "iteration": iteration,
                "samples": done_samples,
                "level": env.level,
            }
        )

    writer = SummaryWriter(str(run.folder / "curves"))
    start = last_save = time.monotonic()
    figures: dict[str, float] = {}
    per_iteration = settings.steps_per_env * env.num_envs
    ppo.train_mode()
    obs = env.get_observations()
    try:
        with stop_between_iterations() as stop:
            while done_samples < samples and time.monotonic() - start < 60.0 * minutes and not stop.is_set():
                began = time.monotonic()
                logs: dict[str, list[torch.Tensor]] = defaultdict(list)
                reward_sum = 0.0
                torch.set_num_threads(1)
                with torch.inference_mode():
                    for _ in range(settings.steps_per_env):
                        obs, reward, dones, extras = env.step(ppo.act(obs))
                        ppo.process_env_step(obs, reward, dones, extras)
                        reward_sum += float(reward.mean())
                        for name, value in extras.get("log", {}).items():
                            logs[name].append(value)
                    ppo.compute_returns(obs)
                torch.set_num_threads(learner_threads)
                kept = None
                if iteration < settings.critic_iterations:
                    kept = {name: value.clone() for name, value in actor.state_dict().items()}
                losses = ppo.update()
                if kept is not None:
                    actor.load_state_dict(kept)
                ended = time.monotonic()

                iteration += 1
                done_samples += per_iteration
                figures = {name: float(torch.stack(values).mean()) for name, values in logs.items()}
                figures |= {f"loss/{name}": value for name, value in losses.items()}
                figures |= {
                    "train/reward": reward_sum / settings.steps_per_env,
                    "train/std": float(actor.output_std.detach().mean()),
                    "train/learning_rate": ppo.learning_rate,
                    "train/level": env.level,
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
            save()
            if stop.is_set():
                raise KeyboardInterrupt
    finally:
        writer.close()
    return figures
