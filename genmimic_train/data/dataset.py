# SPDX-License-Identifier: Apache-2.0
"""Build a training set from any mix of sources: retarget, check, sort out, split, compose.

A set is a folder: ``train/*.npz``, ``test/*.npz`` (a tenth of the clips, never trained on) and ``dataset.json``,
which says of each source what became of it and why.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, GenMimicError, InputFileError
from genmimic.core.files import write_whole
from genmimic.core.motion import Motion, load_motion, save_motion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic_train.data.balance import OffBalanceError, balanced
from genmimic_train.data.composite import composite
from genmimic_train.data.gestures import STYLES as GESTURE_STYLES
from genmimic_train.data.gestures import gesture
from genmimic_train.data.walks import STYLES as WALK_STYLES
from genmimic_train.data.walks import walk

SAME_CORRELATION = 0.7
"""Clips of one length whose joint angles move together like this are one performance. Measured: the same one retargeted
by two programs 0.76 to 0.97 (28 clips of ASAP); other clips up to 0.63, but for two levels of one jump, up to 0.78."""

DATASET_FORMAT = "genmimic-dataset/1"
PERMISSIVE = ("MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "CC0-1.0", "CC BY 4.0", "CMU (free for all uses)")
"""Licences under which a policy may be released; anything else, unknown ones included, is not permissive."""

_SUFFIXES = (".pkl", ".npz", ".csv", ".bvh", ".amc", ".npy")
_LISTINGS = ("index.json",)


@dataclass(frozen=True)
class DatasetOptions:
    """What goes into a set.

    Attributes:
        permissive: Leave out clips whose licence does not allow a released policy (`PERMISSIVE`).
        max_error_cm: Largest mean retargeting error (paper C.1 sorts by it).
        min_duration_s: Shortest clip.
        check: Leave out clips that the motion gate refuses (`genmimic.check`), without tracking.
        test_share: Part of the clips that is held back, chosen by a hash of their name; of what is made too.
        gestures: Gestures of our own making, of each style.
        walks: Walks of our own making, of each style.
        composites: Arms of one clip over the legs of another, both to train on, as many as this.
        balance: Walk the clips to train on again as physics allows (`genmimic_train.data.balance`), where that can be
            done; what is held back stays as it is.
        seed: Of these three.
    """

    permissive: bool = False
    max_error_cm: float = 8.0
    min_duration_s: float = 1.0
    check: bool = True
    test_share: float = 0.1
    gestures: int = 0
    walks: int = 0
    composites: int = 0
    balance: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_error_cm", 0.0, 1e3), ("min_duration_s", 0.2, 1e4), ("test_share", 0.0, 0.9),
            ("gestures", 0, 10_000), ("walks", 0, 10_000), ("composites", 0, 100_000), ("seed", 0, 2**31),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected {low:g} to {high:g}")


def find_sources(paths: Sequence[str | Path]) -> list[Path]:
    """Return the motion files named by ``paths``, folders searched. Raises InputFileError when there are none."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(
                file for file in path.rglob("*") if file.name.removesuffix(".gz").endswith(_SUFFIXES) and file.is_file()
            )
        elif path.is_file():
            found.append(path)
        else:
            raise InputFileError(f"{path}: no such file or folder")
    if not found:
        raise InputFileError(f"no motions ({', '.join(_SUFFIXES)}) found in {', '.join(map(str, paths))}")
    return list(dict.fromkeys(found))


def read_exclusions(path: str | Path) -> list[str]:
    """Return the clips that a list names: the last word of each line, bare or in `- \\`repository  path\\`` form."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path}: cannot be read ({error})") from None
    listed = re.findall(r"^\s*-\s*`?(.+?)`?\s*$", text, re.M) or text.split("\n")
    return [line.split()[-1] for line in listed if line.strip() and not line.startswith("#")]


def read_any(path: Path, robot: Robot = G1_23DOF) -> Motion:
    """Read a motion of a G1 or of a person, whatever its format, and return it on our robot at 50 Hz.

    Raises:
        GenMimicError: It is neither, or damaged.
    """
    from genmimic.lift import read_human
    from genmimic.retarget.g1_to_g1 import convert_file, index_entry
    from genmimic.retarget.human import retarget_human

    plain = path.name.removesuffix(".gz")
    if not plain.endswith((".bvh", ".amc")):
        try:
            return convert_file(path, robot=robot)
        except GenMimicError as error:
            first = error
    else:
        first = None
    try:
        motion = retarget_human(read_human(path), robot).motion
    except GenMimicError as error:
        raise first or error from None
    entry = index_entry(path)
    if entry is not None:
        told = ("repo", "path", "commit", "licence", "content")
        kept: dict[str, Any] = {key: entry[key] for key in told if key in entry}
        motion = replace(motion, source={**motion.source, **kept})
    return motion


def held_back(name: str, share: float) -> bool:
    """Return whether a clip belongs to the test part: by a hash of its name, so that it does in every set."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF < share


