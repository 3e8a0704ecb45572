# SPDX-License-Identifier: Apache-2.0
"""GenMimicBench as a folder: which film or human motion shows what, by the paper's classes, and robot motions of it.

The paper (appendix C.2) tells what the set is made of, and its project page links it; how its files are laid out,
nothing that we have seen says. So nothing here depends on names of folders: a clip's action is read from a table or a
text beside it, else from its path.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genmimic.core.errors import ConfigError, GenMimicError, InputFileError
from genmimic.core.files import whole_file
from genmimic.core.motion import Motion, place_motion, save_motion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.retarget.pipeline import VIDEO_SUFFIXES, seen_part

SIMPLE, SIMPLE_WALKING = "simple upper body", "simple + locomotion"
COMPOSITE, COMPOSITE_WALKING = "composite upper body", "composite + locomotion"
IN_THE_WILD = "in the wild"
CLASSES = (SIMPLE, SIMPLE_WALKING, COMPOSITE, COMPOSITE_WALKING, IN_THE_WILD)
"""Appendix C.2.1, in its order."""

WAN, COSMOS = "Wan2.1", "Cosmos-Predict2"
SIZES = {(832, 480): WAN, (768, 432): COSMOS}
"""Width and height in pixels of each generator's videos (appendix C.2.2)."""

MOTION_SUFFIXES = (".npz", ".npy", ".pkl", ".pt", ".pth", ".bvh")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
CLASSES_NAME, LIST_NAME = "classes.yaml", "bench.json"
"""What `build` leaves beside the motions."""

_MAX_TEXT_BYTES = 16 * 1024 * 1024
_FILE_KEYS = ("file_name", "filename", "file", "video", "video_path", "path", "name", "clip", "id")
_TEXT_KEYS = ("text", "prompt", "caption", "description", "action", "instruction", "label")

_GESTURES = {
    "touch head": r"touch\w* (?:(?:his|her|their|the|one's) )?head",
    "thumbs up": r"thumbs? ?up",
    "wave": r"wav(?:e|es|ing)\b",
    "fold arms": r"fold\w* (?:(?:his|her|their|the) )?arms?",
    "point": r"point(?:s|ing)?\b",
    "uncross": r"uncross",
    "cross arms": r"\bcross",
    "raise": r"(?:rais|lift)(?:e|es|ing)? (?:(?:his|her|their|the|right|left|both) )*(?:arm|hand)",
    "stretch": r"stretch",
}
"""Upper-body actions that the paper names."""

_LOCOMOTION = r"walk|\bstep|\bturn|\bmarch|locomotion"
_WILD = r"\b(?:doors?|books?|shelf|dumbbells?|box|objects?|grab\w*|pick\w*|heav\w+)\b"
"""Things that are handled, which only the second generator's films show."""

_GENERATORS = ((r"wan(?:2|_|-| |$|\d)|\bntu\b", WAN), (r"cosmos|penn", COSMOS))
_VIEWS = ("front", "left", "right")
_TOOLS = "smplx?|smplh|hmr4d|hmr|gvhmr|wham|tram|phalp|motion|results?|4dhumans|tracks?|params"
"""What tools append to the name of their input."""


@dataclass(frozen=True)
class BenchClip:
    """One performance.

    Attributes:
        name: Unique in the set; letters, digits and ``_``.
        motion: File of the human motion, such as SMPL parameters; None where there is only a film.
        video: The film; None where there is only a motion.
        text: What it shows: the prompt where one is known, else words of its path.
        generator: `WAN`, `COSMOS`, or empty when nothing tells.
        kind: One of `CLASSES`.
        subject: Of the five or eight, as named in the path; empty when it is not.
        view: ``front``, ``left`` or ``right`` where the path says so.
    """

    name: str
    motion: Path | None
    video: Path | None
    text: str
    generator: str
    kind: str
    subject: str = ""
    view: str = ""


def kind_of(text: str, generator: str = "") -> str:
    """Return the class of an action by the words that describe it (appendix C.2.1)."""
    words = _words(text)
    if generator == COSMOS or re.search(_WILD, words):
        return IN_THE_WILD
    moves = re.search(_LOCOMOTION, words) is not None
    gestures = sum(re.search(pattern, words) is not None for pattern in _GESTURES.values())
    if gestures > 1 or re.search(r"\bthen\b|\bcomposite\b|\bsequence\b", words):
        return COMPOSITE_WALKING if moves else COMPOSITE
    return SIMPLE_WALKING if moves else SIMPLE


