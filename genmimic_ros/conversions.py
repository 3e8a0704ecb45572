# SPDX-License-Identifier: Apache-2.0
"""The library's types to messages, and back by `genmimic.record.messages`. Quaternions turn from wxyz to xyzw here.

Arrays become float32 in messages; a value that has been through a message once is not changed by a second trip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Twist, Vector3

from genmimic.core.reference import Goal
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.state import JointCommand, RobotState
from genmimic.record import messages
from genmimic_ros.msg import GoalKeypoints, SafetyStatus
from genmimic_ros.msg import JointCommand as JointCommandMsg
from genmimic_ros.msg import RobotState as RobotStateMsg

BASE_FRAME = "pelvis"
"""Frame of the robot's own measurements."""

WORLD_FRAME = "odom"
"""Frame of the simulated world, and of everything drawn for people."""

GOAL_FRAME = "motion"
"""Frame of the goals: where the player has placed the motion."""

_PHASE_NUMBER = {phase: number for number, phase in enumerate(messages.PHASES)}

state_from_msg = messages.state_of
"""The measurement of a `RobotState` message; `truth_from_msg` gives what only a simulator knows."""

command_from_msg = messages.command_of
"""The command of a `JointCommand` message."""

goal_from_msg = messages.goal_of
"""The goal of a `GoalKeypoints` message."""


@dataclass(frozen=True)
class RootTruth:
    """What only a simulator knows of the pelvis; world frame, m, wxyz, m/s, rad/s."""

    pos_w: np.ndarray
    quat_w: np.ndarray
    lin_vel_w: np.ndarray
    ang_vel_w: np.ndarray


@dataclass(frozen=True)
class Safety:
    """The safety monitor's verdict as nodes see it. ``mode`` is one of `SafetyStatus`'s constants."""

    mode: int
    reasons: tuple[str, ...]
    heartbeat: int
    gantry_tension_n: float


