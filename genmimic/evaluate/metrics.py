# SPDX-License-Identifier: Apache-2.0
"""How well a robot followed its goal: the paper's metrics (section 5.3) and ours beside them.

NumPy alone; any run that recorded a `RolloutTrack` can be judged, simulated or real.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.robot import Robot
from genmimic.core.rotation import heading, rotate_heading

MAX_DEVIATION_M = 0.5
"""A rollout ends where the keypoints are, in the mean, further than this from the goal (paper 5.3)."""

LOCAL_SUCCESS_CM = 10.0
"""``sr_local`` asks for an aligned error of at most this over the whole motion; ours."""

RATES = ("sr", "sr_local", "no_fall")
"""Metrics that are true or false for one rollout and a share for many."""

ERRORS = ("mpkpe_cm", "lmpkpe_cm", "mpkpe_nt_cm", "lmpkpe_nt_cm", "hands_cm", "drift_m")
"""Metrics that are a length."""

METRICS = (*RATES, *ERRORS)
"""All of them, in the order of tables and reports."""

_Z95 = 1.959963984540054  # two-sided 95 % of a normal distribution


@dataclass(frozen=True)
class RolloutTrack:
    """What a robot did and what it should have done, over the motion's own frames; world frame, m, wxyz.

    Attributes:
        t: Time in s. Shape (T,).
        keypoint_pos: Of the robot. Shape (T, K, 3).
        root_quat: Of the robot's pelvis. Shape (T, 4).
        goal_keypoint_pos: Of the goal at the same instants. Shape (T, K, 3).
        goal_root_quat: Of the goal's pelvis. Shape (T, 4).
        fell_at: Frame in which the robot fell; 0 or less when before the first, T or more when after
            the last; None when it did not fall.
    """

    t: np.ndarray
    keypoint_pos: np.ndarray
    root_quat: np.ndarray
    goal_keypoint_pos: np.ndarray
    goal_root_quat: np.ndarray
    fell_at: int | None

    def __post_init__(self) -> None:
        frames = len(self.t)
        shape = np.shape(self.keypoint_pos)
        if frames == 0 or len(shape) != 3 or shape[0] != frames or shape[2] != 3:
            raise ConfigError(f"track keypoint_pos has shape {shape}, expected ({frames or 'T > 0'}, K, 3)")
        expected = {
            "goal_keypoint_pos": shape,
            "root_quat": (frames, 4),
            "goal_root_quat": (frames, 4),
        }
        for name, want in expected.items():
            if np.shape(getattr(self, name)) != want:
                raise ConfigError(f"track {name} has shape {np.shape(getattr(self, name))}, expected {want}")
        for name in ("t", "keypoint_pos", *expected):
            if not np.isfinite(getattr(self, name)).all():
                raise ConfigError(f"track {name} holds a number that is not finite")


def aligned_keypoints(keypoint_pos: np.ndarray, root_quat: np.ndarray) -> np.ndarray:
    """Return keypoints relative to the pelvis, turned by minus its heading, in m.

    Args:
        keypoint_pos: World frame, the pelvis first. Shape (..., K, 3).
        root_quat: Of the pelvis. Shape (..., 4).
    """
    return rotate_heading(-heading(root_quat)[..., None], keypoint_pos - keypoint_pos[..., :1, :])


@dataclass(frozen=True)
class ErrorCurves:
    """Errors over time, each the mean over its keypoints, in m. Shapes (T,)."""

    deviation: np.ndarray  # all keypoints, world frame
    local: np.ndarray  # all keypoints, root- and heading-aligned
    hands: np.ndarray  # the two hands, root- and heading-aligned


def error_curves(track: RolloutTrack, robot: Robot) -> ErrorCurves:
    """Return the errors of each frame; `rollout_metrics` are their means."""
    hands = robot.keypoint_idx(["left_hand", "right_hand"])
    world = np.linalg.norm(track.keypoint_pos - track.goal_keypoint_pos, axis=-1)  # (T, K)
    aligned = np.linalg.norm(
        aligned_keypoints(track.keypoint_pos, track.root_quat)
        - aligned_keypoints(track.goal_keypoint_pos, track.goal_root_quat),
        axis=-1,
    )
    return ErrorCurves(world.mean(-1), aligned.mean(-1), aligned[:, hands].mean(-1))


def termination(track: RolloutTrack, deviation: np.ndarray) -> int:
    """Return how many frames come before the fall or the first deviation above 0.5 m. ``deviation`` (T,) in m."""
    end = len(track.t)
    far = np.flatnonzero(deviation > MAX_DEVIATION_M)
    if len(far):
        end = int(far[0])
    return end if track.fell_at is None else min(end, max(track.fell_at, 0))


def rollout_metrics(track: RolloutTrack, robot: Robot) -> dict[str, float | bool]:
    """Return the metrics of one rollout, `METRICS` in order.

    ``sr``: no fall, and the keypoints' distance from the goal, in the mean over the keypoints, never
    above 0.5 m. ``mpkpe_cm`` and ``lmpkpe_cm``: mean distance in the world, and root- and
    heading-aligned, over the frames before termination (the first fall or deviation above 0.5 m);
    ``_nt``: over all frames. Ours: ``no_fall``; ``sr_local``: no fall and ``lmpkpe_nt_cm`` at most 10;
    ``hands_cm``: the two hands, aligned, before termination; ``drift_m``: horizontal distance of the
    pelvis from its goal in the last frame. With no frame before termination, the errors over such
    frames are NaN.

    Source: paper 5.3. It does not say which point of the robot the 0.5 m is about, nor how the local
    error is aligned; both are ours.
    """
    curves = error_curves(track, robot)
    end = termination(track, curves.deviation)
    no_fall = track.fell_at is None
    drift = track.keypoint_pos[-1, 0, :2] - track.goal_keypoint_pos[-1, 0, :2]
    lmpkpe_nt_cm = 100.0 * float(curves.local.mean())
    return {
        "sr": no_fall and bool((curves.deviation <= MAX_DEVIATION_M).all()),
        "sr_local": no_fall and lmpkpe_nt_cm <= LOCAL_SUCCESS_CM,
        "no_fall": no_fall,
        "mpkpe_cm": 100.0 * _mean(curves.deviation[:end]),
        "lmpkpe_cm": 100.0 * _mean(curves.local[:end]),
        "mpkpe_nt_cm": 100.0 * float(curves.deviation.mean()),
        "lmpkpe_nt_cm": lmpkpe_nt_cm,
        "hands_cm": 100.0 * _mean(curves.hands[:end]),
        "drift_m": float(np.linalg.norm(drift)),
    }


def summarize(rollouts: Sequence[Mapping[str, float | bool]]) -> dict[str, Any]:
    """Return the means over rollouts, and under ``ci95`` the 95 % confidence interval of each, [low, high].

    Rates: Wilson's interval. Errors: the mean plus and minus 1.96 standard errors, None with fewer than
    two rollouts. NaN (no frame before termination) is left out of a mean; a mean of nothing is None.
    """
    summary: dict[str, Any] = {"rollouts": len(rollouts)}
    intervals: dict[str, list[float] | None] = {}
    for name in METRICS:
        values = np.array([float(rollout[name]) for rollout in rollouts])
        values = values[np.isfinite(values)]
        count = len(values)
        summary[name] = float(values.mean()) if count else None
        if not count:
            intervals[name] = None
        elif name in RATES:
            intervals[name] = list(wilson_interval(int(values.sum()), count))
        elif count < 2:
            intervals[name] = None
        else:
            half = _Z95 * float(values.std(ddof=1)) / math.sqrt(count)
            intervals[name] = [float(values.mean()) - half, float(values.mean()) + half]
    summary["ci95"] = intervals
    return summary


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval for a rate of ``successes`` in ``count`` > 0 trials."""
    rate, z2 = successes / count, _Z95**2
    centre = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == count else min(1.0, centre + half)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
