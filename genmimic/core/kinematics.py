# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics of links and keypoints, with velocities; NumPy or torch, batched.

Links of equal depth are computed together, so the cost is six small array steps, not 24.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from genmimic.core.arrays import Array, array_namespace, constant_like
from genmimic.core.robot import Robot
from genmimic.core.rotation import cross, quat_multiply, quat_rotate


@dataclass(frozen=True)
class KeypointState:
    """Pose and velocity of the keypoints, in the frame of the root pose that was given.

    Attributes:
        pos: In m. Shape (..., K, 3).
        quat: Orientation of the keypoint's link, wxyz. Shape (..., K, 4).
        lin_vel: In m/s, or None. Shape (..., K, 3).
        ang_vel: In rad/s, or None. Shape (..., K, 3).
    """

    pos: Array
    quat: Array
    lin_vel: Array | None = None
    ang_vel: Array | None = None


@dataclass(frozen=True)
class _Level:
    """Links of one depth: where their parents stand in the level above, and their joints."""

    parent_idx: np.ndarray
    joint_idx: np.ndarray
    offset: np.ndarray  # (n, 3)
    quat: np.ndarray  # (n, 4)
    axis: np.ndarray  # (n, 3)


@dataclass(frozen=True)
class _Tree:
    levels: tuple[_Level, ...]
    to_link_order: np.ndarray
    keypoint_link_idx: np.ndarray
    keypoint_offset: np.ndarray  # (K, 3)
    sole_link_idx: np.ndarray
    sole_offset: np.ndarray  # (S, 3)
    sole_drop: np.ndarray  # (S, 3), from a sphere's centre to its lowest point on a level floor


@lru_cache(maxsize=8)
def _tree(robot: Robot) -> _Tree:
    depth: dict[str | None, int] = {None: -1}
    for link in robot.links:
        depth[link.name] = depth[link.parent] + 1
    joint_of = {joint.link: idx for idx, joint in enumerate(robot.joints)}
    levels = []
    above = [robot.links[0].name]
    order = list(above)
    for level in range(1, max(depth.values()) + 1):
        links = [link for link in robot.links if depth[link.name] == level]
        joint_idx = np.array([joint_of[link.name] for link in links])
        levels.append(
            _Level(
                parent_idx=np.array([above.index(str(link.parent)) for link in links]),
                joint_idx=joint_idx,
                offset=np.array([link.pos for link in links]),
                quat=np.array([np.array(link.quat) / np.linalg.norm(link.quat) for link in links]),
                axis=np.array([robot.joints[idx].axis for idx in joint_idx]),
            )
        )
        above = [link.name for link in links]
        order += above
    return _Tree(
        levels=tuple(levels),
        to_link_order=np.array([order.index(name) for name in robot.link_names]),
        keypoint_link_idx=robot.link_idx([keypoint.link for keypoint in robot.keypoints]),
        keypoint_offset=np.array([keypoint.offset for keypoint in robot.keypoints]),
        sole_link_idx=robot.link_idx([sole.link for sole in robot.soles]),
        sole_offset=np.array([sole.pos for sole in robot.soles]),
        sole_drop=np.array([(0.0, 0.0, -sole.radius) for sole in robot.soles]),
    )


def forward_kinematics(
    robot: Robot,
    root_pos: Array,
    root_quat: Array,
    joint_pos: Array,
    root_lin_vel: Array | None = None,
    root_ang_vel: Array | None = None,
    joint_vel: Array | None = None,
) -> KeypointState:
    """Return the keypoints for a root pose and joint angles; velocities when all three rates are given.

    Args:
        robot: The kinematic tree.
        root_pos: Pelvis position in m. Shape (..., 3).
        root_quat: Pelvis orientation, wxyz. Shape (..., 4).
        joint_pos: In rad. Shape (..., J).
        root_lin_vel: Pelvis velocity in m/s, same frame as ``root_pos``. Shape (..., 3).
        root_ang_vel: Pelvis angular velocity in rad/s, same frame. Shape (..., 3).
        joint_vel: In rad/s. Shape (..., J).
    """
    pos, quat, lin_vel, ang_vel = link_kinematics(
        robot, root_pos, root_quat, joint_pos, root_lin_vel, root_ang_vel, joint_vel
    )
    tree = _tree(robot)
    idx = constant_like(tree.keypoint_link_idx, root_pos)
    arm = quat_rotate(quat[..., idx, :], constant_like(tree.keypoint_offset, root_pos))
    if lin_vel is None or ang_vel is None:
        return KeypointState(pos[..., idx, :] + arm, quat[..., idx, :])
    return KeypointState(
        pos[..., idx, :] + arm,
        quat[..., idx, :],
        lin_vel[..., idx, :] + cross(ang_vel[..., idx, :], arm),
        ang_vel[..., idx, :],
    )


