# SPDX-License-Identifier: Apache-2.0
"""Quaternions, order wxyz, unit length; NumPy or torch, any leading axes.

``quat_a_to_b`` style: a quaternion ``base_quat_w`` rotates base vectors into the world.
"""

from __future__ import annotations

import numpy as np

from genmimic.core.arrays import Array, array_namespace

_HAMILTON = np.zeros((4, 4, 4))
"""Component k of ``a b`` is the sum of ``a[i] b[j] _HAMILTON[i, j, k]``."""
_HAMILTON[[0, 1, 2, 3], [0, 1, 2, 3], 0] = 1.0, -1.0, -1.0, -1.0
_HAMILTON[[0, 1, 2, 3], [1, 0, 3, 2], 1] = 1.0, 1.0, 1.0, -1.0
_HAMILTON[[0, 1, 2, 3], [2, 3, 0, 1], 2] = 1.0, -1.0, 1.0, 1.0
_HAMILTON[[0, 1, 2, 3], [3, 2, 1, 0], 3] = 1.0, 1.0, -1.0, 1.0


def quat_multiply(a: Array, b: Array) -> Array:
    """Return the product ``a b``: first rotate by ``b``, then by ``a``. Shapes (..., 4)."""
    xp = array_namespace(a, b)
    if xp is np:  # few large steps rather than thirty small ones: a third of the time at 50 Hz, but not in torch
        pairs = np.asarray(a)[..., :, None] * np.asarray(b)[..., None, :]
        return pairs.reshape(*pairs.shape[:-2], 16) @ _HAMILTON.reshape(16, 4)
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return xp.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def quat_conjugate(quat: Array) -> Array:
    """Return the inverse rotation. Shape (..., 4)."""
    xp = array_namespace(quat)
    return xp.concatenate([quat[..., :1], -quat[..., 1:]], -1)


def cross(a: Array, b: Array) -> Array:
    """Return the cross product over the last axis. Shapes (..., 3), broadcast."""
    xp = array_namespace(a, b)
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return xp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def quat_rotate(quat: Array, vector: Array) -> Array:
    """Rotate ``vector`` (..., 3) by ``quat`` (..., 4); leading axes broadcast."""
    t = 2.0 * cross(quat[..., 1:], vector)
    return vector + quat[..., :1] * t + cross(quat[..., 1:], t)


def quat_rotate_inverse(quat: Array, vector: Array) -> Array:
    """Rotate ``vector`` (..., 3) by the inverse of ``quat`` (..., 4)."""
    return quat_rotate(quat_conjugate(quat), vector)


def quat_from_axis_angle(axis: Array, angle: Array) -> Array:
    """Return the rotation by ``angle`` (...,) in rad about the unit vector ``axis`` (..., 3)."""
    xp = array_namespace(axis, angle)
    half = 0.5 * angle[..., None]
    return xp.concatenate([xp.cos(half), xp.sin(half) * axis], -1)


def quat_from_rotation_vector(vector: Array) -> Array:
    """Return the rotation by ``|vector|`` rad about ``vector``. Shape (..., 3) to (..., 4)."""
    xp = array_namespace(vector)
    half = 0.5 * (vector**2).sum(-1, **_keep(xp)) ** 0.5
    scale = 0.5 * xp.sinc(half / np.pi)  # sin(half) / |vector|, finite at zero
    return xp.concatenate([xp.cos(half), scale * vector], -1)


def quat_to_rotation_vector(quat: Array) -> Array:
    """Return the shortest rotation vector in rad. Shape (..., 4) to (..., 3)."""
    xp = array_namespace(quat)
    quat = quat_canonical(quat)
    norm = (quat[..., 1:] ** 2).sum(-1, **_keep(xp)) ** 0.5
    angle = 2.0 * xp.arctan2(norm, quat[..., :1])
    scale = xp.where(norm > 1e-9, angle / xp.where(norm > 1e-9, norm, xp.ones_like(norm)), 2.0 * xp.ones_like(norm))
    return scale * quat[..., 1:]


def quat_canonical(quat: Array) -> Array:
    """Return the same rotation with a non-negative scalar part. Shape (..., 4)."""
    xp = array_namespace(quat)
    return xp.where(quat[..., :1] < 0.0, -quat, quat)


def quat_normalize(quat: Array) -> Array:
    """Return ``quat`` scaled to unit length. Shape (..., 4)."""
    xp = array_namespace(quat)
    return quat / (quat**2).sum(-1, **_keep(xp)) ** 0.5


def quat_angle(a: Array, b: Array) -> Array:
    """Return the geodesic angle between two rotations, in rad, 0 to pi. Shapes (..., 4) to (...,)."""
    xp = array_namespace(a, b)
    delta = quat_multiply(a, quat_conjugate(b))
    norm = (delta[..., 1:] ** 2).sum(-1) ** 0.5
    return 2.0 * xp.arctan2(norm, xp.abs(delta[..., 0]))


def quat_slerp(a: Array, b: Array, weight: Array) -> Array:
    """Interpolate along the shorter arc: ``a`` at weight 0, ``b`` at 1. Shapes (..., 4), (..., 4), (...,)."""
    delta = quat_to_rotation_vector(quat_multiply(b, quat_conjugate(a)))
    return quat_multiply(quat_from_rotation_vector(weight[..., None] * delta), a)


def heading(quat: Array) -> Array:
    """Return the yaw of the rotated x axis about the world's z, in rad. Shape (..., 4) to (...,)."""
    xp = array_namespace(quat)
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    return xp.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def quat_from_heading(yaw: Array) -> Array:
    """Return the rotation by ``yaw`` (...,) in rad about z. Shape (..., 4)."""
    xp = array_namespace(yaw)
    zero = xp.zeros_like(yaw)
    return xp.stack([xp.cos(0.5 * yaw), zero, zero, xp.sin(0.5 * yaw)], -1)


def rotate_heading(yaw: Array, vector: Array) -> Array:
    """Rotate ``vector`` (..., 3) by ``yaw`` (...,) rad about z; leading axes broadcast."""
    xp = array_namespace(yaw, vector)
    c, s = xp.cos(yaw), xp.sin(yaw)
    x, y = vector[..., 0], vector[..., 1]
    return xp.stack([c * x - s * y, s * x + c * y, vector[..., 2] + 0.0 * c], -1)


def wrap_angle(angle: Array) -> Array:
    """Return ``angle`` in rad, wrapped into [-pi, pi)."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def quat_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return quaternions of rotation matrices, NumPy only. Shape (..., 3, 3) to (..., 4).

    Bar-Itzhack's method: the dominant eigenvector of a symmetric 4x4 matrix; no branches, and the
    nearest rotation when the input is slightly off.
    """
    m = np.asarray(matrix, float)
    k = np.empty((*m.shape[:-2], 4, 4))
    trace = np.trace(m, axis1=-2, axis2=-1)
    k[..., 0, 0] = trace
    vee = np.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
    k[..., 0, 1:] = k[..., 1:, 0] = vee
    k[..., 1:, 1:] = m + np.swapaxes(m, -1, -2) - trace[..., None, None] * np.eye(3)
    _, vectors = np.linalg.eigh(k)
    return quat_canonical(vectors[..., :, -1])


def quat_to_matrix(quat: Array) -> Array:
    """Return rotation matrices. Shape (..., 4) to (..., 3, 3)."""
    xp = array_namespace(quat)
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    rows = [
        xp.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        xp.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        xp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return xp.stack(rows, -2)


def _keep(xp: object) -> dict[str, bool]:
    return {"keepdims": True} if xp is np else {"keepdim": True}
