# SPDX-License-Identifier: Apache-2.0
"""``genmimic drill``: break things on purpose, with the twin in place of the robot, and measure what follows."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from genmimic.core.errors import MissingDependencyError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "drill",
        help="break the robot's link, its sensors and the nodes on purpose, against the twin",
        description="Run the nodes with the hardware bridge against a twin of the robot, break something while it "
        "imitates a motion, and measure: what noticed it, what followed, how soon the first damping command was on the "
        "wire, and whether any command was outside the limits. Exit code 0: all as it should be; 1: something was not.",
    )
    parser.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="trials of each fault (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=0.0, metavar="M", help="begin no trial after so long")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument(
        "--short", "--quick", dest="short", action="store_true", help="only some of the faults, as in the tests"
    )
    parser.add_argument("--motion", default="wave", help="file or shipped name (default: %(default)s)")
    parser.add_argument("--policy", metavar="P", help="policy, *.onnx, or a shipped one's name (default: student)")
    parser.add_argument(
        "--domain", type=int, default=99, metavar="D", help="DDS domain, not the robot's 0 (default: %(default)s)"
    )
    parser.add_argument(
        "--report", metavar="DIR", help="keep trials, drill.json and drill.md there; one that was there goes on"
    )
    parser.add_argument("--log", metavar="FILE", help="keep what the nodes print")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the drill and return the exit code."""
    for module, what in (("rclpy", "ROS 2"), ("genmimic_ros.msg", "the package's built messages")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingDependencyError(f"this Python lacks {what} ({error}); run `make setup`") from None
    return int(importlib.import_module("genmimic_ros.drill").run(args))
