# SPDX-License-Identifier: Apache-2.0
"""Strangers' messages into every subscription of every node, in short; `bench/fuzz_ros.py` is the long form."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=1)]
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench" / "fuzz_ros.py"
NODES = {
    "g1_bridge_node", "policy_node", "motion_reference_node", "safety_node", "viz_node", "record_node", "viewer_node",
}  # fmt: skip


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_ros", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_no_node_ends_and_nothing_moves():
    pytest.importorskip("cyclonedds", reason="the twin needs cyclonedds 11")
    pytest.importorskip("onnxruntime", reason="policy_node needs onnxruntime")
    pytest.importorskip("mujoco", reason="the twin needs mujoco")
    pytest.importorskip("viser", reason="viewer_node needs viser")
    domains = {"ROS_DOMAIN_ID": str(1 + (os.getpid() + 70) % 100)}
    done = subprocess.run(
        [sys.executable, str(BENCH), "--messages", "120", "--domain", str(1 + (os.getpid() + 71) % 100)],
        cwd=ROOT, env={**os.environ, **domains}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["good"], report
    assert set(report["nodes"]) == NODES and report["written"] > 600
    heard = {topic.removeprefix("/genmimic/") for topic in report["topics"]}
    assert heard >= {"joint_command", "robot_state", "goal_keypoints", "safety_status", "policy_status", "press"}


def test_spoilt_messages_are_of_every_kind(fuzz):
    rng, good = np.random.default_rng(0), fuzz.serialize_message(fuzz.example(fuzz.RobotState))
    cut = [len(fuzz.spoil(fuzz.RobotState, good, "cut off", rng)) for _ in range(50)]
    assert 0 <= min(cut) and max(cut) < len(good) and len(set(cut)) > 20
    for kind in ("random", "a bit turned", "a number spoilt"):
        spoilt = [fuzz.spoil(fuzz.RobotState, good, kind, rng) for _ in range(20)]
        assert all(len(data) == len(good) and data != good for data in spoilt)
    odd = [fuzz.spoil(fuzz.RobotState, good, "odd fields", rng) for _ in range(20)]
    assert any(np.isnan(msg.joint_position).all() for msg in odd) and len({msg.mode for msg in odd}) > 3


def test_an_order_is_told_from_garbage(fuzz):
    msg = fuzz.example(fuzz.SafetyStatus)
    for mode, order in ((0, False), (1, True), (3, True), (4, True), (5, False), (6, False), (20, False)):
        msg.mode = mode
        assert fuzz.is_order(msg) == fuzz.is_order(fuzz.serialize_message(msg)) == order
    assert not fuzz.is_order(b"") and not fuzz.is_order(fuzz.serialize_message(msg)[:9])
