# SPDX-License-Identifier: Apache-2.0
"""The paper's ablations: what each row changes, learned weights, joint goals, the table of results."""

from __future__ import annotations

import json

import pytest
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.motion import save_motion
from genmimic.core.robot import G1_23DOF
from genmimic_train.ablations import ABLATIONS, PAPER, ablated, read_results, table3, table_text
from genmimic_train.cli import main
from genmimic_train.config import TrainConfig, config_dict, config_from_dict
from genmimic_train.learning.ppo import SymmetricSurrogate, build_ppo
from genmimic_train.tracking.encoding import output_mirror, teacher_mirror

SMALL = ["ppo.hidden=[16]", "ppo.steps_per_env=4", "ppo.minibatches=2", "ppo.epochs=1", "env.num_envs=8",
         "env.episode_s=1.0"]  # fmt: skip


def test_rows_differ_in_what_the_paper_says():
    rows = {name: ablated(name, TrainConfig()) for name in ABLATIONS}
    equal = {"lower": 1.0, "upper": 1.0, "end_effector": 1.0}
    for name, config in rows.items():
        assert config.env.teacher_goal == ("joints" if name.startswith("dofs") else "keypoints")
        assert (config.env.rewards.keypoint_weights == equal) == ("weights" not in name)
        assert (config.ppo.symmetry > 0.0) == name.endswith("symmetry")
        assert config.env.rewards.learned_weights == name.endswith("self_supervised")
        assert (config.env.rewards.weights["weight_rate"] < 0.0) == name.endswith("self_supervised")
        assert config_from_dict(json.loads(json.dumps(config_dict(config)))) == config
    assert rows["3dp_weights_symmetry"] == TrainConfig()  # the GenMimic teacher is the default
    assert len(ABLATIONS) == 7 and all(set(figures) == set(ABLATIONS) for figures in PAPER.values())
    with pytest.raises(ConfigError, match="known: dofs"):
        ablated("4dp", TrainConfig())


def test_joint_goals_are_the_next_goals_angles(make_env):
    env = make_env("env.teacher_goal=joints", "env.teacher_noise=0.0")
    obs, _, _, _ = env.step(torch.zeros(8, 23))
    assert obs["critic"].shape == (8, 641)
    goal, difference = obs["critic"][:, 507:530], obs["critic"][:, 530:553]
    ahead = torch.minimum(env.frame + 1, env._clip_end - 1)
    assert torch.allclose(goal, env.library.joint_pos[ahead] - env._default)
    assert torch.allclose(difference, env.library.joint_pos[ahead] - env.sim.qpos[:, 7:], atol=1e-6)
    loud = make_env("env.teacher_goal=joints", "env.teacher_noise=1.0", num_envs=64).get_observations()
    assert (loud["teacher"] - loud["critic"])[:, 507:530].std().item() == pytest.approx(0.1, rel=0.15)


def test_learned_weights_are_a_softmax_and_their_change_costs(make_env):
    """Weight on the hands alone: the body position term sees the hands alone."""
    overrides = ("env.rewards.learned_weights=true", "env.rewards.weights.weight_rate=-0.1",
                 "env.randomization.level=0.0", "env.teacher_noise=0.0")  # fmt: skip
    env = make_env(*overrides)
    assert env.num_actions == 50
    seen = []
    from genmimic_train.tracking import env as module

    take = module.REWARDS["weight_rate"]
    module.REWARDS["weight_rate"] = lambda step: (seen.append(step), take(step))[1]
    try:
        actions = torch.zeros(8, 50)
        actions[:, 23 + G1_23DOF.keypoint_idx(["left_hand", "right_hand"])] = 20.0
        env.step(actions)
        env.step(actions)
    finally:
        module.REWARDS["weight_rate"] = take
    weights = seen[0].keypoint_weights
    assert torch.allclose(weights.sum(-1), torch.ones(8)) and torch.allclose(weights[:, -2:].sum(-1), torch.ones(8))
    assert take(seen[0]).tolist() == pytest.approx([800.0] * 8) and not take(seen[1]).any()  # 2 x 20^2, then no change


def test_a_warm_start_leaves_the_weights_alone(make_env):
    from genmimic_train.learning.warm_start import warm_start

    env = make_env("env.rewards.learned_weights=true")
    actor = build_ppo(env, TrainConfig().ppo).get_policy()
    warm_start(actor, env, rounds=1, steps=2, epochs=1)
    std = actor.distribution.std_param
    assert (std[23:] == 1.0).all() and (std[:23] == 0.3).sum() == 10  # the arms' ten joints


