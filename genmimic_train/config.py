# SPDX-License-Identifier: Apache-2.0
"""Training configuration: frozen dataclasses, read from YAML, checked before anything runs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from genmimic.check.corrupt import KINDS
from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.observation import GOAL_FRAMES
from genmimic.core.randomization import Randomization

T = TypeVar("T")


@dataclass(frozen=True)
class RandomizationConfig(Randomization):
    """Table 8 as in `genmimic.core.randomization`, and how strongly it acts."""

    level: float = 1.0
    """0 switches all of it off, 1 is as given; in between the ranges shrink towards the nominal value."""
    start_level: float = 1.0
    """Where a new run begins; it then moves towards ``level`` while few episodes fall."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0.0 <= self.level <= 1.0, "randomization.level", self.level, "0 to 1")
        _check(0.0 <= self.start_level <= 1.0, "randomization.start_level", self.start_level, "0 to 1")


@dataclass(frozen=True)
class RewardConfig:
    """Table 7 weights; each is multiplied by the control period and by ``scale``.

    The paper gives no bandwidths; these are ours, wide enough that an untrained policy gets a gradient.
    """

    scale: float = 0.1
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "tracking_joint_pos": 32.0,
            "tracking_joint_vel": 16.0,
            "tracking_body_pos": 50.0,
            "tracking_body_rot": 20.0,
            "action_rate": -1.0,
            "energy": -1e-6,
            "dof_acceleration": -3e-6,
            "dof_limits": -100.0,
            "feet_slip": -5.0,
            "orientation": -50.0,
            "feet_contact_force": -0.03,
            "feet_orientation": -62.5,
            "feet_max_height": -2500.0,
            "feet_air_time": 1000.0,
            "feet_contact_mismatch": 0.0,  # no part of Table 7
            "weight_rate": 0.0,  # of learned_weights
            "termination": -200.0,
            "alive": 20.0,
        }
    )
    sigma: dict[str, float] = field(
        default_factory=lambda: {
            "tracking_joint_pos": 0.4,  # rad
            "tracking_joint_vel": 4.0,  # rad/s
            "tracking_body_pos": 0.15,  # m
            "tracking_body_rot": 0.6,  # rad
        }
    )
    desired_step_height_m: float = 0.1
    desired_air_time_s: float = 0.25
    keypoint_weights: dict[str, float] = field(
        default_factory=lambda: {"lower": 1.0, "upper": 2.0, "end_effector": 4.0}
    )
    joint_weights: dict[str, float] = field(default_factory=lambda: {"lower": 1.0, "upper": 2.0})
    learned_weights: bool = False
    """The teacher gives the logits of the keypoint weights itself, behind its action (3DP+Self-supervised)."""


@dataclass(frozen=True)
class CorruptionConfig:
    """Damaged references as training noise: what the actor sees of the goal is damaged, rewards and critic are not."""

    share: float = 0.0
    """Of the episodes; 0 switches it off."""
    kinds: tuple[str, ...] = tuple(kind for kind in KINDS if kind not in ("drift", "scale"))
    """Of `genmimic.check.corrupt`. Not drift and scale: those ask for another path, which a policy should take."""
    level: tuple[float, float] = (0.25, 1.0)
    """Drawn for each clip; 1 is what bad lifting gives."""
    variants: int = 2
    """Damaged copies of the whole motion set to draw from; each costs 21 kB per second of motion."""

    @property
    def on(self) -> bool:
        return self.share > 0.0

    def __post_init__(self) -> None:
        _check(0.0 <= self.share <= 1.0, "env.corruption.share", self.share, "0 to 1")
        _check(1 <= self.variants <= 100, "env.corruption.variants", self.variants, "1 to 100")
        _check(len(self.level) == 2 and 0.0 <= self.level[0] <= self.level[1], "env.corruption.level", self.level,
               "(low, high), 0 or more")  # fmt: skip
        _check(
            bool(self.kinds) and set(self.kinds) <= set(KINDS), "env.corruption.kinds", self.kinds,
            f"some of {', '.join(KINDS)}",
        )  # fmt: skip


