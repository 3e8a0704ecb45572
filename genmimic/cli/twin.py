# SPDX-License-Identifier: Apache-2.0
"""``genmimic twin``: a simulated G1 that speaks the real robot's protocol."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from genmimic.core.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "twin",
        help="a simulated robot on the real robot's network protocol",
        description="Run the simulated G1 as a DDS peer with the robot's own topics, rates, checksums and services, "
        "until Ctrl-C. Orders come on standard input, one per line; `help` lists them: `press start`, `crc 0.2`, "
        "`vanish`, `second_writer`, `clear` and so on. Answers are lines of JSON.",
    )
    parser.add_argument("--interface", default="lo", metavar="IF", help="network interface (default: %(default)s)")
    parser.add_argument("--domain", type=int, default=0, metavar="D", help="DDS domain (default: the robot's, 0)")
    parser.add_argument(
        "--mode-machine", type=int, default=4, metavar="M", help="kind of robot it reports (default: %(default)s)"
    )
    parser.add_argument(
        "--controller", default="ai", metavar="NAME", help="built-in controller that runs at first; none for none"
    )
    parser.add_argument("--battery", type=float, default=0.9, metavar="B", help="charge, 0 to 1 (default: %(default)s)")
    parser.add_argument("--noise", choices=("none", "paper"), default="none", help="of its sensors")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of noise and faults (default: %(default)s)")
    parser.add_argument("--no-tether", dest="tether", action="store_false", help="on its feet, without a gantry")
    parser.add_argument(
        "--no-operator", dest="operator", action="store_false",
        help="nobody presses Start and A or works the gantry: give the orders yourself",
    )  # fmt: skip
    parser.add_argument("--fault", action="append", default=[], metavar="ORDER", help="an order to begin with")
    parser.add_argument("--seconds", type=float, default=0.0, metavar="T", help="end after so long (default: never)")


def run(args: argparse.Namespace) -> int:
    """Run the twin until it is stopped."""
    import queue
    import signal
    import threading
    import time

    from genmimic.link.realtime import realtime_priority
    from genmimic.link.twin import Twin, TwinConfig
    from genmimic.sim.simulated_g1 import SensorNoise

    if not 0 <= args.domain <= 230:
        raise ConfigError(f"--domain is {args.domain}, expected 0 to 230")
    if not 0 <= args.mode_machine <= 255:
        raise ConfigError(f"--mode-machine is {args.mode_machine}, expected 0 to 255")
    if not 0.0 <= args.battery <= 1.0:
        raise ConfigError(f"--battery is {args.battery:g}, expected 0 to 1")
    realtime_priority(45)
    noise = SensorNoise.paper() if args.noise == "paper" else SensorNoise.none()
    controller = "" if args.controller == "none" else args.controller
    twin = Twin(
        TwinConfig(
            args.interface, args.domain, args.mode_machine, controller, args.battery, args.tether, args.operator,
            noise, args.seed,
        )
    )  # fmt: skip
    for line in args.fault:
        answer = twin.order(line)
        if not answer["ok"]:
            twin.close()
            raise ConfigError(f"--fault: {answer['error']}")
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)

    def orders() -> list[str]:
        return [lines.get() for _ in range(lines.qsize())]

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    threading.Thread(target=read, daemon=True).start()
    print(
        f"twin: {twin.robot.name}, mode_machine {args.mode_machine}, on {args.interface}, DDS domain {args.domain}; "
        "`help` lists the orders, Ctrl-C ends",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    end = time.monotonic() + args.seconds if args.seconds > 0.0 else float("inf")
    try:
        twin.run(lambda: stopped.is_set() or time.monotonic() > end, orders)
    finally:
        twin.close()
    return 0
