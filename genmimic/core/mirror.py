# SPDX-License-Identifier: Apache-2.0
"""The bilateral symmetry of the robot, T_s and T_a of Eq. 3, as an index and a sign per number.

``mirrored = sign * x[..., index]``. The mirror is the x-z plane: polar vectors flip y, axial
vectors flip x and z, and left and right change places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genmimic.core.arrays import Array, constant_like
from genmimic.core.errors import ConfigError
from genmimic.core.observation import MASS_GROUPS, Term
from genmimic.core.robot import Robot, other_side

_POLAR = np.array([1.0, -1.0, 1.0])
_AXIAL = np.array([-1.0, 1.0, -1.0])
_QUAT = np.array([1.0, -1.0, 1.0, -1.0])
_SWAP_FEET = np.array([1, 0])


@dataclass(frozen=True)
class MirrorMap:
    """A signed permutation. ``index`` and ``sign`` have shape (n,)."""

    index: np.ndarray
    sign: np.ndarray

    def __call__(self, values: Array) -> Array:
        """Return the mirrored values. Shape (..., n)."""
        return values[..., constant_like(self.index, values)] * constant_like(self.sign, values)


def action_mirror(robot: Robot) -> MirrorMap:
    """Return T_a: the mirror of an action or of any joint vector. Shape (J,)."""
    return MirrorMap(robot.joint_mirror_idx, robot.joint_mirror_sign)


def observation_mirror(robot: Robot, terms: tuple[Term, ...]) -> MirrorMap:
    """Return T_s for an observation made of ``terms``. Raises ConfigError for a term of unknown kind."""
    index: list[np.ndarray] = []
    sign: list[np.ndarray] = []
    start = 0
    for term in terms:
        term_index, term_sign = _term_mirror(robot, term)
        index.append(start + term_index)
        sign.append(term_sign)
        start += term.size
    return MirrorMap(np.concatenate(index), np.concatenate(sign))


def _term_mirror(robot: Robot, term: Term) -> tuple[np.ndarray, np.ndarray]:
    if term.kind == "joint":
        return robot.joint_mirror_idx, robot.joint_mirror_sign
    if term.kind == "joint_scale":
        return robot.joint_mirror_idx, np.ones(robot.num_joints)
    if term.kind == "polar":
        return np.arange(3), _POLAR
    if term.kind == "axial":
        return np.arange(3), _AXIAL
    if term.kind == "points":
        return _blocks(robot.keypoint_mirror_idx, _POLAR)
    if term.kind == "axial_points":
        return _blocks(robot.keypoint_mirror_idx, _AXIAL)
    if term.kind == "quats":
        return _blocks(robot.keypoint_mirror_idx, _QUAT)
    if term.kind == "feet":
        return _SWAP_FEET, np.ones(2)
    if term.kind == "feet_polar":
        return _blocks(_SWAP_FEET, _POLAR)
    if term.kind == "mass_groups":
        other = [other_side(name) for name in MASS_GROUPS]
        return np.array([MASS_GROUPS.index(name) for name in other]), np.ones(len(MASS_GROUPS))
    raise ConfigError(f"term {term.name!r} has kind {term.kind!r}, which has no mirror")


def _blocks(block_idx: np.ndarray, sign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = len(sign)
    index = (block_idx[:, None] * width + np.arange(width)).ravel()
    return index, np.tile(sign, len(block_idx))
