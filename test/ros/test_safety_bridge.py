# SPDX-License-Identifier: Apache-2.0
"""safety_node and g1_bridge_node as processes, with a policy and a reference made up here."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=1)]
rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")
pytest.importorskip("mujoco", reason="the simulator needs mujoco")

import yaml  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from std_msgs.msg import Float32  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from genmimic.core.gate import GateConfig  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.reference import ReferencePlayer  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.safety import SafetyLimits  # noqa: E402
from genmimic.core.state import position_command  # noqa: E402
from genmimic.link.config import LinkConfig  # noqa: E402
from genmimic.link.realtime import realtime_priority  # noqa: E402
from genmimic_ros.conversions import command_to_msg, goal_to_msg  # noqa: E402
from genmimic_ros.msg import GoalKeypoints, JointCommand, PolicyStatus, RobotState, SafetyStatus  # noqa: E402
from genmimic_ros.nodes.g1_bridge_node import BridgeParams  # noqa: E402
from genmimic_ros.nodes.safety_node import SafetyParams  # noqa: E402
from genmimic_ros.parameters import parameter_names  # noqa: E402
from genmimic_ros.runtime import STATUS_PUB, STATUS_SUB, STREAM_PUB, STREAM_SUB  # noqa: E402

ROOT = Path(__file__).parents[2]
DOMAIN = 100 + os.getpid() % 100
NAMESPACE = "/genmimic"


def start(node, config, log, *parameters):
    """Start a node as a process that heeds SIGINT and SIGTERM."""
    arguments = [sys.executable, "-m", f"genmimic_ros.nodes.{node}", "--ros-args", "-r", f"__ns:={NAMESPACE}"]
    arguments += ["--params-file", str(ROOT / "config" / config)]
    for parameter in parameters:
        arguments += ["-p", parameter]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment["ROS_LOG_DIR"] = str(log.parent)
    with log.open("w") as stream:
        return subprocess.Popen(
            arguments, env=environment, cwd=ROOT, stdout=stream, stderr=stream,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip


@contextlib.contextmanager
def realtime(priority):
    """Let threads that are made meanwhile have real-time priority, as those of the nodes do, where it is permitted."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    realtime_priority(priority)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


