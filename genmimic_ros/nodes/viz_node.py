# SPDX-License-Identifier: Apache-2.0
"""viz_node: what rviz and the usual tools show: markers, joint states, transforms, the robot's model, diagnostics."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA, String
from visualization_msgs.msg import Marker, MarkerArray

from genmimic.core.kinematics import forward_kinematics, lowest_sole_height
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import quat_from_axis_angle, quat_multiply
from genmimic.sim.urdf import IMU_LINK, build_urdf
from genmimic.view.overlay import TAUT_N, contacts, heat, rope
from genmimic_ros.conversions import (
    WORLD_FRAME,
    goal_from_msg,
    mode_name,
    point_to_msg,
    quat_to_msg,
    state_from_msg,
    truth_from_msg,
    vector_to_msg,
)
from genmimic_ros.msg import GoalKeypoints, PolicyStatus, RobotState, SafetyStatus
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STATUS_PUB, STATUS_SUB, STREAM_PUB, STREAM_SUB, Ears, TickNode, run_node

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not among the ROS 2 wheels on PyPI
    TFMessage = None

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])
RECENT_S = 1.0
"""What is older is not shown."""

TEXT_ABOVE_M = 0.75
"""How far above the pelvis the mode is written."""


@dataclass(frozen=True)
class VizParams:
    """Parameters of viz_node."""

    rate_hz: float = parameter(20.0, "Rate of markers, joint states and transforms", unit="Hz", low=1, high=60)
    diagnostics_rate_hz: float = parameter(1.0, "Rate of the policy's /diagnostics", unit="Hz", low=0.1, high=10)
    keypoint_size_m: float = parameter(0.035, "Diameter of a keypoint's sphere", unit="m", low=0.005, high=0.2)
    error_limit_m: float = parameter(0.2, "Error at which an error line is fully red", unit="m", low=0.01, high=2)


class VizNode(TickNode):
    """Draws; decides nothing."""

    def __init__(self) -> None:
        super().__init__("viz_node")
        self._params = params = declare_parameters(self, VizParams)
        self._goal: GoalKeypoints | None = None
        self._safety: SafetyStatus | None = None
        self._robot = G1_23DOF
        self._links = {link.name: link for link in self._robot.links}
        self._fixed = {f"{k.name}_link": (k.link, k.offset) for k in self._robot.keypoints if any(k.offset)}
        self._fixed[IMU_LINK] = (self._robot.links[0].name, (0.0, 0.0, 0.0))

        self._marker_pub = self.create_publisher(MarkerArray, "markers", STREAM_PUB)
        self._joint_pub = self.create_publisher(JointState, "/joint_states", STREAM_PUB)
        self._diagnostic_pub = self.create_publisher(DiagnosticArray, "/diagnostics", STREAM_PUB)
        self._tf_pub = None if TFMessage is None else self.create_publisher(TFMessage, "/tf", STREAM_PUB)
        self._model_pub = self.create_publisher(String, "/robot_description", STATUS_PUB)
        self._model_pub.publish(String(data=build_urdf(self._robot)))
        self._ears = ears = Ears(self)  # 300 messages a second come in, 20 pictures go out
        ears.create_subscription(RobotState, "robot_state", STREAM_SUB)
        ears.create_subscription(GoalKeypoints, "goal_keypoints", STREAM_SUB)
        ears.create_subscription(SafetyStatus, "safety_status", STATUS_SUB)
        ears.create_subscription(PolicyStatus, "policy_status", STATUS_SUB)
        self._diagnose_every = max(1, round(params.rate_hz / params.diagnostics_rate_hz))
        self._count = 0
        if TFMessage is None:
            self.get_logger().info("tf2_msgs is not installed: no /tf; rviz then shows markers alone")
        self.start_ticks(params.rate_hz, self._on_tick, priority=0)

    def destroy_node(self) -> None:
        super().destroy_node()
        self._ears.destroy()

    def _on_tick(self, now_ns: int) -> None:
        stamp = self.get_clock().now().to_msg()
        ears = self._ears
        ears.hear()
        msg = ears.newest("robot_state", RECENT_S)
        self._goal, self._safety = ears.newest("goal_keypoints", RECENT_S), ears.newest("safety_status", RECENT_S)
        self._count += 1
        if self._count % self._diagnose_every == 0:
            policy = ears.newest("policy_status", RECENT_S)
            array = DiagnosticArray(status=[_policy_diagnostic(policy), _robot_diagnostic(msg)])
            array.header.stamp = stamp
            self._diagnostic_pub.publish(array)  # safety_node tells its own
        if msg is None:
            return
        state = state_from_msg(msg)
        if not state.is_finite():
            return
        truth = truth_from_msg(msg)
        quat = state.base_quat_w if truth is None else truth.quat_w
        if truth is None:  # nobody knows where it is: on the floor, at the origin
            pos = np.zeros(3)
            pos[2] = -float(lowest_sole_height(self._robot, pos, quat, state.joint_pos))
        else:
            pos = truth.pos_w

        joints = JointState(name=list(self._robot.joint_names))
        joints.header.stamp = stamp
        joints.position = state.joint_pos.tolist()
        joints.velocity = state.joint_vel.tolist()
        joints.effort = state.joint_torque.tolist()
        self._joint_pub.publish(joints)
        if self._tf_pub is not None:
            self._tf_pub.publish(TFMessage(transforms=self._transforms(stamp, pos, quat, state.joint_pos)))
        bodies = forward_kinematics(self._robot, pos, quat, state.joint_pos)
        self._marker_pub.publish(self._markers(stamp, bodies.pos, bodies.quat))

    def _markers(self, stamp: object, keypoints: np.ndarray, quat: np.ndarray) -> MarkerArray:
        size = self._params.keypoint_size_m
        robot = self._marker(stamp, "robot_keypoints", Marker.SPHERE_LIST, size)
        robot.color = ColorRGBA(r=0.9, g=0.9, b=0.9, a=0.9)
        robot.points = [point_to_msg(point) for point in keypoints]
        markers = [robot]
        error_m = float("nan")
        if self._goal is not None:
            goal = goal_from_msg(self._goal).keypoint_pos
            errors_m = np.linalg.norm(goal - keypoints, axis=-1)
            error_m = float(errors_m.mean())
            wanted = self._marker(stamp, "goal_keypoints", Marker.SPHERE_LIST, size)
            wanted.color = ColorRGBA(r=0.1, g=0.6, b=1.0, a=0.8)
            wanted.points = [point_to_msg(point) for point in goal]
            lines = self._marker(stamp, "errors", Marker.LINE_LIST, 0.3 * size)
            parts = heat(errors_m / self._params.error_limit_m).tolist()
            for start, end, (red, green, blue) in zip(keypoints, goal, parts, strict=True):
                colour = ColorRGBA(r=red, g=green, b=blue, a=0.9)
                lines.points += [point_to_msg(start), point_to_msg(end)]
                lines.colors += [colour, colour]
            markers += [wanted, lines]
        markers.append(self._contact_marker(stamp, keypoints, quat))
        if self._safety is not None and np.isfinite(self._safety.gantry_tension_n):
            markers.append(self._rope_marker(stamp, keypoints, quat, self._safety.gantry_tension_n))
        text = self._marker(stamp, "mode", Marker.TEXT_VIEW_FACING, 0.12)
        text.pose.position = point_to_msg(keypoints[0] + [0.0, 0.0, TEXT_ABOVE_M])
        text.text = self._caption(error_m)
        text.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
        return MarkerArray(markers=[*markers, text])

    def _contact_marker(self, stamp: object, keypoints: np.ndarray, quat: np.ndarray) -> Marker:
        points, touching = contacts(self._robot, keypoints, quat)
        marker = self._marker(stamp, "contacts", Marker.SPHERE_LIST, 0.03)
        marker.color = ColorRGBA(r=0.24, g=0.86, b=0.43, a=0.9)
        marker.points = [point_to_msg(point) for point in points[touching]]
        if not marker.points:
            marker.action = Marker.DELETE
        return marker

    def _rope_marker(self, stamp: object, keypoints: np.ndarray, quat: np.ndarray, tension_n: float) -> Marker:
        marker = self._marker(stamp, "rope", Marker.LINE_LIST, 0.01)
        grey, orange = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.9), ColorRGBA(r=1.0, g=0.6, b=0.15, a=1.0)
        marker.color = orange if tension_n > TAUT_N else grey
        marker.points = [point_to_msg(point) for point in rope(self._robot, keypoints, quat)]
        return marker

    def _marker(self, stamp: object, namespace: str, kind: int, size: float) -> Marker:
        marker = Marker(ns=namespace, id=0, type=kind, action=Marker.ADD)
        marker.header.stamp = stamp
        marker.header.frame_id = WORLD_FRAME
        marker.pose.orientation.w = 1.0
        marker.scale = vector_to_msg(np.full(3, size))
        marker.lifetime.sec = 1  # what is no longer published disappears
        return marker

    def _caption(self, error_m: float) -> str:
        words = []
        if self._safety is not None:
            words.append(mode_name(self._safety.mode))
        if self._goal is not None and self._goal.total_frames > 0:
            words.append(f"{self._goal.motion} {self._goal.frame}/{self._goal.total_frames}")
        if np.isfinite(error_m):
            words.append(f"{100 * error_m:.1f} cm")
        if self._safety is not None:
            words += list(self._safety.reasons[:1])
        return "  ".join(words)

    def _transforms(
        self, stamp: object, pos: np.ndarray, quat: np.ndarray, joint_pos: np.ndarray
    ) -> list[TransformStamped]:
        found = [_transform(stamp, WORLD_FRAME, self._robot.links[0].name, pos, quat)]
        for joint, angle in zip(self._robot.joints, joint_pos, strict=True):
            link = self._links[joint.link]
            turn = quat_from_axis_angle(np.array(joint.axis), np.asarray(angle))
            rotation = quat_multiply(np.array(link.quat), turn)
            found.append(_transform(stamp, str(link.parent), link.name, np.array(link.pos), rotation))
        for name, (parent, offset) in self._fixed.items():
            found.append(_transform(stamp, parent, name, np.array(offset), IDENTITY))
        return found


def _transform(stamp: object, parent: str, child: str, pos: np.ndarray, quat: np.ndarray) -> TransformStamped:
    transform = TransformStamped(child_frame_id=child)
    transform.header.stamp = stamp
    transform.header.frame_id = parent
    transform.transform.translation = vector_to_msg(pos)
    transform.transform.rotation = quat_to_msg(quat / np.linalg.norm(quat))
    return transform


def _policy_diagnostic(policy: PolicyStatus | None) -> DiagnosticStatus:
    status = DiagnosticStatus(name="genmimic: policy", hardware_id=G1_23DOF.name)
    if policy is None:
        status.level, status.message = DiagnosticStatus.STALE, f"no policy_status for {RECENT_S:g} s"
        return status
    bad = policy.state in (PolicyStatus.STALE, PolicyStatus.ERROR)
    status.level = DiagnosticStatus.ERROR if bad else DiagnosticStatus.OK
    status.message = policy.message or "running"
    numbers = {
        "period p99 [ms]": policy.period_ms_p99,
        "compute p99 [ms]": policy.compute_ms_p99,
        "latency p99 [ms]": policy.latency_ms_p99,
        "tracking error [m]": policy.tracking_error_m,
    }
    counts = {"ticks": policy.ticks, "missed": policy.missed, "late by 5 ms": policy.late_5ms}
    status.values = [KeyValue(key="policy", value=policy.policy)]
    status.values += [KeyValue(key=key, value=f"{value:.3f}") for key, value in numbers.items()]
    status.values += [KeyValue(key=key, value=str(value)) for key, value in counts.items()]
    return status


def _robot_diagnostic(msg: RobotState | None) -> DiagnosticStatus:
    status = DiagnosticStatus(name="genmimic: robot", hardware_id=G1_23DOF.name)
    if msg is None:
        status.level, status.message = DiagnosticStatus.STALE, f"no robot_state for {RECENT_S:g} s"
        return status
    status.level = DiagnosticStatus.ERROR if msg.link_faults else DiagnosticStatus.OK
    status.message = "; ".join([mode_name(msg.mode), *msg.link_faults])
    values = [("bridge's mode", mode_name(msg.mode)), ("battery [%]", f"{100.0 * msg.battery:.0f}")]
    values.append(("hottest motor [C]", _extreme(np.asarray(msg.joint_temperature))))
    values.append(("largest torque [Nm]", _extreme(np.abs(msg.joint_torque))))
    status.values = [KeyValue(key=key, value=value) for key, value in values]
    return status


def _extreme(values: np.ndarray) -> str:
    """Return the largest of the joints' values with the joint's name; what is not known does not count."""
    if not np.isfinite(values).any():
        return "unknown"
    idx = int(np.nanargmax(values))
    return f"{values[idx]:.1f}, {G1_23DOF.joint_names[idx]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    return run_node(VizNode, argv, realtime=False)


if __name__ == "__main__":
    sys.exit(main())
