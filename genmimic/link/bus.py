# SPDX-License-Identifier: Apache-2.0
"""What the link asks of a transport: named topics, bytes in, bytes out. Three there are: `genmimic.link.dds`, plain ROS
topics (`genmimic_ros.ros_bus`), and Unitree's SDK in a process of its own (`genmimic.link.sdk_bus`). The bytes are the
same on all, and nothing above knows which it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np

LOW_CMD_TOPIC = "rt/lowcmd"
LOW_STATE_TOPIC = "rt/lowstate"
SLOW_LOW_STATE_TOPIC = "rt/lf/lowstate"
BMS_STATE_TOPIC = "rt/lf/bmsstate"
SECONDARY_IMU_TOPIC = "rt/secondary_imu"


class Sample(NamedTuple):
    """One received message: its bytes, when its writer sent it (system clock, ns), and a handle of that writer."""

    data: bytes
    sent_ns: int
    writer: int


class OwnSamples:
    """Remembers what was written lately, for transports that give our own samples back to us.

    A stranger who sends the very same bytes asks for the very same thing, and does no harm.
    """

    def __init__(self, kept: int = 64) -> None:
        self._kept: deque[bytes] = deque(maxlen=kept)

    def add(self, data: bytes) -> None:
        """Remember a sample."""
        if not self._kept or data != self._kept[-1]:
            self._kept.append(data)

    def __contains__(self, data: bytes) -> bool:
        return data in tuple(self._kept)


class Writer(Protocol):
    """Sends bytes that are already encoded. Reliable, keep last 1, as Unitree's own channels."""

    def write(self, data: bytes | np.ndarray) -> bool:
        """Send a whole sample, header included; return whether the transport took it."""

    @property
    def readers(self) -> int:
        """How many readers are matched."""


class Reader(Protocol):
    """Receives bytes. Best effort, as Unitree's own channels."""

    tells_writers: bool
    """Whether `Sample.writer` tells one writer from another."""

    def take(self) -> Sequence[Sample]:
        """Return what has come since the last call, oldest first, at most the reader's depth."""

    @property
    def writers(self) -> int:
        """How many writers are matched."""


class Bus(Protocol):
    """A place in a domain.

    ``kind`` is the name of a type in `genmimic.link.idl`, which has the fields of Unitree's.
    """

    interface: str
    domain: int

    def writer(self, topic: str, kind: str) -> Writer:
        """Return a writer of ``topic``."""

    def reader(self, topic: str, kind: str, depth: int = 1, *, others_only: bool = False) -> Reader:
        """Return a reader of ``topic`` that keeps the last ``depth`` samples.

        Args:
            topic: Its name on DDS, such as rt/lowstate.
            kind: Name of its type.
            depth: How many samples wait at most until they are taken.
            others_only: Do not hear the writers of this bus.
        """

    def close(self) -> None:
        """Leave; readers and writers of this bus are dead afterwards."""

    def __enter__(self) -> Bus: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
