# SPDX-License-Identifier: Apache-2.0
"""Bring any human motion to the robot: bone directions from the person, segment lengths and limits from the robot.

    50 Hz -> targets -> onto the floor -> contacts, feet held still and level -> IK -> smooth -> feet again

The same targets and the same IK serve whole clips (`retarget_human`) and live sources (`StreamingRetargeter`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.core.human import HumanMotion
from genmimic.core.kinematics import forward_kinematics, sole_positions
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import quat_rotate
from genmimic.retarget import cleaning
from genmimic.retarget.human_pose import Proportions, Targets, paired_points, proportions, targets
from genmimic.retarget.ik import IkWeights, KeypointIk

HUMAN_WEIGHTS = IkWeights(
    position={
        "pelvis": 3.0,
        "left_knee": 2.0, "right_knee": 2.0,
        "left_ankle_roll": 12.0, "right_ankle_roll": 12.0,
        "left_elbow": 1.5, "right_elbow": 1.5,
        "left_hand": 2.0, "right_hand": 2.0,
    },
    orientation={"pelvis": 0.8, "torso": 1.0, "left_ankle_roll": 1.5, "right_ankle_roll": 1.5},
    rest=0.0,
    pose={"wrist": 0.5, "hip_yaw": 0.05, "shoulder": 0.03, "waist": 0.05},
    rest_pose=0.01,
    damping=4e-3,
)  # fmt: skip
"""Feet first, then hands; wrist roll is unobservable and pulled to the middle. Hip and shoulder yaw cannot be seen when
a limb is straight, and are pulled a little."""

POLISH_WEIGHTS = IkWeights(
    position={"pelvis": 4.0, "left_ankle_roll": 20.0, "right_ankle_roll": 20.0},
    orientation={"pelvis": 1.0, "left_ankle_roll": 3.0, "right_ankle_roll": 3.0},
    rest=0.0,
    rest_pose=0.5,
    damping=1e-4,
)
"""After smoothing: stay at the smoothed pose, except for what it takes to bring the feet back to where they stood."""

CLEARANCE_M = 0.015
"""Kept between arms and body, between the arms and between the legs."""

HIP_YAW_MAX = 1.4
"""Turn of a leg about itself in rad, to either side; no person turns further, and beyond it lie poses with the knee
pointing backwards."""

SPEED_FRACTION = 0.6
"""Of the motors' speed."""

ROOT_DRAW_S = 0.08
"""Time constant over which the pelvis gives way to its feet: seen in a whole clip, before it must."""

LOCK_RAMP_S = 0.08
"""Time in which a foot comes to hold still, and lets go."""

MIN_DURATION_S = 0.2


@dataclass(frozen=True)
class HumanRetargetReport:
    """How well a person's motion came over. Lengths in cm, speeds in rad/s and cm/s.

    Attributes:
        error_cm: Mean distance of hands, elbows, knees and ankles from their targets, pelvis aligned.
        error_p95_cm: Its 95th percentile.
        hands_cm: Mean over both hands; ``feet_cm`` over both ankles.
        scale: Length on the robot per length on the person.
        max_joint_speed: Of the robot's joints.
        skate_cm_s: Mean sideways speed of standing feet.
        sole_min_cm: Lowest sole point over the clip; ``sole_median_cm`` and ``sole_max_cm`` of its lowest per frame.
        contact_share: Share of the frames in which the left, the right foot stands.
        flight_frames: Frames taken for jumps.
        bridged_share: Share of joints and frames that the source was not sure of (confidence below 0.3).
    """

    error_cm: float
    error_p95_cm: float
    hands_cm: float
    feet_cm: float
    scale: float
    max_joint_speed: float
    skate_cm_s: float
    sole_min_cm: float
    sole_median_cm: float
    sole_max_cm: float
    contact_share: tuple[float, float]
    flight_frames: int
    bridged_share: float


@dataclass(frozen=True)
class HumanRetarget:
    """A retargeted clip and what was found on the way, for reports and pictures.

    Attributes:
        motion: On the robot, at 50 Hz.
        report: How well it came over.
        targets: What was asked of the inverse kinematics, per frame of ``motion``.
        contacts: Which foot stands when, left first. Shape (T, 2).
        flight: Frames taken for jumps. Shape (T,).
    """

    motion: Motion
    report: HumanRetargetReport
    targets: Targets
    contacts: np.ndarray
    flight: np.ndarray


