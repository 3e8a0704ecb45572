# SPDX-License-Identifier: Apache-2.0
"""Looking at retargeting: the person and the robot at the same moments, and how far apart they are over time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.check.pictures import Section, label_axis, save_figure
from genmimic.core.errors import MissingDependencyError
from genmimic.core.human import HumanMotion
from genmimic.core.kinematics import sole_positions
from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.core.rotation import heading
from genmimic.retarget.human import HumanRetarget

MOMENTS_NAME, PLOTS_NAME = "moments.png", "retarget.png"

_PARTS = (
    ("hands", ("left_hand", "right_hand"), "#d0572b"), ("elbows", ("left_elbow", "right_elbow"), "#e0a030"),
    ("knees", ("left_knee", "right_knee"), "#2c8c53"), ("feet", ("left_ankle_roll", "right_ankle_roll"), "#1f5fa8"),
)  # fmt: skip
_BONES = (
    ("left", ("shoulder", "elbow", "wrist")), ("right", ("shoulder", "elbow", "wrist")),
    ("left", ("hip", "knee", "ankle")), ("right", ("hip", "knee", "ankle")),
)  # fmt: skip
_SIDE_COLOURS = {"left": "#d0572b", "right": "#1f5fa8"}
_TILE = (240, 300)

Frame = Callable[[float], np.ndarray | None]
"""A picture, uint8 (H, W, 3), of the source at a time in s; None where there is none."""


def save_moments(
    path: str | Path, robot: Robot, person: HumanMotion, motion: Motion, frame_at: Frame | None = None, count: int = 7
) -> None:
    """Draw the person, and the robot, at ``count`` moments side by side; above them the source's pictures where given.

    Person and robot are seen from the front of where they face at the start; the person's left is orange. Where there
    is no OpenGL, the robot is drawn as sticks.

    Raises:
        InputFileError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    times = np.linspace(0.0, max(0.0, min(person.duration, motion.duration) - 1e-6), count)
    images = [] if frame_at is None else [frame_at(float(t)) for t in times]
    shapes = [image.shape[0] / image.shape[1] for image in images if image is not None]
    heights = [*(shapes[:1]), 1.3, _TILE[1] / _TILE[0]]  # over the width of a picture
    figure = Figure(figsize=(2.0 * count, 2.0 * sum(heights) + 0.4), layout="constrained")
    axes = figure.subplots(len(heights), count, squeeze=False, height_ratios=heights)
    for axis in axes.ravel():
        axis.set_axis_off()
    if shapes:
        for axis, image in zip(axes[0], images, strict=True):
            if image is not None:
                axis.imshow(image)
    turn = -_facing(person)
    size = float(np.ptp(person.joint_pos[0, :, 2]))
    for axis, t in zip(axes[-2], times, strict=True):
        axis.set_title(f"{t:.1f} s", fontsize=9)
        _person(axis, person, min(round(t * person.fps), len(person) - 1), turn, size)
    _robots(axes[-1], robot, motion, times)
    save_figure(figure, path)


def retarget_sections(
    folder: Path, robot: Robot, person: HumanMotion, retargeted: HumanRetarget, motion: Motion
) -> list[Section]:
    """Write the pictures of retargeting into ``folder`` and return them as parts of the page."""
    save_moments(folder / MOMENTS_NAME, robot, person, motion)
    save_retarget_plots(folder / PLOTS_NAME, robot, retargeted)
    return [
        Section("From the person to the robot", folder / MOMENTS_NAME),
        Section("Retargeting", folder / PLOTS_NAME),
    ]


def _facing(person: HumanMotion) -> float:
    """Heading in rad at the start, from the hips."""
    left = person.pos("left_hip")[0] - person.pos("right_hip")[0]
    return float(np.arctan2(-left[0], left[1]))


