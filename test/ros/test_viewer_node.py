# SPDX-License-Identifier: Apache-2.0
"""viewer_node as a process: its page tells the mode and stops the robot, in a real browser where there is one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=1)]
rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")
pytest.importorskip("viser", reason="needs viser, of the 'viewer' extra")

import yaml  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from genmimic.cli import main  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.reference import ReferencePlayer  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.state import RobotState  # noqa: E402
from genmimic_ros.conversions import Safety, goal_to_msg, safety_to_msg, state_to_msg  # noqa: E402
from genmimic_ros.msg import GoalKeypoints, SafetyStatus  # noqa: E402
from genmimic_ros.msg import RobotState as RobotStateMsg  # noqa: E402
from genmimic_ros.nodes.motion_view_node import MotionViewParams  # noqa: E402
from genmimic_ros.nodes.viewer_node import ViewerParams, shipped_motions  # noqa: E402
from genmimic_ros.parameters import parameter_names  # noqa: E402
from genmimic_ros.runtime import STATUS_PUB, STREAM_PUB, STREAM_SUB  # noqa: E402
from genmimic_ros.viewer import await_browser, free_port, viewers_of  # noqa: E402

ROOT = Path(__file__).parents[2]
DOMAIN = 1 + (os.getpid() + 61) % 100


def start(node, config, folder, namespace, **parameters):
    given = folder / f"{node}.yaml"
    given.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    command = [sys.executable, "-m", f"genmimic_ros.nodes.{node}", "--ros-args", "-r", f"__ns:={namespace}"]
    command += ["--params-file", str(ROOT / "config" / config), "--params-file", str(given)]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "ROS_LOG_DIR": str(folder)}
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def end(process):
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=20)[0]
    finally:
        process.kill()


class Robot:
    """The other nodes: a safety monitor that obeys, a robot that stands, its goal."""

    def __init__(self):
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        self.context = rclpy.Context()
        self.context.init(domain_id=DOMAIN)
        self.node = rclpy.create_node("robot", namespace="/genmimic", context=self.context)
        self.mode, self.asked, self.beats = Mode.READY, [], 0
        self.safety_pub = self.node.create_publisher(SafetyStatus, "safety_status", STATUS_PUB)
        self.state_pub = self.node.create_publisher(RobotStateMsg, "robot_state", STREAM_PUB)
        self.goal_pub = self.node.create_publisher(GoalKeypoints, "goal_keypoints", STREAM_PUB)
        for name, mode in (("estop", Mode.ESTOP), ("start", Mode.MIMIC)):
            self.node.create_service(Trigger, name, self.service(name, mode))
        self.goal = goal_to_msg(ReferencePlayer(ROBOT).goal())
        self.views = []
        self.node.create_subscription(RobotStateMsg, "/genmimic_view/robot_state", self.views.append, STREAM_SUB)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.node.create_timer(0.02, self.beat)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.spin)
        self.thread.start()

    def service(self, name, mode):
        def serve(_, response):
            self.asked.append(name)
            self.mode = mode
            response.success, response.message = True, f"{mode.name}: so be it"
            return response

        return serve

    def beat(self):
        self.beats += 1
        reasons = ("estop: asked for",) if self.mode is Mode.ESTOP else ()
        self.safety_pub.publish(safety_to_msg(Safety(self.mode, reasons, self.beats, 3.0)))
        joints = ROBOT.default_joint_pos
        still = joints * 0.0
        state = RobotState(
            0, self.beats, joints, still, still, still, np.array([1.0, 0.0, 0.0, 0.0]), still[:3], still[:3],
            root_pos_w=still[:3] + [0.0, 0.0, ROBOT.standing_height],
        )  # fmt: skip
        self.state_pub.publish(state_to_msg(state))
        self.goal_pub.publish(self.goal)

    def spin(self):
        while not self.stopping.is_set():
            self.executor.spin_once(timeout_sec=0.1)

    def close(self):
        self.stopping.set()
        self.thread.join()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture(scope="module")
def stood():
    running = Robot()
    yield running
    running.close()


@pytest.fixture
def robot(stood):
    stood.mode = Mode.READY
    stood.asked.clear()
    stood.views.clear()
    return stood


@pytest.fixture(scope="module")
def page(stood, tmp_path_factory):
    """Address of the page of a viewer_node that runs."""
    tmp_path = tmp_path_factory.mktemp("viewer")
    port = free_port("127.0.0.1", 18400 + os.getpid() % 500)
    process = start("viewer_node", "viewer.yaml", tmp_path, "/genmimic", port=port, meshes="never")
    url = f"http://localhost:{port}"
    wait(lambda: viewers_of(url) is not None and status(url)["mode"] == "READY", 60, process)
    yield url
    assert "Traceback" not in end(process)


def wait(condition, seconds, process=None):
    until = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)


def status(url):
    with urllib.request.urlopen(f"{url}/status", timeout=5) as answer:
        return json.load(answer)


def chromium():
    """Return the path of a Chromium to drive; skip without one."""
    pytest.importorskip("playwright", reason="driving a browser needs playwright")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium here")


@pytest.mark.parametrize(("cls", "file"), [(ViewerParams, "viewer.yaml"), (MotionViewParams, "motion_view.yaml")])
def test_the_file_holds_every_parameter_with_its_default(cls, file):
    (content,) = yaml.safe_load((ROOT / "config" / file).read_text()).values()
    held = content["ros__parameters"]
    assert list(held) == parameter_names(cls)
    assert cls(**held) == cls() and getattr(cls(), "host", "127.0.0.1") == "127.0.0.1"


def test_the_page_tells_the_mode_and_estop_reaches_the_monitor(robot, page):
    wait(lambda: status(page)["mode"] == "READY", 20)
    told = status(page)
    assert told["mode"] == "READY" and told["viewers"] == 0 and "rope 3 N" in told["line"]
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{page}/estop", timeout=5)
    assert robot.asked == []
    urllib.request.urlopen(urllib.request.Request(f"{page}/estop", headers={"X-GenMimic": "test"}), timeout=5)
    wait(lambda: status(page)["mode"] == "ESTOP", 20)
    assert robot.asked == ["estop"] and "asked for" in status(page)["reason"]


def test_a_click_in_a_browser_stops_the_robot(robot, page):
    path = chromium()
    from playwright.sync_api import sync_playwright

    # without a GPU the picture would take long to draw; the bar does not need it
    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-software-rasterizer", "--disable-3d-apis"]
        browser = driver.chromium.launch(executable_path=path, args=options, timeout=120_000)
        view = browser.new_page(viewport={"width": 390, "height": 844})
        view.set_default_timeout(120_000)
        view.goto(page)
        view.wait_for_function("document.querySelector('#mode').textContent === 'READY'")
        box = view.locator("#estop").bounding_box()
        assert box["width"] >= 150 and box["height"] >= 56  # a thumb finds it on a phone
        assert 0 <= box["x"] and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844
        view.locator("#estop").click()
        view.wait_for_function("document.querySelector('#mode').textContent === 'ESTOP'")
        assert view.locator("#estop").text_content() == "STOPPED" and "estop" in robot.asked
        browser.close()


def test_a_motion_is_viewed_away_from_the_robot(robot, tmp_path):
    refused = start("motion_view_node", "motion_view.yaml", tmp_path, "/genmimic", motion="wave")
    assert refused.wait(60) == 2 and "must not run in /genmimic" in refused.communicate()[0]
    process = start("motion_view_node", "motion_view.yaml", tmp_path, "/genmimic_view", motion="wave", speed=4.0)
    wait(lambda: len(robot.views) > 20, 60, process)
    assert "Traceback" not in end(process)
    heights = [msg.truth_root.position.z for msg in robot.views]
    assert all(msg.has_truth for msg in robot.views) and 0.6 < min(heights) <= max(heights) < 0.9
    assert len({tuple(msg.joint_position) for msg in robot.views}) > 5


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--operate"], "--operate needs --viewer"),
        (["--viewer", "--viewer-host", "no.such.host.invalid"], "cannot listen on host"),
        (["--viewer", "--viewer-wait", "-1"], "--viewer-wait is -1"),
        (["--viewer", "--video", "none.mp4"], "none.mp4: no such file"),
    ],
)
def test_what_the_viewer_cannot_do_is_one_line(words, text, capsys):
    assert main(["mimic", "wave", *words]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_the_run_waits_for_a_browser_but_not_for_ever():
    from genmimic.view.server import ViewServer

    server = ViewServer(port=free_port("127.0.0.1", 19100), status=dict)
    try:
        checks = []
        assert not await_browser(server.url, 0.5, lambda: checks.append(1)) and checks
        assert viewers_of(server.url) == 0
    finally:
        server.close()
    assert viewers_of(server.url) is None


def test_the_motions_to_choose_from_are_there():
    assert {"wave", "squat"} <= set(shipped_motions())
