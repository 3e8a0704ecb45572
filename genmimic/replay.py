# SPDX-License-Identifier: Apache-2.0
"""A recorded session, through policy and safety once more: do they give what they gave?

What was heard comes as `Heard`, in any order of sources: from a recording's messages, a report's arrays, or a list in
memory. No ROS, no clock, no file format here.

The policy is given the state, the goal and the mode that it had. Which those were, when several came within a
moment, a recorder beside it cannot know: it hears them in an order of its own. So the newest few are tried, and the
command that was recorded decides. Safety is judged at the recorded checks where there are some, else every 10 ms.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genmimic.core.controller import PolicyFunction, TrackingController
from genmimic.core.desk import SafetyDesk
from genmimic.core.errors import ConfigError
from genmimic.core.modes import Mode
from genmimic.core.observation import HEADING_FRAME, HISTORY
from genmimic.core.reference import Goal, Phase
from genmimic.core.robot import Robot
from genmimic.core.safety import SafetyLimits
from genmimic.core.state import JointCommand, RobotState

STATE, GOAL, COMMAND, SAFETY, POLICY, TENSION, CALL, CHECK = TOPICS = (
    "robot_state", "goal_keypoints", "joint_command", "safety_status", "policy_status", "gantry/tension", "call",
    "check",
)  # fmt: skip
"""What `Heard.topic` may be."""

CHECK_PERIOD_NS = 10_000_000
"""Of safety_node by default."""


UNSURE_STEPS = 5 * HISTORY
"""How long a gap in the recording may be to blame for a difference, at most."""


@dataclass(frozen=True)
class Heard:
    """One message.

    Attributes:
        time_ns: When it was heard, on a steady clock.
        topic: One of `TOPICS`.
        value: robot_state: (`RobotState`, the bridge's `Mode`, or None). goal_keypoints: `Goal`. joint_command:
            `JointCommand`. safety_status: (`Mode`, reasons). policy_status: (problem, tracking error in m, periods
            in s), as `SafetyDesk.hear_policy` takes them. gantry/tension: in N. call: the name of a service that was
            called. check: None; the monitor judged its rules at this time.
    """

    time_ns: int
    topic: str
    value: Any


@dataclass
class PolicyReplay:
    """How the policy's commands compare.

    Attributes:
        commands: How many were recorded and computed again.
        identical: How many came out the same to the last bit of single precision.
        unsure: How many followed a gap in the recording, where the policy had seen more than was recorded.
        worst_rad: Largest difference of a joint's target among the others, in rad.
        first: Of the first one that differs: its sequence number; None when all are the same.
    """

    commands: int = 0
    identical: int = 0
    unsure: int = 0
    worst_rad: float = 0.0
    first: int | None = None

    @property
    def same(self) -> bool:
        """Whether every command that can be compared is the same."""
        return self.commands > 0 and self.identical + self.unsure == self.commands


@dataclass
class SafetyReplay:
    """How the monitor's verdicts compare: each change of the mode or of the rules named, in order."""

    recorded: list[tuple[Mode, tuple[str, ...]]] = field(default_factory=list)
    replayed: list[tuple[Mode, tuple[str, ...]]] = field(default_factory=list)
    exact: bool = True
    """Whether every recorded status was the same in every word as well."""

    @property
    def same(self) -> bool:
        """Whether the same modes followed, for the same reasons."""
        return bool(self.recorded) and self.recorded == self.replayed


def replay_policy(
    heard: Iterable[Heard], robot: Robot, policy: PolicyFunction, goal_frame: str = HEADING_FRAME
) -> PolicyReplay:
    """Compute every recorded command again, each from what was heard before it.

    Args:
        heard: The recording, in the order of time.
        robot: The robot.
        policy: From an observation to an action; the one that ran.
        goal_frame: The policy's, from its manifest.
    """
    controller, result = TrackingController(robot, policy, goal_frame=goal_frame), PolicyReplay()
    states: deque[RobotState] = deque(maxlen=6)
    goals: deque[Goal] = deque(maxlen=2)
    modes: deque[Mode] = deque([Mode.DISARMED], maxlen=2)
    sequence, unsure = None, 0
    for each in _in_order(heard):
        if each.topic == STATE:
            states.append(each.value[0])
        elif each.topic == GOAL:
            goals.append(each.value)
        elif each.topic == SAFETY and each.value[0] is not modes[-1]:
            modes.append(each.value[0])
        elif each.topic == COMMAND and states and goals:
            command: JointCommand = each.value
            if sequence is not None and command.sequence != sequence + 1:
                unsure = UNSURE_STEPS
            sequence = command.sequence
            controller, difference = _step(controller, states, goals, modes, command)
            result.commands += 1
            if difference == 0.0:
                result.identical, unsure = result.identical + 1, 0
            elif unsure:
                result.unsure, unsure = result.unsure + 1, unsure - 1
            else:
                result.worst_rad = max(result.worst_rad, difference)
                result.first = command.sequence if result.first is None else result.first
    return result


def _step(
    controller: TrackingController,
    states: Iterable[RobotState],
    goals: Iterable[Goal],
    modes: Iterable[Mode],
    command: JointCommand,
) -> tuple[TrackingController, float]:
    """Return the controller after the step that gives ``command``, and how far off it is, in rad.

    Where none gives it, the newest of everything is taken for what the policy had.
    """
    best: tuple[TrackingController, float] | None = None
    newest_first = [(m, g, s) for m in reversed([*modes]) for g in reversed([*goals]) for s in reversed([*states])]
    for mode, goal, state in newest_first:
        tried = copy.copy(controller)  # its arrays are replaced, never changed
        if mode is Mode.STANDING:
            tried.reset()
        again = tried.step(command.stamp_ns, state, goal)
        difference = _difference(again, command)
        if best is None or difference == 0.0:
            best = tried, difference
        if difference == 0.0:
            break
    assert best is not None
    if best[1] != 0.0:
        best[0].remember(command.action)  # what differs once shall not differ for ever
    return best


def _difference(one: JointCommand, other: JointCommand) -> float:
    """Return the largest difference of two commands' targets in rad, 0 only when all they say is the same."""
    pairs = [(np.float32(getattr(one, name)), np.float32(getattr(other, name))) for name in ("joint_pos", "action")]
    if all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
        return 0.0
    gap = np.abs(one.joint_pos - other.joint_pos)
    return max(float(gap.max()), np.finfo(np.float32).tiny) if np.isfinite(gap).all() else float("inf")


_ASKED = {
    (Mode.DISARMED, Mode.STANDING): "arm",
    (Mode.READY, Mode.MIMIC): "start",
    (Mode.HOLD, Mode.MIMIC): "start",
    (Mode.STANDING, Mode.DISARMED): "stop",
    (Mode.DAMPED, Mode.DISARMED): "reset",
    (Mode.ESTOP, Mode.DISARMED): "reset",
}
"""What a person must have asked for, by the modes before and after, where a recording does not tell of services."""


def replay_safety(heard: Iterable[Heard], robot: Robot, limits: SafetyLimits | None = None) -> SafetyReplay:
    """Judge the rules again on what was heard, and compare with what the monitor said.

    Args:
        heard: The recording, in the order of time. Where it tells neither of checks nor of calls, rules are judged
            every 10 ms, and a person's calls are taken from the changes of mode that only a person can make.
        robot: Whose limits apply.
        limits: The monitor's.
    """
    events = list(_in_order(heard))
    topics = {each.topic for each in events}
    result, desk, checked_ns = SafetyReplay(), None, 0
    for each in events:
        now_ns = each.time_ns
        if desk is None:
            desk, checked_ns = SafetyDesk(robot, limits, now_ns), now_ns
        while CHECK not in topics and now_ns - checked_ns > CHECK_PERIOD_NS:
            checked_ns += CHECK_PERIOD_NS
            desk.tick(checked_ns)
            if result.recorded:
                _note(result.replayed, *desk.situation)
        if each.topic == CHECK:
            desk.tick(now_ns)
        elif each.topic == CALL:
            desk.call(each.value, now_ns)
        elif each.topic == SAFETY:
            mode, reasons = each.value
            if CALL not in topics:
                _ask(desk, mode, reasons, now_ns, not result.recorded)
            result.exact &= desk.situation == (mode, tuple(reasons))
            _note(result.recorded, mode, reasons)
        else:
            _hear(desk, each)
        if result.recorded:
            _note(result.replayed, *desk.situation)
    return result


def _hear(desk: SafetyDesk, each: Heard) -> None:
    now_ns, value = each.time_ns, each.value
    if each.topic == STATE:
        desk.hear_state(now_ns, *value)
    elif each.topic == COMMAND:
        desk.hear_command(now_ns, value)
    elif each.topic == GOAL:
        desk.hear_goal(now_ns, value.phase is Phase.DONE)
    elif each.topic == POLICY:
        desk.hear_policy(now_ns, *value)
    elif each.topic == TENSION:
        desk.hear_tension(now_ns, value)


_WAYS = {
    Mode.STANDING: ("arm",),
    Mode.READY: ("arm", "stood"),
    Mode.MIMIC: ("arm", "stood", "start"),
    Mode.HOLD: ("arm", "stood", "start", "pause"),
}
"""From DISARMED to each mode."""


def _ask(desk: SafetyDesk, mode: Mode, reasons: Iterable[str], now_ns: int, first: bool) -> None:
    """Ask for what a person must have asked for, if the recorded mode says so."""
    machine, rules = desk.machine, [reason.partition(":")[0] for reason in reasons]
    before = machine.mode
    if mode is before:
        return
    if first:  # the recording begins in the middle
        for step in _WAYS.get(mode, ()):
            getattr(machine, step)(now_ns)
        return
    event = _ASKED.get((before, mode))
    if mode is Mode.ESTOP and "estop" in rules:
        event = "estop"
    elif mode is Mode.HOLD and "pause" in rules:
        event = "pause"
    elif mode is Mode.READY and before in (Mode.MIMIC, Mode.HOLD) and not rules:
        event = "stop"
    if event == "estop":
        desk.call(event, now_ns)
    elif event is not None:  # it was granted then
        getattr(machine, event)(now_ns)


def _note(told: list[tuple[Mode, tuple[str, ...]]], mode: Mode, reasons: Iterable[str]) -> None:
    situation = mode, tuple(reason.partition(":")[0] for reason in reasons)
    if not told or told[-1] != situation:
        told.append(situation)


def _in_order(heard: Iterable[Heard]) -> Iterator[Heard]:
    before_ns: int | None = None
    for each in heard:
        if each.topic not in TOPICS:
            raise ConfigError(f"{each.topic!r} is no topic of a recording; known: {', '.join(TOPICS)}")
        if before_ns is not None and each.time_ns < before_ns:
            raise ConfigError(
                f"{each.topic} at {each.time_ns} ns comes after {before_ns} ns; sort the recording by time"
            )
        before_ns = each.time_ns
        yield each


# from a recording -------------------------------------------------------------------------------------
def heard_of(messages: Iterable[tuple[int, str, Any]]) -> Iterator[Heard]:
    """Yield what a recording's messages say; other topics are passed over.

    Args:
        messages: Time of receipt in ns, topic and message (`genmimic.record.reader.Stamped`), in the order of time.
    """
    from genmimic.record.messages import command_of, goal_of, state_of

    for time_ns, topic, message in messages:
        name = topic.removeprefix("/").removeprefix("genmimic/")
        value: Any = None
        if name == STATE:
            value = state_of(message), _mode(message.mode)
        elif name == GOAL:
            value = goal_of(message)
        elif name == COMMAND:
            value = command_of(message)
        elif name == SAFETY:
            value = Mode(message.mode), tuple(message.reasons)
        elif name == POLICY:
            value = _policy_status(message)
        elif name == TENSION:
            value = float(message.data)
        if value is not None:
            yield Heard(time_ns, name, value)


def _mode(number: int) -> Mode | None:
    return Mode(number) if number in Mode._value2member_map_ else None


_POLICY_PROBLEMS = {0: "UNCONFIGURED", 1: "WAITING", 4: "STALE", 5: "in ERROR"}
"""By the numbers of ``PolicyStatus.msg``."""


def _policy_status(message: Any) -> tuple[str, float, tuple[float, ...]]:
    problem = ""
    if message.state in _POLICY_PROBLEMS:
        problem = f"the policy is {_POLICY_PROBLEMS[message.state]}" + (message.message and f": {message.message}")
    return problem, float(message.tracking_error_m), tuple(1e-3 * float(period) for period in message.tick_period_ms)
