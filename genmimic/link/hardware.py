# SPDX-License-Identifier: Apache-2.0
"""The robot as a bridge drives it: what it measures comes in checked, and only what the gate passes goes out.

`RobotLink` is the wire, `HardwareBridge` the wire behind `genmimic.core.gate.CommandGate`, the same class that stands
before the simulated robot. Neither has a loop: the caller asks for a step 500 times a second and gives the time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from operator import eq

import numpy as np

from genmimic.core.errors import LinkError
from genmimic.core.gate import CommandGate, GateConfig, GateResult
from genmimic.core.modes import DAMPING, Mode
from genmimic.core.robot import G1_23DOF, VALID_MODE_MACHINE, Robot
from genmimic.core.state import JointCommand, RobotState, damping_command
from genmimic.link import wire
from genmimic.link.bus import BMS_STATE_TOPIC, LOW_CMD_TOPIC, LOW_STATE_TOPIC, Bus
from genmimic.link.config import DAMPING_FAULTS, LinkConfig
from genmimic.link.guard import Guard
from genmimic.link.remote import RemoteWatch
from genmimic.link.rpc import MotionSwitcherClient

RATE_HZ = 500.0
"""How often the robot hears us, and we it. Source: the vendor's low-level examples (2 ms)."""

LET_GO_S = 0.4
"""How long a bridge that ends still damps: the stiffness fades within the gate's ramp, then damping is repeated."""

STOOD_RAD = 0.25
"""Largest joint error at which the standing pose may be confirmed."""

_MODELS = {
    1: "the first 23-joint G1 (deprecated)", 4: "the 23-joint G1, rev 1.0", 10: "the 23-joint G1 with new hip gear",
    2: "a 29-joint G1", 5: "a 29-joint G1", 11: "a 29-joint G1", 13: "a 29-joint G1", 15: "a 29-joint G1",
    3: "a 29-joint G1 with locked waist", 6: "a 29-joint G1 with locked waist", 12: "a 29-joint G1 with locked waist",
    14: "a 29-joint G1 with locked waist", 16: "a 29-joint G1 with locked waist", 9: "a dual-arm G1",
}  # fmt: skip

CHARGE_NS = 50_000_000
"""How often the battery's topic is looked at; the robot fills it a few times a second."""

_S = 1e-9


@dataclass
class LinkCounts:
    """What has come and gone since the start."""

    received: int = 0
    accepted: int = 0
    malformed: int = 0
    wrong_crc: int = 0
    duplicate: int = 0
    reordered: int = 0
    sent: int = 0
    refused: int = 0
    foreign_commands: int = 0


@dataclass(frozen=True)
class LinkFault:
    """Something wrong with the link: the id of its rule in `genmimic.core.safety`, and one line with units."""

    id: str
    text: str

    def __str__(self) -> str:
        return f"{self.id}: {self.text}"


def describe_machine(mode_machine: int) -> str:
    """Return what kind of robot reports this ``mode_machine``. Source: Unitree's g1_description."""
    return _MODELS.get(mode_machine, "an unknown robot")


def check_machine(mode_machine: int) -> None:
    """Raise LinkError unless this is a 23-joint G1."""
    if mode_machine in VALID_MODE_MACHINE:
        return
    what = describe_machine(mode_machine)
    text = f"the robot reports mode_machine {mode_machine}, {what}; this bridge drives the 23-joint G1 (1, 4, 10) only"
    if "29-joint" in what:
        text += ". A policy trained for 29 joints and a table of its joints in genmimic.core.robot would be needed"
    raise LinkError(text)


