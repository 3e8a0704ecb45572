# SPDX-License-Identifier: Apache-2.0
"""Unitree's own `unitree_sdk2py` in a process of its own, for `genmimic.link.sdk_bus`.

Runs under whatever Python has that package, and so needs nothing but the standard library here. Over a socket come
orders to open a writer or a reader, and samples to write; what is read goes back. Samples are bytes, as on the wire:
the SDK's message classes make and read them.

It refuses to run where it would harm the robot: the SDK's types declare octets as ``uint8``, which cyclonedds 11 and
newer announce as a kind that crashes the robot's own services (docs/hardware.md). With cyclonedds 0.10.2, which the SDK
asks for, all is well.
"""

import importlib
import json
import select
import socket
import sys
import threading
import time

PLACES = {
    "LowCmd": "unitree_hg", "LowState": "unitree_hg", "BmsState": "unitree_hg", "ImuState": "unitree_hg",
    "Request": "unitree_api", "Response": "unitree_api",
}  # fmt: skip
NAMES = {"ImuState": "IMUState_"}
LARGEST = 65536


def main() -> int:
    """Serve the socket whose number is the first argument, until it closes."""
    link = socket.socket(fileno=int(sys.argv[1]))
    interface, domain = sys.argv[2], int(sys.argv[3])
    try:
        worker = Worker(link, interface, domain)
    except Exception as error:
        _send(link, b"E", 0, " ".join(f"{type(error).__name__}: {error}".split()).encode())
        return 2
    _send(link, b"R", 0, b"")
    worker.serve()
    return 0


class Worker:
    """Readers and writers of the SDK, by number."""

    def __init__(self, link, interface, domain):
        channel = importlib.import_module("unitree_sdk2py.core.channel")
        self.publisher, self.subscriber = channel.ChannelPublisher, channel.ChannelSubscriber
        self.link, self.lock = link, threading.Lock()
        self.types = {kind: _type(kind) for kind in PLACES}
        check_octets(self.types["LowCmd"])
        channel.ChannelFactoryInitialize(domain, interface)
        self.writers, self.readers = {}, {}

    def serve(self):
        """Do what comes over the socket, until it closes."""
        while True:
            select.select([self.link], [], [])
            try:
                data = self.link.recv(LARGEST)
            except OSError:
                return
            if not data:
                return
            what, number, rest = data[:1], data[1], data[2:]
            if what == b"W":  # a sample to write
                self.write(number, rest)
            else:
                topic, kind = json.loads(rest)
                self.open(what, number, topic, self.types[kind])

    def open(self, what, number, topic, kind):
        """Open a writer or a reader."""
        if what == b"P":
            publisher = self.publisher(topic, kind)
            publisher.Init()
            self.writers[number] = publisher, kind
            return
        subscriber = self.subscriber(topic, kind)
        subscriber.Init(lambda message: self.hear(number, message), 10)
        self.readers[number] = subscriber

    def write(self, number, data):
        """Hand a sample to the SDK."""
        publisher, kind = self.writers[number]
        publisher.Write(kind.deserialize(data))

    def hear(self, number, message):
        """Hand a message of the SDK on; called on its thread."""
        stamp = time.time_ns().to_bytes(8, "little")
        with self.lock:
            _send(self.link, b"S", number, stamp + to_bytes(message))


def to_bytes(message):
    """Return a message as it is on the wire: XCDR1, which newer cyclonedds must be asked for."""
    try:
        data = message.serialize(use_version_2=False)
    except TypeError:
        data = message.serialize()
    return data.ljust(-(-len(data) // 4) * 4, b"\0")


def check_octets(kind):
    """Raise RuntimeError where this SDK on this cyclonedds would crash the robot's services."""
    declared = str(getattr(kind, "__annotations__", {}).get("mode_pr", ""))
    if "uint8" not in declared:
        return
    from importlib.metadata import version

    found = version("cyclonedds")
    if not found.startswith("0.10."):
        raise RuntimeError(
            f"unitree_sdk2py with cyclonedds {found} crashes the robot's own services (octets declared uint8); "
            "give it a Python of its own with cyclonedds 0.10.2"
        )


def _type(kind):
    module = importlib.import_module(f"unitree_sdk2py.idl.{PLACES[kind]}.msg.dds_")
    return getattr(module, NAMES.get(kind, kind + "_"))


def _send(link, what, number, data):
    try:
        link.send(what + bytes([number]) + data, socket.MSG_DONTWAIT)
    except OSError:  # nobody takes it: the newest is worth more than this one
        pass


if __name__ == "__main__":
    sys.exit(main())
