# SPDX-License-Identifier: Apache-2.0
"""The hardware bridge against the twin, both in this process over DDS on the loopback interface, in made-up time."""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds 11")
pytest.importorskip("mujoco", reason="the twin needs mujoco")

from genmimic.core.errors import ConfigError, LinkError  # noqa: E402
from genmimic.core.gate import GateConfig  # noqa: E402
from genmimic.core.modes import DAMPING, Mode  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.state import position_command  # noqa: E402
from genmimic.link import wire  # noqa: E402
from genmimic.link.bus import LOW_CMD_TOPIC, LOW_STATE_TOPIC  # noqa: E402
from genmimic.link.config import LinkConfig  # noqa: E402
from genmimic.link.dds import Bus  # noqa: E402
from genmimic.link.guard import Guard  # noqa: E402
from genmimic.link.hardware import HardwareBridge, RobotLink  # noqa: E402
from genmimic.link.rpc import MotionSwitcherClient  # noqa: E402
from genmimic.link.twin import Twin, TwinConfig  # noqa: E402

DOMAIN = 1 + os.getpid() % 100
STEP_NS = 2_000_000
MS = 1_000_000
STAND = position_command(ROBOT, ROBOT.default_joint_pos)
PATIENT = LinkConfig(find_s=5.0, listen_s=0.2)


