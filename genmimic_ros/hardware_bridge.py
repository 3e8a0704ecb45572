# SPDX-License-Identifier: Apache-2.0
"""The hardware's half of g1_bridge_node: topics and services around `genmimic.link.hardware.HardwareBridge`.

The remote: Start releases the robot's own controller, then arms, then (after damping) resets; A confirms that the robot
stands on its feet, then starts the motion; B damps; Select damps and ends the bridge. Nothing else moves the robot on.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import replace

import rclpy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from genmimic.core.errors import ConfigError
from genmimic.core.gate import GateConfig, Heartbeat
from genmimic.core.modes import APPLIED, DAMPING, Mode
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import JointCommand
from genmimic.link.bus import Bus
from genmimic.link.config import LinkConfig
from genmimic.link.guard import Guard
from genmimic.link.hardware import LET_GO_S, RATE_HZ, HardwareBridge, RobotLink, describe_machine
from genmimic.link.realtime import lock_memory
from genmimic_ros.conversions import command_from_msg, state_to_msg
from genmimic_ros.msg import JointCommand as JointCommandMsg
from genmimic_ros.msg import RobotState as RobotStateMsg
from genmimic_ros.msg import SafetyStatus
from genmimic_ros.runtime import PRESS_QOS, STATUS_SUB, STREAM_PUB, STREAM_SUB, TickNode

SERVICE_RATE_HZ = 50.0
"""How often presses of the remote are turned into service calls."""

BUTTONS_USED = ("start", "A", "B", "select")
"""Of the remote, and of the keyboard on the topic ``press``."""


class HardwareDriver:
    """Serves one robot through ``node``, 500 steps a second, each behind the gate.

    Args:
        node: In whose namespace the topics and services are.
        interface: Network interface of the robot.
        domain: Its DDS domain.
        gate: Numbers of the gate.
        link: Numbers of the link.
        state_rate_hz: How often robot_state is published.
        priority: Of the loop.
        remote_required: Whether a lost remote is a fault.
        guarded: Whether a second process damps when this one has died.
        transport: dds; ros for plain ROS topics, where the interface is the middleware's business; or sdk for
            Unitree's `unitree_sdk2py` in a process of its own.
        sdk_python: Interpreter that has it; this one when empty.

    Raises:
        LinkError: No robot, another robot, or one that somebody else commands.
        ConfigError: No interface is named.
    """

    def __init__(
        self,
        node: TickNode,
        interface: str,
        domain: int,
        gate: GateConfig,
        link: LinkConfig,
        state_rate_hz: float,
        priority: int,
        remote_required: bool,
        guarded: bool,
        transport: str = "dds",
        sdk_python: str = "",
    ) -> None:
        if not interface and transport != "ros":
            raise ConfigError("robot:=g1 needs interface:=, the network interface that the robot is on, such as eth0")
        self._node, self._log = node, node.get_logger()
        self._state_period_ns = round(1e9 / state_rate_hz)
        self._state_due_ns = 0
        self._mode: Mode | None = None
        self._heartbeat = Heartbeat()
        self._command: tuple[JointCommand | None, int | None] = (None, None)
        self._presses: deque[str] = deque()
        self._told: tuple[Mode, str] | None = None
        self._told_faults: tuple[str, ...] = ()
        self._ending_ns: int | None = None
        self._closing = threading.Lock()
        self._gone = False
        if not lock_memory():
            self._log.info("memory is not locked: the system does not permit it")
        self._bus, guard_module = _open_bus(transport, interface, domain, sdk_python)
        self._bridge = HardwareBridge(RobotLink(self._bus, G1_23DOF, link), gate, remote_required=remote_required)
        self._bridge.open()
        self._guard = Guard(interface, domain, gate, guard_module) if guarded else None
        if self._guard is not None:
            self._bridge.watched_by(self._guard)
        machine, where = self._bridge.link.mode_machine, "plain ROS topics" if transport == "ros" else interface
        assert machine is not None
        self._log.info(f"{describe_machine(machine)}, mode_machine {machine}, on {where}, DDS domain {domain}")
        if self._bridge.occupied:
            self._log.warning(self._bridge.occupied)
        self._state_pub = node.create_publisher(RobotStateMsg, "robot_state", STREAM_PUB)
        node.create_subscription(SafetyStatus, "safety_status", self._on_safety, STATUS_SUB)
        node.create_subscription(JointCommandMsg, "joint_command", self._on_command, STREAM_SUB)
        node.create_subscription(String, "press", self._on_press, PRESS_QOS)
        self._services = {name: node.create_client(Trigger, name) for name in ("arm", "start", "estop", "reset")}
        node.create_service(Trigger, "release", self._on_release)
        node.create_service(Trigger, "confirm_standing", self._on_confirm)
        node.start_ticks(SERVICE_RATE_HZ, self._serve, max(0, priority - 30))
        node.start_ticks(RATE_HZ, self._on_tick, priority)

    # heard from the other nodes --------------------------------------------------------------------
    def _on_safety(self, msg: SafetyStatus) -> None:
        try:
            self._mode = Mode(msg.mode)
        except ValueError:
            self._mode = None  # the gate damps
        self._heartbeat.beat(time.monotonic_ns(), msg.heartbeat)

    def _on_command(self, msg: JointCommandMsg) -> None:
        self._command = command_from_msg(msg), time.monotonic_ns()

    def _on_press(self, msg: String) -> None:
        if msg.data not in BUTTONS_USED:
            self._log.warning(f"press: {msg.data[:20]!r} is none of {', '.join(BUTTONS_USED)}")
            return
        if msg.data in ("B", "select"):
            self._bridge.trip(f"{msg.data} was pressed on the keyboard")
        self._presses.append(msg.data)

    def _on_release(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = not self._bridge.live, self._bridge.release()
        return response

    def _on_confirm(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = self._bridge.confirm_standing()
        response.success, response.message = not problem, problem or "READY: the policy takes over"
        return response

    # 500 times a second ----------------------------------------------------------------------------
    def _on_tick(self, now_ns: int) -> None:
        if self._gone:
            return
        command, received_ns = self._command
        step = self._bridge.step(now_ns, self._mode, self._heartbeat.received_ns, command, received_ns)
        self._presses.extend(step.pressed)
        if (step.mode, step.reason) != self._told:
            self._told = step.mode, step.reason
            text = f"{step.mode.name}: {step.reason}" if step.reason else step.mode.name
            if step.mode in DAMPING and self._heartbeat.received_ns is not None:
                self._log.warning(text)
            else:  # on a line of its own: rclpy allows one severity per place
                self._log.info(text)
        if step.state is not None and step.fresh and now_ns >= self._state_due_ns:
            self._state_due_ns = max(self._state_due_ns + self._state_period_ns, now_ns)
            # the robot's clock is its own: what others compare is when we got it
            self._state_pub.publish(state_to_msg(replace(step.state, stamp_ns=time.time_ns()), step.mode))

    # what the remote asks for ----------------------------------------------------------------------
    def _serve(self, now_ns: int) -> None:
        faults = tuple(fault.id for fault in self._bridge.faults)
        if faults != self._told_faults:
            for fault in self._bridge.faults:
                if fault.id not in self._told_faults:
                    self._log.warning(str(fault))
            self._told_faults = faults
        while self._presses:
            self._press(self._presses.popleft())
        if self._ending_ns is not None and now_ns >= self._ending_ns:
            self._log.info("Select was pressed: the bridge ends")
            rclpy.try_shutdown(context=self._node.context)

    def _press(self, button: str) -> None:
        mode, bridge = self._mode, self._bridge
        if button == "start" and not bridge.live:
            self._log.warning(bridge.release())
        elif button == "start" and mode is Mode.DISARMED:
            self._call("arm")
        elif button == "start" and mode in DAMPING:
            self._call("reset")
        elif button == "A" and mode is Mode.STANDING:
            problem = bridge.confirm_standing()
            if problem:
                self._log.warning(f"A was pressed: {problem}")
        elif button == "A" and mode in APPLIED and mode is not Mode.MIMIC:
            self._call("start")
        elif button in ("B", "select"):  # the gate has damped already
            self._call("estop")
            if button == "select":
                self._ending_ns = time.monotonic_ns() + round(1e9 * LET_GO_S)

    def _call(self, name: str) -> None:
        client = self._services[name]
        if not client.service_is_ready():
            self._log.error(f"{name}: safety_node does not answer")
            return
        client.call_async(Trigger.Request())  # a refusal is logged by the one who refuses

    # the way out -----------------------------------------------------------------------------------
    def damp(self, reason: str) -> None:
        """Damp and stop writing; for every exit. A second call does nothing."""
        with self._closing:
            if self._gone:
                return
            self._gone = True
            self._bridge.let_go(reason)
            if self._guard is not None:
                self._guard.dismiss()


def _open_bus(transport: str, interface: str, domain: int, sdk_python: str) -> tuple[Bus, str]:
    """Return the wire, and the module that guards it. Each transport loads its libraries, and not the other's."""
    if transport == "ros":
        from genmimic_ros.ros_bus import RosBus

        return RosBus(domain), "genmimic_ros.ros_guard"
    if transport == "sdk":
        from genmimic.link.sdk_bus import PYTHON_VARIABLE, open_worker_bus

        os.environ[PYTHON_VARIABLE] = sdk_python  # the guard's process reads it, too
        return open_worker_bus(interface, domain), "genmimic.link.sdk_guard"
    from genmimic.link.dds import Bus as DdsBus

    return DdsBus(interface, domain), "genmimic.link.guard"
