# SPDX-License-Identifier: Apache-2.0
"""Gestures of our own making: arms from pose to pose, a swaying and bending body, now and then a step.

Real clips are few, and each shows few arm poses. A policy that tracked these clips alone meets everything
else for the first time on the robot; gestures drawn at random cover what arms can do, free of any licence.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import quat_from_heading, quat_from_rotation_vector, quat_multiply

if TYPE_CHECKING:
    from genmimic.retarget.ik import KeypointIk

# Ranges around which arm poses are drawn, left arm, rad: from behind the hip to overhead, elbows never overstretched.
_ARM_RANGE = {
    "shoulder_pitch": (-2.7, 0.8),
    "shoulder_roll": (0.05, 1.7),
    "shoulder_yaw": (-1.2, 1.2),
    "elbow": (-0.7, 1.6),
    "wrist_roll": (-1.2, 1.2),
}
_WAIST_RANGE_RAD = 0.7
_LIFT_M = 0.06
"""How high a foot is lifted in a step."""


@dataclass(frozen=True)
class GestureStyle:
    """How lively a gesture is.

    Attributes:
        move_s: Shortest and longest time from one arm pose to the next; 0.2 s is a punch.
        hold_s: Shortest and longest rest in a pose.
        sway_m: How far the pelvis strays from between the feet, in m.
        drop_m: How far the pelvis sinks below standing, in m.
        lean_rad: Largest roll, pitch and yaw of the pelvis.
        stance_m: How far each foot's place strays from that of standing, in m.
        step_every_s: Mean time between steps; 0 for none.
    """

    move_s: tuple[float, float] = (0.35, 1.4)
    hold_s: tuple[float, float] = (0.0, 0.8)
    sway_m: float = 0.03
    drop_m: float = 0.08
    lean_rad: float = 0.12
    stance_m: float = 0.05
    step_every_s: float = 0.0


STYLES = {
    "calm": GestureStyle(),
    "quick": GestureStyle(move_s=(0.18, 0.6), hold_s=(0.0, 0.3), stance_m=0.08),
    "deep": GestureStyle(drop_m=0.22, lean_rad=0.2, sway_m=0.04, stance_m=0.08),
    "boxing": GestureStyle(move_s=(0.18, 0.5), hold_s=(0.0, 0.3), drop_m=0.12, lean_rad=0.18, stance_m=0.18),
    "stepping": GestureStyle(move_s=(0.25, 1.0), stance_m=0.10, step_every_s=1.5),
}


def gesture(style: str, seed: int, duration_s: float = 15.0, robot: Robot = G1_23DOF) -> Motion:
    """Return a motion drawn at random; the same arguments give the same motion.

    Arms and waist go from pose to pose along minimum-jerk curves; the pelvis does so on its own; feet stand where
    they are, and in a step the body first moves over the other foot. Legs follow by inverse kinematics.

    Raises:
        ConfigError: There is no such style, or the duration is not from 2 to 600 s.
        MissingDependencyError: mink or daqp is not installed.
    """
    from genmimic.check.measure import centre_of_mass
    from genmimic.retarget.cleaning import gaussian_smooth

    frames = frames_of(style, STYLES, duration_s, shortest_s=2.0)
    how = STYLES[style]
    rng = np.random.default_rng([seed, *style.encode()])

    pose = arm_poses(robot, how, frames, rng)
    standing = np.array([0.0, 0.0, robot.standing_height]), np.array([1.0, 0.0, 0.0, 0.0])
    rest = forward_kinematics(robot, *standing, robot.default_joint_pos)
    feet = robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
    foot_pos, foot_yaw, weight = _feet(rest.pos[feet], how, frames, rng)
    middle = (weight[:, :, None] * foot_pos[..., :2]).sum(1)
    centre = rest.pos[0] - rest.pos[feet].mean(0)
    wander = _wander(frames, 7, (0.5, 2.0), rng)
    pelvis = np.concatenate([middle, np.zeros((frames, 1))], -1)
    pelvis[:, :2] += centre[:2] + how.sway_m * wander[:, :2]
    pelvis[:, 2] = rest.pos[0, 2] - how.drop_m * np.clip(0.5 + 0.8 * wander[:, 2], 0.0, 1.0) ** 2
    lean = quat_from_rotation_vector(how.lean_rad * wander[:, 3:6])
    pelvis_quat = quat_multiply(quat_from_heading(foot_yaw.mean(-1)), lean)

    target_pos = np.tile(rest.pos, (frames, 1, 1))
    target_quat = np.tile(rest.quat, (frames, 1, 1))
    target_pos[:, 0], target_quat[:, 0] = pelvis, pelvis_quat
    target_pos[:, feet] = foot_pos
    target_quat[:, feet] = quat_multiply(quat_from_heading(foot_yaw), rest.quat[feet])
    ik = body_over_feet(robot, place=4.0, attitude=1.0)
    root_pos, root_quat, joint_pos = ik.follow(target_pos, target_quat, pose)
    joint_pos = gaussian_smooth(joint_pos, 1.0)
    source = {"file": f"gesture:{style}:{seed}", "licence": "Apache-2.0", "credit": "GenMimic-ROS", "content": style}
    # balanced on average over each second: the body is moved over its feet by its own centre of mass
    ahead = centre_of_mass(robot, *standing, robot.default_joint_pos)[:2] - rest.pos[feet].mean(0)[:2]
    com = centre_of_mass(robot, root_pos, root_quat, joint_pos)[:, :2]
    shift = gaussian_smooth(middle + ahead - com, 0.4 * CONTROL_RATE_HZ)
    target_pos[:, 0, :2] = root_pos[:, :2] + shift + how.sway_m * wander[:, :2]
    root_pos, root_quat, joint_pos = ik.follow(target_pos, target_quat, pose)
    joint_pos = np.clip(gaussian_smooth(joint_pos, 1.0), robot.joint_lower, robot.joint_upper)
    return Motion.from_joints(robot, CONTROL_RATE_HZ, joint_pos, root_pos, root_quat, f"gesture_{style}_{seed}", source)


def frames_of(style: str, styles: Collection[str], duration_s: float, shortest_s: float) -> int:
    """Return how many frames a motion has that is to be made. Raises ConfigError when it cannot be."""
    if style not in styles:
        raise ConfigError(f"style is {style!r}, expected one of {', '.join(styles)}")
    if not shortest_s <= duration_s <= 600.0:
        raise ConfigError(f"duration_s is {duration_s:g}, expected {shortest_s:g} to 600")
    return round(duration_s * CONTROL_RATE_HZ) + 1


def body_over_feet(robot: Robot, place: float, attitude: float) -> KeypointIk:
    """Return inverse kinematics that keeps feet where they are, the pelvis as these weights say, arms in their pose."""
    from genmimic.retarget.ik import IkWeights, KeypointIk

    return KeypointIk(
        robot,
        IkWeights(
            position={"pelvis": place, "left_ankle_roll": 20.0, "right_ankle_roll": 20.0},
            orientation={"pelvis": attitude, "left_ankle_roll": 4.0, "right_ankle_roll": 4.0},
            rest=0.0,
            pose={"shoulder": 5.0, "elbow": 5.0, "wrist": 5.0, "waist": 5.0},
        ),
    )


def minimum_jerk(part: np.ndarray) -> np.ndarray:
    return part**3 * (10.0 - 15.0 * part + 6.0 * part**2)


def _wander(frames: int, size: int, seconds: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Return smooth random curves in -1 to 1 that begin at 0, each with its own rhythm. Shape (frames, size)."""
    curves = np.zeros((frames, size))
    for column in range(size):
        at, value = 0, 0.0
        while at < frames:
            count = round(rng.uniform(*seconds) * CONTROL_RATE_HZ)
            goal = rng.uniform(-1.0, 1.0)
            part = np.arange(1, count + 1) / count
            piece = value + (goal - value) * minimum_jerk(part)
            curves[at : at + count, column] = piece[: frames - at]
            at, value = at + count, goal
    return curves


