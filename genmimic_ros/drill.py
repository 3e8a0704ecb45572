# SPDX-License-Identifier: Apache-2.0
"""`genmimic drill`: the nodes drive the twin through a motion, something goes wrong, and what follows is measured.

Everything under test is what drives the real robot: the bridge with its link, gate and guard, the safety monitor, the
policy and the reference, each in its own process. The twin judges the wire: when the first command with less stiffness
came, and whether any number of any command was out of bounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Float32, String
from std_srvs.srv import Trigger

from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.core.modes import DAMPING, Mode
from genmimic.core.motion import load_motion
from genmimic.core.robot import G1_23DOF
from genmimic.link.realtime import realtime_priority
from genmimic.policy import find_policy, find_shipped
from genmimic_ros.msg import JointCommand, RobotState, SafetyStatus
from genmimic_ros.runtime import PRESS_QOS, STATUS_SUB, STREAM_PUB, STREAM_SUB, make_executor
from genmimic_ros.stack import NAMESPACE, NodeStack, die_with_parent, prepare_environment

FORMAT = "genmimic-drill/1"

EXIT_GOOD, EXIT_BAD = 0, 1

ATTEMPTS = 6
"""How often the motion is tried to be reached: a machine that is too busy damps the robot before anything was done."""

SETTLE_S = 0.3, 1.1
"""How long the motion plays before something goes wrong: another time in each repetition, spread over this span."""

CLEARANCE_M = 0.01
"""Height of the soles when the robot is hung up: what is drilled comes later, and lowering takes its time."""

STOOD_S, READY_S = 0.2, 0.2
"""Rest on the feet before the policy takes over, and under the policy before the motion begins."""

NODES = {
    "g1_bridge_node": "bridge.yaml",
    "policy_node": "policy.yaml",
    "motion_reference_node": "reference.yaml",
    "safety_node": "safety.yaml",
}
GUARD = "guard"
"""Name of the bridge's guard, where a case names a process."""

SHAKEN = "left_elbow_joint"
"""Whose target a mad policy moves."""


class DrillError(GenMimicError):
    """The drill itself cannot go on."""


@dataclass(frozen=True)
class Case:
    """Something that goes wrong.

    Attributes:
        name: As printed, and as chosen on the command line.
        act: What is done, one after the other where there is a ``;``: an order of the twin, or one of `Drill`'s own:
            ``kill|term|int PROCESS``, ``stop PROCESS|all [ms]``, ``throttle PROCESS OFF_MS ON_MS``, ``load S``,
            ``say WHAT``, ``keys BUTTON``, ``call SERVICE``, ``files``, ``memory``, ``clock S``.
        expect: What must follow: damp, stand, hold, or ride (nothing); several where any of them will do.
        rules: Rules of which at least one must be named; empty for any. ``*`` matches all, also none.
        watch_s: How long what follows is watched at most.
        safety: Parameters of safety_node that differ for it.
    """

    name: str
    act: str
    expect: str
    rules: tuple[str, ...] = ()
    watch_s: float = 1.0
    safety: tuple[tuple[str, float], ...] = ()


_STATE = ("silence", "state_age", "bridge_damped")
_SILENT_POLICY = ("bridge_damped", "command_age")
_FALL = ("tilt", "ang_vel", "joint_vel", "joint_pos")
_SENSITIVE = (("tracking_error_m", 0.05), ("tracking_time_s", 0.1))

