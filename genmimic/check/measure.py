# SPDX-License-Identifier: Apache-2.0
"""What a motion asks of the robot, frame by frame, without simulating it: curves that the gate judges and plots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from genmimic.core.kinematics import link_kinematics, sole_positions
from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.core.rotation import quat_rotate
from genmimic.retarget import cleaning

GRAVITY = 9.81


@dataclass(frozen=True)
class Curves:
    """Measurements over time; T frames, J joints. Lengths in m, speeds in m/s and rad/s.

    Attributes:
        t: Time in s. Shape (T,).
        limit_margin: Distance of each joint from the nearer end of its range, in rad; negative beyond. Shape (T, J).
        joint_speed: Shape (T, J).
        joint_accel: In rad/s^2. Shape (T, J).
        jitter: Shaking from frame to frame, in rad: distance of a joint from its smoothed path where that changes
            sides with every frame. Shape (T, J).
        root_speed: Of the pelvis. Shape (T,).
        root_jump: How far the pelvis left the path of its neighbours, per frame. Shape (T,).
        sole_height: Lowest point of each sole. Shape (T, 2), left first.
        contacts: Whether each foot stands. Shape (T, 2).
        slide: Sideways speed of each standing foot; 0 in the air. Shape (T, 2).
        flight: Frames of a jump. Shape (T,).
        support_excess: How far the point of balance lies outside the feet that stand; negative inside, NaN when none
            does. Shape (T,).
        overlap: How deep parts of the robot are in each other. Shape (T,).
        held: Frames that repeat the one before while the motion goes on. Shape (T,).
    """

    t: np.ndarray
    limit_margin: np.ndarray
    joint_speed: np.ndarray
    joint_accel: np.ndarray
    jitter: np.ndarray
    root_speed: np.ndarray
    root_jump: np.ndarray
    sole_height: np.ndarray
    contacts: np.ndarray
    slide: np.ndarray
    flight: np.ndarray
    support_excess: np.ndarray
    overlap: np.ndarray
    held: np.ndarray


def measure(robot: Robot, motion: Motion) -> Curves:
    """Return the curves of ``motion``, which has at least five frames."""
    fps, joint_pos, root_pos = motion.fps, motion.joint_pos, motion.root_pos
    count = len(motion)
    step = np.diff(joint_pos, axis=0) * fps
    speed = np.abs(np.concatenate([step[:1], step]))
    accel = np.zeros_like(joint_pos)
    accel[1:-1] = np.abs(np.diff(joint_pos, 2, axis=0)) * fps**2
    root_step = np.linalg.norm(np.diff(root_pos, axis=0), axis=-1)
    soles = sole_positions(robot, root_pos, motion.root_quat, joint_pos).reshape(count, 2, -1, 3)
    height = soles[..., 2].min(-1)
    flight = cleaning.flight_frames(height.min(-1), motion.keypoint_pos[..., 2].mean(-1), fps)
    contacts = standing_feet(soles, height, flight, fps)
    slide = np.zeros((count, 2))
    slide[1:] = np.linalg.norm(np.diff(soles, axis=0)[..., :2], axis=-1).min(-1) * fps
    slide[~contacts] = 0.0
    slide[1:][~contacts[:-1]] = 0.0
    return Curves(
        t=np.arange(count) / fps,
        limit_margin=np.minimum(joint_pos - robot.joint_lower, robot.joint_upper - joint_pos),
        joint_speed=speed,
        joint_accel=accel,
        jitter=shaking(joint_pos, fps),
        root_speed=np.concatenate([root_step[:1], root_step]) * fps,
        root_jump=root_jumps(root_pos),
        sole_height=height,
        contacts=contacts,
        slide=slide,
        flight=flight,
        support_excess=_support_excess(robot, motion, soles, contacts),
        overlap=overlaps(robot, motion),
        held=held_frames(motion),
    )


def standing_feet(soles: np.ndarray, height: np.ndarray, flight: np.ndarray, fps: float) -> np.ndarray:
    """Return when which foot is meant to stand: the lower one outside flights, and the other when as low and slow.

    Whether a foot *slides* is judged with this, so speed alone must not decide. Shapes (T, 2, S, 3), (T, 2), (T,).
    """
    speed = np.linalg.norm(np.gradient(cleaning.gaussian_smooth(soles, 0.03 * fps), 1.0 / fps, axis=0), axis=-1).min(-1)
    floor = height.min(-1, keepdims=True)
    contacts: np.ndarray = (height - floor < 0.025) & (speed < 0.5)
    contacts[flight] = False
    for foot in range(2):
        for first, end in cleaning.runs(contacts[:, foot]):
            if (end - first) / fps < 0.1:
                contacts[first:end, foot] = False
    return contacts


def shaking(joint_pos: np.ndarray, fps: float) -> np.ndarray:
    """Return how far each joint is from its smoothed path where it changes sides every frame. Shape (T, J)."""
    off = joint_pos - cleaning.gaussian_smooth(joint_pos, 0.02 * fps)
    both = np.minimum(np.abs(off[1:]), np.abs(off[:-1])) * (off[1:] * off[:-1] < 0.0)
    return np.concatenate([both[:1], both])


def root_jumps(root_pos: np.ndarray) -> np.ndarray:
    """Return how much longer each step of the root is than the steps around it, in m. Shape (T, 3) to (T,)."""
    step = np.diff(root_pos, axis=0)
    around = np.stack([np.roll(step, shift, 0) for shift in (-3, -2, 2, 3)])
    usual = np.median(around, 0)
    jump = np.zeros(len(root_pos))
    jump[1:] = np.linalg.norm(step - usual, axis=-1)
    return jump


def held_frames(motion: Motion) -> np.ndarray:
    """Return which frames repeat the frame before while the motion goes on around them. Shape (T,)."""
    same: np.ndarray = np.zeros(len(motion), bool)
    change = np.abs(np.diff(motion.joint_pos, axis=0)).max(-1) + np.abs(np.diff(motion.root_pos, axis=0)).max(-1)
    same[1:] = change < 1e-7
    moving = cleaning.gaussian_smooth(np.concatenate([[0.0], change]), 5.0) * motion.fps > 0.2
    for first, end in cleaning.runs(same):
        after = change[end - 1] * motion.fps if end - 1 < len(change) else 0.0
        if end - first > 0.3 * motion.fps or after < 1.0:  # a pause, not a gap
            same[first:end] = False
    return same & moving


# balance ---------------------------------------------------------------------------------------
def centre_of_mass(robot: Robot, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray) -> np.ndarray:
    """Return the centre of mass, in m, world. Shape (T, 3)."""
    pos, quat, _, _ = link_kinematics(robot, root_pos, root_quat, joint_pos)
    mass = np.array([link.mass for link in robot.links])
    com = pos + quat_rotate(quat, np.array([link.com for link in robot.links]))
    return (com * mass[:, None]).sum(-2) / mass.sum()


def _support_excess(robot: Robot, motion: Motion, soles: np.ndarray, contacts: np.ndarray) -> np.ndarray:
    """Distance of the zero-moment point of a point mass from the standing soles' hull."""
    fps = motion.fps
    com = cleaning.gaussian_smooth(
        centre_of_mass(robot, motion.root_pos, motion.root_quat, motion.joint_pos), 0.06 * fps
    )
    accel = np.gradient(np.gradient(com, 1.0 / fps, axis=0), 1.0 / fps, axis=0)
    accel = np.clip(accel, -GRAVITY, GRAVITY)
    upward = np.maximum(accel[:, 2] + GRAVITY, 0.3 * GRAVITY)
    point = com[:, :2] - (com[:, 2] / upward)[:, None] * accel[:, :2]
    excess = np.full(len(motion), np.nan)
    for frame in np.flatnonzero(contacts.any(-1)):
        excess[frame] = outside(point[frame], soles[frame][contacts[frame]].reshape(-1, 3)[:, :2])
    return excess


