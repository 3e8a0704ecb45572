# SPDX-License-Identifier: Apache-2.0
"""Writes a run as MCAP: in chunks that reach the disk twice a second, in files of limited size and length.

Nothing here can hold the caller up: messages go into a queue, and a thread writes them. What a crash leaves behind is a
file without its index, whole up to the last chunk; `genmimic.record.reader` reads it, and ``mcap recover`` mends it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genmimic import __version__
from genmimic.core.errors import ConfigError, InputFileError, MissingDependencyError

FLUSH_S = 0.4
"""How often a chunk is ended and given to the system: a killed process loses no more than this, and a moment."""

SYNC_S = 1.0
"""How often the disk is told to have it: what a machine that loses power loses."""

CHUNK_BYTES = 4 * 1024 * 1024
"""A chunk also ends here."""

QUEUE_BYTES = 128 * 1024 * 1024
"""What waits for a slow disk; beyond it messages are dropped, and counted."""

STREAM_QOS = """- history: 1
  depth: 1
  reliability: 1
  durability: 2
  deadline: {sec: 9223372036, nsec: 854775807}
  lifespan: {sec: 9223372036, nsec: 854775807}
  liveliness: 1
  liveliness_lease_duration: {sec: 9223372036, nsec: 854775807}
  avoid_ros_namespace_conventions: false
"""
"""How ``ros2 bag play`` shall publish: keep the last, reliable, volatile."""

LATCHED_QOS = STREAM_QOS.replace("durability: 2", "durability: 1")
"""The same, for a topic whose last message a late reader gets."""

NAME = "genmimic"
"""Name of the metadata in a recording."""


@dataclass(frozen=True)
class Channel:
    """A topic to record: its type ``package/msg/Name``, the type's ``ros2msg`` definition, whether it is latched."""

    topic: str
    type: str
    definition: str
    latched: bool = False


@dataclass(frozen=True)
class Limits:
    """When a new file begins and when to give up.

    Attributes:
        split_size_mb: A file is ended at about this size.
        split_minutes: A file is ended at this age.
        keep_files: So many files are kept, the newest; 0 keeps all.
        min_free_mb: Recording ends when the disk has less left, so that everything else can still be written.
    """

    split_size_mb: float = 2048.0
    split_minutes: float = 60.0
    keep_files: int = 0
    min_free_mb: float = 200.0

    def __post_init__(self) -> None:
        for name, low in (("split_size_mb", 0.01), ("split_minutes", 0.001), ("keep_files", 0), ("min_free_mb", 0)):
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least {low}")


@dataclass
class Counts:
    """What has been recorded so far."""

    messages: int = 0
    dropped: int = 0
    bytes: int = 0
    files: list[Path] = field(default_factory=list)


Facts = Mapping[str, Mapping[str, str]]
"""MCAP metadata: names to texts by name."""

Attachments = Mapping[str, tuple[str, bytes]]
"""Media type and content by name."""


