# SPDX-License-Identifier: Apache-2.0
"""Metrics worked by hand, rollouts that repeat, reports that read back."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.motion import Motion, save_motion
from genmimic.core.observation import MASS_GROUPS
from genmimic.core.randomization import PAPER_RANDOMIZATION, Randomization, mass_group_idx
from genmimic.core.reference import standing_motion
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import quat_from_heading, quat_multiply, rotate_heading
from genmimic.evaluate.metrics import (
    METRICS,
    RolloutTrack,
    aligned_keypoints,
    rollout_metrics,
    summarize,
    wilson_interval,
)

ROBOT = G1_23DOF


def _track(frames=4, offset=(0.0, 0.0, 0.0), fell_at=None):
    """A robot ``offset`` (3,) or (T, 3) in m from a goal that stands still."""
    pose = standing_motion(ROBOT, np.zeros(2), 0.0, frames)
    offset = np.broadcast_to(np.asarray(offset, float), (frames, 3))
    return RolloutTrack(
        np.arange(frames) / 50.0,
        pose.keypoint_pos + offset[:, None, :],
        pose.root_quat,
        pose.keypoint_pos,
        pose.root_quat,
        fell_at,
    )


# metrics --------------------------------------------------------------------------------------------
def test_a_shift_is_a_global_error_and_no_local_one():
    """Shifted by (3, 4, 0) cm: every keypoint is 5 cm off, the pose is the same, and so the drift is 0.05 m."""
    found = rollout_metrics(_track(offset=(0.03, 0.04, 0.0)), ROBOT)
    assert list(found) == list(METRICS)
    assert found["mpkpe_cm"] == pytest.approx(5.0) and found["mpkpe_nt_cm"] == pytest.approx(5.0)
    assert found["lmpkpe_cm"] == pytest.approx(0.0, abs=1e-9) and found["hands_cm"] == pytest.approx(0.0, abs=1e-9)
    assert found["drift_m"] == pytest.approx(0.05)
    assert found["sr"] is True and found["sr_local"] is True and found["no_fall"] is True


def test_hands_error_by_hand():
    """The left hand 27 cm up: the mean over 27 keypoints is 1 cm, over the two hands 13.5 cm."""
    track = _track()
    moved = track.keypoint_pos.copy()
    moved[:, ROBOT.keypoint_idx(["left_hand"])[0], 2] += 0.27
    found = rollout_metrics(replace(track, keypoint_pos=moved), ROBOT)
    assert found["mpkpe_cm"] == pytest.approx(1.0) and found["lmpkpe_cm"] == pytest.approx(1.0)
    assert found["hands_cm"] == pytest.approx(13.5)


@pytest.mark.parametrize(("distance", "success"), [(0.499999, True), (0.500001, False)])
def test_success_ends_at_half_a_metre(distance, success):
    offset = np.zeros((6, 3))
    offset[3, 0] = distance  # in one frame only
    assert rollout_metrics(_track(6, offset), ROBOT)["sr"] is success


def test_terminated_errors_stop_where_nt_goes_on():
    """0, 10, 60, 90 cm: too far in frame 2, so the mean is (0 + 10) / 2 = 5; without termination 160 / 4 = 40."""
    offset = np.zeros((4, 3))
    offset[:, 1] = 0.0, 0.1, 0.6, 0.9
    found = rollout_metrics(_track(4, offset), ROBOT)
    assert found["mpkpe_cm"] == pytest.approx(5.0) and found["mpkpe_nt_cm"] == pytest.approx(40.0)
    assert found["sr"] is False and found["no_fall"] is True and found["drift_m"] == pytest.approx(0.9)
    assert found["sr_local"] is True  # drift alone is no failure there


def test_a_fall_terminates_and_fails():
    offset = np.zeros((4, 3))
    offset[:, 2] = 0.0, -0.02, -0.1, -0.2
    found = rollout_metrics(_track(4, offset, fell_at=2), ROBOT)
    assert found["mpkpe_cm"] == pytest.approx(1.0) and found["mpkpe_nt_cm"] == pytest.approx(8.0)
    assert not (found["sr"] or found["sr_local"] or found["no_fall"])


def test_a_fall_before_the_motion_leaves_nothing_to_average():
    found = rollout_metrics(_track(fell_at=-20), ROBOT)
    assert math.isnan(found["mpkpe_cm"]) and math.isnan(found["hands_cm"])
    assert found["mpkpe_nt_cm"] == pytest.approx(0.0, abs=1e-9)


def test_a_fall_after_the_motion_fails_without_touching_errors():
    found = rollout_metrics(_track(offset=(0.1, 0, 0), fell_at=30), ROBOT)
    assert found["mpkpe_cm"] == pytest.approx(10.0) and found["no_fall"] is False and found["sr"] is False


def test_local_success_asks_for_ten_centimetres():
    for error_cm, success in ((9.99, True), (10.01, False)):
        track = _track()
        moved = track.keypoint_pos.copy()
        moved[:, 1:, 2] += error_cm / 100 * 27 / 26  # all but the pelvis
        assert rollout_metrics(replace(track, keypoint_pos=moved), ROBOT)["sr_local"] is success


def test_local_error_does_not_see_place_or_heading():
    rng = np.random.default_rng(0)
    joints = ROBOT.default_joint_pos + 0.3 * rng.standard_normal((5, 23))
    quat = quat_multiply(quat_from_heading(rng.uniform(-3, 3, 5)), np.tile([0.98, 0.1, 0.17, 0.0], (5, 1)))
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    pos = forward_kinematics(ROBOT, rng.standard_normal((5, 3)), quat, joints).pos
    turn = rng.uniform(-3, 3, 5)
    moved = rotate_heading(turn[:, None], pos) + rng.standard_normal((5, 1, 3))
    turned = quat_multiply(quat_from_heading(turn), quat)
    np.testing.assert_allclose(aligned_keypoints(moved, turned), aligned_keypoints(pos, quat), atol=1e-9)
    track = RolloutTrack(np.arange(5.0), moved, turned, pos, quat, None)
    assert rollout_metrics(track, ROBOT)["lmpkpe_nt_cm"] == pytest.approx(0.0, abs=1e-6)


def test_local_error_sees_tilt():
    """Only heading is aligned: a robot that leans is a pose error."""
    joints = ROBOT.default_joint_pos[None]
    upright, leaning = np.array([[1.0, 0, 0, 0]]), np.array([[math.cos(0.1), 0.0, math.sin(0.1), 0.0]])
    goal, robot = (forward_kinematics(ROBOT, np.zeros((1, 3)), quat, joints).pos for quat in (upright, leaning))
    found = rollout_metrics(RolloutTrack(np.zeros(1), robot, leaning, goal, upright, None), ROBOT)
    assert found["lmpkpe_cm"] > 5.0


def test_track_refuses_wrong_shapes_and_nan():
    track = _track()
    with pytest.raises(ConfigError, match=r"root_quat has shape \(3, 4\), expected \(4, 4\)"):
        replace(track, root_quat=track.root_quat[:3])
    broken = track.keypoint_pos.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ConfigError, match="keypoint_pos holds a number that is not finite"):
        replace(track, keypoint_pos=broken)


def test_wilson_interval_by_hand():
    """9 of 10, z = 1.96: centre (0.9 + 0.19207) / 1.38415 = 0.789, half 1.96 sqrt(0.009 + 0.0096) / 1.38415 = 0.193."""
    low, high = wilson_interval(9, 10)
    assert low == pytest.approx(0.596, abs=1e-3) and high == pytest.approx(0.982, abs=1e-3)
    assert wilson_interval(0, 5)[0] == 0.0 and wilson_interval(5, 5)[1] == 1.0


def test_summary_means_and_intervals():
    """Errors 1 and 3: mean 2, standard error 1, so 2 +- 1.96. What was never measured is left out."""
    first = {**rollout_metrics(_track(), ROBOT), "mpkpe_cm": 1.0}
    second = {**first, "mpkpe_cm": 3.0, "sr": False, "hands_cm": float("nan")}
    found = summarize([first, second])
    assert found["rollouts"] == 2 and found["mpkpe_cm"] == 2.0 and found["sr"] == 0.5
    assert found["ci95"]["mpkpe_cm"] == pytest.approx([0.04, 3.96], abs=1e-3)
    assert found["hands_cm"] == pytest.approx(0.0, abs=1e-9) and found["ci95"]["hands_cm"] is None
    assert summarize([])["sr"] is None


# randomisation --------------------------------------------------------------------------------------
def test_every_link_is_in_its_mass_group():
    groups = dict(zip(ROBOT.link_names, mass_group_idx(ROBOT), strict=True))
    assert MASS_GROUPS[groups["left_knee_link"]] == "left_shin"
    assert MASS_GROUPS[groups["right_hip_yaw_link"]] == "right_thigh"
    assert MASS_GROUPS[groups["torso_link"]] == "torso" and MASS_GROUPS[groups["left_wrist_roll_link"]] == "left_arm"
    assert set(groups.values()) == set(range(8))


def test_randomization_refuses_reversed_ranges():
    with pytest.raises(ConfigError, match=r"friction is \(2.0, 1.0\)"):
        Randomization(friction=(2.0, 1.0))


# rollouts -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def rollout_module():
    pytest.importorskip("mujoco", reason="rollouts need mujoco")
    from genmimic.evaluate import rollout

    return rollout


@pytest.fixture(scope="module")
def short_plan(rollout_module):
    """One second of standing, so 0.5 s stand, 0.8 s blend, 1 s motion, and back."""
    return rollout_module.plan(ROBOT, standing_motion(ROBOT, np.array([2.0, -1.0]), 1.0, 50))


def _still(observation):
    return np.zeros(23)


@pytest.fixture(scope="module")
def balance(balance_policy):
    pytest.importorskip("onnxruntime", reason="running a policy needs onnxruntime")
    from genmimic.policy import load_policy

    return load_policy(balance_policy)


def test_plan_starts_at_the_origin_and_marks_the_motion(short_plan):
    assert short_plan.end - short_plan.start == 50 and len(short_plan.goals) == len(short_plan.keypoint_pos)
    assert abs(short_plan.goals[0].root_pos[:2]).max() < 0.1
    assert short_plan.goals[short_plan.start].frame == 0


def test_a_standing_policy_succeeds(rollout_module, short_plan, balance):
    found = rollout_module.rollout(ROBOT, balance, short_plan)
    assert found.metrics["sr"] and found.metrics["sr_local"] and found.fell_at_s is None
    assert found.metrics["lmpkpe_cm"] < 2.0
    assert len(found.trajectory["t"]) == len(short_plan.goals)


def test_a_fall_is_seen_and_the_motion_goes_on(rollout_module):
    """With limp actions the robot topples in the blend-in; the run still lasts to the motion's end, not longer."""
    planned = rollout_module.plan(ROBOT, standing_motion(ROBOT, np.zeros(2), 0.0, 100))
    found = rollout_module.rollout(ROBOT, _still, planned)
    assert found.fell_at_s is not None and not found.metrics["no_fall"]
    assert len(found.trajectory["t"]) == planned.end
    assert found.metrics["lmpkpe_nt_cm"] > 10.0
    assert found.trajectory["fell"][-1] and not found.trajectory["fell"][0]


