# SPDX-License-Identifier: Apache-2.0
"""What a teacher sees and gives, under each ablation of the paper (section 5.5): terms, sizes, mirrors."""

from __future__ import annotations

import numpy as np
import torch

from genmimic.core.mirror import MirrorMap, action_mirror, observation_mirror
from genmimic.core.observation import GLOBAL_STATE, PRIVILEGED, PROPRIOCEPTION, TEACHER_GOAL, Term, size
from genmimic.core.robot import Robot

JOINT_GOAL = (
    Term("goal_joint_pos", 23, "joint"),
    Term("goal_joint_diff", 23, "joint"),
)
"""46 numbers in the place of `TEACHER_GOAL`: the paper's "DoFs". The next goal's angles less the default pose, and less
the robot's own. Where the goal stands still shows: the global state is given in the frame of the goal root."""

TEACHER_GOALS = {"keypoints": TEACHER_GOAL, "joints": JOINT_GOAL}
"""By the name that ``env.teacher_goal`` gives."""

JOINT_GOAL_NOISE_RAD = 0.1
"""Table 8 has no noise for goal angles; its 5 cm on a keypoint at the end of a limb of 0.5 m."""


def teacher_terms(teacher_goal: str = "keypoints") -> tuple[Term, ...]:
    """Return the terms of the groups ``teacher`` and ``critic``; `TEACHER` for keypoints."""
    return (*PROPRIOCEPTION, *GLOBAL_STATE, *TEACHER_GOALS[teacher_goal], *PRIVILEGED)


def teacher_size(teacher_goal: str = "keypoints") -> int:
    """Return how many numbers a teacher sees: 757 or 641."""
    return size(teacher_terms(teacher_goal))


def teacher_mirror(robot: Robot, teacher_goal: str = "keypoints") -> MirrorMap:
    """Return T_s of the teacher's observation."""
    return observation_mirror(robot, teacher_terms(teacher_goal))


def output_size(robot: Robot, learned_weights: bool = False) -> int:
    """Return how many numbers a teacher gives: its action, and a logit for each keypoint if it learns their weights."""
    return robot.num_joints + (robot.num_keypoints if learned_weights else 0)


def output_mirror(robot: Robot, learned_weights: bool = False) -> MirrorMap:
    """Return T_a of what a teacher gives."""
    action = action_mirror(robot)
    if not learned_weights:
        return action
    index = np.concatenate([action.index, robot.num_joints + robot.keypoint_mirror_idx])
    return MirrorMap(index, np.concatenate([action.sign, np.ones(robot.num_keypoints)]))


def joint_goal_observation(
    proprio: torch.Tensor,
    global_state: list[torch.Tensor],
    goal_joint_pos: torch.Tensor,
    default_joint_pos: torch.Tensor,
    privileged: torch.Tensor,
) -> torch.Tensor:
    """Return the observation of a teacher whose goals are joint angles. Shape (N, 641).

    Args:
        proprio: One frame of proprioception; begins with the joint angles less the default pose. Shape (N, 156).
        global_state: Positions, orientations and velocities of the keypoints, as `GLOBAL_STATE`. Shapes (N, K, ...).
        goal_joint_pos: The next goal's, in rad. Shape (N, J).
        default_joint_pos: In rad. Shape (J,).
        privileged: `PRIVILEGED` in order. Shape (N, 88).
    """
    wanted = goal_joint_pos - default_joint_pos
    flat = [part.reshape(len(proprio), -1) for part in global_state]
    return torch.cat([proprio, *flat, wanted, wanted - proprio[:, : wanted.shape[-1]], privileged], -1)
