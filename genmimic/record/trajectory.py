# SPDX-License-Identifier: Apache-2.0
"""What a recording tells of a run: the trajectory that reports are made of, modes and their reasons, timing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genmimic.core.kinematics import forward_kinematics
from genmimic.core.modes import DAMPING, Mode
from genmimic.core.motion import CONTROL_RATE_HZ
from genmimic.core.reference import Goal, Phase
from genmimic.core.robot import Robot
from genmimic.record.messages import goal_of, quat_of, xyz_of
from genmimic.record.reader import Recording


@dataclass(frozen=True)
class Sample:
    """One control step: the goal, and the newest state and action at that moment.

    Attributes:
        goal: Its horizon may be empty.
        joint_pos: In rad. Shape (J,).
        joint_torque: In N m. Shape (J,).
        root_quat: Pelvis, true where known, else by the IMU, wxyz. Shape (4,).
        root_pos: True position of the pelvis in m; None from a real robot. Shape (3,).
        action: Of the policy. Shape (J,).
    """

    goal: Goal
    joint_pos: np.ndarray
    joint_torque: np.ndarray
    root_quat: np.ndarray
    root_pos: np.ndarray | None
    action: np.ndarray


def trajectory_of(robot: Robot, samples: Sequence[Sample], damped: bool = False) -> dict[str, np.ndarray] | None:
    """Return a trajectory as `genmimic.evaluate.report.trajectory_fields` says; None without the motion itself.

    Without a simulator's truth the robot's place is unknown: it is put at its goal's.

    Args:
        robot: The robot.
        samples: One after another, one per control step.
        damped: Whether it ended with the robot damped, which counts as a fall.
    """
    goals = [sample.goal for sample in samples]
    own = [idx for idx, goal in enumerate(goals) if goal.frames > 0 and 0 <= goal.frame < goal.frames]
    if not own:
        return None
    known = all(sample.root_pos is not None for sample in samples)
    joint_pos = _finite(np.array([sample.joint_pos for sample in samples], float))
    root_quat = _finite(np.array([sample.root_quat for sample in samples], float))
    places = [sample.root_pos if known and sample.root_pos is not None else sample.goal.root_pos for sample in samples]
    root_pos = _finite(np.array(places, float))
    fell = _lies(root_pos, root_quat, known)
    fell[-1] |= damped
    actions = np.array([sample.action for sample in samples], float)
    return {
        "t": np.arange(len(samples)) / CONTROL_RATE_HZ,
        "joint_pos": joint_pos,
        "root_pos": root_pos,
        "root_quat": root_quat,
        "keypoint_pos": forward_kinematics(robot, root_pos, root_quat, joint_pos).pos,
        "goal_keypoint_pos": np.array([goal.keypoint_pos for goal in goals]),
        "goal_root_quat": np.array([goal.root_quat for goal in goals]),
        "action": np.nan_to_num(actions, posinf=robot.action_clip, neginf=-robot.action_clip),
        "torque": _finite(np.array([sample.joint_torque for sample in samples], float)),
        "fell": fell,
        "motion_frames": np.array([own[0], own[-1] + 1]),
    }


@dataclass(frozen=True)
class Take:
    """One time through a motion, as recorded.

    Attributes:
        motion: Its name.
        start_ns: When its first goal was received, Unix time.
        samples: One per control step, blends included.
        damped: Whether the robot was damped before the motion was over.
        has_truth: Whether a simulator told where the robot was.
    """

    motion: str
    start_ns: int
    samples: tuple[Sample, ...]
    damped: bool
    has_truth: bool

    def trajectory(self, robot: Robot) -> dict[str, np.ndarray] | None:
        """Return its `trajectory_of`."""
        return trajectory_of(robot, self.samples, self.damped)


def takes(recording: Recording) -> Iterator[Take]:
    """Yield the times through a motion, in order.

    A take is a run of goals of one motion, from the blend-in on; where the motion starts anew, so does the take.
    """
    topics = ["goal_keypoints", "robot_state", "joint_command", "safety_status"]
    names = {topic.name: short for short in topics if (topic := recording.find(short)) is not None}
    state: Any = None
    action: np.ndarray | None = None
    mode, mode_before = Mode.DISARMED, Mode.DISARMED
    rows: list[Sample] = []
    start_ns, truth, moved = 0, True, False

    def finish(damped: bool) -> Take | None:
        last = rows[-1].goal if rows else None
        if last is None or not moved:
            return None
        over = last.phase in (Phase.DONE, Phase.IDLE)
        return Take(last.motion, start_ns, tuple(rows), damped and not over, truth)

    for stamped in recording.messages(topics):
        kind, message = names[stamped.topic], stamped.message
        if kind == "robot_state":
            state = message
        elif kind == "joint_command":
            action = message.raw_action
        elif kind == "safety_status":
            mode_before, mode = mode, Mode(message.mode) if message.mode in Mode._value2member_map_ else mode
            if rows and mode in DAMPING and mode_before not in DAMPING:
                take = finish(True)
                if take is not None:
                    yield take
                rows = []
        elif state is not None:
            goal = goal_of(message)
            if rows and (goal.motion != rows[-1].goal.motion or goal.frame < rows[-1].goal.frame):
                take = finish(mode in DAMPING)
                if take is not None:
                    yield take
                rows = []
            if not goal.motion or mode in DAMPING or (not rows and goal.phase in (Phase.IDLE, Phase.DONE)):
                continue
            if not rows:
                start_ns, truth, moved = stamped.log_ns, True, False
            moved |= goal.phase is not Phase.IDLE
            truth &= bool(state.has_truth)
            rows.append(sample_of(goal, state, action))
    take = finish(mode in DAMPING) if rows else None
    if take is not None:
        yield take


def sample_of(goal: Goal, state: Any, action: np.ndarray | None) -> Sample:
    """Return a sample of a goal, a ``RobotState`` message and the policy's action (J,), or None before the first."""
    true = bool(state.has_truth)
    return Sample(
        goal=goal,
        joint_pos=state.joint_position,
        joint_torque=state.joint_torque,
        root_quat=quat_of(state.truth_root.orientation if true else state.imu_quaternion),
        root_pos=xyz_of(state.truth_root.position) if true else None,
        action=np.zeros(len(state.joint_position)) if action is None else action,
    )


