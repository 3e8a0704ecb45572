# SPDX-License-Identifier: Apache-2.0
"""The path of every joint over a whole clip, by one robust least squares problem.

Unknown are the positions of 21 points in the camera's frame at every picture. What is known of them, each with its own
uncertainty: where they are in the picture (good to a few pixels), how they lie around the hips (MediaPipe's 3D
estimate; good to some centimetres, worse in depth), that bones keep their lengths, that a foot on the floor neither
moves nor leaves it, and that positions change smoothly. Outliers lose weight by a heavy-tailed loss. So does the
smoothness: sudden accelerations cost little more than moderate ones, and a fast wave stays fast while a resting hand
becomes still.

Each round linearises lengths and weights anew and solves one banded system, exactly (Gauss-Newton with iteratively
reweighted least squares). This is the batch form of a Kalman smoother with Student-t noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

POINTS = (
    "left_hip", "right_hip", "left_shoulder", "right_shoulder", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_toe", "right_toe", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_knuckles", "right_knuckles", "nose", "left_ear", "right_ear",
)  # fmt: skip
"""What is solved for; knuckles are the middle between those of the index and little finger. The hips come first."""

MIRROR = np.array([
    POINTS.index(name.replace("left", "~").replace("right", "left").replace("~", "right")) for name in POINTS
])  # fmt: skip
"""Index of each point's counterpart on the other side."""

_BONE_NAMES = (
    ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), ("left_hip", "left_shoulder"),
    ("right_hip", "right_shoulder"), ("left_hip", "right_shoulder"), ("right_hip", "left_shoulder"),
    ("left_hip", "left_knee"), ("right_hip", "right_knee"), ("left_knee", "left_ankle"), ("right_knee", "right_ankle"),
    ("left_ankle", "left_heel"), ("right_ankle", "right_heel"), ("left_ankle", "left_toe"),
    ("right_ankle", "right_toe"), ("left_heel", "left_toe"), ("right_heel", "right_toe"),
    ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
    ("left_wrist", "left_knuckles"), ("right_wrist", "right_knuckles"), ("left_ear", "right_ear"), ("nose", "left_ear"),
    ("nose", "right_ear"),
)  # fmt: skip
BONES = np.array([(POINTS.index(a), POINTS.index(b)) for a, b in _BONE_NAMES])
"""Pairs of points that keep their distance. Shape (B, 2)."""

_TRUNK = np.array([
    ("hip" in a or "shoulder" in a) and ("hip" in b or "shoulder" in b) and a.split("_")[1] != b.split("_")[1]
    for a, b in _BONE_NAMES
])  # fmt: skip
_LIMB_TIP = {"wrist": 1.3, "knuckles": 1.6, "heel": 1.2, "toe": 1.4, "elbow": 1.15, "ankle": 1.1}
_TIP_SCALE = np.array([next((v for k, v in _LIMB_TIP.items() if k in name), 1.0) for name in POINTS])
FEET = tuple(POINTS.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("ankle", "heel", "toe"))
"""The points that a stance holds still: ankle, heel and toe of the left foot, then of the right."""

HIPS = 2  # the first points
_N = 3 * len(POINTS)
_HIPS_DEPTH = tuple(3 * hip + 2 for hip in range(HIPS))


