# SPDX-License-Identifier: Apache-2.0
"""Read a human motion from what other tools make. `read_human` finds the format by the content."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, InputFileError, MotionError
from genmimic.core.files import read_source
from genmimic.core.human import HUMAN_FORMAT, HUMAN_JOINTS, REQUIRED_JOINTS, HumanMotion, load_human_motion
from genmimic.core.motion import read_npz
from genmimic.lift.importers import parameters, points, upright
from genmimic.lift.importers.mocap import Skeleton, find_skeleton, read_amc, read_bvh
from genmimic.lift.importers.names import map_joint_names
from genmimic.lift.importers.parameters import RawMotion
from genmimic.lift.importers.pickles import read_tool_pickle

FORMATS = ("genmimic", "smpl", "gvhmr", "wham", "tram", "phalp", "bvh", "amc", "points")
"""What `read_human` reads."""

MAX_SOURCE_BYTES = 1024**3
_DEFAULT_FPS = 30.0


def read_human(
    path: str | Path,
    *,
    fps: float | None = None,
    up: str | None = None,
    height: float | None = None,
    person: int | None = None,
    order: str | None = None,
    skeleton: str | Path | None = None,
    body_model: str | Path | None = None,
) -> HumanMotion:
    """Read a human motion of any known format, z up, in metres, with the feet on the floor.

    Args:
        path: A file, compressed with gzip or not, or TRAM's result folder.
        fps: Overrides what the file says.
        up: Axis that points up in the file, like ``y`` or ``-z``; found from the body when left out.
        height: Of the person, in m: scales the motion. Left out, the file's unit is kept or found.
        person: Which one, where the file has several; the one with most frames when left out.
        order: Of points without names, one of `genmimic.lift.importers.points.ORDERS`.
        skeleton: ASF file of an AMC motion; found beside it when left out.
        body_model: npz of the user's SMPL model, for the shape of the body.

    Raises:
        InputFileError: Missing, empty, damaged, too large or of an unknown kind.
        MotionError: Fields are missing, of the wrong shape or not finite.
        ConfigError: An argument is out of range.
    """
    path = Path(path)
    if fps is not None and not 1.0 <= fps <= 1000.0:
        raise ConfigError(f"fps is {fps:g}, expected 1 to 1000")
    if height is not None and not 0.5 <= height <= 2.5:
        raise ConfigError(f"height is {height:g} m, expected 0.5 to 2.5")
    if up is not None and up.lstrip("+-") not in ("x", "y", "z"):
        raise ConfigError(f"up is {up!r}, expected x, y or z, with a sign if it is minus")
    if path.is_dir():
        path = _in_folder(path)
    data = _read_bytes(path)
    confidence: dict[str, np.ndarray] = {}
    if data[:2] == b"PK":
        names = _archive_names(data, path)
        if any(name.endswith("data.pkl") for name in names):
            raw = _from_mapping(read_tool_pickle(data, str(path), MAX_SOURCE_BYTES), path, person, body_model)
        else:
            fields = _npz_fields(data, path)
            if _text(fields.get("format")) == HUMAN_FORMAT:
                return load_human_motion(path)
            raw, confidence = _from_fields(fields, path, order, body_model)
    elif data[:6] == b"\x93NUMPY":
        content = read_tool_pickle(data, str(path), MAX_SOURCE_BYTES)
        if isinstance(content, np.ndarray):
            raw, confidence = points.from_points(content, path, order=order)
        else:
            raw = _from_mapping(content, path, person, body_model)
    elif data[:1] in (b"\x80", b"\x78"):
        raw = _from_mapping(read_tool_pickle(data, str(path), MAX_SOURCE_BYTES), path, person, body_model)
    else:
        raw = _from_text(data, path, fps, skeleton)
    return _settle(raw, confidence, path, fps, up, height)


# formats by content ----------------------------------------------------------------------------
def _from_fields(
    fields: Mapping[str, Any], path: Path, order: str | None, body_model: str | Path | None
) -> tuple[RawMotion, dict[str, np.ndarray]]:
    found = _text(fields.get("format"))
    if found.startswith("genmimic-motion"):
        raise InputFileError(f"{path}: is a motion of the robot ({found}), expected one of a person")
    if "poses" in fields or "pose_body" in fields or "body_pose" in fields or "fullpose" in fields:
        return parameters.from_smpl_fields(fields, path, body_model), {}
    name = points.points_in(fields)
    if name is None:
        raise InputFileError(
            f"{path}: npz with {', '.join(sorted(fields)[:8]) or 'nothing'}; expected SMPL's poses and trans, or "
            f"points under one of {', '.join(points.POINT_FIELDS[:5])}"
        )
    joint_names = next((fields[key] for key in ("joint_names", "names", "keypoint_names") if key in fields), None)
    names = None if joint_names is None else [str(item) for item in np.ravel(joint_names)]
    sure = next((fields[key] for key in ("confidence", "scores", "visibility") if key in fields), None)
    rate = float(np.ravel(fields["fps"])[0]) if "fps" in fields and np.size(fields["fps"]) else None
    return points.from_points(fields[name], path, names=names, confidence=sure, fps=rate, order=order)


def _from_mapping(content: Any, path: Path, person: int | None, body_model: str | Path | None) -> RawMotion:
    try:
        if isinstance(content, dict) and content:
            first = next(iter(content.values()))
            if "smpl_params_global" in content:
                return parameters.from_gvhmr(content, path, body_model)
            if "pred_rotmat" in content:
                return parameters.from_tram(content, path, body_model)
            if isinstance(first, dict) and "pose_world" in first:
                return parameters.from_wham(content, path, body_model, person)
            if isinstance(first, dict) and "smpl" in first and "tid" in first:
                return parameters.from_phalp(content, path, body_model, person)
            if {"poses", "body_pose", "pose_body"} & set(content):
                return parameters.from_smpl_fields(content, path, body_model)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, (MotionError, InputFileError)):
            raise
        raise MotionError(f"{path}: damaged or of an unknown version ({type(error).__name__}: {error})") from None
    keys = (
        ", ".join(str(key)[:30] for key in list(content)[:8]) if isinstance(content, dict) else type(content).__name__
    )
    raise InputFileError(f"{path}: holds {keys or 'nothing'}; expected the output of GVHMR, WHAM, TRAM or 4D-Humans")


def _from_text(data: bytes, path: Path, fps: float | None, skeleton: str | Path | None) -> RawMotion:
    text = data.decode("latin-1")
    head = text[:4096].lstrip().upper()
    if head.startswith("HIERARCHY"):
        return _from_skeleton(read_bvh(text, str(path)), "bvh", path)
    if ".amc" in path.name.lower() or ":FULLY-SPECIFIED" in head or ":DEGREES" in head:
        found = Path(skeleton) if skeleton is not None else find_skeleton(path)
        bones = _read_bytes(found).decode("latin-1")
        return _from_skeleton(read_amc(text, bones, str(path), str(found), fps or 120.0), "amc", path)
    if ":BONEDATA" in text.upper():
        raise InputFileError(f"{path}: is a skeleton (ASF) without motion; give the AMC file")
    hint = "; for a video use: genmimic lift" if data[4:8] == b"ftyp" or data[:4] in (b"RIFF", b"\x1aE\xdf\xa3") else ""
    raise InputFileError(f"{path}: unknown kind of file; known formats: {', '.join(FORMATS)}{hint}")


def _from_skeleton(found: Skeleton, format: str, path: Path) -> RawMotion:
    index = map_joint_names(found.names, found.parents)
    missing = [name for name in REQUIRED_JOINTS if name not in index]
    if missing:
        raise MotionError(
            f"{path}: no joint of the skeleton is {', '.join(missing[:4])}; it has: {', '.join(found.names[:40])}"
        )
    for side in ("left", "right"):  # the end of the last bone, where nothing has a name for it
        for role, base in (("toe", "foot"), ("hand", "wrist")):
            start = index.get(f"{side}_{base}")
            if f"{side}_{role}" in index or start is None:
                continue
            child = [idx for idx, parent in enumerate(found.parents) if parent == start]
            if len(child) == 1 and found.names[child[0]].endswith("End"):
                index[f"{side}_{role}"] = child[0]
    pos = found.joint_pos
    notes: dict[str, Any] = {"joints": len(found.names)}
    first = np.abs(np.diff(pos[:12] - pos[:12, index["left_hip"]][:, None], axis=0)).max((1, 2))
    reach = np.ptp(pos[0], axis=0).max()
    if len(first) > 3 and first[0] > 0.1 * reach and first[0] > 8.0 * first[1:].max():
        pos = pos[1:]
        notes["first_frame"] = "left out: a calibration pose"
    joints = {name: pos[:, idx] for name, idx in index.items()}
    if "pelvis" in joints and np.abs(joints["pelvis"] - joints["left_hip"]).max() > 0.5 * reach:
        del joints["pelvis"]  # a root that stays behind
    for side in ("left", "right"):  # end sites of no length add nothing
        for role, base in (("toe", "foot"), ("hand", "wrist"), ("foot", "ankle")):
            a, b = joints.get(f"{side}_{role}"), joints.get(f"{side}_{base}")
            if a is not None and b is not None and np.abs(a - b).max() < 1e-6 * reach:
                del joints[f"{side}_{role}"]
    return RawMotion(format, joints, fps=found.fps, unit_m=found.unit_m, notes=notes)


# into our frame --------------------------------------------------------------------------------
def _settle(
    raw: RawMotion,
    confidence: Mapping[str, np.ndarray],
    path: Path,
    fps: float | None,
    up: str | None,
    height: float | None,
) -> HumanMotion:
    joints = raw.joint_pos
    missing = [name for name in REQUIRED_JOINTS if name not in joints]
    if missing:
        raise MotionError(f"{path}: {', '.join(missing[:4])} are missing, without which there is nothing to retarget")
    if not all(np.isfinite(values).all() for values in joints.values()):
        raise MotionError(f"{path}: joint positions are not finite")
    stature = upright.body_height(joints)
    if not 1e-6 < stature < 1e9:
        raise MotionError(f"{path}: the body has no size ({stature:g})")
    unit, scale = ("m", raw.unit_m) if raw.unit_m is not None else upright.find_unit(stature)
    if height is not None:
        unit, scale = "scaled", height / stature
    tall = stature * scale
    turn, up_name = _up_turn(joints, raw.up, up)
    moved = {name: scale * values @ turn.T for name, values in joints.items()}
    floor = upright.floor_height(moved, tall)
    start = moved["left_hip"][0] * [1.0, 1.0, 0.0]
    far = bool(np.abs(start).max() > 100.0) or raw.up == "camera"
    shift = np.array([0.0, 0.0, floor]) + (start if far else 0.0)
    names = tuple(name for name in HUMAN_JOINTS if name in moved)
    pos = np.stack([moved[name] - shift for name in names], 1)
    sure = np.stack([confidence.get(name, np.ones(len(pos))) for name in names], 1)
    if raw.present is not None:
        sure = sure * raw.present[:, None]
    rate = fps or raw.fps
    source = {
        "file": path.name, "format": raw.format, "up": up_name, "unit": unit, "unit_m": round(float(scale), 6),
        "height_m": round(float(tall), 3), "floor_m": round(floor, 4), **raw.notes,
    }  # fmt: skip
    if rate is None:
        rate, source["fps"] = _DEFAULT_FPS, "not in the file: taken as 30 Hz"
    name = path.name
    while Path(name).suffix.lower() in (".gz", ".npz", ".npy", ".bvh", ".amc", ".pkl", ".pt"):
        name = Path(name).stem
    smpl = raw.smpl if height is None else None
    return HumanMotion(float(rate), names, pos, np.clip(sure, 0.0, 1.0), name or "person", source, smpl)


def _up_turn(joints: Mapping[str, np.ndarray], known: str | None, asked: str | None) -> tuple[np.ndarray, str]:
    if asked is not None:
        name = asked if asked[0] in "+-" else f"+{asked}"
    elif known == "camera":
        direction = upright._body_up(joints)
        return upright.up_rotation(direction), "the body's, a tilted camera"
    else:
        name = known or upright.find_up_axis(joints)
    return upright.up_rotation(upright.AXES[name]), name


# files -----------------------------------------------------------------------------------------
def _in_folder(folder: Path) -> Path:
    for pattern in ("hps/hps_track_0.npy", "hps/*.npy", "hmr4d_results.pt", "wham_output.pkl"):
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise InputFileError(f"{folder}: a folder without hps/hps_track_0.npy (TRAM), hmr4d_results.pt or wham_output.pkl")


def _read_bytes(path: Path) -> bytes:
    data = read_source(path, MAX_SOURCE_BYTES)
    if data.isspace():
        raise InputFileError(f"{path}: is empty, expected a motion")
    return data


def _archive_names(data: bytes, path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise InputFileError(f"{path}: not a whole npz file ({error})") from None


def _npz_fields(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz; those that hold objects (some tools store text or None so) are left out."""
    try:
        return read_npz(path, MAX_SOURCE_BYTES) if path.suffix != ".gz" else _load_npz(data, path, False)
    except InputFileError as error:
        if "pickle" not in str(error):
            raise
    return _load_npz(data, path, True)


def _load_npz(data: bytes, path: Path, skip_objects: bool) -> dict[str, np.ndarray]:
    fields = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_SOURCE_BYTES:
                raise InputFileError(f"{path}: holds more than {MAX_SOURCE_BYTES} bytes unpacked")
            for name in archive.namelist():
                try:
                    with archive.open(name) as file:
                        fields[name.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
                except ValueError as error:
                    if not (skip_objects and "bject" in str(error)):
                        raise
    except InputFileError:
        raise
    except Exception as error:  # zlib.error and whatever else a damaged archive raises
        raise InputFileError(f"{path}: damaged npz file ({error})") from None
    return fields


def _text(value: Any) -> str:
    return str(value) if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.shape == () else ""


__all__ = ["FORMATS", "read_human"]
