# SPDX-License-Identifier: Apache-2.0
"""``genmimic evaluate``: how well a policy tracks motions in simulation."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genmimic.evaluate.run import Progress

EXIT_OUTCOME_BAD = 1


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "evaluate",
        help="track motions in simulation and measure it",
        description="Track motions with a policy in simulation, without ROS and faster than real time, on all cores. "
        "Exit code 0: at least 97 % of all rollouts end without a fall; 1: fewer; 2: bad input or usage.",
    )
    parser.add_argument("--policy", metavar="P", help="policy, *.onnx, or a shipped one's name (default: student)")
    parser.add_argument(
        "--motions", nargs="+", metavar="PATH", help="motions, folders of them, or shipped names (default: all shipped)"
    )
    parser.add_argument("--rollouts", type=int, default=32, metavar="N", help="of each motion (default: %(default)s)")
    parser.add_argument(
        "--noise", choices=("none", "paper"), default="none", help="on what the policy observes (default: %(default)s)"
    )
    parser.add_argument(
        "--randomize", choices=("none", "paper"), default="none",
        help="friction, masses, gains, strength, delay, and pushes (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--corrupt", nargs="+", default=[], metavar="KIND[:STRENGTH]",
        help="damage the motions as generated video does; without a strength, at 0.5 and 1; 'all': every kind",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=-1, metavar="J", help="processes (default: one per core)")
    parser.add_argument("--keep", type=int, default=1, metavar="K", help="kept per motion (default: %(default)s)")
    parser.add_argument("--report", metavar="DIR", help="write report.json, and kept rollouts with pictures, there")
    parser.add_argument("--in-place", action="store_true", help="only motions marked as staying where they are")
    parser.add_argument("--json", action="store_true", help="print the report instead of a table")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, and return the exit code."""
    import json

    from genmimic.evaluate.run import evaluate
    from genmimic.policy import find_policy

    policy = find_policy(args.policy)
    motions = find_motions(args.motions, args.in_place)
    report = evaluate(
        policy, motions, args.rollouts, args.noise, args.randomize, args.seed, args.jobs, args.keep, args.report,
        progress_line() if sys.stderr.isatty() else None, corrupt=args.corrupt,
    )  # fmt: skip
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        print(report_table(report))
        if args.noise == args.randomize == "none" and not args.corrupt and args.rollouts > 1:
            print("nothing is random without --noise or --randomize: one rollout per motion")
        if args.report:
            print(f"report: {Path(args.report) / 'report.json'}")
    return 0 if report["success"] else EXIT_OUTCOME_BAD


def find_motions(names: Sequence[str] | None, in_place: bool = False) -> list[Path]:
    """Return motion files: files, the ``*.npz`` of folders, shipped names; all shipped ones when None.

    Raises:
        InputFileError: One is nowhere, a folder has none, or none stays in place where that is asked for.
    """
    from genmimic.core.errors import InputFileError
    from genmimic.core.motion import load_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.policy import find_shipped, shipped_places

    if names is None:
        names = [str(place / "motions") for place in shipped_places() if (place / "motions").is_dir()][:1]
        if not names:
            raise InputFileError("no shipped motions found; name some with --motions")
    found: list[Path] = []
    for name in names:
        if Path(name).is_dir():
            inside = sorted(Path(name).glob("*.npz"))
            if not inside:
                raise InputFileError(f"{name}: no *.npz files in this folder")
            found += inside
        else:
            found.append(find_shipped(name, "motions", ".npz"))
    found = list(dict.fromkeys(found))
    if in_place:
        staying = [path for path in found if load_motion(path, G1_23DOF).source.get("in_place") is True]
        if not staying:
            raise InputFileError(f"none of the {len(found)} motions is marked as staying in place (source.in_place)")
        found = staying
    return found


def progress_line() -> Progress:
    """Return a function that keeps one line on standard error up to date."""
    begin = time.monotonic()

    def show(done: int, total: int, fallen: int) -> None:
        left = f", {(time.monotonic() - begin) * (total - done) / done:.0f} s left" if done else ""
        text = f"{done}/{total} rollouts, {fallen} fell{left}"
        print(f"\r{text:<60}", end="\r" if done == total else "", file=sys.stderr, flush=True)
        if done == total:
            print(" " * 60, end="\r", file=sys.stderr, flush=True)

    return show


def report_table(report: dict[str, Any]) -> str:
    """Return the report as an aligned table: rates in % and lengths, with 95 % intervals.

    A row for each motion; where references were damaged, a row for each kind and strength, over all motions.
    """
    columns = (
        ("SR %", "sr"), ("SR local %", "sr_local"), ("no fall %", "no_fall"), ("MPKPE cm", "mpkpe_cm"),
        ("LMPKPE cm", "lmpkpe_cm"), ("MPKPE-NT cm", "mpkpe_nt_cm"), ("LMPKPE-NT cm", "lmpkpe_nt_cm"),
        ("hands cm", "hands_cm"), ("drift m", "drift_m"),
    )  # fmt: skip
    entries = [
        {"motion": f"{part['kind']} {part['level']:g}", **part} for part in report.get("corruptions", [])
    ] or list(report["motions"])
    if len(entries) > 1:
        entries.append({"motion": "total", **report["total"]})
    rows = [["damage" if report.get("corruptions") else "motion", "n", *(title for title, _ in columns)]]
    rows += [
        [entry["motion"], str(entry["rollouts"]), *(_cell(entry, name) for _, name in columns)] for entry in entries
    ]
    widths = [max(len(row[idx]) for row in rows) for idx in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    lines.insert(1, rule)
    if len(entries) > 1:
        lines.insert(-1, rule)
    head = (
        f"policy {report['policy']} ({report['policy_sha256'][:12]}), noise {report['noise']}, "
        f"randomize {report['randomize']}, seed {report['seed']}; brackets: 95 % interval"
    )
    return "\n".join([head, "", *lines])


def _cell(entry: dict[str, Any], name: str) -> str:
    from genmimic.evaluate.metrics import RATES

    value, interval = entry[name], entry["ci95"][name]
    if value is None:
        return "-"
    if name in RATES:
        text = f"{100 * value:.0f}"
        return text if interval is None else f"{text} [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"
    digits = 2 if name.endswith("_m") else 1
    text = f"{value:.{digits}f}"
    return text if interval is None else f"{text} ±{interval[1] - value:.{digits}f}"
