# SPDX-License-Identifier: Apache-2.0
"""What a person's pose asks of the robot: bone directions from the person, segment lengths from the robot.

The robot lacks waist roll and pitch, so pelvis and torso share one upward axis, the person's trunk: where a person
bends in the waist, the robot tilts its pelvis. Every function works on a whole clip and on a single frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.core.human import REQUIRED_JOINTS, HumanMotion
from genmimic.core.kinematics import link_kinematics
from genmimic.core.robot import Robot
from genmimic.core.rotation import (
    heading,
    quat_from_axis_angle,
    quat_from_heading,
    quat_multiply,
    quat_rotate,
    quat_rotate_inverse,
)

SIDES = ("left", "right")

FLAT_FOOT = 0.15
"""Pitch of a foot in rad below which it is taken to lie flat; the joints of a foot are not measured better."""


@dataclass(frozen=True)
class RobotSegments:
    """Lengths and places on the robot, from its kinematics in the zero pose; m, pelvis or torso frame, left first."""

    hips: np.ndarray  # (2, 3), pelvis frame
    torso: np.ndarray  # (3,), pelvis frame
    shoulders: np.ndarray  # (2, 3), torso frame
    head: np.ndarray  # (3,), torso frame
    thigh: float
    shin: float
    upper_arm: float
    forearm: float  # elbow to palm
    ankle_height: float  # of the ankle above a level sole
    ankle_pitch: tuple[float, float]  # its range, with a little in hand, in rad; positive: toes down
    ankle_roll: float  # how far the ankle rolls to each side, with a little in hand, in rad


@lru_cache(maxsize=4)
def robot_segments(robot: Robot) -> RobotSegments:
    """Return the robot's segments."""
    pos, _, _, _ = link_kinematics(robot, np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(robot.num_joints))

    def at(name: str) -> np.ndarray:
        return np.array([pos[robot.link_names.index(f"{side}_{name}_link")] for side in SIDES])

    hips, knees, ankles, shoulders, elbows = (
        at(name) for name in ("hip_roll", "knee", "ankle_roll", "shoulder_roll", "elbow")
    )
    torso = pos[robot.link_names.index("torso_link")]
    offset = {keypoint.name: np.array(keypoint.offset) for keypoint in robot.keypoints}
    hand = at("wrist_roll")[0] - elbows[0] + offset["left_hand"]
    return RobotSegments(
        hips=hips,
        torso=torso,
        shoulders=shoulders - torso,
        head=offset["head"],
        thigh=float(np.linalg.norm(knees[0] - hips[0])),
        shin=float(np.linalg.norm(ankles[0] - knees[0])),
        upper_arm=float(np.linalg.norm(elbows[0] - shoulders[0])),
        forearm=float(np.linalg.norm(hand)),
        ankle_height=max(sole.radius - sole.pos[2] for sole in robot.soles),
        ankle_pitch=next(
            (joint.lower + 0.03, joint.upper - 0.03) for joint in robot.joints if "ankle_pitch" in joint.name
        ),
        ankle_roll=min(joint.upper for joint in robot.joints if "ankle_roll" in joint.name) - 0.03,
    )


# the person ------------------------------------------------------------------------------------
Points = Mapping[str, np.ndarray]
"""Paths of paired joints, (T, 2, 3) in m, left first: hip, knee, ankle, shoulder, elbow, wrist; maybe toe, heel."""


