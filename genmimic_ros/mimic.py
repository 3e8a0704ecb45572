# SPDX-License-Identifier: Apache-2.0
"""`genmimic mimic`: the main job on one machine. Starts the nodes, runs a session, stops everything."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions

from genmimic.core.errors import ConfigError
from genmimic.core.motion import Motion
from genmimic.evaluate.report import REPORT_NAME
from genmimic.policy import Policy, find_policy, load_policy
from genmimic.record.reader import RECORDING_NAME
from genmimic.retarget.pipeline import needs_preparing, prepare
from genmimic_ros.nodes.motion_reference_node import read_motion
from genmimic_ros.session import (
    Progress,
    Session,
    SessionParams,
    check_params,
    default_report_folder,
    report_of,
    require_gate,
    run_session,
    save,
    summary_text,
)
from genmimic_ros.stack import NAMESPACE, NodeDiedError, NodeStack, prepare_environment

EXIT_GOOD, EXIT_BAD, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130

DEATH_S = 0.5
"""How long a killed process may take to be gone: its silence damps the robot, and ends the session, sooner."""

STANDING_TIMEOUT_S = 120.0
"""How long a person may take to lower the real robot onto its feet."""

READY_TIMEOUT_S = 300.0
"""How long that person may take for everything before the motion."""

DDS_DOMAIN_VARIABLE = "GENMIMIC_DDS_DOMAIN"
"""Environment variable with the robot's DDS domain, where it is not 0: for twins beside each other."""

_BAR = 24


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for and return the exit code.

    Raises:
        GenMimicError: Bad input; nothing has been started then.
    """
    params = SessionParams(
        motion=args.motion,
        policy=args.policy or "",
        robot=args.robot,
        repeat=args.repeat,
        loop_minutes=args.loop_minutes,
        noise=args.noise,
        seed=args.seed,
        ready_timeout_s=SessionParams.ready_timeout_s if args.robot == "sim" else READY_TIMEOUT_S,
        on_gantry=args.on_gantry,
        override_gate=args.override_gate,
    )
    _check(args, params)
    _check_viewer(args)
    policy = load_policy(find_policy(args.policy))
    if needs_preparing(args.motion):
        folder = _report_folder(args, Path(args.motion).name.split(".")[0])
        params = replace(params, motion=_prepared(args, folder, policy))
        motion = read_motion(params.motion)
        gate = require_gate(params, motion, policy.path)
    else:
        motion = read_motion(args.motion)
        gate = require_gate(params, motion, policy.path)
        folder = _report_folder(args, motion.name)
    with _terminable() as interrupt, tempfile.TemporaryDirectory(prefix="genmimic-") as scratch:
        try:
            return _run(args, params, motion, policy, gate, folder, Path(scratch), interrupt)
        except KeyboardInterrupt:
            print("genmimic: interrupted; the robot is damped and the nodes are stopped", file=sys.stderr)
            return EXIT_INTERRUPTED


def _report_folder(args: argparse.Namespace, name: str) -> Path:
    folder = Path(args.report) if args.report else default_report_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"report folder {folder} cannot be made ({error.strerror})") from None
    return folder


def _prepared(args: argparse.Namespace, folder: Path, policy: Policy) -> str:
    """Make a robot motion of a video or a human motion, telling what happens; return its path."""
    prepared = prepare(
        args.motion, folder, policy.path, lambda line: print(line, file=sys.stderr, flush=True), crop=args.crop,
        height=args.height,
    )  # fmt: skip
    return str(prepared.path)


def _check(args: argparse.Namespace, params: SessionParams) -> None:
    if params.repeat < 1:
        raise ConfigError(f"--repeat is {params.repeat}, expected at least 1")
    if not 0.0 <= params.loop_minutes <= 600.0:
        raise ConfigError(f"--loop-minutes is {params.loop_minutes:g}, expected 0 to 600")
    if params.seed < 0:
        raise ConfigError(f"--seed is {params.seed}, expected at least 0")
    if params.robot == "g1" and not args.interface:
        raise ConfigError("--robot g1 needs --interface, the network interface that the robot is on, such as eth0")
    if params.robot == "g1":
        _check_link(args.interface)
    check_params(params)


def _check_viewer(args: argparse.Namespace) -> None:
    if not args.viewer:
        for name in ("operate", "video"):
            if getattr(args, name):
                raise ConfigError(f"--{name} needs --viewer")
        return
    from genmimic_ros import viewer  # needs viser

    viewer.check(args)


def _check_link(interface: str) -> None:
    """Raise a GenMimicError where the link cannot work, before anything is started."""
    from genmimic.link.dds import check_interface  # needs cyclonedds

    check_interface(interface)


def _run(
    args: argparse.Namespace,
    params: SessionParams,
    motion: Motion,
    policy: Policy,
    gate: dict[str, str],
    folder: Path,
    scratch: Path,
    interrupt: Interrupt,
) -> int:
    prepare_environment(scratch)
    log = folder / "nodes.log"
    log.write_text(f"motion gate: {json.dumps(gate)}\n" if gate else "")
    status = StatusLine()
    # what Ctrl-C means is decided here, not by ROS: first the robot, then the nodes
    with NodeStack(log, scratch / "nodes") as stack:
        try:
            return _perform(args, params, motion, policy, gate, folder, stack, status, interrupt)
        except NodeDiedError as error:
            status.clear()
            print(f"genmimic: error: {error.last_words or error}", file=sys.stderr)
            return EXIT_BAD_INPUT if error.code == 2 else EXIT_BAD
        finally:
            status.clear()
            rclpy.try_shutdown()


def _perform(
    args: argparse.Namespace,
    params: SessionParams,
    motion: Motion,
    policy: Policy,
    gate: dict[str, str],
    folder: Path,
    stack: NodeStack,
    status: StatusLine,
    interrupt: Interrupt,
) -> int:
    if args.record:
        _start_recorder(args, params, policy, folder, stack)
    _start_nodes(args, params, policy, stack)
    url = _start_viewer(args, stack) if args.viewer else ""
    interrupt.deferred = True
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("session", namespace=NAMESPACE)

    def check() -> None:
        if session.hoisting or not session.letting_go:
            interrupt.check()
        for line in stack.new_complaints():
            if session.letting_go:
                continue
            status.clear()
            print(f"genmimic: {line}", file=sys.stderr)
        if stack.death is None:
            stack.check()

    session = Session(node, params, motion, check, status.show if status.wanted else None)
    try:
        if args.operate:
            return _operate(session, url)
        if url:
            _await_browser(url, args.viewer_wait, check)
        reason = run_session(session)
    finally:
        session.close()
    interrupt.check()
    if reason or not all(performance.good for performance in session.performances):
        with contextlib.suppress(NodeDiedError):
            stack.watch(DEATH_S)
    died = stack.death
    if died is not None and not session.performances:
        raise died
    facts = {"gate": gate} if gate else {}
    report = report_of(session, motion, policy.path, nodes=stack.usage(), reason=reason, **facts)
    status.clear()
    save(folder, session, report, motion)
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        print(summary_text(report))
        print(f"  {'report':<18}{folder}")
    if died is not None:
        print(f"genmimic: error: {died}", file=sys.stderr)
    return EXIT_GOOD if report["success"] and not reason else EXIT_BAD


def _start_viewer(args: argparse.Namespace, stack: NodeStack) -> str:
    """Start the viewer and return its page's address."""
    from genmimic_ros import viewer

    parameters, url = viewer.settings(args)
    stack.start_optional("viewer_node", "viewer.yaml", **parameters)
    print(f"genmimic: the robot in the browser: {url}", file=sys.stderr, flush=True)
    return url


