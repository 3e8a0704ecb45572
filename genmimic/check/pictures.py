# SPDX-License-Identifier: Apache-2.0
"""Pictures of a motion and its verdict: plots, a video of the robot, and one page with everything in it."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.check.judge import Judgement, Limits
from genmimic.check.measure import Curves
from genmimic.core.errors import ConfigError, InputFileError, MissingDependencyError
from genmimic.core.files import whole_file
from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.sim.video import VideoWriter, import_av

NOW, BEFORE = "#1f5fa8", "#b9b9b9"
_LEFT, _RIGHT, _LIMIT, _GANTRY = "#d0572b", "#1f5fa8", "#b3261e", "#d9a000"
_GROUPS = (("legs", ("hip", "knee", "ankle"), "#1f5fa8"), ("waist", ("waist",), "#2c8c53"),
           ("arms", ("shoulder", "elbow", "wrist"), "#d0572b"))  # fmt: skip
_VERDICT_COLOURS = {"ok": "#2c8c53", "repaired": "#2c8c53", "gantry only": "#b07d00", "refused": "#b3261e"}

MAX_VIDEO_FRAMES = 3000
VIDEO_FPS = 25


# plots -----------------------------------------------------------------------------------------
def save_plots(
    path: str | Path,
    robot: Robot,
    motion: Motion,
    judgement: Judgement,
    before: Judgement | None = None,
    original: Motion | None = None,
    title: str = "",
) -> None:
    """Draw feet, speeds, margins, shaking, balance and the path over time as PNG; what came before in grey.

    Raises:
        InputFileError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    path_of(path)
    figure = Figure(figsize=(13.0, 9.2), layout="constrained")
    axes = figure.subplots(3, 2)
    curves, was = judgement.curves, None if before is None else before.curves
    t, limits = curves.t, Limits()
    head = title or motion.name
    figure.suptitle(f"{head}: {judgement.verdict}", fontsize=14, color=_VERDICT_COLOURS.get(judgement.verdict, "black"))

    height = axes[0, 0]
    if was is not None:
        height.plot(was.t, 100.0 * was.sole_height, color=BEFORE, lw=1.0)
    for foot, (name, colour) in enumerate((("left", _LEFT), ("right", _RIGHT))):
        height.plot(t, 100.0 * curves.sole_height[:, foot], color=colour, lw=1.4, label=name)
        bar = 0.03 * max(10.0, 100.0 * float(np.ptp(curves.sole_height)))
        level = min(0.0, 100.0 * float(curves.sole_height.min())) - bar * (1.5 + 1.8 * foot)
        height.fill_between(
            t,
            level - 0.5 * bar,
            level + 0.5 * bar,
            where=curves.contacts[:, foot],
            color=colour,
            alpha=0.55,
            lw=0,
            step="mid",
        )
    height.axhline(0.0, color="black", lw=0.6)
    label_axis(height, "lowest point of each sole (bars: standing)", "cm")

    slide = axes[0, 1]
    if was is not None:
        slide.plot(was.t, 100.0 * was.slide.max(-1), color=BEFORE, lw=1.0, label="before")
    for foot, (name, colour) in enumerate((("left", _LEFT), ("right", _RIGHT))):
        slide.plot(t, 100.0 * curves.slide[:, foot], color=colour, lw=1.2, label=name)
    label_axis(slide, "sideways speed of standing feet", "cm/s")

    def of_motor(one: Curves) -> np.ndarray:
        return one.joint_speed / robot.joint_speed

    def beyond(one: Curves) -> np.ndarray:
        return np.degrees(-one.limit_margin)

    excess = (0.0, float(np.degrees(limits.limit_excess_rad[1])))
    for axis, of, what, unit, pair in (
        (axes[1, 0], of_motor, "joint speed, of the motor's", "", limits.speed_ratio),
        (axes[1, 1], beyond, "joints against their ranges (above 0: beyond)", "degrees", excess),
    ):
        values = of(curves)
        if was is not None:
            axis.plot(was.t, of(was).max(-1), color=BEFORE, lw=1.0, label="before")
        for name, parts, colour in _GROUPS:
            idx = [i for i, joint in enumerate(robot.joint_names) if any(part in joint for part in parts)]
            axis.plot(t, values[:, idx].max(-1), color=colour, lw=1.2, label=name)
        axis.axhline(pair[0], color=_GANTRY, lw=1.0, ls="--")
        axis.axhline(pair[1], color=_LIMIT, lw=1.0, ls="--")
        label_axis(axis, what, unit)
    axes[1, 1].set_ylim(bottom=max(-60.0, axes[1, 1].get_ylim()[0]))

    balance = axes[2, 0]
    if was is not None:
        balance.plot(was.t, 100.0 * was.support_excess, color=BEFORE, lw=1.0, label="before")
    balance.plot(t, 100.0 * curves.support_excess, color=NOW, lw=1.3, label="point of balance")
    balance.axhline(0.0, color="black", lw=0.6)
    balance.axhline(100.0 * limits.balance_m[0], color=_GANTRY, lw=1.0, ls="--")
    label_axis(balance, "point of balance outside the standing feet (below 0: inside)", "cm")
    balance.set_xlabel("time, s")
    axes[2, 0].set_ylim(-15.0, max(15.0, min(60.0, balance.get_ylim()[1])))

    above = axes[2, 1]
    if original is not None and was is not None:
        above.plot(*original.root_pos[:, :2].T, color=BEFORE, lw=1.0, label="pelvis, before")
    above.plot(*motion.root_pos[:, :2].T, color=NOW, lw=1.4, label="pelvis")
    for name, colour in (("left_ankle_roll", _LEFT), ("right_ankle_roll", _RIGHT)):
        foot_path = motion.keypoint_pos[:, robot.keypoint_names.index(name), :2]
        above.plot(*foot_path.T, color=colour, lw=0.8, alpha=0.7, label=name.split("_")[0] + " foot")
    above.plot(*motion.root_pos[0, :2], "o", color="black", ms=5)
    above.set_aspect("equal", adjustable="datalim")
    label_axis(above, "from above (dot: start)", "m")
    above.set_xlabel("m")

    for finding in judgement.findings:
        for start, end in finding.spans_s:
            for axis in axes.ravel()[:5]:
                axis.axvspan(
                    start, max(end, start + 0.02), color=_LIMIT if finding.severity > 1 else _GANTRY, alpha=0.10, lw=0
                )
    for axis in axes.ravel()[:5]:
        axis.set_xlim(t[0], t[-1])
    save_figure(figure, path)


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure as PNG, whole or not at all. Raises InputFileError."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def check_paths(plots: str | None, video: str | None, page: str | None) -> None:
    """Raise a GenMimicError, before any work is done, where a picture could not be written."""
    for name, suffix in ((plots, ".png"), (video, ".mp4"), (page, ".html")):
        if name is not None and path_of(name).suffix.lower() != suffix:
            raise ConfigError(f"{name}: ends in {Path(name).suffix or 'nothing'!r}, expected {suffix}")
    if video is not None:
        import_av()


