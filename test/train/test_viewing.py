# SPDX-License-Identifier: Apache-2.0
"""`genmimic-train view`: a checkpoint played in its training environment, and played again when it is rewritten."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("viser", reason="needs viser, of the 'viewer' extra")

from genmimic.cli import main as genmimic  # noqa: E402
from genmimic.core.errors import ConfigError, GenMimicError  # noqa: E402
from genmimic.core.motion import Motion, save_motion  # noqa: E402
from genmimic.core.reference import stand_to_stand  # noqa: E402
from genmimic.core.robot import G1_23DOF  # noqa: E402
from genmimic_train.cli import main  # noqa: E402
from genmimic_train.runs import Run  # noqa: E402
from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator  # noqa: E402
from genmimic_train.tracking.motions import MotionLibrary  # noqa: E402
from genmimic_train.viewing import Conditions, keep_up, played  # noqa: E402

SMALL = ["ppo.hidden=[16]", "ppo.steps_per_env=4", "ppo.minibatches=2", "ppo.epochs=1", "dagger.hidden=[16]",
         "dagger.steps_per_env=4", "dagger.minibatch=32", "env.num_envs=8", "env.episode_s=1.0"]  # fmt: skip


@pytest.fixture(scope="module")
def arms():
    """Make a motion of so many seconds: standing legs, arms that swing."""

    def make(seconds: float, name: str = "arms") -> Motion:
        count = round(seconds * 50)
        joint_pos = np.tile(G1_23DOF.default_joint_pos, (count, 1))
        shoulder = G1_23DOF.joint_idx(["left_shoulder_pitch_joint", "right_shoulder_pitch_joint"])
        joint_pos[:, shoulder] += 0.4 * np.sin(np.arange(count) / 16.0)[:, None]
        root_pos = np.tile([0.0, 0.0, G1_23DOF.standing_height], (count, 1))
        return Motion.from_joints(G1_23DOF, 50.0, joint_pos, root_pos, np.tile([1.0, 0, 0, 0], (count, 1)), name)

    return make


@pytest.fixture(scope="module")
def runs(tmp_path_factory, arms):
    """A teacher and a student that have hardly learned, and the motion they saw."""
    folder = tmp_path_factory.mktemp("runs")
    motion = folder / "arms.npz"
    save_motion(motion, G1_23DOF, arms(1.0))
    common = ["--motions", str(motion), "--threads", "1", "--samples", "32", "--set", *SMALL]
    assert main(["teacher", "--run", str(folder / "teacher"), *common]) == 0
    assert main(["student", "--run", str(folder / "student"), "--teacher", str(folder / "teacher"), *common]) == 0
    return folder


@pytest.fixture
def library(arms) -> MotionLibrary:
    return MotionLibrary(G1_23DOF, [arms(1.0), arms(2.0, "longer")], mirror=False)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_checkpoint_plays_each_clip_from_standing_to_standing(runs, library, arms, kind):
    clips = played(Run(runs / kind), library, MujocoCpuSimulator, Conditions(follow_s=0.0))
    assert [clip.name for clip in clips] == ["arms", "longer"]
    for clip, seconds in zip(clips, (1.0, 2.0), strict=True):
        reference = stand_to_stand(G1_23DOF, arms(seconds)).motion
        assert len(clip) == len(reference) and clip.fell is not None
        np.testing.assert_allclose(clip.goal_keypoint_pos, reference.keypoint_pos, atol=1e-5)
        assert clip.error_m is not None and 0.0 < clip.error_m[0] < 0.1  # it begins beside its goal
        assert np.isfinite(clip.keypoint_pos).all()
        np.testing.assert_allclose(clip.root_pos, clip.keypoint_pos[:, 0], atol=1e-5)  # the pelvis comes first
        assert f"{kind}, a {kind} · 0.00 M samples" in clip.facts[1]


def test_the_goal_follows_the_robot_as_while_learning(runs, library):
    stays, follows = (
        played(Run(runs / "student"), library, MujocoCpuSimulator, Conditions(follow_s=follow_s))[1]
        for follow_s in (0.0, None)
    )
    assert (stays.root_pos[0] == follows.root_pos[0]).all()
    assert not np.allclose(stays.goal_keypoint_pos, follows.goal_keypoint_pos, atol=1e-3)


class Page:
    """A player that somebody looks at, or not; ends after some looks at the date."""

    def __init__(self, looks: int, looked_at: bool = True) -> None:
        self.looks, self.looked_at, self.shown = looks, looked_at, []

    def ended(self, timeout_s: float) -> bool:
        self.looks -= 1
        return self.looks < 0

    def replace(self, clips) -> None:
        self.shown.append(clips)


def followed(page: Page, run: Run, again) -> None:
    """`keep_up` on a thread of its own, whose priority it lowers."""
    thread = threading.Thread(target=keep_up, args=(page, run, again), kwargs={"poll_s": 0.0})
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_rewritten_checkpoint_is_played_again_once(tmp_path, capsys):
    run = Run(tmp_path)
    run.checkpoint.write_bytes(b"first")
    page = Page(5)
    followed(page, run, lambda: pytest.fail("nothing has changed"))

    class Rewritten(Page):
        def ended(self, timeout_s: float) -> bool:
            if self.looks in (5, 3):
                (tmp_path / "new").write_bytes(b"more")
                (tmp_path / "new").replace(run.checkpoint)
            return super().ended(timeout_s)

    answers = iter([GenMimicError("damaged"), ["second"]])

    def again():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    page = Rewritten(6)
    followed(page, run, again)
    assert page.shown == [["second"]]
    assert "not shown (damaged)" in capsys.readouterr().out
    followed(Rewritten(6, looked_at=False), run, lambda: pytest.fail("nobody looks"))


def test_newer_takes_go_on_where_the_older_ones_were(runs, library):
    from genmimic.view.player import Player
    from genmimic.view.server import ViewServer

    clips = played(Run(runs / "teacher"), library, MujocoCpuSimulator, Conditions())
    server = ViewServer(port=18480)
    try:
        player = Player(server, clips, G1_23DOF, [])
        player.select(1)
        player.seek(0.7)
        newer = played(Run(runs / "teacher"), library, MujocoCpuSimulator, Conditions(seed=1))
        player.replace(newer)
        assert player.clip is newer[1] and player.time_s == pytest.approx(0.7)
        player.replace(played(Run(runs / "teacher"), library, MujocoCpuSimulator, Conditions(seed=2)))
        player.select(0)
        assert player.clip.name == "arms" and player.time_s == 0.0
    finally:
        server.close()


def test_the_command_shows_a_run_or_one_of_its_checkpoints(runs, capsys):
    common = ["--motions", str(runs / "arms.npz"), "--check", "--port", "18490"]
    assert main(["view", str(runs / "teacher"), *common]) == 0
    assert "arms: http://localhost:" in capsys.readouterr().out
    kept = runs / "teacher" / "early.pt"
    kept.write_bytes((runs / "teacher" / "checkpoint.pt").read_bytes())
    assert main(["view", str(kept), *common, "--noise", "1", "--level", "1"]) == 0
    capsys.readouterr()

    assert main(["view", str(runs), *common]) == 2
    assert main(["view", str(runs / "teacher" / "none.pt"), *common]) == 2
    assert main(["view", str(runs / "teacher"), *common, "--level", "2"]) == 2
    assert genmimic(["view", str(runs / "teacher"), "--check"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4, lines
    assert "no run.json" in lines[0] and "none.pt" in lines[1] and "level 2, expected" in lines[2]
    assert "genmimic-train view" in lines[3]


@pytest.mark.parametrize("values", [{"noise": -1.0}, {"level": 1.5}, {"follow_s": float("nan")}])
def test_conditions_out_of_range(values):
    with pytest.raises(ConfigError):
        Conditions(**values)
