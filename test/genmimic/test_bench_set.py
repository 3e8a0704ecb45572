# SPDX-License-Identifier: Apache-2.0
"""GenMimicBench as a folder of any layout: classes by the paper's words, pairs, texts, robot motions. Made-up data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genmimic.cli import main
from genmimic.core.errors import InputFileError
from genmimic.core.human import HUMAN_JOINTS, HumanMotion, save_human_motion
from genmimic.core.motion import load_motion
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.evaluate.bench import class_of, load_classes
from genmimic.evaluate.bench_set import (
    CLASSES,
    COMPOSITE,
    COMPOSITE_WALKING,
    COSMOS,
    IN_THE_WILD,
    SIMPLE,
    SIMPLE_WALKING,
    WAN,
    build,
    kind_of,
    read_bench,
    summary_table,
)

PROMPTS = {  # of figure 5 and section 3
    "A woman performs a thumbs up gesture.": SIMPLE,
    "A man is facing to the left ... he waves his arm.": SIMPLE,
    "A man touches his head while walking to the right.": SIMPLE_WALKING,
    "A man touches his head, then folds his arms": COMPOSITE,
    "A man crosses his arms across his chest, then uncrosses them, and finally waves his right hand.": COMPOSITE,
    "raise right hand and point forward, fold arms": COMPOSITE,
    "A woman touches her head, then performs a thumbs up gesture, and finally waves both arms, while walking to the "
    "right.": COMPOSITE_WALKING,
    "A man turns around and picks up a dumbbell.": IN_THE_WILD,
    "A man closes the door.": IN_THE_WILD,
    "TouchHead_ThumbsUp_WaveArms_Walking": COMPOSITE_WALKING,
}


@pytest.mark.parametrize(("text", "kind"), PROMPTS.items())
def test_the_papers_own_prompts_fall_into_its_classes(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_all_of_the_second_generator_is_in_the_wild() -> None:
    assert kind_of("A woman raises arms and walks forward.", COSMOS) == IN_THE_WILD
    assert kind_of("A woman raises arms and walks forward.", WAN) == SIMPLE_WALKING


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_words_of_the_path_are_enough(tmp_path: Path) -> None:
    for path in (
        "Wan2.1/subject_03/front_view/touch_head.mp4", "Wan2.1/subject_03/left_view/touch_head.mp4",
        "cosmos/subject 7/open_the_door.mp4", ".cache/wave.mp4",
    ):  # fmt: skip
        touch(tmp_path / path)
    front, left, door = read_bench(tmp_path)
    assert (front.generator, front.subject, front.view, front.kind) == (WAN, "03", "front", SIMPLE)
    assert left.view == "left" and left.name != front.name and "touch_head" in left.name
    assert (door.generator, door.subject, door.kind, door.name) == (COSMOS, "7", IN_THE_WILD, "open_the_door")
    text = summary_table([front, left, door])
    assert text.splitlines()[0].split() == ["Wan2.1", "Cosmos-Predict2", "films", "motions", "texts"]
    assert text.splitlines()[-1].split() == ["all", "2", "1", "3", "0", "3"]


@pytest.mark.parametrize("form", ["metadata.csv", "metadata.jsonl", "prompts.json", "list.json", "beside"])
def test_a_table_or_a_text_beside_it_wins_over_the_path(form: str, tmp_path: Path) -> None:
    touch(tmp_path / "videos" / "0001.mp4")
    prompt = "A man touches his head, then folds his arms"
    rows = [{"file_name": "videos/0001.mp4", "text": prompt}]
    if form == "metadata.csv":
        (tmp_path / form).write_text(f'file_name,text\nvideos/0001.mp4,"{prompt}"\n')
    elif form == "metadata.jsonl":
        (tmp_path / form).write_text("\n".join(map(json.dumps, rows)))
    elif form == "prompts.json":
        (tmp_path / form).write_text(json.dumps({"0001": prompt}))
    elif form == "list.json":
        (tmp_path / form).write_text(json.dumps([{"video": "0001.mp4", "prompt": prompt}]))
    else:
        (tmp_path / "videos" / "0001.txt").write_text(prompt + "\n")
    (tmp_path / "damaged.json").write_text("{")
    (clip,) = read_bench(tmp_path)
    assert clip.text == prompt and clip.kind == COMPOSITE and clip.name == "0001"


def test_films_meet_their_motions(tmp_path: Path) -> None:
    for path in ("front/wave.mp4", "left/wave.mp4", "alone.mp4"):
        touch(tmp_path / "films" / path)
    for path in ("left/wave_smpl.npz", "front/wave_smpl.npz", "other.hmr4d_results.pt"):
        touch(tmp_path / "smpl" / path)
    clips = {clip.name: clip for clip in read_bench(tmp_path)}
    assert len(clips) == 4
    for side in ("front", "left"):
        (clip,) = (each for each in clips.values() if each.video == tmp_path / "films" / side / "wave.mp4")
        assert clip.motion == tmp_path / "smpl" / side / "wave_smpl.npz"
    assert clips["alone"].motion is None and clips["other"].video is None


def test_what_is_no_benchmark_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputFileError, match="no such folder"):
        read_bench(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x")
    assert main(["bench", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "holds neither films" in error and error.count("\n") == 1


def person(path: Path, frames: int = 40) -> None:
    """A person who stands and lifts an arm."""
    joints = {
        "pelvis": (0, 0, 0.95), "left_hip": (0, 0.09, 0.88), "right_hip": (0, -0.09, 0.88), "spine1": (0, 0, 1.05),
        "left_knee": (0.02, 0.1, 0.48), "right_knee": (0.02, -0.1, 0.48), "spine2": (0, 0, 1.18),
        "left_ankle": (0, 0.1, 0.08), "right_ankle": (0, -0.1, 0.08), "spine3": (0, 0, 1.25),
        "left_foot": (0.12, 0.11, 0.02), "right_foot": (0.12, -0.11, 0.02), "neck": (0, 0, 1.45),
        "left_collar": (0, 0.08, 1.4), "right_collar": (0, -0.08, 1.4), "head": (0.02, 0, 1.6),
        "left_shoulder": (0, 0.18, 1.4), "right_shoulder": (0, -0.18, 1.4), "left_elbow": (0, 0.22, 1.12),
        "right_elbow": (0, -0.22, 1.12), "left_wrist": (0.02, 0.23, 0.87), "right_wrist": (0.02, -0.23, 0.87),
        "left_hand": (0.03, 0.23, 0.79), "right_hand": (0.03, -0.23, 0.79),
    }  # fmt: skip
    names = tuple(name for name in HUMAN_JOINTS if name in joints)
    pos = np.tile(np.array([joints[name] for name in names], float), (frames, 1, 1))
    for name in ("left_wrist", "left_hand"):
        pos[:, names.index(name)] += np.linspace(0.0, 1.0, frames)[:, None] * [0.15, 0.0, 0.2]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_human_motion(path, HumanMotion(30.0, names, pos, np.ones(pos.shape[:2]), path.stem, {}))


def test_motions_come_to_the_robot_with_their_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    person(tmp_path / "set" / "Wan2.1" / "wave_arms.npz")
    touch(tmp_path / "set" / "Wan2.1" / "thumbs_up.npz")  # damaged
    out = tmp_path / "out"
    assert main(["bench", str(tmp_path / "set"), "-o", str(out)]) == 1
    told = capsys.readouterr()
    assert "simple upper body" in told.out and "1 of 2 motions" in told.err and "2/2 wave_arms" in told.err
    motion = load_motion(out / "wave_arms.npz", ROBOT)
    assert motion.name == "wave_arms" and 1.0 < motion.duration < 1.6
    assert motion.source["bench"] == {"text": "wan2.1 wave arms", "class": SIMPLE, "generator": WAN}
    classes = load_classes(out / "classes.yaml")
    assert classes == {SIMPLE: ("wave_arms",)} and set(classes) <= set(CLASSES)
    listed = json.loads((out / "bench.json").read_text())
    assert [entry["name"] for entry in listed["clips"]] == ["thumbs_up", "wave_arms"] and list(listed["failed"]) == [
        "thumbs_up"
    ]
    assert class_of("wave_arms", classes) == SIMPLE and class_of("thumbs_up", classes) == "other"

    before = (out / "wave_arms.npz").stat().st_mtime_ns  # given again, it goes on
    assert "wave_arms" not in build(read_bench(tmp_path / "set"), out)
    assert (out / "wave_arms.npz").stat().st_mtime_ns == before
