# SPDX-License-Identifier: Apache-2.0
"""Two runs, evaluations or policies side by side: differences with confidence intervals, as text and as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genmimic import page as p
from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.core.robot import Robot
from genmimic.evaluate.metrics import METRICS, RATES, wilson_interval
from genmimic.evaluate.report import TRAJECTORY_NAME, bones_of, load_trajectory
from genmimic.evaluate.report_page import MEANINGS, player_ends
from genmimic.evaluate.runs import Run

RESAMPLES = 4000
"""Of the bootstrap."""

_SAME = ("seed", "noise", "randomize")


@dataclass(frozen=True)
class Difference:
    """One metric of both.

    Attributes:
        name: Of the metric.
        a, b: Rate, or mean error; None when unknown.
        a_interval, b_interval: 95 %: Wilson's for rates, the bootstrap's percentiles for errors.
        difference: b minus a.
        interval: Of the difference, 95 %: Newcombe's for rates, the bootstrap's for errors.
        verdict: ``better``, ``worse`` (b against a), or ``open`` where the interval holds zero or there is none.
    """

    name: str
    a: float | None
    b: float | None
    a_interval: tuple[float, float] | None
    b_interval: tuple[float, float] | None
    difference: float | None
    interval: tuple[float, float] | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """What came of comparing.

    Attributes:
        labels: Of both.
        metrics: In the order of `METRICS`.
        motions: Names of the motions that both have.
        left_out: Those that only one has.
        rollouts: Of each, over the motions that both have.
        paired: Whether rollout i of both had the same motion and the same chance.
        only: With pairs, how many rollouts only a, and only b, survived without a fall.
        resampled: What the bootstrap draws: ``rollouts`` within each motion, or ``motions``.
        notes: What to keep in mind, one line each.
    """

    labels: tuple[str, str]
    metrics: tuple[Difference, ...]
    motions: tuple[str, ...]
    left_out: tuple[str, ...]
    rollouts: tuple[int, int]
    paired: bool
    only: tuple[int, int] | None
    resampled: str
    notes: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether b is shown to be worse in any metric of the paper's first kind: falls, or the pose."""
        return any(each.verdict == "worse" for each in self.metrics if each.name in ("no_fall", "sr", "lmpkpe_nt_cm"))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "format": "genmimic-comparison/1", "labels": list(self.labels), "motions": list(self.motions),
            "left_out": list(self.left_out), "rollouts": list(self.rollouts), "paired": self.paired,
            "only": self.only, "resampled": self.resampled, "notes": list(self.notes),
            "metrics": {each.name: {key: value for key, value in vars(each).items() if key != "name"}
                        for each in self.metrics},
        }  # fmt: skip


