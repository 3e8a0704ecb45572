# SPDX-License-Identifier: Apache-2.0
"""safety_node: holds the mode, judges the rules, and beats the heart without which the bridge damps.

The rules are in `genmimic.core.safety`, the modes in `genmimic.core.modes`; this node feeds them.
How it learns that the robot stands: while the mode is STANDING, the bridge reports READY in
``RobotState.mode``. How it learns that the motion is over: a goal's phase is DONE in MIMIC.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Float32
from std_srvs.srv import Trigger

from genmimic.core.modes import DAMPING, Answer, Mode, ModeMachine, Reaction
from genmimic.core.robot import G1_23DOF
from genmimic.core.safety import SafetyInputs, SafetyLimits, SafetyMonitor, Verdict, lines, worst
from genmimic.core.state import JointCommand, RobotState
from genmimic_ros.conversions import Safety, command_from_msg, safety_to_msg, stamp_to_msg, state_from_msg
from genmimic_ros.msg import GoalKeypoints, PolicyStatus, SafetyStatus
from genmimic_ros.msg import JointCommand as JointCommandMsg
from genmimic_ros.msg import RobotState as RobotStateMsg
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STATUS_PUB, STATUS_SUB, STREAM_SUB, TickNode, run_node

DONE_AFTER_NS = 200_000_000
"""A goal that says DONE counts once another phase was seen in this MIMIC, or after this time: until the reference
node hears of MIMIC, its goals are still those of READY."""

TENSION_TIMEOUT_NS = 500_000_000
"""An older rope tension counts as not measured."""

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
        self._lock = threading.Lock()  # services on the main thread, checks on the tick's
        self._machine = ModeMachine(time.monotonic_ns())
        self._monitor = SafetyMonitor(G1_23DOF, limits)
        self._verdicts: list[Verdict] = []
        self._heartbeat = 0
        self._told: tuple[Mode, tuple[str, ...]] = (Mode.DISARMED, ())
        self._warned: set[str] = set()

        self._state: tuple[RobotState, int, int] | None = None  # with the bridge's mode and receipt, ns
        self._command: tuple[JointCommand, int] | None = None
        self._goal: tuple[int, int] | None = None  # phase and receipt
        self._policy: tuple[PolicyStatus, int] | None = None
        self._tension: tuple[float, int] | None = None
        self._moving_ns = 0  # receipt of the last goal that was not DONE

        self._status_pub = self.create_publisher(SafetyStatus, "safety_status", STATUS_PUB)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(RobotStateMsg, "robot_state", self._on_state, STREAM_SUB)
        self.create_subscription(JointCommandMsg, "joint_command", self._on_command, STREAM_SUB)
        self.create_subscription(GoalKeypoints, "goal_keypoints", self._on_goal, STREAM_SUB)
        self.create_subscription(PolicyStatus, "policy_status", self._on_policy, STATUS_SUB)
        self.create_subscription(Float32, "gantry/tension", self._on_tension, STREAM_SUB)
        for name, event in (
            ("arm", lambda now: self._machine.arm(now, lines(self._verdicts, Reaction.BLOCK))),
            ("start", lambda now: self._machine.start(now, lines(self._verdicts, Reaction.BLOCK))),
            ("pause", lambda now: self._machine.pause(now)),
            ("stop", lambda now: self._machine.stop(now)),
            ("estop", lambda now: self._machine.estop(now, "asked for by the service")),
            ("reset", lambda now: self._machine.reset(now, lines(self._verdicts, Reaction.DAMP))),
        ):
            self.create_service(Trigger, name, self._service(name, event))
        self._status_every = max(1, round(params.check_rate_hz / params.status_rate_hz))
        self._diagnostics_every = max(1, round(params.check_rate_hz / params.diagnostics_rate_hz))
        self._tick_count = 0
        self.get_logger().info("DISARMED; services: arm, start, pause, stop, estop, reset")
        self.start_ticks(params.check_rate_hz, self._on_tick, params.priority)

    # what is heard -----------------------------------------------------------------------------
    def _on_state(self, msg: RobotStateMsg) -> None:
        self._state = state_from_msg(msg), msg.mode, time.monotonic_ns()

    def _on_command(self, msg: JointCommandMsg) -> None:
        self._command = command_from_msg(msg), time.monotonic_ns()

    def _on_goal(self, msg: GoalKeypoints) -> None:
        now_ns = time.monotonic_ns()
        if msg.phase != GoalKeypoints.DONE:
            self._moving_ns = now_ns
        self._goal = msg.phase, now_ns

    def _on_policy(self, msg: PolicyStatus) -> None:
        self._policy = msg, time.monotonic_ns()

    def _on_tension(self, msg: Float32) -> None:
        self._tension = msg.data, time.monotonic_ns()

    # what follows ------------------------------------------------------------------------------
    def _on_tick(self, now_ns: int) -> None:
        with self._lock:
            self._judge(now_ns)
            self._follow(now_ns)
            self._tick_count += 1
            changed = self._told != self._situation()
            if changed or self._tick_count % self._status_every == 0:
                self._publish(changed)
            if self._tick_count % self._diagnostics_every == 0:
                self._publish_diagnostics()

    def _judge(self, now_ns: int) -> None:
        """Check the rules and let the mode machine react."""
        machine = self._machine
        self._verdicts = self._monitor.check(now_ns, self._inputs(now_ns))
        for verdict in self._verdicts:
            if verdict.reaction >= Reaction.HOLD:
                machine.fault(now_ns, verdict.reaction, verdict.rule, verdict.text)
        warnings = {verdict.rule for verdict in self._verdicts if verdict.reaction is Reaction.WARN}
        for verdict in self._verdicts:
            if verdict.rule in warnings - self._warned:
                self.get_logger().warning(str(verdict))
        self._warned = warnings

    def _follow(self, now_ns: int) -> None:
        """Take the events that the robot and the reference report."""
        machine = self._machine
        if machine.mode is Mode.STANDING and self._state is not None and self._state[1] == Mode.READY:
            machine.stood(now_ns)
        if machine.mode is Mode.MIMIC and self._goal is not None and self._goal[0] == GoalKeypoints.DONE:
            moved = self._moving_ns > machine.since_ns
            if self._goal[1] > machine.since_ns and (moved or now_ns - machine.since_ns > DONE_AFTER_NS):
                machine.motion_done(now_ns)

    def _inputs(self, now_ns: int) -> SafetyInputs:
        state, command, goal, policy, tension = (
            self._state, self._command, self._goal, self._policy, self._tension,
        )  # fmt: skip
        machine = self._machine
        problem, error_m = "", math.nan
        if policy is not None:
            status = policy[0]
            if status.state in _POLICY_STATES:
                problem = f"the policy is {_POLICY_STATES[status.state]}" + (status.message and f": {status.message}")
            if (now_ns - policy[1]) * 1e-9 <= self._monitor.limits.policy_timeout_s:
                error_m = status.tracking_error_m
        return SafetyInputs(
            mode=machine.mode,
            mode_since_ns=machine.since_ns,
            applied_since_ns=machine.applied_since_ns,
            state=state[0] if state else None,
            state_received_ns=state[2] if state else None,
            bridge_mode=_mode(state[1]) if state else None,
            command=command[0] if command else None,
            command_received_ns=command[1] if command else None,
            goal_received_ns=goal[1] if goal else None,
            policy_received_ns=policy[1] if policy else None,
            policy_problem=problem,
            tracking_error_m=error_m,
            gantry_tension_n=tension[0] if tension and now_ns - tension[1] <= TENSION_TIMEOUT_NS else math.nan,
        )

    def _service(
        self, name: str, event: Callable[[int], Answer]
    ) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def serve(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            with self._lock:
                now_ns = time.monotonic_ns()
                if name != "estop":
                    self._judge(now_ns)  # what blocks depends on the mode, which may have just changed
                answer = event(time.monotonic_ns())
                response.success, response.message = answer.accepted, answer.message
                if self._told != self._situation():
                    self._publish(changed=True)
            if not answer.accepted:
                self.get_logger().warning(answer.message)
            return response

        return serve

    # what is told ------------------------------------------------------------------------------
    def _situation(self) -> tuple[Mode, tuple[str, ...]]:
        return self._machine.mode, tuple(str(reason) for reason in self._machine.reasons)

    def _publish(self, changed: bool) -> None:
        mode, reasons = situation = self._situation()
        self._heartbeat += 1
        tension = math.nan if self._tension is None else self._tension[0]
        self._status_pub.publish(
            safety_to_msg(Safety(mode, reasons, self._heartbeat, tension), self.get_clock().now().nanoseconds)
        )
        self._told = situation
        if changed:
            text = f"{mode.name}: {'; '.join(reasons)}" if reasons else mode.name
            if mode in DAMPING:
                self.get_logger().error(text)
            else:  # on a line of its own: rclpy allows one severity per place
                self.get_logger().info(text)

    def _publish_diagnostics(self) -> None:
        mode, reasons = self._situation()
        level = _LEVELS[worst(self._verdicts)]
        if mode in DAMPING:
            level = DiagnosticStatus.ERROR
        elif mode is Mode.DISARMED and level == DiagnosticStatus.ERROR:
            level = DiagnosticStatus.WARN  # nothing moves; `arm` is refused
        texts = list(reasons) + [text for text in lines(self._verdicts, Reaction.WARN) if text not in reasons]
        status = DiagnosticStatus(level=level, name="genmimic: safety", hardware_id=G1_23DOF.name)
        status.message = "; ".join([mode.name, *texts])
        status.values = [KeyValue(key="mode", value=mode.name), KeyValue(key="heartbeat", value=str(self._heartbeat))]
        status.values += [KeyValue(key=verdict.rule, value=verdict.text) for verdict in self._verdicts]
        msg = DiagnosticArray(status=[status])
        msg.header.stamp = stamp_to_msg(self.get_clock().now().nanoseconds)
        self._diagnostics_pub.publish(msg)


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