# time ---------------------------------------------------------------------------------------------
def stamp_to_msg(stamp_ns: int) -> Time:
    """Return a time in ns as a message."""
    return Time(sec=int(stamp_ns // 1_000_000_000), nanosec=int(stamp_ns % 1_000_000_000))


def stamp_from_msg(stamp: Time) -> int:
    """Return the message's time in ns."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


# geometry -----------------------------------------------------------------------------------------
def quat_to_msg(quat: np.ndarray) -> Quaternion:
    """Return a wxyz quaternion (4,) as a message."""
    w, x, y, z = quat
    return Quaternion(x=float(x), y=float(y), z=float(z), w=float(w))


def point_to_msg(point: np.ndarray) -> Point:
    """Return a position (3,) in m as a message."""
    return Point(x=float(point[0]), y=float(point[1]), z=float(point[2]))


def vector_to_msg(vector: np.ndarray) -> Vector3:
    """Return a vector (3,) as a message."""
    return Vector3(x=float(vector[0]), y=float(vector[1]), z=float(vector[2]))


def pose_to_msg(pos: np.ndarray, quat: np.ndarray) -> Pose:
    """Return position (3,) in m and orientation (4,) wxyz as a message."""
    return Pose(position=point_to_msg(pos), orientation=quat_to_msg(quat))


# robot state --------------------------------------------------------------------------------------
def state_to_msg(
    state: RobotState, mode: int = RobotStateMsg.DISARMED, truth: RootTruth | None = None
) -> RobotStateMsg:
    """Return a measurement as a message.

    Args:
        state: The measurement.
        mode: In which the bridge drives the motors, one of the message's constants.
        truth: The pelvis's true state, from a simulator. Without it, and with ``state.root_pos_w``,
            the measured orientation stands for the true one and the velocity is zero.
    """
    msg = RobotStateMsg()
    msg.header.stamp = stamp_to_msg(state.stamp_ns)
    msg.header.frame_id = BASE_FRAME
    msg.tick = int(state.tick)
    msg.mode = int(mode)
    msg.joint_position = _flat(state.joint_pos)
    msg.joint_velocity = _flat(state.joint_vel)
    msg.joint_torque = _flat(state.joint_torque)
    msg.joint_temperature = _flat(state.joint_temperature)
    msg.imu_quaternion = quat_to_msg(state.base_quat_w)
    msg.gyro = vector_to_msg(state.base_ang_vel_b)
    msg.accelerometer = vector_to_msg(state.base_lin_acc_b)
    msg.battery = float(state.battery)
    msg.link_faults = list(state.link_faults)
    if truth is None and state.root_pos_w is not None:
        truth = RootTruth(state.root_pos_w, state.base_quat_w, np.zeros(3), np.zeros(3))
    if truth is not None:
        msg.has_truth = True
        msg.truth_root = pose_to_msg(truth.pos_w, truth.quat_w)
        msg.truth_velocity = Twist(linear=vector_to_msg(truth.lin_vel_w), angular=vector_to_msg(truth.ang_vel_w))
    return msg


def truth_from_msg(msg: RobotStateMsg) -> RootTruth | None:
    """Return the pelvis's true state, or None from a robot that has no truth."""
    if not msg.has_truth:
        return None
    return RootTruth(
        messages.xyz_of(msg.truth_root.position),
        messages.quat_of(msg.truth_root.orientation),
        messages.xyz_of(msg.truth_velocity.linear),
        messages.xyz_of(msg.truth_velocity.angular),
    )


# joint command ------------------------------------------------------------------------------------
def command_to_msg(command: JointCommand) -> JointCommandMsg:
    """Return a command as a message."""
    msg = JointCommandMsg()
    msg.header.stamp = stamp_to_msg(command.stamp_ns)
    msg.header.frame_id = BASE_FRAME
    msg.sequence = int(command.sequence)
    msg.position = _flat(command.joint_pos)
    msg.velocity = _flat(command.joint_vel)
    msg.torque = _flat(command.joint_torque)
    msg.kp = _flat(command.kp)
    msg.kd = _flat(command.kd)
    msg.raw_action = _flat(command.action)
    return msg


# goal ---------------------------------------------------------------------------------------------
def goal_to_msg(goal: Goal, stamp_ns: int = 0, robot: Robot = G1_23DOF) -> GoalKeypoints:
    """Return the goal of one control step as a message."""
    msg = GoalKeypoints()
    msg.header.stamp = stamp_to_msg(stamp_ns)
    msg.header.frame_id = GOAL_FRAME
    msg.motion = goal.motion
    msg.frame = int(goal.frame)
    msg.total_frames = int(goal.frames)
    msg.phase = _PHASE_NUMBER[goal.phase]
    msg.names = list(robot.keypoint_names)
    msg.points = [Point(x=x, y=y, z=z) for x, y, z in goal.keypoint_pos.tolist()]
    msg.root_pose = pose_to_msg(goal.root_pos, goal.root_quat)
    msg.joint_position = _flat(goal.joint_pos)
    msg.horizon_points = _flat(goal.horizon_keypoint_pos)
    return msg


# safety -------------------------------------------------------------------------------------------
def safety_to_msg(safety: Safety, stamp_ns: int = 0) -> SafetyStatus:
    """Return the safety monitor's verdict as a message."""
    msg = SafetyStatus()
    msg.header.stamp = stamp_to_msg(stamp_ns)
    msg.mode = int(safety.mode)
    msg.reasons = list(safety.reasons)
    msg.heartbeat = int(safety.heartbeat)
    msg.gantry_tension_n = float(safety.gantry_tension_n)
    return msg


def safety_from_msg(msg: SafetyStatus) -> Safety:
    """Return the verdict of a message."""
    return Safety(msg.mode, tuple(msg.reasons), msg.heartbeat, msg.gantry_tension_n)


def mode_name(mode: int) -> str:
    """Return the name of a mode number, as in SafetyStatus and RobotState."""
    names = ("DISARMED", "STANDING", "READY", "MIMIC", "HOLD", "DAMPED", "ESTOP")
    return names[mode] if 0 <= mode < len(names) else f"mode {mode}"


def number(value: float | None) -> float:
    """Return ``value`` for a message field, NaN for None."""
    return math.nan if value is None else float(value)


def _flat(values: np.ndarray | Sequence[float]) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).reshape(-1)
