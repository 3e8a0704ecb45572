# SPDX-License-Identifier: Apache-2.0
"""Pages about runs and evaluations, comparisons, tables like the paper's, verdicts by eye."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from genmimic.cli import main
from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.evaluate.annotate import annotation_page, find_items, guess_action, load_verdicts, vsr_rows
from genmimic.evaluate.bench import bench_table, class_of, class_rows, load_classes
from genmimic.evaluate.compare import compare, comparison_page, comparison_text, newcombe_interval
from genmimic.evaluate.metrics import rollout_metrics
from genmimic.evaluate.report import build_report, motion_entry, track_of, write_report, write_rollout_report
from genmimic.evaluate.report_page import report_page
from genmimic.evaluate.runs import Run, load_run

pytest.importorskip("matplotlib", reason="plots need matplotlib")


class Tags(HTMLParser):
    """Whether tags are closed, and where sources point."""

    VOID = {"meta", "img", "input", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.seen = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-4:])
        self.open.pop()


def whole(html):
    """Check that a page is well-formed and needs nothing from elsewhere; return its tags."""
    tags = Tags()
    tags.feed(re.sub(r"<(\w+)([^<>]*)/>", r"<\1\2></\1>", html))
    assert tags.open == []
    assert all(source.startswith(("data:", "#")) for source in tags.sources)
    assert "@import" not in html and 'name="viewport"' in html and "prefers-color-scheme:dark" in html
    return tags


def rollout_of(fall=False, pose_cm=4.0, **more):
    good = {"sr": not fall, "sr_local": not fall, "no_fall": not fall, "mpkpe_cm": pose_cm + 1, "lmpkpe_cm": pose_cm,
            "mpkpe_nt_cm": pose_cm + 2, "lmpkpe_nt_cm": pose_cm, "hands_cm": 2 * pose_cm, "drift_m": 0.1}  # fmt: skip
    return {**good, "fell_at_s": 1.0 if fall else None, **more}


def evaluation(policy, motions, seed=0):
    entries = [motion_entry(name, rollouts, duration_s=1.0, kept=[]) for name, rollouts in motions.items()]
    report = build_report(
        entries, policy=policy, policy_sha256=policy * 8, seed=seed, noise="paper", kind="evaluation",
        training={"run": "r", "clips": ["a"]},
    )  # fmt: skip
    return Run(policy, Path("/nowhere"), report)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of which a trajectory was kept: the robot stands 5 cm aside of its goal, and lies in the last steps."""
    frames = 60
    joint_pos = np.tile(ROBOT.default_joint_pos, (frames, 1))
    quat = np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1))
    root = np.tile([0.0, 0.05, ROBOT.standing_height], (frames, 1))
    keypoints = forward_kinematics(ROBOT, root, quat, joint_pos).pos
    fell = np.zeros(frames, bool)
    fell[55:] = True
    trajectory = {
        "t": np.arange(frames) / 50.0, "joint_pos": joint_pos, "root_pos": root, "root_quat": quat,
        "keypoint_pos": keypoints, "goal_keypoint_pos": keypoints - [0.0, 0.05, 0.0], "goal_root_quat": quat,
        "action": np.zeros((frames, 23)), "torque": np.full((frames, 23), 5.0), "fell": fell,
        "motion_frames": np.array([10, 50]),
    }  # fmt: skip
    metrics = {**rollout_metrics(track_of(trajectory), ROBOT), "outcome": "DAMPED: <tilt>", "fell_at_s": 1.1}
    report = build_report(
        [motion_entry("wave", [metrics], duration_s=0.8)], policy="student", policy_sha256="ab" * 32, seed=0,
        noise="none", robot="sim", reason="", ticks=60, missed=0, late_5ms=1,
        **{name: {"p50": 1.0, "p99": 2.0, "max": None} for name in ("period_ms", "compute_ms", "latency_ms")},
        nodes={"policy_node": {"cpu_percent": 10.0, "rss_mb": 100.0}},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs") / "run"
    write_rollout_report(folder, report, trajectory, ROBOT, "wave")
    return folder


def test_a_run_becomes_one_page_that_stands_alone(run_folder, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    assert main(["report", str(run_folder)]) == 0
    html = (run_folder / "report.html").read_text()
    tags = whole(html)
    assert {"canvas", "svg", "img", "table"} <= set(tags.seen) and "video" not in tags.seen
    assert "No video: cannot draw: MUJOCO_GL=disable switches OpenGL off" in html
    assert "DAMPED: &lt;tilt&gt;" in html and "<tilt>" not in html
    assert "5.0 cm" in html  # MPKPE: 5 cm aside
    for words in ("What was asked", "How well it went", "Over time", "By keypoint", "Timing", "1 more than 5 ms late"):
        assert words in html
    player = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])
    assert player["frames"] == 30 and player["keypoints"] == 27 and player["bodies"][0]["fell"] == 27  # every second


