# SPDX-License-Identifier: Apache-2.0
"""Pictures of a video with the times they are shown at, upright, no larger than needed.

Times are those of the container, so that 16, 29.97 and variable rates come out right; the rotation that phones record
is applied. Decoding is PyAV's (FFmpeg's).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, InputFileError
from genmimic.sim.video import import_av

MAX_SIDE_PX = 960
"""Larger pictures are shrunk to this longer side: the landmarker itself looks at 256 x 256 pixels."""

THUMB_PX = 96
"""Longer side of the small grey picture that comes with each frame."""

MAX_FRAMES = 60_000


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its pictures; the decoded frames win.

    Attributes:
        width: Of the upright, uncropped picture, in pixels.
        height: Likewise.
        fps: Average rate.
        frames: How many it claims; 0 when it does not.
        codec: Its name.
        rotation: Degrees clockwise that were undone.
    """

    width: int
    height: int
    fps: float
    frames: int
    codec: str
    rotation: int


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        number: Counted from 0 among the decoded ones.
        time_s: When it is shown, from the first picture on.
        image: uint8 RGB. Shape (H, W, 3).
        thumb: Small and grey, 0 to 255. Shape (h, w).
    """

    number: int
    time_s: float
    image: np.ndarray
    thumb: np.ndarray


class VideoReader:
    """Reads a video's frames in order.

    Args:
        path: Any container that FFmpeg knows, whatever its name ends in.
        crop: Left, top, width, height in pixels of the upright picture, for a part that is a film of its own.
        max_side: Longer side that larger pictures are shrunk to.
        start_s: Leave out what is earlier.
        end_s: Leave out what is later.

    Raises:
        InputFileError: Missing, empty, no video in it, or nothing of it can be decoded.
        ConfigError: The crop or times are out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        crop: Sequence[int] | None = None,
        max_side: int = MAX_SIDE_PX,
        start_s: float = 0.0,
        end_s: float | None = None,
    ) -> None:
        self._path = Path(path)
        self._crop = tuple(int(value) for value in crop) if crop is not None else None
        self._max_side = max_side
        self._start_s, self._end_s = start_s, end_s
        self.problem: str | None = None
        """Why decoding ended early, once frames have been read."""
        self._av = import_av()
        self._reformatter = self._av.video.reformatter.VideoReformatter()  # a frame's own is set up anew each time
        self._container = self._open()
        streams = self._container.streams.video
        if not streams:
            kinds = sorted({stream.type for stream in self._container.streams}) or ["nothing"]
            self._container.close()
            raise InputFileError(f"{path}: has no video, only {' and '.join(kinds)}")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.info = self._first_look(float(rate) if rate else 0.0)
        self.scale = 1.0
        """Pixels of the delivered pictures per pixel of the cropped original."""

    def _open(self) -> Any:
        path = self._path
        if not path.exists():
            raise InputFileError(f"{path}: no such file")
        if not path.is_file():
            raise InputFileError(f"{path}: is not a file")
        if path.stat().st_size == 0:
            raise InputFileError(f"{path}: is empty (0 bytes)")
        try:
            return self._av.open(str(path))
        except self._av.error.FFmpegError as error:
            cut = b"moov" not in path.read_bytes() if _looks_like_mp4(path) and path.stat().st_size < 2**31 else False
            hint = " (its index is missing: the file is cut off)" if cut else ""
            raise InputFileError(f"{path}: is not a video, or damaged{hint}: {error.strerror}") from None
        except (OSError, ValueError) as error:
            raise InputFileError(f"{path}: cannot be read ({error})") from None

    def _first_look(self, fps: float) -> VideoInfo:
        context = self._stream.codec_context
        name = getattr(context, "name", "unknown")
        try:
            frame = next(self._container.decode(self._stream))
            rotation = int(getattr(frame, "rotation", 0) or 0)
            width, height = frame.width, frame.height
        except (StopIteration, self._av.error.FFmpegError, ValueError) as error:
            self._container.close()
            text = getattr(error, "strerror", None) or "no picture in it"
            raise InputFileError(f"{self._path}: no picture can be decoded ({text})") from None
        self._container.close()
        self._container = self._open()
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        if rotation % 180:
            width, height = height, width
        return VideoInfo(width, height, fps, int(self._stream.frames or 0), name, (-rotation) % 360)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames. What cannot be decoded ends it, and `problem` then says why."""
        box = self._checked_crop()
        number, first, last = 0, None, -1.0
        step = 1.0 / self.info.fps if self.info.fps > 0 else 1.0 / 30.0
        for picture in self._decoded():
            stamp = picture.time
            if stamp is None:
                stamp = last + step if first is not None else 0.0
            if first is None:
                first = stamp
            when = float(stamp - first)
            if when <= last and number:
                continue  # shown at the same time as the one before, or earlier
            last = when
            if when < self._start_s - 1e-6:
                continue
            if self._end_s is not None and when > self._end_s + 1e-6:
                return
            yield self._frame(picture, number, when, box)
            number += 1
            if number >= MAX_FRAMES:
                self.problem = f"longer than {MAX_FRAMES} frames; the rest was left out"
                return

    def _decoded(self) -> Iterator[Any]:
        got, failures, last_s = 0, 0, 0.0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except self._av.error.FFmpegError as error:
                self.problem = f"damaged after {got} frames ({error.strerror})"
                return
            try:
                for picture in packet.decode():
                    got += 1
                    last_s = picture.time if picture.time is not None else last_s
                    yield picture
            except self._av.error.EOFError:
                break
            except self._av.error.FFmpegError:
                failures += 1
        claimed = self.info.frames
        if failures:
            self.problem = f"{failures} damaged packets were skipped"
        elif claimed and got < claimed - 2:
            self.problem = f"cut off: {got} of {claimed} frames are there"
        elif not claimed and self._container.duration and got:
            end_s = (self._container.duration + (self._container.start_time or 0)) / 1e6  # PyAV counts in microseconds
            if last_s < 0.95 * end_s - 0.3:
                self.problem = f"cut off: {last_s:.1f} of {end_s:.1f} s are there"

    def _checked_crop(self) -> tuple[int, int, int, int] | None:
        if self._crop is None:
            return None
        left, top, width, height = self._crop
        info = self.info
        if left < 0 or top < 0 or width < 32 or height < 32 or left + width > info.width or top + height > info.height:
            raise ConfigError(
                f"crop {left} {top} {width} {height} is not inside the picture of {info.width} x {info.height} "
                "(left, top, width, height; 32 pixels or more)"
            )
        return left, top, width, height

    def _frame(self, picture: Any, number: int, when: float, box: tuple[int, int, int, int] | None) -> Frame:
        turned = int(getattr(picture, "rotation", 0) or 0)
        if box is None:
            scale = min(1.0, self._max_side / max(picture.width, picture.height))
            size = (max(2, round(picture.width * scale)), max(2, round(picture.height * scale)))
            image = self._reformatter.reformat(
                picture, *size, format="rgb24", interpolation="FAST_BILINEAR"
            ).to_ndarray()
            image = _upright(image, turned)
        else:
            whole = _upright(self._reformatter.reformat(picture, format="rgb24").to_ndarray(), turned)
            image = whole[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
            shrink = max(1, round(max(image.shape[:2]) / self._max_side))
            image, scale = np.ascontiguousarray(image[::shrink, ::shrink]), 1.0 / shrink
        self.scale = scale
        step = max(1, -(-max(image.shape[:2]) // THUMB_PX))
        rows, columns = image.shape[0] // step, image.shape[1] // step
        small = image[: rows * step : max(1, step // 2), : columns * step : max(1, step // 2), 1]
        if step >= 2:
            small = small[: rows * 2, : columns * 2].reshape(rows, -1, columns, 2).mean((1, 3))
        return Frame(number, when, image, np.asarray(small, np.float32))


def looks_like_video(path: str | Path) -> bool:
    """Return whether a file begins like a film in one of the usual containers, whatever its name ends in."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    starts = (b"\x1a\x45\xdf\xa3", b"GIF8", b"\x00\x00\x01\xba", b"FLV\x01", b"0&\xb2u")  # mkv, gif, mpg, flv, wmv
    return head.startswith(starts) or head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def _upright(image: np.ndarray, rotation: int) -> np.ndarray:
    """Undo the display rotation: degrees counter-clockwise to turn by, as FFmpeg gives them."""
    turns = round(rotation / 90.0) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _looks_like_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:8] in (b"ftyp", b"mdat", b"moov", b"free", b"wide")