class Others:
    """The nodes that are not under test: a policy that holds the standing pose, a reference, an operator.

    A policy that a busy machine keeps waiting would be taken for a dead one, hence the priority.
    """

    def __init__(self):
        with realtime(45):
            self.begin()

    def begin(self):
        self.context = rclpy.Context()
        self.context.init(domain_id=DOMAIN)
        self.node = rclpy.create_node("others", namespace=NAMESPACE, context=self.context)
        self.command_pub = self.node.create_publisher(JointCommand, "joint_command", STREAM_PUB)
        self.goal_pub = self.node.create_publisher(GoalKeypoints, "goal_keypoints", STREAM_PUB)
        self.policy_pub = self.node.create_publisher(PolicyStatus, "policy_status", STATUS_PUB)
        self.node.create_subscription(RobotState, "robot_state", self.on_state, STREAM_SUB)
        self.node.create_subscription(SafetyStatus, "safety_status", self.on_safety, STATUS_SUB)
        self.node.create_subscription(Float32, "gantry/tension", self.on_tension, STREAM_SUB)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.on_diagnostics, 10)
        self.clients = {
            name: self.node.create_client(Trigger, name)
            for name in ("arm", "start", "pause", "stop", "estop", "reset")
        }  # fmt: skip
        self.goal = goal_to_msg(ReferencePlayer(ROBOT).goal())
        self.policy_alive = self.commanding = False
        self.state = self.safety = self.tension = self.diagnostics = None
        self.states = 0
        self.sequence = 0
        self.last_command_s = self.damped_s = None
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.stopping = False
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.spin, self.publish)]
        for thread in self.threads:
            thread.start()

    def on_state(self, msg):
        if msg.mode == Mode.DAMPED and (self.state is None or self.state.mode != Mode.DAMPED):
            self.damped_s = time.monotonic()
        self.state = msg
        self.states += 1

    def on_safety(self, msg):
        self.safety = msg

    def on_tension(self, msg):
        self.tension = msg.data

    def on_diagnostics(self, msg):
        self.diagnostics = msg

    def spin(self):
        while not self.stopping:
            self.executor.spin_once(timeout_sec=0.05)

    def publish(self):
        tick, due = 0, time.monotonic()
        while not self.stopping:
            if self.policy_alive and tick % 5 == 0:
                self.policy_pub.publish(PolicyStatus(state=PolicyStatus.RUNNING, tracking_error_m=0.02))
            if self.policy_alive:
                self.goal_pub.publish(self.goal)
            if self.commanding:
                self.sequence += 1
                command = position_command(ROBOT, ROBOT.default_joint_pos, sequence=self.sequence)
                self.last_command_s = time.monotonic()
                self.command_pub.publish(command_to_msg(command))
            tick, due = tick + 1, due + 0.02
            time.sleep(max(0.0, due - time.monotonic()))

    def call(self, name):
        assert self.clients[name].wait_for_service(60.0), name
        future = self.clients[name].call_async(Trigger.Request())
        wait(future.done, 30.0, f"an answer of {name}")
        return future.result()

    def close(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(2.0)
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


def wait(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.005)


@pytest.fixture()
def session(tmp_path):
    """Both nodes and the others. Time-outs are wider than usual: the tests share a busy machine."""
    logs = tmp_path / "bridge.log", tmp_path / "safety.log"
    bridge = start("g1_bridge_node", "bridge.yaml", logs[0], "command_timeout_s:=0.15", "heartbeat_timeout_s:=0.2")
    safety = start(
        "safety_node", "safety.yaml", logs[1],
        "command_timeout_s:=0.25", "state_timeout_s:=0.5", "frozen_timeout_s:=0.5",
    )  # fmt: skip
    others = Others()
    others.bridge, others.monitor = bridge, safety
    try:
        yield others
    finally:
        others.close()
        for process in (bridge, safety):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in (safety, bridge):
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                process.kill()
        for log in logs:
            print(log.read_text())


def mode_is(others, mode, bridge=None):
    wanted = mode if bridge is None else bridge
    return lambda: (
        others.safety is not None
        and others.safety.mode == mode
        and others.state is not None
        and others.state.mode == wanted
    )


def arm_until_ready(others):
    """Arm, and again where a machine that is too busy has damped the robot on the way."""
    others.policy_alive = others.commanding = True
    ready, end = mode_is(others, Mode.READY), time.monotonic() + 120.0
    while not ready():
        assert time.monotonic() < end, f"READY: {others.safety}"
        if others.safety.mode in (Mode.DAMPED, Mode.DISARMED):
            others.call("reset" if others.safety.mode == Mode.DAMPED else "arm")
        time.sleep(0.05)


def test_a_session_from_arming_to_damping_and_again(session):
    wait(mode_is(session, Mode.DISARMED), 90.0, "both nodes are up")
    answer = session.call("start")
    assert not answer.success
    assert answer.message == "start refused in DISARMED; accepted now: arm"
    answer = session.call("arm")
    assert not answer.success
    assert "no policy_status yet" in answer.message
    wait(lambda: session.tension is not None, 20.0, "the rope's tension")
    assert session.tension == pytest.approx(ROBOT.mass * 9.81, rel=0.2)
    assert session.state.has_truth
    assert session.state.truth_root.position.z > ROBOT.standing_height
    wait(lambda: session.diagnostics is not None, 20.0, "diagnostics")
    assert session.diagnostics.status[0].name == "genmimic: safety"

    before = session.states
    arm_until_ready(session)
    assert session.states > before
    assert session.safety.gantry_tension_n < 0.7 * ROBOT.mass * 9.81

    session.goal.phase = GoalKeypoints.PLAYING
    assert session.call("start").success
    wait(mode_is(session, Mode.MIMIC), 20.0, "MIMIC")
    assert session.call("pause").success
    wait(mode_is(session, Mode.HOLD), 20.0, "HOLD")
    session.goal.phase = GoalKeypoints.DONE
    assert session.call("start").success
    wait(mode_is(session, Mode.READY), 20.0, "READY, since the motion is over")

    session.commanding = False
    wait(lambda: session.state.mode == Mode.DAMPED, 20.0, "the bridge damps")
    taken = session.damped_s - session.last_command_s
    print(f"from the last command to the first damped state: {1e3 * taken:.0f} ms")
    wait(mode_is(session, Mode.DAMPED), 20.0, "the monitor follows")
    assert any("bridge" in reason or "command" in reason for reason in session.safety.reasons)
    assert not session.call("arm").success

    wait(lambda: session.call("reset").success, 30.0, "reset")
    wait(mode_is(session, Mode.DISARMED), 20.0, "DISARMED")
    arm_until_ready(session)
    assert session.call("estop").success
    wait(mode_is(session, Mode.ESTOP), 20.0, "ESTOP")
    assert list(session.safety.reasons) == ["estop: asked for by the service"]

    session.monitor.send_signal(signal.SIGINT)
    assert session.monitor.wait(30.0) == 0
    session.bridge.terminate()
    assert session.bridge.wait(30.0) == 0


def test_a_monitor_that_hangs_leaves_the_robot_damped(session):
    wait(mode_is(session, Mode.DISARMED), 90.0, "both nodes are up")
    arm_until_ready(session)
    session.monitor.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    wait(lambda: session.state.mode == Mode.DAMPED, 20.0, "the bridge damps")
    print(f"from SIGSTOP of the monitor to the first damped state: {1e3 * (session.damped_s - stopped):.0f} ms")
    session.monitor.send_signal(signal.SIGCONT)
    wait(mode_is(session, Mode.DAMPED), 20.0, "the monitor sees it")


def test_a_bridge_that_ends_is_noticed(session):
    wait(mode_is(session, Mode.DISARMED), 90.0, "both nodes are up")
    arm_until_ready(session)
    session.bridge.send_signal(signal.SIGINT)
    assert session.bridge.wait(30.0) == 0
    wait(lambda: session.safety.mode == Mode.DAMPED, 20.0, "the monitor damps")
    assert session.safety.reasons[0].startswith("state_age: state is ")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ((), "robot:=g1 needs interface:=, the network interface that the robot is on, such as eth0"),
        (("interface:=wlan7",), "there is no network interface 'wlan7'; known: "),
        (("interface:=lo", "find_s:=0.5"), "no robot is heard on interface 'lo' within 0.5 s"),
    ],
)
def test_without_a_robot_the_hardware_bridge_says_so_in_one_line(tmp_path, parameters, words):
    pytest.importorskip("cyclonedds", reason="needs cyclonedds 11")
    log = tmp_path / "bridge.log"
    domain = f"dds_domain:={1 + os.getpid() % 100}"
    assert start("g1_bridge_node", "bridge.yaml", log, "robot:=g1", domain, *parameters).wait(120.0) == 2
    lines = [line for line in log.read_text().splitlines() if not line.startswith("[INFO]")]
    assert len(lines) == 1 and lines[0].startswith(f"G1BridgeNode: error: {words}"), lines


@pytest.mark.parametrize(
    ("file", "node", "classes"),
    [
        ("safety.yaml", "safety_node", (SafetyParams, SafetyLimits)),
        ("bridge.yaml", "g1_bridge_node", (BridgeParams, GateConfig, LinkConfig)),
    ],
)
def test_the_configuration_names_every_parameter_with_its_default(file, node, classes):
    values = yaml.safe_load((ROOT / "config" / file).read_text(encoding="utf-8"))[f"/**/{node}"]["ros__parameters"]
    assert set(values) == {name for cls in classes for name in parameter_names(cls)}
    for cls in classes:
        assert {name: values[name] for name in parameter_names(cls)} == vars(cls()), "the file holds the defaults"
