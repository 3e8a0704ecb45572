# SPDX-License-Identifier: Apache-2.0
"""One session with the robot: arm, wait until it stands, play the motion, record, judge, let go.

The same code runs behind `genmimic mimic` (which starts the nodes itself) and as session_node (beside the
nodes that a launch file started).
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from std_srvs.srv import Trigger

from genmimic.check import require_verdict, verdict_problem
from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.core.modes import APPLIED, DAMPING, Mode
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.reference import Goal
from genmimic.core.robot import G1_23DOF
from genmimic.evaluate.metrics import ERRORS, METRICS, rollout_metrics
from genmimic.evaluate.report import (
    build_report,
    file_sha256,
    motion_entry,
    track_of,
    write_report,
    write_rollout_report,
)
from genmimic.record.trajectory import sample_of, trajectory_of
from genmimic_ros.conversions import goal_from_msg
from genmimic_ros.msg import GoalKeypoints, JointCommand, PolicyStatus, RobotState, SafetyStatus
from genmimic_ros.parameters import parameter
from genmimic_ros.runtime import RECORD_STREAM_SUB, RECORD_SUB, STATUS_SUB, make_executor

SETTLE_S = 1.0
"""How long the policy balances before the motion starts."""

FAREWELL_S = 0.3
"""How long the nodes go on after the robot is damped, so that whoever listens or records hears of it."""

SERVICE_TIMEOUT_S = 5.0

GOAL_GRACE_S = 5.0
"""How much later than the safety monitor's word the goal that goes with it may be heard."""


@dataclass(frozen=True)
class SessionParams:
    """What a session does; the parameters of session_node."""

    motion: str = parameter("", "Motion to play: a file, or the name of one that is shipped")
    policy: str = parameter("", "Policy, for the report; the shipped student when empty")
    robot: str = parameter("sim", "Which robot", choices=("sim", "g1"))
    repeat: int = parameter(1, "How many times the motion is played", low=1, high=10000)
    loop_minutes: float = parameter(
        0.0, "Repeat for at least this long; 0: `repeat` counts", unit="min", low=0, high=600
    )
    report: str = parameter("", "Folder for report.json, trajectory.npz and the picture; no report when empty")
    noise: str = parameter("none", "Noise on what the policy observes, for the report", choices=("none", "paper"))
    seed: int = parameter(0, "Seed of that noise, for the report", low=0)
    ready_timeout_s: float = parameter(
        60.0, "How long the nodes and the robot may take until the motion can start", unit="s", low=5, high=600
    )
    on_gantry: bool = parameter(
        False, "Whether the real robot hangs in its gantry throughout, so that the verdict 'gantry only' passes"
    )
    override_gate: bool = parameter(
        False, "Play on the real robot what has not passed the motion gate; goes into log and report"
    )


class SessionError(GenMimicError):
    """The session cannot go on."""


@dataclass(frozen=True)
class Progress:
    """What a status line may show."""

    mode: str
    text: str
    done_s: float
    total_s: float
    error_cm: float
    number: int
    count: int


@dataclass(frozen=True)
class Performance:
    """One time through the motion.

    Attributes:
        trajectory: As `genmimic.evaluate.report.trajectory_fields` says; None when the motion itself never began.
        outcome: ``done``, or why it was not, one line.
        fell_at_s: When the robot fell or was damped, since the start; None when neither.
        metrics: `rollout_metrics`; errors are NaN when the motion itself never began.
    """

    trajectory: dict[str, np.ndarray] | None
    outcome: str
    fell_at_s: float | None
    metrics: dict[str, Any]

    @property
    def good(self) -> bool:
        """Whether the motion was played to its end and the robot still stood."""
        return self.outcome == "done" and self.fell_at_s is None


