# SPDX-License-Identifier: Apache-2.0
"""The drill in its shortest form: the real nodes, the twin, three faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")
pytest.importorskip("onnxruntime", reason="policy_node needs onnxruntime")
pytest.importorskip("mujoco", reason="the twin needs mujoco")
pytest.importorskip("cyclonedds", reason="needs cyclonedds 11")

ROOT = Path(__file__).parents[2]
ROS_DOMAIN, DDS_DOMAIN = (1 + (os.getpid() + offset) % 100 for offset in (60, 61))


def drill(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "genmimic.cli", "drill", "--domain", str(DDS_DOMAIN), *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "ROS_DOMAIN_ID": str(ROS_DOMAIN)}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip


def test_faults_are_noticed_and_no_command_is_outside_the_limits(balance_policy, tmp_path):
    log = tmp_path / "nodes.log"
    done = drill(
        "--repeat", 1, "--policy", balance_policy, "--json", "--log", log,
        "--fault", "second writer", "--fault", "kill -9 policy", "--fault", "mode_machine changes",
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    rows = {row["fault"]: row for row in report["faults"]}
    assert set(rows) == {"second writer", "kill -9 policy", "mode_machine changes"}
    for row in rows.values():
        assert row["good"] == row["trials"] == 1, (row, log.read_text())
        assert row["outside"] == 0 and row["reaction"] == "DAMPED"
        assert row["damped_ms"]["max"] is not None
    assert rows["second writer"]["detected_by"] == "second_writer"
    assert done.returncode == 0 and report["success"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fault", "earthquake"), "no fault is called 'earthquake'; known: robot vanishes"),
        (("--repeat", "0"), "--repeat is 0, expected 1 to 1000"),
        (("--motion", "nowhere.npz"), "nowhere.npz"),
    ],
)
def test_bad_usage_is_one_line(arguments, words):
    done = drill(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and words in done.stderr
