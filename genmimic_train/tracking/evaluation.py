# SPDX-License-Identifier: Apache-2.0
"""How well a policy tracks each clip in the training environment: for teachers, which nothing else can run.

A student's own place is `genmimic evaluate`; here it is judged beside its teacher, on the same robots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.evaluate.corruption import Corruption, corruption_summaries
from genmimic.evaluate.metrics import RolloutTrack, rollout_metrics
from genmimic.evaluate.report import build_report, motion_entry
from genmimic.sim.simulated_g1 import FALLEN_HEIGHT_M, FALLEN_TILT_RAD
from genmimic_train.config import EnvConfig
from genmimic_train.sim.base import Simulator
from genmimic_train.tracking.env import TrackingEnv
from genmimic_train.tracking.gait import GaitMeter, total_gait
from genmimic_train.tracking.motions import MotionLibrary

BATCH = 256
"""Rollouts at a time, at most."""


class ClipEnv(TrackingEnv):
    """Every environment plays the clip that it is given, from its first frame to its last, and never ends early."""

    def __init__(self, clips: torch.Tensor, config: EnvConfig, sim: Simulator, library: MotionLibrary, **options: Any):
        self.clips = clips
        config = replace(
            config,
            num_envs=len(clips),
            episode_s=1e6,
            max_keypoint_error_m=float("inf"),
            max_gravity_xy=float("inf"),
            failure_share=0.0,
        )
        super().__init__(config, sim, library, **options)
        self.episode_length_buf[:] = 0

    def _start_frames(self, idx: torch.Tensor) -> torch.Tensor:
        return self.library.clip_start[self.clips[idx]]

    def _next_clip(self, ended: torch.Tensor) -> None:
        pass  # the last frame stays


def evaluate_in_training(
    actor: Callable[[TensorDict], torch.Tensor],
    config: EnvConfig,
    library: MotionLibrary,
    make_sim: Callable[[int], Simulator],
    *,
    name: str,
    sha256: str = "",
    student: bool = False,
    rollouts: int = 8,
    noise: float = 0.0,
    level: float = 0.0,
    follow_s: float = 0.0,
    seed: int = 0,
    show: Callable[[int, int], None] | None = None,
    corruptions: Sequence[Corruption] = (),
) -> dict[str, Any]:
    """Return a report (`genmimic.evaluate.report`) of ``rollouts`` of each clip, standing to standing.

    Args:
        actor: From the environment's observation groups to actions (N, J).
        config: The environment's.
        library: The clips; without mirror images for a table that people read. With ``corruptions``, damaged ones of
            `damaged_library`.
        make_sim: Makes a simulator for so many robots.
        name: Of the policy, for the report.
        sha256: Of its file, for the report.
        student: Whether the actor reads the student's group.
        rollouts: Of each clip.
        noise: Times Table 8's observation noise.
        level: Of the randomisation and pushes, 0 to 1.
        follow_s: Time constant with which the goal's place follows the robot, as while learning; 0: it stays. With it,
            errors in the world (SR, MPKPE, drift) still count from where the clip began.
        seed: Of all of it.
        show: Called with rollouts done and in all.
        corruptions: What ``library`` was damaged with; the report then has a summary of each.
    """
    clips = torch.arange(len(library.names), device=library.clip_start.device).repeat_interleave(rollouts)
    config = judged(config, noise, level, follow_s)
    each: dict[int, list[dict[str, Any]]] = {clip: [] for clip in range(len(library.names))}
    gaits: dict[int, list[dict[str, float]]] = {clip: [] for clip in range(len(library.names))}
    # the longest first, so that those of a batch end at about the same time
    length = (library.clip_end - library.clip_start)[clips]
    order = torch.argsort(length, descending=True, stable=True)
    for number, batch in enumerate(order.split(BATCH)):
        sim = make_sim(len(batch))
        env = ClipEnv(clips[batch], config, sim, library, with_student=student, seed=seed + number)
        meter = GaitMeter(env)
        for idx, (clip, track) in enumerate(play(actor, env, int(length[batch].max()), meter)):
            each[clip].append(rollout_metrics(track, env.robot))
            gaits[clip].append(meter.of(idx, len(track.t) if track.fell_at is None else track.fell_at))
        if show is not None:
            show(min((number + 1) * BATCH, len(clips)), len(clips))
    entries = []
    for clip, metrics in each.items():
        facts: dict[str, Any] = {"duration_s": round(float(length[clips == clip][0]) / 50.0, 3)}
        facts["gait"] = total_gait(gaits[clip])
        if corruptions:
            corruption = corruptions[clip % len(corruptions)]
            facts["corrupt"] = {"kind": corruption.kind, "level": corruption.level}
        entries.append(motion_entry(library.names[clip], metrics, **facts))
    report = build_report(
        entries,
        policy=name,
        policy_sha256=sha256,
        seed=seed,
        noise="none" if noise == 0.0 else f"{noise:g} x Table 8",
        randomize="none" if level == 0.0 else f"{level:g} x Table 8",
        robot="training",
        corrupt=[corruption.label for corruption in corruptions],
    )
    report["gait"] = total_gait([entry["gait"] for entry in entries])
    if corruptions:
        report["corruptions"] = corruption_summaries(corruptions, entries)
    return report


def damaged_library(
    robot: Robot, motions: Sequence[Motion], corruptions: Sequence[Corruption], seed: int = 0, device: str = "cpu"
) -> MotionLibrary:
    """Return a library of every motion under every corruption, or of the motions as they are when there is none."""
    if not corruptions:
        return MotionLibrary(robot, motions, mirror=False, device=device)
    damaged = []
    for motion in motions:
        for corruption in corruptions:
            name = f"{motion.name}+{corruption.label}"
            damaged.append(replace(corruption.damage(robot, motion, seed, name, 0), name=name))
    return MotionLibrary(robot, damaged, mirror=False, device=device)


def judged(config: EnvConfig, noise: float, level: float, follow_s: float) -> EnvConfig:
    """Return an environment's configuration with what it takes from chance set; arguments as above."""
    return replace(
        config,
        corruption=replace(config.corruption, share=0.0),
        assist=replace(config.assist, start_level=0.0),
        student_noise=(noise, noise),
        teacher_noise=noise,
        student_follow_s=follow_s,
        teacher_follow_s=follow_s,
        randomization=replace(config.randomization, start_level=level, level=level),
    )


