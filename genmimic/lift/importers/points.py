# SPDX-License-Identifier: Apache-2.0
"""Motions as arrays of 3D joints or tracked points: COCO, Human3.6M, SMPL order, or with names beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, MotionError
from genmimic.core.human import HUMAN_JOINTS, REQUIRED_JOINTS, SMPL_JOINTS
from genmimic.lift.importers.names import map_joint_names
from genmimic.lift.importers.parameters import RawMotion

_COCO = (
    "nose", "", "", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_HALPE_FEET = ("left_toe", "", "left_heel", "right_toe", "", "right_heel")  # COCO-WholeBody: big toe, small toe, heel
_H36M = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine2", "neck", "nose",
    "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
_MEDIAPIPE = (
    "nose", "", "", "", "", "", "", "left_ear", "right_ear", "", "", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb",
    "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_toe", "right_toe",
)  # fmt: skip
ORDERS: Mapping[str, tuple[str, ...]] = {
    "coco": _COCO, "coco_feet": _COCO + _HALPE_FEET, "h36m": _H36M, "smpl24": SMPL_JOINTS,
    "smpl22": SMPL_JOINTS[:22], "mediapipe": _MEDIAPIPE,
}  # fmt: skip
"""Orders of points without names; an empty name is a point that we do not use. Sources: the COCO key point order, the
17 joints that the literature uses of Human3.6M, MediaPipe Pose's 33 landmarks."""

POINT_FIELDS = (
    "joint_pos", "keypoints_3d", "joints_3d", "joints3d", "poses_3d", "positions_3d", "joints", "keypoints",
    "positions", "points", "tracks", "pred_3d", "reconstruction",
)  # fmt: skip
"""Fields of an npz that may hold the points, in order of preference."""

_LIMBS = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)


def from_points(
    points: np.ndarray,
    path: Path,
    *,
    names: Sequence[str] | None = None,
    confidence: np.ndarray | None = None,
    fps: float | None = None,
    order: str | None = None,
) -> tuple[RawMotion, dict[str, np.ndarray]]:
    """Return the motion of an array of points, and the confidence of its joints by name.

    Args:
        points: Shape (T, N, 3), or (T, N, 4) with a confidence last. NaN where a point was not seen.
        path: For messages.
        names: Of the points; without them ``order`` or the number of points decides.
        confidence: Shape (T, N).
        fps: Frames per second.
        order: One of `ORDERS`.
    """
    points = np.asarray(points)
    if points.ndim == 4 and 1 in points.shape[:2]:  # one person
        points = points[0] if points.shape[0] == 1 else points[:, 0]
    if points.dtype.kind not in "fiu" or points.ndim != 3 or points.shape[2] not in (3, 4) or len(points) < 2:
        raise MotionError(f"{path}: points have shape {points.shape}, expected T x N x 3 of 2 or more frames")
    points = points.astype(float)
    if points.shape[2] == 4:
        points, confidence = points[..., :3], points[..., 3]
    count = points.shape[1]
    seen = np.isfinite(points).all(-1)
    sure = np.ones(seen.shape) if confidence is None else np.asarray(confidence, float).reshape(seen.shape)
    sure = np.where(seen & np.isfinite(sure), np.clip(sure, 0.0, 1.0), 0.0)
    if names is not None:
        if len(names) != count:
            raise MotionError(f"{path}: {len(names)} names for {count} points")
        index = {name: idx for idx, name in enumerate(names) if name in HUMAN_JOINTS}
        index = index if all(name in index for name in REQUIRED_JOINTS) else map_joint_names(names)
        label = "named"
    else:
        label = order or _guess_order(points, path)
        if label not in ORDERS:
            raise ConfigError(f"unknown order of points {label!r}; known: {', '.join(ORDERS)}")
        if len(ORDERS[label]) != count:
            raise MotionError(f"{path}: {count} points, but order {label!r} has {len(ORDERS[label])}")
        index = {name: idx for idx, name in enumerate(ORDERS[label]) if name}
    joint_pos, joint_sure = {}, {}
    for name, idx in index.items():
        good = seen[:, idx]
        if good.sum() < 2:
            if name in REQUIRED_JOINTS:
                raise MotionError(f"{path}: {name} is seen in {int(good.sum())} of {len(points)} frames")
            continue
        at = np.arange(len(points))
        joint_pos[name] = np.stack([np.interp(at, at[good], points[good, idx, axis]) for axis in range(3)], -1)
        joint_sure[name] = sure[:, idx]
    return RawMotion(f"points ({label})", joint_pos, fps=fps, notes={"points": count}), joint_sure


def _guess_order(points: np.ndarray, path: Path) -> str:
    """Return the order in which limbs keep their lengths best and both sides are alike."""
    fits = [name for name, order in ORDERS.items() if len(order) == points.shape[1]]
    if not fits:
        known = ", ".join(f"{name} ({len(order)})" for name, order in ORDERS.items())
        raise MotionError(f"{path}: {points.shape[1]} points without names; known orders: {known}")

    def spread(order: tuple[str, ...]) -> float:
        at = {name: idx for idx, name in enumerate(order) if name}
        lengths = np.stack([np.linalg.norm(points[:, at[a]] - points[:, at[b]], axis=-1) for a, b in _LIMBS], -1)
        middle = np.nanmedian(lengths, axis=0)
        uneven = np.abs(middle[:4] - middle[4:]) / np.maximum(middle[:4] + middle[4:], 1e-9)
        return float(np.nanmedian(np.nanstd(lengths, axis=0) / np.maximum(middle, 1e-9)) + uneven.mean())

    return min(fits, key=lambda name: spread(ORDERS[name]))


def points_in(fields: Mapping[str, Any]) -> str | None:
    """Return the name of the field that holds points, or None."""
    for name in POINT_FIELDS:
        value = fields.get(name)
        if isinstance(value, np.ndarray) and value.ndim in (3, 4) and value.shape[-1] in (3, 4):
            return name
    return None