def test_an_action_that_is_not_finite_is_a_fall(rollout_module, short_plan):
    found = rollout_module.rollout(ROBOT, lambda observation: np.full(23, np.nan), short_plan)
    assert found.fell_at_s == 0.0 and not found.metrics["no_fall"]
    assert all(np.isfinite(values).all() for values in found.trajectory.values())


def test_same_seed_same_rollout_and_another_differs(rollout_module, short_plan, balance):
    from genmimic.core.noise import PAPER_NOISE

    def once(number, sim=None):
        seed = rollout_module.rollout_seed(3, "still", number)
        return rollout_module.rollout(
            ROBOT, balance, short_plan, noise=PAPER_NOISE, randomization=PAPER_RANDOMIZATION, seed=seed, sim=sim
        ).trajectory["joint_pos"]

    sim = rollout_module.SimulatedG1(ROBOT)
    first, again, used = once(0), once(0, sim), once(0, sim)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, used)  # a simulator that has run before leaves no trace
    assert np.abs(once(1)[:10] - first[:10]).max() > 1e-4


def test_without_noise_nothing_is_random(rollout_module, short_plan):
    first, other = (
        rollout_module.rollout(ROBOT, _still, short_plan, seed=np.random.SeedSequence(seed)) for seed in (1, 2)
    )
    np.testing.assert_array_equal(first.trajectory["joint_pos"], other.trajectory["joint_pos"])
    assert np.abs(first.trajectory["joint_pos"][0] - ROBOT.default_joint_pos).max() < 0.01  # one step of sagging


