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
        "which kind, checksums, rates, other writers, temperatures, battery, IMU. Listens only: nothing is commanded. "
        "Exit code 0: nothing failed (warnings may be there); 1: something failed.",
    )
    parser.add_argument("--interface", metavar="IF", help="network interface of the robot; software alone without it")
    parser.add_argument("--domain", type=int, default=0, metavar="D", help="DDS domain (default: the robot's, 0)")
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
    if not 0.5 <= args.seconds <= 60.0:
        raise ConfigError(f"--seconds is {args.seconds:g}, expected 0.5 to 60")
    findings = check_environment()
    if any(finding.check == "middleware" and finding.verdict == doctor.FAIL for finding in findings):
        os.environ.pop("RMW_IMPLEMENTATION", None)  # else importing rclpy ends this process with exit code 102
    findings += doctor.check_software(args.policy)
    if args.interface:
        findings += doctor.check_robot(args.interface, args.domain, args.seconds)
    failed = any(finding.verdict == doctor.FAIL for finding in findings)
    if args.json:
        report = {"format": "genmimic-doctor/1", "success": not failed, "findings": [vars(each) for each in findings]}
        print(json.dumps(report, indent=1))
    else:
        print(paint_verdicts(doctor.table(findings), sys.stdout))
    return 1 if failed else 0
