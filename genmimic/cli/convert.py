# SPDX-License-Identifier: Apache-2.0
"""``genmimic convert``: bring a public G1 motion into our format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_FORMATS = ("asap", "pbhc", "twist2", "kimodo_csv", "g1_moves", "kimodo_npz", "genmimic")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "convert",
        help="bring a motion of another G1 or format to ours, at 50 Hz",
        description="Read a motion of a Unitree G1 in a public format, retarget it to the 23-joint robot by inverse "
        "kinematics, put it on the floor and write it as genmimic-motion/1 at 50 Hz. It starts at the "
        "origin, facing x.",
    )
    parser.add_argument("input", metavar="IN", help=f"one of {', '.join(_FORMATS)}; .gz is unpacked")
    parser.add_argument("output", metavar="OUT", help="motion to write, *.npz")
    parser.add_argument("--format", choices=_FORMATS, metavar="NAME", help="of IN; found by its content when left out")
    parser.add_argument("--fps", type=float, metavar="HZ", help="of IN, where the file does not say or is wrong")
    parser.add_argument("--crop", nargs=2, type=float, metavar=("START", "END"), help="keep this part, in s")
    parser.add_argument("--name", help="name in the file; that of IN when left out")
    parser.add_argument("--mirror", action="store_true", help="swap left and right")
    parser.add_argument("--repo", metavar="OWNER/NAME@COMMIT", help="origin to record, where IN does not come with one")
    parser.add_argument("--licence", help="licence to record, where IN does not come with one")
    parser.add_argument("--credit", help="credit line to record, as the licence asks for")
    parser.add_argument("--content", help="what happens in the motion, to record")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")


def run(args: argparse.Namespace) -> int:
    """Convert one file; OUT appears whole or not at all."""
    from dataclasses import replace

    from genmimic.core.errors import ConfigError
    from genmimic.core.motion import crop_motion, mirror_motion, place_motion, save_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.retarget.g1_to_g1 import convert_file

    output = Path(args.output)
    if output.suffix != ".npz":
        raise ConfigError(f"{output}: the output ends in {output.suffix or 'nothing'!r}, expected .npz")
    if output.exists() and not args.force:
        raise ConfigError(f"{output}: exists; give --force to overwrite it")
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: folder {output.parent} does not exist")

    motion = convert_file(args.input, args.format, args.fps)
    source = dict(motion.source)
    if args.crop is not None:
        motion = crop_motion(motion, *args.crop)
        source["crop_s"] = list(args.crop)
        source["changes"] = f"cropped to {args.crop[0]:g} to {args.crop[1]:g} s; {source.get('changes', '')}".rstrip(
            "; "
        )
    for key in ("licence", "credit", "content"):
        if getattr(args, key):
            source[key] = getattr(args, key)
    if args.repo:
        source["repo"], _, commit = args.repo.partition("@")
        source.update({"commit": commit} if commit else {})
    motion = replace(motion, source=source)
    if args.mirror:
        motion = mirror_motion(G1_23DOF, motion)
    motion = place_motion(G1_23DOF, motion, (0.0, 0.0), 0.0)
    if args.name:
        motion = replace(motion, name=args.name)
    save_motion(output, G1_23DOF, motion)
    report = source.get("retarget")
    error = f", {report['error_cm']} cm from the source" if isinstance(report, dict) else ""
    print(f"{output}: {motion.name}, {motion.duration:.2f} s at {motion.fps:g} Hz{error}")
    return 0
