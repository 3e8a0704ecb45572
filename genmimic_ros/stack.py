# SPDX-License-Identifier: Apache-2.0
"""The nodes as child processes, for machines without `ros2 launch`: started, watched, measured, and all stopped."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from genmimic.core.errors import GenMimicError, InputFileError
from genmimic.policy import shipped_places
from genmimic_ros.runtime import prepare_transport

NAMESPACE = "/genmimic"
GRACE_S = 3.0
"""How long a node may take to stop when asked, before it is killed."""

OPTIONAL_GRACE_S = 15.0
"""The same for one that the robot does not need: it may have a file to finish."""

_PR_SET_PDEATHSIG = 1
_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")  # the second up to Humble


class NodeDiedError(GenMimicError):
    """A node ended that should not have.

    Attributes:
        name: Of the node.
        code: Its exit code; negative for a signal.
    """

    def __init__(self, name: str, code: int, last_words: str = "") -> None:
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        super().__init__(f"{name} has died ({how})" + (f": {last_words}" if last_words else ""))
        self.name, self.code, self.last_words = name, code, last_words


@dataclass
class Usage:
    """What a process has used so far."""

    cpu_s: float = 0.0
    first_cpu_s: float | None = None
    first_s: float = 0.0
    last_s: float = 0.0
    rss_mb: float = 0.0

    def take(self, cpu_s: float, rss_mb: float) -> None:
        """Add a sample; the first one ends the start-up, which does not count."""
        now = time.monotonic()
        if self.first_cpu_s is None:
            self.first_cpu_s, self.first_s = cpu_s, now
        self.cpu_s, self.last_s = cpu_s, now
        self.rss_mb = max(self.rss_mb, rss_mb)

    def summary(self) -> dict[str, float]:
        """Return the mean share of one core in percent, and the largest resident memory in MB."""
        span = self.last_s - self.first_s
        share = 100.0 * (self.cpu_s - (self.first_cpu_s or 0.0)) / span if span > 0.0 else 0.0
        return {"cpu_percent": round(share, 1), "rss_mb": round(self.rss_mb, 1)}


def find_config(name: str) -> Path:
    """Return a shipped parameter file. Raises InputFileError."""
    for place in shipped_places():
        if (place / "config" / name).is_file():
            return place / "config" / name
    raise InputFileError(f"config/{name} is not where it was installed; reinstall the package")


def free_domain() -> int:
    """Return a ROS domain that nobody on this machine uses, as far as its ports tell."""
    first = os.getpid() % 100
    for step in range(100):
        domain = 1 + (first + step) % 100  # above 101 the ports may be taken by outgoing connections
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain + 10))  # of the domain's first participant
                return domain
            except OSError:
                continue
    return 1 + first


def prepare_environment(scratch: Path) -> None:
    """Set what ROS reads from this process's environment, for nodes that only this machine hears.

    What the user has set stays.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    os.environ.setdefault("ROS_LOG_DIR", str(scratch / "ros_log"))
    os.environ.setdefault("RCUTILS_COLORIZED_OUTPUT", "0")
    chosen = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", *_PROFILE_VARIABLES)
    if any(name in os.environ for name in chosen):
        prepare_transport()
    elif os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        # LOCALHOST would force shared memory on us (docs/pitfalls.md); the profile stays on the machine without it
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
        os.environ.update(dict.fromkeys(_PROFILE_VARIABLES, str(find_config("fastdds_local.xml"))))
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


