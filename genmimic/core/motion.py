# SPDX-License-Identifier: Apache-2.0
"""Robot motion: the type, its file (``genmimic-motion/1``), resampling, mirroring and stitching."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import InputFileError, MotionError
from genmimic.core.files import whole_file
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.robot import Robot
from genmimic.core.rotation import (
    heading,
    quat_canonical,
    quat_conjugate,
    quat_from_heading,
    quat_multiply,
    quat_normalize,
    quat_slerp,
    quat_to_rotation_vector,
    rotate_heading,
)

MOTION_FORMAT = "genmimic-motion/1"
CONTROL_RATE_HZ = 50.0
"""Rate of the policy and so of every reference that it is shown (paper 5.1)."""

MAX_MOTION_BYTES = 256 * 1024 * 1024
MAX_MOTION_FRAMES = 1_000_000


@dataclass(frozen=True)
class Motion:
    """A motion of the robot: T frames at ``fps``; world frame, z up, m and rad, quaternions wxyz.

    Attributes:
        fps: Frames per second.
        joint_pos: In the robot's joint order. Shape (T, J).
        root_pos: Pelvis position. Shape (T, 3).
        root_quat: Pelvis orientation, unit length. Shape (T, 4).
        keypoint_pos: Keypoints by forward kinematics. Shape (T, K, 3).
        name: A short name for people.
        source: Where it came from: licence, tool versions, checks. Plain JSON types.
    """

    fps: float
    joint_pos: np.ndarray
    root_pos: np.ndarray
    root_quat: np.ndarray
    keypoint_pos: np.ndarray
    name: str = "motion"
    source: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.joint_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (len(self) - 1) / self.fps

    @classmethod
    def from_joints(
        cls,
        robot: Robot,
        fps: float,
        joint_pos: np.ndarray,
        root_pos: np.ndarray,
        root_quat: np.ndarray,
        name: str = "motion",
        source: Mapping[str, Any] | None = None,
    ) -> Motion:
        """Build a motion whose keypoints follow from its joints. Shapes (T, J), (T, 3), (T, 4)."""
        joint_pos, root_pos = np.asarray(joint_pos, float), np.asarray(root_pos, float)
        root_quat = continuous_quat(quat_normalize(np.asarray(root_quat, float)))
        keypoints = forward_kinematics(robot, root_pos, root_quat, joint_pos)
        return cls(float(fps), joint_pos, root_pos, root_quat, keypoints.pos, name, dict(source or {}))


@dataclass(frozen=True)
class MotionRates:
    """Time derivatives of a motion by central differences. Shapes (T, J), (T, 3), (T, 3)."""

    joint_vel: np.ndarray  # rad/s
    root_lin_vel: np.ndarray  # m/s, world
    root_ang_vel: np.ndarray  # rad/s, world


def continuous_quat(quat: np.ndarray) -> np.ndarray:
    """Return the same rotations with signs chosen so that neighbours are close. Shape (T, 4)."""
    quat = np.array(quat, float)
    if len(quat):
        quat[0] = quat_canonical(quat[0])
        flips = np.sum(quat[1:] * quat[:-1], -1) < 0.0
        sign = np.cumprod(np.where(flips, -1.0, 1.0))
        quat[1:] *= sign[:, None]
    return quat


def motion_rates(motion: Motion) -> MotionRates:
    """Return joint and root velocities. The motion must have at least two frames."""
    quat = motion.root_quat
    turn = quat_to_rotation_vector(quat_multiply(quat[1:], quat_conjugate(quat[:-1]))) * motion.fps
    ang_vel = np.concatenate([turn[:1], 0.5 * (turn[1:] + turn[:-1]), turn[-1:]])
    return MotionRates(
        np.gradient(motion.joint_pos, 1.0 / motion.fps, axis=0),
        np.gradient(motion.root_pos, 1.0 / motion.fps, axis=0),
        ang_vel,
    )


def resample(robot: Robot, motion: Motion, fps: float = CONTROL_RATE_HZ) -> Motion:
    """Return the motion at another rate: joints and position linearly, rotation along the shorter arc."""
    if len(motion) < 2 or motion.fps == fps:
        return replace(motion, fps=fps) if len(motion) < 2 else motion
    count = int(np.floor(motion.duration * fps + 1e-6)) + 1
    at = np.minimum(np.arange(count) * motion.fps / fps, len(motion) - 1.0)
    below = np.minimum(at.astype(int), len(motion) - 2)
    part = at - below

    def lerp(values: np.ndarray) -> np.ndarray:
        return values[below] + part[:, None] * (values[below + 1] - values[below])

    quat = quat_slerp(motion.root_quat[below], motion.root_quat[below + 1], part)
    return Motion.from_joints(
        robot, fps, lerp(motion.joint_pos), lerp(motion.root_pos), quat, motion.name, motion.source
    )


def mirror_motion(robot: Robot, motion: Motion) -> Motion:
    """Return the motion as seen in a mirror in the world's x-z plane."""
    return Motion.from_joints(
        robot,
        motion.fps,
        motion.joint_pos[:, robot.joint_mirror_idx] * robot.joint_mirror_sign,
        motion.root_pos * [1.0, -1.0, 1.0],
        motion.root_quat * [1.0, -1.0, 1.0, -1.0],
        f"{motion.name}_mirrored",
        {**motion.source, "mirrored": True},
    )


