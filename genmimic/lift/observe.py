# SPDX-License-Identifier: Apache-2.0
"""What is seen of one person in a video: landmarks with times, and what disturbs them.

Chooses the person (the largest at first, followed from then on), hides the others from the landmarker, and notices
cuts, repeated pictures, a moving camera and darkness.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.lift.landmarks import LANDMARK_NAMES, NUM_LANDMARKS, Landmarker, start_landmarkers
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
_CHUNK, _SHARED = 60, 4  # pictures that one landmarker gets at a time, and how many of them the one before has, too
_FIRST = 8  # pictures of the first chunk of a shot
_SAME_PERSON = 0.1  # mean distance of landmarks over the person's size
_CROSS_SHARE, _CROSS_M = 0.03, 0.08  # distance of a landmark, over that size and in m, that is noise
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
    """Grey thumbnails in, differences and, once the person's place is known, background shifts out."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._waiting: deque[tuple[np.ndarray, np.ndarray] | None] = deque()  # of pictures whose person is not known
        self.same = False
        self.difference: list[float] = []
        self.shift: list[float] = []
        self.level: list[float] = []

    def add(self, thumb: np.ndarray) -> float:
        """Return the mean difference to the last picture."""
        self.level.append(float(thumb.mean()))
        last = self._last
        self._last = thumb
        if last is None or last.shape != thumb.shape:
            self.difference.append(0.0)
            self.same = False
            self._waiting.append(None)
            return 0.0
        change = np.abs(thumb - last)
        difference = float(change.mean())
        self.same = difference < _SAME_MEAN and float(np.percentile(change, 99.0)) < _SAME_P99
        self.difference.append(difference)
        if self.same:
            self.shift.append(0.0)
        else:
            self._waiting.append((last, thumb))
        return difference

    def settle(self, box: np.ndarray | None) -> None:
        """Measure the shift behind the oldest waiting picture; ``box`` is the person in the thumbnail's pixels."""
        pair = self._waiting.popleft()
        self.shift.append(0.0 if pair is None else self._background_shift(*pair, box))

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
    landmarkers: Sequence[Landmarker] | None = None,
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
        landmarkers: Running ones; as many as there are cores are started for this video when left out.
        progress: Called with (pictures done, pictures in all or 0).
        say: Called with what takes long, one line each.

    Raises:
        InputFileError: The video cannot be read.
        MotionError: It has fewer than 3 pictures, or nobody was found in enough of them.
        MissingDependencyError: The landmarker or PyAV is not there.
    """
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(path, crop=crop, start_s=start_s, end_s=end_s))
        if landmarkers is None:
            landmarkers = [stack.enter_context(one) for one in start_landmarkers(say=say)]
        return _observe(reader, path, landmarkers, point, progress)


def _observe(
    reader: VideoReader,
    path: str | Path,
    landmarkers: Sequence[Landmarker],
    point: Sequence[float] | None,
    progress: Callable[[int, int], None],
) -> Observation:
    gauge = _Gauge()
    times: list[float] = []
    numbers: list[int] = []
    rows: list[np.ndarray | None] = []
    size = (0, 0)
    repeats = 0
    cuts: list[int] = []
    with _Watch(landmarkers, reader.info.frames) as watch:

        def settle(new: Iterable[np.ndarray | None]) -> None:
            for row in new:
                gauge.settle(None if row is None else _box(row) * small)
                rows.append(row)
                progress(numbers[len(rows) - 1] + 1, reader.info.frames)

        for frame in reader.frames():
            size = (frame.image.shape[1], frame.image.shape[0])
            small = frame.thumb.shape[1] / size[0]
            difference = gauge.add(frame.thumb)
            if times and gauge.same:
                repeats += 1
                continue
            recent = gauge.difference[-8:-1]
            cut = len(times) > 2 and difference > _CUT_LEVEL and difference > _CUT_RATIO * float(np.median(recent))
            if cut:
                cuts.append(len(times))
            at = None if point is None or times else np.asarray(point, float) * reader.scale
            times.append(frame.time_s)
            numbers.append(frame.number)
            settle(watch.add(_Picture(frame.time_s, frame.image), fresh=cut or len(times) == 1, point=at))
        settle(watch.rest())
        return _collect(reader, path, gauge, times, numbers, rows, size, repeats, watch.people, cuts)


@dataclass(frozen=True)
class _Picture:
    time_s: float
    image: np.ndarray


class _Follower:
    """One landmarker that follows one person from picture to picture and hides the others from itself."""

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker
        self._row: np.ndarray | None = None
        self._others: list[np.ndarray] = []
        self._next_detection = -1.0
        self.people = 0

    def forget(self, near: np.ndarray | None = None) -> None:
        """Search anew; among several people, for whoever has landmarks ``near`` (33, 6)."""
        self._landmarker.reset()
        self._row, self._others, self._next_detection = near, [], -1.0

    def follow(self, pictures: Iterable[_Picture], point: np.ndarray | None = None) -> Iterator[np.ndarray | None]:
        """Yield the landmarks of each picture, (33, 6) or None; ``point``: see `observe`, for the first one."""
        for picture in pictures:
            if picture.time_s >= self._next_detection or self._row is None:
                found = self._landmarker.detect(picture.image)
                self._next_detection = picture.time_s + DETECT_EVERY_S
                self.people = max(self.people, len(found))
                self._others = _others(found, self._row, point)
            point = None
            self._landmarker.send(_hide(picture.image, self._others, self._row) if self._others else picture.image)
            self._row = self._landmarker.receive()
            yield self._row


_Rows = list[np.ndarray | None]


@dataclass
class _Chunk:
    """Pictures in a row. The first ``shared`` of them are also the last ones of the chunk before.

    Attributes:
        pictures: In their order.
        fresh: They have nothing to do with those before.
        point: See `observe`.
        shared: See above.
        head: Landmarks of the shared pictures.
        agrees: Whether these are of the person followed before; if not, whoever did the chunk before does this one too.
        rows: Landmarks of the pictures; without those of the shared ones if ``goes_on``.
        goes_on: They come from whoever did the chunk before.
        after: The next chunk; None at the end.
    """

    pictures: list[_Picture]
    fresh: bool
    point: np.ndarray | None = None
    shared: int = 0
    head: Future[_Rows] = field(default_factory=Future)
    agrees: Future[bool] = field(default_factory=Future)
    rows: Future[_Rows] = field(default_factory=Future)
    goes_on: bool = False
    after: Future[_Chunk | None] = field(default_factory=Future)

    def fail(self, error: BaseException) -> None:
        """Let nobody wait for this chunk any longer."""
        for future in (self.head, self.agrees, self.rows, self.after):
            if not future.done():
                try:
                    future.set_exception(error)
                except InvalidStateError:
                    pass  # somebody was faster


class _Watch:
    """Landmarks of a stream of pictures by several landmarkers at once, as one that sees all of them would find them.

    A landmarker looks where the person was in the picture before, so pictures are dealt out in chunks. Each begins some
    pictures early, with a search for the person, and counts only if it then has the same person as the chunk before; if
    not, the landmarker of that one goes on instead. Where two chunks meet, landmarks that nearly agree go over
    gradually. The first chunk of a shot is short and waited for, so that the next ones know whom to look for. A single
    landmarker always goes on.

    Args:
        landmarkers: Running ones.
        expected: How many pictures there may be; 0 when unknown.
    """

    def __init__(self, landmarkers: Sequence[Landmarker], expected: int) -> None:
        self._count = len(landmarkers)
        self._free: SimpleQueue[_Follower] = SimpleQueue()
        self._followers = [_Follower(one) for one in landmarkers]
        for follower in self._followers:
            self._free.put(follower)
        rounds = max(1, -(-expected // (self._count * _CHUNK))) if expected else 1
        # every landmarker gets as many chunks as the others, so that none waits at the end
        self._length = min(_CHUNK, max(3 * _SHARED, -(-expected // (self._count * rounds)))) if expected else _CHUNK
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="landmarks")
        self._open: _Chunk | None = None
        self._working: deque[_Chunk] = deque()
        self._rows: _Rows = []  # of the chunk settled last
        self._known: _Rows = []  # of those before it, not returned yet
        self._near: np.ndarray | None = None
        self._last: _Chunk | None = None
        self._waiting: list[_Chunk] = []

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        for chunk in (*self._working, *self._waiting):
            chunk.fail(CancelledError())
        self._pool.shutdown(cancel_futures=True)

    @property
    def people(self) -> int:
        """Most people seen at once."""
        return max(follower.people for follower in self._followers)

    def add(self, picture: _Picture, fresh: bool, point: np.ndarray | None) -> list[np.ndarray | None]:
        """Take the next picture; return the landmarks that are known by now of the oldest ones not returned yet.

        Args:
            picture: Of the stream.
            fresh: It has nothing to do with the one before.
            point: See `observe`.
        """
        chunk = self._open
        full = chunk is not None and len(chunk.pictures) - chunk.shared >= (
            _FIRST if chunk.fresh and self._count > 1 else self._length
        )
        if chunk is None or fresh or full:
            shared: list[_Picture] = []
            if chunk is not None:
                self._start(chunk)
                shared = [] if fresh or self._count == 1 else chunk.pictures[-_SHARED:]
            self._open = chunk = _Chunk(shared, fresh, point, len(shared))
        chunk.pictures.append(picture)
        while len(self._working) > self._count:
            self._settle(self._working.popleft())
        return self._taken()

    def rest(self) -> list[np.ndarray | None]:
        """Return the landmarks of all pictures that `add` has not returned."""
        if self._open is not None:
            self._start(self._open)
            if not self._open.after.done():
                self._open.after.set_result(None)
            self._open = self._last = None
        while self._working:
            self._settle(self._working.popleft())
        return self._taken() + self._rows

    def _taken(self) -> list[np.ndarray | None]:
        known, self._known = self._known, []
        return known

    def _start(self, chunk: _Chunk) -> None:
        if self._last is not None and not self._last.after.done():  # it is where a landmarker has failed
            self._last.after.set_result(chunk)
        self._last = chunk
        if chunk.fresh:
            chunk.agrees.set_result(True)
        if self._count > 1 and self._working and self._working[-1].fresh:
            while self._working:
                self._settle(self._working.popleft())
        self._working.append(chunk)
        self._pool.submit(self._work, chunk, None if chunk.fresh else self._near)

    def _work(self, chunk: _Chunk, near: np.ndarray | None) -> None:
        follower = self._free.get()
        try:
            if chunk.fresh or self._count > 1:
                follower.forget(near)
            rows: _Rows = []
            for row in follower.follow(chunk.pictures, chunk.point):
                rows.append(row)
                if len(rows) == chunk.shared:
                    chunk.head.set_result(list(rows))
                if chunk.agrees.done() and not chunk.agrees.result():
                    return
            if self._count == 1:
                chunk.goes_on = True
                chunk.rows.set_result(rows)
                return
            while chunk.goes_on or chunk.agrees.result():
                chunk.rows.set_result(rows)
                after = chunk.after.result()
                if after is None or after.fresh:
                    return
                same = _same_person(rows[-1], after.head.result()[-1])
                after.goes_on = not same
                after.agrees.set_result(same)
                if same:
                    return
                chunk, rows = after, list(follower.follow(after.pictures[after.shared :]))
        except BaseException as error:
            chunk.fail(error)
            if chunk.after.done() and chunk.after.exception() is None:
                following = chunk.after.result()
                if following is not None:
                    following.fail(error)
        finally:
            self._free.put(follower)

    def _settle(self, chunk: _Chunk) -> None:
        """Wait for a chunk; the rows of the one before it are known then, for nothing changes them any more."""
        self._waiting = [chunk]
        before, now, shared = self._rows, chunk.rows.result(), 0 if chunk.goes_on else chunk.shared
        self._waiting = []
        for number in range(shared):
            before[number - shared] = _crossed(before[number - shared], now[number], (number + 1) / (shared + 1))
        self._rows = now[shared:]
        self._near = next((row for row in reversed(self._rows) if row is not None), None)
        self._known += before


def _same_person(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Return whether two sets of landmarks of one picture, (33, 6) or None, are of the same person, or both of none."""
    if a is None or b is None:
        return a is b
    off = np.linalg.norm(a[:, :2] - b[:, :2], axis=-1)
    return float(np.average(off, weights=a[:, 2] + 1e-6)) < _SAME_PERSON * float(np.ptp(a[:, :2], axis=0).max())


def _crossed(a: np.ndarray | None, b: np.ndarray | None, share: float) -> np.ndarray | None:
    """Return landmarks (33, 6) that go from ``a`` to ``b``; those that do not agree, as swapped sides, go at once."""
    if a is None or b is None:
        return a
    near = np.linalg.norm(a[:, :2] - b[:, :2], axis=-1) < _CROSS_SHARE * float(np.ptp(a[:, :2], axis=0).max())
    near &= np.linalg.norm(a[:, 3:] - b[:, 3:], axis=-1) < _CROSS_M
    return a + share * near[:, None] * (b - a)


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
