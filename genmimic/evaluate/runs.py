# SPDX-License-Identifier: Apache-2.0
"""What a run or an evaluation has left in its folder, found and read: for reports and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import InputFileError
from genmimic.core.robot import Robot
from genmimic.evaluate.metrics import rollout_metrics
from genmimic.evaluate.report import (
    FIGURE_NAME,
    REPORT_NAME,
    TRAJECTORY_NAME,
    build_report,
    load_report,
    load_trajectory,
    motion_entry,
    track_of,
)
from genmimic.record.reader import RECORDING_NAME, Recording
from genmimic.record.trajectory import Log, log_of, takes


@dataclass(frozen=True)
class Run:
    """A run or an evaluation.

    Attributes:
        name: For people.
        folder: Where it was found.
        report: As `genmimic.evaluate.report.build_report` makes it.
        trajectory: Of the one rollout that was kept; None for an evaluation, or when none was.
        picture: Of it.
        recording: None when there is none.
        log: What the recording tells; None without one.
    """

    name: str
    folder: Path
    report: dict[str, Any]
    trajectory: dict[str, np.ndarray] | None = None
    picture: Path | None = None
    recording: Recording | None = None
    log: Log | None = None

    @property
    def is_evaluation(self) -> bool:
        """Whether it is rollouts without ROS."""
        return bool(self.report.get("kind") == "evaluation")

    def kept(self, entry: Mapping[str, Any]) -> list[Path]:
        """Return the folders of an evaluation's kept rollouts of one motion that are still there."""
        folders = [self.folder / str(name) for name in entry.get("kept", ())]
        return [folder for folder in folders if (folder / TRAJECTORY_NAME).is_file()]


def load_run(path: str | Path, robot: Robot, recording: bool = True) -> Run:
    """Read a run or an evaluation: its folder, its ``report.json``, or a recording alone.

    A recording without a report is judged here: the same metrics, from what was recorded.

    Args:
        path: Of the folder or file.
        robot: The robot.
        recording: Read the recording, too, where there is one; seconds for a long one.

    Raises:
        InputFileError: There is nothing to be read, or it is damaged.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if path.suffix == ".mcap" or (path.is_dir() and not (path / REPORT_NAME).is_file()):
        if path.is_dir() and not (path / RECORDING_NAME).is_file():
            raise InputFileError(f"{path}: no {REPORT_NAME} and no {RECORDING_NAME} in this folder")
        return _recorded_run(path, folder, robot)
    report = load_report(path)
    trajectory = load_trajectory(folder, robot) if (folder / TRAJECTORY_NAME).is_file() else None
    if trajectory is not None and not _belongs(trajectory, report, robot):
        trajectory = None  # an earlier run's, in the same folder
    picture = folder / FIGURE_NAME if trajectory is not None and (folder / FIGURE_NAME).is_file() else None
    found = Recording(folder) if recording and (folder / RECORDING_NAME).is_file() else None
    log = log_of(found) if found is not None else None
    return Run(folder.resolve().name, folder, report, trajectory, picture, found, log)


def _belongs(trajectory: dict[str, np.ndarray], report: Mapping[str, Any], robot: Robot) -> bool:
    """Whether a trajectory is of one of the report's rollouts, as its error tells."""
    error = rollout_metrics(track_of(trajectory), robot)["lmpkpe_nt_cm"]
    known = [one.get("lmpkpe_nt_cm") for entry in report["motions"] for one in entry.get("each", ())]
    return any(abs(float(value) - error) < 0.05 for value in known if value is not None)


def _recorded_run(path: Path, folder: Path, robot: Robot) -> Run:
    """Make the report of a run from its recording alone."""
    recording = Recording(path)
    log = log_of(recording)
    rollouts: list[dict[str, Any]] = []
    trajectories = []
    name = ""
    for take in takes(recording):
        name = take.motion
        trajectory = take.trajectory(robot)
        if trajectory is None:
            continue
        metrics = dict(rollout_metrics(track_of(trajectory), robot))
        if not take.has_truth:  # nobody knows where the robot was
            metrics.update(dict.fromkeys(("sr", "mpkpe_cm", "mpkpe_nt_cm", "drift_m"), float("nan")))
        falls = np.flatnonzero(trajectory["fell"])
        fell_at_s = float(trajectory["t"][falls[0]]) if len(falls) else None
        rollouts.append({**metrics, "outcome": "damped" if take.damped else "done", "fell_at_s": fell_at_s})
        trajectories.append(trajectory)
    inside = recording.report
    if inside is not None and inside.get("format"):
        report = inside
    else:
        facts = recording.facts.get("genmimic", {})
        report = build_report(
            [motion_entry(name or facts.get("motion", "unknown"), rollouts)],
            policy=facts.get("policy", "unknown"),
            policy_sha256=facts.get("policy_sha256", ""),
            seed=0,
            noise="unknown",
            robot=facts.get("robot", "unknown"),
            reason="" if rollouts else "the motion never began",
            **_timing(log),
        )
        report["success"] = bool(rollouts) and all(each["fell_at_s"] is None for each in rollouts)
    worst = max(
        range(len(rollouts)), key=lambda n: (not rollouts[n]["no_fall"], rollouts[n]["lmpkpe_nt_cm"]), default=0
    )
    trajectory = trajectories[worst] if trajectories else None
    picture = folder / FIGURE_NAME if path.is_dir() and (folder / FIGURE_NAME).is_file() else None
    label = recording.path.name if path.is_file() else folder.resolve().name
    return Run(label, folder, report, trajectory, picture, recording, log)


def _timing(log: Log) -> dict[str, Any]:
    if not len(log.tick_period_ms):
        return {}
    named = (
        ("period_ms", log.tick_period_ms),
        ("compute_ms", log.tick_compute_ms),
        ("latency_ms", log.tick_latency_ms),
    )
    found: dict[str, Any] = {}
    for name, values in named:
        known = values[np.isfinite(values)]
        p50, p99 = np.percentile(known, [50, 99]) if len(known) else (np.nan, np.nan)
        top = float(known.max()) if len(known) else np.nan
        found[name] = {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(top, 3)}
    return {**found, "ticks": log.ticks, "missed": log.missed, "late_5ms": log.late_5ms}