CASES = (
    # the robot and the wire
    Case("robot vanishes", "vanish", "damp", _STATE),
    Case("state stands still", "stuck", "damp", _STATE),
    Case("tick stands still", "timeless", "damp", ("state_frozen", *_STATE)),
    Case("robot stalls 200 ms", "stall 200", "damp", _STATE),
    Case("30 % of states lost", "drop 0.3", "ride"),
    Case("states 20 ms late", "delay 20", "ride"),
    Case("states 80 ms late", "delay 80", "damp", ("state_late", *_STATE)),
    Case("30 % of states overtaken", "reorder 0.3", "ride"),
    Case("every state twice", "duplicate 1", "ride"),
    Case("3 % wrong checksums", "crc 0.03", "ride"),
    Case("30 % wrong checksums", "crc 0.3", "damp", ("wrong_crc",)),
    Case("all checksums wrong", "crc 1", "damp", ("wrong_crc", *_STATE)),
    Case("random bytes, half as often", "garbage 0.5", "damp", ("wrong_crc",)),
    Case("mode_machine changes", "mode_machine 5", "damp", ("mode_machine",)),
    Case("second writer", "second_writer", "damp", ("second_writer",)),
    Case("robot obeys no more", "deaf", "damp hold", (*_FALL, "joint_torque", "tracking"), 6.0),
    # sensors
    Case("knee reading frozen", "freeze left_knee", "damp", ("joint_frozen",)),
    Case("knee reading not a number", "nan left_knee", "damp", ("state_finite",)),
    Case("knee reads 40 rad/s", "spike left_knee 40", "damp", ("joint_vel",)),
    Case("elbow reads beyond its range", "shift left_elbow 3", "damp", ("joint_pos",)),
    Case("elbow reads its peak torque", "strain left_elbow 25", "damp", ("joint_torque",), 2.0),
    Case("IMU reads a fall", "tip 1.3", "damp", ("tilt",)),
    Case("gyroscope reads 8 rad/s", "spin 8", "damp", _FALL),
    Case("dead IMU", "imu_dead", "damp", ("state_finite",)),
    Case("motor at 95 degrees", "heat left_knee 95", "ride", ("temperature_warn",), 1.5),
    Case("motor at 130 degrees", "heat left_knee 130", "damp", ("temperature",)),
    Case("battery at 5 %, weak motors", "brownout", "stand", ("battery",), 1.5),
    # people and the gantry
    Case("pushed at 3 m/s", "push 3 0", "damp", (*_FALL, "tracking"), 3.0),
    Case("rope carries 300 N", "say tension", "damp", ("gantry",), 1.5),
    Case("remote lost", "remote_off", "stand", ("remote_lost",), 3.6),
    Case("B on the remote", "press B", "damp", ("estop", "bridge_damped")),
    Case("B on the keyboard", "keys B", "damp", ("estop", "bridge_damped")),
    Case("estop asked for", "call estop", "damp", ("estop",)),
    # a mad policy
    Case("commands not numbers", "say nan", "damp", ("command_finite", "bridge_damped")),
    Case("a target jumps by 2 rad", "say jump", "damp", ("command_jump", "bridge_damped")),
    Case("targets and gains beyond all limits", "say huge", "damp", ("command_jump", "bridge_damped", *_FALL)),
    Case("a target shakes at 50 rad/s", "say shake", "damp", ("command_rate",)),
    # processes
    Case("kill -9 policy", "kill policy_node", "damp", _SILENT_POLICY),
    Case("kill -9 reference", "kill motion_reference_node", "damp", ("goal_age", "goal_lost", "command_age"), 2.5),
    Case("kill -9 safety monitor", "kill safety_node", "damp", ("*",)),
    Case("kill -9 bridge", "kill g1_bridge_node", "damp", ("state_age",), 1.5),
    Case("kill -9 guard", "kill guard", "stand", ("guard",), 1.5),
    Case("SIGTERM bridge", "term g1_bridge_node", "damp", ("state_age", "bridge_damped"), 1.5),
    Case("SIGINT bridge", "int g1_bridge_node", "damp", ("state_age", "bridge_damped"), 1.5),
    Case("SIGSTOP policy", "stop policy_node", "damp", _SILENT_POLICY),
    Case("SIGSTOP reference", "stop motion_reference_node", "damp", ("goal_age", "goal_lost", "command_age"), 2.5),
    Case("SIGSTOP safety monitor", "stop safety_node", "damp", ("*",)),
    Case("SIGSTOP bridge", "stop g1_bridge_node", "damp", ("state_age",), 1.5),
    # scheduling
    Case("policy stalls 200 ms", "stop policy_node 200", "damp", _SILENT_POLICY),
    Case("reference stalls 200 ms", "stop motion_reference_node 200", "ride hold", ("*",)),
    Case("safety monitor stalls 200 ms", "stop safety_node 200", "damp", ("*",)),
    Case("bridge stalls 200 ms", "stop g1_bridge_node 200", "damp", ("state_age", "bridge_damped", "second_writer")),
    Case("all stall 200 ms", "stop all 200", "damp", ("*",)),
    Case("policy slowed down", "throttle policy_node 28 6", "stand damp", ("policy_period", *_SILENT_POLICY), 3.5),
    Case("bridge slowed down", "throttle g1_bridge_node 10 2", "stand damp", ("overrun", *_STATE), 3.0),
    Case("all cores busy", "load 3", "ride", (), 3.0),
    # the machine
    Case("no file can be written", "files", "ride"),
    Case("no file can be written, B on the remote", "files; press B", "damp", ("estop", "bridge_damped")),
    Case("no file can be written, kill -9 bridge", "files; kill g1_bridge_node", "damp", ("state_age",), 1.5),
    Case("no memory for the bridge", "memory", "ride stand damp", ("*",), 1.5),
    Case("no memory for the bridge, kill -9 policy", "memory; kill policy_node", "damp", ("*",), 1.5),
    Case("clock set forward an hour", "clock 3600", "ride", (), 1.5),
    Case("clock set back an hour", "clock -3600", "ride", (), 1.5),
    # with another monitor
    Case("keypoints off (limit 5 cm)", "shift waist_yaw 0.8", "hold", ("tracking",), 1.5, _SENSITIVE),
)  # fmt: skip
"""The whole drill. `SHORT` is the part of it that tests run."""

SHORT = (
    "robot vanishes", "30 % of states lost", "30 % wrong checksums", "knee reading frozen", "second writer",
    "mode_machine changes", "remote lost", "kill -9 policy", "kill -9 safety monitor", "kill -9 guard",
)  # fmt: skip


@dataclass
class Trial:
    """What came of one repetition; plain JSON types.

    ``moment_s`` is how long the motion had played, ``stall_ms`` how long the machine kept a real-time thread waiting
    meanwhile; ``tries`` says why the motion was not reached at once, if so.
    """

    mode: str
    rules: list[str]
    text: str
    fading_ms: float | None
    limp_ms: float | None
    outside: dict[str, int]
    after: dict[str, Any]
    good: bool
    problem: str = ""
    load: float = 0.0
    moment_s: float = 1.0
    stall_ms: float = 0.0
    tries: list[str] = field(default_factory=list)


