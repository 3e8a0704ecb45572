# SPDX-License-Identifier: Apache-2.0
"""The controller: what the policy sees, where, and what becomes of its answer."""

from dataclasses import replace

import numpy as np
import pytest

from genmimic.core.controller import TrackingController
from genmimic.core.kinematics import keypoints_in_base
from genmimic.core.motion import place_motion
from genmimic.core.noise import NO_NOISE, PAPER_NOISE, ObservationNoise
from genmimic.core.observation import FUTURE, HISTORY, STUDENT, size
from genmimic.core.reference import ReferencePlayer, standing_motion
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import quat_from_axis_angle, quat_from_heading, quat_multiply
from genmimic.core.state import RobotState

ROBOT = G1_23DOF
FRAME = 156


def _slices():
    begin, found = 0, {}
    for term in STUDENT:
        found[term.name] = slice(begin, begin + term.size)
        begin += term.size
    return found


AT = _slices()


def _state(yaw=0.0, pos=(0.0, 0.0, 0.76), joint_pos=None, joint_vel=None, rate=(0.0, 0.0, 0.0), quat=None):
    zero = np.zeros(23)
    return RobotState(
        stamp_ns=0,
        tick=0,
        joint_pos=ROBOT.default_joint_pos if joint_pos is None else joint_pos,
        joint_vel=zero if joint_vel is None else joint_vel,
        joint_torque=zero,
        joint_temperature=zero,
        base_quat_w=quat_from_heading(np.asarray(yaw)) if quat is None else quat,
        base_ang_vel_b=np.asarray(rate, float),
        base_lin_acc_b=np.zeros(3),
        root_pos_w=np.asarray(pos, float),
    )


class Recorder:
    """A policy that keeps what it saw and answers as told."""

    def __init__(self, action=None):
        self.seen = []
        self.action = np.zeros(23) if action is None else action

    def __call__(self, observation):
        self.seen.append(np.array(observation))
        return self.action


def _goal(xy=(0.0, 0.0), yaw=0.0):
    return ReferencePlayer(ROBOT, np.array(xy, float), yaw).goal()


def _observe(state, goal, noise=NO_NOISE, seed=0):
    policy = Recorder()
    TrackingController(ROBOT, policy, noise, np.random.default_rng(seed)).step(0, state, goal)
    return policy.seen[0]


# layout ---------------------------------------------------------------------------------------------
def test_size_is_2370():
    assert _observe(_state(), _goal()).shape == (2370,)
    assert size(STUDENT) == 2370 == HISTORY * FRAME + FUTURE * 81


