# SPDX-License-Identifier: Apache-2.0
"""`genmimic keys`: what a key means. That B damps the robot is part of the drill."""

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

from genmimic.cli import main  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic_ros.keyboard import KEYS, SERVICES, service_for  # noqa: E402

MEANING = {
    ("start", Mode.DISARMED): "arm", ("start", Mode.DAMPED): "reset", ("start", Mode.ESTOP): "reset",
    ("A", Mode.READY): "start", ("A", Mode.HOLD): "start",
}  # fmt: skip


@pytest.mark.parametrize("mode", list(Mode))
def test_a_button_means_what_it_means_on_the_remote(mode):
    assert service_for("B", mode) == service_for("select", mode) == "estop", "in every mode"
    for button in ("start", "A"):
        assert service_for(button, mode) == MEANING.get((button, mode), "")


def test_every_service_is_known_and_damping_is_easy_to_hit():
    assert {service_for(button, mode) for button in KEYS.values() for mode in Mode} - {""} <= set(SERVICES)
    assert all(KEYS[key] == "B" for key in ("b", " ", "\x1b"))


@pytest.mark.parametrize("arguments", [("keys",), ("keys", "--ros-domain", "1000")])
def test_without_a_terminal_it_says_so_in_one_line(arguments, capsys, monkeypatch, tmp_path):
    with (tmp_path / "none").open("w+") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert main(list(arguments)) == 2
    assert "keys come from a terminal" in capsys.readouterr().err