def _person(axis: Any, person: HumanMotion, frame: int, turn: float, size: float) -> None:
    def at(name: str) -> np.ndarray:
        pos = person.pos(name)[frame] - middle
        return np.array([np.sin(turn) * pos[0] + np.cos(turn) * pos[1], pos[2]])

    middle = 0.5 * (person.pos("left_hip")[frame] + person.pos("right_hip")[frame]) * [1.0, 1.0, 0.0]
    chains = [(_SIDE_COLOURS[side], [f"{side}_{part}" for part in parts]) for side, parts in _BONES]
    chains += [("#555555", ["left_shoulder", "right_shoulder", "right_hip", "left_hip", "left_shoulder"])]
    for side, colour in _SIDE_COLOURS.items():
        for toe in ("toe", "foot"):
            if person.has(f"{side}_{toe}"):
                chains.append((colour, [f"{side}_ankle", f"{side}_{toe}"]))
                break
    for colour, names in chains:
        axis.plot(*np.array([at(name) for name in names]).T, color=colour, lw=2.0, solid_capstyle="round")
    axis.axhline(0.0, color="#bbbbbb", lw=0.8)
    axis.set_xlim(-0.5 * size, 0.5 * size)
    axis.set_ylim(-0.05 * size, 1.25 * size)
    axis.set_aspect("equal")


def _robots(axes: Any, robot: Robot, motion: Motion, times: np.ndarray) -> None:
    from genmimic.sim.render import OffscreenRenderer

    frames = [min(round(t * motion.fps), len(motion) - 1) for t in times]
    try:
        with OffscreenRenderer(robot, width=_TILE[0], height=_TILE[1], shadows=False) as renderer:
            for axis, frame in zip(axes, frames, strict=True):
                axis.imshow(
                    renderer.render(
                        motion.root_pos[frame], motion.root_quat[frame], motion.joint_pos[frame], camera="front"
                    )
                )
    except MissingDependencyError:
        turn = -float(heading(motion.root_quat[0]))
        for axis, frame in zip(axes, frames, strict=True):
            for name, parts in _BONES:
                links = {"wrist": "hand", "ankle": "ankle_roll", "shoulder": "shoulder_roll", "hip": "hip_roll"}
                idx = robot.keypoint_idx([f"{name}_{links.get(part, part)}" for part in parts])
                pos = motion.keypoint_pos[frame, idx] - motion.root_pos[frame] * [1.0, 1.0, 0.0]
                axis.plot(np.sin(turn) * pos[:, 0] + np.cos(turn) * pos[:, 1], pos[:, 2], color=_SIDE_COLOURS[name])
            axis.set_xlim(-0.7, 0.7)
            axis.set_ylim(-0.1, 1.5)
            axis.set_aspect("equal")


def save_retarget_plots(path: str | Path, robot: Robot, retargeted: HumanRetarget) -> None:
    """Draw over time how far the robot is from what the person's pose asks of it, and how its soles move.

    Raises:
        InputFileError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    motion, wanted = retargeted.motion, retargeted.targets
    t = np.arange(len(motion)) / motion.fps
    figure = Figure(figsize=(13.0, 5.6), layout="constrained")
    error, soles = figure.subplots(2, 1, sharex=True)
    for name, keypoints, colour in _PARTS:
        idx = robot.keypoint_idx(keypoints)
        ours = motion.keypoint_pos[:, idx] - motion.keypoint_pos[:, :1]
        off = np.linalg.norm(ours - (wanted.pos[:, idx] - wanted.pos[:, :1]), axis=-1).max(-1)
        error.plot(t, 100.0 * off, color=colour, lw=1.2, label=name)
    label_axis(error, "distance from the person's pose, the worse side, pelvis aligned", "cm")
    places = sole_positions(robot, motion.root_pos, motion.root_quat, motion.joint_pos).reshape(len(motion), 2, -1, 3)
    speed = np.linalg.norm(np.diff(places.mean(2)[..., :2], axis=0), axis=-1) * motion.fps
    for foot, (name, colour) in enumerate(_SIDE_COLOURS.items()):
        soles.plot(t, 100.0 * places[:, foot, :, 2].min(-1), color=colour, lw=1.4, label=f"{name} sole, height, cm")
        standing = retargeted.contacts[1:, foot] & retargeted.contacts[:-1, foot]
        soles.plot(
            t[1:], np.where(standing, 100.0 * speed[:, foot], np.nan), ":", color=colour, lw=1.4,
            label="its speed while it stands, cm/s",
        )  # fmt: skip
    label_axis(soles, "soles", "")
    soles.set_xlabel("time, s")
    soles.set_xlim(t[0], t[-1])
    save_figure(figure, path)
