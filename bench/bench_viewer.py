# SPDX-License-Identifier: Apache-2.0
"""What viewer and recorder cost beside a run at 50 Hz: CPU and memory, ticks missed and late, bytes sent.

    python bench/bench_viewer.py [--repeat 3] [--motion wave]

Runs `genmimic mimic` five times: bare, with the recorder, with a viewer that nobody looks at, with one that a stand-in
for a browser looks at, and with that and the recorder. The stand-in speaks viser's protocol and reads everything, but
draws nothing, so that what is measured is the viewer and not a browser. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from genmimic_ros.viewer import free_port, viewers_of


class StandIn:
    """Looks at a page as a browser does, without drawing; counts what comes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.received = self.messages = 0
        self._began_s = self._ended_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import msgspec
        import viser
        from websockets.sync.client import connect

        while not self._stop.is_set() and viewers_of(f"http://localhost:{self._port}") is None:
            time.sleep(0.2)
        camera = {
            "type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (2.0, 0.0, 1.0), "fov": 0.8,
            "near": 0.1, "far": 100.0, "image_height": 720, "image_width": 1280, "look_at": (0.0, 0.0, 0.7),
            "up_direction": (0.0, 0.0, 1.0),
        }  # fmt: skip
        protocol: Any = f"viser-v{viser.__version__}"
        address = f"ws://localhost:{self._port}/scene"
        with contextlib.suppress(Exception), connect(address, subprotocols=[protocol], max_size=None) as socket:
            socket.send(msgspec.msgpack.encode(camera))
            time.sleep(3.0)  # the first load does not count
            while not self._stop.is_set():
                part = socket.recv()
                self._began_s = self._began_s or time.monotonic()
                self._ended_s = time.monotonic()
                self.received += len(part)
                self.messages += 1

    def result(self) -> dict[str, float]:
        """Return kB and parts per second."""
        self._stop.set()
        span = max(self._ended_s - self._began_s, 1e-3)
        return {"kB_per_s": round(self.received / span / 1e3, 1), "parts_per_s": round(self.messages / span, 1)}


def run(motion: str, repeat: int, *options: str) -> dict[str, Any]:
    """Return what the report of a run says."""
    with tempfile.TemporaryDirectory(prefix="genmimic-bench-") as folder:
        command = [sys.executable, "-m", "genmimic.cli", "mimic", motion, "--repeat", str(repeat)]
        command += ["--report", folder, *options]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        report = json.loads((Path(folder) / "report.json").read_text())
    found = {name: report.get(name) for name in ("success", "ticks", "missed", "late_5ms", "period_ms", "latency_ms")}
    return {**found, "nodes": report["nodes"]}


def looked_at(motion: str, repeat: int, port: int, *options: str) -> dict[str, Any]:
    """Return the same with a viewer that somebody looks at, and what was sent to him."""
    browser = StandIn(port)
    found = run(motion, repeat, "--viewer", "--viewer-port", str(port), "--viewer-wait", "60", *options)
    return {**found, **browser.result()}


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--motion", default="wave")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    port = free_port("127.0.0.1", 18500)
    job = (args.motion, args.repeat)
    alone = ("--viewer", "--viewer-port", str(port), "--viewer-wait", "0")
    result = {
        "bare": run(*job, "--no-record"),
        "recorder": run(*job),
        "viewer, nobody looks": run(*job, "--no-record", *alone),
        "viewer, one looks": looked_at(*job, port, "--no-record"),
        "recorder and viewer, one looks": looked_at(*job, port),
    }
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
