# SPDX-License-Identifier: Apache-2.0
"""`genmimic doctor`, against nobody and against twins that are ill in different ways."""

import json
import os
import threading

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds 11")
pytest.importorskip("mujoco", reason="the twin needs mujoco")

from genmimic.cli import main  # noqa: E402
from genmimic.link import doctor  # noqa: E402
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
