# SPDX-License-Identifier: Apache-2.0
"""The safety rules: one table of what is watched, its limit, how long it must last, and what follows.

`RULES` is the monitor's table, `genmimic.core.gate.RULES` the bridge's own; ``docs/safety.md`` holds a copy of both,
printed by ``python -m genmimic.link.rules``. No clock here: times are passed in, all on one steady clock, and ages
run from receipt.

Sources of the numbers: the thresholds that published G1 deployments use (state 100 to 500 ms, goal
200 ms, tilt 1.0 rad, joint speed 35 rad/s, motors 90 degrees Celsius), tightened where a person
stands beside the robot; the robot's own table for joint limits, speed and torque; others are ours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.modes import APPLIED, ARMED, DAMPING, Mode, Reaction
from genmimic.core.robot import Robot
from genmimic.core.settings import check_ranges, setting
from genmimic.core.state import JointCommand, RobotState

GRAVITY_M_S2 = 9.81

RATE_WINDOW_NS = 200_000_000
"""Over which the speed of the targets is taken."""

_ALL = frozenset(Mode)
_DISARMED = frozenset({Mode.DISARMED})
_S = 1e-9  # s per ns


@dataclass(frozen=True)
class SafetyLimits:
    """Every number of the rules. A field's description, unit and range are in its metadata.

    Raises:
        ConfigError: A value is outside its range.
    """

    state_timeout_s: float = setting(0.1, "s", 0.01, 1.0, "Oldest robot state")
    frozen_timeout_s: float = setting(0.1, "s", 0.01, 1.0, "Longest time in which the robot's tick may stand still")
    follow_timeout_s: float = setting(0.5, "s", 0.05, 5.0, "Longest time the bridge may take to follow the mode")
    policy_timeout_s: float = setting(0.5, "s", 0.1, 5.0, "Oldest policy status")
    command_timeout_s: float = setting(0.06, "s", 0.02, 1.0, "Oldest joint command while the policy moves the robot")
    command_grace_s: float = setting(0.5, "s", 0.0, 2.0, "Time the policy has for its first command after READY")
    goal_hold_s: float = setting(0.2, "s", 0.02, 2.0, "Oldest goal before the motion is frozen")
    goal_damp_s: float = setting(1.0, "s", 0.1, 10.0, "Oldest goal before the robot is damped")
    joint_pos_margin_rad: float = setting(0.1, "rad", 0.0, 0.5, "How far a joint may be beyond its range")
    joint_speed_ratio: float = setting(1.0, "of the joint's speed", 0.1, 2.0, "Highest joint speed, either way")
    joint_speed_time_s: float = setting(0.02, "s", 0.0, 1.0, "How long a joint must be too fast")
    joint_torque_ratio: float = setting(0.95, "of the joint's peak torque", 0.1, 1.5, "Highest lasting torque")
    joint_torque_time_s: float = setting(1.0, "s", 0.0, 10.0, "How long a torque must be too high")
    temperature_warn_c: float = setting(90.0, "degrees Celsius", 40.0, 150.0, "Motor temperature that is announced")
    temperature_damp_c: float = setting(120.0, "degrees Celsius", 40.0, 150.0, "Motor temperature that damps")
    tilt_rad: float = setting(1.0, "rad", 0.2, 1.5, "Largest angle between the pelvis and the vertical")
    ang_vel_rad_s: float = setting(6.0, "rad/s", 1.0, 20.0, "Highest angular rate of the pelvis")
    ang_vel_time_s: float = setting(0.04, "s", 0.0, 1.0, "How long the pelvis must turn too fast")
    command_jump_rad: float = setting(
        1.5, "rad", 0.1, 5.0, "Largest change of a joint's target from one command to the next"
    )
    command_rate_rad_s: float = setting(
        40.0, "rad/s", 5.0, 500.0, "Highest lasting speed of a joint's target, back and forth counted"
    )
    policy_period_s: float = setting(
        0.025, "s", 0.02, 0.2, "Longest mean step of the policy, each weighted by its length, of 20 ms"
    )
    policy_period_time_s: float = setting(1.0, "s", 0.1, 10.0, "How long the policy's loop must be too slow")
    tracking_error_m: float = setting(0.3, "m", 0.05, 2.0, "Largest mean keypoint distance to the goal, root-aligned")
    tracking_time_s: float = setting(1.0, "s", 0.1, 10.0, "How long the tracking error must last")
    tension_ratio: float = setting(0.6, "of the robot's weight", 0.1, 1.0, "Rope tension at which the robot hangs")
    slack_ratio: float = setting(0.1, "of the robot's weight", 0.01, 0.5, "Rope tension below which it is slack")
    tension_time_s: float = setting(0.1, "s", 0.0, 2.0, "How long the robot must hang")
    tether_required: bool = setting(
        False, "", None, None, "Whether the robot may only be armed hanging in a rope whose tension is measured"
    )
    standing_timeout_s: float = setting(20.0, "s", 3.0, 120.0, "Longest time to reach the standing pose")
    battery_arm: float = setting(0.2, "of full", 0.0, 1.0, "Lowest charge at which the robot may be armed")
    battery_stand: float = setting(0.1, "of full", 0.0, 1.0, "Lowest charge at which a motion goes on")

    def __post_init__(self) -> None:
        check_ranges(self)
        for small, large in (
            ("goal_hold_s", "goal_damp_s"),
            ("temperature_warn_c", "temperature_damp_c"),
            ("slack_ratio", "tension_ratio"),
            ("battery_stand", "battery_arm"),
        ):
            if getattr(self, small) > getattr(self, large):
                raise ConfigError(
                    f"{small} is {getattr(self, small):g}; expected at most {large}, {getattr(self, large):g}"
                )


@dataclass(frozen=True)
class SafetyInputs:
    """What the monitor looks at. Times in ns of receipt on the steady clock; None means never.

    Attributes:
        mode: Of the mode machine.
        mode_since_ns: When it began.
        applied_since_ns: Since when the policy's commands are applied; None when they are not.
        state: The newest robot state.
        bridge_mode: The mode in which the bridge says it drives the motors.
        command: The newest joint command.
        policy_problem: Why the policy cannot run, one line; empty when it can.
        policy_period_s: Length of the policy's last steps, `genmimic.core.desk.step_length_s`; NaN when unknown.
        tracking_error_m: Mean keypoint distance to the goal, in m; NaN when unknown.
        gantry_tension_n: Pull of the rope in N; NaN without a rope or a load cell.
    """

    mode: Mode
    mode_since_ns: int = 0
    applied_since_ns: int | None = None
    state: RobotState | None = None
    state_received_ns: int | None = None
    bridge_mode: Mode | None = None
    command: JointCommand | None = None
    command_received_ns: int | None = None
    goal_received_ns: int | None = None
    policy_received_ns: int | None = None
    policy_problem: str = ""
    policy_period_s: float = math.nan
    tracking_error_m: float = math.nan
    gantry_tension_n: float = math.nan


@dataclass(frozen=True)
class Verdict:
    """A rule that is broken now. ``text`` is one line with units."""

    rule: str
    reaction: Reaction
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True)
class _View:
    """One check: the inputs, the limits, and what the monitor remembers."""

    now_ns: int
    inputs: SafetyInputs
    limits: SafetyLimits
    robot: Robot
    tick_changed_ns: int | None  # receipt of the first state with the present tick
    jump: tuple[int, float] | None  # joint index and rad, of the newest command against the one before
    rates: np.ndarray  # (J,), rad/s: mean speed of the targets over the last `RATE_WINDOW_NS`
    slack_seen: bool  # the rope has been slack since the policy's commands are applied

    def age_s(self, since_ns: int) -> float:
        return (self.now_ns - since_ns) * _S


@dataclass(frozen=True)
class Rule:
    """A line of the table.

    Attributes:
        id: Its name, in reasons and diagnostics.
        watches: What is watched, in words.
        limits: Names of the limits in `SafetyLimits` that it compares with.
        lasts: Name of the limit that says how long it must be broken; empty for at once.
        reaction: What follows.
        modes: Where it is judged.
        over: When it is no longer broken, in words. What DAMP or ESTOP latched needs `reset` besides.
        broken: One line when it is broken, None when it is kept.
    """

    id: str
    watches: str
    limits: tuple[str, ...]
    lasts: str
    reaction: Reaction
    modes: frozenset[Mode]
    over: str
    broken: Callable[[_View], str | None]


# the checks ----------------------------------------------------------------------------------------
def _too_old(what: str, age_s: float, limit_s: float) -> str | None:
    return f"{what} is {1e3 * age_s:.0f} ms old (limit {1e3 * limit_s:.0f} ms)" if age_s > limit_s + 1e-9 else None


def _state_age(view: _View) -> str | None:
    received = view.inputs.state_received_ns
    if received is None:
        return "no robot_state yet; is g1_bridge_node running?"
    return _too_old("state", view.age_s(received), view.limits.state_timeout_s)


def _state_frozen(view: _View) -> str | None:
    if view.tick_changed_ns is None or view.inputs.state_received_ns is None:
        return None
    age = (view.inputs.state_received_ns - view.tick_changed_ns) * _S
    if age <= view.limits.frozen_timeout_s + 1e-9:
        return None
    return f"the robot's tick stands still for {1e3 * age:.0f} ms (limit {1e3 * view.limits.frozen_timeout_s:.0f} ms)"


def _state_finite(view: _View) -> str | None:
    state = view.inputs.state
    if state is None or state.is_finite():
        return None
    for name in ("joint_pos", "joint_vel", "joint_torque"):
        bad = np.flatnonzero(~np.isfinite(getattr(state, name)))
        if bad.size:
            return f"{name} of {view.robot.joint_names[bad[0]]} is not a finite number"
    return "the IMU's reading is not a finite number"


def _bridge_damped(view: _View) -> str | None:
    mode = view.inputs.bridge_mode
    return f"the bridge is {mode.name} by itself; its log says why" if mode in DAMPING else None


def _bridge_follows(view: _View) -> str | None:
    mode, bridge = view.inputs.mode, view.inputs.bridge_mode
    if bridge is None or bridge in _FOLLOWS[mode]:
        return None
    return f"the bridge is {bridge.name} while the mode is {mode.name}"


_FOLLOWS = {
    Mode.DISARMED: frozenset({Mode.DISARMED, Mode.DAMPED, Mode.ESTOP}),
    Mode.STANDING: frozenset({Mode.STANDING, Mode.READY}),
    Mode.READY: frozenset({Mode.READY}),
    Mode.MIMIC: frozenset({Mode.MIMIC}),
    Mode.HOLD: frozenset({Mode.HOLD}),
    Mode.DAMPED: frozenset({Mode.DISARMED, Mode.DAMPED, Mode.ESTOP}),
    Mode.ESTOP: frozenset({Mode.DISARMED, Mode.DAMPED, Mode.ESTOP}),
}


def _bridge_busy(view: _View) -> str | None:
    bridge = view.inputs.bridge_mode
    if bridge in (None, Mode.DISARMED):
        return None
    return f"the bridge is still {bridge.name}; try again in a moment"


def _policy_age(view: _View) -> str | None:
    received = view.inputs.policy_received_ns
    if received is None:
        return "no policy_status yet; is policy_node running?"
    return _too_old("policy status", view.age_s(received), view.limits.policy_timeout_s)


def _policy_fit(view: _View) -> str | None:
    return view.inputs.policy_problem or None


def _command_age(view: _View) -> str | None:
    inputs, limits = view.inputs, view.limits
    since, received = inputs.applied_since_ns, inputs.command_received_ns
    if since is None:
        return None
    if received is None or received < since:
        # nothing since READY began; the policy has a grace, in which the bridge holds the standing pose
        waited = view.age_s(since)
        if waited <= limits.command_grace_s + 1e-9:
            return None
        return f"no joint_command for {1e3 * waited:.0f} ms since READY (limit {1e3 * limits.command_grace_s:.0f} ms)"
    return _too_old("joint command", view.age_s(received), limits.command_timeout_s)


def _command_finite(view: _View) -> str | None:
    command = view.inputs.command
    if command is None or command.is_finite():
        return None
    for name in ("joint_pos", "joint_vel", "joint_torque", "kp", "kd"):
        bad = np.flatnonzero(~np.isfinite(getattr(command, name)))
        if bad.size:
            return f"the command's {name} of {view.robot.joint_names[bad[0]]} is not a finite number"
    return None


def _command_jump(view: _View) -> str | None:
    if view.jump is None or not view.jump[1] > view.limits.command_jump_rad + 1e-9:
        return None
    joint, jump = view.jump
    return (
        f"the target of {view.robot.joint_names[joint]} moved {jump:.2f} rad between two commands "
        f"(limit {view.limits.command_jump_rad:.2f} rad)"
    )


def _command_rate(view: _View) -> str | None:
    joint = int(view.rates.argmax())
    if not view.rates[joint] > view.limits.command_rate_rad_s + 1e-9:
        return None
    return (
        f"the target of {view.robot.joint_names[joint]} moved at {view.rates[joint]:.0f} rad/s over "
        f"{RATE_WINDOW_NS * _S * 1e3:.0f} ms (limit {view.limits.command_rate_rad_s:.0f} rad/s)"
    )


def _policy_period(view: _View) -> str | None:
    period, limit = view.inputs.policy_period_s, view.limits.policy_period_s
    if not period > limit + 1e-9:  # false where unknown (NaN)
        return None
    return f"the policy's loop takes {1e3 * period:.0f} ms per step (limit {1e3 * limit:.0f} ms)"


def _goal_age(limit: str) -> Callable[[_View], str | None]:
    def broken(view: _View) -> str | None:
        inputs, limit_s = view.inputs, getattr(view.limits, limit)
        if inputs.goal_received_ns is not None:
            return _too_old("goal", view.age_s(inputs.goal_received_ns), limit_s)
        if inputs.applied_since_ns is None or view.age_s(inputs.applied_since_ns) <= limit_s + 1e-9:
            return None
        return f"no goal_keypoints since READY (limit {1e3 * limit_s:.0f} ms); is motion_reference_node running?"

    return broken


def _joint_pos(view: _View) -> str | None:
    state, robot = view.inputs.state, view.robot
    if state is None:
        return None
    beyond = np.maximum(robot.joint_lower - state.joint_pos, state.joint_pos - robot.joint_upper)
    joint = int(beyond.argmax())
    if not beyond[joint] > view.limits.joint_pos_margin_rad + 1e-9:
        return None
    return (
        f"{robot.joint_names[joint]} is at {state.joint_pos[joint]:.2f} rad, {beyond[joint]:.2f} rad beyond its range "
        f"(limit {view.limits.joint_pos_margin_rad:.2f} rad)"
    )


def _joint_vel(view: _View) -> str | None:
    state, robot = view.inputs.state, view.robot
    if state is None:
        return None
    limit = view.limits.joint_speed_ratio * robot.joint_speed
    ratio = np.abs(state.joint_vel) / limit
    joint = int(ratio.argmax())
    if not ratio[joint] > 1.0 + 1e-9:
        return None
    return (
        f"{robot.joint_names[joint]} turns at {state.joint_vel[joint]:.1f} rad/s (limit {limit[joint]:.1f} rad/s, "
        "either way)"
    )


def _joint_torque(view: _View) -> str | None:
    state, robot = view.inputs.state, view.robot
    if state is None:
        return None
    limit = view.limits.joint_torque_ratio * robot.joint_effort
    ratio = np.abs(state.joint_torque) / limit
    joint = int(ratio.argmax())
    if not ratio[joint] > 1.0 + 1e-9:
        return None
    return f"{robot.joint_names[joint]} gives {state.joint_torque[joint]:.0f} N m (limit {limit[joint]:.0f} N m)"


def _temperature(limit: str) -> Callable[[_View], str | None]:
    def broken(view: _View) -> str | None:
        state, limit_c = view.inputs.state, getattr(view.limits, limit)
        if state is None:
            return None
        over = np.flatnonzero(state.joint_temperature > limit_c + 1e-9)  # false where unknown (NaN)
        if not over.size:
            return None
        joint = over[state.joint_temperature[over].argmax()]
        return (
            f"the motor of {view.robot.joint_names[joint]} is at {state.joint_temperature[joint]:.0f} degrees Celsius "
            f"(limit {limit_c:.0f})"
        )

    return broken


def tilt_rad(base_quat_w: np.ndarray) -> float:
    """Return the angle between the base's z axis and the vertical, in rad. Shape (4,), wxyz."""
    _, x, y, _ = base_quat_w
    cosine = 1.0 - 2.0 * (x * x + y * y)
    return math.acos(min(1.0, max(-1.0, cosine))) if math.isfinite(cosine) else math.nan


