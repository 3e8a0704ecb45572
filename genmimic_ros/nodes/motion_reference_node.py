# SPDX-License-Identifier: Apache-2.0
"""motion_reference_node: publishes where the keypoints should be, in every mode, 50 times a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from genmimic.core.director import ReferenceDirector
from genmimic.core.errors import GenMimicError
from genmimic.core.modes import Mode
from genmimic.core.motion import Motion, load_motion
from genmimic.core.robot import G1_23DOF
from genmimic.policy import find_policy, find_shipped
from genmimic_ros.conversions import goal_to_msg, state_from_msg
from genmimic_ros.msg import GoalKeypoints, RobotState, SafetyStatus
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STATUS_SUB, STREAM_PUB, STREAM_SUB, TickNode, run_node
from genmimic_ros.session import SessionParams, require_gate
from genmimic_ros.srv import LoadMotion

_MODES = frozenset(Mode)


@dataclass(frozen=True)
class ReferenceParams:
    """Parameters of motion_reference_node."""

    motion: str = parameter("", "Motion to play: a file, or the name of one that is shipped; none when empty")
    rate_hz: float = parameter(
        50.0, "Goals per second; the policy was trained at 50, slower plays in slow motion", unit="Hz", low=1, high=50
    )
    robot: str = parameter("sim", "Which robot; the real one plays only what has passed", choices=("sim", "g1"))
    policy: str = parameter("", "Policy that runs, with which motions were checked; the shipped student when empty")
    on_gantry: bool = parameter(
        False, "Whether the real robot hangs in its gantry throughout, so that the verdict 'gantry only' passes"
    )
    override_gate: bool = parameter(False, "Play on the real robot what has not passed the motion gate; logged")


def read_motion(name: str) -> Motion:
    """Return the motion of a file in the working folder, or of a shipped one. Raises GenMimicError."""
    return load_motion(find_shipped(name, "motions", ".npz"), G1_23DOF)


class MotionReferenceNode(TickNode):
    """Plays the loaded motion as the safety monitor's mode asks."""

    def __init__(self) -> None:
        super().__init__("motion_reference_node")
        params = declare_parameters(self, ReferenceParams)
        self._director = ReferenceDirector(G1_23DOF)
        self._lock = threading.Lock()  # loading happens on the main thread, goals on the tick's
        self._params = params
        if params.motion:
            self._director.load(self._passed(params.motion))
        self._mode = Mode.DISARMED
        self._state: RobotState | None = None

        self._goal_pub = self.create_publisher(GoalKeypoints, "goal_keypoints", STREAM_PUB)
        self.create_subscription(SafetyStatus, "safety_status", self._on_safety, STATUS_SUB)
        self.create_subscription(RobotState, "robot_state", self._on_state, STREAM_SUB)
        self.create_service(LoadMotion, "load_motion", self._on_load_motion)
        motion = self._director.motion
        self.get_logger().info("no motion is loaded" if motion is None else _described(motion))
        self.start_ticks(params.rate_hz, self._on_tick)

    def _passed(self, name: str) -> Motion:
        """Return a motion that may be played on this robot. Raises GenMimicError."""
        params, motion = self._params, read_motion(name)
        if params.robot == "g1":
            asked = SessionParams(robot="g1", on_gantry=params.on_gantry, override_gate=params.override_gate)
            gate = require_gate(asked, motion, find_policy(params.policy or None))
            if "reason" in gate:
                self.get_logger().warning(f"motion gate overridden: {gate['reason']}")
        return motion

    def _on_safety(self, msg: SafetyStatus) -> None:
        if msg.mode in _MODES:  # a mode that nobody knows changes nothing
            self._mode = Mode(msg.mode)

    def _on_state(self, msg: RobotState) -> None:
        self._state = msg

    def _on_load_motion(self, request: LoadMotion.Request, response: LoadMotion.Response) -> LoadMotion.Response:
        try:
            motion = self._passed(request.motion)
            with self._lock:
                self._director.load(motion)
            response.success, response.message = True, _described(motion)
            self.get_logger().info(response.message)
        except GenMimicError as error:
            response.success, response.message = False, " ".join(str(error).split())
            self.get_logger().error(response.message)
        return response

    def _on_tick(self, now_ns: int) -> None:
        with self._lock:
            if self._state is not None:
                state = state_from_msg(self._state)
                if state.is_finite():
                    self._director.observe(state.base_quat_w, state.joint_pos, state.root_pos_w)
            goal = self._director.step(self._mode)
        self._goal_pub.publish(goal_to_msg(goal, self.get_clock().now().nanoseconds))


def _described(motion: Motion) -> str:
    return f"motion {motion.name!r}: {motion.duration:.1f} s, {len(motion)} frames at {motion.fps:g} Hz"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    return run_node(MotionReferenceNode, argv)


if __name__ == "__main__":
    sys.exit(main())
