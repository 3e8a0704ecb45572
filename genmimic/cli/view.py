# SPDX-License-Identifier: Apache-2.0
"""``genmimic view``: motions and finished runs in the browser."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genmimic.view.clip import Clip
    from genmimic.view.player import Player

LOCAL_HOST, DEFAULT_PORT = "127.0.0.1", 8080


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "view",
        help="look at motions and finished runs in the browser",
        description="Serve a page that plays motions, trajectories and the runs of a report, with a time line, speed "
        "and loop. It is offline and for this machine alone unless --host says otherwise. Ctrl-C ends it.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="motion, *.npz, a shipped one's name, a trajectory.npz, a recording, "
        "*.mcap, or a folder of motions or of a report"
    )  # fmt: skip
    parser.add_argument(
        "--policy", metavar="P", help="let this policy imitate the motions in simulation first, and show both"
    )
    parser.add_argument("--video", metavar="V", help="film to show beside the first motion, from its start on")
    parser.add_argument(
        "--video-start", type=float, default=0.0, metavar="S", help="time in the film at which the motion begins"
    )
    add_server_options(parser)


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the page's server."""
    parser.add_argument(
        "--host", default=LOCAL_HOST, metavar="ADDRESS", help="address to listen on; 0.0.0.0 lets everybody in the "
        "network look, and operate where there are buttons (default: %(default)s, this machine alone)"
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, metavar="N", help="the next free one is taken (default: %(default)s)"
    )
    parser.add_argument(
        "--meshes", choices=("auto", "never"), default="auto",
        help="Unitree's meshes where mjlab is installed, or never (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="read everything, start the page, and end at once")


def run(args: argparse.Namespace) -> int:
    """Read everything, serve the page until Ctrl-C, and return the exit code."""
    import math

    from genmimic.core.errors import ConfigError
    from genmimic.core.robot import G1_23DOF
    from genmimic.view.clip import load_clips
    from genmimic.view.server import import_viser

    import_viser()
    if not (math.isfinite(args.video_start) and args.video_start >= 0.0):
        raise ConfigError(f"--video-start is {args.video_start:g}, expected seconds from 0")
    clips = load_clips(G1_23DOF, args.files)
    if args.policy:
        from genmimic.view.rollouts import imitated

        clips = imitated(G1_23DOF, clips, args.policy)
    return serve(args, clips, video=args.video, video_start_s=args.video_start)


def serve(
    args: argparse.Namespace,
    clips: Sequence[Clip],
    *,
    beside: Callable[[Player], None] | None = None,
    **options: Any,
) -> int:
    """Play clips on a page until Ctrl-C, and return the exit code.

    Args:
        args: Of `add_server_options`.
        clips: At least one.
        beside: What goes on meanwhile, on a thread of its own; called with the player.
        options: Of `Player`.
    """
    import signal
    import threading

    from genmimic.core.robot import G1_23DOF
    from genmimic.view.meshes import robot_meshes
    from genmimic.view.player import Player
    from genmimic.view.server import ViewServer

    meshes = robot_meshes(G1_23DOF, args.meshes)
    server = ViewServer(args.host, args.port, title="GenMimic view")
    try:
        player = Player(server, clips, G1_23DOF, meshes, **options)
        count = f"{len(clips)} clips" if len(clips) > 1 else clips[0].name
        print(f"{count}: {server.url}   (Ctrl-C ends)", flush=True)
        if not args.check:
            if beside is not None:
                threading.Thread(target=beside, args=(player,), daemon=True).start()
            before = {number: signal.signal(number, lambda *_: player.stop()) for number in (2, 15)}
            try:
                player.run()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
    finally:
        server.close()
    return 0