@dataclass
class Result:
    """What came of a case: trials, how many were void, and why the last one was."""

    case: Case
    trials: list[Trial] = field(default_factory=list)
    void: int = 0
    trouble: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        trials = self.trials
        fading = [trial.fading_ms for trial in trials if trial.fading_ms is not None]
        limp = [trial.limp_ms for trial in trials if trial.limp_ms is not None]
        return {
            "fault": self.case.name,
            "act": self.case.act,
            "expected": self.case.expect,
            "trials": len(trials),
            "good": sum(trial.good for trial in trials),
            "void": self.void,
            "detected_by": _common([_named(trial) for trial in trials]),
            "reaction": _common([trial.mode for trial in trials]),
            "damped_ms": _spread(fading),
            "limp_ms": _spread(limp),
            "outside": sum(sum(trial.outside.values()) for trial in trials),
            "outside_kinds": sorted({name for trial in trials for name in trial.outside}),
            "after": _common([_after(trial.after) for trial in trials]),
            "problems": sorted({trial.problem for trial in trials} - {""}) or [self.trouble] * (not trials),
        }


class StallWatch:
    """Measures how long the machine keeps a real-time thread waiting: one on each core, of the twin's priority.

    Where other programs take the cores, or the kernel gives them to ordinary ones for 50 ms (docs/pitfalls.md), robot
    and bridge stand still, and what follows says nothing about the fault.
    """

    def __init__(self) -> None:
        self._worst_s: dict[int, float] = {}
        for core in sorted(os.sched_getaffinity(0)):
            threading.Thread(target=self._run, args=(core,), daemon=True).start()

    def begin(self) -> None:
        """Forget what has been."""
        self._worst_s = {}

    @property
    def worst_ms(self) -> float:
        """The longest wait since `begin`; 0 where real-time priority is not permitted."""
        return 1e3 * max(self._worst_s.values(), default=0.0)

    def _run(self, core: int) -> None:
        os.sched_setaffinity(0, {core})  # this thread alone
        if not realtime_priority(TWIN_PRIORITY):
            return
        before = time.monotonic()
        while True:
            time.sleep(_LOOK_S)
            now = time.monotonic()
            worst = self._worst_s
            worst[core] = max(worst.get(core, 0.0), now - before - _LOOK_S)
            before = now


