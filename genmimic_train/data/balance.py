# SPDX-License-Identifier: Apache-2.0
"""Human motions as physics allows them: the same steps, the same arms, under a body that stays over its feet.

A person's clip brought to the robot skates, sinks and leans where the robot could not: its zero-moment point leaves the
standing soles in half of the frames. Here its footsteps are read off and walked again as `genmimic_train.data.walks`
walks: feet stand still and flat, swing clear of the floor, and the centre of mass follows the linear inverted pendulum
over a zero-moment point within them. Pelvis height and lean, waist and arms stay the clip's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genmimic.check.measure import GRAVITY, centre_of_mass
from genmimic.core.kinematics import forward_kinematics, sole_positions
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.reference import HOLD_S, stand_to_stand
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import heading, quat_from_heading, quat_multiply, quat_rotate, wrap_angle
from genmimic.retarget import cleaning
from genmimic_train.data.gestures import body_over_feet, minimum_jerk
from genmimic_train.data.walks import pendulum, zero_moment_point

_STEP_SPEED = 0.15
"""Speed in m/s from which a low foot steps."""
_SHORTEST_STAND = 6
_SHORTEST_SWING = 8
"""Frames; what is shorter belongs to what is around it."""
_LIFT_M = (0.04, 0.12)
"""Lowest and highest swing of a foot."""
_SHIFT = 7
"""Frames in which the weight goes from one foot to the other."""
_AHEAD_M = (-0.01, 0.06)
"""Ahead of the ankle, where under a foot the weight may rest: well within the sole."""
_KNEE_RAD = 0.25
"""Least bend of a standing leg's knee: what is further away lowers the pelvis, early and smoothly."""
_BOB, _BOB_SIGMA = 12, 8.0
"""Frames over which the pelvis keeps to its lowest height, and those over which that is smoothed."""
_PASSES = 8
_CORRECTION_M = 0.12
"""As in `genmimic_train.data.walks`, whose own steps need fewer and less."""
_FLIGHT_SHARE = 0.01
"""Share of frames in the air from which a clip jumps or runs, and is none of ours."""
_HELD = round(HOLD_S * CONTROL_RATE_HZ) - 5
"""Frames of standing at each end that are left out again: whoever plays the motion adds his own."""


class OffBalanceError(ValueError):
    """A motion that cannot be walked again; the message says why."""


@dataclass(frozen=True)
class _Feet:
    """What the feet do; T frames, left first."""

    stands: np.ndarray  # (T, 2)
    pos: np.ndarray  # of the ankles, (T, 2, 3)
    yaw: np.ndarray  # (T, 2)
    place: np.ndarray  # where each stands, or stood last: x, y, yaw; (T, 2, 3)


def balanced(motion: Motion, robot: Robot = G1_23DOF) -> Motion:
    """Return ``motion`` walked again: feet that stand and step, and a zero-moment point within the standing ones.

    Args:
        motion: Any clip; it is given the way from standing and back to it that a robot takes (`stand_to_stand`).
        robot: The robot.

    Returns:
        A motion at 50 Hz that begins and ends standing.

    Raises:
        OffBalanceError: It jumps, runs or lies.
        MissingDependencyError: daqp or mujoco is not installed.
    """
    motion = stand_to_stand(robot, motion).motion
    body = motion.root_pos, motion.root_quat, motion.joint_pos
    state = forward_kinematics(robot, *body)
    soles = sole_positions(robot, *body).reshape(len(motion), 2, -1, 3)
    height = soles[..., 2].min((1, 2))
    flight = cleaning.flight_frames(height, state.pos[..., 2].mean(-1), CONTROL_RATE_HZ) | (height > 0.06)
    if flight.mean() > _FLIGHT_SHARE:
        raise OffBalanceError(f"in the air in {100.0 * flight.mean():.0f} % of its frames")
    if motion.root_pos[:, 2].min() < 0.4:
        raise OffBalanceError(f"its pelvis goes down to {motion.root_pos[:, 2].min():.2f} m")
    rest = forward_kinematics(
        robot, np.array([0.0, 0.0, robot.standing_height]), np.array([1.0, 0.0, 0.0, 0.0]), robot.default_joint_pos
    )
    idx = robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
    ankle = float(rest.pos[idx[0], 2])
    feet = _footsteps(state.pos[:, idx], heading(state.quat[:, idx]), soles, ankle)

    centre = centre_of_mass(robot, *body)
    pressure = _pressure(feet, _point_mass(centre))
    asked = pressure.copy()
    pelvis = motion.root_pos.copy()
    target_pos, target_quat = state.pos.copy(), state.quat.copy()
    target_pos[:, idx] = feet.pos
    target_quat[:, idx] = quat_multiply(quat_from_heading(feet.yaw), rest.quat[idx])
    ik = body_over_feet(robot, place=60.0, attitude=20.0)  # a foot that swings may lag, the body may not jerk
    root_pos, root_quat, joint_pos = body
    for turn in range(_PASSES):
        if turn:
            reached = zero_moment_point(robot, root_pos, root_quat, joint_pos)
            asked += 0.6 * cleaning.gaussian_smooth(pressure - reached, 4.0)
            asked = np.clip(asked, pressure - _CORRECTION_M, pressure + _CORRECTION_M)
        tall = cleaning.gaussian_smooth(centre[:, 2] + pelvis[:, 2] - motion.root_pos[:, 2], 4.0)
        lift = np.clip(GRAVITY + np.gradient(np.gradient(tall)) * CONTROL_RATE_HZ**2, 0.3 * GRAVITY, 3.0 * GRAVITY)
        now = centre_of_mass(robot, root_pos, root_quat, joint_pos)
        pelvis[:, :2] += pendulum(asked, GRAVITY * tall / lift) - now[:, :2]
        pelvis[:, 2] = _height(robot, motion.root_pos[:, 2], pelvis[:, :2], motion.root_quat, feet)
        target_pos[:, 0] = pelvis
        root_pos, root_quat, joint_pos = ik.follow(target_pos, target_quat, motion.joint_pos)
        joint_pos = np.clip(joint_pos, robot.joint_lower, robot.joint_upper)
    kept = slice(_HELD, len(motion) - _HELD)
    source = {**motion.source, "balanced": True}
    body = joint_pos[kept], root_pos[kept], root_quat[kept]
    return Motion.from_joints(robot, CONTROL_RATE_HZ, *body, motion.name, source)


