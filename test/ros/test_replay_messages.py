# SPDX-License-Identifier: Apache-2.0
"""What a recording's messages say to `genmimic.replay`."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

from std_msgs.msg import Float32  # noqa: E402

from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.reference import ReferencePlayer  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.state import RobotState, position_command  # noqa: E402
from genmimic.replay import heard_of  # noqa: E402
from genmimic_ros.conversions import Safety, command_to_msg, goal_to_msg, safety_to_msg, state_to_msg  # noqa: E402
from genmimic_ros.msg import PolicyStatus  # noqa: E402
from genmimic_ros.nodes.safety_node import policy_problem  # noqa: E402

ZERO, QUAT = np.zeros(23), np.array([1.0, 0.0, 0.0, 0.0])


class Decoded:
    """A message as `genmimic.record.reader` gives it: its points are an array."""

    def __init__(self, msg, points):
        self._msg, self.points = msg, points

    def __getattr__(self, name):
        return getattr(self._msg, name)


def test_messages_are_heard_as_the_nodes_hear_them():
    state = RobotState(
        5, 7, ROBOT.default_joint_pos, ZERO, ZERO, ZERO + 40, np.array([1.0, 0, 0, 0]), ZERO[:3], ZERO[:3]
    )
    goal = ReferencePlayer(ROBOT).goal()
    status = PolicyStatus(state=PolicyStatus.STALE, message="old", tracking_error_m=0.25, tick_period_ms=[20.0, 21.0])
    messages = [
        (1, "/genmimic/robot_state", state_to_msg(state, Mode.READY)),
        (2, "/genmimic/goal_keypoints", Decoded(goal_to_msg(goal), goal.keypoint_pos)),
        (3, "/genmimic/joint_command", command_to_msg(position_command(ROBOT, ROBOT.default_joint_pos, sequence=9))),
        (4, "/genmimic/safety_status", safety_to_msg(Safety(Mode.HOLD, ("goal_age: old",), 3, 1.0))),
        (5, "/genmimic/policy_status", status),
        (6, "/genmimic/gantry/tension", Float32(data=12.5)),
        (7, "/rosout", object()),
    ]
    heard = {each.topic: each for each in heard_of(messages)}
    assert [each.time_ns for each in heard.values()] == [1, 2, 3, 4, 5, 6]
    found, mode = heard["robot_state"].value
    assert mode is Mode.READY and found.tick == 7
    np.testing.assert_array_equal(found.joint_pos, np.float32(state.joint_pos))
    assert heard["goal_keypoints"].value.phase is goal.phase
    assert heard["joint_command"].value.sequence == 9
    assert heard["safety_status"].value == (Mode.HOLD, ("goal_age: old",))
    problem, error_m, periods_s = heard["policy_status"].value
    assert problem == policy_problem(status) == "the policy is STALE: old" and error_m == 0.25
    assert periods_s == pytest.approx((0.020, 0.021))
    assert heard["gantry/tension"].value == 12.5


@pytest.mark.parametrize("number", range(6))
def test_every_state_of_the_policy_reads_the_same_in_both(number):
    status = PolicyStatus(state=number, message="x")
    ((problem, _, _),) = [each.value for each in heard_of([(0, "policy_status", status)])]
    assert problem == policy_problem(status)
