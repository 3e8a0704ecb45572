# SPDX-License-Identifier: Apache-2.0
"""The real robot plays only what has passed the motion gate; saying otherwise is explicit and is logged."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=1)]
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")
pytest.importorskip("mujoco", reason="self-collision needs mujoco")

from genmimic.check import GateError, check_motion  # noqa: E402
from genmimic.core.motion import crop_motion, load_motion, save_motion  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.evaluate.report import file_sha256  # noqa: E402
from genmimic_ros.session import SessionParams, require_gate  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture
def motion():
    """A second of a shipped motion, as if it had never been checked."""
    whole = crop_motion(load_motion(ROOT / "motions" / "wave.npz", ROBOT), 0.0, 1.0)
    return replace(whole, source={name: value for name, value in whole.source.items() if name != "check"})


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.onnx"
    path.write_bytes(b"what it says does not matter here, its digest does")
    return path


def with_verdict(motion, policy, verdict):
    checked = check_motion(ROBOT, motion).motion
    record = {**checked.source["check"], "policy_sha256": file_sha256(policy), "verdict": verdict}
    return replace(checked, source={**checked.source, "check": record})


def test_what_has_passed_may_be_played(motion, policy):
    params = SessionParams(robot="g1")
    for verdict in ("ok", "repaired"):
        assert require_gate(params, with_verdict(motion, policy, verdict), policy) == {"verdict": verdict}
    hanging = with_verdict(motion, policy, "gantry only")
    with pytest.raises(GateError, match="gantry only"):
        require_gate(params, hanging, policy)
    assert require_gate(replace(params, on_gantry=True), hanging, policy) == {"verdict": "gantry only"}


def test_what_has_not_is_refused_and_an_override_is_logged(motion, policy, caplog):
    with pytest.raises(GateError, match="has not been checked"):
        require_gate(SessionParams(robot="g1"), motion, policy)
    with caplog.at_level(logging.WARNING):
        gate = require_gate(SessionParams(robot="g1", override_gate=True), motion, policy)
    assert gate["verdict"] == "overridden" and "has not been checked" in gate["reason"]
    assert "gate overridden for motion 'wave'" in caplog.text


def test_the_simulated_robot_may_try_everything(motion, policy):
    assert require_gate(SessionParams(robot="sim"), motion, policy) == {}


def test_session_node_refuses_in_one_line(motion, policy, tmp_path):
    save_motion(tmp_path / "wave.npz", ROBOT, with_verdict(motion, policy, "refused"))
    done = subprocess.run(
        [sys.executable, "-m", "genmimic_ros.nodes.session_node", "--ros-args", "-p", "robot:=g1",
         "-p", f"motion:={tmp_path / 'wave.npz'}", "-p", f"policy:={policy}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "ROS_DOMAIN_ID": str(1 + (os.getpid() + 77) % 100), "ROS_LOG_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "'wave' may not run on the real robot: its verdict is 'refused'" in lines[0]
