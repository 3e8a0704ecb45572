# SPDX-License-Identifier: Apache-2.0
"""Gravity, floor and standing feet, from paths of a person in the camera's frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genmimic.lift.importers.upright import MEAN_HEIGHT_M, SOLE_M
from genmimic.lift.solve import FEET, POINTS

_CAMERA_PITCH_SD = np.deg2rad(12.0)
_CAMERA_ROLL_SD = np.deg2rad(5.0)
_BODY_SD = np.deg2rad(4.0)
_PLANE_SD_M = 0.04
_STANCE_SPEED = (0.20, 0.45)  # m/s: surely standing, surely not
_STANCE_HEIGHT = (0.05, 0.11)  # m above the lowest: likewise
_SPEED_WINDOW_S = 0.10
_LOWEST_WINDOW_S = 1.0  # to either side

SOLE_LEVELS_M = np.array([SOLE_M[POINTS[idx].split("_")[1]] for idx in FEET])
"""Height of a standing foot's points above the floor for a person of 1.7 m. Shape (len(FEET),)."""


@dataclass(frozen=True)
class Ground:
    """The floor as seen from the camera.

    Attributes:
        up: Unit vector. Shape (3,).
        level: Height of the floor along ``up``, from the camera, in m.
        stance: How surely each foot point stands, 0 to 1. Shape (T, len(FEET)).
    """

    up: np.ndarray
    level: float
    stance: np.ndarray

    @property
    def pitch_deg(self) -> float:
        """How far the camera looks down, in degrees."""
        return float(np.rad2deg(np.arctan2(-self.up[2], -self.up[1])))

    @property
    def roll_deg(self) -> float:
        """How far the camera is turned clockwise about its line of sight, in degrees."""
        return float(np.rad2deg(np.arcsin(np.clip(self.up[0], -1.0, 1.0))))


def find_ground(
    time_s: np.ndarray, pos: np.ndarray, trust: np.ndarray, height_m: float, *, gravity: bool = True
) -> Ground:  # fmt: skip
    """Find gravity, floor and stance.

    Args:
        time_s: Shape (T,).
        pos: Points of `POINTS`, camera frame (x right, y down, z away), in m. Shape (T, J, 3).
        trust: Of each point, 0 to 1. Shape (T, J).
        height_m: Of the person.
        gravity: Estimate it; else the camera is taken as level.

    Gravity is the direction that explains best, together: that a body standing straight is upright, that feet stand on
    one plane, and that cameras are held level, more so in roll than in pitch.
    """
    scale = height_m / MEAN_HEIGHT_M
    body, body_weight = _body_up(pos, trust)
    angles = np.zeros(2)
    stance = find_stance(time_s, pos, trust, up_vector(angles), scale)
    level = _floor_level(pos, stance, up_vector(angles), scale)
    for _ in range(4 if gravity else 0):
        angles, level = _fit(pos, stance, body, body_weight, angles, level, scale)
        stance = find_stance(time_s, pos, trust, up_vector(angles), scale)
        level = _floor_level(pos, stance, up_vector(angles), scale)
    return Ground(up_vector(angles), level, stance)


def up_vector(angles: np.ndarray) -> np.ndarray:
    """Return up in the frame of a camera that looks down by ``angles[0]`` and is rolled by ``angles[1]``, in rad."""
    pitch, roll = angles
    return np.array([np.sin(roll), -np.cos(pitch) * np.cos(roll), -np.sin(pitch) * np.cos(roll)])


def _point(pos: np.ndarray, name: str) -> np.ndarray:
    return pos[:, POINTS.index(name)]


