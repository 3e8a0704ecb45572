# SPDX-License-Identifier: Apache-2.0
"""The gentle wiggle: does each joint of a hanging robot move when it is asked to, and its reading the same way?

One joint after the other follows a small slow sine with a fraction of the stiffness, the others are held where they are
with the same. Anything unusual ends it, damped. What no program can see is which limb moved: a person watches, and
compares with the name that is told. That is what proves the motor slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from genmimic.core.errors import LinkError
from genmimic.core.robot import Robot
from genmimic.core.safety import tilt_rad
from genmimic.core.state import JointCommand, RobotState, position_command
from genmimic.link.config import DAMPING_FAULTS
from genmimic.link.hardware import RATE_HZ, HardwareBridge
from genmimic.link.realtime import run_at

AMPLITUDE_RAD = 0.12
PERIOD_S = 1.0
STIFFNESS = 0.15
"""Of the robot's gains: at most 0.15 * 300 * 0.12 = 5.4 N m at a knee."""
KD = 2.0
RAMP_S = 0.5
"""In which stiffness comes and goes."""

MOVES_RAD = 0.01
"""Less does not count as a movement."""
FAR_RAD, FAST_RAD_S, TILT_RAD = 0.5, 3.0, 1.0
"""Where it ends: a joint so far from its rest or so fast, or the pelvis tilted so far."""


def wiggle_command(robot: Robot, rest: np.ndarray, joint: int, time_s: float) -> JointCommand:
    """Return the command at ``time_s`` since this joint's turn began; ``rest`` (J,) is where all hang, in rad."""
    fade = min(1.0, time_s / RAMP_S, max(0.0, (turn_s() - time_s) / RAMP_S))
    pose = rest.copy()
    pose[joint] += offset(time_s)
    pose = np.clip(pose, robot.joint_lower, robot.joint_upper)
    command = position_command(robot, pose)
    return replace(command, kp=fade * STIFFNESS * robot.kp, kd=np.full(robot.num_joints, KD))


def offset(time_s: float) -> float:
    """Return how far the joint is asked to be from its rest, in rad."""
    begun_s = time_s - RAMP_S
    inside = 0.0 <= begun_s <= PERIOD_S
    return AMPLITUDE_RAD * math.sin(2.0 * math.pi * begun_s / PERIOD_S) if inside else 0.0


def turn_s() -> float:
    """Return how long a joint's turn lasts."""
    return 2.0 * RAMP_S + PERIOD_S


def judge(robot: Robot, joint: int, times_s: np.ndarray, joint_pos: np.ndarray) -> tuple[bool, str]:
    """Return whether the joint's reading followed, and one line.

    Args:
        robot: The robot.
        joint: Whose turn it was.
        times_s: Of the readings, since the turn began. Shape (T,).
        joint_pos: In rad. Shape (T, J).
    """
    inside = (times_s >= RAMP_S) & (times_s <= RAMP_S + PERIOD_S)
    if inside.sum() < 50:
        return False, f"{int(inside.sum())} readings in {PERIOD_S:g} s"
    turns = np.exp(-2j * math.pi * (times_s[inside] - RAMP_S) / PERIOD_S)
    moved = joint_pos[inside] - joint_pos[inside].mean(0)
    waves = 2.0 * (turns[:, None] * moved).mean(0)  # of a pure sine: -1j times its amplitude
    sizes, same_way = np.abs(waves), float((1j * waves[joint]).real)
    text = f"asked {AMPLITUDE_RAD:.2f} rad, moved {sizes[joint]:.3f} rad"
    if sizes[joint] < MOVES_RAD:
        return False, f"{text}: it does not move"
    if same_way <= 0.0:
        return False, f"{text}, the other way"
    most = int(sizes.argmax())
    if most != joint and sizes[most] > 1.5 * sizes[joint]:
        return False, f"{text}, but {robot.joint_names[most]} moved {sizes[most]:.3f} rad"
    return True, text


Runner = Callable[[float, Callable[[int], bool]], None]
"""Calls a tick with the time, at a rate in Hz, until it returns False; `run_at` does."""


