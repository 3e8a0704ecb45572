# SPDX-License-Identifier: Apache-2.0
"""The viewer beside `genmimic mimic`: its settings, and whether somebody looks."""

from __future__ import annotations

import argparse
import json
import math
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genmimic.core.errors import ConfigError, InputFileError
from genmimic.retarget.pipeline import VIDEO_SUFFIXES
from genmimic.view.server import check_address, import_viser


def check(args: argparse.Namespace) -> None:
    """Raise a GenMimicError where the viewer cannot work, before anything is started."""
    import_viser()
    check_address(args.viewer_host)
    if not 1 <= args.viewer_port <= 65535:
        raise ConfigError(f"--viewer-port is {args.viewer_port}, expected 1 to 65535")
    if not (math.isfinite(args.viewer_wait) and args.viewer_wait >= 0.0):
        raise ConfigError(f"--viewer-wait is {args.viewer_wait:g}, expected seconds from 0")
    if args.video and not Path(args.video).is_file():
        raise InputFileError(f"{args.video}: no such file")


def settings(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return the parameters of viewer_node and the address of its page, for a browser on this machine."""
    port = free_port(args.viewer_host, args.viewer_port)
    film = args.video or (args.motion if Path(args.motion).suffix.lower() in VIDEO_SUFFIXES else "")
    parameters = {"host": args.viewer_host, "port": port, "video": str(Path(film).resolve()) if film else ""}
    return parameters, f"http://localhost:{port}"


def free_port(host: str, first: int) -> int:
    """Return the first port from ``first`` on that can be listened on. Raises ConfigError."""
    for port in range(first, min(first + 100, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue
    raise ConfigError(f"no free port from {first} on; give another --viewer-port")


def await_browser(url: str, seconds: float, check: Callable[[], None]) -> bool:
    """Wait until somebody looks at the page, at most so long; return whether somebody does.

    ``check`` is called often; it raises when the wait is over for another reason.
    """
    begin = time.monotonic()
    told = False
    while time.monotonic() - begin < max(seconds, 0.0):
        check()
        viewers = viewers_of(url)
        if viewers:
            return True
        if viewers == 0 and not told:
            told = True
            print(f"genmimic: the motion waits up to {seconds:.0f} s for it to be opened", file=sys.stderr, flush=True)
        time.sleep(0.2)
    return False


def viewers_of(url: str) -> int | None:
    """Return how many browsers look at a page; None when it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/status", timeout=1.0) as answer:
            return int(json.load(answer)["viewers"])
    except (OSError, ValueError, KeyError):
        return None
