# SPDX-License-Identifier: Apache-2.0
"""Repair a robot motion: what lifting, generation or transfer has broken, and a robot must not be shown.

Each step is taken only where the gate found its damage:

    swapped sides -> jumps and gaps drawn anew -> jumps of the root taken out -> shaking smoothed -> joint ranges
    -> sliding feet hold the body -> floor -> inverse kinematics: soles level, parts apart, joint speeds kept

What stood in balance must do so afterwards: feet are locked only where they slid, and the body goes with them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from genmimic.check.judge import Judgement, Limits, judge
from genmimic.check.measure import root_jumps, shaking
from genmimic.core.kinematics import forward_kinematics, lowest_sole_height, sole_positions
from genmimic.core.motion import Motion, continuous_quat
from genmimic.core.robot import Robot
from genmimic.retarget import cleaning

SWAP_STEP_RAD = 0.25
"""Least step of a limb's joints that may be an exchange of sides."""

JUMP_M = 0.025
"""Step of the root, beyond those around it, that is taken out."""

SHAKE_RAD = 0.008
"""Shaking of the joint that shakes most for which one more frame of smoothing is worth its delay in fast motion."""

SHAKY_SHARE = 0.2
"""Share of joints and frames above half of `SHAKE_RAD` from which a clip shakes all over, not here and there."""


STEP_SPEED = 0.12
"""Speed in m/s from which a foot close to the floor steps, not slides: to hold it still would draw it from under the
body. A slide that is damage has been taken off the root's path by then."""

_POLISH_SIGMA = 0.7  # frames

GENTLER: tuple[tuple[str, ...], ...] = (
    (), ("feet",), ("inverse kinematics",), ("inverse kinematics", "feet"), ("inverse kinematics", "feet", "smoothing"),
)  # fmt: skip
"""What `repair` can leave out, ever more: the steps that change the whole body and so may cost it its balance."""

MENDED_BY_IK = frozenset({"limits", "speed", "acceleration", "slide", "float", "sink", "self_collision"})
"""Findings that are worth a pass of inverse kinematics when they are left after the other steps."""


@dataclass(frozen=True)
class Repaired:
    """A repaired motion and what was done, one line for people each; none when nothing was."""

    motion: Motion
    done: tuple[str, ...]


