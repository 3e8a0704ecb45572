# SPDX-License-Identifier: Apache-2.0
"""The gate: the bridge's own last line. What passes here reaches the motors; nothing else does.

It trusts nobody. The safety monitor may be dead, the policy may be dead or mad, and the robot must
still not stay stiff. Times are passed in, in ns on the bridge's steady clock, and run from receipt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from genmimic.core.modes import APPLIED, ARMED, DAMPING, Mode
from genmimic.core.robot import Robot
from genmimic.core.settings import check_ranges, setting
from genmimic.core.state import JointCommand, RobotState, all_finite, damping_command, position_command

_S = 1e-9  # s per ns


@dataclass(frozen=True)
class GateConfig:
    """Numbers of the gate. A field's description, unit and range are in its metadata.

    Raises:
        ConfigError: A value is outside its range.
    """

    command_timeout_s: float = setting(0.05, "s", 0.02, 1.0, "Silence of the policy after which the robot is damped")
    heartbeat_timeout_s: float = setting(
        0.1, "s", 0.03, 1.0, "Silence of the safety monitor after which the robot is damped"
    )
    command_grace_s: float = setting(0.5, "s", 0.0, 2.0, "Time the policy has for its first command after READY")
    stand_time_s: float = setting(2.0, "s", 1.0, 20.0, "Shortest time to move into the standing pose")
    stand_speed_rad_s: float = setting(0.5, "rad/s", 0.05, 2.0, "Mean speed of the widest joint on that way")
    target_step_rad: float = setting(
        1.0, "rad", 0.05, 5.0, "Largest change of a joint's target from one command to the next; more is cut off"
    )
    limit_torque_ratio: float = setting(
        0.5, "of the joint's peak torque", 0.0, 1.0, "Torque with which a target beyond a joint's range may press there"
    )
    damping_kd: float = setting(8.0, "N m s/rad", 1.0, 20.0, "Damping of a robot without stiffness")
    damping_ramp_s: float = setting(0.2, "s", 0.0, 2.0, "Time in which stiffness fades when damping begins")

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class GateResult:
    """What the motors get.

    Attributes:
        command: Always finite and within the robot's table.
        mode: What the bridge does, which may be less than what was asked for.
        reason: Why it is DAMPED or ESTOP, one line; the first cause stays. Empty in other modes.
    """

    command: JointCommand
    mode: Mode
    reason: str


class _View(NamedTuple):
    """One step: what is asked for, what is measured, and where the gate is."""

    now_ns: int
    mode: Mode | None
    heartbeat_ns: int | None
    command: JointCommand | None
    command_ns: int | None
    state: RobotState | None
    config: GateConfig
    before: Mode  # of the step before
    standing: bool  # whether the way into the standing pose is complete
    policy_speaks: bool
    applied_s: float  # how long the policy's commands have been asked for
    shape: tuple[int, ...]
    sound: JointCommand | None  # the last command that was found so: it comes again until the policy's next one


@dataclass(frozen=True)
class GateRule:
    """A line of the bridge's own table. Each damps at once, until the monitor says DISARMED with a live heart.

    Attributes:
        id: Its name.
        watches: What is watched, in words.
        limits: Names of the settings in `GateConfig` that it compares with.
        modes: Of the monitor, in which it is judged; None for all, also none.
        broken: One line when it is broken; empty when it is kept.
    """

    id: str
    watches: str
    limits: tuple[str, ...]
    modes: frozenset[Mode] | None
    broken: Callable[[_View], str]


def _heartbeat(view: _View) -> str:
    limit = view.config.heartbeat_timeout_s
    if view.heartbeat_ns is None:
        return "no safety heartbeat yet"
    age = (view.now_ns - view.heartbeat_ns) * _S
    if age > limit + 1e-9:
        return f"the safety heartbeat is {1e3 * age:.0f} ms old (limit {1e3 * limit:.0f} ms)"
    return ""


def _mode_asked(view: _View) -> str:
    if view.mode in DAMPING:
        return f"the safety monitor says {view.mode.name}"
    return "" if view.mode in ARMED else f"mode {view.mode!r} is none that moves the robot"


def _state_there(view: _View) -> str:
    return "no robot state" if view.state is None else ""


def _state_finite(view: _View) -> str:
    return "" if view.state is None or view.state.is_finite() else "the robot's state is not finite"


def _ladder(view: _View) -> str:
    assert view.mode is not None
    if view.before not in ARMED:
        return f"{view.mode.name} without STANDING before it"
    if view.before is Mode.STANDING and not view.standing:
        return f"{view.mode.name} before the robot stands"
    return ""


def _command_age(view: _View) -> str:
    limit, grace = view.config.command_timeout_s, view.config.command_grace_s
    unknown = view.command is None or view.command_ns is None
    age = None if unknown else (view.now_ns - view.command_ns) * _S  # type: ignore[operator]
    if age is not None and age <= limit + 1e-9:
        return ""
    if view.policy_speaks:
        text = "missing" if age is None else f"{1e3 * age:.0f} ms old (limit {1e3 * limit:.0f} ms)"
        return f"the joint command is {text}"
    return f"no joint command within {1e3 * grace:.0f} ms of READY" if view.applied_s > grace + 1e-9 else ""


def _command_sound(view: _View) -> str:
    if view.command is None or view.command is view.sound:
        return ""
    for name in ("joint_pos", "joint_vel", "joint_torque", "kp", "kd"):
        value = getattr(view.command, name)
        if np.shape(value) != view.shape:
            return f"the command's {name} has shape {np.shape(value)}, expected {view.shape}"
        if not all_finite(value):
            return f"the command's {name} is not finite"
    return ""


RULES = (
    GateRule("heartbeat", "time since the monitor's heartbeat last rose", ("heartbeat_timeout_s",), None, _heartbeat),
    GateRule("mode", "the monitor's mode: DAMPED, ESTOP, or none that is known", (), None, _mode_asked),
    GateRule("state", "whether the robot is heard", (), ARMED, _state_there),
    GateRule("state_finite", "every number of the state", (), ARMED, _state_finite),
    GateRule("ladder", "whether STANDING was complete before", (), APPLIED, _ladder),
    GateRule(
        "command_age", "time since the policy's last command (the first one after READY has a grace)",
        ("command_timeout_s", "command_grace_s"), APPLIED, _command_age,
    ),
    GateRule("command_sound", "shape and every number of the command in force", (), APPLIED, _command_sound),
)  # fmt: skip
"""The bridge's own table, judged in this order at each of its steps; the first that is broken is named."""


