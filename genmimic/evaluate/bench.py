# SPDX-License-Identifier: Apache-2.0
"""Tables like the paper's: classes of motions by its metrics, and what it reports itself, for comparison."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from genmimic.core.errors import ConfigError, InputFileError
from genmimic.evaluate.metrics import summarize

COLUMNS = (
    ("SR", "sr"), ("MPKPE", "mpkpe_cm"), ("LMPKPE", "lmpkpe_cm"), ("MPKPE-NT", "mpkpe_nt_cm"),
    ("LMPKPE-NT", "lmpkpe_nt_cm"), ("no fall", "no_fall"), ("SR local", "sr_local"), ("hands", "hands_cm"),
    ("drift", "drift_m"),
)  # fmt: skip
"""Title and metric; the first five are the paper's (Table 1), the others ours."""

PAPER_COLUMNS = tuple(name for _, name in COLUMNS[:5])

PAPER_TABLE_1 = {
    "GMT": (0.0429, 23.79, 4.58, 132.32, 6.78),
    "TWIST student": (0.0752, 24.16, 5.24, 98.08, 7.05),
    "GenMimic student": (0.2978, 24.51, 5.98, 62.48, 6.82),
    "TWIST teacher": (0.0269, 25.74, 6.61, 120.96, 7.82),
    "BeyondMimic": (0.2381, 23.29, 10.19, 36.85, 5.58),
    "GenMimic teacher": (0.8677, 16.63, 6.68, 20.46, 6.75),
}
"""What the paper reports on GenMimicBench, in `PAPER_COLUMNS`: rates, and means in cm (arXiv 2512.05094, Table 1)."""

PAPER_TABLE_2 = (
    ("in-place action", ("wave", "reach", "raise", "sequence")),
    ("step+action", ("step forward", "step lateral", "raise leg")),
    ("turn+action", ("2 x 180 turn", "2 x 90 turn", "180 turn", "90 turn", "< 90 turn")),
    ("walk+action", ("walk", "walk+turn")),
)
"""Classes of actions on the real robot, and the actions of each (Table 2)."""

DEFAULT_CLASSES = {
    "composite + locomotion": ("*then*walk*", "*walk*then*", "*composite*walk*", "*sequence*walk*"),
    "simple + locomotion": ("*walk*", "*step*", "*turn*"),
    "composite upper body": ("*then*", "*composite*", "*sequence*"),
    "simple upper body": ("*wave*", "*thumb*", "*touch*head*", "*point*", "*raise*", "*reach*", "*hands*", "*arm*"),
    "other": ("*",),
}
"""Classes after the paper's taxonomy (appendix C.2.1), by patterns in the motion's name; the first that fits counts."""

FORMATS = ("text", "markdown", "latex", "csv")


def load_classes(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read classes from JSON or YAML: a list of patterns of motion names for each. Raises InputFileError."""
    import yaml

    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
        found = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, yaml.YAMLError) as error:
        raise InputFileError(f"{path}: not JSON or YAML ({str(error).splitlines()[0]})") from None
    good = isinstance(found, dict) and all(
        isinstance(patterns, list) and patterns and all(isinstance(each, str) for each in patterns)
        for patterns in found.values()
    )
    if not good or not found:
        raise InputFileError(f"{path}: expected classes, each with a list of patterns of motion names")
    return {str(name): tuple(patterns) for name, patterns in found.items()}


def class_of(motion: str, classes: Mapping[str, Sequence[str]] = DEFAULT_CLASSES) -> str:
    """Return the first class with a pattern that ``motion`` fits, whatever its case; ``other`` when none does."""
    for name, patterns in classes.items():
        if any(fnmatchcase(motion.lower(), pattern.lower()) for pattern in patterns):
            return name
    return "other"


def class_rows(
    report: Mapping[str, Any], classes: Mapping[str, Sequence[str]] = DEFAULT_CLASSES
) -> list[tuple[str, int, dict[str, Any]]]:
    """Return name, number of motions and `summarize` of each class that has motions, and last of all of them.

    As in the paper, all rollouts count the same.
    """
    rows = []
    groups: dict[str, list[Any]] = {}
    for entry in report["motions"]:
        groups.setdefault(class_of(entry["motion"], classes), []).append(entry)
    for name in [*classes, "other"]:
        entries = groups.pop(name, [])
        if entries:
            rows.append((name, len(entries), _summary(entries)))
    rows.append(("all", len(report["motions"]), _summary(report["motions"])))
    return rows


def _summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    each = [rollout for entry in entries for rollout in entry.get("each", ())]
    if not each:
        raise ConfigError("the report has no single rollouts ('each'); it is not one of ours")
    return summarize([{key: float("nan") if value is None else value for key, value in one.items()} for one in each])


def bench_table(
    report: Mapping[str, Any],
    classes: Mapping[str, Sequence[str]] = DEFAULT_CLASSES,
    form: str = "text",
    paper: bool = True,
) -> str:
    """Return classes by metrics as a table: rates in %, errors in cm with half of their 95 % intervals.

    Args:
        report: Of an evaluation or a run.
        classes: Patterns of motion names by class.
        form: One of `FORMATS`.
        paper: Add the paper's own lines (Table 1), which are means over its benchmark's 428 videos.
    """
    if form not in FORMATS:
        raise ConfigError(f"table format is {form!r}; known: {', '.join(FORMATS)}")
    head = ["", "motions", "rollouts", *(f"{title} {_unit(name)}" for title, name in COLUMNS)]
    lines = [
        [name, str(motions), str(summary["rollouts"]), *(_cell(summary, key, form) for _, key in COLUMNS)]
        for name, motions, summary in class_rows(report, classes)
    ]
    if paper:
        for name, values in PAPER_TABLE_1.items():
            cells = [f"{100 * values[0]:.1f}", *(f"{value:.1f}" for value in values[1:])]
            lines.append([f"paper: {name}", "428", "256 each", *cells, *[""] * (len(COLUMNS) - 5)])
    if form == "csv":
        buffer = io.StringIO()
        csv.writer(buffer).writerows([head, *lines])
        return buffer.getvalue().rstrip("\n")
    if form == "markdown":
        rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)
    if form == "latex":
        body = [" & ".join(cell.replace("%", r"\%") for cell in row) + r" \\" for row in [head, *lines]]
        return "\n".join([r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", body[0], r"\hline", *body[1:],
                          r"\end{tabular}"])  # fmt: skip
    widths = [max(len(row[column]) for row in [head, *lines]) for column in range(len(head))]
    aligned = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in [head, *lines]
    ]  # fmt: skip
    rule = "-" * max(map(len, aligned))
    ours = len(lines) - (len(PAPER_TABLE_1) if paper else 0)
    parts = [aligned[0], rule, *aligned[1:ours], rule, aligned[ours]]
    return "\n".join([*parts, *([rule, *aligned[ours + 1 :]] if paper else [])])


def _unit(name: str) -> str:
    return "cm" if name.endswith("_cm") else "m" if name.endswith("_m") else "%"


def _cell(summary: Mapping[str, Any], name: str, form: str) -> str:
    value, interval = summary[name], summary["ci95"][name]
    if value is None:
        return "-"
    if _unit(name) == "%":
        return f"{100 * value:.1f}"
    digits = 2 if name.endswith("_m") else 1
    if interval is None:
        return f"{value:.{digits}f}"
    sign = r"$\pm$" if form == "latex" else "±"
    return f"{value:.{digits}f} {sign} {(interval[1] - interval[0]) / 2:.{digits}f}"
