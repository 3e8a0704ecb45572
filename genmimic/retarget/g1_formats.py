# SPDX-License-Identifier: Apache-2.0
"""Readers for public motions of the Unitree G1, each strict; no file is half read and nothing in it is run.

| format | file | robot | quaternion | fps |
|---|---|---|---|---|
| `asap`, `pbhc` | joblib pickle | ASAP's 23 joints | xyzw | in the file |
| `twist2` | pickle | 29 joints | xyzw | in the file |
| `kimodo_csv` | CSV, 36 columns | 29 joints | wxyz | 30 |
| `g1_moves` | CSV, 36 columns | 29 joints | xyzw | 60 |
| `kimodo_npz` | npz, y up | 29 joints, as link poses | - | 30 |
| `genmimic` | npz of `genmimic.core.motion` | ours | wxyz | in the file |

A file that is compressed with gzip is read all the same. docs/motions.md describes the fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, InputFileError, MotionError
from genmimic.core.files import read_source
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.motion import MAX_MOTION_FRAMES, load_motion, read_npz
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import quat_from_matrix, quat_normalize, quat_to_matrix
from genmimic.retarget.g1_variants import ASAP_23DOF, G1_29DOF, VARIANTS
from genmimic.retarget.safe_pickle import read_plain_pickle

MAX_SOURCE_BYTES = 256 * 1024 * 1024
FORMATS = ("asap", "pbhc", "twist2", "kimodo_csv", "g1_moves", "kimodo_npz", "genmimic")
_CSV_FPS = {"kimodo_csv": 30.0, "g1_moves": 60.0}
_KIMODO_FPS = 30.0
_UPRIGHT_MARGIN = 0.2  # by how much one reading of a quaternion must be more upright than the other


@dataclass(frozen=True)
class SourceMotion:
    """A motion of some G1, as read: T frames; world z up, m and rad, quaternions wxyz.

    Attributes:
        name: A short name, from the file.
        format: One of `FORMATS`.
        fps: Frames per second.
        model: Key of `genmimic.retarget.g1_variants.VARIANTS`.
        root_pos: Pelvis position. Shape (T, 3).
        root_quat: Pelvis orientation. Shape (T, 4).
        joint_pos: In the model's joint order; None when the file has link poses only. Shape (T, J).
        link_quat: Orientation of the model's links, for a file without joint angles. Shape (T, L, 4).
        link_pos: Position of the model's links, likewise; checked against the joints later. Shape (T, L, 3).
        source: What the file itself says about its origin.
    """

    name: str
    format: str
    fps: float
    model: str
    root_pos: np.ndarray
    root_quat: np.ndarray
    joint_pos: np.ndarray | None = None
    link_quat: np.ndarray | None = None
    link_pos: np.ndarray | None = None
    source: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.root_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (len(self) - 1) / self.fps


def read_g1_motion(path: str | Path, format: str | None = None, fps: float | None = None) -> SourceMotion:
    """Read a motion in any of `FORMATS`.

    Args:
        path: The file; may be compressed with gzip.
        format: One of `FORMATS`; None finds it by the content.
        fps: Overrides the file's or the format's rate.

    Raises:
        InputFileError: Missing, truncated, too large, of unknown kind, or a pickle with more than data in it.
        MotionError: A field is missing, of the wrong shape, not finite or out of range.
        ConfigError: Unknown ``format`` or an ``fps`` out of range.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise ConfigError(f"unknown motion format {format!r}; known: {', '.join(FORMATS)}")
    if fps is not None and not 1.0 <= fps <= 1000.0:
        raise ConfigError(f"fps is {fps:g}, expected 1 to 1000")
    data = read_source(path, MAX_SOURCE_BYTES)
    kind = _container(data, path)
    expected = {"asap": "pickle", "pbhc": "pickle", "twist2": "pickle", "kimodo_npz": "npz", "genmimic": "npz"}
    if format is not None and expected.get(format, "csv") != kind:
        raise InputFileError(f"{path}: is a {kind} file, but format {format!r} is {expected.get(format, 'csv')}")
    reader: Callable[[bytes, Path, str | None], SourceMotion]
    reader = {"pickle": _read_pickle, "npz": _read_npz, "csv": _read_csv}[kind]
    motion = reader(data, path, format)
    if fps is not None:
        motion = replace(motion, fps=float(fps))
    _check(motion, path)
    return motion


# containers ------------------------------------------------------------------------------------
def _container(data: bytes, path: Path) -> str:
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if data[:2] == b"PK":
        return "npz"
    if re.match(rb"[\s\d+\-.eE,;]{8}", data[:8]):
        return "csv"
    raise InputFileError(f"{path}: unknown kind of file; expected {', '.join(FORMATS)}")


