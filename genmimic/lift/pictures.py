# SPDX-License-Identifier: Apache-2.0
"""Looking at a lift: the skeleton over the video, a side view, and plots of what cleaning did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import InputFileError
from genmimic.core.files import whole_file
from genmimic.lift.motion import Lifted
from genmimic.lift.solve import FEET, POINTS

LIMBS = (
    ("left_shoulder", "left_elbow", "left_wrist", "left_knuckles"),
    ("right_shoulder", "right_elbow", "right_wrist", "right_knuckles"),
    ("left_hip", "left_knee", "left_ankle", "left_heel", "left_toe", "left_ankle"),
    ("right_hip", "right_knee", "right_ankle", "right_heel", "right_toe", "right_ankle"),
    ("left_shoulder", "right_shoulder", "right_hip", "left_hip", "left_shoulder"),
    ("left_ear", "nose", "right_ear"),
)
_COLOURS = {"left": (255, 150, 40), "right": (60, 160, 255), "": (240, 240, 240)}
_LINES = tuple(
    (POINTS.index(a), POINTS.index(b), _COLOURS[limb[0].split("_")[0] if number < 4 else ""])
    for number, limb in enumerate(LIMBS)
    for a, b in zip(limb[:-1], limb[1:], strict=True)
)
_STANDING = (60, 220, 90)
_SIDE_SPAN_M = 2.2
_BACKGROUND = 28


def draw_over(image: np.ndarray, lifted: Lifted, row: int) -> np.ndarray:
    """Return a picture with the solved points drawn where the camera would see them: left orange, right blue.

    Feet that count as standing carry a green dot.

    Args:
        image: uint8 RGB. Shape (H, W, 3).
        lifted: The lift.
        row: Which of its pictures this is.
    """
    drawn = image[::-1, ::-1].copy() if lifted.observation.turned else image.copy()
    pos = lifted.point_pos[row]
    depth = np.maximum(pos[:, 2:], 0.1)
    scale = image.shape[1] / lifted.observation.size[0]
    pixel = (pos[:, :2] / depth * lifted.focal_px + 0.5 * np.array(lifted.observation.size)) * scale
    radius = max(1, round(image.shape[0] / 300))
    _skeleton(drawn, pixel, radius)
    for number, point in enumerate(FEET):
        if lifted.ground.stance[row, number] > 0.5:
            _dot(drawn, pixel[point], 3 * radius, _STANDING)
    return drawn


def draw_side(lifted: Lifted, row: int, size: int) -> np.ndarray:
    """Return a square picture of the same moment from the person's left at the start: depth is seen here."""
    drawn: np.ndarray = np.full((size, size, 3), _BACKGROUND, np.uint8)
    pos = lifted.clean_pos[row]
    span = _SIDE_SPAN_M * max(1.0, float(lifted.motion.source["height_m"])) / 1.7
    scale = 0.9 * size / max(span, float(np.ptp(lifted.clean_pos[..., 0])))
    floor = round(0.93 * size)
    _line(drawn, np.array([0.0, floor]), np.array([size - 1.0, floor]), 1, (110, 110, 110))
    middle = 0.5 * (lifted.clean_pos[..., 0].min() + lifted.clean_pos[..., 0].max())
    pixel = np.stack([0.5 * size + (pos[:, 0] - middle) * scale, floor - pos[:, 2] * scale], -1)
    _skeleton(drawn, pixel, max(1, round(size / 300)))
    return drawn


def _skeleton(image: np.ndarray, pixel: np.ndarray, radius: int) -> None:
    for a, b, colour in _LINES:
        _line(image, pixel[a], pixel[b], radius, colour)
    for point in pixel:
        _dot(image, point, radius + 1, (255, 255, 255))


def _square(radius: int) -> np.ndarray:
    """Return the whole numbers x and y up to ``radius``. Shape (2, N)."""
    return np.indices((2 * radius + 1, 2 * radius + 1)).reshape(2, -1) - radius


