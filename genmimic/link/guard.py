# SPDX-License-Identifier: Apache-2.0
"""The guard: a second process that damps the robot when the bridge's process has died or stands still.

The bridge cannot answer its own SIGKILL, a crash inside a library, or being stopped. Whether the robot itself brakes
when commands stop is not published. So a small process shares a page of memory with the bridge: the last command, and a
counter. When the bridge's end of a pipe closes, or the counter stands still for too long, the guard writes the last
command with fading stiffness, then damping, and goes on for a while. It writes nothing before that.

Once it has spoken, the bridge must not: a bridge that wakes up again finds the page marked, and another writer on the
wire; either damps it.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from genmimic.core.gate import GateConfig
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import JointCommand, damping_command
from genmimic.link.bus import LOW_CMD_TOPIC, Bus

SILENCE_S = 0.1
"""How long the bridge's counter may stand still. Beyond the gate's own limits, so that a late bridge damps first."""

SPEAK_S = 10.0
"""How long the guard goes on damping."""

_N = G1_23DOF.num_joints
_PAGE = np.dtype(
    [("count", "<u8"), ("mode_machine", "<u4"), ("taken", "<u4"), ("numbers", "<f8", (3, _N))], align=True
)  # numbers: position, kp, kd
_COUNT_AT, _TAKEN_AT = (int(_PAGE.fields[name][1]) for name in ("count", "taken"))  # type: ignore[index]


class Guard:
    """The bridge's side.

    Args:
        interface: Network interface of the robot.
        domain: Its DDS domain.
        gate: Whose damping and ramp the guard uses.
        module: What its process runs.
    """

    def __init__(self, interface: str, domain: int, gate: GateConfig, module: str = "genmimic.link.guard") -> None:
        handle = os.memfd_create("genmimic-guard")  # memory, not a file: a full disk changes nothing
        os.ftruncate(handle, _PAGE.itemsize)
        self._map = mmap.mmap(handle, _PAGE.itemsize)
        self._page = np.frombuffer(self._map, _PAGE)[0]
        whole = memoryview(self._map)  # a record's fields take ten times as long
        self._count = whole[_COUNT_AT : _COUNT_AT + 8].cast("Q")
        self._taken = whole[_TAKEN_AT : _TAKEN_AT + 4].cast("I")
        self._fed: tuple[np.ndarray, ...] = ()  # what the page holds
        self._machine: int | None = None
        command = [sys.executable, "-m", module, str(handle), "--interface", interface]
        command += ["--domain", str(domain), "--kd", str(gate.damping_kd), "--ramp", str(gate.damping_ramp_s)]
        self._alive, self._looked_s = True, 0.0
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, pass_fds=(handle,))
        os.close(handle)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs, as far as the last look, ten times a second, tells."""
        now = time.monotonic()
        if self._alive and now - self._looked_s > 0.1:
            self._alive, self._looked_s = self._process.poll() is None, now
        return self._alive

    @property
    def taken(self) -> bool:
        """Whether the guard has begun to damp."""
        return bool(self._taken[0])

    def feed(self, command: JointCommand, mode_machine: int | None) -> None:
        """Tell the guard the command that has just been written."""
        fed = self._fed
        if not (fed and command.joint_pos is fed[0] and command.kp is fed[1] and command.kd is fed[2]):
            numbers = self._page["numbers"]
            numbers[0], numbers[1], numbers[2] = self._fed = command.joint_pos, command.kp, command.kd
        if mode_machine != self._machine:
            self._page["mode_machine"], self._machine = mode_machine or 0, mode_machine
        self._count[0] += 1

    def dismiss(self) -> None:
        """Tell it that all is well: the bridge has damped by itself and ends."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(b".")
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def watch(handle: int, open_bus: Callable[[], Bus], kd: float, ramp_s: float) -> bool:
    """Watch over the bridge that feeds the shared page until it ends; return whether the guard had to speak."""
    from genmimic.link import wire
    from genmimic.link.realtime import lock_memory, realtime_priority, run_at

    page: Any = np.frombuffer(mmap.mmap(handle, _PAGE.itemsize), _PAGE)[0]
    realtime_priority(65)
    with open_bus() as bus:
        writer, packer = bus.writer(LOW_CMD_TOPIC, "LowCmd"), wire.LowCmdWriter(G1_23DOF)
        lock_memory()
        if _ended_well(page):
            return False
        page["taken"] = 1
        position, kp, kd_before = (row.copy() for row in page["numbers"])
        limp = damping_command(G1_23DOF, position, kd)
        machine, begin_ns = int(page["mode_machine"]), time.monotonic_ns()
        told = False

        def tick(now_ns: int) -> bool:
            nonlocal told
            done_s = (now_ns - begin_ns) * 1e-9
            left = max(0.0, 1.0 - done_s / ramp_s) if ramp_s > 0.0 else 0.0
            command = replace(limp, kp=left * kp, kd=limp.kd + left * (kd_before - limp.kd))
            writer.write(packer.fill(command, machine))
            if left == 0.0 and not told:  # first the robot, then words
                told = True
                _tell(f"guard: the bridge's process has died or stands still; damping for {SPEAK_S:g} s")
            return done_s < SPEAK_S

        run_at(500.0, tick)
    return True


def _tell(text: str) -> None:
    """Say it, if anybody listens: the disk may be full, and whoever read it may be gone."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _ended_well(page: Any) -> bool:
    """Block until the bridge has ended (true) or must be replaced (false)."""
    seen, since = 0, time.monotonic()
    while True:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], 0.02)
        if ready:
            # a goodbye, or the end of the pipe. One that never commanded leaves nothing to damp.
            return bool(os.read(sys.stdin.fileno(), 1)) or int(page["count"]) == 0
        count, now = int(page["count"]), time.monotonic()
        if count != seen or count == 0:
            seen, since = count, now
        elif now - since > SILENCE_S:
            return False


def main(argv: Sequence[str] | None = None, open_bus: Callable[[str, int], Bus] | None = None) -> int:
    """Run the guard; `Guard` starts it. ``open_bus(interface, domain)`` gives a wire, `genmimic.link.dds` if none."""
    parser = argparse.ArgumentParser(prog="python -m genmimic.link.guard", description=__doc__)
    parser.add_argument("handle", type=int, help="of the shared page")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--domain", type=int, default=0)
    parser.add_argument("--kd", type=float, default=8.0)
    parser.add_argument("--ramp", type=float, default=0.2)
    args = parser.parse_args(argv)

    def open_it() -> Bus:
        if open_bus is not None:
            return open_bus(args.interface, args.domain)
        from genmimic.link import dds  # not at the top: the other wire does without

        return dds.Bus(args.interface, args.domain)

    return 1 if watch(args.handle, open_it, args.kd, args.ramp) else 0


if __name__ == "__main__":
    sys.exit(main())
