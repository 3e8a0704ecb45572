# SPDX-License-Identifier: Apache-2.0
"""Loops at a fixed rate, and how nodes start and stop."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=1)]
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible  # noqa: E402

from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic_ros import runtime  # noqa: E402
from genmimic_ros.runtime import TickThread  # noqa: E402


def run(rate_hz, callback, seconds):
    thread = TickThread(rate_hz, callback, priority=0)
    thread.start()
    time.sleep(seconds)
    thread.stop()
    return thread


def test_ticks_keep_their_count():
    begin = time.monotonic()
    thread = run(200.0, lambda now_ns: None, 0.5)
    elapsed = time.monotonic() - begin
    stats = thread.stats()
    assert stats.ticks + stats.missed == pytest.approx(200.0 * elapsed, abs=4)
    assert stats.period_ms_p50 == pytest.approx(5.0, abs=1.0)


def test_a_late_tick_does_not_delay_the_next_ones():
    """Every tenth tick takes 1.5 periods; the deadlines stay where they were."""
    starts = []

    def tick(now_ns):
        starts.append(now_ns)
        if len(starts) % 10 == 0:
            time.sleep(0.015)

    thread = run(100.0, tick, 0.8)
    stats = thread.stats()
    assert stats.compute_ms_max >= 15.0
    late = np.array(starts[1:]) - starts[0]
    # after the slow ones the phase is the old one: in the median, ticks start on a multiple of the period
    off_ms = np.abs((late / 1e6 + 5.0) % 10.0 - 5.0)
    assert np.median(off_ms) < 2.0
    assert stats.late_5ms >= 3


def test_ticks_that_cannot_be_met_are_skipped_and_counted():
    thread = run(100.0, lambda now_ns: time.sleep(0.035), 0.5)
    stats = thread.stats()
    assert stats.missed >= stats.ticks  # 35 ms: two of four are skipped, or three
    assert stats.ticks + stats.missed == pytest.approx(50, abs=12)


def test_an_exception_ends_the_loop_loudly():
    seen = []
    thread = TickThread(100.0, lambda now_ns: 1 / 0, priority=0, on_error=seen.append)
    thread.start()
    time.sleep(0.2)
    assert not thread.is_alive
    assert isinstance(thread.error, ZeroDivisionError) and seen == [thread.error]


def test_all_ticks_since_one_can_be_had():
    batches, thread = [], None

    def tick(now_ns):
        if thread.ticks and thread.ticks % 10 == 0:
            batches.append(thread.since(thread.ticks - 10)[0])

    thread = TickThread(200.0, tick, priority=0)
    thread.start()
    time.sleep(0.4)
    thread.stop()
    assert all(len(batch) == 10 for batch in batches)
    assert np.isfinite(np.concatenate(batches[1:])).all()


def test_stopping_from_within_a_tick_does_not_hang():
    done = threading.Event()
    thread = None

    def tick(now_ns):
        thread.stop()
        done.set()

    thread = TickThread(100.0, tick, priority=0)
    thread.start()
    assert done.wait(2.0)
    time.sleep(0.1)
    assert not thread.is_alive


def test_a_missing_permission_is_told_once(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(runtime.os, "sched_setscheduler", refuse)
    said = []
    thread = TickThread(200.0, lambda now_ns: None, priority=50, warn=said.append)
    thread.start()
    time.sleep(0.1)
    thread.stop()
    assert len(said) == 1 and "real-time" in said[0] and not thread.realtime and thread.ticks > 5


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), 1e6])
def test_a_rate_must_make_sense(rate_hz):
    with pytest.raises(ConfigError, match="rate_hz"):
        TickThread(rate_hz, lambda now_ns: None)


@pytest.mark.parametrize("reader", [QoSProfile(depth=10), runtime.STREAM_SUB, runtime.RECORD_SUB])
@pytest.mark.parametrize("writer", [runtime.STREAM_PUB, runtime.STATUS_PUB])
def test_any_reader_matches_our_writers(writer, reader):
    assert qos_check_compatible(writer, reader)[0] != QoSCompatibility.ERROR


NODE = """
import sys
from genmimic.core.errors import ConfigError
from genmimic_ros.runtime import TickNode, run_node
class Probe(TickNode):
    def __init__(self):
        super().__init__("probe")
        if "bad" in sys.argv: raise ConfigError("no good\\nat all")
        self.start_ticks(50.0, self.on_tick, 0)
    def on_tick(self, now_ns):
        if "crash" in sys.argv: raise ValueError("broken")
    def on_failure(self):
        print("damped first", flush=True)
sys.exit(run_node(Probe, [], realtime=False))
"""


def launch(*words):
    return subprocess.Popen(
        [sys.executable, "-c", NODE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def test_a_node_that_cannot_start_says_why_in_one_line():
    process = launch("bad")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.strip() == "Probe: error: no good at all"


def test_a_node_whose_loop_fails_exits_with_1_and_acts_first():
    process = launch("crash")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "damped first" in out and "the loop has failed: ValueError: broken" in err


@pytest.mark.parametrize("number", [2, 15])
def test_sigint_and_sigterm_stop_a_node_cleanly(number):
    process = launch()
    time.sleep(3.0)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert "Traceback" not in err
