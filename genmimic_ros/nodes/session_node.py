# SPDX-License-Identifier: Apache-2.0
"""session_node: arms the robot, plays the motion, writes the report, and ends. For launch files."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions

from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.policy import find_policy
from genmimic_ros.nodes.motion_reference_node import read_motion
from genmimic_ros.parameters import declare_parameters
from genmimic_ros.runtime import prepare_transport
from genmimic_ros.session import (
    Session,
    SessionParams,
    check_params,
    report_of,
    require_gate,
    run_session,
    save,
    summary_text,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one session and return 0 when it was good, 1 when not, 2 for bad parameters."""

    asked = False

    def ask(*_: object) -> None:  # nothing is raised here: inside rclpy's executor it would get lost
        nonlocal asked
        asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    prepare_transport()
    rclpy.init(
        args=list(sys.argv if argv is None else ["node", *argv]), signal_handler_options=SignalHandlerOptions.NO
    )  # fmt: skip
    node = rclpy.create_node("session_node")
    session = None
    try:
        params = declare_parameters(node, SessionParams)
        if not params.motion:
            raise ConfigError("parameter 'motion' of session_node is empty; expected a file or a shipped motion's name")
        check_params(params)
        motion, policy = read_motion(params.motion), find_policy(params.policy or None)
        gate = require_gate(params, motion, policy)
        if "reason" in gate:
            node.get_logger().warning(f"motion gate overridden: {gate['reason']}")

        def check() -> None:
            if asked and session is not None and not session.letting_go:
                raise KeyboardInterrupt

        session = Session(node, params, motion, check)
        reason = run_session(session)
        report = report_of(session, motion, policy, reason=reason, **({"gate": gate} if gate else {}))
        print(summary_text(report), flush=True)
        if params.report:
            save(Path(params.report), session, report, motion)
            print(f"  {'report':<18}{params.report}", flush=True)
        return 0 if report["success"] and not reason else 1
    except GenMimicError as error:
        print(f"session_node: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        return 0
    finally:
        if session is not None:
            session.close()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
