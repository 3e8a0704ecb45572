# SPDX-License-Identifier: Apache-2.0
"""The robot's link over Unitree's `unitree_sdk2py`, which runs in a process of its own (`genmimic.link.sdk_worker`).

Neither its libraries nor its threads come into this process, least of all into one with ROS: its cyclonedds is another
than ours, and it may be installed for another Python (``python``). Bytes go to it and come from it over a socket.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType

import numpy as np

from genmimic.core.errors import LinkError, MissingDependencyError
from genmimic.link.bus import OwnSamples, Sample

START_S = 20.0
"""How long the SDK may take to come up."""

LARGEST = 65536

PYTHON_VARIABLE = "GENMIMIC_SDK_PYTHON"


class SdkBus:
    """A worker with the SDK on one interface.

    Args:
        interface: Network interface of the robot.
        domain: Its DDS domain.
        python: Interpreter that has ``unitree_sdk2py``; this one when empty.

    Raises:
        MissingDependencyError: It has not, or with a cyclonedds that would harm the robot.
        LinkError: The SDK does not come up.
    """

    def __init__(self, interface: str, domain: int = 0, python: str = "") -> None:
        self.interface, self.domain = interface, domain
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker = Path(__file__).with_name("sdk_worker.py")
        command = [python or sys.executable, str(worker), str(theirs.fileno()), interface, str(domain)]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        except OSError as error:
            self._link.close()
            raise MissingDependencyError(f"sdk_python {python!r} cannot be run ({error.strerror})") from None
        finally:
            theirs.close()
        self._lock = threading.Lock()
        self._queues: dict[int, deque[Sample]] = {}
        self._own: dict[str, OwnSamples] = {}
        self._count = 0
        self._wait()
        self._thread = threading.Thread(target=self._hear, name="sdk", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    def writer(self, topic: str, kind: str) -> SdkWriter:
        """Return a writer of ``topic``; see `genmimic.link.bus.Bus`."""
        own = self._own.setdefault(topic, OwnSamples())
        return SdkWriter(self._link, self._open(b"P", topic, kind), own, self._process)

    def reader(self, topic: str, kind: str, depth: int = 1, *, others_only: bool = False) -> SdkReader:
        """Return a reader of ``topic``; see `genmimic.link.bus.Bus`."""
        queue: deque[Sample] = deque(maxlen=depth)
        own = self._own.setdefault(topic, OwnSamples()) if others_only else None
        with self._lock:
            self._queues[self._count] = queue
        self._open(b"L", topic, kind)
        return SdkReader(queue, own)

    def close(self) -> None:
        """End the worker; readers and writers of this bus are dead afterwards."""
        self._link.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> SdkBus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self) -> None:
        """Wait until the worker says that it is up. Raises MissingDependencyError, LinkError."""
        self._link.settimeout(START_S)
        try:
            said = self._link.recv(LARGEST)
        except OSError:
            said = b""
        self._link.settimeout(None)
        if said[:1] == b"R":
            return
        self.close()
        text = said[2:].decode(errors="replace")
        if text.startswith(("ModuleNotFoundError", "ImportError", "AttributeError")):
            raise MissingDependencyError(
                f"transport:=sdk needs unitree_sdk2py ({text}); name a Python that has it by sdk_python:=, or use "
                "transport:=dds, which needs none of it"
            )
        raise LinkError(f"unitree_sdk2py does not come up on {self.interface!r}: {text or 'no answer'}")

    def _open(self, what: bytes, topic: str, kind: str) -> int:
        number, self._count = self._count, self._count + 1
        self._link.send(what + bytes([number]) + json.dumps([topic, kind]).encode())
        return number

    def _hear(self) -> None:
        while True:
            try:
                data = self._link.recv(LARGEST)
            except OSError:
                return
            if not data:
                return
            if data[:1] == b"S" and len(data) > 10:
                with self._lock:
                    queue = self._queues.get(data[1])
                if queue is not None:
                    queue.append(Sample(data[10:], int.from_bytes(data[2:10], "little"), 0))


class SdkWriter:
    """Sends bytes that are already encoded."""

    def __init__(self, link: socket.socket, number: int, own: OwnSamples, process: subprocess.Popen[bytes]) -> None:
        self._link, self._head, self._own, self._process = link, b"W" + bytes([number]), own, process

    def write(self, data: bytes | np.ndarray) -> bool:
        """Send a whole sample, header included; return whether the worker took it."""
        whole = bytes(data)
        self._own.add(whole)
        try:
            self._link.send(self._head + whole, socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    @property
    def readers(self) -> int:
        """1 while the worker lives: the SDK does not tell how many there are."""
        return int(self._process.poll() is None)


class SdkReader:
    """Receives bytes."""

    tells_writers = False
    writers = 1
    """The SDK does not tell how many there are."""

    def __init__(self, queue: deque[Sample], own: OwnSamples | None) -> None:
        self._queue, self._own = queue, own

    def take(self) -> list[Sample]:
        """Return what has come since the last call, oldest first, at most the reader's depth."""
        found = []
        while self._queue:
            sample = self._queue.popleft()
            if self._own is None or sample.data not in self._own:
                found.append(sample)
        return found


def open_worker_bus(interface: str, domain: int) -> SdkBus:
    """Return a bus whose Python is named in the environment by `PYTHON_VARIABLE`, as bridge and guard use it."""
    return SdkBus(interface, domain, os.environ.get(PYTHON_VARIABLE, ""))
