# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end: `genmimic mimic` with the real nodes on the simulated robot."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.flaky(reruns=1)]
rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")
pytest.importorskip("onnxruntime", reason="policy_node needs onnxruntime")
pytest.importorskip("mujoco", reason="the simulator needs mujoco")

from genmimic.core.manifest import PolicyManifest  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.motion import Motion, save_motion  # noqa: E402
from genmimic.core.observation import STUDENT  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.evaluate.metrics import METRICS, rollout_metrics  # noqa: E402
from genmimic.evaluate.report import load_report, load_trajectory, track_of  # noqa: E402
from genmimic.record.reader import Recording  # noqa: E402
from genmimic.record.trajectory import takes  # noqa: E402
from genmimic_ros.msg import RobotState  # noqa: E402
from genmimic_ros.runtime import RECORD_SUB, make_executor  # noqa: E402

ROOT = Path(__file__).parents[2]
DOMAIN = 1 + (os.getpid() + 25) % 100
SHIPPED = ROOT / "policies" / "student.onnx"
NODES = ("g1_bridge_node", "policy_node", "motion_reference_node", "safety_node")
CHOSEN = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""What the command chooses by itself when the user has not."""


def start(*arguments):
    """Start the command as a process that heeds Ctrl-C."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    return subprocess.Popen(
        [sys.executable, "-m", "genmimic.cli", "mimic", *map(str, arguments)],
        cwd=ROOT, env={**environment, "ROS_DOMAIN_ID": str(DOMAIN)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def children(pid):
    """Return name and process number of each node that ``pid`` has started."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_text().split("\0")
        except (OSError, ValueError, IndexError):
            continue
        module = next((word for word in words if word.startswith("genmimic_ros.nodes.")), "")
        if parent == pid and module:
            found[module.rpartition(".")[2]] = int(entry.name)
    return found


def running(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


class Listener:
    """Hears robot_state beside the session."""

    def __init__(self):
        self.context = rclpy.Context()
        self.context.init(domain_id=DOMAIN)
        self.node = rclpy.create_node("listener", namespace="/genmimic", context=self.context)
        self.executor = make_executor(self.context)
        self.executor.add_node(self.node)
        self.modes = []
        self.node.create_subscription(RobotState, "robot_state", self.hear, RECORD_SUB)

    def hear(self, msg):
        mode = Mode(msg.mode)
        if not self.modes or self.modes[-1][0] is not mode:
            self.modes.append((mode, msg.header.stamp.sec + 1e-9 * msg.header.stamp.nanosec))

    def wait(self, process, *modes, seconds=60.0):
        """Return when, by the robot's own stamp, the first of ``modes`` was entered that has not been waited for."""
        until = time.monotonic() + seconds
        while True:
            for at, (mode, stamp) in enumerate(self.modes):
                if mode in modes:
                    del self.modes[:at]
                    return stamp
            if time.monotonic() > until:
                process.kill()
                log = Path(process.args[process.args.index("--report") + 1]) / "nodes.log"
                log = log.read_text() if log.is_file() else ""
                pytest.fail(f"never {modes}, only {self.modes}; it printed {process.communicate()}; nodes:\n{log}")
            self.executor.spin_once(timeout_sec=0.02)

    def close(self):
        self.executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def short_motion(tmp_path_factory):
    """A second in which the left arm swings a little."""
    return swing(tmp_path_factory.mktemp("motions") / "swing.npz", 51)


@pytest.fixture(scope="module")
def long_motion(tmp_path_factory):
    """The same, so slow that it is not over before a busy machine has done something to it."""
    return swing(tmp_path_factory.mktemp("motions") / "long.npz", 1501)


def swing(path, frames):
    joint_pos = np.tile(ROBOT.default_joint_pos, (frames, 1))
    joint_pos[:, ROBOT.joint_idx(["left_elbow_joint"])[0]] += 0.2 * np.sin(np.linspace(0.0, np.pi, frames))
    root_pos = np.tile([0.0, 0.0, ROBOT.standing_height], (frames, 1))
    motion = Motion.from_joints(ROBOT, 50.0, joint_pos, root_pos, np.tile([1.0, 0, 0, 0], (frames, 1)), "swing")
    save_motion(path, ROBOT, motion)
    return path


@pytest.fixture(scope="module")
def nan_policy(tmp_path_factory):
    """A policy that loads, and then answers NaN to an upright robot: infinity times zero."""
    pytest.importorskip("onnx", reason="writing a test policy needs onnx")
    from genmimic_train.export import Network, write_policy

    names = [f"{term.name}/{axis}" for term in STUDENT for axis in range(term.size)]
    down = names.index("gravity_dir_b[0]/2")  # -1 when upright
    size = len(names)
    seed = next(s for s in range(100) if 0.1 < np.random.default_rng(s).standard_normal(size)[down] < 0.9)
    first, bias = np.zeros((8, size)), np.zeros(8)
    first[:, down], bias[:] = -3e38, 3e38  # 6e38 overflows where gravity points down
    path = tmp_path_factory.mktemp("policies") / "nan.onnx"
    layers = [(first, bias), (np.zeros((23, 8)), np.zeros(23))]
    write_policy(path, PolicyManifest.for_robot(ROBOT), Network(layers, np.zeros(size), np.ones(size)), seed)
    return path


def test_a_motion_is_played_judged_and_written_down(short_motion, balance_policy, tmp_path):
    folder = tmp_path / "report"
    process = start(short_motion, "--policy", balance_policy, "--report", folder, "--repeat", 2, "--seed", 3)
    seen = {}
    while process.poll() is None:
        seen |= children(process.pid)
        time.sleep(0.1)
    out, err = process.communicate()
    assert process.returncode == 0, err + (folder / "nodes.log").read_text()
    assert set(seen) == {*NODES, "viz_node", "record_node"} and not running(seen.values())
    assert "success" in out and "played 2x, 0 falls" in out and str(folder) in out
    assert err == ""  # no terminal, nothing wrong: nothing is said

    report = load_report(folder)
    assert report["success"] and report["motion"] == "swing" and report["policy"] == "balance" and report["seed"] == 3
    assert report["total"]["rollouts"] == 2 and report["total"]["no_fall"] == 1.0
    assert report["total"]["lmpkpe_cm"] < 10.0 and report["robot"] == "sim"
    assert all(each["outcome"] == "done" for each in report["motions"][0]["each"])
    assert report["period_ms"]["p50"] == pytest.approx(20.0, abs=0.5)
    assert 0.0 < report["compute_ms"]["p50"] < 20.0 and 0.0 < report["latency_ms"]["p50"] < 100.0
    assert report["ticks"] > 300 and report["missed"] >= 0 and report["late_5ms"] >= 0
    assert set(report["nodes"]) == set(seen)
    assert all(usage["cpu_percent"] > 0.0 and usage["rss_mb"] > 10.0 for usage in report["nodes"].values())

    # anyone can compute the numbers from the trajectory: it is that of the worse of the two
    trajectory = load_trajectory(folder, ROBOT)
    start_at, end = trajectory["motion_frames"]
    assert end - start_at == pytest.approx(51, abs=2)
    again = rollout_metrics(track_of(trajectory), ROBOT)
    worst = max(report["motions"][0]["each"], key=lambda each: each["lmpkpe_nt_cm"])
    for name in METRICS:
        assert again[name] == pytest.approx(worst[name], abs=1e-3), name
    assert (folder / "rollout.png").stat().st_size > 10_000

    recording = Recording(folder)
    assert recording.whole and recording.report == report
    tried = list(takes(recording))
    assert [take.motion for take in tried] == ["swing", "swing"] and not any(take.damped for take in tried)
    recorded = [rollout_metrics(track_of(take.trajectory(ROBOT)), ROBOT)["lmpkpe_nt_cm"] for take in tried]
    assert max(recorded) == pytest.approx(worst["lmpkpe_nt_cm"], abs=0.1)


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no shipped policy, policies/student.onnx")
def test_the_shipped_policy_waves(tmp_path):
    process = start("wave", "--report", tmp_path, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["success"] and report["total"]["sr_local"] == 1.0


def test_a_policy_that_is_killed_leaves_the_robot_damped(long_motion, balance_policy, tmp_path, listener):
    process = start(long_motion, "--policy", balance_policy, "--report", tmp_path)
    listener.wait(process, Mode.MIMIC)
    nodes = children(process.pid)
    killed = time.time()
    os.kill(nodes["policy_node"], signal.SIGKILL)
    damped = listener.wait(process, Mode.DAMPED, Mode.ESTOP)
    print(f"kill -9 to the first damped robot_state: {1e3 * (damped - killed):.0f} ms")
    assert damped - killed < 0.5  # 50 ms of silence, and a busy machine
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "policy_node has died (signal SIGKILL)" in err.strip().splitlines()[-1]
    assert not running(nodes.values())
    report = load_report(tmp_path)
    assert not report["success"]


def test_a_policy_that_says_nan_is_damped(short_motion, nan_policy, tmp_path, listener):
    process = start(short_motion, "--policy", nan_policy, "--report", tmp_path)
    listener.wait(process, Mode.STANDING)
    listener.wait(process, Mode.DAMPED)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "is not a finite number" in err
    assert not load_report(tmp_path)["success"]


def test_a_robot_that_topples_is_a_bad_outcome(short_motion, hold_policy, tmp_path):
    """Without balance it falls into the rope within seconds of READY."""
    process = start(short_motion, "--policy", hold_policy, "--report", tmp_path, "--repeat", 3, "--no-viz")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "FAILED" in out and not load_report(tmp_path)["success"]


def test_ctrl_c_damps_and_leaves_nothing_behind(long_motion, balance_policy, tmp_path, listener):
    process = start(long_motion, "--policy", balance_policy, "--report", tmp_path)
    listener.wait(process, Mode.MIMIC)
    nodes = children(process.pid)
    process.send_signal(signal.SIGINT)
    listener.wait(process, Mode.ESTOP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err.strip() == "genmimic: interrupted; the robot is damped and the nodes are stopped"
    assert len(nodes) == 6 and not running(nodes.values())


def test_nothing_is_left_behind_when_the_command_itself_is_killed(long_motion, balance_policy, tmp_path, listener):
    process = start(long_motion, "--policy", balance_policy, "--report", tmp_path)
    listener.wait(process, Mode.STANDING)
    nodes = children(process.pid)
    process.kill()
    process.communicate()
    until = time.monotonic() + 10.0
    while running(nodes.values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(nodes) == 6 and not running(nodes.values())


def broken(tmp_path, kind, balance_policy):
    """Return arguments with one thing wrong, and the words that say so."""
    wave = ROOT / "motions" / "wave.npz"
    bad = tmp_path / "bad.npz"
    if kind == "missing motion":
        return ["nowhere.npz"], "nowhere.npz: no such file"
    if kind == "truncated motion":
        bad.write_bytes(wave.read_bytes()[:-200])
        return [bad], "bad.npz: not a whole npz file"
    if kind == "pickled motion":
        np.savez(bad, format=np.array([{}], dtype=object))
        return [bad], "pickled objects"
    if kind == "motion for another robot":
        with np.load(wave) as data:
            arrays = {name: data[name] for name in data.files}
        arrays["joint_names"] = arrays["joint_names"][::-1]
        np.savez(bad, **arrays)
        return [bad], "joint_names are in another order"
    if kind == "not a motion":
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr("readme.txt", "hello")
        return [bad], "bad.npz"
    if kind == "missing policy":
        return [wave, "--policy", "nowhere.onnx"], "nowhere.onnx: no such file"
    if kind == "policy in another joint order":
        onnx = pytest.importorskip("onnx", reason="changing a policy needs onnx")
        model = onnx.load(str(balance_policy))
        for entry in model.metadata_props:
            if entry.key == "genmimic.joint_names":
                names = json.loads(entry.value)
                entry.value = json.dumps([names[1], names[0], *names[2:]])
        onnx.save(model, str(tmp_path / "order.onnx"))
        return [wave, "--policy", tmp_path / "order.onnx"], "joint_names[0] is 'left_hip_roll_joint', expected"
    if kind == "real robot without interface":
        return [wave, "--policy", balance_policy, "--robot", "g1"], "--interface"
    if kind == "real robot on an interface that is not there":
        pytest.importorskip("cyclonedds", reason="needs cyclonedds 11")
        arguments = [wave, "--policy", balance_policy, "--robot", "g1", "--interface", "wlan7"]
        return arguments, "there is no network interface 'wlan7'; known: "
    assert kind == "no repetition"
    return [wave, "--policy", balance_policy, "--repeat", 0], "--repeat is 0, expected at least 1"


@pytest.mark.parametrize(
    "kind",
    [
        "missing motion", "truncated motion", "pickled motion", "motion for another robot", "not a motion",
        "missing policy", "policy in another joint order", "real robot without interface",
        "real robot on an interface that is not there", "no repetition",
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_starts_nothing(kind, tmp_path, balance_policy):
    arguments, words = broken(tmp_path, kind, balance_policy)
    if "--policy" not in arguments:
        arguments = [*arguments, "--policy", balance_policy]
    folder = tmp_path / "report"
    process = start(*arguments, "--report", folder)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1 and words in lines[0] and out == "", err
    assert not folder.exists()  # not even a log: no node was started


def test_without_ros_it_says_how_to_get_it(tmp_path):
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("raise ImportError('no ROS here')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "genmimic.cli", "mimic", "wave"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and "make setup" in done.stderr