def repair(robot: Robot, motion: Motion, judgement: Judgement, leave_out: Collection[str] = ()) -> Repaired:
    """Return ``motion`` with what ``judgement`` found repaired, as far as that is possible.

    Args:
        robot: The robot.
        motion: At 50 Hz.
        judgement: Of it.
        leave_out: Some of the steps named in `GENTLER`.

    Raises:
        MissingDependencyError: daqp is not installed, and inverse kinematics is needed.
    """
    kinds = {finding.kind for finding in judgement.findings}
    fps = motion.fps
    joint_pos, root_pos, root_quat = motion.joint_pos.copy(), motion.root_pos.copy(), motion.root_quat.copy()
    done: list[str] = []

    shaky = float((judgement.curves.jitter > 0.5 * SHAKE_RAD).mean()) > SHAKY_SHARE
    joint_pos, swapped = unswapped(robot, joint_pos, SWAP_STEP_RAD * (2.0 if shaky else 1.0))
    if swapped:
        done.append(f"exchanged left and right in {swapped} frames")
    if shaky and "smoothing" not in leave_out:  # first, or every frame would look like a jump
        joint_pos, root_pos, root_quat, sigma = smoothed(joint_pos, root_pos, root_quat, fps)
        done.append(f"smoothed over {sigma / fps * 1000.0:.0f} ms")
    if kinds & {"speed", "acceleration", "held", "jump", "limits"} or judgement.curves.held.any():
        bad = cleaning.widen(cleaning.spike_frames(joint_pos, fps, 20.0), 1) | judgement.curves.held
        if bad.any() and not bad.all():
            joint_pos = cleaning.bridge(joint_pos[:, :, None], root_quat[:, None], bad)[0][:, :, 0]
            root_pos = cleaning.bridge(root_pos[:, None], root_quat[:, None], judgement.curves.held)[0][:, 0]
            root_quat = cleaning.bridge(root_pos[:, None], root_quat[:, None], bad)[1][:, 0]
            done.append(f"drew {int(bad.sum())} frames anew where joints jumped or stood still")
    if kinds & {"jump", "root_speed"}:
        root_pos, count = without_jumps(root_pos)
        if count:
            done.append(f"took {count} jumps out of the root's path")
    if kinds & {"jitter", "acceleration"} and not shaky and "smoothing" not in leave_out and _shakes(joint_pos, fps):
        joint_pos, root_pos, root_quat, sigma = smoothed(joint_pos, root_pos, root_quat, fps)
        done.append(f"smoothed over {sigma / fps * 1000.0:.0f} ms")
    beyond = np.maximum(robot.joint_lower - joint_pos, joint_pos - robot.joint_upper).max()
    if beyond > 0.0:
        joint_pos = np.clip(joint_pos, robot.joint_lower + 0.01, robot.joint_upper - 0.01)
        done.append(f"kept joints within their ranges, up to {beyond:.2f} rad")
    slid = bool(kinds & {"slide", "root_speed", "jump"}) and "feet" not in leave_out
    if slid:
        root_pos, moved = held_by_feet(robot, root_pos, root_quat, joint_pos, fps)
        done.append(f"let standing feet hold the body, which moved its path by up to {moved:.2f} m")
    if kinds & {"float", "sink"} or done:
        lowest = lowest_sole_height(robot, root_pos, root_quat, joint_pos)
        middle = forward_kinematics(robot, root_pos, root_quat, joint_pos).pos[..., 2].mean(-1)
        flight = cleaning.flight_frames(lowest, middle, fps)
        lift = cleaning.floor_correction(lowest, flight, sigma=2.0)
        if np.abs(lift).max() > 0.005:
            root_pos[:, 2] += lift
            done.append(f"put on the floor, by {lift.min():+.3f} to {lift.max():+.3f} m")
    fixed = Motion.from_joints(robot, fps, joint_pos, root_pos, continuous_quat(root_quat), motion.name, motion.source)
    left = {finding.kind for finding in judge(robot, fixed).findings} & MENDED_BY_IK
    if (slid or shaky or left) and "inverse kinematics" not in leave_out:
        hold = slid or shaky or "slide" in left
        root_pos, root_quat, joint_pos = _by_inverse_kinematics(robot, root_pos, root_quat, joint_pos, fps, hold)
        feet = "standing feet locked and level" if hold else "standing feet level"
        done.append(f"{feet}, parts kept apart, joint speeds kept by inverse kinematics")
    if not done:
        return Repaired(motion, ())
    source = {**motion.source, "changes": "; ".join(filter(None, ["repaired", str(motion.source.get("changes", ""))]))}
    return Repaired(
        Motion.from_joints(robot, fps, joint_pos, root_pos, continuous_quat(root_quat), motion.name, source),
        tuple(done),
    )


# steps -----------------------------------------------------------------------------------------
def unswapped(robot: Robot, joint_pos: np.ndarray, step_rad: float = SWAP_STEP_RAD) -> tuple[np.ndarray, int]:
    """Return the joints with exchanged sides put right, arms and legs each for themselves, and how many frames changed.

    Two steps that nearly vanish when the sides are exchanged between them enclose an exchange; the shorter part of
    the clip is taken for the exchanged one. Shape (T, J).
    """
    result = joint_pos.copy()
    changed: np.ndarray = np.zeros(len(joint_pos), bool)
    for parts in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
        limb = np.array([any(part in name for part in parts) for name in robot.joint_names])
        limb_idx = np.flatnonzero(limb)
        other = robot.joint_mirror_idx[limb_idx]
        sign = robot.joint_mirror_sign[limb_idx]
        own, swapped = joint_pos[:, limb_idx], joint_pos[:, other] * sign
        stays = np.abs(own[1:] - own[:-1]).max(-1)
        turns = np.abs(swapped[1:] - own[:-1]).max(-1)
        switch = (stays > step_rad) & (turns < 0.5 * stays)
        state = np.concatenate([[0], np.cumsum(switch) % 2]).astype(bool)
        if state.mean() > 0.5:
            state = ~state
        result[np.ix_(state, limb_idx)] = swapped[state]
        changed |= state
    return result, int(changed.sum())


