# SPDX-License-Identifier: Apache-2.0
"""The policy's turn in a control step: state and goal in, joint command out. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from genmimic.core.action import clip_action, joint_target
from genmimic.core.kinematics import keypoints_in_base, sole_positions
from genmimic.core.noise import NO_NOISE, ObservationNoise
from genmimic.core.observation import (
    HEADING_FRAME,
    HISTORY,
    PROPRIOCEPTION,
    gravity_direction,
    proprioception,
    push_history,
    size,
    student_goal,
    student_observation,
)
from genmimic.core.odometry import Odometry, lag_excess, start_odometry, step_odometry
from genmimic.core.reference import Goal
from genmimic.core.robot import Robot
from genmimic.core.rotation import heading
from genmimic.core.state import JointCommand, RobotState, position_command

PolicyFunction = Callable[[np.ndarray], np.ndarray]


class TrackingController:
    """Builds the student's observation (Table 6), asks the policy, and maps its action (Eq. 4).

    Args:
        robot: The robot.
        policy: From an observation (2370,) to an action (J,).
        noise: Added to what is measured and to the goals, as in Table 8; for simulation only.
        rng: Source of that noise.
        goal_frame: The policy's, from its manifest: `HEADING_FRAME` or `ODOMETRY_FRAME`.
    """

    def __init__(
        self,
        robot: Robot,
        policy: PolicyFunction,
        noise: ObservationNoise = NO_NOISE,
        rng: np.random.Generator | None = None,
        goal_frame: str = HEADING_FRAME,
    ) -> None:
        self._robot, self._policy, self._noise = robot, policy, noise
        self._with_odometry = goal_frame != HEADING_FRAME
        self._rng = rng or np.random.default_rng(0)
        self.reset()

    def reset(self, joint_pos: np.ndarray | None = None) -> None:
        """Forget the history. The action before the first is the one that would hold ``joint_pos`` (J,)."""
        robot = self._robot
        start = robot.default_joint_pos if joint_pos is None else joint_pos
        self._action = clip_action(robot, (start - robot.default_joint_pos) / robot.action_scale)
        self._history: np.ndarray | None = None
        self._odometry: Odometry | None = None
        self._sequence = 0
        half_width = self._noise.goal_offset_m
        self._goal_offset = self._rng.uniform(-half_width, half_width, 3) if half_width else np.zeros(3)

    @property
    def odometry(self) -> Odometry | None:
        """Where the robot believes to stand, in the world of the goals; None without odometry and before a step."""
        return self._odometry

    @property
    def last_action(self) -> np.ndarray:
        """The clipped action of the last step. Shape (J,)."""
        return self._action

    def remember(self, action: np.ndarray) -> None:
        """Take ``action`` (J,) for the last step's, whatever that was; for replaying what was done."""
        self._action = clip_action(self._robot, np.asarray(action, float))

    def observe(self, state: RobotState) -> None:
        """Append a measured frame to the history; `step` does this itself."""
        noise = self._noise
        frame = proprioception(
            self._robot,
            self._noisy(state.joint_pos, noise.joint_pos),
            self._noisy(state.joint_vel, noise.joint_vel),
            self._noisy(state.base_ang_vel_b, noise.base_ang_vel_b),
            self._noisy(gravity_direction(state.base_quat_w), noise.gravity_dir_b),
            self._action,
            self._noisy(keypoints_in_base(self._robot, state.joint_pos), noise.keypoint_pos_b),
        )
        if self._history is None:
            self._history = np.tile(frame, (HISTORY, 1))
        else:
            self._history = push_history(self._history, frame)

    def observation(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return the student's observation for the present history and ``goal``. Shape (2370,)."""
        assert self._history is not None and self._history.shape == (HISTORY, size(PROPRIOCEPTION))
        goals = self._noisy(goal.horizon_keypoint_pos, self._noise.goal_keypoint_pos) + self._goal_offset
        yaw = np.asarray(heading(state.base_quat_w))
        origin = goal.root_pos if self._odometry is None else self._odometry.pos
        return student_observation(self._history, student_goal(goals, origin, yaw))

    def locate(self, state: RobotState, goal: Goal) -> None:
        """Follow the robot's own movement; the first time it is believed to stand where the goal is."""
        robot = self._robot
        soles = sole_positions(robot, np.zeros(3), state.base_quat_w, state.joint_pos)
        soles = self._noisy(soles, self._noise.sole_pos)
        if self._odometry is None:
            self._odometry = start_odometry(goal.root_pos[:2], soles)
            return
        now = step_odometry(self._odometry, soles)
        pos = now.pos.copy()
        pos[:2] += lag_excess(pos[:2], goal.root_pos[:2])
        self._odometry = replace(now, pos=pos)

    def step(self, now_ns: int, state: RobotState, goal: Goal) -> JointCommand:
        """Return the command for this control step; the action is kept for the next observation.

        A non-finite action is returned as it is: the safety rules judge it.
        """
        self.observe(state)
        if self._with_odometry:
            self.locate(state, goal)
        action = np.asarray(self._policy(self.observation(state, goal)), float)
        self._sequence += 1
        self._action = clip_action(self._robot, action)
        target = joint_target(self._robot, action)
        return position_command(self._robot, target, stamp_ns=now_ns, sequence=self._sequence, action=action)

    def _noisy(self, values: np.ndarray, sigma: float) -> np.ndarray:
        return values + self._rng.normal(0.0, sigma, values.shape) if sigma else values