def path_of(name: str | Path) -> Path:
    """Return a path whose folder exists. Raises InputFileError."""
    target = Path(name)
    if not target.parent.is_dir():
        raise InputFileError(f"{target}: folder {target.parent} does not exist")
    return target


def label_axis(axis: Any, title: str, unit: str) -> None:
    """Give a plot its title, unit, grid and legend."""
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_ylabel(unit)
    axis.grid(alpha=0.25, lw=0.6)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, loc="upper right", framealpha=0.85, ncols=2)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


# video -----------------------------------------------------------------------------------------
def save_video(
    path: str | Path, robot: Robot, motion: Motion, original: Motion | None = None, size: tuple[int, int] = (640, 480)
) -> None:
    """Draw the robot as an mp4 at 25 frames per second; beside it on the left the motion as it came, where given.

    Raises:
        MissingDependencyError: There is no OpenGL, or no PyAV.
        InputFileError: The file cannot be written.
    """
    from genmimic.sim.render import OffscreenRenderer

    target = path_of(path)
    shown = [motion] if original is None else [original, motion]
    width, height = size
    every = max(1, round(motion.fps / VIDEO_FPS))
    frames = range(0, min(len(motion), MAX_VIDEO_FRAMES * every), every)
    with (
        OffscreenRenderer(robot, width=width, height=height, shadows=False) as renderer,
        VideoWriter(target, motion.fps / every) as writer,
    ):
        for frame in frames:
            images = [renderer.render(one.root_pos[frame], one.root_quat[frame], one.joint_pos[frame]) for one in shown]
            writer.add(np.concatenate(images, 1))


@dataclass(frozen=True)
class Section:
    """A picture of another step for the page: a PNG or an mp4 with a title, and lines about it."""

    title: str
    file: Path | None = None
    lines: tuple[str, ...] = ()