def place_motion(robot: Robot, motion: Motion, xy: Sequence[float], yaw: float, frame: int = 0) -> Motion:
    """Return the motion moved on the floor so that at ``frame`` the root is at ``xy`` with heading ``yaw``."""
    turn = yaw - float(heading(motion.root_quat[frame]))
    shift = np.array([xy[0], xy[1], 0.0])
    centre = motion.root_pos[frame] * [1.0, 1.0, 0.0]
    turn_array = np.asarray(turn)
    return replace(
        motion,
        root_pos=rotate_heading(turn_array, motion.root_pos - centre) + shift,
        root_quat=continuous_quat(quat_multiply(quat_from_heading(turn_array), motion.root_quat)),
        keypoint_pos=rotate_heading(turn_array, motion.keypoint_pos - centre) + shift,
    )


def crop_motion(motion: Motion, start_s: float, end_s: float) -> Motion:
    """Return the frames from ``start_s`` to ``end_s``, both included. Raises MotionError when none are left."""
    first, last = round(start_s * motion.fps), round(end_s * motion.fps)
    if not 0 <= first < last or first >= len(motion):
        raise MotionError(f"crop {start_s} to {end_s} s is outside the motion's 0 to {motion.duration:.2f} s")
    part = slice(first, last + 1)
    return replace(
        motion,
        joint_pos=motion.joint_pos[part],
        root_pos=motion.root_pos[part],
        root_quat=motion.root_quat[part],
        keypoint_pos=motion.keypoint_pos[part],
    )