@dataclass(frozen=True)
class Noise:
    """How far each piece of knowledge is trusted: standard deviations, and heavy tails.

    Attributes:
        pixel_share: Of a landmark in the picture, as a share of the person's height in it.
        shape_m: Of a landmark around the hips, across the line of sight.
        shape_depth_m: Of the same, along it.
        hips_m: Of the hips' own orientation.
        bone_m: Of a bone's length, and of the trunk's, which bends.
        trunk_m: See ``bone_m``.
        accel: Spectral density of acceleration, (m/s^2)^2 s: how lively a point is; along the line of sight a
            quarter of it, and for the depth of the hips ``root_depth_accel``.
        root_depth_accel: See ``accel``.
        tail: Degrees of freedom of the acceleration's Student-t distribution: small lets a fast wave be fast.
        outlier: Residual, in standard deviations, from which a landmark counts less and less.
        stance_speed: Of a foot that stands, in m/s.
        floor_m: Of the height of a foot that stands.
    """

    pixel_share: float = 0.008
    shape_m: float = 0.06
    shape_depth_m: float = 0.08
    hips_m: float = 0.03
    bone_m: float = 0.01
    trunk_m: float = 0.02
    accel: float = 5.0
    root_depth_accel: float = 0.05
    tail: float = 2.0
    outlier: float = 2.0
    stance_speed: float = 0.04
    floor_m: float = 0.015


@dataclass(frozen=True)
class Evidence:
    """What is known about T pictures; camera frame, x right, y down, z away, in m.

    Attributes:
        time_s: Increasing. Shape (T,).
        ray: x/z and y/z of each point. Shape (T, J, 2).
        ray_sd: Its standard deviation for a point that is seen well. Shape (T,).
        shape: Points around the middle of the hips. Shape (T, J, 3).
        trust: 0 (no evidence) to 1. Shape (T, J).
        bone_length: Shape (B,).
        stance: How surely a foot point stands, 0 to 1. Shape (T, len(FEET)).
        up: Unit vector, shape (3,), and
        foot_level: height along it of standing foot points. Shape (len(FEET),). None before the floor is known.
    """

    time_s: np.ndarray
    ray: np.ndarray
    ray_sd: np.ndarray
    shape: np.ndarray
    trust: np.ndarray
    bone_length: np.ndarray
    stance: np.ndarray
    up: np.ndarray | None = None
    foot_level: np.ndarray | None = None


