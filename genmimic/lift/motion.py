# SPDX-License-Identifier: Apache-2.0
"""From landmarks per picture to a motion in the world: the cleaning steps, each of which can be left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, MotionError
from genmimic.core.human import HUMAN_JOINTS, HumanMotion
from genmimic.lift.ground import SOLE_LEVELS_M, Ground, find_ground
from genmimic.lift.importers.upright import MEAN_HEIGHT_M, up_rotation
from genmimic.lift.landmarks import LANDMARK_NAMES
from genmimic.lift.observe import Observation, upright
from genmimic.lift.solve import BONES, FEET, HIPS, MIRROR, POINTS, Evidence, Noise, solve_paths

FOCAL_SHARE = 1.0
"""Assumed focal length over the picture's longer side: between a phone's main camera (0.75) and portraits (1.4)."""

_LANDMARK_OF = {
    name: [LANDMARK_NAMES.index(f"{name.split('_')[0]}_{part}") for part in ("index", "pinky")]
    if "knuckles" in name
    else [LANDMARK_NAMES.index(name)]
    for name in POINTS
}
_LEG = [idx for idx, name in enumerate(POINTS) if name.split("_")[-1] in ("knee", "ankle", "heel", "toe")]
_ARM = [idx for idx, name in enumerate(POINTS) if name.split("_")[-1] in ("elbow", "wrist", "knuckles")]
_ROUNDS, _ROUNDS_WITH_FLOOR = 8, 3  # of reweighting; with 4 and 2 a lone outlier still draws its joint along
_STATURE_SHARE = 0.772  # as in genmimic.lift.importers.upright


@dataclass(frozen=True)
class Steps:
    """Which cleaning steps are done.

    Attributes:
        swaps: Undo swaps of left and right.
        robust: Let outliers lose weight.
        bones: Constant bone lengths.
        smooth: Smoothness of paths.
        stance: Standing feet do not move and stay on the floor.
        gravity: Find gravity; else the camera is taken as level.
        turn: Turn the 3D estimate from the line of sight it was made along to the camera's axes.
    """

    swaps: bool = True
    robust: bool = True
    bones: bool = True
    smooth: bool = True
    stance: bool = True
    gravity: bool = True
    turn: bool = True


@dataclass(frozen=True)
class Lifted:
    """A motion and how it came about.

    Attributes:
        motion: The result.
        observation: What was seen.
        point_pos: Points of `POINTS` in the camera's frame. Shape (T, J, 3).
        ground: Floor and stance in that frame.
        focal_px: Focal length that was used.
        swapped: Pictures where sides were swapped back.
        bone_spread: Standard deviation over mean of bone lengths before and after.
        raw_pos: The points without any cleaning, in the world. Shape (T, J, 3).
        clean_pos: The points of the motion, in the world. Shape (T, J, 3).
        notes: For the user, one line each.
    """

    motion: HumanMotion
    observation: Observation
    point_pos: np.ndarray
    ground: Ground
    focal_px: float
    swapped: int
    bone_spread: tuple[float, float]
    raw_pos: np.ndarray
    clean_pos: np.ndarray
    notes: tuple[str, ...] = field(default_factory=tuple)


def lift_observation(
    seen: Observation,
    *,
    height: float | None = None,
    focal_px: float | None = None,
    fps: float | None = None,
    steps: Steps | None = None,
    noise: Noise | None = None,
    name: str = "person",
) -> Lifted:
    """Turn what was seen into a motion: world frame, z up, floor at z = 0, starting at the origin and facing x.

    Args:
        seen: Landmarks of one shot.
        height: Of the person, in m; `MEAN_HEIGHT_M` when unknown. All lengths scale with it.
        focal_px: Of the camera, in pixels of the observed picture; `FOCAL_SHARE` times its longer side when unknown.
        fps: Of the result; the video's rate, at least 30, when left out.
        steps: Which cleaning steps are done; all when left out.
        noise: How far evidence is trusted.
        name: Of the result.

    Raises:
        MotionError: Too little was seen.
        ConfigError: A number is out of range.
    """
    steps, noise = steps or Steps(), noise or Noise()
    tall = MEAN_HEIGHT_M if height is None else height
    if not 0.5 <= tall <= 2.5:
        raise ConfigError(f"height is {tall:g} m, expected 0.5 to 2.5")
    focal = FOCAL_SHARE * max(seen.size) if focal_px is None else focal_px
    if not 0.2 * max(seen.size) <= focal <= 20.0 * max(seen.size):
        raise ConfigError(f"focal length is {focal:g} pixels, expected 0.2 to 20 times the picture's {max(seen.size)}")
    if len(seen) < 3 or seen.found.sum() < 3:
        raise MotionError(f"a person is seen in {int(seen.found.sum())} pictures, expected 3 or more")
    seen = upright(seen)
    pixel, trust, shape = _gather(seen)
    swapped: np.ndarray = np.zeros(len(seen), bool)
    if steps.swaps:
        pixel, trust, shape, swapped = undo_swaps(seen.time_s, pixel, trust, shape)
    found = seen.found
    shape, length = _scaled(shape, trust, found, tall)
    ray = (pixel - 0.5 * np.array(seen.size)) / focal
    if steps.turn:
        shape = _turned(shape, ray, trust)
    tall_px = _height_in_picture(pixel, found)
    start = _first_guess(ray, shape, trust, found)
    raw = start.copy()
    evidence = Evidence(
        seen.time_s, ray, noise.pixel_share * tall_px / focal, shape, trust, length,
        np.zeros((len(seen), len(FEET))),
    )  # fmt: skip
    options = {"robust": steps.robust, "bones": steps.bones, "smooth": steps.smooth}
    anything = steps.robust or steps.bones or steps.smooth or steps.stance
    pos, agreement = (
        solve_paths(evidence, start, noise, _ROUNDS, **options) if anything else (start, np.ones(trust.shape))
    )
    ground = find_ground(seen.time_s, pos, trust, tall, gravity=steps.gravity)
    if steps.stance:
        scale = tall / MEAN_HEIGHT_M
        for _ in range(2):
            evidence = replace(
                evidence, stance=ground.stance, up=ground.up, foot_level=ground.level + SOLE_LEVELS_M * scale
            )
            pos, agreement = solve_paths(evidence, pos, noise, _ROUNDS_WITH_FLOOR, **options)
            ground = find_ground(seen.time_s, pos, trust, tall, gravity=steps.gravity)
    world, place = _to_world(pos, ground)
    sure = trust * agreement
    motion = _motion(seen, world, sure, fps, name)
    notes = list(seen.notes)
    if swapped.any():
        notes.append(f"left and right were swapped back in {int(swapped.sum())} pictures")
    ankles = pixel[found][:, [POINTS.index("left_ankle"), POINTS.index("right_ankle")], 1]
    unseen = float(np.mean(ankles.min(1) > seen.size[1]))
    if unseen > 0.05:
        notes.append(
            f"the feet are below the picture {100 * unseen:.0f} % of the time: floor and path are guessed there"
        )
    if height is None:
        notes.append(f"height not given: taken as {MEAN_HEIGHT_M:g} m")
    source: dict[str, Any] = {
        "format": "video", "height_m": tall, "height_given": height is not None, "focal_px": round(focal, 1),
        "picture_px": list(seen.size), "video_fps": round(seen.fps, 3), "pictures": len(seen),
        "camera_pitch_deg": round(ground.pitch_deg, 1), "camera_roll_deg": round(ground.roll_deg, 1),
        "steps": asdict(steps), "notes": notes, "landmarks": "mediapipe 0.10.21 pose, full model",
    }  # fmt: skip
    return Lifted(
        replace(motion, source=source), seen, pos, ground, focal, int(swapped.sum()),
        (bone_spread(raw, found), bone_spread(pos, found)), _place(raw, ground, place), world, tuple(notes),
    )  # fmt: skip


def bone_spread(pos: np.ndarray, found: np.ndarray) -> float:
    """Return the mean over the bones of standard deviation over mean of their length. Shapes (T, J, 3), (T,)."""
    lengths = np.linalg.norm(pos[:, BONES[:, 0]] - pos[:, BONES[:, 1]], axis=-1)[found]
    return float(np.mean(lengths.std(0) / np.maximum(lengths.mean(0), 1e-9)))


def _gather(seen: Observation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return our points in the picture, how far to trust them, and their 3D shape around the hips."""
    pixel = np.stack([seen.pixel[:, idx].mean(1) for idx in _LANDMARK_OF.values()], 1)
    shape = np.stack([seen.world[:, idx].mean(1) for idx in _LANDMARK_OF.values()], 1)
    visible = np.stack([seen.visibility[:, idx].min(1) for idx in _LANDMARK_OF.values()], 1)
    wide, tall = seen.size
    margin = 0.02 * max(seen.size)
    inside = (
        (pixel[..., 0] > -margin) & (pixel[..., 0] < wide + margin) & (pixel[..., 1] > -margin)
        & (pixel[..., 1] < tall + margin)
    )  # fmt: skip
    trust = np.clip(visible, 0.0, 1.0) ** 2 * np.where(inside, 1.0, 0.1)
    trust = np.where(seen.found[:, None], np.maximum(trust, 0.01), 0.0)
    return pixel, trust, shape - shape[:, :HIPS].mean(1, keepdims=True)