def read_bench(folder: str | Path) -> list[BenchClip]:
    """Return the clips of a copy of GenMimicBench, or of any other folder of films and human motions.

    A film and a motion are one clip where their names agree but for a suffix such as ``_smpl``.

    Raises:
        InputFileError: No such folder, or neither films nor motions in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputFileError(f"{folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    motions = [path for path in files if path.suffix.lower() in MOTION_SUFFIXES]
    if not videos and not motions:
        raise InputFileError(f"{folder}: holds neither films ({', '.join(VIDEO_SUFFIXES[:3])}, ...) nor human motions "
                             f"({', '.join(MOTION_SUFFIXES)})")  # fmt: skip
    texts = _tables(path for path in files if path.suffix.lower() in TABLE_SUFFIXES)
    pairs = _paired(videos, motions, folder)
    names = _unique([(motion or video or folder).relative_to(folder) for video, motion in pairs])
    return [_clip(name, video, motion, folder, texts) for name, (video, motion) in zip(names, pairs, strict=True)]


def _clip(name: str, video: Path | None, motion: Path | None, folder: Path, texts: Mapping[str, str]) -> BenchClip:
    source = video or motion
    assert source is not None
    path = _words(str(source.relative_to(folder).with_suffix("")))
    told = next((text for each in (video, motion) if each is not None and (text := _told(each, folder, texts))), "")
    generator = next((found for pattern, found in _GENERATORS if re.search(pattern, path)), "")
    if not generator and video is not None:
        generator = SIZES.get(_size(video), "")
    subject = re.search(r"\b(?:subject|person|actor|subj|s|p) ?(\d+)\b", path)
    views = (re.search(rf"\b{word} (?:view|cam\w*)\b|\b(?:view|cam\w*) {word}\b", path) for word in _VIEWS)
    view = next((word for word, found in zip(_VIEWS, views, strict=True) if found), "")
    kind = kind_of(told or path, generator)
    return BenchClip(name, motion, video, told or path, generator, kind, subject[1] if subject else "", view)


# what it says of itself ------------------------------------------------------------------------
def _told(path: Path, folder: Path, texts: Mapping[str, str]) -> str:
    """Return the prompt of a file: from a table, else from a text of its name beside it; empty when neither has it."""
    inside = path.relative_to(folder).as_posix()
    for key in (inside, path.name, path.stem, _stem(path)):
        if key in texts:
            return texts[key]
    beside = path.with_suffix(".txt")
    return _text(beside).strip() if beside.is_file() else ""


def _tables(paths: Iterable[Path]) -> dict[str, str]:
    """Return the texts by file from all tables that have a column of files and one of texts."""
    found: dict[str, str] = {}
    for path in paths:
        for row in _rows(path):
            lower = {str(key).lower(): value for key, value in row.items()}
            file = next((lower[key] for key in _FILE_KEYS if isinstance(lower.get(key), str) and lower[key]), None)
            text = next((lower[key] for key in _TEXT_KEYS if isinstance(lower.get(key), str) and lower[key]), None)
            if file is not None and text is not None:
                for key in (file, Path(file).name, Path(file).stem):
                    found.setdefault(key, text)
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table; none of what is no table."""
    text = _text(path)
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            yield from csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        elif path.suffix.lower() == ".jsonl":
            yield from (row for line in text.splitlines() if line.strip() and isinstance(row := json.loads(line), dict))
        else:
            content = json.loads(text)
            if isinstance(content, dict) and all(isinstance(value, str) for value in content.values()):
                yield from ({"file": key, "text": value} for key, value in content.items())
            elif isinstance(content, dict):
                yield from ({"file": key, **value} for key, value in content.items() if isinstance(value, dict))
            elif isinstance(content, list):
                yield from (row for row in content if isinstance(row, dict))
    except (ValueError, csv.Error):  # a file of other content, of which the set may hold any
        return


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _size(video: Path) -> tuple[int, int]:
    """Return the size of a film's pictures, zeros when it cannot be read."""
    from genmimic.lift.video import VideoReader

    try:
        with VideoReader(video) as reader:
            return reader.info.width, reader.info.height
    except GenMimicError:
        return 0, 0


# names -----------------------------------------------------------------------------------------
def _words(text: str) -> str:
    """Return a path or sentence as words in lower case; ``TouchHead`` is two."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(re.sub(r"[^a-z0-9.']+", " ", spaced.lower()).split())


def _stem(path: Path) -> str:
    """Return a file's name without what tools append to that of their input."""
    stem = path.name.split(".")[0]
    return re.sub(rf"(?:_(?:{_TOOLS}))+$", "", stem, flags=re.IGNORECASE)


def _paired(videos: Sequence[Path], motions: Sequence[Path], folder: Path) -> list[tuple[Path | None, Path | None]]:
    """Return films with the motions of the same name; where several have it, those whose folders agree most."""
    by_name: dict[str, list[Path]] = {}
    for motion in motions:
        by_name.setdefault(_stem(motion), []).append(motion)
    pairs: list[tuple[Path | None, Path | None]] = []
    for video in videos:
        candidates = by_name.get(_stem(video), [])
        best = max(candidates, key=lambda motion: _agreement(video, motion, folder), default=None)
        if best is not None:
            candidates.remove(best)
        pairs.append((video, best))
    pairs += [(None, motion) for rest in by_name.values() for motion in rest]
    return sorted(pairs, key=lambda pair: str(pair[0] or pair[1]))


