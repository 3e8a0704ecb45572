# SPDX-License-Identifier: Apache-2.0
"""The rewards of Table 7: pure functions of a `RewardInput`, each returning (N,), unweighted.

A function's name is its key in the configuration and in the logs. Tracking terms follow Eq. 1 (Table
7 drops the minus sign and divides outside the exponential); the energy term uses the joint velocity
(Table 7 prints q without its dot); ``feet_max_height`` punishes what exceeds the wanted height (the
printed min() would reward low steps and never punish high ones).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genmimic.core.kinematics import KeypointState
from genmimic.core.rotation import quat_angle

_CONTACT_N = 1.0
"""A foot touches when its contact force exceeds this (Table 7)."""


@dataclass
class RewardInput:
    """What a step's rewards are computed from; world frame, N environments.

    Attributes:
        robot: Keypoints reached, with velocities.
        goal: Keypoints wanted, position and orientation.
        joint_pos, goal_joint_pos: In rad. Shape (N, J).
        joint_vel, goal_joint_vel: In rad/s. Shape (N, J).
        joint_acc: In rad/s^2. Shape (N, J).
        joint_lower, joint_upper: In rad. Shape (J,).
        torque: In N m. Shape (N, J).
        action, last_action: Shape (N, J).
        gravity_dir_b: Shape (N, 3).
        foot_gravity: Gravity in the frame of each foot. Shape (N, 2, 3).
        foot_force: In N. Shape (N, 2, 3).
        foot_speed: Horizontal speed of each foot, in m/s. Shape (N, 2).
        foot_height: Peak height of each foot over its present step, in m. Shape (N, 2).
        air_time: Of each foot up to this step, in s. Shape (N, 2).
        first_contact: Whether a foot touched down in this step. Shape (N, 2).
        goal_contact: Whether the reference's foot stands. Shape (N, 2).
        joint_weights: Summing to one. Shape (J,).
        keypoint_weights: Summing to one. Shape (K,), or (N, K) where the policy gives them.
        weight_change: What the policy changed of its keypoint weights' logits in this step. Shape (N, K).
        sigma: Bandwidths by the names of the tracking terms.
        desired_step_height: In m.
        desired_air_time: In s.
        terminated: Whether the episode ended early. Shape (N,).
    """

    robot: KeypointState
    goal: KeypointState
    joint_pos: torch.Tensor
    goal_joint_pos: torch.Tensor
    joint_vel: torch.Tensor
    goal_joint_vel: torch.Tensor
    joint_acc: torch.Tensor
    joint_lower: torch.Tensor
    joint_upper: torch.Tensor
    torque: torch.Tensor
    action: torch.Tensor
    last_action: torch.Tensor
    gravity_dir_b: torch.Tensor
    foot_gravity: torch.Tensor
    foot_force: torch.Tensor
    foot_speed: torch.Tensor
    foot_height: torch.Tensor
    air_time: torch.Tensor
    first_contact: torch.Tensor
    goal_contact: torch.Tensor
    joint_weights: torch.Tensor
    keypoint_weights: torch.Tensor
    weight_change: torch.Tensor
    sigma: dict[str, float]
    desired_step_height: float
    desired_air_time: float
    terminated: torch.Tensor


def _kernel(weights: torch.Tensor, squared_error: torch.Tensor, sigma: float) -> torch.Tensor:
    """Eq. 1: exp(-sum_j w_j e_j^2 / sigma^2)."""
    return torch.exp(-(weights * squared_error).sum(-1) / sigma**2)


def tracking_joint_pos(step: RewardInput) -> torch.Tensor:
    error = (step.joint_pos - step.goal_joint_pos) ** 2
    return _kernel(step.joint_weights, error, step.sigma["tracking_joint_pos"])


def tracking_joint_vel(step: RewardInput) -> torch.Tensor:
    error = (step.joint_vel - step.goal_joint_vel) ** 2
    return _kernel(step.joint_weights, error, step.sigma["tracking_joint_vel"])


def tracking_body_pos(step: RewardInput) -> torch.Tensor:
    error = ((step.robot.pos - step.goal.pos) ** 2).sum(-1)
    return _kernel(step.keypoint_weights, error, step.sigma["tracking_body_pos"])


def tracking_body_rot(step: RewardInput) -> torch.Tensor:
    error = quat_angle(step.robot.quat, step.goal.quat) ** 2
    return _kernel(step.keypoint_weights, error, step.sigma["tracking_body_rot"])


def action_rate(step: RewardInput) -> torch.Tensor:
    return ((step.action - step.last_action) ** 2).sum(-1)


def energy(step: RewardInput) -> torch.Tensor:
    return ((step.torque * step.joint_vel) ** 2).sum(-1)


def dof_acceleration(step: RewardInput) -> torch.Tensor:
    return (step.joint_acc**2).sum(-1)


def dof_limits(step: RewardInput) -> torch.Tensor:
    beyond = (step.joint_pos > step.joint_upper) | (step.joint_pos < step.joint_lower)
    return beyond.float().sum(-1)


def feet_slip(step: RewardInput) -> torch.Tensor:
    contact = step.foot_force.norm(dim=-1) > _CONTACT_N
    return (step.foot_speed * contact).sum(-1)


def orientation(step: RewardInput) -> torch.Tensor:
    return (step.gravity_dir_b[:, :2] ** 2).sum(-1)


def feet_contact_force(step: RewardInput) -> torch.Tensor:
    return step.foot_force.norm(dim=-1).sum(-1)


def feet_orientation(step: RewardInput) -> torch.Tensor:
    return (step.foot_gravity[..., :2] ** 2).sum((-1, -2))


def feet_max_height(step: RewardInput) -> torch.Tensor:
    in_air = step.foot_force.norm(dim=-1) <= _CONTACT_N
    above = (step.foot_height - step.desired_step_height).clamp(min=0.0)
    return (above * in_air).sum(-1)


def feet_air_time(step: RewardInput) -> torch.Tensor:
    return ((step.air_time - step.desired_air_time) * step.first_contact).sum(-1)


def feet_contact_mismatch(step: RewardInput) -> torch.Tensor:
    """Feet that stand while the reference's are in the air, or the other way round. Ours: Table 7 has none."""
    contact = step.foot_force.norm(dim=-1) > _CONTACT_N
    return (contact != step.goal_contact).float().sum(-1)


def weight_rate(step: RewardInput) -> torch.Tensor:
    """Change of the learned keypoint weights' logits (section 5.5, 3DP+Self-supervised)."""
    return (step.weight_change**2).sum(-1)


def termination(step: RewardInput) -> torch.Tensor:
    return step.terminated.float()


def alive(step: RewardInput) -> torch.Tensor:
    return torch.ones_like(step.torque[:, 0])


REWARDS = {
    function.__name__: function
    for function in (
        tracking_joint_pos,
        tracking_joint_vel,
        tracking_body_pos,
        tracking_body_rot,
        action_rate,
        energy,
        dof_acceleration,
        dof_limits,
        feet_slip,
        orientation,
        feet_contact_force,
        feet_orientation,
        feet_max_height,
        feet_air_time,
        feet_contact_mismatch,
        weight_rate,
        termination,
        alive,
    )
}
"""All terms, by the names that the configuration uses."""
