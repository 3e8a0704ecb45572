# SPDX-License-Identifier: Apache-2.0
"""Put joints from any frame and unit into ours: z up, metres, feet on the floor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genmimic.core.errors import MotionError

UNITS = {"m": 1.0, "cm": 0.01, "cmu": 0.0254 / 0.45, "mm": 0.001, "inch": 0.0254, "dm": 0.1}
"""Units that motion files use without saying so, in m; ``cmu`` is that of the CMU database."""

MEAN_HEIGHT_M = 1.70
"""Assumed height of a person of whom nothing is known, in m: between the world's mean woman and man."""

SOLE_M = {"ankle": 0.085, "foot": 0.035, "heel": 0.025, "toe": 0.015}
"""How far above the floor these joints are when the sole is flat on it, for a person of 1.7 m."""

_HEIGHT_BOUNDS_M = (1.35, 2.15)
_CHAIN_SHARE = 0.772  # of ankle to hip and hip to shoulder in the height: SMPL's neutral rest pose, 1.33 of 1.72 m


def body_height(joint_pos: Mapping[str, np.ndarray]) -> float:
    """Return the height of a standing person with these bones, in the unit of ``joint_pos``.

    Args:
        joint_pos: Paths of our joints by name, each of shape (T, 3); hips, knees, ankles and shoulders are needed.

    Source: the bones from ankle to shoulder are 0.77 of the stature in SMPL's neutral rest pose.
    """

    def bone(a: str, b: str) -> float:
        return float(np.median(np.linalg.norm(joint_pos[a] - joint_pos[b], axis=-1)))

    legs = [bone(f"{s}_hip", f"{s}_knee") + bone(f"{s}_knee", f"{s}_ankle") for s in ("left", "right")]
    trunk = [bone(f"{s}_hip", f"{s}_shoulder") for s in ("left", "right")]
    return (float(np.mean(legs)) + float(np.mean(trunk))) / _CHAIN_SHARE


def find_unit(height: float) -> tuple[str, float]:
    """Return (name, metres per unit) that make ``height`` that of a person; a plain scale when none does."""
    for name, factor in UNITS.items():
        if _HEIGHT_BOUNDS_M[0] <= height * factor <= _HEIGHT_BOUNDS_M[1]:
            return name, factor
    return "scaled", MEAN_HEIGHT_M / height


def find_up_axis(joint_pos: Mapping[str, np.ndarray]) -> str:
    """Return the axis the person stands along: ``+x``, ``-y``, ``+z`` and so on."""
    up = _body_up(joint_pos)
    axis = int(np.abs(up).argmax())
    return f"{'+' if up[axis] > 0 else '-'}{'xyz'[axis]}"


def _body_up(joint_pos: Mapping[str, np.ndarray]) -> np.ndarray:
    top = 0.5 * (joint_pos["left_shoulder"] + joint_pos["right_shoulder"])
    bottom = 0.5 * (joint_pos["left_ankle"] + joint_pos["right_ankle"])
    up = np.median((top - bottom) / np.maximum(np.linalg.norm(top - bottom, axis=-1, keepdims=True), 1e-9), axis=0)
    return up / max(float(np.linalg.norm(up)), 1e-9)


def up_rotation(up: np.ndarray) -> np.ndarray:
    """Return the smallest rotation that turns the unit vector ``up`` to z. Shape (3, 3)."""
    up = np.asarray(up, float) / np.linalg.norm(up)
    if up[2] < -1.0 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    v = np.array([up[1], -up[0], 0.0])  # up x z
    skew = np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + up[2])


AXES = {f"{sign}{axis}": factor * np.eye(3)[idx] for idx, axis in enumerate("xyz") for sign, factor in
        (("+", 1.0), ("-", -1.0))}  # fmt: skip
"""Unit vectors by name."""


def floor_height(joint_pos: Mapping[str, np.ndarray], height_m: float = MEAN_HEIGHT_M) -> float:
    """Return the height of the floor under the feet, in m: the level that the lowest foot is at or above.

    Robust: the 2nd percentile over time of the lowest point under a foot joint, so that a few frames below do not
    lift the person off the floor, and a jump does not matter.
    """
    scale = height_m / MEAN_HEIGHT_M
    under = [
        joint_pos[f"{side}_{joint}"][:, 2] - drop * scale
        for joint, drop in SOLE_M.items()
        for side in ("left", "right")
        if f"{side}_{joint}" in joint_pos
    ]
    if not under:
        raise MotionError("no ankles or feet to find the floor with")
    return float(np.percentile(np.min(under, axis=0), 2.0))


def fill_frames(frame_idx: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (values at every frame from the first to the last, whether each was there), gaps bridged linearly.

    Args:
        frame_idx: Increasing frame numbers. Shape (N,).
        values: Shape (N, ...).
    """
    frame_idx = np.asarray(frame_idx, int)
    if len(frame_idx) == 0 or (np.diff(frame_idx) <= 0).any():
        raise MotionError("frame numbers are empty or do not increase")
    every = np.arange(frame_idx[0], frame_idx[-1] + 1)
    if len(every) > 100 * len(frame_idx) + 1000:
        raise MotionError(f"{len(frame_idx)} frames spread over {len(every)}")
    flat = values.reshape(len(values), -1)
    filled = np.stack([np.interp(every, frame_idx, column) for column in flat.T], -1)
    return filled.reshape(len(every), *values.shape[1:]), np.isin(every, frame_idx)
