# SPDX-License-Identifier: Apache-2.0
"""Judge a motion: findings with reasons and times, from its curves and from simulation, and the verdict over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.check.measure import Curves, measure
from genmimic.core.errors import MotionError
from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.core.rotation import quat_rotate
from genmimic.retarget import cleaning


class Severity(IntEnum):
    """What a finding means for the real robot."""

    NOTE = 0
    GANTRY = 1
    REFUSE = 2


@dataclass(frozen=True)
class Limits:
    """From where on a measurement asks for the gantry, and from where on a motion is refused. Ours.

    Each is a pair: gantry, refuse. Reasons and what usual motions reach are in docs/motion-gate.md.
    """

    limit_excess_rad: tuple[float, float] = (0.002, 0.01)
    speed_ratio: tuple[float, float] = (0.75, 1.0)
    accel_rad_s2: tuple[float, float] = (1000.0, 3000.0)
    jitter_rad: tuple[float, float] = (0.010, 0.030)
    root_jump_m: tuple[float, float] = (0.04, 0.08)
    root_speed_m_s: tuple[float, float] = (2.5, 5.0)
    slide_m_s: tuple[float, float] = (0.15, 0.40)
    float_m: tuple[float, float] = (0.03, 0.08)
    sink_m: tuple[float, float] = (0.015, 0.04)
    overlap_m: tuple[float, float] = (0.025, 0.06)
    balance_m: tuple[float, float] = (0.10, 0.30)
    flight_m: tuple[float, float] = (0.08, 0.60)
    held_share: tuple[float, float] = (0.01, 0.10)
    start_tilt_rad: tuple[float, float] = (0.5, 1.0)
    start_height: tuple[float, float] = (0.75, 0.45)  # of the standing pelvis height; lower is worse
    start_reach_rad: tuple[float, float] = (2.0, 3.5)
    lmpkpe_cm: tuple[float, float] = (10.0, 30.0)
    fall_share: tuple[float, float] = (0.0, 1.0)  # of the randomised rollouts; a fall of the nominal one refuses


MAX_SPANS = 24

BALANCE_S = 0.4
"""Time for which the point of balance must lie outside the feet to count."""


@dataclass(frozen=True)
class Finding:
    """One thing that was measured and is not right, or worth a note.

    Attributes:
        kind: Short name, see `KINDS`.
        severity: What it means.
        value: The worst measurement, in ``unit``.
        limit: What it was held against.
        unit: Of both.
        at_s: When the worst is, in s; None where it has no time.
        spans_s: When it is above the limit, as pairs of s; at most `MAX_SPANS`.
        text: One line for people.
    """

    kind: str
    severity: Severity
    value: float
    limit: float
    unit: str
    text: str
    at_s: float | None = None
    spans_s: tuple[tuple[float, float], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "severity": self.severity.name.lower(), "spans_s": [list(s) for s in self.spans_s]}


KINDS = (
    "limits", "speed", "acceleration", "jitter", "jump", "root_speed", "slide", "float", "sink", "self_collision",
    "balance", "flight", "held", "start", "end", "fall", "tracking",
)  # fmt: skip
"""Kinds of findings, in the order in which they are told."""


@dataclass(frozen=True)
class Tracking:
    """How the policy did in simulation. Errors in cm, aligned; the nominal rollout first, then the randomised ones.

    Attributes:
        policy: Its name; ``policy_sha256`` of its file.
        lmpkpe_cm: Of each rollout.
        fell_at_s: Of each rollout, in s of its timeline; None where the robot stood.
        sr: Success by the paper's measure, of each rollout.
    """

    policy: str
    policy_sha256: str
    lmpkpe_cm: tuple[float, ...]
    fell_at_s: tuple[float | None, ...]
    sr: tuple[bool, ...]


@dataclass(frozen=True)
class Judgement:
    """Everything the gate says about a motion.

    Attributes:
        verdict: ``ok``, ``repaired``, ``gantry only`` or ``refused``.
        findings: What is not right, the worst first.
        scores: The worst value of each measurement, right or not.
        curves: For pictures.
        tracking: None when it was not simulated.
        repairs: What was changed before judging, one line each.
    """

    verdict: str
    findings: tuple[Finding, ...]
    scores: dict[str, float]
    curves: Curves
    tracking: Tracking | None = None
    repairs: tuple[str, ...] = field(default=())


def judge(
    robot: Robot,
    motion: Motion,
    tracking: Tracking | None = None,
    repairs: Sequence[str] = (),
    limits: Limits = Limits(),  # noqa: B008
) -> Judgement:
    """Return the verdict over ``motion``.

    Raises:
        MotionError: It is shorter than 0.1 s or five frames.
    """
    if len(motion) < 5 or motion.duration < 0.1:
        raise MotionError(f"{motion.name}: lasts {motion.duration:.2f} s, expected at least 0.1 s and five frames")
    curves = measure(robot, motion)
    judged = _Judged(curves.t)
    _joints(judged, robot, curves, limits)
    _path(judged, curves, limits)
    _feet(judged, curves, limits)
    _body(judged, curves, limits)
    for kind, frame in (("start", 0), ("end", len(motion) - 1)):
        _reach(judged, robot, motion, curves, kind, frame, limits)
    if tracking is not None:
        _tracking(judged, tracking, limits)
    order = {kind: number for number, kind in enumerate(KINDS)}
    findings = tuple(sorted(judged.findings, key=lambda one: (-one.severity, order[one.kind])))
    worst = max((one.severity for one in findings), default=Severity.NOTE)
    verdict = {Severity.NOTE: "repaired" if repairs else "ok", Severity.GANTRY: "gantry only"}.get(worst, "refused")
    return Judgement(verdict, findings, judged.scores, curves, tracking, tuple(repairs))


class _Judged:
    def __init__(self, t: np.ndarray) -> None:
        self.t = t
        self.findings: list[Finding] = []
        self.scores: dict[str, float] = {}

    def curve(self, kind: str, values: np.ndarray, limits: tuple[float, float], unit: str, what: str) -> None:
        """Judge a curve (T,) by its worst value; ``what`` is a text with ``{value}`` and perhaps ``{at}``."""
        frame = int(np.nanargmax(values))
        worst = float(values[frame])
        self.scores[kind] = round(worst, 5)
        if not worst > limits[0]:
            return
        spans = tuple(
            (float(self.t[first]), float(self.t[end - 1]))
            for first, end in cleaning.runs(np.nan_to_num(values) > limits[0])
        )[:MAX_SPANS]
        self.say(kind, worst, limits, unit, what, float(self.t[frame]), spans)

    def number(
        self, kind: str, value: float, limits: tuple[float, float], unit: str, what: str, at: float | None = None
    ) -> None:
        """Judge one number."""
        self.scores[kind] = round(max(float(value), self.scores.get(kind, -np.inf)), 5)
        if value > limits[0]:
            self.say(kind, float(value), limits, unit, what, at)

    def say(
        self, kind: str, value: float, limits: tuple[float, float], unit: str, what: str, at: float | None,
        spans: tuple[tuple[float, float], ...] = (),
    ) -> None:  # fmt: skip
        refuse = value > limits[1]
        limit = limits[1] if refuse else limits[0]
        when = "" if at is None else f" at {at:.2f} s"
        text = f"{what.format(value=_short(value))}{when}"
        if unit:
            text += f" (limit {_short(limit)} {unit})"
        severity = Severity.REFUSE if refuse else Severity.GANTRY
        self.findings.append(Finding(kind, severity, round(value, 5), limit, unit, text, at, spans))


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _joints(judged: _Judged, robot: Robot, curves: Curves, limits: Limits) -> None:
    def worst(values: np.ndarray) -> str:
        return robot.joint_names[int(np.unravel_index(values.argmax(), values.shape)[1])].removesuffix("_joint")

    beyond = -curves.limit_margin
    judged.scores["limit_margin_rad"] = round(float(curves.limit_margin.min()), 5)
    judged.curve(
        "limits", beyond.max(-1), limits.limit_excess_rad, "rad", f"{worst(beyond)} is {{value}} rad beyond its range"
    )
    ratio = curves.joint_speed / robot.joint_speed
    judged.curve(
        "speed",
        ratio.max(-1),
        limits.speed_ratio,
        "of the motor's",
        f"{worst(ratio)} at {{value}} of its motor's speed",
    )
    judged.curve(
        "acceleration", curves.joint_accel.max(-1), limits.accel_rad_s2, "rad/s^2",
        f"{worst(curves.joint_accel)} accelerates by {{value}} rad/s^2",
    )  # fmt: skip
    window = cleaning.gaussian_smooth(curves.jitter**2, 8.0)
    judged.curve(
        "jitter", np.sqrt(np.maximum(window, 0.0)).max(-1), limits.jitter_rad, "rad",
        f"{worst(window)} shakes by {{value}} rad from frame to frame",
    )  # fmt: skip


def _path(judged: _Judged, curves: Curves, limits: Limits) -> None:
    judged.curve("jump", curves.root_jump, limits.root_jump_m, "m", "the pelvis jumps by {value} m between two frames")
    judged.curve("root_speed", curves.root_speed, limits.root_speed_m_s, "m/s", "the pelvis moves at {value} m/s")
    share = float(curves.held.mean())
    judged.number("held", share, limits.held_share, "of the frames", "{value} of the frames repeat the one before")


def _feet(judged: _Judged, curves: Curves, limits: Limits) -> None:
    standing = curves.contacts.any(-1)
    mean = float(curves.slide[curves.contacts].mean()) if standing.any() else 0.0
    judged.number("slide", mean, limits.slide_m_s, "m/s", "standing feet slide by {value} m/s on average")
    lowest = curves.sole_height.min(-1)
    judged.curve(
        "float", np.where(curves.flight, 0.0, lowest), limits.float_m, "m",
        "the lower foot floats {value} m above the floor",
    )  # fmt: skip
    judged.curve("sink", -lowest, limits.sink_m, "m", "a foot is {value} m below the floor")
    if curves.flight.any():
        judged.curve(
            "flight", np.where(curves.flight, lowest, 0.0), limits.flight_m, "m", "the robot jumps {value} m high"
        )
    count = max(1, round(BALANCE_S / float(curves.t[1] - curves.t[0])))
    excess = np.nan_to_num(curves.support_excess, nan=-0.1)
    if len(excess) >= count:
        lasting = np.lib.stride_tricks.sliding_window_view(excess, count).min(-1)
        judged.curve(
            "balance", np.pad(lasting, (0, count - 1), mode="edge"), limits.balance_m, "m",
            "the point of balance stays {value} m outside the standing feet",
        )  # fmt: skip


def _body(judged: _Judged, curves: Curves, limits: Limits) -> None:
    judged.curve("self_collision", curves.overlap, limits.overlap_m, "m", "parts of the robot overlap by {value} m")


def _reach(
    judged: _Judged, robot: Robot, motion: Motion, curves: Curves, kind: str, frame: int, limits: Limits
) -> None:
    """Whether the robot gets from standing into a frame, and back from it."""
    where = "first" if kind == "start" else "last"
    at = float(curves.t[frame])
    up = float(quat_rotate(motion.root_quat[frame], np.array([0.0, 0.0, 1.0]))[2])
    judged.number(
        kind, float(np.arccos(np.clip(up, -1.0, 1.0))), limits.start_tilt_rad, "rad",
        f"in the {where} frame the pelvis is tilted by {{value}} rad", at,
    )  # fmt: skip
    low = float((motion.root_pos[frame, 2] - curves.sole_height[frame].min()) / robot.standing_height)
    judged.number(
        kind, -low, (-limits.start_height[0], -limits.start_height[1]), "",
        f"in the {where} frame the pelvis is at {low:.2f} of its standing height,", at,
    )  # fmt: skip
    reach = float(np.abs(motion.joint_pos[frame] - robot.default_joint_pos).max())
    judged.scores[f"{kind}_reach_rad"] = round(reach, 3)
    judged.number(
        kind, reach, limits.start_reach_rad, "rad", f"the {where} frame is {{value}} rad from standing in one joint", at
    )
    if curves.flight[frame]:
        judged.number(kind, 9.0, (0.0, 1.0), "", f"the {where} frame is in the middle of a jump,", at)
    judged.scores.pop(kind, None)


def _tracking(judged: _Judged, tracking: Tracking, limits: Limits) -> None:
    nominal, others = tracking.fell_at_s[0], tracking.fell_at_s[1:]
    judged.scores["lmpkpe_cm"] = round(tracking.lmpkpe_cm[0], 2)
    if nominal is not None:
        judged.number("fall", 1.0, (0.0, 0.5), "", "the simulated robot falls", nominal)
    elif others:
        fell = [at for at in others if at is not None]
        judged.number(
            "fall", len(fell) / len(others), limits.fall_share, "",
            f"with noise, and other masses, friction and gains, the simulated robot falls in {len(fell)} of "
            f"{len(others)} rollouts, first", fell[0] if fell else None,
        )  # fmt: skip
    error = tracking.lmpkpe_cm[0]
    if np.isfinite(error):
        judged.number(
            "tracking", error, limits.lmpkpe_cm, "cm", "the simulated robot is {value} cm off on average, aligned"
        )


def track(robot: Robot, motion: Motion, policy_path: str | Path, rollouts: int = 4, seed: int = 0) -> Tracking:
    """Let the policy track ``motion`` in simulation: once as it is, then with the paper's noise and randomisation.

    Without its pushes: whether a robot stands a push says more about the policy than about the motion.

    Raises:
        GenMimicError: The policy cannot be used.
    """
    from genmimic.core.noise import NOISE_LEVELS
    from genmimic.core.randomization import PAPER_RANDOMIZATION
    from genmimic.evaluate.report import file_sha256
    from genmimic.evaluate.rollout import plan, rollout, rollout_seed
    from genmimic.policy import load_policy
    from genmimic.sim.simulated_g1 import SimulatedG1

    policy = load_policy(policy_path, robot)
    planned, sim = plan(robot, motion), SimulatedG1(robot)
    unpushed = replace(PAPER_RANDOMIZATION, push_velocity_m_s=(0.0, 0.0))
    results = []
    for number in range(max(1, rollouts)):
        level, drawn = ("paper", unpushed) if number else ("none", None)
        results.append(
            rollout(
                robot, policy, planned, noise=NOISE_LEVELS[level], randomization=drawn,
                seed=rollout_seed(seed, "check", number), sim=sim, goal_frame=policy.manifest.goal_frame,
            )
        )  # fmt: skip
    return Tracking(
        policy=policy.name,
        policy_sha256=file_sha256(policy_path),
        lmpkpe_cm=tuple(round(float(result.metrics["lmpkpe_cm"]), 3) for result in results),
        fell_at_s=tuple(result.fell_at_s for result in results),
        sr=tuple(bool(result.metrics["sr"]) for result in results),
    )