def _short_name(path: Path) -> str:
    name = path.name
    while Path(name).suffix in (".gz", ".pkl", ".csv", ".npz"):
        name = Path(name).stem
    if name == "motion" and path.resolve().parent.name:
        name = path.resolve().parent.name
    name = name.removeprefix("0-motions_raw_tairantestbed_smpl_video_").removesuffix("_amass").removesuffix("_filter")
    return name.removeprefix("output_") or "motion"


# pickles ---------------------------------------------------------------------------------------
def _read_pickle(data: bytes, path: Path, format: str | None) -> SourceMotion:
    content = read_plain_pickle(data, str(path), MAX_SOURCE_BYTES)
    if not isinstance(content, dict):
        raise MotionError(f"{path}: holds a {type(content).__name__}, expected a dictionary")
    if "dof_pos" in content:
        found, fields, inner = "twist2", content, None
    elif len(content) == 1 and isinstance(next(iter(content.values())), dict):
        inner, fields = next(iter(content.items()))
        found = "pbhc" if "contact_mask" in fields else "asap"
    else:
        keys = ", ".join(str(key)[:30] for key in list(content)[:6])
        raise MotionError(f"{path}: unknown layout with {keys}; expected dof_pos (twist2) or one named motion (asap)")
    if format is not None and format != found:
        if found == "twist2" or format == "twist2":
            raise MotionError(f"{path}: is of format {found!r}, not {format!r}")
        found = format
    fps = fields.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)):
        raise MotionError(f"{path}: fps is {type(fps).__name__ if fps is not None else 'missing'}, expected a number")
    twist = found == "twist2"
    joint_pos = _floats(fields, "dof_pos" if twist else "dof", path, (None, 29 if twist else 23))
    root_pos = _floats(fields, "root_pos" if twist else "root_trans_offset", path, (len(joint_pos), 3))
    xyzw = _floats(fields, "root_rot", path, (len(joint_pos), 4))
    return SourceMotion(
        _short_name(path), found, float(fps), "unitree_29dof" if twist else "asap_23dof",
        root_pos, _unit(xyzw[:, [3, 0, 1, 2]], path), joint_pos, source={"inside": str(inner)} if inner else None,
    )  # fmt: skip


# CSV -------------------------------------------------------------------------------------------
def _read_csv(data: bytes, path: Path, format: str | None) -> SourceMotion:
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path}: byte {error.start} is not text, expected CSV") from None
    if not data.endswith(b"\n") and lines and lines[-1].count(",") < 35:
        raise MotionError(f"{path}: truncated in line {len(lines)}, which has {lines[-1].count(',') + 1} of 36 columns")
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split(",")
        if len(parts) != 36:
            raise MotionError(f"{path}: line {number} has {len(parts)} columns, expected 36 (root 3 + 4, 29 joints)")
        try:
            rows.append([float(part) for part in parts])
        except ValueError as error:
            raise MotionError(f"{path}: line {number}: {error}") from None
        if len(rows) > MAX_MOTION_FRAMES:
            raise MotionError(f"{path}: has more than {MAX_MOTION_FRAMES} frames")
    table = np.array(rows, float).reshape(-1, 36)
    if not np.isfinite(table).all():
        frame, column = np.argwhere(~np.isfinite(table))[0]
        raise MotionError(f"{path}: frame {frame}, column {column} is not finite")
    if len(table) < 2:
        raise MotionError(f"{path}: has {len(table)} frames, expected at least 2")
    if format is None:
        format = _csv_format(table, path)
    quat = table[:, 3:7] if format == "kimodo_csv" else table[:, [6, 3, 4, 5]]
    return SourceMotion(
        _short_name(path), format, _CSV_FPS[format], "unitree_29dof", table[:, :3], _unit(quat, path), table[:, 7:]
    )


def _csv_format(table: np.ndarray, path: Path) -> str:
    """Return the format whose quaternion order fits the motion in ``table`` (T, 36).

    The pelvis must be upright. Facing about +x or -x, both orders are; then the lower foot must slip less, because a
    body that is turned the wrong way round drags its feet.
    """
    readings = {"kimodo_csv": _unit(table[:, 3:7], path), "g1_moves": _unit(table[:, [6, 3, 4, 5]], path)}
    upright = {name: float(quat_to_matrix(quat)[:, 2, 2].mean()) for name, quat in readings.items()}
    best, other = sorted(upright, key=lambda name: -upright[name])
    if upright[best] - upright[other] >= _UPRIGHT_MARGIN:
        return best
    slip = {}
    feet = G1_29DOF.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
    for name, quat in readings.items():
        ankle = forward_kinematics(G1_29DOF, table[:, :3], quat, table[:, 7:]).pos[:, feet]
        slip[name] = float(np.linalg.norm(np.diff(ankle, axis=0), axis=-1).min(-1).mean())
    best, other = sorted(slip, key=lambda name: slip[name])
    if slip[other] > 1.2 * slip[best] + 1e-5:
        return best
    raise MotionError(
        f"{path}: cannot tell the quaternion's order, both make sense; give the format: kimodo_csv (wxyz) or "
        "g1_moves (xyzw)"
    )