class Recorder:
    """Takes one sample per goal: the goal, and the newest state and action at that moment."""

    def __init__(self) -> None:
        self.state: RobotState | None = None
        self.action = np.zeros(G1_23DOF.num_joints)
        self._rows: list[tuple[Goal, RobotState, np.ndarray]] = []
        self.recording = False

    def begin(self) -> None:
        """Start with nothing."""
        self._rows, self.recording = [], True

    def on_goal(self, msg: GoalKeypoints) -> None:
        """Keep a sample, once the motion has left its rest."""
        if self.recording and self.state is not None and msg.motion:
            # without the horizon and the message, to be light on long runs
            goal = replace(goal_from_msg(msg), horizon_keypoint_pos=np.empty(0))
            self._rows.append((goal, self.state, self.action))

    def end(self, damped: bool = False) -> dict[str, np.ndarray] | None:
        """Return the trajectory, or None when the motion itself never began; ``damped`` is how it ended."""
        self.recording = False
        return trajectory_of(G1_23DOF, [sample_of(*row) for row in self._rows], damped)


class Timing:
    """Collects the policy's ticks from policy_status."""

    def __init__(self) -> None:
        self._period: list[float] = []
        self._compute: list[float] = []
        self._latency: list[float] = []
        self._first: PolicyStatus | None = None
        self._last: PolicyStatus | None = None

    def begin(self) -> None:
        """Count from the next status on."""
        self.__init__()  # type: ignore[misc]

    def add(self, msg: PolicyStatus) -> None:
        """Take a status."""
        if self._first is None:  # its ticks lie before the beginning
            self._first = self._last = msg
            return
        self._last = msg
        self._period += msg.tick_period_ms
        self._compute += msg.tick_compute_ms
        self._latency += msg.tick_latency_ms

    def report(self) -> dict[str, Any]:
        """Return the real-time entries of a report."""
        first, last = self._first, self._last
        if first is None or last is None:
            return {}
        return {
            "period_ms": _spread(self._period),
            "compute_ms": _spread(self._compute),
            "latency_ms": _spread(self._latency),
            "ticks": last.ticks - first.ticks,
            "missed": last.missed - first.missed,
            "late_5ms": last.late_5ms - first.late_5ms,
        }