def wiggle(
    bridge: HardwareBridge,
    say: Callable[[str], None],
    joints: Sequence[str] | None = None,
    run: Runner = run_at,
) -> list[tuple[str, bool, str]]:
    """Wiggle the joints of a robot that hangs, limp; return name, verdict and one line of each.

    Args:
        bridge: Open and live: nobody else commands the robot.
        say: Told the name of each joint before its turn, for the person who watches.
        joints: Their names; all when None.
        run: Gives the time.

    Raises:
        LinkError: It had to be ended; the robot is damped.
    """
    robot, found = bridge.link.robot, []
    try:
        rest = _rest(bridge, run)
        for name in robot.joint_names if joints is None else joints:
            say(name)
            turn = _Turn(bridge, rest, int(robot.joint_idx([name])[0]))
            run(RATE_HZ, turn.tick)
            if turn.problem:
                raise LinkError(f"the wiggle of {name} was ended, the robot is damped: {turn.problem}")
            good, text = judge(robot, turn.joint, np.array(turn.times_s), np.array(turn.poses))
            found.append((name, good, text))
    finally:
        bridge.let_go("the wiggle is over")
    return found


class _Turn:
    """One joint's turn."""

    def __init__(self, bridge: HardwareBridge, rest: np.ndarray, joint: int) -> None:
        self._bridge, self._rest, self.joint = bridge, rest, joint
        self._begin_ns: int | None = None
        self.times_s: list[float] = []
        self.poses: list[np.ndarray] = []
        self.problem = ""

    def tick(self, now_ns: int) -> bool:
        bridge, link = self._bridge, self._bridge.link
        self._begin_ns = now_ns if self._begin_ns is None else self._begin_ns
        time_s = (now_ns - self._begin_ns) * 1e-9
        if link.poll(now_ns) and link.state is not None:
            self.times_s.append(time_s)
            self.poses.append(link.state.joint_pos)
        self.problem = _problem(bridge, self._rest, now_ns)
        if self.problem:
            return False
        bridge.write(wiggle_command(link.robot, self._rest, self.joint, time_s))
        return time_s < turn_s()


def _rest(bridge: HardwareBridge, run: Runner, seconds: float = 0.5) -> np.ndarray:
    """Return the pose in which the robot hangs. Shape (J,), rad. Raises LinkError when it does not hang still."""
    poses: list[np.ndarray] = []
    times_ns: list[int] = []

    def tick(now_ns: int) -> bool:
        times_ns.append(now_ns)
        if bridge.link.poll(now_ns) and bridge.link.state is not None:
            poses.append(bridge.link.state.joint_pos)
        return now_ns - times_ns[0] < seconds * 1e9

    run(RATE_HZ, tick)
    if len(poses) < 20:
        raise LinkError(f"{len(poses)} readings in {seconds:g} s; look at the findings above first")
    still = float(np.ptp(poses, axis=0).max())
    if not still < 0.05:
        raise LinkError(f"the robot does not hang still: a joint moves by {still:.2f} rad; hold it and try again")
    return np.median(poses, axis=0)


def _problem(bridge: HardwareBridge, rest: np.ndarray, now_ns: int) -> str:
    """Return why the wiggle must end; empty when it need not."""
    link = bridge.link
    state: RobotState | None = link.state
    if link.pressed & {"B", "select"}:
        return "B was pressed on the remote"
    faults = [str(fault) for fault in link.faults(now_ns) if fault.id in DAMPING_FAULTS and fault.id != "joint_frozen"]
    if faults or state is None:
        return faults[0] if faults else "no robot state"
    if not state.is_finite():
        return "a reading is not a finite number"
    names = link.robot.joint_names
    far, fast = np.abs(state.joint_pos - rest), np.abs(state.joint_vel)
    if far.max() > FAR_RAD:
        return f"{names[int(far.argmax())]} is {far.max():.2f} rad from its rest (limit {FAR_RAD:g} rad)"
    if fast.max() > FAST_RAD_S:
        return f"{names[int(fast.argmax())]} turns at {fast.max():.1f} rad/s (limit {FAST_RAD_S:g} rad/s)"
    if tilt_rad(state.base_quat_w) > TILT_RAD:
        return f"the pelvis tilts by {tilt_rad(state.base_quat_w):.2f} rad (limit {TILT_RAD:g} rad)"
    return ""