def _tilt(view: _View) -> str | None:
    if view.inputs.state is None:
        return None
    tilt = tilt_rad(view.inputs.state.base_quat_w)
    if not tilt > view.limits.tilt_rad + 1e-9:
        return None
    return f"the pelvis tilts by {tilt:.2f} rad (limit {view.limits.tilt_rad:.2f} rad)"


def _ang_vel(view: _View) -> str | None:
    if view.inputs.state is None:
        return None
    rate = float(np.sqrt((view.inputs.state.base_ang_vel_b**2).sum()))
    if not rate > view.limits.ang_vel_rad_s + 1e-9:
        return None
    return f"the pelvis turns at {rate:.1f} rad/s (limit {view.limits.ang_vel_rad_s:.1f} rad/s)"


def _tracking(view: _View) -> str | None:
    error, limit = view.inputs.tracking_error_m, view.limits.tracking_error_m
    if not error > limit + 1e-9:
        return None
    return f"the keypoints are {100 * error:.0f} cm from their goals on average (limit {100 * limit:.0f} cm)"


def _gantry(view: _View) -> str | None:
    weight = view.robot.mass * GRAVITY_M_S2
    tension, limit = view.inputs.gantry_tension_n, view.limits.tension_ratio * weight
    if not (view.slack_seen and tension > limit + 1e-6):
        return None
    return f"the rope carries {tension:.0f} N of {weight:.0f} N (limit {limit:.0f} N): the robot hangs, so it fell"