def build_dataset(
    sources: Sequence[str | Path],
    folder: str | Path,
    options: DatasetOptions = DatasetOptions(),  # noqa: B008
    *,
    exclude: Iterable[str] = (),
    jobs: int = -1,
    show: Callable[[int, int], None] | None = None,
    robot: Robot = G1_23DOF,
) -> dict[str, Any]:
    """Write a training set into ``folder``, which must not hold one, and return what ``dataset.json`` says.

    Bulk work goes through joblib: inside ``joblib.parallel_config(backend=...)`` it spreads over Dask or Ray.

    Args:
        sources: Files and folders.
        folder: Where to.
        options: What goes in.
        exclude: Paths, or ends of paths, of clips to leave out, for example those kept for evaluation.
        jobs: As joblib's ``n_jobs``.
        show: Called with how many sources are done, and of how many.
        robot: The robot.

    Raises:
        GenMimicError: No sources, the folder holds a set already or cannot be written, or nothing is left.
    """
    import joblib

    folder = Path(folder)
    if (folder / "dataset.json").exists():
        raise ConfigError(f"{folder} holds a data set already; give another folder or remove it")
    files = find_sources(sources)
    names = _names(files)
    unwanted = tuple(exclude)
    try:
        for part in ("train", "test"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"{folder}: cannot be made ({error.strerror})") from None

    work = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_one)(path, name, folder, options, unwanted, robot)
        for path, name in zip(files, names, strict=True)
    )
    entries: list[dict[str, Any]] = []
    for entry in work:
        entries.append(entry)
        if show is not None:
            show(len(entries), len(files))
    _leave_out_held_back(folder, entries, robot)
    entries += _own(folder, entries, options, robot)
    kept = [entry for entry in entries if entry["split"]]
    if not kept:
        reasons = sorted({entry["reason"] for entry in entries})
        raise ConfigError(f"none of {len(files)} sources is left: {'; '.join(reasons[:3])}")
    record = {
        "format": DATASET_FORMAT,
        "robot": robot.name,
        "options": asdict(options),
        "clips": {part: sum(entry["split"] == part for entry in kept) for part in ("train", "test")},
        "minutes": {
            part: round(sum(entry["duration_s"] for entry in kept if entry["split"] == part) / 60.0, 2)
            for part in ("train", "test")
        },
        "licences": sorted({entry["licence"] for entry in kept}),
        "entries": entries,
    }
    write_whole(folder / "dataset.json", (json.dumps(record, indent=1) + "\n").encode())
    return record


def _names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file: its own without suffixes, with its folder's where two are alike."""

    def stem(path: Path) -> str:
        return re.sub(r"[^A-Za-z0-9_.-]", "_", path.name.removesuffix(".gz").rsplit(".", 1)[0])

    names = [stem(path) for path in files]
    for depth in range(1, 5):
        alike = {name for name in names if names.count(name) > 1}
        if not alike:
            break
        names = [
            f"{re.sub(r'[^A-Za-z0-9_.-]', '_', path.resolve().parts[-1 - depth])}_{name}" if name in alike else name
            for path, name in zip(files, names, strict=True)
        ]
    return [f"{name}_{number}" if names.index(name) != number else name for number, name in enumerate(names)]


def _one(
    path: Path, name: str, folder: Path, options: DatasetOptions, unwanted: tuple[str, ...], robot: Robot
) -> dict[str, Any]:
    """Bring one source over, or say why it is left out."""
    entry: dict[str, Any] = {"name": name, "source": path.name, "split": "", "licence": "unknown", "duration_s": 0.0}
    from genmimic.retarget.g1_to_g1 import index_entry

    known = index_entry(path) or {}
    where = (path.resolve().as_posix(), str(known.get("path", "")))
    if any(place and place.removesuffix(".gz").endswith(end) for place in where for end in unwanted):
        return {**entry, "reason": "on the list of clips to leave out"}
    licence = str(known.get("licence", "unknown"))
    if options.permissive and known and licence not in PERMISSIVE:
        return {**entry, "licence": licence, "reason": f"licence {licence} is not permissive"}
    try:
        motion = read_any(path, robot)
        entry |= {
            "licence": str(motion.source.get("licence", "unknown")),
            "content": str(motion.source.get("content", "")),
            "duration_s": round(motion.duration, 2),
        }
        reason = _unfit(motion, options, robot)
        if reason:
            return {**entry, "reason": reason}
        split = "test" if held_back(name, options.test_share) else "train"
        motion, entry["balanced"] = _settled(motion, split, options, robot)
        save_motion(folder / split / f"{name}.npz", robot, replace(motion, name=name))
    except GenMimicError as error:
        return {**entry, "reason": " ".join(str(error).split())}
    return {**entry, "split": split, "reason": ""}


