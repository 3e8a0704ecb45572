# SPDX-License-Identifier: Apache-2.0
"""Many rollouts of a policy over many motions, on all cores, into one report."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib

from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.motion import Motion, load_motion
from genmimic.core.noise import NOISE_LEVELS
from genmimic.core.randomization import RANDOMIZATION_LEVELS
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.evaluate.corruption import Corruption, corruption_summaries, parse_corruptions
from genmimic.evaluate.report import build_report, file_sha256, motion_entry, write_report, write_rollout_report
from genmimic.evaluate.rollout import plan, rollout, rollout_seed
from genmimic.policy import Policy, load_policy
from genmimic.sim.simulated_g1 import SimulatedG1

Progress = Callable[[int, int, int], None]
"""Called with the rollouts done, all rollouts, and how many of those done fell."""

_CHUNKS_PER_JOB = 6
"""So that cores finish at about the same time; a chunk costs a plan, about 20 ms."""


@dataclass(frozen=True)
class _Settings:
    """What all rollouts of an evaluation share; travels to the workers."""

    robot: Robot
    policy_path: str
    policy_key: tuple[int, int]
    policy_sha256: str
    noise: str
    randomize: str
    seed: int
    keep: int
    folder: str | None
    corruptions: tuple[Corruption, ...] = ()


@dataclass(frozen=True)
class _Chunk:
    """Some rollouts of one motion."""

    motion_idx: int
    label: str
    motion: Motion
    numbers: tuple[int, ...]
    corruption: Corruption | None = None


def evaluate(
    policy_path: str | Path,
    motion_paths: Sequence[str | Path],
    rollouts: int = 32,
    noise: str = "none",
    randomize: str = "none",
    seed: int = 0,
    jobs: int = -1,
    keep: int = 1,
    report_dir: str | Path | None = None,
    progress: Progress | None = None,
    robot: Robot = G1_23DOF,
    corrupt: Sequence[str] = (),
) -> dict[str, Any]:
    """Track every motion ``rollouts`` times and return the report; the same numbers for any ``jobs``.

    With neither noise nor randomisation nor damage nothing is random, so each motion is tracked once; the report's
    ``rollouts`` says so.

    Args:
        policy_path: An exported policy.
        motion_paths: ``genmimic-motion/1`` files.
        rollouts: Of each motion.
        noise: On what the policy observes: ``none`` or ``paper`` (Table 8).
        randomize: Of the simulated robot, with pushes: ``none`` or ``paper`` (Table 8).
        seed: Rollout i of a motion of some name has the same chance under the same seed.
        jobs: Processes; -1 is one per core.
        keep: Of the first rollouts of each motion, trajectory and picture are written.
        report_dir: Where ``report.json`` and kept rollouts are written; None writes nothing.
        progress: See `Progress`.
        robot: The robot.
        corrupt: Damage to the references, see `parse_corruptions`; each motion is then tracked ``rollouts`` times under
            each, every time damaged anew, and the robot is judged against what it was shown, as in the paper.

    Raises:
        InputFileError, ManifestError: The policy cannot be used.
        InputFileError, MotionError: A motion cannot be used.
        ConfigError: A setting is unknown or out of range.
    """
    _check_settings(rollouts, noise, randomize, seed, jobs, keep)
    if not motion_paths:
        raise ConfigError("no motions given; expected at least one")
    policy = load_policy(policy_path, robot)
    paths = [Path(path) for path in motion_paths]
    motions = [load_motion(path, robot) for path in paths]
    labels = unique_labels([path.stem for path in paths])
    if report_dir is not None:
        _make(report_dir)
    corruptions = parse_corruptions(corrupt)
    if noise == "none" and randomize == "none" and not corruptions:
        rollouts = 1
    status = os.stat(policy_path)
    settings = _Settings(
        robot, str(policy_path), (status.st_mtime_ns, status.st_size), file_sha256(policy_path), noise, randomize, seed,
        keep if report_dir is not None else 0, None if report_dir is None else str(report_dir), corruptions,
    )  # fmt: skip

    variants: tuple[Corruption | None, ...] = corruptions or (None,)
    plays = [
        (path, motion, label if variant is None else f"{label}+{variant.label}", variant)
        for path, motion, label in zip(paths, motions, labels, strict=True)
        for variant in variants
    ]
    chunks = _chunks(
        [motion for _, motion, _, _ in plays], [label for _, _, label, _ in plays], rollouts, jobs,
        [variant for _, _, _, variant in plays],
    )  # fmt: skip
    found: list[dict[int, dict[str, Any]]] = [{} for _ in plays]
    done = fallen = 0
    if progress is not None:
        progress(0, rollouts * len(plays), 0)
    for chunk, results in _spread(settings, chunks, jobs):
        found[chunk].update(results)
        done += len(results)
        fallen += sum(not result["no_fall"] for result in results.values())
        if progress is not None:
            progress(done, rollouts * len(plays), fallen)

    entries = []
    for (path, motion, label, variant), results in zip(plays, found, strict=True):
        kept = [_kept_folder(label, number) for number in range(min(settings.keep, rollouts))]
        facts = {"file": path.name, "duration_s": round(motion.duration, 3), "kept": kept}
        if variant is not None:
            facts["corrupt"] = {"kind": variant.kind, "level": variant.level}
        entries.append(motion_entry(label, [results[number] for number in range(rollouts)], **facts))
    report = build_report(entries, **_facts(settings, policy))
    if corruptions:
        report["corruptions"] = corruption_summaries(corruptions, entries)
    if report_dir is not None:
        write_report(report_dir, report)
    return report


def unique_labels(names: Sequence[str]) -> list[str]:
    """Return the names, those that came before with ``_2``, ``_3`` … behind; each can name a folder."""
    seen: set[str] = set()
    labels = []
    for name in names:
        label, number = name, 1
        while label in seen:
            number += 1
            label = f"{name}_{number}"
        seen.add(label)
        labels.append(label)
    return labels


# workers ---------------------------------------------------------------------------------------
def _run_chunk(settings: _Settings, chunk: _Chunk) -> tuple[int, dict[int, dict[str, Any]]]:
    """Run some rollouts of one motion; return its index, and the metrics by rollout number."""
    robot = settings.robot
    policy = _policy(settings.policy_path, settings.policy_key, robot)
    sim = SimulatedG1(robot)
    planned = plan(robot, chunk.motion)
    results: dict[int, dict[str, Any]] = {}
    for number in chunk.numbers:
        if chunk.corruption is not None:
            planned = plan(robot, chunk.corruption.damage(robot, chunk.motion, settings.seed, chunk.label, number))
        outcome = rollout(
            robot,
            policy,
            planned,
            noise=NOISE_LEVELS[settings.noise],
            randomization=RANDOMIZATION_LEVELS[settings.randomize],
            seed=rollout_seed(settings.seed, chunk.label, number),
            sim=sim,
            goal_frame=policy.manifest.goal_frame,
        )
        results[number] = {"rollout": number, **outcome.metrics, "fell_at_s": outcome.fell_at_s}
        if settings.folder is not None and number < settings.keep:
            entry = motion_entry(chunk.label, [results[number]], duration_s=round(chunk.motion.duration, 3))
            report = build_report([entry], **_facts(settings, policy))
            folder = Path(settings.folder) / _kept_folder(chunk.label, number)
            title = f"{chunk.label}   {policy.name}, noise {settings.noise}, rollout {number}"
            write_rollout_report(folder, report, outcome.trajectory, robot, title)
    return chunk.motion_idx, results


@lru_cache(maxsize=2)
def _policy(path: str, key: tuple[int, int], robot: Robot) -> Policy:
    """Load once per process; ``key`` is the file's time and size, so that a changed file is read again."""
    return load_policy(path, robot)


