# SPDX-License-Identifier: Apache-2.0
"""Our ROS messages as the library's types. Fields are read by name, so a message may be rclpy's or one of a recording.

Quaternions turn from xyzw to wxyz here, and nowhere else on the way in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genmimic.core.observation import FUTURE
from genmimic.core.reference import Goal, Phase
from genmimic.core.state import JointCommand, RobotState

PHASES = (Phase.IDLE, Phase.BLEND_IN, Phase.PLAYING, Phase.BLEND_OUT, Phase.DONE, Phase.PAUSED)
"""By the number in a ``GoalKeypoints`` message."""


def stamp_ns_of(message: Any) -> int:
    """Return the time in a message's header, in ns."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def state_of(message: Any) -> RobotState:
    """Return a ``RobotState`` message as the library's."""
    return RobotState(
        stamp_ns=stamp_ns_of(message),
        tick=message.tick,
        joint_pos=_floats(message.joint_position),
        joint_vel=_floats(message.joint_velocity),
        joint_torque=_floats(message.joint_torque),
        joint_temperature=_floats(message.joint_temperature),
        base_quat_w=quat_of(message.imu_quaternion),
        base_ang_vel_b=xyz_of(message.gyro),
        base_lin_acc_b=xyz_of(message.accelerometer),
        battery=message.battery,
        root_pos_w=xyz_of(message.truth_root.position) if message.has_truth else None,
        link_faults=tuple(message.link_faults),
    )


def truth_quat_of(message: Any) -> np.ndarray | None:
    """Return the pelvis's true orientation of a ``RobotState`` message, wxyz (4,), or None from a real robot."""
    return quat_of(message.truth_root.orientation) if message.has_truth else None


def goal_of(message: Any) -> Goal:
    """Return a ``GoalKeypoints`` message as the library's."""
    return Goal(
        phase=PHASES[message.phase] if message.phase < len(PHASES) else Phase.IDLE,
        motion=message.motion,
        frame=message.frame,
        frames=message.total_frames,
        joint_pos=_floats(message.joint_position),
        root_pos=xyz_of(message.root_pose.position),
        root_quat=quat_of(message.root_pose.orientation),
        keypoint_pos=points_of(message.points),
        horizon_keypoint_pos=_floats(message.horizon_points).reshape(FUTURE, -1, 3),
    )


def command_of(message: Any) -> JointCommand:
    """Return a ``JointCommand`` message as the library's."""
    return JointCommand(
        stamp_ns=stamp_ns_of(message),
        sequence=message.sequence,
        joint_pos=_floats(message.position),
        joint_vel=_floats(message.velocity),
        joint_torque=_floats(message.torque),
        kp=_floats(message.kp),
        kd=_floats(message.kd),
        action=_floats(message.raw_action),
    )


def points_of(points: Any) -> np.ndarray:
    """Return points as an array: those of a message, or the array that a recording has in their place. Shape (N, 3)."""
    if isinstance(points, np.ndarray):
        return _floats(points)
    return np.array([(point.x, point.y, point.z) for point in points])


def xyz_of(point: Any) -> np.ndarray:
    """Return a point or vector as an array. Shape (3,)."""
    return np.array([point.x, point.y, point.z])


def quat_of(quat: Any) -> np.ndarray:
    """Return a quaternion as wxyz. Shape (4,)."""
    return np.array([quat.w, quat.x, quat.y, quat.z])


def _floats(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, float)
