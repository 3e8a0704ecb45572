# SPDX-License-Identifier: Apache-2.0
"""Damaged references: as training noise, for the actor alone, and as an axis of evaluation in training."""

from __future__ import annotations

import pytest
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.robot import G1_23DOF
from genmimic.evaluate.corruption import parse_corruptions
from genmimic_train.config import load_config
from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator
from genmimic_train.tracking.evaluation import damaged_library, evaluate_in_training

ALWAYS = ("env.corruption.share=1.0", "env.corruption.kinds=[jitter]", "env.randomization.level=0.0")
QUIET = ("env.teacher_noise=0.0", "env.student_noise=[0, 0]")


def test_a_teacher_sees_the_damage_and_nobody_else(make_env):
    """Goal and difference (162 numbers after 507) differ from the critic's; the rewards are those without damage."""
    plain, env = make_env(*QUIET, "env.randomization.level=0.0"), make_env(*QUIET, *ALWAYS)
    assert (env._variant > 0).all()
    obs, reward, _, _ = env.step(torch.zeros(8, 23))
    difference = (obs["teacher"] - obs["critic"]).abs()
    assert difference[:, 507:669].amax(-1).min() > 0.0
    assert not difference[:, :507].any() and not difference[:, 669:].any()
    assert torch.equal(plain.get_observations()["teacher"], plain.get_observations()["critic"])
    # the reward is of the undamaged goal: the same library, frame and state give the same one
    plain.sim.load_state_dict(env.sim.state_dict())
    for name in ("frame", "_clip_end", "_place_xy", "_place_yaw", "_action", "_target", "_last_joint_vel"):
        setattr(plain, name, getattr(env, name).clone())
    plain._read_state()
    assert torch.equal(plain._goal_now().pos, env._goal_now().pos)


def test_a_student_sees_damaged_futures(make_env):
    env = make_env(*QUIET, *ALWAYS, with_student=True)
    obs = env.get_observations()
    seen = obs["student"][:, 1560:]
    env._variant[:] = 0
    env._observe(torch.ones(8, dtype=torch.bool))
    clean = env.get_observations()
    assert (seen - clean["student"][:, 1560:]).abs().amax(-1).min() > 1e-4
    assert torch.equal(obs["student"][:, :1560], clean["student"][:, :1560])
    assert torch.equal(obs["critic"], clean["critic"])


def test_a_share_of_episodes_and_always_the_same_damage(make_env):
    first = make_env("env.corruption.share=0.5", num_envs=32)
    second = make_env("env.corruption.share=0.5", num_envs=32)
    assert 0.25 < (first._variant > 0).float().mean() < 0.75
    assert torch.equal(first.get_observations()["teacher"], second.get_observations()["teacher"])
    assert make_env()._corrupted is None  # off unless asked for


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("share=2", "0 to 1"),
        ("kinds=[scratch]", "some of jitter"),
        ("kinds=[]", "some of jitter"),
        ("level=[1, 0]", "low, high"),
        ("variants=0", "1 to 100"),
    ],
)
def test_bad_settings_are_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        load_config(None, [f"env.corruption.{override}"])


def test_evaluation_in_training_has_a_summary_of_each_damage(arm_motion):
    from genmimic.core.motion import crop_motion

    corruptions = parse_corruptions(["jumps:2", "float:0.5"])
    library = damaged_library(G1_23DOF, [crop_motion(arm_motion, 0.0, 0.5)], corruptions, seed=3)
    assert library.names == ["arms+jumps@2", "arms+float@0.5"]
    report = evaluate_in_training(
        lambda obs: torch.zeros(len(obs["critic"]), 23),
        load_config(None).env,
        library,
        lambda count: MujocoCpuSimulator(count, threads=1),
        name="nobody",
        rollouts=2,
        corruptions=corruptions,
    )
    assert [(part["kind"], part["level"], part["rollouts"]) for part in report["corruptions"]] == [
        ("jumps", 2.0, 2),
        ("float", 0.5, 2),
    ]
    assert report["corrupt"] == ["jumps@2", "float@0.5"] and report["motions"][1]["corrupt"]["kind"] == "float"
