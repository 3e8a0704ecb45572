# SPDX-License-Identifier: Apache-2.0
"""The reference player: from standing into a motion, through it, and back to standing.

A *timeline* is a motion at the control rate that begins and ends in the standing pose; training
and the robot use the same ones. The player walks along a timeline, one control step at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from genmimic.core.kinematics import lowest_sole_height
from genmimic.core.motion import CONTROL_RATE_HZ, Motion, place_motion, resample
from genmimic.core.observation import FUTURE
from genmimic.core.robot import Robot
from genmimic.core.rotation import heading, quat_slerp, rotate_heading, wrap_angle

MIN_BLEND_S = 0.8
MAX_BLEND_S = 3.0
BLEND_SPEED_RAD_S = 1.5
"""A blend lasts as long as its widest joint needs at this mean speed, within the limits above."""

HOLD_S = 0.5
"""Standing still before and after a motion."""


class Phase(str, Enum):
    """What the player is doing."""

    IDLE = "idle"
    BLEND_IN = "blend_in"
    PLAYING = "playing"
    BLEND_OUT = "blend_out"
    PAUSED = "paused"
    DONE = "done"


@dataclass(frozen=True)
class Goal:
    """What the robot shall do now and in the next steps; world frame, m and rad, wxyz.

    Attributes:
        phase: Of the player.
        motion: Name of the motion, empty when standing.
        frame: Control steps since the motion's first frame; negative in the blend-in.
        frames: Control steps of the motion itself.
        joint_pos: Shape (J,).
        root_pos: Shape (3,).
        root_quat: Shape (4,).
        keypoint_pos: Shape (K, 3).
        horizon_keypoint_pos: Of the next steps, the first being one step ahead. Shape (F, K, 3).
    """

    phase: Phase
    motion: str
    frame: int
    frames: int
    joint_pos: np.ndarray
    root_pos: np.ndarray
    root_quat: np.ndarray
    keypoint_pos: np.ndarray
    horizon_keypoint_pos: np.ndarray


@dataclass(frozen=True)
class Timeline:
    """A motion from standing to standing, and where its own part begins and ends (end excluded)."""

    motion: Motion
    start: int
    end: int


def feet_anchor(robot: Robot, motion: Motion, frame: int) -> tuple[np.ndarray, float]:
    """Return where a standing robot would stand to have its feet as in ``frame``: xy in m (2,), heading in rad."""
    left, right = robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
    feet = motion.keypoint_pos[frame, [left, right], :2]
    across = feet[0] - feet[1]
    facing = np.array([across[1], -across[0]])
    yaw = float(heading(motion.root_quat[frame]))
    if np.linalg.norm(across) > 0.05:  # with the feet on one line, trust the pelvis
        feet_yaw = float(np.arctan2(facing[1], facing[0]))
        yaw += float(
            np.clip(wrap_angle(feet_yaw - yaw), -0.5, 0.5)
        )  # one foot far ahead also turns the line; the pelvis limits that
    return feet.mean(0), yaw


def standing_motion(robot: Robot, xy: np.ndarray, yaw: float, frames: int = 2) -> Motion:
    """Return ``frames`` frames of the default pose, feet centred at ``xy`` (2,), facing ``yaw`` rad."""
    pose = Motion.from_joints(
        robot,
        CONTROL_RATE_HZ,
        np.tile(robot.default_joint_pos, (frames, 1)),
        np.tile([0.0, 0.0, robot.standing_height], (frames, 1)),
        np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1)),
    )
    centre, _ = feet_anchor(robot, pose, 0)
    return place_motion(robot, pose, xy - _rotate2(yaw, centre), yaw)


def blend(robot: Robot, first: Motion, last: Motion) -> Motion:
    """Return the frames between the last of ``first`` and the first of ``last``, both excluded.

    Joints and root move with zero speed at both ends; the root's height keeps the lowest sole on
    the straight line between its two heights, so that the feet neither sink nor lift.
    """
    q0, q1 = first.joint_pos[-1], last.joint_pos[0]
    seconds = float(np.clip(np.abs(q1 - q0).max() / BLEND_SPEED_RAD_S, MIN_BLEND_S, MAX_BLEND_S))
    count = max(round(seconds * CONTROL_RATE_HZ) - 1, 1)
    t = np.arange(1, count + 1) / (count + 1)
    weight = t * t * (3.0 - 2.0 * t)
    joint_pos = q0 + weight[:, None] * (q1 - q0)
    root_pos = first.root_pos[-1] + weight[:, None] * (last.root_pos[0] - first.root_pos[-1])
    root_quat = quat_slerp(np.tile(first.root_quat[-1], (count, 1)), np.tile(last.root_quat[0], (count, 1)), weight)
    ends = [
        float(lowest_sole_height(robot, part.root_pos[idx], part.root_quat[idx], part.joint_pos[idx]))
        for part, idx in ((first, -1), (last, 0))
    ]
    wanted = ends[0] + weight * (ends[1] - ends[0])
    root_pos[:, 2] += wanted - lowest_sole_height(robot, root_pos, root_quat, joint_pos)
    return Motion.from_joints(robot, CONTROL_RATE_HZ, joint_pos, root_pos, root_quat)


def join(robot: Robot, parts: list[Motion], name: str, source: dict | None = None) -> Motion:
    """Return the parts one after another, all at the control rate."""
    return Motion.from_joints(
        robot,
        CONTROL_RATE_HZ,
        np.concatenate([part.joint_pos for part in parts]),
        np.concatenate([part.root_pos for part in parts]),
        np.concatenate([part.root_quat for part in parts]),
        name,
        source,
    )


def stand_to_stand(robot: Robot, motion: Motion, xy: np.ndarray | None = None, yaw: float | None = None) -> Timeline:
    """Return the timeline of ``motion``: stand, blend in, the motion, blend out, stand.

    Args:
        robot: The robot.
        motion: At any rate; brought to the control rate.
        xy: Where the robot stands at first, in m. Shape (2,). The motion's own place when None.
        yaw: Where it faces at first, in rad. The motion's own heading when None.
    """
    motion = resample(robot, motion)
    place, facing = feet_anchor(robot, motion, 0)
    if xy is not None or yaw is not None:
        target_yaw = facing if yaw is None else yaw
        target_xy = place if xy is None else np.asarray(xy, float)
        turn = target_yaw - facing
        root_xy = target_xy + _rotate2(turn, motion.root_pos[0, :2] - place)
        motion = place_motion(robot, motion, root_xy, float(heading(motion.root_quat[0])) + turn)
        place, facing = target_xy, target_yaw
    hold = round(HOLD_S * CONTROL_RATE_HZ)
    before = standing_motion(robot, place, facing, hold)
    after = standing_motion(robot, *feet_anchor(robot, motion, -1), hold)
    into, out = blend(robot, before, motion), blend(robot, motion, after)
    start = len(before) + len(into)
    whole = join(robot, [before, into, motion, out, after], motion.name, dict(motion.source))
    return Timeline(whole, start, start + len(motion))


class ReferencePlayer:
    """Gives the goal of each control step. Holds no clock: one `step` is one control period.

    Standing is its rest: `start` plays a motion from where the robot stands, `stop` blends back
    to standing from wherever it is, `pause` freezes the goal, `resume` goes on.
    """

    def __init__(self, robot: Robot, xy: np.ndarray | None = None, yaw: float = 0.0) -> None:
        self._robot = robot
        self._motion_name = ""
        self.stand(np.zeros(2) if xy is None else xy, yaw)

    def stand(self, xy: np.ndarray, yaw: float) -> None:
        """Stand at ``xy`` (2,) in m facing ``yaw`` rad from the next step on; for start-up, not mid-motion."""
        standing = standing_motion(self._robot, np.asarray(xy, float), yaw, 2)
        self._timeline = Timeline(standing, 0, 0)
        self._index = 0
        self._paused = False
        self._motion_name = ""

    def start(self, motion: Motion, xy: np.ndarray | None = None, yaw: float | None = None) -> None:
        """Play ``motion`` from standing at ``xy`` facing ``yaw``; where the goal stands now when None."""
        here, facing = feet_anchor(self._robot, self._timeline.motion, self._index)
        self._timeline = stand_to_stand(
            self._robot, motion, here if xy is None else np.asarray(xy, float), facing if yaw is None else yaw
        )
        self._index, self._paused = 0, False
        self._motion_name = motion.name

    def stop(self) -> None:
        """Blend from the present goal back to standing. Does nothing when already on the way."""
        self._paused = False
        if self.phase in (Phase.IDLE, Phase.BLEND_OUT, Phase.DONE):
            return
        now = self._timeline.motion
        here = _frame(now, self._index)
        after = standing_motion(
            self._robot, *feet_anchor(self._robot, now, self._index), round(HOLD_S * CONTROL_RATE_HZ)
        )
        out = blend(self._robot, here, after)
        self._timeline = Timeline(join(self._robot, [here, out, after], now.name, dict(now.source)), 0, 0)
        self._index = 0

    def pause(self) -> None:
        """Freeze the goal where it is."""
        self._paused = self._paused or self.phase in (Phase.BLEND_IN, Phase.PLAYING, Phase.BLEND_OUT)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False

    @property
    def phase(self) -> Phase:
        """What the player is doing now."""
        if not self._motion_name:
            return Phase.IDLE
        if self._paused:
            return Phase.PAUSED
        if self._index >= len(self._timeline.motion) - 1:
            return Phase.DONE
        if self._index < self._timeline.start:
            return Phase.BLEND_IN
        return Phase.PLAYING if self._index < self._timeline.end else Phase.BLEND_OUT

    @property
    def timeline(self) -> Timeline:
        """The frames being played, as placed in the world."""
        return self._timeline

    def goal(self) -> Goal:
        """Return the goal of this step."""
        motion, i = self._timeline.motion, self._index
        ahead = np.full(FUTURE, i) if self._paused else np.minimum(i + 1 + np.arange(FUTURE), len(motion) - 1)
        return Goal(
            phase=self.phase,
            motion=self._motion_name,
            frame=i - self._timeline.start,
            frames=self._timeline.end - self._timeline.start,
            joint_pos=motion.joint_pos[i],
            root_pos=motion.root_pos[i],
            root_quat=motion.root_quat[i],
            keypoint_pos=motion.keypoint_pos[i],
            horizon_keypoint_pos=motion.keypoint_pos[ahead],
        )

    def step(self) -> Goal:
        """Advance by one control step, unless paused or at the end, and return the goal."""
        if not self._paused:
            self._index = min(self._index + 1, len(self._timeline.motion) - 1)
        return self.goal()


def _rotate2(yaw: float, xy: np.ndarray) -> np.ndarray:
    return rotate_heading(np.asarray(yaw), np.array([xy[0], xy[1], 0.0]))[:2]


def _frame(motion: Motion, index: int) -> Motion:
    part = slice(index, index + 1)
    return Motion(
        motion.fps,
        motion.joint_pos[part],
        motion.root_pos[part],
        motion.root_quat[part],
        motion.keypoint_pos[part],
        motion.name,
        motion.source,
    )
