# SPDX-License-Identifier: Apache-2.0
"""Reports of rollouts: ``report.json``, ``trajectory.npz`` and a picture; written whole or not at all, read strictly.

Simulated and real-time runs write the same files, so whatever looks at one looks at both.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from genmimic import __version__
from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.files import whole_file, write_whole
from genmimic.core.motion import read_npz, write_npz
from genmimic.core.robot import Robot
from genmimic.core.rotation import heading, rotate_heading, wrap_angle
from genmimic.evaluate.metrics import (
    LOCAL_SUCCESS_CM,
    METRICS,
    RATES,
    ErrorCurves,
    RolloutTrack,
    error_curves,
    summarize,
)

REPORT_FORMAT = "genmimic-report/1"
REPORT_NAME, TRAJECTORY_NAME, FIGURE_NAME = "report.json", "trajectory.npz", "rollout.png"

SUCCESS_NO_FALL = 0.97
"""A run is a success when at least this share of its rollouts ends without a fall. Ours."""

MAX_REPORT_BYTES = 64 * 1024 * 1024
MAX_TRAJECTORY_BYTES = 1024 * 1024 * 1024

_SNAPSHOTS = 8
_GOAL_COLOUR, _ROBOT_COLOUR, _FALL_COLOUR = "#19a05a", "#1f3f77", "#c0392b"


# the report ------------------------------------------------------------------------------------
def motion_entry(motion: str, rollouts: Sequence[Mapping[str, float | bool]], **facts: Any) -> dict[str, Any]:
    """Return the part of a report that is about one motion: ``facts``, the means, and each rollout under ``each``.

    Args:
        motion: Its name.
        rollouts: `rollout_metrics` of each; may hold further entries, such as ``fell_at_s``.
        facts: Whatever else is known of it, plain JSON types.
    """
    summary = summarize(rollouts)
    return {
        "motion": motion,
        **facts,
        **summary,
        "success": summary["no_fall"] is not None and summary["no_fall"] >= SUCCESS_NO_FALL,
        "each": [dict(rollout) for rollout in rollouts],
    }


def build_report(
    motions: Sequence[dict[str, Any]],
    *,
    policy: str,
    policy_sha256: str,
    seed: int,
    noise: str,
    randomize: str = "none",
    **facts: Any,
) -> dict[str, Any]:
    """Return a whole report from its `motion_entry` parts; ``facts`` are further top-level entries, plain JSON."""
    everything = [rollout for entry in motions for rollout in entry["each"]]
    total = summarize(everything)
    return _plain(
        {
            "format": REPORT_FORMAT,
            "motion": str(motions[0]["motion"]) if len(motions) == 1 else f"{len(motions)} motions",
            "policy": policy,
            "policy_sha256": policy_sha256,
            "seed": seed,
            "noise": noise,
            "randomize": randomize,
            **facts,
            "versions": versions(),
            "success": bool(everything) and total["no_fall"] >= SUCCESS_NO_FALL,
            "total": total,
            "motions": list(motions),
        }
    )


def versions() -> dict[str, str]:
    """Return the versions of what computed a result."""
    found = {"genmimic": __version__, "python": platform.python_version(), "numpy": np.__version__}
    for name in ("mujoco", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_report(folder: str | Path, report: Mapping[str, Any]) -> Path:
    """Write ``report.json`` into ``folder``, which is made when missing; return its path.

    Raises:
        ConfigError: The report lacks a required entry.
        InputFileError: The folder cannot be made or written.
    """
    report = _plain(dict(report))
    check_report(report, "report", ConfigError)
    path = _make_folder(folder) / REPORT_NAME
    write_whole(path, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    return path


def load_report(path: str | Path) -> dict[str, Any]:
    """Read and check a report: the file, or the folder that holds it.

    Raises:
        InputFileError: It is missing, damaged, of another format, or an entry is missing or of a wrong type.
    """
    path = Path(path)
    if path.is_dir():
        path = path / REPORT_NAME
    if not path.is_file():
        raise InputFileError(f"{path}: no such report")
    if path.stat().st_size > MAX_REPORT_BYTES:
        raise InputFileError(f"{path}: {path.stat().st_size} bytes, limit {MAX_REPORT_BYTES}")
    try:
        report = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InputFileError(f"{path}: not a whole JSON file ({error})") from None
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror})") from None
    check_report(report, str(path), InputFileError)
    return report


def check_report(report: Any, where: str, error: type[Exception] = ConfigError) -> None:
    """Raise ``error``, naming ``where`` and the entry, unless all required entries are there, in the right types."""
    if not isinstance(report, dict):
        raise error(f"{where}: is a JSON {type(report).__name__}, expected an object")
    if report.get("format") != REPORT_FORMAT:
        raise error(f"{where}: format is {report.get('format')!r}, expected {REPORT_FORMAT!r}")
    kinds = {
        "motion": str, "policy": str, "policy_sha256": str, "seed": int, "noise": str, "randomize": str,
        "versions": dict, "success": bool, "total": dict, "motions": list,
    }  # fmt: skip
    for name, kind in kinds.items():
        _expect(report, name, kind, where, error)
    _check_summary(report["total"], f"{where}: total", error)
    for number, entry in enumerate(report["motions"]):
        here = f"{where}: motions[{number}]"
        if not isinstance(entry, dict):
            raise error(f"{here} is {type(entry).__name__}, expected an object")
        _expect(entry, "motion", str, here, error)
        _expect(entry, "success", bool, here, error)
        _check_summary(entry, here, error)


def _check_summary(summary: dict[str, Any], where: str, error: type[Exception]) -> None:
    _expect(summary, "rollouts", int, where, error)
    for name in METRICS:
        if name not in summary:
            raise error(f"{where}: {name!r} is missing")
        value = summary[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < math.inf:
            raise error(f"{where}: {name} is {value!r}, expected a number from 0 or null")
        if name in RATES and value > 1.0:
            raise error(f"{where}: {name} is {value!r}, expected 0 to 1")


def _expect(values: dict[str, Any], name: str, kind: type, where: str, error: type[Exception]) -> None:
    if name not in values:
        raise error(f"{where}: {name!r} is missing")
    value = values[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise error(f"{where}: {name} is {type(value).__name__}, expected {kind.__name__}")


# the trajectory --------------------------------------------------------------------------------
def trajectory_fields(robot: Robot) -> dict[str, tuple[int, ...]]:
    """Return the fields of ``trajectory.npz`` with a row per control step, and the shape of a row.

    ``t`` in s; ``joint_pos`` in rad; ``root_pos``, ``keypoint_pos``, ``goal_keypoint_pos`` in m, world;
    ``root_quat``, ``goal_root_quat`` wxyz; ``action`` as the policy gave it; ``torque`` in N m; ``fell``
    whether the robot lay or was about to. Beside them ``motion_frames`` (2,): the first step of the
    motion itself and the one after its last, as before and after come standing and blending.
    """
    joints, keypoints = robot.num_joints, robot.num_keypoints
    return {
        "t": (), "joint_pos": (joints,), "root_pos": (3,), "root_quat": (4,), "keypoint_pos": (keypoints, 3),
        "goal_keypoint_pos": (keypoints, 3), "goal_root_quat": (4,), "action": (joints,), "torque": (joints,),
        "fell": (),
    }  # fmt: skip


def load_trajectory(path: str | Path, robot: Robot) -> dict[str, np.ndarray]:
    """Read and check a ``trajectory.npz``: the file, or the folder that holds it.

    Raises:
        InputFileError: It is missing or damaged, or a field is missing, of a wrong shape or not finite.
    """
    path = Path(path)
    if path.is_dir():
        path = path / TRAJECTORY_NAME
    arrays = read_npz(path, MAX_TRAJECTORY_BYTES)
    _check_trajectory(arrays, robot, str(path), InputFileError)
    kept: dict[str, np.ndarray] = {
        name: arrays[name].astype(float) for name in trajectory_fields(robot) if name != "fell"
    }
    return {**kept, "fell": arrays["fell"].astype(bool), "motion_frames": arrays["motion_frames"].astype(int)}


def write_trajectory(folder: str | Path, trajectory: Mapping[str, np.ndarray], robot: Robot) -> Path:
    """Write ``trajectory.npz`` into ``folder``, which is made when missing; return its path.

    Raises:
        ConfigError: A field is missing, of a wrong shape or not finite.
    """
    _check_trajectory(trajectory, robot, "trajectory", ConfigError)
    arrays = {
        name: np.asarray(trajectory[name], bool if name == "fell" else np.float32) for name in trajectory_fields(robot)
    }
    arrays["t"] = np.asarray(trajectory["t"], float)
    arrays["motion_frames"] = np.asarray(trajectory["motion_frames"], int)
    path = _make_folder(folder) / TRAJECTORY_NAME
    write_npz(path, arrays)
    return path


def _check_trajectory(arrays: Mapping[str, np.ndarray], robot: Robot, where: str, error: type[Exception]) -> None:
    for name in (*trajectory_fields(robot), "motion_frames"):
        if name not in arrays:
            raise error(f"{where}: field {name!r} is missing")
    steps = np.size(arrays["t"])
    shapes = {name: (steps, *row) for name, row in trajectory_fields(robot).items()}
    for name, shape in {**shapes, "motion_frames": (2,)}.items():
        array = np.asarray(arrays[name])
        if array.shape != shape or array.dtype.kind not in "biuf":
            raise error(f"{where}: {name} is {array.dtype} of shape {array.shape}, expected numbers of shape {shape}")
        if not np.isfinite(array).all():
            raise error(f"{where}: {name} holds a number that is not finite")
    start, end = (int(value) for value in arrays["motion_frames"])
    if not 0 <= start < min(end, steps):
        raise error(f"{where}: motion_frames are {start} to {end}, expected a part of the {steps} steps")


def track_of(trajectory: Mapping[str, np.ndarray]) -> RolloutTrack:
    """Return what the metrics judge: the motion's own frames of a recorded trajectory."""
    start, end = (int(value) for value in trajectory["motion_frames"])
    falls = np.flatnonzero(trajectory["fell"])
    own = slice(start, end)
    return RolloutTrack(
        t=trajectory["t"][own],
        keypoint_pos=trajectory["keypoint_pos"][own],
        root_quat=trajectory["root_quat"][own],
        goal_keypoint_pos=trajectory["goal_keypoint_pos"][own],
        goal_root_quat=trajectory["goal_root_quat"][own],
        fell_at=int(falls[0]) - start if len(falls) else None,
    )


