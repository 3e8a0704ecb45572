# SPDX-License-Identifier: Apache-2.0
"""motion_view_node: plays a motion for rviz, as if a robot did it perfectly. No policy, no simulator.

It publishes what a robot would, so it must never share a namespace with one: its own is ``/genmimic_view``, and it
refuses ``/genmimic``. viz_node beside it makes markers, joint states, transforms and the robot's model of that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.motion import CONTROL_RATE_HZ, motion_rates, resample
from genmimic.core.observation import FUTURE
from genmimic.core.reference import Goal, Phase
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import RobotState
from genmimic_ros.conversions import RootTruth, goal_to_msg, state_to_msg
from genmimic_ros.msg import GoalKeypoints
from genmimic_ros.msg import RobotState as RobotStateMsg
from genmimic_ros.nodes.motion_reference_node import read_motion
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STREAM_PUB, TickNode, run_node

ROBOT_NAMESPACE = "/genmimic"
"""Where real and simulated robots are driven."""


@dataclass(frozen=True)
class MotionViewParams:
    """Parameters of motion_view_node."""

    motion: str = parameter("", "Motion to play: a file, or the name of one that is shipped")
    speed: float = parameter(1.0, "1 is as fast as it is meant to be", low=0.05, high=4)
    loop: bool = parameter(True, "Whether it begins again at its end, or stands there")


class MotionViewNode(TickNode):
    """Publishes the motion as robot_state and goal_keypoints."""

    def __init__(self) -> None:
        super().__init__("motion_view_node")
        self._params = params = declare_parameters(self, MotionViewParams)
        if self.get_namespace().rstrip("/") == ROBOT_NAMESPACE:
            raise ConfigError(f"motion_view_node must not run in {ROBOT_NAMESPACE}, where a robot would take its word")
        if not params.motion:
            raise ConfigError("parameter 'motion' of motion_view_node is empty; expected a file or a shipped motion")
        self._motion = resample(G1_23DOF, read_motion(params.motion))
        self._rates = motion_rates(self._motion)
        self._frame = 0.0
        self._tick = 0
        self._state_pub = self.create_publisher(RobotStateMsg, "robot_state", STREAM_PUB)
        self._goal_pub = self.create_publisher(GoalKeypoints, "goal_keypoints", STREAM_PUB)
        self.get_logger().info(f"plays {self._motion.name!r}, {self._motion.duration:.1f} s")
        self.start_ticks(CONTROL_RATE_HZ, self._on_tick, priority=0)

    def _on_tick(self, now_ns: int) -> None:
        motion, stamp_ns = self._motion, self.get_clock().now().nanoseconds
        frame, last = round(self._frame), len(motion) - 1
        pos, quat, joint_pos = motion.root_pos[frame], motion.root_quat[frame], motion.joint_pos[frame]
        zero = np.zeros(G1_23DOF.num_joints)
        state = RobotState(
            stamp_ns, self._tick, joint_pos, self._rates.joint_vel[frame], zero, np.full_like(zero, np.nan), quat,
            np.zeros(3), np.array([0.0, 0.0, 9.81]), root_pos_w=pos,
        )  # fmt: skip
        truth = RootTruth(pos, quat, self._rates.root_lin_vel[frame], self._rates.root_ang_vel[frame])
        self._state_pub.publish(state_to_msg(state, truth=truth))
        ahead = np.minimum(frame + np.arange(1, FUTURE + 1), last)
        goal = Goal(
            phase=Phase.PLAYING, motion=motion.name, frame=frame, frames=len(motion), joint_pos=joint_pos, root_pos=pos,
            root_quat=quat, keypoint_pos=motion.keypoint_pos[frame], horizon_keypoint_pos=motion.keypoint_pos[ahead],
        )  # fmt: skip
        self._goal_pub.publish(goal_to_msg(goal, stamp_ns))
        self._tick += 20
        self._frame += self._params.speed
        if self._frame > last:
            self._frame = 0.0 if self._params.loop else float(last)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    return run_node(MotionViewNode, argv, realtime=False)


if __name__ == "__main__":
    sys.exit(main())
