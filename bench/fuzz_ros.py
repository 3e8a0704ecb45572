# SPDX-License-Identifier: Apache-2.0
"""Random, cut-off and odd messages into every ROS subscription of every node: none may end, nothing may move.

    python bench/fuzz_ros.py [--messages 2000] [--seed 0] [--domain 195]

Bridge (with its link and guard), policy, reference, monitor, viewer, markers and recorder run as in `genmimic mimic`,
against `genmimic twin`, DISARMED. What they listen to is asked of ROS, not listed here. A stranger then writes to each
topic: random bytes of the right and of any size, good messages cut off, good ones with a bit turned, good ones with
numbers that are none or huge, and typed ones with odd words and numbers in every field. Prints one JSON object; exit
code 0 when every node still runs and hears, and no command on the wire was ever stiff.

One kind is left out: a safety_status that is whole and says STANDING, READY, MIMIC or HOLD. It is no garbage but an
order, and is obeyed; ROS 2 topics are not signed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.signals import SignalHandlerOptions

from genmimic.core.modes import ARMED, Mode
from genmimic.core.robot import G1_23DOF
from genmimic_ros.drill import TwinProcess
from genmimic_ros.msg import GoalKeypoints, RobotState, SafetyStatus
from genmimic_ros.nodes.record_node import message_class
from genmimic_ros.runtime import STATUS_PUB, STATUS_SUB, STREAM_SUB, make_executor
from genmimic_ros.stack import NAMESPACE, NodeStack, prepare_environment

KINDS = ("random", "any size", "cut off", "a bit turned", "a number spoilt", "odd fields")

NUMBERS = (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\xff\xff", b"\xff\xff\x7f\x7f", b"\xff\xff\xff\x7f")
"""NaN, infinity, NaN and the largest count, the largest number of single precision, the largest signed integer."""

ODD = (math.nan, math.inf, -math.inf, 1e308, -1e38, 0.0)
WORDS = ("", "B", "\N{SNOWMAN}" * 50, "x" * 10_000, "waist_yaw_joint", "../../etc/passwd", "%s%n {}")

IGNORED = ("rosout", "parameter_events", "/clock")


def main() -> int:
    """Fuzz, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=2000, help="into each topic")
    parser.add_argument("--rate", type=float, default=500.0, help="messages a second, all topics together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", type=int, default=195, help="DDS domain between bridge and twin")
    parser.add_argument("--log", default="", help="file for what the nodes print")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genmimic-fuzz-") as scratch:
        prepare_environment(Path(scratch))
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            report = fuzz(args, Path(scratch))
        finally:
            rclpy.try_shutdown()
    print(json.dumps(report, indent=1))
    return 0 if report["good"] else 1