def retarget_human(
    person: HumanMotion, robot: Robot = G1_23DOF, weights: IkWeights = HUMAN_WEIGHTS, iterations: int = 2
) -> HumanRetarget:
    """Return the person's motion on the robot at 50 Hz, starting at the origin and facing x.

    Raises:
        MotionError: A joint that is needed is missing, the legs have no length, or the clip is shorter than 0.2 s.
        MissingDependencyError: daqp or mujoco is not installed.
    """
    rate = CONTROL_RATE_HZ
    if person.duration < MIN_DURATION_S:
        raise MotionError(f"{person.name}: lasts {person.duration:.2f} s, expected at least {MIN_DURATION_S:g} s")
    points = paired_points(person)
    fixed = proportions(points, robot)
    at = np.minimum(np.arange(int(np.floor(person.duration * rate + 1e-6)) + 1) * person.fps / rate, len(person) - 1.0)
    points = {name: cleaning.interpolate(path, at) for name, path in points.items()}
    wanted = targets(points, fixed, robot)
    wanted, contacts, flight = grounded(wanted, robot, rate)

    ik = KeypointIk(robot, weights, rate, iterations, SPEED_FRACTION, clearance=CLEARANCE_M, hip_yaw_max=HIP_YAW_MAX)
    root_pos, root_quat, joints = ik.follow(wanted.pos, wanted.quat)
    root_pos, root_quat, joints = finished(robot, root_pos, root_quat, joints, contacts, flight, rate, wanted.pos[:, 0])
    motion = Motion.from_joints(robot, rate, joints, root_pos, root_quat, person.name)
    report = _report(robot, motion, wanted, contacts, flight, fixed, person)
    motion = Motion.from_joints(robot, rate, joints, root_pos, root_quat, person.name, _origin(person, report))
    return HumanRetarget(motion, report, wanted, contacts, flight)


def _origin(person: HumanMotion, report: HumanRetargetReport) -> dict[str, Any]:
    from genmimic.retarget.g1_to_g1 import versions

    carried = {key: person.source[key] for key in ("repo", "commit", "licence", "credit", "content", "file", "path")
               if key in person.source}  # fmt: skip
    return {
        **carried,
        "human": {"name": person.name, "fps": person.fps, "joints": len(person.joint_names), **dict(person.source)},
        "changes": "retargeted from a human motion to the 23-joint G1, resampled to 50 Hz, put on the floor, smoothed",
        "retarget": asdict(report),
        "versions": versions(),
    }


# feet and floor --------------------------------------------------------------------------------
def feet_of(robot: Robot) -> np.ndarray:
    """Return the keypoint indices of both feet, left first."""
    return robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])


def sole_offsets(robot: Robot) -> np.ndarray:
    """Return the lowest points of each foot's spheres in the foot's frame. Shape (2, S, 3), left first."""
    sides = [[sole for sole in robot.soles if sole.link.startswith(side)] for side in ("left", "right")]
    return np.array([[(*sole.pos[:2], sole.pos[2] - sole.radius) for sole in side] for side in sides])


