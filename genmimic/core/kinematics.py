# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics of links and keypoints, with velocities; NumPy or torch, batched.

Only orientations go down the tree, links of equal depth together. Positions and velocities are sums along each link's
path from the root, and thus one product with a constant matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from genmimic.core.arrays import Array, array_namespace, constant_like, take_rows
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
class _Tree:
    """A robot as arrays, one row a joint; every link but the root hangs on exactly one joint.

    Attributes:
        levels: For each depth below the root: where the parents stand in the level above, and the joints.
        to_link_order: From links sorted by depth to the robot's order.
        link_idx, parent_idx: Of the link behind each joint, and of the one before it. Shape (J,).
        offset, quat, axis: Of that link in its parent's frame; the axis in its own. Shapes (J, 3), (J, 4), (J, 3).
        path_to_link: 1 where a joint lies between the root and a link. Shape (J, L).
        sole_drop: From the centre of a sole's sphere to its lowest point on a level floor. Shape (S, 3).
    """

    levels: tuple[tuple[np.ndarray, np.ndarray], ...]
    to_link_order: np.ndarray
    link_idx: np.ndarray
    parent_idx: np.ndarray
    offset: np.ndarray
    quat: np.ndarray
    axis: np.ndarray
    path_to_link: np.ndarray
    keypoint_link_idx: np.ndarray
    keypoint_offset: np.ndarray  # (K, 3)
    sole_link_idx: np.ndarray
    sole_offset: np.ndarray  # (S, 3)
    sole_drop: np.ndarray


@lru_cache(maxsize=8)
def _tree(robot: Robot) -> _Tree:
    names, links = robot.link_names, {link.name: link for link in robot.links}
    joint_of = {joint.link: idx for idx, joint in enumerate(robot.joints)}
    paths: dict[str, tuple[str, ...]] = {}  # from the root, excluded, to the link, included
    for name in names:  # parents come first
        parent = links[name].parent
        paths[name] = () if parent is None else (*paths[parent], name)

    above = [robot.links[0].name]
    order, levels = list(above), []
    for depth in range(1, max(map(len, paths.values())) + 1):
        level = [name for name in names if len(paths[name]) == depth]
        parents = np.array([above.index(str(links[name].parent)) for name in level])
        levels.append((parents, np.array([joint_of[name] for name in level])))
        above = level
        order += level

    path_to_link = np.zeros((robot.num_joints, len(names)))
    for column, name in enumerate(names):
        path_to_link[[joint_of[link] for link in paths[name]], column] = 1.0
    moved = [links[joint.link] for joint in robot.joints]
    return _Tree(
        levels=tuple(levels),
        to_link_order=np.array([order.index(name) for name in names]),
        link_idx=robot.link_idx([link.name for link in moved]),
        parent_idx=robot.link_idx([str(link.parent) for link in moved]),
        offset=np.array([link.pos for link in moved]),
        quat=np.array([np.array(link.quat) / np.linalg.norm(link.quat) for link in moved]),
        axis=np.array([joint.axis for joint in robot.joints]),
        path_to_link=path_to_link,
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
    idx = tree.keypoint_link_idx
    quat = take_rows(quat, idx)
    arm = quat_rotate(quat, constant_like(tree.keypoint_offset, root_pos))
    pos = take_rows(pos, idx) + arm
    if lin_vel is None or ang_vel is None:
        return KeypointState(pos, quat)
    ang_vel = take_rows(ang_vel, idx)
    return KeypointState(pos, quat, take_rows(lin_vel, idx) + cross(ang_vel, arm), ang_vel)


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

    def const(value: np.ndarray) -> Array:
        return constant_like(value, root_pos)

    half = 0.5 * joint_pos[..., None]
    axis = const(tree.axis)
    turn = quat_multiply(const(tree.quat), xp.concatenate([xp.cos(half), xp.sin(half) * axis], -1))
    level_quat = [root_quat[..., None, :]]
    for parents, joints in tree.levels:
        level_quat.append(quat_multiply(take_rows(level_quat[-1], parents), take_rows(turn, joints)))
    quat = take_rows(xp.concatenate(level_quat, -2), tree.to_link_order)

    def along_path(root: Array, steps: Array) -> Array:
        """Return the root's value plus the sum of ``steps`` (..., J, 3) up to each link. Shape (..., L, 3)."""
        sums = steps.swapaxes(-1, -2) @ const(tree.path_to_link)  # one large product; the other way round is many small
        return root[..., None, :] + sums.swapaxes(-1, -2)

    offset = quat_rotate(take_rows(quat, tree.parent_idx), const(tree.offset))
    pos = along_path(root_pos, offset)
    if root_lin_vel is None or root_ang_vel is None or joint_vel is None:
        return pos, quat, None, None
    ang_vel = along_path(root_ang_vel, joint_vel[..., None] * quat_rotate(take_rows(quat, tree.link_idx), axis))
    lin_vel = along_path(root_lin_vel, cross(take_rows(ang_vel, tree.parent_idx), offset))
    return pos, quat, lin_vel, ang_vel


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
    arm = quat_rotate(take_rows(quat, tree.sole_link_idx), constant_like(tree.sole_offset, pos))
    centre = take_rows(pos, tree.sole_link_idx) + arm
    return centre + constant_like(tree.sole_drop, pos)


def lowest_sole_height(robot: Robot, root_pos: Array, root_quat: Array, joint_pos: Array) -> Array:
    """Return the height in m of the lowest sole point above z = 0. Shape (...,)."""
    heights = sole_positions(robot, root_pos, root_quat, joint_pos)[..., 2]
    return heights.min(-1) if isinstance(heights, np.ndarray) else heights.amin(-1)
