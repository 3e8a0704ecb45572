# SPDX-License-Identifier: Apache-2.0
"""`genmimic doctor`, against nobody and against twins that are ill in different ways."""

import json
import os
import threading
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds 11")
pytest.importorskip("mujoco", reason="the twin needs mujoco")

from genmimic.cli import main  # noqa: E402
from genmimic.core.errors import LinkError  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.link import doctor, wiggle  # noqa: E402
from genmimic.link.config import LinkConfig  # noqa: E402
from genmimic.link.dds import Bus  # noqa: E402
from genmimic.link.hardware import HardwareBridge, RobotLink  # noqa: E402
from genmimic.link.twin import Twin, TwinConfig  # noqa: E402

DOMAIN = 1 + (os.getpid() + 10) % 100


def examine(*orders, seconds=0.8, **config):
    """Return the findings about such a twin, by check."""
    twin = Twin(TwinConfig(domain=DOMAIN, **{"operator": False, **config}))
    for order in orders:
        assert twin.order(order)["ok"]
    stopping = threading.Event()
    thread = threading.Thread(target=twin.run, args=(stopping.is_set,), daemon=True)
    thread.start()
    try:
        return {finding.check: finding for finding in doctor.check_robot("lo", DOMAIN, seconds)}
    finally:
        stopping.set()
        thread.join(5.0)
        twin.close()


def test_a_healthy_robot():
    findings = examine(controller="")
    failed = {check: finding.text for check, finding in findings.items() if finding.verdict == doctor.FAIL}
    assert not failed
    assert findings["kind"].text == "mode_machine 4: the 23-joint G1, rev 1.0"
    assert findings["battery"].text == "90 %" and findings["own controller"].verdict == doctor.OK
    assert findings["checksums"].text.startswith("0 wrong and 0 malformed of ")


@pytest.mark.parametrize(
    ("check", "verdict", "words", "orders", "config"),
    [
        ("kind", "fail", "mode_machine 5: a 29-joint G1", (), {"mode_machine": 5}),
        ("own controller", "warn", "'ai' runs", (), {}),
        ("battery", "fail", "12 %", (), {"battery": 0.12}),
        ("checksums", "fail", "wrong", ("crc 0.3",), {}),
        ("other writer", "warn", "commands of others were heard", ("second_writer",), {}),
        ("remote", "fail", "not heard", ("remote_off",), {}),
        ("temperatures", "fail", "hottest 95 degrees Celsius, left_knee_joint", ("heat left_knee 95",), {}),
        ("IMU", "fail", "its orientation is none", ("imu_dead",), {}),
        ("joints", "fail", "not a finite number", ("nan left_knee",), {}),
        ("state rate", "fail", "Hz of 500 Hz", ("drop 0.8",), {}),
    ],
)
def test_what_is_wrong_is_found(check, verdict, words, orders, config):
    finding = examine(*orders, seconds=0.5, **config)[check]
    assert finding.verdict == verdict and words in finding.text
    assert finding.fix