def fuzz(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Start the nodes, write so many messages to each of their topics, and return what became of them."""
    log = Path(args.log) if args.log else scratch / "nodes.log"
    log.write_text("")
    twin, node = TwinProcess(args.domain), rclpy.create_node("stranger", namespace=NAMESPACE)
    try:
        with NodeStack(log, scratch / "nodes") as stack:
            start(stack, scratch, args.domain)
            ears = Ears(node)
            ears.wait_for_all(60.0)
            topics = subscriptions(node, set(stack.pids))
            report = write(args, node, twin, ears, topics)
            ended = sorted(name for name, pid in stack.pids.items() if not runs(pid))
            silent = ears.silent(10.0)
            complaints = [line[:300] for line in stack.new_complaints()]
    finally:
        twin.close()
        node.destroy_node()
    report.update(nodes=sorted(stack.pids), ended=ended, silent=silent, errors=len(complaints), first=complaints[:5])
    report["good"] = not (ended or silent or report["stiffest"] or report["outside"])
    return report


def start(stack: NodeStack, scratch: Path, domain: int) -> None:
    """Start the nodes, as `genmimic mimic --robot g1 --viewer` does."""
    stack.start("g1_bridge_node", "bridge.yaml", robot="g1", interface="lo", dds_domain=domain)
    stack.start("policy_node", "policy.yaml")
    stack.start("motion_reference_node", "reference.yaml", motion="wave")
    stack.start("safety_node", "safety.yaml")
    stack.start("viz_node", "viz.yaml")
    stack.start("record_node", "record.yaml", path=str(scratch / "run.mcap"))
    stack.start("viewer_node", "viewer.yaml", port=0)


class Ears:
    """Hears whether the nodes still speak, apart from what the stranger says."""

    def __init__(self, node: Node) -> None:
        self._executor = make_executor(node.context)
        self._executor.add_node(node)
        self._told: dict[str, set[int]] = {}
        for cls, topic, qos, value in (
            (SafetyStatus, "safety_status", STATUS_SUB, lambda msg: msg.heartbeat),
            (RobotState, "robot_state", STREAM_SUB, lambda msg: msg.tick),
            (GoalKeypoints, "goal_keypoints", STREAM_SUB, lambda msg: msg.header.stamp.nanosec),
        ):
            node.create_subscription(cls, topic, self._hear(topic, value), qos)

    def _hear(self, topic: str, value: Any) -> Any:
        self._told[topic] = set()

        def hear(msg: Any) -> None:
            self._told[topic].add(value(msg))

        return hear

    def rest(self, seconds: float) -> None:
        """Listen for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def silent(self, within_s: float) -> list[str]:
        """Return the topics on which fewer than 20 different messages come within that time."""
        for values in self._told.values():
            values.clear()
        until = time.monotonic() + within_s
        while time.monotonic() < until and any(len(values) < 20 for values in self._told.values()):
            self.rest(0.1)
        return sorted(topic for topic, values in self._told.items() if len(values) < 20)

    def wait_for_all(self, seconds: float) -> None:
        """Wait until all speak."""
        silent = self.silent(seconds)
        if silent:
            raise SystemExit(f"nothing is heard on {', '.join(silent)}")
        self.rest(2.0)


def subscriptions(node: Node, names: set[str]) -> dict[str, str]:
    """Return what the nodes listen to: topic, and type."""
    found: dict[str, str] = {}
    for name, namespace in node.get_node_names_and_namespaces():
        if name in names:
            for topic, kinds in node.get_subscriber_names_and_types_by_node(name, namespace):
                if not topic.endswith(IGNORED):
                    found[topic] = kinds[0]
    return found


def write(
    args: argparse.Namespace, node: Node, twin: TwinProcess, ears: Ears, topics: dict[str, str]
) -> dict[str, Any]:
    """Write, and return what was written and what reached the robot meanwhile."""
    rng = np.random.default_rng(args.seed)
    kinds = {topic: message_class(kind) for topic, kind in topics.items()}
    writers = {topic: node.create_publisher(cls, topic, STATUS_PUB) for topic, cls in kinds.items()}
    good = {topic: serialize_message(example(cls)) for topic, cls in kinds.items()}
    written, refused, orders = dict.fromkeys(topics, 0), 0, 0
    ears.rest(1.0)
    twin.order("mark")
    begin = time.monotonic()
    for number in range(args.messages):
        for place, (topic, cls) in enumerate(kinds.items()):
            msg = spoil(cls, good[topic], KINDS[number % len(KINDS)], rng)
            if cls is SafetyStatus and is_order(msg):
                orders += 1
                continue
            try:
                writers[topic].publish(msg)
                written[topic] += 1
            except Exception:  # whatever ROS itself does not send
                refused += 1
            due = begin + (number * len(kinds) + place) / args.rate
            ears.rest(max(0.0, due - time.monotonic()))
    ears.rest(0.5)
    wire = twin.order("report")
    for writer in writers.values():
        node.destroy_publisher(writer)
    return {
        "topics": topics, "written": sum(written.values()), "refused_by_ros": refused, "orders_left_out": orders,
        "seconds": round(time.monotonic() - begin, 1), "commands_on_the_wire": wire["commands"],
        "stiffest": wire["stiffest"], "outside": wire["outside"],
    }  # fmt: skip


def spoil(cls: type, good: bytes, kind: str, rng: np.random.Generator) -> Any:
    """Return a message that is wrong in one way: bytes, or a message of ``cls``."""
    if kind == "random":
        return good[:4] + rng.bytes(len(good) - 4)
    if kind == "any size":
        return good[:4] + rng.bytes(int(rng.integers(0, 2 * len(good))))
    if kind == "cut off":
        return good[: int(rng.integers(0, len(good)))]
    if kind == "odd fields":
        msg = cls()
        make_odd(msg, rng)
        return msg
    data = bytearray(good)
    if kind == "a bit turned":
        data[int(rng.integers(4, len(data)))] ^= 1 << int(rng.integers(8))
    elif len(data) >= 12:
        at = 4 * int(rng.integers(1, len(data) // 4))
        data[at : at + 4] = NUMBERS[int(rng.integers(len(NUMBERS)))][: len(data) - at]
    return bytes(data)


def make_odd(msg: Any, rng: np.random.Generator) -> None:
    """Put odd words and numbers into every field."""
    for name, kind in msg.get_fields_and_field_types().items():
        value = getattr(msg, name)
        if hasattr(value, "get_fields_and_field_types"):
            make_odd(value, rng)
        elif isinstance(value, np.ndarray):
            with np.errstate(over="ignore"):
                setattr(msg, name, np.full(len(value), ODD[int(rng.integers(len(ODD)))], value.dtype))
        elif isinstance(value, list) and value and hasattr(value[0], "get_fields_and_field_types"):
            for part in value:
                make_odd(part, rng)
        elif isinstance(value, list) and value:  # words, of a given number
            setattr(msg, name, [WORDS[int(rng.integers(len(WORDS)))] for _ in value])
        elif kind.startswith("sequence<string"):
            setattr(msg, name, [WORDS[int(rng.integers(len(WORDS)))] for _ in range(int(rng.integers(30)))])
        elif isinstance(value, str):
            setattr(msg, name, WORDS[int(rng.integers(len(WORDS)))])
        elif isinstance(value, bool):
            setattr(msg, name, bool(rng.integers(2)))
        elif isinstance(value, float):
            number = ODD[int(rng.integers(len(ODD)))]
            setattr(msg, name, number if kind == "double" or abs(number) < 3e38 else math.inf)
        elif isinstance(value, int):
            setattr(msg, name, int(rng.integers(256)) if "8" in kind else int(rng.integers(2**31)))


def example(cls: type) -> Any:
    """Return a good message."""
    msg = cls()
    if isinstance(msg, RobotState):
        msg.joint_position = np.asarray(G1_23DOF.default_joint_pos, np.float32)
        msg.imu_quaternion.w, msg.link_faults = 1.0, ["silence: the robot is silent"]
    elif isinstance(msg, GoalKeypoints):
        msg.names, msg.root_pose.orientation.w, msg.motion = list(G1_23DOF.keypoint_names), 1.0, "wave"
    elif isinstance(msg, SafetyStatus):
        msg.heartbeat, msg.reasons = 10, ["tilt: the pelvis is tilted"]
    return msg


def is_order(msg: Any) -> bool:
    """Whether a safety_status is whole and asks for a mode in which the robot is stiff."""
    try:
        return Mode((deserialize_message(msg, SafetyStatus) if isinstance(msg, bytes) else msg).mode) in ARMED
    except Exception:  # not whole, or no mode
        return False


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