class Session:
    """Drives the services of safety_node and listens to the rest.

    Args:
        node: To listen and speak through; in the namespace of the other nodes.
        params: What to do.
        motion: The motion that is played.
        check: Called often; raises when the session cannot go on.
        show: Called some times a second.
    """

    def __init__(
        self,
        node: Node,
        params: SessionParams,
        motion: Motion,
        check: Callable[[], None] | None = None,
        show: Callable[[Progress], None] | None = None,
    ) -> None:
        self._node, self.params, self._motion = node, params, motion
        self._check, self._show = check or (lambda: None), show
        self._recorder, self.timing = Recorder(), Timing()
        self._goal: GoalKeypoints | None = None
        self._safety: SafetyStatus | None = None
        self._policy: PolicyStatus | None = None
        self._number, self._shown_s = 0, 0.0
        self.performances: list[Performance] = []
        self.letting_go = False
        """Whether the robot is being damped on purpose: the monitor then speaks of an error that is none."""
        self.hoisting = False
        """Whether a person is waited for before that; ``check`` may raise KeyboardInterrupt to go on without."""
        self._executor = make_executor(node.context)
        self._executor.add_node(node)
        node.create_subscription(GoalKeypoints, "goal_keypoints", self._on_goal, RECORD_SUB)
        # all of them, in the order they came: a goal is then judged against the state of its time, however late we are
        node.create_subscription(RobotState, "robot_state", self._on_state, RECORD_STREAM_SUB)
        node.create_subscription(JointCommand, "joint_command", self._on_command, RECORD_STREAM_SUB)
        node.create_subscription(SafetyStatus, "safety_status", self._on_safety, STATUS_SUB)
        node.create_subscription(PolicyStatus, "policy_status", self._on_policy, RECORD_SUB)
        self._clients = {
            name: node.create_client(Trigger, name) for name in ("arm", "start", "stop", "estop", "reset")
        }  # fmt: skip

    # what is heard -----------------------------------------------------------------------------
    @property
    def mode(self) -> Mode:
        """The mode by the last word of the safety monitor."""
        return Mode.DISARMED if self._safety is None else Mode(self._safety.mode)

    @property
    def reasons(self) -> str:
        """Why it is what it is, one line."""
        return "; ".join(self._safety.reasons) if self._safety is not None else ""

    def _on_goal(self, msg: GoalKeypoints) -> None:
        self._goal = msg
        self._recorder.on_goal(msg)

    def _on_state(self, msg: RobotState) -> None:
        self._recorder.state = msg

    def _on_command(self, msg: JointCommand) -> None:
        self._recorder.action = msg.raw_action

    def _on_safety(self, msg: SafetyStatus) -> None:
        self._safety = msg

    def _on_policy(self, msg: PolicyStatus) -> None:
        self._policy = msg
        self.timing.add(msg)

    # what is done ------------------------------------------------------------------------------
    def stand(self) -> None:
        """Wait for the nodes, arm, and wait until the policy balances the robot. Raises SessionError."""
        deadline = time.monotonic() + self.params.ready_timeout_s
        self._wait(self._complete, deadline, self._missing)
        if self.params.robot == "g1":  # each step there is a person's act, at the remote
            self._ask("with the robot hanging in the gantry: press Start on the remote, and once more to stand")
            self._wait(lambda: self.mode not in (Mode.DISARMED, *DAMPING), deadline, lambda: "Start on the remote")
            self._ask(
                "lower the robot until its feet carry it, then press A: the policy takes over, then the motion plays"
            )
        else:
            if self.mode in DAMPING:
                self._call("reset", deadline)
            if self.mode is Mode.DISARMED:
                self._call("arm", deadline)
        self._wait(lambda: self.mode in (*APPLIED, *DAMPING), deadline, lambda: "the robot to stand")
        self._rest(SETTLE_S)
        self._refuse_damped("before the motion started")

    def perform(self) -> Performance:
        """Play the motion once, wait for its end, and return what came of it."""
        self._number += 1
        self._recorder.begin()
        began = time.monotonic()
        outcome, ready_s = "", 0.0
        try:
            self._call("start", began + SERVICE_TIMEOUT_S)
            self._wait(lambda: self.mode is not Mode.READY, began + 2 * SERVICE_TIMEOUT_S, lambda: "MIMIC")
            limit = began + self._motion.duration + 30.0
            while not outcome:
                self._spin()
                mode = self.mode
                if mode in DAMPING:
                    outcome = f"{mode.name}: {self.reasons}"
                elif mode is Mode.HOLD and "pause" not in self.reasons:
                    outcome = f"HOLD: {self.reasons}"
                elif mode is Mode.READY and self._goal is not None:
                    ready_s = ready_s or time.monotonic()  # the goal that says so may still be on its way
                    if self._goal.phase in (GoalKeypoints.DONE, GoalKeypoints.IDLE):
                        outcome = "done"
                    elif time.monotonic() - ready_s > GOAL_GRACE_S:
                        outcome = f"stopped before its end{': ' * bool(self.reasons)}{self.reasons}"
                elif mode in (Mode.DISARMED, Mode.STANDING):
                    outcome = f"the robot went to {mode.name}"
                elif time.monotonic() > limit:
                    outcome = "the motion did not end in time"
        except GenMimicError as error:
            outcome = " ".join(str(error).split())
        finally:
            if outcome.startswith("stopped") or outcome.startswith("HOLD"):
                self._return_to_standing()
            damped = outcome.startswith(("DAMPED", "ESTOP"))
            result = self._judge(self._recorder.end(damped), outcome or "interrupted", damped)
            self.performances.append(result)
            self._keep_worst()
        return result

    def perform_all(self) -> list[Performance]:
        """Play the motion as often as asked for, up to the first failure."""
        begin = time.monotonic()
        self.timing.begin()
        while True:
            result = self.perform()
            if not result.good:
                break
            minutes = self.params.loop_minutes
            over = time.monotonic() - begin >= 60.0 * minutes if minutes else self._number >= self.params.repeat
            if over:
                break
            self._wait(
                lambda: self._goal is not None and self._goal.phase == GoalKeypoints.IDLE,
                time.monotonic() + 10.0,
                lambda: "the goal to stand",
            )
            self._rest(SETTLE_S)
        return self.performances

    def attend(self) -> None:
        """Listen while others operate the robot, until ``check`` raises."""
        while True:
            self._spin()

    def let_go(self, hurried: bool = False) -> None:
        """Leave the robot damped; never raises. Unless ``hurried``, a real one is hoisted by a person before."""
        self.letting_go = True
        with contextlib.suppress(GenMimicError):
            self._damp(hurried)
            self._rest(FAREWELL_S)

    def _damp(self, hurried: bool) -> None:
        try:
            if self.mode in (Mode.MIMIC, Mode.HOLD):
                self._call("stop", time.monotonic() + 2.0)
                self._return_to_standing()
            if self.mode is Mode.STANDING:
                self._call("stop", time.monotonic() + 2.0)
            elif self.mode not in (*DAMPING, Mode.DISARMED):
                if self.params.robot == "g1" and not hurried:
                    self._ask("hoist the robot until the rope carries it, then press B on the remote")
                    self.hoisting = True
                    with contextlib.suppress(SessionError, KeyboardInterrupt):
                        deadline = time.monotonic() + self.params.ready_timeout_s
                        self._wait(lambda: self.mode in DAMPING, deadline, lambda: "B on the remote")
                    self.hoisting = False
                    if self.mode in DAMPING:
                        return
                self._call("estop", time.monotonic() + 2.0)
                self._wait(lambda: self.mode in DAMPING, time.monotonic() + 2.0, lambda: "damping")
        except GenMimicError as error:
            if self.mode not in DAMPING:
                self._node.get_logger().warning(" ".join(str(error).split()))

    def close(self) -> None:
        """Stop listening."""
        self._executor.shutdown(timeout_sec=1.0)

    # parts -------------------------------------------------------------------------------------
    def _ask(self, text: str) -> None:
        """Tell the person at the robot what to do."""
        print(f"genmimic: {text}", file=sys.stderr, flush=True)

    def _complete(self) -> bool:
        return not self._missing_parts()

    def _missing(self) -> str:
        return " and ".join(self._missing_parts())

    def _missing_parts(self) -> list[str]:
        parts = []
        if self._safety is None:
            parts.append("safety_node")
        if self._recorder.state is None:
            parts.append("g1_bridge_node")
        if self._goal is None:
            parts.append("motion_reference_node")
        if self._policy is None:
            parts.append("policy_node")
        elif self._policy.state not in (PolicyStatus.READY, PolicyStatus.RUNNING):
            parts.append(f"policy_node ({self._policy.message or 'not ready'})")
        return parts

    def _refuse_damped(self, when: str) -> None:
        if self.mode not in APPLIED:
            raise SessionError(f"the robot is {self.mode.name} {when}: {self.reasons or 'no reason given'}")

    def _return_to_standing(self) -> None:
        if self.mode is Mode.HOLD:
            self._call("stop", time.monotonic() + 2.0)
        resting = (GoalKeypoints.IDLE, GoalKeypoints.DONE)
        limit = time.monotonic() + 5.0
        while time.monotonic() < limit and self.mode in APPLIED:
            if self.mode is Mode.READY and self._goal is not None and self._goal.phase in resting:
                return
            self._spin()

    def _call(self, name: str, deadline: float) -> None:
        """Call a service until it is accepted. Raises SessionError with its answer otherwise."""
        client = self._clients[name]
        answer = f"no answer from the service {name}"
        while True:
            if client.service_is_ready():
                future = client.call_async(Trigger.Request())
                limit = time.monotonic() + SERVICE_TIMEOUT_S
                while not future.done() and time.monotonic() < limit:
                    self._spin()
                if future.done():
                    response = future.result()
                    if response is not None and response.success:
                        return
                    answer = response.message if response is not None else answer
            if time.monotonic() >= deadline or self.mode in DAMPING:
                raise SessionError(answer + (f" ({self.reasons})" if self.mode in DAMPING else ""))
            self._rest(0.5)

    def _wait(self, condition: Callable[[], bool], deadline: float, what: Callable[[], str]) -> None:
        while not condition():
            if time.monotonic() > deadline:
                raise SessionError(f"gave up waiting for {what()}")
            self._spin()

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._spin()

    def _spin(self) -> None:
        if not self._node.context.ok():
            raise SessionError("ROS has been shut down")
        self._executor.spin_once(timeout_sec=0.05)
        self._check()
        now = time.monotonic()
        if self._show is not None and now - self._shown_s > 0.1:
            self._shown_s = now
            self._show(self._progress())

    def _progress(self) -> Progress:
        goal, policy = self._goal, self._policy
        done_s = total_s = 0.0
        text = ""
        if self._missing_parts():
            text = f"waiting for {self._missing()}"
        elif goal is not None and goal.motion and goal.total_frames > 0:
            text = goal.motion
            done_s = float(np.clip(goal.frame, 0, goal.total_frames)) / CONTROL_RATE_HZ
            total_s = goal.total_frames / CONTROL_RATE_HZ
        error_cm = 100.0 * policy.tracking_error_m if policy is not None else math.nan
        return Progress(self.mode.name, text, done_s, total_s, error_cm, self._number, self.params.repeat)

    def _keep_worst(self) -> None:
        """Drop all trajectories but that of the worst performance: sessions may be long."""
        kept = [performance for performance in self.performances if performance.trajectory is not None]
        worst = max(kept, key=_badness, default=None)
        self.performances = [
            performance if performance is worst else replace(performance, trajectory=None)
            for performance in self.performances
        ]

    def _judge(self, trajectory: dict[str, np.ndarray] | None, outcome: str, damped: bool) -> Performance:
        if trajectory is None:
            metrics: dict[str, Any] = {name: math.nan if name in ERRORS else False for name in METRICS}
            return Performance(None, outcome, 0.0 if damped else None, metrics)
        falls = np.flatnonzero(trajectory["fell"])
        fell_at_s = float(trajectory["t"][falls[0]]) if len(falls) else None
        metrics = dict(rollout_metrics(track_of(trajectory), G1_23DOF))
        if self._recorder.state is not None and not self._recorder.state.has_truth:
            for name in ("sr", "mpkpe_cm", "mpkpe_nt_cm", "drift_m"):  # nobody knows where the robot was
                metrics[name] = math.nan
        return Performance(trajectory, outcome, fell_at_s, metrics)