# files -----------------------------------------------------------------------------------------
def save_motion(path: str | Path, robot: Robot, motion: Motion) -> None:
    """Write ``motion`` as ``genmimic-motion/1``; the file appears whole or not at all."""
    arrays = {
        "format": np.array(MOTION_FORMAT),
        "fps": np.array(motion.fps),
        "joint_names": np.array(robot.joint_names),
        "joint_pos": motion.joint_pos.astype(np.float32),
        "root_pos": motion.root_pos.astype(np.float32),
        "root_quat": motion.root_quat.astype(np.float32),
        "keypoint_names": np.array(robot.keypoint_names),
        "keypoint_pos": motion.keypoint_pos.astype(np.float32),
        "name": np.array(motion.name),
        "source": np.array(json.dumps(dict(motion.source), sort_keys=True)),
    }
    write_npz(path, arrays)


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a compressed npz beside ``path`` first, then move it into place."""
    with whole_file(path, suffix=".tmp") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_motion(path: str | Path, robot: Robot) -> Motion:
    """Read and check a ``genmimic-motion/1`` file.

    Raises:
        InputFileError: The file is missing, not an npz, truncated or too large.
        MotionError: A field is missing, of the wrong shape or type, not finite, or does not fit ``robot``.
    """
    path = Path(path)
    fields = read_npz(path, MAX_MOTION_BYTES)
    found = _text(fields, "format", path)
    if found != MOTION_FORMAT:
        raise MotionError(f"{path}: format is {found!r}, expected {MOTION_FORMAT!r}")
    joint_pos = _floats(fields, "joint_pos", path, (None, robot.num_joints))
    frames = len(joint_pos)
    if not 2 <= frames <= MAX_MOTION_FRAMES:
        raise MotionError(f"{path}: joint_pos has {frames} frames, expected 2 to {MAX_MOTION_FRAMES}")
    fps = _floats(fields, "fps", path, ())
    if not 1.0 <= fps <= 1000.0:
        raise MotionError(f"{path}: fps is {float(fps):g}, expected 1 to 1000")
    root_pos = _floats(fields, "root_pos", path, (frames, 3))
    root_quat = _floats(fields, "root_quat", path, (frames, 4))
    keypoint_pos = _floats(fields, "keypoint_pos", path, (frames, robot.num_keypoints, 3))
    _check_names(fields, "joint_names", path, robot.joint_names)
    _check_names(fields, "keypoint_names", path, robot.keypoint_names)
    norm = np.linalg.norm(root_quat, axis=-1)
    if np.abs(norm - 1.0).max() > 1e-3:
        at = int(np.abs(norm - 1.0).argmax())
        raise MotionError(f"{path}: root_quat has length {norm[at]:.3f} at frame {at}, expected 1")
    if np.abs(root_pos).max() > 1000.0:
        raise MotionError(f"{path}: root_pos reaches {np.abs(root_pos).max():.0f} m, expected metres within 1000")
    root_quat = continuous_quat(root_quat / norm[:, None])
    expected = forward_kinematics(robot, root_pos, root_quat, joint_pos).pos
    worst = float(np.abs(expected - keypoint_pos).max())
    if worst > 1e-3:
        raise MotionError(f"{path}: keypoint_pos is {worst:.3f} m off the joints' forward kinematics (limit 0.001 m)")
    text = _text(fields, "source", path)
    try:
        source = json.loads(text)
    except json.JSONDecodeError as error:
        raise MotionError(f"{path}: source is not JSON: {error}") from None
    if not isinstance(source, dict):
        raise MotionError(f"{path}: source is a JSON {type(source).__name__}, expected an object")
    name = _text(fields, "name", path) if "name" in fields else path.stem
    return Motion(float(fps), joint_pos, root_pos, root_quat, expected, name, source)


def read_npz(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """Read every array of an npz; no pickles, no more than ``max_bytes`` once unpacked.

    Raises InputFileError with one line that says what is wrong.
    """
    if not path.is_file():
        raise InputFileError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > max_bytes:
                raise InputFileError(f"{path}: holds {unpacked} bytes unpacked, limit {max_bytes}")
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except zipfile.BadZipFile as error:
        raise InputFileError(f"{path}: not a whole npz file ({error})") from None
    except ValueError as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise InputFileError(f"{path}: holds pickled objects, which are not read; expected plain arrays") from None
        raise InputFileError(f"{path}: damaged npz file ({error})") from None
    except (OSError, EOFError, KeyError, zipfile.LargeZipFile) as error:
        if isinstance(error, InputFileError):
            raise
        raise InputFileError(f"{path}: cannot be read ({error})") from None
    except Exception as error:  # zlib.error and whatever else a damaged archive raises
        raise InputFileError(f"{path}: damaged npz file ({error})") from None


def _floats(fields: Mapping[str, np.ndarray], name: str, path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    array = _field(fields, name, path)
    if array.dtype.kind not in "fiu":
        raise MotionError(f"{path}: {name} has type {array.dtype}, expected numbers")
    fits = len(array.shape) == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        want_text = "x".join("T" if size is None else str(size) for size in shape) or "a single number"
        raise MotionError(f"{path}: {name} has shape {array.shape}, expected {want_text}")
    array = array.astype(float)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise MotionError(f"{path}: {name} holds {count} values that are not finite")
    return array


def _text(fields: Mapping[str, np.ndarray], name: str, path: Path) -> str:
    array = _field(fields, name, path)
    if array.dtype.kind != "U" or array.shape != ():
        raise MotionError(f"{path}: {name} is not a single text")
    return str(array)


def _check_names(fields: Mapping[str, np.ndarray], name: str, path: Path, expected: tuple[str, ...]) -> None:
    array = _field(fields, name, path)
    found = tuple(str(item) for item in np.atleast_1d(array))
    if found == expected:
        return
    if sorted(found) == sorted(expected):
        at = next(idx for idx, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
        raise MotionError(f"{path}: {name} are in another order: {found[at]!r} at {at}, expected {expected[at]!r}")
    missing = [item for item in expected if item not in found]
    extra = [item for item in found if item not in expected]
    raise MotionError(
        f"{path}: {name} do not fit the robot; missing: {', '.join(missing[:4]) or 'none'}; "
        f"extra: {', '.join(extra[:4]) or 'none'}"
    )


def _field(fields: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in fields:
        raise MotionError(f"{path}: field {name!r} is missing")
    return fields[name]