def _line(image: np.ndarray, a: np.ndarray, b: np.ndarray, radius: int, colour: tuple[int, int, int]) -> None:
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.abs([a, b]).max() > 1e5:
        return
    count = int(np.abs(b - a).max()) + 2
    along = np.linspace(0.0, 1.0, count)[:, None] * (b - a) + a
    dx, dy = _square(radius)
    x = np.round(along[:, :1] + dx).astype(int).ravel()
    y = np.round(along[:, 1:] + dy).astype(int).ravel()
    keep = (x >= 0) & (x < image.shape[1]) & (y >= 0) & (y < image.shape[0])
    image[y[keep], x[keep]] = colour


def _dot(image: np.ndarray, at: np.ndarray, radius: int, colour: tuple[int, int, int]) -> None:
    if not np.isfinite(at).all() or np.abs(at).max() > 1e5:
        return
    x0, y0 = np.round(at).astype(int)
    dx, dy = _square(radius)
    inside = dx**2 + dy**2 <= radius**2
    x, y = x0 + dx[inside], y0 + dy[inside]
    keep = (x >= 0) & (x < image.shape[1]) & (y >= 0) & (y < image.shape[0])
    image[y[keep], x[keep]] = colour


def write_plots(lifted: Lifted, path: str | Path) -> None:
    """Write a png with feet, speeds, the path of the hips and confidence, before and after cleaning."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    path = Path(path)
    if not path.parent.is_dir():
        raise InputFileError(f"{path}: folder {path.parent} does not exist")
    time_s = lifted.observation.time_s
    figure = Figure(figsize=(11, 11), layout="constrained")
    axes: Any = figure.subplots(4, 1, sharex=True)
    step = np.gradient(time_s)[:, None]
    for side, colour in (("left", "tab:orange"), ("right", "tab:blue")):
        ankle, wrist = POINTS.index(f"{side}_ankle"), POINTS.index(f"{side}_wrist")
        for pos, style, alpha in ((lifted.raw_pos, ":", 0.6), (lifted.clean_pos, "-", 1.0)):
            label = f"{side}, {'before' if style == ':' else 'after'}"
            axes[0].plot(time_s, 100 * pos[:, ankle, 2], style, color=colour, alpha=alpha, label=label)
            speed = np.linalg.norm(np.gradient(pos[:, wrist], axis=0) / step, axis=-1)
            axes[1].plot(time_s, speed, style, color=colour, alpha=alpha, label=label)
        foot = slice(0, 3) if side == "left" else slice(3, 6)
        standing = lifted.ground.stance[:, foot].max(1) > 0.5
        level = -2.0 if side == "left" else -4.0
        axes[0].plot(time_s, np.where(standing, level, np.nan), color=colour, linewidth=4)
    for axis, name in enumerate("xyz"):
        for pos, style in ((lifted.raw_pos, ":"), (lifted.clean_pos, "-")):
            hips = pos[:, :2, axis].mean(1)
            axes[2].plot(
                time_s, hips, style, color=f"C{axis}", label=f"{name}, {'before' if style == ':' else 'after'}"
            )
    motion = lifted.motion
    sure_s = lifted.observation.time_s[0] + np.arange(len(motion)) / motion.fps
    for name in ("left_wrist", "right_wrist", "left_ankle", "right_ankle"):
        axes[3].plot(sure_s, motion.confidence[:, motion.joint_names.index(name)], label=name)
    titles = (
        "Height of the ankles above the floor, cm (bars: standing)", "Speed of the wrists, m/s",
        "Path of the hips, m", "Confidence",
    )  # fmt: skip
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, loc="left", fontsize=10)
        axis.legend(fontsize=8, ncols=3, loc="upper right")
        axis.grid(alpha=0.3)
    axes[1].set_ylim(bottom=0.0)
    axes[3].set_ylim(-0.02, 1.02)
    axes[3].set_xlabel("s")
    figure.suptitle(motion.name)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
