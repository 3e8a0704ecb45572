# SPDX-License-Identifier: Apache-2.0
"""``genmimic retarget``: a person's motion onto the robot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "retarget",
        help="bring a person's motion onto the robot",
        description="Read a human motion (what `genmimic lift` writes, SMPL and AMASS npz, BVH, ASF/AMC and others), "
        "retarget it to the 23-joint robot by inverse kinematics with standing feet held still and level, and write "
        "it as genmimic-motion/1 at 50 Hz. It starts at the origin, facing x.",
    )
    parser.add_argument("input", metavar="PERSON", help="a human motion of any known format")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="motion to write, *.npz")
    parser.add_argument("--fps", type=float, metavar="HZ", help="of PERSON, where the file does not say or is wrong")
    parser.add_argument("--height", type=float, metavar="M", help="of the person, where the file's unit is not known")
    parser.add_argument("--up", metavar="AXIS", help="that points up in PERSON, like y or -z; found when left out")
    parser.add_argument(
        "--person", type=int, metavar="N", help="which one, where PERSON has several; the longest when left out"
    )
    parser.add_argument("--order", metavar="NAME", help="of points without names: coco, h36m, smpl24 and others")
    parser.add_argument("--skeleton", metavar="ASF", help="of an AMC motion; found beside it when left out")
    parser.add_argument("--body-model", metavar="NPZ", help="your SMPL, SMPL-H or SMPL-X model, for the body's shape")
    parser.add_argument("--crop", nargs=2, type=float, metavar=("START", "END"), help="keep this part, in s")
    parser.add_argument("--name", help="name in the file; that of PERSON when left out")
    parser.add_argument("--plots", metavar="PNG", help="draw feet, speeds and margins")
    parser.add_argument("--video", metavar="MP4", help="draw the robot; needs OpenGL")
    parser.add_argument("--html", metavar="HTML", help="write a one-page report with everything in it")
    parser.add_argument("--json", action="store_true", help="print how well it came over")
    parser.add_argument("--force", action="store_true", help="overwrite OUT")


def run(args: argparse.Namespace) -> int:
    """Retarget one file; OUT appears whole or not at all."""
    import json
    import sys
    import tempfile
    from dataclasses import asdict, replace

    from genmimic.check import judge
    from genmimic.check.pictures import check_paths, save_pictures
    from genmimic.cli.check import check_output
    from genmimic.core.motion import crop_motion, place_motion, save_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.lift import read_human
    from genmimic.retarget.human import retarget_human
    from genmimic.retarget.pictures import retarget_sections

    output = check_output(args.output, args.force)
    check_paths(args.plots, args.video, args.html)
    person = read_human(
        args.input, fps=args.fps, height=args.height, up=args.up, person=args.person, order=args.order,
        skeleton=args.skeleton, body_model=args.body_model,
    )  # fmt: skip
    result = retarget_human(person)
    motion = result.motion
    if args.crop is not None:
        motion = replace(crop_motion(motion, *args.crop), source={**motion.source, "crop_s": list(args.crop)})
    motion = place_motion(G1_23DOF, replace(motion, name=args.name or person.name), (0.0, 0.0), 0.0)
    save_motion(output, G1_23DOF, motion)
    if args.plots or args.video or args.html:
        title = f"{Path(args.input).name} on the robot"
        with tempfile.TemporaryDirectory(prefix="genmimic-") as scratch:
            sections = retarget_sections(Path(scratch), G1_23DOF, person, result, motion) if args.html else []
            left_out = save_pictures(
                G1_23DOF, motion, judge(G1_23DOF, motion), plots=args.plots, video=args.video, page=args.html,
                title=title, sections=sections,
            )  # fmt: skip
        for text in left_out:
            print(f"genmimic: left out: {text}", file=sys.stderr)
    report = result.report
    if args.json:
        print(json.dumps({"output": str(output), "frames": len(motion), **asdict(report)}, indent=1))
    else:
        print(
            f"{output}: {motion.name}, {motion.duration:.2f} s at {motion.fps:g} Hz, {report.error_cm} cm from the "
            f"person's pose, standing feet slide {report.skate_cm_s} cm/s"
        )
    return 0
