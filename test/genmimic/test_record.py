# SPDX-License-Identifier: Apache-2.0
"""Recordings without ROS: what is written can be read, by others too, and what a crash leaves, and a full disk."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need mcap")

from genmimic.core.director import ReferenceDirector
from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.modes import Mode
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.evaluate.metrics import rollout_metrics
from genmimic.evaluate.report import track_of
from genmimic.record import writer as writing
from genmimic.record.messages import goal_of, state_of
from genmimic.record.reader import Recording, recover
from genmimic.record.schema import Decoder, parse_definition, short_name, text_from_fields, whole_definition
from genmimic.record.trajectory import log_of, takes
from genmimic.record.writer import Channel, Limits, RecordWriter

MESSAGES = Path(__file__).parents[2] / "msg"
FOREIGN = {
    "std_msgs/Header": "builtin_interfaces/Time stamp\nstring frame_id\n",
    "builtin_interfaces/Time": "int32 sec\nuint32 nanosec\n",
    "geometry_msgs/Point": "# a point\nfloat64 x\nfloat64 y\nfloat64 z\n",
    "geometry_msgs/Vector3": "float64 x\nfloat64 y\nfloat64 z\n",
    "geometry_msgs/Quaternion": "float64 x 0\nfloat64 y 0\nfloat64 z 0\nfloat64 w 1\n",
    "geometry_msgs/Pose": "Point position\nQuaternion orientation\n",
    "geometry_msgs/Twist": "Vector3 linear\nVector3 angular\n",
}
TEXT = Channel("/talk", "test_msgs/msg/Text", "string data\nuint32 number\n")


def definition(name):
    own = {f"genmimic_ros/{file.stem}": file.read_text() for file in MESSAGES.glob("*.msg")}
    return whole_definition(name, lambda short: {**own, **FOREIGN}[short])


class Encoder:
    """CDR the slow way, from nested dicts: the other side of what is tested."""

    KINDS = {"bool": "?", "uint8": "B", "int32": "i", "uint32": "I", "uint64": "Q", "float32": "f", "float64": "d"}

    def __init__(self, name):
        self.name = short_name(name)
        self.types = parse_definition(name, definition(name))

    def __call__(self, **values):
        self.out = b""
        self.write(self.name, values)
        return b"\x00\x01\x00\x00" + self.out

    def write(self, kind, value):
        if kind in self.KINDS:
            width = struct.calcsize(self.KINDS[kind])
            self.out += b"\x00" * (-len(self.out) % width) + struct.pack("<" + self.KINDS[kind], value)
        elif kind == "string":
            self.write("uint32", len(value.encode()) + 1)
            self.out += value.encode() + b"\x00"
        else:
            for field in self.types[kind]:
                blank = [0] * max(field.size or 0, 0) if field.type in self.KINDS else [{}] * max(field.size or 0, 0)
                blank = [""] * len(blank) if field.type == "string" else blank
                one = 0 if field.type in self.KINDS else "" if field.type == "string" else {}
                given = value.get(field.name, one if field.size is None else blank)
                if field.size is None:
                    self.write(field.type, given)
                    continue
                if field.size < 0:
                    self.write("uint32", len(given))
                for each in given:
                    self.write(field.type, each)


def talk(number):
    return text(f"word {number}", number)


def text(words, number):
    body = struct.pack("<I", len(words) + 1) + words.encode() + b"\x00"
    return b"\x00\x01\x00\x00" + body + b"\x00" * (-len(body) % 4) + struct.pack("<I", number)


def test_definitions_are_read_with_comments_constants_bounds_and_defaults():
    text = (
        "# it's a comment\nuint8 A=1   # one\nstring<=5 short\nfloat64[<=3] few\nint8[2] pair\n"
        'string word "a # b"\nHeader header\nPart[] parts  # many\n'
        f"{'=' * 80}\nMSG: std_msgs/Header\nstring frame_id\n{'=' * 80}\nMSG: pack/Part\nbool yes\n"
    )
    fields = parse_definition("pack/msg/Whole", text)["pack/Whole"]
    assert [tuple(field) for field in fields] == [
        ("short", "string", None), ("few", "float64", -1), ("pair", "int8", 2), ("word", "string", None),
        ("header", "std_msgs/Header", None), ("parts", "pack/Part", -1),
    ]  # fmt: skip
    made = text_from_fields({"a": "sequence<double, 3>", "b": "string<4>", "c": "geometry_msgs/Point[2]", "d": "octet"})
    assert made == "float64[<=3] a\nstring<=4 b\ngeometry_msgs/Point[2] c\nbyte d\n"
    with pytest.raises(InputFileError, match="pack/Part is used and not defined"):
        parse_definition("pack/msg/Whole", "Part part\n")
    with pytest.raises(InputFileError, match="holds itself"):
        Decoder("pack/msg/Whole", "Whole again\n")


def test_our_messages_are_read_as_the_librarys_types():
    goal = goal_of_standing()
    data = encode_goal(goal)
    again = goal_of(Decoder("genmimic_ros/msg/GoalKeypoints", definition("genmimic_ros/GoalKeypoints"))(data))
    np.testing.assert_array_equal(again.keypoint_pos, goal.keypoint_pos)
    np.testing.assert_allclose(again.horizon_keypoint_pos, goal.horizon_keypoint_pos, atol=1e-6)
    np.testing.assert_array_equal(again.root_quat, goal.root_quat)
    assert (again.phase, again.frame, again.motion) == (goal.phase, goal.frame, goal.motion)

    read = Decoder("genmimic_ros/msg/RobotState", definition("genmimic_ros/RobotState"))
    state = state_of(read(encode_state(np.arange(23.0), (1.0, 2.0, 3.0), link_faults=["rule: text", "b"])))
    np.testing.assert_array_equal(state.joint_pos, np.arange(23.0))
    assert state.link_faults == ("rule: text", "b") and state.root_pos_w.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(InputFileError, match="does not fit genmimic_ros/msg/RobotState"):
        read(encode_state(np.zeros(23), (0.0, 0.0, 0.0))[:-9])


def test_what_is_written_is_read_by_us_and_by_others(tmp_path):
    path = tmp_path / "run.mcap"
    with RecordWriter(path, [TEXT], {"genmimic": {"policy": "p"}}, {"a.txt": ("text/plain", b"hello")}) as writer:
        for number in range(500):
            writer.add(0, talk(number), 10**9 * (number + 1), 10**9 * (number + 1) - 5)
        assert writer.close({"genmimic.end": {"success": "true"}}, {"report.json": ("application/json", b'{"a": 1}')})
    recording = Recording(tmp_path)  # the folder will do
    assert recording.whole and recording.topics["/talk"].count == 500 and recording.duration_s == pytest.approx(499.0)
    assert recording.facts == {"genmimic": {"policy": "p", "part": "0"}, "genmimic.end": {"success": "true"}}
    assert recording.attachments["a.txt"] == b"hello" and recording.report == {"a": 1}
    found = list(recording.messages(["talk"], start_ns=10**9 * 101, end_ns=10**9 * 104))
    assert [(each.message.data, each.message.number) for each in found] == [(f"word {n}", n) for n in (100, 101, 102)]
    assert found[0].publish_ns == found[0].log_ns - 5
    assert not list(recording.messages(["nothing"]))

    mcap_reader = pytest.importorskip("mcap.reader")
    with path.open("rb") as file:
        reader = mcap_reader.make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        assert sum(1 for _ in reader.iter_messages()) == 500
    rosbags = pytest.importorskip("rosbags.highlevel", reason="rosbags is not installed")
    with rosbags.AnyReader([path]) as bag:
        assert bag.message_count == 500
        connection, _, raw = next(iter(bag.messages()))
        assert bag.deserialize(raw, connection.msgtype).data == "word 0"


CRASH = """
import sys, time
from genmimic.record.writer import Channel, RecordWriter
writer = RecordWriter(sys.argv[1], [Channel("/talk", "test_msgs/msg/Time", "uint64 at_ns")])
print("up", flush=True)
while True:
    now = time.time_ns()
    writer.add(0, b"\\0\\1\\0\\0" + now.to_bytes(8, "little"), now)
    time.sleep(0.002)
