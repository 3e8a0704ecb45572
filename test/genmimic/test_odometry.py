# SPDX-License-Identifier: Apache-2.0
"""Leg odometry: a robot whose feet stand knows where it is."""

from pathlib import Path

import numpy as np
import pytest

from genmimic.core.controller import TrackingController
from genmimic.core.kinematics import sole_positions
from genmimic.core.motion import load_motion, place_motion
from genmimic.core.observation import HEADING_FRAME, ODOMETRY_FRAME
from genmimic.core.odometry import MAX_LAG_M, contact_weights, lag_excess, start_odometry, step_odometry
from genmimic.core.reference import ReferencePlayer
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.state import RobotState

MOTIONS = Path(__file__).parents[2] / "motions"


class Recorder:
    """A policy that keeps what it has seen."""

    def __init__(self):
        self.seen = []

    def __call__(self, observation):
        self.seen.append(observation)
        return np.zeros(ROBOT.num_joints)


def soles_of(motion):
    """Sole points relative to the pelvis, world axes. Shape (T, S, 3)."""
    return sole_positions(ROBOT, np.zeros((len(motion), 3)), motion.root_quat, motion.joint_pos)


def follow(motion, soles):
    odometry = start_odometry(motion.root_pos[0, :2], soles[0])
    for sole_pos in soles[1:]:
        odometry = step_odometry(odometry, sole_pos)
    return odometry


@pytest.mark.parametrize(("name", "limit_m"), [("wave", 0.005), ("hands_chop", 0.01), ("deep_squat", 0.05)])
def test_a_body_that_moves_over_standing_feet_is_followed(name, limit_m):
    motion = load_motion(MOTIONS / f"{name}.npz", ROBOT)
    estimate = follow(motion, soles_of(motion)).pos
    assert np.linalg.norm(estimate[:2] - motion.root_pos[-1, :2]) < limit_m
    assert estimate[2] == pytest.approx(motion.root_pos[-1, 2], abs=0.02)


def test_noise_does_not_walk_away():
    motion = load_motion(MOTIONS / "hands_chop.npz", ROBOT)
    soles = soles_of(motion)
    noisy = soles + np.random.default_rng(0).normal(0.0, 0.01, soles.shape)  # Table 8
    error = follow(motion, noisy).pos[:2] - motion.root_pos[-1, :2]
    assert np.linalg.norm(error) < 0.05  # after 12 s


@pytest.mark.parametrize("clearance_m", [0.08, 0.015])
def test_steps_are_counted(clearance_m):
    """One foot stands while the other moves, in turns; that it hardly leaves the floor does not make it stand."""
    rest = sole_positions(ROBOT, np.zeros(3), np.array([1.0, 0, 0, 0]), ROBOT.default_joint_pos)
    half = len(rest) // 2
    soles, pelvis = [], 0.0
    feet = np.zeros(2)
    for stride in range(6):
        swing = stride % 2
        for part in np.linspace(0.0, 1.0, 26)[1:]:
            moved = feet.copy()
            moved[swing] += 0.2 * part**3 * (10.0 - 15.0 * part + 6.0 * part**2)
            pelvis_now = moved.mean()
            frame = rest.copy()
            frame[:half, 0] += moved[0] - pelvis_now
            frame[half:, 0] += moved[1] - pelvis_now
            frame[swing * half : (swing + 1) * half, 2] += clearance_m * np.sin(np.pi * part)
            soles.append(frame)
        feet[swing] += 0.2
        pelvis = feet.mean()
    odometry = start_odometry(np.zeros(2), rest)
    for frame in soles:
        odometry = step_odometry(odometry, frame)
    assert pelvis == pytest.approx(0.6)
    assert odometry.pos[0] == pytest.approx(pelvis, rel=0.05)
    assert abs(odometry.pos[1]) < 0.01


def test_torch_computes_the_same():
    torch = pytest.importorskip("torch", reason="training needs torch")
    motion = load_motion(MOTIONS / "wave.npz", ROBOT)
    soles = soles_of(motion)[:50]
    one = follow(motion, soles)
    both = torch.as_tensor(np.stack([soles, soles + [0.0, 0.0, 1.0]], 1))
    state = start_odometry(torch.as_tensor(np.tile(motion.root_pos[0, :2], (2, 1))), both[0])
    for sole_pos in both[1:]:
        state = step_odometry(state, sole_pos)
    np.testing.assert_allclose(state.pos[0].numpy(), one.pos, atol=1e-12)
    np.testing.assert_allclose(state.pos[1, :2].numpy(), one.pos[:2], atol=1e-9)  # the floor's height does not matter


def test_weights_are_those_of_the_lowest_points():
    weights = contact_weights(np.array([0.0, 0.0, 0.2, 0.2]))
    assert weights.sum() == pytest.approx(1.0) and weights[:2].min() > 0.49


def test_a_goal_waits_for_a_robot_that_is_far_behind():
    pos, goal = np.zeros((2, 2)), np.array([[0.1, 0.0], [3.0, 4.0]])
    excess = lag_excess(pos, goal)
    np.testing.assert_allclose(excess[0], 0.0)
    assert np.linalg.norm(goal[1] - pos[1] - excess[1]) == pytest.approx(MAX_LAG_M)


def test_the_student_sees_where_it_stands_only_with_odometry():
    """The same robot beside its goal, after it has stepped aside by 10 cm."""
    player = ReferencePlayer(ROBOT)
    goal = player.goal()
    seen = {}
    for frame in (HEADING_FRAME, ODOMETRY_FRAME):
        policy = Recorder()
        controller = TrackingController(ROBOT, policy, goal_frame=frame)
        for shift in (0.0, 0.1):
            state = RobotState(
                0, 0, ROBOT.default_joint_pos, *np.zeros((3, 23)), goal.root_quat, np.zeros(3), np.array([0, 0, 9.81])
            )
            controller.step(0, state, goal)
            if controller.odometry is not None:
                controller.odometry.pos[0] += shift
        controller.step(0, state, goal)
        first, last = (observation[-810:].reshape(10, 27, 3) for observation in policy.seen[:: len(policy.seen) - 1])
        seen[frame] = last - first
    np.testing.assert_allclose(seen[HEADING_FRAME], 0.0, atol=1e-9)
    np.testing.assert_allclose(seen[ODOMETRY_FRAME][..., 0], -0.1, atol=1e-6)


def test_odometry_does_not_depend_on_where_the_world_begins():
    motion = load_motion(MOTIONS / "wave.npz", ROBOT)
    turned = place_motion(ROBOT, motion, [2.0, -1.0], 1.0)
    first = follow(motion, soles_of(motion)).pos[:2] - motion.root_pos[0, :2]
    second = follow(turned, soles_of(turned)).pos[:2] - turned.root_pos[0, :2]
    assert np.linalg.norm(first) == pytest.approx(np.linalg.norm(second), abs=1e-6)
