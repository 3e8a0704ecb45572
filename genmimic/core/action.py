# SPDX-License-Identifier: Apache-2.0
"""From the policy's action to joint targets."""

from __future__ import annotations

from genmimic.core.arrays import Array, array_namespace, constant_like
from genmimic.core.robot import Robot


def clip_action(robot: Robot, action: Array) -> Array:
    """Return the action limited to the robot's clip. Shape (..., J)."""
    return array_namespace(action).clip(action, -robot.action_clip, robot.action_clip)


def joint_target(robot: Robot, action: Array) -> Array:
    """Return the desired joint angles in rad. Shape (..., J). Source: Eq. 4."""
    return constant_like(robot.default_joint_pos, action) + robot.action_scale * clip_action(robot, action)


def pd_torque(kp: Array, kd: Array, target: Array, joint_pos: Array, joint_vel: Array) -> Array:
    """Return the PD torque in N m, before the motor's limit. Shapes (..., J). Source: Eq. 5."""
    return kp * (target - joint_pos) - kd * joint_vel
