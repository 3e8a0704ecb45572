# SPDX-License-Identifier: Apache-2.0
"""The environment: sizes, noise for the actor alone, resampling, mirror symmetry; on both simulators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.observation import STUDENT, TEACHER
from genmimic.core.robot import G1_23DOF
from genmimic_train.config import load_config
from genmimic_train.tracking.evaluation import judged


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


def test_assistance_pulls_to_the_goal_and_ends_with_success(make_env):
    """Shifted aside and turned, a robot is pulled and turned back, no harder than is allowed; success lets go."""
    quiet = ("env.randomization.start_level=0.0", "env.randomization.level=0.0", "env.mirror_motions=false")
    held = make_env(*quiet, "env.assist.start_level=0.5", "env.assist.max_force=100", "env.assist.max_torque=20")
    held._place_xy[0] += torch.tensor([0.01, -0.02, 0.0])
    held._place_xy[1, 0] += 5.0
    held._place_yaw[2] += 0.05
    held._place_yaw[3] += 3.0
    near = make_env(*quiet, "env.assist.start_level=0.5")._assistance()
    pull = held._assistance() - near  # all begin with another small error
    stiffness = 0.5 * G1_23DOF.mass * (2.0 * np.pi * 1.5) ** 2
    assert pull[0, :2].numpy() == pytest.approx([0.01 * stiffness, -0.02 * stiffness], rel=0.05)
    assert held._assistance()[1, :3].norm().item() == pytest.approx(50.0, rel=1e-4)
    assert pull[2, 5] > 1.0 > 20.0 * pull[2, :2].abs().max()
    assert held._assistance()[3, 3:].norm().item() == pytest.approx(10.0, rel=1e-4)

    for fell, expected in ((0.97, 0.5), (0.9, 0.5), (0.1, 0.495)):
        held.adapt_level(fell)
        assert held.assist == pytest.approx(expected) and held.level == 0.0
    saved = held.state_dict()
    held.adapt_level(0.97)
    assert 0.495 < held.assist < 0.5
    assert held.load_state_dict(saved) and held.assist == pytest.approx(0.495)
    for _ in range(400):
        held.adapt_level(0.1)
    assert held.assist == 0.0 and held._assistance() is None
    assert make_env(*quiet, "env.assist.start_level=0.5", with_student=True).assist == 0.0


def test_who_is_judged_is_not_held():
    config = load_config(None, ["env.assist.start_level=1.0"]).env
    assert judged(config, 0.0, 0.0, 0.0).assist.start_level == 0.0


def test_the_goal_of_a_student_with_odometry_does_not_follow_the_robot(make_env):
    """Only one that cannot see its place is spared the way back; odometry moves goals by its own error alone."""
    quiet = ("env.student_noise=[0.0,0.0]", "env.randomization.start_level=0.0", "env.randomization.level=0.0")
    moved = {}
    for frame in ("heading", "odometry"):
        env = make_env(*quiet, f"env.goal_frame={frame}", "env.student_follow_s=1.0", with_student=True)
        env._place_xy[:, 0] += 0.3
        before = env._place_xy.clone()
        env.step(env.reference_action())
        moved[frame] = (env._place_xy - before)[:, 0]
    assert moved["heading"].numpy() == pytest.approx(-0.3 * 0.02, abs=2e-3)
    assert moved["odometry"].numpy() == pytest.approx(0.0, abs=3e-3)


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
