# SPDX-License-Identifier: Apache-2.0
"""What can be played back: a motion, or a finished run beside its goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import GenMimicError, InputFileError
from genmimic.core.motion import CONTROL_RATE_HZ, MOTION_FORMAT, Motion, load_motion
from genmimic.core.robot import Robot
from genmimic.evaluate.report import load_report, load_trajectory
from genmimic.policy import find_shipped
from genmimic.view.scene import Pose

MAX_CLIPS = 500
"""Of a folder; an evaluation can keep thousands of rollouts."""

_TRAJECTORY, _REPORT, _RECORDING = "trajectory.npz", "report.json", "run.mcap"


@dataclass(frozen=True)
class Clip:
    """T poses at ``fps``, and what they should have been; world frame, m, rad, wxyz.

    Attributes:
        name: For people.
        fps: Frames per second.
        root_pos: Pelvis. Shape (T, 3).
        root_quat: Shape (T, 4).
        joint_pos: Shape (T, J).
        keypoint_pos: Of the robot. Shape (T, K, 3).
        goal_keypoint_pos: Shape (T, K, 3); None for a motion, which is its own goal.
        fell: Whether the robot lay. Shape (T,); None for a motion.
        motion_frames: First frame of the motion itself and the one after its last.
        facts: Lines about it, Markdown.
        video: Path of the film it was made from; None when not known.
    """

    name: str
    fps: float
    root_pos: np.ndarray
    root_quat: np.ndarray
    joint_pos: np.ndarray
    keypoint_pos: np.ndarray
    goal_keypoint_pos: np.ndarray | None = None
    fell: np.ndarray | None = None
    motion_frames: tuple[int, int] = (0, 0)
    facts: tuple[str, ...] = ()
    video: Path | None = None

    def __len__(self) -> int:
        return len(self.joint_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (len(self) - 1) / self.fps

    def pose(self, frame: int) -> Pose:
        """Return what is drawn at a frame."""
        goal = None if self.goal_keypoint_pos is None else self.goal_keypoint_pos[frame]
        return Pose(self.root_pos[frame], self.root_quat[frame], self.joint_pos[frame], goal)

    @cached_property
    def error_m(self) -> np.ndarray | None:
        """Mean distance of the keypoints from their goal, in m. Shape (T,); None without a goal."""
        if self.goal_keypoint_pos is None:
            return None
        return np.linalg.norm(self.goal_keypoint_pos - self.keypoint_pos, axis=-1).mean(-1)


def clip_of_motion(motion: Motion) -> Clip:
    """Return a motion as a clip."""
    source = motion.source
    facts = [f"**{motion.name}** · {motion.duration:.2f} s, {len(motion)} frames at {motion.fps:g} Hz"]
    if content := source.get("content"):
        facts.append(str(content))
    check = source.get("check")
    if isinstance(check, dict) and check.get("verdict"):
        facts.append(f"gate: {check['verdict']}")
    if credit := source.get("credit"):
        facts.append(f"{credit} ({source.get('licence', 'licence not given')})")
    return Clip(
        motion.name, motion.fps, motion.root_pos, motion.root_quat, motion.joint_pos, motion.keypoint_pos,
        motion_frames=(0, len(motion)), facts=tuple(facts), video=_video_of(source),
    )  # fmt: skip


def clip_of_trajectory(name: str, arrays: dict[str, np.ndarray], facts: Sequence[str] = ()) -> Clip:
    """Return a finished run, see `genmimic.evaluate.report.trajectory_fields`, as a clip.

    Whoever recorded it without knowing where the robot was has put it at its goal.
    """
    first, last = (int(value) for value in arrays["motion_frames"])
    lines = [f"**{name}** · {len(arrays['t']) / CONTROL_RATE_HZ:.2f} s", *facts]
    falls = np.flatnonzero(arrays["fell"])
    if len(falls):
        lines.append(f"fell at {arrays['t'][falls[0]]:.2f} s")
    return Clip(
        name, CONTROL_RATE_HZ, arrays["root_pos"], arrays["root_quat"], arrays["joint_pos"], arrays["keypoint_pos"],
        arrays["goal_keypoint_pos"], arrays["fell"], (first, last), tuple(lines),
    )  # fmt: skip


def load_clips(robot: Robot, names: Sequence[str]) -> list[Clip]:
    """Return what is in motions, trajectories, and folders of reports.

    Args:
        robot: The robot.
        names: Files, folders, or names of shipped motions.

    Raises:
        GenMimicError: One of them is missing, damaged, or of another kind.
    """
    clips = [clip for name in names for clip in _load(robot, name)]
    if not clips:
        raise InputFileError("nothing to view; give a motion, a trajectory.npz, or the folder of a report")
    return clips


def _load(robot: Robot, name: str) -> list[Clip]:
    path = Path(name)
    if path.is_dir():
        return _of_folder(robot, path)
    if path.suffix.lower() == ".mcap":
        return _of_recording(robot, path)
    if path.name == _REPORT:
        return _of_folder(robot, path.parent)
    if path.suffix.lower() == ".npz" and path.is_file():
        kind = _kind(path)
        if kind == "trajectory":
            facts = _report_facts(path.parent)
            return [clip_of_trajectory(_label(path), load_trajectory(path, robot), facts)]
        if kind not in ("", MOTION_FORMAT):
            raise InputFileError(
                f"{path}: format is {kind!r}; expected a robot motion ({MOTION_FORMAT}) or a trajectory; "
                f"`genmimic retarget {path} -o motion.npz` makes a motion of a person's"
            )
    return [clip_of_motion(load_motion(find_shipped(name, "motions", ".npz"), robot))]


def _of_recording(robot: Robot, path: Path) -> list[Clip]:
    """Return each time through a motion in a recording."""
    from genmimic.record.reader import Recording
    from genmimic.record.trajectory import takes

    clips = []
    for number, take in enumerate(takes(Recording(path)), 1):
        arrays = take.trajectory(robot)
        if arrays is not None:
            place = [] if take.has_truth else ["drawn where it should be: nobody measured where it was"]
            clips.append(clip_of_trajectory(f"{take.motion} {number}", arrays, [f"recorded in {path.name}", *place]))
    if not clips:
        raise InputFileError(f"{path}: no motion was played in this recording")
    return clips


def _of_folder(robot: Robot, folder: Path) -> list[Clip]:
    """Return the runs in a folder of reports, else the motions in it."""
    recording = folder / _RECORDING
    found = sorted(folder.glob(_TRAJECTORY)) + sorted(folder.glob(f"*/**/{_TRAJECTORY}"))
    if not found and recording.is_file():
        return _of_recording(robot, recording)
    if found:
        return [
            clip_of_trajectory(_label(path), load_trajectory(path, robot), _report_facts(path.parent))
            for path in found[:MAX_CLIPS]
        ]
    if (folder / "checkpoint.pt").is_file():
        raise InputFileError(f"{folder}: a training run; look at it with `genmimic-train view {folder} --motions PATH`")
    motions = [path for path in sorted(folder.glob("*.npz")) if _kind(path) == MOTION_FORMAT]
    if not motions:
        raise InputFileError(f"{folder}: holds neither {_TRAJECTORY} nor a motion (*.npz)")
    return [clip_of_motion(load_motion(path, robot)) for path in motions[:MAX_CLIPS]]


def _kind(path: Path) -> str:
    """Return the format that an npz names, ``trajectory`` for one, empty when it says nothing legible."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if "format" in data.files:
                return str(data["format"])
            return "trajectory" if {"t", "joint_pos", "goal_keypoint_pos"} <= set(data.files) else ""
    except Exception:  # its reader says what is wrong
        return ""


def _label(path: Path) -> str:
    return path.parent.resolve().name if path.name == _TRAJECTORY else path.stem


def _report_facts(folder: Path) -> list[str]:
    try:
        report = load_report(folder)
    except GenMimicError:
        return []
    total = report["total"]
    lines = [f"motion {report['motion']} · policy {report['policy']} · {'success' if report['success'] else 'FAILED'}"]
    figures = [(name, total.get(key)) for name, key in (("pose", "lmpkpe_nt_cm"), ("hands", "hands_cm"))]
    known = [f"{name} {value:.1f} cm" for name, value in figures if isinstance(value, (int, float))]
    return lines + ([" · ".join(known) + " off on average"] if known else [])


def _video_of(source: Any) -> Path | None:
    for entry in (source, source.get("human", {})):
        if isinstance(entry, dict) and isinstance(entry.get("video"), str) and Path(entry["video"]).is_file():
            return Path(entry["video"])
    return None