def without_jumps(root_pos: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the root's path without sudden steps, and how many there were. Shape (T, 3)."""
    jump = root_jumps(root_pos) > JUMP_M
    jump[:3] = jump[-2:] = False
    step = np.diff(root_pos, axis=0)
    for frame in np.flatnonzero(jump):  # jump[t] is about the step from t - 1 to t
        near = [at for at in (frame - 4, frame - 3, frame + 1, frame + 2) if 0 <= at < len(step) and not jump[at + 1]]
        step[frame - 1] = np.median(step[near], axis=0) if near else 0.0
    return np.concatenate([root_pos[:1], root_pos[:1] + np.cumsum(step, axis=0)]), int(jump.sum())


def smoothed(
    joint_pos: np.ndarray, root_pos: np.ndarray, root_quat: np.ndarray, fps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return joints, root position and orientation smoothed, more the more they shake, and over how many frames."""
    level = float(np.sqrt(np.mean(shaking(joint_pos, fps) ** 2, axis=0)).max())
    chosen = min(1.0 + level / SHAKE_RAD, 3.0)
    return (
        cleaning.gaussian_smooth(joint_pos, chosen),
        cleaning.gaussian_smooth(root_pos, chosen),
        cleaning.smooth_quat(root_quat, chosen),
        chosen,
    )


def held_by_feet(
    robot: Robot, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray, fps: float
) -> tuple[np.ndarray, float]:
    """Return the root's path such that the lower foot does not slide, and the largest change in m.

    The feet's way over the floor, in the steps in which they carry the robot, is taken off the root's.
    """
    soles = sole_positions(robot, root_pos, root_quat, joint_pos).reshape(len(root_pos), 2, -1, 3)
    height = cleaning.gaussian_smooth(soles[..., 2].min(-1), 0.04 * fps)
    middle = forward_kinematics(robot, root_pos, root_quat, joint_pos).pos[..., 2].mean(-1)
    flight = cleaning.flight_frames(soles[..., 2].min((1, 2)), middle, fps)
    carries = np.clip(1.0 - (height - height.min(-1, keepdims=True)) / 0.02, 0.0, 1.0) * ~flight[:, None]
    both = np.minimum(carries[1:], carries[:-1])
    step = np.diff(soles, axis=0)[..., :2]  # (T-1, 2, S, 2)
    slowest = np.linalg.norm(step, axis=-1).argmin(-1)
    slide = np.take_along_axis(step, slowest[..., None, None], 2)[:, :, 0]
    taken = (both[..., None] * slide).sum(1) / np.maximum(both.sum(1), 1e-6)[:, None]
    taken[both.sum(1) < 0.2] = 0.0
    change = np.concatenate([np.zeros((1, 2)), -np.cumsum(taken, axis=0)])
    change = cleaning.gaussian_smooth(change, 0.04 * fps)
    path = root_pos.copy()
    path[:, :2] += change
    return path, float(np.linalg.norm(change - change.mean(0), axis=-1).max())


def _shakes(joint_pos: np.ndarray, fps: float) -> bool:
    """Return whether joints (T, J) still shake, or jerk, after what jumped has been drawn anew."""
    accel = np.abs(np.diff(joint_pos, 2, axis=0)).max(initial=0.0) * fps**2
    return bool(shaking(joint_pos, fps).max() > SHAKE_RAD or accel > Limits().accel_rad_s2[0])


def _by_inverse_kinematics(
    robot: Robot, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray, fps: float, hold: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return root position, orientation and joints with level soles, parts apart and slow enough joints.

    With ``hold``, standing feet are held still, and the body goes with them; else they stay where they are.
    """
    from genmimic.retarget.human import (
        CLEARANCE_M,
        LOCK_RAMP_S,
        POLISH_WEIGHTS,
        ROOT_DRAW_S,
        SPEED_FRACTION,
        feet_of,
        sole_offsets,
        soles_at,
    )  # fmt: skip
    from genmimic.retarget.ik import IkWeights, KeypointIk

    weights = IkWeights(
        position={
            "pelvis": 3.0, "left_ankle_roll": 15.0, "right_ankle_roll": 15.0, "left_knee": 1.0, "right_knee": 1.0,
            "left_elbow": 1.0, "right_elbow": 1.0, "left_hand": 2.0, "right_hand": 2.0,
        },
        orientation={"pelvis": 1.0, "torso": 1.0, "left_ankle_roll": 2.0, "right_ankle_roll": 2.0},
        rest=0.0,
        rest_pose=0.15,
    )  # fmt: skip
    state = forward_kinematics(robot, root_pos, root_quat, joint_pos)
    pos, quat = state.pos.copy(), state.quat.copy()
    feet, offset = feet_of(robot), sole_offsets(robot)
    soles = soles_at(pos[:, feet], quat[:, feet], offset)
    flight = cleaning.flight_frames(soles[..., 2].min((1, 2)), pos[..., 2].mean(-1), fps)
    contacts = _stances(soles, cleaning.foot_contacts(soles, fps), fps)
    contacts[flight] = False
    ankle_pos, ankle_quat = cleaning.lock_feet(
        pos[:, feet], quat[:, feet], offset, contacts, fps, flat_tilt=0.35, ramp_s=LOCK_RAMP_S
    )
    if hold:  # the body goes with the feet, or they would be drawn from under it
        change = (ankle_pos - pos[:, feet])[..., :2]
        shift = np.stack([cleaning.stance_change(change[..., axis], contacts, 0.1 * fps) for axis in range(2)], -1)
        pos[..., :2] += shift[:, None]
        ankle_pos[..., :2] += np.where(contacts[..., None], 0.0, shift[:, None])
    else:
        ankle_pos[..., :2] = pos[:, feet, :2]
    ankle_pos[..., 2] += np.maximum(0.0, -soles_at(ankle_pos, ankle_quat, offset)[..., 2].min(-1))
    pos[:, feet], quat[:, feet] = ankle_pos, ankle_quat
    ik = KeypointIk(robot, weights, fps, 2, SPEED_FRACTION, knee_min=0.0, clearance=CLEARANCE_M)
    root_pos, root_quat, joint_pos = ik.follow(pos, quat, joint_pos)
    # smooth what ranges and clearance cut off, and where they drew the pelvis away; then the feet again
    drawn = cleaning.gaussian_smooth(root_pos - pos[:, 0], ROOT_DRAW_S * fps)
    state = forward_kinematics(
        robot,
        cleaning.gaussian_smooth(pos[:, 0], _POLISH_SIGMA) + drawn,
        cleaning.smooth_quat(root_quat, _POLISH_SIGMA),
        joint_pos := np.clip(cleaning.gaussian_smooth(joint_pos, _POLISH_SIGMA), robot.joint_lower, robot.joint_upper),
    )
    pos, quat = state.pos.copy(), state.quat.copy()
    pos[:, feet], quat[:, feet] = ankle_pos, ankle_quat
    return KeypointIk(robot, POLISH_WEIGHTS, fps, 1, SPEED_FRACTION, knee_min=0.0).follow(pos, quat, joint_pos)


def _stances(soles: np.ndarray, contacts: np.ndarray, fps: float) -> np.ndarray:
    """Return the contacts (T, 2) without the frames in which a low foot steps; soles (T, 2, S, 3)."""
    path = cleaning.gaussian_smooth(soles[..., :2], 0.04 * fps)
    speed = np.linalg.norm(np.gradient(path, 1.0 / fps, axis=0), axis=-1).min(-1)
    stands: np.ndarray = contacts & (speed < STEP_SPEED)
    for foot in range(2):
        for first, end in cleaning.runs(stands[:, foot]):
            if (end - first) / fps < 0.1:
                stands[first:end, foot] = False
    return stands
