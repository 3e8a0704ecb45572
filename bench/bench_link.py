# SPDX-License-Identifier: Apache-2.0
"""The robot link at 500 Hz both ways against the twin in another process: rates, ages, periods, CPU.

    python bench/bench_link.py [--seconds 60] [--interface lo] [--domain 97]

The bridge in this process is link and gate without ROS, in DISARMED with a live heartbeat: the same code does the same
work per step in every mode but for the policy's command. Ages run from the sender's write to the receiver's step, on
one machine's clock. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from genmimic.core.modes import Mode
from genmimic.core.robot import G1_23DOF
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

        def tick(now_ns: int) -> bool:
            step = bridge.step(now_ns, Mode.DISARMED, now_ns, None, None)
            if step.fresh and step.state is not None:
                ages_ns.append(time.time_ns() - step.state.stamp_ns)
            starts_ns.append(now_ns)
            works_ns.append(time.monotonic_ns() - now_ns)
            faults.update(fault.id for fault in bridge.faults)
            return now_ns < end_ns

        end_ns = time.monotonic_ns() + 2_000_000_000  # warm up
        run_at(RATE_HZ, tick)
        order(twin, "mark")
        for values in (starts_ns, ages_ns, works_ns, faults):
            values.clear()
        before, twin_before = link.counts.accepted, cpu_s(twin.pid)
        cpu, begin = time.process_time(), time.monotonic()
        end_ns = time.monotonic_ns() + round(1e9 * args.seconds)
        run_at(RATE_HZ, tick)
        wall, cpu = time.monotonic() - begin, time.process_time() - cpu
        twin_cpu = cpu_s(twin.pid) - twin_before
        report = order(twin, "report")
        accepted = link.counts.accepted - before
        bridge.let_go("the bench is over")
        if guard is not None:
            guard.dismiss()
    return {
        "seconds": round(wall, 1),
        "realtime": realtime,
        "memory_locked": locked,
        "guard": args.guard,
        "state_hz": round(accepted / wall, 1),
        "command_hz": round(report["commands"] / wall, 1),
        "state_age_ms": spread(np.array(ages_ns) / 1e6),
        "command_age_ms": report["age_ms"],
        "step_period_ms": spread(np.diff(starts_ns) / 1e6),
        "command_period_ms": report["period_ms"],
        "step_work_ms": spread(np.array(works_ns) / 1e6),
        "bridge_cpu_percent": round(100.0 * cpu / wall, 1),
        "twin_cpu_percent": round(100.0 * twin_cpu / wall, 1),
        "faults": sorted(faults),
        "outside": report["outside"],
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
    }


def order(twin: subprocess.Popen[str], line: str) -> dict[str, Any]:
    """Give the twin an order and return its answer."""
    assert twin.stdin is not None and twin.stdout is not None
    twin.stdin.write(line + "\n")
    twin.stdin.flush()
    answer: dict[str, Any] = json.loads(twin.stdout.readline())
    return answer


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
