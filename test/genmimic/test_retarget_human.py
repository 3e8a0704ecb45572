# SPDX-License-Identifier: Apache-2.0
"""Human motions on the robot: clips, live sources, the command."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("daqp", reason="retargeting needs daqp")
pytest.importorskip("mujoco", reason="retargeting needs mujoco")

from genmimic.check import GateError, require_verdict
from genmimic.check.measure import overlaps
from genmimic.cli import main
from genmimic.core.errors import MotionError
from genmimic.core.human import REQUIRED_JOINTS, HumanMotion, save_human_motion
from genmimic.core.kinematics import forward_kinematics, link_kinematics, lowest_sole_height
from genmimic.core.motion import Motion, crop_motion, load_motion
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.rotation import quat_rotate, quat_rotate_inverse, rotate_heading
from genmimic.retarget.human import retarget_human
from genmimic.retarget.human_pose import quat_from_axes, robot_segments
from genmimic.retarget.ik import KeypointIk
from genmimic.retarget.pictures import MOMENTS_NAME, PLOTS_NAME
from genmimic.retarget.pipeline import PAGE_NAME, needs_preparing, prepare
from genmimic.retarget.streaming import StreamingRetargeter

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("GENMIMIC_SHARED", ROOT.parent / "shared")) / "data"


def shipped(name: str, start: float = 0.0, end: float = 3.0) -> Motion:
    return crop_motion(load_motion(ROOT / "motions" / f"{name}.npz", ROBOT), start, end)


def person_of(motion: Motion, scale: float = 1.0, fps: float | None = None) -> HumanMotion:
    """Return a person whose joints are where the robot's are: retargeting must then give the robot back."""
    pos, quat, _, _ = link_kinematics(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos)
    joints = {}
    for side in ("left", "right"):
        links = {
            "hip": "hip_roll",
            "knee": "knee",
            "ankle": "ankle_roll",
            "shoulder": "shoulder_roll",
            "elbow": "elbow",
        }
        for joint, link in links.items():
            joints[f"{side}_{joint}"] = pos[:, ROBOT.link_names.index(f"{side}_{link}_link")]
        joints[f"{side}_wrist"] = motion.keypoint_pos[:, ROBOT.keypoint_names.index(f"{side}_hand")]
        foot = ROBOT.link_names.index(f"{side}_ankle_roll_link")
        joints[f"{side}_foot"] = pos[:, foot] + quat_rotate(quat[:, foot], np.array([0.12, 0.0, -0.03]))
    every = 1 if fps is None else round(motion.fps / fps)
    joint_pos = scale * np.stack(list(joints.values()), 1)[::every]
    return HumanMotion(motion.fps / every, tuple(joints), joint_pos, np.ones(joint_pos.shape[:2]), motion.name)


def pose_error_cm(one: Motion, two: Motion) -> float:
    """Mean distance of keypoints, relative to the pelvis in its own frame."""
    count = min(len(one), len(two))

    def local(motion: Motion) -> np.ndarray:
        return quat_rotate_inverse(motion.root_quat[:, None], motion.keypoint_pos - motion.keypoint_pos[:, :1])[:count]

    return 100.0 * float(np.linalg.norm(local(one) - local(two), axis=-1).mean())


@pytest.mark.parametrize("name", ["wave", "dance", "squat"])
def test_a_person_shaped_like_the_robot_gives_the_robots_motion_back(name: str) -> None:
    motion = shipped(name)
    result = retarget_human(person_of(motion))
    assert len(result.motion) == len(motion)
    assert pose_error_cm(result.motion, motion) < 3.5  # most of it the trunk's usual lean, taken for its build
    assert result.report.error_cm < 2.0
    assert result.report.scale == pytest.approx(1.0, abs=0.02)


def test_the_persons_size_and_place_do_not_matter() -> None:
    motion = shipped("dance")
    person = person_of(motion)
    joint_pos = 1.3 * rotate_heading(np.asarray(2.0), person.joint_pos) + [3.0, -1.0, 0.0]
    one, two = retarget_human(person), retarget_human(replace(person, joint_pos=joint_pos))
    assert two.report.scale == pytest.approx(one.report.scale / 1.3, rel=1e-3)
    assert pose_error_cm(one.motion, two.motion) < 0.5


