# SPDX-License-Identifier: Apache-2.0
"""record_node as a process: what it hears is in the file, whichever way it ends, and nobody has to wait for it."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=1)]
rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")
pytest.importorskip("mcap", reason="recordings need mcap")

import yaml  # noqa: E402
from std_msgs.msg import Float32  # noqa: E402

from genmimic.core.director import ReferenceDirector  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.record.messages import goal_of  # noqa: E402
from genmimic.record.reader import Recording  # noqa: E402
from genmimic.record.schema import parse_definition, short_name  # noqa: E402
from genmimic.record.writer import Channel, RecordWriter  # noqa: E402
from genmimic_ros.conversions import goal_from_msg, goal_to_msg  # noqa: E402
from genmimic_ros.msg import GoalKeypoints, SafetyStatus  # noqa: E402
from genmimic_ros.nodes.record_node import RecordParams, definition_of, message_class  # noqa: E402
from genmimic_ros.parameters import parameter_names  # noqa: E402
from genmimic_ros.runtime import RECORD_SUB, STATUS_PUB, STREAM_PUB, make_executor  # noqa: E402

ROOT = Path(__file__).parents[2]
DOMAIN = 100 + os.getpid() % 100


def start(path, *parameters):
    arguments = [sys.executable, "-m", "genmimic_ros.nodes.record_node", "--ros-args", "-r", "__ns:=/genmimic"]
    arguments += ["--params-file", str(ROOT / "config" / "record.yaml"), "-p", f"path:={path}"]
    for parameter in parameters:
        arguments += ["-p", parameter]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "ROS_LOG_DIR": str(path.parent)}
    return subprocess.Popen(
        arguments, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.fixture
def speaker():
    """A node that says goals, safety and tension, in the namespace of the others."""
    context = rclpy.Context()
    context.init(domain_id=DOMAIN)
    node = rclpy.create_node("speaker", namespace="/genmimic", context=context)
    node.goal_pub = node.create_publisher(GoalKeypoints, "goal_keypoints", STREAM_PUB)
    node.safety_pub = node.create_publisher(SafetyStatus, "safety_status", STATUS_PUB)
    node.tension_pub = node.create_publisher(Float32, "gantry/tension", STREAM_PUB)
    node.goal = goal_to_msg(ReferenceDirector(ROBOT).step(Mode.READY), 1)
    yield node
    node.destroy_node()
    context.shutdown()


def speak(node, process, count, first=0):
    """Say ``count`` of each once the recorder listens; return the longest time that publishing took, in s."""
    until = time.monotonic() + 60.0
    while node.goal_pub.get_subscription_count() == 0 or node.tension_pub.get_subscription_count() == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "the recorder never came"
        time.sleep(0.05)
    time.sleep(0.3)  # both sides know
    longest = 0.0
    for number in range(first, first + count):
        began = time.monotonic()
        node.goal.frame = number
        node.goal_pub.publish(node.goal)
        node.tension_pub.publish(Float32(data=float(number)))
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.01)
    return longest


def test_definitions_are_those_of_the_built_messages():
    params = yaml.safe_load((ROOT / "config" / "record.yaml").read_text())["/**/record_node"]["ros__parameters"]
    assert set(params) <= set(parameter_names(RecordParams))
    seen = 0
    for line in params["topics"]:
        name = line.split()[1]
        try:
            cls = message_class(name)
        except ImportError:
            continue  # tf2_msgs is not among the wheels
        seen += 1
        fields = parse_definition(name, definition_of(name))[short_name(name)]
        assert [field.name for field in fields] == list(cls.get_fields_and_field_types())
    assert seen >= 7


def test_what_is_said_is_kept_and_a_latched_word_too(tmp_path, speaker):
    speaker.safety_pub.publish(SafetyStatus(mode=SafetyStatus.READY, heartbeat=5))  # before it listens
    report = tmp_path / "report.json"
    process = start(tmp_path / "run.mcap", "motion:=wave", f"report:={report}", "asked:=a test")
    speak(speaker, process, 100)
    time.sleep(0.5)
    report.write_text('{"success": true}')
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and " 0 dropped" in out, out
    recording = Recording(tmp_path)
    assert recording.whole
    frames = [goal_of(each.message).frame for each in recording.messages(["goal_keypoints"])]
    assert frames == list(range(100))
    again = goal_of(next(recording.messages(["goal_keypoints"])).message)
    assert (again.keypoint_pos == goal_from_msg(speaker.goal).keypoint_pos).all()
    assert next(recording.messages(["safety_status"])).message.heartbeat == 5
    assert recording.topics["/genmimic/safety_status"].latched
    facts = recording.facts
    assert facts["genmimic"]["asked"] == "a test" and len(facts["genmimic"]["motion_sha256"]) == 64
    assert facts["genmimic.end"]["success"] == "true" and recording.report == {"success": True}
    assert recording.attachments["motion.npz"] == (ROOT / "motions" / "wave.npz").read_bytes()
    assert "config/safety.yaml" in recording.attachments


def test_a_stopped_or_killed_recorder_holds_nobody_up(tmp_path, speaker):
    process = start(tmp_path / "run.mcap")
    speak(speaker, process, 100)
    time.sleep(1.0)
    process.send_signal(signal.SIGSTOP)
    longest = speak(speaker, process, 100, first=100)
    process.kill()
    process.communicate()
    assert longest < 1.0  # on a busy machine; 330 ms is what a reader in shared memory could cost, docs/pitfalls.md
    recording = Recording(tmp_path)
    frames = [each.message.frame for each in recording.messages(["goal_keypoints"])]
    assert not recording.whole and frames[:100] == list(range(100))


def test_bad_parameters_are_one_line(tmp_path):
    process = start(tmp_path / "run.bag")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "ends in '.bag', expected .mcap" in out.splitlines()[-1]


def test_a_replay_publishes_what_was_recorded_and_never_beside_a_robot(tmp_path, speaker):
    def said(value):
        return b"\x00\x01\x00\x00" + struct.pack("<f", value)

    channels = [
        Channel("/genmimic/gantry/tension", "std_msgs/msg/Float32", definition_of("std_msgs/msg/Float32")),
        Channel("/genmimic/joint_command", "genmimic_ros/msg/JointCommand", "float32 data"),  # must not be sent
    ]
    with RecordWriter(tmp_path / "run.mcap", channels) as writer:
        for number in range(200):
            writer.add(0, said(number), 10_000_000 * (number + 1))
            writer.add(1, said(number), 10_000_000 * (number + 1))
    heard = []
    speaker.create_subscription(Float32, "gantry/tension", lambda msg: heard.append(msg.data), RECORD_SUB)
    executor = make_executor(speaker.context)
    executor.add_node(speaker)
    command = [sys.executable, "-m", "genmimic.cli", "replay", str(tmp_path), "--publish"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "ROS_LOG_DIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60.0
    while process.poll() is None and time.monotonic() < until:
        executor.spin_once(timeout_sec=0.1)
    _, err = process.communicate(timeout=1)
    assert process.returncode == 0 and "publishing 1 topics" in err
    assert heard[-1] == 199.0 and heard == sorted(heard) and len(heard) > 50  # the first few found nobody listening

    bridge = rclpy.create_node("g1_bridge_node", namespace="/genmimic", context=speaker.context)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    bridge.destroy_node()
    executor.shutdown(timeout_sec=1.0)
    # refused before anything is sent, or ended when the bridge is seen late
    assert done.returncode in (1, 2) and "a robot's bridge" in done.stderr
