# SPDX-License-Identifier: Apache-2.0
"""Reading human motions of other tools: positions worked by hand, frames and units righted, damage refused."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from genmimic.core.errors import GenMimicError, InputFileError, MotionError
from genmimic.core.human import REQUIRED_JOINTS, SMPL_JOINTS, load_human_motion, save_human_motion
from genmimic.core.motion import load_motion
from genmimic.core.robot import G1_23DOF
from genmimic.lift import read_human
from genmimic.lift.importers.names import map_joint_names, split_side
from genmimic.lift.importers.points import ORDERS
from genmimic.lift.importers.smpl import REST_JOINTS, rotation_matrices, smpl_joint_positions

SHARED = Path(os.environ.get("GENMIMIC_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TURN_UP = np.array([np.pi / 2, 0.0, 0.0])  # SMPL stands along y; this root orientation makes it stand along z


def standing(frames=12, root=TURN_UP, trans=(0.0, 0.0, 0.0)):
    """SMPL parameters of a person who stands with arms out."""
    poses = np.zeros((frames, 72))
    poses[:, :3] = root
    return poses, np.tile(np.asarray(trans, float), (frames, 1))


def write_smpl(path, poses, trans, **more):
    np.savez(path, poses=poses, trans=trans, betas=np.zeros(10), gender="neutral", mocap_framerate=30, **more)
    return path


def facing(motion):
    """Dot product of where the toes point and where the hips say that the front is."""
    left = motion.pos("left_hip") - motion.pos("right_hip")
    front = np.cross(left, [0.0, 0.0, 1.0])
    toes = motion.pos("left_foot") - motion.pos("left_ankle") + motion.pos("right_foot") - motion.pos("right_ankle")
    return np.median((front * toes).sum(-1))


# SMPL ------------------------------------------------------------------------------------------
def test_rotation_of_a_quarter_turn_and_of_nothing():
    quarter = rotation_matrices(np.array([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(quarter @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(rotation_matrices(np.zeros(3)), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation_matrices(np.full(3, 1e-8)), np.eye(3), atol=1e-7)


def test_elbow_bends_the_forearm_alone():
    poses, trans = standing(2, root=np.zeros(3))
    poses[:, 3 * 18 : 3 * 18 + 3] = [0.0, np.pi / 2, 0.0]  # left elbow, about y
    pos = smpl_joint_positions(rotation_matrices(poses.reshape(2, 24, 3)), trans)
    rest = REST_JOINTS["neutral"]
    np.testing.assert_allclose(pos[0, :19], rest[:19], atol=1e-12)
    forearm = rest[20] - rest[18]
    np.testing.assert_allclose(pos[0, 20] - pos[0, 18], [forearm[2], forearm[1], -forearm[0]], atol=1e-12)


def test_root_turns_about_the_pelvis_and_not_the_origin():
    poses, trans = standing(2, root=[0.0, 1.0, 0.0], trans=(1.0, 2.0, 3.0))
    pos = smpl_joint_positions(rotation_matrices(poses.reshape(2, 24, 3)), trans)
    np.testing.assert_allclose(pos[0, 0], REST_JOINTS["neutral"][0] + [1.0, 2.0, 3.0], atol=1e-12)


@pytest.mark.parametrize("width", [72, 156, 165])
def test_smpl_and_its_kin_stand_on_the_floor(tmp_path, width):
    poses, trans = standing(trans=(3.0, 4.0, 0.9))
    wide = np.zeros((len(poses), width))
    wide[:, :72] = poses
    motion = read_human(write_smpl(tmp_path / "a.npz", wide, trans))
    assert motion.joint_names == SMPL_JOINTS and motion.fps == 30 and motion.source["format"] == "smpl"
    assert motion.source["up"] == "+z" and motion.source["height_m"] == pytest.approx(1.72, abs=0.05)
    assert 0.02 < motion.pos("left_foot")[:, 2].min() < 0.06
    assert motion.pos("head")[:, 2].mean() > 1.4 and facing(motion) > 0
    assert np.allclose(motion.joint_pos.mean(0)[0, :2], [3.0, 4.0], atol=0.3), "a world frame keeps its place"


def test_y_up_is_righted_without_mirroring(tmp_path):
    poses, trans = standing(root=np.zeros(3))
    motion = read_human(write_smpl(tmp_path / "a.npz", poses, trans))
    assert motion.source["up"] == "+y" and facing(motion) > 0
    assert motion.pos("head")[:, 2].mean() > 1.4


def test_height_scales_everything(tmp_path):
    path = write_smpl(tmp_path / "a.npz", *standing())
    small, tall = read_human(path, height=0.85), read_human(path, height=1.7)
    np.testing.assert_allclose(2.0 * small.joint_pos, tall.joint_pos, atol=1e-9)


def test_shape_needs_the_users_body_model_and_uses_it(tmp_path):
    poses, trans = standing()
    path = tmp_path / "a.npz"
    np.savez(path, poses=poses, trans=trans, betas=np.array([1.0, 0.0]), gender="neutral", mocap_framerate=30)
    assert "no body model" in read_human(path).source["shape"]
    rest = REST_JOINTS["neutral"]  # a body model whose vertices are its joints, and whose shape makes it larger
    model = tmp_path / "model.npz"
    np.savez(model, v_template=rest, shapedirs=0.1 * rest[:, :, None], J_regressor=np.eye(24))
    bigger = read_human(path, body_model=model)
    assert bigger.source["height_m"] == pytest.approx(1.1 * read_human(path).source["height_m"], rel=1e-3)
    with pytest.raises(MotionError, match="shapedirs"):
        np.savez(model, v_template=rest)
        read_human(path, body_model=model)


# tools that lift -------------------------------------------------------------------------------
def wham(frames=12, people=2):
    poses, trans = standing(frames, root=np.zeros(3))
    return {
        number: {
            "pose_world": poses[: frames - 4 * number].astype(np.float32),
            "trans_world": trans[: frames - 4 * number].astype(np.float32),
            "betas": np.zeros((1, 10), np.float32),
            "frame_ids": np.arange(frames - 4 * number) + 5,
        }
        for number in range(people)
    }


def test_wham_takes_the_longest_person_and_bridges_gaps(tmp_path):
    from collections import defaultdict

    data = defaultdict(dict, wham())
    data[0]["frame_ids"] = np.concatenate([np.arange(6), np.arange(6) + 9])  # three frames are missing
    path = tmp_path / "wham_output.pkl"
    path.write_bytes(pickle.dumps(data, protocol=4))
    motion = read_human(path)
    assert len(motion) == 15 and motion.source["person"] == 0 and motion.source["people"] == 2
    assert (motion.confidence[6:9] == 0.0).all() and (motion.confidence[:6] == 1.0).all()
    assert motion.source["up"] == "+y" and motion.pos("head")[:, 2].mean() > 1.4
    assert len(read_human(path, person=1)) == 8
    with pytest.raises(MotionError, match="no person 7"):
        read_human(path, person=7)


def test_compressed_joblib_of_four_d_humans(tmp_path):
    joblib = pytest.importorskip("joblib")
    turn = np.diag([1.0, -1.0, -1.0])  # camera: y down, z away
    body = {"global_orient": turn[None], "body_pose": np.tile(np.eye(3), (23, 1, 1)), "betas": np.zeros(10)}
    frames = {
        f"img/{number:06d}.jpg": {
            "time": number, "tid": [3, 8], "smpl": [body, body],
            "camera": [np.array([0.1, 0.2, 40.0]), np.array([1.0, 0.2, 40.0])],
        }
        for number in range(6)
    }  # fmt: skip
    path = tmp_path / "demo_clip.pkl"
    joblib.dump(frames, path, compress=3)
    motion = read_human(path, person=8)
    assert len(motion) == 6 and motion.source["format"] == "phalp" and motion.source["people"] == 2
    assert motion.pos("head")[:, 2].mean() > 1.4 and facing(motion) > 0


def test_torch_files_are_read_without_torch_running_anything(tmp_path):
    torch = pytest.importorskip("torch")
    poses, trans = standing(8, root=np.zeros(3))
    as_tensor = {
        "body_pose": poses[:, 3:66],
        "global_orient": poses[:, :3],
        "transl": trans,
        "betas": np.zeros((8, 10)),
    }
    part = {key: torch.tensor(value, dtype=torch.float32) for key, value in as_tensor.items()}
    path = tmp_path / "hmr4d_results.pt"
    torch.save({"smpl_params_global": part, "K_fullimg": torch.eye(3).repeat(8, 1, 1)}, path)
    gvhmr = read_human(path)
    assert gvhmr.source["format"] == "gvhmr" and gvhmr.fps == 30 and gvhmr.pos("head")[:, 2].mean() > 1.4
    hps = tmp_path / "clip" / "hps"
    hps.mkdir(parents=True)
    turn = np.diag([1.0, -1.0, -1.0])
    rotations = np.tile(np.eye(3), (8, 24, 1, 1))
    rotations[:, 0] = turn
    track = {
        "pred_rotmat": torch.tensor(rotations), "pred_shape": torch.zeros(8, 10), "frame": torch.arange(8),
        "pred_trans": torch.tensor(np.tile([0.0, 0.0, 4.0], (8, 1, 1))),
    }  # fmt: skip
    np.save(hps / "hps_track_0.npy", track, allow_pickle=True)
    still = read_human(hps.parent)
    assert still.source["format"] == "tram" and facing(still) > 0
    camera = {
        "pred_cam_R": np.tile(np.eye(3, dtype=np.float32), (8, 1, 1)),
        "pred_cam_T": np.arange(8.0)[:, None] * [0.1, 0.0, 0.0], "img_focal": np.array(1000.0),
    }  # fmt: skip
    np.save(hps.parent / "camera.npy", camera, allow_pickle=True)
    moved = read_human(hps.parent)
    assert np.ptp(moved.pos("pelvis")[:, 0]) == pytest.approx(0.7, abs=1e-6), "the camera carries the person along"


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    for number, payload in enumerate(({"pose_world": Evil()}, Evil())):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(pickle.dumps(payload))
        with pytest.raises(InputFileError, match="refused"):
            read_human(path)
    path = tmp_path / "hps_track_0.npy"
    np.save(path, {"pred_rotmat": Evil()}, allow_pickle=True)
    with pytest.raises(InputFileError, match="refused"):
        read_human(path)


# motion capture --------------------------------------------------------------------------------
BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Spine { OFFSET 0 10 0 CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT LeftArm { OFFSET 18 40 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT LeftForeArm { OFFSET 28 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
        JOINT LeftHand { OFFSET 25 0 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET 8 0 0 } } } }
    JOINT RightArm { OFFSET -18 40 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT RightForeArm { OFFSET -28 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
        JOINT RightHand { OFFSET -25 0 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET -8 0 0 } } } } }
  JOINT LeftUpLeg { OFFSET 10 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT LeftLeg { OFFSET 0 -42 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT LeftFoot { OFFSET 0 -42 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET 0 -6 14 } } } }
  JOINT RightUpLeg { OFFSET -10 0 0 CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT RightLeg { OFFSET 0 -42 0 CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT RightFoot { OFFSET 0 -42 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET 0 -6 14 } } } }
}
MOTION
Frames: 4
Frame Time: 0.0333333
"""