@dataclass(frozen=True)
class Event:
    """A change of the safety monitor's verdict: when, since the recording's first message, and what."""

    at_s: float
    mode: Mode
    reasons: tuple[str, ...]


@dataclass
class Log:
    """Curves and events of a whole recording; times in s since its first message.

    Attributes:
        events: Changes of mode or of its reasons.
        tick_period_ms: Of every tick of the policy's loop, in order.
        tick_compute_ms: The same.
        tick_latency_ms: The same; NaN where no command was sent.
        policy_t: Time of each policy_status. Shape (P,).
        tracking_error_m: By the policy's own reckoning. Shape (P,).
        ticks, missed, late_5ms: Counts over the recording.
        tension_t, tension_n: Of the gantry's rope. Shape (G,).
        state_t: Time of each robot_state. Shape (S,).
        torque: In N m. Shape (S, J).
        temperature: In degrees Celsius. Shape (S, J).
        battery: 0 to 1. Shape (S,).
        lost: By topic, how many messages are missing, as their counters tell.
    """

    events: list[Event] = field(default_factory=list)
    tick_period_ms: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tick_compute_ms: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tick_latency_ms: np.ndarray = field(default_factory=lambda: np.zeros(0))
    policy_t: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tracking_error_m: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ticks: int = 0
    missed: int = 0
    late_5ms: int = 0
    tension_t: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tension_n: np.ndarray = field(default_factory=lambda: np.zeros(0))
    state_t: np.ndarray = field(default_factory=lambda: np.zeros(0))
    torque: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    temperature: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    battery: np.ndarray = field(default_factory=lambda: np.zeros(0))
    lost: dict[str, int] = field(default_factory=dict)