def test_each_term_lands_in_its_place():
    rng = np.random.default_rng(1)
    joint_pos, joint_vel = ROBOT.default_joint_pos + 0.2 * rng.standard_normal(23), rng.standard_normal(23)
    quat = quat_from_axis_angle(np.array([0.0, 1.0, 0.0]), np.asarray(0.1))  # nose down by 0.1 rad
    seen = _observe(_state(joint_pos=joint_pos, joint_vel=joint_vel, rate=(1.0, 2.0, 3.0), quat=quat), _goal())
    np.testing.assert_allclose(seen[AT["joint_pos[0]"]], joint_pos - ROBOT.default_joint_pos)
    np.testing.assert_allclose(seen[AT["joint_vel[0]"]], joint_vel)
    np.testing.assert_allclose(seen[AT["base_ang_vel_b[0]"]], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(seen[AT["gravity_dir_b[0]"]], [np.sin(0.1), 0.0, -np.cos(0.1)], atol=1e-12)
    np.testing.assert_allclose(seen[AT["last_action[0]"]], 0.0)
    np.testing.assert_allclose(seen[AT["keypoint_pos_b[0]"]], keypoints_in_base(ROBOT, joint_pos).ravel())


def test_goals_are_those_of_the_next_ten_steps():
    goal = _goal()
    horizon = goal.horizon_keypoint_pos + np.arange(1, 11)[:, None, None] * [0.01, 0.0, 0.0]
    seen = _observe(_state(), replace(goal, horizon_keypoint_pos=horizon))
    ground = goal.root_pos * [1.0, 1.0, 0.0]
    for step in range(1, 11):
        np.testing.assert_allclose(
            seen[AT[f"goal_keypoint_pos_h[+{step}]"]], (horizon[step - 1] - ground).ravel(), atol=1e-12
        )


def test_history_is_oldest_first_and_starts_full():
    policy = Recorder()
    controller = TrackingController(ROBOT, policy)
    for count in range(12):
        controller.step(0, _state(rate=(float(count), 0.0, 0.0)), _goal())
    first = [policy.seen[0][AT[f"base_ang_vel_b[{age}]"]][0] for age in range(-9, 1)]
    third = [policy.seen[2][AT[f"base_ang_vel_b[{age}]"]][0] for age in range(-9, 1)]
    last = [policy.seen[11][AT[f"base_ang_vel_b[{age}]"]][0] for age in range(-9, 1)]
    assert first == [0.0] * 10
    assert third == [0.0] * 8 + [1.0, 2.0]
    assert last == [float(value) for value in range(2, 12)]


def test_the_last_action_is_the_clipped_one_of_the_step_before():
    policy = Recorder(np.linspace(-20.0, 20.0, 23))
    controller = TrackingController(ROBOT, policy)
    controller.step(0, _state(), _goal())
    controller.step(0, _state(), _goal())
    np.testing.assert_allclose(policy.seen[1][AT["last_action[0]"]], np.clip(policy.action, -10.0, 10.0))
    np.testing.assert_allclose(policy.seen[1][AT["last_action[-1]"]], 0.0)


def test_reset_forgets_and_takes_the_held_pose_as_last_action():
    policy = Recorder(np.ones(23))
    controller = TrackingController(ROBOT, policy)
    controller.step(0, _state(rate=(5.0, 0.0, 0.0)), _goal())
    controller.reset(ROBOT.default_joint_pos + 0.5)  # 0.25 a = 0.5
    command = controller.step(0, _state(), _goal())
    np.testing.assert_allclose(policy.seen[1][AT["last_action[0]"]], 2.0)
    assert policy.seen[1][AT["base_ang_vel_b[-9]"]][0] == 0.0
    assert command.sequence == 1


# frames ---------------------------------------------------------------------------------------------
def test_heading_error_is_visible():
    """Turned left by 0.3 rad, the robot sees a goal point ahead at -0.3 rad."""
    goal = _goal()
    ahead = np.tile(goal.root_pos * [1.0, 1.0, 0.0] + [1.0, 0.0, 0.5], (10, 27, 1))
    seen = _observe(_state(yaw=0.3), replace(goal, horizon_keypoint_pos=ahead))
    np.testing.assert_allclose(seen[AT["goal_keypoint_pos_h[+1]"]][:3], [np.cos(0.3), -np.sin(0.3), 0.5], atol=1e-12)


def test_position_drift_is_invisible():
    there = _observe(_state(pos=(3.0, -2.0, 0.76)), _goal())
    np.testing.assert_array_equal(there, _observe(_state(), _goal()))


def test_the_whole_world_may_be_moved_and_turned():
    here = _observe(_state(yaw=0.1), _goal())
    moved = _observe(_state(yaw=1.1, pos=(5.0, 1.0, 0.76)), _goal((5.0, 1.0), 1.0))
    np.testing.assert_allclose(moved, here, atol=1e-9)


def test_heading_alone_does_not_change_what_the_body_feels():
    lean = quat_from_axis_angle(np.array([1.0, 0.0, 0.0]), np.asarray(0.2))
    turned = quat_multiply(quat_from_heading(np.asarray(2.0)), lean)
    first, second = (_observe(_state(quat=quat), _goal()) for quat in (lean, turned))
    np.testing.assert_allclose(first[: HISTORY * FRAME], second[: HISTORY * FRAME], atol=1e-12)
    assert np.abs(first[HISTORY * FRAME :] - second[HISTORY * FRAME :]).max() > 0.1


# action ---------------------------------------------------------------------------------------------
def test_action_becomes_joint_targets():
    """Eq. 4: a quarter of the action on top of the default pose; the raw action travels along."""
    action = np.zeros(23)
    action[3], action[5] = 0.8, 100.0
    command = TrackingController(ROBOT, Recorder(action)).step(7, _state(), _goal())
    wanted = ROBOT.default_joint_pos.copy()
    wanted[3] += 0.2
    wanted[5] += 2.5  # clipped at 10
    np.testing.assert_allclose(command.joint_pos, wanted)
    np.testing.assert_array_equal(command.action, action)
    np.testing.assert_array_equal(command.kp, ROBOT.kp)
    assert command.stamp_ns == 7 and command.sequence == 1


def test_a_bad_action_is_passed_on_to_be_judged():
    command = TrackingController(ROBOT, Recorder(np.full(23, np.nan))).step(0, _state(), _goal())
    assert not command.is_finite()


# noise ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("joint_pos", ("joint_pos",)),
        ("joint_vel", ("joint_vel",)),
        ("base_ang_vel_b", ("base_ang_vel_b",)),
        ("gravity_dir_b", ("gravity_dir_b",)),
        ("keypoint_pos_b", ("keypoint_pos_b",)),
        ("goal_keypoint_pos", ("goal_keypoint_pos_h",)),
        ("goal_offset_m", ("goal_keypoint_pos_h",)),
        ("keypoint_pos_g", ()),  # the teacher's
    ],
)
def test_noise_falls_only_where_asked(field, terms):
    clean = _observe(_state(), _goal())
    noisy = _observe(_state(), _goal(), ObservationNoise(**{field: 0.1}))
    touched = {name.split("[")[0] for name, part in AT.items() if not np.array_equal(clean[part], noisy[part])}
    assert touched == set(terms)


