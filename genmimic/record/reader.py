# SPDX-License-Identifier: Apache-2.0
"""Reads recordings without ROS: by topic, in order, as plain objects and arrays; what a crash has left, too.

Any MCAP with ROS 2 messages can be read, whoever wrote it: the definitions are in the file.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genmimic.core.errors import InputFileError, MissingDependencyError
from genmimic.record.schema import decoder

RECORDING_NAME = "run.mcap"
"""Of a run's recording, in the folder of its report."""

_MAGIC = b"\x89MCAP0\r\n"


@dataclass(frozen=True)
class Topic:
    """A topic of a recording.

    Attributes:
        name: In full, such as ``/genmimic/robot_state``.
        type: ``package/msg/Name``.
        definition: The message's definition with all those inside it, ``ros2msg``.
        count: How many messages there are.
        latched: Whether a late reader would have got the last one.
    """

    name: str
    type: str
    definition: str
    count: int
    latched: bool


@dataclass(frozen=True)
class Raw:
    """A message as it came: CDR. ``log_ns``: when it was received, ``publish_ns``: when it was sent; Unix time."""

    topic: str
    type: str
    data: bytes
    log_ns: int
    publish_ns: int


@dataclass(frozen=True)
class Stamped:
    """A message read; see `genmimic.record.schema.Decoder` for what it looks like."""

    topic: str
    type: str
    message: Any
    log_ns: int
    publish_ns: int


