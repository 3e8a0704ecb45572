# SPDX-License-Identifier: Apache-2.0
"""``genmimic compare``: two runs, evaluations or policies side by side."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genmimic.evaluate.runs import Run

EXIT_WORSE = 1


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "compare",
        help="two runs, evaluations or policies side by side",
        description="Compare what two runs or evaluations have in common, with 95 %% intervals; of two policies, "
        "*.onnx, both are evaluated first, on the same motions with the same chance. Exit code 0: compared; 1: with "
        "--fail-if-worse, the second is shown to be worse in falls, SR or pose; 2: bad input or usage.",
    )
    parser.add_argument("first", metavar="A", help="folder of a run or an evaluation, a recording, or a policy")
    parser.add_argument("second", metavar="B", help="the other one")
    parser.add_argument("-o", "--output", metavar="HTML", help="write a page, too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--fail-if-worse", action="store_true", help="exit code 1 where B is shown to be worse")
    parser.add_argument("--motions", nargs="+", metavar="PATH", help="for policies: motions (default: all shipped)")
    parser.add_argument(
        "--rollouts", type=int, default=16, metavar="N", help="for policies: of each motion (default: 16)"
    )
    parser.add_argument("--noise", choices=("none", "paper"), default="paper", help="for policies (default: paper)")
    parser.add_argument("--randomize", choices=("none", "paper"), default="none", help="for policies (default: none)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default: 0)")
    parser.add_argument(
        "--jobs", type=int, default=-1, metavar="J", help="for policies: processes (default: one per core)"
    )


def run(args: argparse.Namespace) -> int:
    """Compare, print, and return the exit code."""
    import json

    from genmimic.core.errors import ConfigError
    from genmimic.core.robot import G1_23DOF
    from genmimic.evaluate.compare import compare, comparison_page, comparison_text
    from genmimic.evaluate.runs import load_run

    policies = [Path(name).suffix == ".onnx" for name in (args.first, args.second)]
    if any(policies) and not all(policies):
        raise ConfigError(f"cannot compare a policy with a run: {args.first} and {args.second}")
    with tempfile.TemporaryDirectory(prefix="genmimic-") as scratch:
        if all(policies):
            first, second = (
                _evaluated(args, name, Path(scratch) / str(number))
                for number, name in enumerate((args.first, args.second))
            )
        else:
            first, second = (load_run(name, G1_23DOF, recording=False) for name in (args.first, args.second))
        found = compare(first, second, args.seed)
        if args.output:
            comparison_page(found, first, second, G1_23DOF).save(args.output)
    print(json.dumps(found.as_json(), indent=1) if args.json else comparison_text(found))
    if args.output and not args.json:
        print(f"page: {args.output}")
    return EXIT_WORSE if args.fail_if_worse and found.worse else 0


def _evaluated(args: argparse.Namespace, name: str, folder: Path) -> Run:
    from genmimic.cli.evaluate import find_motions, progress_line
    from genmimic.core.robot import G1_23DOF
    from genmimic.evaluate.run import evaluate
    from genmimic.evaluate.runs import load_run
    from genmimic.policy import find_policy

    show = progress_line() if sys.stderr.isatty() else None
    evaluate(
        find_policy(name), find_motions(args.motions), args.rollouts, args.noise, args.randomize, args.seed, args.jobs,
        1, folder, show,
    )  # fmt: skip
    return load_run(folder, G1_23DOF)
