# SPDX-License-Identifier: Apache-2.0
"""motion_reference_node, policy_node and viz_node as processes; the robot and the safety monitor are made up here."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=1)]
rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")
pytest.importorskip("onnxruntime", reason="policy_node needs onnxruntime")

import yaml  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from visualization_msgs.msg import MarkerArray  # noqa: E402

from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.state import RobotState  # noqa: E402
from genmimic_ros.conversions import Safety, goal_from_msg, safety_to_msg, state_to_msg  # noqa: E402
from genmimic_ros.msg import GoalKeypoints, JointCommand, PolicyStatus, SafetyStatus  # noqa: E402
from genmimic_ros.msg import RobotState as RobotStateMsg  # noqa: E402
from genmimic_ros.runtime import RECORD_SUB, STATUS_PUB, STATUS_SUB, STREAM_PUB, TickThread, make_executor  # noqa: E402
from genmimic_ros.srv import LoadMotion  # noqa: E402

ROOT = Path(__file__).parents[2]
DOMAIN = 1 + (os.getpid() + 50) % 100
NODES = {"motion_reference_node": "reference.yaml", "policy_node": "policy.yaml", "viz_node": "viz.yaml"}


def command_line(node, **parameters):
    arguments = [sys.executable, "-m", f"genmimic_ros.nodes.{node}", "--ros-args", "-r", "__ns:=/genmimic"]
    arguments += ["--params-file", str(ROOT / "config" / NODES[node])]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={value}"]
    return arguments


class World:
    """A robot that stands still, a safety monitor that says `mode`, and ears."""

    def __init__(self):
        self.context = rclpy.Context()
        self.context.init(domain_id=DOMAIN)
        self.node = rclpy.create_node("world", namespace="/genmimic", context=self.context)
        self.executor = make_executor(self.context)
        self.executor.add_node(self.node)
        self.state_pub = self.node.create_publisher(RobotStateMsg, "robot_state", STREAM_PUB)
        self.safety_pub = self.node.create_publisher(SafetyStatus, "safety_status", STATUS_PUB)
        self.goals, self.commands, self.statuses, self.markers, self.joints, self.models = [], [], [], [], [], []
        self.diagnostics = []
        for kind, topic, heard, qos in (
            (GoalKeypoints, "goal_keypoints", self.goals, RECORD_SUB),
            (JointCommand, "joint_command", self.commands, RECORD_SUB),
            (PolicyStatus, "policy_status", self.statuses, RECORD_SUB),
            (MarkerArray, "markers", self.markers, 10),
            (DiagnosticArray, "/diagnostics", self.diagnostics, 10),
            (JointState, "/joint_states", self.joints, 10),
            (String, "/robot_description", self.models, STATUS_SUB),
        ):
            self.node.create_subscription(kind, topic, heard.append, qos)
        self.load_motion = self.node.create_client(LoadMotion, "load_motion")
        self.mode, self.alive, self.tick = Mode.DISARMED, True, 0
        self.thread = TickThread(100.0, self.on_tick, priority=0)
        self.thread.start()

    def on_tick(self, now_ns):
        self.tick += 1
        if not self.alive:
            return
        zero = np.zeros(23)
        state = RobotState(
            time.time_ns(), self.tick, ROBOT.default_joint_pos, zero, zero, zero, np.array([1.0, 0, 0, 0]),
            np.zeros(3), np.array([0, 0, 9.81]), 0.9, np.array([2.0, 0.0, ROBOT.standing_height]),
        )  # fmt: skip
        self.state_pub.publish(state_to_msg(state, self.mode))
        if self.tick % 2 == 0:
            self.safety_pub.publish(safety_to_msg(Safety(self.mode, (), self.tick, float("nan"))))

    def spin(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.executor.spin_once(timeout_sec=0.05)

    def wait(self, condition, seconds=30.0):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "gave up waiting"
            self.executor.spin_once(timeout_sec=0.05)

    def enter(self, mode, seconds):
        """Stay in a mode and return the goals and commands heard in it, without those of the change."""
        self.mode = mode
        self.spin(0.3)
        self.goals.clear()
        self.commands.clear()
        self.spin(seconds)
        return list(self.goals), list(self.commands)

    def load(self, name):
        future = self.load_motion.call_async(LoadMotion.Request(motion=name))
        self.wait(future.done, 10.0)
        return future.result()

    def close(self):
        self.thread.stop()
        self.executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture(scope="module")
def world(hold_policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "ROS_LOG_DIR": str(folder)}
    given = {"motion_reference_node": {"motion": "wave"}, "policy_node": {"policy": hold_policy}, "viz_node": {}}
    children = []
    for node, parameters in given.items():
        with (folder / f"{node}.log").open("w") as log:
            command = command_line(node, **parameters)
            children.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
    world = World()
    try:
        world.wait(lambda: world.goals and world.statuses and world.markers, 40.0)
        yield world
    finally:
        world.close()
        for child in children:
            child.terminate()
        codes = [child.wait(10.0) for child in children]
    assert codes == [0, 0, 0]


def test_disarmed_nothing_is_commanded_and_the_goal_stands_where_the_robot_is(world):
    goals, commands = world.enter(Mode.DISARMED, 1.0)
    assert not commands
    assert 25 <= len(goals) <= 60
    assert {(goal.phase, goal.motion) for goal in goals} == {(GoalKeypoints.IDLE, "")}
    assert goal_from_msg(goals[-1]).root_pos[0] == pytest.approx(2.0, abs=0.01)
    assert world.statuses[-1].state == PolicyStatus.READY


def test_standing_has_commands_ready_before_they_are_applied(world):
    _, commands = world.enter(Mode.STANDING, 1.0)
    assert 25 <= len(commands) <= 60
    numbers = [command.sequence for command in commands]
    assert numbers == sorted(set(numbers))
    np.testing.assert_allclose(commands[-1].position, ROBOT.default_joint_pos, atol=1e-6)  # the policy says zero
    np.testing.assert_allclose(commands[-1].kp, ROBOT.kp)


def test_the_motion_plays_pauses_goes_on_and_stops(world):
    world.enter(Mode.READY, 0.2)
    goals, commands = world.enter(Mode.MIMIC, 2.5)
    assert {goal.motion for goal in goals} == {"wave"} and len(commands) > 60
    assert {goal.phase for goal in goals} == {GoalKeypoints.BLEND_IN, GoalKeypoints.PLAYING}
    frames = [goal.frame for goal in goals if goal.phase == GoalKeypoints.PLAYING]
    assert frames == sorted(set(frames)) and frames[0] <= 5  # each once; a stream may lose some on a busy machine
    world.statuses.clear()
    held, commands = world.enter(Mode.HOLD, 0.6)
    assert {(goal.phase, goal.frame) for goal in held} == {(GoalKeypoints.PAUSED, held[0].frame)}
    assert len(commands) > 20  # the policy keeps balancing
    assert world.statuses[-1].tracking_error_m > 0.01  # an arm is up, the robot's is not
    refused = world.load("squat")
    assert not refused.success and "playing" in refused.message
    again, _ = world.enter(Mode.MIMIC, 0.2)
    assert again[0].phase == GoalKeypoints.PLAYING and again[0].frame > held[0].frame
    back, _ = world.enter(Mode.READY, 0.2)
    assert {goal.phase for goal in back} == {GoalKeypoints.BLEND_OUT}
    world.wait(lambda: world.goals[-1].phase == GoalKeypoints.IDLE, 5.0)


def test_loading_a_motion_answers_in_one_line(world):
    world.enter(Mode.READY, 0.1)
    bad = world.load("nowhere.npz")
    assert not bad.success and "nowhere.npz" in bad.message and "\n" not in bad.message
    good = world.load("squat")
    assert good.success and "squat" in good.message
    goals, _ = world.enter(Mode.MIMIC, 0.3)
    assert {goal.motion for goal in goals} == {"squat"}
    world.enter(Mode.DAMPED, 0.1)


def test_stale_state_stops_the_commands(world):
    _, commands = world.enter(Mode.READY, 0.3)
    assert commands
    world.alive = False
    world.spin(0.4)
    world.commands.clear()
    world.statuses.clear()
    world.spin(0.5)
    world.alive = True
    assert not world.commands
    assert world.statuses[-1].state == PolicyStatus.STALE and "robot state is" in world.statuses[-1].message
    _, commands = world.enter(Mode.READY, 0.3)
    assert commands


def test_the_status_holds_every_tick(world):
    world.statuses.clear()
    world.enter(Mode.READY, 1.5)
    first, last = world.statuses[0], world.statuses[-1]
    reported = sum(len(status.tick_period_ms) for status in world.statuses[1:])
    assert reported == last.ticks - first.ticks
    assert {len(status.tick_latency_ms) for status in world.statuses} == {5}
    assert np.median(np.concatenate([status.tick_period_ms for status in world.statuses])) == pytest.approx(20, abs=1)
    assert 0.0 < last.latency_ms_p50 < 200.0 and last.compute_ms_p50 > 0.0 and last.inference_ms > 0.0


def test_what_rviz_needs_is_there(world):
    world.enter(Mode.READY, 0.5)
    kinds = {marker.ns: marker for marker in world.markers[-1].markers}
    assert {"robot_keypoints", "goal_keypoints", "errors", "mode", "contacts"} <= set(kinds)
    assert len(kinds["goal_keypoints"].points) == 27 and len(kinds["errors"].points) == 54
    assert kinds["mode"].text.startswith("READY") and kinds["mode"].header.frame_id == "odom"
    assert list(world.joints[-1].name) == list(ROBOT.joint_names)
    world.wait(lambda: bool(world.models), 5.0)  # latched: it was published before we listened
    assert world.models[0].data.count("<joint") >= 23
    heard = {name for name, _ in world.node.get_topic_names_and_types()}
    shown = yaml.safe_load((ROOT / "rviz" / "genmimic.rviz").read_text())["Visualization Manager"]
    topics = [d.get("Topic", d.get("Description Topic", {})).get("Value") for d in shown["Displays"]]
    assert {topic for topic in topics if topic} == {"/genmimic/markers", "/robot_description"} <= heard
    assert shown["Global Options"]["Fixed Frame"] == kinds["mode"].header.frame_id


def test_diagnostics_tell_policy_and_robot_and_say_when_they_are_silent(world):
    world.enter(Mode.READY, 0.3)

    def told():
        return {status.name: status for msg in world.diagnostics[-1:] for status in msg.status}

    world.wait(lambda: told().get("genmimic: robot") and told()["genmimic: robot"].level == DiagnosticStatus.OK, 10.0)
    robot, policy = told()["genmimic: robot"], told()["genmimic: policy"]
    assert {value.key for value in robot.values} >= {"bridge's mode", "battery [%]", "hottest motor [C]"}
    assert {value.key for value in policy.values} >= {"period p99 [ms]", "missed", "tracking error [m]"}
    world.alive = False
    world.wait(lambda: told()["genmimic: robot"].level == DiagnosticStatus.STALE, 10.0)
    world.alive = True
    assert "no robot_state" in told()["genmimic: robot"].message


@pytest.mark.parametrize(
    ("node", "parameters", "words"),
    [
        ("motion_reference_node", {"motion": "nowhere"}, "nowhere: no such file"),
        ("policy_node", {"policy": "nowhere.onnx"}, "nowhere.onnx: no such file"),
        ("policy_node", {"policy": str(ROOT / "motions" / "wave.npz")}, "not a usable ONNX file"),
        ("policy_node", {"provider": "abacus"}, "expected one of cpu, cuda, tensorrt"),
        ("viz_node", {"rate_hz": 1000.0}, "is 1000, expected 1 to 60 Hz"),
    ],
)
def test_a_bad_parameter_is_one_line_and_exit_code_2(node, parameters, words, tmp_path):
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "ROS_LOG_DIR": str(tmp_path)}
    command = command_line(node, **parameters)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and words in lines[0], done.stderr