class TwinProcess:
    """`genmimic twin` as a child, without an operator."""

    def __init__(self, domain: int) -> None:
        command = [sys.executable, "-m", "genmimic.cli", "twin", "--domain", str(domain), "--no-operator"]
        command += ["--controller", "none"]
        with ordinary_priority():
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def order(self, line: str) -> dict[str, Any]:
        """Give an order and return the answer. Raises DrillError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._answers.get(timeout=20.0))
        except (OSError, ValueError, queue.Empty):
            raise DrillError(f"the twin does not answer to {line!r}") from None
        if not answer["ok"]:
            raise DrillError(f"the twin refuses {line!r}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)


class Drill:
    """The nodes, the twin, and somebody who operates both.

    Args:
        motion: File of the motion.
        policy: File of the policy.
        domain: DDS domain between bridge and twin.
        stack: Runs the nodes.
        node: To listen and speak through.
        clock: Whose time all nodes live in; None for the system's.
    """

    def __init__(
        self, motion: Path, policy: Path, domain: int, stack: NodeStack, node: Node, clock: SteppedClock | None = None
    ) -> None:
        self._motion, self._policy, self._domain, self._stack = motion, policy, domain, stack
        self._node, self._clock = node, clock
        self._status: SafetyStatus | None = None
        self._bridge_mode: int | None = None
        self._state_s = 0.0
        self._command: JointCommand | None = None
        self._diagnosed: set[str] = set()
        self._safety: tuple[tuple[str, float], ...] = ()
        self._saying: Callable[[], None] | None = None
        self._stalls = StallWatch()
        self._executor = make_executor(node.context)
        self._executor.add_node(node)
        node.create_subscription(SafetyStatus, "safety_status", self._on_status, STATUS_SUB)
        node.create_subscription(RobotState, "robot_state", self._on_state, STREAM_SUB)
        node.create_subscription(JointCommand, "joint_command", self._on_command, STREAM_SUB)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._command_pub = node.create_publisher(JointCommand, "joint_command", STREAM_PUB)
        self._press_pub = node.create_publisher(String, "press", PRESS_QOS)
        self._tension_pub = node.create_publisher(Float32, "gantry/tension", STREAM_PUB)
        names = ("arm", "start", "stop", "estop", "reset", "confirm_standing")
        self._clients = {name: node.create_client(Trigger, name) for name in names}
        self.twin = TwinProcess(domain)
        for name in NODES:
            self._start(name)

    def close(self) -> None:
        """End the twin and stop listening."""
        for pid in self._guards():
            _signal(pid, signal.SIGKILL)
        self.twin.close()
        self._executor.shutdown(timeout_sec=1.0)

    # one repetition ----------------------------------------------------------------------------
    def trial(self, case: Case, repetition: int = 0) -> Trial:
        """Bring the robot into the motion, do what ``case`` says, and watch. Raises DrillError."""
        moment_s = SETTLE_S[0] + (SETTLE_S[1] - SETTLE_S[0]) * (0.5 + repetition * _GOLDEN % 1.0) % 1.0
        tries = self._into_motion(case, moment_s)
        self._diagnosed.clear()
        undo: list[Callable[[], None]] = []
        self._stalls.begin()
        try:
            for act in case.act.split(";"):
                undo.append(self._act(act.split()))
            mode, rules, text = self._watch(case)
            report = self.twin.order("report")
            stall_ms = round(self._stalls.worst_ms, 1)
        finally:
            self._saying = None
            for step in reversed(undo):
                step()
        shown = {key: report[key] for key in ("stiff", "root_height_m", "tilt_rad", "rope_n", "fallen")}
        problem = self._problem(case, mode, rules, report)
        return Trial(
            mode.name, rules, text, report["first_fading_ms"], report["first_limp_ms"], report["outside"], shown,
            not problem, problem, round(os.getloadavg()[0], 1), round(moment_s, 2), stall_ms, tries,
        )  # fmt: skip

    def _watch(self, case: Case) -> tuple[Mode, list[str], str]:
        """Return the worst mode that followed, the rules that were named, and what the first one said."""
        worst, rules, text = Mode.MIMIC, [], ""
        begin = looked = time.monotonic()
        while (now := time.monotonic()) - begin < case.watch_s + (LIMP_S if worst in DAMPING else 0.0):
            if self._saying is not None:
                self._saying()
            self._spin()
            if self._status is not None:
                worst = max(worst, Mode(self._status.mode), key=_SEVERITY.index)
                for reason in self._status.reasons:
                    rule, _, words = reason.partition(": ")
                    if rule not in rules:
                        rules.append(rule)
                        text = text or words
            if self._bridge_mode in (Mode.DAMPED, Mode.ESTOP):
                worst = max(worst, Mode(self._bridge_mode), key=_SEVERITY.index)
            if now - looked > 0.15 and case.expect == "damp" and (_matches(case, rules) or now - begin > 0.5):
                looked = now
                limp_ms = self.twin.order("report")["first_limp_ms"]
                if limp_ms is not None and 1e3 * (now - begin) > limp_ms + 300.0 and _matches(case, rules):
                    break
        return worst, rules or sorted(self._diagnosed), text

    @staticmethod
    def _problem(case: Case, mode: Mode, rules: Sequence[str], report: dict[str, Any]) -> str:
        """Return what is not as it should be, one line; empty when all is."""
        if report["outside"]:
            return f"commands outside the limits: {report['outside']}"
        named, faded = ", ".join(rules) or "no reason", report["first_fading_ms"] is not None
        if faded and report["first_limp_ms"] is None:
            return f"less stiffness on the wire, but no damping ({mode.name}: {named})"
        if report["stiff_after_limp"]:
            return "stiff again after it was limp"
        if mode in DAMPING and not faded:
            return f"{mode.name} ({named}), but no damping on the wire"
        followed = "damp" if faded else {Mode.HOLD: "hold", Mode.READY: "stand"}.get(mode, "ride")
        if followed not in case.expect.split():
            return f"{followed} ({mode.name}: {named}), expected {case.expect.replace(' ', ' or ')}"
        if not _matches(case, rules):
            return f"named {named}; expected one of {', '.join(case.rules)}"
        return ""

    def _into_motion(self, case: Case, moment_s: float) -> list[str]:
        """Bring the robot into the motion, play for a moment, and return why that had to be tried again, if it had."""
        failures: list[str] = []
        for _ in range(ATTEMPTS):
            try:
                self.twin.order("clear")
                started = self._revive(case)
                if failures or started or not self._again():
                    self._from_the_gantry()
                self._call("start", 5.0)
                self._reach(lambda: self._mode() is Mode.MIMIC, 5.0, "MIMIC")
                self._rest(moment_s)
                if self._mode() is Mode.MIMIC:
                    return failures
                failures.append(self._situation() + ", before anything was done")
            except DrillError as error:
                failures.append(str(error))
        raise DrillError(failures[-1])

    def _again(self) -> bool:
        """Let a robot that has ridden out the fault before balance again; false where it has not."""
        report = self.twin.order("stats")
        upright = report["policy_speaks"] and not report["fallen"] and report["tilt_rad"] < 0.3
        if not upright or self._mode() not in (Mode.READY, Mode.MIMIC, Mode.HOLD):
            return False
        if self._mode() is not Mode.READY:
            self._call("stop", 2.0)
            self._reach(lambda: self._mode() is Mode.READY, 2.0, "READY")
        self._rest(2.0 * READY_S)
        return self._mode() is Mode.READY

    def _from_the_gantry(self) -> None:
        """Hang, arm, stand and balance."""
        if self._mode() in (Mode.READY, Mode.MIMIC, Mode.HOLD, Mode.STANDING):
            self._call("estop", 5.0)
        self._wait(lambda: not self.twin.order("stats")["stiff"], 5.0, "the robot to be limp")
        self.twin.order(f"hang {CLEARANCE_M}")
        if self._mode() in DAMPING:
            self._call("reset", 8.0)
        self._call("arm", 30.0)
        self._reach(lambda: self.twin.order("stats")["lowered"], 15.0, "the robot on its feet")
        self._rest(STOOD_S)
        self._call("confirm_standing", 5.0)
        self._reach(lambda: self._mode() is Mode.READY, 5.0, "READY")
        self._rest(READY_S)

    # what goes wrong ---------------------------------------------------------------------------
    def _act(self, words: Sequence[str]) -> Callable[[], None]:
        """Do what the words say; return what undoes it."""
        own = {
            "load": self._load, "kill": self._signal_it, "term": self._signal_it, "int": self._signal_it,
            "keys": self._type, "stop": self._stop, "throttle": self._throttle,
            "say": self._say, "call": self._ask, "files": self._limit, "memory": self._limit, "clock": self._step_clock,
        }  # fmt: skip
        if words[0] not in own:
            self.twin.order(" ".join(words))
            return _nothing
        self.twin.order("mark")
        return own[words[0]](words)

    def _signal_it(self, words: Sequence[str]) -> Callable[[], None]:
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[words[0]]
        if words[1] == "safety_node":
            self._status = None
        for pid in self._pids(words[1]):
            _signal(pid, number)
        return _nothing

    def _stop(self, words: Sequence[str]) -> Callable[[], None]:
        pids = self._pids(words[1])
        for pid in pids:
            _signal(pid, signal.SIGSTOP)

        def go_on() -> None:
            for pid in pids:
                _signal(pid, signal.SIGCONT)

        if len(words) > 2:
            timer = threading.Timer(float(words[2]) / 1e3, go_on)
            timer.daemon = True
            timer.start()
        return go_on

    def _throttle(self, words: Sequence[str]) -> Callable[[], None]:
        (pid,), ended = self._pids(words[1]), threading.Event()
        off_s, on_s = float(words[2]) / 1e3, float(words[3]) / 1e3

        def toggle() -> None:
            realtime_priority(THROTTLE_PRIORITY)
            while not ended.is_set():
                _signal(pid, signal.SIGSTOP)
                time.sleep(off_s)
                _signal(pid, signal.SIGCONT)
                time.sleep(on_s)

        thread = threading.Thread(target=toggle, daemon=True)
        thread.start()

        def end() -> None:
            ended.set()
            thread.join()

        return end

    @staticmethod
    def _load(words: Sequence[str]) -> Callable[[], None]:
        code = f"import time; end = time.monotonic() + {float(words[1])}\nwhile time.monotonic() < end: pass"
        with ordinary_priority():
            busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]

        def end() -> None:
            for process in busy:
                process.kill()
                process.wait()

        return end

    def _say(self, words: Sequence[str]) -> Callable[[], None]:
        """Speak in place of a load cell, or of a policy that is stopped."""
        begin = time.monotonic()
        if words[1] == "tension":  # slack for a while, then it hangs

            def tension() -> None:
                self._tension_pub.publish(Float32(data=0.0 if time.monotonic() - begin < 0.3 else 300.0))

            self._saying = tension
            return _nothing
        last, undo = self._command, self._stop(["stop", "policy_node"])
        if last is None:
            raise DrillError("no joint_command has been heard")
        joint, what = int(G1_23DOF.joint_idx([SHAKEN])[0]), words[1]
        before, sequence, due = np.array(last.position), last.sequence, begin

        def speak() -> None:
            nonlocal sequence, due
            if time.monotonic() < due:
                return
            due += 0.02
            sequence += 1
            last.sequence, position = sequence, before.copy()
            if what == "nan":
                position[joint] = math.nan
            elif what == "jump":
                position[joint] += 2.0
            elif what == "shake":
                position[joint] += 0.5 if sequence % 2 else -0.5
            else:
                position[:], last.kp[:], last.kd[:], last.velocity[:], last.torque[:] = 100.0, 1e6, 1e6, 1e6, 1e6
            last.position = position
            self._command_pub.publish(last)

        self._saying = speak
        return undo

    def _type(self, words: Sequence[str]) -> Callable[[], None]:
        self._press_pub.publish(String(data=words[1]))
        return _nothing

    def _ask(self, words: Sequence[str]) -> Callable[[], None]:
        self._clients[words[1]].call_async(Trigger.Request())
        return _nothing

    def _limit(self, words: Sequence[str]) -> Callable[[], None]:
        """Let all processes under test write no file any more, or the bridge get no more memory."""
        kind, names = (
            (resource.RLIMIT_FSIZE, [*NODES, GUARD])
            if words[0] == "files"
            else (resource.RLIMIT_AS, ["g1_bridge_node"])
        )
        pids = [pid for name in names for pid in self._pids(name)]
        before = [(pid, resource.prlimit(pid, kind)) for pid in pids]
        for pid, (_, hard) in before:
            resource.prlimit(pid, kind, (1, hard))

        def lift() -> None:
            for pid, limits in before:
                with contextlib.suppress(OSError):
                    resource.prlimit(pid, kind, limits)

        return lift

    def _step_clock(self, words: Sequence[str]) -> Callable[[], None]:
        if self._clock is None:
            raise DrillError("the clock of the nodes cannot be set: no C compiler")
        self._clock.step(float(words[1]))
        clock = self._clock
        return lambda: clock.step(0.0)

    def _pids(self, name: str) -> list[int]:
        if name == GUARD:
            return self._guards()
        return list(self._stack.pids.values()) if name == "all" else [self._stack.pids[name]]

    def _guards(self) -> list[int]:
        """Return the guards of bridges on our domain, of which those that have spoken outlive theirs."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                words = (entry / "cmdline").read_text().split("\0")
                if "genmimic.link.guard" in words and words[words.index("--domain") + 1] == str(self._domain):
                    found.append(int(entry.name))
        return found

    # the nodes ---------------------------------------------------------------------------------
    def _start(self, name: str) -> None:
        parameters: dict[str, Any] = {}
        if name == "g1_bridge_node":
            parameters = {"robot": "g1", "interface": "lo", "dds_domain": self._domain, "stand_time_s": 1.0}
        elif name == "policy_node":
            parameters = {"policy": str(self._policy.resolve())}
        elif name == "motion_reference_node":
            parameters = {"motion": str(self._motion.resolve())}
        elif name == "safety_node":
            self._status = None
            parameters = dict(self._safety)
        with ordinary_priority(), self._clock.preloaded() if self._clock is not None else contextlib.nullcontext():
            self._stack.start(name, NODES[name], **parameters)

    def _revive(self, case: Case) -> bool:
        """Start again what was killed, a bridge whose guard has spoken or died, and a monitor with other limits.

        Returns:
            Whether anything was.
        """
        pids = self._stack.pids
        dead = {name for name in NODES if not _runs(pids[name])}
        alone = "g1_bridge_node" not in dead and not self._guards()
        if alone or self._guard_has_spoken():
            dead.add("g1_bridge_node")
        if case.safety != self._safety:
            self._safety = case.safety
            dead.add("safety_node")
        if "g1_bridge_node" in dead:
            self._bridge_mode, self._state_s = None, 0.0
        for name in sorted(dead):
            _signal(pids[name], signal.SIGCONT)
            _signal(pids[name], signal.SIGKILL)
            self._wait(lambda name=name: not _runs(pids[name]), 5.0, f"{name} to end")  # type: ignore[misc]
        if "g1_bridge_node" in dead:
            for pid in self._guards():  # it would go on for a while, and a new bridge refuses a second writer
                _signal(pid, signal.SIGKILL)
        for name in sorted(dead):
            self._start(name)
        self._wait(lambda: self._status is not None and time.monotonic() - self._state_s < 0.5, 30.0, "the nodes")
        return bool(dead)

    def _guard_has_spoken(self) -> bool:
        text = self._stack.log_text()
        return "guard: " in text and text.rfind("guard: ") > text.rfind("DDS domain")

    # listening and speaking --------------------------------------------------------------------
    def _mode(self) -> Mode:
        return Mode.DISARMED if self._status is None else Mode(self._status.mode)

    def _on_status(self, msg: SafetyStatus) -> None:
        self._status = msg

    def _on_command(self, msg: JointCommand) -> None:
        self._command = msg

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == "genmimic: safety":
                self._diagnosed.update(value.key for value in status.values if value.key not in ("mode", "heartbeat"))

    def _on_state(self, msg: RobotState) -> None:
        self._bridge_mode, self._state_s = msg.mode, time.monotonic()

    def _spin(self) -> None:
        self._executor.spin_once(timeout_sec=0.005)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._spin()

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise DrillError(f"gave up waiting for {what} ({self._situation()})")
            self._spin()

    def _reach(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait, unless the robot is damped meanwhile."""
        self._wait(lambda: condition() or self._mode() in DAMPING, seconds, what)
        if self._mode() in DAMPING:
            raise DrillError(f"{self._situation()}, on the way to {what}")

    def _situation(self) -> str:
        reasons = "; ".join(self._status.reasons) if self._status is not None else "no safety status"
        return f"{self._mode().name}: {reasons}" if reasons else self._mode().name

    def _call(self, name: str, seconds: float) -> None:
        until, answer = time.monotonic() + seconds, "no answer"
        while time.monotonic() < until:
            client = self._clients[name]
            if client.service_is_ready():
                future = client.call_async(Trigger.Request())
                limit = time.monotonic() + 2.0
                while not future.done() and time.monotonic() < limit:
                    self._spin()
                if future.done():
                    response = future.result()
                    if response is not None and response.success:
                        return
                    answer = response.message if response is not None else answer
                    if name in ("start", "stop", "confirm_standing") and self._mode() in DAMPING:
                        break  # it will not be accepted later, either
            self._rest(0.05)
        raise DrillError(f"{name}: {answer}")


LIMP_S = 0.5
"""How much longer a robot is watched that is damped at the very end: until it is limp."""

_GOLDEN = 0.618034

THROTTLE_PRIORITY = 80
"""Of the thread that stops a process again and again: one that is late itself slows down less than it says."""

TWIN_PRIORITY = 45
"""Of the twin, `genmimic.cli.twin`."""

_LOOK_S = 0.005

STALL_MS = 50.0
"""A trial during which the machine stood still for longer, the shortest limit of any rule, is void, whatever came of
it, and is made again; so is one that did not get as far as the fault."""

VOID_TRIES = 3
"""How often in a row; then other faults come first."""

EXTRA_ROUNDS = 5
"""Rounds beyond those asked for, for faults whose trials were void."""

PRIORITY = 35
"""Real-time priority of the drill itself, where permitted: below the nodes, above whatever keeps the machine busy."""


@contextlib.contextmanager
def ordinary_priority() -> Iterator[None]:
    """Let processes that are started meanwhile begin without real-time priority."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    if before[0] != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        if before[0] != os.SCHED_OTHER:
            os.sched_setscheduler(0, *before)


def run(args: argparse.Namespace) -> int:
    """Run the drill as the command line says and return the exit code. Raises GenMimicError."""
    cases = choose(args.fault, args.short)
    if not 1 <= args.repeat <= 1000:
        raise ConfigError(f"--repeat is {args.repeat}, expected 1 to 1000")
    if not 0.0 <= args.minutes <= 1440.0:
        raise ConfigError(f"--minutes is {args.minutes:g}, expected 0 to 1440")
    if not 0 <= args.domain <= 230:
        raise ConfigError(f"--domain is {args.domain}, expected 0 to 230")
    motion, policy = find_shipped(args.motion, "motions", ".npz"), find_policy(args.policy)
    load_motion(motion, G1_23DOF)
    folder = Folder(Path(args.report)) if args.report else None
    results = [Result(case) for case in cases]
    if folder is not None:
        folder.read(results)
    with tempfile.TemporaryDirectory(prefix="genmimic-drill-") as scratch:
        prepare_environment(Path(scratch))
        log = Path(args.log) if args.log else Path(scratch) / "nodes.log"
        log.write_text("")
        wanted = any(act.split()[0] == "clock" for case in cases for act in case.act.split(";"))
        clock = SteppedClock.build(Path(scratch)) if wanted else None
        realtime_priority(PRIORITY)
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = rclpy.create_node("drill", namespace=NAMESPACE)
            with NodeStack(log, Path(scratch) / "nodes") as stack:
                drill = Drill(motion, policy, args.domain, stack, node, clock)
                try:
                    _all(drill, results, args, folder)
                finally:
                    drill.close()
        finally:
            rclpy.try_shutdown()
    report = summary(results, args.repeat)
    if folder is not None:
        folder.write(report)
    print(json.dumps(report, indent=1) if args.json else table(report["faults"]))
    return EXIT_GOOD if report["success"] else EXIT_BAD


def summary(results: Sequence[Result], repeat: int) -> dict[str, Any]:
    """Return the report. It is a success when every trial was good and no fault was left out."""
    rows = [result.row() for result in results]
    return {
        "format": FORMAT,
        "repeat": repeat,
        "complete": all(row["trials"] >= repeat for row in rows),
        "trials": sum(row["trials"] for row in rows),
        "void": sum(row["void"] for row in rows),
        "success": all(row["good"] == row["trials"] > 0 for row in rows),
        "outside": sum(row["outside"] for row in rows),
        "faults": rows,
    }


class Folder:
    """Where trials are kept: ``trials.jsonl``, one a line; ``drill.json`` and ``drill.md`` are made of all of them.

    A drill that goes on in the same folder adds to what is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"report folder {path} cannot be made ({error.strerror})") from None

    def read(self, results: Sequence[Result]) -> None:
        """Give each result its trials of before. Raises ConfigError."""
        file = self._path / "trials.jsonl"
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines() if file.is_file() else (), 1):
            try:
                entry = json.loads(line)
                name, trial, void = entry["fault"], Trial(**entry["trial"]), bool(entry.get("void"))
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{file}, line {number}: not a trial ({error}); remove the line or the file"
                ) from None
            for result in results:
                if result.case.name == name and void:
                    result.void += 1
                elif result.case.name == name:
                    result.trials.append(trial)

    def add(self, case: Case, trial: Trial, void: bool = False) -> None:
        """Keep a trial, ``void`` if it does not count."""
        with (self._path / "trials.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"fault": case.name, "void": void, "trial": asdict(trial)}) + "\n")

    def write(self, report: dict[str, Any]) -> None:
        """Write the report, whole."""
        texts = {"drill.json": json.dumps(report, indent=1) + "\n", "drill.md": markdown(report)}
        for name, text in texts.items():
            part = self._path / f".{name}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(self._path / name)


class SteppedClock:
    """A system clock that can be set, for the nodes alone: a small library before libc's, and a number in a file.

    Setting the machine's own clock is not ours to do. What differs from that: timers of the kernel on CLOCK_REALTIME
    do not hear of the step; no part of the nodes uses one.
    """

    def __init__(self, library: Path, file: Path) -> None:
        self._library, self._file = library, file
        self.step(0.0)

    @classmethod
    def build(cls, scratch: Path) -> SteppedClock | None:
        """Compile the library; None where there is no C compiler."""
        source, library = scratch / "clock.c", scratch / "clock.so"
        source.write_text(_CLOCK_C)
        compiler = os.environ.get("CC") or shutil.which("cc")
        if compiler is None:
            return None
        done = subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], capture_output=True)
        return cls(library, scratch / "clock") if done.returncode == 0 else None

    def step(self, seconds: float) -> None:
        """Set all clocks so many seconds ahead of the system's."""
        offset_ns = round(1e9 * seconds).to_bytes(8, "little", signed=True)
        if not self._file.exists():
            self._file.write_bytes(offset_ns)
        with self._file.open("r+b") as file:
            file.write(offset_ns)

    @contextlib.contextmanager
    def preloaded(self) -> Iterator[None]:
        """Let processes that are started meanwhile live in this time."""
        os.environ.update(LD_PRELOAD=str(self._library), GENMIMIC_CLOCK=str(self._file))
        try:
            yield
        finally:
            del os.environ["LD_PRELOAD"], os.environ["GENMIMIC_CLOCK"]


_CLOCK_C = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none, *offset_ns = &none;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
  real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  real_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real_timedwait) real_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  const char *name = getenv("GENMIMIC_CLOCK");
  int file = name ? open(name, O_RDONLY) : -1;
  void *page = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) offset_ns = page;
}