def compare(a: Run, b: Run, seed: int = 0) -> Comparison:
    """Compare the motions that both have; ``seed`` is of the bootstrap.

    The bootstrap draws rollouts anew within each motion where each has several, else motions. Pairs stay together.

    Raises:
        ConfigError: They have no motion in common.
    """
    by_motion = [{entry["motion"]: entry for entry in run.report["motions"]} for run in (a, b)]
    shared = [name for name in by_motion[0] if name in by_motion[1]]
    names = _labels(a, b)
    if not shared and len(by_motion[0]) == len(by_motion[1]) == 1:  # one each: whoever asks wants these two
        (first,), (second,) = by_motion[0].values(), by_motion[1].values()
        pairs = [(f"{first['motion']} / {second['motion']}", first, second)]
    else:
        pairs = [(name, by_motion[0][name], by_motion[1][name]) for name in shared]
    if not pairs:
        raise ConfigError(
            f"{names[0]} and {names[1]} have no motion in common: {_some(by_motion[0])}; and {_some(by_motion[1])}"
        )
    groups = [(list(first.get("each", ())), list(second.get("each", ()))) for _, first, second in pairs]
    same = all(a.report.get(key) == b.report.get(key) for key in _SAME)
    paired = (
        bool(shared)
        and same
        and a.is_evaluation
        and b.is_evaluation
        and all(len(first) == len(second) for first, second in groups)
    )
    several = all(min(len(first), len(second)) >= 2 for first, second in groups)
    notes = [f"{key} differs: {a.report.get(key)} and {b.report.get(key)}" for key in _SAME
             if a.report.get(key) != b.report.get(key)]  # fmt: skip
    if a.report.get("policy_sha256") == b.report.get("policy_sha256"):
        notes.append("both ran the same policy")
    left_out = tuple(name for runs in (by_motion, by_motion[::-1]) for name in runs[0] if name not in runs[1])
    if not shared:
        left_out = ()
        notes.append("these are two different motions")
    rng = np.random.default_rng(seed)
    draws = _Draws([(len(first), len(second)) for first, second in groups], several, paired, rng)
    metrics = tuple(_difference(name, groups, draws) for name in METRICS)
    only = None
    if paired:
        stood = [(bool(one["no_fall"]), bool(two["no_fall"])) for first, second in groups
                 for one, two in zip(first, second, strict=True)]  # fmt: skip
        only = (sum(x and not y for x, y in stood), sum(y and not x for x, y in stood))
    rollouts = (sum(len(first) for first, _ in groups), sum(len(second) for _, second in groups))
    return Comparison(
        names, metrics, tuple(name for name, _, _ in pairs), left_out, rollouts, paired, only,
        "rollouts" if several else "motions", tuple(notes),
    )  # fmt: skip


class _Draws:
    """Which rollouts each resample of the bootstrap takes: index arrays over all rollouts of a and of b."""

    def __init__(self, sizes: Sequence[tuple[int, int]], within: bool, paired: bool, rng: np.random.Generator) -> None:
        self._sizes, self._within, self._paired = sizes, within, paired
        self._seeds = rng.integers(0, 2**32, 2)

    def means(self, values: tuple[list[np.ndarray], list[np.ndarray]]) -> np.ndarray | None:
        """Return the mean of each resample for a and b, or None where nothing can be drawn. Shape (2, R)."""
        found = np.empty((2, RESAMPLES))
        for side in (0, 1):
            # the same stream for both where pairs stay together
            rng = np.random.default_rng(self._seeds[0 if self._paired else side])
            groups = values[side]
            if self._within:
                sums, counts = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
                for group in groups:
                    taken = group[rng.integers(0, len(group), (RESAMPLES, len(group)))]
                    sums += np.nansum(taken, 1)
                    counts += np.isfinite(taken).sum(1)
            else:
                if len(groups) < 2:
                    return None
                sums_of = np.array([np.nansum(group) for group in groups])
                counts_of = np.array([np.isfinite(group).sum() for group in groups])
                taken = rng.integers(0, len(groups), (RESAMPLES, len(groups)))
                sums, counts = sums_of[taken].sum(1), counts_of[taken].sum(1)
            if not (counts > 0).all():
                return None
            found[side] = sums / counts
        return found


def _difference(name: str, groups: Sequence[tuple[list[Any], list[Any]]], draws: _Draws) -> Difference:
    values: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for sides in groups:
        for side in (0, 1):
            numbers = [math.nan if one.get(name) is None else float(one[name]) for one in sides[side]]
            values[side].append(np.array(numbers))
    flat = [np.concatenate(side) if side else np.zeros(0) for side in values]
    known = [each[np.isfinite(each)] for each in flat]
    if not len(known[0]) or not len(known[1]):
        means = [float(each.mean()) if len(each) else None for each in known]
        return Difference(name, means[0], means[1], None, None, None, None, "open")
    mean_a, mean_b = (float(each.mean()) for each in known)
    if name in RATES:
        a_interval, b_interval = (wilson_interval(int(each.sum()), len(each)) for each in known)
        interval = newcombe_interval(mean_a, a_interval, mean_b, b_interval)
        good_sign = 1
    else:
        good_sign = -1
        drawn = draws.means(values)
        if drawn is None:
            return Difference(name, mean_a, mean_b, None, None, mean_b - mean_a, None, "open")
        a_interval, b_interval, interval = (_ends(each) for each in (drawn[0], drawn[1], drawn[1] - drawn[0]))
    verdict = "open"
    if interval[0] > 0.0 or interval[1] < 0.0:
        verdict = "better" if good_sign * (mean_b - mean_a) > 0.0 else "worse"
    return Difference(name, mean_a, mean_b, a_interval, b_interval, mean_b - mean_a, interval, verdict)


