# SPDX-License-Identifier: Apache-2.0
"""How nodes run: quality of service, executor, fixed-rate threads, start and stop.

A node's loop is a `TickThread`; its subscriptions only store the latest message, on the main thread.
Why not timers and a plain executor: docs/pitfalls.md.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from genmimic.core.errors import ConfigError, GenMimicError

if TYPE_CHECKING:
    from rclpy.subscription import Subscription

# Quality of service -------------------------------------------------------------------------------
# Writers of streams are reliable, so that any reader matches them, the defaults of `ros2 topic echo`
# and of rviz included. Our own readers are best effort: the newest sample is worth more than a lost one.


def _qos(depth: int, reliable: bool, latched: bool) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


STREAM_PUB = _qos(1, reliable=True, latched=False)
"""robot_state, joint_command, goal_keypoints, gantry/tension, markers, joint_states: only the newest counts."""

STREAM_SUB = _qos(1, reliable=False, latched=False)
"""How a node reads a stream."""

STATUS_PUB = _qos(1, reliable=True, latched=True)
"""safety_status, policy_status, robot_description: whoever comes late gets the last one."""

STATUS_SUB = _qos(1, reliable=True, latched=True)
"""How a node reads a status."""

RECORD_SUB = _qos(1000, reliable=True, latched=False)
"""How a recorder reads anything: all of it."""

RECORD_STREAM_SUB = _qos(1000, reliable=False, latched=False)
"""How record_node reads a stream: no writer ever waits for it, or sends anything twice."""

RECORD_SUB_LATCHED = _qos(1000, reliable=True, latched=True)
"""How record_node reads a status: the last one before it came, too."""

PRESS_QOS = _qos(10, reliable=True, latched=False)
"""press: buttons of the keyboard, none of which may get lost."""

# Ticks --------------------------------------------------------------------------------------------
LATE_NS = 5_000_000
"""A tick that starts later than this after its deadline counts as late."""

_NS = 1_000_000_000


@dataclass(frozen=True)
class TickStats:
    """How a loop is doing. Times in ms; percentiles over the last window; NaN before the first tick."""

    ticks: int
    missed: int
    late_5ms: int
    period_ms: float
    period_ms_p50: float
    period_ms_p99: float
    period_ms_max: float
    compute_ms: float
    compute_ms_p50: float
    compute_ms_p99: float
    compute_ms_max: float


class TickThread:
    """Calls ``callback(now_ns)`` at a fixed rate, on a thread of its own, from absolute deadlines.

    The deadlines never drift: a late tick does not delay the next ones, and those that can no longer
    be met are skipped and counted. ``now_ns`` is the monotonic clock at the start of the tick.

    Args:
        rate_hz: Ticks per second.
        callback: The work of one tick.
        priority: Of the real-time scheduler (SCHED_FIFO) where the system permits it; 0 leaves it alone.
        on_error: Called once, on this thread, with what a tick raised; the thread then ends.
        warn: Called with one line when the real-time scheduler is not permitted.
        window_s: How far back the percentiles look.
    """

    def __init__(
        self,
        rate_hz: float,
        callback: Callable[[int], None],
        priority: int = 50,
        *,
        on_error: Callable[[Exception], None] | None = None,
        warn: Callable[[str], None] | None = None,
        window_s: float = 1.0,
    ) -> None:
        if not 0.0 < rate_hz <= 10_000.0:
            raise ConfigError(f"rate_hz is {rate_hz:g}, expected up to 10000 Hz")
        self._period_ns = round(_NS / rate_hz)
        self._callback, self._priority = callback, priority
        self._on_error, self._warn = on_error, warn
        window = max(2, round(rate_hz * window_s))
        self._periods, self._computes = np.full(window, np.nan), np.full(window, np.nan)
        self._ticks = self._missed = self._late = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)
        self.error: Exception | None = None
        """What ended the thread, if a tick raised."""
        self.realtime = False
        """Whether the real-time scheduler was permitted."""

    def start(self) -> None:
        """Begin; the first tick comes one period from now."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End after the tick that is running, if any."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def ticks(self) -> int:
        return self._ticks

    def stats(self) -> TickStats:
        """Return counts since the start, and percentiles over the window."""
        count, window = self._ticks, len(self._periods)
        last = (count - 1) % window if count else 0
        return TickStats(
            count, self._missed, self._late,
            float(self._periods[last]), *_spread(self._periods),
            float(self._computes[last]), *_spread(self._computes),
        )  # fmt: skip

    def since(self, tick: int) -> tuple[np.ndarray, np.ndarray]:
        """Return period and compute time in ms of each tick after ``tick``, as far back as the window goes.

        To be called from the callback itself, where all ticks but the running one are complete.
        """
        count, window = self._ticks, len(self._periods)
        idx: np.ndarray = np.arange(max(tick, count - window), count) % window
        return self._periods[idx], self._computes[idx]

    def _run(self) -> None:
        self._raise_priority()
        previous_ns = 0
        deadline_ns = time.monotonic_ns() + self._period_ns
        try:
            while not self._stop.is_set():
                wait_ns = deadline_ns - time.monotonic_ns()
                if wait_ns > 0:
                    time.sleep(wait_ns / _NS)
                    if self._stop.is_set():
                        return
                now_ns = time.monotonic_ns()
                if now_ns - deadline_ns > LATE_NS:
                    self._late += 1
                self._callback(now_ns)
                end_ns = time.monotonic_ns()
                slot = self._ticks % len(self._periods)
                self._periods[slot] = (now_ns - previous_ns) / 1e6 if previous_ns else np.nan
                self._computes[slot] = (end_ns - now_ns) / 1e6
                self._ticks += 1
                previous_ns = now_ns
                deadline_ns += self._period_ns
                behind = (end_ns - deadline_ns) // self._period_ns
                if behind > 0:
                    self._missed += behind
                    deadline_ns += behind * self._period_ns
        except Exception as error:
            self.error = error
            if self._on_error is not None:
                self._on_error(error)
            else:
                raise

    def _raise_priority(self) -> None:
        if self._priority <= 0:
            return
        self.realtime = set_realtime(self._priority)
        if not self.realtime and self._warn is not None:
            self._warn(
                "real-time scheduling is not permitted; ticks may come late on a busy machine "
                "(docs/pitfalls.md says how to permit it)"
            )