def test_an_evaluation_becomes_a_page_with_the_worst_motion_first():
    motions = {"wave": [rollout_of()] * 4, "walk_then_wave": [rollout_of(True, 9.0), *[rollout_of()] * 3]}
    html = report_page(evaluation("p", motions), ROBOT).render()
    whole(html)
    table = html[html.index("By motion") :]
    assert table.index(">walk_then_wave</td>") < table.index(">wave</td>")
    assert "simple upper body" in html and "composite + locomotion" in html


def test_what_cannot_be_read_is_one_line(tmp_path, capsys):
    for arguments, words in (
        (["report", str(tmp_path)], "no report.json and no run.mcap"),
        (["report", str(tmp_path / "nowhere")], "no such report"),
        (["report", str(tmp_path), "--classes", "x.yaml"], "--classes needs --table"),
        (["compare", str(tmp_path), "p.onnx"], "cannot compare a policy with a run"),
        (["replay", str(tmp_path)], "run.mcap: no such recording"),
        (["annotate", "--table", str(tmp_path / "v.json")], "cannot be read"),
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and words in captured.err


# comparisons -----------------------------------------------------------------------------------
def test_newcombes_interval_is_that_of_his_paper():
    # Newcombe 1998, table II, example (a), method 10: 56/70 and 48/80 -> 0.0524 to 0.3339
    from genmimic.evaluate.metrics import wilson_interval

    low, high = newcombe_interval(48 / 80, wilson_interval(48, 80), 56 / 70, wilson_interval(56, 70))
    assert low == pytest.approx(0.0524, abs=5e-5) and high == pytest.approx(0.3339, abs=5e-5)


def test_a_clear_difference_is_found_and_none_is_not():
    rng = np.random.default_rng(0)

    def motions(shift, falls):
        return {name: [rollout_of(n < falls, float(4.0 + shift + 0.2 * rng.standard_normal())) for n in range(20)]
                for name in ("wave", "squat")}  # fmt: skip

    good, bad = evaluation("good", motions(0.0, 0)), evaluation("bad", motions(1.0, 10))
    found = compare(good, bad)
    by_name = {each.name: each for each in found.metrics}
    assert found.paired and found.worse and found.rollouts == (40, 40) and found.only == (20, 0)
    assert by_name["no_fall"].verdict == by_name["lmpkpe_nt_cm"].verdict == "worse"
    assert by_name["no_fall"].difference == pytest.approx(-0.5) and by_name["no_fall"].b == 0.5
    low, high = by_name["lmpkpe_nt_cm"].interval
    assert low < 1.0 < high and high - low < 0.4  # sd 0.2, 40 each: 1.0 +- 0.09
    assert {each.verdict for each in compare(bad, good).metrics if each.name != "drift_m"} == {"better"}
    same = compare(good, good)
    assert not same.worse and all(each.verdict == "open" for each in same.metrics)
    assert all(each.interval == (0.0, 0.0) for each in same.metrics if each.name.endswith("_cm"))  # pairs stay together
    assert "both ran the same policy" in comparison_text(same)
    whole(comparison_page(found, good, bad, ROBOT).render())
    assert json.loads(json.dumps(found.as_json()))["metrics"]["sr"]["verdict"] == "worse"


def test_comparisons_say_what_is_left_out_and_what_differs():
    a = evaluation("a", {"wave": [rollout_of()], "squat": [rollout_of()]})
    b = evaluation("b", {"wave": [rollout_of()], "kick": [rollout_of()]}, seed=1)
    found = compare(a, b)
    assert found.motions == ("wave",) and set(found.left_out) == {"squat", "kick"} and not found.paired
    assert "seed differs: 0 and 1" in found.notes
    assert all(each.interval is None for each in found.metrics if each.name.endswith("_cm"))  # one rollout: no interval
    with pytest.raises(ConfigError, match="no motion in common: wave, squat; and kick, jump"):
        compare(a, evaluation("c", {"kick": [rollout_of()], "jump": [rollout_of()]}))


def test_runs_are_compared_at_the_command_line(run_folder, capsys, tmp_path):
    page = tmp_path / "page.html"
    assert main(["compare", str(run_folder), str(run_folder), "-o", str(page), "--fail-if-worse"]) == 0
    assert "run (first)" in capsys.readouterr().out
    whole(page.read_text())


# tables ----------------------------------------------------------------------------------------
def test_tables_follow_the_papers_taxonomy(tmp_path):
    for motion, name in (
        ("touch_head_then_fold_arms_walking", "composite + locomotion"), ("Wave_Arms_walk", "simple + locomotion"),
        ("touch_head_then_thumbs_up", "composite upper body"), ("wave", "simple upper body"), ("pirouette", "other"),
    ):  # fmt: skip
        assert class_of(motion) == name
    report = evaluation("p", {"wave": [rollout_of()] * 3, "pirouette": [rollout_of(True)]}).report
    rows = class_rows(report)
    assert [(name, motions, summary["sr"]) for name, motions, summary in rows] == [
        ("simple upper body", 1, 1.0), ("other", 1, 0.0), ("all", 2, 0.75),
    ]  # fmt: skip
    text = bench_table(report)
    assert "paper: GenMimic student" in text and "62.5" in text and "75.0" in text
    assert bench_table(report, form="csv", paper=False).count("\n") == 3
    assert bench_table(report, form="markdown").startswith("| ") and r"\begin{tabular}" in bench_table(
        report, form="latex"
    )
    classes = tmp_path / "classes.yaml"
    classes.write_text("mine: ['w*']\n")
    assert [row[0] for row in class_rows(report, load_classes(classes))] == ["mine", "other", "all"]
    classes.write_text("mine: 3\n")
    with pytest.raises(InputFileError, match="expected classes"):
        load_classes(classes)


# verdicts by eye -------------------------------------------------------------------------------
def test_the_annotation_page_shows_film_and_robot(run_folder, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    (films / "wave.mp4").write_bytes(b"a film")
    runs = [load_run(run_folder, ROBOT)] * 2
    items = find_items(runs, ROBOT, films, draw=False)
    assert [(item.motion, item.trial) for item in items] == [("wave", 1), ("wave", 2)]
    html = annotation_page(items).render()
    tags = whole(html)
    assert tags.seen.count("video") == 2 and tags.seen.count("canvas") == 2
    assert "student" not in annotation_page(items, blind=True).render().split("const S=")[0]
    with pytest.raises(InputFileError, match="no such folder of videos"):
        find_items(runs, ROBOT, tmp_path / "nowhere", draw=False)
    with pytest.raises(ConfigError, match="nothing to judge"):
        find_items([evaluation("p", {"wave": [rollout_of()]})], ROBOT, draw=False)
    assert guess_action("man_walks_then_turns") == "walk+turn" and guess_action("wave") == "wave"
    assert guess_action("pirouette") == ""


def test_verdicts_become_table_2(tmp_path, capsys):
    def verdict(motion, action, success):
        return {"item": "i", "motion": motion, "action": action, "success": success}

    given = [verdict("wave_a", "wave", True), verdict("wave_a", "wave", True), verdict("wave_b", "wave", True)]
    given += [verdict("wave_b", "wave", False), verdict("step", "step forward", False), verdict("x", "", True)]
    path = tmp_path / "verdicts.json"
    path.write_text(json.dumps({"format": "genmimic-verdicts/1", "annotator": "me", "verdicts": given}))
    # wave: (2/2 + 1/2) / 2 = 0.75; all: (1 + 0.5 + 0 + 1) / 4 = 0.625
    assert vsr_rows(load_verdicts(path)) == [
        ("in-place action", True, 2, 4, 0.75), ("wave", False, 2, 4, 0.75), ("step+action", True, 1, 1, 0.0),
        ("step forward", False, 1, 1, 0.0), ("other", True, 1, 1, 1.0), ("all", True, 4, 6, 0.625),
    ]  # fmt: skip
    assert main(["annotate", "--table", str(path)]) == 0
    assert "in-place action     2       4  0.75" in capsys.readouterr().out
    path.write_text(json.dumps({"format": "genmimic-verdicts/1", "verdicts": [{"item": "i"}]}))
    with pytest.raises(InputFileError, match=r"verdicts\[0\]: motion is missing"):
        load_verdicts(path)


def test_a_report_without_rollouts_can_still_be_shown(tmp_path, run_folder):
    report = build_report([motion_entry("wave", [])], policy="p", policy_sha256="", seed=0, noise="none", robot="g1",
                          reason="the robot is DAMPED")  # fmt: skip
    write_report(tmp_path, report)
    for name in ("trajectory.npz", "rollout.png"):  # of an earlier run in the same folder
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    run = load_run(tmp_path, ROBOT)
    assert run.trajectory is None and run.picture is None
    html = report_page(run, ROBOT).render()
    whole(html)
    assert "the robot is DAMPED" in html


def test_a_recording_that_ended_at_once_can_still_be_shown(run_folder, tmp_path, monkeypatch):
    from genmimic.record.writer import Channel, RecordWriter

    monkeypatch.setenv("MUJOCO_GL", "disable")
    folder = tmp_path / "short"
    folder.mkdir()
    report = json.loads((run_folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(report))
    with RecordWriter(
        folder / "run.mcap", [Channel("/genmimic/gantry/tension", "std_msgs/msg/Float32", "float32 data")]
    ):
        pass
    assert main(["report", str(folder)]) == 0
    assert "Safety" in (folder / "report.html").read_text()