def _settled(motion: Motion, split: str, options: DatasetOptions, robot: Robot) -> tuple[Motion, str]:
    """Return the motion in balance where that is asked for and can be, and what came of it: yes, or why not."""
    if not options.balance or split == "test":
        return motion, ""
    try:
        settled = balanced(motion, robot)
    except OffBalanceError as error:
        return motion, str(error)
    reason = _unfit(settled, replace(options, permissive=False), robot)
    return (motion, reason) if reason else (settled, "yes")


def _unfit(motion: Motion, options: DatasetOptions, robot: Robot) -> str:
    """Return why a motion is left out, one line; empty when it is fit."""
    licence = str(motion.source.get("licence", "unknown"))
    if options.permissive and licence not in PERMISSIVE:
        return f"licence {licence} is not permissive"
    if motion.duration < options.min_duration_s:
        return f"lasts {motion.duration:.2f} s, less than {options.min_duration_s:g}"
    error = dict(motion.source.get("retarget") or {}).get("error_cm")
    if error is not None and error > options.max_error_cm:
        return f"retargeting error {error:.1f} cm, more than {options.max_error_cm:g}"
    if options.check:
        from genmimic.check import check_motion

        judgement = check_motion(robot, motion).judgement
        if judgement.verdict == "refused":
            worst = max(judgement.findings, key=lambda finding: finding.severity)
            return f"refused by the motion gate: {worst.text}"
    return ""


def _leave_out_held_back(folder: Path, entries: list[dict[str, Any]], robot: Robot) -> None:
    """Take out of the training part what is held back under another name or in another format, or mirrored."""

    def outlines(split: str) -> list[tuple[dict[str, Any], float, np.ndarray]]:
        found = []
        for entry in entries:
            if entry["split"] == split:
                motion = load_motion(folder / split / f"{entry['name']}.npz", robot)
                found.append((entry, motion.duration, _outline(motion.joint_pos)))
        return found

    mirrored = robot.joint_mirror_idx, robot.joint_mirror_sign
    held = [
        (entry, duration, shape)
        for entry, duration, own in outlines("test")
        for shape in (own, own[:, mirrored[0]] * mirrored[1])
    ]
    for entry, duration, own in outlines("train") if held else []:
        for other, length, shape in held:
            alike = abs(duration - length) <= 0.05 * max(duration, length)
            size = float(np.linalg.norm(own) * np.linalg.norm(shape))
            if alike and size > 0.0 and float((own * shape).sum()) > SAME_CORRELATION * size:
                (folder / "train" / f"{entry['name']}.npz").unlink()
                entry |= {"split": "", "reason": f"the same performance as {other['name']}, which is held back"}
                break


def _outline(joint_pos: np.ndarray, points: int = 64) -> np.ndarray:
    """Return joint angles at ``points`` equally spaced moments, less their mean. Shape (points, J)."""
    at = np.linspace(0.0, len(joint_pos) - 1.0, points)
    low = at.astype(int)
    part = (at - low)[:, None]
    values = (1.0 - part) * joint_pos[low] + part * joint_pos[np.minimum(low + 1, len(joint_pos) - 1)]
    return values - values.mean(0)


def _own(folder: Path, entries: list[dict[str, Any]], options: DatasetOptions, robot: Robot) -> list[dict[str, Any]]:
    """Add gestures, walks, and composites of what is to train on; return their entries."""
    made: list[dict[str, Any]] = []

    def add(motion: Motion, split: str) -> None:
        entry = {
            "name": motion.name, "source": "made", "split": "", "licence": str(motion.source["licence"]),
            "content": str(motion.source["content"]), "duration_s": round(motion.duration, 2),
        }  # fmt: skip
        reason = _unfit(motion, replace(options, permissive=False), robot)
        if not reason:
            if entry["content"] not in WALK_STYLES:  # which are in balance
                motion, entry["balanced"] = _settled(motion, split, options, robot)
            save_motion(folder / split / f"{motion.name}.npz", robot, motion)
        made.append({**entry, "split": "" if reason else split, "reason": reason})

    kinds: tuple[tuple[Callable[..., Motion], Iterable[str], int], ...] = (
        (gesture, GESTURE_STYLES, options.gestures),
        (walk, WALK_STYLES, options.walks),
    )
    for make, styles, count in kinds:
        for style in styles:
            for number in range(count):
                motion = make(style, options.seed + number, robot=robot)
                add(motion, "test" if held_back(motion.name, options.test_share) else "train")
    clips = [entry["name"] for entry in entries if entry["split"] == "train"]
    if options.composites and len(clips) < 2:
        raise ConfigError("composites need at least two clips to train on")
    rng = np.random.default_rng(options.seed)
    for _ in range(options.composites):
        first, second = rng.choice(len(clips), 2, replace=False)
        upper, lower = (load_motion(folder / "train" / f"{clips[idx]}.npz", robot) for idx in (first, second))
        motion = composite(robot, upper, lower, start_s=float(rng.uniform(0.0, upper.duration)))
        if motion.name not in {entry["name"] for entry in made}:
            add(motion, "train")
    return made