class Bench:
    """Twin and bridge, stepped in turn; a live heartbeat, and a policy that holds the standing pose."""

    def __init__(self, *, open_it=True, **config):
        self.twin = Twin(TwinConfig(domain=DOMAIN, **{"controller": "", "operator": False, **config}))
        self.bus = Bus("lo", DOMAIN)
        self.bridge = HardwareBridge(RobotLink(self.bus, ROBOT, PATIENT), GateConfig(stand_time_s=1.0))
        if open_it:
            with Background(self.twin):
                self.bridge.open()
        self.now_ns = time.monotonic_ns()
        self.mode, self.sequence, self.command = Mode.DISARMED, 0, None
        self.speaking = False
        self.step = None

    def run(self, seconds, until=None, twin=True):
        """Step; return how many ms it took until ``until(step)``, or all of them."""
        begin_ns = self.now_ns
        while self.now_ns - begin_ns < seconds * 1e9:
            if self.speaking and (self.now_ns // STEP_NS) % 10 == 0:
                self.sequence += 1
                wobble = 0.02 * math.sin(self.sequence)
                self.command = replace(STAND, joint_pos=STAND.joint_pos + wobble, sequence=self.sequence), self.now_ns
            if twin:
                self.twin.tick(self.now_ns)
            command, received = self.command or (None, None)
            self.step = self.bridge.step(self.now_ns, self.mode, self.now_ns, command, received)
            if until is not None and until(self.step):
                break
            self.now_ns += STEP_NS
        return (self.now_ns - begin_ns) / 1e6

    def ready(self):
        """Arm, stand, and let the policy speak."""
        self.run(0.1)
        self.mode = Mode.STANDING
        self.run(6.0, until=lambda _: self.bridge.gate.standing and self.twin.gantry.settled_s > 0.4)
        assert self.bridge.confirm_standing() == ""
        self.mode, self.speaking = Mode.READY, True
        self.run(0.3)
        assert self.step.mode is Mode.READY and self.step.reason == ""

    def close(self):
        self.twin.close()
        self.bus.close()


class Background:
    """Runs a twin in real time on a thread."""

    def __init__(self, twin):
        self.stopping = False
        self.thread = threading.Thread(target=twin.run, args=(lambda: self.stopping,), daemon=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(5.0)


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def quick():
    """Without a gantry: the robot starts on its feet."""
    bench = Bench(tether=False)
    yield bench
    bench.close()


def refusal(**config):
    """Return what `open` says about such a robot."""
    bench = Bench(open_it=False, **config)
    try:
        with Background(bench.twin), pytest.raises(LinkError) as error:
            bench.bridge.open()
        assert not bench.bridge.live and bench.bridge.link.counts.sent == 0
        return str(error.value)
    finally:
        bench.close()


# who may be driven --------------------------------------------------------------------------------------
def test_the_29_joint_robot_gets_a_clear_no():
    text = refusal(mode_machine=5)
    assert "mode_machine 5, a 29-joint G1" in text and "(1, 4, 10) only" in text and "29 joints" in text
    assert "\n" not in text


def test_an_unknown_robot_is_refused():
    assert "mode_machine 77, an unknown robot" in refusal(mode_machine=77)


def test_nobody_there_is_said():
    with Bus("lo", DOMAIN) as bus, pytest.raises(LinkError, match="no robot is heard on interface 'lo' within 0.5 s"):
        RobotLink(bus, ROBOT, LinkConfig(find_s=0.5)).find()


def test_an_interface_that_is_not_there_is_named():
    with pytest.raises(LinkError, match="there is no network interface 'wlan7'; known: "):
        Bus("wlan7", DOMAIN)


def test_another_writer_is_heard_before_the_first_command():
    bench = Bench(open_it=False)
    bench.twin.order("second_writer")
    try:
        with Background(bench.twin), pytest.raises(LinkError, match="another process writes rt/lowcmd"):
            bench.bridge.open()
        assert bench.bridge.link.counts.sent == 0
    finally:
        bench.close()


def test_the_built_in_controller_is_released_by_a_person_only():
    bench = Bench(open_it=False, controller="ai")
    try:
        with Background(bench.twin):
            bench.bridge.open()
            assert not bench.bridge.live and "controller 'ai' runs" in bench.bridge.occupied
            step = bench.bridge.step(time.monotonic_ns(), Mode.STANDING, time.monotonic_ns(), None, None)
            assert any(fault.startswith("controller: ") for fault in step.state.link_faults), "it may not be armed"
            assert bench.bridge.link.counts.sent == 0, "nothing is written meanwhile"
            bench.bridge.release()
            until = time.monotonic() + 10.0
            while not bench.bridge.live and time.monotonic() < until:
                bench.bridge.step(time.monotonic_ns(), Mode.DISARMED, time.monotonic_ns(), None, None)
                time.sleep(0.002)
            assert bench.bridge.live and bench.twin.switcher.name == ""
            assert MotionSwitcherClient(bench.bus).check() == ""
    finally:
        bench.close()


# what is driven -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode_machine", [1, 10])
def test_mode_machine_is_echoed(mode_machine):
    bench = Bench(mode_machine=mode_machine)
    bench.run(0.1)
    assert bench.twin.counts["applied"] > 20 and bench.twin.counts["wrong_machine"] == 0
    assert bench.twin.log.outside == {}
    bench.close()


def test_it_stands_is_confirmed_and_balances(bench):
    bench.run(0.1)
    assert bench.step.mode is Mode.DISARMED
    assert bench.bridge.confirm_standing() == "the robot is not in its standing pose"
    bench.ready()
    assert bench.twin.gantry.lowered and bench.twin.log.outside == {}
    state = bench.step.state
    np.testing.assert_allclose(state.joint_pos, bench.twin.sim.joint_pos, atol=0.05)
    assert state.battery == pytest.approx(0.9) and state.link_faults == ()
    counts = bench.bridge.link.counts
    assert counts.wrong_crc == counts.malformed == counts.reordered == counts.foreign_commands == 0
    assert counts.sent > 1000 and counts.refused == 0


DAMPS = [  # order, what the bridge says, within how many ms
    ("vanish", "silence: the robot is silent for", 60),
    ("stuck", "silence: the robot is silent for", 60),
    ("crc 1", "wrong_crc|silence", 60),
    ("crc 0.3", "wrong_crc: .* checksums are wrong", 500),
    ("garbage 0.5", "wrong_crc: .* checksums are wrong", 500),
    ("delay 80", "silence: the robot is silent for", 60),
    ("mode_machine 5", "mode_machine: mode_machine changed from 4 to 5", 4),
    ("second_writer", "second_writer: another process writes rt/lowcmd", 20),
    ("freeze left_knee", "joint_frozen: the reading of left_knee_joint has not changed", 110),
    ("nan left_knee", "the robot's state is not finite", 4),
    ("imu_dead", "the robot's state is not finite", 4),
    ("timeless", "silence: the robot is silent for", 60),
    ("press B", "B was pressed on the remote", 4),
    ("press select", "Select was pressed on the remote", 4),
]


@pytest.mark.parametrize(("order", "reason", "limit_ms"), DAMPS)
def test_misbehaviour_damps_in_time_and_for_good(quick, order, reason, limit_ms):
    bench = quick
    bench.ready()
    assert bench.twin.order(order)["ok"]
    took_ms = bench.run(1.0, until=lambda step: step.mode in DAMPING)
    assert bench.step.mode is Mode.DAMPED
    assert re.search(reason, bench.step.reason), bench.step.reason
    assert took_ms <= limit_ms
    bench.run(0.3)
    assert not bench.bridge.last.command.kp.any() and (bench.bridge.last.command.kd > 0.0).all()
    bench.twin.order("clear")
    bench.run(0.3)
    assert bench.step.mode is Mode.DAMPED, "it stays so, although all is well again"
    assert bench.twin.log.outside == {} and bench.twin.log.stiff_after_limp == 0


def test_small_disturbances_are_ridden_out(quick):
    quick.ready()
    for order in ("drop 0.5", "duplicate 1", "reorder 0.3", "garbage 0.05", "crc 0.03", "delay 20"):
        assert quick.twin.order(order)["ok"]
        quick.run(0.25)
        assert quick.step.mode is Mode.READY and quick.step.reason == "", order
        quick.twin.order("clear")
    counts = quick.bridge.link.counts
    assert counts.duplicate > 50 and counts.reordered > 20 and counts.wrong_crc > 3
    assert quick.twin.log.outside == {}


def test_a_lost_remote_is_told(quick):
    quick.run(0.1)
    quick.twin.order("remote_off")
    quick.run(2.9)
    assert quick.step.state.link_faults == ()
    quick.run(0.2)
    assert quick.step.state.link_faults == ("remote_lost: the remote is silent for 3 s",)
    assert quick.step.reason == "", "what follows is the monitor's decision"


def test_the_way_out_leaves_it_limp(quick):
    bench = quick
    bench.ready()
    bench.bridge.let_go("the bridge stops", 0.3)
    bench.twin.tick(bench.now_ns)
    assert bench.twin.log.first_limp_ns is not None and not bench.twin.log.outside
    assert not bench.twin._command.kp.any() and bench.twin._command.kd.min() == pytest.approx(8.0)


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device"), ValueError("bug")])
def test_the_way_out_damps_even_when_the_gate_fails(quick, monkeypatch, error):
    bench = quick
    bench.ready()

    def fail(*_):
        raise error

    monkeypatch.setattr(bench.bridge.gate, "gate", fail)
    with pytest.raises(type(error)):
        bench.bridge.step(bench.now_ns, Mode.READY, bench.now_ns, None, None)
    bench.bridge.let_go("the loop has failed", 0.05)
    bench.twin.tick(bench.now_ns)
    assert not bench.twin._command.kp.any() and bench.twin._command.kd.min() == pytest.approx(8.0)


def test_a_loop_that_is_too_slow_is_told(quick):
    quick.run(1.2)
    assert quick.step.state.link_faults == ()
    for _ in range(300):  # 5 ms a step: 200 of 500 a second
        quick.now_ns += 5 * MS
        quick.twin.tick(quick.now_ns)
        step = quick.bridge.step(quick.now_ns, quick.mode, quick.now_ns, None, None)
    fault = next(text for text in step.state.link_faults if text.startswith("overrun"))
    assert re.match(r"overrun: the bridge's loop has made \d+ of 500 steps in the last second \(limit 250\)", fault)
    assert step.reason == "", "what follows is the monitor's decision"


def test_a_dead_guard_is_told(quick):
    guard = Guard("lo", DOMAIN, GateConfig())
    quick.bridge.watched_by(guard)
    quick.run(0.1)
    assert quick.step.state.link_faults == ()
    os.kill(guard.pid, signal.SIGKILL)
    until = time.monotonic() + 30.0
    while not quick.step.state.link_faults and time.monotonic() < until:
        time.sleep(0.02)
        quick.run(0.01)
    assert quick.step.state.link_faults == ("guard: the guard has ended; restart the bridge",)
    guard.dismiss()


# strangers ----------------------------------------------------------------------------------------------
def test_noise_on_every_topic_moves_nothing_and_breaks_nothing(bench):
    bench.run(0.1)
    rng = np.random.default_rng(0)
    with Bus("lo", DOMAIN) as stranger:
        topics = {
            LOW_CMD_TOPIC: ("LowCmd", 1000), LOW_STATE_TOPIC: ("LowState", 2088), "rt/lf/bmsstate":
            ("BmsState", 164), "rt/api/motion_switcher/request": ("Request", 60),
            "rt/api/motion_switcher/response": ("Response", 40),
        }  # fmt: skip
        writers = {name: stranger.writer(name, kind) for name, (kind, _) in topics.items()}
        taken = 0
        pose = bench.twin.sim.joint_pos
        for burst in range(1000):
            for name, (_, size) in topics.items():
                for _ in range(4):
                    length = size if burst % 2 else int(rng.integers(0, 2 * size))
                    taken += writers[name].write(wire.HEADER + rng.bytes(length))
            if burst % 4 == 0:
                bench.run(0.002)
        assert taken > 4000, "DDS itself lets only those through that have the right shape"
    assert bench.twin.counts["wrong_crc"] > 100 and bench.bridge.link.counts.wrong_crc > 100
    assert np.abs(bench.twin.sim.joint_pos - pose).max() < 0.3, "it hangs there, braked"
    assert bench.twin._command is not None and not bench.twin._command.kp.any()


# the guard ----------------------------------------------------------------------------------------------
FEED = """
import sys, time
from genmimic.core.gate import GateConfig
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import position_command
from genmimic.link.guard import Guard
from genmimic.link.realtime import realtime_priority
guard = Guard("lo", int(sys.argv[1]), GateConfig())
realtime_priority(60)  # a feeder that a busy machine keeps waiting for 100 ms looks like a dead one
command = position_command(G1_23DOF, G1_23DOF.default_joint_pos)
print(guard.pid, flush=True)
while True:
    guard.feed(command, 4)
    time.sleep(0.002)
"""


def commands_within(reader, seconds, until=lambda sample: False):
    """Return the LowCmd records that come within ``seconds``, or until one pleases."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for sample in reader.take():
            record = wire.read_low_cmd(sample.data)
            assert int(record["crc"]) == wire.low_cmd_crc(sample.data)
            found.append(record)
            if until(record):
                return found
        time.sleep(0.002)
    return found


@pytest.mark.parametrize(("how", "log"), [("kill", ""), ("stop", ""), ("kill", "/dev/full")])
def test_the_guard_damps_when_the_bridge_dies_or_stands_still(how, log):
    """Also when what it says about it cannot be written: the disk is full."""
    for _ in range(TRIES):
        found = spoken_by_the_guard(signal.SIGKILL if how == "kill" else signal.SIGSTOP, log)
        if found is not None:
            break
    assert found, "it damps"
    kp = np.array([record["motor_cmd"]["kp"][3] for record in found])
    assert kp[-1] == 0.0 and 0.0 < kp[0] <= 300.0 and (np.diff(kp) <= 0.0).all(), "stiffness fades"
    assert found[-1]["motor_cmd"]["kd"][3] == pytest.approx(8.0) and found[-1]["mode_machine"] == 4


TRIES = 5
"""A machine that keeps the bridge waiting for 100 ms lets the guard speak, as it must; then it is tried again."""


def spoken_by_the_guard(number, log):
    """Return what the guard writes after its bridge got a signal; None when it spoke before."""
    with Bus("lo", DOMAIN) as bus, open(log or os.devnull, "w") as stderr:
        reader = bus.reader(LOW_CMD_TOPIC, "LowCmd", depth=64)
        bridge = subprocess.Popen(
            [sys.executable, "-c", FEED, str(DOMAIN)], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        gone = reader.writers  # killed guards of other tests, of which DDS does not know yet
        guard_pid = int(bridge.stdout.readline())
        try:
            end = time.monotonic() + 60.0
            while reader.writers <= gone and time.monotonic() < end:
                gone = min(gone, reader.writers)
                time.sleep(0.02)
            assert reader.writers > gone, "the guard is there"
            if commands_within(reader, 0.3):  # it should say nothing while the bridge lives
                return None
            bridge.send_signal(number)
            return commands_within(reader, 30.0, until=lambda record: not record["motor_cmd"]["kp"].any())
        finally:
            os.kill(guard_pid, signal.SIGKILL)
            bridge.kill()
            bridge.wait()


def test_the_guard_goes_when_dismissed():
    with Bus("lo", DOMAIN) as bus:
        reader = bus.reader(LOW_CMD_TOPIC, "LowCmd", depth=64)
        guard = Guard("lo", DOMAIN, GateConfig())
        guard.feed(STAND, 4)
        guard.dismiss()
        assert not guard.taken and commands_within(reader, 0.1) == []
        with pytest.raises(ProcessLookupError):
            os.kill(guard.pid, 0)


@pytest.mark.parametrize("item", fields(LinkConfig), ids=lambda item: item.name)
def test_settings_are_checked(item):
    assert item.metadata["description"] and item.metadata["unit"]
    for bad in (item.metadata["low"] - 0.1, item.metadata["high"] * 2 + 1, math.nan):
        with pytest.raises(ConfigError, match=item.name):
            LinkConfig(**{item.name: bad})
