# SPDX-License-Identifier: Apache-2.0
"""The gentle wiggle: does each joint of a hanging robot move when it is asked to, and its reading the same way?

One joint after the other follows a small slow sine with a fraction of the stiffness, the others are held where they are
with the same. Anything unusual ends it, damped. What no program can see is which limb moved: a person watches, and
compares with the name that is told. That is what proves the motor slots.
"""

from __future__ import annotations

import math
import time
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


def wiggle(
    bridge: HardwareBridge, say: Callable[[str], None], joints: Sequence[str] | None = None
) -> list[tuple[str, bool, str]]:
    """Wiggle the joints of a robot that hangs, limp; return name, verdict and one line of each.

    Args:
        bridge: Open and live: nobody else commands the robot.
        say: Told the name of each joint before its turn, for the person who watches.
        joints: Their names; all when None.

    Raises:
        LinkError: It had to be ended; the robot is damped.
    """
    link, robot, found = bridge.link, bridge.link.robot, []
    rest = _rest(bridge)
    try:
        for name in robot.joint_names if joints is None else joints:
            joint = int(robot.joint_idx([name])[0])
            say(name)
            times, poses, problem = [], [], ""
            begin_ns = time.monotonic_ns()

            def tick(now_ns: int) -> bool:
                nonlocal problem
                time_s = (now_ns - begin_ns) * 1e-9  # noqa: B023
                if link.poll(now_ns) and link.state is not None:
                    times.append(time_s)  # noqa: B023
                    poses.append(link.state.joint_pos)  # noqa: B023
                problem = _problem(bridge, rest, now_ns)
                if problem:
                    return False
                bridge.write(wiggle_command(robot, rest, joint, time_s))  # noqa: B023
                return time_s < turn_s()

            run_at(RATE_HZ, tick)
            if problem:
                raise LinkError(f"the wiggle of {name} was ended, the robot is damped: {problem}")
            good, text = judge(robot, joint, np.array(times), np.array(poses))
            found.append((name, good, text))
    finally:
        bridge.let_go("the wiggle is over")
    return found


def _rest(bridge: HardwareBridge, seconds: float = 0.5) -> np.ndarray:
    """Return the pose in which the robot hangs. Shape (J,), rad. Raises LinkError when it does not hang still."""
    poses: list[np.ndarray] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if bridge.link.poll(time.monotonic_ns()) and bridge.link.state is not None:
            poses.append(bridge.link.state.joint_pos)
        time.sleep(0.002)
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
