# SPDX-License-Identifier: Apache-2.0
"""What is seen of one person in a video: landmarks with times, and what disturbs them.

Chooses the person (the largest at first, followed from then on), hides the others from the landmarker, and notices
cuts, repeated pictures, a moving camera and darkness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.lift.landmarks import LANDMARK_NAMES, NUM_LANDMARKS, Landmarker
from genmimic.lift.video import VideoReader

DETECT_EVERY_S = 0.5
"""How often people are counted."""

_SAME_MEAN, _SAME_P99 = (
    0.12,
    1.1,
)  # grey difference, 0 to 255, its mean and 99th percentile, up to which pictures repeat
_CUT_LEVEL = 18.0  # mean grey difference of a cut at the least, and
_CUT_RATIO = 6.0  # how many times that of its neighbours
_DARK = 12.0  # mean grey level
_CAMERA_SHARE = 0.004  # background shift per frame, as a share of the picture's longer side, of a moving camera


@dataclass(frozen=True)
class Observation:
    """Landmarks of one person in T pictures of one shot.

    Attributes:
        time_s: When each picture is shown. Shape (T,).
        pixel: Landmarks in the picture, x right, y down, in pixels. Shape (T, 33, 2).
        visibility: 0 to 1; 0 everywhere where nobody was found. Shape (T, 33).
        world: Landmarks around the middle of the hips, camera axes (x right, y down, z away), in m. Shape (T, 33, 3).
        size: Width and height of the picture, in pixels.
        fps: Rate that the container states.
        repeats: Pictures that were left out because they show the one before.
        people: Most people seen at once.
        cuts_s: Times of cuts.
        camera_shift: Median shift of the background per picture, as a share of the longer side.
        brightness: Mean grey level, 0 to 255.
        notes: For the user, one line each.
        frame_number: Of each picture in the video as delivered by `VideoReader`. Shape (T,).
        turned: The landmarks are those of the picture turned by 180 degrees.
    """

    time_s: np.ndarray
    pixel: np.ndarray
    visibility: np.ndarray
    world: np.ndarray
    size: tuple[int, int]
    fps: float
    repeats: int = 0
    people: int = 1
    cuts_s: tuple[float, ...] = ()
    camera_shift: float = 0.0
    brightness: float = 128.0
    notes: tuple[str, ...] = ()
    frame_number: np.ndarray | None = None
    turned: bool = False

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def found(self) -> np.ndarray:
        """Whether somebody was found. Shape (T,)."""
        return self.visibility.max(1) > 0.0

    def part(self, keep: slice | np.ndarray) -> Observation:
        """Return some of the pictures."""
        number = None if self.frame_number is None else self.frame_number[keep]
        return replace(
            self, time_s=self.time_s[keep], pixel=self.pixel[keep], visibility=self.visibility[keep],
            world=self.world[keep], frame_number=number,
        )  # fmt: skip


def upright(seen: Observation) -> Observation:
    """Return what would have been seen with the picture turned by 180 degrees, when the person is upside down in it."""
    names = ("left_shoulder", "right_shoulder", "left_ankle", "right_ankle")
    at = [LANDMARK_NAMES.index(name) for name in names]
    high, low = seen.pixel[seen.found][:, at[:2], 1].mean(1), seen.pixel[seen.found][:, at[2:], 1].mean(1)
    if seen.turned or np.mean(high > low) < 0.9:
        return seen
    note = "the person is upside down: the picture was turned"
    flip = np.array([-1.0, -1.0, 1.0])
    return replace(
        seen, pixel=np.array(seen.size) - seen.pixel, world=seen.world * flip, turned=True, notes=(*seen.notes, note)
    )


class _Gauge:
    """Grey thumbnails in, differences and background shifts out."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self.same = False
        self.difference: list[float] = []
        self.shift: list[float] = []
        self.level: list[float] = []

    def add(self, thumb: np.ndarray, box: np.ndarray | None) -> float:
        """Return the mean difference to the last picture. ``box`` is the person in the thumbnail's pixels."""
        self.level.append(float(thumb.mean()))
        last = self._last
        self._last = thumb
        if last is None or last.shape != thumb.shape:
            self.difference.append(0.0)
            self.shift.append(0.0)
            self.same = False
            return 0.0
        change = np.abs(thumb - last)
        difference = float(change.mean())
        self.same = difference < _SAME_MEAN and float(np.percentile(change, 99.0)) < _SAME_P99
        self.difference.append(difference)
        self.shift.append(0.0 if self.same else self._background_shift(last, thumb, box))
        return difference

    def _background_shift(self, last: np.ndarray, now: np.ndarray, box: np.ndarray | None) -> float:
        """Shift of what is not the person, by a least squares fit of the grey gradient; share of the longer side."""
        gy, gx = np.gradient(0.5 * (last + now))
        change = now - last
        keep = np.ones(now.shape, bool)
        keep[:1], keep[-1:], keep[:, :1], keep[:, -1:] = False, False, False, False
        if box is not None:
            x0, y0, x1, y1 = np.round(box).astype(int)
            keep[max(y0 - 2, 0) : max(y1 + 3, 0), max(x0 - 2, 0) : max(x1 + 3, 0)] = False
        if keep.sum() < 50:
            return 0.0
        gx, gy, change = gx[keep], gy[keep], change[keep]
        a, b, d = float(gx @ gx), float(gx @ gy), float(gy @ gy)
        determinant = a * d - b * b
        if determinant <= 1e-3 * (a + d) ** 2 or a + d < 4.0 * len(gx):
            return 0.0  # nothing to see a shift by
        right, down = -(gx @ change), -(gy @ change)
        u, v = (d * right - b * down) / determinant, (a * down - b * right) / determinant
        explained = change + gx * u + gy * v
        if float(explained @ explained) > 0.8 * float(change @ change):
            return 0.0  # something changes, but not by a shift
        return float(np.hypot(u, v)) / max(now.shape)


