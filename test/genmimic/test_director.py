# SPDX-License-Identifier: Apache-2.0
"""Which goal is shown in which mode."""

import numpy as np
import pytest

from genmimic.core.director import ReferenceDirector
from genmimic.core.errors import MotionError
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.modes import Mode
from genmimic.core.motion import Motion
from genmimic.core.reference import Phase, feet_anchor
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.rotation import heading, quat_from_heading


def nod(frames=25):
    """Half a second in which one shoulder moves."""
    joint_pos = np.tile(ROBOT.default_joint_pos, (frames, 1))
    joint_pos[:, ROBOT.joint_idx(["left_shoulder_pitch_joint"])[0]] += np.linspace(0.3, 0.6, frames)
    root_pos = np.tile([3.0, 1.0, ROBOT.standing_height], (frames, 1))
    return Motion.from_joints(ROBOT, 50.0, joint_pos, root_pos, np.tile([1.0, 0, 0, 0], (frames, 1)), "nod")


@pytest.fixture
def director():
    director = ReferenceDirector(ROBOT)
    director.load(nod())
    return director


def play(director, mode, steps):
    return [director.step(mode) for _ in range(steps)]


def test_while_the_policy_does_not_drive_the_goal_stands_where_the_robot_is(director):
    pos, quat = np.array([1.0, -2.0, ROBOT.standing_height]), quat_from_heading(np.asarray(0.8))
    director.observe(quat, ROBOT.default_joint_pos, pos)
    for mode in (Mode.DISARMED, Mode.STANDING, Mode.DAMPED, Mode.ESTOP):
        goal = director.step(mode)
        assert goal.phase is Phase.IDLE and goal.motion == ""
        robot = forward_kinematics(ROBOT, pos, quat, ROBOT.default_joint_pos).pos
        np.testing.assert_allclose(goal.keypoint_pos, robot, atol=1e-6)


def test_ready_keeps_the_goal_where_it_is(director):
    director.observe(np.array([1.0, 0, 0, 0]), ROBOT.default_joint_pos, np.array([0, 0, 0.8]))
    director.step(Mode.STANDING)
    director.observe(quat_from_heading(np.asarray(0.5)), ROBOT.default_joint_pos, np.array([0.4, 0, 0.8]))
    goal = director.step(Mode.READY)
    assert float(heading(goal.root_quat)) == pytest.approx(0.0, abs=1e-9)


def test_the_motion_plays_from_where_the_robot_stands_and_ends_in_ready(director):
    director.observe(np.array([1.0, 0, 0, 0]), ROBOT.default_joint_pos, np.array([0.5, 0.2, 0.8]))
    play(director, Mode.READY, 5)
    goals = []
    while not goals or goals[-1].phase is not Phase.DONE:
        goals.append(director.step(Mode.MIMIC))
        assert len(goals) < 500
    assert list(dict.fromkeys(goal.phase for goal in goals)) == [
        Phase.BLEND_IN,
        Phase.PLAYING,
        Phase.BLEND_OUT,
        Phase.DONE,
    ]
    own = [goal for goal in goals if goal.phase is Phase.PLAYING]
    assert [goal.frame for goal in own] == list(range(25)) and own[0].frames == 25
    assert np.abs(own[0].root_pos[:2] - [0.5, 0.2]).max() < 0.1  # not at 3, 1, where the file has it
    steps = np.diff([goal.keypoint_pos for goal in goals], axis=0)
    assert np.linalg.norm(steps, axis=-1).max() < 0.06  # 3 m/s
    assert director.step(Mode.READY).phase is Phase.IDLE
    assert director.step(Mode.MIMIC).phase is Phase.BLEND_IN  # again


def test_hold_freezes_and_mimic_goes_on(director):
    before = play(director, Mode.MIMIC, 60)[-1]
    held = play(director, Mode.HOLD, 20)
    assert {goal.phase for goal in held} == {Phase.PAUSED}
    assert all(np.array_equal(goal.keypoint_pos, before.keypoint_pos) for goal in held)
    np.testing.assert_array_equal(held[0].horizon_keypoint_pos[9], before.keypoint_pos)
    assert director.step(Mode.MIMIC).frame == before.frame + 1


def test_stop_blends_back_and_start_waits_for_its_end(director):
    play(director, Mode.MIMIC, 60)
    back = play(director, Mode.READY, 10)
    assert {goal.phase for goal in back} == {Phase.BLEND_OUT}
    goals = play(director, Mode.MIMIC, 200)
    assert Phase.DONE not in {goal.phase for goal in goals[:80]}  # the old motion's end is not the new one's
    assert {Phase.BLEND_IN, Phase.PLAYING} <= {goal.phase for goal in goals}
    steps = np.linalg.norm(np.diff([goal.keypoint_pos for goal in [*back, *goals]], axis=0), axis=-1)
    assert steps.max() < 0.06


def test_damping_ends_a_motion_at_once(director):
    play(director, Mode.MIMIC, 60)
    assert director.step(Mode.DAMPED).phase is Phase.IDLE
    assert director.step(Mode.READY).phase is Phase.IDLE


def test_without_a_motion_mimic_is_over_at_once():
    assert ReferenceDirector(ROBOT).step(Mode.MIMIC).phase is Phase.DONE


def test_nothing_is_loaded_while_a_motion_plays(director):
    director.step(Mode.MIMIC)
    with pytest.raises(MotionError, match="'nod' is playing; stop it"):
        director.load(nod(30))
    director.step(Mode.READY)
    director.load(nod(30))
    assert len(director.motion) == 30


def test_goals_stand_on_the_floor(director):
    for goal in play(director, Mode.MIMIC, 150):
        feet = ROBOT.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
        assert 0.0 < goal.keypoint_pos[feet, 2].min() < 0.1
    assert feet_anchor(ROBOT, nod(), 0)[1] == pytest.approx(0.0, abs=1e-6)
