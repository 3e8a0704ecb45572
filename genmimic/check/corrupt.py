# SPDX-License-Identifier: Apache-2.0
"""Damage a motion as lifting and video generation do, repeatably; NumPy alone. For tests, evaluation and training.

The kinds are the artefacts that the paper and its appendix name in motions from generated video, and their like.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.core.rotation import quat_from_rotation_vector, quat_multiply

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Joints (T, J), root position (T, 3) and orientation (T, 4)."""


def corrupt(robot: Robot, motion: Motion, kind: str, level: float = 1.0, seed: int = 0) -> Motion:
    """Return ``motion`` damaged in one way.

    Args:
        robot: The robot.
        motion: At any rate.
        kind: One of `KINDS`.
        level: How much; 1 is what bad lifting gives, 0 nothing.
        seed: The same seed, kind and motion length give the same damage.

    Raises:
        ConfigError: The kind is unknown or the level negative.
    """
    if kind not in KINDS:
        raise ConfigError(f"corruption {kind!r} is not known; known: {', '.join(KINDS)}")
    if not level >= 0.0:
        raise ConfigError(f"level is {level:g}, expected 0 or more")
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    arrays = (motion.joint_pos.copy(), motion.root_pos.copy(), motion.root_quat.copy())
    joint_pos, root_pos, root_quat = _DAMAGE[kind](robot, arrays, motion.fps, level, rng)
    source = {key: value for key, value in motion.source.items() if key != "check"}
    source["corrupted"] = {"kind": kind, "level": level, "seed": seed}
    return Motion.from_joints(robot, motion.fps, joint_pos, root_pos, root_quat, f"{motion.name}_{kind}", source)


