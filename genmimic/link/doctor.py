# SPDX-License-Identifier: Apache-2.0
"""What `genmimic doctor` looks at. It listens and asks; only `wiggle_robot` commands anything."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genmimic.core.errors import GenMimicError, LinkError
from genmimic.core.robot import G1_23DOF, VALID_MODE_MACHINE
from genmimic.core.safety import GRAVITY_M_S2, SafetyLimits, tilt_rad
from genmimic.core.state import RobotState

if TYPE_CHECKING:  # cyclonedds may be missing, which is one of the findings
    from genmimic.link.dds import Bus
    from genmimic.link.hardware import RobotLink

OK, WARN, FAIL = "ok", "warn", "fail"

POLICY_MS = 10.0
"""Half of the policy's period: slower than this leaves no room."""


PATIENCE_S = 5.0
"""How much longer than asked for a robot is waited for that is not heard yet."""


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        check: What was looked at.
        verdict: ok, warn or fail.
        text: What was found, with units.
        fix: What to do about it; empty when all is well.
    """

    check: str
    verdict: str
    text: str
    fix: str = ""


def table(findings: Sequence[Finding]) -> str:
    """Return the findings for people, and the fixes below each line that needs one."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<4}  {finding.check:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':<4}  {'':<{width}}  -> {finding.fix}")
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in (OK, WARN, FAIL)}
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return "\n".join(lines)


# this machine ---------------------------------------------------------------------------------------
def check_software(policy: str | None = None) -> list[Finding]:
    """Look at Python, packages, permissions and the policy's speed."""
    return [_python(), *_packages(), _ros(), _realtime(), _memory(), _load(), _clock(), _policy(policy)]


def _python() -> Finding:
    version = platform.python_version()
    fits = (3, 10) <= sys.version_info[:2] <= (3, 13)
    return Finding("Python", OK if fits else WARN, version, "" if fits else "3.10 to 3.13 are tested")


def _packages() -> list[Finding]:
    found = []
    for name, wanted, need in (
        ("numpy", None, FAIL), ("onnxruntime", None, FAIL), ("cyclonedds", "11.", WARN), ("mujoco", None, WARN),
    ):  # fmt: skip
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            uses = {"cyclonedds": "the real robot", "mujoco": "simulation and the twin"}.get(name, "everything")
            found.append(Finding(name, need, "not installed", f"pip install {name}; needed for {uses}"))
            continue
        if wanted is not None and not version.startswith(wanted):
            fix = "pip install cyclonedds==11.0.1; other releases describe octets in a way that crashes the robot's"
            found.append(Finding(name, FAIL, version, fix))
        else:
            found.append(Finding(name, OK, version))
    return found


