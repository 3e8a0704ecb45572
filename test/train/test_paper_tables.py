# SPDX-License-Identifier: Apache-2.0
"""Tables 6, 7 and 8, row by row: what the environment has, where it is, and how strong."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from genmimic.core.noise import PAPER_NOISE
from genmimic.core.observation import FUTURE, HISTORY, STUDENT, TEACHER, size
from genmimic.core.randomization import PAPER_RANDOMIZATION
from genmimic.core.robot import G1_23DOF
from genmimic_train.config import RewardConfig
from genmimic_train.tracking.encoding import teacher_size, teacher_terms

TABLE_6 = {
    "joint_pos": 23, "joint_vel": 23, "base_ang_vel_b": 3, "gravity_dir_b": 3, "last_action": 23, "keypoint_pos_b": 81,
    "keypoint_pos_g": 81, "keypoint_quat_g": 108, "keypoint_lin_vel_g": 81, "keypoint_ang_vel_g": 81,
    "goal_keypoint_pos_g": 81, "goal_keypoint_diff_g": 81, "base_com_bias_b": 3, "feet_friction": 2, "mass_scale": 8,
    "kd_scale": 23, "kp_scale": 23, "torque_scale": 23, "feet_contact_force_w": 6,
}  # fmt: skip
TABLE_7 = {
    "tracking_joint_pos": 32.0, "tracking_joint_vel": 16.0, "tracking_body_pos": 50.0, "tracking_body_rot": 20.0,
    "action_rate": -1.0, "energy": -1e-6, "dof_acceleration": -3e-6, "dof_limits": -100.0, "feet_slip": -5.0,
    "orientation": -50.0, "feet_contact_force": -0.03, "feet_orientation": -62.5, "feet_max_height": -2500.0,
    "feet_air_time": 1000.0, "termination": -200.0, "alive": 20.0,
}  # fmt: skip
TABLE_8 = {
    "friction": (0.4, 1.25), "mass_scale": (0.7, 1.3), "kp_scale": (0.75, 1.25), "kd_scale": (0.75, 1.25),
    "strength": (0.5, 1.5), "delay_substeps": (0, 3), "push_velocity_m_s": (-1.0, 1.0), "push_interval_s": 5.0,
}  # fmt: skip
NOISE_8 = {
    "joint_pos": 0.01, "joint_vel": 0.1, "base_ang_vel_b": 0.5, "gravity_dir_b": 0.1, "keypoint_pos_b": 0.01,
    "keypoint_pos_g": 0.01, "keypoint_quat_g": 0.01, "keypoint_lin_vel_g": 0.2, "keypoint_ang_vel_g": 0.5,
    "goal_keypoint_pos": 0.05, "goal_offset_m": 0.02,
}  # fmt: skip


def test_table_6_terms_and_sizes():
    assert {term.name: term.size for term in TEACHER} == TABLE_6
    assert teacher_terms() == TEACHER and teacher_size() == sum(TABLE_6.values()) == 757
    assert size(STUDENT) == 156 * HISTORY + 81 * FUTURE == 2370
    assert teacher_size("joints") == 757 - 162 + 46


def test_table_7_weights():
    weights = RewardConfig().weights
    assert {name: weights[name] for name in TABLE_7} == TABLE_7
    assert {name for name in weights if weights[name]} == set(TABLE_7)  # ours are off unless asked for


def test_table_8_ranges():
    assert {name: getattr(PAPER_RANDOMIZATION, name) for name in TABLE_8} == TABLE_8
    noise = {item.name: getattr(PAPER_NOISE, item.name) for item in fields(PAPER_NOISE)}
    assert noise.pop("sole_pos") == 0.003  # of our odometry, which the paper does not have
    assert noise == NOISE_8


def _slices() -> dict[str, slice]:
    start, found = 0, {}
    for name, width in TABLE_6.items():
        found[name] = slice(start, start + width)
        start += width
    return found


def test_every_noise_of_table_8_acts_on_its_row_alone(make_env):
    """Each row of the actor differs from the critic's by the spread that the table gives; the others not at all."""
    env = make_env("env.teacher_noise=1.0", num_envs=64)
    obs = env.get_observations()
    difference = obs["teacher"] - obs["critic"]
    rows = {name: difference[:, part] for name, part in _slices().items()}
    for name in ("base_com_bias_b", "feet_friction", "mass_scale", "kd_scale", "kp_scale", "torque_scale"):
        assert not rows[name].any(), name
    assert not rows["feet_contact_force_w"].any() and not rows["last_action"].any()
    for name, sigma in NOISE_8.items():
        if name in rows:
            assert rows[name].std().item() == pytest.approx(sigma, rel=0.2), name
    # the goal: 5 cm on each point, and an offset within 2 cm that all points of an episode share
    goal = rows["goal_keypoint_pos_g"].reshape(64, 27, 3)
    assert (goal - goal.mean(1, keepdim=True)).std().item() == pytest.approx(0.05, rel=0.1)
    offset = env._goal_offset
    assert offset.abs().max() <= 0.02 and 0.008 < offset.std().item() < 0.015
    assert (goal.mean(1) - offset).std().item() < 0.015