def play(
    actor: Callable[[TensorDict], torch.Tensor],
    env: ClipEnv,
    frames: int,
    look: Callable[[int], None] | None = None,
) -> list[tuple[int, RolloutTrack]]:
    """Run one batch for ``frames`` steps; return clip and track of each rollout. ``look`` is called before each."""
    library, count = env.library, env.num_envs
    keypoints: np.ndarray = np.zeros((frames, count, env.robot.num_keypoints, 3), np.float32)
    roots: np.ndarray = np.zeros((frames, count, 4), np.float32)
    fell = np.full(count, frames)
    obs = env.get_observations()
    with torch.inference_mode():
        for step in range(frames):
            keypoints[step] = env.keypoints.pos.cpu().numpy()
            roots[step] = env.root_quat.cpu().numpy()
            down = (env.keypoints.pos[:, 0, 2] < FALLEN_HEIGHT_M) | (env.tilt > FALLEN_TILT_RAD)
            fell = np.where(down.cpu().numpy(), np.minimum(fell, step), fell)
            if look is not None:
                look(step)
            obs, _, done, _ = env.step(actor(obs))
            fell = np.where(done.cpu().numpy() > 0, np.minimum(fell, step), fell)  # the physics broke down
    tracks = []
    for idx, clip in enumerate(env.clips.tolist()):
        first, end = int(library.clip_start[clip]), int(library.clip_end[clip])
        own = end - first
        tracks.append(
            (
                clip,
                RolloutTrack(
                    t=np.arange(own) / 50.0,
                    keypoint_pos=keypoints[:own, idx].astype(float),
                    root_quat=roots[:own, idx].astype(float),
                    goal_keypoint_pos=library.keypoints.pos[first:end].double().cpu().numpy(),
                    goal_root_quat=library.root_quat[first:end].double().cpu().numpy(),
                    fell_at=int(fell[idx]) if fell[idx] < own else None,
                ),
            )
        )
    return tracks