def _spread(
    settings: _Settings, chunks: Sequence[_Chunk], jobs: int
) -> Iterator[tuple[int, dict[int, dict[str, Any]]]]:
    """Yield the results of the chunks as they come, in any order."""
    if joblib.effective_n_jobs(jobs) == 1 or len(chunks) == 1:
        for chunk in chunks:
            yield _run_chunk(settings, chunk)
        return
    try:
        parallel = joblib.Parallel(n_jobs=jobs, backend="loky", batch_size=1, return_as="generator_unordered")
    except (TypeError, ValueError):  # joblib before 1.4: all results at the end
        parallel = joblib.Parallel(n_jobs=jobs, backend="loky", batch_size=1)
    results: Iterable[Any] = parallel(joblib.delayed(_run_chunk)(settings, chunk) for chunk in chunks)
    yield from results


def _chunks(
    motions: Sequence[Motion],
    labels: Sequence[str],
    rollouts: int,
    jobs: int,
    corruptions: Sequence[Corruption | None],
) -> list[_Chunk]:
    """Return the work in pieces of similar length, the longest first."""
    seconds = sum(motion.duration for motion in motions) * rollouts
    aim = seconds / (joblib.effective_n_jobs(jobs) * _CHUNKS_PER_JOB)
    chunks = []
    for idx, (motion, label, corruption) in enumerate(zip(motions, labels, corruptions, strict=True)):
        size = min(max(math.ceil(aim / max(motion.duration, 1e-3)), 1), rollouts)
        for first in range(0, rollouts, size):
            numbers = tuple(range(first, min(first + size, rollouts)))
            chunks.append(_Chunk(idx, label, motion, numbers, corruption))
    return sorted(chunks, key=lambda chunk: -chunk.motion.duration * len(chunk.numbers))


def _facts(settings: _Settings, policy: Policy) -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "policy": policy.name,
        "policy_sha256": settings.policy_sha256,
        "training": dict(policy.manifest.training),
        "seed": settings.seed,
        "noise": settings.noise,
        "randomize": settings.randomize,
        "corrupt": [corruption.label for corruption in settings.corruptions],
    }


def _kept_folder(label: str, number: int) -> str:
    return f"rollouts/{label}-{number:03d}"


def _make(folder: str | Path) -> None:
    try:
        (Path(folder) / "rollouts").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"{folder}: cannot be made a folder ({error.strerror})") from None


def _check_settings(rollouts: int, noise: str, randomize: str, seed: int, jobs: int, keep: int) -> None:
    for name, value, known in (
        ("noise", noise, NOISE_LEVELS),
        ("randomize", randomize, RANDOMIZATION_LEVELS),
    ):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}; known: {', '.join(known)}")
    for name, number, low in (("rollouts", rollouts, 1), ("seed", seed, 0), ("keep", keep, 0)):
        if number < low:
            raise ConfigError(f"{name} is {number}, expected {low} or more")
    if jobs == 0 or jobs < -1:
        raise ConfigError(f"jobs is {jobs}, expected 1 or more, or -1 for one per core")
