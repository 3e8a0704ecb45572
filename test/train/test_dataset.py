# SPDX-License-Identifier: Apache-2.0
"""`genmimic-train dataset`: what goes in, what is left out and why, and that nothing held back is trained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("daqp", reason="retargeting needs daqp")

from genmimic.core.errors import ConfigError, InputFileError, MotionError  # noqa: E402
from genmimic.core.motion import load_motion  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.robot import is_leg  # noqa: E402
from genmimic_train.cli import main  # noqa: E402
from genmimic_train.data.balance import OffBalanceError  # noqa: E402
from genmimic_train.data.composite import composite  # noqa: E402
from genmimic_train.data.dataset import (  # noqa: E402
    DatasetOptions,
    build_dataset,
    find_sources,
    held_back,
    read_exclusions,
)

MOTIONS = Path(__file__).parents[2] / "motions"


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("wave", "squat", "hands_chop"):
        shutil.copy(MOTIONS / f"{name}.npz", folder)
    (folder / "broken.npz").write_bytes(b"PK not really")
    (folder / "notes.txt").write_text("no motion")
    return folder


def test_a_set_says_what_became_of_each_source(sources, tmp_path):
    options = DatasetOptions(test_share=0.0, gestures=0, composites=2)
    record = build_dataset([sources], tmp_path / "set", options, exclude=["sources/squat.npz"], jobs=1)
    became = {entry["name"]: entry for entry in record["entries"]}
    assert became["wave"]["split"] == "train" and became["wave"]["licence"] == "Apache-2.0"
    assert became["squat"]["split"] == "" and "leave out" in became["squat"]["reason"]
    assert became["broken"]["split"] == "" and "broken.npz" in became["broken"]["reason"]
    assert "notes" not in became
    made = [entry for entry in record["entries"] if entry["source"] == "made"]
    assert made and all("over" in entry["name"] for entry in made)
    written = {path.stem for path in (tmp_path / "set" / "train").iterdir()}
    assert written == {entry["name"] for entry in record["entries"] if entry["split"] == "train"}
    assert json.loads((tmp_path / "set" / "dataset.json").read_text()) == record
    assert load_motion(tmp_path / "set" / "train" / "wave.npz", ROBOT).name == "wave"
    with pytest.raises(ConfigError, match="already"):
        build_dataset([sources], tmp_path / "set", options)


def test_what_is_held_back_is_so_in_every_set():
    names = [f"clip{number}" for number in range(1000)]
    share = sum(held_back(name, 0.1) for name in names) / len(names)
    assert 0.06 < share < 0.14
    assert all(held_back(name, 0.3) for name in names if held_back(name, 0.1))  # more is a superset


def test_held_back_clips_are_in_the_test_part_alone(sources, tmp_path):
    record = build_dataset([sources], tmp_path / "set", DatasetOptions(test_share=0.9), jobs=1)
    test = {entry["name"] for entry in record["entries"] if entry["split"] == "test"}
    assert test
    assert not test & {path.stem for path in (tmp_path / "set" / "train").iterdir()}


def test_what_is_held_back_is_not_trained_on_under_another_name(tmp_path):
    """A copy in other words, and a mirrored one, leave the training part; another clip stays."""
    from genmimic.core.motion import mirror_motion, save_motion

    names = [f"copy{number}" for number in range(60)]
    held, free = next(n for n in names if held_back(n, 0.3)), [n for n in names if not held_back(n, 0.3)]
    folder = tmp_path / "sources"
    folder.mkdir()
    wave = load_motion(MOTIONS / "wave.npz", ROBOT)
    save_motion(folder / f"{held}.npz", ROBOT, wave)
    rng = np.random.default_rng(0)
    near = wave.joint_pos + 0.01 * rng.standard_normal(23)  # another retargeting: each joint a little off
    save_motion(folder / f"{free[0]}.npz", ROBOT, type(wave).from_joints(
        ROBOT, wave.fps, near, wave.root_pos, wave.root_quat, "other", wave.source))  # fmt: skip
    save_motion(folder / f"{free[1]}.npz", ROBOT, mirror_motion(ROBOT, wave))
    shutil.copy(MOTIONS / "squat.npz", folder / f"{free[2]}.npz")
    record = build_dataset([folder], tmp_path / "set", DatasetOptions(test_share=0.3, check=False), jobs=1)
    became = {entry["name"]: entry for entry in record["entries"]}
    assert became[held]["split"] == "test" and became[free[2]]["split"] == "train"
    for name in free[:2]:
        assert became[name]["split"] == "" and f"same performance as {held}" in became[name]["reason"]
        assert not (tmp_path / "set" / "train" / f"{name}.npz").exists()


def test_gestures_are_held_back_too(sources, tmp_path):
    """By their names, like clips; composites are of clips to train on and train on alone."""
    share = 0.5
    record = build_dataset(
        [sources], tmp_path / "set", DatasetOptions(test_share=share, gestures=1, check=False), jobs=1
    )
    made = {entry["name"]: entry["split"] for entry in record["entries"] if entry["source"] == "made"}
    assert made == {name: "test" if held_back(name, share) else "train" for name in made}
    assert set(made.values()) == {"train", "test"}
    for name, split in made.items():
        assert (tmp_path / "set" / split / f"{name}.npz").exists()


def test_only_known_licences_are_permissive(sources, tmp_path):
    for name in ("wave", "hands_chop", "squat"):
        with np.load(sources / f"{name}.npz") as data:
            fields = {key: data[key] for key in data.files}
        if name == "wave":
            fields["source"] = json.dumps({"licence": "CC BY-NC 4.0"})
        if name == "squat":
            fields["source"] = json.dumps({})
        np.savez(sources / f"{name}.npz", **fields)
    record = build_dataset([sources], tmp_path / "set", DatasetOptions(permissive=True, test_share=0.0), jobs=1)
    became = {entry["name"]: entry for entry in record["entries"]}
    assert became["hands_chop"]["split"] == "train" and record["licences"] == ["CC BY 4.0"]
    assert "CC BY-NC 4.0 is not permissive" in became["wave"]["reason"]
    assert "unknown is not permissive" in became["squat"]["reason"]


def test_a_composite_has_the_arms_of_one_and_the_legs_of_the_other():
    wave, squat = (load_motion(MOTIONS / f"{name}.npz", ROBOT) for name in ("wave", "squat"))
    both = composite(ROBOT, wave, squat)
    legs = np.array([is_leg(name) for name in ROBOT.joint_names])
    np.testing.assert_array_equal(both.joint_pos[:, legs], squat.joint_pos[:, legs])
    np.testing.assert_array_equal(both.joint_pos[:100][:, ~legs], wave.joint_pos[:100][:, ~legs])
    assert len(both) == len(squat) and both.source["licence"] == "Apache-2.0 and MIT"
    steps = np.abs(np.diff(both.joint_pos[:, ~legs], axis=0)).max()
    assert steps <= np.abs(np.diff(wave.joint_pos[:, ~legs], axis=0)).max() + 1e-9  # no seam where it turns back


def test_a_composite_of_nothing_is_refused():
    from genmimic.core.motion import crop_motion

    wave = load_motion(MOTIONS / "wave.npz", ROBOT)
    with pytest.raises(MotionError, match="at least 1 s"):
        composite(ROBOT, crop_motion(wave, 0.0, 0.5), wave)


def test_exclusions_are_read_from_a_list(tmp_path):
    path = tmp_path / "list.md"
    path.write_text(
        "# Not these\n\nsome words\n\n- `owner/repo  data/clip_001.bvh`\n- `owner/repo  data/clip_002.bvh`\n"
    )
    assert read_exclusions(path) == ["data/clip_001.bvh", "data/clip_002.bvh"]
    with pytest.raises(InputFileError, match=r"nowhere\.md"):
        read_exclusions(tmp_path / "nowhere.md")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        ([str(MOTIONS), "--test-share", "2"], "test_share"),
        ([str(MOTIONS), "--exclude", "nowhere.md"], "nowhere.md"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path, capsys):
    assert main(["dataset", *arguments, "-o", str(tmp_path / "set")]) == 2
    err = capsys.readouterr().err
    assert words in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "set" / "dataset.json").exists()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputFileError, match="no motions"):
        find_sources([tmp_path])


def test_clips_to_train_on_are_walked_again_and_those_held_back_are_not(tmp_path, sources, capsys):
    shutil.copy(MOTIONS / "kick.npz", sources)  # by its name held back
    assert main(["dataset", str(sources), "-o", str(tmp_path / "set"), "--balance", "--walks", "1", "--jobs", "1"]) == 0
    assert "walked again: 3 of 3" in capsys.readouterr().out
    told = {
        entry["name"]: entry.get("balanced")
        for entry in json.loads((tmp_path / "set" / "dataset.json").read_text())["entries"]
    }
    assert told["wave"] == told["squat"] == "yes" and told["kick"] == "" and told["walk_ahead_0"] is None
    assert load_motion(tmp_path / "set" / "train" / "wave.npz", ROBOT).source["balanced"]
    kept, given = (load_motion(folder / "kick.npz", ROBOT) for folder in (tmp_path / "set" / "test", MOTIONS))
    assert np.array_equal(kept.joint_pos, given.joint_pos) and "balanced" not in kept.source


def test_a_clip_that_cannot_be_walked_again_is_kept_as_it_is(tmp_path, monkeypatch):
    def refuses(motion, robot):
        raise OffBalanceError("in the air in 20 % of its frames")

    monkeypatch.setattr("genmimic_train.data.dataset.balanced", refuses)
    record = build_dataset([MOTIONS / "wave.npz"], tmp_path / "set", DatasetOptions(balance=True), jobs=1)
    assert [entry["balanced"] for entry in record["entries"]] == ["in the air in 20 % of its frames"]
    kept, given = (load_motion(folder / "wave.npz", ROBOT) for folder in (tmp_path / "set" / "train", MOTIONS))
    assert np.array_equal(kept.joint_pos, given.joint_pos)
