# SPDX-License-Identifier: Apache-2.0
"""`transport:=sdk`: the worker's contract with unitree_sdk2py, on a stand-in with its modules, classes and calls.

The package itself is not on PyPI in a form that works; what is tried here is our side of it.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds", reason="the stand-in speaks through cyclonedds 11")
pytest.importorskip("mujoco", reason="the twin needs mujoco")

from genmimic.core.errors import LinkError, MissingDependencyError  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.link.bus import OwnSamples  # noqa: E402
from genmimic.link.config import LinkConfig  # noqa: E402
from genmimic.link.hardware import HardwareBridge, RobotLink  # noqa: E402
from genmimic.link.sdk_bus import SdkBus  # noqa: E402
from genmimic.link.twin import Twin, TwinConfig  # noqa: E402

ROOT = Path(__file__).parents[2]
DOMAIN = 1 + (os.getpid() + 37) % 100

CHANNEL = '''
"""ChannelFactoryInitialize, ChannelPublisher and ChannelSubscriber as the SDK's examples use them."""
import threading, time
from genmimic.link.dds import Bus

_bus = None
_kinds = {"LowCmd_": "LowCmd", "LowState_": "LowState", "BmsState_": "BmsState", "Request_": "Request",
          "Response_": "Response", "IMUState_": "ImuState"}

def _kind(cls):
    return _kinds[cls.__idl_typename__.split(".")[-1]]

def ChannelFactoryInitialize(id=0, networkInterface=None):
    global _bus
    _bus = Bus(networkInterface, id)

class ChannelPublisher:
    def __init__(self, name, type):
        self._name, self._type = name, type
    def Init(self):
        self._writer = _bus.writer(self._name, _kind(self._type))
    def Write(self, sample, timeout=None):
        assert isinstance(sample, self._type)
        data = sample.serialize(use_version_2=False)
        return self._writer.write(data.ljust(-(-len(data) // 4) * 4, bytes(1)))

class ChannelSubscriber:
    def __init__(self, name, type):
        self._name, self._type = name, type
    def Init(self, handler=None, queueLen=0):
        self._reader = _bus.reader(self._name, _kind(self._type), depth=max(1, queueLen))
        threading.Thread(target=self._run, args=(handler,), daemon=True).start()
    def _run(self, handler):
        while True:
            for sample in self._reader.take():
                handler(self._type.deserialize(sample.data))
            time.sleep(0.001)
'''
HG = """from genmimic.link.idl import BmsState as BmsState_, ImuState as IMUState_
from genmimic.link.idl import LowCmd as LowCmd_, LowState as LowState_"""
API = "from genmimic.link.idl import Request as Request_, Response as Response_"


@pytest.fixture
def sdk(tmp_path, monkeypatch):
    """Put the stand-in where the worker finds it; return its folder."""
    modules = {
        "core/channel.py": CHANNEL, "idl/unitree_hg/msg/dds_/__init__.py": HG,
        "idl/unitree_api/msg/dds_/__init__.py": API,
    }  # fmt: skip
    for name, text in modules.items():
        file = tmp_path / "unitree_sdk2py" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    return tmp_path / "unitree_sdk2py"


class Robot:
    """A twin in real time on a thread."""

    def __init__(self, **config):
        self.twin = Twin(TwinConfig(domain=DOMAIN, operator=False, **config))
        self.stopping = False
        self.thread = threading.Thread(target=self.twin.run, args=(lambda: self.stopping,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self.twin

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(5.0)
        self.twin.close()


def run(bridge, seconds, until=lambda: False):
    """Step in real time, as fast as this machine likes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        now_ns = time.monotonic_ns()
        bridge.step(now_ns, Mode.DISARMED, now_ns, None, None)
        time.sleep(0.002)
    return until()


def test_the_bridge_drives_the_robot_through_the_sdk(sdk):
    with Robot(controller="ai") as twin, SdkBus("lo", DOMAIN) as bus:
        link = RobotLink(bus, ROBOT, LinkConfig(find_s=20.0, listen_s=0.3))
        bridge = HardwareBridge(link)
        bridge.open()
        assert link.mode_machine == 4 and "'ai' runs" in bridge.occupied and twin.counts["commands"] == 0
        bridge.release()
        assert run(bridge, 20.0, lambda: bridge.live), bridge.occupied
        assert twin.switcher.name == ""
        assert run(bridge, 20.0, lambda: twin.counts["applied"] > 50), twin.counts
        assert run(bridge, 20.0, lambda: link.state.battery == pytest.approx(0.9))
        assert twin.log.outside == {} and twin.counts["wrong_crc"] == link.counts.wrong_crc == 0
        assert link.counts.foreign_commands == 0, "our own commands, which the SDK gives back to us"
        assert abs(link.state.joint_pos - twin.sim.joint_pos).max() < 0.2
        twin.order("second_writer")
        assert run(bridge, 20.0, lambda: any(fault.id == "second_writer" for fault in bridge.faults))


def test_without_the_worker_no_command_counts_as_sent_and_the_guard_is_not_fed(sdk):
    class Guard:
        taken, alive, fed = False, True, 0

        def feed(self, command, mode_machine):
            self.fed += 1

    with Robot(controller="") as _, SdkBus("lo", DOMAIN) as bus:
        link = RobotLink(bus, ROBOT, LinkConfig(find_s=20.0, listen_s=0.3))
        bridge, guard = HardwareBridge(link), Guard()
        bridge.open()
        bridge.watched_by(guard)
        assert run(bridge, 5.0, lambda: guard.fed > 20)
        os.kill(bus.pid, signal.SIGKILL)
        assert run(bridge, 10.0, lambda: link.counts.refused > 20)
        before = guard.fed
        run(bridge, 0.2)
        assert guard.fed == before and any(fault.id == "silence" for fault in bridge.faults)


def test_a_python_without_the_sdk_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(MissingDependencyError, match="transport:=sdk needs unitree_sdk2py .*sdk_python:="):
        SdkBus("lo", DOMAIN)
    with pytest.raises(MissingDependencyError, match="'/nowhere/python' cannot be run"):
        SdkBus("lo", DOMAIN, "/nowhere/python")


def test_an_sdk_that_would_crash_the_robot_is_refused(sdk):
    """Octets as uint8, which is how the SDK declares them, on the cyclonedds 11 of this machine."""
    file = sdk / "idl" / "unitree_hg" / "msg" / "dds_" / "__init__.py"
    file.write_text(HG + "\nclass LowCmd_:\n    __annotations__ = {'mode_pr': 'types.uint8'}\n")
    with pytest.raises(LinkError, match="crashes the robot's own services.*cyclonedds 0.10.2"):
        SdkBus("lo", DOMAIN)


def test_own_samples_are_told_from_others():
    own = OwnSamples(3)
    for data in (b"a", b"b", b"b", b"c", b"d"):
        own.add(data)
    assert [data in own for data in (b"a", b"b", b"c", b"d", b"e")] == [False, True, True, True, False]


def test_the_worker_needs_nothing_but_the_standard_library():
    text = (ROOT / "genmimic" / "link" / "sdk_worker.py").read_text()
    loaded = {
        line.split()[1].split(".")[0] for line in text.splitlines() if line.strip().startswith(("import ", "from "))
    }
    assert loaded <= set(sys.stdlib_module_names), loaded
