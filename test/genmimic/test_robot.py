# SPDX-License-Identifier: Apache-2.0
"""The robot's table, its kinematics, and what importing the core may load."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from genmimic.core.errors import ConfigError
from genmimic.core.kinematics import forward_kinematics, keypoints_in_base, link_kinematics, sole_positions
from genmimic.core.robot import ABSENT_MOTOR_SLOTS, G1_23DOF
from genmimic.core.rotation import quat_conjugate, quat_multiply, quat_normalize, quat_to_rotation_vector

ROBOT = G1_23DOF
RNG = np.random.default_rng(0)
IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def random_pose(count: int = 50):
    joint_pos = RNG.uniform(ROBOT.joint_lower, ROBOT.joint_upper, (count, 23))
    return RNG.standard_normal((count, 3)), quat_normalize(RNG.standard_normal((count, 4))), joint_pos


def test_published_figures():
    assert ROBOT.mass == pytest.approx(32.107, abs=1e-3)  # kg, rev 1.0
    assert (ROBOT.num_joints, len(ROBOT.links), ROBOT.num_keypoints) == (23, 24, 27)
    assert ROBOT.kp[:6].tolist() == [200, 200, 200, 300, 40, 40]  # paper, appendix D
    assert ROBOT.kd[:6].tolist() == [5, 5, 5, 6, 2, 2]
    assert set(ROBOT.kp[12:]) == {100.0} and set(ROBOT.kd[12:]) == {2.0}
    assert (ROBOT.action_scale, ROBOT.action_clip) == (0.25, 10.0)  # Eq. 4


def test_joints_follow_links_and_slots_leave_the_holes():
    assert [joint.link for joint in ROBOT.joints] == [link.name for link in ROBOT.links[1:]]
    slots = ROBOT.motor_slots.tolist()
    assert slots == [*range(13), *range(15, 20), *range(22, 27)]
    assert not set(slots) & set(ABSENT_MOTOR_SLOTS)


def test_keypoints_are_links_then_head_and_hands():
    assert ROBOT.keypoint_names[0] == "pelvis" and ROBOT.keypoint_names[-3:] == ("head", "left_hand", "right_hand")
    weights = ROBOT.keypoint_weights()
    assert weights.sum() == pytest.approx(1.0)
    pelvis, torso, head = ROBOT.keypoint_idx(["pelvis", "torso", "head"])
    assert weights[[torso, head]] == pytest.approx(weights[pelvis] * np.array([2.0, 4.0]))  # Table 7: 1, 2, 4


def test_default_pose_is_inside_the_limits_and_symmetric():
    default = ROBOT.default_joint_pos
    assert (default > ROBOT.joint_lower).all() and (default < ROBOT.joint_upper).all()
    np.testing.assert_array_equal(default[ROBOT.joint_mirror_idx] * ROBOT.joint_mirror_sign, default)
    mirrored_lower = ROBOT.joint_mirror_sign * ROBOT.joint_lower[ROBOT.joint_mirror_idx]
    mirrored_upper = ROBOT.joint_mirror_sign * ROBOT.joint_upper[ROBOT.joint_mirror_idx]
    np.testing.assert_allclose(np.minimum(mirrored_lower, mirrored_upper), ROBOT.joint_lower)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match="no joint left_toe; known: left_hip_pitch_joint"):
        ROBOT.joint_idx(["left_toe"])


def test_arrays_cannot_be_changed():
    with pytest.raises(ValueError):
        ROBOT.kp[0] = 0.0


def test_standing_soles_touch_the_floor():
    soles = sole_positions(ROBOT, np.array([0.0, 0.0, ROBOT.standing_height]), IDENTITY, ROBOT.default_joint_pos)
    np.testing.assert_allclose(soles[:, 2], 0.0, atol=1e-9)


def test_kinematics_mirror():
    root_pos, root_quat, joint_pos = random_pose()
    flip = np.array([1.0, -1.0, 1.0])
    there = forward_kinematics(ROBOT, root_pos, root_quat, joint_pos).pos
    mirrored = forward_kinematics(
        ROBOT,
        root_pos * flip,
        root_quat * [1.0, -1.0, 1.0, -1.0],
        joint_pos[:, ROBOT.joint_mirror_idx] * ROBOT.joint_mirror_sign,
    ).pos
    # the maker's model differs by up to 0.01 mm between the sides
    np.testing.assert_allclose(mirrored[:, ROBOT.keypoint_mirror_idx] * flip, there, atol=3e-5)


def test_keypoints_in_base_ignore_the_root():
    root_pos, root_quat, joint_pos = random_pose(5)
    pos, quat, _, _ = link_kinematics(ROBOT, root_pos, root_quat, joint_pos)
    np.testing.assert_allclose(pos[:, 0], root_pos)
    np.testing.assert_allclose(quat[:, 0], root_quat)
    assert keypoints_in_base(ROBOT, joint_pos).shape == (5, 27, 3)
    np.testing.assert_allclose(keypoints_in_base(ROBOT, joint_pos)[:, 0], 0.0)


def test_velocities_are_the_derivatives_of_positions():
    root_pos, root_quat, joint_pos = random_pose(20)
    lin_vel, ang_vel, joint_vel = (RNG.standard_normal((20, n)) for n in (3, 3, 23))
    now = forward_kinematics(ROBOT, root_pos, root_quat, joint_pos, lin_vel, ang_vel, joint_vel)
    step = 1e-6
    spin = np.concatenate([np.ones((20, 1)), 0.5 * step * ang_vel], -1)
    later = forward_kinematics(
        ROBOT, root_pos + step * lin_vel, quat_normalize(quat_multiply(spin, root_quat)), joint_pos + step * joint_vel
    )
    np.testing.assert_allclose((later.pos - now.pos) / step, now.lin_vel, atol=1e-4)
    turn = quat_to_rotation_vector(quat_multiply(later.quat, quat_conjugate(now.quat))) / step
    np.testing.assert_allclose(turn, now.ang_vel, atol=1e-4)


def test_torch_gives_the_same_keypoints():
    torch = pytest.importorskip("torch", reason="the same lines under torch need torch")
    root_pos, root_quat, joint_pos = random_pose(5)
    expected = forward_kinematics(ROBOT, root_pos, root_quat, joint_pos)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        got = forward_kinematics(ROBOT, *(torch.tensor(part, dtype=dtype) for part in (root_pos, root_quat, joint_pos)))
        np.testing.assert_allclose(got.pos.numpy(), expected.pos, atol=tolerance)


@pytest.mark.parametrize("module", ["genmimic.core", "genmimic"])
def test_the_core_loads_neither_ros_nor_torch_nor_mujoco(module):
    code = (
        f"import sys, pkgutil, importlib, {module} as package\n"
        "if package.__name__ == 'genmimic.core':\n"
        "    for item in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module('genmimic.core.' + item.name)\n"
        "print(*[name for name in ('rclpy', 'torch', 'mujoco', 'onnxruntime', 'matplotlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_packages_do_not_import_each_other():
    """genmimic imports neither of the others; genmimic_train and genmimic_ros not one another."""
    import re
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    forbidden = {"genmimic": ("genmimic_ros", "genmimic_train"), "genmimic_ros": ("genmimic_train",),
                 "genmimic_train": ("genmimic_ros", "rclpy")}  # fmt: skip
    for package, others in forbidden.items():
        for file in (root / package).rglob("*.py"):
            if package == "genmimic" and file.parent.name == "cli":
                continue  # the command line starts what is installed, on demand
            for other in others:
                assert not re.search(rf"^\s*(from|import) {other}\b", file.read_text(), re.M), (file, other)