def set_realtime(priority: int) -> bool:
    """Give this thread, and those it will make, real-time priority; return whether the system permits it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))  # 0: this thread alone
    except (AttributeError, OSError):
        return False
    return True


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return (float("nan"),) * 3
    p50, p99 = np.percentile(known, [50, 99])
    return float(p50), float(p99), float(known.max())


class TickNode(Node):
    """A node whose work is done by `TickThread`s. Any exception in one of them ends the node, loudly."""

    def __init__(self, name: str, **kwargs: object) -> None:
        super().__init__(name, **kwargs)  # type: ignore[arg-type]
        self._tick_threads: list[TickThread] = []
        self.failure: Exception | None = None
        """What ended the node; `spin` returns once it is set, and `run_node` then exits with 1."""

    def start_ticks(self, rate_hz: float, callback: Callable[[int], None], priority: int = 50) -> TickThread:
        """Call ``callback(now_ns)`` at ``rate_hz`` from now on, until the node is destroyed."""
        thread = TickThread(
            rate_hz, callback, priority, on_error=self._on_tick_error, warn=self.get_logger().warning
        )  # fmt: skip
        self._tick_threads.append(thread)
        thread.start()
        return thread

    def on_failure(self) -> None:
        """What must happen at once when a tick has raised; called on its thread."""

    def destroy_node(self) -> None:
        for thread in self._tick_threads:
            thread.stop()
        super().destroy_node()

    def _on_tick_error(self, error: Exception) -> None:
        if not self.context.ok():  # stopping: what a tick still publishes has nowhere to go
            return
        try:
            self.on_failure()
        finally:
            self.failure = error
            text = str(error) if isinstance(error, GenMimicError) else f"{type(error).__name__}: {error}"
            self.get_logger().fatal(f"the loop has failed: {' '.join(text.split())}")
            if not isinstance(error, GenMimicError):
                import traceback

                traceback.print_exception(type(error), error, error.__traceback__)


class Ears:
    """Topics of which only the newest message is wanted, and only now and then.

    They belong to a node of their own, ``NAME_ears``, that no executor serves: a message that arrives wakes nobody and
    is decoded when it is asked for. For whoever looks at streams of 200 Hz without being part of the control loop.

    Args:
        node: Whose ears they are; its namespace is theirs.
    """

    def __init__(self, node: Node) -> None:
        name = f"{node.get_name()}_ears"
        self._node = Node(name, context=node.context, enable_rosout=False, start_parameter_services=False)
        self._subscriptions: dict[str, Subscription] = {}
        self._heard: dict[str, tuple[bytes, int]] = {}

    def create_subscription(self, kind: type, topic: str, qos: QoSProfile) -> None:
        """Hear ``topic`` from now on."""
        self._subscriptions[topic] = self._node.create_subscription(kind, topic, lambda _: None, qos, raw=True)

    def hear(self) -> None:
        """Take what has arrived; to be called at least as often as `newest` tells old from new."""
        for topic, subscription in self._subscriptions.items():
            with subscription.handle:
                while (taken := subscription.handle.take_message(subscription.msg_type, True)) is not None:
                    self._heard[topic] = taken[0], time.monotonic_ns()

    def newest(self, topic: str, within_s: float) -> Any:
        """Return the newest message of ``topic``; None when none was taken for ``within_s``, or it is none at all."""
        raw, taken_ns = self._heard.get(topic, (b"", 0))
        if not raw or time.monotonic_ns() - taken_ns > within_s * _NS:
            return None
        try:
            return deserialize_message(raw, self._subscriptions[topic].msg_type)
        except Exception:  # a stranger's bytes, cut off or random; the type of the error differs between ROS versions
            del self._heard[topic]
            return None

    def destroy(self) -> None:
        """Hear no more."""
        self._node.destroy_node()


# Start and stop -----------------------------------------------------------------------------------
def make_executor(context: rclpy.Context | None = None) -> rclpy.executors.Executor:
    """Return the events executor where this ROS 2 has one, else the single-threaded one."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:  # Humble
        return rclpy.executors.SingleThreadedExecutor(context=context)
    return EventsExecutor(context=context)