def observe(
    path: str | Path,
    *,
    crop: Sequence[int] | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    point: Sequence[float] | None = None,
    landmarker: Landmarker | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Observation:
    """Find one person in every picture of a video.

    Args:
        path: The video.
        crop: See `VideoReader`.
        start_s: See `VideoReader`.
        end_s: See `VideoReader`.
        point: x, y in pixels of the (cropped) original: follow who is there at first, instead of the largest person.
        landmarker: A running one; it is started for this video when left out.
        progress: Called with (pictures done, pictures in all or 0).
        say: Called with what takes long, one line each.

    Raises:
        InputFileError: The video cannot be read.
        MotionError: It has fewer than 3 pictures, or nobody was found in enough of them.
        MissingDependencyError: The landmarker or PyAV is not there.
    """
    with VideoReader(path, crop=crop, start_s=start_s, end_s=end_s) as reader:
        if landmarker is not None:
            landmarker.reset()
            return _observe(reader, path, landmarker, point, progress)
        with Landmarker(say) as own:
            return _observe(reader, path, own, point, progress)


def _observe(
    reader: VideoReader,
    path: str | Path,
    landmarker: Landmarker,
    point: Sequence[float] | None,
    progress: Callable[[int, int], None],
) -> Observation:
    gauge = _Gauge()
    times: list[float] = []
    numbers: list[int] = []
    rows: list[np.ndarray | None] = []
    size, pending = (0, 0), False
    repeats, people, next_detection = 0, 0, -1.0
    others: list[np.ndarray] = []
    last_row: np.ndarray | None = None
    cuts: list[int] = []
    for frame in reader.frames():
        height, width = frame.image.shape[:2]
        size = (width, height)
        small = frame.thumb.shape[1] / width
        box = None if last_row is None else _box(last_row) * small
        difference = gauge.add(frame.thumb, box)
        if times and gauge.same:
            repeats += 1
            continue
        if pending:
            last_row = landmarker.receive()
            rows.append(last_row)
            pending = False
        recent = gauge.difference[-8:-1]
        if len(times) > 2 and difference > _CUT_LEVEL and difference > _CUT_RATIO * float(np.median(recent)):
            cuts.append(len(times))
            landmarker.reset()
            last_row, others, next_detection = None, [], -1.0
        if frame.time_s >= next_detection or last_row is None:
            found = landmarker.detect(frame.image)
            next_detection = frame.time_s + DETECT_EVERY_S
            people = max(people, len(found))
            at = None if point is None or times else np.asarray(point, float) * reader.scale
            others = _others(found, last_row, at)
        image = _hide(frame.image, others, last_row) if others else frame.image
        landmarker.send(image)
        pending = True
        times.append(frame.time_s)
        numbers.append(frame.number)
        progress(frame.number + 1, reader.info.frames)
    if pending:
        rows.append(landmarker.receive())
    return _collect(reader, path, gauge, times, numbers, rows, size, repeats, people, cuts)


def _collect(
    reader: VideoReader, path: str | Path, gauge: _Gauge, times: list[float], numbers: list[int],
    rows: list[np.ndarray | None], size: tuple[int, int], repeats: int, people: int, cuts: list[int],
) -> Observation:  # fmt: skip
    notes = [] if reader.problem is None else [f"video {reader.problem}"]
    count = len(times)
    if count < 3:
        problem = f" ({reader.problem})" if reader.problem else ""
        same = f" and {repeats} that repeat it" if repeats else ""
        raise MotionError(f"{path}: has {count} picture{'s' if count != 1 else ''}{same}, expected a film{problem}")
    brightness = float(np.mean(gauge.level))
    found = np.array([row is not None for row in rows])
    if found.sum() < 3:
        why = " (the picture is black)" if brightness < _DARK else ""
        raise MotionError(f"{path}: nobody was found in {count - int(found.sum())} of {count} pictures{why}")
    table = np.zeros((count, NUM_LANDMARKS, 6))
    for number, row in enumerate(rows):
        if row is not None:
            table[number] = row
    shifts = np.array(gauge.shift)
    moving = (
        float(np.median(shifts[shifts > 0])) * float(np.mean(shifts > _CAMERA_SHARE)) if (shifts > 0).any() else 0.0
    )
    time_s = _even_times(np.array(times), repeats, reader.info.fps)
    seen = Observation(
        time_s, table[:, :, :2], table[:, :, 2], table[:, :, 3:], size, reader.info.fps, repeats, people,
        tuple(round(times[at], 3) for at in cuts), moving, brightness, (), np.array(numbers),
    )  # fmt: skip
    if repeats:
        notes.append(f"pictures that repeat the one before were left out: {repeats}")
    if people > 1:
        notes.append(f"up to {people} people at once: followed the largest one at the start")
    if moving > _CAMERA_SHARE:
        notes.append("the camera moves: the path over the floor is not to be trusted")
    if cuts:
        edges = [0, *cuts, count]
        sizes = [int(found[a:b].sum()) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        best = int(np.argmax(sizes))
        first, last = edges[best], edges[best + 1]
        times_text = ", ".join(f"{times[at]:.2f}" for at in cuts[:5])
        notes.append(f"cut at {times_text} s: kept {times[first]:.2f} to {times[last - 1]:.2f} s")
        seen = seen.part(slice(first, last))
        if seen.found.sum() < 3:
            raise MotionError(f"{path}: no shot shows a person in 3 or more pictures")
    where = np.flatnonzero(seen.found)
    if where[0] > 0 or where[-1] < len(seen) - 1:
        start, end = seen.time_s[where[0]], seen.time_s[where[-1]]
        notes.append(f"nobody before {start:.2f} s or after {end:.2f} s: left out")
        seen = seen.part(slice(where[0], where[-1] + 1))
    lost = 1.0 - float(seen.found.mean())
    if lost > 0.02:
        notes.append(f"the person was lost in {100 * lost:.0f} % of the pictures: bridged")
    if brightness < _DARK:
        notes.append("the picture is very dark")
    return replace(seen, notes=tuple(notes))


def _even_times(times: np.ndarray, repeats: int, fps: float) -> np.ndarray:
    """Undo the jerky times that repeated pictures make of an even, slower film; other times stay as they are."""
    if repeats < 0.15 * (len(times) + repeats) or len(times) < 8 or fps <= 0:
        return times
    number = np.arange(len(times))
    slope, start = np.polyfit(number, times, 1)
    even = start + slope * number
    return even if np.abs(even - times).max() <= 1.2 / fps else times


def _box(row: np.ndarray) -> np.ndarray:
    """Return x0, y0, x1, y1 around the landmarks, a little wider."""
    low, high = row[:, :2].min(0), row[:, :2].max(0)
    margin = 0.08 * (high - low).max()
    return np.concatenate([low - margin, high + margin])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection of two boxes over the smaller one."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(wide, 0.0) * max(tall, 0.0) / max(smaller, 1e-9)


def _others(found: np.ndarray, row: np.ndarray | None, point: np.ndarray | None) -> list[np.ndarray]:
    """Return boxes of those who are not the person we follow."""
    if len(found) < 2:
        return []
    boxes = found[:, 1:]
    if row is not None:
        chosen = int(np.argmax([_overlap(_box(row), box) for box in boxes]))
    elif point is not None:
        centre = 0.5 * (boxes[:, :2] + boxes[:, 2:])
        chosen = int(np.argmin(np.linalg.norm(centre - point, axis=1)))
    else:
        chosen = int(np.argmax(boxes[:, 2] - boxes[:, 0]))
    mine = boxes[chosen]
    # The circle is as wide as the body is tall; a person is about 0.4 of that.
    slim = []
    for number, box in enumerate(boxes):
        centre, half = 0.5 * (box[0] + box[2]), 0.2 * (box[2] - box[0])
        thin = np.array([centre - half, box[1], centre + half, box[3]])
        if number != chosen and _overlap(mine, thin) < 0.9:
            slim.append(thin)
    return slim


def _hide(image: np.ndarray, boxes: Sequence[np.ndarray], row: np.ndarray | None) -> np.ndarray:
    """Return the picture with grey over other people, except where the followed one is."""
    hidden = image.copy()
    for box in boxes:
        x0, y0, x1, y1 = np.clip(np.round(box), 0, [image.shape[1], image.shape[0]] * 2).astype(int)
        hidden[y0:y1, x0:x1] = 114
    if row is not None:
        x0, y0, x1, y1 = np.clip(np.round(_box(row)), 0, [image.shape[1], image.shape[0]] * 2).astype(int)
        hidden[y0:y1, x0:x1] = image[y0:y1, x0:x1]
    return hidden