class Recording:
    """A recorded run: its first file, and those that follow it (``run_001.mcap`` …).

    Args:
        path: The file, or the folder that holds ``run.mcap``.

    Raises:
        InputFileError: There is none, or it is no MCAP file.
        MissingDependencyError: There is no ``mcap``.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if path.is_dir():
            path = path / RECORDING_NAME
        if not path.is_file():
            raise InputFileError(f"{path}: no such recording")
        _need_mcap()
        self.path = path
        parts = [path, *_following(path)]
        self._parts = [_Part(part) for part in parts]
        self.parts: tuple[Path, ...] = tuple(parts)

    @property
    def whole(self) -> bool:
        """Whether every file was ended in good order; False after a crash."""
        return all(part.whole for part in self._parts)

    @cached_property
    def topics(self) -> dict[str, Topic]:
        """Topics by their full name."""
        found: dict[str, Topic] = {}
        for part in self._parts:
            for topic in part.topics:
                known = found.get(topic.name)
                count = topic.count + (known.count if known else 0)
                found[topic.name] = Topic(topic.name, topic.type, topic.definition, count, topic.latched)
        return found

    @property
    def span_ns(self) -> tuple[int, int]:
        """When the first and the last message were received, Unix time; zeros when there are none."""
        spans = [part.span_ns for part in self._parts if part.span_ns[1]]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else (0, 0)

    @property
    def duration_s(self) -> float:
        """From the first message to the last."""
        first, last = self.span_ns
        return 1e-9 * (last - first)

    @property
    def facts(self) -> dict[str, dict[str, str]]:
        """The recording's metadata: texts by name, by the name of the record; ``genmimic`` is ours."""
        found: dict[str, dict[str, str]] = {}
        for part in self._parts:
            for name, values in part.facts:
                found.setdefault(name, {}).update(values)
        return found

    @property
    def attachments(self) -> dict[str, bytes]:
        """The files inside the recording, by name."""
        return {name: data for part in self._parts for name, data in part.attachments}

    @property
    def report(self) -> dict[str, Any] | None:
        """The session's report that was put inside at the end; None when there is none."""
        data = self.attachments.get("report.json")
        try:
            report = json.loads(data) if data else None
        except ValueError:
            return None
        return report if isinstance(report, dict) else None

    def find(self, name: str) -> Topic | None:
        """Return the topic of a full or a short name: ``robot_state`` finds ``/genmimic/robot_state``."""
        if name in self.topics:
            return self.topics[name]
        found = [topic for topic in self.topics.values() if topic.name.endswith(f"/{name.lstrip('/')}")]
        return found[0] if found else None

    def raw(
        self, topics: Sequence[str] | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[Raw]:
        """Yield messages as they came, in the order of their receipt.

        Args:
            topics: Their full or short names; all when None. Names that are not there give nothing.
            start_ns: Those received at or after this Unix time.
            end_ns: Those received before this.
        """
        names = None if topics is None else {topic.name for topic in map(self.find, topics) if topic is not None}
        if names is not None and not names:
            return
        for part in self._parts:
            yield from part.raw(names, start_ns, end_ns)

    def messages(
        self, topics: Sequence[str] | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[Stamped]:
        """Yield the same, read. Raises InputFileError where a message does not fit its definition."""
        for raw in self.raw(topics, start_ns, end_ns):
            message = decoder(raw.type, self.topics[raw.topic].definition)(raw.data)
            yield Stamped(raw.topic, raw.type, message, raw.log_ns, raw.publish_ns)


class _Part:
    """One file."""

    def __init__(self, path: Path) -> None:
        from mcap.exceptions import McapError
        from mcap.reader import SeekingReader

        self.path = path
        self.topics: list[Topic] = []
        self.span_ns = (0, 0)
        self.facts: list[tuple[str, dict[str, str]]] = []
        self.attachments: list[tuple[str, bytes]] = []
        try:
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise InputFileError(f"{path}: not an MCAP file")
                file.seek(max(len(_MAGIC), os.fstat(file.fileno()).st_size - len(_MAGIC)))
                self.whole = file.read() == _MAGIC
                summary = None
                if self.whole:
                    file.seek(0)
                    reader = SeekingReader(file)
                    summary = reader.get_summary()
                if summary is None or summary.statistics is None:
                    self.whole = self.whole and summary is not None
                    self._scan()
                    return
                self.facts = [(record.name, dict(record.metadata)) for record in reader.iter_metadata()]
                self.attachments = [(record.name, record.data) for record in reader.iter_attachments()]
                statistics = summary.statistics
                self.span_ns = (statistics.message_start_time, statistics.message_end_time)
                counts = statistics.channel_message_counts
                self.topics = [
                    _topic(channel, summary.schemas, counts.get(channel.id, 0)) for channel in summary.channels.values()
                ]
        except OSError as error:
            raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from None
        except (McapError, struct.error, ValueError, KeyError) as error:
            raise InputFileError(f"{path}: not a readable MCAP file ({error})") from None

    def raw(self, names: set[str] | None, start_ns: int | None, end_ns: int | None) -> Iterator[Raw]:
        if self.whole:
            from mcap.reader import SeekingReader

            with self.path.open("rb") as file:
                reader = SeekingReader(file)
                found = reader.iter_messages(names, starting_at=start_ns, ending_before=end_ns)
                for schema, channel, message in found:
                    kind = schema.name if schema is not None else ""
                    yield Raw(channel.topic, kind, message.data, message.log_time, message.publish_time)
            return
        for schema, channel, message in self._left():
            if names is not None and channel.topic not in names:
                continue
            if (start_ns is not None and message.log_time < start_ns) or (
                end_ns is not None and message.log_time >= end_ns
            ):
                continue
            yield Raw(channel.topic, schema.name, message.data, message.log_time, message.publish_time)

    def _scan(self) -> None:
        """Find out by reading all of it what the index would have said."""
        counts: dict[int, int] = {}
        schemas: dict[int, Any] = {}
        channels: dict[int, Any] = {}
        first, last = 0, 0
        for schema, channel, message in self._left(self.facts, self.attachments, channels, schemas):
            schemas[schema.id], channels[channel.id] = schema, channel
            counts[channel.id] = counts.get(channel.id, 0) + 1
            first, last = min(first or message.log_time, message.log_time), max(last, message.log_time)
        self.span_ns = (first, last)
        known = [channel for channel in channels.values() if channel.schema_id in schemas]
        self.topics = [_topic(channel, schemas, counts.get(channel.id, 0)) for channel in known]

    def _left(
        self,
        facts: list[tuple[str, dict[str, str]]] | None = None,
        attachments: list[tuple[str, bytes]] | None = None,
        channels: dict[int, Any] | None = None,
        schemas: dict[int, Any] | None = None,
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Yield schema, channel and message of all that is whole in a file without an end."""
        from mcap import records
        from mcap.exceptions import McapError
        from mcap.stream_reader import StreamReader

        channels = {} if channels is None else channels
        schemas = {} if schemas is None else schemas
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            stream = StreamReader(file, record_size_limit=size)  # type: ignore[arg-type]
            found = iter(stream.records)
            while True:
                try:
                    record = next(found)
                except (StopIteration, McapError, struct.error, ValueError, EOFError, MemoryError, _zstd_error()):
                    return
                if isinstance(record, records.Schema):
                    schemas[record.id] = record
                elif isinstance(record, records.Channel):
                    channels[record.id] = record
                elif isinstance(record, records.Message):
                    channel = channels.get(record.channel_id)
                    schema = schemas.get(channel.schema_id) if channel is not None else None
                    if channel is not None and schema is not None:
                        yield schema, channel, record
                elif isinstance(record, records.Metadata) and facts is not None:
                    facts.append((record.name, dict(record.metadata)))
                elif isinstance(record, records.Attachment) and attachments is not None:
                    attachments.append((record.name, record.data))
                elif isinstance(record, records.DataEnd):
                    return


def _topic(channel: Any, schemas: dict[int, Any], count: int) -> Topic:
    schema = schemas.get(channel.schema_id)
    qos = channel.metadata.get("offered_qos_profiles", "")
    latched = bool(re.search(r"durability:\s*(1|transient_local)\b", qos))
    if schema is None:
        return Topic(channel.topic, "", "", count, latched)
    return Topic(channel.topic, schema.name, schema.data.decode(errors="replace"), count, latched)


def _following(path: Path) -> list[Path]:
    """Return the files after the first of a recording that has been split."""
    if re.search(r"_\d{3}$", path.stem):
        return []  # asked for this one alone
    return sorted(path.parent.glob(f"{path.stem}_[0-9][0-9][0-9].mcap"))


def recover(path: str | Path, target: str | Path) -> int:
    """Write what is whole of a recording into a new file with an index; return how many messages that is.

    Raises:
        InputFileError: The recording cannot be read, or the file cannot be written.
    """
    from genmimic.record.writer import Channel, RecordWriter

    recording = Recording(path)
    target = Path(target)
    if target.resolve() in [part.resolve() for part in recording.parts]:
        raise InputFileError(f"{target}: is the recording itself; name another file")
    topics = list(recording.topics.values())
    channels = [Channel(topic.name, topic.type, topic.definition, topic.latched) for topic in topics]
    numbers = {topic.name: number for number, topic in enumerate(topics)}
    attachments = {name: (_media_type(name), data) for name, data in recording.attachments.items()}
    with RecordWriter(target, channels, recording.facts, attachments) as writer:
        for raw in recording.raw():
            writer.add(numbers[raw.topic], raw.data, raw.log_ns, raw.publish_ns)
            writer.wait_for_room()
    if writer.failure:
        raise InputFileError(f"{target}: cannot be written ({writer.failure})")
    return writer.counts.messages


def _media_type(name: str) -> str:
    kinds = {".json": "application/json", ".yaml": "application/yaml", ".npz": "application/zip", ".txt": "text/plain"}
    return kinds.get(Path(name).suffix, "application/octet-stream")


def _zstd_error() -> type[Exception]:
    try:
        from zstandard import ZstdError
    except ImportError:
        return ValueError
    return ZstdError  # type: ignore[no-any-return]


def _need_mcap() -> None:
    try:
        import mcap.reader  # noqa: F401
    except ImportError:
        raise MissingDependencyError("recordings need the package mcap: pip install mcap") from None
