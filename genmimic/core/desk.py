# SPDX-License-Identifier: Apache-2.0
"""The safety desk: what is heard comes in, with its time of receipt; the mode and its reasons come out.

It is safety_node without ROS and without a clock: rules (`genmimic.core.safety`), modes (`genmimic.core.modes`), and
the two events that come by themselves. The same calls in the same order give the same answers, so a recording can be
played through it.

How it learns that the robot stands: while the mode is STANDING, the bridge reports READY. How it learns that the motion
is over: a goal says so in MIMIC.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from genmimic.core.modes import Answer, Mode, ModeMachine, Reaction
from genmimic.core.robot import Robot
from genmimic.core.safety import SafetyInputs, SafetyLimits, SafetyMonitor, Verdict, lines
from genmimic.core.state import JointCommand, RobotState

DONE_AFTER_NS = 200_000_000
"""A goal that says DONE counts once another phase was seen in this MIMIC, or after this time: until the reference
node hears of MIMIC, its goals are still those of READY."""

TENSION_TIMEOUT_NS = 500_000_000
"""An older rope tension counts as not measured."""

PERIODS = 50
"""Steps of the policy over which their length is taken: a second."""

EVENTS = ("arm", "start", "pause", "stop", "estop", "reset")
"""What a person may ask for with `SafetyDesk.call`."""


class SafetyDesk:
    """Holds the mode, judges the rules, and answers people.

    Args:
        robot: Whose limits apply.
        limits: The numbers of the rules.
        now_ns: When it starts, on the clock of all later times.
    """

    def __init__(self, robot: Robot, limits: SafetyLimits | None = None, now_ns: int = 0) -> None:
        self.machine = ModeMachine(now_ns)
        self._monitor = SafetyMonitor(robot, limits)
        self.verdicts: list[Verdict] = []
        """The rules that are broken, as of the last `tick` or `call`, worst first."""
        self.tension_n = math.nan
        """Last tension of the rope that was heard, however old."""
        self._state: tuple[RobotState, Mode | None, int] | None = None  # with the bridge's mode and receipt, ns
        self._command: tuple[JointCommand, int] | None = None
        self._goal: tuple[bool, int] | None = None  # whether it says that the motion is over, and receipt
        self._policy: tuple[str, float, int] | None = None  # problem, tracking error and receipt
        self._periods: deque[float] = deque(maxlen=PERIODS)
        self._tension_ns: int | None = None
        self._moving_ns = 0  # receipt of the last goal of a motion that was not over

    @property
    def situation(self) -> tuple[Mode, tuple[str, ...]]:
        """The mode and its reasons, worst first."""
        return self.machine.mode, tuple(str(reason) for reason in self.machine.reasons)

    # what is heard ---------------------------------------------------------------------------------
    def hear_state(self, now_ns: int, state: RobotState, bridge_mode: Mode | None) -> None:
        """Take a measurement, and the mode in which the bridge says it drives the motors."""
        self._state = state, bridge_mode, now_ns

    def hear_command(self, now_ns: int, command: JointCommand) -> None:
        """Take a command of the policy."""
        self._command = command, now_ns

    def hear_goal(self, now_ns: int, done: bool) -> None:
        """Take a goal; ``done`` when it says that the motion is over."""
        if not done:
            self._moving_ns = now_ns
        self._goal = done, now_ns

    def hear_policy(self, now_ns: int, problem: str, tracking_error_m: float, periods_s: Sequence[float] = ()) -> None:
        """Take a status of the policy.

        Args:
            now_ns: Receipt.
            problem: Why it cannot run, one line; empty when it can.
            tracking_error_m: Mean keypoint distance to the goal; NaN when unknown.
            periods_s: Of its steps since the status before, in s.
        """
        self._policy = problem, tracking_error_m, now_ns
        self._periods.extend(period for period in periods_s if math.isfinite(period))

    def hear_tension(self, now_ns: int, tension_n: float) -> None:
        """Take the tension of the gantry's rope, in N."""
        self.tension_n, self._tension_ns = tension_n, now_ns

    # what follows ----------------------------------------------------------------------------------
    def tick(self, now_ns: int) -> list[Verdict]:
        """Judge the rules, let the mode follow, and return what is broken, worst first. Call at a steady rate."""
        self._judge(now_ns)
        machine = self.machine
        if machine.mode is Mode.STANDING and self._state is not None and self._state[1] is Mode.READY:
            machine.stood(now_ns)
        if machine.mode is Mode.MIMIC and self._goal is not None and self._goal[0]:
            moved = self._moving_ns > machine.since_ns
            if self._goal[1] > machine.since_ns and (moved or now_ns - machine.since_ns > DONE_AFTER_NS):
                machine.motion_done(now_ns)
        return self.verdicts

    def call(self, event: str, now_ns: int) -> Answer:
        """Answer one of `EVENTS`, asked for by a person."""
        machine = self.machine
        if event == "estop":
            return machine.estop(now_ns, "asked for by the service")
        self._judge(now_ns)  # what blocks depends on the mode, which may have just changed
        if event == "arm":
            return machine.arm(now_ns, lines(self.verdicts, Reaction.BLOCK))
        if event == "start":
            return machine.start(now_ns, lines(self.verdicts, Reaction.BLOCK))
        if event == "reset":
            return machine.reset(now_ns, lines(self.verdicts, Reaction.DAMP))
        return machine.pause(now_ns) if event == "pause" else machine.stop(now_ns)

    def _judge(self, now_ns: int) -> None:
        self.verdicts = self._monitor.check(now_ns, self._inputs(now_ns))
        for verdict in self.verdicts:
            if verdict.reaction >= Reaction.HOLD:
                self.machine.fault(now_ns, verdict.reaction, verdict.rule, verdict.text)

    def _inputs(self, now_ns: int) -> SafetyInputs:
        machine, state, command, goal, policy = self.machine, self._state, self._command, self._goal, self._policy
        fresh = policy is not None and (now_ns - policy[2]) * 1e-9 <= self._monitor.limits.policy_timeout_s
        measured = self._tension_ns is not None and now_ns - self._tension_ns <= TENSION_TIMEOUT_NS
        return SafetyInputs(
            mode=machine.mode,
            mode_since_ns=machine.since_ns,
            applied_since_ns=machine.applied_since_ns,
            state=state[0] if state else None,
            state_received_ns=state[2] if state else None,
            bridge_mode=state[1] if state else None,
            command=command[0] if command else None,
            command_received_ns=command[1] if command else None,
            goal_received_ns=goal[1] if goal else None,
            policy_received_ns=policy[2] if policy else None,
            policy_problem=policy[0] if policy else "",
            policy_period_s=step_length_s(self._periods) if fresh and len(self._periods) == PERIODS else math.nan,
            tracking_error_m=policy[1] if fresh and policy else math.nan,
            gantry_tension_n=self.tension_n if measured else math.nan,
        )


def step_length_s(periods_s: Iterable[float]) -> float:
    """Return how long the step lasts that is under way at a random moment: the mean of the periods, by their length.

    Equals the plain mean for a steady loop. A loop that is held up and then makes two steps at once keeps its plain
    mean, but not this one: 34 and 6 ms in turn are 20 ms on average, and 30 ms here.
    """
    periods: np.ndarray = np.fromiter(periods_s, float)
    total = float(periods.sum())
    return float((periods**2).sum()) / total if total > 0.0 else math.nan
