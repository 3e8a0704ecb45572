# SPDX-License-Identifier: Apache-2.0
"""A parser whose help teaches: examples, one-line errors that name the fix, suggestions, shell completion."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from genmimic.cli.terminal import paint

SHELLS = ("bash", "zsh", "tcsh")

EXAMPLES: Mapping[str, Sequence[str]] = {
    "": ("genmimic mimic wave", "genmimic mimic clip.mp4", "genmimic doctor", "genmimic evaluate --help"),
    "mimic": (
        "genmimic mimic wave",
        "genmimic mimic clip.mp4 --report reports/clip",
        "genmimic mimic wave --robot g1 --interface eth0",
    ),
    "evaluate": (
        "genmimic evaluate --motions wave squat --rollouts 8 --noise paper",
        "genmimic evaluate --policy policy.onnx --report reports/mine",
    ),
    "bench": ("genmimic bench GenMimicBench", "genmimic bench GenMimicBench -o bench_motions"),
    "inspect": ("genmimic inspect motions/wave.npz", "genmimic inspect --json motions/*.npz"),
    "convert": (
        "genmimic convert dance.pkl dance.npz --licence MIT",
        "genmimic convert walk.csv walk.npz --format g1_moves --crop 10 22",
    ),
    "lift": ("genmimic lift clip.mp4 -o person.npz --html person.html",),
    "retarget": ("genmimic retarget person.npz -o motion.npz --plots motion.png",),
    "check": ("genmimic check motion.npz --repair -o better.npz", "genmimic check wave --dry-run"),
    "view": ("genmimic view motions/wave.npz",),
    "replay": ("genmimic replay runs/today/run.mcap",),
    "report": ("genmimic report reports/wave",),
    "annotate": ("genmimic annotate reports/wave reports/squat --videos films -o verdicts.html",),
    "compare": ("genmimic compare reports/a reports/b",),
    "doctor": ("genmimic doctor", "genmimic doctor --interface eth0"),
    "twin": ("genmimic twin --interface lo",),
    "keys": ("genmimic keys --ros-domain 42",),
    "drill": ("genmimic drill --short --repeat 1",),
}
"""At least one of each command, for its help text; the empty name is the program itself."""

_FILES = {"MOTION", "FILE", "VIDEO", "IN", "OUT", "PATH", "P", "PERSON", "HTML", "PNG", "MP4", "YAML", "ONNX", "JSON",
          "RUN", "MCAP", "V"}  # fmt: skip
_FOLDERS = {"DIR"}


class HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions, and leaves texts that have lines of their own as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(indent + line for line in text.splitlines())
        return textwrap.fill(" ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent,
                             break_on_hyphens=False)  # fmt: skip

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with what was probably meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **kwargs)
        self.examples: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown options where they stand, so that the message names the right command."""
        found, rest = super().parse_known_args(args, namespace)
        if rest and not self._subcommands():
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print one line and end with exit code 2."""
        text = " ".join(message.split())
        text = text.replace("the following arguments are required:", "missing:")
        text = text.replace("unrecognized arguments:", "unknown:")
        text += "".join(f"; {hint}" for hint in self._hints(message))
        print(paint(f"{self.prog}: error:", "red", sys.stderr), text, file=sys.stderr)
        raise SystemExit(2)

    def _hints(self, message: str) -> Iterator[str]:
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        if choice:
            close = difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), 1, 0.6)
            yield from (f"did you mean {name!r}?" for name in close)
        if unknown and unknown[1].startswith("-"):
            word = unknown[1].split("=")[0]
            close = difflib.get_close_matches(word, list(self._option_string_actions), 1, 0.6)
            yield from (f"did you mean {name}?" for name in close)
        if self.examples and not choice and not unknown:
            yield f"for example: {' '.join(self.examples[0].replace(chr(92), '').split())}"
        yield f"see {self.prog} --help"

    def summaries(self) -> dict[str, str]:
        """Return the one-line help of every subcommand."""
        groups = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return {each.dest: each.help or "" for group in groups for each in group._choices_actions}

    def _subcommands(self) -> dict[str, Parser]:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}


class PrintCompletion(argparse.Action):
    """``--print-completion SHELL``: print a completion script and end."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> NoReturn:
        try:
            import shtab
        except ImportError:
            parser.error("--print-completion needs the package shtab; run: pip install shtab")
        for command in (parser, *parser._subcommands().values()):
            for action in command._actions:
                metavars = action.metavar if isinstance(action.metavar, tuple) else (action.metavar,)
                if set(metavars) & _FILES:
                    action.complete = shtab.FILE
                elif set(metavars) & _FOLDERS:
                    action.complete = shtab.DIRECTORY
        print(shtab.complete(parser, values))
        raise SystemExit(0)


def finish(parser: Parser, examples: Mapping[str, Sequence[str]]) -> Parser:
    """Add the examples and the completion option to a parser that has its subcommands."""
    parser.add_argument(
        "--print-completion", action=PrintCompletion, choices=SHELLS, metavar="SHELL",
        help=f"print a completion script for {', '.join(SHELLS[:-1])} or {SHELLS[-1]}",
    )  # fmt: skip
    for name, command in {"": parser, **parser._subcommands()}.items():
        command.examples = examples.get(name, ())
        summary = parser.summaries().get(name, "")
        command.description = command.description or f"{summary[:1].upper()}{summary[1:]}."
        if command.examples and not command.epilog:
            title = "example" if len(command.examples) == 1 else "examples"
            command.epilog = "\n".join([f"{title}:", *(f"  {line}" for line in command.examples)])
    return parser