def _ends(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def newcombe_interval(
    rate_a: float, interval_a: tuple[float, float], rate_b: float, interval_b: tuple[float, float]
) -> tuple[float, float]:
    """Return the 95 % interval of ``rate_b - rate_a`` from Wilson's intervals of both.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    """
    apart = rate_b - rate_a
    low = apart - math.hypot(rate_b - interval_b[0], interval_a[1] - rate_a)
    high = apart + math.hypot(interval_b[1] - rate_b, rate_a - interval_a[0])
    return max(-1.0, low), min(1.0, high)


# as text ---------------------------------------------------------------------------------------
def comparison_text(found: Comparison) -> str:
    """Return it as an aligned table."""
    rows = [["", *found.labels, "difference", ""]]
    for each in found.metrics:
        rows.append([MEANINGS[each.name][0], *_cells(each), "" if each.verdict == "open" else each.verdict])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", *_words(found)])


def _words(found: Comparison) -> list[str]:
    words = [
        f"{len(found.motions)} motion{'s' * (len(found.motions) != 1)}, {found.rollouts[0]} and {found.rollouts[1]} "
        f"rollouts{', paired' if found.paired else ''}. In brackets: 95 % intervals, Wilson's and Newcombe's for "
        f"rates, for errors the bootstrap's over {found.resampled}."
    ]
    if all(each.interval is None for each in found.metrics if each.name not in RATES):
        words.append("Too little was tried for intervals of errors: several rollouts, or several motions.")
    if found.only is not None:
        words.append(
            f"Without a fall: {found.only[0]} rollouts only {found.labels[0]}, {found.only[1]} only {found.labels[1]}."
        )
    if found.left_out:
        words.append(f"Left out, as only one has them: {_some(found.left_out)}.")
    return [*words, *(f"Note: {note}." for note in found.notes)]


def _cells(each: Difference) -> list[str]:
    rate = each.name in RATES
    factor, digits = (100.0, 1) if rate else (1.0, 2 if each.name.endswith("_m") else 1)
    unit = " %" if rate else " m" if each.name.endswith("_m") else " cm"

    def cell(value: float | None, interval: tuple[float, float] | None, sign: str = "") -> str:
        if value is None:
            return "–"
        ends = (
            ""
            if interval is None
            else f" [{factor * interval[0]:{sign}.{digits}f}, {factor * interval[1]:{sign}.{digits}f}]"
        )
        return f"{factor * value:{sign}.{digits}f}{unit}{ends}"

    return [cell(each.a, each.a_interval), cell(each.b, each.b_interval), cell(each.difference, each.interval, "+")]


# as a page -------------------------------------------------------------------------------------
def comparison_page(found: Comparison, a: Run, b: Run, robot: Robot) -> p.Page:
    """Return the page: the table, the motions, and both robots moving beside their goal."""
    page = p.Page(f"{found.labels[0]} and {found.labels[1]}")
    page.add(f"<h1>{p.text(found.labels[0])} and {p.text(found.labels[1])}</h1>")
    shown = [each for each in found.metrics if each.verdict != "open"]
    words = ", ".join(f"{MEANINGS[each.name][0]} {each.verdict}" for each in shown) or "no difference is shown"
    kind = "bad" if found.worse else "good" if any(each.verdict == "better" for each in shown) else "neutral"
    page.add(f"<p>{p.chip(f'{found.labels[1]}: {words}', kind)}</p>")
    rows, classes = [], []
    for each in found.metrics:
        mark = {"better": "good", "worse": "bad"}.get(each.verdict, "muted")
        verdict = f'<b class="{mark}">{each.verdict if each.verdict != "open" else "open"}</b>'
        rows.append([p.text(MEANINGS[each.name][0]), *(p.text(cell) for cell in _cells(each)), verdict])
        classes.append("")
    head = ["metric", p.text(found.labels[0]), p.text(found.labels[1]), "difference", "second is"]
    page.section("Side by side", p.table(head, rows, classes), _intervals(found))
    page.add(*(f'<p class="muted">{p.text(line)}</p>' for line in _words(found)))
    _motions(page, found, a, b)
    _together(page, found, a, b, robot)
    _conditions(page, found, a, b)
    return page


def _intervals(found: Comparison) -> str:
    shown = [each for each in found.metrics if each.interval is not None]
    if not shown:
        return ""
    figure = p.figure(10.0, 0.8 + 0.3 * len(shown))
    kinds = ((True, "percentage points"), (False, "cm"))
    parts = [(unit, part) for rates, unit in kinds if (part := [e for e in shown if (e.name in RATES) == rates])]
    axes = figure.subplots(1, len(parts), squeeze=False)[0]
    for axis, (unit, part) in zip(axes, parts, strict=True):
        for place, each in enumerate(reversed(part)):
            factor = 100.0 if each.name in RATES or each.name.endswith("_m") else 1.0
            assert each.interval is not None and each.difference is not None
            colour = {"better": p.GOAL, "worse": p.BAD}.get(each.verdict, p.MUTED)
            axis.plot([factor * end for end in each.interval], [place, place], color=colour, lw=4, alpha=0.5,
                      solid_capstyle="round")  # fmt: skip
            axis.plot([factor * each.difference], [place], "o", color=colour, ms=6)
        axis.set_yticks(range(len(part)), [MEANINGS[each.name][0] for each in reversed(part)])
        axis.axvline(0.0, color=p.INK, lw=0.8)
        axis.set_ylim(-0.7, len(part) - 0.3)
        p.style_axis(axis, title=f"second minus first, {unit}")
    return p.svg(figure, "differences", "differences with their intervals")


def _motions(page: p.Page, found: Comparison, a: Run, b: Run) -> None:
    if len(found.motions) < 2:
        return
    sides = [{entry["motion"]: entry for entry in run.report["motions"]} for run in (a, b)]

    def key(name: str) -> tuple[float, float]:
        one, two = sides[0][name], sides[1][name]
        fall = abs((one["no_fall"] or 0.0) - (two["no_fall"] or 0.0))
        return -fall, -abs((one["lmpkpe_nt_cm"] or 0.0) - (two["lmpkpe_nt_cm"] or 0.0))

    rows = []
    for name in sorted(found.motions, key=key):
        one, two = sides[0][name], sides[1][name]
        cells = [p.text(name)]
        for metric in ("no_fall", "lmpkpe_nt_cm", "hands_cm", "drift_m"):
            for entry in (one, two):
                value = entry[metric]
                digits = 2 if metric.endswith("_m") else 1
                cells.append(
                    "–" if value is None else f"{100 * value:.0f} %" if metric in RATES else f"{value:.{digits}f}"
                )
        rows.append(cells)
    head = ["motion"]
    for title in ("no fall", "LMPKPE-NT, cm", "hands, cm", "drift, m"):
        head += [title, "second"]
    page.section(
        "By motion", p.table(head, rows), note="Those that differ most first; the first's value, then the second's."
    )


def _together(page: p.Page, found: Comparison, a: Run, b: Run, robot: Robot) -> None:
    """Show both robots on one motion: that of two runs, or the one on which two evaluations differ most."""
    chosen = _trajectories(found, a, b, robot)
    if chosen is None:
        return
    name, first, second = chosen
    starts = [int(each["motion_frames"][0]) for each in (first, second)]
    lead = min(starts)
    parts = [{key: value[start - lead :] for key, value in each.items() if key != "motion_frames"}
             for each, start in zip((first, second), starts, strict=True)]  # fmt: skip
    bodies: list[tuple[str, str, np.ndarray, int | None]] = []
    for label, colour, part in zip(found.labels, ("robot", "other"), parts, strict=True):
        falls = np.flatnonzero(part["fell"])
        bodies.append((label, colour, part["keypoint_pos"], int(falls[0]) if len(falls) else None))
    bodies.append(("goal", "goal", parts[0]["goal_keypoint_pos"], None))
    fps = 1.0 / float(np.median(np.diff(parts[0]["t"]))) if len(parts[0]["t"]) > 1 else 50.0
    page.section(
        "Together", p.player(bodies, bones_of(robot), player_ends(robot), fps), note=p.text(f"{name}. Drag to turn.")
    )


def _trajectories(
    found: Comparison, a: Run, b: Run, robot: Robot
) -> tuple[str, Mapping[str, np.ndarray], Mapping[str, np.ndarray]] | None:
    if a.trajectory is not None and b.trajectory is not None:
        return found.motions[0], a.trajectory, b.trajectory
    sides = [{entry["motion"]: entry for entry in run.report["motions"]} for run in (a, b)]
    names = [name for name in found.motions if all(name in side for side in sides)]
    for name in sorted(names, key=lambda name: -abs((sides[0][name]["lmpkpe_nt_cm"] or 0.0)
                                                    - (sides[1][name]["lmpkpe_nt_cm"] or 0.0))):  # fmt: skip
        folders = [run.kept(side[name]) for run, side in zip((a, b), sides, strict=True)]
        if folders[0] and folders[1]:
            try:
                first, second = (load_trajectory(each[0] / TRAJECTORY_NAME, robot) for each in folders)
            except GenMimicError:
                continue
            return name, first, second
    return None


def _conditions(page: p.Page, found: Comparison, a: Run, b: Run) -> None:
    rows = []
    for title, key in (("policy", "policy"), ("its SHA-256", "policy_sha256"), ("noise", "noise"),
                       ("randomisation", "randomize"), ("seed", "seed"), ("robot", "robot")):  # fmt: skip
        cells = [str(run.report.get(key, ""))[:16] for run in (a, b)]
        if any(cells):
            rows.append([title, *(p.text(cell) for cell in cells)])
    for title, name, key in (("period p99, ms", "period_ms", "p99"), ("computing p99, ms", "compute_ms", "p99"),
                             ("latency p99, ms", "latency_ms", "p99")):  # fmt: skip
        if name in a.report or name in b.report:
            rows.append([title, *(p.number(run.report.get(name, {}).get(key), 2) for run in (a, b))])
    for title, name in (("ticks", "ticks"), ("missed", "missed")):
        if name in a.report or name in b.report:
            rows.append([title, *(str(run.report.get(name, "–")) for run in (a, b))])
    names = sorted(set(a.report["versions"]) | set(b.report["versions"]))
    rows += [[p.text(name), *(p.text(run.report["versions"].get(name, "–")) for run in (a, b))] for name in names]
    page.section("Conditions", p.table(["", *(p.text(label) for label in found.labels)], rows, left=3))


def _labels(a: Run, b: Run) -> tuple[str, str]:
    policies = (str(a.report["policy"]), str(b.report["policy"]))
    if policies[0] != policies[1]:
        return policies
    if a.name != b.name:
        return a.name, b.name
    return f"{a.name} (first)", f"{b.name} (second)"


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
