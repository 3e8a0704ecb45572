# SPDX-License-Identifier: Apache-2.0
"""Observations and their mirror: sizes of Table 6, places of the terms, symmetry of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from genmimic.core.errors import ConfigError
from genmimic.core.kinematics import KeypointState, forward_kinematics
from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.observation import (
    FUTURE,
    HISTORY,
    PRIVILEGED,
    PROPRIOCEPTION,
    STUDENT,
    TEACHER,
    Term,
    gravity_direction,
    proprioception,
    push_history,
    size,
    student_goal,
    student_observation,
    teacher_observation,
    to_goal_frame,
)
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import heading, quat_from_heading, quat_multiply, quat_normalize, rotate_heading

ROBOT = G1_23DOF
RNG = np.random.default_rng(0)
FLIP, FLIP_AXIAL, FLIP_QUAT = np.array([1.0, -1, 1]), np.array([-1.0, 1, -1]), np.array([1.0, -1, 1, -1])


def test_sizes_are_the_rows_of_table_6():
    assert [size(terms) for terms in (PROPRIOCEPTION, PRIVILEGED, TEACHER, STUDENT)] == [156, 88, 757, 2370]


def test_proprioception_puts_each_term_in_its_place():
    joint_pos, joint_vel, action = RNG.standard_normal((3, 23))
    gyro, gravity = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, -1.0])
    frame = proprioception(ROBOT, joint_pos, joint_vel, gyro, gravity, action)
    np.testing.assert_allclose(frame[:23], joint_pos - ROBOT.default_joint_pos)
    np.testing.assert_allclose(frame[23:46], joint_vel)
    np.testing.assert_allclose(frame[46:49], gyro)
    np.testing.assert_allclose(frame[49:52], gravity)
    np.testing.assert_allclose(frame[52:75], action)
    np.testing.assert_allclose(frame[75:78], 0.0)  # the pelvis in its own frame


def test_gravity_points_down_and_tilts():
    np.testing.assert_allclose(gravity_direction(np.array([1.0, 0, 0, 0])), [0, 0, -1])
    pitched = np.array([np.cos(0.1), 0.0, np.sin(0.1), 0.0])  # nose down by 0.2 rad: gravity moves forward
    np.testing.assert_allclose(gravity_direction(pitched), [np.sin(0.2), 0.0, -np.cos(0.2)], atol=1e-12)


def test_history_is_oldest_first():
    history = np.zeros((HISTORY, 156))
    for step in range(12):
        history = push_history(history, np.full(156, float(step)))
    obs = student_observation(history, np.full(810, -1.0))
    assert obs.shape == (2370,)
    np.testing.assert_array_equal(obs[:1560:156], np.arange(2.0, 12.0))
    assert (obs[1560:] == -1.0).all()


def test_student_sees_heading_but_not_place():
    goals = RNG.standard_normal((FUTURE, 27, 3))
    root, yaw = np.array([0.3, -0.2, 0.8]), np.array(0.4)
    seen = student_goal(goals, root, yaw)
    moved = student_goal(goals + [5.0, -3.0, 0.0], root + [5.0, -3.0, 0.0], yaw)
    np.testing.assert_allclose(moved, seen, atol=1e-12)
    # turning robot and goals together changes nothing; turning the robot alone does
    turned = student_goal(rotate_heading(np.full((1, 1), 1.0), goals), rotate_heading(np.array(1.0), root), yaw + 1.0)
    np.testing.assert_allclose(turned, seen, atol=1e-12)
    assert np.abs(student_goal(goals, root, yaw + 0.1) - seen).max() > 0.05
    # heights are above the floor, not above the goal root
    np.testing.assert_allclose(seen.reshape(FUTURE, 27, 3)[..., 2], goals[..., 2])


def _teacher_obs(pose, goal_pose, privileged):
    keypoints = forward_kinematics(ROBOT, *pose)
    goal = forward_kinematics(ROBOT, *goal_pose[:3])
    root_pos, root_quat = goal_pose[:2]
    in_goal = to_goal_frame(keypoints, root_pos, root_quat)
    goal_pos = to_goal_frame(KeypointState(goal.pos, goal.quat), root_pos, root_quat).pos
    proprio = proprioception(ROBOT, pose[2], pose[5], pose[4], gravity_direction(pose[1]), np.zeros(23))
    return teacher_observation(proprio, in_goal, goal_pos, privileged)


def _random_pose():
    yaw = quat_from_heading(RNG.uniform(-3, 3, ()))
    tilt = quat_normalize(np.array([1.0, *0.1 * RNG.standard_normal(3)]))
    joints = ROBOT.default_joint_pos + 0.2 * RNG.standard_normal(23)
    vel = [RNG.standard_normal(count) for count in (3, 3, 23)]
    return (np.array([1.0, 2.0, 0.78]) + 0.1 * RNG.standard_normal(3), quat_multiply(yaw, tilt), joints, *vel)


def _mirror_pose(pose):
    a = action_mirror(ROBOT)
    pos, quat, joints, lin, ang, vel = pose
    return pos * FLIP, quat * FLIP_QUAT, a(joints), lin * FLIP, ang * FLIP_AXIAL, a(vel)


def test_teacher_observation_of_the_mirrored_world_is_the_mirrored_observation():
    mirror = observation_mirror(ROBOT, TEACHER)
    privileged = RNG.standard_normal(88)
    mirrored_privileged = observation_mirror(ROBOT, PRIVILEGED)(privileged)
    for _ in range(20):
        pose, goal = _random_pose(), _random_pose()
        there = _teacher_obs(pose, goal, privileged)
        mirrored = _teacher_obs(_mirror_pose(pose), _mirror_pose(goal), mirrored_privileged)
        np.testing.assert_allclose(mirrored, mirror(there), atol=2e-4)


def test_goal_frame_forgets_place_and_heading_but_nothing_else():
    pose, goal = _random_pose(), _random_pose()
    keypoints = forward_kinematics(ROBOT, *pose)
    seen = to_goal_frame(keypoints, goal[0], goal[1])
    turn = np.array(0.7)
    quat = quat_from_heading(turn)
    moved = KeypointState(
        rotate_heading(turn, keypoints.pos) + [3.0, 4.0, 0.0],
        quat_multiply(np.tile(quat, (27, 1)), keypoints.quat),
        rotate_heading(turn, keypoints.lin_vel),
        rotate_heading(turn, keypoints.ang_vel),
    )
    again = to_goal_frame(moved, rotate_heading(turn, goal[0]) + [3.0, 4.0, 0.0], quat_multiply(quat, goal[1]))
    for name in ("pos", "quat", "lin_vel", "ang_vel"):
        np.testing.assert_allclose(getattr(again, name), getattr(seen, name), atol=1e-9)
    assert heading(goal[1]) != pytest.approx(0.0)


@pytest.mark.parametrize("terms", [PROPRIOCEPTION, TEACHER, STUDENT])
def test_mirroring_twice_is_the_identity(terms):
    mirror = observation_mirror(ROBOT, terms)
    values = RNG.standard_normal((3, size(terms)))
    np.testing.assert_array_equal(mirror(mirror(values)), values)


def test_a_term_without_a_mirror_is_refused():
    with pytest.raises(ConfigError, match="'colour'"):
        observation_mirror(ROBOT, (Term("colour", 3, "rgb"),))