def require_gate(params: SessionParams, motion: Motion, policy: str | Path) -> dict[str, str]:
    """Return what the motion gate says about a motion on the real robot, for the report; nothing on a simulated one.

    Args:
        params: Of the session.
        motion: That will be played.
        policy: File of the policy that will run.

    Returns:
        ``verdict``, and where it is ``overridden`` the ``reason`` for which it would have been refused.

    Raises:
        GateError: It may not be played: no verdict, another motion's or policy's, or none that passes.
    """
    if params.robot != "g1":
        return {}
    digest = file_sha256(policy)
    verdict = require_verdict(motion, digest, params.override_gate, params.on_gantry)
    reason = verdict_problem(motion, digest, params.on_gantry)
    return {"verdict": verdict} if reason is None else {"verdict": verdict, "reason": reason}


def report_of(session: Session, motion: Motion, policy: Path, **facts: Any) -> dict[str, Any]:
    """Return the report of a session's performances; ``facts`` are further entries."""
    params = session.params
    rollouts = [
        {**performance.metrics, "outcome": performance.outcome, "fell_at_s": performance.fell_at_s}
        for performance in session.performances
    ]
    entry = motion_entry(motion.name, rollouts, duration_s=motion.duration)
    report = build_report(
        [entry],
        policy=policy.stem,
        policy_sha256=file_sha256(policy),
        seed=params.seed,
        noise=params.noise,
        robot=params.robot,
        **session.timing.report(),
        **facts,
    )
    success = bool(session.performances) and all(performance.good for performance in session.performances)
    return {**report, "success": success}


