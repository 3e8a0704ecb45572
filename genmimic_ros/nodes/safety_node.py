# SPDX-License-Identifier: Apache-2.0
"""safety_node: holds the mode, judges the rules, and beats the heart without which the bridge damps.

The rules are in `genmimic.core.safety`, the modes in `genmimic.core.modes`, what brings them together is
`genmimic.core.desk`; this node feeds it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Float32
from std_srvs.srv import Trigger

from genmimic.core.desk import EVENTS, SafetyDesk
from genmimic.core.modes import DAMPING, Mode, Reaction
from genmimic.core.robot import G1_23DOF
from genmimic.core.safety import SafetyLimits, lines, worst
from genmimic_ros.conversions import Safety, command_from_msg, safety_to_msg, stamp_to_msg, state_from_msg
from genmimic_ros.msg import GoalKeypoints, PolicyStatus, SafetyStatus
from genmimic_ros.msg import JointCommand as JointCommandMsg
from genmimic_ros.msg import RobotState as RobotStateMsg
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STATUS_PUB, STATUS_SUB, STREAM_SUB, TickNode, run_node

_POLICY_STATES = {
    PolicyStatus.UNCONFIGURED: "UNCONFIGURED",
    PolicyStatus.WAITING: "WAITING",
    PolicyStatus.STALE: "STALE",
    PolicyStatus.ERROR: "in ERROR",
}
"""In these the policy cannot run."""

_LEVELS = {
    Reaction.OK: DiagnosticStatus.OK,
    Reaction.WARN: DiagnosticStatus.WARN,
    Reaction.BLOCK: DiagnosticStatus.WARN,
    Reaction.HOLD: DiagnosticStatus.WARN,
    Reaction.STAND: DiagnosticStatus.WARN,
    Reaction.DAMP: DiagnosticStatus.ERROR,
    Reaction.ESTOP: DiagnosticStatus.ERROR,
}


@dataclass(frozen=True)
class SafetyParams:
    """Parameters of safety_node, besides the limits (`genmimic.core.safety.SafetyLimits`)."""

    check_rate_hz: float = parameter(100.0, "How often the rules are judged", unit="Hz", low=50, high=500)
    status_rate_hz: float = parameter(50.0, "How often the heart beats", unit="Hz", low=20, high=500)
    diagnostics_rate_hz: float = parameter(2.0, "How often /diagnostics is published", unit="Hz", low=0.1, high=50)
    priority: int = parameter(60, "Real-time priority of the loop (SCHED_FIFO); 0 for none", low=0, high=99)


class SafetyNode(TickNode):
    """Judges what it hears, and answers the services that change the mode."""

    def __init__(self) -> None:
        super().__init__("safety_node")
        params = declare_parameters(self, SafetyParams)
        limits = declare_parameters(self, SafetyLimits)
        self._lock = threading.Lock()  # services and receipt on the main thread, checks on the tick's
        self._desk = SafetyDesk(G1_23DOF, limits, time.monotonic_ns())
        self._heartbeat = 0
        self._told: tuple[Mode, tuple[str, ...]] = (Mode.DISARMED, ())
        self._warned: set[str] = set()

        self._status_pub = self.create_publisher(SafetyStatus, "safety_status", STATUS_PUB)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(RobotStateMsg, "robot_state", self._on_state, STREAM_SUB)
        self.create_subscription(JointCommandMsg, "joint_command", self._on_command, STREAM_SUB)
        self.create_subscription(GoalKeypoints, "goal_keypoints", self._on_goal, STREAM_SUB)
        self.create_subscription(PolicyStatus, "policy_status", self._on_policy, STATUS_SUB)
        self.create_subscription(Float32, "gantry/tension", self._on_tension, STREAM_SUB)
        for name in EVENTS:
            self.create_service(Trigger, name, self._service(name))
        self._status_every = max(1, round(params.check_rate_hz / params.status_rate_hz))
        self._diagnostics_every = max(1, round(params.check_rate_hz / params.diagnostics_rate_hz))
        self._tick_count = 0
        self.get_logger().info("DISARMED; services: arm, start, pause, stop, estop, reset")
        self.start_ticks(params.check_rate_hz, self._on_tick, params.priority)

    # what is heard -----------------------------------------------------------------------------
    def _on_state(self, msg: RobotStateMsg) -> None:
        state, now_ns = state_from_msg(msg), time.monotonic_ns()
        with self._lock:
            self._desk.hear_state(now_ns, state, _mode(msg.mode))

    def _on_command(self, msg: JointCommandMsg) -> None:
        command, now_ns = command_from_msg(msg), time.monotonic_ns()
        with self._lock:
            self._desk.hear_command(now_ns, command)

    def _on_goal(self, msg: GoalKeypoints) -> None:
        with self._lock:
            self._desk.hear_goal(time.monotonic_ns(), msg.phase == GoalKeypoints.DONE)

    def _on_policy(self, msg: PolicyStatus) -> None:
        problem, periods_s = policy_problem(msg), [1e-3 * period for period in msg.tick_period_ms]
        with self._lock:
            self._desk.hear_policy(time.monotonic_ns(), problem, msg.tracking_error_m, periods_s)

    def _on_tension(self, msg: Float32) -> None:
        with self._lock:
            self._desk.hear_tension(time.monotonic_ns(), msg.data)

    # what follows ------------------------------------------------------------------------------
    def _on_tick(self, now_ns: int) -> None:
        with self._lock:
            self._desk.tick(time.monotonic_ns())  # not `now_ns`: it may have waited for the lock
            self._warn()
            self._tick_count += 1
            changed = self._told != self._desk.situation
            if changed or self._tick_count % self._status_every == 0:
                self._publish(changed)
            if self._tick_count % self._diagnostics_every == 0:
                self._publish_diagnostics()

    def _warn(self) -> None:
        warnings = {verdict.rule: verdict for verdict in self._desk.verdicts if verdict.reaction is Reaction.WARN}
        for rule in warnings.keys() - self._warned:
            self.get_logger().warning(str(warnings[rule]))
        self._warned = set(warnings)

    def _service(self, name: str) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def serve(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            with self._lock:
                answer = self._desk.call(name, time.monotonic_ns())
                response.success, response.message = answer.accepted, answer.message
                if self._told != self._desk.situation:
                    self._publish(changed=True)
            if not answer.accepted:
                self.get_logger().warning(answer.message)
            return response

        return serve

    # what is told ------------------------------------------------------------------------------
    def _publish(self, changed: bool) -> None:
        mode, reasons = situation = self._desk.situation
        self._heartbeat += 1
        safety = Safety(mode, reasons, self._heartbeat, self._desk.tension_n)
        self._status_pub.publish(safety_to_msg(safety, self.get_clock().now().nanoseconds))
        self._told = situation
        if changed:
            text = f"{mode.name}: {'; '.join(reasons)}" if reasons else mode.name
            if mode in DAMPING:
                self.get_logger().error(text)
            else:  # on a line of its own: rclpy allows one severity per place
                self.get_logger().info(text)

    def _publish_diagnostics(self) -> None:
        (mode, reasons), verdicts = self._desk.situation, self._desk.verdicts
        level = _LEVELS[worst(verdicts)]
        if mode in DAMPING:
            level = DiagnosticStatus.ERROR
        elif mode is Mode.DISARMED and level == DiagnosticStatus.ERROR:
            level = DiagnosticStatus.WARN  # nothing moves; `arm` is refused
        texts = list(reasons) + [text for text in lines(verdicts, Reaction.WARN) if text not in reasons]
        status = DiagnosticStatus(level=level, name="genmimic: safety", hardware_id=G1_23DOF.name)
        status.message = "; ".join([mode.name, *texts])
        status.values = [KeyValue(key="mode", value=mode.name), KeyValue(key="heartbeat", value=str(self._heartbeat))]
        status.values += [KeyValue(key=verdict.rule, value=verdict.text) for verdict in verdicts]
        msg = DiagnosticArray(status=[status])
        msg.header.stamp = stamp_to_msg(self.get_clock().now().nanoseconds)
        self._diagnostics_pub.publish(msg)


def policy_problem(msg: PolicyStatus) -> str:
    """Return why the policy cannot run, by its own words; empty when it can."""
    if msg.state not in _POLICY_STATES:
        return ""
    return f"the policy is {_POLICY_STATES[msg.state]}" + (msg.message and f": {msg.message}")


def _mode(number: int) -> Mode | None:
    try:
        return Mode(number)
    except ValueError:
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    return run_node(SafetyNode, argv)


if __name__ == "__main__":
    sys.exit(main())
