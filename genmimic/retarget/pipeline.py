# SPDX-License-Identifier: Apache-2.0
"""Stage 1 in one go: a video, or any human motion, becomes a robot motion that has passed the gate."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genmimic.check import Checked, check_motion
from genmimic.check.pictures import Section, save_page, save_plots
from genmimic.core.errors import GenMimicError
from genmimic.core.human import HumanMotion, save_human_motion
from genmimic.core.motion import MOTION_FORMAT, place_motion, save_motion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.lift.video import looks_like_video
from genmimic.retarget.human import HumanRetarget, retarget_human
from genmimic.retarget.pictures import MOMENTS_NAME, PLOTS_NAME, save_moments, save_retarget_plots

if TYPE_CHECKING:
    from genmimic.lift.motion import Lifted

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts")

PERSON_NAME, MOTION_NAME, PAGE_NAME = "person.npz", "motion.npz", "stage1.html"
PREVIEW_NAME, LIFT_PLOTS_NAME = "person.mp4", "person.png"
CHECK_PLOTS_NAME = "check.png"
"""What `prepare` leaves in its folder, beside `MOMENTS_NAME` and `PLOTS_NAME`; the second line only of a video."""

MOMENTS = 7
"""How many moments are drawn side by side."""


@dataclass(frozen=True)
class Prepared:
    """What came of stage 1.

    Attributes:
        path: The robot motion, with its verdict inside.
        person: What it was made from.
        retargeted: Before the gate.
        checked: By the gate.
    """

    path: Path
    person: HumanMotion
    retargeted: HumanRetarget
    checked: Checked


@dataclass(frozen=True)
class _Read:
    """A person, and the video it is from."""

    person: HumanMotion
    video: Path | None = None
    crop: Sequence[int] | None = None
    lifted: Lifted | None = None


def needs_preparing(name: str) -> bool:
    """Return whether ``name`` is an existing file or folder that is no robot motion: a video or a human motion."""
    path = Path(name)
    return path.is_dir() or (path.is_file() and not _is_robot_motion(path))


def _is_robot_motion(path: Path) -> bool:
    """Whether the file says so; an npz that says nothing legible is left to the reader of robot motions."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "format.npy" not in names:
            return not {"poses.npy", "trans.npy", "joints.npy", "global_orient.npy"} & set(names)
        with np.load(path, allow_pickle=False) as data:
            return str(data["format"]) == MOTION_FORMAT
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return True


def prepare(
    name: str,
    folder: Path,
    policy_path: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    *,
    robot: Robot = G1_23DOF,
    rollouts: int = 4,
    crop: Sequence[int] | None = None,
    height: float | None = None,
) -> Prepared:
    """Lift (a video) or read (anything else), retarget, repair and check, with one line to ``say`` per stage.

    Leaves the person's motion, the robot's motion, pictures of every step and a page with them in ``folder``.
    ``crop``: left, top, width and height in pixels of the part of a video's picture to look at; ``height``: of the
    person, in m.

    Raises:
        GenMimicError: The input is not usable, or a package that is needed is missing.
    """
    source = Path(name)
    read = _read(source, say, crop, height)
    person = read.person
    save_human_motion(folder / PERSON_NAME, person)
    sure = float((person.confidence >= 0.3).mean())
    lines = [f"{person.duration:.2f} s at {person.fps:g} Hz, {100 * sure:.0f} % of the joints seen"]
    seen = seen_part(person)
    if len(seen) < len(person):
        lines.append(f"kept {seen.duration:.2f} s of it: before and after, nobody is seen")
    for line in lines:
        say(f"person   {line}")
    retargeted = retarget_human(seen, robot)
    report = retargeted.report
    robot_line = (
        f"{report.error_cm} cm from the person's pose, standing feet slide {report.skate_cm_s} cm/s, "
        f"{report.flight_frames / retargeted.motion.fps:.2f} s in the air"
    )
    say(f"robot    {robot_line}")
    motion = place_motion(robot, replace(retargeted.motion, name=source.name.split(".")[0]), (0.0, 0.0), 0.0)

    checked = check_motion(robot, motion, policy_path, mend=True, rollouts=rollouts)
    path = folder / MOTION_NAME
    save_motion(path, robot, checked.motion)
    judgement = checked.judgement
    reason = f": {judgement.findings[0].text}" if judgement.findings else ""
    say(f"check    {judgement.verdict}{reason}")
    prepared = Prepared(path, person, retargeted, checked)
    try:
        _draw(folder, robot, prepared, read, seen, lines, robot_line)
        say(f"pictures {folder / PAGE_NAME}")
    except GenMimicError as error:  # a motion without pictures is still a motion
        say(f"pictures left out: {error}")
    return prepared


