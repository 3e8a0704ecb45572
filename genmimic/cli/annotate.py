# SPDX-License-Identifier: Apache-2.0
"""``genmimic annotate``: judge by eye whether the robot did what the film shows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "annotate",
        help="judge by eye: the paper's visual success rate",
        description="Write one HTML page that shows film and robot side by side, takes a person's verdicts and saves "
        "them; with --table, print the paper's Table 2 of saved verdicts. Exit code 0: written; 2: bad input or usage.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs and evaluations; with --table, saved verdicts")
    parser.add_argument("-o", "--output", metavar="HTML", default="annotate.html", help="page (default: %(default)s)")
    parser.add_argument("--videos", metavar="DIR", help="films named as the motions, or one film for all")
    parser.add_argument("--robot-videos", metavar="DIR", help="films of the real robot, named as the runs' folders")
    parser.add_argument("--no-video", dest="draw", action="store_false", help="stick figures: draw no robot")
    parser.add_argument("--blind", action="store_true", help="hide the policies and shuffle")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the shuffling (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="print Table 2 of saved verdicts")


def run(args: argparse.Namespace) -> int:
    """Write or print, and return the exit code."""
    from genmimic.core.errors import InputFileError
    from genmimic.core.robot import G1_23DOF
    from genmimic.evaluate.annotate import annotation_page, find_items, load_verdicts, vsr_rows, vsr_table
    from genmimic.evaluate.runs import load_run

    if args.table:
        verdicts = [verdict for name in args.runs for verdict in load_verdicts(name)]
        if not verdicts:
            raise InputFileError("nothing has been judged in these files")
        print(vsr_table(vsr_rows(verdicts)))
        return 0

    def say(line: str) -> None:
        if sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)

    runs = [load_run(name, G1_23DOF, recording=False) for name in args.runs]
    items = find_items(runs, G1_23DOF, args.videos, args.robot_videos, args.draw, say)
    print(annotation_page(items, args.blind, args.seed).save(Path(args.output)))
    return 0