"""


def test_kill_9_loses_at_most_a_second_and_the_rest_can_be_mended(tmp_path):
    path = tmp_path / "run.mcap"
    process = subprocess.Popen([sys.executable, "-c", CRASH, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    time.sleep(1.7)
    process.send_signal(signal.SIGKILL)
    killed = time.time()
    process.wait()
    recording = Recording(path)
    stamps = [each.message.at_ns for each in recording.messages()]
    lost = killed - 1e-9 * stamps[-1]
    print(f"kill -9: the last {lost:.2f} s are lost")
    assert not recording.whole and lost < 1.0 and stamps == sorted(stamps)
    assert recover(path, tmp_path / "mended.mcap") == len(stamps)
    mended = Recording(tmp_path / "mended.mcap")
    assert mended.whole and mended.topics["/talk"].count == len(stamps)
    with pytest.raises(InputFileError, match="is the recording itself"):
        recover(path, path)


def test_every_cut_of_a_file_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "run.mcap"
    with RecordWriter(path, [TEXT]) as writer:
        for number in range(2000):
            writer.add(0, talk(number), number)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for end in [8, 9, 60, *rng.integers(60, len(whole), 12)]:
        path.write_bytes(whole[:end])
        assert [each.message.number for each in Recording(path).messages()] in ([], list(range(2000)))
    (tmp_path / "run.mcap").write_bytes(b"no recording at all")
    with pytest.raises(InputFileError, match="not an MCAP file"):
        Recording(path)
    with pytest.raises(InputFileError, match="no such recording"):
        Recording(tmp_path / "nowhere.mcap")


def test_a_recording_is_split_by_size_and_the_oldest_go(tmp_path):
    path = tmp_path / "run.mcap"
    (tmp_path / "run_007.mcap").write_bytes(b"of an earlier run")
    latched = Channel("/model", "test_msgs/msg/Text", TEXT.definition, latched=True)
    rng = np.random.default_rng(0)
    with RecordWriter(path, [latched, TEXT], limits=Limits(split_size_mb=0.02)) as writer:
        writer.add(0, talk(7), 0)
        number = 0
        while len(writer.counts.files) < 4 and number < 200_000:
            writer.add(1, text(rng.bytes(100).hex(), number), number + 1)
            number += 1
            if number % 200 == 0:
                time.sleep(0.05)
    assert writer.failure is None
    assert not (tmp_path / "run_007.mcap").exists()
    recording = Recording(path)
    assert len(recording.parts) == len(writer.counts.files) >= 4 and all(part.is_file() for part in recording.parts)
    assert [each.message.number for each in recording.messages(["talk"])] == list(range(number))
    for part in recording.parts:  # each stands for itself
        assert next(Recording(part).messages(["model"])).message.number == 7
    with pytest.raises(ConfigError, match="split_size_mb"):
        Limits(split_size_mb=0.0)


class FullDisk:
    """os.write, until the disk is full."""

    def __init__(self, room):
        self.room, self.write = room, os.write

    def __call__(self, handle, data):
        if self.room <= 0:
            raise OSError(28, "No space left on device")
        written = self.write(handle, bytes(data[: self.room]))
        self.room -= written
        return written


def test_a_writer_that_never_catches_up_still_gets_what_it_wrote_to_the_disk(tmp_path, monkeypatch):
    """A busy machine: each message takes longer to write than the next takes to come."""
    monkeypatch.setattr(writing, "FLUSH_S", 0.02)
    path = tmp_path / "run.mcap"
    writer = RecordWriter(path, [TEXT])
    before = path.stat().st_size
    genuine, sizes = writer._file.add, []

    def slow(channel, data, *times):
        if len(sizes) < 400:
            writer.add(0, data, times[0])
            sizes.append(path.stat().st_size)
        time.sleep(0.001)
        genuine(channel, data, *times)

    monkeypatch.setattr(writer._file, "add", slow)
    writer.add(0, talk(0), 1)
    until = time.monotonic() + 60.0
    while len(sizes) < 400 and time.monotonic() < until:
        time.sleep(0.01)
    assert writer.close(timeout_s=60.0) and writer.counts.messages == 401
    assert sizes[0] <= before < sizes[-1]  # while the queue was never empty


def test_a_full_disk_ends_the_recording_with_one_warning_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(writing.os, "write", FullDisk(250_000))
    warnings = []
    path = tmp_path / "run.mcap"
    rng = np.random.default_rng(0)
    writer = RecordWriter(path, [TEXT], warn=warnings.append)
    until = time.monotonic() + 20.0
    number = 0
    while writer.failure is None and time.monotonic() < until:
        writer.add(0, text(rng.bytes(500).hex(), number), number)
        number += 1
        time.sleep(0.001)
    writer.add(0, talk(0), 0)
    assert not writer.close() and writer.failure == "No space left on device"
    assert warnings == [f"recording to {path} has ended early: No space left on device; the run goes on without it"]
    kept = [each.message.number for each in Recording(path).messages()]
    assert kept == list(range(len(kept))) and 0 < len(kept) < number


def test_recording_ends_before_the_disk_is_full(tmp_path):
    warnings = []
    writer = RecordWriter(tmp_path / "run.mcap", [TEXT], limits=Limits(min_free_mb=1e12), warn=warnings.append)
    writer.add(0, talk(1), 1)
    until = time.monotonic() + 20.0
    while writer.failure is None and time.monotonic() < until:
        time.sleep(0.05)
    writer.close()
    assert len(warnings) == 1 and "MB left" in warnings[0]
    assert Recording(tmp_path / "run.mcap").whole  # ended in good order


# trajectories ----------------------------------------------------------------------------------
def goal_of_standing():
    return ReferenceDirector(ROBOT).step(Mode.READY)


def encode_goal(goal):
    phases = {"idle": 0, "blend_in": 1, "playing": 2, "blend_out": 3, "done": 4, "paused": 5}
    w, x, y, z = goal.root_quat
    return Encoder("genmimic_ros/msg/GoalKeypoints")(
        motion=goal.motion, frame=goal.frame, total_frames=goal.frames, phase=phases[goal.phase.value],
        names=list(ROBOT.keypoint_names), points=[dict(zip("xyz", point, strict=True)) for point in goal.keypoint_pos],
        root_pose={"position": dict(zip("xyz", goal.root_pos, strict=True)),
                   "orientation": {"x": x, "y": y, "z": z, "w": w}},
        joint_position=goal.joint_pos, horizon_points=goal.horizon_keypoint_pos.ravel(),
    )  # fmt: skip


def encode_state(joint_pos, root_pos, root_quat=(1.0, 0.0, 0.0, 0.0), truth=True, **more):
    w, x, y, z = root_quat
    quat = {"x": x, "y": y, "z": z, "w": w}
    return Encoder("genmimic_ros/msg/RobotState")(
        joint_position=joint_pos, imu_quaternion=quat, has_truth=truth,
        truth_root={"position": dict(zip("xyz", root_pos, strict=True)), "orientation": quat}, **more,
    )  # fmt: skip


def record_session(path, damp_at=None, offset=(0.0, 0.0, 0.0)):
    """Write a session in which the robot follows exactly, ``offset`` aside; return the goals."""
    frames = 21
    joint_pos = np.tile(ROBOT.default_joint_pos, (frames, 1))
    joint_pos[:, ROBOT.joint_idx(["left_elbow_joint"])[0]] += np.linspace(0.0, 0.3, frames)
    root_pos = np.tile([0.0, 0.0, ROBOT.standing_height], (frames, 1))
    quat = np.tile([1.0, 0, 0, 0], (frames, 1))
    director = ReferenceDirector(ROBOT)
    director.load(Motion.from_joints(ROBOT, CONTROL_RATE_HZ, joint_pos, root_pos, quat, "swing"))
    names = ("GoalKeypoints", "RobotState", "JointCommand", "SafetyStatus", "PolicyStatus")
    topics = ("goal_keypoints", "robot_state", "joint_command", "safety_status", "policy_status")
    channels = [
        Channel(f"/genmimic/{topic}", f"genmimic_ros/msg/{name}", definition(f"genmimic_ros/{name}"))
        for topic, name in zip(topics, names, strict=True)
    ]
    command, safety, policy = (Encoder(f"genmimic_ros/msg/{name}") for name in names[2:])
    goals = []
    with RecordWriter(path, channels) as writer:
        for step in range(400):
            at = 20_000_000 * (step + 1)
            mode = Mode.READY if step < 5 else Mode.MIMIC
            if goals and goals[-1].phase.value == "done":
                mode = Mode.READY
            if damp_at is not None and step >= damp_at:
                mode = Mode.DAMPED
            reasons = ["tilt: 80 deg"] if mode is Mode.DAMPED else []
            writer.add(3, safety(mode=int(mode), reasons=reasons, heartbeat=step, gantry_tension_n=1.0), at)
            goal = director.step(mode)
            goals.append(goal)
            writer.add(1, encode_state(goal.joint_pos, goal.root_pos + offset, goal.root_quat), at + 1)
            if step != 50:
                writer.add(2, command(sequence=step, raw_action=[0.5] * 23), at + 2)
            writer.add(0, encode_goal(goal), at + 3)
            if step % 5 == 4:
                ticks = {f"tick_{name}_ms": [20.0] * 5 for name in ("period", "compute", "latency")}
                writer.add(4, policy(ticks=step + 1, missed=step // 100, **ticks), at + 4)
            if damp_at is not None and step > damp_at + 10:
                break
            if damp_at is None and step > 20 and goal.phase.value == "idle" and not goal.motion:
                break
    return goals


def test_a_recording_becomes_the_trajectory_that_reports_use(tmp_path):
    record_session(tmp_path / "run.mcap", offset=(0.03, 0.04, 0.0))
    recording = Recording(tmp_path)
    (take,) = takes(recording)
    trajectory = take.trajectory(ROBOT)
    assert take.motion == "swing" and not take.damped and take.has_truth
    start, end = trajectory["motion_frames"]
    assert end - start == 21 and trajectory["action"][-1, 0] == 0.5
    metrics = rollout_metrics(track_of(trajectory), ROBOT)
    # 3 cm ahead and 4 cm aside are 5 cm off in the world; the pose is right
    assert metrics["mpkpe_cm"] == pytest.approx(5.0, abs=1e-3) and metrics["lmpkpe_cm"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["no_fall"] and metrics["drift_m"] == pytest.approx(0.05, abs=1e-5)


def test_a_damped_take_counts_as_a_fall_and_the_log_says_why(tmp_path):
    record_session(tmp_path / "run.mcap", damp_at=60)
    recording = Recording(tmp_path)
    (take,) = takes(recording)
    trajectory = take.trajectory(ROBOT)
    assert take.damped
    assert trajectory is None or (trajectory["fell"][-1] and not trajectory["fell"][:-1].any())
    log = log_of(recording)
    assert [event.mode for event in log.events] == [Mode.READY, Mode.MIMIC, Mode.DAMPED]
    assert log.events[-1].reasons == ("tilt: 80 deg",)
    assert log.lost == {"safety_status": 0, "joint_command": 1}
    assert len(log.tick_period_ms) == log.ticks and (log.tick_period_ms == 20.0).all()
