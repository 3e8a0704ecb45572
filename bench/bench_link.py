# SPDX-License-Identifier: Apache-2.0
"""The robot link at 500 Hz both ways against the twin in another process: rates, ages, periods, CPU.

    python bench/bench_link.py [--seconds 60] [--mode mimic] [--guard] [--interface lo] [--domain 97]

The bridge in this process is link and gate without ROS, with a live heartbeat. In ``mimic`` it is brought into the
motion and gets another command 50 times a second, as from a policy, while the robot hangs; ``disarmed`` only damps.
Ages run from the sender's write to the receiver's step, on one machine's clock. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from genmimic.core.modes import Mode
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import JointCommand, position_command
from genmimic.link.dds import Bus
from genmimic.link.guard import Guard
from genmimic.link.hardware import RATE_HZ, HardwareBridge, RobotLink
from genmimic.link.realtime import lock_memory, realtime_priority, run_at


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interface", default="lo")
    parser.add_argument("--domain", type=int, default=97)
    parser.add_argument("--mode", choices=("mimic", "disarmed"), default="mimic")
    parser.add_argument("--guard", action="store_true", help="with the guard's process, as on hardware")
    args = parser.parse_args()
    realtime = realtime_priority(70)
    sys.setswitchinterval(0.0005)
    command = [sys.executable, "-m", "genmimic.cli", "twin", "--domain", str(args.domain), "--interface"]
    twin = subprocess.Popen(
        [*command, args.interface, "--controller", "none", "--no-operator"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        print(json.dumps(measure(args, twin, realtime), indent=1))
    finally:
        twin.kill()
        twin.wait()


class Policy:
    """Waves an elbow a little, 50 times a second; every command new, as from the node."""

    def __init__(self) -> None:
        self.spoke_ns: int | None = None
        self._command: JointCommand | None = None
        self._elbow = int(G1_23DOF.joint_idx(["left_elbow_joint"])[0])

    def speak(self, now_ns: int) -> JointCommand:
        """Return the command in force."""
        if self._command is None or self.spoke_ns is None or now_ns - self.spoke_ns >= 20_000_000:
            sequence = self._command.sequence + 1 if self._command is not None else 1
            pose = np.array(G1_23DOF.default_joint_pos, float)
            pose[self._elbow] += 0.1 * math.sin(2e-9 * now_ns)
            self._command, self.spoke_ns = position_command(G1_23DOF, pose, sequence=sequence), now_ns
        return self._command


def measure(args: argparse.Namespace, twin: subprocess.Popen[str], realtime: bool) -> dict[str, Any]:
    """Run for so long and return the figures."""
    with Bus(args.interface, args.domain) as bus:
        link = RobotLink(bus, G1_23DOF)
        bridge = HardwareBridge(link)
        bridge.open()
        guard = Guard(args.interface, args.domain, bridge.gate.config) if args.guard else None
        if guard is not None:
            bridge.watched_by(guard)
        locked = lock_memory()
        gc.collect()
        gc.freeze()  # as the nodes do
        starts_ns: list[int] = []
        ages_ns: list[int] = []
        works_ns: list[int] = []
        faults: set[str] = set()
        end_ns = 0
        mode, policy = Mode.DISARMED, Policy()

        def tick(now_ns: int) -> bool:
            nonlocal mode
            if args.mode == "mimic" and mode is not Mode.MIMIC and bridge.last.mode is mode:
                mode = Mode.STANDING if mode is Mode.DISARMED else Mode.MIMIC if bridge.gate.standing else mode
            elif bridge.last.mode is Mode.DAMPED:
                mode = Mode.DISARMED  # and on again; `faults` tells of it
            command = policy.speak(now_ns) if mode is Mode.MIMIC else None
            step = bridge.step(now_ns, mode, now_ns, command, policy.spoke_ns)
            if step.fresh and step.state is not None:
                ages_ns.append(time.time_ns() - step.state.stamp_ns)
            starts_ns.append(now_ns)
            works_ns.append(time.monotonic_ns() - now_ns)
            faults.update(fault.id for fault in bridge.faults)
            return now_ns < end_ns

        end_ns = time.monotonic_ns() + 4_000_000_000  # warm up
        run_at(RATE_HZ, tick)
        say(twin, "mark")  # its answer is read later: the bridge does not wait
        for values in (starts_ns, ages_ns, works_ns, faults):
            values.clear()
        before, twin_before = link.counts.accepted, cpu_s(twin.pid)
        cpu, begin = time.process_time(), time.monotonic()
        end_ns = time.monotonic_ns() + round(1e9 * args.seconds)
        run_at(RATE_HZ, tick)
        wall, cpu = time.monotonic() - begin, time.process_time() - cpu
        twin_cpu = cpu_s(twin.pid) - twin_before
        ended = bridge.last
        say(twin, "report")
        _, report = answer(twin), answer(twin)
        accepted = link.counts.accepted - before
        bridge.let_go("the bench is over")
        if guard is not None:
            guard.dismiss()
    return {
        "seconds": round(wall, 1),
        "mode": f"{ended.mode.name} {ended.reason}".strip(),
        "realtime": realtime,
        "memory_locked": locked,
        "guard": args.guard,
        "state_hz": round(accepted / wall, 1),
        "command_hz": round(report["commands"] / wall, 1),
        "state_age_ms": spread(1e-6 * np.array(ages_ns)),
        "command_age_ms": report["age_ms"],
        "step_period_ms": spread(1e-6 * np.diff(np.array(starts_ns))),
        "command_period_ms": report["period_ms"],
        "step_work_ms": spread(1e-6 * np.array(works_ns)),
        "bridge_cpu_percent": round(100.0 * cpu / wall, 1),
        "twin_cpu_percent": round(100.0 * twin_cpu / wall, 1),
        "faults": sorted(faults),
        "outside": report["outside"],
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
    }


def say(twin: subprocess.Popen[str], line: str) -> None:
    """Give the twin an order."""
    assert twin.stdin is not None
    twin.stdin.write(line + "\n")
    twin.stdin.flush()


def answer(twin: subprocess.Popen[str]) -> dict[str, Any]:
    """Return its next answer, one for each order."""
    assert twin.stdout is not None
    found: dict[str, Any] = json.loads(twin.stdout.readline())
    return found


def spread(values: np.ndarray) -> dict[str, float]:
    """Return percentiles, in the unit of ``values``."""
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(float(values.max()), 3)}


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
