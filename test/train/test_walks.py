# SPDX-License-Identifier: Apache-2.0
"""Walks of our own making: what makes them worth following is that physics allows them."""

import numpy as np
import pytest

pytest.importorskip("daqp", reason="walks need the inverse kinematics (daqp)")

from genmimic.check.measure import centre_of_mass, outside  # noqa: E402
from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic.core.kinematics import sole_positions  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic_train.data.walks import STYLES, pendulum, walk, zero_moment_point  # noqa: E402


@pytest.mark.parametrize("style", STYLES)
def test_a_walk_is_a_motion_that_a_robot_can_do(style):
    motion = walk(style, 3, 10.0)
    assert len(motion) == 501 and motion.source["licence"] == "Apache-2.0"
    assert (motion.joint_pos >= ROBOT.joint_lower).all() and (motion.joint_pos <= ROBOT.joint_upper).all()
    soles = sole_positions(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos).reshape(501, 2, 4, 3)
    assert np.abs(soles[..., 2].min((1, 2))).max() < 0.01  # always a foot on the floor, none in it
    stands = soles[..., 2].max(-1) < 0.004
    assert stands.any(1).all() and not stands.all(0).any()  # one of them at least, and both are lifted some time
    step = np.linalg.norm(np.diff(soles[..., :2], axis=0), axis=-1).max(-1) * 50.0
    both = stands[1:] & stands[:-1]
    assert np.percentile(step[both], 99) < 0.10  # m/s: what stands does not skate
    assert stands[-60:].all() and np.linalg.norm(motion.root_pos[-1, :2] - motion.root_pos[-25, :2]) < 0.06


@pytest.mark.parametrize("style", STYLES)
def test_the_floor_can_push_where_it_has_to(style):
    """The zero-moment point of the whole robot lies within the soles that stand, but for moments."""
    motion = walk(style, 5, 10.0)
    body = motion.root_pos, motion.root_quat, motion.joint_pos
    point, soles = zero_moment_point(ROBOT, *body), sole_positions(ROBOT, *body)
    low = [frame[frame[:, 2] < 0.012, :2] for frame in soles]
    off = [max(outside(at, standing), 0.0) for at, standing in zip(point, low, strict=True)]
    assert np.median(off) < 0.01 and np.percentile(off, 90) < 0.08


def test_the_point_of_a_robot_that_stands_is_under_its_centre_of_mass():
    pos, quat = np.tile([0.3, -0.2, 0.78], (5, 1)), np.tile([0.98, 0.0, 0.1, 0.17], (5, 1))
    body = pos, quat / np.linalg.norm(quat[0]), np.tile(ROBOT.default_joint_pos, (5, 1))
    expected = centre_of_mass(ROBOT, *body)[:, :2]
    np.testing.assert_allclose(zero_moment_point(ROBOT, *body), expected, atol=1e-4)
    pushed = (pos + 0.5 * 2.0 * (np.arange(5)[:, None] * 0.02) ** 2 * [1.0, 0.0, 0.0], *body[1:])
    behind = zero_moment_point(ROBOT, *pushed)[2] - centre_of_mass(ROBOT, *pushed)[2, :2]
    height = centre_of_mass(ROBOT, *body)[0, 2]
    np.testing.assert_allclose(behind, [-2.0 * height / 9.81, 0.0], atol=2e-3)


def test_a_pendulum_obeys_its_equation():
    rng = np.random.default_rng(0)
    pressure = np.cumsum(rng.normal(0.0, 0.01, (200, 2)), 0)
    path = pendulum(pressure, 0.65)
    acceleration = (path[2:] - 2.0 * path[1:-1] + path[:-2]) * 50.0**2
    np.testing.assert_allclose(acceleration, 9.81 / 0.65 * (path - pressure)[1:-1], atol=1e-9)
    np.testing.assert_allclose(path[[0, -1]], pressure[[0, -1]])


def test_the_same_arguments_give_the_same_walk():
    first, again, other = walk("around", 1, 5.0), walk("around", 1, 5.0), walk("around", 2, 5.0)
    np.testing.assert_array_equal(first.joint_pos, again.joint_pos)
    assert np.abs(first.joint_pos - other.joint_pos).max() > 0.1


@pytest.mark.parametrize(("style", "duration_s", "words"), [("limp", 5.0, "ahead"), ("ahead", 3.0, "4 to 600")])
def test_nonsense_is_refused(style, duration_s, words):
    with pytest.raises(ConfigError, match=words):
        walk(style, 0, duration_s)


def test_a_library_knows_which_foot_of_a_walk_stands():
    from genmimic_train.tracking.motions import MotionLibrary

    library = MotionLibrary(ROBOT, [walk("ahead", 3, 8.0), walk("around", 4, 8.0)], mirror=True)
    stands = library.foot_contact
    assert stands.shape == (library.frames, 2) and stands.any(1).all()  # nobody flies, at seams of clips neither
    lifted = (~stands).float().mean(0)
    assert 0.1 < lifted.min() and lifted.max() < 0.5  # both feet step
    own, mirrored = stands[: library.clip_end[0]], stands[library.clip_start[2] : library.clip_end[2]]
    assert (own == mirrored.flip(1)).float().mean() > 0.97