def _untethered(view: _View) -> str | None:
    least = view.limits.slack_ratio * view.robot.mass * GRAVITY_M_S2
    if not view.limits.tether_required or view.inputs.gantry_tension_n >= least - 1e-6:
        return None
    tension = view.inputs.gantry_tension_n
    found = "is not measured" if math.isnan(tension) else f"carries {tension:.0f} N"
    return f"the rope {found} (at least {least:.0f} N): the robot must hang in the gantry"


def _tether_lost(view: _View) -> str | None:
    if not (view.limits.tether_required and math.isnan(view.inputs.gantry_tension_n)):
        return None
    return "the rope's tension is not measured any more, and a rope is required"


def _standing(view: _View) -> str | None:
    waited = view.age_s(view.inputs.mode_since_ns)
    if waited <= view.limits.standing_timeout_s + 1e-9:
        return None
    return f"the robot does not stand after {waited:.0f} s (limit {view.limits.standing_timeout_s:.0f} s)"


def _battery(limit: str) -> Callable[[_View], str | None]:
    def broken(view: _View) -> str | None:
        state, least = view.inputs.state, getattr(view.limits, limit)
        if state is None or not state.battery < least - 1e-9:  # false where unknown (NaN)
            return None
        return f"the battery is at {100 * state.battery:.0f} % (limit {100 * least:.0f} %)"

    return broken


