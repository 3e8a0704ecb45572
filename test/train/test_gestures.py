# SPDX-License-Identifier: Apache-2.0
"""Motions of our own making."""

import numpy as np
import pytest

pytest.importorskip("daqp", reason="gestures need the inverse kinematics (daqp)")

from genmimic.check.measure import centre_of_mass  # noqa: E402
from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic.core.kinematics import sole_positions  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic_train.data.gestures import STYLES, gesture  # noqa: E402


@pytest.mark.parametrize("style", STYLES)
def test_a_gesture_is_a_motion_that_a_robot_can_do(style):
    motion = gesture(style, 3, 4.0)
    assert len(motion) == 201 and motion.source["licence"] == "Apache-2.0"
    assert (motion.joint_pos >= ROBOT.joint_lower).all() and (motion.joint_pos <= ROBOT.joint_upper).all()
    speed = np.abs(np.diff(motion.joint_pos, axis=0)).max(0) * 50.0
    assert (speed <= 0.75 * ROBOT.joint_speed).all()
    arms = motion.joint_pos[:, 13:]
    assert np.ptp(arms, axis=0).max() > 0.5  # something is done
    soles = sole_positions(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos)
    assert np.abs(soles[..., 2].min(-1)).max() < 0.02  # on the floor
    # balanced: the centre of mass stays over the feet, between heel and toe
    feet = soles[..., :2].mean(1)
    off = np.abs(centre_of_mass(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos)[:, :2] - feet)
    assert np.percentile(off[:, 0], 95) < 0.10 and np.percentile(off[:, 1], 95) < 0.16


def test_the_same_arguments_give_the_same_gesture():
    first, again, other = gesture("quick", 1, 2.0), gesture("quick", 1, 2.0), gesture("quick", 2, 2.0)
    np.testing.assert_array_equal(first.joint_pos, again.joint_pos)
    assert np.abs(first.joint_pos - other.joint_pos).max() > 0.1


def test_only_steps_lift_feet():
    def lifted(style):
        motion = gesture(style, 0, 8.0)
        soles = sole_positions(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos)
        return soles[..., 2].max() > 0.04

    assert lifted("stepping") and not lifted("calm")


@pytest.mark.parametrize(("style", "duration_s", "words"), [("wild", 5.0, "calm"), ("calm", 1.0, "2 to 600")])
def test_nonsense_is_refused(style, duration_s, words):
    with pytest.raises(ConfigError, match=words):
        gesture(style, 0, duration_s)
