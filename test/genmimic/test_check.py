# SPDX-License-Identifier: Apache-2.0
"""The motion gate: what it finds, what it repairs, and what it lets through to the real robot."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="self-collision needs mujoco")

from genmimic.check import GateError, Severity, Tracking, check_motion, judge, require_verdict
from genmimic.check.corrupt import KINDS, corrupt
from genmimic.check.measure import centre_of_mass, convex_hull, measure, outside
from genmimic.check.pictures import save_page, save_plots
from genmimic.check.repair import unswapped, without_jumps
from genmimic.cli import main
from genmimic.core.errors import ConfigError, InputFileError, MotionError
from genmimic.core.kinematics import sole_positions
from genmimic.core.motion import Motion, crop_motion, load_motion, save_motion
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.robot import Robot
from genmimic.evaluate.report import file_sha256

MOTIONS = Path(__file__).parents[2] / "motions"


def shipped(name: str = "wave") -> Motion:
    return load_motion(MOTIONS / f"{name}.npz", ROBOT)


def standing(seconds: float = 1.0) -> Motion:
    count = int(50 * seconds) + 1
    return Motion.from_joints(
        ROBOT, 50.0, np.tile(ROBOT.default_joint_pos, (count, 1)), np.tile([0, 0, ROBOT.standing_height], (count, 1)),
        np.tile([1.0, 0, 0, 0], (count, 1)), "standing",
    )  # fmt: skip


def changed(motion: Motion, **arrays: np.ndarray) -> Motion:
    fields = {name: arrays.get(name, getattr(motion, name)) for name in ("joint_pos", "root_pos", "root_quat")}
    return Motion.from_joints(ROBOT, motion.fps, **fields, name=motion.name, source=motion.source)


# measuring -------------------------------------------------------------------------------------
def test_distance_from_a_polygon() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5], [0.2, 0.0]])
    assert len(convex_hull(square)) == 4
    assert outside(np.array([0.5, 0.5]), square) == pytest.approx(-0.5)
    assert outside(np.array([0.5, -0.25]), square) == pytest.approx(0.25)
    assert outside(np.array([2.0, 2.0]), square) == pytest.approx(np.sqrt(2.0))


def test_standing_is_balanced_still_and_whole() -> None:
    motion = standing()
    com = centre_of_mass(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos)[0]
    soles = sole_positions(ROBOT, motion.root_pos[0], motion.root_quat[0], motion.joint_pos[0])
    assert outside(com[:2], soles[:, :2]) < -0.02 and 0.5 < com[2] < 0.8
    curves = measure(ROBOT, motion)
    assert curves.contacts.all() and not curves.flight.any() and not curves.held.any()
    assert curves.slide.max() < 1e-9 and curves.overlap.max() == 0.0 and curves.jitter.max() < 1e-12
    assert judge(ROBOT, motion).verdict == "ok"


def test_hands_in_the_body_are_found() -> None:
    motion = standing()
    joint_pos = motion.joint_pos.copy()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        joint_pos[:, ROBOT.joint_idx([f"{side}_shoulder_yaw_joint"])] = -1.2 * sign
        joint_pos[:, ROBOT.joint_idx([f"{side}_shoulder_roll_joint"])] = -0.3 * sign
    kinds = {finding.kind for finding in judge(ROBOT, changed(motion, joint_pos=joint_pos)).findings}
    assert "self_collision" in kinds


def test_leaning_out_over_the_feet_is_found() -> None:
    motion = standing()
    tilt = np.array([np.cos(0.25), 0.0, np.sin(0.25), 0.0])  # 0.5 rad forward about the feet's place
    joint_pos = motion.joint_pos.copy()
    joint_pos[:, ROBOT.joint_idx(["left_ankle_pitch_joint", "right_ankle_pitch_joint"])] -= 0.45
    height = ROBOT.standing_height
    root = np.tile([height * np.sin(0.5), 0.0, height * np.cos(0.5)], (len(motion), 1))
    leaning = changed(motion, joint_pos=joint_pos, root_quat=np.tile(tilt, (len(motion), 1)), root_pos=root)
    found = {finding.kind for finding in judge(ROBOT, leaning).findings}
    assert "balance" in found


@pytest.mark.parametrize("name", sorted(path.stem for path in MOTIONS.glob("*.npz")))
def test_shipped_motions_pass_without_simulation(name: str) -> None:
    judgement = judge(ROBOT, shipped(name))
    assert judgement.verdict == "ok", [finding.text for finding in judgement.findings]


def test_what_is_too_short_is_not_judged() -> None:
    with pytest.raises(MotionError, match="expected at least"):
        judge(ROBOT, crop_motion(standing(), 0.0, 0.06))


# damage and repair -----------------------------------------------------------------------------
EXPECTED = {
    "jitter": {"jitter"}, "drift": {"slide"}, "dropped_frames": {"held", "jitter"}, "foot_skate": {"slide"},
    "float": {"float"}, "sink": {"sink"}, "limb_swap": {"jitter", "speed", "acceleration"}, "jumps": {"jump", "speed"},
    "hyperextension": {"limits"}, "scale": {"float"}, "occlusion": {"jitter", "limits"}, "camera_motion": {"slide"},
    "self_intersection": {"self_collision"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_repaired(kind: str) -> None:
    pytest.importorskip("daqp", reason="repair needs daqp")
    motion = shipped()
    damaged = corrupt(ROBOT, motion, kind)
    assert EXPECTED[kind] & {finding.kind for finding in judge(ROBOT, damaged).findings}
    checked = check_motion(ROBOT, damaged, mend=True)
    passing = (
        {"repaired", "gantry only"} if kind == "occlusion" else {"repaired"}
    )  # nobody knows what a hidden limb did
    assert checked.judgement.verdict in passing, [finding.text for finding in checked.judgement.findings]
    assert checked.judgement.repairs and checked.before is not None and checked.before.verdict != "ok"
    local = checked.motion.keypoint_pos - checked.motion.keypoint_pos[:, :1]
    error = np.linalg.norm(local - (motion.keypoint_pos - motion.keypoint_pos[:, :1]), axis=-1).mean()
    assert error < (0.05 if kind in ("hyperextension", "self_intersection") else 0.02)


def test_a_good_motion_is_left_alone() -> None:
    motion = shipped()
    checked = check_motion(ROBOT, motion, mend=True)
    assert checked.judgement.verdict == "ok" and not checked.judgement.repairs
    np.testing.assert_array_equal(checked.motion.joint_pos, motion.joint_pos)


def test_damage_is_repeatable_and_can_be_none() -> None:
    motion = shipped()
    for kind in KINDS:
        one, two = corrupt(ROBOT, motion, kind, seed=3), corrupt(ROBOT, motion, kind, seed=3)
        np.testing.assert_array_equal(one.joint_pos, two.joint_pos)
        np.testing.assert_array_equal(one.root_pos, two.root_pos)
        none = corrupt(ROBOT, motion, kind, level=0.0)
        np.testing.assert_allclose(none.joint_pos, motion.joint_pos, atol=1e-9)
        np.testing.assert_allclose(none.root_pos, motion.root_pos, atol=1e-9)
    assert not np.array_equal(corrupt(ROBOT, motion, "jitter", seed=1).joint_pos,
                              corrupt(ROBOT, motion, "jitter", seed=2).joint_pos)  # fmt: skip
    with pytest.raises(ConfigError, match="known: jitter"):
        corrupt(ROBOT, motion, "rust")


def test_exchanged_sides_are_put_right_exactly() -> None:
    motion = shipped("light_punch")
    joint_pos = motion.joint_pos.copy()
    other = joint_pos[:, ROBOT.joint_mirror_idx] * ROBOT.joint_mirror_sign
    limb = [
        idx for idx, name in enumerate(ROBOT.joint_names) if "shoulder" in name or "elbow" in name or "wrist" in name
    ]
    start = int(np.abs(joint_pos[:-20, limb] - other[:-20, limb]).max(-1).argmax())  # where the sides differ most
    joint_pos[start : start + 12, limb] = other[start : start + 12, limb]
    right, count = unswapped(ROBOT, joint_pos)
    np.testing.assert_allclose(right, motion.joint_pos, atol=1e-12)
    assert count == 12


def test_a_path_loses_its_jumps_and_keeps_its_speed() -> None:
    path = np.stack([0.01 * np.arange(100.0), np.zeros(100), np.full(100, 0.75)], -1)
    broken = path.copy()
    broken[40:] += [0.3, -0.2, 0.0]
    whole, count = without_jumps(broken)
    assert count == 1
    np.testing.assert_allclose(whole, path, atol=1e-9)


def test_a_repair_leaves_the_robot_over_its_feet() -> None:
    """Low, slow steps are not slides: to hold such a foot still would draw it from under the body."""
    pytest.importorskip("daqp", reason="repair needs daqp")
    motion = shipped("squat")  # its feet shuffle, a centimetre above the floor
    damaged = corrupt(ROBOT, motion, "self_intersection")
    before = np.nanmax(measure(ROBOT, damaged).support_excess)
    fixed = check_motion(ROBOT, damaged, mend=True).motion
    assert np.nanmax(measure(ROBOT, fixed).support_excess) < before + 0.02
    feet = ROBOT.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
    assert np.linalg.norm((fixed.keypoint_pos - damaged.keypoint_pos)[:, feet], axis=-1).mean() < 0.005


def test_a_repair_that_costs_the_robot_its_balance_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("daqp", reason="repair needs daqp")
    damaged = corrupt(ROBOT, shipped(), "self_intersection")
    falls: list[int] = []  # per motion that is simulated, in how many of four rollouts

    def simulated(robot: Robot, motion: Motion, *_: object) -> Tracking:
        fell = falls.pop(0)
        return Tracking("p", "0" * 64, (3.0,) * 4, (None,) * (4 - fell) + (1.0,) * fell, (True,) * 4)

    monkeypatch.setattr("genmimic.check.gate.track", simulated)
    falls[:] = [1, 1]
    checked = check_motion(ROBOT, damaged, "policy.onnx", mend=True)
    assert checked.before is not None and not checked.left_out, "no worse is good enough"
    falls[:] = [0, 2, 2, 2]
    checked = check_motion(ROBOT, damaged, "policy.onnx", mend=True)
    np.testing.assert_array_equal(checked.motion.joint_pos, damaged.joint_pos)
    assert checked.before is None and not checked.judgement.repairs and checked.judgement.verdict == "gantry only"
    assert "stands in 2 of 4 rollouts, 4 before" in checked.left_out[0]
    assert checked.motion.source["check"]["repairs_left_out"] == list(checked.left_out)
    slid = corrupt(ROBOT, shipped(), "foot_skate")
    falls[:] = [0, 2, 0]
    gentler = check_motion(ROBOT, slid, "policy.onnx", mend=True)
    assert gentler.before is not None and len(gentler.left_out) == 1 and gentler.left_out[0].startswith("the whole")


# simulation ------------------------------------------------------------------------------------
def test_a_motion_at_which_the_simulated_robot_falls_is_refused(hold_policy: Path) -> None:
    checked = check_motion(ROBOT, shipped("squat"), hold_policy, rollouts=1)
    assert checked.judgement.verdict == "refused"
    assert checked.judgement.findings[0].kind == "fall"
    assert checked.motion.source["check"]["policy_sha256"] == file_sha256(hold_policy)


def test_a_motion_that_is_tracked_passes(balance_policy: Path) -> None:
    checked = check_motion(ROBOT, standing(), balance_policy, rollouts=2)
    tracking = checked.judgement.tracking
    assert tracking is not None and tracking.fell_at_s[0] is None and len(tracking.fell_at_s) == 2
    assert checked.judgement.verdict in ("ok", "gantry only")
    assert checked.judgement.scores["lmpkpe_cm"] < 10.0


# the verdict -----------------------------------------------------------------------------------
def passed(verdict: str = "ok") -> Motion:
    motion = check_motion(ROBOT, standing()).motion
    record = {**motion.source["check"], "policy_sha256": "a" * 64, "verdict": verdict}
    return replace(motion, source={**motion.source, "check": record})


def test_the_real_robot_asks_for_a_verdict(caplog: pytest.LogCaptureFixture) -> None:
    assert require_verdict(passed(), "a" * 64) == "ok"
    assert require_verdict(passed("repaired"), "a" * 64) == "repaired"
    assert require_verdict(passed("gantry only"), "a" * 64, on_gantry=True) == "gantry only"
    for motion, policy, reason in (
        (standing(), "a" * 64, "has not been checked"),
        (passed(), "b" * 64, "checked with policy aaaaaaaaaaaa"),
        (passed("refused"), "a" * 64, "'refused'"),
        (passed("gantry only"), "a" * 64, "'gantry only'"),
        (passed("excellent"), "a" * 64, "'excellent'"),
        (check_motion(ROBOT, standing()).motion, "a" * 64, "without a policy"),
    ):
        with pytest.raises(GateError, match=reason) as error:
            require_verdict(motion, policy)
        assert "\n" not in str(error.value)
        with caplog.at_level(logging.WARNING):
            assert require_verdict(motion, policy, override=True) == "overridden"
        assert "gate overridden" in caplog.text


def test_a_motion_that_changed_loses_its_verdict(tmp_path: Path) -> None:
    motion = passed()
    save_motion(tmp_path / "one.npz", ROBOT, motion)
    again = load_motion(tmp_path / "one.npz", ROBOT)
    assert require_verdict(again, "a" * 64) == "ok"
    with pytest.raises(GateError, match="changed after its check"):
        require_verdict(changed(again, joint_pos=again.joint_pos + 0.001), "a" * 64)
    with pytest.raises(GateError, match="changed after its check"):
        require_verdict(crop_motion(again, 0.0, 0.5), "a" * 64)
    with pytest.raises(GateError, match="changed after its check"):
        require_verdict(replace(again, fps=60.0), "a" * 64)


# command and pictures --------------------------------------------------------------------------
def test_the_command_writes_the_verdict_into_the_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "wave.npz"
    save_motion(path, ROBOT, shipped())
    before = path.read_bytes()
    assert main(["check", str(path), "--no-simulation", "--dry-run"]) == 0
    assert path.read_bytes() == before and "wave: ok" in capsys.readouterr().out
    assert main(["check", str(path), "--no-simulation"]) == 0
    assert load_motion(path, ROBOT).source["check"]["verdict"] == "ok"


def test_the_command_refuses_repairs_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("daqp", reason="repair needs daqp")
    path, out = tmp_path / "bad.npz", tmp_path / "good.npz"
    save_motion(path, ROBOT, corrupt(ROBOT, shipped(), "sink"))
    assert main(["check", str(path), "--no-simulation", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == "refused" and record["findings"][0]["kind"] == "sink"
    plots, page = tmp_path / "p.png", tmp_path / "p.html"
    command = ["check", str(path), "--no-simulation", "--repair", "-o", str(out), "--plots", str(plots)]
    assert main(command) == 0
    assert "repaired: put on the floor" in capsys.readouterr().out
    assert load_motion(out, ROBOT).source["check"]["verdict"] == "repaired"
    checked = check_motion(ROBOT, load_motion(path, ROBOT), mend=True)
    save_page(page, checked.motion, checked.judgement, checked.before, plots, title="<b>&")
    text = page.read_text()
    assert (
        "data:image/png;base64," in text and "&lt;b&gt;&amp;" in text and "http" not in text.replace("http-equiv", "")
    )


def test_the_command_takes_several_motions_and_the_worst_counts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_motion(tmp_path / "good.npz", ROBOT, standing())
    save_motion(tmp_path / "bad.npz", ROBOT, corrupt(ROBOT, standing(), "sink"))
    command = ["check", str(tmp_path / "good.npz"), str(tmp_path / "bad.npz"), "--no-simulation", "--json"]
    assert main(command) == 1
    assert [record["verdict"] for record in json.loads(capsys.readouterr().out)] == ["ok", "refused"]
    assert main([*command, "-o", str(tmp_path / "out.npz")]) == 2
    assert "one MOTION" in capsys.readouterr().err and not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.npz"], "no such file"),
        (["wave", "--rollouts", "0"], "--rollouts"),
        (["wave", "-o", "x.txt"], "expected .npz"),
        (["wave", "--dry-run", "--plots", "x.jpg"], "expected .png"),
        (["wave", "--dry-run", "--html", "no/such/folder/x.html"], "does not exist"),
        (["wave", "--dry-run", "--policy", "none.onnx"], "no such file"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    motion = standing()
    with pytest.raises(InputFileError, match="does not exist"):
        save_plots(tmp_path / "no" / "plot.png", ROBOT, motion, judge(ROBOT, motion))


def test_severities_are_ordered() -> None:
    assert Severity.NOTE < Severity.GANTRY < Severity.REFUSE