def _link(fault: str) -> Callable[[_View], str | None]:
    """Return a check for something that the robot's link has found; the bridge judges it, with its own limits."""

    def broken(view: _View) -> str | None:
        state = view.inputs.state
        if state is None:
            return None
        return next((text.partition(": ")[2] for text in state.link_faults if text.startswith(f"{fault}: ")), None)

    return broken


_UPRIGHT = ARMED | _DISARMED
_MIMIC = frozenset({Mode.MIMIC})

RULES: tuple[Rule, ...] = (
    # fmt: off
    Rule(
        "state_age",
        "time since the last `robot_state`",
        ("state_timeout_s",),
        "",
        Reaction.DAMP,
        _ALL,
        "state arrives",
        _state_age,
    ),
    Rule(
        "state_frozen",
        "time since the robot's tick last changed",
        ("frozen_timeout_s",),
        "",
        Reaction.DAMP,
        _ALL,
        "the tick moves",
        _state_frozen,
    ),
    Rule("state_finite", "every number of the state", (), "", Reaction.DAMP, _ALL, "all are finite", _state_finite),
    Rule(
        "bridge_damped",
        "the bridge has damped by itself",
        (),
        "",
        Reaction.DAMP,
        ARMED,
        "the bridge no longer says so",
        _bridge_damped,
    ),
    Rule(
        "bridge_follows",
        "the bridge's mode against the one asked for",
        (),
        "follow_timeout_s",
        Reaction.DAMP,
        _ALL,
        "they agree",
        _bridge_follows,
    ),
    Rule(
        "bridge_busy",
        "the bridge has seen DISARMED",
        (),
        "",
        Reaction.BLOCK,
        _DISARMED,
        "the bridge says DISARMED",
        _bridge_busy,
    ),
    Rule(
        "policy_age",
        "time since the last `policy_status`",
        ("policy_timeout_s",),
        "",
        Reaction.BLOCK,
        _ALL,
        "status arrives",
        _policy_age,
    ),
    Rule(
        "policy_fit",
        "the policy's own state",
        (),
        "",
        Reaction.BLOCK,
        _ALL,
        "a policy is loaded and has no error",
        _policy_fit,
    ),
    Rule(
        "command_age",
        "time since the last `joint_command` (the first one after READY has a grace)",
        ("command_timeout_s", "command_grace_s"),
        "",
        Reaction.DAMP,
        APPLIED,
        "a command arrives",
        _command_age,
    ),
    Rule(
        "command_finite",
        "every number of the command",
        (),
        "",
        Reaction.DAMP,
        APPLIED,
        "all are finite",
        _command_finite,
    ),
    Rule(
        "command_jump",
        "change of a joint's target between two commands",
        ("command_jump_rad",),
        "",
        Reaction.DAMP,
        APPLIED,
        "the next command",
        _command_jump,
    ),
    Rule(
        "command_rate",
        "mean speed of a joint's target over the last 200 ms, back and forth counted",
        ("command_rate_rad_s",),
        "",
        Reaction.DAMP,
        APPLIED,
        "slower again",
        _command_rate,
    ),
    Rule(
        "policy_period",
        "length of the policy's steps over the last second, each weighted by its length",
        ("policy_period_s",),
        "policy_period_time_s",
        Reaction.STAND,
        APPLIED,
        "faster again",
        _policy_period,
    ),
    Rule(
        "goal_age",
        "time since the last `goal_keypoints`",
        ("goal_hold_s",),
        "",
        Reaction.HOLD,
        APPLIED,
        "a goal arrives",
        _goal_age("goal_hold_s"),
    ),
    Rule(
        "goal_lost",
        "time since the last `goal_keypoints`",
        ("goal_damp_s",),
        "",
        Reaction.DAMP,
        APPLIED,
        "a goal arrives",
        _goal_age("goal_damp_s"),
    ),
    Rule(
        "joint_pos",
        "distance of a joint beyond its range",
        ("joint_pos_margin_rad",),
        "",
        Reaction.DAMP,
        _UPRIGHT,
        "within again",
        _joint_pos,
    ),
    Rule(
        "joint_vel",
        "joint speed, either way",
        ("joint_speed_ratio",),
        "joint_speed_time_s",
        Reaction.DAMP,
        _ALL,
        "slower again",
        _joint_vel,
    ),
    Rule(
        "joint_torque",
        "joint torque, either way",
        ("joint_torque_ratio",),
        "joint_torque_time_s",
        Reaction.DAMP,
        ARMED,
        "lower again",
        _joint_torque,
    ),
    Rule(
        "temperature_warn",
        "hottest motor",
        ("temperature_warn_c",),
        "",
        Reaction.WARN,
        _ALL,
        "cooler again",
        _temperature("temperature_warn_c"),
    ),
    Rule(
        "temperature",
        "hottest motor",
        ("temperature_damp_c",),
        "",
        Reaction.DAMP,
        _ALL,
        "cooler again",
        _temperature("temperature_damp_c"),
    ),
    Rule(
        "tilt",
        "angle between the pelvis and the vertical",
        ("tilt_rad",),
        "",
        Reaction.DAMP,
        _UPRIGHT,
        "upright again",
        _tilt,
    ),
    Rule(
        "ang_vel",
        "angular rate of the pelvis",
        ("ang_vel_rad_s",),
        "ang_vel_time_s",
        Reaction.DAMP,
        ARMED,
        "slower again",
        _ang_vel,
    ),
    Rule(
        "tracking",
        "mean keypoint distance to the goal, root- and heading-aligned",
        ("tracking_error_m",),
        "tracking_time_s",
        Reaction.HOLD,
        _MIMIC,
        "closer again",
        _tracking,
    ),
    Rule(
        "gantry",
        "rope tension, once the rope was slack",
        ("tension_ratio",),
        "tension_time_s",
        Reaction.DAMP,
        APPLIED,
        "the rope is slack, or not measured",
        _gantry,
    ),
    Rule(
        "untethered",
        "rope tension, where a tether is required",
        ("slack_ratio", "tether_required"),
        "",
        Reaction.BLOCK,
        _DISARMED,
        "the rope carries more",
        _untethered,
    ),
    Rule(
        "tether_lost",
        "whether the rope's tension is measured, where a tether is required",
        ("tether_required",),
        "",
        Reaction.STAND,
        APPLIED,
        "measured again",
        _tether_lost,
    ),
    Rule(
        "standing",
        "time in STANDING",
        ("standing_timeout_s",),
        "",
        Reaction.DAMP,
        frozenset({Mode.STANDING}),
        "never while STANDING",
        _standing,
    ),
    Rule(
        "battery_arm",
        "state of charge",
        ("battery_arm",),
        "",
        Reaction.BLOCK,
        _DISARMED | {Mode.READY, Mode.HOLD},
        "charged",
        _battery("battery_arm"),
    ),
    Rule(
        "battery",
        "state of charge",
        ("battery_stand",),
        "",
        Reaction.STAND,
        APPLIED,
        "charged",
        _battery("battery_stand"),
    ),
    Rule(
        "controller",
        "hardware: the robot's own controller, and whatever keeps the bridge from commanding",
        (),
        "",
        Reaction.BLOCK,
        _ALL,
        "released",
        _link("controller"),
    ),
    Rule(
        "guard",
        "hardware: the process that damps when the bridge has died",
        (),
        "",
        Reaction.STAND,
        _ALL,
        "the bridge is started again",
        _link("guard"),
    ),
    Rule(
        "overrun",
        "hardware: steps that the bridge's loop has made in the last second, of 500",
        ("overrun_ratio",),
        "",
        Reaction.STAND,
        _ALL,
        "more again",
        _link("overrun"),
    ),
    Rule(
        "second_writer",
        "hardware: commands of another process",
        (),
        "",
        Reaction.DAMP,
        _ALL,
        "none for 1 s",
        _link("second_writer"),
    ),
    Rule(
        "mode_machine",
        "hardware: the robot's `mode_machine`",
        (),
        "",
        Reaction.DAMP,
        _ALL,
        "as at the start",
        _link("mode_machine"),
    ),
    Rule(
        "silence",
        "hardware: time since the robot was last heard",
        ("link_timeout_s",),
        "",
        Reaction.DAMP,
        _ALL,
        "heard again",
        _link("silence"),
    ),
    Rule(
        "wrong_crc",
        "hardware: share of wrong checksums",
        ("wrong_crc_ratio",),
        "",
        Reaction.DAMP,
        _ALL,
        "fewer",
        _link("wrong_crc"),
    ),
    Rule(
        "state_late",
        "hardware: delay of the robot's state against its best",
        ("link_late_s",),
        "",
        Reaction.DAMP,
        _ALL,
        "in time again",
        _link("state_late"),
    ),
    Rule(
        "joint_frozen",
        "hardware: time for which one joint reads the same, to the last bit",
        ("joint_frozen_s",),
        "",
        Reaction.DAMP,
        APPLIED,
        "it changes",
        _link("joint_frozen"),
    ),
    Rule(
        "remote_lost",
        "hardware: time since the remote was last heard",
        ("remote_lost_s",),
        "",
        Reaction.STAND,
        _ALL,
        "heard again",
        _link("remote_lost"),
    ),
    # fmt: on
)
"""The table. Order matters only among equally bad verdicts: the first is named first."""


