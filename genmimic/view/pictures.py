# SPDX-License-Identifier: Apache-2.0
"""The source video beside the robot: small pictures, compressed once, shown at the right time."""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genmimic.core.errors import MissingDependencyError

RATE_HZ = 10.0
"""Pictures per second that are kept."""

SIDE_PX = 360
MAX_PICTURES = 6000
"""Ten minutes, about 100 MB."""


@dataclass(frozen=True)
class Film:
    """Pictures of a video, as JPEG.

    Attributes:
        times_s: When each is shown, from the video's start, rising.
        jpegs: The pictures.
    """

    times_s: tuple[float, ...]
    jpegs: tuple[bytes, ...]

    def at(self, time_s: float) -> int:
        """Return the number of the picture that is shown at a time; the first and last beyond the ends."""
        return max(0, bisect_right(self.times_s, time_s) - 1)

    def image(self, number: int) -> np.ndarray:
        """Return a picture, uint8 RGB. Shape (H, W, 3)."""
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(self.jpegs[number])).convert("RGB"))


def read_film(path: str | Path) -> Film:
    """Return the pictures of a video.

    Raises:
        InputFileError: It is missing or no video.
        MissingDependencyError: PyAV or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependencyError("showing a video needs Pillow: pip install pillow") from None
    from genmimic.lift.video import VideoReader

    times: list[float] = []
    jpegs: list[bytes] = []
    with VideoReader(path, max_side=SIDE_PX) as reader:
        for frame in reader.frames():
            if times and frame.time_s - times[-1] < 0.999 / RATE_HZ - 1e-6:
                continue
            buffer = io.BytesIO()
            Image.fromarray(frame.image).save(buffer, "JPEG", quality=80)
            times.append(frame.time_s)
            jpegs.append(buffer.getvalue())
            if len(times) >= MAX_PICTURES:
                break
    return Film(tuple(times), tuple(jpegs))