class RobotLink:
    """The wire to one robot: `poll` takes what has come, `send` writes a command. Times are passed in.

    Args:
        bus: Where the robot is.
        robot: Its table of joints and motor slots.
        config: Timeouts.
    """

    def __init__(self, bus: Bus, robot: Robot = G1_23DOF, config: LinkConfig | None = None) -> None:
        self.bus, self.robot, self.config = bus, robot, config or LinkConfig()
        self.counts = LinkCounts()
        self._states = bus.reader(LOW_STATE_TOPIC, "LowState", depth=16)
        self._foreign = bus.reader(LOW_CMD_TOPIC, "LowCmd", depth=16, others_only=True)
        self._charge = bus.reader(BMS_STATE_TOPIC, "BmsState")
        self._commands = bus.writer(LOW_CMD_TOPIC, "LowCmd")
        self._writer, self._reader = wire.LowCmdWriter(robot), wire.LowStateReader(robot)
        self._watch = RemoteWatch(self.config.remote_lost_s)
        self.state: RobotState | None = None
        """The newest good one; its stamp is when the robot sent it, its tick never goes back."""
        self.received_ns: int | None = None
        """When it came."""
        self.mode_machine: int | None = None
        """As the first good message said."""
        self.pressed: frozenset[str] = frozenset()
        """Buttons that went down at the last `poll`."""
        self._reported_machine: int | None = None
        self._tick: int | None = None
        self._senders: set[int] = set()
        self._battery = float("nan")
        self._charge_due_ns = self._polls = 0
        self._checks: deque[tuple[int, bool]] = deque()  # receipt, ns, and whether the checksum was right
        self._wrong = 0
        self._foreign_ns: int | None = None
        self._best_offset_ns: float | None = None
        self._late_ns = 0.0
        self._last_motors: wire.Array | None = None
        self._moved_ns: wire.Array = np.zeros(robot.num_joints, np.int64)
        self._still_since_ns = 0  # the oldest of them

    # in --------------------------------------------------------------------------------------------
    def poll(self, now_ns: int) -> bool:
        """Take what has come; return whether there is a newer state."""
        counts = self.counts
        newest = None
        for sample in self._states.take():
            counts.received += 1
            head = wire.low_state_head(sample.data)
            if head is None:
                counts.malformed += 1
                continue
            right = head.crc == wire.low_state_crc(sample.data[: wire.LOW_STATE_SAMPLE.itemsize])
            self._checks.append((now_ns, right))
            self._senders.add(sample.writer)
            if not right:
                counts.wrong_crc += 1
                self._wrong += 1
                continue
            ahead = self._ahead(head.tick)
            if ahead == 0 and self._tick is not None:
                counts.duplicate += 1
            elif -1000 < ahead < 0:
                counts.reordered += 1
            else:  # newer, or a robot that has started again
                self._tick = head.tick
                counts.accepted += 1
                newest = head.mode_machine, sample.data, sample.sent_ns
        while self._checks and now_ns - self._checks[0][0] > 1_000_000_000:
            self._wrong -= not self._checks.popleft()[1]
        self._polls += 1
        if self._polls % 2:  # depth 16 holds what comes in 32 ms
            for sample in self._foreign.take():
                if wire.read_low_cmd(sample.data) is not None:
                    counts.foreign_commands += 1
                    self._foreign_ns = now_ns
        if now_ns >= self._charge_due_ns:
            self._charge_due_ns = now_ns + CHARGE_NS
            for sample in self._charge.take():
                charge = wire.read_bms_state(sample.data)
                if charge is not None and charge["soc"] <= 100:
                    self._battery = float(charge["soc"]) / 100.0
        self.pressed = frozenset()
        if newest is None:
            return False
        self._accept(now_ns, *newest)
        return True

    def _ahead(self, tick: int) -> int:
        """Return how many ms ``tick`` is after the newest one; the counter has 32 bits."""
        if self._tick is None:
            return 0
        return (tick - self._tick + 2**31) % 2**32 - 2**31

    def _accept(self, now_ns: int, mode_machine: int, data: bytes, sent_ns: int) -> None:
        measured = self._reader.measured(data)
        state = self._reader.state(data, sent_ns, self._battery, measured)
        before = self.state.tick if self.state is not None else 0
        if state.tick < before % 2**32 - 2**31:  # wrapped after 49 days
            state = replace(state, tick=state.tick + 2**32 * (before // 2**32 + 1))
        self.state, self.received_ns = state, now_ns
        self._reported_machine = mode_machine
        if self.mode_machine is None:
            self.mode_machine = self._reported_machine
        self.pressed = self._watch.update(now_ns, data[wire.REMOTE_AT : wire.REMOTE_AT + 40])
        # a message on its way longer than the best one so far; the best forgets 0.5 ms/s, as clocks drift
        offset_ns = now_ns - 1e6 * state.tick
        if self._best_offset_ns is None or offset_ns < self._best_offset_ns:
            self._best_offset_ns = offset_ns
        self._late_ns = offset_ns - self._best_offset_ns
        self._best_offset_ns += 1_000.0
        motors = measured.motors[:, :3]  # a temperature may stay
        last, self._last_motors = self._last_motors, motors
        if last is None or not any(map(eq, motors[:, 0].tolist(), last[:, 0].tolist())):  # each joint's position is new
            self._moved_ns.fill(now_ns)
            self._still_since_ns = now_ns
        else:
            self._moved_ns[(motors != last).any(1)] = now_ns
            self._still_since_ns = int(self._moved_ns.min())

    def age_s(self, now_ns: int) -> float:
        """Return the age of the newest state since its receipt; infinite without one."""
        return float("inf") if self.received_ns is None else (now_ns - self.received_ns) * _S

    def foreign(self, now_ns: int, within_s: float = 1.0) -> bool:
        """Whether another process has commanded the robot within the last ``within_s``."""
        return self._foreign_ns is not None and (now_ns - self._foreign_ns) * _S <= within_s

    @property
    def senders(self) -> int:
        """How many writers of good states have been heard since the start; more than one is one too many."""
        return len(self._senders)

    @property
    def remote_heard(self) -> bool:
        """Whether the remote has been heard at all."""
        return self._watch.heard

    @property
    def wrong_crc_ratio(self) -> float:
        """Share of wrong checksums among the messages of the last second."""
        return self._wrong / len(self._checks) if self._checks else 0.0

    @property
    def rate_hz(self) -> float:
        """Messages in the last second."""
        return float(len(self._checks))

    def faults(self, now_ns: int) -> list[LinkFault]:
        """Return what is wrong now, most serious first."""
        config, found = self.config, []
        if self.foreign(now_ns):
            found.append(LinkFault("second_writer", f"another process writes {LOW_CMD_TOPIC}"))
        if self._reported_machine != self.mode_machine:
            text = f"mode_machine changed from {self.mode_machine} to {self._reported_machine}"
            found.append(LinkFault("mode_machine", text))
        age = self.age_s(now_ns)
        if age > config.link_timeout_s:
            text = "not heard yet" if age == float("inf") else f"silent for {1e3 * age:.0f} ms"
            found.append(LinkFault("silence", f"the robot is {text} (limit {1e3 * config.link_timeout_s:.0f} ms)"))
        if self._wrong > 4 and self.wrong_crc_ratio > config.wrong_crc_ratio:
            text = f"{100 * self.wrong_crc_ratio:.0f} % of the last second's checksums are wrong"
            found.append(LinkFault("wrong_crc", f"{text} (limit {100 * config.wrong_crc_ratio:.0f} %)"))
        if self._late_ns * _S > config.link_late_s:
            text = f"the robot's state comes {1e-6 * self._late_ns:.0f} ms late"
            found.append(LinkFault("state_late", f"{text} (limit {1e3 * config.link_late_s:.0f} ms)"))
        still = (now_ns - self._still_since_ns) * _S
        if self._last_motors is not None and still > config.joint_frozen_s and age <= config.link_timeout_s:
            name = self.robot.joint_names[int(self._moved_ns.argmin())]
            text = f"the reading of {name} has not changed for {1e3 * still:.0f} ms"
            found.append(LinkFault("joint_frozen", f"{text} (limit {1e3 * config.joint_frozen_s:.0f} ms)"))
        if self._watch.lost(now_ns):
            found.append(LinkFault("remote_lost", f"the remote is silent for {config.remote_lost_s:g} s"))
        return found

    # out -------------------------------------------------------------------------------------------
    def send(self, command: JointCommand) -> bool:
        """Write a command; return whether the transport took it.

        Only `HardwareBridge` calls this: everything else goes through its gate.
        """
        assert self.mode_machine is not None
        sent = self._commands.write(self._writer.fill(command, self.mode_machine))
        if sent:
            self.counts.sent += 1
        else:
            self.counts.refused += 1
        return sent

    @property
    def listeners(self) -> int:
        """How many readers of our commands DDS has found."""
        return self._commands.readers

    # before the first command ----------------------------------------------------------------------
    def find(self) -> None:
        """Wait until the robot is heard, and check that it is ours. Raises LinkError."""
        until = time.monotonic() + self.config.find_s
        while self.state is None or self.listeners == 0:
            if time.monotonic() > until:
                raise LinkError(self._not_found())
            self.poll(time.monotonic_ns())
            time.sleep(0.005)
        assert self.mode_machine is not None
        check_machine(self.mode_machine)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            self.poll(time.monotonic_ns())
            time.sleep(0.005)
        senders = self.senders if self._states.tells_writers else self._states.writers
        if senders > 1:
            raise LinkError(f"{senders} robots or twins are heard on interface {self.bus.interface!r}")

    def _not_found(self) -> str:
        where, waited = f"on interface {self.bus.interface!r}", f"within {self.config.find_s:g} s"
        counts = self.counts
        if counts.wrong_crc or counts.malformed:
            return (
                f"{counts.received} messages on {LOW_STATE_TOPIC} {where}, none of them good: "
                f"{counts.wrong_crc} wrong checksums, {counts.malformed} malformed"
            )
        if self.state is None:
            return f"no robot is heard {where} {waited}; is it switched on, and this machine in 192.168.123.0/24?"
        return f"the robot is heard {where}, but does not listen to {LOW_CMD_TOPIC}, {waited}"

    def listen(self) -> None:
        """Wait `LinkConfig.listen_s` for commands of others. Raises LinkError when there are some."""
        self._foreign.take()
        self._foreign_ns = None
        until = time.monotonic() + self.config.listen_s
        while time.monotonic() < until:
            now_ns = time.monotonic_ns()
            self.poll(now_ns)
            if self.foreign(now_ns):
                raise LinkError(f"another process writes {LOW_CMD_TOPIC}; stop it first, only one may move the robot")
            time.sleep(0.005)


@dataclass(frozen=True)
class HardwareStep:
    """What one step of the bridge gives.

    Attributes:
        state: The newest measurement, with the link's faults; None before the first.
        fresh: Whether it is new since the last step.
        mode: What the bridge does. READY while the monitor says STANDING means: a person says that the robot stands.
        reason: Why it is damped, one line; else empty.
        pressed: Buttons of the remote that went down.
    """

    state: RobotState | None
    fresh: bool
    mode: Mode
    reason: str
    pressed: frozenset[str]


class HardwareBridge:
    """The link behind the gate. `open` first, then `step` at 500 Hz, `let_go` at the end.

    Nothing is written while the robot's built-in controller runs; `release` ends it, on a person's order.

    Args:
        link: The wire.
        config: Of the gate.
        remote_required: Whether a lost remote counts as a fault.
    """

    def __init__(self, link: RobotLink, config: GateConfig | None = None, *, remote_required: bool = True) -> None:
        self.link, self.gate = link, CommandGate(link.robot, config)
        self._remote_required = remote_required
        self._switcher = MotionSwitcherClient(link.bus)
        self._live = False
        self._occupied = "the link is not open"
        self._releasing: threading.Thread | None = None
        self._guard: Guard | None = None
        self._speaking_ns: int | None = None  # since when the policy moves the robot
        self._stood = False
        self._faults: list[LinkFault] = []
        self._steps: deque[int] = deque()  # of the last second, ns
        self._began_ns = 0
        self._last = GateResult(damping_command(link.robot, link.robot.default_joint_pos, 0.0), Mode.DAMPED, "")

    @property
    def live(self) -> bool:
        """Whether commands are written."""
        return self._live

    @property
    def occupied(self) -> str:
        """Why none are, one line; empty when they are."""
        return "" if self._live else self._occupied

    @property
    def faults(self) -> tuple[LinkFault, ...]:
        """Of the last step."""
        return tuple(self._faults)

    @property
    def last(self) -> GateResult:
        """What the gate said last."""
        return self._last

    def open(self) -> None:
        """Find the robot, check it, and go live unless its built-in controller runs. Raises LinkError."""
        self.link.find()
        name = self._switcher.check()
        if name:
            self._occupied = (
                f"the robot's own controller {name!r} runs; with the robot hanging in the gantry, press Start on the "
                "remote (or call the service release): it is released, and the robot goes limp"
            )
            return
        self.link.listen()
        self._live = True

    def release(self) -> str:
        """Release the built-in controller in the background and return one line; the robot must hang."""
        if self._live:
            return "the robot's own controller does not run"
        if self._releasing is not None and self._releasing.is_alive():
            return self._occupied
        self._occupied = "the robot's own controller is being released"
        self._releasing = threading.Thread(target=self._release, name="release", daemon=True)
        self._releasing.start()
        return self._occupied

    def _release(self) -> None:
        try:
            self._switcher.release_all()
            time.sleep(self.link.config.listen_s)  # `step` goes on polling meanwhile
            if self.link.foreign(time.monotonic_ns(), self.link.config.listen_s):
                raise LinkError(f"another process writes {LOW_CMD_TOPIC}; stop it first, then press Start again")
        except LinkError as error:
            self._occupied = str(error)
            return
        self._occupied, self._live = "", True

    def confirm_standing(self) -> str:
        """Take a person's word that the robot stands on its feet; return why it cannot be, empty when it can."""
        state = self.link.state
        if self._last.mode is not Mode.STANDING or not self.gate.standing or state is None:
            return "the robot is not in its standing pose"
        error = np.abs(state.joint_pos - self.link.robot.default_joint_pos)
        if float(error.max()) > STOOD_RAD:
            name = self.link.robot.joint_names[int(error.argmax())]
            return f"{name} is {float(error.max()):.2f} rad from the standing pose (limit {STOOD_RAD:g} rad)"
        self._stood = True
        return ""

    def step(
        self,
        now_ns: int,
        mode: Mode | None,
        heartbeat_received_ns: int | None,
        command: JointCommand | None,
        command_received_ns: int | None,
    ) -> HardwareStep:
        """Take what has come, gate the command, and write it.

        Args:
            now_ns: Steady clock; the others as in `CommandGate.gate`.
        """
        link = self.link
        fresh = link.poll(now_ns)
        if self._live and self._guard is not None and self._guard.taken:
            self._live = False
            self._occupied = "the guard has taken over, as this process stood still; restart the bridge"
            self.gate.trip(self._occupied)
        self._faults = self._judge(now_ns)
        pressed = link.pressed
        if pressed & {"B", "select"}:
            self.gate.trip(f"{'B' if 'B' in pressed else 'Select'} was pressed on the remote")
        for fault in self._faults:
            if fault.id in DAMPING_FAULTS:
                self.gate.trip(str(fault))
                break
        state = link.state if link.age_s(now_ns) <= link.config.link_timeout_s else None
        result = self._last = self.gate.gate(
            now_ns, mode, heartbeat_received_ns, command, command_received_ns, state
        )  # fmt: skip
        if self._live:
            self._send(result.command)
        if result.mode is not Mode.STANDING:
            self._stood = False
        reported = Mode.READY if self._stood else result.mode
        told = link.state
        if told is not None and self._faults:
            told = replace(told, link_faults=tuple(str(fault) for fault in self._faults))
        return HardwareStep(told, fresh, reported, result.reason, pressed)

    def watched_by(self, guard: Guard) -> None:
        """Tell ``guard`` each command from now on, until it is dismissed."""
        self._guard = guard

    def write(self, command: JointCommand) -> None:
        """Write a command past the gate, known to the guard. For `genmimic.link.wiggle` alone, never beside `step`."""
        self._send(command)

    def _send(self, command: JointCommand) -> None:
        if self._guard is not None and self._guard.taken:  # two who fade from different gains would shake the robot
            return
        if self.link.send(command) and self._guard is not None:  # what does not go out is the guard's to notice
            self._guard.feed(command, self.link.mode_machine)

    def _judge(self, now_ns: int) -> list[LinkFault]:
        faults, frozen_ns = self.link.faults(now_ns), 2e9 * self.link.config.joint_frozen_s
        if not self._steps:
            self._began_ns = now_ns
        self._steps.append(now_ns)
        while now_ns - self._steps[0] > 1_000_000_000:
            self._steps.popleft()
        if not self.gate.policy_speaks:
            self._speaking_ns = None
        elif self._speaking_ns is None:
            self._speaking_ns = now_ns
        if faults:
            known = self._last.mode in DAMPING and any(fault.id == "joint_frozen" for fault in self._faults)
            speaking = self._speaking_ns is not None and now_ns - self._speaking_ns >= frozen_ns
            if not (speaking or known):  # a robot at rest may read so
                faults = [fault for fault in faults if fault.id != "joint_frozen"]
            if not self._remote_required:
                faults = [fault for fault in faults if fault.id != "remote_lost"]
            if not self._live:  # whoever else moves the robot then is no fault of ours
                faults = [fault for fault in faults if fault.id != "second_writer"]
        if not self._live:
            faults.append(LinkFault("controller", self._occupied))
        elif self._guard is not None and not self._guard.alive:
            faults.append(LinkFault("guard", "the guard has ended; restart the bridge"))
        made, least = len(self._steps), self.link.config.overrun_ratio * RATE_HZ
        if self._live and made < least and now_ns - self._began_ns > 1_000_000_000:
            text = f"the bridge's loop has made {made} of {RATE_HZ:.0f} steps in the last second (limit {least:.0f})"
            faults.append(LinkFault("overrun", text))
        return faults

    def trip(self, reason: str) -> None:
        """Damp from the next step on, until the monitor says DISARMED."""
        self.gate.trip(reason)

    def let_go(self, reason: str, seconds: float = LET_GO_S) -> None:
        """Damp, and repeat it for a moment; for the way out, whatever has happened before. Never raises."""
        if not self._live:
            return
        self.gate.trip(reason)
        try:
            fallback = damping_command(self.link.robot, self.link.robot.default_joint_pos, self.gate.config.damping_kd)
            until_ns = time.monotonic_ns() + round(1e9 * seconds)
            while (now_ns := time.monotonic_ns()) < until_ns:
                try:
                    command = self.gate.gate(now_ns, None, None, None, None, None).command
                except Exception:  # the gate itself has failed: then without it
                    command = fallback
                self._send(command)
                time.sleep(1.0 / RATE_HZ)
        except Exception:  # nothing more can be done, and others still want to be stopped
            return
