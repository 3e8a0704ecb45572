# SPDX-License-Identifier: Apache-2.0
"""``genmimic check``: can and should a robot do this motion? The verdict goes into the file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXIT_REFUSED = 1


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "check",
        help="judge, and repair, a robot motion",
        description="Judge a robot motion: joint ranges, speeds, shaking, jumps, sliding, floating and sinking feet, "
        "self-collision, balance, first and last pose, and whether the policy can track it in simulation. The "
        "verdict, ok, repaired, gantry only or refused, is written into the file; the real robot asks for it. Exit "
        "code 0: any other verdict than refused; 1: refused; 2: bad input or usage.",
    )
    parser.add_argument("motions", metavar="MOTION", nargs="+", help="robot motion, *.npz, or a shipped one's name")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="write there instead of into MOTION, of which there is one"
    )
    parser.add_argument("--repair", action="store_true", help="repair what can be repaired, then judge")
    parser.add_argument("--policy", metavar="P", help="policy, *.onnx, or a shipped one's name (default: student)")
    parser.add_argument(
        "--rollouts", type=int, default=4, metavar="N", help="in simulation, the first nominal (default: %(default)s)"
    )
    parser.add_argument("--no-simulation", action="store_true", help="leave simulation out; no pass for the real robot")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the other rollouts (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="judge only, write no motion")
    parser.add_argument("--plots", metavar="PNG", help="draw feet, speeds, margins and balance")
    parser.add_argument("--video", metavar="MP4", help="draw the robot; needs OpenGL")
    parser.add_argument("--html", metavar="HTML", help="write a one-page report with everything in it")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")


def run(args: argparse.Namespace) -> int:
    """Judge motions and return the exit code: that of the worst."""
    import json

    from genmimic.check.pictures import check_paths
    from genmimic.core.errors import ConfigError
    from genmimic.core.motion import load_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.policy import find_policy, find_shipped

    if args.rollouts < 1 or args.seed < 0:
        raise ConfigError(f"--rollouts is {args.rollouts} and --seed {args.seed}; expected at least 1 and 0")
    if len(args.motions) > 1 and (args.output or args.plots or args.video or args.html):
        raise ConfigError("--output, --plots, --video and --html are for one MOTION")
    output = None if args.output is None else check_output(args.output, args.force)
    check_paths(args.plots, args.video, args.html)
    paths = [find_shipped(name, "motions", ".npz") for name in args.motions]
    motions = [load_motion(path, G1_23DOF) for path in paths]
    policy = None if args.no_simulation else find_policy(args.policy)
    records, refused = [], False
    for path, motion in zip(paths, motions, strict=True):
        checked, left_out = _check(args, path, output, motion, policy)
        refused |= checked.judgement.verdict == "refused"
        if args.json:
            before = None if checked.before is None else [one.as_json() for one in checked.before.findings]
            records.append({"file": str(output or path), **checked.motion.source["check"], "before": before})
        else:
            print("\n".join(summary(motion.name, checked, left_out)), flush=True)
    if args.json:
        print(json.dumps(records[0] if len(records) == 1 else records, indent=1))
    return EXIT_REFUSED if refused else 0


def _check(args: argparse.Namespace, path: Path, output: Path | None, motion: Any, policy: Path | None) -> Any:
    from genmimic.check import check_motion
    from genmimic.check.pictures import save_pictures
    from genmimic.core.motion import save_motion
    from genmimic.core.robot import G1_23DOF

    checked = check_motion(G1_23DOF, motion, policy, mend=args.repair, rollouts=args.rollouts, seed=args.seed)
    if not args.dry_run:
        save_motion(output or path, G1_23DOF, checked.motion)
    left_out = save_pictures(
        G1_23DOF, checked.motion, checked.judgement, checked.before, checked.original,
        plots=args.plots, video=args.video, page=args.html, title=motion.name,
    )  # fmt: skip
    return checked, left_out


def summary(name: str, checked: Any, left_out: Any = ()) -> list[str]:
    """Return the verdict as lines for people."""
    judgement = checked.judgement
    lines = [f"{name}: {judgement.verdict}"]
    lines += [f"  repaired: {line}" for line in judgement.repairs]
    lines += [f"  not repaired, {line}" for line in checked.left_out]
    lines += [f"  {finding.severity.name.lower():<7}{finding.text}" for finding in judgement.findings]
    if judgement.tracking is None:
        lines.append("  not tracked in simulation: no pass for the real robot")
    elif judgement.tracking.fell_at_s[0] is None:
        count = len(judgement.tracking.fell_at_s)
        stood = sum(at is None for at in judgement.tracking.fell_at_s)
        lines.append(
            f"  tracked by {judgement.tracking.policy}: {judgement.tracking.lmpkpe_cm[0]:.1f} cm off, stood in {stood} "
            f"of {count} rollouts"
        )
    return lines + [f"  left out: {text}" for text in left_out]


def check_output(name: str, force: bool) -> Path:
    """Return the path of a motion to write. Raises ConfigError."""
    from genmimic.core.errors import ConfigError

    output = Path(name)
    if output.suffix != ".npz":
        raise ConfigError(f"{output}: the output ends in {output.suffix or 'nothing'!r}, expected .npz")
    if output.exists() and not force:
        raise ConfigError(f"{output}: exists; give --force to overwrite it")
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: folder {output.parent} does not exist")
    return output
