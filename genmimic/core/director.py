# SPDX-License-Identifier: Apache-2.0
"""Which goal to show in which mode: plays the loaded motion as the safety monitor's mode asks. No clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.modes import APPLIED, Mode
from genmimic.core.motion import Motion, resample
from genmimic.core.reference import Goal, Phase, ReferencePlayer, feet_anchor
from genmimic.core.robot import Robot
from genmimic.core.rotation import heading, wrap_angle

FOLLOW_M = 0.01
FOLLOW_RAD = 0.01
"""How far the robot may move before the standing goal follows it, while the policy does not drive."""


class ReferenceDirector:
    """Gives the goal of each control step for the mode of that step.

    While the policy does not drive, the goal stands where the robot is. READY keeps it there. MIMIC plays
    the motion from there, HOLD freezes it, MIMIC again goes on, and READY blends back to standing. A
    motion that is over says `Phase.DONE` until READY, and so does MIMIC with no motion loaded.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._player = ReferencePlayer(robot)
        self._motion: Motion | None = None
        self._mode = Mode.DISARMED
        self._seen: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None
        self._started = False

    @property
    def motion(self) -> Motion | None:
        """The motion that MIMIC plays."""
        return self._motion

    def load(self, motion: Motion) -> None:
        """Play ``motion`` from the next MIMIC on. Raises MotionError while another one plays."""
        if self._mode in (Mode.MIMIC, Mode.HOLD):
            raise MotionError(f"{self._motion_name()} is playing; stop it before loading another")
        self._motion = resample(self._robot, motion)

    def observe(self, base_quat_w: np.ndarray, joint_pos: np.ndarray, root_pos_w: np.ndarray | None = None) -> None:
        """Take where the robot is.

        Args:
            base_quat_w: Its pelvis's orientation; the heading is taken from it. Shape (4,).
            joint_pos: In rad. Shape (J,).
            root_pos_w: Its pelvis's position in m, where it is known; without it, it stands at the origin. Shape (3,).
        """
        self._seen = base_quat_w, joint_pos, root_pos_w

    def step(self, mode: Mode) -> Goal:
        """Advance by one control step in ``mode`` and return the goal."""
        before, self._mode = self._mode, mode
        player = self._player
        if mode not in APPLIED:
            self._started = False
            self._follow(force=before in APPLIED)
            return player.goal()
        if mode is Mode.READY:
            self._started = False
            player.stop()
            if player.phase is Phase.DONE:  # back at rest; where it ended is where the next one starts
                last = player.timeline.motion
                player.stand(*feet_anchor(self._robot, last, len(last) - 1))
            return player.step()
        if mode is Mode.HOLD:
            player.pause()
            return player.step()
        if not self._started and player.phase in (Phase.IDLE, Phase.DONE):
            self._started = True
            if self._motion is not None:
                # the robot has drifted while standing; it cannot see that, so this is no jump for it
                player.start(self._motion, xy=self._place()[0])
        player.resume()
        goal = player.step()
        if self._started:
            return replace(goal, phase=Phase.DONE) if self._motion is None else goal
        # still blending out of the one before: its end is not this one's
        return replace(goal, phase=Phase.BLEND_OUT) if goal.phase is Phase.DONE else goal

    def _follow(self, force: bool) -> None:
        xy, yaw = self._place()
        standing = self._player.timeline.motion
        at, facing = feet_anchor(self._robot, standing, len(standing) - 1)
        moved = np.linalg.norm(xy - at) > FOLLOW_M or abs(float(wrap_angle(np.asarray(yaw - facing)))) > FOLLOW_RAD
        if force or moved or self._player.phase is not Phase.IDLE:
            self._player.stand(xy, yaw)

    def _place(self) -> tuple[np.ndarray, float]:
        """Return where the robot's feet are, xy in m (2,), and its heading in rad."""
        if self._seen is None:
            return np.zeros(2), 0.0
        base_quat_w, joint_pos, root_pos_w = self._seen
        yaw = float(heading(base_quat_w))
        if root_pos_w is None:
            return np.zeros(2), yaw
        feet = self._robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
        keypoints = forward_kinematics(self._robot, root_pos_w, base_quat_w, joint_pos).pos
        return keypoints[feet, :2].mean(0), yaw

    def _motion_name(self) -> str:
        return repr(self._motion.name) if self._motion is not None else "nothing"
