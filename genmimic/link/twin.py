# SPDX-License-Identifier: Apache-2.0
"""The robot's twin: the simulated G1 as a DDS peer with the robot's own topics, rates, checks and services.

What it knows of the bridge it knows from the wire, like the robot. It can be told to misbehave (`Twin.order`), and it
writes down what reaches it, so that whoever tests a bridge can ask when the first damping command came and whether any
number was out of bounds.

A person is played too (``operator``): presses Start while the robot hangs limp, lowers the gantry when it holds the
standing pose, presses A when it is on its feet, hoists it and presses B when it has stood still for long enough for its
motion to be over, and hangs it up again when it has been limp for a while.

Source of topics, rates and the motion switcher: Unitree's SDK and ROS 2 examples. How the real robot answers a wrong
checksum, or silence, is not published; this one ignores the former and keeps the last command in the latter.
"""

from __future__ import annotations

import json
import math
import random
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.core.gate import GateConfig
from genmimic.core.modes import Mode
from genmimic.core.robot import ABSENT_MOTOR_SLOTS, G1_23DOF, NUM_MOTOR_SLOTS
from genmimic.core.rotation import quat_multiply
from genmimic.core.state import JointCommand, position_command
from genmimic.link import idl, wire
from genmimic.link.bus import (
    BMS_STATE_TOPIC,
    LOW_CMD_TOPIC,
    LOW_STATE_TOPIC,
    SECONDARY_IMU_TOPIC,
    SLOW_LOW_STATE_TOPIC,
)
from genmimic.link.dds import ROBOT_DOMAIN, Bus
from genmimic.link.realtime import run_at
from genmimic.link.remote import BUTTONS, Remote, encode
from genmimic.link.rpc import MotionSwitcherServer
from genmimic.link.rpc import encode as encode_message
from genmimic.sim.gantry import SETTLE_S, FreeStart, Gantry
from genmimic.sim.simulated_g1 import SensorNoise, SimConfig, SimulatedG1

RATE_HZ = 500.0

CATCH_UP_STEPS = 50
"""Physics steps of one late tick at most."""

CATCH_UP_COMMANDS = 256
"""Commands that wait for a late tick: half a second, so that the wire log misses none in a stall."""

PRESS_S, PAUSE_S = 0.2, 2.0
"""How long the operator holds a button, and waits before pressing again."""

LIMP_S = 1.0
"""How long the robot must hang limp before the operator presses Start."""

REHANG_S = 2.0
"""How long it must be limp after it stood before the operator hangs it up again."""

STILL_S, STILL_RAD = 3.0, 0.1
"""The motion is over when no joint has moved further than that for so long, in a pose close to standing."""

GONE_S = 1.0
"""After a performance the operator goes on once the bridge that gave it has been silent for so long."""

HOIST_M_S = 0.05
"""Speed of the rope when the robot is hoisted."""

VOLTAGE, BROWN_VOLTAGE = 54.0, 38.0

_ABSENT = np.array([*ABSENT_MOTOR_SLOTS, *range(29, NUM_MOTOR_SLOTS)])
_TOLERANCE = 1e-3  # float32 on the wire
_SAME_CLOCK_NS = 30_000_000_000  # stamps further off than this are of another clock


@dataclass(frozen=True)
class TwinConfig:
    """What kind of robot, and where.

    Attributes:
        interface: Network interface.
        domain: DDS domain; the robot's is 0.
        mode_machine: As reported.
        controller: Name of the built-in controller that runs at first; empty for none.
        battery: State of charge, 0 to 1.
        tether: Whether it hangs from a gantry.
        operator: Whether a person is played.
        noise: Of the sensors.
        seed: Of noise and faults.
    """

    interface: str = "lo"
    domain: int = ROBOT_DOMAIN
    mode_machine: int = 4
    controller: str = "ai"
    battery: float = 0.9
    tether: bool = True
    operator: bool = True
    noise: SensorNoise = field(default_factory=SensorNoise)
    seed: int = 0