def spin(node: Node) -> None:
    """Serve ``node``'s callbacks until ROS shuts down or the node has failed."""
    executor = make_executor(node.context)
    executor.add_node(node)
    try:
        # not executor.spin(): it never calls anything in some builds of the events executor
        while node.context.ok() and getattr(node, "failure", None) is None:
            executor.spin_once(timeout_sec=0.2)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:
        if node.context.ok():
            raise  # otherwise the events executor has met the shutdown while it waited
    finally:
        executor.shutdown(timeout_sec=1.0)


def prepare_transport() -> None:
    """Keep Fast DDS off shared memory, unless the user has chosen a transport; before ROS starts.

    A reader in shared memory that dies, such as a killed `ros2 topic hz`, blocks the writers' next `publish` for
    330 ms (measured; docs/pitfalls.md), long enough for the robot to be damped. UDP does not block.
    """
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")


PROCESS_PRIORITY = 40
"""Real-time priority of all threads of a node that are no `TickThread`: DDS delivers, the main thread stores."""


def run_node(cls: Callable[[], Node], argv: Sequence[str] | None = None, *, realtime: bool = True) -> int:
    """Run one node in this process until SIGINT, SIGTERM or its own failure, and return the exit code.

    Args:
        cls: Makes the node.
        argv: Arguments without the program's name; those of this process when None.
        realtime: Whether all threads, those of DDS included, get real-time priority where the system permits it.
            Without it, a busy machine delivers messages late, however punctual the ticks are.

    Returns:
        0 after an ordinary stop, 1 when the node failed while running, 2 when it could not start: a
        GenMimicError is then one line on standard error.
    """
    sys.setswitchinterval(0.0005)  # how long a tick may wait for the interpreter; the default is 5 ms
    prepare_transport()
    if realtime:
        set_realtime(PROCESS_PRIORITY)  # before ROS makes its threads, which inherit it
    node: Node | None = None
    try:
        rclpy.init(args=list(sys.argv if argv is None else ["node", *argv]))
        node = cls()
        gc.collect()
        gc.freeze()  # what lives as long as the node is not looked at again
        spin(node)
        return 1 if getattr(node, "failure", None) is not None else 0
    except GenMimicError as error:
        print(f"{getattr(cls, '__name__', 'node')}: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
