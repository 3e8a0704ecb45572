# SPDX-License-Identifier: Apache-2.0
"""The hand-held remote control, as the 40 bytes of LowState carry it. No DDS, no clock.

Layout: bytes 2 and 3 are buttons, bit 0 first; floats (little endian) lx at 4, rx at 8, ry at 12, ly at 20. All zeros:
the remote is not heard. Source: Unitree's SDK examples.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SIZE = 40

BUTTONS = (
    "R1", "L1", "start", "select", "R2", "L2", "F1", "F2", "A", "B", "X", "Y", "up", "right", "down", "left",
)  # fmt: skip
"""By bit, from bit 0 of byte 2."""

_HEAD = b"\x55\x51"


@dataclass(frozen=True)
class Remote:
    """What the remote says at one instant.

    Attributes:
        buttons: Names of those held down.
        sticks: lx, ly, rx, ry, -1 to 1.
        heard: Whether it is there at all.
    """

    buttons: frozenset[str] = frozenset()
    sticks: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    heard: bool = True


def decode(data: bytes) -> Remote:
    """Return what 40 bytes of `wireless_remote` say; fewer bytes count as not heard."""
    if len(data) < SIZE or not any(data):
        return Remote(heard=False)
    bits = data[2] | data[3] << 8
    lx, rx, ry, _, ly = struct.unpack_from("<5f", data, 4)
    return Remote(frozenset(name for bit, name in enumerate(BUTTONS) if bits >> bit & 1), (lx, ly, rx, ry))


def encode(remote: Remote) -> bytes:
    """Return the 40 bytes that `decode` reads."""
    if not remote.heard:
        return bytes(SIZE)
    bits = sum(1 << BUTTONS.index(name) for name in remote.buttons)
    lx, ly, rx, ry = remote.sticks
    return _HEAD + struct.pack("<H5f", bits, lx, rx, ry, 0.0, ly) + bytes(SIZE - 24)


class RemoteWatch:
    """Turns what the remote says into presses, and notices when it falls silent.

    Args:
        lost_s: Silence after which it counts as lost. Unitree's own limit is 3 s.
    """

    def __init__(self, lost_s: float = 3.0) -> None:
        self._lost_ns = round(1e9 * lost_s)
        self._held: frozenset[str] | None = None
        self._same = b""  # the last bytes that were heard
        self._heard_ns: int | None = None
        self._first_ns: int | None = None

    def update(self, now_ns: int, data: bytes) -> frozenset[str]:
        """Take the newest bytes and return the buttons that went down since the last call.

        A button that is down when the remote is heard for the first time, or again, is no press.
        """
        if data == self._same:
            self._heard_ns = now_ns
            return frozenset()
        if self._first_ns is None:
            self._first_ns = now_ns
        self._same = b""
        remote = decode(data)
        if not remote.heard:
            self._held = None
            return frozenset()
        held, self._held, self._heard_ns, self._same = self._held, remote.buttons, now_ns, data
        return frozenset() if held is None else remote.buttons - held

    @property
    def heard(self) -> bool:
        """Whether it has ever been heard."""
        return self._heard_ns is not None

    def lost(self, now_ns: int) -> bool:
        """Whether it has not been heard for too long, or never within that time."""
        since = self._heard_ns if self._heard_ns is not None else self._first_ns
        return since is not None and now_ns - since > self._lost_ns