def test_sampled_robots_stay_in_table_8(rollout_module):
    for number in range(20):
        config = rollout_module.sample_config(ROBOT, PAPER_RANDOMIZATION, np.random.default_rng(number))
        assert 0.4 <= config.friction <= 1.25 and config.delay_steps in range(4)
        for name, low, high in (("mass_scale", 0.7, 1.3), ("kp_scale", 0.75, 1.25), ("strength_scale", 0.5, 1.5)):
            assert low <= min(getattr(config, name)) <= max(getattr(config, name)) <= high
        assert len(set(config.mass_scale)) == 8


def test_pushes_come_every_five_seconds(rollout_module):
    pushes = rollout_module.push_times(PAPER_RANDOMIZATION, 2000, np.random.default_rng(0))
    assert 8 <= len(pushes) <= 9 and min(pushes) <= 250
    assert set(np.diff(sorted(pushes))) <= {249, 250, 251}
    assert all(np.abs(velocity).max() <= 1.0 for velocity in pushes.values())


# evaluations and reports ----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def motion_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motions")
    still = standing_motion(ROBOT, np.zeros(2), 0.0, 25)
    arms = still.joint_pos.copy()
    arms[:, ROBOT.joint_idx(["left_elbow_joint"])[0]] += 0.3
    raised = Motion.from_joints(ROBOT, 50.0, arms, still.root_pos, still.root_quat)
    save_motion(folder / "still.npz", ROBOT, replace(still, name="still", source={"in_place": True}))
    save_motion(folder / "raised.npz", ROBOT, replace(raised, name="raised"))
    return [folder / "still.npz", folder / "raised.npz"]


