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
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.core.modes import DAMPING, Mode
from genmimic.core.motion import load_motion
from genmimic.core.robot import G1_23DOF
from genmimic.policy import find_policy, find_shipped
from genmimic_ros.msg import RobotState, SafetyStatus
from genmimic_ros.runtime import STATUS_SUB, STREAM_SUB, make_executor
from genmimic_ros.stack import NAMESPACE, NodeStack, die_with_parent, prepare_environment

FORMAT = "genmimic-drill/1"

EXIT_GOOD, EXIT_BAD = 0, 1

SETTLE_S = 1.0
"""How long the motion plays before something goes wrong."""

GUARD_S = 11.0
"""How long a guard that has spoken is waited for before a new bridge is started."""

NODES = {
    "g1_bridge_node": "bridge.yaml",
    "policy_node": "policy.yaml",
    "motion_reference_node": "reference.yaml",
    "safety_node": "safety.yaml",
}


class DrillError(GenMimicError):
    """The drill itself cannot go on."""


@dataclass(frozen=True)
class Case:
    """Something that goes wrong.

    Attributes:
        name: As printed, and as chosen on the command line.
        act: What the twin is ordered, or ``SIGNAL NODE [ms]``: kill, stop; or ``load S``.
        expect: damp, hold, or ride (nothing may follow).
        rules: Rules of which at least one must be named by the monitor; empty for any.
        watch_s: How long what follows is watched.
    """

    name: str
    act: str
    expect: str
    rules: tuple[str, ...] = ()
    watch_s: float = 1.0


CASES = (
    Case("robot vanishes", "vanish", "damp", ("silence", "state_age")),
    Case("state stands still", "stuck", "damp", ("silence", "state_age")),
    Case("robot stalls 200 ms", "stall 200", "damp", ("silence", "state_age", "bridge_damped")),
    Case("30 % of states lost", "drop 0.3", "ride"),
    Case("states 20 ms late", "delay 20", "ride"),
    Case("states 80 ms late", "delay 80", "damp", ("silence", "state_late", "state_age", "bridge_damped")),
    Case("30 % of states overtaken", "reorder 0.3", "ride"),
    Case("every state twice", "duplicate 1", "ride"),
    Case("3 % wrong checksums", "crc 0.03", "ride"),
    Case("30 % wrong checksums", "crc 0.3", "damp", ("wrong_crc",)),
    Case("all checksums wrong", "crc 1", "damp", ("wrong_crc", "silence", "state_age")),
    Case("random bytes, half as often", "garbage 0.5", "damp", ("wrong_crc",)),
    Case("knee reading frozen", "freeze left_knee", "damp", ("joint_frozen",)),
    Case("knee reading not a number", "nan left_knee", "damp", ("state_finite",)),
    Case("knee reads 40 rad/s", "spike left_knee 40", "damp", ("joint_vel",)),
    Case("dead IMU", "imu_dead", "damp", ("state_finite",)),
    Case("motor at 130 degrees", "heat left_knee 130", "damp", ("temperature",)),
    Case("battery at 5 %, weak motors", "brownout", "hold", ("battery",), 1.5),
    Case("mode_machine changes", "mode_machine 5", "damp", ("mode_machine",)),
    Case("second writer", "second_writer", "damp", ("second_writer",)),
    Case("remote lost", "remote_off", "hold", ("remote_lost",), 3.6),
    Case("pushed at 3 m/s", "push 3 0", "damp", ("tilt", "ang_vel", "tracking", "joint_vel"), 3.0),
    Case("B on the remote", "press B", "damp", ("estop", "bridge_damped")),
    Case("kill -9 policy", "kill policy_node", "damp", ("bridge_damped", "command_age")),
    Case("kill -9 reference", "kill motion_reference_node", "damp", ("goal_age", "goal_lost", "command_age"), 2.5),
    Case("kill -9 safety monitor", "kill safety_node", "damp"),
    Case("kill -9 bridge", "kill g1_bridge_node", "damp", ("state_age",), 1.5),
    Case("SIGSTOP policy", "stop policy_node", "damp", ("bridge_damped", "command_age")),
    Case("SIGSTOP reference", "stop motion_reference_node", "damp", ("goal_age", "goal_lost", "command_age"), 2.5),
    Case("SIGSTOP safety monitor", "stop safety_node", "damp"),
    Case("SIGSTOP bridge", "stop g1_bridge_node", "damp", ("state_age",), 1.5),
    Case("bridge stalls 200 ms", "stop g1_bridge_node 200", "damp", ("state_age", "bridge_damped", "second_writer")),
    Case("all cores busy", "load 3", "ride", (), 3.0),
)
"""The whole drill. `SHORT` is the part of it that tests run."""