def paired_points(motion: HumanMotion) -> dict[str, np.ndarray]:
    """Return the joints that retargeting uses.

    Raises:
        MotionError: A required joint is missing.
    """
    missing = [name for name in REQUIRED_JOINTS if name not in motion.joint_names]
    if missing:
        raise MotionError(
            f"human motion {motion.name!r} lacks {', '.join(missing)}; retargeting needs hips, knees, ankles, "
            "shoulders, elbows and wrists"
        )

    def pair(name: str) -> np.ndarray:
        return np.stack([motion.pos(f"{side}_{name}") for side in SIDES], 1).astype(float)

    points = {name: pair(name) for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")}
    for toe in ("foot", "toe"):
        if motion.has(f"left_{toe}", f"right_{toe}"):
            points["toe"] = pair(toe)
            break
    if motion.has("left_heel", "right_heel"):
        points["heel"] = pair("heel")
    return points


@dataclass(frozen=True)
class Proportions:
    """What does not change while a person moves.

    Attributes:
        scale: Length on the robot per length on the person: the ratio of their legs.
        foot_drop: Angle in rad of the line ankle (or heel) to toes below the horizontal when the foot is flat.
            Shape (2,), left first.
        trunk_lean: Angle in rad by which the line from hips to shoulders leans forward when the person stands upright.
    """

    scale: float
    foot_drop: tuple[float, float]
    trunk_lean: float = 0.0


def proportions(points: Points, robot: Robot) -> Proportions:
    """Return the person's proportions over some frames.

    Raises:
        MotionError: The legs have no length.
    """
    segments = robot_segments(robot)
    thigh = np.median(np.linalg.norm(points["knee"] - points["hip"], axis=-1))
    shin = np.median(np.linalg.norm(points["ankle"] - points["knee"], axis=-1))
    leg = float(thigh + shin)
    if not 0.05 < leg < 50.0:
        raise MotionError(f"the person's legs are {leg:.3g} m long (median); expected metres, 0.05 to 50")
    scale = (segments.thigh + segments.shin) / leg
    return Proportions(scale, _foot_drop(points, leg), _trunk_lean(points))


def _foot_drop(points: Points, leg: float) -> tuple[float, float]:
    """The angle that a foot has most of the time when its ankle is low."""
    if "toe" not in points:
        return (0.0, 0.0)
    back = points.get("heel", points["ankle"])
    line = points["toe"] - back
    drop = np.arctan2(-line[..., 2], np.linalg.norm(line[..., :2], axis=-1))  # (T, 2)
    low = points["ankle"][..., 2] <= np.quantile(points["ankle"][..., 2], 0.2, axis=0) + 0.03 * leg
    both = float(np.median(drop[low]))
    # a person's feet are alike; where they seem not to be, one of them is never flat
    return tuple(
        float(np.median(drop[low[:, foot], foot])) if abs(np.median(drop[low[:, foot], foot]) - both) < 0.15 else both
        for foot in range(2)
    )  # type: ignore[return-value]


def _trunk_lean(points: Points) -> float:
    """How far the shoulders lie before the hips when the person stands upright; 0 where they never do."""
    up, forward = _trunk(points)
    lean = np.arctan2((up * forward).sum(-1), up[..., 2])
    knees = _angle(points["hip"] - points["knee"], points["ankle"] - points["knee"]).min(-1)
    upright = (knees > np.radians(150.0)) & (np.abs(lean) < 0.25)
    return float(np.clip(np.median(lean[upright]), -0.12, 0.12)) if upright.sum() > 5 else 0.0


def _trunk(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors from hips to shoulders, and forward along the floor. Shapes (T, 3)."""
    up = _unit(points["shoulder"].mean(1) - points["hip"].mean(1))
    left = points["hip"][:, 0] - points["hip"][:, 1]
    forward = np.stack([left[..., 1], -left[..., 0], np.zeros(len(left))], -1)
    return up, _unit(forward)


# the robot's targets ---------------------------------------------------------------------------
@dataclass(frozen=True)
class Targets:
    """Where the robot's keypoints should be: world frame, m, wxyz. Keypoints without a target are zero.

    Attributes:
        pos: Shape (T, K, 3).
        quat: Of the keypoints' links. Shape (T, K, 4).
    """

    pos: np.ndarray
    quat: np.ndarray


def targets(points: Points, fixed: Proportions, robot: Robot) -> Targets:
    """Return the robot's targets. The root's path is scaled; its height is that of the scaled person."""
    segments = robot_segments(robot)
    frames = len(points["hip"])
    up, _ = _trunk(points)
    pelvis_quat = frame_quat(up, points["hip"][:, 0] - points["hip"][:, 1])
    torso_quat = frame_quat(up, points["shoulder"][:, 0] - points["shoulder"][:, 1])
    if fixed.trunk_lean:
        upright = quat_from_axis_angle(np.array([0.0, 1.0, 0.0]), np.array(-fixed.trunk_lean))
        pelvis_quat, torso_quat = quat_multiply(pelvis_quat, upright), quat_multiply(torso_quat, upright)

    hips_mid = fixed.scale * points["hip"].mean(1)
    pelvis = hips_mid - quat_rotate(pelvis_quat, segments.hips.mean(0))
    hips = pelvis[:, None] + quat_rotate(pelvis_quat[:, None], segments.hips)
    knees = hips + segments.thigh * _unit(points["knee"] - points["hip"])
    ankles = knees + segments.shin * _unit(points["ankle"] - points["knee"])
    torso = pelvis + quat_rotate(pelvis_quat, segments.torso)
    shoulders = torso[:, None] + quat_rotate(torso_quat[:, None], segments.shoulders)
    elbows = shoulders + segments.upper_arm * _unit(points["elbow"] - points["shoulder"])
    hands = elbows + segments.forearm * _unit(points["wrist"] - points["elbow"])
    low = lowness(ankles)
    ankles = knees + _shins_within_reach(ankles - knees, points, pelvis_quat, low, segments.ankle_roll)
    feet_quat = foot_quats(points, fixed, pelvis_quat, ankles - knees, low, segments)

    pos = np.zeros((frames, robot.num_keypoints, 3))
    quat = np.zeros((frames, robot.num_keypoints, 4))
    quat[..., 0] = 1.0
    for name, where, turn in (
        ("pelvis", pelvis, pelvis_quat),
        ("torso", torso, torso_quat),
        ("head", torso + quat_rotate(torso_quat, segments.head), torso_quat),
    ):
        idx = robot.keypoint_names.index(name)
        pos[:, idx], quat[:, idx] = where, turn
    for side, label in enumerate(SIDES):
        for part, places in (("knee", knees), ("ankle_roll", ankles), ("elbow", elbows), ("hand", hands)):
            pos[:, robot.keypoint_names.index(f"{label}_{part}")] = places[:, side]
        quat[:, robot.keypoint_names.index(f"{label}_ankle_roll")] = feet_quat[:, side]
    return Targets(pos, quat)


def foot_quats(
    points: Points,
    fixed: Proportions,
    pelvis_quat: np.ndarray,
    shin: np.ndarray,
    low: np.ndarray,
    segments: RobotSegments,
) -> np.ndarray:
    """Return the feet's orientations within reach of their ankles. Shape (T, 2, 4).

    The toes' direction gives pitch and yaw; without toes, a foot points where the pelvis faces, and is level. Roll is
    not seen by any source: a low foot lies level as far as its ankle rolls, one in the air goes with its shin. Less
    than `FLAT_FOOT` of pitch is taken for none.

    Args:
        points: Of the person.
        fixed: The person's proportions.
        pelvis_quat: Shape (T, 4).
        shin: From the robot's knees to its ankles. Shape (T, 2, 3).
        low: From `lowness`. Shape (T, 2).
        segments: The robot's.
    """
    up = _unit(-shin)
    toes = _toe_line(points, pelvis_quat)
    sideways = quat_rotate(pelvis_quat, np.array([0.0, 1.0, 0.0]))[:, None]
    left = np.cross(up, toes)  # as long as the toes are not in line with the shin
    left = _unit(left + np.maximum(0.0, 0.35 - np.linalg.norm(left, axis=-1, keepdims=True)) * 2.0 * sideways)
    if "toe" in points:
        toes = quat_rotate(
            quat_from_axis_angle(left, np.broadcast_to(-np.array(fixed.foot_drop), left.shape[:-1])), toes
        )
        drop = np.arcsin(np.clip(-toes[..., 2], -1.0, 1.0))
        toes = quat_rotate(quat_from_axis_angle(left, -np.clip(drop, -FLAT_FOOT, FLAT_FOOT)), toes)
    left = _unit(left - (left * up).sum(-1, keepdims=True) * up)
    leg_quat = frame_quat(up, left)
    in_leg = quat_rotate_inverse(leg_quat, toes)
    pitch = np.clip(np.arctan2(-in_leg[..., 2], in_leg[..., 0]), *segments.ankle_pitch)
    quat = quat_multiply(leg_quat, quat_from_axis_angle(np.array([0.0, 1.0, 0.0]), pitch))
    lean = np.arctan2(
        quat_rotate(quat, np.array([0.0, 1.0, 0.0]))[..., 2], quat_rotate(quat, np.array([0.0, 0.0, 1.0]))[..., 2]
    )
    roll = low * np.clip(-lean, -segments.ankle_roll, segments.ankle_roll)
    return quat_multiply(quat, quat_from_axis_angle(np.array([1.0, 0.0, 0.0]), roll))


def _toe_line(points: Points, pelvis_quat: np.ndarray) -> np.ndarray:
    """Unit vectors from ankle (or heel) to toes; where the pelvis faces when there are none. Shape (T, 2, 3)."""
    if "toe" in points:
        return _unit(points["toe"] - points.get("heel", points["ankle"]))
    forward = quat_rotate(quat_from_heading(heading(pelvis_quat)), np.array([1.0, 0.0, 0.0]))
    return forward[:, None].repeat(2, 1)


def lowness(ankles: np.ndarray) -> np.ndarray:
    """Return 1 for a foot no higher than the other, 0 for one that is 8 cm higher. Shape (T, 2, 3) to (T, 2)."""
    height = ankles[..., 2] - ankles[..., 2].min(-1, keepdims=True)
    return np.clip(1.0 - height / 0.08, 0.0, 1.0)


def _shins_within_reach(
    shin: np.ndarray, points: Points, pelvis_quat: np.ndarray, low: np.ndarray, reach: float
) -> np.ndarray:
    """Turn the shins of low feet so that their ankles can lay the soles level: a stance too wide gets narrower."""
    forward = _toe_line(points, pelvis_quat) * [1.0, 1.0, 0.0]
    axis = _unit(forward)
    up = _unit(-shin)
    side = np.stack([-axis[..., 1], axis[..., 0], np.zeros_like(axis[..., 0])], -1)
    lean = np.arctan2(-(up * side).sum(-1), np.maximum(up[..., 2], 1e-6))
    trusted = np.clip(np.linalg.norm(forward, axis=-1) / 0.5 - 0.5, 0.0, 1.0) * np.clip(
        up[..., 2] / 0.3 - 1.0, 0.0, 1.0
    )
    excess = low * trusted * (lean - np.clip(lean, -reach, reach))
    return quat_rotate(quat_from_axis_angle(axis, -excess), shin)


def frame_quat(up: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return the rotation whose z axis is ``up`` and whose y axis is as near to ``left`` as can be. Shapes (T, 3)."""
    z = _unit(up)
    y = left - (left * z).sum(-1, keepdims=True) * z
    y = _unit(y)
    x = np.cross(y, z)
    return quat_from_axes(x, y, z)


def quat_from_axes(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the rotations that take the world's axes to x, y, z (T, 3), each unit and at right angles. Shape (T, 4).

    The largest of the four components is taken from the diagonal, the others from it (Shepperd's method).
    """
    xx, yy, zz = x[..., 0], y[..., 1], z[..., 2]
    squared = np.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    best = squared.argmax(-1)
    wx, wy, wz = y[..., 2] - z[..., 1], z[..., 0] - x[..., 2], x[..., 1] - y[..., 0]
    xy, xz, yz = y[..., 0] + x[..., 1], z[..., 0] + x[..., 2], z[..., 1] + y[..., 2]
    rows = np.stack(
        [
            np.stack([squared[..., 0], wx, wy, wz], -1),
            np.stack([wx, squared[..., 1], xy, xz], -1),
            np.stack([wy, xy, squared[..., 2], yz], -1),
            np.stack([wz, xz, yz, squared[..., 3]], -1),
        ],
        -2,
    )
    quat = np.take_along_axis(rows, best[..., None, None], -2)[..., 0, :]
    return quat / np.linalg.norm(quat, axis=-1, keepdims=True)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-6)


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arccos(np.clip((_unit(a) * _unit(b)).sum(-1), -1.0, 1.0))
