# SPDX-License-Identifier: Apache-2.0
"""Robot motions: the file and its refusals, resampling, mirroring, placing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genmimic.core.errors import GenMimicError, InputFileError, MotionError
from genmimic.core.motion import (
    MOTION_FORMAT,
    Motion,
    continuous_quat,
    crop_motion,
    load_motion,
    mirror_motion,
    motion_rates,
    place_motion,
    resample,
    save_motion,
    write_npz,
)
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.rotation import heading, quat_from_heading

MOTIONS = Path(__file__).parents[2] / "motions"


def swaying(seconds: float = 2.0, fps: float = 50.0) -> Motion:
    """A motion in which everything moves: every joint, the root and its heading."""
    t = np.arange(int(seconds * fps) + 1) / fps
    phase = np.arange(ROBOT.num_joints)
    joint_pos = ROBOT.default_joint_pos + 0.2 * np.sin(2.0 * t[:, None] + phase)
    root_pos = np.stack([0.3 * t, 0.1 * np.sin(t), ROBOT.standing_height + 0.02 * np.cos(t)], -1)
    return Motion.from_joints(
        ROBOT, fps, joint_pos, root_pos, quat_from_heading(0.4 * t), "swaying", {"licence": "Apache-2.0"}
    )


def fields_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def test_saving_and_loading_keeps_everything(tmp_path: Path) -> None:
    motion = swaying()
    save_motion(tmp_path / "m.npz", ROBOT, motion)
    loaded = load_motion(tmp_path / "m.npz", ROBOT)
    assert (loaded.fps, loaded.name, dict(loaded.source)) == (motion.fps, motion.name, dict(motion.source))
    for name in ("joint_pos", "root_pos", "root_quat", "keypoint_pos"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(motion, name), atol=1e-6)


def test_mirroring_twice_is_the_identity() -> None:
    motion = swaying()
    twice = mirror_motion(ROBOT, mirror_motion(ROBOT, motion))
    np.testing.assert_allclose(twice.joint_pos, motion.joint_pos)
    np.testing.assert_allclose(twice.keypoint_pos, motion.keypoint_pos, atol=1e-9)


def test_mirrored_keypoints_are_the_mirror_image() -> None:
    motion = swaying()
    mirrored = mirror_motion(ROBOT, motion)
    image = motion.keypoint_pos[:, ROBOT.keypoint_mirror_idx] * [1.0, -1.0, 1.0]
    np.testing.assert_allclose(mirrored.keypoint_pos, image, atol=5e-4)  # Unitree's sides differ by some 10 um


@pytest.mark.parametrize("fps", [25.0, 29.88, 100.0])
def test_resampling_keeps_time_and_content(fps: float) -> None:
    motion = swaying(fps=fps)
    at_50 = resample(ROBOT, motion, 50.0)
    assert at_50.fps == 50.0
    assert motion.duration - 0.02 <= at_50.duration <= motion.duration + 1e-6
    expected = swaying(seconds=3.0, fps=50.0).keypoint_pos[: len(at_50)]
    assert np.abs(at_50.keypoint_pos - expected).max() < 0.002


def test_placing_sets_position_and_heading_and_moves_keypoints_along() -> None:
    motion = swaying()
    placed = place_motion(ROBOT, motion, (1.0, -2.0), 0.7, frame=30)
    np.testing.assert_allclose(placed.root_pos[30, :2], [1.0, -2.0], atol=1e-9)
    assert float(heading(placed.root_quat[30])) == pytest.approx(0.7)
    again = Motion.from_joints(ROBOT, placed.fps, placed.joint_pos, placed.root_pos, placed.root_quat)
    np.testing.assert_allclose(placed.keypoint_pos, again.keypoint_pos, atol=1e-9)


def test_cropping() -> None:
    motion = swaying()
    part = crop_motion(motion, 0.5, 1.0)
    assert part.duration == pytest.approx(0.5)
    np.testing.assert_array_equal(part.joint_pos[0], motion.joint_pos[25])
    for start, end in ((1.0, 0.5), (-1.0, 1.0), (5.0, 6.0)):
        with pytest.raises(MotionError, match="outside the motion's 0 to 2.00 s"):
            crop_motion(motion, start, end)


def test_rates_against_the_known_derivative() -> None:
    rates = motion_rates(swaying())
    np.testing.assert_allclose(rates.root_ang_vel, np.tile([0.0, 0.0, 0.4], (101, 1)), atol=1e-9)
    t = np.arange(101) / 50.0
    np.testing.assert_allclose(rates.root_lin_vel[1:-1, 1], 0.1 * np.cos(t)[1:-1], atol=1e-4)


def test_neighbouring_quaternions_are_close() -> None:
    quat = swaying().root_quat * np.where(np.arange(101) % 3, 1.0, -1.0)[:, None]
    assert (np.sum(np.diff(continuous_quat(quat), axis=0) ** 2, -1) < 0.01).all()


def _without(name: str):
    return lambda fields: fields.pop(name)


def _with(name: str, change):
    def apply(fields: dict[str, np.ndarray]) -> None:
        fields[name] = change(fields[name])

    return apply


def _nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[3] = np.nan
    return array


BROKEN = {
    "format missing": (_without("format"), "'format' is missing"),
    "other format": (
        _with("format", lambda _: np.array("other/9")),
        f"format is 'other/9', expected '{MOTION_FORMAT}'",
    ),
    "format no text": (_with("format", lambda _: np.array(3)), "format is not a single text"),
    "field missing": (_without("root_quat"), "'root_quat' is missing"),
    "joint count": (_with("joint_pos", lambda a: a[:, :22]), "joint_pos has shape (101, 22), expected Tx23"),
    "joint type": (_with("joint_pos", lambda a: a.astype(str)), "joint_pos has type"),
    "one frame": (_with("joint_pos", lambda a: a[:1]), "joint_pos has 1 frames, expected 2 to"),
    "not finite": (_with("joint_pos", _nan), "joint_pos holds 1 values that are not finite"),
    "lengths differ": (_with("root_pos", lambda a: a[:-1]), "root_pos has shape (100, 3), expected 101x3"),
    "fps zero": (_with("fps", lambda _: np.array(0.0)), "fps is 0, expected 1 to 1000"),
    "fps list": (_with("fps", lambda _: np.array([50.0])), "fps has shape (1,), expected a single number"),
    "quaternion length": (_with("root_quat", lambda a: 2.0 * a), "root_quat has length 2.000 at frame"),
    "millimetres": (_with("root_pos", lambda a: a * 1e5), "expected metres within 1000"),
    "joint order": (_with("joint_names", lambda a: a[::-1]), "joint_names are in another order"),
    "joint unknown": (
        _with("joint_names", lambda a: np.array(["tail", *a[1:]])),
        "missing: left_hip_pitch_joint; extra: tail",
    ),
    "keypoint names": (_with("keypoint_names", lambda a: a[:-1]), "missing: right_hand; extra: none"),
    "keypoints elsewhere": (_with("keypoint_pos", lambda a: a + 0.01), "keypoint_pos is 0.010 m off"),
    "source no JSON": (_with("source", lambda _: np.array("{")), "source is not JSON"),
    "source a list": (_with("source", lambda _: np.array("[]")), "source is a JSON list, expected an object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_field_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    path = tmp_path / "m.npz"
    save_motion(path, ROBOT, swaying())
    fields = fields_of(path)
    change(fields)
    write_npz(path, fields)
    with pytest.raises(MotionError) as caught:
        load_motion(path, ROBOT)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_motion_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with pytest.raises(InputFileError, match="no such file"):
        load_motion(path, ROBOT)
    path.write_bytes(b"")
    with pytest.raises(InputFileError, match="not a whole npz file"):
        load_motion(path, ROBOT)
    path.write_bytes(b"garbage" * 100)
    with pytest.raises(InputFileError, match="not a whole npz file"):
        load_motion(path, ROBOT)
    save_motion(path, ROBOT, swaying())
    whole = path.read_bytes()
    for part in (len(whole) // 3, len(whole) - 30):
        path.write_bytes(whole[:part])
        with pytest.raises(InputFileError):
            load_motion(path, ROBOT)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(GenMimicError):
        load_motion(path, ROBOT)


def test_a_pickle_in_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    save_motion(path, ROBOT, swaying())
    fields = fields_of(path)
    np.savez(path, **{**fields, "source": np.array([{"a": 1}], dtype=object)}, allow_pickle=True)
    with pytest.raises(InputFileError, match="pickled objects"):
        load_motion(path, ROBOT)


def test_writing_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    save_motion(path, ROBOT, swaying())
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_npz(path, {"a": np.array([object()], dtype=object)})
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["m.npz"]
    with pytest.raises(InputFileError, match="does not exist"):
        save_motion(tmp_path / "nowhere" / "m.npz", ROBOT, swaying())


SHIPPED = sorted(MOTIONS.glob("*.npz"))


def test_motions_are_shipped() -> None:
    assert len(SHIPPED) >= 6 and MOTIONS / "wave.npz" in SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_motions_are_good_and_say_where_they_come_from(path: Path) -> None:
    motion = load_motion(path, ROBOT)
    assert motion.fps == 50.0 and motion.duration > 3.0
    assert path.stat().st_size < 400_000
    assert motion.source["licence"] in ("Apache-2.0", "MIT", "CC BY 4.0")
    for key in ("repo", "commit", "file", "content", "credit", "changes", "versions"):
        assert motion.source[key], key
    assert "/" not in motion.source["file"]
    if motion.source["licence"].startswith("CC"):
        assert "retargeted" in motion.source["changes"]
    np.testing.assert_allclose(motion.root_pos[0, :2], 0.0, atol=1e-6)
    assert (motion.joint_pos >= ROBOT.joint_lower - 1e-6).all() and (motion.joint_pos <= ROBOT.joint_upper + 1e-6).all()
    assert np.abs(np.diff(motion.joint_pos, axis=0)).max() * motion.fps < 16.0
    json.dumps(motion.source)
    assert path.name in (MOTIONS / "README.md").read_text(encoding="utf-8")