@dataclass(frozen=True)
class AssistConfig:
    """A hand that holds the pelvis while a teacher learns to move over ground, and lets go as it succeeds.

    A spring and a damper pull the root to the goal's place, attitude and velocities, as strongly as the run's level
    says, which starts at ``start_level``, shrinks while few episodes fall, and ends at 0. No part of the paper.
    """

    start_level: float = 0.0
    """0 switches it off; 1 carries the robot like a puppet."""
    frequency_hz: float = 1.5
    """Natural frequency of the spring at level 1, damped critically."""
    max_force: float = 200.0
    """In N; the robot weighs 340."""
    max_torque: float = 60.0
    """In N m."""
    rate: float = 0.01
    """By which share the level shrinks, or half of that grows, in an iteration."""

    @property
    def on(self) -> bool:
        return self.start_level > 0.0

    def __post_init__(self) -> None:
        _check(0.0 <= self.start_level <= 1.0, "env.assist.start_level", self.start_level, "0 to 1")
        _check(0.0 < self.frequency_hz <= 5.0, "env.assist.frequency_hz", self.frequency_hz, "above 0, up to 5")
        _check(self.max_force >= 0.0, "env.assist.max_force", self.max_force, "0 or more")
        _check(self.max_torque >= 0.0, "env.assist.max_torque", self.max_torque, "0 or more")
        _check(0.0 < self.rate < 0.5, "env.assist.rate", self.rate, "above 0, below 0.5")


@dataclass(frozen=True)
class EnvConfig:
    """The task. Rates from paper 5.1 and B.1."""

    num_envs: int = 256
    control_period_s: float = 0.02
    substeps: int = 4
    episode_s: float = 20.0
    max_keypoint_error_m: float = 0.5
    max_gravity_xy: float = 0.7
    mirror_motions: bool = True
    failure_share: float = 0.5
    """Share of start frames drawn where the policy fails; 0 is the paper's uniform sampling."""
    clip_share: float = 0.5
    """Of the other draws, the share that is uniform over clips; the rest is uniform over time."""
    teacher_goal: str = "keypoints"
    """How a teacher sees its goals: ``keypoints``, or ``joints`` for the paper's "DoFs" ablation."""
    arms_led: bool = False
    """Whether a teacher's arm actions are added to the reference's (`TrackingEnv.lead_arms`). Ours."""
    teacher_noise: float = 1.0
    """Times Table 8's observation noise, for the teacher's actor while it learns."""
    student_noise: tuple[float, float] = (1.0, 1.0)
    """The same for the student, drawn from this range at each reset; the teacher then labels without noise."""
    goal_frame: str = "heading"
    """How the student sees its goals: ``heading`` (the paper's student knows no place) or ``odometry``
    (relative to where leg odometry believes it to stand); see `genmimic.core.observation.student_goal`."""
    student_follow_s: float = 1.0
    """While a student with ``heading`` goals is distilled, the goal's place on the floor follows the robot's with this
    time constant.

    Such a student cannot see where it stands. Without this, its teacher's labels would correct a drift that
    nothing in the student's observation explains. 0 keeps the goal where it is, as it stays with ``odometry``.
    """
    teacher_follow_s: float = 0.0
    """The same while the teacher learns: it then balances where it is rather than fall while it chases a place."""
    randomization: RandomizationConfig = field(default_factory=RandomizationConfig)
    rewards: RewardConfig = field(default_factory=RewardConfig)
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    assist: AssistConfig = field(default_factory=AssistConfig)

    def __post_init__(self) -> None:
        _check(self.num_envs >= 1, "env.num_envs", self.num_envs, "at least 1")
        _check(self.substeps >= 1, "env.substeps", self.substeps, "at least 1")
        _check(0.0 <= self.failure_share < 1.0, "env.failure_share", self.failure_share, "0 up to 1")
        _check(0.0 <= self.clip_share <= 1.0, "env.clip_share", self.clip_share, "0 to 1")
        _check(
            self.teacher_goal in ("keypoints", "joints"), "env.teacher_goal", self.teacher_goal, "keypoints or joints"
        )
        _check(self.teacher_noise >= 0.0, "env.teacher_noise", self.teacher_noise, "0 or more")
        _check(self.goal_frame in GOAL_FRAMES, "env.goal_frame", self.goal_frame, " or ".join(GOAL_FRAMES))
        _check(self.teacher_follow_s >= 0.0, "env.teacher_follow_s", self.teacher_follow_s, "0 or more")
        _check(self.student_follow_s >= 0.0, "env.student_follow_s", self.student_follow_s, "0 or more")
        low, high = self.student_noise
        _check(0.0 <= low <= high, "env.student_noise", self.student_noise, "(low, high), 0 or more")

    def follow_s(self, with_student: bool) -> float:
        """Return the time constant with which the goal's place follows the robot; 0: it stays."""
        if not with_student:
            return self.teacher_follow_s
        return self.student_follow_s if self.goal_frame == "heading" else 0.0