# npz -------------------------------------------------------------------------------------------
_KIMODO_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll", "toe")
_KIMODO_ARM = (
    *("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow"),
    *("wrist_roll", "wrist_pitch", "wrist_yaw", "hand"),
)
_KIMODO_LINKS = (
    "pelvis",
    *(f"{side}_{part}" for side in ("left", "right") for part in _KIMODO_LEG),
    *("waist_yaw", "waist_roll", "torso"),
    *(f"{side}_{part}" for side in ("left", "right") for part in _KIMODO_ARM),
)
_Z_UP_FROM_Y_UP = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Kimodo: x left, y up, z forward. Ours: x forward, y left, z up; the same turn for the world and for each link."""


def _read_npz(data: bytes, path: Path, format: str | None) -> SourceMotion:
    if data[:2] == b"PK" and path.suffix == ".gz":
        raise InputFileError(f"{path}: an npz file is compressed already; unpack it first")
    fields = read_npz(path, MAX_SOURCE_BYTES)
    found = "kimodo_npz" if "posed_joints" in fields else "genmimic"
    if format is not None and format != found:
        raise MotionError(f"{path}: is of format {found!r}, not {format!r}")
    if found == "genmimic":
        motion = load_motion(path, G1_23DOF)
        return SourceMotion(
            motion.name, found, motion.fps, "unitree_23dof",
            motion.root_pos, motion.root_quat, motion.joint_pos, source=motion.source,
        )  # fmt: skip
    points = _floats(fields, "posed_joints", path, (None, 34, 3))
    matrices = _floats(fields, "global_rot_mats", path, (len(points), 34, 3, 3))
    turn = _Z_UP_FROM_Y_UP
    off = np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max()
    if off > 1e-2:
        raise MotionError(f"{path}: global_rot_mats are no rotations (off by {off:.3f}, limit 0.01)")
    idx = [_KIMODO_LINKS.index(name.removesuffix("_link")) for name in G1_29DOF.link_names]
    link_pos = points[:, idx] @ turn.T
    link_quat = quat_from_matrix(turn @ matrices[:, idx] @ turn.T)
    return SourceMotion(
        _short_name(path), found, _KIMODO_FPS, "unitree_29dof",
        link_pos[:, 0], link_quat[:, 0], None, link_quat, link_pos,
    )  # fmt: skip


# checks ----------------------------------------------------------------------------------------
def _floats(fields: Mapping[str, Any], name: str, path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    if name not in fields:
        raise MotionError(f"{path}: field {name!r} is missing")
    array = fields[name]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise MotionError(
            f"{path}: {name} is {getattr(array, 'dtype', type(array).__name__)}, expected an array of numbers"
        )
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        want_text = "x".join("T" if size is None else str(size) for size in shape)
        raise MotionError(f"{path}: {name} has shape {array.shape}, expected {want_text}")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise MotionError(f"{path}: {name} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array


def _unit(quat: np.ndarray, path: Path) -> np.ndarray:
    norm = np.linalg.norm(quat, axis=-1)
    worst = int(np.abs(norm - 1.0).argmax()) if len(norm) else 0
    if len(norm) and abs(norm[worst] - 1.0) > 0.02:
        raise MotionError(f"{path}: root quaternion has length {norm[worst]:.3f} at frame {worst}, expected 1")
    return quat_normalize(quat)


def _check(motion: SourceMotion, path: Path) -> None:
    if not 2 <= len(motion) <= MAX_MOTION_FRAMES:
        raise MotionError(f"{path}: has {len(motion)} frames, expected 2 to {MAX_MOTION_FRAMES}")
    if not (np.isfinite(motion.fps) and 1.0 <= motion.fps <= 1000.0):
        raise MotionError(f"{path}: fps is {motion.fps:g}, expected 1 to 1000")
    reach = float(np.abs(motion.root_pos).max())
    if reach > 1000.0:
        raise MotionError(f"{path}: root position reaches {reach:.0f} m, expected metres within 1000")
    if motion.joint_pos is not None:
        worst = np.unravel_index(int(np.abs(motion.joint_pos).argmax()), motion.joint_pos.shape)
        if abs(motion.joint_pos[worst]) > 2.0 * np.pi:
            name = VARIANTS[motion.model].joint_names[int(worst[1])]
            raise MotionError(
                f"{path}: {name} is {motion.joint_pos[worst]:.1f} at frame {int(worst[0])}, expected rad within 2 pi"
            )


__all__ = ["ASAP_23DOF", "FORMATS", "G1_29DOF", "SourceMotion", "read_g1_motion"]
