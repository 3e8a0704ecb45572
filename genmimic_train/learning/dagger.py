# SPDX-License-Identifier: Apache-2.0
"""The student: DAgger with the symmetric batch (paper B.1).

The student acts, the teacher labels what the student saw, and the squared difference of their
actions is minimised over the batch joined with its mirror image. rsl-rl's Distillation refuses
symmetry and takes its steps in time order; this one draws from a buffer of the latest samples.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict
from torch.utils.tensorboard import SummaryWriter

from genmimic.core.errors import ConfigError
from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.observation import STUDENT, size
from genmimic.core.robot import G1_23DOF
from genmimic_train.config import DaggerConfig, TrainConfig
from genmimic_train.export import NORMALIZER_EPS, read_policy
from genmimic_train.learning.networks import EquivariantStudent, make_actor
from genmimic_train.runs import Run, chance_state, seed_everything, set_chance_state, stop_between_iterations
from genmimic_train.tracking.encoding import output_size, teacher_size
from genmimic_train.tracking.env import TrackingEnv

BUFFER_NAME = "buffer.pt"
_TRUSTED_SAMPLES = 2_000_000
"""How many samples the normaliser of an exported policy counts for when a run begins with it."""


def load_teacher(run: Run) -> tuple[MLPModel, dict[str, Any]]:
    """Return the teacher of a run folder, and what the student's record keeps of it.

    It reads the group ``critic``; behind its action there are keypoint weights if it learned those.
    """
    info = run.info()
    if info["kind"] != "teacher":
        raise ConfigError(f"{run.folder} holds a {info['kind']} run, expected a teacher's")
    state, config = run.load(), run.config()
    outputs = output_size(G1_23DOF, config.env.rewards.learned_weights)
    teacher = make_actor(
        "critic", teacher_size(config.env.teacher_goal), config.ppo.hidden, outputs, config.ppo.init_std
    )
    teacher.load_state_dict(state["actor_state_dict"])
    teacher.eval()
    facts: dict[str, Any] = {"run": run.folder.name, "samples": state["samples"], "revision": info["revision"]}
    if config.env.teacher_goal != "keypoints":
        facts["teacher_goal"] = config.env.teacher_goal
    if config.env.arms_led:
        facts["arms_led"] = True
    return teacher, facts


class Teachers:
    """Those who label, one for each clip: a teacher for gestures and one for walks are learnt sooner than one for both.

    Args:
        models: As from `load_teacher`; all read the same observation.
        of_clip: Index of the teacher of each clip of the library. Shape (C,).
        arms_led: Which of them add their arms' actions to the reference's (`EnvConfig.arms_led`); none when empty.
    """

    def __init__(self, models: Sequence[MLPModel], of_clip: torch.Tensor, arms_led: Sequence[bool] = ()) -> None:
        self._models, self._of_clip = list(models), of_clip
        self._arms_led = list(arms_led) or [False] * len(self._models)

    @classmethod
    def alone(cls, model: MLPModel) -> Teachers:
        """Return one teacher for everything."""
        return cls([model], torch.zeros(0, dtype=torch.long))

    def to(self, device: str) -> Teachers:
        return Teachers([model.to(device) for model in self._models], self._of_clip.to(device), self._arms_led)

    def label(self, obs: TensorDict, env: TrackingEnv) -> torch.Tensor:
        """Return what each robot's teacher would have it do now, as the robot takes it. Shape (N, J)."""
        labels = self._act(0, obs, env)
        for number in range(1, len(self._models)):
            taught = (self._of_clip[env.clip] == number)[:, None]
            labels = torch.where(taught, self._act(number, obs, env), labels)
        return labels

    def _act(self, number: int, obs: TensorDict, env: TrackingEnv) -> torch.Tensor:
        action = self._models[number](obs)[:, : env.num_actions]  # without keypoint weights behind it
        return env.lead_arms(action) if self._arms_led[number] else action