def undo_swaps(
    time_s: np.ndarray, pixel: np.ndarray, trust: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Undo swaps of left and right: of the legs, the arms, or the whole body.

    Of the four readings of each picture, the path with the least motion between pictures is taken (Viterbi); a change
    of reading costs as much as a limb moving by a third of the body's height at once. The reading that is most common
    stays as it is.

    Returns:
        The arguments without swaps, and where there was one. Shape (T,).
    """
    frames = np.flatnonzero(trust.max(1) > 0.0)
    count = len(pixel[0])
    orders = []
    for legs, arms, trunk in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1)):
        order = np.arange(count)
        for group, use in ((_LEG, legs), (_ARM, arms)):
            if use:
                order[group] = MIRROR[group]
        orders.append(MIRROR.copy() if trunk else order)
    size = np.maximum(np.ptp(pixel[frames, :, 1], axis=1), 1.0)
    flat = (pixel[frames] - pixel[frames][:, :HIPS].mean(1, keepdims=True)) / size[:, None, None]
    body = shape[frames] / max(float(np.median(np.ptp(shape[frames][..., 1], axis=1))), 1e-6)
    feature = np.concatenate([flat, body], -1)  # (F, J, 5)
    weight = trust[frames]
    states = [feature[:, order] for order in orders]
    weights = [weight[:, order] for order in orders]
    gap = np.maximum(np.diff(time_s[frames]), 1e-3)
    switch = np.array([[0.0 if a == b else 0.33 * 4.0 for b in range(4)] for a in range(4)])
    best = np.zeros(4)
    back: np.ndarray = np.zeros((len(frames), 4), int)
    for t in range(1, len(frames)):
        cost = np.empty((4, 4))
        loose = min(1.0, 0.1 / gap[t - 1])  # after a long gap anything may have happened
        for a in range(4):
            for b in range(4):
                step = np.linalg.norm(states[b][t] - states[a][t - 1], axis=-1)
                cost[a, b] = loose * float((np.minimum(step, 0.5) * np.minimum(weights[a][t - 1], weights[b][t])).sum())
        total = best[:, None] + cost + switch
        back[t] = total.argmin(0)
        best = total.min(0)
    path: np.ndarray = np.zeros(len(frames), int)
    path[-1] = int(best.argmin())
    for t in range(len(frames) - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    common = int(np.bincount(path, minlength=4).argmax())
    changed = path != common
    pixel, trust, shape = pixel.copy(), trust.copy(), shape.copy()
    for t, frame in enumerate(frames):
        if changed[t]:
            order = orders[path[t]][orders[common]]
            pixel[frame], trust[frame], shape[frame] = pixel[frame][order], trust[frame][order], shape[frame][order]
    swapped: np.ndarray = np.zeros(len(pixel), bool)
    swapped[frames[changed]] = True
    return pixel, trust, shape, swapped


def _scaled(
    shape: np.ndarray, trust: np.ndarray, found: np.ndarray, tall: float
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the shape in m for a person this tall, and its bone lengths: medians, alike on both sides."""
    length = np.empty(len(BONES))
    for number, (a, b) in enumerate(BONES):
        bone = np.linalg.norm(shape[found, a] - shape[found, b], axis=-1)
        weight = np.minimum(trust[found, a], trust[found, b]) + 1e-6
        order = np.argsort(bone)
        total = np.cumsum(weight[order])
        length[number] = bone[order][np.searchsorted(total, 0.5 * total[-1])]
    pair = {tuple(bone): number for number, bone in enumerate(map(tuple, BONES))}
    even = length.copy()
    for number, (a, b) in enumerate(BONES):
        twin = pair.get((MIRROR[a], MIRROR[b]), pair.get((MIRROR[b], MIRROR[a]), number))
        even[number] = 0.5 * (length[number] + length[twin])

    def bone_of(a: str, b: str) -> float:
        return float(even[pair[(POINTS.index(a), POINTS.index(b))]])

    stature = (
        bone_of("left_hip", "left_knee") + bone_of("left_knee", "left_ankle") + bone_of("left_hip", "left_shoulder")
    ) / _STATURE_SHARE
    if not 0.2 < stature < 10.0:
        raise MotionError(f"the landmarks make a body {stature:.2f} m tall; nothing can be made of them")
    scale = tall / stature
    return shape * scale, even * scale


def _turned(shape: np.ndarray, ray: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Turn each picture's shape from the line of sight to the person to the camera's axes.

    The landmarker looks at a crop around the person, and cannot know where in the picture it is.
    """
    turned = shape.copy()
    for number in np.flatnonzero(trust.max(1) > 0.0):
        centre = np.median(ray[number, :8], axis=0)
        sight = np.array([*centre, 1.0]) / np.sqrt(1.0 + centre @ centre)
        axis = np.array([-sight[1], sight[0], 0.0])  # z x sight
        skew = np.array([[0.0, 0.0, axis[1]], [0.0, 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
        rotation = np.eye(3) + skew + skew @ skew / (1.0 + sight[2])
        turned[number] = shape[number] @ rotation.T
    return turned


def _height_in_picture(pixel: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the person's larger extent in the picture, in pixels, bridged where nobody was found. Shape (T,)."""
    extent = np.ptp(pixel, axis=1).max(-1)
    at = np.arange(len(pixel))
    return np.maximum(np.interp(at, at[found], extent[found]), 8.0)


def _first_guess(ray: np.ndarray, shape: np.ndarray, trust: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Place each picture's shape so that it covers its landmarks; bridge the rest. Shape (T, J, 3).

    For each point, ``x + shape_x = ray_x (z + shape_z)``, and the same for y: linear in the place of the hips.
    """
    frames = len(ray)
    root = np.zeros((frames, 3))
    for number in np.flatnonzero(found):
        weight = np.sqrt(np.maximum(trust[number], 1e-3))
        rows, right = [], []
        for axis in range(2):
            row = np.zeros((len(weight), 3))
            row[:, axis], row[:, 2] = 1.0, -ray[number, :, axis]
            rows.append(row * weight[:, None])
            right.append((ray[number, :, axis] * shape[number, :, 2] - shape[number, :, axis]) * weight)
        root[number] = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
    good = found & (root[:, 2] > 0.2) & (root[:, 2] < 100.0)
    if good.sum() < 3:
        raise MotionError("the camera model does not fit the landmarks: give --focal if the lens is unusual")
    at = np.arange(frames)
    flat = np.concatenate([root, shape.reshape(frames, -1)], -1)
    bridged = np.stack([np.interp(at, at[good], column[good]) for column in flat.T], -1)
    return bridged[:, None, :3] + bridged[:, 3:].reshape(frames, -1, 3)


def _to_world(pos: np.ndarray, ground: Ground) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the points in the world, and (rotation, shift) that took them there."""
    turn = up_rotation(ground.up)
    moved = pos @ turn.T
    few = moved[: max(3, len(moved) // 20)]
    left = np.median(few[:, 0] - few[:, 1], axis=0)  # hips
    yaw = np.arctan2(-left[0], left[1])  # facing x, the left hip is at +y
    spin = np.array([[np.cos(yaw), np.sin(yaw), 0.0], [-np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    turn = spin @ turn
    start = (pos[0, :HIPS].mean(0) @ turn.T) * [1.0, 1.0, 0.0]
    shift = start + [0.0, 0.0, ground.level]
    return pos @ turn.T - shift, (turn, shift)


def _place(pos: np.ndarray, ground: Ground, place: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return pos @ place[0].T - place[1]


_TRUNK_SHARE = {"pelvis": 0.168, "spine1": 0.370, "spine2": 0.620, "spine3": 0.718, "neck": 1.115}
"""Where SMPL's trunk joints lie from the middle of the hips (0) to that of the shoulders (1), in its rest pose."""


def world_joints(points: np.ndarray) -> dict[str, np.ndarray]:
    """Return our joints by name from the solved points. Shapes (T, J, 3) and (T, 3) each."""
    at = {name: points[:, idx] for idx, name in enumerate(POINTS)}
    hips, shoulders = 0.5 * (at["left_hip"] + at["right_hip"]), 0.5 * (at["left_shoulder"] + at["right_shoulder"])
    joints = {name: hips + share * (shoulders - hips) for name, share in _TRUNK_SHARE.items()}
    joints["head"] = 0.5 * (joints["neck"] + 0.5 * (at["left_ear"] + at["right_ear"]))
    for side in ("left", "right"):
        joints[f"{side}_foot"] = at[f"{side}_heel"] + 0.72 * (at[f"{side}_toe"] - at[f"{side}_heel"])
        joints[f"{side}_hand"] = 0.5 * (at[f"{side}_wrist"] + at[f"{side}_knuckles"])
    joints.update({name: path for name, path in at.items() if name in HUMAN_JOINTS})
    return joints


def _motion(seen: Observation, points: np.ndarray, sure: np.ndarray, fps: float | None, name: str) -> HumanMotion:
    duration = float(seen.time_s[-1] - seen.time_s[0])
    if fps is None:
        fps = float(np.clip(seen.fps or (len(seen) - 1) / duration, 30.0, 120.0))
    if not 1.0 <= fps <= 1000.0:
        raise ConfigError(f"fps is {fps:g}, expected 1 to 1000")
    count = max(2, int(np.floor(duration * fps + 1e-6)) + 1)
    at = seen.time_s[0] + np.arange(count) / fps
    even = resample_paths(seen.time_s, points, np.minimum(at, seen.time_s[-1]))
    joints = world_joints(even)
    names = tuple(joint for joint in HUMAN_JOINTS if joint in joints)
    parts = {
        "pelvis": ("left_hip", "right_hip"), "head": ("left_ear", "right_ear"),
        **dict.fromkeys(("spine1", "spine2", "spine3", "neck"), ("left_shoulder", "right_shoulder")),
        **{f"{s}_foot": (f"{s}_heel", f"{s}_toe") for s in ("left", "right")},
        **{f"{s}_hand": (f"{s}_wrist", f"{s}_knuckles") for s in ("left", "right")},
    }  # fmt: skip
    column = {name: sure[:, idx] for idx, name in enumerate(POINTS)}
    confidence = []
    for joint in names:
        value = np.min([column[part] for part in parts.get(joint, (joint,))], axis=0)
        confidence.append(np.interp(at, seen.time_s, value))
    pos = np.stack([joints[joint] for joint in names], 1)
    return HumanMotion(fps, names, pos, np.clip(np.stack(confidence, 1), 0.0, 1.0), name)


def resample_paths(time_s: np.ndarray, pos: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return paths at other times, by cubic Hermite pieces with centred slopes.

    Args:
        time_s: Shape (T,).
        pos: Shape (T, ...).
        at: Shape (S,).

    Returns:
        Shape (S, ...).
    """
    if len(time_s) < 3:
        below: np.ndarray = np.zeros(len(at), int)
        part = ((at - time_s[0]) / (time_s[-1] - time_s[0])).reshape(-1, *[1] * (pos.ndim - 1))
        return pos[below] * (1 - part) + pos[-1] * part
    shape = (-1, *[1] * (pos.ndim - 1))
    step = np.diff(time_s).reshape(shape)
    chord = np.diff(pos, axis=0) / step
    slope = np.concatenate(
        [chord[:1], (chord[:-1] * step[1:] + chord[1:] * step[:-1]) / (step[1:] + step[:-1]), chord[-1:]]
    )
    below = np.clip(np.searchsorted(time_s, at, "right") - 1, 0, len(time_s) - 2)
    width = step[below]
    u = ((at - time_s[below]).reshape(shape)) / width
    a, b = pos[below], pos[below + 1]
    ma, mb = slope[below] * width, slope[below + 1] * width
    return (2 * u**3 - 3 * u**2 + 1) * a + (u**3 - 2 * u**2 + u) * ma + (3 * u**2 - 2 * u**3) * b + (u**3 - u**2) * mb
