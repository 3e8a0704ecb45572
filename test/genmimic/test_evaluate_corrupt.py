# SPDX-License-Identifier: Apache-2.0
"""`genmimic evaluate --corrupt`: what is named, what is reported, and that damage repeats by its seed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genmimic.check.corrupt import KINDS
from genmimic.cli import main
from genmimic.core.errors import ConfigError
from genmimic.core.motion import crop_motion, load_motion, save_motion
from genmimic.core.robot import G1_23DOF
from genmimic.evaluate.corruption import LEVELS, Corruption, parse_corruptions
from genmimic.policy import find_shipped


def test_kinds_and_strengths_are_named():
    assert parse_corruptions([]) == ()
    assert parse_corruptions(["jitter"]) == tuple(Corruption("jitter", level) for level in LEVELS)
    assert parse_corruptions(["sink:0.2", "sink:0.2"]) == (Corruption("sink", 0.2),)
    assert len(parse_corruptions(["all"])) == len(KINDS) * 2
    assert {part.kind for part in parse_corruptions(["all:1"])} == set(KINDS)
    for text, words in (("scratch", "known: all, jitter"), ("jitter:loud", "0 to 10"), ("jitter:-1", "0 to 10"),
                        ("jitter:nan", "0 to 10")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            parse_corruptions([text])


def test_damage_repeats_by_seed_and_differs_by_rollout():
    motion = load_motion(find_shipped("wave", "motions", ".npz"), G1_23DOF)
    corruption = Corruption("jitter", 1.0)
    first = corruption.damage(G1_23DOF, motion, 0, "wave", 0).joint_pos
    np.testing.assert_array_equal(first, corruption.damage(G1_23DOF, motion, 0, "wave", 0).joint_pos)
    for other in ((1, "wave", 0), (0, "wive", 0), (0, "wave", 1)):
        assert np.abs(first - corruption.damage(G1_23DOF, motion, *other).joint_pos).max() > 0.01


def test_the_command_reports_each_damage(tmp_path, capsys):
    motion = tmp_path / "short.npz"
    wave = load_motion(find_shipped("wave", "motions", ".npz"), G1_23DOF)
    save_motion(motion, G1_23DOF, crop_motion(wave, 2.0, 2.6))
    command = ["evaluate", "--motions", str(motion), "--rollouts", "2", "--jobs", "1", "--corrupt", "jumps:0.5",
               "float:1", "--keep", "0", "--report", str(tmp_path / "out")]  # fmt: skip
    assert main(command) in (0, 1)
    printed = capsys.readouterr().out
    assert "jumps 0.5" in printed and "float 1" in printed and "one rollout per motion" not in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(part["kind"], part["level"], part["rollouts"]) for part in report["corruptions"]] == [
        ("jumps", 0.5, 2), ("float", 1.0, 2)
    ]  # fmt: skip
    assert report["corrupt"] == ["jumps@0.5", "float@1"] and report["total"]["rollouts"] == 4
    assert report["motions"][0]["motion"] == "short+jumps@0.5"
    first, second = report["motions"][0]["each"]
    assert first["mpkpe_nt_cm"] != second["mpkpe_nt_cm"]  # damaged anew each time
    assert main(["evaluate", "--motions", str(motion), "--corrupt", "scratch"]) == 2
    assert "known: all" in capsys.readouterr().err