@dataclass(frozen=True)
class PpoConfig:
    """Table 5, and what it leaves open."""

    hidden: tuple[int, ...] = (512, 256, 128)
    steps_per_env: int = 24
    epochs: int = 5
    minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.005
    learning_rate: float = 1e-3
    desired_kl: float = 0.01
    init_std: float = 1.0
    symmetry: float = 1.0
    """lambda_SYM of Eq. 2; 0 switches the symmetry loss off."""
    mixed_precision: bool = False
    warm_start: bool = False
    """Begin with arms that imitate the reference's joint angles; see `genmimic_train.learning.warm_start`."""


@dataclass(frozen=True)
class DaggerConfig:
    """Table 5, lower part, and what it leaves open."""

    hidden: tuple[int, ...] = (512, 256, 128)
    steps_per_env: int = 24
    epochs: float = 2.0
    """Passes over as many samples as were just collected, drawn from the whole buffer."""
    minibatch: int = 2048
    buffer_samples: int = 300_000
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    symmetric: bool = True
    """Each batch is joined by its mirror image (paper B.1)."""
    equivariant: bool = False
    """The action is the mean of the network's answer and of its mirrored answer to the mirrored observation, so that
    the policy is symmetric exactly and not only after much training. In training, evaluation and export alike."""
    mixed_precision: bool = False
    """bfloat16 in the forward and backward passes; pays on processors that compute in it (AVX-512 BF16, AMX)."""
    teacher_iterations: int = 20
    """Over the first iterations the acting policy moves from teacher to student."""
    keep_buffer: bool = False
    """Write the sample buffer (4.8 kB a sample) beside the checkpoint when a run stops, so that it goes on bit for bit;
    without it a resumed student gathers a new one."""


@dataclass(frozen=True)
class FineTuneConfig:
    """A student that goes on by PPO; what is not here is as in `PpoConfig`. No part of the paper."""

    steps_per_env: int = 24
    epochs: int = 2
    minibatches: int = 4
    init_std: float = 0.15
    """Exploration round a student that acts well already, times the action scale."""
    learning_rate: float = 1e-4
    desired_kl: float = 0.015
    critic_iterations: int = 8
    """Over the first iterations the actor stays as it is, until the teacher's critic knows what this actor earns."""


BACKENDS = ("mujoco", "warp", "isaacgym")
"""Simulators by the name that ``sim.backend`` takes."""


