# SPDX-License-Identifier: Apache-2.0
"""docs/ros-interface.md is what its generator writes, and says what running nodes say."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

from genmimic_ros import interface  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_up_to_date():
    page = (ROOT / "docs" / "ros-interface.md").read_text()
    assert page == interface.render(), "run: python -m genmimic_ros.interface > docs/ros-interface.md"


def test_every_message_node_and_topic_is_there():
    page = interface.render()
    for path in [*(ROOT / "msg").glob("*.msg"), *(ROOT / "srv").glob("*.srv")]:
        assert f"### {path.stem}\n" in page
    for path in (ROOT / "genmimic_ros" / "nodes").glob("*_node.py"):
        assert f"### {path.stem}\n" in page


def test_a_call_in_a_loop_stands_for_every_name_of_that_loop_and_no_other(tmp_path):
    source = tmp_path / "node.py"
    source.write_text(
        "from std_srvs.srv import Trigger\n"
        "def make(node):\n"
        "    for name, answer in (('arm', 1), ('stop', 2)):\n"
        "        node.create_service(Trigger, name, answer)\n"
        "    clients = {name: node.create_client(Trigger, name) for name in ('go',)}\n"
        "    return {name: 1 for name in ('other',)}\n"
    )
    kind = "std_srvs/Trigger"
    assert interface.scan(source).found == [("answers", "arm", kind), ("answers", "stop", kind), ("calls", "go", kind)]


def test_a_message_becomes_text_and_tables(tmp_path):
    path = tmp_path / "Thing.msg"
    path.write_text("# What it is.\n#\n# More.\n\n# Values of `a`.\nuint8 ON=1  # it is on\n\nuint8 a   # or | b\n")
    section = interface._interface(path)
    assert "What it is.\n\nMore.\n" in section and "Values of `a`.\n" in section
    assert "| `ON` | 1 | it is on |" in section and "| `a` | `uint8` | or \\| b |" in section