def test_the_frame_rate_does_not_matter() -> None:
    motion = shipped("squat")
    fast, slow = retarget_human(person_of(motion)), retarget_human(person_of(motion, fps=25.0))
    assert slow.motion.fps == 50.0 and abs(len(slow.motion) - len(fast.motion)) <= 1
    assert pose_error_cm(fast.motion, slow.motion) < 1.0


def test_standing_feet_hold_still_and_level_on_the_floor() -> None:
    result = retarget_human(person_of(shipped("dance")))
    assert result.report.skate_cm_s < 6.0
    assert result.contacts.any(-1).mean() > 0.8
    lowest = lowest_sole_height(ROBOT, result.motion.root_pos, result.motion.root_quat, result.motion.joint_pos)
    assert lowest.min() > -0.01 and np.quantile(lowest, 0.95) < 0.01
    feet = ROBOT.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
    motion = result.motion
    quat = forward_kinematics(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos).quat[:, feet]
    tilt = np.arccos(np.clip(quat_rotate(quat, np.array([0.0, 0.0, 1.0]))[..., 2], -1.0, 1.0))
    assert np.median(tilt[result.contacts]) < 0.05


def test_whatever_comes_joint_ranges_and_speeds_are_kept() -> None:
    person = person_of(shipped("dance", end=1.5))
    noise = 0.25 * np.random.default_rng(0).standard_normal(person.joint_pos.shape)
    motion = retarget_human(replace(person, joint_pos=person.joint_pos + noise)).motion
    assert np.isfinite(motion.root_pos).all() and np.isfinite(motion.joint_pos).all()
    assert (motion.joint_pos >= ROBOT.joint_lower - 1e-9).all() and (motion.joint_pos <= ROBOT.joint_upper + 1e-9).all()
    assert (np.abs(np.diff(motion.joint_pos, axis=0)) * motion.fps <= 0.75 * ROBOT.joint_speed).all()


def test_hands_that_a_person_folds_into_the_belly_stay_outside_the_robot() -> None:
    person = person_of(shipped("squat", end=1.0))
    joint_pos = person.joint_pos.copy()
    hips = joint_pos[:, [person.joint_names.index("left_hip"), person.joint_names.index("right_hip")]].mean(1)
    for side in ("left", "right"):
        joint_pos[:, person.joint_names.index(f"{side}_wrist")] = hips + [0.02, 0.0, 0.25]
    motion = retarget_human(replace(person, joint_pos=joint_pos)).motion
    assert overlaps(ROBOT, motion).max() < 0.01


def test_a_bow_tilts_the_pelvis_as_the_waist_cannot_bend() -> None:
    person = person_of(shipped("squat", end=2.0))
    joint_pos = person.joint_pos.copy()
    joint_pos[:] = joint_pos[:1]  # stand still, but for the trunk
    bend = 0.7 * np.clip(np.arange(len(person)) / 50.0, 0.0, 1.0)
    hips = np.stack([person.pos("left_hip")[0], person.pos("right_hip")[0]]).mean(0)
    for idx, name in enumerate(person.joint_names):
        if any(part in name for part in ("shoulder", "elbow", "wrist")):
            arm = joint_pos[:, idx] - hips
            x, z = arm[:, 0].copy(), arm[:, 2].copy()
            joint_pos[:, idx, 0] = hips[0] + np.cos(bend) * x + np.sin(bend) * z
            joint_pos[:, idx, 2] = hips[2] - np.sin(bend) * x + np.cos(bend) * z
    motion = retarget_human(replace(person, joint_pos=joint_pos)).motion
    up = quat_rotate(motion.root_quat, np.array([0.0, 0.0, 1.0]))
    lean = np.arctan2(up[:, 0], up[:, 2])
    assert lean[-1] - lean[0] == pytest.approx(0.7, abs=0.12)


