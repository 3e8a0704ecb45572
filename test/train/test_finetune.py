# SPDX-License-Identifier: Apache-2.0
"""A student goes on by PPO, and is averaged with what it was: what it begins with, when it moves, how it leaves."""

import numpy as np
import pytest
import torch

from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.motion import save_motion
from genmimic.core.observation import STUDENT
from genmimic.core.robot import G1_23DOF
from genmimic_train.cli import main
from genmimic_train.runs import Run

SMALL = [
    "env.num_envs=8", "ppo.hidden=[16]", "ppo.steps_per_env=4", "ppo.epochs=1", "ppo.minibatches=1", "ppo.symmetry=0",
    "dagger.hidden=[16]", "dagger.steps_per_env=4", "dagger.minibatch=32", "dagger.buffer_samples=64",
    "fine_tune.steps_per_env=4", "fine_tune.minibatches=1", "fine_tune.critic_iterations=1",
]  # fmt: skip


@pytest.mark.parametrize("equivariant", [False, True])
def test_a_student_goes_on_by_ppo(tmp_path, arm_motion, capsys, equivariant):
    motion = tmp_path / "arms.npz"
    save_motion(motion, G1_23DOF, arm_motion)
    teacher, student, tuned = tmp_path / "teacher", tmp_path / "student", tmp_path / "tuned"
    common = ["--motions", str(motion), "--threads", "1", "--set", *SMALL]
    tuned_set = f"dagger.equivariant={str(equivariant).lower()}"  # of a plain student an equivariant one can be made
    assert main(["teacher", "--run", str(teacher), *common, "--samples", "32"]) == 0
    assert main(["student", "--run", str(student), "--teacher", str(teacher), *common, "--samples", "64"]) == 0
    before = Run(student).load()["actor_state_dict"]
    begin = ["finetune", "--run", str(tuned), "--student", str(student), "--teacher", str(teacher), *common, tuned_set]

    # in the first iteration the critic learns alone
    assert main([*begin, "--samples", "96"]) == 0
    state = Run(tuned).load()
    weights = {name: value for name, value in state["actor_state_dict"].items() if name.startswith("mlp")}
    assert weights and all(torch.equal(value, before[name]) for name, value in weights.items())
    critic, teachers = state["critic_state_dict"], Run(teacher).load()["critic_state_dict"]
    assert any(not torch.equal(value, teachers[name]) for name, value in critic.items() if name.startswith("mlp"))

    # in the second the student does
    assert main(["finetune", "--run", str(tuned), "--resume", "--threads", "1", "--samples", "128"]) == 0
    state = Run(tuned).load()
    assert state["samples"] == 128 and state["iteration"] == 2
    assert any(not torch.equal(value, state["actor_state_dict"][name]) for name, value in weights.items())

    # it leaves like any student, and its file says where it comes from
    policy = tmp_path / "policy.onnx"
    assert main(["export", str(tuned), "-o", str(policy)]) == 0
    from genmimic.policy import load_policy

    assert load_policy(policy).manifest.training["fine_tuned_from"]["samples"] == 64

    # averaged with what it was, it is a student too
    averaged = tmp_path / "averaged"
    assert main(["average", str(student), str(tuned), "--weights", "1", "3", "-o", str(averaged)]) == 0
    old, new = (Run(folder).load()["actor_state_dict"] for folder in (student, tuned))
    mean = Run(averaged).load()["actor_state_dict"]
    torch.testing.assert_close(mean["mlp.0.weight"], 0.25 * old["mlp.0.weight"] + 0.75 * new["mlp.0.weight"])
    torch.testing.assert_close(mean["obs_normalizer._std"] ** 2, mean["obs_normalizer._var"])
    assert main(["export", str(averaged), "-o", str(policy)]) == 0
    mean_policy = load_policy(policy)
    observation = mean_policy.manifest.golden_observation()
    mirrored = mean_policy(observation_mirror(G1_23DOF, STUDENT)(observation))
    asymmetry = np.abs(mirrored - action_mirror(G1_23DOF)(mean_policy(observation))).max()
    assert asymmetry < 1e-4 if equivariant else asymmetry > 1e-3
    parts = mean_policy.manifest.training["averaged_from"]
    assert [(part["run"], part["weight"], part["samples"]) for part in parts] == [
        ("student", 0.25, 64), ("tuned", 0.75, 128)
    ]  # fmt: skip
    capsys.readouterr()
    for bad, words in (
        ([str(student)], "two or more runs"),
        ([str(student), str(teacher)], "only students"),
        ([str(student), str(tuned), "--weights", "1", "-1"], "positive"),
        ([str(student), str(tuned), "--weights", "1"], "a weight each"),
    ):
        assert main(["average", *bad, "-o", str(tmp_path / "no")]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "no").exists()
    assert main(["average", str(student), str(tuned), "-o", str(averaged)]) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert main(["student", "--run", str(tuned), "--teacher", str(teacher), "--resume"]) == 2
    assert main(["finetune", "--run", str(student), "--resume"]) == 2
    wide = [*begin[:2], str(tmp_path / "wide"), *begin[3:], "dagger.hidden=[8]"]
    assert main(wide) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3
    plain = [*begin[:2], str(tmp_path / "plain"), "--student", str(averaged), *begin[5:], "dagger.equivariant=false"]
    if equivariant:
        assert main(plain) == 2
        assert "dagger.equivariant is false, the student's is true" in capsys.readouterr().err
        assert not (tmp_path / "plain").exists()
    assert "finetune --resume" in errors[0] and "no fine-tuned student" in errors[1] and "dagger.hidden" in errors[2]
    assert not (tmp_path / "wide").exists()