@dataclass
class Faults:
    """What is wrong with the twin now. Probabilities are per LowState message."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    crc: float = 0.0
    garbage: float = 0.0
    delay_ms: float = 0.0
    vanish: bool = False
    deaf: bool = False
    second_writer: bool = False
    stuck: bool = False
    imu_dead: bool = False
    remote_off: bool = False
    brownout: bool = False
    mode_machine: int | None = None
    freeze: int | None = None
    nan: int | None = None
    heat: tuple[int, float] | None = None
    spike: tuple[int, float] | None = None
    shift: tuple[int, float] | None = None
    flip: int | None = None
    strain: tuple[int, float] | None = None
    tip: float = 0.0
    spin: float = 0.0
    timeless: bool = False


HELP = {
    "drop P": "lose this share of the state messages",
    "delay MS": "send each state message so much later",
    "reorder P": "let this share of them be overtaken by the next",
    "duplicate P": "send this share of them twice",
    "crc P": "turn a bit in this share of them",
    "garbage P": "send random bytes beside this share of them",
    "freeze JOINT": "this joint's reading stands still",
    "nan JOINT": "this joint's reading is not a number",
    "spike JOINT RAD_S": "this joint's speed reads so",
    "heat JOINT C": "this motor's temperature reads so",
    "shift JOINT RAD": "this joint's position reads so much too high",
    "flip JOINT": "this joint's position and speed read with the other sign",
    "strain JOINT NM": "this joint's torque reads so",
    "tip RAD": "the IMU reads so much too far forward",
    "spin RAD_S": "the gyroscope reads so much too high",
    "timeless": "the tick stands still, everything else goes on",
    "imu_dead": "the IMU reads zeros",
    "stuck": "the same state is sent again and again",
    "brownout": "battery at 5 %, low voltage, weak motors",
    "mode_machine N": "report another robot",
    "vanish": "say nothing and obey nothing any more",
    "deaf": "obey no commands any more; the last one holds",
    "second_writer": "another process commands the robot too",
    "remote_off": "the remote is switched off",
    "stall MS": "stand still for so long, once",
    "push VX VY": "set the pelvis's velocity, m/s, once",
    "mark": "nothing; begins a new wire log as the above do",
    "clear": "all of the above is over",
    "press BUTTON": f"press it for {PRESS_S:g} s: {' '.join(BUTTONS)}",
    "hang [M]": "hang the robot up again, soles so far above the floor",
    "select NAME": "start a built-in controller",
    "operator on|off": "whether a person is played",
    "stats": "what has been counted so far",
    "report": "what has come over the wire since the last fault or press",
    "quit": "end",
}
"""Orders of `Twin.order`, with what they do."""


class WireLog:
    """Judges and remembers the bridge's commands since `begin`."""

    def __init__(self) -> None:
        self._robot, config = G1_23DOF, GateConfig()
        robot = self._robot
        ahead = config.limit_torque_ratio * robot.joint_effort / robot.kp
        self._lower, self._upper = robot.joint_lower - ahead - _TOLERANCE, robot.joint_upper + ahead + _TOLERANCE
        self._kd = np.maximum(robot.kd, config.damping_kd) + _TOLERANCE
        self._step = config.target_step_rad + _TOLERANCE
        self._before: JointCommand | None = None
        self.begin(0)

    def begin(self, now_ns: int) -> None:
        """Forget all; times are told from ``now_ns`` on, by the system clock."""
        self.begin_ns = now_ns
        self.commands = 0
        self.outside: dict[str, int] = {}
        self.first_fading_ns: int | None = None
        self.first_limp_ns: int | None = None
        self.last_ns: int | None = None
        self.longest_gap_ns = 0
        self.stiff_after_limp = 0
        self.stiffest = 0.0
        self._ages_us: array[int] = array("L")
        self._gaps_us: array[int] = array("L")

    def add(self, sent_ns: int, record: wire.Array, right: bool, mode_machine: int) -> JointCommand:
        """Take a command of the bridge, and return it."""
        now_ns = time.time_ns()
        if abs(now_ns - sent_ns) > _SAME_CLOCK_NS:  # the sender's clock has been set
            sent_ns = now_ns
        self._ages_us.append(max(0, now_ns - sent_ns) // 1000)
        with np.errstate(invalid="ignore"):
            return self._add(sent_ns, record, right, mode_machine)

    def _add(self, sent_ns: int, record: wire.Array, right: bool, mode_machine: int) -> JointCommand:
        robot, command = self._robot, wire.command_of(record, self._robot)
        motors = record["motor_cmd"]
        zeros = all(not motors[name][_ABSENT].any() for name in ("q", "dq", "tau", "kp", "kd"))
        checks = {
            "checksum": right,
            "mode_pr": record["mode_pr"] == 0,
            "mode_machine": record["mode_machine"] == mode_machine,
            "absent motors": zeros and not wire.motor_modes(record)[_ABSENT].any(),
            "not finite": command.is_finite(),
            "position": ((command.joint_pos >= self._lower) & (command.joint_pos <= self._upper)).all()
            or not command.kp.any(),
            "speed": (np.abs(command.joint_vel) <= robot.joint_speed + _TOLERANCE).all(),
            "torque": (np.abs(command.joint_torque) <= robot.joint_effort + _TOLERANCE).all(),
            "kp": ((command.kp >= 0.0) & (command.kp <= robot.kp + _TOLERANCE)).all(),
            "kd": ((command.kd >= 0.0) & (command.kd <= self._kd)).all(),
        }
        before, self._before = self._before, command
        if before is not None and before.kp.any() and command.kp.any():
            checks["step"] = (np.abs(command.joint_pos - before.joint_pos) <= self._step).all()
        for name, good in checks.items():
            if not good:
                self.outside[name] = self.outside.get(name, 0) + 1
        self.commands += 1
        ratio = float((command.kp / robot.kp).max())
        self.stiffest = max(self.stiffest, ratio)
        if sent_ns > self.begin_ns:
            if self.first_fading_ns is None and ratio < 0.999:
                self.first_fading_ns = sent_ns
            if self.first_limp_ns is None and ratio == 0.0:
                self.first_limp_ns = sent_ns
            elif self.first_limp_ns is not None and ratio > 0.0:
                self.stiff_after_limp += 1
        if self.last_ns is not None:
            self.longest_gap_ns = max(self.longest_gap_ns, sent_ns - self.last_ns)
            self._gaps_us.append(max(0, sent_ns - self.last_ns) // 1000)
        self.last_ns = sent_ns
        return command

    def summary(self) -> dict[str, Any]:
        """Return it as plain JSON types; times in ms since `begin`."""

        def since(stamp_ns: int | None) -> float | None:
            return None if stamp_ns is None else round((stamp_ns - self.begin_ns) / 1e6, 3)

        return {
            "commands": self.commands,
            "outside": self.outside,
            "first_fading_ms": since(self.first_fading_ns),
            "first_limp_ms": since(self.first_limp_ns),
            "stiff_after_limp": self.stiff_after_limp,
            "stiffest": round(self.stiffest, 4),
            "longest_gap_ms": round(self.longest_gap_ns / 1e6, 3),
            "age_ms": _spread(self._ages_us),
            "period_ms": _spread(self._gaps_us),
        }


def _spread(values_us: array[int]) -> dict[str, float] | None:
    if not values_us:
        return None
    p50, p99 = (float(np.percentile(values_us, percent)) for percent in (50, 99))
    return {"p50": round(p50 / 1e3, 3), "p99": round(p99 / 1e3, 3), "max": round(max(values_us) / 1e3, 3)}


class Twin:
    """One simulated robot on the wire. `run` it, or call `tick` 500 times a second.

    Args:
        config: What kind of robot.

    Raises:
        LinkError: DDS cannot use the interface.
    """

    def __init__(self, config: TwinConfig | None = None) -> None:
        self.config = config = config or TwinConfig()
        self.robot = G1_23DOF
        self.faults = Faults()
        self.log = WireLog()
        self._sim_config = SimConfig(timestep_s=1.0 / RATE_HZ, noise=config.noise)
        self.sim = SimulatedG1(self.robot, self._sim_config, seed=config.seed)
        self.gantry: Gantry | FreeStart = Gantry(self.sim) if config.tether else FreeStart(self.sim)
        self._random = random.Random(config.seed)
        self.bus = bus = Bus(config.interface, config.domain)
        self._commands = bus.reader(LOW_CMD_TOPIC, "LowCmd", depth=CATCH_UP_COMMANDS)
        self._states = bus.writer(LOW_STATE_TOPIC, "LowState")
        self._slow_states = bus.writer(SLOW_LOW_STATE_TOPIC, "LowState")
        self._imu = bus.writer(SECONDARY_IMU_TOPIC, "ImuState")
        self._charge = bus.writer(BMS_STATE_TOPIC, "BmsState")
        self.switcher = MotionSwitcherServer(bus, config.controller, self._controller_changed)
        self._writer = wire.LowStateWriter()
        self._rival: tuple[Bus, Any, wire.LowCmdWriter] | None = None
        self._rivals: set[int] = set()
        self._start_ns = self._now_ns = time.monotonic_ns()
        self._due_ns: int | None = None
        self._ticks = self._tick_ms = 0
        self._queue: deque[tuple[int, bytes]] = deque()
        self._held: bytes | None = None
        self._frozen: dict[int, tuple[float, float, float]] = {}
        self._stuck: bytes | None = None
        self._command: JointCommand | None = None
        self._operator = config.operator
        self._press: tuple[str, int] | None = None  # button and until when, ns
        self._pressed_ns = 0
        self._policy_speaks = False
        self._limp_since_ns: int | None = None
        self._still: tuple[np.ndarray, int] | None = None  # pose (J,) and since when
        self._moved = self._hoisting = self._done = False
        self._heard_ns = 0
        self._ended = False
        self.counts = {"sent": 0, "commands": 0, "applied": 0, "wrong_crc": 0, "wrong_machine": 0, "malformed": 0}

    @property
    def ended(self) -> bool:
        """Whether it was told to quit."""
        return self._ended

    def run(self, stop: Callable[[], bool] = lambda: False, orders: Callable[[], list[str]] = list) -> None:
        """Live until ``stop()`` or until told to quit.

        Args:
            stop: Asked at each tick.
            orders: Gives the lines that have come since it was last asked; answers are printed, a line each.
        """

        def tick(now_ns: int) -> bool:
            for line in orders():
                print(json.dumps(self.order(line)), flush=True)
            self.tick(now_ns)
            return not (self._ended or stop())

        run_at(RATE_HZ, tick)

    def close(self) -> None:
        """Leave the wire."""
        self._stop_rival()
        self.bus.close()

    # one step --------------------------------------------------------------------------------------
    def tick(self, now_ns: int) -> None:
        """Hear, move, say."""
        faults, self._now_ns = self.faults, now_ns
        self._hear(now_ns)
        if not faults.vanish and self._ticks % 10 == 0:
            self.switcher.serve()
        self._move(now_ns, self._steps_due(now_ns))
        if self._operator:
            self._operate(now_ns)
        if not faults.vanish:
            self._say(now_ns)
        if faults.second_writer:
            self._rival_writes()
        self._ticks += 1

    def _hear(self, now_ns: int) -> None:
        for sample in self._commands.take():
            record = wire.read_low_cmd(sample.data)
            if record is None:
                self.counts["malformed"] += 1
                continue
            right = int(record["crc"]) == wire.low_cmd_crc(sample.data[: wire.LOW_CMD_SAMPLE.itemsize])
            rival = sample.writer in self._rivals
            machine = self.config.mode_machine if self.faults.mode_machine is None else self.faults.mode_machine
            if rival:
                command = wire.command_of(record, self.robot)
            else:
                self.counts["commands"] += 1
                self._heard_ns = now_ns
                command = self.log.add(sample.sent_ns, record, right, self.config.mode_machine)
            if not right:
                self.counts["wrong_crc"] += 1
            elif record["mode_machine"] != machine or record["mode_pr"] != 0:
                self.counts["wrong_machine"] += 1
            elif command.is_finite() and not (self.switcher.name or self.faults.deaf or self.faults.vanish):
                self.counts["applied"] += 1
                self._command = command
                self.sim.apply(command)

    def _move(self, now_ns: int, steps: int) -> None:
        mode, pose_reached = self._phase(now_ns)
        for _ in range(steps):
            hung = self.sim.step_count
            if self._hoisting:
                tether = self.sim.tether
                tether.set_length(max(0.1, tether.length_m - HOIST_M_S / RATE_HZ))
            else:
                self.gantry.update(mode, pose_reached, self._policy_speaks)
            if self.sim.step_count < hung and self._command is not None:  # put back, it has forgotten its command
                self.sim.apply(self._command)
            if not self.gantry.held:
                self.sim.step()

    def _phase(self, now_ns: int) -> tuple[Mode, bool]:
        """Return what the bridge seems to do, by its commands, and whether the standing pose is reached."""
        command, robot = self._command, self.robot
        stiff = command is not None and float((command.kp / robot.kp).mean()) > 0.5
        if not stiff:
            if self._limp_since_ns is None:
                self._limp_since_ns = now_ns
            limp_s = (now_ns - self._limp_since_ns) * 1e-9
            self._policy_speaks = self._hoisting = self._moved = False
            self._still = None
            stood = self.gantry.lowered and self.config.tether
            waiting = stood and not (self._operator and limp_s > REHANG_S)
            return (Mode.DAMPED if waiting else Mode.DISARMED), False
        assert command is not None
        self._limp_since_ns = None
        at_rest = float(np.abs(command.joint_pos - robot.default_joint_pos).max()) < 1e-4
        reached = at_rest and float(np.abs(self.sim.joint_pos - robot.default_joint_pos).max()) < 0.15
        if self.gantry.lowered and not at_rest:
            self._policy_speaks = True
        return (Mode.READY if self._policy_speaks else Mode.STANDING), reached

    def _steps_due(self, now_ns: int) -> int:
        period_ns = round(1e9 / RATE_HZ)
        due_ns = now_ns if self._due_ns is None else self._due_ns
        due = max(0, 1 + (now_ns - due_ns) // period_ns)
        if due > CATCH_UP_STEPS:
            self._due_ns = now_ns + period_ns
            return CATCH_UP_STEPS
        self._due_ns = due_ns + due * period_ns
        return due

    def _operate(self, now_ns: int) -> None:
        """Play the person at the gantry."""
        if self._press is not None or now_ns - self._pressed_ns < PAUSE_S * 1e9:
            return
        limp_s = 0.0 if self._limp_since_ns is None else (now_ns - self._limp_since_ns) * 1e-9
        if self._limp_since_ns is not None:
            done = self._done and now_ns - self._heard_ns < GONE_S * 1e9
            self._done = done
            if not done and (limp_s > LIMP_S and not self.gantry.lowered or not self.config.tether):
                self._start_press("start", now_ns)
        elif self.gantry.lowered and self.gantry.settled_s >= SETTLE_S - 1e-9 and not self._policy_speaks:
            if float(np.abs(self.sim.joint_pos - self.robot.default_joint_pos).max()) < 0.25:
                self._start_press("A", now_ns)

        elif self._policy_speaks and self.config.tether:
            self._judge_end(now_ns)

    def _judge_end(self, now_ns: int) -> None:
        """Hoist a robot whose motion is over, and press B once the rope carries it."""
        if self._hoisting:
            if self.gantry.tension_n > 0.5 * self.sim.weight_n:
                self._start_press("B", now_ns)
                self._done = True
            return
        pose = self.sim.joint_pos
        if self._still is None or float(np.abs(pose - self._still[0]).max()) > STILL_RAD:
            self._moved = self._still is not None or self._moved
            self._still = pose, now_ns
        at_rest = float(np.abs(pose - self.robot.default_joint_pos).max()) < 0.3
        self._hoisting = self._moved and at_rest and now_ns - self._still[1] > STILL_S * 1e9

    def _start_press(self, button: str, now_ns: int) -> None:
        self._press, self._pressed_ns = (button, now_ns + round(PRESS_S * 1e9)), now_ns

    # what it says ----------------------------------------------------------------------------------
    def _say(self, now_ns: int) -> None:
        data = self._state_message(now_ns)
        faults, chance = self.faults, self._random.random
        if faults.crc and chance() < faults.crc:
            spoilt = bytearray(data)
            spoilt[self._random.randrange(76, 2032)] ^= 1 << self._random.randrange(8)
            data = bytes(spoilt)
        if faults.garbage and chance() < faults.garbage:
            self._states.write(wire.HEADER + self._random.randbytes(2088))
        if not (faults.drop and chance() < faults.drop):
            self._queue.append((now_ns + round(1e6 * faults.delay_ms), data))
            if faults.duplicate and chance() < faults.duplicate:
                self._queue.append(self._queue[-1])
        while self._queue and self._queue[0][0] <= now_ns:
            _, ready = self._queue.popleft()
            if faults.reorder and self._held is None and chance() < faults.reorder:
                self._held = ready
                continue
            self._states.write(ready)
            self.counts["sent"] += 1
            if self._held is not None:
                self._states.write(self._held)
                self._held = None
        if self._ticks % 25 == 0:
            self._slow_states.write(data)
        if self._ticks % 100 == 0:
            self._charge.write(self._charge_message())
        if self._ticks % 5 == 0:
            self._imu.write(self._imu_message())

    def _state_message(self, now_ns: int) -> bytes:
        faults = self.faults
        if faults.stuck and self._stuck is not None:
            return self._stuck
        if not faults.timeless:
            self._tick_ms = (now_ns - self._start_ns) // 1_000_000
        tick = self._tick_ms
        state = replace(self.sim.state(), tick=int(tick))
        if faults.heat is not None:
            state.joint_temperature[faults.heat[0]] = faults.heat[1]
        if faults.spike is not None:
            state.joint_vel[faults.spike[0]] = faults.spike[1]
        if faults.nan is not None:
            state.joint_pos[faults.nan] = math.nan
        if faults.freeze is not None:
            parts = (state.joint_pos, state.joint_vel, state.joint_torque)
            kept = self._frozen.setdefault(faults.freeze, tuple(float(part[faults.freeze]) for part in parts))  # type: ignore[arg-type]
            for part, value in zip(parts, kept, strict=True):
                part[faults.freeze] = value
        if faults.shift is not None:
            state.joint_pos[faults.shift[0]] += faults.shift[1]
        if faults.flip is not None:
            state.joint_pos[faults.flip] *= -1.0
            state.joint_vel[faults.flip] *= -1.0
        if faults.strain is not None:
            state.joint_torque[faults.strain[0]] = faults.strain[1]
        if faults.tip:
            tip = np.array([math.cos(faults.tip / 2), 0.0, math.sin(faults.tip / 2), 0.0])
            state.base_quat_w[:] = quat_multiply(state.base_quat_w, tip)
        if faults.spin:
            state.base_ang_vel_b[1] += faults.spin
        if faults.imu_dead:
            state.base_quat_w[:] = state.base_ang_vel_b[:] = 0.0
        if self._press is not None and now_ns > self._press[1]:
            self._press = None
        buttons = frozenset() if self._press is None else frozenset({self._press[0]})
        remote = Remote(buttons, heard=not faults.remote_off)
        machine = self.config.mode_machine if faults.mode_machine is None else faults.mode_machine
        voltage = BROWN_VOLTAGE if faults.brownout else VOLTAGE
        data = self._writer.fill(state, self.robot, machine, encode(remote), voltage).tobytes()
        self._stuck = data
        return data

    def _charge_message(self) -> bytes:
        soc = 5 if self.faults.brownout else round(100 * self.config.battery)
        millivolt = round(1000 * (BROWN_VOLTAGE if self.faults.brownout else VOLTAGE))
        return encode_message(
            idl.BmsState(1, 0, 1, [millivolt // 13] * 13 + [0] * 27, [millivolt] * 3, -2000, soc, 100,
                         [30] * 12, 1, 0, [0] * 5, [0] * 3)
        )  # fmt: skip

    def _imu_message(self) -> bytes:
        quat = self.sim.data.body("torso_link").xquat
        gyro = self.sim.root_ang_vel_b
        return encode_message(idl.ImuState(quat.tolist(), gyro.tolist(), [0.0, 0.0, 9.81], [0.0] * 3, 40))

    def _controller_changed(self, name: str) -> None:
        if name:
            self._command = None
            self.gantry = Gantry(self.sim) if self.config.tether else FreeStart(self.sim)

    # the rival -------------------------------------------------------------------------------------
    def _rival_writes(self) -> None:
        if self._rival is None:
            bus = Bus(self.config.interface, self.config.domain)
            self._rival = bus, bus.writer(LOW_CMD_TOPIC, "LowCmd"), wire.LowCmdWriter(self.robot)
            self._rivals.add(self._rival[1].handle)
        machine = self.config.mode_machine
        command = position_command(self.robot, self.robot.default_joint_pos)
        self._rival[1].write(self._rival[2].fill(command, machine))

    def _stop_rival(self) -> None:
        if self._rival is not None:
            self._rival[0].close()
            self._rival = None

    # orders ----------------------------------------------------------------------------------------
    def order(self, line: str) -> dict[str, Any]:
        """Do what one line says (`HELP`) and return an answer as plain JSON types, with ``ok``.

        An order that makes the twin misbehave, and a press, begin a new wire log.
        """
        words = line.split()
        if not words:
            return {"ok": True}
        try:
            return {"ok": True, "order": line.strip(), **self._do(words[0], words[1:])}
        except (GenMimicError, ValueError, IndexError, KeyError) as error:
            known = ", ".join(HELP)
            text = str(error) if isinstance(error, GenMimicError) else f"{line.strip()!r} is no order; known: {known}"
            return {"ok": False, "error": text}

    def _do(self, word: str, rest: list[str]) -> dict[str, Any]:
        faults = self.faults
        if word == "help":
            return {"help": HELP}
        if word == "quit":
            self._ended = True
            return {}
        if word == "stats":
            return {**self.counts, "controller": self.switcher.name, **self._situation()}
        if word == "report":
            return {**self.log.summary(), **self._situation()}
        if word == "press":
            if rest[0] not in BUTTONS:
                raise ConfigError(f"{rest[0]!r} is no button; known: {', '.join(BUTTONS)}")
            self._start_press(rest[0], self._now_ns)
            self.log.begin(time.time_ns())
            return {}
        if word == "hang":
            self.gantry = Gantry(self.sim, min(1.0, max(0.0, float(rest[0])))) if rest else Gantry(self.sim)
            if self._command is not None:
                self.sim.apply(self._command)
            return {}
        if word == "select":
            self.switcher.name = rest[0]
            self._controller_changed(rest[0])
            return {}
        if word == "operator":
            self._operator = {"on": True, "off": False}[rest[0]]
            return {}
        if word == "clear":
            self._clear()
            return {}
        self._misbehave(word, rest)
        now_ns = time.time_ns()
        if word == "stall":
            time.sleep(min(10.0, float(rest[0]) / 1e3))
        self.log.begin(now_ns)
        return {"faults": {name: value for name, value in vars(faults).items() if value not in (0.0, False, None)}}

    def _misbehave(self, word: str, rest: list[str]) -> None:
        faults = self.faults
        if word in ("drop", "duplicate", "reorder", "crc", "garbage"):
            setattr(faults, word, min(1.0, max(0.0, float(rest[0]))))
        elif word == "delay":
            faults.delay_ms = min(10_000.0, max(0.0, float(rest[0])))
        elif word in ("vanish", "deaf", "second_writer", "stuck", "imu_dead", "remote_off", "timeless"):
            setattr(faults, word, True)
        elif word == "brownout":
            faults.brownout = True
            self.sim.configure(replace(self._sim_config, strength_scale=0.7))
            self._charge.write(self._charge_message())
        elif word == "mode_machine":
            faults.mode_machine = int(rest[0])
        elif word in ("freeze", "nan", "flip"):
            self._frozen.clear()
            setattr(faults, word, self._joint(rest[0]))
        elif word in ("heat", "spike", "shift", "strain"):
            setattr(faults, word, (self._joint(rest[0]), float(rest[1])))
        elif word in ("tip", "spin"):
            setattr(faults, word, float(rest[0]))
        elif word == "push":
            self.sim.push((float(rest[0]), float(rest[1])))
        elif word == "stall":
            float(rest[0])
        elif word == "mark":
            pass
        else:
            raise KeyError(word)

    def _clear(self) -> None:
        if self.faults.brownout:
            self.sim.configure(self._sim_config)
        self.faults = Faults()
        self._queue.clear()
        self._frozen.clear()
        self._held = None
        self._stop_rival()
        self._charge.write(self._charge_message())

    def _joint(self, name: str) -> int:
        full = name if name.endswith("_joint") else f"{name}_joint"
        return int(self.robot.joint_idx([full])[0])

    def _situation(self) -> dict[str, Any]:
        sim, gantry = self.sim, self.gantry
        stiff = self._command is not None and bool(self._command.kp.any())
        return {
            "stiff": stiff,
            "lowered": gantry.lowered,
            "policy_speaks": self._policy_speaks,
            "root_height_m": round(float(sim.root_pos_w[2]), 3),
            "root_xy_m": [round(float(value), 3) for value in sim.root_pos_w[:2]],
            "tilt_rad": round(sim.tilt_rad, 3),
            "rope_n": round(gantry.tension_n, 1) if math.isfinite(gantry.tension_n) else None,
            "fastest_joint_rad_s": round(float(np.abs(sim.joint_vel).max()), 3),
            "fallen": sim.fallen,
        }
