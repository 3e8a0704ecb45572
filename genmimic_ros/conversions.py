# SPDX-License-Identifier: Apache-2.0
"""Messages to the library's types and back. Quaternions turn from wxyz to xyzw here, and nowhere else.

Arrays become float32 in messages; a value that has been through a message once is not changed by a second trip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Twist, Vector3

from genmimic.core.observation import FUTURE
from genmimic.core.reference import Goal, Phase
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.state import JointCommand, RobotState
from genmimic_ros.msg import GoalKeypoints, SafetyStatus
from genmimic_ros.msg import JointCommand as JointCommandMsg
from genmimic_ros.msg import RobotState as RobotStateMsg

BASE_FRAME = "pelvis"
"""Frame of the robot's own measurements."""

WORLD_FRAME = "odom"
"""Frame of the simulated world, and of everything drawn for people."""

GOAL_FRAME = "motion"
"""Frame of the goals: where the player has placed the motion."""

_PHASE_NUMBER = {
    Phase.IDLE: GoalKeypoints.IDLE,
    Phase.BLEND_IN: GoalKeypoints.BLEND_IN,
    Phase.PLAYING: GoalKeypoints.PLAYING,
    Phase.BLEND_OUT: GoalKeypoints.BLEND_OUT,
    Phase.DONE: GoalKeypoints.DONE,
    Phase.PAUSED: GoalKeypoints.PAUSED,
}
_PHASE = {number: phase for phase, number in _PHASE_NUMBER.items()}


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


def quat_from_msg(msg: Quaternion) -> np.ndarray:
    """Return the message as wxyz. Shape (4,)."""
    return np.array([msg.w, msg.x, msg.y, msg.z])


def point_to_msg(point: np.ndarray) -> Point:
    """Return a position (3,) in m as a message."""
    return Point(x=float(point[0]), y=float(point[1]), z=float(point[2]))


def vector_to_msg(vector: np.ndarray) -> Vector3:
    """Return a vector (3,) as a message."""
    return Vector3(x=float(vector[0]), y=float(vector[1]), z=float(vector[2]))


def vector_from_msg(msg: Point | Vector3) -> np.ndarray:
    """Return a point or vector message as an array. Shape (3,)."""
    return np.array([msg.x, msg.y, msg.z])


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


def state_from_msg(msg: RobotStateMsg) -> RobotState:
    """Return the measurement of a message; `truth_from_msg` gives what only a simulator knows."""
    truth = truth_from_msg(msg)
    return RobotState(
        stamp_ns=stamp_from_msg(msg.header.stamp),
        tick=msg.tick,
        joint_pos=_array(msg.joint_position),
        joint_vel=_array(msg.joint_velocity),
        joint_torque=_array(msg.joint_torque),
        joint_temperature=_array(msg.joint_temperature),
        base_quat_w=quat_from_msg(msg.imu_quaternion),
        base_ang_vel_b=vector_from_msg(msg.gyro),
        base_lin_acc_b=vector_from_msg(msg.accelerometer),
        battery=msg.battery,
        root_pos_w=None if truth is None else truth.pos_w,
        link_faults=tuple(msg.link_faults),
    )


def truth_from_msg(msg: RobotStateMsg) -> RootTruth | None:
    """Return the pelvis's true state, or None from a robot that has no truth."""
    if not msg.has_truth:
        return None
    return RootTruth(
        vector_from_msg(msg.truth_root.position),
        quat_from_msg(msg.truth_root.orientation),
        vector_from_msg(msg.truth_velocity.linear),
        vector_from_msg(msg.truth_velocity.angular),
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


def command_from_msg(msg: JointCommandMsg) -> JointCommand:
    """Return the command of a message."""
    return JointCommand(
        stamp_ns=stamp_from_msg(msg.header.stamp),
        sequence=msg.sequence,
        joint_pos=_array(msg.position),
        joint_vel=_array(msg.velocity),
        joint_torque=_array(msg.torque),
        kp=_array(msg.kp),
        kd=_array(msg.kd),
        action=_array(msg.raw_action),
    )


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


def goal_from_msg(msg: GoalKeypoints) -> Goal:
    """Return the goal of a message."""
    return Goal(
        phase=_PHASE.get(msg.phase, Phase.IDLE),
        motion=msg.motion,
        frame=msg.frame,
        frames=msg.total_frames,
        joint_pos=_array(msg.joint_position),
        root_pos=vector_from_msg(msg.root_pose.position),
        root_quat=quat_from_msg(msg.root_pose.orientation),
        keypoint_pos=np.array([(point.x, point.y, point.z) for point in msg.points]),
        horizon_keypoint_pos=_array(msg.horizon_points).reshape(FUTURE, -1, 3),
    )


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


def _array(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, float)
