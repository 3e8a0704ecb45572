# SPDX-License-Identifier: Apache-2.0
"""A checkpoint at work in its training environment, for the browser; played again whenever training rewrites it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.evaluate.metrics import rollout_metrics
from genmimic.view.clip import Clip, clip_of_trajectory
from genmimic.view.player import Player
from genmimic_train.learning.dagger import load_student, load_teacher
from genmimic_train.runs import Run
from genmimic_train.sim.base import Simulator
from genmimic_train.tracking.evaluation import ClipEnv, judged, play
from genmimic_train.tracking.motions import MotionLibrary

POLL_S = 2.0
"""How often the checkpoint's date is looked at, while somebody looks at the page."""

NICENESS = 10
"""Of the thread that plays again: training is what the machine is for."""


@dataclass(frozen=True)
class Conditions:
    """Under which a checkpoint is played; see `genmimic_train.tracking.evaluation.evaluate_in_training`.

    Attributes:
        noise: Times Table 8's observation noise.
        level: Of randomisation and pushes, 0 to 1.
        follow_s: Time constant with which the goal's place follows the robot; None: as while learning.
        seed: Of all of it.

    Raises:
        ConfigError: One of them is out of its range.
    """

    noise: float = 0.0
    level: float = 0.0
    follow_s: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise < math.inf or not 0.0 <= self.level <= 1.0:
            raise ConfigError(f"noise is {self.noise:g} and level {self.level:g}, expected 0 or more and 0 to 1")
        if self.follow_s is not None and not 0.0 <= self.follow_s < math.inf:
            raise ConfigError(f"follow is {self.follow_s:g} s, expected 0 or more")


def played(
    run: Run, library: MotionLibrary, make_sim: Callable[[int], Simulator], conditions: Conditions
) -> list[Clip]:
    """Return what the checkpoint of a run makes of each clip, standing to standing, in its training environment.

    The goal is drawn where the policy sees it, which follows the robot if ``follow_s`` says so.

    Raises:
        GenMimicError: The run holds no checkpoint, or it is damaged.
    """
    about, config = run.info(), run.config().env
    student = about["kind"] == "student"
    actor = load_student(run) if student else load_teacher(run)[0]
    dated = time.strftime("%H:%M:%S", time.localtime(run.checkpoint.stat().st_mtime))
    samples = run.load()["samples"]
    follow_s = config.follow_s(student) if conditions.follow_s is None else conditions.follow_s
    config = judged(config, conditions.noise, conditions.level, follow_s)
    clips = torch.arange(len(library.names))
    env = ClipEnv(clips, config, make_sim(len(clips)), library, with_student=student, seed=conditions.seed)
    frames = int((library.clip_end - library.clip_start).max())
    states: np.ndarray = np.zeros((frames, len(clips), env.sim.qpos.shape[1]), np.float32)
    goals: np.ndarray = np.zeros((frames, len(clips), env.robot.num_keypoints, 3), np.float32)

    def look(step: int) -> None:
        states[step] = env.sim.qpos.cpu().numpy()
        goals[step] = env.goal_keypoint_pos.cpu().numpy()

    headline = f"{run.folder.resolve().name}, a {about['kind']} · {samples / 1e6:.2f} M samples · written {dated}"
    found = []
    for clip, track in play(actor, env, frames, look):
        own = len(track.t)
        state: np.ndarray = states[:own, clip].astype(float)
        fell: np.ndarray = np.arange(own) >= (own if track.fell_at is None else track.fell_at)
        metrics = rollout_metrics(track, env.robot)
        off = f"pose {metrics['lmpkpe_nt_cm']:.1f} cm, hands {metrics['hands_cm']:.1f} cm off"
        arrays = {
            "t": track.t, "root_pos": state[:, :3], "root_quat": state[:, 3:7], "joint_pos": state[:, 7:],
            "keypoint_pos": track.keypoint_pos, "goal_keypoint_pos": goals[:own, clip].astype(float), "fell": fell,
            "motion_frames": np.array([0, own]),
        }  # fmt: skip
        found.append(clip_of_trajectory(library.names[clip], arrays, [headline, off]))
    return found


def keep_up(player: Player, run: Run, again: Callable[[], Sequence[Clip]], poll_s: float = POLL_S) -> None:
    """Show what ``again`` returns each time the checkpoint is another, until the player ends.

    Nothing while nobody looks. To be called on a thread of its own, which keeps a low priority.
    """
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)  # on Linux, this thread's alone
    seen = _stamp(run)
    while not player.ended(poll_s):
        now = _stamp(run)
        if now == seen or not player.looked_at:
            continue
        seen = now
        try:
            player.replace(again())
        except GenMimicError as error:  # shown as it was until the next one
            print(f"{run.checkpoint}: not shown ({error})", flush=True)


def _stamp(run: Run) -> tuple[int, int]:
    try:
        facts = run.checkpoint.stat()
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_ino
