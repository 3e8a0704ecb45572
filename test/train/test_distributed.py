# SPDX-License-Identifier: Apache-2.0
"""Two gloo processes under torchrun learn what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.motion import crop_motion, save_motion
from genmimic.core.robot import G1_23DOF
from genmimic_train.cli import main
from genmimic_train.learning.distributed import World, join_world
from genmimic_train.runs import Run

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from rollout_halves import OVERRIDES, learn_from_half  # noqa: E402


def test_two_processes_learn_as_one(tmp_path, arm_motion):
    """Same gradient, weights, learning rate and normaliser; a run by two that resumes, and refuses in one line."""
    motion = tmp_path / "arms.npz"
    save_motion(motion, G1_23DOF, crop_motion(arm_motion, 0.0, 1.0))
    root = HERE.parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(HERE / "two_processes.py"), str(motion), str(tmp_path), *OVERRIDES],
        capture_output=True, text=True, timeout=600, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:3000]

    alone, both = learn_from_half(str(motion), World()), torch.load(tmp_path / "learner.pt", weights_only=True)
    for one, two in zip(alone["gradient"], both["gradient"], strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-5 * max(1.0, one.abs().max().item()))
    for name, value in alone["weights"].items():
        assert torch.allclose(value.float(), both["weights"][name].float(), rtol=1e-4, atol=1e-5), name
    assert both["learning_rate"] == pytest.approx(alone["learning_rate"])

    run = Run(tmp_path / "run")
    state = run.load()
    assert state["samples"] == 96 and state["exact"]["world"] == 2
    assert state["exact"]["env"]["num_envs"] == 4  # of the eight
    assert run.load("rank1.pt")["iteration"] == state["iteration"] == 3
    assert [entry["exact"] for entry in run.info()["resumed"]] == [True]
    assert not torch.equal(run.load("rank1.pt")["env"]["sim"]["state"], state["exact"]["env"]["sim"]["state"])
    for rank in (0, 1):
        assert (tmp_path / f"codes{rank}").read_text() == "[0, 0, 2]"
    assert done.stderr.count("genmimic-train: error:") == 1 and "already holds a checkpoint" in done.stderr


def test_a_process_alone_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = join_world()
    assert world == World() and world.main and world.multi_gpu is None
    assert world.share("x") == "x" and world.sum(torch.ones(2)).tolist() == [1.0, 1.0]
    with pytest.raises(ConfigError, match="multiple of the 2 processes"):
        World(0, 2).part_of(7, "env.num_envs")


def test_a_student_is_not_for_torchrun(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["student", "--run", str(tmp_path), "--teacher", "t", "--motions", "m"]) == 2
    assert "one process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--envs", "0"], "at least 1"), (["--processes", "1", "--motions", "nowhere"], "nowhere: no such file")],
)
def test_a_bench_of_nothing_is_one_line(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1
