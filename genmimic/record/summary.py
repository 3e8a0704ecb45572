# SPDX-License-Identifier: Apache-2.0
"""What is in a recording, in a few lines; and its parts as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genmimic.core.errors import InputFileError
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.evaluate.metrics import rollout_metrics
from genmimic.evaluate.report import track_of, write_trajectory
from genmimic.record.reader import Recording
from genmimic.record.trajectory import log_of, takes


def summary(recording: Recording, robot: Robot = G1_23DOF) -> dict[str, Any]:
    """Return what a recording holds and what happened in it, as plain JSON types; reads all of it."""
    log = log_of(recording)
    performances = []
    for take in takes(recording):
        trajectory = take.trajectory(robot)
        entry: dict[str, Any] = {"motion": take.motion, "damped": take.damped,
                                 "at_s": round(1e-9 * (take.start_ns - recording.span_ns[0]), 3)}  # fmt: skip
        if trajectory is not None:
            metrics = rollout_metrics(track_of(trajectory), robot)
            known = ("no_fall", "lmpkpe_nt_cm", "mpkpe_nt_cm") if take.has_truth else ("no_fall", "lmpkpe_nt_cm")
            entry.update({name: metrics[name] for name in known})
        performances.append(entry)
    return {
        "file": str(recording.path),
        "parts": len(recording.parts),
        "whole": recording.whole,
        "duration_s": round(recording.duration_s, 3),
        "size_mb": round(sum(part.stat().st_size for part in recording.parts) / 1e6, 3),
        "facts": recording.facts,
        "files": {name: len(data) for name, data in recording.attachments.items()},
        "topics": {topic.name: {"type": topic.type, "count": topic.count} for topic in recording.topics.values()},
        "lost": log.lost,
        "events": [{"at_s": round(each.at_s, 3), "mode": each.mode.name, "reasons": list(each.reasons)}
                   for each in log.events],
        "takes": performances,
    }  # fmt: skip


def summary_text(found: dict[str, Any]) -> str:
    """Return the same for people."""
    facts = found["facts"].get("genmimic", {})
    lines = [
        f"{found['file']}: {found['duration_s']:.1f} s, {found['size_mb']:.1f} MB"
        + (f", {found['parts']} files" if found["parts"] > 1 else "")
        + ("" if found["whole"] else "; cut off, whole up to there: genmimic replay RUN --recover OUT.mcap mends it")
    ]
    names = ("started", "motion", "motion_sha256", "policy", "policy_sha256", "robot")
    lines += [f"  {name:<15}{facts[name][:40]}" for name in names if facts.get(name)]
    end = found["facts"].get("genmimic.end", {})
    if "success" in end:
        lines.append(f"  {'success':<15}{end['success']}")
    span = max(found["duration_s"], 1e-9)
    lines += ["", "topics"]
    width = max((len(name) for name in found["topics"]), default=0)
    for name, topic in found["topics"].items():
        lines.append(f"  {name:<{width}}  {topic['count']:>8}  {topic['count'] / span:7.1f} Hz  {topic['type']}")
    lost = {name: count for name, count in found["lost"].items() if count}
    if lost:
        lines.append("  missing: " + ", ".join(f"{count} {name}" for name, count in lost.items()))
    lines += ["", "what happened"]
    for event in found["events"]:
        lines.append(f"  {event['at_s']:9.2f} s  {event['mode']:<9} {'; '.join(event['reasons'])}".rstrip())
    for number, take in enumerate(found["takes"]):
        words = "damped" if take["damped"] else "fell" if take.get("no_fall") is False else "stood"
        error = f", pose error {take['lmpkpe_nt_cm']:.1f} cm" if "lmpkpe_nt_cm" in take else ""
        lines.append(f"  take {number + 1}: {take['motion']} at {take['at_s']:.2f} s, {words}{error}")
    if found["files"]:
        lines += ["", "inside: " + ", ".join(found["files"])]
    return "\n".join(lines)


def extract(recording: Recording, folder: str | Path) -> list[Path]:
    """Write the files inside a recording into ``folder``; return their paths. Raises InputFileError."""
    written = []
    for name, data in recording.attachments.items():
        parts = [part for part in Path(name).parts if part not in ("", ".", "..", "/")]
        if not parts:
            continue
        path = Path(folder).joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise InputFileError(f"{path}: cannot be written ({error.strerror})") from None
        written.append(path)
    return written


def write_trajectories(recording: Recording, folder: str | Path, robot: Robot = G1_23DOF) -> list[Path]:
    """Write each time through the motion as ``trajectory.npz`` in a folder of its own; return their paths.

    With one take, into ``folder`` itself. Raises InputFileError when the motion never began.
    """
    found = [each for take in takes(recording) if (each := take.trajectory(robot)) is not None]
    if not found:
        raise InputFileError(f"{recording.path}: the motion never began; there is no trajectory")
    folders = [Path(folder)] if len(found) == 1 else [Path(folder) / f"take-{n + 1:03d}" for n in range(len(found))]
    return [write_trajectory(place, trajectory, robot) for place, trajectory in zip(folders, found, strict=True)]