def teacher_of_clips(names: Sequence[str], runs: Sequence[Run]) -> list[int]:
    """Return for each clip the index of the first run that trained on it, by its record; 0 where none did."""
    known = [set(run.info().get("clips", ())) for run in runs]
    return [next((idx for idx, clips in enumerate(known) if name in clips), 0) for name in names]


def load_student(run: Run) -> MLPModel:
    """Return the student of a run folder; it reads the group ``student``."""
    info = run.info()
    if info["kind"] != "student":
        raise ConfigError(f"{run.folder} holds a {info['kind']} run, expected a student's")
    config = run.config().dagger
    student = make_actor("student", size(STUDENT), config.hidden, G1_23DOF.num_joints, None, config.equivariant)
    student.load_state_dict(run.load()["actor_state_dict"])
    student.eval()
    return student


def begin_with(student: MLPModel, path: Path) -> None:
    """Give ``student`` the weights of an exported policy. Raises ConfigError when its layers differ."""
    _, network = read_policy(path)
    layers, mean, std = network.layers, network.mean, network.std
    if network.equivariant != isinstance(student, EquivariantStudent):
        raise ConfigError(f"{path}: this student needs dagger.equivariant={str(network.equivariant).lower()}")
    state = student.state_dict()
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("mlp.")})
    values: dict[str, np.ndarray] = {}
    for number, (weight, bias) in zip(numbers, layers, strict=False):
        values |= {f"mlp.{number}.weight": weight, f"mlp.{number}.bias": bias}
    std = std - NORMALIZER_EPS
    values |= {
        "obs_normalizer._mean": mean[None],
        "obs_normalizer._std": std[None],
        "obs_normalizer._var": std[None] ** 2,
    }
    new = {name: torch.as_tensor(value, dtype=state[name].dtype) for name, value in values.items() if name in state}
    known = {name: tuple(value.shape) for name, value in state.items() if name != "obs_normalizer.count"}
    if len(layers) != len(numbers) or {name: tuple(value.shape) for name, value in new.items()} != known:
        widths = [weight.shape[0] for weight, _ in layers[:-1]]
        raise ConfigError(f"{path}: its hidden layers are {widths}, those of this student differ (dagger.hidden)")
    state.update(new)
    state["obs_normalizer.count"] = torch.tensor(_TRUSTED_SAMPLES)
    student.load_state_dict(state)


