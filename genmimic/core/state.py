# SPDX-License-Identifier: Apache-2.0
"""The values that travel between robot, policy and safety, each with its stamp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from genmimic.core.robot import Robot


def all_finite(values: np.ndarray) -> bool:
    """Whether every number is finite, in a third of the time of `numpy.isfinite`; false above 1e154, too.

    One number that is none makes the sum of squares none; a square that is none is nothing a robot measures or is told.
    """
    return math.isfinite(np.vdot(values, values))


@dataclass(frozen=True)
class RobotState:
    """What the robot measures, at one instant. J joints in the robot's order.

    Attributes:
        stamp_ns: Time of measurement on the sender's clock, in ns.
        tick: The sender's counter, in ms as the robot counts it.
        joint_pos: In rad. Shape (J,).
        joint_vel: In rad/s. Shape (J,).
        joint_torque: Estimated by the motors, in N m. Shape (J,).
        joint_temperature: Of the windings, in degrees Celsius. Shape (J,).
        base_quat_w: Pelvis orientation by the IMU, wxyz; its yaw drifts. Shape (4,).
        base_ang_vel_b: Gyroscope, in rad/s. Shape (3,).
        base_lin_acc_b: Accelerometer, gravity included, in m/s^2. Shape (3,).
        battery: State of charge, 0 to 1; NaN where unknown.
        root_pos_w: True pelvis position in m, from a simulator only. Shape (3,).
        link_faults: What is wrong with the robot's link, ``rule: text`` each; empty from a simulator.
    """

    stamp_ns: int
    tick: int
    joint_pos: np.ndarray
    joint_vel: np.ndarray
    joint_torque: np.ndarray
    joint_temperature: np.ndarray
    base_quat_w: np.ndarray
    base_ang_vel_b: np.ndarray
    base_lin_acc_b: np.ndarray
    battery: float = float("nan")
    root_pos_w: np.ndarray | None = None
    link_faults: tuple[str, ...] = ()

    def is_finite(self) -> bool:
        """Whether every measured number is finite."""
        parts = (self.joint_pos, self.joint_vel, self.joint_torque, self.base_quat_w, self.base_ang_vel_b)
        return all(map(all_finite, parts))


@dataclass(frozen=True)
class JointCommand:
    """What the motors shall do: torque = tau + kp (pos - q) + kd (vel - dq), on board. Shapes (J,).

    Attributes:
        stamp_ns: Time of issue on the sender's clock, in ns.
        sequence: Counts up by one with each command.
        joint_pos: In rad.
        joint_vel: In rad/s.
        joint_torque: Feed-forward, in N m.
        kp: In N m / rad.
        kd: In N m s / rad.
        action: The raw policy output, zeros when no policy spoke.
    """

    stamp_ns: int
    sequence: int
    joint_pos: np.ndarray
    joint_vel: np.ndarray
    joint_torque: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    action: np.ndarray

    def is_finite(self) -> bool:
        """Whether every number is finite."""
        parts = (self.joint_pos, self.joint_vel, self.joint_torque, self.kp, self.kd)
        return all(map(all_finite, parts))


def position_command(
    robot: Robot, joint_pos: np.ndarray, *, stamp_ns: int = 0, sequence: int = 0, action: np.ndarray | None = None
) -> JointCommand:
    """Return a command that holds ``joint_pos`` (J,) in rad with the robot's gains."""
    zero = np.zeros(robot.num_joints)
    return JointCommand(
        stamp_ns, sequence, np.asarray(joint_pos, float), zero, zero, robot.kp, robot.kd,
        zero if action is None else action,
    )  # fmt: skip


def damping_command(
    robot: Robot, joint_pos: np.ndarray, kd: float = 8.0, *, stamp_ns: int = 0, sequence: int = 0
) -> JointCommand:
    """Return a command that only brakes: kp 0, kd in N m s/rad; ``joint_pos`` is carried, not used."""
    zero = np.zeros(robot.num_joints)
    return JointCommand(
        stamp_ns, sequence, np.asarray(joint_pos, float), zero, zero, zero, np.full(robot.num_joints, float(kd)), zero
    )
