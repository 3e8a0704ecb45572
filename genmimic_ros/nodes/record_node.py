# SPDX-License-Identifier: Apache-2.0
"""record_node: keeps everything that is said, as MCAP. Nothing depends on it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node

from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.policy import find_policy, find_shipped, shipped_places
from genmimic.record.schema import parse_fields, text_from_fields, whole_definition
from genmimic.record.writer import NAME, Attachments, Channel, Facts, Limits, RecordWriter
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import RECORD_STREAM_SUB, RECORD_SUB_LATCHED, run_node, set_realtime

PRIORITY = 20
"""Real-time priority of the threads that receive, where permitted: below all that moves the robot, above the rest.

On a busy machine, messages would be lost without: measured in docs/recording.md.
"""

NICENESS = 5
"""Of the thread that compresses and writes, where real-time priority is not permitted."""

MAX_ATTACHMENT_BYTES = 32 * 1024 * 1024

_TOPICS = (
    "goal_keypoints genmimic_ros/msg/GoalKeypoints stream",
    "robot_state genmimic_ros/msg/RobotState stream",
    "joint_command genmimic_ros/msg/JointCommand stream",
    "policy_status genmimic_ros/msg/PolicyStatus status",
    "safety_status genmimic_ros/msg/SafetyStatus status",
    "gantry/tension std_msgs/msg/Float32 stream",
    "markers visualization_msgs/msg/MarkerArray stream",
    "/joint_states sensor_msgs/msg/JointState stream",
    "/tf tf2_msgs/msg/TFMessage stream",
    "/robot_description std_msgs/msg/String status",
    "/diagnostics diagnostic_msgs/msg/DiagnosticArray stream",
)
_TOPIC = re.compile(r"^(?P<topic>~?[\w/]+)\s+(?P<type>\w+/msg/\w+)\s+(?P<how>stream|status)$")


@dataclass(frozen=True)
class RecordParams:
    """Parameters of record_node."""

    path: str = parameter("", "File to write, *.mcap; reports/MOTION-TIME/run.mcap when empty")
    topics: tuple[str, ...] = parameter(_TOPICS, "Topic, type and how it is heard (stream or status) of each")
    split_size_mb: float = parameter(2048.0, "Size at which a new file begins", unit="MB", low=0.01, high=1e6)
    split_minutes: float = parameter(60.0, "Age at which a new file begins", unit="min", low=0.001, high=1440)
    keep_files: int = parameter(0, "How many files are kept, the newest; 0: all", low=0, high=100000)
    min_free_mb: float = parameter(200.0, "With less left on the disk, recording ends", unit="MB", low=0, high=1e6)
    motion: str = parameter("", "Motion that will be played, to be kept with its hash; none when empty")
    policy: str = parameter("", "Policy that will run, for its hash; the shipped student when empty")
    robot: str = parameter("sim", "Which robot, for the record", choices=("sim", "g1"))
    asked: str = parameter("", "What the user asked for, for the record, such as the command line")
    report: str = parameter("", "File to put inside at the end, if it has been written by then; none when empty")


class RecordNode(Node):
    """Hears serialized messages and hands them on; reads none."""

    def __init__(self) -> None:
        super().__init__("record_node")
        self._params = params = declare_parameters(self, RecordParams)
        self._began_s = time.time()
        path = Path(params.path) if params.path else _default_path(params.motion)
        limits = Limits(params.split_size_mb, params.split_minutes, params.keep_files, params.min_free_mb)
        heard: list[tuple[Channel, type]] = []
        for line in params.topics:
            found = _TOPIC.match(line.strip())
            if found is None:
                raise ConfigError(f"topics of record_node: {line!r}, expected 'TOPIC PACKAGE/msg/NAME stream|status'")
            try:
                cls = message_class(found["type"])
            except ImportError:
                self.get_logger().info(f"{found['type']} is not installed: {found['topic']} is not recorded")
                continue
            topic = self.resolve_topic_name(found["topic"])
            heard.append((Channel(topic, found["type"], definition_of(found["type"]), found["how"] == "status"), cls))
        facts, attachments = _facts(params)
        warn = self.get_logger().error  # for people, though the robot does not mind
        self._writer = RecordWriter(path, [channel for channel, _ in heard], facts, attachments, limits, NICENESS, warn)
        for number, (channel, cls) in enumerate(heard):
            qos = RECORD_SUB_LATCHED if channel.latched else RECORD_STREAM_SUB
            self.create_subscription(cls, channel.topic, self._keep(number), qos, raw=True)
        self.get_logger().info(f"recording {len(heard)} topics to {path}")

    def _keep(self, number: int) -> Callable[[bytes], None]:
        add, now_ns = self._writer.add, time.time_ns

        def keep(data: bytes) -> None:
            add(number, data, now_ns())

        return keep

    def destroy_node(self) -> None:
        """Stop hearing, and end the recording in good order."""
        super().destroy_node()
        attachments: dict[str, tuple[str, bytes]] = {}
        outcome = {"ended": _utc(time.time()), "dropped": str(self._writer.counts.dropped)}
        report = Path(self._params.report) if self._params.report else None
        if report is not None and report.is_file() and report.stat().st_mtime >= self._began_s:
            data = _content(report)
            if data:
                attachments["report.json"] = ("application/json", data)
                with contextlib.suppress(ValueError, AttributeError):
                    outcome["success"] = str(json.loads(data).get("success")).lower()
        self._writer.close({f"{NAME}.end": outcome}, attachments)
        counts = self._writer.counts
        print(f"record_node: {counts.messages} messages, {counts.bytes / 1e6:.1f} MB, {len(counts.files)} file(s), "
              f"{counts.dropped} dropped", flush=True)  # fmt: skip


def message_class(name: str) -> type:
    """Return the class of ``package/msg/Name``. Raises ImportError."""
    package, _, short = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), short)  # type: ignore[no-any-return]
    except AttributeError:
        raise ImportError(f"{package} has no message {short}") from None


def definition_of(name: str) -> str:
    """Return the text of a message and of all inside it: as written where that is installed, else by its class.

    Raises:
        ImportError: A message is not installed.
    """
    return whole_definition(name, _text_of)


def _text_of(short: str) -> str:
    package, name = short.split("/")
    cls: Any = message_class(f"{package}/msg/{name}")
    fields = cls.get_fields_and_field_types()
    constants = getattr(type(cls), f"_{type(cls).__name__}__constants", {})
    kinds = {bool: "bool", int: "int64", float: "float64", str: "string"}
    made = {
        name: (kinds[type(value)], f'"{value}"' if isinstance(value, str) else value)
        for name, value in constants.items()
        if type(value) in kinds
    }
    by_class = text_from_fields(fields, made)
    wanted = parse_fields(by_class, package)
    for prefix in _prefixes():
        file = prefix / "share" / package / "msg" / f"{name}.msg"
        with contextlib.suppress(OSError, GenMimicError, UnicodeDecodeError):
            text = file.read_text(encoding="utf-8")
            if parse_fields(text, package) == wanted:  # else it was edited since it was built
                return text
    return by_class


def _prefixes() -> list[Path]:
    given = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return [Path(prefix) for prefix in [*given, sys.prefix] if prefix]


def _facts(params: RecordParams) -> tuple[Facts, Attachments]:
    """Return what is known before the first message, and the files it is known from."""
    from genmimic.evaluate.report import file_sha256, versions

    facts = {
        "started": _utc(time.time()),
        "robot": params.robot,
        "asked": params.asked,
        "ros_distro": os.environ.get("ROS_DISTRO", ""),
        "rmw": os.environ.get("RMW_IMPLEMENTATION", ""),
    }
    attachments: dict[str, tuple[str, bytes]] = {}
    with contextlib.suppress(GenMimicError, OSError):
        policy = find_policy(params.policy or None)
        facts.update(policy=policy.stem, policy_sha256=file_sha256(policy))
    if params.motion:
        with contextlib.suppress(GenMimicError, OSError):
            motion = find_shipped(params.motion, "motions", ".npz")
            data = _content(motion)
            facts.update(motion=motion.stem, motion_sha256=hashlib.sha256(data).hexdigest())
            attachments["motion.npz"] = ("application/zip", data)
    for place in shipped_places():
        files = sorted((place / "config").glob("*.yaml"))
        if files:
            attachments.update({f"config/{file.name}": ("application/yaml", _content(file)) for file in files})
            break
    return {NAME: facts, f"{NAME}.versions": versions()}, attachments


def _content(path: Path) -> bytes:
    """Return a file's content, nothing when it is missing or too large to keep."""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_ATTACHMENT_BYTES else b""
    except OSError:
        return b""


def _default_path(motion: str) -> Path:
    name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in Path(motion).stem or "run")
    return Path("reports") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}" / "run.mcap"


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    set_realtime(PRIORITY)  # before ROS makes its threads, which inherit it
    return run_node(RecordNode, argv, realtime=False)


if __name__ == "__main__":
    sys.exit(main())