SHORT = (
    "robot vanishes", "30 % of states lost", "30 % wrong checksums", "knee reading frozen", "second writer",
    "mode_machine changes", "kill -9 policy", "kill -9 safety monitor",
)  # fmt: skip


@dataclass
class Trial:
    """What came of one repetition."""

    mode: str
    rules: tuple[str, ...]
    text: str
    fading_ms: float | None
    limp_ms: float | None
    outside: dict[str, int]
    after: dict[str, Any]
    good: bool
    problem: str = ""


@dataclass
class Result:
    """What came of a case."""

    case: Case
    trials: list[Trial] = field(default_factory=list)

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
            "detected_by": _common([_named(trial) for trial in trials]),
            "reaction": _common([trial.mode for trial in trials]),
            "damped_ms": _spread(fading),
            "limp_ms": _spread(limp),
            "outside": sum(sum(trial.outside.values()) for trial in trials),
            "outside_kinds": sorted({name for trial in trials for name in trial.outside}),
            "after": _common([_after(trial.after) for trial in trials]),
            "problems": sorted({trial.problem for trial in trials if trial.problem}),
        }


class TwinProcess:
    """`genmimic twin` as a child, without an operator."""

    def __init__(self, domain: int) -> None:
        command = [sys.executable, "-m", "genmimic.cli", "twin", "--domain", str(domain), "--no-operator"]
        command += ["--controller", "none"]
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
    """

    def __init__(self, motion: Path, policy: Path, domain: int, stack: NodeStack, node: Node) -> None:
        self._motion, self._policy, self._domain, self._stack = motion, policy, domain, stack
        self._status: SafetyStatus | None = None
        self._status_s = 0.0
        self._bridge_mode: int | None = None
        self._state_s = 0.0
        self._executor = make_executor(node.context)
        self._executor.add_node(node)
        node.create_subscription(SafetyStatus, "safety_status", self._on_status, STATUS_SUB)
        node.create_subscription(RobotState, "robot_state", self._on_state, STREAM_SUB)
        names = ("arm", "start", "estop", "reset", "confirm_standing")
        self._clients = {name: node.create_client(Trigger, name) for name in names}
        self.twin = TwinProcess(domain)
        for name in NODES:
            self._start(name)

    def close(self) -> None:
        """End the twin and stop listening."""
        self.twin.close()
        self._executor.shutdown(timeout_sec=1.0)

    # one repetition ----------------------------------------------------------------------------
    def trial(self, case: Case) -> Trial:
        """Bring the robot into the motion, do what ``case`` says, and watch. Raises DrillError."""
        self._into_motion()
        wakes = self._act(case)
        worst_mode, rules, text = Mode.MIMIC, [], ""
        until = time.monotonic() + case.watch_s
        while time.monotonic() < until:
            self._spin()
            if self._status is None:
                continue
            mode = Mode(self._status.mode)
            if mode in DAMPING or (mode is Mode.HOLD and worst_mode not in DAMPING):
                worst_mode = mode
            for reason in self._status.reasons:
                rule, _, words = reason.partition(": ")
                if rule not in rules:
                    rules.append(rule)
                    text = text or words
        report = self.twin.order("report")
        wakes()
        bridge_damped = self._bridge_mode in (Mode.DAMPED, Mode.ESTOP)
        if worst_mode is Mode.MIMIC and bridge_damped:
            worst_mode = Mode.DAMPED
        problem = self._problem(case, worst_mode, rules, report)
        shown = {key: report[key] for key in ("stiff", "root_height_m", "tilt_rad", "rope_n", "fallen")}
        return Trial(
            worst_mode.name, tuple(rules), text, report["first_fading_ms"], report["first_limp_ms"], report["outside"],
            shown, not problem, problem,
        )  # fmt: skip

    @staticmethod
    def _problem(case: Case, mode: Mode, rules: Sequence[str], report: dict[str, Any]) -> str:
        """Return what is not as it should be, one line; empty when all is."""
        if report["outside"]:
            return f"commands outside the limits: {report['outside']}"
        fading = report["first_fading_ms"] is not None
        if case.expect == "damp":
            if not fading or report["first_limp_ms"] is None:
                return f"no damping on the wire ({mode.name}: {', '.join(rules) or 'no reason'})"
            if report["stiff_after_limp"]:
                return "stiff again after it was limp"
        elif fading:
            return f"damped ({mode.name}: {', '.join(rules) or 'no reason'}), expected {case.expect}"
        elif (case.expect == "hold") != (mode is Mode.HOLD):
            return f"{mode.name}, expected {case.expect}"
        if case.rules and not set(case.rules) & set(rules):
            return f"named {', '.join(rules) or 'nothing'}; expected one of {', '.join(case.rules)}"
        return ""

    def _into_motion(self) -> None:
        """Hang, arm, stand, balance, and play for a moment."""
        for _ in range(3):
            try:
                self.twin.order("clear")
                self._revive()
                if self._mode() in (Mode.READY, Mode.MIMIC, Mode.HOLD, Mode.STANDING):
                    self._call("estop", 5.0)
                self._wait(lambda: not self.twin.order("stats")["stiff"], 5.0, "the robot to be limp")
                self.twin.order("hang")
                if self._mode() in DAMPING:
                    self._call("reset", 8.0)
                self._call("arm", 30.0)
                self._wait(lambda: self.twin.order("stats")["lowered"], 15.0, "the robot on its feet")
                self._rest(0.5)
                self._call("confirm_standing", 5.0)
                self._wait(lambda: self._mode() is Mode.READY, 5.0, "READY")
                self._rest(0.3)
                self._call("start", 5.0)
                self._wait(lambda: self._mode() is Mode.MIMIC, 5.0, "MIMIC")
                self._rest(SETTLE_S)
                if self._mode() is Mode.MIMIC:
                    return
                failure = f"{self._mode().name} before anything was done"
            except DrillError as error:
                failure = str(error)
        raise DrillError(failure)

    def _act(self, case: Case) -> Callable[[], None]:
        """Do what the case says; return what undoes it."""
        words = case.act.split()
        if words[0] == "load":
            self.twin.order("mark")
            return self._load(float(words[1]))
        if words[0] not in ("kill", "stop"):
            self.twin.order(case.act)
            return lambda: None
        pid = self._stack.pids[words[1]]
        if words[1] == "safety_node":
            self._status = None
        self.twin.order("mark")
        os.kill(pid, signal.SIGKILL if words[0] == "kill" else signal.SIGSTOP)
        if words[0] == "kill":
            return lambda: None
        if len(words) > 2:
            threading.Timer(float(words[2]) / 1e3, _signal, (pid, signal.SIGCONT)).start()
        return lambda: _signal(pid, signal.SIGCONT)

    @staticmethod
    def _load(seconds: float) -> Callable[[], None]:
        code = f"import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
        busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]

        def end() -> None:
            for process in busy:
                process.kill()
                process.wait()

        return end

    # the nodes ---------------------------------------------------------------------------------
    def _start(self, name: str) -> None:
        parameters: dict[str, Any] = {}
        if name == "g1_bridge_node":
            parameters = {"robot": "g1", "interface": "lo", "dds_domain": self._domain, "stand_time_s": 1.0}
        elif name == "policy_node":
            parameters = {"policy": str(self._policy.resolve())}
        elif name == "motion_reference_node":
            parameters = {"motion": str(self._motion.resolve())}
        self._stack.start(name, NODES[name], **parameters)

    def _revive(self) -> None:
        """Start again what was killed, and a bridge whose guard has spoken."""
        pids = self._stack.pids
        dead = [name for name in NODES if not _runs(pids[name])]
        if "g1_bridge_node" not in dead and self._guard_has_spoken():
            _signal(pids["g1_bridge_node"], signal.SIGCONT)
            _signal(pids["g1_bridge_node"], signal.SIGKILL)
            dead.append("g1_bridge_node")
        if "g1_bridge_node" in dead and self._bridge_mode is not None:
            self._bridge_mode = None
            self._rest(GUARD_S)
        for name in dead:
            if name == "safety_node":
                self._status = None
            self._start(name)
        self._wait(lambda: self._status is not None and time.monotonic() - self._state_s < 0.5, 20.0, "the nodes")

    def _guard_has_spoken(self) -> bool:
        text = self._stack.log_text()
        bridges, spoken = text.count("DDS domain"), text.count("guard: ")
        return spoken > 0 and bridges > 0 and text.rfind("guard: ") > text.rfind("DDS domain")

    # listening and speaking --------------------------------------------------------------------
    def _mode(self) -> Mode:
        return Mode.DISARMED if self._status is None else Mode(self._status.mode)

    def _on_status(self, msg: SafetyStatus) -> None:
        self._status, self._status_s = msg, time.monotonic()

    def _on_state(self, msg: RobotState) -> None:
        self._bridge_mode, self._state_s = msg.mode, time.monotonic()

    def _spin(self) -> None:
        self._executor.spin_once(timeout_sec=0.02)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._spin()

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                reasons = "; ".join(self._status.reasons) if self._status is not None else "no safety status"
                raise DrillError(f"gave up waiting for {what} ({self._mode().name}: {reasons})")
            self._spin()

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
            self._rest(0.2)
        raise DrillError(f"{name}: {answer}")


def run(args: argparse.Namespace) -> int:
    """Run the drill as the command line says and return the exit code. Raises GenMimicError."""
    cases = choose(args.fault, args.short)
    if not 1 <= args.repetitions <= 1000:
        raise ConfigError(f"--repetitions is {args.repetitions}, expected 1 to 1000")
    if not 0 <= args.domain <= 230:
        raise ConfigError(f"--domain is {args.domain}, expected 0 to 230")
    motion, policy = find_shipped(args.motion, "motions", ".npz"), find_policy(args.policy)
    load_motion(motion, G1_23DOF)
    results = [Result(case) for case in cases]
    with tempfile.TemporaryDirectory(prefix="genmimic-drill-") as scratch:
        prepare_environment(Path(scratch))
        log = Path(args.log) if args.log else Path(scratch) / "nodes.log"
        log.write_text("")
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = rclpy.create_node("drill", namespace=NAMESPACE)
            with NodeStack(log, Path(scratch) / "nodes") as stack:
                drill = Drill(motion, policy, args.domain, stack, node)
                try:
                    _all(drill, results, args.repetitions)
                finally:
                    drill.close()
        finally:
            rclpy.try_shutdown()
    rows = [result.row() for result in results]
    good = all(row["good"] == row["trials"] == args.repetitions for row in rows)
    if args.json:
        print(
            json.dumps({"format": FORMAT, "repetitions": args.repetitions, "success": good, "faults": rows}, indent=1)
        )
    else:
        print(table(rows))
    return EXIT_GOOD if good else EXIT_BAD


def choose(names: Sequence[str], short: bool) -> list[Case]:
    """Return the cases to run. Raises ConfigError for a name that is none."""
    if not names:
        return [case for case in CASES if not short or case.name in SHORT]
    chosen = [case for case in CASES if any(name in (case.name, case.act.split()[0], case.act) for name in names)]
    for name in names:
        if not any(name in (case.name, case.act.split()[0], case.act) for case in CASES):
            raise ConfigError(f"no fault is called {name!r}; known: {', '.join(case.name for case in CASES)}")
    return chosen


def _all(drill: Drill, results: list[Result], repetitions: int) -> None:
    show = sys.stderr.isatty()
    for number, result in enumerate(results, 1):
        for repetition in range(repetitions):
            if show:
                text = f"{number}/{len(results)} {result.case.name}, {repetition + 1}/{repetitions}"
                print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
            try:
                result.trials.append(drill.trial(result.case))
            except DrillError as error:
                result.trials.append(Trial("-", (), "", None, None, {}, {}, False, str(error)))
    if show:
        print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows for people."""
    lines = [["fault", "detected by", "reaction", "damped after ms p50 / max", "outside", "robot after", "as expected"]]
    for row in rows:
        damped = row["damped_ms"]
        times = f"{damped['p50']:.0f} / {damped['max']:.0f}" if damped else "-"
        lines.append(
            [row["fault"], row["detected_by"], row["reaction"], times, str(row["outside"]), row["after"],
             f"{row['good']}/{row['trials']}"]
        )  # fmt: skip
    widths = [max(len(line[idx]) for line in lines) for idx in range(len(lines[0]))]
    text = [" | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "-|-".join("-" * width for width in widths))
    text += [f"{row['fault']}: {problem}" for row in rows for problem in row["problems"]]
    return "\n".join(text)


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
