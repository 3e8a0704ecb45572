# SPDX-License-Identifier: Apache-2.0
"""``genmimic mimic``: the robot, simulated or real, imitates a motion, through the ROS 2 nodes."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from genmimic.core.errors import MissingDependencyError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "mimic",
        help="let the robot imitate a motion",
        description="Start the ROS 2 nodes, arm the robot, play the motion, write a report. Exit code 0: the motion "
        "was played and the robot still stood; 1: it fell, was damped, or something failed; 2: bad input or usage.",
    )
    parser.add_argument(
        "motion", metavar="MOTION", help="robot motion, *.npz, a shipped one's name, a video, or a human motion"
    )
    parser.add_argument(
        "--crop",
        nargs=4,
        type=int,
        metavar=("X", "Y", "W", "H"),
        help="part of a video's picture to look at, in pixels",
    )
    parser.add_argument("--height", type=float, metavar="M", help="of the person in a video")
    parser.add_argument("--policy", metavar="P", help="policy, *.onnx, or a shipped one's name (default: student)")
    parser.add_argument("--robot", choices=("sim", "g1"), default="sim", help="which robot (default: %(default)s)")
    parser.add_argument("--interface", metavar="IF", help="network interface that the real robot is on")
    parser.add_argument(
        "--on-gantry", action="store_true", help="the real robot hangs in its gantry: the verdict `gantry only` passes"
    )
    parser.add_argument(
        "--override-gate",
        action="store_true",
        help="play on the real robot what has not passed `genmimic check`; goes into log and report",
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="play it N times (default: %(default)s)")
    parser.add_argument(
        "--loop-minutes", type=float, default=0.0, metavar="M", help="repeat it for at least M minutes instead"
    )
    parser.add_argument(
        "--report", metavar="DIR", help="folder of report, trajectory and picture (default: reports/MOTION-TIME)"
    )
    parser.add_argument(
        "--noise", choices=("none", "paper"), default="none", help="on what the policy observes (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of that noise (default: %(default)s)")
    parser.add_argument(
        "--no-record",
        dest="record",
        action="store_false",
        help="without run.mcap, the recording in the report's folder",
    )
    parser.add_argument("--viewer", action="store_true", help="show the robot in the browser, with buttons")
    parser.add_argument(
        "--operate", action="store_true", help="with --viewer: do nothing by itself; arm, start and stop in the browser"
    )
    parser.add_argument(
        "--viewer-host", default="127.0.0.1", metavar="ADDRESS", help="address the viewer listens on; with 0.0.0.0 "
        "everybody in the network can operate the robot (default: %(default)s, this machine alone)",
    )  # fmt: skip
    parser.add_argument(
        "--viewer-port", type=int, default=8080, metavar="N", help="the next free one is taken (default: %(default)s)"
    )
    parser.add_argument(
        "--viewer-wait", type=float, default=30.0, metavar="S",
        help="how long the motion waits for a browser to look (default: %(default)g s)",
    )  # fmt: skip
    parser.add_argument("--video", metavar="V", help="with --viewer: film to show beside the robot")
    parser.add_argument("--no-viz", dest="viz", action="store_false", help="without the node that draws for rviz")
    parser.add_argument("--json", action="store_true", help="print the report instead of a summary")


def run(args: argparse.Namespace) -> int:
    """Run the session and return the exit code."""
    from genmimic.doctor_software import require_middleware

    require_middleware()
    for module, what in (("rclpy", "ROS 2"), ("genmimic_ros.msg", "the package's built messages")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f"this Python lacks {what} ({error}); run `make setup` and use .venv/bin/genmimic, or, where ROS 2 is "
                "installed, `colcon build` and source install/setup.bash"
            ) from None
    return int(importlib.import_module("genmimic_ros.mimic").run(args))
