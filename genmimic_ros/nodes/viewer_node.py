# SPDX-License-Identifier: Apache-2.0
"""viewer_node: the browser's view of the running robot, and its buttons. See docs/viewing.md.

It hears the topics, presses the services of safety_node, and decides nothing. The page is `genmimic.view.live`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from std_msgs.msg import Float32
from std_srvs.srv import Trigger

from genmimic.core.kinematics import lowest_sole_height
from genmimic.core.modes import Mode
from genmimic.core.robot import G1_23DOF
from genmimic.policy import shipped_places
from genmimic.view.live import LiveView, Status
from genmimic.view.meshes import robot_meshes
from genmimic.view.pictures import read_film
from genmimic.view.scene import Pose
from genmimic_ros.conversions import goal_from_msg, state_from_msg, truth_from_msg
from genmimic_ros.msg import GoalKeypoints, PolicyStatus, RobotState, SafetyStatus
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STATUS_SUB, STREAM_SUB, Ears, TickNode, run_node
from genmimic_ros.srv import LoadMotion

TELL_HZ = 8.0
"""How often mode, error and timing are taken; the page asks for them four times a second."""

_MODES = frozenset(Mode)

STATE_TIMEOUT_S = 0.5
"""An older pose is not drawn again."""


@dataclass(frozen=True)
class ViewerParams:
    """Parameters of viewer_node."""

    host: str = parameter("127.0.0.1", "Address to listen on; 0.0.0.0 lets everybody in the network operate the robot")
    port: int = parameter(8080, "Port of the page; the next free one is taken", low=0, high=65535)
    rate_hz: float = parameter(25.0, "Pictures per second, while a browser looks", unit="Hz", low=1, high=60)
    meshes: str = parameter("auto", "Unitree's meshes where mjlab is installed, or never", choices=("auto", "never"))
    video: str = parameter("", "Film that the motion was made from; none when empty")
    video_start_s: float = parameter(0.0, "Time in the film at which the motion begins", unit="s", low=0, high=36000)


class ViewerNode(TickNode):
    """Asks for the newest message of each topic, at a rate of its own, and draws them."""

    def __init__(self) -> None:
        super().__init__("viewer_node")
        self._params = params = declare_parameters(self, ViewerParams)
        self._count, self._tell_every = 0, max(1, round(params.rate_hz / TELL_HZ))
        self._clients_of = {
            name: self.create_client(Trigger, name) for name in ("arm", "start", "pause", "stop", "estop", "reset")
        }  # fmt: skip
        self._load_client = self.create_client(LoadMotion, "load_motion")
        self._view = LiveView(
            params.host, params.port, self._ask, self._load, shipped_motions(), G1_23DOF,
            robot_meshes(G1_23DOF, params.meshes), film=read_film(params.video) if params.video else None,
            film_start_s=params.video_start_s,
        )  # fmt: skip
        self._ears = ears = Ears(self)  # 350 messages a second come in, 25 pictures are drawn
        ears.create_subscription(RobotState, "robot_state", STREAM_SUB)
        ears.create_subscription(GoalKeypoints, "goal_keypoints", STREAM_SUB)
        ears.create_subscription(SafetyStatus, "safety_status", STATUS_SUB)
        ears.create_subscription(PolicyStatus, "policy_status", STATUS_SUB)
        ears.create_subscription(Float32, "gantry/tension", STREAM_SUB)
        self.get_logger().info(f"the robot in the browser: {self._view.server.url}")
        self.start_ticks(params.rate_hz, self._on_tick, priority=0)

    @property
    def url(self) -> str:
        """The page's address."""
        return self._view.server.url

    def destroy_node(self) -> None:
        super().destroy_node()
        self._ears.destroy()
        self._view.close()

    # what is heard -----------------------------------------------------------------------------
    def _on_tick(self, now_ns: int) -> None:
        self._ears.hear()
        looked_at = self._view.clients > 0
        goal = self._ears.newest("goal_keypoints", 1.0) if looked_at else None
        self._count += 1
        safety = self._ears.newest("safety_status", 1.0) if self._count % self._tell_every == 0 else None
        if safety is not None and safety.mode in _MODES:
            self._view.hear(self._status(safety, goal))
        self._view.draw(self._pose(goal) if looked_at else None)

    def _status(self, safety: SafetyStatus, goal: GoalKeypoints | None) -> Status:
        policy = self._ears.newest("policy_status", 1.0)
        nan = float("nan")
        return Status(
            Mode(safety.mode),
            tuple(safety.reasons),
            "" if goal is None else goal.motion,
            0 if goal is None else goal.frame,
            0 if goal is None else goal.total_frames,
            nan if policy is None else policy.tracking_error_m,
            nan if policy is None else policy.period_ms_max,
            nan if policy is None else policy.compute_ms_p99,
            0 if policy is None else policy.missed,
            safety.gantry_tension_n,
        )

    def _pose(self, goal: GoalKeypoints | None) -> Pose | None:
        msg = self._ears.newest("robot_state", STATE_TIMEOUT_S)
        if msg is None:
            return None
        state, truth = state_from_msg(msg), truth_from_msg(msg)
        if not state.is_finite():
            return None
        quat = state.base_quat_w if truth is None else truth.quat_w
        if truth is None:  # nobody knows where it is: on the floor, at the origin
            pos = np.zeros(3)
            pos[2] = -float(lowest_sole_height(G1_23DOF, pos, quat, state.joint_pos))
        else:
            pos = truth.pos_w
        tension = self._ears.newest("gantry/tension", 1.0)
        return Pose(
            pos, quat, state.joint_pos, None if goal is None else goal_from_msg(goal).keypoint_pos,
            float("nan") if tension is None else tension.data,
        )  # fmt: skip

    # what is pressed ---------------------------------------------------------------------------
    def _ask(self, name: str) -> None:
        """Call a service of safety_node; its answer is shown when it comes. Called on the page's threads."""
        self._call(self._clients_of[name], Trigger.Request(), name)

    def _load(self, motion: str) -> None:
        self._call(self._load_client, LoadMotion.Request(motion=motion), f"load {motion}")

    def _call(self, client: Any, request: Any, name: str) -> None:
        if not client.service_is_ready():
            self._view.say(f"**{name}**: nobody answers; is the robot's software running?")
            return
        self.get_logger().info(f"{name}, asked for in the browser")
        client.call_async(request).add_done_callback(partial(self._on_answer, name))

    def _on_answer(self, name: str, future: Any) -> None:
        response = future.result()
        self._view.say(f"**{name}**: {'no answer' if response is None else response.message}")


def shipped_motions() -> list[str]:
    """Return the names of the motions that come with the package."""
    found = {path.stem for place in shipped_places() for path in (place / "motions").glob("*.npz")}
    return sorted(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    return run_node(ViewerNode, argv, realtime=False)


if __name__ == "__main__":
    sys.exit(main())