class NodeStack:
    """The nodes of one session.

    Args:
        log: File that takes everything the nodes print.
        scratch: Folder for their parameter files; removed by `close`.
    """

    def __init__(self, log: Path, scratch: Path) -> None:
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._log_path = log
        self._log = log.open("ab")
        self._read = self._log_path.open("r", encoding="utf-8", errors="replace")
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._usage: dict[str, Usage] = {}
        self._optional: set[str] = set()
        self._told: set[str] = set()
        self._sampled_s = 0.0
        self._closing = False
        self.death: NodeDiedError | None = None
        """The first death of a node that `check` has met."""

    @property
    def scratch(self) -> Path:
        """A folder that lives as long as the stack."""
        return self._scratch

    @property
    def pids(self) -> dict[str, int]:
        """Process number of each node."""
        return {name: child.pid for name, child in self._children.items()}

    def start_optional(self, node: str, config: str, **parameters: Any) -> None:
        """Do the same for a node whose end is told in the log, and ends nothing else."""
        self._optional.add(node)
        self.start(node, config, **parameters)

    def start(self, node: str, config: str, **parameters: Any) -> None:
        """Start ``genmimic_ros.nodes.<node>`` with ``config/<config>`` and, over it, ``parameters``."""
        given = self._scratch / f"{node}.yaml"
        given.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}), encoding="utf-8")
        command = [sys.executable, "-m", f"genmimic_ros.nodes.{node}", "--ros-args", "-r", f"__ns:={NAMESPACE}"]
        command += ["--params-file", str(find_config(config)), "--params-file", str(given)]
        self._children[node] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for us: the robot is damped before its nodes go
            preexec_fn=die_with_parent,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._usage[node] = Usage()

    def check(self) -> None:
        """Raise NodeDiedError when a node has ended; measure those that run, once a second."""
        for name, child in self._children.items():
            code = child.poll()
            if code is not None and name in self._optional:
                self._tell_of_end(name, code)
            elif code is not None and not self._closing:
                self.death = self.death or NodeDiedError(name, code, self._last_words(name))
                raise self.death
        now = time.monotonic()
        if now - self._sampled_s >= 1.0:
            self._sampled_s = now
            for name, child in self._children.items():
                _sample(child.pid, self._usage[name])

    def watch(self, seconds: float) -> None:
        """Call `check` for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check()
            time.sleep(0.02)

    def begin_measuring(self) -> None:
        """Forget the start-up in `usage`."""
        for name, child in self._children.items():
            self._usage[name] = Usage()
            _sample(child.pid, self._usage[name])

    def usage(self) -> dict[str, dict[str, float]]:
        """Return CPU and memory of each node."""
        return {name: usage.summary() for name, usage in self._usage.items()}

    def new_complaints(self) -> list[str]:
        """Return the lines with errors that the nodes have printed since the last call."""
        lines = self._read.read().splitlines()
        return [line for line in lines if line.startswith(("[ERROR]", "[FATAL]")) or ": error: " in line]

    def log_text(self) -> str:
        """Return everything that the nodes have printed."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Stop every node, by force where asking does not help, and remove the scratch folder."""
        self._closing = True
        for child in self._children.values():
            _signal(child, signal.SIGINT)
        now = time.monotonic()
        for name, child in sorted(self._children.items(), key=lambda item: item[0] in self._optional):
            deadline = now + (OPTIONAL_GRACE_S if name in self._optional else GRACE_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
        for child in self._children.values():
            if child.poll() is None:
                _signal(child, signal.SIGKILL)
                child.wait()
        self._log.close()
        self._read.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> NodeStack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell_of_end(self, name: str, code: int) -> None:
        """Write once into the log, as an error, that an optional node has ended."""
        if name in self._told or self._closing:
            return
        self._told.add(name)
        self._log.write(f"[ERROR] {NodeDiedError(name, code)}; the run goes on without it\n".encode())
        self._log.flush()

    def _last_words(self, node: str) -> str:
        """Return the last line of the log that tells of ``node``'s error."""
        text = self._log_path.read_text(encoding="utf-8", errors="replace")
        found = [line for line in text.splitlines() if ": error: " in line or ("[FATAL]" in line and node in line)]
        return found[-1].split(": error: ")[-1] if found else ""


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def die_with_parent() -> None:
    """Have this process end with the one that started it; to be called between fork and exec."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _sample(pid: int, usage: Usage) -> None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return
    cpu_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    usage.take(cpu_s, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