def test_joint_noise_leaves_the_observed_keypoints_alone():
    """Table 8 gives the keypoints their own noise; they are not computed from noisy joints."""
    noisy = _observe(_state(), _goal(), ObservationNoise(joint_pos=0.5))
    np.testing.assert_array_equal(
        noisy[AT["keypoint_pos_b[0]"]], keypoints_in_base(ROBOT, ROBOT.default_joint_pos).ravel()
    )


def test_noise_has_the_asked_spread_and_is_fresh_each_step():
    policy = Recorder()
    controller = TrackingController(ROBOT, policy, ObservationNoise(joint_vel=0.1), np.random.default_rng(0))
    for _ in range(400):
        controller.step(0, _state(), _goal())
    values = np.array([seen[AT["joint_vel[0]"]] for seen in policy.seen])
    assert values.std() == pytest.approx(0.1, rel=0.05) and abs(values.mean()) < 0.005


def test_goal_offset_stays_for_a_rollout():
    policy = Recorder()
    controller = TrackingController(ROBOT, policy, ObservationNoise(goal_offset_m=0.02), np.random.default_rng(0))
    for _ in range(2):
        controller.step(0, _state(), _goal())
    controller.reset()
    controller.step(0, _state(), _goal())
    goals = [seen[HISTORY * FRAME :] for seen in policy.seen]
    np.testing.assert_array_equal(goals[0], goals[1])
    assert np.abs(goals[2] - goals[0]).max() > 1e-4
    shift = (goals[0] - _observe(_state(), _goal())[HISTORY * FRAME :]).reshape(-1, 3)
    np.testing.assert_allclose(shift, np.tile(shift[0], (len(shift), 1)), atol=1e-12)
    assert np.abs(shift).max() <= 0.02


def test_noise_repeats_with_its_seed():
    first, again, other = (_observe(_state(), _goal(), PAPER_NOISE, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_playing_reference_reaches_the_policy():
    """Five steps into a motion, the first goal seen is frame six of the timeline."""
    still = place_motion(ROBOT, standing_motion(ROBOT, np.zeros(2), 0.0, 30), (1.0, 1.0), 0.5)
    player = ReferencePlayer(ROBOT)
    player.start(still)
    for _ in range(5):
        goal = player.step()
    seen = _observe(_state(), goal)
    wanted = player.timeline.motion.keypoint_pos[6] - goal.root_pos * [1.0, 1.0, 0.0]
    np.testing.assert_allclose(seen[AT["goal_keypoint_pos_h[+1]"]], wanted.ravel(), atol=1e-12)
