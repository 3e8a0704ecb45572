# SPDX-License-Identifier: Apache-2.0
"""``genmimic report``: a page, or a table, about a run or an evaluation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "report",
        help="a page about a run or an evaluation",
        description="Write one HTML page that needs no other file and no network: what was asked, how well it went, "
        "timing, safety, pictures. RUN is the folder of a run or an evaluation, its report.json, or a recording. Exit "
        "code 0: written, whatever it says; 2: bad input or usage.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run or an evaluation, or a recording, *.mcap")
    parser.add_argument("-o", "--output", metavar="HTML", help="the page (default: report.html in the folder)")
    parser.add_argument("--no-video", dest="video", action="store_false", help="draw no video of the robot")
    parser.add_argument(
        "--table",
        nargs="?",
        const="text",
        choices=("text", "markdown", "latex", "csv"),
        help="print classes of motions by the paper's metrics instead",
    )
    parser.add_argument("--classes", metavar="YAML", help="for --table: a list of patterns of motion names per class")
    parser.add_argument("--no-paper", dest="paper", action="store_false", help="for --table: without the paper's lines")


def run(args: argparse.Namespace) -> int:
    """Write or print, and return the exit code."""
    from genmimic.core.errors import ConfigError
    from genmimic.core.robot import G1_23DOF
    from genmimic.evaluate.bench import DEFAULT_CLASSES, bench_table, load_classes
    from genmimic.evaluate.runs import load_run

    if args.classes and not args.table:
        raise ConfigError("--classes needs --table")
    if args.table:
        classes = load_classes(args.classes) if args.classes else DEFAULT_CLASSES
        report = load_run(args.run, G1_23DOF, recording=False).report
        print(bench_table(report, classes, args.table, args.paper))
        return 0
    from genmimic.evaluate.report_page import PAGE_NAME, save_report_page

    given = Path(args.run)
    folder = given if given.is_dir() else given.parent
    name = PAGE_NAME if given.suffix != ".mcap" else f"{given.stem}.html"
    path = Path(args.output) if args.output else folder / name
    if sys.stderr.isatty():
        print("reading and drawing ...", end="\r", file=sys.stderr, flush=True)
    print(save_report_page(path, load_run(args.run, G1_23DOF), G1_23DOF, args.video))
    return 0
