# SPDX-License-Identifier: Apache-2.0
"""Stage 1 in one go: a video, or any human motion, becomes a robot motion that has passed the gate."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genmimic.check import Checked, check_motion
from genmimic.check.pictures import save_page, save_plots
from genmimic.core.human import HumanMotion, save_human_motion
from genmimic.core.motion import MOTION_FORMAT, place_motion, save_motion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.retarget.human import HumanRetarget, retarget_human

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts")

PERSON_NAME, MOTION_NAME, PLOTS_NAME, PAGE_NAME = "person.npz", "motion.npz", "check.png", "check.html"
"""What `prepare` leaves in its folder."""


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

    Leaves the person's motion, the robot's motion, and pictures of its check in ``folder``. ``crop``: left, top, width
    and height in pixels of the part of a video's picture to look at; ``height``: of the person, in m.

    Raises:
        GenMimicError: The input is not usable, or a package that is needed is missing.
    """
    source = Path(name)
    person = read_person(source, say, crop, height)
    save_human_motion(folder / PERSON_NAME, person)
    sure = float((person.confidence >= 0.3).mean())
    say(f"person   {person.duration:.2f} s at {person.fps:g} Hz, {100 * sure:.0f} % of the joints seen")

    seen = seen_part(person)
    if len(seen) < len(person):
        say(f"person   kept {seen.duration:.2f} s of it: before and after, nobody is seen")
    retargeted = retarget_human(seen, robot)
    report = retargeted.report
    say(
        f"robot    {report.error_cm} cm from the person's pose, standing feet slide {report.skate_cm_s} cm/s, "
        f"{report.flight_frames / retargeted.motion.fps:.2f} s in the air"
    )
    motion = place_motion(robot, replace(retargeted.motion, name=source.name.split(".")[0]), (0.0, 0.0), 0.0)

    checked = check_motion(robot, motion, policy_path, mend=True, rollouts=rollouts)
    path = folder / MOTION_NAME
    save_motion(path, robot, checked.motion)
    judgement = checked.judgement
    save_plots(folder / PLOTS_NAME, robot, checked.motion, judgement, checked.before, checked.original, motion.name)
    save_page(folder / PAGE_NAME, checked.motion, judgement, checked.before, folder / PLOTS_NAME, title=motion.name)
    reason = f": {judgement.findings[0].text}" if judgement.findings else ""
    say(f"check    {judgement.verdict}{reason}")
    return Prepared(path, person, retargeted, checked)


def read_person(
    path: Path,
    say: Callable[[str], None] = lambda line: None,
    crop: Sequence[int] | None = None,
    height: float | None = None,
) -> HumanMotion:
    """Return the person of a video, lifted, or of a human motion of any known format; see `prepare`."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        from genmimic.lift import lift_video

        lifted = lift_video(path, crop=crop, height=height, say=say)
        for note in lifted.notes:
            say(f"video    {note}")
        return lifted.motion
    from genmimic.lift import read_human

    return read_human(path, height=height)


def seen_part(person: HumanMotion) -> HumanMotion:
    """Return the frames from the first to the last in which most of the body is seen; all when it never is."""
    sure = np.flatnonzero((person.confidence >= 0.3).mean(-1) >= 0.5)
    if len(sure) < max(2, 0.5 * person.fps):
        return person
    part = slice(int(sure[0]), int(sure[-1]) + 1)
    return replace(person, joint_pos=person.joint_pos[part], confidence=person.confidence[part], smpl=None)