static void move(struct timespec *at, int64_t by_ns) {
  int64_t ns = at->tv_sec * 1000000000LL + at->tv_nsec + by_ns;
  at->tv_sec = ns / 1000000000LL, at->tv_nsec = ns % 1000000000LL;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (!real_gettime) begin();
  int failed = real_gettime(clock, now);
  if (!failed && clock == CLOCK_REALTIME) move(now, *offset_ns);
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec at;
  (void)zone;
  int failed = clock_gettime(CLOCK_REALTIME, &at);
  now->tv_sec = at.tv_sec, now->tv_usec = at.tv_nsec / 1000;
  return failed;
}

time_t time(time_t *out) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (out) *out = at.tv_sec;
  return at.tv_sec;
}

/* A deadline on the real-time clock was made from the clock above; the kernel keeps the true one. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
  struct timespec at = *until;
  if (at.tv_sec > 1000000000) move(&at, -*offset_ns);
  return real_timedwait(cond, mutex, &at);
}
"""


def choose(names: Sequence[str], short: bool) -> list[Case]:
    """Return the cases to run. Raises ConfigError for a name that is none."""
    if not names:
        return [case for case in CASES if not short or case.name in SHORT]
    chosen = [case for case in CASES if any(name in (case.name, case.act.split()[0], case.act) for name in names)]
    for name in names:
        if not any(name in (case.name, case.act.split()[0], case.act) for case in CASES):
            raise ConfigError(f"no fault is called {name!r}; known: {', '.join(case.name for case in CASES)}")
    return chosen


def _all(drill: Drill, results: list[Result], args: argparse.Namespace, folder: Folder | None) -> None:
    """Run every case once, then every case again, so that all have been tried alike when time is up."""
    show = sys.stderr.isatty()
    end = time.monotonic() + 60.0 * args.minutes if args.minutes else math.inf
    for repetition in range(args.repeat + EXTRA_ROUNDS):
        for number, result in enumerate(results, 1):
            if len(result.trials) >= min(repetition + 1, args.repeat):
                continue
            if show:
                text = f"{repetition + 1}/{args.repeat} {number}/{len(results)} {result.case.name}"
                print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
            for _ in range(VOID_TRIES):
                if time.monotonic() > end:
                    return
                try:
                    trial, void = drill.trial(result.case, len(result.trials)), False
                except DrillError as error:
                    problem = f"the motion was not reached: {error}"
                    trial, void = Trial("-", [], "", None, None, {}, {}, False, problem), True
                void = void or trial.stall_ms > STALL_MS
                if void:
                    result.void, result.trouble = result.void + 1, trial.problem or "the machine stood still"
                else:
                    result.trials.append(trial)
                if folder is not None:
                    folder.add(result.case, trial, void)
                    folder.write(summary(results, args.repeat))
                if not void:
                    break
    if show:
        print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a Markdown table."""
    head, *rows = _cells(report["faults"])
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows for people."""
    lines = _cells(rows)
    widths = [max(len(line[idx]) for line in lines) for idx in range(len(lines[0]))]
    text = [" | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "-|-".join("-" * width for width in widths))
    text += [f"{row['fault']}: {problem}" for row in rows for problem in row["problems"]]
    return "\n".join(text)


def _cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    lines = [["fault", "detected by", "reaction", "damped after ms p50 / max", "outside", "robot after", "as expected"]]
    for row in rows:
        damped = row["damped_ms"]
        times = f"{damped['p50']:.0f} / {damped['max']:.0f}" if damped else "-"
        lines.append(
            [row["fault"], row["detected_by"], row["reaction"], times, str(row["outside"]), row["after"],
             f"{row['good']}/{row['trials']}"]
        )  # fmt: skip
    return lines


_SEVERITY = (Mode.DISARMED, Mode.STANDING, Mode.MIMIC, Mode.HOLD, Mode.READY, Mode.DAMPED, Mode.ESTOP)


def _matches(case: Case, rules: Sequence[str]) -> bool:
    return not case.rules or "*" in case.rules or bool(set(case.rules) & set(rules))


def _nothing() -> None:
    pass


_GENERAL = ("bridge_damped", "estop")  # what follows from something else that is named too


def _named(trial: Trial) -> str:
    special = [rule for rule in trial.rules if rule not in _GENERAL]
    return (special or [*trial.rules] or ["nobody" if trial.fading_ms is None else "bridge alone"])[0]


def _common(values: Sequence[str]) -> str:
    """Return the values, most frequent first."""
    found = sorted(set(values), key=lambda value: -values.count(value))
    return ", ".join(found)


def _after(after: dict[str, Any]) -> str:
    if not after:
        return "-"
    if after["stiff"]:
        return "lies, stiff" if after["fallen"] else "stands"
    return "limp, in the rope" if (after["rope_n"] or 0.0) > 50.0 else "limp, sinking"


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50 = float(np.percentile(values, 50))
    return {"p50": round(p50, 1), "max": round(max(values), 1)}


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return re.sub(r".*\) ", "", stat, flags=re.S)[0] != "Z"


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
