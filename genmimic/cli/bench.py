# SPDX-License-Identifier: Apache-2.0
"""``genmimic bench``: a copy of GenMimicBench, or a folder like it, for evaluation by the paper's classes."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "bench",
        help="read a copy of GenMimicBench, for evaluation by the paper's classes",
        description="List the films and human motions in a folder by the classes of the paper's benchmark and, with "
        "-o, bring each to the robot: films are lifted, SMPL and other human motions retargeted. Folders may be named "
        "as they like; what a clip shows is read from a table (csv, jsonl, json), from a .txt beside it, or from its "
        "path. Given again, it goes on where it stopped. Exit code 1: some clips could not be brought over.",
    )
    parser.add_argument("folder", metavar="DIR", help="the benchmark's folder")
    parser.add_argument("-o", "--output", metavar="OUT", help="folder for motions, classes.yaml and bench.json")
    parser.add_argument(
        "--prefer", choices=("motion", "video"), default="motion", help="where a clip has both (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="list every clip as JSON")


def run(args: argparse.Namespace) -> int:
    """List, or bring to the robot, and return the exit code."""
    import json
    import sys

    from genmimic.evaluate.bench_set import CLASSES_NAME, build, entry, read_bench, summary_table

    clips = read_bench(args.folder)
    print(json.dumps([entry(clip) for clip in clips], indent=1) if args.json else summary_table(clips))
    if not args.output:
        return 0
    failed = build(clips, args.output, prefer=args.prefer, say=lambda line: print(line, file=sys.stderr, flush=True))
    done = len(clips) - len(failed)
    print(f"{done} of {len(clips)} motions in {args.output}", file=sys.stderr)
    if done:
        print(f"next: genmimic evaluate --motions {args.output} --report reports/bench, then\n      genmimic report "
              f"reports/bench --table --classes {args.output}/{CLASSES_NAME}", file=sys.stderr)  # fmt: skip
    return 1 if failed else 0