class SafetyMonitor:
    """Judges the rules. Remembers how long each has been broken, and little else; holds no clock.

    Args:
        robot: Whose limits apply.
        limits: The numbers.
        rules: The table.
    """

    def __init__(self, robot: Robot, limits: SafetyLimits | None = None, rules: Sequence[Rule] = RULES) -> None:
        self._robot, self._limits, self._rules = robot, limits or SafetyLimits(), tuple(rules)
        self._broken_since_ns: dict[str, int] = {}
        self._tick: int | None = None
        self._tick_changed_ns: int | None = None
        self._last_command: JointCommand | None = None
        self._jump: tuple[int, float] | None = None
        self._moves: deque[tuple[int, np.ndarray]] = deque()  # receipt, ns, and change of the targets (J,)
        self._slack_seen = False

    @property
    def limits(self) -> SafetyLimits:
        """The numbers in force."""
        return self._limits

    def check(self, now_ns: int, inputs: SafetyInputs) -> list[Verdict]:
        """Return the rules that are broken now, worst first; an empty list when all is well.

        A rule with a duration must be broken at every check for that long. So check at a steady
        rate; what comes and goes between two checks is not seen.
        """
        self._remember(inputs)
        view = _View(
            now_ns, inputs, self._limits, self._robot, self._tick_changed_ns, self._jump, self._rates(now_ns),
            self._slack_seen,
        )  # fmt: skip
        verdicts = []
        for rule in self._rules:
            text = rule.broken(view) if inputs.mode in rule.modes else None
            if text is None:
                self._broken_since_ns.pop(rule.id, None)
                continue
            since = self._broken_since_ns.setdefault(rule.id, now_ns)
            lasts = getattr(self._limits, rule.lasts) if rule.lasts else 0.0
            if (now_ns - since) * _S >= lasts - 1e-9:
                verdicts.append(Verdict(rule.id, rule.reaction, text))
        return sorted(verdicts, key=lambda verdict: -verdict.reaction)

    def _remember(self, inputs: SafetyInputs) -> None:
        if inputs.state is not None and inputs.state.tick != self._tick:
            self._tick, self._tick_changed_ns = inputs.state.tick, inputs.state_received_ns
        command, last = inputs.command, self._last_command
        if command is not None and (last is None or command.sequence != last.sequence):
            self._jump = None
            if last is not None and command.is_finite() and last.is_finite():
                change = np.abs(command.joint_pos - last.joint_pos)
                self._moves.append((inputs.command_received_ns or 0, change))
                # a lost command is no jump; a number that goes back, as of another speaker, hides none
                change = change / max(1, command.sequence - last.sequence)
                self._jump = (int(change.argmax()), float(change.max()))
            self._last_command = command
        if inputs.mode not in APPLIED:
            self._slack_seen = False
        elif inputs.gantry_tension_n < self._limits.slack_ratio * self._robot.mass * GRAVITY_M_S2:
            self._slack_seen = True

    def _rates(self, now_ns: int) -> np.ndarray:
        """Return how far each target has moved in the window, per second. Shape (J,), rad/s."""
        moves = self._moves
        while moves and now_ns - moves[0][0] >= RATE_WINDOW_NS:
            moves.popleft()
        way = sum((change for _, change in moves), np.zeros(self._robot.num_joints))
        return way / (RATE_WINDOW_NS * _S)