def soles_at(ankle_pos: np.ndarray, ankle_quat: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the sole points of both feet. Shapes (T, 2, 3), (T, 2, 4), (2, S, 3) to (T, 2, S, 3)."""
    return ankle_pos[:, :, None] + quat_rotate(ankle_quat[:, :, None], offset)


def grounded(wanted: Targets, robot: Robot, rate_hz: float) -> tuple[Targets, np.ndarray, np.ndarray]:
    """Return targets on the floor with standing feet held still and level, contacts (T, 2) and flights (T,)."""
    pos, quat = wanted.pos.copy(), wanted.quat.copy()
    feet, offset = feet_of(robot), sole_offsets(robot)
    used = np.flatnonzero((pos != 0.0).any((0, 2)))
    lowest = soles_at(pos[:, feet], quat[:, feet], offset)[..., 2].min((1, 2))
    flight = cleaning.flight_frames(lowest, pos[:, used, 2].mean(-1), rate_hz)
    pos[:, used, 2] += cleaning.floor_correction(lowest, flight, sigma=2.0)[:, None]
    contacts = cleaning.foot_contacts(soles_at(pos[:, feet], quat[:, feet], offset), rate_hz)
    contacts[flight] = False
    ankle_pos, ankle_quat = cleaning.lock_feet(
        pos[:, feet], quat[:, feet], offset, contacts, rate_hz, ramp_s=LOCK_RAMP_S
    )
    # the body goes with the feet that stand, or the legs would stretch and the arms lag behind
    change = ankle_pos - pos[:, feet]
    shift = np.stack([cleaning.stance_change(change[..., axis], contacts, 0.1 * rate_hz) for axis in range(3)], -1)
    pos[:, used] += shift[:, None]
    ankle_pos += np.where(contacts[..., None], 0.0, shift[:, None])
    ankle_pos[..., 2] += np.maximum(0.0, -soles_at(ankle_pos, ankle_quat, offset)[..., 2].min(-1))
    pos[:, feet], quat[:, feet] = ankle_pos, ankle_quat
    return Targets(pos, quat), contacts, flight


def finished(
    robot: Robot,
    root_pos: np.ndarray,
    root_quat: np.ndarray,
    joint_pos: np.ndarray,
    contacts: np.ndarray,
    flight: np.ndarray,
    rate_hz: float,
    wanted_root_pos: np.ndarray,
    sigma: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth a whole clip over ``sigma`` frames, then bring the standing feet back to where they stood.

    Where a locked foot or a limit drew the pelvis away from ``wanted_root_pos`` (T, 3), it goes there and back gently.

    Returns root position (T, 3), orientation (T, 4) and joints (T, J).
    """
    drawn = cleaning.gaussian_smooth(root_pos - wanted_root_pos, ROOT_DRAW_S * rate_hz)
    root_pos = cleaning.gaussian_smooth(wanted_root_pos, sigma) + drawn
    root_quat = cleaning.smooth_quat(root_quat, sigma)
    joint_pos = np.clip(cleaning.gaussian_smooth(joint_pos, sigma), robot.joint_lower, robot.joint_upper)
    feet, offset = feet_of(robot), sole_offsets(robot)
    state = forward_kinematics(robot, root_pos, root_quat, joint_pos)
    pos, quat = state.pos.copy(), state.quat.copy()
    lowest = soles_at(pos[:, feet], quat[:, feet], offset)[..., 2].min((1, 2))
    lift = cleaning.floor_correction(lowest, flight, sigma=1.5)
    pos[..., 2] += lift[:, None]
    ankle_pos, ankle_quat = cleaning.lock_feet(
        pos[:, feet], quat[:, feet], offset, contacts, rate_hz, ramp_s=LOCK_RAMP_S
    )
    ankle_pos[..., 2] += np.maximum(0.0, -soles_at(ankle_pos, ankle_quat, offset)[..., 2].min(-1))
    pos[:, feet], quat[:, feet] = ankle_pos, ankle_quat
    ik = KeypointIk(robot, POLISH_WEIGHTS, rate_hz, 1, SPEED_FRACTION)
    return ik.follow(pos, quat, joint_pos)


# report ----------------------------------------------------------------------------------------
_JUDGED = tuple(f"{side}_{part}" for part in ("knee", "ankle_roll", "elbow", "hand") for side in ("left", "right"))


def _report(
    robot: Robot,
    motion: Motion,
    wanted: Targets,
    contacts: np.ndarray,
    flight: np.ndarray,
    fixed: Proportions,
    person: HumanMotion,
) -> HumanRetargetReport:
    def error(*names: str) -> np.ndarray:
        idx = robot.keypoint_idx(names)
        ours = motion.keypoint_pos[:, idx] - motion.keypoint_pos[:, :1]
        return 100.0 * np.linalg.norm(ours - (wanted.pos[:, idx] - wanted.pos[:, :1]), axis=-1)

    every = error(*_JUDGED)
    soles = sole_positions(robot, motion.root_pos, motion.root_quat, motion.joint_pos).reshape(len(motion), 2, -1, 3)
    height = 100.0 * soles[..., 2].min((1, 2))
    share = contacts.mean(0)

    def short(value: float, digits: int = 2) -> float:
        return round(float(value), digits)

    return HumanRetargetReport(
        error_cm=short(every.mean()),
        error_p95_cm=short(np.percentile(every, 95)),
        hands_cm=short(error("left_hand", "right_hand").mean()),
        feet_cm=short(error("left_ankle_roll", "right_ankle_roll").mean()),
        scale=short(fixed.scale, 4),
        max_joint_speed=short(np.abs(np.diff(motion.joint_pos, axis=0)).max() * motion.fps),
        skate_cm_s=short(100.0 * cleaning.skating(soles, contacts, motion.fps)),
        sole_min_cm=short(height.min()),
        sole_median_cm=short(np.median(height)),
        sole_max_cm=short(height.max()),
        contact_share=(short(share[0]), short(share[1])),
        flight_frames=int(flight.sum()),
        bridged_share=short(float((person.confidence < 0.3).mean()), 3),
    )
