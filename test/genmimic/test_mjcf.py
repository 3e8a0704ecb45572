# SPDX-License-Identifier: Apache-2.0
"""The generated models, MJCF and URDF, against the robot table and the core's kinematics."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco", reason="the simulator needs mujoco")

from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic.core.kinematics import forward_kinematics, link_kinematics  # noqa: E402
from genmimic.core.robot import G1_23DOF  # noqa: E402
from genmimic.core.rotation import quat_from_axis_angle, quat_multiply, quat_to_matrix  # noqa: E402
from genmimic.sim.mjcf import FOOT_SENSORS, build_mjcf, build_model  # noqa: E402
from genmimic.sim.shapes import COLLISION, robot_shapes  # noqa: E402
from genmimic.sim.urdf import build_urdf  # noqa: E402

ROBOT = G1_23DOF
URDF_FILE = Path(__file__).resolve().parents[2] / "urdf" / "g1_23dof.urdf"


@pytest.fixture(scope="module")
def model():
    return build_model(ROBOT)


def _random_pose(rng):
    quat = rng.normal(size=4)
    return rng.normal(size=3), quat / np.linalg.norm(quat), rng.uniform(ROBOT.joint_lower, ROBOT.joint_upper)


def test_total_mass_is_the_robots(model):
    assert model.body_mass.sum() == pytest.approx(32.107, abs=1e-3)
    assert model.body_mass.sum() == pytest.approx(ROBOT.mass, abs=1e-9)


def test_joints_actuators_and_links_stand_in_the_tables_order(model):
    assert tuple(model.joint(idx).name for idx in range(1, model.njnt)) == ROBOT.joint_names
    assert tuple(model.actuator(idx).name for idx in range(model.nu)) == ROBOT.joint_names
    assert list(model.actuator_trnid[:, 0]) == list(range(1, model.njnt))
    assert tuple(model.body(idx).name for idx in range(1, model.nbody)) == ROBOT.link_names


def test_limits_gains_and_armature_are_the_tables(model):
    np.testing.assert_array_equal(model.jnt_range[1:], np.stack([ROBOT.joint_lower, ROBOT.joint_upper], 1))
    np.testing.assert_array_equal(model.actuator_forcerange, np.outer(ROBOT.joint_effort, [-1, 1]))
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], ROBOT.kp)
    np.testing.assert_array_equal(model.actuator_biasprm[:, :3], np.stack([0 * ROBOT.kp, -ROBOT.kp, -ROBOT.kd], 1))
    np.testing.assert_array_equal(model.dof_armature[6:], ROBOT.joint_armature)


def test_gains_can_be_given():
    given = build_model(ROBOT, gains=(2.0 * ROBOT.kp, 3.0 * ROBOT.kd), visuals=False)
    np.testing.assert_array_equal(given.actuator_gainprm[:, 0], 2.0 * ROBOT.kp)
    np.testing.assert_array_equal(given.actuator_biasprm[:, 2], -3.0 * ROBOT.kd)


@pytest.mark.parametrize("options", [{"timestep": 0.0}, {"friction": -1.0}, {"gains": ([1.0], [1.0])}])
def test_a_wrong_option_is_refused(options):
    with pytest.raises(ConfigError, match="expected"):
        build_mjcf(ROBOT, **options)


def test_forward_kinematics_of_core_and_mujoco_agree(model):
    rng = np.random.default_rng(0)
    data = mujoco.MjData(model)
    sites = [model.site(f"kp_{name}").id for name in ROBOT.keypoint_names]
    for _ in range(200):
        root_pos, root_quat, joint_pos = _random_pose(rng)
        data.qpos[:] = np.concatenate([root_pos, root_quat, joint_pos])
        mujoco.mj_kinematics(model, data)
        link_pos, link_quat, _, _ = link_kinematics(ROBOT, root_pos, root_quat, joint_pos)
        np.testing.assert_allclose(link_pos, data.xpos[1:], atol=1e-6)
        np.testing.assert_allclose(quat_to_matrix(link_quat).reshape(-1, 9), data.xmat[1:], atol=1e-6)
        keypoints = forward_kinematics(ROBOT, root_pos, root_quat, joint_pos).pos
        np.testing.assert_allclose(keypoints, data.site_xpos[sites], atol=1e-6)


def test_nothing_touches_in_the_default_pose_but_it_does_when_an_arm_is_in_the_body(model):
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.qpos[2] += 0.1
    mujoco.mj_forward(model, data)
    assert data.ncon == 0
    data.qpos[7 + ROBOT.joint_idx(["left_shoulder_roll_joint"])[0]] = -0.8
    mujoco.mj_forward(model, data)
    assert data.ncon > 0


def test_links_next_to_each_other_never_touch(model):
    """Random poses, far above the floor: every contact is between an arm and something, or left and right leg."""
    rng = np.random.default_rng(1)
    data = mujoco.MjData(model)
    parent = {link.name: link.parent for link in ROBOT.links}
    seen = 0
    for _ in range(200):
        _, _, joint_pos = _random_pose(rng)
        data.qpos[:] = np.concatenate([[0.0, 0.0, 5.0, 1.0, 0.0, 0.0, 0.0], joint_pos])
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        for one, other in data.contact.geom[: data.ncon]:
            names = [model.body(model.geom_bodyid[idx]).name for idx in (one, other)]
            assert parent[names[0]] != names[1] and parent[names[1]] != names[0]
            assert names[0] != names[1]
            arm = any("elbow" in name or "wrist" in name for name in names)
            assert arm or {name.split("_")[0] for name in names} == {"left", "right"}
            seen += 1
    assert seen > 20


def test_switches_leave_only_the_soles():
    feet = build_model(ROBOT, self_collision=False, fall_contact=False, visuals=False)
    touching = [feet.geom(idx).name for idx in range(feet.ngeom) if feet.geom_conaffinity[idx]]
    assert len(touching) == len(ROBOT.soles) and all("sole" in name for name in touching)


def test_the_model_is_mirror_symmetric(model):
    """A mirrored state under a mirrored command stays mirrored for one step; Unitree's numbers differ by 0.01 mm."""
    rng = np.random.default_rng(2)
    mirror = lambda values: ROBOT.joint_mirror_sign * values[ROBOT.joint_mirror_idx]  # noqa: E731
    pos, vel = ROBOT.default_joint_pos + 0.1 * rng.normal(size=23), rng.normal(size=23)
    target = ROBOT.default_joint_pos + 0.1 * rng.normal(size=23)
    after = []
    for mirrored in (False, True):
        data = mujoco.MjData(model)
        data.qpos[:7] = (0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0)
        data.qpos[7:], data.qvel[6:], data.ctrl[:] = (mirror(x) if mirrored else x for x in (pos, vel, target))
        mujoco.mj_step(model, data)
        after.append(data.qpos[7:].copy())
    np.testing.assert_allclose(mirror(after[0]), after[1], atol=2e-4)


