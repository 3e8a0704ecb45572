# SPDX-License-Identifier: Apache-2.0
"""The command line, ``genmimic``. Exit code 0: done and good; 1: the outcome is bad; 2: bad input or usage.

A subcommand is a module here with ``add_parser(subparsers)`` and ``run(args) -> int``. Modules import what is slow to
load inside ``run``, so that ``genmimic --help`` is quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from genmimic import __version__
from genmimic.cli.terminal import paint
from genmimic.cli.usage import EXAMPLES, Parser, finish
from genmimic.core.errors import GenMimicError

COMMANDS = (
    "mimic", "evaluate", "bench", "report", "compare", "replay", "annotate", "inspect", "convert", "lift", "retarget",
    "check", "view", "doctor", "twin", "keys", "drill",
)  # fmt: skip
"""Modules of this package, in the order of the help text."""

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def build_parser() -> Parser:
    """Return the parser with every subcommand."""
    parser = Parser(prog="genmimic", description="A Unitree G1 does what a person in a video does.")
    parser.add_argument("--version", action="version", version=f"genmimic {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"genmimic.cli.{name}").add_parser(subparsers)
    return finish(parser, EXAMPLES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said what is wrong
        return stop.code if isinstance(stop.code, int) else EXIT_BAD_INPUT
    try:
        code = importlib.import_module(f"genmimic.cli.{args.command}").run(args)
        sys.stdout.flush()
        return int(code)
    except GenMimicError as error:
        print(paint("genmimic: error:", "red", sys.stderr), " ".join(str(error).split()), file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("genmimic: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, for example `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


__all__ = ["COMMANDS", "build_parser", "main"]
