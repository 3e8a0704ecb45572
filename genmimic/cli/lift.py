# SPDX-License-Identifier: Apache-2.0
"""``genmimic lift``: a video of a person to a human motion, offline and on the CPU."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "lift",
        help="turn a video of a person into a 3D motion",
        description="Find a person in every picture of a video, lift what is seen to 3D, clean it and write it as "
        "genmimic-human/1: metres, z up, feet on the floor. Works offline, on the CPU. docs/lifting.md says how.",
    )
    parser.add_argument("video", metavar="VIDEO", help="any video; several people: the largest one is followed")
    parser.add_argument("-o", "--output", metavar="OUT", help="human motion to write, *.npz")
    parser.add_argument("--height", type=float, metavar="M", help="of the person; 1.7 m when left out")
    parser.add_argument(
        "--focal", type=float, metavar="SHARE",
        help="focal length over the picture's longer side: 0.75 for a phone, 1.4 for a portrait lens; 1 when left out",
    )  # fmt: skip
    parser.add_argument(
        "--fps", type=float, metavar="HZ", help="of the motion; the video's, at least 30, when left out"
    )
    parser.add_argument(
        "--crop",
        nargs=4,
        type=int,
        metavar=("X", "Y", "W", "H"),
        help="part of the picture that is the film, in pixels",
    )
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="leave out what is earlier, in s")
    parser.add_argument("--end", type=float, metavar="S", help="leave out what is later, in s")
    parser.add_argument(
        "--person", nargs=2, type=float, metavar=("X", "Y"), help="follow whoever is nearest to this pixel at the start"
    )
    parser.add_argument("--preview", metavar="MP4", help="write the video with the skeleton drawn over it")
    parser.add_argument("--plots", metavar="PNG", help="write plots of feet, speeds and confidence, before and after")
    parser.add_argument("--html", metavar="HTML", help="write a one-page report with everything in it")
    parser.add_argument("--json", action="store_true", help="print a summary for programs")
    parser.add_argument("--force", action="store_true", help="overwrite files")


def run(args: argparse.Namespace) -> int:
    """Lift one video; each file appears whole or not at all."""
    import json
    import sys

    from genmimic.core.errors import ConfigError
    from genmimic.core.human import save_human_motion
    from genmimic.lift.pictures import write_plots
    from genmimic.lift.pipeline import lift_video, summary, write_preview

    output = Path(args.output) if args.output else Path(args.video).with_suffix(".npz").name
    wanted = [(Path(output), ".npz"), (args.preview, ".mp4"), (args.plots, ".png"), (args.html, ".html")]
    for path, suffix in wanted:
        if path is None:
            continue
        path = Path(path)
        if path.suffix != suffix:
            raise ConfigError(f"{path}: ends in {path.suffix or 'nothing'!r}, expected {suffix}")
        if path.exists() and not args.force:
            raise ConfigError(f"{path}: exists; give --force to overwrite it")
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: folder {path.parent} does not exist")
    terminal = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if terminal and (done % 5 == 0 or done == total):
            share = f"{100 * done // total:3d} %" if total else f"{done} pictures"
            print(f"\rlifting {share}", end="", file=sys.stderr, flush=True)

    def say(text: str) -> None:
        print(f"genmimic: {text}", file=sys.stderr)

    try:
        lifted = lift_video(
            args.video, height=args.height, focal=args.focal, fps=args.fps, crop=args.crop, start_s=args.start,
            end_s=args.end, point=args.person, progress=progress, say=say,
        )  # fmt: skip
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    save_human_motion(output, lifted.motion)
    if args.preview:
        write_preview(lifted, args.video, args.preview, crop=args.crop)
    if args.plots:
        write_plots(lifted, args.plots)
    if args.html:
        from genmimic.lift.page import save_lift_page

        save_lift_page(args.html, lifted, args.video, crop=args.crop)
    if args.json:
        print(json.dumps({"output": str(output), **summary(lifted)}))
        return 0
    motion = lifted.motion
    print(
        f"{output}: {motion.name}, {motion.duration:.2f} s at {motion.fps:g} Hz, "
        f"confidence {motion.confidence.mean():.2f}"
    )
    for note in lifted.notes:
        print(f"  {note}")
    return 0