def test_shapes_are_named_once_and_fit_the_robot():
    shapes = robot_shapes(ROBOT)
    assert len({shape.name for shape in shapes}) == len(shapes)
    assert {shape.link for shape in shapes} == set(ROBOT.link_names)
    assert all(shape.part in ("core", "arm", "leg", "") for shape in shapes if shape.role == COLLISION)


def test_sensors_and_cameras_have_their_names(model):
    for name in (*FOOT_SENSORS, "imu_gyro", "imu_accelerometer", "imu_quat"):
        assert model.sensor(name).dim[0] in (3, 4)
    for name in ("track", "front", "side"):
        assert model.camera(name).id >= 0


# URDF -----------------------------------------------------------------------------------------------
def _numbers(text):
    return np.array([float(item) for item in text.split()])


def _rpy_quat(rpy):
    quat = np.array([1.0, 0.0, 0.0, 0.0])
    for angle, axis in zip(rpy, np.eye(3), strict=True):
        quat = quat_multiply(quat_from_axis_angle(axis, np.asarray(angle)), quat)
    return quat


def test_shipped_urdf_is_the_generated_one():
    assert URDF_FILE.read_text(encoding="utf-8") == build_urdf(ROBOT), "run: python -m genmimic.sim.urdf"


def test_urdf_reads_back_as_the_same_tree():
    tree = ET.fromstring(build_urdf(ROBOT))
    joints = [element for element in tree.findall("joint") if element.get("type") == "revolute"]
    assert tuple(element.get("name") for element in joints) == ROBOT.joint_names
    links = {link.name: link for link in ROBOT.links}
    for element, joint in zip(joints, ROBOT.joints, strict=True):
        link = links[joint.link]
        assert (element.find("parent").get("link"), element.find("child").get("link")) == (link.parent, link.name)
        origin, limit = element.find("origin"), element.find("limit")
        np.testing.assert_allclose(_numbers(origin.get("xyz")), link.pos, atol=1e-9)
        np.testing.assert_allclose(
            quat_to_matrix(_rpy_quat(_numbers(origin.get("rpy")))),
            quat_to_matrix(np.array(link.quat) / np.linalg.norm(link.quat)),
            atol=1e-8,
        )
        np.testing.assert_allclose(_numbers(element.find("axis").get("xyz")), joint.axis)
        values = [float(limit.get(name)) for name in ("lower", "upper", "effort", "velocity")]
        np.testing.assert_allclose(values, [joint.lower, joint.upper, joint.effort, joint.speed])
    names = {element.get("name") for element in tree.findall("link")}
    assert names == {*links, "head_link", "left_hand_link", "right_hand_link", "imu_link"}