@dataclass(frozen=True)
class SimConfig:
    """Where robots are simulated and learnt from: no part of the task, so a run may go on elsewhere."""

    backend: str = "mujoco"
    """``mujoco`` (all CPU cores), ``warp`` (MuJoCo Warp, a GPU) or ``isaacgym`` (for those who have it)."""
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:N``: environment, networks and learning; the physics too, but for ``mujoco``."""
    deterministic: bool = False
    """Warp on a GPU: sums in a fixed order, so that ``--resume`` repeats bit for bit; slower."""

    def __post_init__(self) -> None:
        _check(self.backend in BACKENDS, "sim.backend", self.backend, " or ".join(BACKENDS))
        _check(
            re.fullmatch(r"cpu|cuda(:\d+)?", self.device) is not None, "sim.device", self.device, "cpu, cuda or cuda:N"
        )


@dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    sim: SimConfig = field(default_factory=SimConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    dagger: DaggerConfig = field(default_factory=DaggerConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    seed: int = 1
    checkpoint_s: float = 180.0

    def __post_init__(self) -> None:
        if self.env.arms_led and self.ppo.warm_start:
            raise ConfigError("env.arms_led gives the arms what ppo.warm_start teaches: set one of them to false")


def load_config(
    paths: str | Path | Sequence[str | Path] | None,
    overrides: Sequence[str] | None = None,
    base: TrainConfig | None = None,
) -> TrainConfig:
    """Read YAML files one over another, over ``base`` or the defaults, then ``a.b=c`` overrides.

    Raises:
        ConfigError: A key is not known, a value is out of range.
        InputFileError: A file is not there.
    """
    data: dict[str, Any] = config_dict(base) if base is not None else {}
    for path in [paths] if isinstance(paths, (str, Path)) else paths or []:
        if not Path(path).is_file():
            raise InputFileError(f"{path}: no such configuration file")
        try:
            _lay_over(data, yaml.safe_load(Path(path).read_text()) or {})
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
        except TypeError:
            raise ConfigError(f"{path}: expected keys and values") from None
    for override in overrides or []:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r} is not of the form key=value")
        node: dict[str, Any] = {}
        top = node
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = yaml.safe_load(value)
        _lay_over(data, top)
    return _build(TrainConfig, data, "config")


def config_dict(config: TrainConfig) -> dict[str, Any]:
    """Return the whole configuration as plain types."""
    return _plain(asdict(config))


def config_from_dict(data: dict[str, Any]) -> TrainConfig:
    """Return the configuration that `config_dict` wrote."""
    return _build(TrainConfig, data, "config")


def _lay_over(data: dict[str, Any], upper: dict[str, Any]) -> None:
    """Put ``upper`` over ``data``, section by section. Raises TypeError where a section is no mapping."""
    if not isinstance(upper, dict):
        raise TypeError
    for key, value in upper.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            _lay_over(data[key], value)
        else:
            data[key] = value


def _build(cls: type[T], data: Any, where: str) -> T:
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is {data!r}, expected keys and values")
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ConfigError(f"{where} has unknown key {unknown[0]!r}; known: {', '.join(known)}")
    default = cls()
    values: dict[str, Any] = {}
    for name, value in data.items():
        present = getattr(default, name)
        path = f"{where}.{name}"
        if isinstance(present, float) and isinstance(value, str):
            value = _number(value)  # YAML reads 1e-3 as text
        if is_dataclass(present):
            values[name] = _build(type(present), value, path)
        elif isinstance(present, dict):
            if not isinstance(value, dict) or set(value) - set(present):
                raise ConfigError(f"{path} is {value!r}; known keys: {', '.join(present)}")
            numbers = {key: _number(item) if isinstance(item, str) else item for key, item in value.items()}
            for key, item in numbers.items():
                finite = isinstance(item, (int, float)) and math.isfinite(item)
                _check(finite, f"{path}.{key}", item, "a finite number")
            values[name] = {**present, **{key: float(item) for key, item in numbers.items()}}
        elif isinstance(present, tuple):
            if not isinstance(value, (list, tuple)):
                raise ConfigError(f"{path} is {value!r}, expected a list")
            values[name] = tuple(value)
        elif isinstance(present, bool) or not isinstance(value, (int, float)):
            if not isinstance(value, type(present)):
                raise ConfigError(f"{path} is {value!r}, expected {type(present).__name__}")
            values[name] = value
        else:
            values[name] = type(present)(value)
    return cls(**values)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{name} is {value}, expected {expected}")