def worst(verdicts: Sequence[Verdict]) -> Reaction:
    """Return the worst reaction of ``verdicts``, OK when there is none."""
    return max((verdict.reaction for verdict in verdicts), default=Reaction.OK)


def lines(verdicts: Sequence[Verdict], at_least: Reaction) -> list[str]:
    """Return one line per verdict at least as bad as ``at_least``, worst first."""
    return [str(verdict) for verdict in verdicts if verdict.reaction >= at_least]


# the table for people --------------------------------------------------------------------------------
def rule_table(*settings: Any, rules: Sequence[Rule] = RULES) -> str:
    """Return the rules as a Markdown table, with the numbers of ``settings``: dataclasses that hold the limits."""
    rows = [
        "| Rule | Watched | Limit | For | Reaction | Judged in | Over when |",
        "|---|---|---|---|---|---|---|",
    ]
    for rule in rules:
        limit = ", ".join(quantity(settings, name) for name in rule.limits) or "-"
        lasts = quantity(settings, rule.lasts) if rule.lasts else "at once"
        rows.append(
            f"| `{rule.id}` | {rule.watches} | {limit} | {lasts} | {rule.reaction.name} | {_modes(rule.modes)} "
            f"| {rule.over} |"
        )
    return "\n".join(rows) + "\n"


def quantity(settings: Sequence[Any], name: str) -> str:
    """Return a setting's number with its unit, for people; ``settings`` are the dataclasses to look in."""
    known = {item.name: (each, item) for each in settings for item in fields(each)}
    found = known[name]
    value, unit = getattr(found[0], name), found[1].metadata["unit"]
    if isinstance(value, bool):
        return f"`{name}`"
    if unit == "s" and value < 1.0:
        return f"{1e3 * value:g} ms"
    if unit.startswith("of "):
        return f"{100 * value:g} % {unit}"
    return f"{value:g} {unit}"


def _modes(modes: frozenset[Mode]) -> str:
    for name, known in (("every mode", _ALL), ("DISARMED, armed", _UPRIGHT), ("armed", ARMED), ("policy", APPLIED)):
        if modes == known:
            return name
    return ", ".join(mode.name for mode in sorted(modes))