def test_urdf_and_mjcf_have_the_same_inertia(model):
    """Rebuilt from the six numbers of URDF, the principal moments are the table's."""
    tree = ET.fromstring(build_urdf(ROBOT))
    total = 0.0
    for link in ROBOT.links:
        inertial = tree.find(f"link[@name='{link.name}']/inertial")
        total += float(inertial.find("mass").get("value"))
        values = inertial.find("inertia")
        matrix = np.zeros((3, 3))
        for row, column, name in (
            (0, 0, "ixx"),
            (0, 1, "ixy"),
            (0, 2, "ixz"),
            (1, 1, "iyy"),
            (1, 2, "iyz"),
            (2, 2, "izz"),
        ):
            matrix[row, column] = matrix[column, row] = float(values.get(name))
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix)[::-1], link.inertia_diag, rtol=1e-5, atol=1e-9)
        body = model.body(link.name)
        axes = quat_to_matrix(body.iquat)
        np.testing.assert_allclose(matrix, axes @ np.diag(body.inertia) @ axes.T, atol=1e-8)
    assert total == pytest.approx(ROBOT.mass)


def test_urdf_compiles_in_mujoco(tmp_path):
    path = tmp_path / "robot.urdf"
    path.write_text(build_urdf(ROBOT), encoding="utf-8")
    assert mujoco.MjModel.from_xml_path(str(path)).nv == ROBOT.num_joints


# pictures -------------------------------------------------------------------------------------------
def test_a_picture_shows_the_robot_and_its_goals():
    from genmimic.sim.render import OffscreenRenderer, gl_problem

    problem = gl_problem()
    if problem:
        pytest.skip(problem)
    root_pos, root_quat = np.array([0.0, 0.0, ROBOT.standing_height]), np.array([1.0, 0.0, 0.0, 0.0])
    goal = forward_kinematics(ROBOT, root_pos, root_quat, ROBOT.default_joint_pos).pos + [0.3, 0.0, 0.0]
    with OffscreenRenderer(ROBOT, width=160, height=120) as renderer:
        plain = renderer.render(root_pos, root_quat, ROBOT.default_joint_pos)
        with_goal = renderer.render(root_pos, root_quat, ROBOT.default_joint_pos, goal)
    assert plain.shape == (120, 160, 3) and plain.dtype == np.uint8
    assert plain.std() > 10.0
    green = with_goal[..., 1].astype(int) - with_goal[..., 0]
    assert (green > 40).sum() > 50 > (plain[..., 1].astype(int) - plain[..., 0] > 40).sum()


def test_a_png_has_its_signature(tmp_path):
    from genmimic.sim.render import save_png

    save_png(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ConfigError, match="expected uint8"):
        save_png(tmp_path / "b.png", np.zeros((2, 3), np.uint8))


def test_no_gl_is_one_line_that_names_the_packages(monkeypatch):
    from genmimic.core.errors import MissingDependencyError
    from genmimic.sim import render

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(render.sys, "platform", "linux")
    monkeypatch.setattr(render.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(MissingDependencyError, match="libegl1 libgl1-mesa-dri") as caught:
        render.gl_candidates()
    assert "libosmesa6" in str(caught.value) and "\n" not in str(caught.value)
