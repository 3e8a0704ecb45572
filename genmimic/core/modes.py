# SPDX-License-Identifier: Apache-2.0
"""The modes of the robot and the events between them. No clock: times are passed in.

    DISARMED --arm--> STANDING --stood--> READY --start--> MIMIC --pause--> HOLD
        ^                 |                 ^                |  ^             |
        |                 |                 +-- stop, motion_done             |
        +------stop-------+                 ^                   +---start-----+
        |                                   +-------stop, or a rule-----------+
        +--reset-- DAMPED or ESTOP <-- a fault or `estop`, from anywhere

The values of `Mode` are those of ``msg/SafetyStatus.msg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Mode(IntEnum):
    """What the bridge shall do with the motors."""

    DISARMED = 0
    """Motors only brake; the robot hangs or lies."""
    STANDING = 1
    """The bridge alone moves the robot into the standing pose and holds it there."""
    READY = 2
    """The policy's commands are applied; it tracks standing."""
    MIMIC = 3
    """The policy's commands are applied; the motion plays."""
    HOLD = 4
    """The policy's commands are applied; the goal is frozen."""
    DAMPED = 5
    """Motors only brake, after a fault; `reset` once nothing is wrong any more."""
    ESTOP = 6
    """As DAMPED, by a person's order or the worst kind of fault."""


APPLIED = frozenset({Mode.READY, Mode.MIMIC, Mode.HOLD})
"""Modes in which the policy moves the robot."""

ARMED = APPLIED | {Mode.STANDING}
"""Modes in which the motors are stiff."""

DAMPING = frozenset({Mode.DAMPED, Mode.ESTOP})
"""Modes in which the motors only brake until `reset`."""


class Reaction(IntEnum):
    """What a rule asks for; the worst wins."""

    OK = 0
    WARN = 1
    """Tell people."""
    BLOCK = 2
    """Refuse `arm` and `start`; what runs goes on."""
    HOLD = 3
    """Freeze the goal; the policy keeps balancing."""
    STAND = 4
    """End the motion; the policy returns to standing."""
    DAMP = 5
    """Brake the joints without stiffness; latched until `reset`."""
    ESTOP = 6
    """As DAMP."""


@dataclass(frozen=True)
class Answer:
    """Whether an event was accepted, and one line about it."""

    accepted: bool
    message: str


@dataclass(frozen=True)
class Reason:
    """Why the mode is HOLD, DAMPED or ESTOP, or why a motion has ended in READY."""

    reaction: Reaction
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


_ACCEPTED = {
    Mode.DISARMED: "arm",
    Mode.STANDING: "stop and estop; READY follows by itself once the robot stands",
    Mode.READY: "start and estop",
    Mode.MIMIC: "pause, stop and estop",
    Mode.HOLD: "start, stop and estop",
    Mode.DAMPED: "reset, once nothing is wrong, and estop",
    Mode.ESTOP: "reset, once nothing is wrong",
}