def _ros() -> Finding:
    for module, what in (("rclpy", "ROS 2"), ("genmimic_ros.msg", "the built messages")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return Finding("ROS 2", FAIL, f"{what}: {error}", "make setup, or colcon build and source its setup.bash")
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    if domain == "0":
        text = "importable; ROS_DOMAIN_ID is 0, the robot's own domain (genmimic mimic chooses another by itself)"
        return Finding("ROS 2", WARN, text, "export ROS_DOMAIN_ID=42 before launch files")
    return Finding("ROS 2", OK, f"importable, ROS_DOMAIN_ID {domain}")


def _realtime() -> Finding:
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        os.sched_setscheduler(0, *before)
    except (AttributeError, OSError):
        fix = "docs/pitfalls.md: an rtprio line in /etc/security/limits.d, or CAP_SYS_NICE"
        return Finding("real-time scheduling", WARN, "not permitted; a busy machine will be late", fix)
    return Finding("real-time scheduling", OK, "permitted")


def _memory() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() == 0 or soft == resource.RLIM_INFINITY:
        return Finding("memory lock", OK, "permitted")
    fix = "a memlock line in /etc/security/limits.d (docs/hardware.md)"
    return Finding("memory lock", WARN, f"limited to {soft // 1024} kB", fix)


def _load() -> Finding:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 0.75 * cores:
        return Finding("load", WARN, f"{load:.1f} on {cores} cores", "end other work on this machine")
    return Finding("load", OK, f"{load:.1f} on {cores} cores")


def _clock() -> Finding:
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    name = source.read_text().strip() if source.is_file() else "unknown"
    steps = []
    for _ in range(200):
        begin = time.monotonic_ns()
        time.sleep(0.0005)
        steps.append((time.monotonic_ns() - begin) / 1e6 - 0.5)
    late = float(np.percentile(steps, 99))
    if late > 2.0:
        fix = "end other work, permit real-time scheduling, set the CPU governor to performance"
        return Finding("clock", WARN, f"{name}; a sleep ends up to {late:.1f} ms late (p99)", fix)
    return Finding("clock", OK, f"{name}; a sleep ends {late:.2f} ms late (p99)")


def _policy(name: str | None) -> Finding:
    try:
        from genmimic.policy import find_policy, load_policy

        path = find_policy(name)
        policy = load_policy(path)
    except (GenMimicError, ImportError) as error:
        return Finding("policy", FAIL, " ".join(str(error).split()), "name one with --policy")
    size = policy.manifest.observation_size if hasattr(policy.manifest, "observation_size") else 2370
    observation: np.ndarray = np.zeros(size, np.float32)
    times = []
    for _ in range(300):
        begin = time.perf_counter()
        policy(observation)
        times.append(1e3 * (time.perf_counter() - begin))
    p50, p99 = _percentiles(times[50:])
    text = f"{path.name}: {p50:.2f} ms p50, {p99:.2f} ms p99 for one step of 20 ms"
    if p99 > POLICY_MS:
        return Finding("policy latency", WARN, text, "a faster machine, or less other work on this one")
    return Finding("policy latency", OK, text)


# the robot ------------------------------------------------------------------------------------------
def check_robot(interface: str, domain: int = 0, seconds: float = 3.0) -> list[Finding]:
    """Listen to the robot on ``interface`` for ``seconds`` and judge what is heard."""
    from genmimic.link.bus import LOW_CMD_TOPIC
    from genmimic.link.config import LinkConfig
    from genmimic.link.dds import Bus
    from genmimic.link.hardware import RobotLink

    try:
        bus = Bus(interface, domain)
    except LinkError as error:
        fix = "name one of those with --interface; give it an address in 192.168.123.0/24"
        return [Finding("interface", FAIL, str(error), fix)]
    with bus:
        link = RobotLink(bus, G1_23DOF, LinkConfig())
        foreign = bus.reader(LOW_CMD_TOPIC, "LowCmd", depth=16)
        ages: list[float] = []
        accelerations: list[np.ndarray] = []
        commands, begin = 0, time.monotonic()
        heard_s: float | None = None
        while time.monotonic() - begin < seconds + (0.0 if heard_s is not None else PATIENCE_S):
            if link.poll(time.monotonic_ns()) and link.state is not None:
                if heard_s is None:
                    heard_s = begin = time.monotonic()
                ages.append((time.time_ns() - link.state.stamp_ns) * 1e-9)
                accelerations.append(link.state.base_lin_acc_b)
            commands += len(foreign.take())
            time.sleep(0.001)
        findings = [Finding("interface", OK, f"{interface}, DDS domain {domain}"), _peers(bus, link)]
        if link.state is None:
            return findings
        elapsed = time.monotonic() - begin
        findings += [_machine(link), _checksums(link), _rate(link, elapsed), _other_writer(bus, commands)]
        state = link.state
        findings += [_switcher(bus), _remote(link), _joints(state), _temperatures(state), _battery(state)]
        findings += [_imu(state, np.array(accelerations)), _robot_clock(ages)]
    return findings


def wiggle_robot(interface: str, domain: int = 0, say: Callable[[str], None] = print) -> list[Finding]:
    """Wiggle each joint of a robot that hangs, and judge what its reading does; a person must have said that it hangs.

    ``say`` is told the name of each joint before it moves.
    """
    from genmimic.link.config import LinkConfig
    from genmimic.link.dds import Bus
    from genmimic.link.guard import Guard
    from genmimic.link.hardware import HardwareBridge, RobotLink
    from genmimic.link.wiggle import wiggle

    try:
        with Bus(interface, domain) as bus:
            bridge = HardwareBridge(RobotLink(bus, G1_23DOF, LinkConfig()))
            bridge.open()
            if not bridge.live:
                return [Finding("wiggle", FAIL, bridge.occupied, "release it first; the robot goes limp")]
            guard = Guard(interface, domain, bridge.gate.config)
            bridge.watched_by(guard)
            try:
                found = wiggle(bridge, say)
            finally:
                guard.dismiss()
    except LinkError as error:
        return [Finding("wiggle", FAIL, str(error), "do not arm before it is understood")]
    fix = "do not arm: motor slots or signs are not what is expected, or the motor is off"
    return [Finding(name, OK if good else FAIL, text, "" if good else fix) for name, good, text in found]


def _peers(bus: Bus, link: RobotLink) -> Finding:
    count = bus.participants()
    if link.state is None:
        text = f"{count} other DDS participants, no good LowState ({link.counts.received} messages)"
        fix = "is the robot on and booted (a minute), the cable in, this machine in 192.168.123.0/24?"
        return Finding("robot", FAIL, text, fix)
    if link.senders > 1:
        return Finding("robot", FAIL, f"{link.senders} robots or twins are heard", "leave one")
    return Finding("robot", OK, f"heard; {count} other DDS participants")


def _machine(link: RobotLink) -> Finding:
    from genmimic.link.hardware import describe_machine

    machine = link.mode_machine
    assert machine is not None
    text = f"mode_machine {machine}: {describe_machine(machine)}"
    if machine in VALID_MODE_MACHINE:
        return Finding("kind", OK, text)
    return Finding("kind", FAIL, text, "only the 23-joint G1 (1, 4, 10) is driven")


def _checksums(link: RobotLink) -> Finding:
    counts = link.counts
    text = f"{counts.wrong_crc} wrong and {counts.malformed} malformed of {counts.received}"
    if counts.wrong_crc + counts.malformed == 0:
        return Finding("checksums", OK, text)
    bad = (counts.wrong_crc + counts.malformed) / max(1, counts.received)
    fix = "another program on this network writes rt/lowstate, or the firmware's message differs"
    return Finding("checksums", FAIL if bad > 0.01 else WARN, text, fix)


def _rate(link: RobotLink, elapsed: float) -> Finding:
    rate = link.counts.accepted / elapsed
    text = f"{rate:.0f} Hz of 500 Hz, {link.counts.reordered} overtaken, {link.counts.duplicate} twice"
    if rate > 475.0:
        return Finding("state rate", OK, text)
    return Finding("state rate", FAIL if rate < 200.0 else WARN, text, "a cable instead of wireless; a faster machine")


def _other_writer(bus: Bus, commands: int) -> Finding:
    from genmimic.link.bus import LOW_CMD_TOPIC

    silent = bus.topics_of_others().count(LOW_CMD_TOPIC)
    if commands:
        fix = "stop the other program, or release the robot's own controller (Start, once the bridge runs)"
        return Finding("other writer", WARN, f"{commands} commands of others were heard", fix)
    return Finding("other writer", OK, f"none speaks; {silent} could")


def _switcher(bus: Bus) -> Finding:
    from genmimic.link.rpc import MotionSwitcherClient

    try:
        name = MotionSwitcherClient(bus).check()
    except LinkError as error:
        return Finding("own controller", FAIL, str(error), "restart the robot; is its firmware current?")
    if name:
        text = f"{name!r} runs"
        return Finding(
            "own controller", WARN, text, "hang the robot; Start on the remote releases it, and it goes limp"
        )
    return Finding("own controller", OK, "released")


def _remote(link: RobotLink) -> Finding:
    if link.remote_heard:
        return Finding("remote", OK, "heard")
    return Finding("remote", FAIL, "not heard", "switch it on; without it nobody can damp the robot from beside it")


def _joints(state: RobotState) -> Finding:
    robot = G1_23DOF
    beyond = np.maximum(robot.joint_lower - state.joint_pos, state.joint_pos - robot.joint_upper)
    worst = int(beyond.argmax())
    if not state.is_finite():
        return Finding("joints", FAIL, "a reading is not a finite number", "do not arm; restart the robot")
    if beyond[worst] > SafetyLimits().joint_pos_margin_rad:
        text = f"{robot.joint_names[worst]} reads {state.joint_pos[worst]:.2f} rad, beyond its range"
        return Finding("joints", FAIL, text, "let the limbs hang freely; else zero the joint as the vendor says")
    zeros = int((state.joint_pos == 0.0).sum())
    if zeros > 2:
        text = f"{zeros} joints read exactly 0"
        return Finding("joints", FAIL, text, "those motors are not there, or not powered: is it the 23-joint robot?")
    return Finding("joints", OK, "all within their ranges")


def _temperatures(state: RobotState) -> Finding:
    temperature, limits = state.joint_temperature, SafetyLimits()
    hottest = int(np.nanargmax(temperature))
    text = f"hottest {temperature[hottest]:.0f} degrees Celsius, {G1_23DOF.joint_names[hottest]}"
    if temperature[hottest] > limits.temperature_warn_c:
        return Finding("temperatures", FAIL, text, "let it cool")
    if temperature[hottest] > 70.0:
        return Finding("temperatures", WARN, text, "let it cool before long motions")
    return Finding("temperatures", OK, text)


def _battery(state: RobotState) -> Finding:
    charge, limits = state.battery, SafetyLimits()
    if not np.isfinite(charge):
        return Finding("battery", WARN, "not reported", "look at the robot's own display")
    text = f"{100 * charge:.0f} %"
    if charge < limits.battery_arm:
        return Finding("battery", FAIL, text, f"charge it; below {100 * limits.battery_arm:.0f} % it is not armed")
    return Finding("battery", OK if charge > 0.4 else WARN, text, "" if charge > 0.4 else "charge it soon")


def _imu(state: RobotState, accelerations: np.ndarray) -> Finding:
    if not np.isfinite(state.base_quat_w).all():
        return Finding("IMU", FAIL, "its orientation is none (length not 1)", "do not arm; restart the robot")
    mean = accelerations.mean(0)
    w, x, y, z = state.base_quat_w
    up_b = np.array([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])  # world's z in the base
    size = float(np.sqrt((mean**2).sum()))
    angle = float(np.arccos(np.clip(mean @ up_b / max(size, 1e-9), -1.0, 1.0)))
    text = (
        f"tilt {tilt_rad(state.base_quat_w):.2f} rad, gravity {size:.2f} m/s^2, {angle:.2f} rad from the orientation's"
    )
    if angle > 0.35 or abs(size - GRAVITY_M_S2) > 1.5:
        fix = "the robot must hang still; else the IMU's axes or signs differ from what is expected: do not arm"
        return Finding("IMU", FAIL, text, fix)
    return Finding("IMU", OK, text)


def _robot_clock(ages: Sequence[float]) -> Finding:
    p50, p99 = _percentiles(ages)
    spread_ms = 1e3 * (p99 - float(min(ages)))
    text = f"the robot's clock is {1e3 * p50:+.1f} ms from ours, messages vary by {spread_ms:.1f} ms (p99)"
    if spread_ms > 20.0:
        return Finding("network", WARN, text, "a cable instead of wireless; less other traffic")
    return Finding("network", OK, text + "; only the spread matters")


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    return float(np.percentile(values, 50)), float(np.percentile(values, 99))
