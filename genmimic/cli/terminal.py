# SPDX-License-Identifier: Apache-2.0
"""Colours on a terminal, and none elsewhere."""

from __future__ import annotations

import os
import re
from typing import TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}

_VERDICTS = {"ok": "green", "warn": "yellow", "fail": "red"}


def wants_colour(stream: TextIO) -> bool:
    """Return whether colour codes belong on ``stream``.

    Not into pipes and files, not where ``NO_COLOR`` is set to anything (no-color.org) or ``TERM`` is ``dumb``;
    ``FORCE_COLOR`` asks for them in a pipe too, for example for ``less -R``.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return ``text`` in one of red, green, yellow, bold and dim, where ``stream`` takes colours."""
    return f"\033[{_CODES[colour]}m{text}\033[0m" if wants_colour(stream) else text


def paint_verdicts(table: str, stream: TextIO) -> str:
    """Return a table with its lines' first words, ok, warn and fail, in colour."""
    pattern = re.compile(rf"^({'|'.join(_VERDICTS)})\b", re.MULTILINE)
    return pattern.sub(lambda match: paint(match[0], _VERDICTS[match[0]], stream), table)