def save(folder: Path, session: Session, report: dict[str, Any], motion: Motion) -> None:
    """Write the report, and trajectory and picture of the worst performance."""
    worst = next((each for each in session.performances if each.trajectory is not None), None)
    if worst is None or worst.trajectory is None:
        write_report(folder, report)
        return
    title = f"{motion.name}: {report['policy']} on {report['robot']}, {worst.outcome}"
    write_rollout_report(folder, report, worst.trajectory, G1_23DOF, title)


def summary_text(report: dict[str, Any]) -> str:
    """Return the report for people, a few aligned lines."""
    total = report["total"]
    performances = report["motions"][0]["each"]
    fallen = sum(each["fell_at_s"] is not None for each in performances)
    outcomes = [each["outcome"] for each in performances if each["outcome"] != "done"]
    verdict = "success" if report["success"] else "FAILED" + (f": {outcomes[0]}" if outcomes else "")
    if report.get("reason"):
        verdict += f" ({report['reason']})" if outcomes else f": {report['reason']}"
    rows = [
        ("result", verdict),
        ("motion", f"{report['motion']}, played {len(performances)}x, {fallen} falls"),
        ("pose error", f"{_text(total['lmpkpe_nt_cm'], 1)} cm, hands {_text(total['hands_cm'], 1)} cm"),
        ("place", f"{_text(total['mpkpe_nt_cm'], 1)} cm off in the world, {_text(total['drift_m'], 2)} m at the end"),
    ]
    if "gate" in report:
        rows.append(("motion gate", ": ".join(report["gate"].values())))
    if "period_ms" in report:
        for label, name in (("period", "period_ms"), ("compute", "compute_ms"), ("latency", "latency_ms")):
            spread = report[name]
            rows.append((label, "  ".join(f"{key} {_text(spread[key], 2)}" for key in ("p50", "p99", "max")) + "  ms"))
        counts = f"{report['ticks']}, {report['missed']} missed, {report['late_5ms']} more than 5 ms late"
        rows.append(("ticks", counts))
    for name, usage in report.get("nodes", {}).items():
        rows.append((name.removesuffix("_node"), f"{usage['cpu_percent']:.0f} % of a core, {usage['rss_mb']:.0f} MB"))
    return "\n".join(f"  {label:<18}{text}" for label, text in rows)


def run_session(session: Session) -> str:
    """Stand, perform, let go; return why it could not be done, one line, empty when all was done.

    An interruption (Ctrl-C) blends back to standing and damps before it is raised again.
    """
    hurried = True
    try:
        session.stand()
        session.perform_all()
        hurried = False
        return ""
    except GenMimicError as error:
        hurried = False
        return " ".join(str(error).split())
    finally:
        session.let_go(hurried)


def default_report_folder(name: str) -> Path:
    """Return ``reports/<name>-<time>`` in the working folder."""
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    return Path("reports") / f"{safe}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_params(params: SessionParams) -> None:
    """Raise ConfigError for a session that makes no sense."""
    if params.robot == "g1" and params.noise != "none":
        raise ConfigError("noise is for the simulated robot only")


def _badness(performance: Performance) -> tuple[bool, float]:
    return not performance.good, performance.metrics["lmpkpe_nt_cm"]


def _spread(values: list[float]) -> dict[str, float | None]:
    known = np.array(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(known, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(float(known.max()), 3)}


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
