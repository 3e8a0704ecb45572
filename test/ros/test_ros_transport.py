# SPDX-License-Identifier: Apache-2.0
"""`transport:=ros`: the bridge over plain ROS topics, against the twin, which speaks DDS.

`unitree_hg` and `unitree_api` are not on PyPI. The messages are built here, from their published fields; nobody has
tried the real packages with this. GENMIMIC_UNITREE_WS names a workspace to use in place of building one.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

ROOT = Path(__file__).parents[2]
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
DOMAIN = 1 + (os.getpid() + 83) % 100

MOTOR = "uint8 mode\nfloat32 q\nfloat32 dq\n"
MESSAGES = {
    "unitree_hg": {
        "MotorCmd": MOTOR + "float32 tau\nfloat32 kp\nfloat32 kd\nuint32 reserve",
        "LowCmd": "uint8 mode_pr\nuint8 mode_machine\nMotorCmd[35] motor_cmd\nuint32[4] reserve\nuint32 crc",
        "IMUState": "float32[4] quaternion\nfloat32[3] gyroscope\nfloat32[3] accelerometer\nfloat32[3] rpy\n"
        "int16 temperature",
        "MotorState": MOTOR + "float32 ddq\nfloat32 tau_est\nint16[2] temperature\nfloat32 vol\nuint32[2] sensor\n"
        "uint32 motorstate\nuint32[4] reserve",
        "LowState": "uint32[2] version\nuint8 mode_pr\nuint8 mode_machine\nuint32 tick\nIMUState imu_state\n"
        "MotorState[35] motor_state\nuint8[40] wireless_remote\nuint32[4] reserve\nuint32 crc",
        "BmsState": "uint8 version_high\nuint8 version_low\nuint8 fn\nuint16[40] cell_vol\nuint32[3] bmsvoltage\n"
        "int32 current\nuint8 soc\nuint8 soh\nint16[12] temperature\nuint16 cycle\nuint16 manufacturer_date\n"
        "uint32[5] bmsstate\nuint32[3] reserve",
    },
    "unitree_api": {
        "RequestIdentity": "int64 id\nint64 api_id",
        "RequestLease": "int64 id",
        "RequestPolicy": "int32 priority\nbool noreply",
        "RequestHeader": "RequestIdentity identity\nRequestLease lease\nRequestPolicy policy",
        "Request": "RequestHeader header\nstring parameter\nuint8[] binary",
        "ResponseStatus": "int32 code",
        "ResponseHeader": "RequestIdentity identity\nResponseStatus status",
        "Response": "ResponseHeader header\nstring data\nint8[] binary",
    },
}
PACKAGE = """<package format="3"><name>{0}</name><version>0.0.1</version><description>Published fields</description>
<maintainer email="nobody@example.com">nobody</maintainer><license>BSD-3-Clause</license>
<buildtool_depend>ament_cmake</buildtool_depend><build_depend>rosidl_default_generators</build_depend>
<exec_depend>rosidl_default_runtime</exec_depend><member_of_group>rosidl_interface_packages</member_of_group>
<export><build_type>ament_cmake</build_type></export></package>
"""
CMAKE = """cmake_minimum_required(VERSION 3.8)
project({0})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
file(GLOB MSGS RELATIVE ${{CMAKE_CURRENT_SOURCE_DIR}} msg/*.msg)
rosidl_generate_interfaces({0} ${{MSGS}})
ament_package()
"""

SCRIPT = """
import json, sys, time
from pathlib import Path
from genmimic_ros.stack import prepare_environment
prepare_environment(Path(sys.argv[2]))
from genmimic.core.modes import Mode
from genmimic.core.robot import G1_23DOF
from genmimic.link.config import LinkConfig
from genmimic.link.hardware import HardwareBridge, RobotLink
from genmimic_ros.drill import TwinProcess
from genmimic_ros.ros_bus import RosBus

domain = int(sys.argv[1])
twin = TwinProcess(domain)
twin.order("select ai")
found = {}

def run(seconds, until):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        now_ns = time.monotonic_ns()
        bridge.step(now_ns, Mode.DISARMED, now_ns, None, None)
        time.sleep(0.002)
    return until()

with RosBus(domain) as bus:
    link = RobotLink(bus, G1_23DOF, LinkConfig(find_s=100.0, listen_s=0.5))
    bridge = HardwareBridge(link)
    bridge.open()
    found["occupied"], found["sent_before"] = bridge.occupied, link.counts.sent
    bridge.release()
    found["live"] = run(30.0, lambda: bridge.live)
    run(60.0, lambda: link.counts.sent > 300)
    found["battery"] = run(30.0, lambda: link.state.battery > 0.0) and link.state.battery
    found["foreign_of_us"], found["wrong"] = link.counts.foreign_commands, link.counts.wrong_crc
    found["twin"] = twin.order("stats")
    found["outside"] = twin.order("report")["outside"]
    twin.order("second_writer")
    found["second_writer"] = run(60.0, lambda: any(fault.id == "second_writer" for fault in bridge.faults))
    found["cyclonedds"] = "cyclonedds" in sys.modules
twin.close()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return the folder where the messages are installed."""
    given = os.environ.get("GENMIMIC_UNITREE_WS")
    if given:
        return Path(given)
    tools = Path(sys.executable).parent
    colcon = shutil.which("colcon", path=os.pathsep.join([str(tools), os.environ.get("PATH", "")]))
    if colcon is None or shutil.which("c++") is None:
        pytest.skip("building unitree_hg needs colcon and a C++ compiler")
    base = tmp_path_factory.mktemp("unitree")
    for name, messages in MESSAGES.items():
        folder = base / "src" / name
        (folder / "msg").mkdir(parents=True)
        (folder / "package.xml").write_text(PACKAGE.format(name))
        (folder / "CMakeLists.txt").write_text(CMAKE.format(name))
        for message, text in messages.items():
            (folder / "msg" / f"{message}.msg").write_text(text + "\n")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    env = {**os.environ, "AMENT_PREFIX_PATH": prefixes, "CMAKE_PREFIX_PATH": prefixes}
    env["PATH"] = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [colcon, "--log-base", str(base / "log"), "build", "--merge-install", "--install-base", str(base / "install"),
         "--build-base", str(base / "build"), "--cmake-args", f"-DPython3_EXECUTABLE={sys.executable}"],
        cwd=base, env=env, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return base / "install"


@pytest.mark.slow
@pytest.mark.flaky(reruns=1)
def test_the_bridge_drives_the_robot_over_ros_topics(workspace, tmp_path):
    pytest.importorskip("cyclonedds", reason="the twin needs cyclonedds 11")
    pytest.importorskip("mujoco", reason="the twin needs mujoco")
    env = {**os.environ, "ROS_DOMAIN_ID": "0"}
    env["LD_LIBRARY_PATH"] = os.pathsep.join([str(workspace / "lib"), os.environ.get("LD_LIBRARY_PATH", "")])
    env["PYTHONPATH"] = os.pathsep.join([str(workspace / "lib" / PYTHON / "site-packages"), str(ROOT)])
    env["AMENT_PREFIX_PATH"] = os.pathsep.join([str(workspace), os.environ.get("AMENT_PREFIX_PATH", sys.prefix)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(DOMAIN), str(tmp_path)], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert "'ai' runs" in found["occupied"] and found["sent_before"] == 0
    assert found["live"] and found["twin"]["controller"] == "" and found["twin"]["applied"] > 100
    assert found["battery"] == pytest.approx(0.9)
    assert found["foreign_of_us"] == 0 and found["wrong"] == found["twin"]["wrong_crc"] == 0
    assert found["outside"] == {} and found["second_writer"]
    assert not found["cyclonedds"], "two libraries called libddsc in one process are one too many"


def test_without_the_messages_it_is_one_clear_line():
    code = "from genmimic_ros.ros_bus import RosBus\nRosBus(0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    if "MissingDependencyError" not in last:
        pytest.skip("unitree_hg is installed here")
    assert "transport:=ros needs Unitree's messages unitree_hg" in last and "transport:=dds" in last
