# SPDX-License-Identifier: Apache-2.0
"""Reading public G1 motions, cleaning them and bringing them to our robot."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from genmimic.core.errors import ConfigError, GenMimicError, InputFileError, MotionError
from genmimic.core.kinematics import link_kinematics, lowest_sole_height
from genmimic.core.motion import Motion, save_motion
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.rotation import quat_from_heading, quat_multiply, quat_rotate, quat_to_matrix
from genmimic.retarget import cleaning
from genmimic.retarget.g1_formats import _KIMODO_LINKS, FORMATS, SourceMotion, read_g1_motion
from genmimic.retarget.g1_to_g1 import convert_file, in_place, index_entry, retarget, source_keypoints
from genmimic.retarget.g1_variants import ASAP_23DOF, G1_29DOF, VARIANTS

SHARED = Path(__file__).parents[3] / "shared" / "data" / "g1_motions"


def standing(model_name: str, seconds: float = 1.0, fps: float = 30.0, yaw: float = 0.0) -> SourceMotion:
    """Stand with flat feet on the floor and wave both arms; also lean at the waist where there is one."""
    model = VARIANTS[model_name]
    t = np.arange(int(round(seconds * fps)) + 1) / fps
    joint_pos = np.zeros((len(t), model.num_joints))
    for idx, name in enumerate(model.joint_names):
        if name in ROBOT.joint_names:
            joint_pos[:, idx] = ROBOT.default_joint_pos[ROBOT.joint_names.index(name)]
        if "shoulder_pitch" in name or "elbow" in name:
            joint_pos[:, idx] += 0.5 * np.sin(4.0 * t + idx)
        if name == "waist_pitch_joint":
            joint_pos[:, idx] = 0.3 * np.sin(2.0 * t)
        if name == "left_wrist_pitch_joint":
            joint_pos[:, idx] = 0.4
    root_pos = np.tile([0.1, -0.2, ROBOT.standing_height], (len(t), 1))
    root_quat = np.tile(quat_from_heading(np.array(yaw)), (len(t), 1))
    return SourceMotion("standing", "test", fps, model_name, root_pos, root_quat, joint_pos)


# writers of each format ------------------------------------------------------------------------
def write_asap(path: Path, motion: SourceMotion, **extra: np.ndarray) -> None:
    import joblib

    fields = {
        "root_trans_offset": motion.root_pos.astype(np.float32),
        "root_rot": motion.root_quat[:, [1, 2, 3, 0]],
        "dof": motion.joint_pos.astype(np.float32),
        "fps": 30,
        **extra,
    }
    joblib.dump({"a clip": fields}, path)


def write_twist2(path: Path, motion: SourceMotion, protocol: int = 4, **changes: object) -> None:
    fields = {
        "fps": np.float64(motion.fps),
        "root_pos": motion.root_pos,
        "root_rot": np.asfortranarray(motion.root_quat[:, [1, 2, 3, 0]]),
        "dof_pos": motion.joint_pos,
        "link_body_list": ["pelvis", "left_hip_pitch_link"],
        **changes,
    }
    path.write_bytes(pickle.dumps(fields, protocol=protocol))


def csv_of(motion: SourceMotion, order: tuple[int, ...]) -> bytes:
    text = io.StringIO()
    np.savetxt(text, np.hstack([motion.root_pos, motion.root_quat[:, order], motion.joint_pos]), delimiter=",")
    return text.getvalue().encode()


def write_kimodo_npz(path: Path, motion: SourceMotion) -> None:
    pos, quat, _, _ = link_kinematics(G1_29DOF, motion.root_pos, motion.root_quat, motion.joint_pos)
    points, matrices = np.zeros((len(pos), 34, 3)), np.tile(np.eye(3), (len(pos), 34, 1, 1))
    to_y_up = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    for idx, name in enumerate(G1_29DOF.link_names):
        at = _KIMODO_LINKS.index(name.removesuffix("_link"))
        points[:, at] = pos[:, idx] @ to_y_up.T
        matrices[:, at] = to_y_up @ quat_to_matrix(quat[:, idx]) @ to_y_up.T
    np.savez(path, posed_joints=points.astype(np.float32), global_rot_mats=matrices.astype(np.float32))


WXYZ, XYZW = (0, 1, 2, 3), (1, 2, 3, 0)


def write(format: str, folder: Path) -> tuple[Path, SourceMotion]:
    """Write a synthetic file of ``format`` and return it with what is in it."""
    motion = standing("asap_23dof" if format in ("asap", "pbhc") else "unitree_29dof", yaw=1.0)
    suffix = {"kimodo_csv": ".csv", "g1_moves": ".csv.gz", "kimodo_npz": ".npz", "genmimic": ".npz"}.get(format, ".pkl")
    path = folder / f"clip{suffix}"
    if format == "asap":
        write_asap(path, motion)
    elif format == "pbhc":
        write_asap(path, motion, contact_mask=np.ones((len(motion), 2)))
    elif format == "twist2":
        write_twist2(path, motion)
    elif format == "kimodo_csv":
        path.write_bytes(csv_of(motion, WXYZ))
    elif format == "g1_moves":
        path.write_bytes(gzip.compress(csv_of(motion, XYZW)))
    elif format == "kimodo_npz":
        write_kimodo_npz(path, motion)
    else:
        motion = standing("unitree_23dof", fps=50.0, yaw=0.3)
        ours = Motion.from_joints(ROBOT, 50.0, motion.joint_pos, motion.root_pos, motion.root_quat, "clip")
        save_motion(path, ROBOT, ours)
    return path, motion


# readers ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("format", FORMATS)
def test_each_format_is_recognised_and_read(format: str, tmp_path: Path) -> None:
    path, written = write(format, tmp_path)
    for given in (None, format):
        read = read_g1_motion(path, given)
        assert (read.format, read.name, read.model) == (format, "clip", written.model)
        assert read.fps == {"g1_moves": 60.0, "genmimic": 50.0}.get(format, 30.0)
        np.testing.assert_allclose(read.root_pos, written.root_pos, atol=1e-6)
        np.testing.assert_allclose(np.abs((read.root_quat * written.root_quat).sum(-1)), 1.0, atol=1e-6)
        joint_pos = source_keypoints(read)[2]
        np.testing.assert_allclose(joint_pos, written.joint_pos, atol=1e-5)
    assert read_g1_motion(path, fps=24.0).fps == 24.0


@pytest.mark.parametrize("yaw", [1.0, -1.5, 2.0])
@pytest.mark.parametrize("order", [WXYZ, XYZW])
def test_quaternion_order_is_found(order: tuple[int, ...], yaw: float, tmp_path: Path) -> None:
    motion = standing("unitree_29dof", yaw=yaw)
    path = tmp_path / "clip.csv"
    path.write_bytes(csv_of(motion, order))
    read = read_g1_motion(path)
    assert read.format == ("kimodo_csv" if order == WXYZ else "g1_moves")
    np.testing.assert_allclose(np.abs((read.root_quat * motion.root_quat).sum(-1)), 1.0, atol=1e-9)


@pytest.mark.parametrize("yaw", [0.0, np.pi])
@pytest.mark.parametrize("order", [WXYZ, XYZW])
def test_quaternion_order_is_found_by_the_feet_where_both_are_upright(
    order: tuple[int, ...], yaw: float, tmp_path: Path
) -> None:
    motion = standing("unitree_29dof", seconds=2.0)
    lean = 0.1 * np.sin(3.0 * np.arange(len(motion)) / motion.fps)  # about the ankles, which stay
    for side in ("left", "right"):
        motion.joint_pos[:, G1_29DOF.joint_names.index(f"{side}_ankle_pitch_joint")] -= lean
    motion.root_quat[:] = quat_multiply(
        quat_from_heading(np.full(len(lean), yaw)),
        np.stack([np.cos(lean / 2), 0 * lean, np.sin(lean / 2), 0 * lean], -1),
    )
    ankle = source_keypoints(motion)[0][:, ROBOT.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])].mean(1)
    motion.root_pos[:] -= ankle - ankle[0]
    path = tmp_path / "clip.csv"
    path.write_bytes(csv_of(motion, order))
    assert read_g1_motion(path).format == ("kimodo_csv" if order == WXYZ else "g1_moves")


def test_quaternion_order_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_bytes(csv_of(standing("unitree_29dof", yaw=np.pi), WXYZ))  # (0, 0, 0, 1): the identity as xyzw
    with pytest.raises(MotionError, match="cannot tell the quaternion's order"):
        read_g1_motion(path)
    assert read_g1_motion(path, "kimodo_csv").root_quat[0] == pytest.approx([0, 0, 0, 1])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(protocol: int, tmp_path: Path) -> None:
    motion = standing("unitree_29dof")
    write_twist2(tmp_path / "clip.pkl", motion, protocol)
    if protocol == 2:  # array bytes travel through _codecs.encode, which is not let in
        with pytest.raises(InputFileError, match="_codecs.encode"):
            read_g1_motion(tmp_path / "clip.pkl")
        return
    np.testing.assert_array_equal(read_g1_motion(tmp_path / "clip.pkl").joint_pos, motion.joint_pos)


class _Hostile:
    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    victim = tmp_path / "owned"
    for call in (os.system, eval, SimpleNamespace):
        argument = (
            () if call is SimpleNamespace else (f"open({str(victim)!r}, 'w')" if call is eval else f"touch {victim}",)
        )
        path = tmp_path / "clip.pkl"
        path.write_bytes(pickle.dumps({"fps": 30.0, "dof_pos": _Hostile(call, *argument)}, protocol=protocol))
        with pytest.raises(InputFileError) as caught:
            read_g1_motion(path)
        assert "\n" not in str(caught.value)
        assert "refers to" in str(caught.value) or "unknown kind" in str(caught.value)
        assert not victim.exists()


def test_a_pickle_of_objects_or_false_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.pkl"
    motion = standing("unitree_29dof")
    write_twist2(path, motion, dof_pos=np.array([[object()]], dtype=object))
    with pytest.raises(InputFileError):
        read_g1_motion(path)
    write_twist2(path, motion)
    data = path.read_bytes()
    shape = b"K\x1fK\x1d\x86"  # (31, 29)
    assert data.count(shape) == 1
    path.write_bytes(data.replace(shape, b"K\xffK\x1d\x86"))
    with pytest.raises(InputFileError, match="needs .* bytes, found"):
        read_g1_motion(path)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(format: str, part: float, tmp_path: Path) -> None:
    path, _ = write(format, tmp_path)
    data = path.read_bytes()
    cut = int(part * len(data))
    if format == "kimodo_csv":
        cut = data.rindex(b",", 0, cut)  # inside a line; a cut between two lines leaves a shorter motion
    path.write_bytes(data[:cut])
    with pytest.raises(GenMimicError) as caught:
        read_g1_motion(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_garbage_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.pkl"
    for data, message in (
        (None, "no such file"),
        (b"", "is empty"),
        (b"\x00\x01\x02garbage", "unknown kind of file"),
        (b"\x80\x04garbage", "pickle"),
        (b"PK\x03\x04garbage", "npz"),
        (b"\x1f\x8bgarbage", "gzip"),
        (b"1,2,3\n" * 5, "line 1 has 3 columns, expected 36"),
    ):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(GenMimicError, match=message):
            read_g1_motion(path)
    with pytest.raises(ConfigError, match="unknown motion format 'bvh'; known: asap"):
        read_g1_motion(path, "bvh")
    with pytest.raises(ConfigError, match="fps is 0"):
        read_g1_motion(path, fps=0.0)


def test_bad_numbers_are_refused(tmp_path: Path) -> None:
    motion = standing("unitree_29dof")
    path = tmp_path / "clip.pkl"
    broken = motion.joint_pos.copy()
    broken[3, 4] = np.nan
    for changes, message in (
        ({"dof_pos": broken}, "dof_pos holds 1 values that are not finite"),
        ({"dof_pos": motion.joint_pos[:, :23]}, "dof_pos has shape .*, expected Tx29"),
        ({"dof_pos": motion.joint_pos * 100.0}, "expected rad within 2 pi"),
        ({"root_pos": motion.root_pos[:-1]}, "root_pos has shape"),
        ({"root_pos": motion.root_pos * 1e5}, "expected metres within 1000"),
        ({"root_rot": 2.0 * motion.root_quat}, "quaternion has length 2.000"),
        ({"fps": "30"}, "fps is str, expected a number"),
        ({"fps": float("nan")}, "fps is nan, expected 1 to 1000"),
    ):
        write_twist2(path, motion, **changes)
        with pytest.raises(MotionError, match=message):
            read_g1_motion(path)
    table = csv_of(motion, WXYZ).splitlines()
    path = tmp_path / "clip.csv"
    for line, message in (
        (table[4].rsplit(b",", 1)[0], "line 5 has 35 columns"),
        (b"x" + table[4], "line 5: could not"),
    ):
        path.write_bytes(b"\n".join([*table[:4], line, *table[5:], b""]))
        with pytest.raises(MotionError, match=message):
            read_g1_motion(path)
    path.write_bytes(b"\n".join([*table[:4], table[4].rsplit(b",", 1)[0] + b",nan", *table[5:], b""]))
    with pytest.raises(MotionError, match="frame 4, column 35 is not finite"):
        read_g1_motion(path)


def test_a_format_that_is_not_the_file_s_is_refused(tmp_path: Path) -> None:
    path, _ = write("twist2", tmp_path)
    with pytest.raises(MotionError, match="is of format 'twist2', not 'asap'"):
        read_g1_motion(path, "asap")
    with pytest.raises(InputFileError, match="is a pickle file, but format 'g1_moves' is csv"):
        read_g1_motion(path, "g1_moves")


# robots ----------------------------------------------------------------------------------------
def test_all_robots_agree_in_the_zero_pose() -> None:
    zero = {
        name: source_keypoints(
            SourceMotion("z", "test", 30.0, name, np.zeros((2, 3)), np.tile([1.0, 0, 0, 0], (2, 1)),
                         np.zeros((2, model.num_joints)))
        )[0]
        for name, model in VARIANTS.items()
    }  # fmt: skip
    for pos in zero.values():
        np.testing.assert_allclose(pos, zero["unitree_23dof"], atol=1e-9)
    assert (G1_29DOF.num_joints, ASAP_23DOF.num_joints) == (29, 23)


def test_waist_pitch_moves_the_head_of_the_source() -> None:
    model = G1_29DOF
    joint_pos = np.zeros((2, 29))
    joint_pos[:, model.joint_names.index("waist_pitch_joint")] = 0.5
    still = np.tile([1.0, 0, 0, 0], (2, 1))
    pos, _, _ = source_keypoints(SourceMotion("z", "test", 30.0, "unitree_29dof", np.zeros((2, 3)), still, joint_pos))
    # 0.42 m above the torso frame, which is 0.044 m above the pelvis and 4 mm behind it
    expected = [0.42 * np.sin(0.5) - 0.0039635, 0.0, 0.42 * np.cos(0.5) + 0.044]
    np.testing.assert_allclose(pos[0, ROBOT.keypoint_idx(["head"])[0]], expected, atol=1e-9)


# cleaning --------------------------------------------------------------------------------------
def test_smoothing_keeps_straight_lines_and_ends() -> None:
    line = np.linspace(0.0, 3.0, 40)[:, None] * [1.0, -2.0]
    np.testing.assert_allclose(cleaning.gaussian_smooth(line, 1.5), line, atol=1e-12)
    noisy = line + np.random.default_rng(0).normal(0.0, 0.1, line.shape)
    assert np.abs(cleaning.gaussian_smooth(noisy, 2.0) - line).std() < 0.06


def test_interpolation_goes_through_the_frames() -> None:
    values = np.sin(np.arange(20) * 0.5)[:, None]
    np.testing.assert_allclose(cleaning.interpolate(values, np.arange(20.0)), values, atol=1e-12)
    at = np.linspace(2.0, 17.0, 100)
    np.testing.assert_allclose(cleaning.interpolate(values, at)[:, 0], np.sin(at * 0.5), atol=0.01)


def test_spikes_are_found_and_bridged() -> None:
    joint_pos = np.zeros((40, 3))
    joint_pos[20, 1] = 2.0
    mask = cleaning.spike_frames(joint_pos, 30.0)
    assert list(np.flatnonzero(mask)) == [19, 20, 21]
    pos = np.linspace(0.0, 1.0, 40)[:, None, None] * np.ones((1, 2, 3))
    broken = pos.copy()
    broken[19:22] += 5.0
    quat = np.tile([1.0, 0.0, 0.0, 0.0], (40, 2, 1))
    np.testing.assert_allclose(cleaning.bridge(broken, quat, mask)[0], pos, atol=1e-9)
    everything = np.ones(40, bool)
    np.testing.assert_array_equal(cleaning.bridge(broken, quat, everything)[0], broken)


def test_jumps_are_kept_and_floating_is_not() -> None:
    fps = 50.0
    t = np.arange(200) / fps
    jump = np.maximum(0.0, 0.3 - 0.5 * 9.81 * (t - 2.0) ** 2)  # 0.3 m high, in the air for 0.49 s
    floating = 0.05 + 0.05 * np.clip(t - 2.0, 0.0, 1.0)
    sole = jump + floating
    flight = cleaning.flight_frames(sole, 0.8 + sole, fps)
    assert 18 <= flight.sum() <= 28
    fixed = sole + cleaning.floor_correction(sole, flight, sigma=2.0)
    assert np.abs(fixed[jump == 0.0]).max() < 0.02
    assert fixed.max() == pytest.approx(0.3, abs=0.02)
    slow = 0.15 * np.sin(np.pi * t / 4.0)  # carried up and down without falling: no jump
    assert not cleaning.flight_frames(slow, 0.8 + slow, fps).any()


def test_standing_feet_are_held_and_laid_flat() -> None:
    t = np.arange(100) / 50.0
    ankle = np.zeros((100, 2, 3)) + [0.0, 0.0, 0.05]
    ankle[:, :, 0] = 0.01 * np.sin(6.0 * t)[:, None]
    quat = np.zeros((100, 2, 4))
    quat[..., 0], quat[..., 2] = np.cos(0.05), np.sin(0.05)  # pitched by 0.1 rad
    offset = np.array([[(-0.05, 0.0, -0.035), (0.12, 0.0, -0.035)]] * 2)
    soles = ankle[:, :, None] + quat_rotate(quat[:, :, None], offset)
    contacts = cleaning.foot_contacts(soles, 50.0)
    assert contacts.all()
    held_pos, held_quat = cleaning.lock_feet(ankle, quat, offset, contacts, 50.0)
    assert np.ptp(held_pos[..., 0]) < 1e-9
    np.testing.assert_allclose(held_pos[..., 2], 0.035, atol=1e-9)
    np.testing.assert_allclose(np.abs(held_quat[..., 0]), 1.0, atol=1e-9)


# the whole way ---------------------------------------------------------------------------------
pytest_ik = pytest.importorskip("mink", reason="retargeting needs mink, of the 'retarget' extra")


def test_ik_recovers_a_motion_of_our_own_robot() -> None:
    source = standing("unitree_23dof", seconds=2.0, fps=50.0)
    motion, report = retarget(source)
    assert report.error_cm < 0.5 and report.error_p95_cm < 1.0
    np.testing.assert_allclose(motion.joint_pos, source.joint_pos, atol=0.1)
    assert report.skate_cm_s < 0.2 and report.repaired_frames == 0


@pytest.mark.parametrize("model", ["unitree_29dof", "asap_23dof"])
@pytest.mark.parametrize("height", [0.12, -0.04])
def test_a_floating_or_sunken_clip_comes_to_the_floor(model: str, height: float) -> None:
    source = standing(model, seconds=1.5)
    source.root_pos[:, 2] += height
    motion, report = retarget(source)
    sole = lowest_sole_height(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos)
    assert np.abs(sole).max() < 0.005
    assert report.hands_cm < 1.5 and report.head_cm < 2.0 and report.feet_cm < 1.0
    assert report.max_joint_speed < 10.0
    assert (motion.joint_pos >= ROBOT.joint_lower).all() and (motion.joint_pos <= ROBOT.joint_upper).all()


def test_a_flip_of_the_source_is_repaired() -> None:
    source = standing("unitree_29dof", seconds=2.0)
    source.joint_pos[30, G1_29DOF.joint_names.index("left_shoulder_pitch_joint")] += 2.5
    motion, report = retarget(source)
    assert report.repaired_frames >= 3
    assert report.max_joint_speed < 12.0


def test_turning_the_source_turns_the_result() -> None:
    turn = quat_from_heading(np.array(1.2))
    source = standing("unitree_29dof")
    turned = SourceMotion(
        "turned", "test", source.fps, source.model,
        quat_rotate(turn, source.root_pos), quat_multiply(turn, source.root_quat), source.joint_pos,
    )  # fmt: skip
    one, other = retarget(source)[0], retarget(turned)[0]
    np.testing.assert_allclose(other.joint_pos, one.joint_pos, atol=1e-3)
    np.testing.assert_allclose(other.root_pos, quat_rotate(turn, one.root_pos), atol=1e-3)


def test_a_clip_too_short_or_all_flips_is_refused() -> None:
    with pytest.raises(MotionError, match="lasts 0.10 s"):
        retarget(standing("unitree_29dof", seconds=0.1))
    source = standing("unitree_29dof")
    source.joint_pos[::2, 20] += 3.0
    with pytest.raises(MotionError, match="flip in every frame"):
        retarget(source)


def test_convert_file_fills_in_the_origin(tmp_path: Path) -> None:
    folder = tmp_path / "asap"
    folder.mkdir()
    path, _ = write("asap", folder)
    entry = {
        "file": "asap/clip.pkl", "repo": "someone/motions", "commit": "abc", "licence": "MIT", "content": "waves",
        "root_net_m": 0.0, "root_path_m": 0.0, "duration_s": 1.0, "yaw_span_deg": 0, "sole_low_m": [0.0, 0.0, 0.0],
    }  # fmt: skip
    (tmp_path / "index.json").write_text(json.dumps({"files": [entry]}))
    motion = convert_file(path)
    assert motion.fps == 50.0 and motion.name == "clip"
    for key in ("repo", "commit", "licence", "content"):
        assert motion.source[key] == entry[key]
    assert motion.source["file"] == "clip.pkl" and motion.source["in_place"] is True
    assert motion.source["versions"]["mink"] and motion.source["retarget"]["error_cm"] < 3.0
    assert str(tmp_path) not in json.dumps(motion.source)


def test_our_own_format_is_only_resampled(tmp_path: Path) -> None:
    path, written = write("genmimic", tmp_path)
    np.testing.assert_allclose(convert_file(path).joint_pos, written.joint_pos, atol=1e-6)


def test_in_place() -> None:
    entry = {
        "root_net_m": 0.1, "root_path_m": 1.0, "duration_s": 10.0, "yaw_span_deg": 30, "sole_low_m": [0.0, 0.0, 0.05],
        "content": "dance",
    }  # fmt: skip
    assert in_place(entry)
    for change in (
        {"root_net_m": 0.3}, {"root_path_m": 2.0}, {"yaw_span_deg": 90}, {"sole_low_m": [0.0, 0.0, 0.2]},
        {"content": "one-leg balance (hard)"}, {"content": "Walk"}, {"duration_s": 0.0}, {"root_net_m": None},
    ):  # fmt: skip
        assert not in_place({**entry, **change})
    assert not in_place({})


def test_a_damaged_index_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "clip.pkl"
    assert index_entry(path) is None
    for text in ("{", "[]", '{"files": 3}', '{"files": [1]}'):
        (tmp_path / "index.json").write_text(text)
        assert index_entry(path) is None


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"public motions are not beside the repository ({SHARED.name})")
@pytest.mark.parametrize(
    ("name", "error_cm"),
    [
        ("kimodo_csv/output_wave.csv.gz", 2.5),
        ("pbhc/Hooks_punch.pkl", 7.0),  # the boxer stands on his toes, which the robot does not have
        ("kimodo_npz/03_full_body_keyframes/motion.npz", 2.5),
    ],
)
def test_public_motions_come_over_well(name: str, error_cm: float) -> None:
    retargeted = convert_file(SHARED / name).source["retarget"]
    assert retargeted["error_cm"] < error_cm and retargeted["hands_cm"] < 1.0
    assert abs(retargeted["sole_median_cm"]) < 0.2 and retargeted["max_joint_speed"] < 15.0


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"public motions are not beside the repository ({SHARED.name})")
def test_every_public_motion_is_read_as_what_it_is() -> None:
    listed = json.loads((SHARED / "index.json").read_text())["files"]
    for entry in listed:
        if not entry["file"].endswith(".json"):
            motion = read_g1_motion(SHARED / entry["file"])
            assert motion.format == entry["collection"], entry["file"]
            assert len(motion) == entry["frames"]