# one page --------------------------------------------------------------------------------------
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1080px;padding:24px;color:#222}
h1{font-size:24px;margin:0 0 4px} h2{font-size:17px;margin:28px 0 8px}
.verdict{display:inline-block;color:#fff;padding:3px 12px;border-radius:14px;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:14px}
td,th{padding:5px 10px;border-bottom:1px solid #e5e5e5;text-align:left}
th{color:#666;font-weight:600} .refuse{color:#b3261e;font-weight:600} .gantry{color:#b07d00;font-weight:600}
img,video{width:100%;border:1px solid #e5e5e5;border-radius:6px} .small{color:#666;font-size:13px}
.scores{columns:3} .scores div{break-inside:avoid}
"""


def save_page(
    path: str | Path,
    motion: Motion,
    judgement: Judgement,
    before: Judgement | None = None,
    plots: str | Path | None = None,
    video: str | Path | None = None,
    title: str = "",
    sections: Sequence[Section] = (),
) -> None:
    """Write a report that needs no other file: verdict, findings, what was repaired, scores, plots and video.

    ``sections`` of the steps before come between the verdict and the findings.
    """

    def cell(text: object) -> str:
        return html.escape(str(text))

    def findings(one: Judgement) -> str:
        if not one.findings:
            return "<p>Nothing to complain about.</p>"
        rows = "".join(
            f"<tr><td class={item.severity.name.lower()}>{item.severity.name.lower()}</td><td>{cell(item.kind)}</td>"
            f"<td>{cell(item.text)}</td></tr>"
            for item in one.findings
        )
        return f"<table><tr><th>means</th><th>kind</th><th>finding</th></tr>{rows}</table>"

    verdict = f'<span class=verdict style="background:{_VERDICT_COLOURS[judgement.verdict]}">{judgement.verdict}</span>'
    parts = [
        f"<h1>{cell(title or motion.name)}</h1><p>{verdict}</p>",
        f"<p class=small>{motion.duration:.2f} s at {motion.fps:g} Hz, {len(motion)} frames</p>",
    ]
    for section in sections:
        parts.append(f"<h2>{cell(section.title)}</h2>")
        parts += [f"<p class=small>{cell(line)}</p>" for line in section.lines]
        if section.file is not None:
            parts.append(_shown(section.file, cell(section.title)))
    if video is not None:
        if sections:
            parts.append("<h2>The robot</h2>")
        parts.append(f'<video controls loop src="data:video/mp4;base64,{_embedded(video)}"></video>')
        if before is not None:
            parts.append("<p class=small>Left: as it came. Right: repaired.</p>")
    parts += ["<h2>Findings</h2>", findings(judgement)]
    if judgement.repairs:
        parts += ["<h2>Repairs</h2><ol>", *(f"<li>{cell(line)}</li>" for line in judgement.repairs), "</ol>"]
    if before is not None:
        parts += ["<h2>Findings before the repair</h2>", findings(before)]
    if judgement.tracking is not None:
        tracking = judgement.tracking
        rows = "".join(
            f"<tr><td>{'nominal' if number == 0 else f'randomised {number}'}</td><td>{error:.1f}</td>"
            f"<td>{'stood' if fell is None else f'fell at {fell:.2f} s'}</td></tr>"
            for number, (error, fell) in enumerate(zip(tracking.lmpkpe_cm, tracking.fell_at_s, strict=True))
        )
        parts.append(
            f"<h2>In simulation</h2><p class=small>policy {cell(tracking.policy)} ({tracking.policy_sha256[:12]})</p>"
            f"<table><tr><th>rollout</th><th>LMPKPE, cm</th><th>robot</th></tr>{rows}</table>"
        )
    if plots is not None:
        parts.append(f'<h2>Curves</h2><img alt="curves" src="data:image/png;base64,{_embedded(plots)}">')
    scores = "".join(f"<div>{cell(name)}: {value:g}</div>" for name, value in sorted(judgement.scores.items()))
    parts.append(f"<h2>Worst values</h2><div class='scores small'>{scores}</div>")
    retarget = motion.source.get("retarget")
    if isinstance(retarget, dict):
        rows = "".join(f"<div>{cell(name)}: {cell(value)}</div>" for name, value in retarget.items())
        parts.append(f"<h2>Retargeting</h2><div class='scores small'>{rows}</div>")
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{cell(title or motion.name)}</title>"
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _shown(path: Path, title: str) -> str:
    if path.suffix == ".mp4":
        return f'<video controls loop src="data:video/mp4;base64,{_embedded(path)}"></video>'
    return f'<img alt="{title}" src="data:image/png;base64,{_embedded(path)}">'


def _embedded(path: str | Path) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode("ascii")


def save_pictures(
    robot: Robot,
    motion: Motion,
    judgement: Judgement,
    before: Judgement | None = None,
    original: Motion | None = None,
    *,
    plots: str | None = None,
    video: str | None = None,
    page: str | None = None,
    title: str = "",
    sections: Sequence[Section] = (),
) -> Sequence[str]:
    """Write what is asked for; the page takes plots, and a video where one can be drawn. Returns what was left out."""
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="genmimic-") as scratch:
        shown = original if before is not None else None
        if plots or page:
            drawn = plots or str(Path(scratch) / "plots.png")
            save_plots(drawn, robot, motion, judgement, before, original, title)
        film = video
        if video:
            save_video(video, robot, motion, shown)
        elif page:
            film = str(Path(scratch) / "robot.mp4")
            try:
                save_video(film, robot, motion, shown)
            except MissingDependencyError as error:
                film = None
                left_out.append(str(error))
        if page:
            save_page(page, motion, judgement, before, drawn, film, title, sections)
    return left_out
