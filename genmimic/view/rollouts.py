# SPDX-License-Identifier: Apache-2.0
"""A policy at work, to be looked at: each motion once through the simulator, without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.evaluate.rollout import plan, rollout
from genmimic.policy import find_policy, load_policy
from genmimic.view.clip import Clip, clip_of_trajectory


def imitated(robot: Robot, clips: Sequence[Clip], policy: str | Path) -> list[Clip]:
    """Return what ``policy`` makes of motions.

    Raises:
        GenMimicError: The policy is missing or does not fit the robot, or a clip is a finished run already.
    """
    runner = load_policy(find_policy(policy), robot)
    found = []
    for clip in clips:
        if clip.goal_keypoint_pos is not None:
            raise ConfigError(f"{clip.name} is a finished run; --policy needs motions")
        motion = Motion(clip.fps, clip.joint_pos, clip.root_pos, clip.root_quat, clip.keypoint_pos, clip.name)
        result = rollout(robot, runner, plan(robot, motion), goal_frame=runner.manifest.goal_frame)
        metrics = result.metrics
        off = f"pose {metrics['lmpkpe_nt_cm']:.1f} cm, hands {metrics['hands_cm']:.1f} cm off"
        trajectory = {name: np.asarray(values) for name, values in result.trajectory.items()}
        found.append(clip_of_trajectory(clip.name, trajectory, [f"policy {runner.name} · {off}"]))
    return found
