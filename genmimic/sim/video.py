# SPDX-License-Identifier: Apache-2.0
"""Pictures into a film: mp4 by ffmpeg, which may come with the package imageio-ffmpeg."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from genmimic.core.errors import InputFileError, MissingDependencyError


def find_ffmpeg() -> str:
    """Return ffmpeg's path. Raises MissingDependencyError."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise MissingDependencyError(
            "no ffmpeg to write a video with; pip install imageio-ffmpeg, or apt-get install ffmpeg"
        ) from None


def encode_video(images: Iterable[np.ndarray], fps: float, quality: int = 26) -> bytes:
    """Return pictures, uint8 (height, width, 3) of one even size, as an mp4 that browsers play.

    Raises:
        MissingDependencyError: There is no ffmpeg.
        InputFileError: ffmpeg failed.
    """
    ffmpeg = find_ffmpeg()
    handle, name = tempfile.mkstemp(prefix="genmimic-", suffix=".mp4")
    os.close(handle)
    encoder: subprocess.Popen[bytes] | None = None
    try:
        for image in images:
            if encoder is None:
                height, width = image.shape[:2]
                encoder = subprocess.Popen(
                    [ffmpeg, "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s",
                     f"{width}x{height}", "-r", str(fps), "-i", "-", "-an", "-c:v", "libx264", "-crf", str(quality),
                     "-pix_fmt", "yuv420p", "-movflags", "+faststart", name],
                    stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                )  # fmt: skip
            assert encoder.stdin is not None
            try:
                encoder.stdin.write(np.ascontiguousarray(image).tobytes())
            except BrokenPipeError:
                break
        if encoder is None:
            raise InputFileError("no pictures to make a video of")
        _, said = encoder.communicate()
        if encoder.returncode != 0:
            words = said.decode(errors="replace").strip().splitlines()
            raise InputFileError(f"ffmpeg failed ({words[-1] if words else encoder.returncode})")
        return Path(name).read_bytes()
    finally:
        if encoder is not None and encoder.poll() is None:
            encoder.kill()
            encoder.wait()
        Path(name).unlink(missing_ok=True)


def web_video(path: str | Path, max_bytes: int = 64 * 1024 * 1024) -> tuple[bytes, str]:
    """Return a film's content and media type, as mp4 where it is of a kind that browsers do not play.

    Raises:
        InputFileError: It is missing, too large, or not a video.
        MissingDependencyError: It must be converted and there is no ffmpeg.
    """
    path = Path(path)
    if not path.is_file():
        raise InputFileError(f"{path}: no such video")
    if path.stat().st_size > max_bytes:
        raise InputFileError(f"{path}: {path.stat().st_size / 1e6:.0f} MB, limit {max_bytes / 1e6:.0f} MB")
    suffix = path.suffix.lower()
    if suffix in (".mp4", ".m4v", ".webm"):
        return path.read_bytes(), "video/webm" if suffix == ".webm" else "video/mp4"
    handle, name = tempfile.mkstemp(prefix="genmimic-", suffix=".mp4")
    os.close(handle)
    try:
        done = subprocess.run(
            [find_ffmpeg(), "-loglevel", "error", "-y", "-i", str(path), "-an", "-vf",
             "scale=trunc(iw/2)*2:trunc(ih/2)*2", "-c:v", "libx264", "-crf", "26", "-pix_fmt", "yuv420p",
             "-movflags", "+faststart", name],
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise InputFileError(f"{path}: not a readable video ({words[-1] if words else 'ffmpeg failed'})")
        return Path(name).read_bytes(), "video/mp4"
    finally:
        Path(name).unlink(missing_ok=True)
