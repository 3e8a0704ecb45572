# SPDX-License-Identifier: Apache-2.0
"""The human motion and its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genmimic.core.errors import InputFileError, MotionError
from genmimic.core.human import REQUIRED_JOINTS, HumanMotion, load_human_motion, save_human_motion


def person(frames: int = 5) -> HumanMotion:
    rng = np.random.default_rng(0)
    count = len(REQUIRED_JOINTS)
    return HumanMotion(
        30.0, REQUIRED_JOINTS, rng.normal(size=(frames, count, 3)), rng.uniform(size=(frames, count)), "test",
        {"file": "clip.mp4", "steps": ["smooth"]}, {"poses": rng.normal(size=(frames, 72)), "betas": np.zeros(10)},
    )  # fmt: skip


def test_saved_and_read_back_it_is_the_same(tmp_path: Path) -> None:
    motion = person()
    save_human_motion(tmp_path / "p.npz", motion)
    again = load_human_motion(tmp_path / "p.npz")
    assert (again.fps, again.joint_names, again.name, again.source) == (30.0, REQUIRED_JOINTS, "test", motion.source)
    np.testing.assert_allclose(again.joint_pos, motion.joint_pos, atol=1e-6)
    np.testing.assert_allclose(again.confidence, motion.confidence, atol=1e-6)
    assert again.smpl is not None and motion.smpl is not None
    np.testing.assert_allclose(again.smpl["poses"], motion.smpl["poses"], atol=1e-6)
    assert again.has("left_hip", "right_wrist") and not again.has("nose")
    assert again.duration == pytest.approx(4 / 30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": np.array("genmimic-motion/1")}, "expected 'genmimic-human/1'"),
        ({"fps": np.array(0.0)}, "fps is 0"),
        ({"fps": np.array("thirty")}, "fps has type"),
        ({"joint_names": np.array(["left_tail", *REQUIRED_JOINTS[1:]])}, "left_tail"),
        ({"joint_names": np.array([REQUIRED_JOINTS[1], *REQUIRED_JOINTS[1:]])}, "twice"),
        ({"joint_pos": np.zeros((5, 3, 3))}, "joint_pos has shape"),
        ({"joint_pos": np.full((5, len(REQUIRED_JOINTS), 3), np.nan)}, "not finite"),
        ({"joint_pos": np.full((5, len(REQUIRED_JOINTS), 3), 5000.0)}, "reaches 5000 m"),
        ({"joint_pos": np.zeros((1, len(REQUIRED_JOINTS), 3)), "confidence": np.zeros((1, 12))}, "1 frames"),
        ({"confidence": np.full((5, len(REQUIRED_JOINTS)), 2.0)}, "expected 0 to 1"),
        ({"confidence": np.zeros((4, len(REQUIRED_JOINTS)))}, "confidence has shape"),
        ({"source": np.array("{")}, "not JSON"),
        ({"source": np.array("[1]")}, "expected an object"),
        ({"smpl_poses": np.array([np.nan])}, "smpl_poses"),
        ({"fps": None}, "'fps' is missing"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict, message: str) -> None:
    save_human_motion(tmp_path / "p.npz", person())
    with np.load(tmp_path / "p.npz") as data:
        fields = {key: data[key] for key in data.files}
    fields.update(change)
    np.savez(tmp_path / "bad.npz", **{key: value for key, value in fields.items() if value is not None})
    with pytest.raises(MotionError, match="bad.npz") as error:
        load_human_motion(tmp_path / "bad.npz")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_npz_or_pickled_is_refused(tmp_path: Path) -> None:
    save_human_motion(tmp_path / "p.npz", person())
    whole = (tmp_path / "p.npz").read_bytes()
    for name, content in {"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(InputFileError, match=name):
            load_human_motion(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "pickled.npz", format=np.array([{}], object))
    with pytest.raises(InputFileError, match="pickled"):
        load_human_motion(tmp_path / "pickled.npz")
    with pytest.raises(InputFileError, match="no such file"):
        load_human_motion(tmp_path / "none.npz")


def test_a_motion_that_does_not_fit_together_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="joint_pos has shape"):
        HumanMotion(30.0, ("left_hip",), np.zeros((3, 2, 3)), np.ones((3, 2)))
    with pytest.raises(MotionError, match="no joint 'nose'"):
        person().pos("nose")
    assert json.dumps(dict(person().source))