@pytest.mark.parametrize("name", ["3dp_self_supervised", "dofs_weights_symmetry"])
def test_mirrors_fit_what_a_row_sees_and_gives(make_env, name):
    config = ablated(name, TrainConfig())
    goal, learned = config.env.teacher_goal, config.env.rewards.learned_weights
    observation, output = teacher_mirror(G1_23DOF, goal), output_mirror(G1_23DOF, learned)
    seen, given = torch.randn(3, len(observation.index)), torch.randn(3, len(output.index))
    assert torch.equal(observation(observation(seen)), seen) and torch.equal(output(output(given)), given)
    env = make_env(f"env.teacher_goal={goal}", f"env.rewards.learned_weights={str(learned).lower()}")
    ppo = build_ppo(env, config.ppo)
    assert env.get_observations()["teacher"].shape[1] == len(observation.index)
    assert env.num_actions == len(output.index)
    assert isinstance(ppo.symmetry, SymmetricSurrogate) == name.endswith("symmetry")


def test_a_row_is_trained_judged_and_printed(tmp_path, arm_motion, capsys):
    """One command a row, one command for the table; other settings are refused."""
    from genmimic.core.motion import crop_motion

    motion = tmp_path / "arms.npz"
    save_motion(motion, G1_23DOF, crop_motion(arm_motion, 0.0, 0.6))
    where = ["-o", str(tmp_path / "runs"), "--motions", str(motion), "--test", str(motion), "--threads", "1"]
    row = [
        "ablation",
        "3dp_self_supervised",
        *where,
        "--rollouts",
        "1",
        "--corrupt",
        "jitter:1",
        "--samples",
        "32",
        "--set",
        *SMALL,
    ]
    assert main(row) == 0
    assert main([*row, "ppo.epochs=2"]) == 2
    assert main(["ablation", "4dp", *row[2:]]) == 2
    assert main(["table3", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr()
    assert "3dp_self_supervised" in printed.out and "62" in printed.out
    assert "other settings" in printed.err and "known: dofs" in printed.err
    (result,) = read_results([tmp_path / "runs"])
    assert result["samples"] == 32 and set(result["tests"]) == {"clean", "damaged"}
    assert main(["table3", str(tmp_path)]) == 0
    assert main(["table3", str(tmp_path / "nowhere")]) == 2


def test_the_table_has_means_spreads_and_the_order():
    def result(name: str, seed: int, samples: int, clean: float, damaged: float) -> dict:
        def total(rate: float) -> dict:
            return {"sr": rate, "mpkpe_cm": 5.0, "lmpkpe_cm": 8.0 - rate, "mpkpe_nt_cm": 9.0, "lmpkpe_nt_cm": None}

        tests = {"clean": total(clean), "damaged": total(damaged)}
        return {"ablation": name, "seed": seed, "samples": samples, "tests": tests}

    table = table3(
        [
            result("3dp_weights", 1, 100, 0.6, 0.5), result("3dp_weights", 2, 100, 0.8, 0.5),
            result("3dp_weights", 2, 50, 0.0, 0.0),  # an earlier stop of the same run does not count
            result("3dp", 1, 100, 0.5, 0.6), result("dofs", 1, 100, 0.4, 0.1),
        ]
    )  # fmt: skip
    assert [row["ablation"] for row in table["rows"]] == ["dofs", "3dp", "3dp_weights"]
    rate = table["rows"][2]["tests"]["clean"]["sr"]
    assert rate["mean"] == pytest.approx(0.7) and rate["sd"] == pytest.approx(0.1414, abs=1e-3)
    assert table["order"]["clean"] == {"sr": {"pairs": 3, "agree": 3}, "lmpkpe_cm": {"pairs": 3, "agree": 2}}
    assert table["order"]["damaged"] == {"sr": {"pairs": 3, "agree": 2}, "lmpkpe_cm": {"pairs": 3, "agree": 2}}
    text = table_text(table)
    assert "70.0 ± 14.1" in text and "97.7" in text and "77.4" in text
    assert "success rates as in the paper: 3 of 3 pairs" in text and "LMPKPE as in the paper: 2 of 3 pairs" in text