def _body_up(pos: np.ndarray, trust: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the direction of the body where it stands straight, and how many degrees of freedom that is worth."""
    hips = 0.5 * (_point(pos, "left_hip") + _point(pos, "right_hip"))
    shoulders = 0.5 * (_point(pos, "left_shoulder") + _point(pos, "right_shoulder"))
    ankles = 0.5 * (_point(pos, "left_ankle") + _point(pos, "right_ankle"))
    whole, trunk, legs = shoulders - ankles, shoulders - hips, hips - ankles
    reach = np.linalg.norm(whole, axis=-1)
    straight = reach / np.maximum(np.percentile(reach, 95.0), 1e-6)
    aligned = (trunk * legs).sum(-1) / np.maximum(np.linalg.norm(trunk, axis=-1) * np.linalg.norm(legs, axis=-1), 1e-9)
    sure = trust[:, [POINTS.index(f"{s}_{j}") for s in ("left", "right") for j in ("ankle", "shoulder")]].min(1)
    weight = sure * np.clip((straight - 0.85) / 0.1, 0.0, 1.0) * np.clip((aligned - 0.9) / 0.08, 0.0, 1.0)
    if weight.sum() < 1e-3:
        return np.array([0.0, -1.0, 0.0]), 0.0
    direction = whole / reach[:, None]
    mean = (weight[:, None] * direction).sum(0) / weight.sum()
    for _ in range(3):  # towards the median
        w = weight / np.maximum(np.linalg.norm(direction - mean, axis=-1), 0.02)
        mean = (w[:, None] * direction).sum(0) / w.sum()
    return mean / np.linalg.norm(mean), float(min(1.0, weight.sum() / 5.0))


def find_stance(
    time_s: np.ndarray, pos: np.ndarray, trust: np.ndarray, up: np.ndarray, scale: float
) -> np.ndarray:  # fmt: skip
    """Return how surely each foot point stands, 0 to 1. Shape (T, len(FEET)).

    A point stands when it is slow across the line of sight (depth is too noisy to judge by) and low. It is as low as
    the lowest point of either foot within a second, so that steps and slopes of the estimate do not matter.
    """
    feet = pos[:, FEET] - up * (SOLE_LEVELS_M * scale)[:, None]
    height = feet @ up
    line = feet / np.maximum(np.linalg.norm(feet, axis=-1, keepdims=True), 1e-6)
    frame = np.arange(len(time_s))
    a = np.searchsorted(time_s, time_s - _SPEED_WINDOW_S / 2 - 1e-9)
    b = np.searchsorted(time_s, time_s + _SPEED_WINDOW_S / 2 + 1e-9) - 1
    alone = b <= a
    a = np.where(alone, np.maximum(frame - 1, 0), a)
    b = np.where(alone, np.minimum(frame + 1, len(time_s) - 1), b)
    move = (feet[b] - feet[a]) / np.maximum(time_s[b] - time_s[a], 1e-6)[:, None, None]
    across = move - (move * line).sum(-1, keepdims=True) * line
    speed = np.linalg.norm(across, axis=-1)
    low = height.min(1)
    lowest = np.empty(len(time_s))
    for number, now in enumerate(time_s):
        near = np.sort(low[np.abs(time_s - now) <= _LOWEST_WINDOW_S])
        lowest[number] = near[(len(near) - 1) // 10]

    def ramp(value: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
        return np.clip((bounds[1] - value) / (bounds[1] - bounds[0]), 0.0, 1.0)

    return ramp(speed, _STANCE_SPEED) * ramp((height - lowest[:, None]) / scale, _STANCE_HEIGHT) * trust[:, FEET]


def _floor_level(pos: np.ndarray, stance: np.ndarray, up: np.ndarray, scale: float) -> float:
    height = pos[:, FEET] @ up - SOLE_LEVELS_M * scale
    if stance.sum() < 1.0:
        return float(np.percentile(height.min(1), 5.0))
    order = np.argsort(height.ravel())
    cumulative = np.cumsum(stance.ravel()[order])
    return float(height.ravel()[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])  # weighted median


def _fit(
    pos: np.ndarray, stance: np.ndarray, body: np.ndarray, body_weight: float, angles: np.ndarray, level: float,
    scale: float,
) -> tuple[np.ndarray, float]:  # fmt: skip
    feet = pos[:, FEET]
    total = max(stance.sum(), 1e-9)
    spots = _distinct_spots(feet, stance)
    share = np.sqrt(stance * spots / total)  # as much weight in all as there are places that were stood on

    def residual(x: np.ndarray) -> np.ndarray:
        up = up_vector(x[:2])
        plane = (feet @ up - SOLE_LEVELS_M * scale - x[2]) / _PLANE_SD_M
        plane = plane / np.sqrt(1.0 + plane**2 / 9.0) * share
        lean = np.cross(body, up) / _BODY_SD * np.sqrt(body_weight)
        return np.concatenate([plane.ravel(), lean, [x[0] / _CAMERA_PITCH_SD, x[1] / _CAMERA_ROLL_SD]])

    x = np.array([*angles, level])
    for _ in range(5):
        r = residual(x)
        jacobian = np.stack([(residual(x + h) - r) / 1e-5 for h in 1e-5 * np.eye(3)], -1)
        x = x - np.linalg.solve(jacobian.T @ jacobian + 1e-9 * np.eye(3), jacobian.T @ r)
        x[:2] = np.clip(x[:2], -0.9, 0.9)
    return x[:2], float(x[2])


def _distinct_spots(feet: np.ndarray, stance: np.ndarray) -> float:
    """Return how many places 0.2 m apart were stood on."""
    stood = feet[stance > 0.5]
    return float(max(1, len(np.unique(np.round(stood / 0.2).astype(int), axis=0)))) if len(stood) else 1.0