def _height(robot: Robot, height: np.ndarray, xy: np.ndarray, quat: np.ndarray, feet: _Feet) -> np.ndarray:
    """Return the pelvis's height (T,) for a clip that has ``height`` (T,), over ``xy`` (T, 2).

    Both legs reach their feet with knees bent by `_KNEE_RAD`, and it does not bob: a body that falls half a step long
    weighs nothing, and its zero-moment point is anywhere.
    """
    bent = robot.default_joint_pos.copy()
    bent[robot.joint_idx(["left_knee_joint", "right_knee_joint"])] = _KNEE_RAD
    pose = forward_kinematics(robot, np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), bent).pos
    hip, ankle = (robot.keypoint_idx([f"left_{part}", f"right_{part}"]) for part in ("hip_pitch", "ankle_roll"))
    reach = float(np.linalg.norm(pose[hip[0]] - pose[ankle[0]]))
    hips = quat_rotate(quat[:, None], pose[hip])
    away = np.linalg.norm(xy[:, None] + hips[..., :2] - feet.pos[..., :2], axis=-1)
    room = np.sqrt(np.maximum(reach**2 - away**2, 0.3**2)) + feet.pos[..., 2] - hips[..., 2]
    lowest = np.pad(np.minimum(height, room.min(-1)), _BOB, mode="edge")
    return cleaning.gaussian_smooth(np.lib.stride_tricks.sliding_window_view(lowest, 2 * _BOB + 1).min(-1), _BOB_SIGMA)


def _footsteps(ankles: np.ndarray, yaw: np.ndarray, soles: np.ndarray, ankle: float) -> _Feet:
    """Return the feet of a clip, standing still or swinging clear. Shapes (T, 2, 3), (T, 2), (T, 2, S, 3)."""
    stands = _stands(soles)
    pos, turn = ankles.copy(), np.unwrap(yaw, axis=0)
    place = np.zeros((len(ankles), 2, 3))
    for foot in range(2):
        pos[stands[:, foot], foot, 2] = ankle
        for first, end in cleaning.runs(stands[:, foot]):
            pos[first:end, foot, :2] = np.median(ankles[first:end, foot, :2], axis=0)
            turn[first:end, foot] = np.median(turn[first:end, foot])
        for first, end in cleaning.runs(~stands[:, foot]):
            before, after = max(first - 1, 0), min(end, len(pos) - 1)
            part = np.arange(1, end - first + 1) / (end - first + 1)
            smooth = minimum_jerk(part)[:, None]
            straight = pos[before, foot, :2] + smooth * (pos[after, foot, :2] - pos[before, foot, :2])
            off = [pos[at, foot, :2] - ankles[at, foot, :2] for at in (before, after)]  # the clip's own swing
            own = ankles[first:end, foot, :2] + off[0] + smooth * (off[1] - off[0])
            pos[first:end, foot, :2] = 0.5 * (own + straight)
            turn[first:end, foot] = turn[before, foot] + smooth[:, 0] * (turn[after, foot] - turn[before, foot])
            lift = np.clip(soles[first:end, foot, :, 2].min(-1).max(), *_LIFT_M)
            pos[first:end, foot, 2] = ankle + lift * np.sin(np.pi * part) ** 2
        at = np.maximum.accumulate(np.where(stands[:, foot], np.arange(len(pos)), 0))
        place[:, foot, :2], place[:, foot, 2] = pos[at, foot, :2], turn[at, foot]
    return _Feet(stands, pos, wrap_angle(turn), place)


