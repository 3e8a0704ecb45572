# SPDX-License-Identifier: Apache-2.0
"""Publishes a recording again, byte by byte, with its own timing; for everything that looks, nothing that moves."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.node import Node

from genmimic.core.errors import ConfigError
from genmimic.record.reader import Recording
from genmimic_ros.nodes.record_node import message_class
from genmimic_ros.runtime import STATUS_PUB, STREAM_PUB
from genmimic_ros.stack import prepare_environment

MOVING = ("joint_command", "safety_status")
"""Topics that move a robot; published only when asked for."""

BRIDGE = "g1_bridge_node"
CHECK_S = 0.2
LOOK_S = 2.0
"""How long others are looked for before anything is published."""


def publish(
    recording: Recording,
    topics: Sequence[str] | None = None,
    everything: bool = False,
    rate: float = 1.0,
    start_s: float = 0.0,
    end_s: float | None = None,
    loop: bool = False,
) -> int:
    """Publish a recording on the topics it was recorded from; return 0, or 1 when a robot's bridge came up.

    Args:
        recording: What to publish.
        topics: These alone, by full or short name.
        everything: `MOVING` topics, too.
        rate: So many times as fast.
        start_s: From so many seconds after the first message; latched messages before are published, too.
        end_s: Up to so many seconds after it.
        loop: Again and again, until interrupted.

    Raises:
        ConfigError: A bridge is there, or there is nothing to publish.
    """
    wanted = [topic for topic in map(recording.find, topics or recording.topics) if topic is not None]
    chosen = [topic for topic in wanted if everything or topic.name.rsplit("/", 1)[-1] not in MOVING]
    known = []
    for topic in chosen:
        try:
            known.append((topic, message_class(topic.type)))
        except ImportError:
            print(f"{topic.type} is not installed: {topic.name} is left out", file=sys.stderr)
    if not known:
        raise ConfigError("nothing to publish: joint_command and safety_status need --all")
    with tempfile.TemporaryDirectory(prefix="genmimic-") as scratch:
        os.environ.setdefault("ROS_DOMAIN_ID", "0")
        prepare_environment(Path(scratch))
        rclpy.init(args=[])
        node = rclpy.create_node("replay")
        try:
            _look(node)
            publishers = {
                topic.name: node.create_publisher(kind, topic.name, STATUS_PUB if topic.latched else STREAM_PUB)
                for topic, kind in known
            }
            print(f"publishing {len(known)} topics, {recording.duration_s:.1f} s, in ROS domain "
                  f"{os.environ['ROS_DOMAIN_ID']}; Ctrl-C ends it", file=sys.stderr, flush=True)  # fmt: skip
            while True:
                if not _play(node, recording, publishers, rate, start_s, end_s):
                    print("a robot's bridge has come up: stopped", file=sys.stderr)
                    return 1
                if not loop:
                    return 0
        finally:
            node.destroy_node()
            rclpy.try_shutdown()


def _look(node: Node) -> None:
    until = time.monotonic() + LOOK_S
    while time.monotonic() < until:
        if _bridge_is_there(node):
            raise ConfigError(
                "a robot's bridge is in this ROS domain; a replay beside it is refused. Stop it, or set ROS_DOMAIN_ID"
            )
        time.sleep(0.1)


def _bridge_is_there(node: Node) -> bool:
    return any(name == BRIDGE for name, _ in node.get_node_names_and_namespaces())


def _play(
    node: Node, recording: Recording, publishers: dict[str, object], rate: float, start_s: float, end_s: float | None
) -> bool:
    """Publish once; return False when it was cut short by a bridge."""
    origin_ns = recording.span_ns[0]
    begin_ns = origin_ns + round(1e9 * start_s)
    end_ns = None if end_s is None else origin_ns + round(1e9 * end_s)
    began = checked = time.monotonic()
    for raw in recording.raw(list(publishers), None, end_ns):
        if raw.log_ns < begin_ns:
            if recording.topics[raw.topic].latched:
                publishers[raw.topic].publish(raw.data)  # type: ignore[attr-defined]
            continue
        at = began + 1e-9 * (raw.log_ns - begin_ns) / rate
        while True:
            now = time.monotonic()
            if now - checked >= CHECK_S:
                checked = now
                if _bridge_is_there(node):
                    return False
            if now >= at:
                break
            time.sleep(min(at - now, CHECK_S))
        publishers[raw.topic].publish(raw.data)  # type: ignore[attr-defined]
    return True
