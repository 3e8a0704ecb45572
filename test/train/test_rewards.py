# SPDX-License-Identifier: Apache-2.0
"""Rewards: each against a value worked by hand, and the signs that Table 7 leaves open."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from genmimic.core.kinematics import KeypointState
from genmimic_train.config import RewardConfig
from genmimic_train.tracking.rewards import REWARDS, RewardInput


@pytest.fixture
def perfect() -> RewardInput:
    """One environment, 23 joints, 27 keypoints, everything where it should be and at rest."""
    zero = torch.zeros(1, 23)
    quat = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(1, 27, 1)
    points = KeypointState(torch.zeros(1, 27, 3), quat, torch.zeros(1, 27, 3), torch.zeros(1, 27, 3))
    return RewardInput(
        robot=points,
        goal=points,
        joint_pos=zero,
        goal_joint_pos=zero,
        joint_vel=zero,
        goal_joint_vel=zero,
        joint_acc=zero,
        joint_lower=torch.full((23,), -1.0),
        joint_upper=torch.full((23,), 1.0),
        torque=zero,
        action=zero,
        last_action=zero,
        gravity_dir_b=torch.tensor([[0.0, 0.0, -1.0]]),
        foot_gravity=torch.tensor([[[0.0, 0.0, -1.0], [0.0, 0.0, -1.0]]]),
        foot_force=torch.tensor([[[0.0, 0.0, 150.0], [0.0, 0.0, 150.0]]]),
        foot_speed=torch.zeros(1, 2),
        foot_height=torch.zeros(1, 2),
        air_time=torch.zeros(1, 2),
        first_contact=torch.zeros(1, 2, dtype=torch.bool),
        goal_contact=torch.ones(1, 2, dtype=torch.bool),
        joint_weights=torch.full((23,), 1.0 / 23.0),
        keypoint_weights=torch.full((27,), 1.0 / 27.0),
        weight_change=torch.zeros(1, 27),
        sigma=RewardConfig().sigma,
        desired_step_height=0.1,
        desired_air_time=0.25,
        terminated=torch.zeros(1, dtype=torch.bool),
    )


def test_every_configured_weight_has_a_function_and_back():
    assert set(RewardConfig().weights) == set(REWARDS)


@pytest.mark.parametrize("name", [name for name in REWARDS if name.startswith("tracking")])
def test_tracking_is_one_at_the_goal(perfect, name):
    assert REWARDS[name](perfect).item() == pytest.approx(1.0)


def test_body_position_follows_equation_1(perfect):
    moved = replace(perfect.robot, pos=torch.full((1, 27, 3), 0.1))
    # every keypoint is off by 0.1 in x, y and z: squared distance 0.03, weights sum to one
    expected = math.exp(-0.03 / perfect.sigma["tracking_body_pos"] ** 2)
    assert REWARDS["tracking_body_pos"](replace(perfect, robot=moved)).item() == pytest.approx(expected, rel=1e-5)


def test_rotation_uses_the_geodesic_angle(perfect):
    half = 0.25
    quat = torch.tensor([math.cos(half), 0.0, math.sin(half), 0.0]).repeat(1, 27, 1)  # 0.5 rad about y
    turned = replace(perfect, robot=replace(perfect.robot, quat=-quat))  # the sign of a quaternion means nothing
    expected = math.exp(-(0.5**2) / perfect.sigma["tracking_body_rot"] ** 2)
    assert REWARDS["tracking_body_rot"](turned).item() == pytest.approx(expected, rel=1e-4)


def test_energy_uses_velocity_not_position(perfect):
    step = replace(perfect, torque=torch.full((1, 23), 2.0), joint_vel=torch.full((1, 23), 3.0))
    assert REWARDS["energy"](step).item() == pytest.approx(23 * 36.0)


def test_limits_count_joints(perfect):
    joint_pos = torch.zeros(1, 23)
    joint_pos[0, [2, 5]] = torch.tensor([1.1, -1.1])
    assert REWARDS["dof_limits"](replace(perfect, joint_pos=joint_pos)).item() == 2.0


def test_slip_counts_only_in_contact(perfect):
    sliding = replace(perfect, foot_speed=torch.tensor([[0.5, 0.25]]))
    assert REWARDS["feet_slip"](sliding).item() == pytest.approx(0.75)
    one_up = torch.tensor([[[0.0, 0.0, 150.0], [0.0, 0.0, 0.0]]])
    assert REWARDS["feet_slip"](replace(sliding, foot_force=one_up)).item() == pytest.approx(0.5)


def test_height_punishes_what_is_above_the_wanted(perfect):
    in_air = torch.zeros(1, 2, 3)
    high = replace(perfect, foot_height=torch.tensor([[0.25, 0.05]]), foot_force=in_air)
    assert REWARDS["feet_max_height"](high).item() == pytest.approx(0.15)
    on_floor = replace(high, foot_force=torch.full((1, 2, 3), 50.0))
    assert REWARDS["feet_max_height"](on_floor).item() == 0.0


def test_air_time_is_paid_at_touchdown(perfect):
    landed = replace(perfect, air_time=torch.tensor([[0.35, 0.35]]), first_contact=torch.tensor([[True, False]]))
    assert REWARDS["feet_air_time"](landed).item() == pytest.approx(0.1)


def test_better_is_better(perfect):
    """A step that is perfect scores above one that is worse in any single respect."""
    config = RewardConfig()

    def total(step: RewardInput) -> float:
        return sum(weight * REWARDS[name](step).item() for name, weight in config.weights.items())

    worse = [
        replace(perfect, action=torch.ones(1, 23)),
        replace(perfect, joint_acc=torch.full((1, 23), 50.0)),
        replace(
            perfect, torque=torch.full((1, 23), 50.0), joint_vel=torch.ones(1, 23), goal_joint_vel=torch.ones(1, 23)
        ),
        replace(perfect, joint_pos=torch.full((1, 23), 1.2), goal_joint_pos=torch.full((1, 23), 1.2)),
        replace(perfect, gravity_dir_b=torch.tensor([[0.5, 0.0, -0.87]])),
        replace(perfect, foot_gravity=torch.tensor([[[0.5, 0.0, -0.87], [0.0, 0.0, -1.0]]])),
        replace(perfect, foot_speed=torch.tensor([[1.0, 0.0]])),
        replace(perfect, foot_force=3.0 * perfect.foot_force),
        replace(perfect, terminated=torch.ones(1, dtype=torch.bool)),
    ]
    assert all(total(step) < total(perfect) for step in worse)


EXACT = {
    # off by 0.2 rad and 2 rad/s everywhere, weights 1/23: exp(-0.2^2 / 0.4^2), exp(-2^2 / 4^2)
    "tracking_joint_pos": ({"joint_pos": torch.full((1, 23), 0.2)}, math.exp(-0.25)),
    "tracking_joint_vel": ({"joint_vel": torch.full((1, 23), 2.0)}, math.exp(-0.25)),
    "action_rate": ({"action": torch.full((1, 23), 0.5), "last_action": torch.full((1, 23), -0.5)}, 23.0),
    "dof_acceleration": ({"joint_acc": torch.full((1, 23), 10.0)}, 2300.0),
    "orientation": ({"gravity_dir_b": torch.tensor([[0.6, -0.3, -0.7416]])}, 0.45),
    "feet_contact_force": ({"foot_force": torch.tensor([[[30.0, 40.0, 0.0], [0.0, 0.0, 100.0]]])}, 150.0),
    "feet_orientation": ({"foot_gravity": torch.tensor([[[0.6, 0.0, -0.8], [0.0, 0.1, -0.995]]])}, 0.37),
    "feet_air_time": (
        {"air_time": torch.tensor([[0.15, 0.45]]), "first_contact": torch.tensor([[True, True]])},
        0.1,  # 0.15 - 0.25 and 0.45 - 0.25: a short step costs
    ),
    "feet_contact_mismatch": (  # left: both stand; right: it stands, the reference's does not
        {"goal_contact": torch.tensor([[True, False]])},
        1.0,
    ),
    "weight_rate": ({"weight_change": torch.full((1, 27), 0.5)}, 6.75),
    "termination": ({"terminated": torch.ones(1, dtype=torch.bool)}, 1.0),
    "alive": ({}, 1.0),
}


@pytest.mark.parametrize("name", list(EXACT))
def test_value_by_hand(perfect, name):
    changes, expected = EXACT[name]
    assert REWARDS[name](replace(perfect, **changes)).item() == pytest.approx(expected, rel=1e-4)


def test_weights_of_each_robot(perfect):
    """Weights (N, K), as a policy gives them: what has no weight may be anywhere."""
    moved = perfect.robot.pos.clone()
    moved[:, 0] = 1.0
    weights = torch.zeros(1, 27)
    weights[:, 1] = 1.0
    step = replace(perfect, robot=replace(perfect.robot, pos=moved), keypoint_weights=weights)
    assert REWARDS["tracking_body_pos"](step).item() == pytest.approx(1.0)