def arm_poses(robot: Robot, how: GestureStyle, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return joint angles to lean to, legs as in standing. Shape (frames, J)."""
    import mujoco

    from genmimic.sim.mjcf import build_model

    model = build_model(robot, visuals=False, tether=False)
    data = mujoco.MjData(model)
    names = robot.joint_names
    pose = np.tile(robot.default_joint_pos, (frames, 1))
    waist = names.index("waist_yaw_joint")
    sides = {side: robot.joint_idx([f"{side}_{part}_joint" for part in _ARM_RANGE]) for side in ("left", "right")}
    low, high = np.array(list(_ARM_RANGE.values())).T
    sign = {"left": np.ones(5), "right": robot.joint_mirror_sign[sides["right"]]}

    def touches(joints: np.ndarray) -> bool:
        data.qpos[:7] = 0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0
        data.qpos[7 : 7 + robot.num_joints] = joints
        mujoco.mj_forward(model, data)
        return bool(data.ncon)

    at, now = 0, robot.default_joint_pos.copy()
    while at < frames:
        for _ in range(50):
            goal = now.copy()
            arms = rng.choice(["left", "right", "both", "alike"], p=[0.25, 0.25, 0.25, 0.25])
            drawn = rng.uniform(low, high)
            for side, idx in sides.items():
                if arms in (side, "both", "alike"):
                    drawn = drawn if arms == "alike" else rng.uniform(low, high)
                    goal[idx] = sign[side] * drawn
                elif rng.random() < 0.3:
                    goal[idx] = robot.default_joint_pos[idx]
            goal[waist] = rng.uniform(-1.0, 1.0) * _WAIST_RANGE_RAD * rng.random()
            between = now + np.linspace(0.0, 1.0, 6)[1:, None] * (goal - now)
            if not any(touches(joints) for joints in between):
                break
        else:
            goal = robot.default_joint_pos.copy()
        fastest = np.abs(goal - now).max() * 1.875 / (0.55 * robot.joint_speed.min())  # of a minimum-jerk curve
        count = round(max(rng.uniform(*how.move_s), fastest) * CONTROL_RATE_HZ)
        hold = round(rng.uniform(*how.hold_s) * CONTROL_RATE_HZ)
        piece = now + minimum_jerk(np.arange(1, count + 1) / count)[:, None] * (goal - now)
        piece = np.concatenate([piece, np.tile(goal, (hold, 1))])
        pose[at : at + len(piece)] = piece[: frames - at]
        at, now = at + len(piece), goal
    return pose


def _feet(
    rest: np.ndarray, how: GestureStyle, frames: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ankles' places (frames, 2, 3), headings (frames, 2) and shares of the body's weight (frames, 2)."""

    def place(foot: int) -> tuple[np.ndarray, float]:
        offset = rng.uniform(-1.0, 1.0, 2) * how.stance_m * np.array([1.5, 0.6])
        outward = 1.0 if foot == 0 else -1.0
        offset[1] = outward * abs(offset[1])  # never narrower than standing
        return rest[foot] + [*offset, 0.0], outward * rng.uniform(0.0, 0.25)

    pos, yaw = np.tile(rest, (frames, 1, 1)), np.zeros((frames, 2))
    weight = np.full((frames, 2), 0.5)
    for foot in range(2):
        where, turned = place(foot)
        pos[:, foot], yaw[:, foot] = where, turned
    if how.step_every_s <= 0.0:
        return pos, yaw, weight
    shift, swing = round(0.45 * CONTROL_RATE_HZ), round(0.4 * CONTROL_RATE_HZ)
    at = round(rng.uniform(0.5, 1.0) * CONTROL_RATE_HZ)
    while at + 2 * shift + swing < frames:
        foot = int(rng.integers(2))
        where, turned = place(foot)
        over = 0.5 + 0.35 * minimum_jerk(np.arange(1, shift + 1) / shift)
        curve = np.concatenate([over, np.full(swing, 0.85), over[::-1]])
        weight[at : at + len(curve), 1 - foot], weight[at : at + len(curve), foot] = curve, 1.0 - curve
        part = np.arange(1, swing + 1) / swing
        lift, land = at + shift, at + shift + swing
        pos[lift:land, foot] += minimum_jerk(part)[:, None] * (where - pos[lift, foot])
        pos[lift:land, foot, 2] += _LIFT_M * np.sin(np.pi * part) ** 2
        yaw[lift:land, foot] += minimum_jerk(part) * (turned - yaw[lift, foot])
        pos[land:, foot], yaw[land:, foot] = where, turned
        at = land + shift + round(rng.exponential(how.step_every_s) * CONTROL_RATE_HZ)
    return pos, yaw, weight