def _agreement(one: Path, other: Path, folder: Path) -> int:
    return len(set(one.relative_to(folder).parts[:-1]) & set(other.relative_to(folder).parts[:-1]))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _unique(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: its stem, with as many of its folders as it takes to tell them apart."""
    parts = [(*path.parts[:-1], _stem(path)) for path in paths]
    names = [""] * len(paths)
    for depth in range(1, max(map(len, parts), default=1) + 1):
        tried = [re.sub(r"\W+", "_", "_".join(part[-depth:])).strip("_") or "clip" for part in parts]
        for idx, name in enumerate(tried):
            if not names[idx] and (tried.count(name) == 1 or depth >= len(parts[idx])):
                names[idx] = name
    seen: dict[str, int] = {}
    for idx, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1 or name in names[:idx]:
            names[idx] = f"{name}_{seen[name]}"
    return names


# robot motions of it ---------------------------------------------------------------------------
def motion_of(clip: BenchClip, robot: Robot = G1_23DOF, prefer: str = "motion") -> Motion:
    """Return a clip on the robot: from its human motion, or from its film, which is lifted.

    Args:
        clip: What to read.
        robot: The robot.
        prefer: ``motion`` or ``video``, where it has both.

    Raises:
        GenMimicError: It cannot be read, lifted or retargeted.
    """
    from genmimic.lift import lift_video, read_human
    from genmimic.retarget.human import retarget_human

    if prefer not in ("motion", "video"):
        raise ConfigError(f"prefer is {prefer!r}, expected motion or video")
    given = clip.motion if (prefer == "motion" and clip.motion is not None) or clip.video is None else clip.video
    assert given is not None
    person = read_human(given) if given is clip.motion else seen_part(lift_video(given).motion)
    found = place_motion(robot, replace(retarget_human(person, robot).motion, name=clip.name), (0.0, 0.0), 0.0)
    about = {"text": clip.text, "class": clip.kind, "generator": clip.generator}
    return replace(found, source={**found.source, "bench": {key: value for key, value in about.items() if value}})


def build(
    clips: Sequence[BenchClip],
    output: str | Path,
    *,
    prefer: str = "motion",
    robot: Robot = G1_23DOF,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, str]:
    """Bring clips to the robot, one ``NAME.npz`` each, with their classes beside them; what is there already stays.

    ``classes.yaml`` is what `genmimic.evaluate.bench.load_classes` reads, ``bench.json`` lists the clips.

    Args:
        clips: Of `read_bench`.
        output: The folder to fill.
        prefer: See `motion_of`.
        robot: The robot.
        say: Called with a line for each clip.

    Returns:
        Why clips could not be brought over, by name.

    Raises:
        InputFileError: The folder cannot be written.
    """
    import yaml

    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"{output}: cannot be made ({error.strerror})") from None
    failed: dict[str, str] = {}
    for number, clip in enumerate(clips, 1):
        path = output / f"{clip.name}.npz"
        outcome = "there already"
        if not path.exists():
            try:
                motion = motion_of(clip, robot, prefer)
                save_motion(path, robot, motion)
                outcome = f"{motion.duration:.2f} s"
            except GenMimicError as error:
                failed[clip.name] = outcome = " ".join(str(error).split())
        say(f"{number}/{len(clips)} {clip.name}: {outcome}")
    done = [clip for clip in clips if clip.name not in failed]
    classes = {kind: [clip.name for clip in done if clip.kind == kind] for kind in CLASSES}
    with whole_file(output / CLASSES_NAME) as temporary:
        temporary.write_text(yaml.safe_dump({kind: names for kind, names in classes.items() if names}, sort_keys=False))
    with whole_file(output / LIST_NAME) as temporary:
        temporary.write_text(json.dumps({"format": "genmimic-bench/1", "clips": [entry(clip) for clip in clips],
                                         "failed": failed}, indent=1))  # fmt: skip
    return failed


def entry(clip: BenchClip) -> dict[str, Any]:
    """Return a clip for JSON, without what is not known of it."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(clip).items() if value}


def summary_table(clips: Sequence[BenchClip]) -> str:
    """Return how many clips there are by class and generator, as text."""
    generators = [name for name in (WAN, COSMOS, "") if any(clip.generator == name for clip in clips)]
    head = ["", *(name or "unknown" for name in generators), "films", "motions", "texts"]
    rows = [head]
    for kind in [*CLASSES, "all"]:
        some = [clip for clip in clips if kind in ("all", clip.kind)]
        if some:
            counts = [sum(clip.generator == name for clip in some) for name in generators]
            counts += [sum(clip.video is not None for clip in some), sum(clip.motion is not None for clip in some)]
            rows.append([kind, *map(str, counts), str(len({clip.text for clip in some}))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width)
                  for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    )  # fmt: skip
