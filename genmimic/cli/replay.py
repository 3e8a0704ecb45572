# SPDX-License-Identifier: Apache-2.0
"""``genmimic replay``: what was recorded, told again: as a list, through the nodes' topics, or as files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from genmimic.core.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from genmimic.record.reader import Recording


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "replay",
        help="tell a recorded run again",
        description="Print what a recording holds and what happened in it; with --publish, publish its topics again as "
        "fast as they came, for rviz, Foxglove and the view. Never beside a robot: it is refused where a bridge is. "
        "Exit code 0: done; 1: --publish was stopped because a robot came, or --check found other commands; 2: bad "
        "input or usage.",
    )
    parser.add_argument("run", metavar="RUN", help="recording, *.mcap, or the folder that holds run.mcap")
    parser.add_argument("--publish", action="store_true", help="publish it again; Ctrl-C ends it")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="these alone, by full or short name")
    parser.add_argument(
        "--all", action="store_true", help="with --publish: joint_command and safety_status, too, which move robots"
    )
    parser.add_argument("--rate", type=float, default=1.0, metavar="X", help="X times as fast (default: %(default)s)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="from so many seconds on")
    parser.add_argument("--end", type=float, metavar="S", help="up to so many seconds")
    parser.add_argument("--loop", action="store_true", help="with --publish: again and again")
    parser.add_argument(
        "--check", action="store_true", help="compute every command and verdict again: is it what was recorded?"
    )
    parser.add_argument("--policy", metavar="P", help="for --check: the policy that ran (default: by its name)")
    parser.add_argument("--recover", metavar="MCAP", help="write what a crash has left into a file with an index")
    parser.add_argument(
        "--trajectory", metavar="DIR", help="write each time through the motion as trajectory.npz there"
    )
    parser.add_argument("--extract", metavar="DIR", help="write the files inside there: configuration, motion, report")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a list")


def run(args: argparse.Namespace) -> int:
    """Do what is asked and return the exit code."""
    import json

    from genmimic.record.reader import Recording, recover
    from genmimic.record.summary import extract, summary, summary_text, write_trajectories

    if not 0.01 <= args.rate <= 100.0:
        raise ConfigError(f"--rate is {args.rate:g}, expected 0.01 to 100")
    if args.start < 0.0 or (args.end is not None and args.end <= args.start):
        raise ConfigError("--start and --end: expected 0 or more, and an end after the start")
    if args.recover:
        print(f"{recover(args.run, args.recover)} messages in {args.recover}")
        return 0
    recording = Recording(args.run)
    unknown = [name for name in args.topics or () if recording.find(name) is None]
    if unknown:
        raise ConfigError(f"{recording.path}: no topic {unknown[0]!r}; there are {', '.join(recording.topics)}")
    if args.extract or args.trajectory:
        written = extract(recording, args.extract) if args.extract else []
        written += write_trajectories(recording, args.trajectory) if args.trajectory else []
        print("\n".join(map(str, written)))
        return 0
    if args.check:
        return _check(recording, args.policy)
    if args.publish:
        try:
            from genmimic_ros.replay import publish
        except ImportError as error:
            raise MissingDependencyError(
                f"--publish needs ROS 2 ({error}); run `make setup` and use .venv/bin/genmimic, or source ROS 2"
            ) from None
        return publish(recording, args.topics, args.all, args.rate, args.start, args.end, args.loop)
    found = summary(recording)
    print(json.dumps(found, indent=1) if args.json else summary_text(found))
    return 0


def _check(recording: Recording, policy_name: str | None) -> int:
    """Compare what policy and safety code say today with what was recorded; return the exit code."""
    from genmimic.core.robot import G1_23DOF
    from genmimic.evaluate.report import file_sha256
    from genmimic.policy import find_policy, load_policy
    from genmimic.replay import heard_of, replay_policy, replay_safety

    facts = recording.facts.get("genmimic", {})
    path = find_policy(policy_name or facts.get("policy") or None)
    if facts.get("policy_sha256", file_sha256(path)) != file_sha256(path):
        raise ConfigError(f"{path} is not the policy that ran ({facts['policy_sha256'][:16]}); name it with --policy")
    report = recording.report or {}
    if report.get("noise", "none") != "none":
        raise ConfigError("the policy saw noise in this run; its commands cannot be computed again")
    policy = load_policy(path)
    heard = list(heard_of((each.log_ns, each.topic, each.message) for each in recording.messages()))
    commands = replay_policy(heard, G1_23DOF, policy, policy.manifest.goal_frame)
    safety = replay_safety(heard, G1_23DOF)
    words = f"{commands.identical} of {commands.commands} commands are the same to the last bit"
    words += f", {commands.unsure} follow a gap" if commands.unsure else ""
    if not commands.same:
        words += f"; others differ by up to {commands.worst_rad:.6f} rad, the first is number {commands.first}"
    print(f"policy: {words}")
    print(f"safety: {'the same modes for the same reasons' if safety.same else 'differs'}")
    if not safety.same:
        for name, changes in (("recorded", safety.recorded), ("now", safety.replayed)):
            print(f"  {name}: " + ", ".join(f"{mode.name} {' '.join(reasons)}".strip() for mode, reasons in changes))
    return 0 if commands.same else 1  # when the monitor looked, to the millisecond, is not recorded