def bvh(rows=4, elbow=90.0):
    row = [0.0, 92.0, 0.0] + [0.0] * 3 + [0.0] * 3 + [0.0] * 3 + [elbow, 0.0, 0.0] + [0.0] * (3 * 10)
    width = 6 + 3 * 13
    row = (row + [0.0] * width)[:width]
    return BVH + "\n".join(" ".join(str(value) for value in row) for _ in range(rows)) + "\n"


def test_bvh_in_centimetres_with_a_bent_elbow(tmp_path):
    path = tmp_path / "clip.bvh"
    path.write_text(bvh())
    motion = read_human(path)
    assert motion.fps == 30.0 and motion.source["unit"] == "cm" and motion.source["up"] == "+y"
    assert all(motion.has(name) for name in REQUIRED_JOINTS)
    forearm = motion.pos("left_wrist") - motion.pos("left_elbow")
    np.testing.assert_allclose(forearm[0], [0.0, 0.0, 0.25], atol=1e-9)  # 90 degrees about z, then y up to z up
    assert (motion.pos("left_shoulder") - motion.pos("right_shoulder"))[0, 0] == pytest.approx(0.36)


def test_bvh_compressed_reads_the_same(tmp_path):
    (tmp_path / "a.bvh").write_text(bvh())
    with gzip.open(tmp_path / "a.bvh.gz", "wt") as file:
        file.write(bvh())
    np.testing.assert_array_equal(read_human(tmp_path / "a.bvh").joint_pos, read_human(tmp_path / "a.bvh.gz").joint_pos)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: text.index("MOTION")], "MOTION"),
        (lambda text: text[:-60], "cut off"),
        (lambda text: text.replace("Frames: 4", "Frames: x"), "Frames"),
        (lambda text: text.replace("92.0", "nan"), "finite"),
        (lambda text: text.replace("OFFSET 0 -42 0", "OFFSET 0 up 0", 1), "number"),
        (lambda text: text.replace("LeftForeArm", "Tail"), "left_elbow"),
        (lambda text: text.replace("0.0333333", "0"), "frame time"),
    ],
)
def test_damaged_bvh_is_refused_with_one_line(tmp_path, damage, words):
    path = tmp_path / "clip.bvh"
    path.write_text(damage(bvh()))
    with pytest.raises(GenMimicError, match=words) as caught:
        read_human(path)
    assert "\n" not in str(caught.value) and "clip.bvh" in str(caught.value)


