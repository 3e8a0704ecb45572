# SPDX-License-Identifier: Apache-2.0
"""The robot's link over plain ROS topics, for machines where Unitree's `unitree_ros2` workspace is built.

ROS topics are DDS topics: ``/lowstate`` is rt/lowstate, and a ``unitree_hg/msg/LowState`` has the same bytes. So
nothing is converted: messages go in and out serialized, as `genmimic.link.wire` reads and writes them, and everything
above (`genmimic.link.hardware`, the gate, the guard) is the same as on `genmimic.link.dds`. ``unitree_hg`` and
``unitree_api`` are imported when the bus is opened, and not before.
"""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from genmimic.core.errors import MissingDependencyError
from genmimic.link.bus import OwnSamples, Sample

MESSAGES = {
    "LowCmd": ("unitree_hg", "LowCmd"),
    "LowState": ("unitree_hg", "LowState"),
    "ImuState": ("unitree_hg", "IMUState"),
    "BmsState": ("unitree_hg", "BmsState"),
    "Request": ("unitree_api", "Request"),
    "Response": ("unitree_api", "Response"),
}
"""Package and message of each type of `genmimic.link.idl`."""


class RosBus:
    """A ROS context of its own in the robot's domain, which need not be that of the nodes.

    Args:
        domain: ROS domain of the robot, 0 for the real one. Which network interface is used is the business of the
            ROS middleware and its own settings.

    Raises:
        MissingDependencyError: ``unitree_hg`` or ``unitree_api`` cannot be imported.
    """

    def __init__(self, domain: int = 0) -> None:
        self.interface, self.domain = "of ROS", domain
        self._types = {kind: _message(package, name) for kind, (package, name) in MESSAGES.items()}
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self._node = Node(
            "genmimic_link", context=self._context, enable_rosout=False, start_parameter_services=False,
            use_global_arguments=False,
        )  # fmt: skip
        self._sent: dict[str, OwnSamples] = {}

    def writer(self, topic: str, kind: str) -> RosWriter:
        """Return a writer of ``topic`` (by its name on DDS); ``kind`` is one of `MESSAGES`."""
        sent = self._sent.setdefault(topic, OwnSamples())
        return RosWriter(self._node.create_publisher(self._types[kind], _name(topic), _qos(1, True)), sent)

    def reader(self, topic: str, kind: str, depth: int = 1, *, others_only: bool = False) -> RosReader:
        """Return a reader of ``topic`` that keeps the last ``depth`` samples; see `genmimic.link.bus.Bus`."""
        own = self._sent.setdefault(topic, OwnSamples()) if others_only else None
        subscription = self._node.create_subscription(
            self._types[kind], _name(topic), lambda _: None, _qos(depth, False), raw=True
        )
        return RosReader(self._node, subscription, _name(topic), depth, own)

    def close(self) -> None:
        """Leave the domain; readers and writers of this bus are dead afterwards."""
        self._node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> RosBus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RosWriter:
    """Sends bytes that are already encoded."""

    def __init__(self, publisher: Any, sent: OwnSamples) -> None:
        self._publisher, self._sent = publisher, sent

    def write(self, data: bytes | np.ndarray) -> bool:
        """Send a whole sample, header included; return whether ROS took it."""
        whole = bytes(data)
        self._sent.add(whole)
        try:
            self._publisher.publish(whole)
        except Exception:  # RCLError, whose place differs between ROS versions
            return False
        return True

    @property
    def readers(self) -> int:
        """How many readers are matched."""
        return int(self._publisher.get_subscription_count())


class RosReader:
    """Receives bytes; asked, not called."""

    tells_writers = False  # not told with a message in Python

    def __init__(self, node: Node, subscription: Any, name: str, depth: int, own: OwnSamples | None) -> None:
        self._node, self._subscription, self._name, self._depth = node, subscription, name, depth
        self._own = own

    def take(self) -> list[Sample]:
        """Return what has come since the last call, oldest first; without what this bus has written, where asked so."""
        found: list[Sample] = []
        subscription = self._subscription
        with subscription.handle:
            while len(found) < self._depth:
                taken = subscription.handle.take_message(subscription.msg_type, True)
                if taken is None:
                    break
                data, info = taken
                if self._own is None or data not in self._own:
                    found.append(Sample(data, int(info["source_timestamp"]), 0))
        return found

    @property
    def writers(self) -> int:
        """How many writers of the topic there are."""
        return int(self._node.count_publishers(self._name))


def _message(package: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"transport:=ros needs Unitree's messages {package} ({error}); build and source unitree_ros2, or use "
            "transport:=dds, which needs none of it"
        ) from None


def _name(topic: str) -> str:
    return "/" + topic.removeprefix("rt/")


def _qos(depth: int, reliable: bool) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )
