# SPDX-License-Identifier: Apache-2.0
"""Joint positions of the SMPL body from its parameters, without its licensed model files.

The rest positions are those of the zero shape, as published in PHC (ZhengyiLuo/PHC, `phc/data/assets/mjcf/`
`smpl_humanoid.xml`, `smpl_1_humanoid.xml`, `smpl_2_humanoid.xml`, commit 846988d, BSD-3-Clause-Clear; see
THIRD_PARTY_NOTICES.md). Shape parameters need the body model itself: give its npz file as ``body_model``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genmimic.core.errors import InputFileError, MotionError
from genmimic.core.motion import read_npz

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""Parent of each of the 24 joints of `genmimic.core.human.SMPL_JOINTS`."""

BODY_JOINTS = 22
"""The joints that SMPL, SMPL-H and SMPL-X share; after them come hands and face."""

REST_JOINTS = {
    "neutral": np.array([
        [-0.0018, -0.2233, 0.0282], [0.0677, -0.3147, 0.0214], [-0.0695, -0.3138, 0.0239], [-0.0043, -0.1143, 0.0015],
        [0.1020, -0.6899, 0.0169], [-0.1078, -0.6964, 0.0150], [0.0012, 0.0209, 0.0026], [0.0884, -1.0879, -0.0268],
        [-0.0920, -1.0948, -0.0273], [0.0027, 0.0738, 0.0280], [0.1148, -1.1437, 0.0925], [-0.1174, -1.1429, 0.0960],
        [-0.0001, 0.2877, -0.0149], [0.0815, 0.1955, -0.0061], [-0.0791, 0.1926, -0.0106], [0.0051, 0.3527, 0.0364],
        [0.1725, 0.2260, -0.0150], [-0.1751, 0.2252, -0.0197], [0.4321, 0.2132, -0.0425], [-0.4288, 0.2119, -0.0411],
        [0.6813, 0.2222, -0.0437], [-0.6841, 0.2197, -0.0467], [0.7653, 0.2140, -0.0586], [-0.7687, 0.2136, -0.0570],
    ]),
    "male": np.array([
        [-0.0022, -0.2408, 0.0286], [0.0564, -0.3231, 0.0109], [-0.0625, -0.3313, 0.0151], [0.0022, -0.1164, -0.0098],
        [0.0999, -0.7096, 0.0189], [-0.1058, -0.7150, 0.0103], [0.0067, 0.0216, 0.0170], [0.0851, -1.1365, -0.0185],
        [-0.0867, -1.1350, -0.0243], [0.0044, 0.0776, 0.0199], [0.1262, -1.1968, 0.1035], [-0.1215, -1.1971, 0.1060],
        [-0.0090, 0.2892, -0.0136], [0.0761, 0.1916, 0.0010], [-0.0786, 0.1901, -0.0038], [0.0011, 0.3781, 0.0368],
        [0.1990, 0.2368, -0.0180], [-0.1918, 0.2370, -0.0123], [0.4543, 0.2212, -0.0409], [-0.4519, 0.2226, -0.0436],
        [0.7200, 0.2339, -0.0483], [-0.7210, 0.2294, -0.0496], [0.8067, 0.2233, -0.0639], [-0.8098, 0.2207, -0.0597],
    ]),
    "female": np.array([
        [-0.0009, -0.2114, 0.0278], [0.0705, -0.3010, 0.0198], [-0.0699, -0.3004, 0.0230], [-0.0034, -0.1081, 0.0056],
        [0.1012, -0.6652, 0.0131], [-0.1061, -0.6711, 0.0138], [0.0002, 0.0196, 0.0039], [0.0896, -1.0485, -0.0304],
        [-0.0921, -1.0547, -0.0281], [0.0022, 0.0687, 0.0318], [0.1129, -1.1031, 0.0840], [-0.1141, -1.1011, 0.0898],
        [0.0002, 0.2769, -0.0180], [0.0775, 0.1865, -0.0051], [-0.0748, 0.1843, -0.0100], [0.0037, 0.3392, 0.0322],
        [0.1628, 0.2182, -0.0124], [-0.1640, 0.2171, -0.0198], [0.4140, 0.2062, -0.0399], [-0.4100, 0.2039, -0.0400],
        [0.6520, 0.2152, -0.0399], [-0.6552, 0.2125, -0.0435], [0.7317, 0.2055, -0.0531], [-0.7356, 0.2053, -0.0539],
    ]),
}  # fmt: skip
"""Rest positions at zero shape, in m; x to the body's left, y up, z forward. Shape (24, 3) each."""

_HAND_JOINTS = {55: ((25, 28), (40, 43)), 52: ((22, 25), (37, 40))}
"""Knuckles of the index and middle finger, left and right, in SMPL-X (55 joints) and SMPL-H (52)."""


def rotation_matrices(rotation_vector: np.ndarray) -> np.ndarray:
    """Return rotation matrices of axis-angle vectors. Shapes (..., 3) and (..., 3, 3)."""
    vector = np.asarray(rotation_vector, float)
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape[:-1], 3, 3)
    small = angle < 1e-6
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 1.0 - angle**2 / 6.0, np.sin(safe) / safe)
    second = np.where(small, 0.5, (1.0 - np.cos(safe)) / safe**2)
    return np.eye(3) + first * skew + second * (skew @ skew)


def smpl_joint_positions(
    rotations: np.ndarray, trans: np.ndarray, rest: np.ndarray = REST_JOINTS["neutral"]
) -> np.ndarray:
    """Return the 24 joint positions. Shape (T, 24, 3), in m, in the frame of ``trans``.

    Args:
        rotations: Rotation of each joint relative to its parent, the first one to the world; 22 to 24 of them, hands
            that are left out do not bend. Shape (T, 22 to 24, 3, 3).
        trans: Translation of the body, in m. Shape (T, 3).
        rest: Rest positions. Shape (24, 3).

    Source: SMPL turns the body about its pelvis, which ``trans`` moves from its rest position.
    """
    frames, given = rotations.shape[:2]
    world = np.empty((frames, 24, 3, 3))
    pos = np.empty((frames, 24, 3))
    world[:, 0], pos[:, 0] = rotations[:, 0], rest[0] + trans
    for idx in range(1, 24):
        parent = PARENTS[idx]
        world[:, idx] = world[:, parent] @ rotations[:, idx] if idx < given else world[:, parent]
        pos[:, idx] = pos[:, parent] + world[:, parent] @ (rest[idx] - rest[parent])
    return pos


def rest_joints(gender: str, betas: np.ndarray | None = None, body_model: str | Path | None = None) -> np.ndarray:
    """Return rest positions, shape (24, 3): of the user's body model where given, else of the zero shape.

    Args:
        gender: ``neutral``, ``male`` or ``female``; anything else counts as neutral.
        betas: Shape parameters; used with ``body_model`` alone.
        body_model: An npz of SMPL, SMPL-H or SMPL-X with ``v_template``, ``shapedirs`` and ``J_regressor``.

    Raises:
        InputFileError: The model file cannot be read.
        MotionError: It is not a body model.
    """
    if body_model is None:
        return REST_JOINTS.get(gender, REST_JOINTS["neutral"])
    path = Path(body_model)
    if path.suffix == ".pkl":
        raise InputFileError(f"{path}: body models are read from npz alone; SMPL-X and SMPL-H are published as npz too")
    fields = read_npz(path, 1024**3)
    missing = [name for name in ("v_template", "shapedirs", "J_regressor") if name not in fields]
    if missing:
        raise MotionError(f"{path}: not a body model: {', '.join(missing)} missing")
    template, shapedirs, regressor = (np.asarray(fields[n], float) for n in ("v_template", "shapedirs", "J_regressor"))
    if template.ndim != 2 or shapedirs.shape[:2] != template.shape or regressor.shape[1:] != template.shape[:1]:
        raise MotionError(f"{path}: shapes of v_template, shapedirs and J_regressor do not fit together")
    shape = np.zeros(shapedirs.shape[2])
    if betas is not None:
        given = np.atleast_1d(np.asarray(betas, float).squeeze())[: len(shape)]
        shape[: len(given)] = given
    joints = regressor @ (template + shapedirs @ shape)
    if len(joints) == 24:
        return joints
    if len(joints) not in _HAND_JOINTS:
        raise MotionError(f"{path}: body model has {len(joints)} joints, expected 24, 52 or 55")
    hands = [0.5 * (joints[list(knuckles)].mean(0) + joints[20 + side]) for side, knuckles in
             enumerate(_HAND_JOINTS[len(joints)])]  # fmt: skip
    return np.concatenate([joints[:BODY_JOINTS], hands])