def link_kinematics(
    robot: Robot,
    root_pos: Array,
    root_quat: Array,
    joint_pos: Array,
    root_lin_vel: Array | None = None,
    root_ang_vel: Array | None = None,
    joint_vel: Array | None = None,
) -> tuple[Array, Array, Array | None, Array | None]:
    """Return position (..., L, 3), orientation (..., L, 4) and velocities of every link, in link order.

    Arguments as in `forward_kinematics`; the velocities are None unless all rates are given.
    """
    xp = array_namespace(root_pos, joint_pos)
    tree = _tree(robot)
    half = 0.5 * joint_pos
    cos, sin = xp.cos(half), xp.sin(half)
    with_velocity = root_lin_vel is not None and root_ang_vel is not None and joint_vel is not None

    pos, quat = [root_pos[..., None, :]], [root_quat[..., None, :]]
    lin_vel = [root_lin_vel[..., None, :]] if with_velocity else []  # type: ignore[index]
    ang_vel = [root_ang_vel[..., None, :]] if with_velocity else []  # type: ignore[index]
    for level in tree.levels:
        parent_idx = constant_like(level.parent_idx, root_pos)
        joint_idx = constant_like(level.joint_idx, root_pos)
        axis = constant_like(level.axis, root_pos)
        parent_quat = quat[-1][..., parent_idx, :]
        offset = quat_rotate(parent_quat, constant_like(level.offset, root_pos))
        turn = xp.concatenate([cos[..., joint_idx, None], sin[..., joint_idx, None] * axis], -1)
        pos.append(pos[-1][..., parent_idx, :] + offset)
        quat.append(quat_multiply(quat_multiply(parent_quat, constant_like(level.quat, root_pos)), turn))
        if with_velocity:
            parent_ang_vel = ang_vel[-1][..., parent_idx, :]
            lin_vel.append(lin_vel[-1][..., parent_idx, :] + cross(parent_ang_vel, offset))
            spin = joint_vel[..., joint_idx, None] * quat_rotate(quat[-1], axis)  # type: ignore[index]
            ang_vel.append(parent_ang_vel + spin)

    order = constant_like(tree.to_link_order, root_pos)

    def gather(parts: list[Array]) -> Array:
        return xp.concatenate(parts, -2)[..., order, :]

    if not with_velocity:
        return gather(pos), gather(quat), None, None
    return gather(pos), gather(quat), gather(lin_vel), gather(ang_vel)


def keypoints_in_base(robot: Robot, joint_pos: Array) -> Array:
    """Return the keypoints in the pelvis frame, in m. Shape (..., J) to (..., K, 3).

    Table 6, "local rigid body pos.".
    """
    xp = array_namespace(joint_pos)
    zero = xp.zeros_like(joint_pos[..., :3])
    identity = xp.concatenate([xp.ones_like(zero[..., :1]), zero], -1)
    return forward_kinematics(robot, zero, identity, joint_pos).pos


def sole_positions(robot: Robot, root_pos: Array, root_quat: Array, joint_pos: Array) -> Array:
    """Return the lowest point of each sole sphere, in m. Shape (..., S, 3); left foot first."""
    pos, quat, _, _ = link_kinematics(robot, root_pos, root_quat, joint_pos)
    return soles_of_links(robot, pos, quat)


def soles_of_links(robot: Robot, pos: Array, quat: Array) -> Array:
    """Return what `sole_positions` does, from links (or keypoints, which begin with the links) that are known.

    Shapes (..., L, 3) and (..., L, 4) to (..., S, 3).
    """
    tree = _tree(robot)
    idx = constant_like(tree.sole_link_idx, pos)
    centre = pos[..., idx, :] + quat_rotate(quat[..., idx, :], constant_like(tree.sole_offset, pos))
    return centre + constant_like(tree.sole_drop, pos)


def lowest_sole_height(robot: Robot, root_pos: Array, root_quat: Array, joint_pos: Array) -> Array:
    """Return the height in m of the lowest sole point above z = 0. Shape (...,)."""
    heights = sole_positions(robot, root_pos, root_quat, joint_pos)[..., 2]
    return heights.min(-1) if isinstance(heights, np.ndarray) else heights.amin(-1)