def _jitter(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    shake = quat_from_rotation_vector(0.03 * level * rng.standard_normal((len(root_pos), 3)))
    return (
        joint_pos + 0.06 * level * rng.standard_normal(joint_pos.shape),
        root_pos + 0.008 * level * rng.standard_normal(root_pos.shape),
        quat_multiply(shake, root_quat),
    )


def _drift(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    angle = rng.uniform(0.0, 2.0 * np.pi)
    t = np.arange(len(root_pos)) / fps
    root_pos[:, :2] += 0.25 * level * t[:, None] * [np.cos(angle), np.sin(angle)]
    return joint_pos, root_pos, root_quat


def _dropped(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    count = len(arrays[0])
    index = np.arange(count)
    for start in np.flatnonzero(rng.random(count) < 1.2 * level / fps):
        index[start : start + int(rng.integers(2, 7))] = start  # held, then it jumps on
    return arrays[0][index], arrays[1][index], arrays[2][index]


def _skate(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    t = np.arange(len(root_pos))[:, None] / fps
    root_pos[:, :2] += 0.06 * level * np.sin(2.0 * np.pi * (0.9 * t + rng.uniform(size=2)))
    return joint_pos, root_pos, root_quat


def _float(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    arrays[1][:, 2] += 0.12 * level
    return arrays


def _sink(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    arrays[1][:, 2] -= 0.12 * level
    return arrays


def _swap(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    count = len(joint_pos)
    limb = np.array(["waist" not in name for name in robot.joint_names])
    other = joint_pos[:, robot.joint_mirror_idx] * robot.joint_mirror_sign
    for _ in range(max(1, round(level * count / fps / 4.0)) if level else 0):
        length = int(rng.integers(4, max(5, int(0.4 * fps))))
        start = int(rng.integers(0, max(1, count - length)))
        joint_pos[start : start + length, limb] = other[start : start + length, limb]
    return joint_pos, root_pos, root_quat


def _jumps(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    for _ in range(max(1, round(level * len(root_pos) / fps / 3.0)) if level else 0):
        start = int(rng.integers(5, max(6, len(root_pos) - 5)))
        root_pos[start:] += 0.15 * level * rng.standard_normal(3) * [1.0, 1.0, 0.3]
        spot = int(rng.integers(5, max(6, len(root_pos) - 8)))
        joint = rng.integers(0, joint_pos.shape[1], 4)
        joint_pos[spot : spot + int(rng.integers(1, 4)), joint] += 0.8 * level * rng.choice([-1.0, 1.0], 4)
    return joint_pos, root_pos, root_quat


def _hyperextension(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    t = np.arange(len(joint_pos)) / fps
    for part in ("knee", "elbow", "ankle_roll", "shoulder_roll"):
        for idx in (idx for idx, name in enumerate(robot.joint_names) if part in name):
            wave = np.maximum(0.0, np.sin(2.0 * np.pi * (0.4 * t + rng.uniform())) - 0.5) * 2.0
            beyond = robot.joint_lower[idx] - 0.35 if rng.random() < 0.5 else robot.joint_upper[idx] + 0.35
            if part == "knee":
                beyond = robot.joint_lower[idx] - 0.35
            joint_pos[:, idx] += np.minimum(level, 1.0) * 0.6 * wave * (beyond - joint_pos[:, idx])
    return joint_pos, root_pos, root_quat


def _scale(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    root_pos = root_pos[:1] * [1.0, 1.0, 0.0] + (root_pos - root_pos[:1] * [1.0, 1.0, 0.0]) * (1.0 + 0.25 * level)
    return joint_pos, root_pos, root_quat


def _occlusion(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    count = len(joint_pos)
    limbs = [
        np.array([side in name and any(part in name for part in parts) for name in robot.joint_names])
        for side in ("left", "right")
        for parts in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
    ]
    for _ in range(max(1, round(level * count / fps / 2.0)) if level else 0):  # a limb is guessed, then seen again
        limb = np.flatnonzero(limbs[int(rng.integers(0, 4))])
        length = min(count - 1, int(rng.integers(int(0.2 * fps), int(0.5 * fps) + 1)))
        start = int(rng.integers(1, max(2, count - length)))
        wrong = np.cumsum(rng.standard_normal((length, len(limb))), axis=0) / np.sqrt(length)
        joint_pos[start : start + length, limb] = joint_pos[start - 1, limb] + 0.25 * min(level, 2.0) * wrong
    return joint_pos, root_pos, root_quat


def _camera_motion(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    t = np.arange(len(root_pos))[:, None] / fps
    sway = np.sin(2.0 * np.pi * (np.array([0.31, 0.47, 0.23]) * t + rng.uniform(size=3)))  # x, y, heading
    yaw = 0.2 * level * sway[:, 2]
    root_pos[:, :2] += 0.08 * level * sway[:, :2] + 0.003 * level * rng.standard_normal((len(root_pos), 2))
    turn = quat_from_rotation_vector(yaw[:, None] * [0.0, 0.0, 1.0])
    return joint_pos, root_pos, quat_multiply(turn, root_quat)


def _self_intersection(robot: Robot, arrays: Arrays, fps: float, level: float, rng: np.random.Generator) -> Arrays:
    joint_pos, root_pos, root_quat = arrays
    t = np.arange(len(joint_pos)) / fps
    inside = np.clip(1.5 * np.sin(2.0 * np.pi * (0.35 * t + rng.uniform())) - 0.5, 0.0, 1.0)  # now and then
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose = {"shoulder_pitch": -0.3, "shoulder_roll": -0.3 * sign, "shoulder_yaw": -1.2 * sign, "elbow": 0.8}
        for part, angle in pose.items():
            idx = robot.joint_names.index(f"{side}_{part}_joint")
            joint_pos[:, idx] += min(level, 1.0) * inside * (angle - joint_pos[:, idx])
    return joint_pos, root_pos, root_quat


_DAMAGE: dict[str, Callable[[Robot, Arrays, float, float, np.random.Generator], Arrays]] = {
    "jitter": _jitter,
    "drift": _drift,
    "dropped_frames": _dropped,
    "foot_skate": _skate,
    "float": _float,
    "sink": _sink,
    "limb_swap": _swap,
    "jumps": _jumps,
    "hyperextension": _hyperextension,
    "scale": _scale,
    "occlusion": _occlusion,
    "camera_motion": _camera_motion,
    "self_intersection": _self_intersection,
}

KINDS = tuple(_DAMAGE)
"""Kinds of damage."""
