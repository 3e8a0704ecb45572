# SPDX-License-Identifier: Apache-2.0
"""DDS as the robot's own services use it: named interface, default quality of service, raw bytes.

Bytes go in and out of Cyclone as they are on the wire; building its Python message objects would cost 200 to 350 us
each (measured), a tenth of a core at 500 Hz and more.
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any

import numpy as np

from genmimic.core.errors import LinkError, MissingDependencyError
from genmimic.link.bus import Sample

try:
    from cyclonedds._clayer import ddspy_take, ddspy_write
    from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsParticipant, BuiltinTopicDcpsPublication
    from cyclonedds.core import DDSException, InstanceState, SampleState, ViewState
    from cyclonedds.domain import Domain, DomainParticipant
    from cyclonedds.pub import DataWriter
    from cyclonedds.qos import Policy, Qos
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
except ImportError as error:
    raise MissingDependencyError(
        f"the robot link needs cyclonedds 11 ({error}); run `pip install cyclonedds==11.0.1`"
    ) from None

from genmimic.link import idl  # noqa: E402  (after the line above, which says what is missing)

ROBOT_DOMAIN = 0
"""DDS domain of the real robot."""

_ANY = SampleState.Any | ViewState.Any | InstanceState.Any

_CONFIG = """<CycloneDDS><Domain Id="any">
<General><Interfaces>
<NetworkInterface name="{interface}" priority="default" multicast="default"/>
</Interfaces></General>
<Tracing><Verbosity>none</Verbosity></Tracing>
</Domain></CycloneDDS>"""

_domains: dict[int, tuple[str, Domain]] = {}  # Cyclone allows one configuration per domain and process
_domains_lock = threading.Lock()


class RawWriter:
    """Sends bytes that are already encoded. Reliable, keep last 1, as Unitree's own channels."""

    def __init__(self, entity: DataWriter[Any]) -> None:
        self._entity = entity
        self._ref = entity._ref

    def write(self, data: bytes | np.ndarray) -> bool:
        """Send a whole sample, header included; return whether DDS took it."""
        return int(ddspy_write(self._ref, data)) >= 0

    @property
    def handle(self) -> int:
        """What `Sample.writer` is for its samples."""
        return int(self._entity.get_instance_handle()) % 2**64  # which Cyclone gives signed here

    @property
    def readers(self) -> int:
        """How many readers are matched."""
        return len(self._entity.get_matched_subscriptions())


class RawReader:
    """Receives bytes. Best effort, as Unitree's own channels."""

    tells_writers = True

    def __init__(self, entity: DataReader[Any], depth: int) -> None:
        self._entity, self._depth = entity, depth
        self._ref = entity._ref

    def take(self) -> list[Sample]:
        """Return what has come since the last call, oldest first, at most the reader's depth."""
        found = ddspy_take(self._ref, _ANY, self._depth)
        if not found or isinstance(found, int):
            return []
        return [
            Sample(data, info.source_timestamp, info.publication_handle) for data, info in found if info.valid_data
        ]  # fmt: skip

    @property
    def writers(self) -> int:
        """How many writers are matched."""
        return len(self._entity.get_matched_publications())


class Bus:
    """A participant on one interface.

    Args:
        interface: Its name, such as eth0; ``lo`` for a twin on this machine.
        domain: DDS domain.

    Raises:
        LinkError: There is no such interface, or Cyclone cannot use it.
    """

    def __init__(self, interface: str, domain: int = ROBOT_DOMAIN) -> None:
        self.interface, self.domain = interface, domain
        try:
            _open_domain(interface, domain)
            self._participant = DomainParticipant(domain)
        except DDSException as error:
            raise LinkError(f"DDS cannot use interface {interface!r}, domain {domain} ({error.msg or error})") from None
        self._entities: list[Any] = []
        self._topics: dict[str, Topic[Any]] = {}
        self._publications: Any = None
        self._own: set[bytes] = set()

    def writer(self, topic: str, kind: str) -> RawWriter:
        """Return a writer of ``topic``, whose type is the one of that name in `genmimic.link.idl`."""
        qos = Qos(Policy.Reliability.Reliable(100_000_000), Policy.History.KeepLast(1))
        entity: DataWriter[Any] = DataWriter(self._participant, self._topic(topic, kind), qos)
        self._entities.append(entity)
        return RawWriter(entity)

    def reader(self, topic: str, kind: str, depth: int = 1, *, others_only: bool = False) -> RawReader:
        """Return a reader of ``topic`` that keeps the last ``depth`` samples.

        Args:
            topic: Its name on DDS, such as rt/lowstate.
            kind: Name of its type in `genmimic.link.idl`.
            depth: How many samples wait at most until they are taken.
            others_only: Do not hear the writers of this bus.
        """
        policies = [Policy.Reliability.BestEffort, Policy.History.KeepLast(depth)]
        if others_only:
            policies.append(Policy.IgnoreLocal.Participant)
        entity: DataReader[Any] = DataReader(self._participant, self._topic(topic, kind), Qos(*policies))
        self._entities.append(entity)
        return RawReader(entity, depth)

    def participants(self) -> int:
        """Return how many other participants are heard on this domain."""
        reader: Any = BuiltinDataReader(self._participant, BuiltinTopicDcpsParticipant)
        return max(0, len(reader.take(N=1000)) - 1)

    def topics_of_others(self) -> list[str]:
        """Return the topics that other participants write, once per writer."""
        reader: Any = BuiltinDataReader(self._participant, BuiltinTopicDcpsPublication)
        own = self._participant.get_guid()
        alive = [each for each in reader.take(N=1000) if hasattr(each, "topic_name")]
        return sorted(each.topic_name for each in alive if each.participant_key != own)

    def close(self) -> None:
        """Leave the domain; readers and writers of this bus are dead afterwards."""
        for entity in (*self._entities, *self._topics.values(), self._participant):
            try:
                entity._delete(entity._ref)
            except DDSException:
                pass
        self._entities, self._topics = [], {}

    def __enter__(self) -> Bus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _topic(self, name: str, kind: str) -> Topic[Any]:
        if name not in self._topics:
            self._topics[name] = Topic(self._participant, name, getattr(idl, kind))
        return self._topics[name]


def check_interface(interface: str) -> None:
    """Raise LinkError where there is no such network interface."""
    known = [name for _, name in socket.if_nameindex()]
    if interface not in known:
        raise LinkError(f"there is no network interface {interface!r}; known: {', '.join(known)}")


def _open_domain(interface: str, domain: int) -> None:
    """Configure the domain once per process. Raises LinkError, DDSException."""
    check_interface(interface)
    with _domains_lock:
        if domain not in _domains:
            _domains[domain] = interface, Domain(domain, _CONFIG.format(interface=interface))
        elif _domains[domain][0] != interface:
            raise LinkError(
                f"domain {domain} is already on interface {_domains[domain][0]!r} in this process, not {interface!r}"
            )