class SampleBuffer:
    """The latest (observation, label) pairs, in a ring; observations in half the memory as float16."""

    def __init__(self, capacity: int, obs_size: int, num_actions: int, device: str = "cpu") -> None:
        self._obs = torch.zeros(capacity, obs_size, dtype=torch.float16, device=device)
        self._labels = torch.zeros(capacity, num_actions, device=device)
        self._capacity, self._next, self.count = capacity, 0, 0

    def add(self, obs: torch.Tensor, labels: torch.Tensor) -> None:
        """Append rows, over the oldest ones when full. Shapes (n, obs), (n, J)."""
        idx = (self._next + torch.arange(len(obs), device=obs.device)) % self._capacity
        self._obs[idx] = obs.to(torch.float16)
        self._labels[idx] = labels
        self._next = int((self._next + len(obs)) % self._capacity)
        self.count = min(self.count + len(obs), self._capacity)

    def state_dict(self) -> dict[str, Any]:
        """Return the filled part and where it is written next; 4.8 kB a sample."""
        return {
            "obs": self._obs[: self.count].clone(), "labels": self._labels[: self.count].clone(),
            "next": self._next, "count": self.count,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Take over a `state_dict`; return whether it fits."""
        count = state["count"]
        fits = count <= self._capacity and state["obs"].shape[1:] == self._obs.shape[1:]
        if fits and (count == self._capacity or state["next"] == count):
            self._obs[:count].copy_(state["obs"])
            self._labels[:count].copy_(state["labels"])
            self._next, self.count = state["next"], count
            return True
        return False

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``count`` rows drawn uniformly with replacement."""
        idx = torch.randint(self.count, (count,), device=self._obs.device)
        return self._obs[idx].float(), self._labels[idx]


class Dagger:
    """The student network, its optimiser and the imitation step."""

    def __init__(self, config: DaggerConfig, num_actions: int, device: str = "cpu") -> None:
        student = make_actor("student", size(STUDENT), config.hidden, num_actions, None, config.equivariant)
        self.student = student.to(device)
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=config.learning_rate)
        self._symmetric, self._equivariant = config.symmetric, config.equivariant
        self._mixed_precision = config.mixed_precision
        self._observation_mirror = observation_mirror(G1_23DOF, STUDENT)
        self._action_mirror = action_mirror(G1_23DOF)

    def act(self, obs: TensorDict) -> torch.Tensor:
        """Return the student's action. Shape (N, J)."""
        return self.student(obs)

    def observe(self, obs: torch.Tensor) -> None:
        """Let the input normaliser learn from new observations and their mirror images. Shape (n, 2370)."""
        self.student.train()
        both = torch.cat([obs, self._observation_mirror(obs)]) if self._symmetric else obs
        self.student.obs_normalizer.update(both)

    def imitate(self, obs: torch.Tensor, labels: torch.Tensor) -> float:
        """Take one gradient step on the mean squared difference; return it. Shapes (n, 2370), (n, J)."""
        if self._symmetric and not self._equivariant:  # whose loss over the mirror image is the same
            obs = torch.cat([obs, self._observation_mirror(obs)])
            labels = torch.cat([labels, self._action_mirror(labels)])
        batch = TensorDict({"student": obs}, batch_size=[len(obs)])
        with torch.autocast(obs.device.type, torch.bfloat16, enabled=self._mixed_precision):
            actions = self.student(batch)
        loss = torch.nn.functional.mse_loss(actions.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())


