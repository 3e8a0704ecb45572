# SPDX-License-Identifier: Apache-2.0
"""g1_bridge_node: drives the motors, and is the last to decide what reaches them (`genmimic.core.gate`).

``robot:=sim`` steps a simulated G1 on a gantry in real time; ``robot:=g1 interface:=eth0`` speaks to the real one, or
to its twin (`genmimic_ros.hardware_bridge`). In ``RobotState.mode`` it tells what it does. READY there, while the
safety monitor says STANDING, means that the robot stands.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from std_msgs.msg import Float32

from genmimic.core.gate import GateConfig, Heartbeat
from genmimic.core.modes import DAMPING, Mode
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import quat_rotate
from genmimic.core.state import JointCommand
from genmimic.link.config import LinkConfig
from genmimic_ros.conversions import RootTruth, command_from_msg, state_to_msg
from genmimic_ros.msg import JointCommand as JointCommandMsg
from genmimic_ros.msg import RobotState as RobotStateMsg
from genmimic_ros.msg import SafetyStatus
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STATUS_SUB, STREAM_PUB, STREAM_SUB, TickNode, run_node

if TYPE_CHECKING:
    from genmimic_ros.hardware_bridge import HardwareDriver

CATCH_UP_STEPS = 20
"""Physics steps of one late tick at most: beyond 100 ms the simulated world waits rather than leap."""


@dataclass(frozen=True)
class BridgeParams:
    """Parameters of g1_bridge_node, besides those of its gate (`genmimic.core.gate.GateConfig`)."""

    robot: str = parameter("sim", "Which robot: simulated, or the hardware", choices=("sim", "g1"))
    interface: str = parameter("", "Hardware: network interface that the robot is on, for example eth0")
    transport: str = parameter(
        "dds",
        "Hardware: our own DDS link, plain ROS topics, or unitree_sdk2py",
        choices=("dds", "ros", "sdk"),
    )
    sdk_python: str = parameter("", "Hardware, transport sdk: Python that has unitree_sdk2py; this one when empty")
    dds_domain: int = parameter(0, "Hardware: DDS domain of the robot", low=0, high=230)
    remote_required: bool = parameter(True, "Hardware: whether a remote that is not heard counts as a fault")
    guard: bool = parameter(True, "Hardware: whether a second process damps the robot when this one has died")
    state_rate_hz: float = parameter(200.0, "How often robot_state is published", unit="Hz", low=100, high=200)
    tension_rate_hz: float = parameter(50.0, "How often gantry/tension is published", unit="Hz", low=10, high=200)
    priority: int = parameter(70, "Real-time priority of the loop (SCHED_FIFO); 0 for none", low=0, high=99)
    tether: bool = parameter(True, "Simulated: whether the robot starts hanging from a gantry, which also catches it")
    noise: str = parameter("none", "Simulated: sensor noise; paper is that of Table 8", choices=("none", "paper"))
    delay_steps: int = parameter(0, "Simulated: physics steps of 5 ms from command to motors", low=0, high=20)
    friction: float = parameter(1.0, "Simulated: sliding friction of the floor", low=0.0, high=5.0)
    seed: int = parameter(0, "Simulated: seed of the sensor noise", low=0)


class G1BridgeNode(TickNode):
    """The simulated robot in real time, 200 physics steps a second, or the real one; each step behind the gate."""

    def __init__(self) -> None:
        super().__init__("g1_bridge_node")
        self._bridge = None
        self._hardware: HardwareDriver | None = None
        params = declare_parameters(self, BridgeParams)
        config = declare_parameters(self, GateConfig)
        link_config = declare_parameters(self, LinkConfig)
        if params.robot == "g1":
            from genmimic_ros.hardware_bridge import HardwareDriver

            self._hardware = HardwareDriver(
                self, params.interface, params.dds_domain, config, link_config, params.state_rate_hz, params.priority,
                params.remote_required, params.guard, params.transport,
                params.sdk_python,
            )  # fmt: skip
            return
        from genmimic.sim.gantry import SimulatedBridge
        from genmimic.sim.simulated_g1 import SensorNoise, SimConfig, SimulatedG1

        noise = SensorNoise.paper() if params.noise == "paper" else SensorNoise.none()
        sim_config = SimConfig(delay_steps=params.delay_steps, noise=noise, friction=params.friction)
        sim = SimulatedG1(G1_23DOF, sim_config, seed=params.seed)
        self._bridge = SimulatedBridge(sim, config, tether=params.tether)
        rate_hz = 1.0 / sim_config.timestep_s
        self._period_ns = round(1e9 / rate_hz)
        self._state_every = max(1, round(rate_hz / params.state_rate_hz))
        self._tension_every = max(1, round(rate_hz / params.tension_rate_hz)) if params.tether else 0
        self._tick_count = 0
        self._due_ns: int | None = None  # when the next physics step is due
        self._told: tuple[Mode, str] | None = None

        self._mode: Mode | None = None
        self._heartbeat = Heartbeat()
        self._command: tuple[JointCommand | None, int | None] = (None, None)
        self._state_pub = self.create_publisher(RobotStateMsg, "robot_state", STREAM_PUB)
        self._tension_pub = self.create_publisher(Float32, "gantry/tension", STREAM_PUB)
        self.create_subscription(SafetyStatus, "safety_status", self._on_safety, STATUS_SUB)
        self.create_subscription(JointCommandMsg, "joint_command", self._on_command, STREAM_SUB)
        where = "hangs from the gantry" if params.tether else "stands without a rope"
        self.get_logger().info(f"simulated {G1_23DOF.name}, noise {params.noise}, {where}")
        self.start_ticks(rate_hz, self._on_tick, params.priority)

    def _on_safety(self, msg: SafetyStatus) -> None:
        try:
            self._mode = Mode(msg.mode)
        except ValueError:
            self._mode = None  # the gate damps
        self._heartbeat.beat(time.monotonic_ns(), msg.heartbeat)

    def _on_command(self, msg: JointCommandMsg) -> None:
        self._command = command_from_msg(msg), time.monotonic_ns()

    def _on_tick(self, now_ns: int) -> None:
        assert self._bridge is not None
        command, received_ns = self._command
        step = self._bridge.step(
            now_ns,
            self._mode,
            self._heartbeat.received_ns,
            command,
            received_ns,
            steps=self._steps_due(now_ns),
            stamp_ns=time.time_ns(),
        )
        if (step.mode, step.reason) != self._told:
            self._told = step.mode, step.reason
            text = f"{step.mode.name}: {step.reason}" if step.reason else step.mode.name
            if step.mode in DAMPING and self._heartbeat.received_ns is not None:
                self.get_logger().warning(text)
            else:  # on a line of its own: rclpy allows one severity per place
                self.get_logger().info(text)
        if self._tick_count % self._state_every == 0:
            sim = self._bridge.sim
            quat = sim.root_quat_w
            truth = RootTruth(sim.root_pos_w, quat, sim.root_lin_vel_w, quat_rotate(quat, sim.root_ang_vel_b))
            self._state_pub.publish(state_to_msg(step.state, step.mode, truth))
        if self._tension_every and self._tick_count % self._tension_every == 0:
            self._tension_pub.publish(Float32(data=float(step.tension_n)))
        self._tick_count += 1

    def _steps_due(self, now_ns: int) -> int:
        """Return how many physics steps to take so that simulated time keeps up with the clock."""
        due_ns = now_ns if self._due_ns is None else self._due_ns
        due = max(1, 1 + round((now_ns - due_ns) / self._period_ns))
        if due > CATCH_UP_STEPS:
            waited_ms = (due - CATCH_UP_STEPS) * self._period_ns / 1e6
            self.get_logger().warning(
                f"the machine is too busy: the simulated robot waited {waited_ms:.0f} ms", throttle_duration_sec=1.0
            )
            self._due_ns = now_ns + self._period_ns
            return CATCH_UP_STEPS
        self._due_ns = due_ns + due * self._period_ns
        return due

    def on_failure(self) -> None:
        """Damp before anything else when the loop has failed."""
        self._damp("the bridge's loop has failed")

    def destroy_node(self) -> None:
        """Damp, then stop. On the way out of every exit, SIGINT, SIGTERM and exceptions included."""
        for thread in self._tick_threads:
            thread.stop()
        self._damp("the bridge stops")
        super().destroy_node()

    def _damp(self, reason: str) -> None:
        if self._hardware is not None:
            self._hardware.damp(reason)
        if self._bridge is not None:
            self._bridge.damp(time.monotonic_ns(), reason)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    return run_node(G1BridgeNode, argv)


if __name__ == "__main__":
    sys.exit(main())