def test_nobody_there_ends_with_1_and_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "check_software", lambda policy: [])
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.2)
    assert main(["doctor", "--interface", "lo", "--domain", str(DOMAIN), "--seconds", "0.5", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings[-1]["check"] == "robot" and findings[-1]["verdict"] == "fail" and findings[-1]["fix"]
    assert main(["doctor", "--interface", "wlan7"]) == 1
    assert "there is no network interface 'wlan7'" in capsys.readouterr().out


def test_the_software_of_this_machine(capsys):
    code = main(["doctor"])
    out = capsys.readouterr().out
    assert "Python" in out and "cyclonedds" in out and "policy" in out
    assert (code == 1) == ("fail  " in out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "--domain", "-1"), ("doctor", "--seconds", "0"), ("twin", "--battery", "2"),
        ("twin", "--domain", "999"), ("twin", "--interface", "wlan7"), ("twin", "--fault", "dance"),
        ("twin", "--mode-machine", "256"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(arguments, capsys):
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("genmimic: error: ")


# the wiggle -------------------------------------------------------------------------------------------
KNEE, ANKLE = ROBOT.joint_names.index("left_knee_joint"), ROBOT.joint_names.index("left_ankle_pitch_joint")


@pytest.mark.parametrize(
    ("knee", "ankle", "good", "words"),
    [
        (0.06, 0.02, True, "asked 0.12 rad, moved 0.060 rad"),
        (-0.06, 0.0, False, "the other way"),
        (0.004, 0.0, False, "it does not move"),
        (0.03, 0.08, False, "but left_ankle_pitch_joint moved 0.080 rad"),
    ],
)
def test_the_wiggle_is_judged(knee, ankle, good, words):
    times = np.arange(0.0, wiggle.turn_s(), 0.002)
    joint_pos = np.tile(ROBOT.default_joint_pos, (len(times), 1))
    lagging = np.array([wiggle.offset(time - 0.05) for time in times]) / wiggle.AMPLITUDE_RAD
    joint_pos[:, KNEE] += knee * lagging
    joint_pos[:, ANKLE] += ankle * lagging
    found, text = wiggle.judge(ROBOT, KNEE, times, joint_pos)
    assert found is good and words in text


def test_the_wiggle_is_gentle():
    for time_s in np.arange(0.0, wiggle.turn_s() + 0.1, 0.01):
        command = wiggle.wiggle_command(ROBOT, ROBOT.default_joint_pos, KNEE, time_s)
        pull = command.kp * np.abs(command.joint_pos - ROBOT.default_joint_pos)
        assert pull.max() < 0.05 * ROBOT.joint_effort[KNEE] and (pull[np.arange(23) != KNEE] == 0.0).all()
    assert not command.kp.any() and not wiggle.wiggle_command(ROBOT, ROBOT.default_joint_pos, KNEE, 0.0).kp.any()


@pytest.mark.parametrize("order", ["mark", "flip left_shoulder_yaw"])
def test_a_twin_is_wiggled(order):
    """A reading with the wrong sign drives the joint away from its rest: it is damped before it is far."""
    twin, now_ns = Twin(TwinConfig(domain=DOMAIN, operator=False, controller="")), time.monotonic_ns()

    def run(rate_hz, tick):  # in made-up time
        nonlocal now_ns
        going = True
        while going:
            now_ns += round(1e9 / rate_hz)
            twin.tick(now_ns)
            going = tick(now_ns)

    thread_stops = threading.Event()
    thread = threading.Thread(target=twin.run, args=(thread_stops.is_set,), daemon=True)
    thread.start()
    with Bus("lo", DOMAIN) as bus:
        bridge = HardwareBridge(RobotLink(bus, ROBOT, LinkConfig(find_s=60.0)))
        try:
            bridge.open()
        finally:
            thread_stops.set()
            thread.join()
        now_ns = time.monotonic_ns()
        end_ns = now_ns + 6_000_000_000

        def damp(at_ns):  # limp, it swings into its rest
            bridge.step(at_ns, Mode.DISARMED, at_ns, None, None)
            return at_ns < end_ns

        run(500.0, damp)
        assert twin.order(order)["ok"]
        joints = ["left_shoulder_yaw_joint"]
        if order == "mark":
            ((name, good, text),) = wiggle.wiggle(bridge, lambda name: None, joints, run)
            assert name == joints[0] and good and "moved" in text
        else:
            with pytest.raises(LinkError, match="left_shoulder_yaw_joint was ended, the robot is damped: "):
                wiggle.wiggle(bridge, lambda name: None, joints, run)
        twin.tick(now_ns)
    assert not twin.order("stats")["stiff"], "it hangs limp again"
    twin.close()


def test_nothing_is_wiggled_unless_somebody_says_that_it_hangs(capsys):
    assert main(["doctor", "--wiggle"]) == 2
    assert "--wiggle needs --interface" in capsys.readouterr().err
