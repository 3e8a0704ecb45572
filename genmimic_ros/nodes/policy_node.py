# SPDX-License-Identifier: Apache-2.0
"""policy_node: turns robot state and goal into joint targets, 50 times a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from genmimic.core.controller import TrackingController
from genmimic.core.errors import ConfigError
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.modes import ARMED, Mode
from genmimic.core.noise import NO_NOISE, PAPER_NOISE
from genmimic.core.reference import Goal, ReferencePlayer
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import RobotState
from genmimic.evaluate.metrics import aligned_keypoints
from genmimic.policy import Policy, find_policy, load_policy
from genmimic_ros.conversions import command_to_msg, goal_from_msg, stamp_to_msg, state_from_msg
from genmimic_ros.msg import GoalKeypoints, JointCommand, PolicyStatus, SafetyStatus
from genmimic_ros.msg import RobotState as RobotStateMsg
from genmimic_ros.parameters import declare_parameters, parameter
from genmimic_ros.runtime import STATUS_PUB, STATUS_SUB, STREAM_PUB, STREAM_SUB, TickNode, run_node

WARM_UP_STEPS = 100
"""Steps on made-up input before the first tick: the first calls of an onnxruntime session are the slowest."""

STATUS_RATE_HZ = 10.0

_MODES = frozenset(Mode)

Message = TypeVar("Message")


@dataclass(frozen=True)
class PolicyParams:
    """Parameters of policy_node."""

    policy: str = parameter("", "Policy: an ONNX file, or the name of a shipped one; the shipped student when empty")
    provider: str = parameter("cpu", "Where the network runs", choices=("cpu", "cuda", "tensorrt"))
    rate_hz: float = parameter(50.0, "Control rate; must be the rate that the policy was trained at", unit="Hz", low=1)
    priority: int = parameter(50, "Real-time priority of the loop (SCHED_FIFO); 0 for none", low=0, high=99)
    state_timeout_s: float = parameter(0.1, "Older robot state is stale: nothing is commanded", unit="s", low=0.01)
    goal_timeout_s: float = parameter(
        1.0, "Older goals are stale: nothing is commanded; until then the last one stays", unit="s", low=0.02
    )
    noise: str = parameter(
        "none",
        "Noise added to what the policy observes (Table 8); for the simulated robot only",
        choices=("none", "paper"),
    )
    seed: int = parameter(0, "Seed of that noise", low=0)


class Latest(Generic[Message]):
    """The newest message of a topic and when it came, on the monotonic clock."""

    def __init__(self) -> None:
        self._held: tuple[Message, int] | None = None

    def put(self, msg: Message) -> None:
        """Store a message; to be used as a subscription's callback."""
        self._held = msg, time.monotonic_ns()

    def get(self, now_ns: int) -> tuple[Message | None, float]:
        """Return the message and its age in s; None and NaN when none has come."""
        held = self._held
        return (None, float("nan")) if held is None else (held[0], (now_ns - held[1]) / 1e9)