class Heartbeat:
    """Follows a counter that must rise. Silence and a counter that stands still look the same."""

    def __init__(self) -> None:
        self._counter: int | None = None
        self.received_ns: int | None = None
        """When the counter last rose; None before the second beat."""

    def beat(self, now_ns: int, counter: int) -> None:
        """Take a message's counter. One that fell belongs to a restarted sender: it counts from the next on."""
        if self._counter is not None and counter > self._counter:
            self.received_ns = now_ns
        self._counter = counter


class CommandGate:
    """Decides, at each control step of the bridge, what the motors get.

    - DISARMED, DAMPED, ESTOP: braking. Stiffness fades over a moment instead of dropping the robot.
    - STANDING: a smooth way from the measured pose to the standing pose, made here.
    - READY, MIMIC, HOLD: the policy's command, with targets and gains limited to the robot's table.

    It damps by itself on anything that is not finite or of the wrong shape, on the policy's silence,
    on the safety monitor's silence, and on a mode it should not have been given. Whatever the reason,
    the robot then stays damped until the monitor's mode has been DISARMED, with a live heartbeat. So
    a bridge that starts while the monitor says MIMIC damps as well.

    Args:
        robot: Its table of limits and gains.
        config: Timeouts and ramps.
    """

    def __init__(self, robot: Robot, config: GateConfig | None = None) -> None:
        self._robot, self._config = robot, config or GateConfig()
        zero = np.zeros(robot.num_joints)
        self._last = replace(damping_command(robot, robot.default_joint_pos, 0.0), kd=zero)
        self._pose = np.asarray(robot.default_joint_pos, float)  # the last finite pose that was measured
        self._mode = Mode.DAMPED
        self._tripped = "waiting for the safety monitor to say DISARMED"
        self._sequence = 0
        self._since_ns = 0
        self._ramp: tuple[np.ndarray, int, float] | None = None  # from pose (J,), start ns, seconds
        self._ramp_weight = 0.0
        self._damp: tuple[JointCommand, np.ndarray, int] | None = None  # last stiff command, pose (J,), start ns
        self._limp: JointCommand | None = None  # what that ends in
        self._policy_speaks = False
        self._sound: JointCommand | None = None
        self._taken: int | None = None  # sequence of the policy's command in force
        ahead = self._config.limit_torque_ratio * robot.joint_effort / robot.kp
        self._lower, self._upper = robot.joint_lower - ahead, robot.joint_upper + ahead

    @property
    def config(self) -> GateConfig:
        """The numbers in force."""
        return self._config

    @property
    def standing(self) -> bool:
        """Whether the way into the standing pose is complete."""
        return self._mode is Mode.STANDING and self._ramp is not None and self._ramp_weight >= 1.0

    @property
    def policy_speaks(self) -> bool:
        """Whether the policy's commands reach the motors."""
        return self._policy_speaks

    def gate(
        self,
        now_ns: int,
        mode: Mode | None,
        heartbeat_received_ns: int | None,
        command: JointCommand | None,
        command_received_ns: int | None,
        state: RobotState | None,
    ) -> GateResult:
        """Return what the motors get now.

        Args:
            now_ns: The bridge's steady clock.
            mode: What the safety monitor asks for; None before its first word.
            heartbeat_received_ns: When its heartbeat last rose (see `Heartbeat`); None for never.
            command: The policy's newest command.
            command_received_ns: When it came.
            state: What the robot measures now.
        """
        if state is not None and state.joint_pos.shape == self._pose.shape and all_finite(state.joint_pos):
            self._pose = state.joint_pos
        if mode is Mode.DISARMED and self._alive(now_ns, heartbeat_received_ns):
            self._tripped = ""
            return self._brake(now_ns, Mode.DISARMED, "")
        if not self._tripped:
            self._tripped = self._problem(now_ns, mode, heartbeat_received_ns, command, command_received_ns, state)
        if self._tripped:
            return self._brake(now_ns, Mode.ESTOP if mode is Mode.ESTOP else Mode.DAMPED, self._tripped)
        assert mode is not None and state is not None
        if mode is Mode.STANDING:
            return self._stand(now_ns, state)
        return self._follow(now_ns, mode, command, command_received_ns)

    def trip(self, reason: str) -> None:
        """Damp from the next call on, until the monitor's mode has been DISARMED."""
        self._tripped = self._tripped or reason

    def _alive(self, now_ns: int, received_ns: int | None) -> bool:
        limit = self._config.heartbeat_timeout_s
        return received_ns is not None and (now_ns - received_ns) * _S <= limit + 1e-9

    def _problem(
        self,
        now_ns: int,
        mode: Mode | None,
        heartbeat_ns: int | None,
        command: JointCommand | None,
        command_ns: int | None,
        state: RobotState | None,
    ) -> str:
        """Return why the robot must be damped; empty when it need not."""
        applied_s = (now_ns - self._since_ns) * _S if self._mode in APPLIED else 0.0
        view = _View(
            now_ns, mode, heartbeat_ns, command, command_ns, state, self._config, self._mode, self.standing,
            self._policy_speaks, applied_s, self._pose.shape, self._sound,
        )  # fmt: skip
        for rule in RULES:
            if rule.modes is None or mode in rule.modes:
                problem = rule.broken(view)
                if problem:
                    return problem
        self._sound = command if mode in APPLIED else None
        return ""

    # what then -------------------------------------------------------------------------------------
    def _brake(self, now_ns: int, mode: Mode, reason: str) -> GateResult:
        """Hold the pose with fading stiffness, then only brake."""
        if self._damp is None:
            # a pose that is measured wrongly must not pull: no further than any other command may go
            step, target = self._config.target_step_rad, self._last.joint_pos
            pose = np.clip(self._pose, target - step, target + step) if self._last.kp.any() else self._pose
            self._damp, self._limp = (self._last, np.clip(pose, self._lower, self._upper), now_ns), None
        before, pose, since_ns = self._damp
        ramp = self._config.damping_ramp_s
        done = 1.0 if ramp == 0.0 else min(1.0, max(0.0, (now_ns - since_ns) * _S / ramp))
        if done >= 1.0 and self._limp is not None:
            command = self._limp
        else:
            command = damping_command(self._robot, pose, self._config.damping_kd)
            if done < 1.0:
                command = replace(
                    command, kp=(1.0 - done) * before.kp, kd=before.kd + done * (command.kd - before.kd)
                )  # fmt: skip
            else:
                self._limp = command
        self._ramp, self._policy_speaks, self._taken = None, False, None
        return self._send(now_ns, command, mode, reason, braking=True)

    def _stand(self, now_ns: int, state: RobotState) -> GateResult:
        target = self._robot.default_joint_pos
        if self._ramp is None or self._mode is not Mode.STANDING:
            way = float(np.abs(target - state.joint_pos).max())
            seconds = max(self._config.stand_time_s, way / self._config.stand_speed_rad_s)
            self._ramp, self._ramp_weight = (state.joint_pos.copy(), now_ns, seconds), 0.0
        start, since_ns, seconds = self._ramp
        t = min(1.0, (now_ns - since_ns) * _S / seconds)
        self._ramp_weight = t * t * t * (10.0 + t * (6.0 * t - 15.0))  # starts and ends without speed and acceleration
        self._policy_speaks, self._taken = False, None
        pose = start + self._ramp_weight * (target - start) if t < 1.0 else target
        return self._send(now_ns, position_command(self._robot, pose), Mode.STANDING, "")

    def _follow(self, now_ns: int, mode: Mode, command: JointCommand | None, received_ns: int | None) -> GateResult:
        robot = self._robot
        fresh = (
            command is not None
            and received_ns is not None
            and (now_ns - received_ns) * _S <= self._config.command_timeout_s + 1e-9
        )
        if not fresh:  # the grace after READY
            return self._send(now_ns, position_command(robot, robot.default_joint_pos), mode, "")
        assert command is not None
        self._policy_speaks = True
        if command.sequence == self._taken:
            return self._send(now_ns, self._last, mode, "")
        self._taken = command.sequence
        # A step, not a speed: a command within it passes unchanged and at once, as in training.
        step = self._config.target_step_rad
        target = np.clip(command.joint_pos, self._last.joint_pos - step, self._last.joint_pos + step)
        limited = JointCommand(
            stamp_ns=command.stamp_ns,
            sequence=0,
            joint_pos=np.clip(target, self._lower, self._upper),
            joint_vel=np.clip(command.joint_vel, -robot.joint_speed, robot.joint_speed),
            joint_torque=np.clip(command.joint_torque, -robot.joint_effort, robot.joint_effort),
            kp=np.clip(command.kp, 0.0, robot.kp),
            kd=np.clip(command.kd, 0.0, robot.kd),
            action=command.action,
        )
        return self._send(now_ns, limited, mode, "")

    def _send(self, now_ns: int, command: JointCommand, mode: Mode, reason: str, braking: bool = False) -> GateResult:
        if not braking:
            self._damp = None
        if mode is not self._mode and not (mode in APPLIED and self._mode in APPLIED):
            self._since_ns = now_ns  # READY, MIMIC and HOLD are one stretch
        self._mode = mode
        self._sequence += 1
        self._last = JointCommand(  # `replace` takes three times as long
            now_ns, self._sequence, command.joint_pos, command.joint_vel, command.joint_torque, command.kp, command.kd,
            command.action,
        )  # fmt: skip
        return GateResult(self._last, mode, reason)