def _read(path: Path, say: Callable[[str], None], crop: Sequence[int] | None, height: float | None) -> _Read:
    """Read the person of a video, lifted, or of a human motion of any known format."""
    if path.suffix.lower() in VIDEO_SUFFIXES or (path.is_file() and looks_like_video(path)):
        from genmimic.lift import lift_video

        lifted = lift_video(path, crop=crop, height=height, say=say)
        for note in lifted.notes:
            say(f"video    {note}")
        return _Read(lifted.motion, path, crop, lifted)
    from genmimic.lift import read_human

    return _Read(read_human(path, height=height))


# pictures --------------------------------------------------------------------------------------
def _draw(
    folder: Path, robot: Robot, prepared: Prepared, read: _Read, seen: HumanMotion, lines: Sequence[str],
    robot_line: str,
) -> None:  # fmt: skip
    """Write a picture of every step, and one page with all of them."""
    checked, judgement = prepared.checked, prepared.checked.judgement
    motion = checked.motion
    sections = []
    frame_at = None
    if read.lifted is not None and read.video is not None:
        from genmimic.lift.pictures import write_plots
        from genmimic.lift.pipeline import write_preview

        write_preview(read.lifted, read.video, folder / PREVIEW_NAME, crop=read.crop)
        write_plots(read.lifted, folder / LIFT_PLOTS_NAME)
        sections.append(Section("The video, and the person found in it", folder / PREVIEW_NAME, read.lifted.notes))
        first = _first_frame(read.person, seen)
        frame_at = _frames(read, first / seen.fps, min(seen.duration, motion.duration))
    save_moments(folder / MOMENTS_NAME, robot, seen, motion, frame_at, MOMENTS)
    save_retarget_plots(folder / PLOTS_NAME, robot, prepared.retargeted)
    save_plots(folder / CHECK_PLOTS_NAME, robot, motion, judgement, checked.before, checked.original, motion.name)
    sections.append(Section("From the person to the robot", folder / MOMENTS_NAME, (*lines, robot_line)))
    if read.lifted is not None:
        sections.append(Section("Lifting: before and after cleaning", folder / LIFT_PLOTS_NAME))
    sections.append(Section("Retargeting", folder / PLOTS_NAME))
    save_page(
        folder / PAGE_NAME, motion, judgement, checked.before, folder / CHECK_PLOTS_NAME, title=motion.name,
        sections=sections,
    )  # fmt: skip


def _first_frame(person: HumanMotion, seen: HumanMotion) -> int:
    """Return which frame of ``person`` the first one of ``seen`` is."""
    rows = np.flatnonzero((person.joint_pos[: len(person) - len(seen) + 1] == seen.joint_pos[0]).all((1, 2)))
    return int(rows[0]) if len(rows) else 0


def _frames(read: _Read, start_s: float, duration_s: float) -> Callable[[float], np.ndarray | None]:
    """Return a function from the motion's time to the video's picture with the skeleton over it."""
    from genmimic.lift.pictures import draw_over
    from genmimic.lift.video import VideoReader

    assert read.video is not None and read.lifted is not None
    time_s = read.lifted.observation.time_s
    wanted = [float(time_s[0]) + start_s + float(t) for t in np.linspace(0.0, duration_s, MOMENTS)]
    images: list[np.ndarray] = []
    with VideoReader(read.video, crop=read.crop) as reader:
        for frame in reader.frames():
            while len(images) < len(wanted) and frame.time_s >= wanted[len(images)] - 0.02:
                row = int(np.abs(time_s - frame.time_s).argmin())
                images.append(draw_over(frame.image, read.lifted, row))
            if len(images) == len(wanted):
                break

    def frame_at(t: float) -> np.ndarray | None:
        number = round(t / duration_s * (MOMENTS - 1)) if duration_s > 0.0 else 0
        return images[min(number, len(images) - 1)] if images else None

    return frame_at


def seen_part(person: HumanMotion) -> HumanMotion:
    """Return the frames from the first to the last in which most of the body is seen; all when it never is."""
    sure = np.flatnonzero((person.confidence >= 0.3).mean(-1) >= 0.5)
    if len(sure) < max(2, 0.5 * person.fps):
        return person
    part = slice(int(sure[0]), int(sure[-1]) + 1)
    return replace(person, joint_pos=person.joint_pos[part], confidence=person.confidence[part], smpl=None)
