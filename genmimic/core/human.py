# SPDX-License-Identifier: Apache-2.0
"""Human motion: the type and its file (``genmimic-human/1``). What lifting makes and retargeting takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.core.motion import MAX_MOTION_FRAMES, _field, _floats, _text, read_npz, write_npz

HUMAN_FORMAT = "genmimic-human/1"

SMPL_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
"""The 24 joints of SMPL, in its order. ``*_foot`` is the base of the toes, ``*_hand`` the middle of the palm."""

EXTRA_JOINTS = (
    "left_heel", "right_heel", "left_toe", "right_toe", "nose", "left_ear", "right_ear", "left_index", "right_index",
    "left_pinky", "right_pinky", "left_thumb", "right_thumb",
)  # fmt: skip
"""Further points that some sources have. ``*_toe`` is the tip of the big toe, ``*_index`` that finger's knuckle."""

HUMAN_JOINTS = (*SMPL_JOINTS, *EXTRA_JOINTS)
"""Every joint name that a human motion may use; any subset, in any order."""

REQUIRED_JOINTS = tuple(
    f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")
)
"""Joints without which a human motion cannot be brought to a robot."""

MAX_HUMAN_BYTES = 512 * 1024 * 1024
MAX_DISTANCE_M = 1000.0


@dataclass(frozen=True)
class HumanMotion:
    """Joint positions of one person over time; world frame, m, z up, floor at z = 0.

    Attributes:
        fps: Frames per second, even.
        joint_names: Of `HUMAN_JOINTS`, each once.
        joint_pos: Shape (T, J, 3).
        confidence: How sure the source is of each joint, 0 (bridged or guessed) to 1. Shape (T, J).
        name: A short name for people.
        source: Where it came from: file, licence, tools, steps. Plain JSON types.
        smpl: Parameters of the SMPL body, one row per frame where they change, when the source had them.

    Raises:
        MotionError: Names, shapes or numbers do not fit together.
    """

    fps: float
    joint_names: tuple[str, ...]
    joint_pos: np.ndarray
    confidence: np.ndarray
    name: str = "person"
    source: Mapping[str, Any] = field(default_factory=dict)
    smpl: Mapping[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise MotionError(f"human motion {self.name!r}: {problem}")

    def __len__(self) -> int:
        return len(self.joint_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (len(self) - 1) / self.fps

    def has(self, *names: str) -> bool:
        """Return whether all ``names`` are among the joints."""
        return all(name in self.joint_names for name in names)

    def pos(self, name: str) -> np.ndarray:
        """Return the path of one joint, in m. Shape (T, 3). Raises MotionError when it is not there."""
        if name not in self.joint_names:
            raise MotionError(
                f"human motion {self.name!r} has no joint {name!r}; it has: {', '.join(self.joint_names)}"
            )
        return self.joint_pos[:, self.joint_names.index(name)]


def _problem(motion: HumanMotion) -> str | None:
    """Return what is wrong, or None."""
    names, shape = motion.joint_names, np.shape(motion.joint_pos)
    unknown = [name for name in names if name not in HUMAN_JOINTS]
    if unknown:
        return f"joint_names holds {unknown[0]!r}; known: {', '.join(HUMAN_JOINTS)}"
    if len(set(names)) != len(names) or not names:
        return "joint_names is empty or names a joint twice"
    if len(shape) != 3 or shape[1:] != (len(names), 3):
        return f"joint_pos has shape {shape}, expected Tx{len(names)}x3"
    if not 2 <= shape[0] <= MAX_MOTION_FRAMES:
        return f"joint_pos has {shape[0]} frames, expected 2 to {MAX_MOTION_FRAMES}"
    if np.shape(motion.confidence) != shape[:2]:
        return f"confidence has shape {np.shape(motion.confidence)}, expected {shape[0]}x{len(names)}"
    if not 1.0 <= motion.fps <= 1000.0:
        return f"fps is {motion.fps:g}, expected 1 to 1000"
    for what, values in (("joint_pos", motion.joint_pos), ("confidence", motion.confidence)):
        if not np.isfinite(values).all():
            return f"{what} holds {int((~np.isfinite(values)).sum())} values that are not finite"
    reach = float(np.abs(motion.joint_pos).max())
    if reach > MAX_DISTANCE_M:
        return f"joint_pos reaches {reach:.0f} m, expected metres within {MAX_DISTANCE_M:g}"
    low, high = float(np.min(motion.confidence)), float(np.max(motion.confidence))
    if low < 0.0 or high > 1.0:
        return f"confidence runs from {low:.3g} to {high:.3g}, expected 0 to 1"
    return None


# files -----------------------------------------------------------------------------------------
def save_human_motion(path: str | Path, motion: HumanMotion) -> None:
    """Write ``motion`` as ``genmimic-human/1``; the file appears whole or not at all."""
    arrays = {
        "format": np.array(HUMAN_FORMAT),
        "fps": np.array(float(motion.fps)),
        "joint_names": np.array(motion.joint_names),
        "joint_pos": np.asarray(motion.joint_pos, np.float32),
        "confidence": np.asarray(motion.confidence, np.float32),
        "name": np.array(motion.name),
        "source": np.array(json.dumps(dict(motion.source), sort_keys=True)),
    }
    for key, value in (motion.smpl or {}).items():
        value = np.asarray(value)
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise MotionError(f"human motion {motion.name!r}: smpl {key!r} is not made of finite numbers")
        arrays[f"smpl_{key}"] = value
    write_npz(path, arrays)


def load_human_motion(path: str | Path) -> HumanMotion:
    """Read and check a ``genmimic-human/1`` file.

    Raises:
        InputFileError: The file is missing, not an npz, truncated or too large.
        MotionError: A field is missing, of the wrong shape, type or range, or not finite.
    """
    path = Path(path)
    fields = read_npz(path, MAX_HUMAN_BYTES)
    found = _text(fields, "format", path)
    if found != HUMAN_FORMAT:
        raise MotionError(f"{path}: format is {found!r}, expected {HUMAN_FORMAT!r}")
    names = _field(fields, "joint_names", path)
    if names.dtype.kind != "U" or names.ndim != 1:
        raise MotionError(f"{path}: joint_names is not a list of texts")
    joint_names = tuple(str(name) for name in names)
    joint_pos = _floats(fields, "joint_pos", path, (None, len(joint_names), 3))
    text = _text(fields, "source", path)
    try:
        source = json.loads(text)
    except json.JSONDecodeError as error:
        raise MotionError(f"{path}: source is not JSON: {error}") from None
    if not isinstance(source, dict):
        raise MotionError(f"{path}: source is a JSON {type(source).__name__}, expected an object")
    smpl = {
        key.removeprefix("smpl_"): _floats(fields, key, path, (None,) * fields[key].ndim)
        for key in fields
        if key.startswith("smpl_")
    }
    confidence = _floats(fields, "confidence", path, (len(joint_pos), len(joint_names)))
    fps = float(_floats(fields, "fps", path, ()))
    name = _text(fields, "name", path) if "name" in fields else path.stem
    try:
        return HumanMotion(fps, joint_names, joint_pos, confidence, name, source, smpl or None)
    except MotionError as error:
        raise MotionError(f"{path}: {str(error).split(': ', 1)[-1]}") from None