def test_wrist_roll_which_no_point_shows_stays_in_the_middle() -> None:
    motion = retarget_human(person_of(shipped("wave"))).motion
    wrists = ROBOT.joint_idx(["left_wrist_roll_joint", "right_wrist_roll_joint"])
    assert np.abs(motion.joint_pos[:, wrists]).max() < 0.3


def test_toes_and_spine_are_not_needed() -> None:
    person = person_of(shipped("squat"))
    idx = [person.joint_names.index(name) for name in REQUIRED_JOINTS]
    bare = HumanMotion(person.fps, REQUIRED_JOINTS, person.joint_pos[:, idx], person.confidence[:, idx])
    assert retarget_human(bare).report.error_cm < 3.0


def test_what_cannot_be_retargeted_is_said(tmp_path: Path) -> None:
    person = person_of(shipped("wave", end=0.5))
    keep = [idx for idx, name in enumerate(person.joint_names) if name != "left_knee"]
    names = tuple(person.joint_names[idx] for idx in keep)
    with pytest.raises(MotionError, match="lacks left_knee"):
        retarget_human(HumanMotion(50.0, names, person.joint_pos[:, keep], person.confidence[:, keep]))
    with pytest.raises(MotionError, match=r"lasts 0\.06 s"):
        retarget_human(replace(person, joint_pos=person.joint_pos[:4], confidence=person.confidence[:4]))
    with pytest.raises(MotionError, match="legs are"):
        retarget_human(replace(person, joint_pos=np.zeros_like(person.joint_pos)))


# live ------------------------------------------------------------------------------------------
def test_live_frames_give_poses_one_for_one_near_those_of_the_clip() -> None:
    motion = shipped("dance", end=2.0)
    person = person_of(motion)
    live = StreamingRetargeter(person.joint_names, person.fps)
    poses = [live.push(frame) for frame in person.joint_pos]
    streamed = Motion.from_joints(
        ROBOT, person.fps, np.array([pose.joint_pos for pose in poses]), np.array([pose.root_pos for pose in poses]),
        np.array([pose.root_quat for pose in poses]),
    )  # fmt: skip
    assert pose_error_cm(streamed, motion) < 3.5
    lowest = lowest_sole_height(ROBOT, streamed.root_pos, streamed.root_quat, streamed.joint_pos)
    assert lowest.min() > -0.02 and np.median(lowest) < 0.01
    assert (np.abs(np.diff(streamed.joint_pos, axis=0)) * person.fps <= 0.61 * ROBOT.joint_speed).all()
    assert any(pose.contacts.any() for pose in poses)


def test_a_live_source_that_does_not_fit_is_refused() -> None:
    person = person_of(shipped("wave", end=0.5))
    with pytest.raises(MotionError, match="lacks left_hip"):
        StreamingRetargeter(person.joint_names[1:], 30.0)
    with pytest.raises(MotionError, match="rate is 0"):
        StreamingRetargeter(person.joint_names, 0.0)
    live = StreamingRetargeter(person.joint_names, 30.0)
    with pytest.raises(MotionError, match="expected"):
        live.push(person.joint_pos[0, 1:])
    with pytest.raises(MotionError, match="not finite"):
        live.push(np.full_like(person.joint_pos[0], np.nan))


# parts -----------------------------------------------------------------------------------------
def test_the_robots_segments_are_its_links() -> None:
    segments = robot_segments(ROBOT)
    assert segments.thigh == pytest.approx(0.306, abs=0.001) and segments.shin == pytest.approx(0.3176, abs=0.001)
    assert segments.ankle_height == pytest.approx(0.035)


def test_axes_to_quaternion_and_back() -> None:
    rng = np.random.default_rng(1)
    matrix = np.linalg.qr(rng.standard_normal((50, 3, 3)))[0]
    matrix *= np.sign(np.linalg.det(matrix))[:, None, None]
    quat = quat_from_axes(matrix[:, :, 0], matrix[:, :, 1], matrix[:, :, 2])
    for axis in range(3):
        unit = np.eye(3)[axis]
        np.testing.assert_allclose(quat_rotate(quat, unit), matrix[:, :, axis], atol=1e-9)