def test_names_of_common_skeletons():
    assert split_side("mixamorig:LeftUpLeg") == ("left", "upleg")
    assert split_side("UpperArm_R") == ("right", "upperarm")
    assert split_side("L Thigh") == ("left", "thigh")
    assert split_side("lfemur") == ("left", "femur")
    assert split_side("lowerback") == ("", "lowerback")
    mixamo = ["Hips", "Spine", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand", "LeftUpLeg", "LeftLeg", "LeftFoot"]
    found = map_joint_names([f"mixamorig:{name}" for name in mixamo])
    assert mixamo[found["left_collar"]] == "LeftShoulder" and mixamo[found["left_shoulder"]] == "LeftArm"
    cmu = [
        "LeftCollar",
        "LeftShoulder",
        "LeftElbow",
        "LeftWrist",
        "lhand",
        "LeftHip",
        "LeftKnee",
        "LeftAnkle",
        "LeftToe",
    ]
    found = map_joint_names(cmu)
    assert cmu[found["left_shoulder"]] == "LeftShoulder" and cmu[found["left_hand"]] == "lhand"
    assert cmu[found["left_wrist"]] == "LeftWrist" and cmu[found["left_hip"]] == "LeftHip"


LEFT_BONES = (  # name, parent, direction, length in m, what turns
    ("lhipjoint", "root", (1, 0, 0), 0.1, ""), ("lfemur", "lhipjoint", (0, -1, 0), 0.42, "rx ry rz"),
    ("ltibia", "lfemur", (0, -1, 0), 0.42, "rx"), ("lfoot", "ltibia", (0, 0, 1), 0.15, "rx rz"),
    ("lclavicle", "thorax", (1, 0.2, 0), 0.18, ""), ("lhumerus", "lclavicle", (1, 0, 0), 0.28, "rx ry rz"),
    ("lradius", "lhumerus", (1, 0, 0), 0.25, "ry"), ("lwrist", "lradius", (1, 0, 0), 0.08, "ry"),
)  # fmt: skip


def asf_and_amc(frames=4, elbow=-90.0):
    """A T pose in the Acclaim format, y up, facing z, in the CMU database's unit; the left elbow bends to the front."""
    metre = 0.45 / 0.0254
    right = [
        (name.replace("l", "r", 1), parent if parent in ("root", "thorax") else parent.replace("l", "r", 1),
         (-way[0], *way[1:]), length, dof)
        for name, parent, way, length, dof in LEFT_BONES
    ]  # fmt: skip
    spine = [("thorax", "root", (0, 1, 0), 0.5, "rx ry rz"), ("head", "thorax", (0, 1, 0), 0.25, "")]
    bones = [*spine, *LEFT_BONES, *right]
    text = ":units\n mass 1.0\n length 0.45\n angle deg\n:root\n order TX TY TZ RX RY RZ\n axis XYZ\n:bonedata\n"
    for name, _, way, length, dof in bones:
        text += (
            f"begin\n name {name}\n direction {' '.join(map(str, way))}\n length {length * metre}\n axis 0 0 0 XYZ\n"
        )
        text += (f" dof {dof}\n" if dof else "") + "end\n"
    text += ":hierarchy\nbegin\n" + "".join(f" {parent} {name}\n" for name, parent, *_ in bones) + "end\n"
    motion = ":FULLY-SPECIFIED\n:DEGREES\n"
    for frame in range(frames):
        motion += f"{frame + 1}\nroot 0 {0.9 * metre} 0 0 0 0\n"
        motion += "".join(
            f"{name} {' '.join(str(elbow if name == 'lradius' else 0.0) for _ in dof.split())}\n"
            for name, *_, dof in bones if dof
        )  # fmt: skip
    return text, motion


def test_amc_takes_the_skeleton_beside_it(tmp_path):
    skeleton, motion = asf_and_amc()
    path = tmp_path / "07_01.amc"
    path.write_text(motion)
    with pytest.raises(InputFileError, match="07.asf"):
        read_human(path)
    (tmp_path / "07.asf").write_text(skeleton)
    person = read_human(path)
    assert person.fps == 120.0 and person.source["up"] == "+y" and all(person.has(name) for name in REQUIRED_JOINTS)
    forearm = (person.pos("left_wrist") - person.pos("left_elbow"))[0]
    np.testing.assert_allclose(forearm, [0.0, -0.25, 0.0], atol=1e-6)  # 90 degrees to the front: z, which becomes -y
    shin = (person.pos("left_ankle") - person.pos("left_knee"))[0]
    np.testing.assert_allclose(shin, [0.0, 0.0, -0.42], atol=1e-6)
    other = tmp_path / "elsewhere" / "clip.amc"
    other.parent.mkdir()
    other.write_text(motion)
    again = read_human(other, skeleton=tmp_path / "07.asf", fps=60)
    assert again.fps == 60.0
    np.testing.assert_allclose(again.joint_pos, person.joint_pos)
    other.write_text(motion.replace("lradius -90.0", "lradius"))
    with pytest.raises(InputFileError, match="lradius"):
        read_human(other, skeleton=tmp_path / "07.asf")


# points ----------------------------------------------------------------------------------------
def body_points(order, frames=10):
    poses, trans = standing(frames)
    poses[:, 3 * 16 + 2] = np.linspace(0.0, 1.0, frames)  # the left arm goes up, so that bones move
    poses[:, 3 * 5] = np.linspace(0.0, 0.8, frames)
    pos = smpl_joint_positions(rotation_matrices(poses.reshape(frames, 24, 3)), trans)
    at = {name: pos[:, idx] for idx, name in enumerate(SMPL_JOINTS)}
    return np.stack([at.get(name, at["head"]) for name in ORDERS[order]], 1)


@pytest.mark.parametrize("order", ["coco", "h36m"])
@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_arrays_of_seventeen_joints_tell_their_order_and_unit(tmp_path, order, unit):
    path = tmp_path / "joints.npy"
    np.save(path, unit * body_points(order))
    motion = read_human(path, fps=25)
    assert order in motion.source["format"] and motion.fps == 25
    assert motion.source["height_m"] == pytest.approx(1.72, abs=0.06)
    assert motion.pos("left_wrist")[-1, 2] > motion.pos("right_wrist")[-1, 2] + 0.2


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_every_order_of_points_is_read_when_it_is_named(tmp_path, order):
    path = tmp_path / "joints.npy"
    np.save(path, body_points(order))
    motion = read_human(path, order=order)
    assert motion.pos("left_wrist")[-1, 2] > motion.pos("right_wrist")[-1, 2] + 0.2
    assert 1.3 < np.ptp(motion.joint_pos[0, :, 2]) < 1.8


def test_amass_in_fields_of_its_own_and_the_command_that_takes_a_body_model(tmp_path, capsys):
    from genmimic.cli import main

    poses, trans = standing()
    path, model, out = tmp_path / "amass.npz", tmp_path / "model.npz", tmp_path / "robot.npz"
    np.savez(path, root_orient=poses[:, :3], pose_body=poses[:, 3:66], trans=trans, betas=np.array([1.0, 0.0]),
             gender="neutral", mocap_frame_rate=120.0)  # fmt: skip
    assert read_human(path).fps == 120.0
    rest = REST_JOINTS["neutral"]
    np.savez(model, v_template=rest, shapedirs=0.1 * rest[:, :, None], J_regressor=np.eye(24))
    pytest.importorskip("daqp", reason="retargeting needs daqp")
    assert main(["retarget", str(path), "-o", str(out), "--fps", "30", "--body-model", str(model)]) == 0
    tall = load_motion(out, G1_23DOF).source["human"]["height_m"]
    assert tall == pytest.approx(1.1 * read_human(path).source["height_m"], rel=1e-3)
    assert main(["retarget", str(path), "-o", str(tmp_path / "b.npz"), "--up", "q"]) == 2
    assert "expected x, y or z" in capsys.readouterr().err


def test_points_by_name_with_gaps(tmp_path):
    names = [name for name in ORDERS["coco"] if name]
    points = body_points("coco")[:, [number for number, name in enumerate(ORDERS["coco"]) if name]]
    points[3:5, names.index("left_wrist")] = np.nan
    path = tmp_path / "tracks.npz"
    np.savez(path, positions=points, names=np.array(names), fps=60.0)
    motion = read_human(path)
    sure = motion.confidence[:, motion.joint_names.index("left_wrist")]
    assert motion.fps == 60 and (sure[3:5] == 0).all() and sure[2] == 1
    points[:, names.index("left_wrist")] = np.nan
    np.savez(path, positions=points, names=np.array(names), fps=60.0)
    with pytest.raises(MotionError, match="left_wrist"):
        read_human(path)


# refusals --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"", "empty"),
        ("a.npz", b"PK\x03\x04rubbish", "npz"),
        ("a.txt", b"hello there", "unknown kind"),
        ("a.mp4", b"\x00\x00\x00\x18ftypmp42", "genmimic lift"),
        ("a.gz", b"\x1f\x8b\x08\x00broken", "gzip"),
        ("a.pkl", b"\x80\x04\x95", "damaged|truncated"),
    ],
)
def test_other_files_are_refused_with_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=words) as caught:
        read_human(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputFileError, match="no such file"):
        read_human(tmp_path / "absent.npz")