def test_every_randomisation_of_table_8_is_drawn_for_each_environment(make_env):
    env = make_env(num_envs=64)
    domain = env.domain
    drawn = {
        "friction": domain.friction, "mass_scale": domain.mass_scale, "kp_scale": domain.kp_scale,
        "kd_scale": domain.kd_scale, "strength": domain.strength, "delay_substeps": env._delay.float(),
        "com_offset_m": domain.com_offset,
    }  # fmt: skip
    for name, values in drawn.items():
        low, high = getattr(PAPER_RANDOMIZATION, name)
        assert low <= values.min() and values.max() <= high, name
        assert values.max() - values.min() > 0.6 * (high - low), name  # 64 draws reach far
        assert len(torch.unique(values.reshape(64, -1), dim=0)) > (3 if "delay" in name else 60), name
    # a quarter of the way out, a quarter of the range; off, the robot of the table
    mild = make_env("env.randomization.start_level=0.25", num_envs=64).domain
    assert 0.85 <= mild.friction.min() and mild.friction.max() <= 1.0625
    assert torch.equal(make_env("env.randomization.level=0.0").domain.mass_scale, torch.ones(8, 8))


def test_pushes_set_the_velocity_every_five_seconds(make_env):
    env = make_env(num_envs=8)
    pushed: list[tuple[int, torch.Tensor]] = []
    take = env.sim.set_root_velocity_xy

    def push(idx: torch.Tensor, velocity: torch.Tensor) -> None:
        pushed.extend((int(env_idx), value) for env_idx, value in zip(idx, velocity, strict=True))
        take(idx, velocity)

    env.sim.set_root_velocity_xy = push
    for _ in range(round(10.0 / 0.02)):
        env._push()
    assert sorted(idx for idx, _ in pushed) == sorted([*range(8)] * 2)  # twice in ten seconds, each
    velocity = torch.stack([value for _, value in pushed])
    assert velocity.abs().max() <= 1.0 and velocity.abs().max() > 0.6
    idx, value = pushed[-1]
    assert torch.allclose(env.sim.qvel[idx, :2], value)


def test_a_delayed_command_acts_late(make_env):
    """With a delay of n physics steps the old target acts for n of the four substeps."""
    env = make_env("env.randomization.level=0.0", num_envs=4)
    env._delay[:] = torch.arange(4)
    before = env._target.clone()
    seen = []
    take = env.sim.step
    env.sim.step = lambda control, wrench: (seen.append(control.clone()), take(control, wrench))[1]
    env.step(torch.full((4, 23), 0.5))
    for delay in range(4):
        assert torch.equal(seen[0][delay, :delay], before[delay].expand(delay, 23))
        assert torch.equal(seen[0][delay, delay:], env._target[delay].expand(4 - delay, 23)) or delay == 4


def test_start_frames_follow_the_configured_shares(make_env):
    env = make_env("env.mirror_motions=false")
    library = env.library
    generator = torch.Generator().manual_seed(0)
    # two clips, one ten times as long
    library.clip_start, library.clip_end = torch.tensor([0, 20]), torch.tensor([20, library.frames])
    library.clip_of_frame = (torch.arange(library.frames) >= 20).long()
    short = {
        share: (library._draw_clips(4000, generator, share) == 0).float().mean().item() for share in (0.0, 0.5, 1.0)
    }
    by_time = 20 / library.frames
    assert short[0.0] == pytest.approx(by_time, abs=0.02)  # the paper's uniform sampling
    assert short[1.0] == pytest.approx(0.5, abs=0.03)
    assert short[0.5] == pytest.approx((0.5 + by_time) / 2, abs=0.03)
    # failures draw starts to the two seconds before them
    library.failures[:] = 0.0
    library.failures[-1] = 10.0
    frames = library.sample_frames(500, 0.99, generator)
    assert (frames >= library.frames - 50 - 150).float().mean() > 0.95
    assert G1_23DOF.num_joints == 23
