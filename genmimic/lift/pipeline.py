# SPDX-License-Identifier: Apache-2.0
"""A video in, a human motion out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.lift.landmarks import Landmarker
from genmimic.lift.motion import Lifted, Steps, lift_observation
from genmimic.lift.observe import observe
from genmimic.lift.video import VideoReader


def lift_video(
    path: str | Path,
    *,
    height: float | None = None,
    focal: float | None = None,
    fps: float | None = None,
    crop: Sequence[int] | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    point: Sequence[float] | None = None,
    steps: Steps | None = None,
    landmarkers: Sequence[Landmarker] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Lifted:
    """Lift one person in a video to a motion: world frame, m, z up, floor at z = 0, starting at the origin facing x.

    Args:
        path: Any video that FFmpeg reads.
        height: Of the person, in m; assumed when left out.
        focal: Focal length of the lens over the longer side of the (cropped) picture; assumed when left out.
        fps: Rate of the motion; the video's, at least 30, when left out.
        crop: Left, top, width and height in pixels of the part of the picture that is the film.
        start_s: Leave out what is earlier.
        end_s: Leave out what is later.
        point: x and y in pixels of the person to follow, who is there at the start; the largest one when left out.
        steps: Cleaning steps; all when left out.
        landmarkers: Running ones, for many videos.
        progress: Called with (pictures done, pictures in all or 0).
        say: Called with what takes long, one line each.

    Raises:
        InputFileError: The file is missing, empty, no video, or nothing of it can be decoded.
        MotionError: It has too few pictures, or nobody was found.
        ConfigError: A number is out of range.
        MissingDependencyError: PyAV or the landmarker is missing and cannot be set up.
    """
    if focal is not None and not 0.2 <= focal <= 20.0:
        raise ConfigError(f"focal is {focal:g}, expected 0.2 to 20 times the picture's longer side")
    if start_s < 0.0 or (end_s is not None and end_s <= start_s):
        raise ConfigError(f"the part from {start_s:g} to {end_s} s is empty")
    seen = observe(
        path, crop=crop, start_s=start_s, end_s=end_s, point=point, landmarkers=landmarkers, progress=progress, say=say
    )
    focal_px = None if focal is None else focal * max(seen.size)
    name = Path(path).stem
    lifted = lift_observation(seen, height=height, focal_px=focal_px, fps=fps, steps=steps, name=name)
    source = {"file": Path(path).name, **lifted.motion.source}
    if crop is not None:
        source["crop"] = [int(value) for value in crop]
    return replace(lifted, motion=replace(lifted.motion, source=source))


def write_preview(lifted: Lifted, path: str | Path, output: str | Path, *, crop: Sequence[int] | None = None) -> None:
    """Write the video with the lifted skeleton drawn over it, and a side view of the motion beside it.

    Args:
        lifted: What `lift_video` made of ``path``.
        path: The video.
        output: mp4 to write; it appears whole or not at all.
        crop: As given to `lift_video`.
    """
    from genmimic.lift.pictures import draw_over, draw_side
    from genmimic.sim.video import VideoWriter

    seen = lifted.observation
    assert seen.frame_number is not None
    row_of = {int(number): row for row, number in enumerate(seen.frame_number)}
    first, last = int(seen.frame_number[0]), int(seen.frame_number[-1])
    with VideoReader(path, crop=crop) as reader, VideoWriter(output, max(1.0, seen.fps or 30.0)) as writer:
        row = 0
        offset: int | None = None
        for frame in reader.frames():
            if offset is None and frame.time_s >= seen.time_s[0] - 0.5 / max(seen.fps, 1.0):
                offset = frame.number - first
            number = frame.number - (offset or 0)
            if offset is None or number > last:
                continue
            row = row_of.get(number, row)
            writer.add(np.hstack([draw_over(frame.image, lifted, row), draw_side(lifted, row, frame.image.shape[0])]))


def summary(lifted: Lifted) -> dict[str, object]:
    """Return what a program may want to know about a lift, as plain JSON types."""
    motion, seen = lifted.motion, lifted.observation
    return {
        "name": motion.name, "frames": len(motion), "fps": motion.fps, "duration_s": round(motion.duration, 3),
        "pictures": len(seen), "found": round(float(seen.found.mean()), 4), "people": seen.people,
        "repeats": seen.repeats, "cuts_s": list(seen.cuts_s), "swapped": lifted.swapped,
        "confidence": round(float(motion.confidence.mean()), 3), "height_m": motion.source["height_m"],
        "camera_pitch_deg": motion.source["camera_pitch_deg"], "camera_roll_deg": motion.source["camera_roll_deg"],
        "bone_spread_before": round(lifted.bone_spread[0], 4), "bone_spread_after": round(lifted.bone_spread[1], 4),
        "notes": list(lifted.notes),
    }  # fmt: skip