class RecordWriter:
    """Records messages that are already serialized.

    Args:
        path: Of the first file, ``*.mcap``; those after it are ``*_001.mcap`` and so on. Files of an earlier recording
            of that name are replaced.
        channels: What will be recorded.
        facts: Metadata at the beginning of each file.
        attachments: Files at the beginning of each file.
        limits: See `Limits`.
        niceness: Of the writing thread, so that compressing gives way; 0 to 19. Not where whoever calls has real-time
            priority: the thread then has the same, since it holds Python's lock at times, and whoever waits for that
            waits as long as the holder does not run.
        warn: Called with one line, from the writing thread, when recording ends early or messages are dropped.

    Raises:
        MissingDependencyError: There is no ``mcap``.
        InputFileError: The file cannot be made.
    """

    def __init__(
        self,
        path: str | Path,
        channels: Sequence[Channel],
        facts: Facts | None = None,
        attachments: Attachments | None = None,
        limits: Limits | None = None,
        niceness: int = 0,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._path = Path(path)
        if self._path.suffix != ".mcap":
            raise ConfigError(f"recording {path}: ends in {self._path.suffix or 'nothing'!r}, expected .mcap")
        self._channels, self._limits, self._warn = tuple(channels), limits or Limits(), warn
        self._niceness = niceness
        self._facts, self._attachments = dict(facts or {}), dict(attachments or {})
        self.counts = Counts()
        self.failure: str | None = None
        """Why recording ended early; None while all is well."""
        self._queue: deque[tuple[int, bytes, int, int]] = deque()
        self._queued = self._taken = 0  # bytes, each counted by one thread alone
        self._last: dict[int, tuple[int, bytes, int, int]] = {}
        self._sequence = [0] * len(self._channels)
        self._wake, self._stopping = threading.Event(), False
        self._final: tuple[Facts, Attachments] = ({}, {})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for old in self._path.parent.glob(f"{self._path.stem}_[0-9][0-9][0-9].mcap"):
                old.unlink()
            self._file = _File(self._path, self._channels, self._facts, self._attachments, 0)
        except OSError as error:
            raise InputFileError(f"{self._path}: cannot be written ({error.strerror})") from None
        self.counts.files.append(self._path)
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def add(self, channel: int, data: bytes, log_ns: int, publish_ns: int | None = None) -> None:
        """Record a message of the ``channel``-th channel, received at ``log_ns`` (Unix time). Never blocks."""
        if self.failure is not None or self._stopping:
            return
        if self._queued - self._taken + len(data) > QUEUE_BYTES:
            self.counts.dropped += 1
            return
        self._queued += len(data)
        self._queue.append((channel, data, log_ns, log_ns if publish_ns is None else publish_ns))

    def wait_for_room(self) -> None:
        """Block while much is waiting to be written; for writers that have no robot to serve."""
        while self._queued - self._taken > QUEUE_BYTES // 2 and self._thread.is_alive() and self.failure is None:
            time.sleep(0.01)

    def close(
        self, facts: Facts | None = None, attachments: Attachments | None = None, timeout_s: float = 10.0
    ) -> bool:
        """Write what waits, then ``facts`` and ``attachments``, then the index; return whether all of it was."""
        if not self._stopping:
            self._final = (facts or {}, attachments or {})
            self._stopping = True
            self._wake.set()
        self._thread.join(timeout_s)
        return self.failure is None and not self._thread.is_alive()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # the writing thread --------------------------------------------------------------------------
    def _run(self) -> None:
        synced = checked = time.monotonic()
        told = behind = False
        with contextlib.suppress(OSError, AttributeError):  # Linux: of this thread alone
            if self._niceness and os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        try:
            while not self._stopping:
                if not behind:
                    self._wake.wait(FLUSH_S)
                behind = not self._drain(time.monotonic() + FLUSH_S)
                self._file.flush()
                now = time.monotonic()
                if now - synced >= SYNC_S:
                    self._file.sync()
                    synced = now
                if now - checked >= SYNC_S:
                    checked = now
                    self._check_disk()
                if self.counts.dropped and not told:
                    told = True
                    self._warn("the disk is too slow for the recording: messages are dropped")
                if self._file.size >= 1e6 * self._limits.split_size_mb:
                    self._rotate()
                elif self._file.age_s >= 60.0 * self._limits.split_minutes:
                    self._rotate()
            self._drain()
            self._file.finish(*self._final)
        except Exception as error:  # whatever it is, the robot goes on
            reason = str(error) if isinstance(error, _Stop) else getattr(error, "strerror", None) or repr(error)
            self.failure = reason
            self._queue.clear()
            with contextlib.suppress(OSError):
                if isinstance(error, _Stop):
                    self._file.finish({}, {})
                else:
                    self._file.abandon()
            self._warn(f"recording to {self._file.path} has ended early: {reason}; the run goes on without it")
        finally:
            self.counts.bytes += self._file.size
            self._file.close()

    def _drain(self, until_s: float = float("inf")) -> bool:
        """Write what waits; return whether that was all. A thread that gets little of the processor may never see an
        empty queue, and what it writes must get to the disk all the same: hence ``until_s``, on the monotonic clock."""
        while self._queue:
            if self.counts.messages % 32 == 0 and time.monotonic() > until_s:
                return False
            message = self._queue.popleft()
            channel, data, log_ns, publish_ns = message
            self._taken += len(data)
            if self._channels[channel].latched:
                self._last[channel] = message
            self._sequence[channel] += 1
            self._file.add(channel, data, log_ns, publish_ns, self._sequence[channel])
            self.counts.messages += 1
        return True

    def _check_disk(self) -> None:
        free_mb = shutil.disk_usage(self._path.parent).free / 1e6
        if free_mb < self._limits.min_free_mb:
            raise _Stop(f"the disk has only {free_mb:.0f} MB left (limit {self._limits.min_free_mb:.0f} MB)")

    def _rotate(self) -> None:
        number = self._file.number + 1
        self._file.finish({}, {})
        self.counts.bytes += self._file.size
        self._file.close()
        path = self._path.with_name(f"{self._path.stem}_{number:03d}.mcap")
        self._file = _File(path, self._channels, self._facts, self._attachments, number)
        self.counts.files.append(path)
        for channel, data, log_ns, publish_ns in self._last.values():  # what a late reader would get
            self._file.add(channel, data, log_ns, publish_ns, self._sequence[channel])
        if self._limits.keep_files:
            while len(self.counts.files) > self._limits.keep_files:
                self.counts.files.pop(0).unlink(missing_ok=True)


class _Stop(Exception):
    """Recording shall end in good order."""


class _Stream:
    """What mcap's writer writes into: memory, until `flush` hands it all to the system at once."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._parts: list[bytes] = []
        self._waiting = 0
        self.on_disk = 0

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        self._waiting += len(data)
        return len(data)

    def tell(self) -> int:
        return self.on_disk + self._waiting

    def flush(self) -> None:
        view = memoryview(b"".join(self._parts))
        self._parts, self._waiting = [], 0
        written = 0
        while written < len(view):
            written += os.write(self._handle, view[written:])
        self.on_disk += written

    def sync(self) -> None:
        os.fdatasync(self._handle)

    def abandon(self) -> None:
        """Cut off what the last, failed, `flush` has left."""
        self._parts, self._waiting = [], 0
        os.ftruncate(self._handle, self.on_disk)

    def close(self) -> None:
        os.close(self._handle)


class _File:
    """One file."""

    def __init__(
        self, path: Path, channels: Sequence[Channel], facts: Facts, attachments: Attachments, number: int
    ) -> None:
        writer, _ = _mcap()
        self.path, self.number = path, number
        self._began = time.monotonic()
        self._stream = _Stream(path)
        try:
            self._writer = writer.Writer(
                self._stream,  # type: ignore[arg-type]
                chunk_size=CHUNK_BYTES,
                compression=writer.CompressionType.ZSTD,
            )
            self._writer.start("ros2", f"genmimic {__version__}")
            for name, values in facts.items():
                self._writer.add_metadata(name, {**values, **({"part": str(number)} if name == NAME else {})})
            now_ns = time.time_ns()
            for name, (kind, data) in attachments.items():
                self._writer.add_attachment(now_ns, now_ns, name, kind, data)
            schemas: dict[str, int] = {}
            self._ids = []
            for channel in channels:
                if channel.type not in schemas:
                    schemas[channel.type] = self._writer.register_schema(
                        channel.type, "ros2msg", channel.definition.encode()
                    )
                qos = LATCHED_QOS if channel.latched else STREAM_QOS
                self._ids.append(
                    self._writer.register_channel(
                        channel.topic, "cdr", schemas[channel.type], {"offered_qos_profiles": qos}
                    )
                )
            self._writer.flush()
        except BaseException:
            self._stream.close()
            raise

    @property
    def size(self) -> int:
        """Bytes that the system has."""
        return self._stream.on_disk

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._began

    def add(self, channel: int, data: bytes, log_ns: int, publish_ns: int, sequence: int) -> None:
        self._writer.add_message(self._ids[channel], log_ns, data, publish_ns, sequence & 0xFFFFFFFF)

    def flush(self) -> None:
        self._writer.flush()

    def sync(self) -> None:
        self._stream.sync()

    def finish(self, facts: Facts, attachments: Attachments) -> None:
        self._writer.flush()
        for name, values in facts.items():
            self._writer.add_metadata(name, dict(values))
        now_ns = time.time_ns()
        for name, (kind, data) in attachments.items():
            self._writer.add_attachment(now_ns, now_ns, name, kind, data)
        self._writer.finish()
        self._stream.flush()
        self._stream.sync()

    def abandon(self) -> None:
        self._stream.abandon()

    def close(self) -> None:
        self._stream.close()


def _mcap() -> tuple:  # type: ignore[type-arg]
    try:
        from mcap import writer
        from mcap.exceptions import McapError
    except ImportError:
        raise MissingDependencyError(
            "recordings need the package mcap: pip install -r requirements/system-ros.txt, or pip install mcap"
        ) from None
    return writer, McapError