def _stands(soles: np.ndarray) -> np.ndarray:
    """Return when which foot stands; at least one always does. Shape (T, 2, S, 3) to (T, 2)."""
    smooth = cleaning.gaussian_smooth(soles, 0.04 * CONTROL_RATE_HZ)
    speed = np.linalg.norm(np.gradient(smooth, 1.0 / CONTROL_RATE_HZ, axis=0), axis=-1).min(-1)
    low = soles[..., 2].min(-1)
    stands: np.ndarray = (low - low.min(-1, keepdims=True) < 0.03) & (speed < _STEP_SPEED)
    stands[0] = stands[-1] = True
    for foot in range(2):
        for first, end in cleaning.runs(stands[:, foot]):
            if end - first < _SHORTEST_STAND and first > 0 and end < len(stands):
                stands[first:end, foot] = False
    nobody = np.asarray(~stands.any(-1))
    for first, end in cleaning.runs(nobody):  # the slower foot stands throughout
        stands[first:end, int(np.argmin(speed[first:end].mean(0)))] = True
    for foot in range(2):
        for first, end in cleaning.runs(~stands[:, foot]):
            if end - first < _SHORTEST_SWING:
                stands[first:end, foot] = True
            elif end - first >= 2 * _SHORTEST_SWING - 4:  # both feet stand for a while between two steps
                stands[first : first + 2, foot] = stands[end - 2 : end, foot] = True
    return stands


def _point_mass(centre: np.ndarray) -> np.ndarray:
    """Return the zero-moment point of the centre of mass's path. Shape (T, 3) to (T, 2)."""
    path = cleaning.gaussian_smooth(centre, 0.1 * CONTROL_RATE_HZ)
    accel = np.gradient(np.gradient(path, axis=0), axis=0) * CONTROL_RATE_HZ**2
    return path[:, :2] - (path[:, 2] / np.maximum(accel[:, 2] + GRAVITY, 0.5 * GRAVITY))[:, None] * accel[:, :2]


def _pressure(feet: _Feet, wanted: np.ndarray) -> np.ndarray:
    """Return where the weight rests: under the foot that stands alone, between two where the clip has it. (T, 2)."""
    ankles = feet.place[..., :2]
    gap = ankles[:, 0] - ankles[:, 1]
    share = np.clip(((wanted - ankles[:, 1]) * gap).sum(-1) / np.maximum((gap**2).sum(-1), 1e-4), 0.0, 1.0)
    share[~feet.stands[:, 1]], share[~feet.stands[:, 0]] = 1.0, 0.0  # of the weight, on the left foot
    both = np.asarray(feet.stands.all(-1))
    for first, end in cleaning.runs(both):
        inner = share[first:end].copy()
        since, until = np.arange(1, end - first + 1), np.arange(end - first, 0, -1)
        span = min(_SHIFT, (end - first + 1) // 2)
        if end - first <= 2 * _SHIFT and first > 0 and end < len(share):
            inner = share[first - 1] + minimum_jerk(since / (end - first + 1)) * (share[end] - share[first - 1])
        else:
            if first > 0:
                inner = share[first - 1] + minimum_jerk(np.minimum(since / span, 1.0)) * (inner - share[first - 1])
            if end < len(share):
                inner = share[end] + minimum_jerk(np.minimum(until / span, 1.0)) * (inner - share[end])
        share[first:end] = inner
    between = ankles[:, 1] + share[:, None] * gap
    yaw = np.arctan2(np.sin(feet.place[..., 2]).mean(-1), np.cos(feet.place[..., 2]).mean(-1))
    yaw = np.where(both, yaw, np.where(feet.stands[:, 0], feet.place[:, 0, 2], feet.place[:, 1, 2]))
    along = np.stack([np.cos(yaw), np.sin(yaw)], -1)
    ahead = np.clip(((wanted - between) * along).sum(-1), *_AHEAD_M)
    ahead = cleaning.gaussian_smooth(ahead, 4.0)
    return cleaning.gaussian_smooth(between, 1.0) + ahead[:, None] * along
