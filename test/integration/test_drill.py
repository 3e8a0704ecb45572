# SPDX-License-Identifier: Apache-2.0
"""The drill in its shortest form: the real nodes, the twin, three faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.flaky(reruns=1)]
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


TRIES = 3
"""A machine that is too busy damps the robot before anything was done, as it must; then the fault is tried again."""


def test_faults_are_noticed_and_no_command_is_outside_the_limits(balance_policy, tmp_path):
    wanted, problems = {"second writer", "kill -9 policy", "mode_machine changes"}, []
    for number in range(TRIES):
        log, faults = tmp_path / f"nodes-{number}.log", [word for name in sorted(wanted) for word in ("--fault", name)]
        done = drill("--repeat", 1, "--policy", balance_policy, "--json", "--log", log, *faults)
        assert done.returncode in (0, 1), done.stderr
        report = json.loads(done.stdout)
        assert report["success"] == (done.returncode == 0)
        rows = {row["fault"]: row for row in report["faults"]}
        assert set(rows) == wanted and all(row["outside"] == 0 for row in rows.values())
        for name, row in rows.items():
            if row["good"] == 1:
                assert row["reaction"] == "DAMPED" and row["damped_ms"]["max"] > 0.0
                assert name != "second writer" or row["detected_by"] == "second_writer"
                wanted = wanted - {name}
            problems += row["problems"]
        if not wanted:
            return
    raise AssertionError(f"{wanted}: {problems}; the last nodes said:\n{log.read_text()}")


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
