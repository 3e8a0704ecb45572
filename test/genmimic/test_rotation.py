# SPDX-License-Identifier: Apache-2.0
"""Quaternions: properties, values by hand, and the same lines under torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genmimic.core import rotation as r

RNG = np.random.default_rng(0)
QUATS = r.quat_normalize(RNG.standard_normal((200, 4)))
VECTORS = RNG.standard_normal((200, 3))


def test_turning_x_by_90_degrees_about_z_gives_y():
    quat = r.quat_from_axis_angle(np.array([0.0, 0.0, 1.0]), np.array(math.pi / 2))
    np.testing.assert_allclose(quat, [math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    np.testing.assert_allclose(r.quat_rotate(quat, np.array([1.0, 0.0, 0.0])), [0.0, 1.0, 0.0], atol=1e-15)


def test_rotation_equals_its_matrix():
    expected = np.einsum("nij,nj->ni", r.quat_to_matrix(QUATS), VECTORS)
    np.testing.assert_allclose(r.quat_rotate(QUATS, VECTORS), expected, atol=1e-12)


def test_product_rotates_by_the_right_one_first():
    other = QUATS[::-1]
    both = r.quat_rotate(r.quat_multiply(QUATS, other), VECTORS)
    np.testing.assert_allclose(both, r.quat_rotate(QUATS, r.quat_rotate(other, VECTORS)), atol=1e-12)


def test_inverse_undoes():
    np.testing.assert_allclose(r.quat_rotate_inverse(QUATS, r.quat_rotate(QUATS, VECTORS)), VECTORS, atol=1e-12)


def test_matrix_round_trip():
    np.testing.assert_allclose(r.quat_from_matrix(r.quat_to_matrix(QUATS)), r.quat_canonical(QUATS), atol=1e-7)


def test_rotation_vector_round_trip_and_zero():
    vectors = VECTORS * (0.99 * math.pi / np.linalg.norm(VECTORS, axis=-1, keepdims=True).max())
    np.testing.assert_allclose(r.quat_to_rotation_vector(r.quat_from_rotation_vector(vectors)), vectors, atol=1e-9)
    np.testing.assert_allclose(r.quat_from_rotation_vector(np.zeros(3)), [1, 0, 0, 0])
    np.testing.assert_allclose(r.quat_to_rotation_vector(np.array([1.0, 0, 0, 0])), np.zeros(3))


def test_slerp_keeps_its_ends_and_takes_the_shorter_arc():
    a, b = QUATS[:100], -QUATS[100:]
    for weight, end in ((0.0, a), (1.0, b)):
        got = r.quat_slerp(a, b, np.full(100, weight))
        assert r.quat_angle(got, end).max() < 1e-6
    half = r.quat_slerp(a, b, np.full(100, 0.5))
    np.testing.assert_allclose(r.quat_angle(a, half), 0.5 * r.quat_angle(a, b), atol=1e-6)


def test_angle_ignores_the_sign_of_a_quaternion():
    assert r.quat_angle(QUATS, -QUATS).max() < 1e-6


@pytest.mark.parametrize("yaw", [-3.0, -1.0, 0.0, 0.5, 3.1])
def test_heading_of_a_heading(yaw):
    quat = r.quat_from_heading(np.array(yaw))
    assert r.heading(quat) == pytest.approx(yaw)
    np.testing.assert_allclose(r.rotate_heading(np.array(yaw), VECTORS), r.quat_rotate(quat, VECTORS), atol=1e-12)


def test_wrap_angle():
    np.testing.assert_allclose(r.wrap_angle(np.array([3.5, -3.5, 0.1])), [3.5 - 2 * math.pi, 2 * math.pi - 3.5, 0.1])


def test_torch_gives_the_same_numbers_and_gradients():
    torch = pytest.importorskip("torch", reason="the same lines under torch need torch")
    quats, vectors = torch.tensor(QUATS, requires_grad=True), torch.tensor(VECTORS)
    for function, args in (
        (r.quat_rotate, (QUATS, VECTORS)),
        (r.quat_multiply, (QUATS, QUATS[::-1].copy())),
        (r.quat_angle, (QUATS, QUATS[::-1].copy())),
        (r.quat_from_rotation_vector, (VECTORS,)),
        (r.heading, (QUATS,)),
    ):
        got = function(*(torch.tensor(arg) for arg in args)).numpy()
        np.testing.assert_allclose(got, function(*args), atol=1e-12, err_msg=function.__name__)
    r.quat_rotate(quats, vectors).sum().backward()
    assert torch.isfinite(quats.grad).all()
