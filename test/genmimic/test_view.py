# SPDX-License-Identifier: Apache-2.0
"""The browser view without a browser: shapes, clips, player, what is sent, and who may ask."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from genmimic.cli import main
from genmimic.core.errors import InputFileError
from genmimic.core.kinematics import link_kinematics
from genmimic.core.modes import Mode
from genmimic.core.motion import load_motion, write_npz
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.sim.shapes import VISUAL, robot_shapes
from genmimic.view.clip import Clip, clip_of_motion, load_clips
from genmimic.view.meshes import find_model, model_meshes, primitive_meshes, read_stl, robot_meshes, thinned
from genmimic.view.overlay import contacts, heat, rope

ROOT = Path(__file__).parents[2]
WAVE = ROOT / "motions" / "wave.npz"


# what it looks like --------------------------------------------------------------------------------
def test_every_visible_shape_becomes_closed_triangles_that_face_out() -> None:
    meshes = primitive_meshes(ROBOT)
    assert {mesh.link for mesh in meshes} == {shape.link for shape in robot_shapes(ROBOT) if shape.role == VISUAL}
    for mesh in meshes:
        corners = mesh.vertices[mesh.faces]
        volume = np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0
        assert volume > 0.0, mesh.link  # anticlockwise from outside, nothing missing
        assert np.isfinite(mesh.vertices).all() and np.abs(mesh.vertices).max() < 0.6


def test_a_ball_has_the_volume_of_one() -> None:
    from genmimic.view.meshes import sphere

    vertices, faces = sphere(0.5, 48)
    corners = vertices[faces]
    volume = np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0
    assert volume == pytest.approx(4.0 / 3.0 * np.pi * 0.125, rel=0.02)


def write_stl(path: Path, corners: np.ndarray) -> None:
    body = b"".join(b"\0" * 12 + corner.astype("<f4").tobytes() + b"\0\0" for corner in corners)
    path.write_bytes(b"\0" * 80 + len(corners).to_bytes(4, "little") + body)


def test_meshes_of_a_model_land_on_our_links(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    flat = np.array([[[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]])
    write_stl(tmp_path / "assets" / "a.STL", flat)
    model = tmp_path / "g1.xml"
    model.write_text(
        '<mujoco><compiler meshdir="assets"/><asset><mesh name="a" file="a.STL"/><material name="m" rgba="1 0 0 1"/>'
        '</asset><worldbody><body name="pelvis" pos="0 0 0.8"><geom class="visual" mesh="a" material="m"/>'
        '<body name="waist_yaw_link"><geom class="visual" mesh="a"/><body name="torso_link" pos="-0.0039635 0 0.044">'
        '<geom class="visual" mesh="a" pos="0 0 0.5"/><geom class="collision" mesh="a"/></body></body></body>'
        "</worldbody></mujoco>"
    )
    pelvis, waist, torso = model_meshes(ROBOT, model)
    assert (pelvis.link, waist.link, torso.link) == ("pelvis", "torso_link", "torso_link")
    np.testing.assert_allclose(pelvis.vertices[pelvis.faces].min((0, 1)), 0.0, atol=1e-6)
    assert pelvis.rgb == (255, 0, 0)
    pos, quat, _, _ = link_kinematics(ROBOT, np.zeros(3), np.array([1.0, 0, 0, 0]), np.zeros(23))
    shift = pos[ROBOT.link_names.index("torso_link")]
    np.testing.assert_allclose(waist.vertices.min(0), -shift, atol=1e-6)  # stays at the pelvis in the zero pose
    np.testing.assert_allclose(torso.vertices[:, 2], 0.5, atol=1e-6)
    drawn = robot_meshes(ROBOT, str(model))
    assert {mesh.link for mesh in drawn} == set(ROBOT.link_names)  # our shapes where there is no mesh

    (tmp_path / "assets" / "a.STL").write_bytes(b"solid")
    with pytest.raises(InputFileError, match=r"a\.STL: not a whole binary STL"):
        robot_meshes(ROBOT, str(model))
    with pytest.raises(InputFileError, match="no model with meshes"):
        model_meshes(ROBOT, tmp_path / "none.xml")


def test_thinning_keeps_the_shape(tmp_path: Path) -> None:
    from genmimic.view.meshes import sphere

    vertices, faces = sphere(0.1, 64)
    write_stl(tmp_path / "ball.stl", vertices[faces])
    corners = read_stl(tmp_path / "ball.stl")
    fewer, their_faces = thinned(corners, 0.02)
    assert len(their_faces) < 0.5 * len(faces)
    np.testing.assert_allclose(np.linalg.norm(fewer, axis=-1), 0.1, atol=0.01)


@pytest.mark.skipif(find_model() is None, reason="mjlab, whose wheel holds Unitree's meshes, is not installed")
def test_installed_meshes_are_used() -> None:
    own = sum(len(mesh.faces) for mesh in primitive_meshes(ROBOT))
    assert sum(len(mesh.faces) for mesh in robot_meshes(ROBOT)) > own


# what is around it ---------------------------------------------------------------------------------
def test_standing_feet_touch_and_the_rope_hangs_straight() -> None:
    root = np.array([0.3, -0.2, ROBOT.standing_height])
    pos, quat, _, _ = link_kinematics(ROBOT, root, np.array([1.0, 0, 0, 0]), ROBOT.default_joint_pos)
    points, touching = contacts(ROBOT, pos, quat)
    assert touching.all() and (points[:, 2] == 0.0).all()
    assert not contacts(ROBOT, pos + [0.0, 0.0, 0.05], quat)[1].any()
    low, high = rope(ROBOT, pos, quat)
    np.testing.assert_allclose(low[:2], high[:2])
    assert 1.0 < low[2] < 1.4 and high[2] == pytest.approx(2.5)


def test_colours_run_from_green_to_red() -> None:
    green, yellow, red, beyond = heat(np.array([0.0, 0.5, 1.0, 7.0]))
    assert green[1] == 1.0 and green[0] == 0.0
    assert (yellow[:2] == 1.0).all()
    assert red[0] == 1.0 and red[1] == 0.0 and (beyond == red).all()


# clips ---------------------------------------------------------------------------------------------
def trajectory(path: Path, frames: int = 40) -> Path:
    motion = load_motion(WAVE, ROBOT)
    part = slice(0, frames)
    shifted = motion.keypoint_pos[part] + [0.03, 0.04, 0.0]
    arrays = {
        "t": np.arange(frames) / 50.0, "joint_pos": motion.joint_pos[part], "root_pos": motion.root_pos[part],
        "root_quat": motion.root_quat[part], "keypoint_pos": motion.keypoint_pos[part], "goal_keypoint_pos": shifted,
        "goal_root_quat": motion.root_quat[part], "action": np.zeros((frames, 23)), "torque": np.zeros((frames, 23)),
        "fell": np.arange(frames) >= 30, "motion_frames": np.array([5, frames]),
    }  # fmt: skip
    write_npz(path, arrays)
    return path


def test_motions_runs_and_folders_become_clips(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    run.mkdir()
    trajectory(run / "trajectory.npz")
    (clip,) = load_clips(ROBOT, [str(run)])
    assert clip.name == "run-1" and len(clip) == 40 and clip.motion_frames == (5, 40)
    assert clip.error_m is not None
    np.testing.assert_allclose(clip.error_m, 0.05, atol=1e-6)
    assert any("fell at 0.60 s" in line for line in clip.facts)
    (tmp_path / "run-2").mkdir()
    trajectory(tmp_path / "run-2" / "trajectory.npz")
    assert [each.name for each in load_clips(ROBOT, [str(tmp_path)])] == ["run-1", "run-2"]
    wave, squat = load_clips(ROBOT, [str(WAVE), "squat"])
    assert (wave.name, squat.name) == ("wave", "squat") and wave.error_m is None
    assert any("Apache-2.0" in line for line in wave.facts)
    assert len(load_clips(ROBOT, [str(WAVE.parent)])) >= 10


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: (folder / "bad.npz").write_bytes(b"x") and folder / "bad.npz", "not a whole npz file"),
        (lambda folder: folder, "holds neither trajectory.npz nor a motion"),
        (lambda folder: folder / "none.npz", "none.npz"),
    ],
)
def test_what_cannot_be_viewed_is_one_line(make, text, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("viser", reason="needs viser, of the 'viewer' extra")
    assert main(["view", str(make(tmp_path)), "--check"]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_a_persons_motion_says_what_to_do(tmp_path: Path) -> None:
    write_npz(tmp_path / "person.npz", {"format": np.array("genmimic-human/1")})
    with pytest.raises(InputFileError, match="genmimic retarget"):
        load_clips(ROBOT, [str(tmp_path / "person.npz")])


# the page ------------------------------------------------------------------------------------------
@pytest.fixture
def server():
    pytest.importorskip("viser", reason="needs viser, of the 'viewer' extra")
    from genmimic.view.server import ViewServer

    running = ViewServer(port=18080, title="test")
    yield running
    running.close()


def get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): text for name, text in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


class Recorded:
    """Counts what is sent to browsers."""

    def __init__(self, viser) -> None:
        self.messages: list[str] = []
        inner = viser._websock_server
        genuine = inner.queue_message

        def queue(message) -> None:
            self.messages.append(type(message).__name__)
            genuine(message)

        inner.queue_message = queue

    def take(self) -> list[str]:
        found, self.messages = self.messages, []
        return found


def test_only_what_has_changed_is_sent(server) -> None:
    from genmimic.view.scene import RobotScene

    sent = Recorded(server.viser)
    scene = RobotScene(server.viser, ROBOT, primitive_meshes(ROBOT)[:2])
    (clip,) = load_clips(ROBOT, [str(WAVE)])
    scene.update(clip.pose(0))
    assert "SetPositionMessage" in sent.take()
    scene.update(clip.pose(0))
    assert not [name for name in sent.take() if name.startswith("Set")]
    scene.update(clip.pose(100))
    moved = sent.take()
    assert 0 < len(moved) <= 2 * len(ROBOT.links) + 20


def test_the_player_plays_seeks_loops_and_ends(server) -> None:
    from genmimic.view.player import Player

    clips = load_clips(ROBOT, [str(WAVE), "squat"])
    player = Player(server, clips, ROBOT, [])
    assert player.playing and player.step(0.5) and player.time_s == pytest.approx(0.5)
    player.play(False)
    player.step(0.0)
    assert not player.step(1.0) and player.time_s == pytest.approx(0.5)
    player.seek(99.0)
    assert player.time_s == pytest.approx(clips[0].duration)
    player.play(True)  # from its end: again
    assert player.time_s == 0.0
    player.step(clips[0].duration + 1.0)
    assert player.time_s == pytest.approx(1.0)  # looped
    player.select(1)
    assert player.clip.name == "squat" and player.time_s == 0.0
    thread = threading.Thread(target=player.run)
    thread.start()
    player.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_run_shows_its_error(server, tmp_path: Path) -> None:
    from genmimic.view.player import Player

    run = load_clips(ROBOT, [str(trajectory(tmp_path / "trajectory.npz"))])
    player = Player(server, run, ROBOT, [])
    assert player.scene.update(player.clip.pose(10)) == pytest.approx(0.05, abs=1e-6)


def test_a_motion_alone_has_no_bar(server) -> None:
    code, page = get(server.url)
    assert code == 200 and "E-STOP" not in page
    assert get(f"{server.url}/status")[0] == 404


@pytest.fixture
def live():
    pytest.importorskip("viser", reason="needs viser, of the 'viewer' extra")
    from genmimic.view.live import LiveView

    asked: list[str] = []
    view = LiveView("127.0.0.1", 18180, asked.append, asked.append, ("wave",), ROBOT, [])
    yield view, asked
    view.close()


def test_the_bar_tells_mode_and_silence_and_estop_is_asked_for(live) -> None:
    from genmimic.view.live import Status

    view, asked = live
    url = view.server.url
    code, page = get(url)
    assert code == 200 and "E-STOP" in page and 'name="viewport"' in page and "http" not in page.split("<body>")[1]
    assert json.loads(get(f"{url}/status")[1])["mode"] == "NO ROBOT"
    view.hear(Status(Mode.ESTOP, ("estop: asked for",), "wave", 50, 249, 0.041, 20.4, 3.0, 0, 12.0))
    status = json.loads(get(f"{url}/status")[1])
    assert status["mode"] == "ESTOP" and status["reason"] == "estop: asked for" and status["viewers"] == 0
    assert "wave" in status["line"] and "1.0/5.0 s" in status["line"] and "4.1 cm" in status["line"]
    assert get(f"{url}/estop", X_GenMimic="page")[0] == 200 and asked == ["estop"]
    assert get(f"{url}/scene/")[0] == 200


def test_other_sites_cannot_operate_the_robot(live) -> None:
    view, asked = live
    url = view.server.url
    assert get(f"{url}/estop")[0] == 403  # an image or a form elsewhere cannot send our header
    assert get(f"{url}/estop", X_GenMimic="page", Origin="http://evil.example")[0] == 403
    assert get(f"{url}/status", Origin="http://evil.example")[0] == 403
    assert get(f"{url}/status", Host="evil.example")[0] == 403  # a name that was made to point here
    assert get(f"{url}/scene/", Upgrade="websocket", Connection="Upgrade", Origin="http://evil.example")[0] == 403
    own = url.removeprefix("http://")
    assert get(f"{url}/status", Origin=url, Host=own)[0] == 200
    assert asked == []
    permitted = view.server.permitted
    assert permitted("localhost:9000", "http://localhost:9000")  # through an ssh tunnel
    assert not permitted("localhost:9000", "http://localhost:3000") and not permitted("localhost:9000", "null")
    with urllib.request.urlopen(f"{url}/scene/", timeout=10) as answer:
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"


def test_an_open_server_knows_its_own_names() -> None:
    pytest.importorskip("viser", reason="needs viser, of the 'viewer' extra")
    from genmimic.view.server import ViewServer

    server = ViewServer("0.0.0.0", 18380, status=dict)
    try:
        assert server.permitted("192.168.123.5:18380", "http://192.168.123.5:18380")
        assert server.permitted("localhost:18380", None)
        assert not server.permitted("evil.example:18380", "http://evil.example:18380")  # made to point here
        assert get(f"http://localhost:{server.port}/status")[0] == 200
    finally:
        server.close()


def test_nothing_is_sent_while_nobody_looks(live) -> None:
    from genmimic.view.live import Status

    view, _ = live
    sent = Recorded(view.server.viser)
    (clip,) = load_clips(ROBOT, [str(WAVE)])
    for frame in range(20):
        view.hear(Status(Mode.MIMIC, (), "wave", frame, 249))
        view.draw(clip.pose(frame))
    assert sent.take() == []


def test_clip_without_goal_has_no_error() -> None:
    clip = clip_of_motion(load_motion(WAVE, ROBOT))
    assert isinstance(clip, Clip) and clip.error_m is None and clip.pose(3).goal_keypoint_pos is None