def test_a_robot_motion_is_not_a_persons(tmp_path):
    np.savez(tmp_path / "a.npz", format=np.array("genmimic-motion/1"), joint_pos=np.zeros((3, 23)))
    with pytest.raises(InputFileError, match="robot"):
        read_human(tmp_path / "a.npz")


def test_what_is_read_can_be_saved_and_read_again(tmp_path):
    motion = read_human(write_smpl(tmp_path / "a.npz", *standing()))
    save_human_motion(tmp_path / "b.npz", motion)
    again = read_human(tmp_path / "b.npz")
    np.testing.assert_allclose(again.joint_pos, motion.joint_pos, atol=1e-6)
    assert load_human_motion(tmp_path / "b.npz").source == again.source and again.smpl is not None


# public clips ----------------------------------------------------------------------------------
@pytest.mark.skipif(not (SHARED / "data" / "human_mocap").is_dir(), reason="public motion capture clips not here")
def test_every_public_clip_loads_upright_and_life_sized():
    clips = sorted(
        path
        for folder in ("human_mocap", "smpl_motions")
        for pattern in ("*.bvh.gz", "*.amc.gz", "*.npz")
        for path in (SHARED / "data" / folder).rglob(pattern)
    )
    assert len(clips) >= 180
    for path in clips:
        motion = read_human(path)
        assert 1.4 < motion.source["height_m"] < 1.9, path.name
        assert 0.5 < motion.pos("left_hip")[:, 2].mean() < 1.25, path.name
        feet = np.minimum(motion.pos("left_ankle")[:, 2], motion.pos("right_ankle")[:, 2])
        assert 0.0 < np.percentile(feet, 1) < 0.2, path.name
        assert facing(motion) > 0 or "run" in path.name or "dash" in path.name, path.name
