# SPDX-License-Identifier: Apache-2.0
"""Motion capture files: BVH, and Acclaim's skeleton (ASF) with its motion (AMC). Joint positions by their own rules.

Sources: the BVH format as exported by Biovision's tools (a joint's channels are applied in the order they are listed,
intrinsically; position channels replace the offset); Acclaim's ASF/AMC description (a bone turns in its own axes,
``C B C^-1`` with ``C`` from the ``axis`` line, and runs along ``direction`` for ``length``).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from genmimic.core.errors import InputFileError, MotionError
from genmimic.core.motion import MAX_MOTION_FRAMES

MAX_CHANNELS = 4096


@dataclass
class Skeleton:
    """Joint paths of a motion capture clip, in its own unit and axes.

    Attributes:
        names: Of the joints, ends of bones included as ``<parent>End``.
        parents: Index of each parent, -1 for the root.
        joint_pos: Shape (T, N, 3).
        fps: Frames per second.
        unit_m: Metres per unit where the file says so.
    """

    names: list[str]
    parents: list[int]
    joint_pos: np.ndarray
    fps: float
    unit_m: float | None = None


# BVH -------------------------------------------------------------------------------------------
@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray
    channels: list[str] = field(default_factory=list)
    first: int = 0


def read_bvh(text: str, where: str) -> Skeleton:
    """Return the joint paths of a BVH file. Raises InputFileError or MotionError with one line that says why not."""
    head, mark, body = text.partition("MOTION")
    if not mark:
        raise InputFileError(f"{where}: BVH without a MOTION part; the file is cut off or of another kind")
    joints = _bvh_joints(head, where)
    width = sum(len(joint.channels) for joint in joints)
    match = re.match(r"\s*Frames:?\s*(\d+)\s+Frame\s+Time:?\s*(\S+)\s", body, re.I)
    if not match:
        raise InputFileError(f"{where}: BVH has no 'Frames:' and 'Frame Time:' after MOTION")
    frames, step = int(match.group(1)), _number(match.group(2), where)
    if not 2 <= frames <= MAX_MOTION_FRAMES:
        raise MotionError(f"{where}: BVH has {frames} frames, expected 2 to {MAX_MOTION_FRAMES}")
    if not 1e-3 <= step <= 1.0:
        raise MotionError(f"{where}: BVH frame time is {step:g} s, expected 0.001 to 1")
    try:
        values = np.array(body[match.end() :].split(), float)
    except ValueError as error:
        raise MotionError(f"{where}: BVH motion holds something that is not a number ({error})") from None
    if len(values) < frames * width:
        whole = len(values) // max(width, 1)
        raise InputFileError(f"{where}: BVH is cut off: {whole} of {frames} frames are there")
    values = values[: frames * width].reshape(frames, width)
    if not np.isfinite(values).all():
        raise MotionError(f"{where}: BVH motion holds numbers that are not finite")
    rate = 1.0 / step
    for usual in (23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 100, 119.88, 120, 240):
        if abs(rate / usual - 1.0) < 5e-4:  # frame times are rounded to a few digits
            rate = float(usual)
    return _bvh_positions(joints, values, rate)


def _bvh_joints(head: str, where: str) -> list[_Joint]:
    tokens = head.replace("{", " { ").replace("}", " } ").split()
    joints: list[_Joint] = []
    stack: list[int] = []
    pending: _Joint | None = None
    at = 0
    try:
        while at < len(tokens):
            word = tokens[at].upper()
            if word in ("ROOT", "JOINT"):
                end = tokens.index("{", at)
                pending = _Joint(" ".join(tokens[at + 1 : end]), stack[-1] if stack else -1, np.zeros(3))
                at = end - 1
            elif word == "END" and tokens[at + 1].upper() == "SITE":
                pending = _Joint(f"{joints[stack[-1]].name}End", stack[-1], np.zeros(3))
                at = tokens.index("{", at) - 1
            elif word == "{":
                if pending is None:
                    raise InputFileError(f"{where}: BVH has a brace that opens nothing")
                joints.append(pending)
                stack.append(len(joints) - 1)
                pending = None
            elif word == "}":
                stack.pop()
            elif word == "OFFSET":
                joints[stack[-1]].offset = np.array([_number(value, where) for value in tokens[at + 1 : at + 4]])
                at += 3
            elif word == "CHANNELS":
                count = int(tokens[at + 1])
                names = [name.lower() for name in tokens[at + 2 : at + 2 + count]]
                if any(not re.fullmatch(r"[xyz](position|rotation)", name) for name in names):
                    raise InputFileError(f"{where}: BVH channels {' '.join(names)!r}, expected Xposition to Zrotation")
                joints[stack[-1]].channels = names
                at += 1 + count
            elif word != "HIERARCHY":
                raise InputFileError(f"{where}: BVH has {tokens[at][:40]!r} where a joint was expected")
            at += 1
    except (IndexError, ValueError) as error:
        if isinstance(error, (InputFileError, MotionError)):
            raise
        raise InputFileError(f"{where}: damaged BVH skeleton ({error})") from None
    if stack or not joints:
        raise InputFileError(f"{where}: BVH skeleton is cut off")
    first = 0
    for joint in joints:
        joint.first = first
        first += len(joint.channels)
    if first > MAX_CHANNELS:
        raise InputFileError(f"{where}: BVH has {first} channels, limit {MAX_CHANNELS}")
    return joints


def _bvh_positions(joints: list[_Joint], values: np.ndarray, fps: float) -> Skeleton:
    frames = len(values)
    pos = np.zeros((frames, len(joints), 3))
    turn = np.empty((frames, len(joints), 3, 3))
    for idx, joint in enumerate(joints):
        local = np.tile(joint.offset, (frames, 1))
        rotation = np.tile(np.eye(3), (frames, 1, 1))
        for number, channel in enumerate(joint.channels):
            column = values[:, joint.first + number]
            axis = "xyz".index(channel[0])
            if channel.endswith("position"):
                local[:, axis] = column
            else:
                rotation = rotation @ axis_rotation(axis, np.deg2rad(column))
        if joint.parent < 0:
            pos[:, idx], turn[:, idx] = local, rotation
        else:
            parent = turn[:, joint.parent]
            pos[:, idx] = pos[:, joint.parent] + np.einsum("tij,tj->ti", parent, local)
            turn[:, idx] = parent @ rotation
    return Skeleton([joint.name for joint in joints], [joint.parent for joint in joints], pos, fps)


def axis_rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """Return rotations about x, y or z (0, 1, 2). Shapes (...,) and (..., 3, 3)."""
    angle = np.asarray(angle, float)
    matrix = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1.0
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., i, j], matrix[..., j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputFileError(f"{where}: {text[:40]!r} where a number was expected") from None
    if not math.isfinite(value):
        raise MotionError(f"{where}: holds {text!r}, expected finite numbers")
    return value


# ASF and AMC -----------------------------------------------------------------------------------
@dataclass
class _Bone:
    name: str
    direction: np.ndarray
    length: float
    axis: np.ndarray  # rotation matrix of the bone's own axes
    dof: list[str]
    parent: str = ""


_CMU_FPS = 120.0


def find_skeleton(motion_path: Path) -> Path:
    """Return the ASF file that belongs to an AMC: the one named like its subject, or the only one in its folder."""
    folder, stem = motion_path.parent, motion_path.name.split(".")[0]
    named = [folder / f"{base}.asf{gz}" for base in (stem, stem.split("_")[0]) for gz in ("", ".gz")]
    for path in named:
        if path.is_file():
            return path
    found = sorted([*folder.glob("*.asf"), *folder.glob("*.asf.gz")])
    if len(found) == 1:
        return found[0]
    raise InputFileError(
        f"{motion_path}: an AMC needs its ASF skeleton; expected {named[2].name} beside it, found {len(found)} others"
    )


def read_amc(text: str, skeleton_text: str, where: str, skeleton_where: str, fps: float = _CMU_FPS) -> Skeleton:
    """Return the joint paths of an AMC motion on its ASF skeleton.

    The joint of a bone is where it starts; the far end of a bone without children is ``<bone>End``. AMC files do not
    say their rate: the CMU database is at 120 Hz.
    """
    bones, root_order, unit = _asf_bones(skeleton_text, skeleton_where)
    frames = _amc_frames(text, where)
    if len(frames) < 2:
        raise MotionError(f"{where}: AMC has {len(frames)} frames, expected 2 or more")
    degrees = ":DEGREES" in text.upper() or "ANGLE DEG" in skeleton_text.upper()
    factor = math.pi / 180.0 if degrees else 1.0
    count = len(frames)

    def column(name: str, width: int) -> np.ndarray:
        rows = [frame.get(name) for frame in frames]
        missing = next((number for number, row in enumerate(rows) if row is None or len(row) != width), None)
        if missing is not None:
            raise InputFileError(f"{where}: AMC frame {missing + 1} lacks the {width} numbers of {name!r}")
        return np.array(rows, float)

    root = column("root", len(root_order))
    if not np.isfinite(root).all():
        raise MotionError(f"{where}: AMC holds numbers that are not finite")
    root_pos = np.zeros((count, 3))
    root_turn = np.tile(np.eye(3), (count, 1, 1))
    for number, dof in enumerate(root_order):
        if dof[0] == "t":
            root_pos[:, "xyz".index(dof[1])] = root[:, number]
        else:
            root_turn = axis_rotation("xyz".index(dof[1]), root[:, number] * factor) @ root_turn
    names, parents, pos = ["root"], [-1], [root_pos]
    turns, ends, index = {"root": root_turn}, {"root": root_pos}, {"root": 0}
    for bone in bones:
        local = np.tile(np.eye(3), (count, 1, 1))
        if bone.dof:
            values = column(bone.name, len(bone.dof)) * factor
            for number, dof in enumerate(bone.dof):
                if dof[0] == "r":
                    local = axis_rotation("xyz".index(dof[1]), values[:, number]) @ local
        turn = turns[bone.parent] @ bone.axis @ local @ bone.axis.T
        start = ends[bone.parent]
        end = start + turn @ (bone.direction * bone.length)
        turns[bone.name], ends[bone.name] = turn, end
        index[bone.name] = len(names)
        names.append(bone.name)
        parents.append(index[bone.parent])
        pos.append(start)
    with_children = {bone.parent for bone in bones}
    for bone in bones:
        if bone.name not in with_children:
            names.append(f"{bone.name}End")
            parents.append(index[bone.name])
            pos.append(ends[bone.name])
    joint_pos = np.stack(pos, 1)
    if not np.isfinite(joint_pos).all():
        raise MotionError(f"{where}: AMC holds numbers that are not finite")
    return Skeleton(names, parents, joint_pos, fps, unit)


def _asf_bones(text: str, where: str) -> tuple[list[_Bone], list[str], float | None]:
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if line.startswith(":"):
            key, _, rest = line[1:].partition(" ")
            current = sections.setdefault(key.lower(), [])
            line = rest.strip()
        if line:
            current.append(line)
    for needed in ("root", "bonedata", "hierarchy"):
        if needed not in sections:
            raise InputFileError(f"{where}: ASF has no :{needed} part; the file is cut off or of another kind")
    unit, radians = None, False
    for line in sections.get("units", ()):
        words = line.split()
        if words[0] == "length" and len(words) > 1 and _number(words[1], where) > 0:
            length = _number(words[1], where)
            unit = 0.0254 / length if length < 1.0 else None  # CMU: inches over 0.45
        radians |= words[0] == "angle" and len(words) > 1 and words[1].lower().startswith("rad")
    factor = 1.0 if radians else math.pi / 180.0
    order = next((line.split()[1:] for line in sections["root"] if line.lower().startswith("order")), [])
    order = [word.lower() for word in order]
    if sorted(order) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
        raise InputFileError(
            f"{where}: ASF root order is {' '.join(order)!r}, expected TX TY TZ RX RY RZ in some order"
        )
    bones: dict[str, _Bone] = {}
    fields: dict[str, list[str]] = {}
    for line in sections["bonedata"]:
        words = line.split()
        if words[0] == "begin":
            fields = {}
        elif words[0] == "end":
            try:
                values = np.array(fields["axis"][:3], float) * factor
                sequence = fields["axis"][3] if len(fields["axis"]) > 3 else "XYZ"
                axis = np.eye(3)
                for letter, value in zip(sequence.lower(), values, strict=True):
                    axis = axis_rotation("xyz".index(letter), np.asarray(value)) @ axis
                bone = _Bone(
                    fields["name"][0], np.array(fields["direction"][:3], float), float(fields["length"][0]), axis,
                    [word.lower() for word in fields.get("dof", ())],
                )  # fmt: skip
            except (KeyError, IndexError, ValueError) as error:
                raise InputFileError(f"{where}: damaged ASF bone {fields.get('name', ['?'])[0]!r} ({error})") from None
            bones[bone.name] = bone
        else:
            fields[words[0]] = words[1:]
    ordered = []
    for line in sections["hierarchy"]:
        words = line.split()
        if words[0] in ("begin", "end"):
            continue
        for child in words[1:]:
            if child not in bones or (words[0] != "root" and words[0] not in bones):
                raise InputFileError(f"{where}: ASF hierarchy names an unknown bone in {line[:60]!r}")
            bones[child].parent = words[0]
            ordered.append(bones[child])
    known = {"root"}
    for bone in ordered:
        if bone.parent not in known:
            raise InputFileError(f"{where}: ASF bone {bone.name!r} comes before its parent {bone.parent!r}")
        known.add(bone.name)
    return ordered, order, unit


def _amc_frames(text: str, where: str) -> list[dict[str, list[float]]]:
    frames: list[dict[str, list[float]]] = []
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#:":
            continue
        words = line.split()
        if len(words) == 1 and words[0].isdigit():
            frames.append({})
        elif frames:
            try:
                frames[-1][words[0]] = [float(word) for word in words[1:]]
            except ValueError:
                raise InputFileError(f"{where}: AMC has {line[:60]!r} where numbers were expected") from None
    if frames and len(frames) > 1 and len(frames[-1]) < len(frames[0]):
        raise InputFileError(f"{where}: AMC is cut off in frame {len(frames)}")
    return frames
