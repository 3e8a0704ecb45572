# SPDX-License-Identifier: Apache-2.0
"""The environment: sizes, noise for the actor alone, resampling, mirror symmetry, the simulator's contract."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.observation import STUDENT, TEACHER
from genmimic.core.robot import G1_23DOF
from genmimic.sim.mjcf import build_model
from genmimic_train.sim.base import Domain
from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator

ALL = slice(None)


def test_observation_groups_have_the_sizes_of_table_6(make_env):
    env = make_env(with_student=True)
    obs, reward, done, _ = env.step(torch.zeros(8, 23))
    assert {name: tuple(values.shape) for name, values in obs.items()} == {
        "critic": (8, 757),
        "student": (8, 2370),
    }
    assert set(make_env().get_observations().keys()) == {"critic", "teacher"}
    assert all(torch.isfinite(values).all() for values in obs.values())
    assert reward.shape == done.shape == (8,)


def test_noise_is_for_the_actor_alone(make_env):
    quiet = make_env("env.teacher_noise=0.0").get_observations()
    assert torch.equal(quiet["teacher"], quiet["critic"])
    loud = make_env("env.teacher_noise=1.0").get_observations()
    assert not torch.equal(loud["teacher"], loud["critic"])
    # the randomised parameters are told as they are
    assert torch.equal(loud["teacher"][:, -88:], loud["critic"][:, -88:])


def test_same_seed_same_future(make_env):
    first, second = make_env(), make_env()
    for _ in range(5):
        actions = torch.zeros(8, 23)
        a, b = first.step(actions), second.step(actions)
        assert torch.equal(a[0]["critic"], b[0]["critic"]) and torch.equal(a[1], b[1])


def test_clip_end_goes_on_without_reset(make_env):
    env = make_env("env.randomization.level=0.0")
    env.frame[:] = env._clip_end - 2
    before = env._goal_root(env.frame)
    qpos = env.sim.qpos.clone()
    env.episode_length_buf[:] = 0
    env.step((qpos[:, 7:] - env._default) / 0.25)
    after = env._goal_root(env.frame)
    assert (env.frame == env.library.clip_start[env.library.clip_of_frame[env.frame]]).all()
    # the new clip begins where the old goal stood: same place, same heading
    assert (before[0] - after[0]).abs().max() < 0.01
    assert (before[1] - after[1]).abs().max() < 0.01


def test_terminates_when_far_from_the_goal(make_env):
    env = make_env("env.randomization.level=0.0")
    env._place_xy[:, 0] += 0.6
    _, _, done, extras = env.step(torch.zeros(8, 23))
    assert done.all() and extras["time_outs"].sum() == 0


def test_mirrored_world_gives_mirrored_observation_and_reward(make_env, arm_motion):
    """Mirror the clip, the state and the action: the next observation is the mirror image."""
    env = make_env("env.randomization.level=0.0", "env.student_noise=[0, 0]", with_student=True, num_envs=2)
    half = env.library.frames // 2  # the second half of the library is the mirror image of the first
    frame = 60
    env.frame[:] = torch.tensor([frame, half + frame])
    env._clip_end[:] = env.library.clip_end[env.library.clip_of_frame[env.frame]]
    mirror = action_mirror(G1_23DOF)
    rng = np.random.default_rng(0)
    joint = torch.tensor(G1_23DOF.default_joint_pos + 0.05 * rng.standard_normal(23), dtype=torch.float32)
    root = torch.tensor([0.01, 0.02, G1_23DOF.standing_height, 0.999, 0.01, 0.02, 0.03])
    root[3:] /= root[3:].norm()
    flip = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0])
    qpos = torch.stack([torch.cat([root, joint]), torch.cat([root * flip, mirror(joint)])])
    env.sim.reset(torch.arange(2), qpos, torch.zeros(2, 29))
    env._last_joint_vel[:] = 0.0
    env._air_time[:] = 0.0
    env.episode_length_buf[:] = 0
    env._target[:] = torch.stack([joint, mirror(joint)])
    env._action[:] = 0.0
    action = torch.tensor(rng.standard_normal(23), dtype=torch.float32)
    env._read_state()
    env._observe(torch.ones(2, dtype=torch.bool))
    obs, reward, _, _ = env.step(torch.stack([action, mirror(action)]))
    for name, terms in (("critic", TEACHER), ("student", STUDENT)):
        first, second = obs[name]
        difference = (observation_mirror(G1_23DOF, terms)(first) - second).abs()
        if name == "critic":
            difference = difference[:-6]  # contact forces amplify the model's own small asymmetry
        assert difference.max() < 0.02, name  # the robot's inertias differ by up to 0.1 % between the sides
    assert reward[0].item() == pytest.approx(reward[1].item(), abs=2e-3)


class TestSimulator:
    """The contract of `Simulator`, on MuJoCo's CPU threads."""

    def test_agrees_with_plain_mujoco(self):
        sim = MujocoCpuSimulator(3, threads=1)
        rng = np.random.default_rng(1)
        model = build_model(G1_23DOF, tether=False, visuals=False, fall_contact=False)
        qpos = np.concatenate([[0.0, 0.0, G1_23DOF.standing_height, 1.0, 0.0, 0.0, 0.0], G1_23DOF.default_joint_pos])
        sim.reset(torch.arange(3), torch.tensor(qpos).repeat(3, 1), torch.zeros(3, 29))
        data = mujoco.MjData(model)
        data.qpos[:] = qpos
        for _ in range(10):
            target = G1_23DOF.default_joint_pos + 0.1 * rng.standard_normal(23)
            sim.step(torch.tensor(target).repeat(3, 4, 1))
            data.ctrl[:] = target
            for _ in range(4):
                mujoco.mj_step(model, data)
        assert np.abs(sim.qpos.numpy() - data.qpos).max() < 1e-5
        assert sim.foot_force.shape == (3, 2, 3)

    def test_domain_reaches_its_own_environment_only(self):
        sim = MujocoCpuSimulator(2, threads=1)
        domain = Domain.nominal(G1_23DOF, 1)
        domain.friction[:] = 0.5
        domain.mass_scale[:] = 1.2
        domain.kp_scale[:] = 0.8
        domain.strength[:] = 0.5
        sim.set_domain(torch.tensor([1]), domain)
        first, second = sim._models
        assert second.geom("floor").friction[0] == pytest.approx(0.5)
        assert first.geom("floor").friction[0] == pytest.approx(1.0)
        assert second.body_mass.sum() == pytest.approx(1.2 * first.body_mass.sum())
        np.testing.assert_allclose(second.actuator_gainprm[:, 0], 0.4 * first.actuator_gainprm[:, 0])
        np.testing.assert_allclose(second.actuator_forcerange, 0.5 * first.actuator_forcerange)

    def test_bad_state_is_reported_and_replaced(self):
        sim = MujocoCpuSimulator(2, threads=1)
        qvel = torch.zeros(1, 29)
        qvel[0, 10] = 1e7
        sim.reset(torch.tensor([1]), sim.qpos[1:].clone(), qvel)
        bad = sim.step(torch.zeros(2, 4, 23))
        assert bad.tolist() == [False, True]
        assert torch.isfinite(sim.qpos).all() and torch.isfinite(sim.qvel).all()