def log_of(recording: Recording) -> Log:
    """Return what a recording tells beside the trajectory."""
    topics = ["robot_state", "joint_command", "safety_status", "policy_status"]
    names = {topic.name: short for short in topics if (topic := recording.find(short)) is not None}
    begin_ns = recording.span_ns[0]
    log = Log()
    period: list[np.ndarray] = []
    compute: list[np.ndarray] = []
    latency: list[np.ndarray] = []
    policy: list[tuple[float, float]] = []
    tension: list[tuple[float, float]] = []
    states: list[tuple[float, np.ndarray, np.ndarray, float]] = []
    counters: dict[str, list[int]] = {}
    first: Any = None
    for stamped in recording.messages(topics):
        kind, message = names[stamped.topic], stamped.message
        at_s = 1e-9 * (stamped.log_ns - begin_ns)
        if kind == "robot_state":
            states.append((at_s, message.joint_torque, message.joint_temperature, message.battery))
        elif kind == "joint_command":
            counters.setdefault(kind, []).append(message.sequence)
        elif kind == "safety_status":
            counters.setdefault(kind, []).append(message.heartbeat)
            tension.append((at_s, message.gantry_tension_n))
            mode, reasons = message.mode, tuple(message.reasons)
            if mode in Mode._value2member_map_ and (
                not log.events or (log.events[-1].mode, log.events[-1].reasons) != (mode, reasons)
            ):
                log.events.append(Event(at_s, Mode(mode), reasons))
        else:
            first = first or message
            period.append(message.tick_period_ms)
            compute.append(message.tick_compute_ms)
            latency.append(message.tick_latency_ms)
            policy.append((at_s, message.tracking_error_m))
            log.ticks, log.missed = message.ticks - first.ticks, message.missed - first.missed
            log.late_5ms = message.late_5ms - first.late_5ms
    # the ticks in the first status lie before it
    log.tick_period_ms, log.tick_compute_ms = _joined(period[1:]), _joined(compute[1:])
    log.tick_latency_ms = _joined(latency[1:])
    if policy:
        log.policy_t, log.tracking_error_m = np.array(policy, float).T
    if tension:
        log.tension_t, log.tension_n = np.array(tension, float).T
    if states:
        log.state_t = np.array([row[0] for row in states])
        log.torque, log.temperature = np.array([row[1] for row in states]), np.array([row[2] for row in states])
        log.battery = np.array([row[3] for row in states])
    for kind, numbers in counters.items():
        steps = np.diff(np.array(numbers, np.int64))
        log.lost[kind] = int(np.maximum(steps - 1, 0).sum())
    return log


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(float) if parts else np.zeros(0)


def _lies(root_pos: np.ndarray, root_quat: np.ndarray, known: bool) -> np.ndarray:
    """Return in which samples the robot lies, as the simulator judges it. Shape (T,)."""
    from genmimic.sim.simulated_g1 import FALLEN_HEIGHT_M, FALLEN_TILT_RAD

    _, x, y, _ = np.moveaxis(root_quat, -1, 0)
    tilted = np.arccos(np.clip(1.0 - 2.0 * (x * x + y * y), -1.0, 1.0)) > FALLEN_TILT_RAD
    return tilted | (root_pos[:, 2] < FALLEN_HEIGHT_M) if known else tilted


def _finite(values: np.ndarray) -> np.ndarray:
    """Return the same with rows that are not finite replaced by the last good one before."""
    good = np.isfinite(values).all(-1)
    if good.all() or not good.any():
        return np.nan_to_num(values)
    last = np.maximum.accumulate(np.where(good, np.arange(len(values)), 0))
    return np.nan_to_num(values[last])
