# SPDX-License-Identifier: Apache-2.0
"""What `genmimic doctor` looks at on this machine besides speed: versions, files, discovery, limits, disk, drawing.

Needs neither ROS nor DDS: what is not there becomes a finding. Nothing is changed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from genmimic import __version__
from genmimic.core.errors import GenMimicError, MissingDependencyError
from genmimic.link.doctor import FAIL, OK, WARN, Finding

RTPRIO = 70
"""Highest real-time priority that a node asks for: the bridge's loop."""

DISK_GB = 2.0
"""Less free than this, and a recording or a report may not fit."""

DISCOVERY_RANGES = ("OFF", "LOCALHOST", "SUBNET", "SYSTEM_DEFAULT")
"""What ROS_AUTOMATIC_DISCOVERY_RANGE may be (REP 2005, Iron and newer)."""

_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")

_LFS = b"version https://git-lfs"


def check_environment(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at this installation and the variables in ``environ``."""
    return [
        _version(), *_optional(), _files(), _middleware(environ), _discovery(environ), _limits(), _governor(), _disk(),
        _drawing(environ),
    ]  # fmt: skip


def _version() -> Finding:
    try:
        installed = metadata.version("genmimic-ros")
    except metadata.PackageNotFoundError:
        installed = __version__  # colcon installs no metadata
    where = Path(__file__).resolve().parent.parent
    if installed != __version__:
        fix = "python -m pip install --no-deps --editable . (or make setup)"
        return Finding("genmimic", WARN, f"{__version__} from {where}, but pip says {installed}", fix)
    return Finding("genmimic", OK, f"{__version__} from {where}")


def _optional() -> list[Finding]:
    """What only some commands need: absent is no fault, half there is."""
    found = []
    groups = (
        ("retargeting", ("mink", "daqp", "qpsolvers"), "pip install 'genmimic-ros[retarget]'"),
        ("training", ("torch", "rsl_rl", "tensordict"), "pip install -r requirements/train.txt"),
    )
    for name, modules, fix in groups:
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if not missing:
            found.append(Finding(name, OK, ", ".join(modules)))
        else:
            verdict = OK if len(missing) == len(modules) else WARN
            found.append(Finding(name, verdict, f"without {', '.join(missing)}", f"to {_use(name)}: {fix}"))
    found.append(_lifting())
    return found


def _use(group: str) -> str:
    return {"retargeting": "convert and retarget", "training": "train"}[group]


def _lifting() -> Finding:
    from genmimic.lift.environment import environment_folder, find_python

    python = find_python()
    if python is None:
        return Finding(
            "video lifting", OK, f"not set up yet; the first `genmimic lift` does that in {environment_folder()}"
        )
    if not python.is_file():
        return Finding("video lifting", FAIL, f"{python} is not there", "unset GENMIMIC_LIFT_PYTHON, or correct it")
    return Finding("video lifting", OK, str(python))


def _files() -> Finding:
    from genmimic.policy import find_policy, find_shipped

    try:
        paths = [find_policy(), find_shipped("wave", "motions", ".npz")]
    except GenMimicError as error:
        return Finding("shipped files", WARN, " ".join(str(error).split()), "run from a clone, or name files by path")
    for path in paths:
        with path.open("rb") as file:
            if file.read(len(_LFS)) == _LFS:
                return Finding("shipped files", FAIL, f"{path} is only a pointer", "git lfs install && git lfs pull")
    return Finding("shipped files", OK, f"policy and motions in {paths[1].parent.parent}")


# ROS and DDS ----------------------------------------------------------------------------------------
def _middleware(environ: Mapping[str, str]) -> Finding:
    """An RMW_IMPLEMENTATION that is not installed ends every node with exit code 102 and no Python exception."""
    name = environ.get("RMW_IMPLEMENTATION", "")
    if importlib.util.find_spec("rclpy") is None:
        return Finding("middleware", WARN, "no ROS 2 in this Python", "make setup, or source /opt/ros/*/setup.bash")
    places = [Path(place) for place in environ.get("LD_LIBRARY_PATH", "").split(":") if place]
    places += [Path(place) / "lib" for place in environ.get("AMENT_PREFIX_PATH", "").split(":") if place]
    found = {file.stem.removeprefix("lib") for place in places for file in place.glob("librmw_*_cpp.so")}
    known = sorted(each for each in found if "__" not in each and "_shared_" not in each)
    if name and known and name not in known:
        fix = f"unset RMW_IMPLEMENTATION, or one of: {', '.join(known)}"
        return Finding("middleware", FAIL, f"RMW_IMPLEMENTATION is {name}, which is not installed", fix)
    return Finding("middleware", OK, name or (", ".join(known) if known else "the default of ROS 2"))


def require_middleware(environ: Mapping[str, str] = os.environ) -> None:
    """Raise MissingDependencyError where importing ROS would end this process with exit code 102."""
    finding = _middleware(environ)
    if finding.verdict == FAIL:
        raise MissingDependencyError(f"{finding.text}; {finding.fix}")


def _discovery(environ: Mapping[str, str]) -> Finding:
    """Settings that keep nodes from meeting, or bring shared memory back (docs/pitfalls.md)."""
    found = environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if found and found not in DISCOVERY_RANGES:
        fix = f"unset it, or one of {', '.join(DISCOVERY_RANGES)}"
        return Finding("discovery", FAIL, f"ROS_AUTOMATIC_DISCOVERY_RANGE is {found!r}", fix)
    if found == "OFF":
        return Finding("discovery", FAIL, "ROS_AUTOMATIC_DISCOVERY_RANGE is OFF: no node meets another", "unset it")
    for variable in _PROFILE_VARIABLES:
        path = environ.get(variable, "")
        if path and not Path(path).is_file():
            return Finding("discovery", FAIL, f"{variable}: no such file: {path}", "unset it, or correct the path")
    domain = environ.get("ROS_DOMAIN_ID", "0")
    if not domain.isdigit() or int(domain) > 232:
        return Finding(
            "discovery", FAIL, f"ROS_DOMAIN_ID is {domain!r}", "a whole number from 0 to 232; below 102 is safe"
        )
    shared = environ.get("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4") not in ("UDPv4", "UDPv6")
    if found == "LOCALHOST" or environ.get("ROS_LOCALHOST_ONLY") == "1" or shared:
        text = "shared memory is on: a reader that is killed may delay a command by 0.3 s"
        return Finding("discovery", WARN, text, "docs/pitfalls.md has a profile for loopback without it")
    if "CYCLONEDDS_URI" in environ:
        text = "CYCLONEDDS_URI is set: it also governs the link to the robot"
        return Finding("discovery", WARN, text, "unset it for `--robot g1`, unless it names the robot's interface")
    return Finding("discovery", OK, f"domain {domain}, {found or 'default range'}")


# the machine ----------------------------------------------------------------------------------------
def _limits() -> Finding:
    import resource

    if os.geteuid() == 0:
        return Finding("real-time limits", OK, "root: none")
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if limit == resource.RLIM_INFINITY or limit >= RTPRIO:
        return Finding("real-time limits", OK, f"rtprio {'unlimited' if limit < 0 else limit}")
    fix = "echo '@realtime - rtprio 80' in /etc/security/limits.d/genmimic.conf, join that group, log in again"
    return Finding("real-time limits", WARN, f"rtprio {limit}, the nodes ask for up to {RTPRIO}", fix)


def _governor() -> Finding:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not path.is_file():
        return Finding("CPU governor", OK, "not settable here")
    name = path.read_text().strip()
    if name == "powersave" and not Path("/sys/devices/system/cpu/intel_pstate").is_dir():
        return Finding("CPU governor", WARN, name, "sudo cpupower frequency-set -g performance")
    return Finding("CPU governor", OK, name)


def _disk(folder: Path | None = None) -> Finding:
    folder = folder or Path.cwd()
    free_gb = shutil.disk_usage(folder).free / 1e9
    text = f"{free_gb:.1f} GB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", WARN, f"{folder} is not writable", "reports go to --report DIR, or run elsewhere")
    if free_gb < DISK_GB:
        return Finding("disk", WARN, text, "remove old folders in reports/ and runs/")
    return Finding("disk", OK, text)


def _drawing(environ: Mapping[str, str]) -> Finding:
    """Pictures and videos of reports are drawn without a window, so ssh is no obstacle."""
    from genmimic.sim.render import gl_candidates

    where = "a display" if environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY") else "no display"
    try:
        candidates = gl_candidates()
    except MissingDependencyError as error:
        return Finding("drawing", WARN, str(error).split(";")[0], str(error).split("; ", 1)[-1])
    if importlib.util.find_spec("mujoco") is None:
        return Finding("drawing", WARN, "mujoco is not installed", "pip install mujoco")
    problem = _draws()
    if problem:
        return Finding("drawing", WARN, problem, "apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)")
    return Finding(
        "drawing", OK, f"{' or '.join(candidates)}, {where}; MUJOCO_GL {environ.get('MUJOCO_GL') or 'unset'}"
    )


def _draws() -> str | None:
    """Try it in a process of its own: a broken driver may end the process."""
    import subprocess

    code = "import sys; from genmimic.sim.render import gl_problem; sys.exit(gl_problem())"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60.0)
    except subprocess.TimeoutExpired:
        return "OpenGL does not answer within a minute"
    if done.returncode == 0:
        return None
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the OpenGL driver ended the process"