# a run's folder --------------------------------------------------------------------------------
def write_rollout_report(
    folder: str | Path, report: Mapping[str, Any], trajectory: Mapping[str, np.ndarray], robot: Robot, title: str
) -> None:
    """Write one run: ``trajectory.npz``, ``rollout.png`` and, last, ``report.json``.

    Args:
        folder: Made when missing.
        report: As `build_report` makes it.
        trajectory: As `trajectory_fields` says.
        robot: The robot.
        title: Over the picture.
    """
    write_trajectory(folder, trajectory, robot)
    plot_rollout(Path(folder) / FIGURE_NAME, trajectory, robot, title)
    write_report(folder, report)


def plot_rollout(path: str | Path, trajectory: Mapping[str, np.ndarray], robot: Robot, title: str) -> None:
    """Draw robot and goal over time into a PNG file: stick figures, then the errors.

    The figures are seen from the goal's front and from its right side, robot and goal with their pelvises over
    each other, so that poses, heading and falls can be compared; the distance between them is a curve.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    whole = {**trajectory, "motion_frames": np.array([0, len(trajectory["t"])])}
    track = track_of(whole)
    curves = error_curves(track, robot)
    steps = np.unique(np.linspace(0, len(track.t) - 1, _SNAPSHOTS).round().astype(int))

    figure = Figure(figsize=(14.0, 8.8), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(4, len(steps), height_ratios=(2.1, 2.1, 1.45, 1.45), hspace=0.2, wspace=0.0,
                               left=0.06, right=0.985, top=0.905, bottom=0.065)  # fmt: skip
    figure.suptitle(title, x=0.06, ha="left", fontsize=15, fontweight="bold")
    _legend(figure)
    for column, step in enumerate(steps):
        _draw_figures(figure, grid, column, track, robot, int(step))
    _draw_errors(figure, grid, track, curves, trajectory, track.t[steps])
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=_ROBOT_COLOUR, lw=2.4, label="robot"),
        Line2D([], [], color=_GOAL_COLOUR, lw=2.4, label="goal"),
    ]
    figure.legend(handles=lines, loc="upper right", bbox_to_anchor=(0.99, 0.99), ncol=2, frameon=False, fontsize=11)


def _draw_figures(figure: Any, grid: Any, column: int, track: RolloutTrack, robot: Robot, step: int) -> None:
    from matplotlib.collections import LineCollection

    turn = -heading(track.goal_root_quat[step])
    bodies = []
    for points in (track.goal_keypoint_pos[step], track.keypoint_pos[step]):
        bodies.append(rotate_heading(turn, points - points[0] * [1.0, 1.0, 0.0]))
    fallen = track.fell_at is not None and step >= track.fell_at
    # from the front, the robot's left (+y) is on the right; from its right side, forward (+x) is on the right
    for row, (view, axis) in enumerate((("front", 1), ("side", 0))):
        panel = figure.add_subplot(grid[row, column])
        panel.set_xlim(-0.62, 0.62)
        panel.set_ylim(-0.05, 1.42)
        panel.set_aspect("equal")
        panel.set_xticks([])
        panel.set_yticks([])
        for side in panel.spines.values():
            side.set_visible(False)
        panel.axhline(0.0, color="#8a8a8a", lw=1.0, zorder=0)
        colours = (_GOAL_COLOUR, _FALL_COLOUR if fallen else _ROBOT_COLOUR)
        for body, colour, width, alpha in zip(bodies, colours, (4.0, 2.0), (0.75, 1.0), strict=True):
            across = body[:, axis]
            lines = np.stack([across, body[:, 2]], -1)[np.array(bones_of(robot))]
            panel.add_collection(LineCollection(list(lines), colors=colour, lw=width, alpha=alpha, capstyle="round"))
            ends = robot.keypoint_idx(["head", "left_hand", "right_hand"])
            panel.scatter(across[ends], body[ends, 2], s=(70.0, 16.0, 16.0), color=colour, alpha=alpha, lw=0.0)
        if row == 0:
            panel.set_title(f"{track.t[step]:.1f} s", fontsize=10, color=_FALL_COLOUR if fallen else "#333333", pad=2)
        if column == 0:
            panel.set_ylabel(f"{view} view", fontsize=10)


def _draw_errors(
    figure: Any,
    grid: Any,
    track: RolloutTrack,
    curves: ErrorCurves,
    trajectory: Mapping[str, np.ndarray],
    shown: np.ndarray,
) -> None:
    start, end = (int(value) for value in trajectory["motion_frames"])
    last = len(track.t) - 1
    turn = np.degrees(np.abs(wrap_angle(heading(track.root_quat) - heading(track.goal_root_quat))))
    apart = track.keypoint_pos[:, 0, :2] - track.goal_keypoint_pos[:, 0, :2]

    pose = figure.add_subplot(grid[2, :])
    pose.plot(track.t, 100 * curves.local, color=_ROBOT_COLOUR, lw=1.8, label="all keypoints")
    pose.plot(track.t, 100 * curves.hands, color="#d98017", lw=1.5, label="hands")
    pose.axhline(LOCAL_SUCCESS_CM, color="#777777", lw=0.9, ls="--")
    pose.set_ylabel("aligned\npose error (cm)", fontsize=9)
    pose.set_ylim(0.0, max(1.15 * 100 * float(max(curves.local.max(), curves.hands.max())), 1.2 * LOCAL_SUCCESS_CM))
    pose.tick_params(labelbottom=False)

    place = figure.add_subplot(grid[3, :], sharex=pose)
    place.plot(track.t, 100 * np.linalg.norm(apart, axis=-1), color="#5b2a86", lw=1.8, label="drift of the pelvis (cm)")
    place.plot(track.t, turn, color="#2a8c86", lw=1.5, label="heading error (deg)")
    place.set_ylabel("place", fontsize=9)
    place.set_xlabel("time (s)    grey: standing and blending, not judged    triangles: the pictures above", fontsize=9)
    place.set_ylim(bottom=0.0)
    for panel in (pose, place):
        panel.set_xlim(track.t[0], track.t[-1])
        panel.grid(color="#e6e6e6", lw=0.8)
        panel.set_axisbelow(True)
        for name in ("top", "right"):
            panel.spines[name].set_visible(False)
        for first, stop in ((0, start), (min(end, last), last)):  # standing and blending are not judged
            if stop > first:
                panel.axvspan(track.t[first], track.t[stop], color="#f1f1f1", zorder=0, lw=0)
        if track.fell_at is not None:
            at = float(track.t[max(min(track.fell_at, last), 0)])
            panel.axvline(at, color=_FALL_COLOUR, lw=1.6)
            if panel is pose:
                panel.annotate(f"fell at {at:.2f} s", (at, 0.98), xycoords=("data", "axes fraction"), xytext=(4, 0),
                               textcoords="offset points", va="top", color=_FALL_COLOUR, fontsize=9)  # fmt: skip
        panel.plot(shown, np.zeros(len(shown)), "^", color="#555555", ms=4, clip_on=False, zorder=5)
        panel.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), frameon=False, fontsize=9, ncol=2, borderpad=0.0)


def bones_of(robot: Robot) -> list[tuple[int, int]]:
    """Return the pairs of keypoints to join by a line: each with its parent in the tree."""
    of_link: dict[str, int] = {}
    for idx, keypoint in enumerate(robot.keypoints):
        of_link.setdefault(keypoint.link, idx)  # links come before head and hands
    parent = {link.name: link.parent for link in robot.links}
    bones = []
    for idx, keypoint in enumerate(robot.keypoints):
        above = keypoint.link if of_link[keypoint.link] != idx else parent[keypoint.link]
        if above is not None:
            bones.append((of_link[above], idx))
    return bones


# files -----------------------------------------------------------------------------------------
def _make_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"{folder}: cannot be made a folder ({error.strerror})") from None
    return folder


def _plain(value: Any) -> Any:
    """Return the same with NumPy scalars as Python's, tuples as lists, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
