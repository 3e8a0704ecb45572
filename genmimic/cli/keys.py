# SPDX-License-Identifier: Apache-2.0
"""``genmimic keys``: the remote's buttons on a keyboard."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from genmimic.core.errors import MissingDependencyError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "keys",
        help="the remote's buttons on this keyboard, beside a run",
        description="Press Start (s), A (a), B (b, space or Escape: damp at once) and Select (q) from a terminal, for "
        "the nodes that run in this ROS domain, and see what the robot is doing. It does not replace the remote: a "
        "cable can be pulled, and a terminal closed.",
    )
    parser.add_argument(
        "--ros-domain", type=int, metavar="D", help="ROS domain of the nodes (default: the environment's ROS_DOMAIN_ID)"
    )


def run(args: argparse.Namespace) -> int:
    """Read keys until Ctrl-C."""
    for module, what in (("rclpy", "ROS 2"), ("genmimic_ros.msg", "the package's built messages")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingDependencyError(f"this Python lacks {what} ({error}); run `make setup`") from None
    return int(importlib.import_module("genmimic_ros.keyboard").run(args))
