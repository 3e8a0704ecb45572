# SPDX-License-Identifier: Apache-2.0
"""Clips walked again: a robot can stand on the result, and it is still the clip."""

import numpy as np
import pytest

pytest.importorskip("daqp", reason="walking a clip again needs the inverse kinematics (daqp)")

from genmimic.check.measure import outside  # noqa: E402
from genmimic.core.kinematics import sole_positions  # noqa: E402
from genmimic.core.motion import CONTROL_RATE_HZ, Motion  # noqa: E402
from genmimic.core.reference import feet_anchor, stand_to_stand  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic_train.data.balance import OffBalanceError, balanced  # noqa: E402
from genmimic_train.data.walks import walk, zero_moment_point  # noqa: E402


def moved(motion: Motion, root: np.ndarray) -> Motion:
    pos = motion.root_pos + root
    return Motion.from_joints(ROBOT, CONTROL_RATE_HZ, motion.joint_pos, pos, motion.root_quat, "moved", motion.source)


def body(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return motion.root_pos, motion.root_quat, motion.joint_pos


def share_inside(motion: Motion) -> float:
    """Share of frames whose zero-moment point lies within the soles that are down."""
    point, soles = zero_moment_point(ROBOT, *body(motion)), sole_positions(ROBOT, *body(motion))
    down = [frame[frame[:, 2] < frame[:, 2].min() + 0.015, :2] for frame in soles]
    return float(np.mean([outside(at, corners) <= 0.0 for at, corners in zip(point, down, strict=True)]))


@pytest.fixture(scope="module")
def spoilt() -> Motion:
    """A walk as lifting gives it: the body sways sideways by 4 cm and bobs, its feet go with it."""
    motion = walk("curved", 2, 8.0)
    t = np.arange(len(motion))[:, None] / CONTROL_RATE_HZ
    sway = 0.04 * np.sin(2.0 * np.pi * 0.9 * t) * [[0.3, 1.0, 0.0]] + 0.01 * np.sin(2.0 * np.pi * 2.1 * t) * [[0, 0, 1]]
    return moved(motion, sway - [0.0, 0.0, 0.01])


def test_a_spoilt_walk_is_one_that_a_robot_can_do(spoilt):
    mended = balanced(spoilt)
    assert share_inside(spoilt) < 0.7 and share_inside(mended) > 0.78, (share_inside(spoilt), share_inside(mended))
    assert (mended.joint_pos >= ROBOT.joint_lower).all() and (mended.joint_pos <= ROBOT.joint_upper).all()
    soles = sole_positions(ROBOT, *body(mended)).reshape(len(mended), 2, -1, 3)
    assert np.abs(soles[..., 2].min((1, 2))).max() < 0.012  # always a foot on the floor, none in it
    down = soles[..., 2].max(-1) < 0.004
    speed = np.linalg.norm(np.diff(soles[..., :2], axis=0), axis=-1).max(-1) * CONTROL_RATE_HZ
    assert np.percentile(speed[down[1:] & down[:-1]], 95) < 0.10  # m/s: what stands does not skate
    assert (~down).any(0).all()  # both feet step


def test_it_is_still_the_clip(spoilt):
    """Where it was, which way it went, what the arms did, under the same name."""
    mended = balanced(spoilt)
    before = stand_to_stand(ROBOT, spoilt).motion
    cut = (len(before) - len(mended)) // 2
    before_pos = before.keypoint_pos[cut : len(before) - cut]
    assert np.linalg.norm(mended.keypoint_pos - before_pos, axis=-1).mean() < 0.08
    arms = [idx for idx, name in enumerate(ROBOT.joint_names) if "shoulder" in name or "elbow" in name]
    turned = np.abs(mended.joint_pos - before.joint_pos[cut : len(before) - cut])[:, arms]
    assert np.percentile(turned, 95) < 0.1
    assert mended.name == spoilt.name and mended.source["balanced"] and mended.source["licence"] == "Apache-2.0"


def test_it_begins_and_ends_standing(spoilt):
    """Whoever plays it has no way to go from standing to its first frame."""
    mended = balanced(spoilt)
    for frame in (0, -1):
        stands = np.abs(mended.joint_pos[frame] - ROBOT.default_joint_pos)
        assert stands.max() < 0.25, ROBOT.joint_names[int(stands.argmax())]
    assert np.linalg.norm(feet_anchor(ROBOT, mended, -1)[0] - feet_anchor(ROBOT, spoilt, -1)[0]) < 0.06


def test_what_stands_keeps_its_place(arm_motion):
    mended = balanced(arm_motion)
    soles = sole_positions(ROBOT, *body(mended))
    assert np.ptp(soles, axis=0).max() < 0.01 and share_inside(mended) > 0.97


def test_a_jump_is_refused():
    motion = walk("ahead", 0, 5.0)
    t = np.arange(len(motion)) / CONTROL_RATE_HZ
    jump = np.where((t > 2.0) & (t < 2.5), 4.905 * (t - 2.0) * (2.5 - t), 0.0)
    with pytest.raises(OffBalanceError, match="in the air in"):
        balanced(moved(motion, jump[:, None] * [0.0, 0.0, 1.0]))
    with pytest.raises(OffBalanceError, match="pelvis goes down to"):
        balanced(moved(motion, np.array([0.0, 0.0, -0.5])))
