# SPDX-License-Identifier: Apache-2.0
"""Landmarks of a person in every picture, by MediaPipe Pose in its own process."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from genmimic.core.errors import GenMimicError, MissingDependencyError
from genmimic.lift.environment import ensure_python

NUM_LANDMARKS = 33
LANDMARK_NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_toe", "right_toe",
)  # fmt: skip
"""MediaPipe Pose's 33 landmarks, in its order; its ``*_foot_index`` is our ``*_toe``."""

MAX_LANDMARKERS = 4
"""More are not started, whatever the number of cores: each takes 270 MB."""

_READY = b"GMLW"
_PIPE_BYTES = 1 << 20
_WORKER = Path(__file__).with_name("worker.py")


class LandmarkError(GenMimicError, RuntimeError):
    """The landmarker's process failed."""


class Landmarker:
    """The landmarker's process. A context manager.

    Requests are answered in order.

    Raises:
        MissingDependencyError: It is not installed and cannot be.
        LandmarkError: The process ended.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        python = ensure_python(say)
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [str(python), "-I", str(_WORKER)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            raise MissingDependencyError(f"cannot start {python}: {error.strerror or error}") from None
        try:  # fewer turns for a picture; where it cannot be had, it goes in smaller pieces
            fcntl.fcntl(self._process.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
        except (AttributeError, OSError):
            pass
        try:
            if self._read(4) != _READY:
                raise LandmarkError("the pose landmarker said something unexpected")
        except LandmarkError as error:
            self.close()
            raise MissingDependencyError(f"the pose landmarker does not start: {error}") from None

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def send(self, image: np.ndarray) -> None:
        """Ask for the landmarks of a picture, uint8 RGB of shape (H, W, 3); `receive` gets them."""
        self._write(b"L", image)

    def receive(self) -> np.ndarray | None:
        """Return the landmarks of the oldest picture sent. Shape (33, 6).

        They are x and y in pixels, visibility, and world x, y and z in m: around the middle of the hips, along the axes
        of a camera (x right, y down, z away). None when nobody was found.
        """
        rows = self._rows(6)
        return rows if len(rows) == NUM_LANDMARKS else None

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Return people in a picture: score and box x0, y0, x1, y1 in pixels. Shape (N, 5)."""
        self._write(b"D", image)
        return self._rows(5)

    def reset(self) -> None:
        """Forget the person: the next picture is searched anew."""
        self._put(struct.pack("<cII", b"R", 0, 0))
        self._rows(1)

    def _write(self, kind: bytes, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        self._put(struct.pack("<cII", kind, width, height))
        self._put(np.ascontiguousarray(image).data.cast("B"))

    def _put(self, data: bytes | memoryview) -> None:
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except (BrokenPipeError, OSError):
            raise LandmarkError(self._last_words()) from None

    def _rows(self, width: int) -> np.ndarray:
        (count,) = struct.unpack("<I", self._read(4))
        return np.frombuffer(self._read(count * width * 4), "<f4").reshape(count, width).astype(float)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        parts, left = [], size
        while left:
            part = self._process.stdout.read(left)
            if not part:
                raise LandmarkError(self._last_words())
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _last_words(self) -> str:
        code = self._process.poll()
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return f"the pose landmarker's process ended ({code}): {lines[-1][:200] if lines else 'it said nothing'}"


def start_landmarkers(count: int | None = None, say: Callable[[str], None] = lambda text: None) -> list[Landmarker]:
    """Start landmarkers, all at once: one for each core this process may use, at most `MAX_LANDMARKERS`.

    Raises:
        MissingDependencyError: They are not installed and cannot be.
    """
    ensure_python(say)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = count or min(MAX_LANDMARKERS, cores)
    with ThreadPoolExecutor(count) as pool:
        starting = [pool.submit(Landmarker) for _ in range(count)]
    problem = next((one.exception() for one in starting if one.exception() is not None), None)
    if problem is not None:
        for one in starting:
            if one.exception() is None:
                one.result().close()
        raise problem
    return [one.result() for one in starting]