def outside(point: np.ndarray, corners: np.ndarray) -> float:
    """Return the distance in m of ``point`` (2,) from the hull of ``corners`` (n, 2); negative inside."""
    hull = convex_hull(corners)
    if len(hull) < 3:
        return float(np.linalg.norm(corners - point, axis=-1).min())
    edge = np.roll(hull, -1, 0) - hull
    to_point = point - hull
    length = np.maximum(np.linalg.norm(edge, axis=-1), 1e-9)
    signed = (edge[:, 1] * to_point[:, 0] - edge[:, 0] * to_point[:, 1]) / length  # positive: right of the edge
    if signed.max() <= 0.0:
        return float(signed.max())
    along = np.clip((to_point * edge).sum(-1) / length**2, 0.0, 1.0)
    return float(np.linalg.norm(to_point - along[:, None] * edge, axis=-1).min())


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Return the corners of the hull of ``points`` (n, 2), counter-clockwise (Andrew's monotone chain)."""
    ordered = [tuple(point) for point in points[np.lexsort((points[:, 1], points[:, 0]))]]

    def half(items: list) -> list:  # type: ignore[type-arg]
        chain: list = []
        for item in items:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (item[1] - chain[-2][1])
                - (chain[-1][1] - chain[-2][1]) * (item[0] - chain[-2][0])
            ) <= 0:  # fmt: skip
                chain.pop()
            chain.append(item)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


# self-collision --------------------------------------------------------------------------------
@lru_cache(maxsize=2)
def _collision_model(robot: Robot):  # noqa: ANN202
    from genmimic.sim.mjcf import build_model

    model = build_model(robot, visuals=False, fall_contact=False, tether=False)
    model.geom_contype[model.geom("floor").id] = 0
    return model


def overlaps(robot: Robot, motion: Motion) -> np.ndarray:
    """Return how deep parts of the robot are in each other, in m. Shape (T,). Parts are the simulator's shapes."""
    import mujoco

    model = _collision_model(robot)
    data = mujoco.MjData(model)
    deep = np.zeros(len(motion))
    qpos = np.concatenate([motion.root_pos, motion.root_quat, motion.joint_pos], -1)
    for frame, pose in enumerate(qpos):
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        if data.ncon:
            deep[frame] = max(0.0, -float(data.contact.dist.min()))
    return deep
