# SPDX-License-Identifier: Apache-2.0
"""One page about a lift that needs no other file: the skeleton over the video, in 3D, and what cleaning did."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genmimic.lift.motion import Lifted, resample_paths
from genmimic.lift.pictures import LIMBS, write_plots
from genmimic.lift.pipeline import summary, write_preview
from genmimic.lift.solve import POINTS
from genmimic.page import Page, embedded, facts, number, player, text, tiles

LOST_SHARE, UNSURE = 0.9, 0.6
"""Share of pictures with the person, and mean confidence, below which the page warns."""


def save_lift_page(path: str | Path, lifted: Lifted, video: str | Path, *, crop: Sequence[int] | None = None) -> None:
    """Write the page.

    Args:
        path: HTML to write; it appears whole or not at all.
        lifted: What `genmimic.lift.lift_video` made of ``video``.
        video: The film.
        crop: As given to `genmimic.lift.lift_video`.

    Raises:
        InputFileError: The page cannot be written, or the video no longer be read.
        MissingDependencyError: There is no PyAV or matplotlib.
    """
    told = summary(lifted)
    motion, source = lifted.motion, lifted.motion.source
    page = Page(f"{motion.name}: the person in it")
    page.add(
        f"<h1>{text(motion.name)}: the person in it</h1>",
        f'<p class="muted">{motion.duration:.2f} s at {motion.fps:g} Hz from {told["pictures"]} pictures of '
        f"{text(Path(video).name)}</p>",
        tiles(_tiles(lifted)),
    )
    if lifted.notes:
        page.add("<ul>", *(f"<li>{text(note)}</li>" for note in lifted.notes), "</ul>")
    with tempfile.TemporaryDirectory(prefix="genmimic-") as scratch:
        film, plots = Path(scratch) / "preview.mp4", Path(scratch) / "plots.png"
        write_preview(lifted, video, film, crop=crop)
        write_plots(lifted, plots)
        page.section(
            "Over the video",
            f'<video controls loop muted src="{embedded(film.read_bytes(), "video/mp4")}"></video>',
            note="Left side orange, right side blue, green dots on feet that stand; beside it the view from the "
            "person's left at the start, in which depth is seen.",
        )
        page.section("In 3D", _player(lifted), note="Drag to turn it.")
        page.section(
            "Before and after cleaning",
            f'<img alt="curves before and after cleaning" src="{embedded(plots.read_bytes(), "image/png")}">',
        )
    names = ("height_m", "focal_px", "picture_px", "video_fps", "crop", "landmarks")
    page.section("How it was made", facts([(name, text(source[name])) for name in names if name in source]))
    page.save(path)


def _tiles(lifted: Lifted) -> list[tuple[str, str, str]]:
    told, source = summary(lifted), lifted.motion.source
    found, sure = float(lifted.observation.found.mean()), float(lifted.motion.confidence.mean())
    before, after = lifted.bone_spread
    height = "given" if source["height_given"] else "assumed"
    return [
        (f"{100.0 * found:.0f} %", "of the pictures show the person", "" if found >= LOST_SHARE else "warn"),
        (number(sure, 2), "mean confidence", "" if sure >= UNSURE else "warn"),
        (f"{source['height_m']:.2f} m", f"height, {height}", ""),
        (
            f"{round(source['camera_pitch_deg'])}°, {round(source['camera_roll_deg'])}°",
            "camera looks down, is rolled",
            "",
        ),
        (f"{100.0 * before:.0f} to {100.0 * after:.1f} %", "bones vary in length, before and after", ""),
        (str(told["swapped"]), "pictures with sides swapped back", ""),
        (str(told["people"]), "people at once", "" if told["people"] == 1 else "warn"),
    ]


def _player(lifted: Lifted) -> str:
    fps = min(lifted.motion.fps, 30.0)
    time_s = lifted.observation.time_s
    at = np.arange(time_s[0], time_s[-1] + 1e-9, 1.0 / fps)
    bones = [(POINTS.index(a), POINTS.index(b)) for limb in LIMBS for a, b in zip(limb[:-1], limb[1:], strict=True)]
    ends = [POINTS.index(name) for name in ("nose", "left_knuckles", "right_knuckles", "left_toe", "right_toe")]
    bodies = [
        (label, colour, resample_paths(time_s, pos, at), None)
        for label, colour, pos in (("before", "other", lifted.raw_pos), ("after", "robot", lifted.clean_pos))
    ]
    return player(bodies, bones, ends, fps, float(time_s[0]))
