# SPDX-License-Identifier: Apache-2.0
"""Pictures into a film: H.264 in mp4, by PyAV (FFmpeg's libraries)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from genmimic.core.errors import InputFileError, MissingDependencyError


def import_av() -> Any:
    """Return PyAV. Raises MissingDependencyError when it is not installed."""
    try:
        import av
    except ImportError:
        raise MissingDependencyError("video needs PyAV; install the extra: pip install 'genmimic-ros[lift]'") from None
    return av


class VideoWriter:
    """Writes an H.264 mp4; it appears whole or not at all. A context manager.

    Args:
        path: To write.
        fps: Pictures per second.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self._av = import_av()
        self._path = Path(path)
        if not self._path.parent.is_dir():
            raise InputFileError(f"{path}: folder {self._path.parent} does not exist")
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.", suffix=".mp4")
        os.close(handle)
        self._temporary = Path(temporary)
        self._container = self._av.open(temporary, "w", format="mp4")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._stream: Any = None

    def add(self, image: np.ndarray) -> None:
        """Append a picture, uint8 RGB of shape (H, W, 3); odd sizes lose a row or column."""
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.options = {"crf": "23", "preset": "veryfast"}
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._stream is not None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
            if error is None and self._stream is not None:
                os.chmod(self._temporary, 0o644)
                os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


def encode_video(images: Iterable[np.ndarray], fps: float) -> bytes:
    """Return pictures, uint8 RGB (H, W, 3) of one size, as an mp4 that browsers play.

    Raises:
        MissingDependencyError: PyAV is not installed.
        InputFileError: There are no pictures.
    """
    with tempfile.TemporaryDirectory(prefix="genmimic-") as folder:
        path = Path(folder) / "film.mp4"
        with VideoWriter(path, fps) as writer:
            for image in images:
                writer.add(image)
        if not path.is_file():
            raise InputFileError("no pictures to make a video of")
        return path.read_bytes()


def web_video(path: str | Path, max_bytes: int = 64 * 1024 * 1024) -> tuple[bytes, str]:
    """Return a film's content and media type, as mp4 where it is of a kind that browsers do not play.

    Raises:
        InputFileError: It is missing, too large, or not a video.
        MissingDependencyError: It must be converted and PyAV is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputFileError(f"{path}: no such video")
    if path.stat().st_size > max_bytes:
        raise InputFileError(f"{path}: {path.stat().st_size / 1e6:.0f} MB, limit {max_bytes / 1e6:.0f} MB")
    suffix = path.suffix.lower()
    if suffix in (".mp4", ".m4v", ".webm"):
        return path.read_bytes(), "video/webm" if suffix == ".webm" else "video/mp4"
    av = import_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputFileError(f"{path}: no pictures in it")
            rate = float(container.streams.video[0].average_rate or 30.0)
            images = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
            return encode_video(images, rate), "video/mp4"
    except av.error.FFmpegError as error:
        raise InputFileError(f"{path}: not a readable video ({error.strerror})") from None