class ModeMachine:
    """Holds the mode and the latched reasons. Events answer; a refused one changes nothing.

    Args:
        now_ns: When it starts, on the clock of all later times.
    """

    def __init__(self, now_ns: int = 0) -> None:
        self._mode = Mode.DISARMED
        self._since_ns = now_ns
        self._applied_since_ns: int | None = None
        self._reasons: dict[str, Reason] = {}

    @property
    def mode(self) -> Mode:
        """The mode now."""
        return self._mode

    @property
    def since_ns(self) -> int:
        """When this mode began."""
        return self._since_ns

    @property
    def applied_since_ns(self) -> int | None:
        """Since when the policy's commands are applied without a break; None where they are not."""
        return self._applied_since_ns

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why the mode is what it is, worst first, then in the order they came; empty where a person asked for it."""
        return tuple(sorted(self._reasons.values(), key=lambda reason: -reason.reaction))

    # asked for by people ---------------------------------------------------------------------------
    def arm(self, now_ns: int, blocking: Sequence[str] = ()) -> Answer:
        """DISARMED to STANDING, unless something in ``blocking`` (lines for people) speaks against it."""
        if self._mode is not Mode.DISARMED:
            return self._refuse("arm")
        if blocking:
            return Answer(False, f"arm refused: {'; '.join(blocking)}")
        self._go(Mode.STANDING, now_ns)
        return Answer(True, "STANDING: moving to the standing pose; READY follows once the robot stands")

    def start(self, now_ns: int, blocking: Sequence[str] = ()) -> Answer:
        """READY or HOLD to MIMIC, unless something in ``blocking`` (lines for people) speaks against it."""
        if self._mode not in (Mode.READY, Mode.HOLD):
            return self._refuse("start")
        if blocking:
            return Answer(False, f"start refused: {'; '.join(blocking)}")
        again = self._mode is Mode.HOLD
        self._go(Mode.MIMIC, now_ns)
        return Answer(True, f"MIMIC: the motion {'goes on' if again else 'plays'}")

    def pause(self, now_ns: int) -> Answer:
        """MIMIC to HOLD."""
        if self._mode is not Mode.MIMIC:
            return self._refuse("pause")
        self._go(Mode.HOLD, now_ns)
        self._reasons["pause"] = Reason(Reaction.HOLD, "pause", "asked for")
        return Answer(True, "HOLD: the goal is frozen; `start` goes on, `stop` returns to standing")

    def stop(self, now_ns: int) -> Answer:
        """MIMIC or HOLD to READY; STANDING back to DISARMED."""
        if self._mode in (Mode.MIMIC, Mode.HOLD):
            self._go(Mode.READY, now_ns)
            return Answer(True, "READY: returning to standing")
        if self._mode is Mode.STANDING:
            self._go(Mode.DISARMED, now_ns)
            return Answer(True, "DISARMED: the motors only brake")
        return self._refuse("stop")

    def estop(self, now_ns: int, text: str = "asked for") -> Answer:
        """To ESTOP, from anywhere; never refused."""
        self.fault(now_ns, Reaction.ESTOP, "estop", text)
        return Answer(True, "ESTOP: the motors only brake; `reset` once all is well")

    def reset(self, now_ns: int, active: Sequence[str] = ()) -> Answer:
        """DAMPED or ESTOP to DISARMED, unless a fault in ``active`` (lines for people) is still there."""
        if self._mode not in DAMPING:
            return self._refuse("reset")
        if active:
            return Answer(False, f"reset refused: {'; '.join(active)}")
        self._go(Mode.DISARMED, now_ns)
        return Answer(True, "DISARMED: `arm` when the robot hangs upright with its feet free")

    # seen by the monitor ---------------------------------------------------------------------------
    def stood(self, now_ns: int) -> Answer:
        """STANDING to READY: the bridge holds the standing pose."""
        if self._mode is not Mode.STANDING:
            return self._refuse("stood")
        self._go(Mode.READY, now_ns)
        return Answer(True, "READY: the policy balances; `start` plays the motion")

    def motion_done(self, now_ns: int) -> Answer:
        """MIMIC to READY: the motion is over."""
        if self._mode is not Mode.MIMIC:
            return self._refuse("motion_done")
        self._go(Mode.READY, now_ns)
        return Answer(True, "READY: the motion is over")

    def fault(self, now_ns: int, reaction: Reaction, rule: str, text: str) -> Answer:
        """Take a rule's verdict.

        ESTOP acts in every mode, DAMP in all but DISARMED, where the motors brake anyway, STAND and HOLD on a
        motion. Later faults that ask for the same, or for less while DAMPED or ESTOP, join the reasons. The first
        text of a rule stays.
        """
        reason = Reason(reaction, rule, text)
        target = None
        if reaction is Reaction.ESTOP:
            target = Mode.ESTOP
        elif reaction is Reaction.DAMP and self._mode is not Mode.DISARMED:
            target = Mode.ESTOP if self._mode is Mode.ESTOP else Mode.DAMPED
        elif reaction is Reaction.STAND and (self._mode in (Mode.MIMIC, Mode.HOLD) or self._ended_by_a_rule):
            target = Mode.READY
        elif reaction is Reaction.HOLD and self._mode in (Mode.MIMIC, Mode.HOLD):
            target = Mode.HOLD
        if target is None:
            return Answer(False, f"{reason} asks for {reaction.name}, which changes nothing in {self._mode.name}")
        if target is not self._mode:
            keep = dict(self._reasons) if self._mode in DAMPING else {}
            self._go(target, now_ns)
            self._reasons = keep
        if rule not in self._reasons:
            self._reasons[rule] = reason
        return Answer(True, f"{target.name}: {reason}")

    @property
    def _ended_by_a_rule(self) -> bool:
        return self._mode is Mode.READY and bool(self._reasons)

    def _go(self, mode: Mode, now_ns: int) -> None:
        if mode not in APPLIED:
            self._applied_since_ns = None
        elif self._applied_since_ns is None:
            self._applied_since_ns = now_ns
        self._mode, self._since_ns = mode, now_ns
        self._reasons = {}

    def _refuse(self, event: str) -> Answer:
        return Answer(False, f"{event} refused in {self._mode.name}; accepted now: {_ACCEPTED[self._mode]}")
