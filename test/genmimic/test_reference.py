# SPDX-License-Identifier: Apache-2.0
"""The reference player: timelines without jumps, phases in order, stop and pause from anywhere."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from genmimic.core.kinematics import lowest_sole_height
from genmimic.core.motion import Motion
from genmimic.core.reference import Phase, ReferencePlayer, feet_anchor, stand_to_stand
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import heading, wrap_angle

ROBOT = G1_23DOF


@pytest.fixture
def motion() -> Motion:
    """Two seconds at 30 fps, raised arms and bent knees from the first frame on, off the origin, facing 0.5 rad."""
    frames = 61
    t = np.arange(frames) / 30.0
    joint_pos = np.tile(ROBOT.default_joint_pos, (frames, 1))
    arms = ROBOT.joint_idx(["left_shoulder_pitch_joint", "right_shoulder_pitch_joint"])
    joint_pos[:, arms] -= 1.0 + 0.3 * np.sin(2.0 * np.pi * t)[:, None]
    for name, bend in (("hip_pitch", -0.2), ("knee", 0.4), ("ankle_pitch", -0.2)):
        joint_pos[:, ROBOT.joint_idx([f"left_{name}_joint", f"right_{name}_joint"])] += bend
    root_quat = np.tile([np.cos(0.25), 0, 0, np.sin(0.25)], (frames, 1))
    root_pos = np.tile([1.0, 2.0, 0.0], (frames, 1))
    root_pos[:, 2] -= lowest_sole_height(ROBOT, root_pos, root_quat, joint_pos)
    return Motion.from_joints(ROBOT, 30.0, joint_pos, root_pos, root_quat, "bow")


def test_timeline_begins_and_ends_standing_and_never_jumps(motion):
    timeline = stand_to_stand(ROBOT, motion)
    whole = timeline.motion
    np.testing.assert_allclose(whole.joint_pos[[0, -1]], np.tile(ROBOT.default_joint_pos, (2, 1)))
    np.testing.assert_allclose(whole.root_pos[[0, -1], 2], ROBOT.standing_height)
    speed = np.linalg.norm(np.diff(whole.keypoint_pos, axis=0), axis=-1).max() * 50.0
    assert speed < 3.0  # m/s; a jump of 10 cm in one step would be 5
    assert timeline.end - timeline.start == 101  # two seconds at 50 Hz
    soles = lowest_sole_height(ROBOT, whole.root_pos, whole.root_quat, whole.joint_pos)
    assert np.abs(soles).max() < 1e-6


def test_timeline_starts_where_it_is_told(motion):
    timeline = stand_to_stand(ROBOT, motion, xy=np.array([-1.0, 0.5]), yaw=-2.0)
    place, facing = feet_anchor(ROBOT, timeline.motion, 0)
    np.testing.assert_allclose(place, [-1.0, 0.5], atol=1e-6)
    assert facing == pytest.approx(-2.0, abs=1e-6)
    # inside the motion the shape is the same, only moved
    inside = timeline.motion.keypoint_pos[timeline.start]
    np.testing.assert_allclose(
        np.linalg.norm(inside[1:] - inside[0], axis=-1),
        np.linalg.norm(motion.keypoint_pos[0, 1:] - motion.keypoint_pos[0, 0], axis=-1),
        atol=1e-9,
    )


def test_phases_in_order(motion):
    player = ReferencePlayer(ROBOT)
    assert player.goal().phase is Phase.IDLE
    player.start(motion)
    phases = [player.step().phase for _ in range(400)]
    assert [phase for phase, _ in groupby(phases)] == [Phase.BLEND_IN, Phase.PLAYING, Phase.BLEND_OUT, Phase.DONE]
    assert phases.count(Phase.PLAYING) == 101
    goal = player.goal()
    np.testing.assert_allclose(goal.horizon_keypoint_pos, np.tile(goal.keypoint_pos, (10, 1, 1)))


def test_horizon_is_the_future(motion):
    player = ReferencePlayer(ROBOT)
    player.start(motion)
    for _ in range(80):
        player.step()
    ahead = player.goal().horizon_keypoint_pos
    for step in range(10):
        np.testing.assert_array_equal(player.step().keypoint_pos, ahead[step])


def test_stop_blends_from_where_it_is(motion):
    player = ReferencePlayer(ROBOT)
    player.start(motion)
    for _ in range(120):
        before = player.step()
    player.stop()
    goals = [player.step() for _ in range(200)]
    assert np.abs(goals[0].keypoint_pos - before.keypoint_pos).max() < 0.02
    assert goals[0].phase is Phase.BLEND_OUT and goals[-1].phase is Phase.DONE
    np.testing.assert_allclose(goals[-1].joint_pos, ROBOT.default_joint_pos)


def test_pause_freezes_and_resume_goes_on(motion):
    player = ReferencePlayer(ROBOT)
    player.start(motion)
    for _ in range(100):
        before = player.step()
    player.pause()
    paused = [player.step() for _ in range(20)]
    assert {goal.phase for goal in paused} == {Phase.PAUSED} and {goal.frame for goal in paused} == {before.frame}
    np.testing.assert_array_equal(paused[-1].horizon_keypoint_pos[-1], before.keypoint_pos)
    player.resume()
    assert player.step().frame == before.frame + 1


def test_next_motion_starts_where_the_last_one_ended(motion):
    player = ReferencePlayer(ROBOT, xy=np.array([2.0, 3.0]), yaw=1.0)
    for _ in range(3):
        player.start(motion)
        last = player.goal()
        for _ in range(400):
            goal = player.step()
            assert np.linalg.norm(goal.keypoint_pos - last.keypoint_pos, axis=-1).max() < 0.1
            last = goal
    assert abs(wrap_angle(heading(last.root_quat) - 1.0)) < 0.05
    np.testing.assert_allclose(last.root_pos[:2], [2.0, 3.0], atol=0.1)