def _await_browser(url: str, seconds: float, check: Callable[[], None]) -> None:
    from genmimic_ros import viewer

    viewer.await_browser(url, seconds, check)


def _operate(session: Session, url: str) -> int:
    """Leave the robot to whoever presses the page's buttons, until Ctrl-C."""
    print(f"genmimic: nothing moves by itself: arm, start and stop at {url}; Ctrl-C ends", file=sys.stderr, flush=True)
    try:
        session.attend()
    except KeyboardInterrupt:
        return EXIT_GOOD
    finally:
        session.let_go(hurried=True)
    return EXIT_GOOD


def _start_recorder(
    args: argparse.Namespace, params: SessionParams, policy: Policy, folder: Path, stack: NodeStack
) -> None:
    stack.start_optional(
        "record_node",
        "record.yaml",
        path=str((folder / RECORDING_NAME).resolve()),
        motion=str(_absolute(params.motion)),
        policy=str(policy.path.resolve()),
        robot=params.robot,
        asked=json.dumps(
            {name: value for name, value in vars(args).items() if value not in (None, False)}, default=str
        ),
        report=str((folder / REPORT_NAME).resolve()),
    )


def _start_nodes(args: argparse.Namespace, params: SessionParams, policy: Policy, stack: NodeStack) -> None:
    bridge: dict[str, Any] = {"robot": params.robot}
    safety: dict[str, Any] = {}
    if params.robot == "g1":
        bridge.update(interface=args.interface, dds_domain=int(os.environ.get(DDS_DOMAIN_VARIABLE, "0")))
        safety["standing_timeout_s"] = STANDING_TIMEOUT_S
    stack.start("g1_bridge_node", "bridge.yaml", **bridge)
    stack.start(
        "policy_node", "policy.yaml", policy=str(policy.path.resolve()), noise=params.noise, seed=params.seed
    )  # fmt: skip
    stack.start(
        "motion_reference_node", "reference.yaml", motion=str(_absolute(params.motion)), robot=params.robot,
        policy=str(policy.path.resolve()), on_gantry=params.on_gantry, override_gate=params.override_gate,
    )  # fmt: skip
    stack.start("safety_node", "safety.yaml", **safety)
    if args.viz:
        stack.start("viz_node", "viz.yaml")


def _absolute(name: str) -> str:
    """Return the path of an existing file in full; the name of a shipped one as it is."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


class StatusLine:
    """One line on a terminal that is kept up to date; nothing in a pipe."""

    def __init__(self) -> None:
        self.wanted = sys.stderr.isatty()
        self._width = 0

    def show(self, progress: Progress) -> None:
        """Draw the line."""
        text = f"{progress.mode:<9}"
        if progress.total_s > 0.0:
            filled = round(_BAR * progress.done_s / progress.total_s)
            text += f"[{'#' * filled}{'.' * (_BAR - filled)}] {progress.text} "
            text += f"{progress.done_s:.1f}/{progress.total_s:.1f} s  {progress.error_cm:.1f} cm off"
            if progress.count > 1:
                text += f"  {progress.number}/{progress.count}"
        else:
            text += progress.text
        text = text[: max(20, _columns() - 1)]
        print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 100


class Interrupt:
    """Remembers that the user asked to stop.

    While ROS runs, ``deferred`` is set and nothing is raised from the signal handler: an exception that lands inside
    rclpy's executor gets lost there or leaves it unusable for damping the robot. `check` raises it between two calls.
    """

    def __init__(self) -> None:
        self.asked = self.deferred = False

    def ask(self, *_: object) -> None:
        """Handle a signal."""
        self.asked = True
        if not self.deferred:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt when the user has asked."""
        if self.asked:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _terminable() -> Iterator[Interrupt]:
    """Let SIGTERM and SIGHUP end things as Ctrl-C does."""
    interrupt = Interrupt()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt.ask) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