def train_student(
    env: TrackingEnv,
    teacher: MLPModel | Teachers,
    config: TrainConfig,
    run: Run,
    samples: float = math.inf,
    minutes: float = math.inf,
    report: Any = print,
    learner_threads: int = 2,
    initial: Path | None = None,
) -> dict[str, float]:
    """Distil until ``samples`` in all or ``minutes`` in this call; the learning rate falls over the call's minutes.

    A resumed run goes on with weights, episodes and chance as they were, and bit for bit if its sample buffer was kept
    (``dagger.keep_buffer``) and its learning rate does not follow the clock; otherwise it gathers samples anew.

    ``initial``: an exported policy whose weights a new run begins with; it then acts from the start.

    Returns the last iteration's figures.

    Raises:
        KeyboardInterrupt: A signal ended it.
        TrainingError: Learning diverged; the checkpoint before stays.
    """
    settings = config.dagger
    seed_everything(config.seed)
    dagger = Dagger(settings, env.num_actions, env.device)
    teachers = (teacher if isinstance(teacher, Teachers) else Teachers.alone(teacher)).to(env.device)
    iteration, done_samples = 0, 0
    buffer = SampleBuffer(settings.buffer_samples, size(STUDENT), env.num_actions, env.device)
    if run.checkpoint.exists():
        state = run.load()
        dagger.student.load_state_dict(state["actor_state_dict"])
        if "optimizer_state_dict" in state:
            dagger.optimizer.load_state_dict(state["optimizer_state_dict"])
        iteration, done_samples = state["iteration"], state["samples"]
        episodes, samples_too = _go_on_exactly(env, run, state, buffer)
        run.note_resumed(done_samples, samples_too)
        if not episodes:
            env.level = state["level"]
            seed_everything(config.seed + 104729 * iteration)
    elif initial is not None:
        begin_with(dagger.student, initial)
        iteration = settings.teacher_iterations

    def save() -> None:
        run.save(
            {
                "actor_state_dict": dagger.student.state_dict(),
                "optimizer_state_dict": dagger.optimizer.state_dict(),
                "iteration": iteration,
                "samples": done_samples,
                "level": env.level,
                "exact": {"env": env.state_dict(), "chance": chance_state()},
            }
        )

    writer = SummaryWriter(str(run.folder / "curves"))
    start = last_save = time.monotonic()
    figures: dict[str, float] = {}
    per_iteration = settings.steps_per_env * env.num_envs
    updates = max(1, round(settings.epochs * per_iteration / settings.minibatch))
    obs = env.get_observations()
    saved_at = iteration
    try:
        with stop_between_iterations() as stop:
            while done_samples < samples and time.monotonic() - start < 60.0 * minutes and not stop.is_set():
                began = time.monotonic()
                by_teacher = max(0.0, 1.0 - iteration / max(settings.teacher_iterations, 1))
                logs: dict[str, list[torch.Tensor]] = defaultdict(list)
                torch.set_num_threads(1)
                dagger.student.eval()
                collected_obs = []
                with torch.no_grad():
                    for _ in range(settings.steps_per_env):
                        labels = teachers.label(obs, env)
                        actions = dagger.act(obs)
                        if by_teacher > 0.0:
                            taught = torch.rand(env.num_envs, 1, device=env.device) < by_teacher
                            actions = torch.where(taught, labels, actions)
                        buffer.add(obs["student"], labels.clamp(-env.robot.action_clip, env.robot.action_clip))
                        collected_obs.append(obs["student"])
                        obs, _, _, extras = env.step(actions)
                        for name, value in extras.get("log", {}).items():
                            logs[name].append(value)
                    dagger.observe(torch.cat(collected_obs))
                collected = time.monotonic()

                torch.set_num_threads(learner_threads)
                done_share = max(
                    done_samples / samples if math.isfinite(samples) else 0.0,
                    (collected - start) / (60.0 * minutes) if math.isfinite(minutes) else 0.0,
                )
                rate = settings.learning_rate * (settings.final_learning_rate / settings.learning_rate) ** min(
                    done_share, 1.0
                )
                for group in dagger.optimizer.param_groups:
                    group["lr"] = rate
                losses = [dagger.imitate(*buffer.sample(settings.minibatch)) for _ in range(updates)]
                ended = time.monotonic()

                iteration += 1
                done_samples += per_iteration
                figures = {name: float(torch.stack(values).mean()) for name, values in logs.items()}
                figures |= {
                    "loss/imitation": sum(losses) / len(losses),
                    "train/teacher_share": by_teacher,
                    "train/learning_rate": rate,
                    "train/level": env.level,
                    "speed/collect_per_s": per_iteration / (collected - began),
                    "speed/samples_per_s": per_iteration / (ended - began),
                }
                for name, value in figures.items():
                    writer.add_scalar(name, value, done_samples)
                if "track/fell" in figures and not by_teacher:
                    env.adapt_level(figures["track/fell"])
                if ended - last_save > config.checkpoint_s:
                    save()
                    last_save, saved_at = ended, iteration
                report(iteration, done_samples, figures)
            if saved_at != iteration or not run.checkpoint.exists():
                save()
            if settings.keep_buffer:
                run.save({**buffer.state_dict(), "iteration": iteration}, BUFFER_NAME)
            if stop.is_set():
                raise KeyboardInterrupt
    finally:
        writer.close()
    return figures


def _go_on_exactly(env: TrackingEnv, run: Run, state: dict[str, Any], buffer: SampleBuffer) -> tuple[bool, bool]:
    """Put environment and chance, and the sample buffer, where the run left them; return which of the two could be."""
    if "exact" not in state or not env.load_state_dict(state["exact"]["env"]):
        return False, False
    set_chance_state(state["exact"]["chance"])
    if not (run.folder / BUFFER_NAME).is_file():
        return True, False
    kept = run.load(BUFFER_NAME)
    return True, kept["iteration"] == state["iteration"] and buffer.load_state_dict(kept)