@pytest.fixture(scope="module")
def evaluate():
    pytest.importorskip("mujoco", reason="rollouts need mujoco")
    pytest.importorskip("onnxruntime", reason="running a policy needs onnxruntime")
    from genmimic.evaluate.run import evaluate

    return evaluate


def test_report_is_the_same_for_any_number_of_processes(evaluate, balance_policy, motion_files):
    def run(jobs, paths=motion_files):
        return evaluate(balance_policy, paths, rollouts=3, noise="paper", seed=5, jobs=jobs)

    one, two = run(1), run(2)
    assert one == two
    assert [entry["rollouts"] for entry in one["motions"]] == [3, 3] and one["total"]["rollouts"] == 6
    reverse = run(1, motion_files[::-1])
    assert reverse["motions"][1]["each"] == one["motions"][0]["each"]  # nor does the order matter
    assert run(1)["motions"][0]["each"][0] != run(1)["motions"][0]["each"][1]


def test_report_and_trajectory_read_back_and_agree(evaluate, balance_policy, motion_files, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    from genmimic.evaluate.report import file_sha256, load_report, load_trajectory, track_of

    report = evaluate(balance_policy, motion_files[:1], rollouts=2, noise="paper", jobs=1, report_dir=tmp_path)
    assert load_report(tmp_path) == json.loads(json.dumps(report))
    assert report["policy"] == "balance" and report["policy_sha256"] == file_sha256(balance_policy)
    assert report["motion"] == "still" and report["seed"] == 0 and report["noise"] == "paper"
    (folder,) = report["motions"][0]["kept"]
    names = {path.name for path in (tmp_path / folder).iterdir()}
    assert names == {"report.json", "rollout.png", "trajectory.npz"}
    again = rollout_metrics(track_of(load_trajectory(tmp_path / folder, ROBOT)), ROBOT)
    for name in METRICS:
        assert again[name] == pytest.approx(report["motions"][0]["each"][0][name], rel=1e-4, abs=1e-4), name
    assert load_report(tmp_path / folder)["total"]["rollouts"] == 1


def test_without_chance_one_rollout_is_all(evaluate, balance_policy, motion_files):
    assert evaluate(balance_policy, motion_files[:1], rollouts=32, jobs=1)["motions"][0]["rollouts"] == 1


def test_a_falling_policy_is_no_success(evaluate, hold_policy, motion_files):
    report = evaluate(hold_policy, motion_files[:1], jobs=1)
    assert report["success"] is False and report["total"]["no_fall"] == 0.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise": "loud"}, "noise is 'loud'; known: none, paper"),
        ({"randomize": "all"}, "randomize is 'all'; known: none, paper"),
        ({"rollouts": 0}, "rollouts is 0, expected 1 or more"),
        ({"jobs": 0}, "jobs is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_refused(evaluate, hold_policy, motion_files, setting, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(hold_policy, motion_files, **setting)


def _report():
    from genmimic.evaluate.report import build_report, motion_entry

    entry = motion_entry("still", [rollout_metrics(_track(), ROBOT)])
    return build_report([entry], policy="p", policy_sha256="0" * 64, seed=0, noise="none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda report: report.update(format="genmimic-report/9"), "format is 'genmimic-report/9'"),
        (lambda report: report.pop("policy"), "'policy' is missing"),
        (lambda report: report.update(seed="0"), "seed is str, expected int"),
        (lambda report: report.update(success=1), "success is int, expected bool"),
        (lambda report: report["total"].pop("sr"), "total: 'sr' is missing"),
        (lambda report: report["total"].update(sr=1.5), "total: sr is 1.5, expected 0 to 1"),
        (lambda report: report["motions"][0].update(mpkpe_cm="5"), r"motions\[0\]: mpkpe_cm is '5'"),
        (lambda report: report["motions"].append(3), r"motions\[1\] is int"),
    ],
)
def test_a_wrong_report_is_refused_by_name(tmp_path, change, message):
    from genmimic.evaluate.report import load_report

    report = _report()
    change(report)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputFileError, match=message) as caught:
        load_report(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", '{"format": NaN}', "[]", "\x00\xff", "[" * 100_000])
def test_a_damaged_report_is_refused_in_one_line(tmp_path, text):
    from genmimic.evaluate.report import load_report

    path = tmp_path / "report.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputFileError) as caught:
        load_report(path)
    assert "\n" not in str(caught.value)


def test_missing_report(tmp_path):
    from genmimic.evaluate.report import load_report

    with pytest.raises(InputFileError, match="no such report"):
        load_report(tmp_path)


def test_nothing_measured_is_null_in_the_file(tmp_path):
    from genmimic.evaluate.report import build_report, load_report, motion_entry, write_report

    entry = motion_entry("still", [rollout_metrics(_track(fell_at=-1), ROBOT)])
    write_report(tmp_path, build_report([entry], policy="p", policy_sha256="", seed=0, noise="none"))
    assert load_report(tmp_path)["total"]["mpkpe_cm"] is None


def test_a_wrong_trajectory_is_refused(tmp_path):
    from genmimic.core.motion import write_npz
    from genmimic.evaluate.report import load_trajectory, trajectory_fields, write_trajectory

    good = {name: np.zeros((6, *row)) for name, row in trajectory_fields(ROBOT).items()}
    good["motion_frames"] = np.array([1, 5])
    write_trajectory(tmp_path, good, ROBOT)
    assert load_trajectory(tmp_path, ROBOT)["motion_frames"].tolist() == [1, 5]
    broken = {
        "action": (np.zeros((6, 29)), r"action is float64 of shape \(6, 29\), expected numbers of shape \(6, 23\)"),
        "torque": (np.full((6, 23), np.nan), "torque holds a number that is not finite"),
        "motion_frames": (np.array([5, 5]), "motion_frames are 5 to 5"),
    }
    for name, (value, message) in broken.items():
        write_npz(tmp_path / "trajectory.npz", {**good, name: value})
        with pytest.raises(InputFileError, match=message):
            load_trajectory(tmp_path, ROBOT)
    with pytest.raises(ConfigError, match="field 'torque' is missing"):
        write_trajectory(tmp_path, {name: value for name, value in good.items() if name != "torque"}, ROBOT)


# the command ----------------------------------------------------------------------------------------
def test_command_prints_a_table_and_judges(evaluate, balance_policy, hold_policy, motion_files, tmp_path, capsys):
    from genmimic.cli import main

    motions = [str(path) for path in motion_files]
    options = ["--rollouts", "2", "--jobs", "1", "--keep", "0", "--report", str(tmp_path)]
    assert main(["evaluate", "--policy", str(balance_policy), "--motions", *motions, *options]) == 0
    out, err = capsys.readouterr()
    assert "still" in out and "raised" in out and "total" in out and "100 [" in out
    assert "nothing is random" in out
    assert err == ""  # no progress in a pipe
    assert (tmp_path / "report.json").is_file()
    assert main(["evaluate", "--policy", str(hold_policy), "--motions", motions[0], "--jobs", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["total"]["no_fall"] == 0.0


def test_command_takes_folders_and_in_place(evaluate, motion_files, tmp_path):
    from genmimic.cli.evaluate import find_motions

    folder = motion_files[0].parent
    assert find_motions([str(folder)]) == sorted(motion_files)
    assert find_motions([str(folder), str(motion_files[0])], in_place=True) == [folder / "still.npz"]
    with pytest.raises(InputFileError, match="none of the 1 motions is marked"):
        find_motions([str(motion_files[1])], in_place=True)
    with pytest.raises(InputFileError, match="no \\*.npz files"):
        find_motions([str(tmp_path)])


@pytest.mark.parametrize("argument", [["--policy", "missing.onnx"], ["--noise", "loud"], ["--motions", "nowhere"]])
def test_command_refuses_bad_input_with_code_2(evaluate, argument, hold_policy, motion_files, capsys):
    from genmimic.cli import main

    base = ["evaluate", "--policy", str(hold_policy), "--motions", str(motion_files[0])]
    assert main([*base, *argument]) == 2
    assert capsys.readouterr().err.strip()