class PolicyNode(TickNode):
    """Runs the policy while the robot is armed.

    The bridge applies the commands from READY on. In STANDING they are published too, each computed as the
    first of a fresh history, so that the command is there and right in the very tick that READY begins.
    """

    def __init__(self) -> None:
        super().__init__("policy_node")
        self._params = params = declare_parameters(self, PolicyParams)
        path = find_policy(params.policy or None)
        policy = load_policy(path, G1_23DOF, params.provider)
        if abs(params.rate_hz - policy.manifest.control_rate_hz) > 1e-6:
            raise ConfigError(
                f"rate_hz is {params.rate_hz:g}, but {path} runs at {policy.manifest.control_rate_hz:g} Hz"
            )
        self._name = policy.name
        self._inference_ms = float("nan")
        self._controller = TrackingController(
            G1_23DOF,
            self._timed(policy),
            PAPER_NOISE if params.noise == "paper" else NO_NOISE,
            np.random.default_rng(params.seed),
            policy.manifest.goal_frame,
        )
        self._warm_up()

        self._state: Latest[RobotStateMsg] = Latest()
        self._goal: Latest[GoalKeypoints] = Latest()
        self._safety: Latest[SafetyStatus] = Latest()
        self._command_pub = self.create_publisher(JointCommand, "joint_command", STREAM_PUB)
        self._status_pub = self.create_publisher(PolicyStatus, "policy_status", STATUS_PUB)
        self.create_subscription(RobotStateMsg, "robot_state", self._state.put, STREAM_SUB)
        self.create_subscription(GoalKeypoints, "goal_keypoints", self._goal.put, STREAM_SUB)
        self.create_subscription(SafetyStatus, "safety_status", self._safety.put, STATUS_SUB)

        self._sequence = 0
        self._reported = 0
        self._latencies: list[float] = []
        self._recent: list[float] = []
        self._status_every = max(1, round(params.rate_hz / STATUS_RATE_HZ))
        self._said: tuple[int, Mode] | None = None
        self.get_logger().info(f"policy {path} on {params.provider}")
        self._ticks = self.start_ticks(params.rate_hz, self._on_tick, params.priority)

    def _on_tick(self, now_ns: int) -> None:
        wall_ns = time.time_ns()
        state_msg, state_age_s = self._state.get(now_ns)
        goal_msg, goal_age_s = self._goal.get(now_ns)
        safety, _ = self._safety.get(now_ns)
        # with a mode that nobody knows, nothing is commanded
        mode = Mode(safety.mode) if safety is not None and safety.mode in _MODES else Mode.DISARMED
        status, text = self._judge(state_msg, state_age_s, goal_msg, goal_age_s, mode)
        latency_ms = float("nan")
        if status == PolicyStatus.RUNNING:
            assert state_msg is not None and goal_msg is not None
            state, goal = state_from_msg(state_msg), goal_from_msg(goal_msg)
            if not state.is_finite():
                status, text = PolicyStatus.STALE, "the robot state is not finite"
            else:
                if mode is Mode.STANDING:
                    self._controller.reset()
                command = command_to_msg(self._controller.step(wall_ns, state, goal))
                self._sequence += 1
                command.sequence = self._sequence
                self._command_pub.publish(command)
                latency_ms = (time.time_ns() - state.stamp_ns) / 1e6
        self._latencies.append(latency_ms)
        if (status, mode) != self._said:
            self._said = (status, mode)
            self._say(status, text)
        if (self._ticks.ticks + 1) % self._status_every == 0:
            self._publish_status(status, text, state_msg, state_age_s, goal_msg, goal_age_s, wall_ns)

    def _judge(
        self, state: object | None, state_age_s: float, goal: object | None, goal_age_s: float, mode: Mode
    ) -> tuple[int, str]:
        """Return the node's state and one line about it."""
        missing = [name for name, msg in (("robot state", state), ("goals", goal)) if msg is None]
        if missing:
            return PolicyStatus.WAITING, f"waiting for {' and '.join(missing)}"
        for name, age_s, limit_s in (
            ("robot state", state_age_s, self._params.state_timeout_s),
            ("goal", goal_age_s, self._params.goal_timeout_s),
        ):
            if age_s > limit_s:
                return PolicyStatus.STALE, f"the {name} is {1e3 * age_s:.0f} ms old (limit {1e3 * limit_s:.0f} ms)"
        if mode not in ARMED:
            return PolicyStatus.READY, f"{mode.name}: nothing is commanded"
        return PolicyStatus.RUNNING, ""

    def _say(self, status: int, text: str) -> None:
        if status == PolicyStatus.STALE:
            self.get_logger().error(f"stopped commanding: {text}", throttle_duration_sec=1.0)
        elif text:
            self.get_logger().info(text, throttle_duration_sec=1.0)

    def _publish_status(
        self,
        status: int,
        text: str,
        state_msg: RobotStateMsg | None,
        state_age_s: float,
        goal_msg: GoalKeypoints | None,
        goal_age_s: float,
        wall_ns: int,
    ) -> None:
        stats = self._ticks.stats()
        msg = PolicyStatus()
        msg.header.stamp = stamp_to_msg(wall_ns)
        msg.state, msg.message, msg.policy = status, text, self._name
        msg.motion = goal_msg.motion if goal_msg is not None else ""
        msg.inference_ms = self._inference_ms
        for name in ("period_ms", "compute_ms"):
            for suffix in ("", "_p50", "_p99", "_max"):
                setattr(msg, name + suffix, getattr(stats, name + suffix))
        msg.ticks, msg.missed, msg.late_5ms = stats.ticks, stats.missed, stats.late_5ms
        periods, computes = self._ticks.since(self._reported)
        msg.tick_period_ms, msg.tick_compute_ms = periods.tolist(), computes.tolist()
        # the running tick's own latency goes with its period and compute time, into the next status
        msg.tick_latency_ms = self._latencies[: len(periods)]
        self._recent = [*self._recent, *self._latencies[: len(periods)]][-round(self._params.rate_hz) :]
        self._latencies = self._latencies[len(periods) :]
        self._reported = stats.ticks
        known = np.array(self._recent)[np.isfinite(self._recent)] if self._recent else np.empty(0)
        if len(known):
            p50, p99 = np.percentile(known, [50, 99])
            msg.latency_ms, msg.latency_ms_p50 = float(known[-1]), float(p50)
            msg.latency_ms_p99, msg.latency_ms_max = float(p99), float(known.max())
        else:
            msg.latency_ms = msg.latency_ms_p50 = msg.latency_ms_p99 = msg.latency_ms_max = float("nan")
        msg.tracking_error_m = float("nan")
        if state_msg is not None and goal_msg is not None:
            msg.tracking_error_m = tracking_error(state_from_msg(state_msg), goal_from_msg(goal_msg))
        msg.goal_age_ms, msg.state_age_ms = 1e3 * goal_age_s, 1e3 * state_age_s
        self._status_pub.publish(msg)

    def _timed(self, policy: Policy) -> Callable[[np.ndarray], np.ndarray]:
        def timed(observation: np.ndarray) -> np.ndarray:
            begin_ns = time.monotonic_ns()
            action = policy(observation)
            self._inference_ms = (time.monotonic_ns() - begin_ns) / 1e6
            return action

        return timed

    def _warm_up(self) -> None:
        robot, goal = G1_23DOF, ReferencePlayer(G1_23DOF).goal()
        still = np.zeros(robot.num_joints)
        state = RobotState(
            0, 0, robot.default_joint_pos, still, still, still, goal.root_quat, np.zeros(3), np.array([0.0, 0.0, 9.81])
        )  # fmt: skip
        for _ in range(WARM_UP_STEPS):
            self._controller.step(0, state, goal)
            command_to_msg(self._controller.step(0, state, goal))
        tracking_error(state, goal)
        self._controller.reset()


def tracking_error(state: RobotState, goal: Goal) -> float:
    """Return the mean keypoint distance to the goal in m, root- and heading-aligned (LMPKPE of one step)."""
    keypoints = forward_kinematics(G1_23DOF, np.zeros(3), state.base_quat_w, state.joint_pos).pos
    aligned = aligned_keypoints(keypoints, state.base_quat_w)
    return float(np.linalg.norm(aligned - aligned_keypoints(goal.keypoint_pos, goal.root_quat), axis=-1).mean())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `genmimic_ros.runtime.run_node`."""
    return run_node(PolicyNode, argv)


if __name__ == "__main__":
    sys.exit(main())