def test_inverse_kinematics_jacobian_is_the_derivative() -> None:
    import mujoco

    ik = KeypointIk(ROBOT, clearance=0.01)
    ik.start(np.array([0.1, 0.2, 0.8]), np.array([0.9, 0.1, -0.2, 0.3]) / np.linalg.norm([0.9, 0.1, -0.2, 0.3]),
             ROBOT.default_joint_pos)  # fmt: skip
    model, data = ik._model, ik._data
    sites = ik._sites
    before, jacobian, qpos = (
        data.site_xpos[sites].copy(),
        ik._jacobian_at(data.site_xpos[sites]).copy(),
        data.qpos.copy(),
    )
    for dof in range(model.nv):
        step = np.zeros(model.nv)
        step[dof] = 1e-6
        data.qpos[:] = qpos
        mujoco.mj_integratePos(model, data.qpos, step, 1.0)
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose((data.site_xpos[sites] - before) / 1e-6, jacobian[: len(sites), :, dof], atol=1e-4)


# command ---------------------------------------------------------------------------------------
def test_the_command_writes_a_motion_and_says_how_it_went(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_human_motion(tmp_path / "person.npz", person_of(shipped("wave", end=1.0)))
    out = tmp_path / "wave.npz"
    plots = tmp_path / "wave.png"
    assert main(["retarget", str(tmp_path / "person.npz"), "-o", str(out), "--json", "--plots", str(plots)]) == 0
    printed = json.loads(capsys.readouterr().out)
    motion = load_motion(out, ROBOT)
    assert printed["frames"] == len(motion) == 51
    assert motion.source["retarget"]["error_cm"] == printed["error_cm"]
    assert plots.read_bytes()[:4] == b"\x89PNG"
    assert np.abs(motion.root_pos[0, :2]).max() < 1e-6
    assert main(["retarget", str(tmp_path / "person.npz"), "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 damaged"])
def test_the_command_refuses_what_is_no_motion_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, content: bytes
) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    assert main(["retarget", str(tmp_path / "bad.npz"), "-o", str(tmp_path / "out.npz")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("genmimic: error:") and error.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_mimic_tells_robot_motions_from_what_has_to_be_made_into_one(tmp_path: Path) -> None:
    save_human_motion(tmp_path / "person.npz", person_of(shipped("wave", end=0.5)))
    (tmp_path / "clip.mp4").write_bytes(b"")
    np.savez(tmp_path / "smpl.npz", poses=np.zeros((5, 72)), trans=np.zeros((5, 3)))
    assert not needs_preparing("wave") and not needs_preparing(str(ROOT / "motions" / "wave.npz"))
    for name in ("person.npz", "clip.mp4", "smpl.npz"):
        assert needs_preparing(str(tmp_path / name))


def test_a_person_becomes_a_judged_motion_with_a_page_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")  # sticks are drawn faster than robots
    save_human_motion(tmp_path / "person.npz", person_of(shipped("wave", end=0.5)))
    said: list[str] = []
    prepared = prepare(str(tmp_path / "person.npz"), tmp_path, None, said.append)
    assert [line.split()[0] for line in said] == ["person", "robot", "check", "pictures"]
    motion = load_motion(prepared.path, ROBOT)
    assert motion.source["check"]["verdict"] == prepared.checked.judgement.verdict == "ok"
    with pytest.raises(GateError, match="without a policy"):
        require_verdict(motion, "a" * 64)
    page = (tmp_path / PAGE_NAME).read_text()
    for name in (MOMENTS_NAME, PLOTS_NAME):
        picture = (tmp_path / name).read_bytes()
        assert picture[:4] == b"\x89PNG" and base64.b64encode(picture).decode() in page
    assert "From the person to the robot" in page and not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="public clips are not here")
def test_public_clips_come_over() -> None:
    from genmimic.lift import read_human

    for path in (
        SHARED / "smpl_motions" / "asap_video" / "video_walk_level1_filter_amass.npz",
        SHARED / "human_mocap" / "cmu" / "02_01.amc.gz",
    ):
        report = retarget_human(read_human(path)).report
        assert report.error_cm < 2.0 and report.sole_min_cm > -1.0 and report.skate_cm_s < 10.0
