# SPDX-License-Identifier: Apache-2.0
"""What goes through a message comes back unchanged, to float32."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.reference import Goal, Phase  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.state import JointCommand, RobotState  # noqa: E402
from genmimic_ros import conversions  # noqa: E402
from genmimic_ros.msg import GoalKeypoints, SafetyStatus  # noqa: E402
from genmimic_ros.msg import RobotState as RobotStateMsg  # noqa: E402


def over_the_wire(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def assert_same(found, given, **exact):
    for name, value in vars(given).items():
        other = getattr(found, name)
        if isinstance(value, np.ndarray):
            assert other.shape == value.shape, name
            np.testing.assert_array_equal(other.astype(np.float32), value.astype(np.float32), err_msg=name)
        else:
            assert other == pytest.approx(value, rel=1e-6) if isinstance(value, float) else other == value, name
    for name in exact:
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name), err_msg=name)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def state_of(rng, **changes):
    joints = [rng.normal(size=23) for _ in range(4)]
    quat = rng.normal(size=4)
    values = dict(base_quat_w=quat / np.linalg.norm(quat), base_ang_vel_b=rng.normal(size=3), battery=0.7)
    values |= dict(base_lin_acc_b=rng.normal(size=3), root_pos_w=rng.normal(size=3))
    return RobotState(1_795_000_000_123_456_789, 12345, *joints, **{**values, **changes})


def test_robot_state(rng):
    state = state_of(rng)
    found = conversions.state_from_msg(over_the_wire(conversions.state_to_msg(state, Mode.MIMIC)))
    assert_same(found, state, base_quat_w=True, root_pos_w=True)
    again = conversions.state_from_msg(over_the_wire(conversions.state_to_msg(found, Mode.MIMIC)))
    np.testing.assert_array_equal(again.joint_pos, found.joint_pos)  # a second trip changes nothing


def test_a_quaternion_turns_only_in_the_message(rng):
    msg = conversions.state_to_msg(state_of(rng, base_quat_w=np.array([0.1, 0.2, 0.3, 0.4])))
    quat = msg.imu_quaternion
    assert (quat.w, quat.x, quat.y, quat.z) == (0.1, 0.2, 0.3, 0.4)


def test_truth_is_what_a_simulator_says_and_absent_otherwise(rng):
    truth = conversions.RootTruth(*(rng.normal(size=size) for size in (3, 4, 3, 3)))
    found = conversions.truth_from_msg(over_the_wire(conversions.state_to_msg(state_of(rng), 0, truth)))
    assert_same(found, truth, pos_w=True, quat_w=True, lin_vel_w=True, ang_vel_w=True)
    msg = over_the_wire(conversions.state_to_msg(state_of(rng, root_pos_w=None)))
    assert conversions.truth_from_msg(msg) is None and conversions.state_from_msg(msg).root_pos_w is None


def test_joint_command(rng):
    command = JointCommand(987_654_321_012_345_678, 42, *(rng.normal(size=23) for _ in range(6)))
    assert_same(conversions.command_from_msg(over_the_wire(conversions.command_to_msg(command))), command)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_arrives_as_such(rng, bad):
    """The safety rules judge it; the message must not hide it."""
    action = rng.normal(size=23)
    action[3] = bad
    command = JointCommand(0, 1, action, *(rng.normal(size=23) for _ in range(5)))
    found = conversions.command_from_msg(over_the_wire(conversions.command_to_msg(command)))
    np.testing.assert_array_equal(found.joint_pos[3], bad)


@pytest.mark.parametrize("phase", list(Phase))
def test_goal_with_its_horizon(rng, phase):
    goal = Goal(
        phase, "wave", -17, 249, rng.normal(size=23), rng.normal(size=3), rng.normal(size=4),
        rng.normal(size=(27, 3)), rng.normal(size=(10, 27, 3)),
    )  # fmt: skip
    msg = over_the_wire(conversions.goal_to_msg(goal, 123_000_000_456))
    assert list(msg.names) == list(ROBOT.keypoint_names)
    assert conversions.stamp_from_msg(msg.header.stamp) == 123_000_000_456
    assert_same(conversions.goal_from_msg(msg), goal, keypoint_pos=True, root_pos=True, root_quat=True)


def test_safety():
    safety = conversions.Safety(Mode.HOLD, ("pause: asked for", "tilt: 70 deg"), 99, 12.5)
    assert conversions.safety_from_msg(over_the_wire(conversions.safety_to_msg(safety))) == safety


def test_modes_have_the_same_numbers_everywhere():
    for mode in Mode:
        assert getattr(SafetyStatus, mode.name) == getattr(RobotStateMsg, mode.name) == mode
        assert conversions.mode_name(mode) == mode.name


def test_every_phase_has_a_number_of_its_own():
    assert len({getattr(GoalKeypoints, phase.name) for phase in Phase}) == len(Phase)


def test_phases_have_the_numbers_of_the_message():
    from genmimic.record.messages import PHASES

    assert {phase.name: number for number, phase in enumerate(PHASES)} == {
        phase.name: getattr(conversions.GoalKeypoints, phase.name) for phase in PHASES
    }