def solve_paths(
    evidence: Evidence, start: np.ndarray, noise: Noise, rounds: int, *, robust: bool = True, bones: bool = True,
    smooth: bool = True,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return (point paths, how well each agrees with its evidence).

    Args:
        evidence: What is known.
        start: First guess. Shape (T, J, 3).
        noise: How far it is trusted.
        rounds: Of reweighting and linearising.
        robust: Let outliers lose weight.
        bones: Keep bone lengths.
        smooth: Know that positions change smoothly; without it, only enough to bridge what is missing.

    Returns:
        Paths, shape (T, J, 3), and the final weight of each landmark, 0 to 1, shape (T, J).
    """
    if not smooth:
        noise = replace(noise, accel=noise.accel * 1e6, root_depth_accel=noise.root_depth_accel * 1e6)
    pos = start.copy()
    weight = np.ones(start.shape[:2])
    for number in range(rounds):
        system = _System(len(pos))
        weight = _add_pictures(system, evidence, noise, pos, robust and number > 0)
        _add_shape(system, evidence, noise, pos, robust and number > 0)
        if bones:
            _add_bones(system, evidence, noise, pos)
        _add_smoothness(system, evidence, noise, pos, robust and number > 0)
        _add_stance(system, evidence, noise, pos)
        pos = system.solve()
    return pos, weight


class _System:
    """Normal equations of a chain: blocks of one picture, and what ties them to the next two."""

    def __init__(self, frames: int) -> None:
        self.block = np.zeros((frames, _N, _N))
        self.right = np.zeros((frames, _N))
        self.next = np.zeros((2, frames, _N))  # (t, i) with (t+1, i) and (t+2, i)
        self.root = np.zeros((3, frames))  # depth of the hips' sum: with itself, t+1 and t+2

    def solve(self) -> np.ndarray:
        """Return the solution, by elimination from the first picture to the last and back. Shape (T, J, 3).

        LAPACK's banded solver does the same, but lets every core work on pieces far too small for it: on a busy machine
        it is ten times slower.
        """
        frames = len(self.block)
        depth: tuple[np.ndarray, ...] = np.ix_(range(frames), _HIPS_DEPTH, _HIPS_DEPTH)
        block, right = self.block, self.right
        block[depth] += self.root[0, :, None, None]
        block[:, np.arange(_N), np.arange(_N)] += 1e-9 * block.max()
        one, two = (np.zeros((frames, _N, _N)) for _ in range(2))
        for tie, diagonal, root in ((one, self.next[0], self.root[1]), (two, self.next[1], self.root[2])):
            tie[:, np.arange(_N), np.arange(_N)] = diagonal
            tie[depth] += root[:, None, None]
        root_inverse = np.empty((frames, _N, _N))  # of the Cholesky factor
        found = np.empty((frames, _N))
        for t in range(frames):
            root_inverse[t] = _lower_inverse(np.linalg.cholesky(block[t]))
            found[t] = root_inverse[t] @ right[t]
            one[t], two[t] = root_inverse[t] @ one[t], root_inverse[t] @ two[t]
            if t + 1 < frames:
                block[t + 1] -= one[t].T @ one[t]
                right[t + 1] -= one[t].T @ found[t]
            if t + 2 < frames:
                one[t + 1] -= one[t].T @ two[t]
                block[t + 2] -= two[t].T @ two[t]
                right[t + 2] -= two[t].T @ found[t]
        for t in range(frames - 1, -1, -1):
            if t + 1 < frames:
                found[t] -= one[t] @ found[t + 1]
            if t + 2 < frames:
                found[t] -= two[t] @ found[t + 2]
            found[t] = root_inverse[t].T @ found[t]
        return found.reshape(frames, _N // 3, 3)


def _lower_inverse(lower: np.ndarray) -> np.ndarray:
    """Return the inverse of a lower triangular matrix, by halves: NumPy has none that knows of the zeros."""
    half = len(lower) // 2
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = np.linalg.inv(lower[:half, :half])
    inverse[half:, half:] = np.linalg.inv(lower[half:, half:])
    inverse[half:, :half] = -inverse[half:, half:] @ (lower[half:, :half] @ inverse[:half, :half])
    return inverse


def _add_pictures(system: _System, known: Evidence, noise: Noise, pos: np.ndarray, robust: bool) -> np.ndarray:
    depth = np.maximum(pos[..., 2], 0.3)
    sd = known.ray_sd[:, None] * depth * _TIP_SCALE**0.5
    off = (pos[..., :2] - known.ray * pos[..., 2:]) / sd[..., None]
    squared = (off**2).sum(-1)
    loss = 1.0 / (1.0 + squared / noise.outlier**2) if robust else np.ones(depth.shape)
    weight = known.trust * loss / sd**2
    u, v = known.ray[..., 0], known.ray[..., 1]
    at = np.arange(0, _N, 3)
    system.block[:, at, at] += weight
    system.block[:, at + 1, at + 1] += weight
    system.block[:, at + 2, at + 2] += weight * (u**2 + v**2)
    for shift, ray in ((0, u), (1, v)):
        system.block[:, at + shift, at + 2] -= weight * ray
        system.block[:, at + 2, at + shift] -= weight * ray
    return loss


_AROUND_HIPS = np.eye(len(POINTS))
_AROUND_HIPS[:, :HIPS] -= 1.0 / HIPS


def _add_shape(system: _System, known: Evidence, noise: Noise, pos: np.ndarray, robust: bool) -> None:
    sd = np.array([noise.shape_m, noise.shape_m, noise.shape_depth_m]) * _TIP_SCALE[:, None]
    sd[:HIPS] = noise.hips_m
    off = (pos - pos[:, :HIPS].mean(1, keepdims=True) - known.shape) / sd
    loss = 1.0 / (1.0 + (off**2).sum(-1) / (2.0 * noise.outlier**2)) if robust else np.ones(pos.shape[:2])
    weight = (known.trust**0.5 * loss)[..., None] / sd**2  # (T, J, 3)
    for axis in range(3):
        weighted = _AROUND_HIPS.T[None] * weight[:, None, :, axis]  # (T, J, J)
        system.block[:, axis::3, axis::3] += weighted @ _AROUND_HIPS
        system.right[:, axis::3] += np.einsum("tij,tj->ti", weighted, known.shape[..., axis])


def _add_bones(system: _System, known: Evidence, noise: Noise, pos: np.ndarray) -> None:
    for (a, b), length, trunk in zip(BONES, known.bone_length, _TRUNK, strict=True):
        along = pos[:, b] - pos[:, a]
        along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
        weight = 1.0 / (noise.trunk_m if trunk else noise.bone_m) ** 2
        outer = weight * along[:, :, None] * along[:, None, :]
        pull = weight * length * along
        i, j = slice(3 * a, 3 * a + 3), slice(3 * b, 3 * b + 3)
        system.block[:, i, i] += outer
        system.block[:, j, j] += outer
        system.block[:, i, j] -= outer
        system.block[:, j, i] -= outer
        system.right[:, i] -= pull
        system.right[:, j] += pull


def _add_smoothness(system: _System, known: Evidence, noise: Noise, pos: np.ndarray, robust: bool) -> None:
    if len(pos) < 3:
        return
    step = np.diff(known.time_s)
    middle = 0.5 * (step[1:] + step[:-1])
    first, last = 1.0 / step[:-1], 1.0 / step[1:]  # coefficients of a change of velocity
    coefficient = np.stack([first, -(first + last), last], -1)  # (T-2, 3)
    change = np.einsum("tc,tcjx->tjx", coefficient, np.stack([pos[:-2], pos[1:-1], pos[2:]], 1))
    lively = np.array([1.0, 1.0, 0.25])
    density = noise.accel * middle[:, None, None] * lively * (_TIP_SCALE**2)[:, None]  # (T-2, J, 3)
    squared = (change**2 / density).sum(-1)
    loss = (noise.tail + 3.0) / (noise.tail + squared) if robust else np.ones(squared.shape)
    weight = (loss[..., None] / density).reshape(len(change), _N)
    at = np.arange(_N)
    for i in range(3):
        for j in range(i, 3):
            value = weight * (coefficient[:, i] * coefficient[:, j])[:, None]
            rows = slice(i, len(pos) - 2 + i)
            if i == j:
                system.block[rows, at, at] += value
            else:
                system.next[j - i - 1, rows] += value
    hips = pos[:, :HIPS, 2].mean(1)
    root_change = np.einsum("tc,tc->t", coefficient, np.stack([hips[:-2], hips[1:-1], hips[2:]], 1))
    root_density = noise.root_depth_accel * middle
    root_loss = (noise.tail + 1.0) / (noise.tail + root_change**2 / root_density) if robust else np.ones(len(middle))
    root_weight = root_loss / root_density / HIPS**2
    for i in range(3):
        for j in range(i, 3):
            system.root[j - i, i : len(pos) - 2 + i] += root_weight * coefficient[:, i] * coefficient[:, j]


def _add_stance(system: _System, known: Evidence, noise: Noise, pos: np.ndarray) -> None:
    step = np.diff(known.time_s)
    for number, point in enumerate(FEET):
        both = np.minimum(known.stance[1:, number], known.stance[:-1, number])
        weight = both / (noise.stance_speed * step) ** 2
        for axis in range(3 * point, 3 * point + 3):
            system.block[:-1, axis, axis] += weight
            system.block[1:, axis, axis] += weight
            system.next[0, :-1, axis] -= weight
        if known.up is not None and known.foot_level is not None:
            under = (
                pos[:, point] @ known.up < known.foot_level[number] - noise.floor_m
            )  # nothing goes through the floor
            held = np.maximum(known.stance[:, number], under) / noise.floor_m**2
            part = slice(3 * point, 3 * point + 3)
            system.block[:, part, part] += held[:, None, None] * np.outer(known.up, known.up)
            system.right[:, part] += (held * known.foot_level[number])[:, None] * known.up
