# SPDX-License-Identifier: Apache-2.0
"""``genmimic doctor``: is this machine fit to drive a robot, and is the robot fit to be driven?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from genmimic.core.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine, and the robot or its twin, before anything moves",
        description="Check the software of this machine (versions, discovery, permissions, limits, disk, "
        "drawing, the policy's speed), and with --interface the robot (or the twin) on that network: who is there, "
        "which kind, checksums, rates, other writers, temperatures, battery, IMU. Listens only, but for --wiggle. "
        "Exit code 0: nothing failed (warnings may be there); 1: something failed.",
    )
    parser.add_argument("--interface", metavar="IF", help="network interface of the robot; software alone without it")
    parser.add_argument("--domain", type=int, default=0, metavar="D", help="DDS domain (default: the robot's, 0)")
    parser.add_argument(
        "--wiggle", action="store_true",
        help="then move each joint a little, the robot hanging limp: watch that it is the one that is named",
    )  # fmt: skip
    parser.add_argument("--it-hangs", action="store_true", help="say that the robot hangs, without being asked")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="T", help="to listen (default: %(default)s)")
    parser.add_argument("--policy", metavar="P", help="policy to time (default: the shipped student)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Check, print, and return the exit code."""
    from genmimic.cli.terminal import paint_verdicts
    from genmimic.doctor_software import check_environment
    from genmimic.link import doctor

    if not 0 <= args.domain <= 230:
        raise ConfigError(f"--domain is {args.domain}, expected 0 to 230")
    if args.wiggle and not args.interface:
        raise ConfigError("--wiggle needs --interface, the network interface that the robot is on, such as eth0")
    if not 0.5 <= args.seconds <= 60.0:
        raise ConfigError(f"--seconds is {args.seconds:g}, expected 0.5 to 60")
    findings = check_environment()
    if any(finding.check == "middleware" and finding.verdict == doctor.FAIL for finding in findings):
        os.environ.pop("RMW_IMPLEMENTATION", None)  # else importing rclpy ends this process with exit code 102
    findings += doctor.check_software(args.policy)
    if args.interface:
        findings += doctor.check_robot(args.interface, args.domain, args.seconds)
        if args.wiggle:
            if any(finding.verdict == doctor.FAIL for finding in findings):
                found = doctor.Finding("wiggle", doctor.FAIL, "not tried: something above has failed", "that first")
                findings.append(found)
            elif args.it_hangs or _hangs():
                findings += doctor.wiggle_robot(args.interface, args.domain, _tell)
            else:
                findings.append(doctor.Finding("wiggle", doctor.WARN, "not tried: nobody said that the robot hangs"))
    failed = any(finding.verdict == doctor.FAIL for finding in findings)
    if args.json:
        report = {"format": "genmimic-doctor/1", "success": not failed, "findings": [vars(each) for each in findings]}
        print(json.dumps(report, indent=1))
    else:
        print(paint_verdicts(doctor.table(findings), sys.stdout))
    return 1 if failed else 0


def _hangs() -> bool:
    """Ask the person beside the robot."""
    if not sys.stdin.isatty():
        raise ConfigError("--wiggle moves the robot: say that it hangs in the gantry with --it-hangs")
    print("Each joint will move by 0.12 rad in turn. Type 'it hangs' when the robot hangs limp in the gantry, its feet")
    return input("free, nobody within its reach, and the remote in somebody's hand (B ends it): ").strip() == "it hangs"


def _tell(name: str) -> None:
    print(f"  {name} moves now", file=sys.stderr, flush=True)
