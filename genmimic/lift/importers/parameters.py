# SPDX-License-Identifier: Apache-2.0
"""Motions as SMPL parameters: AMASS and its kin, and the published output of tools that lift video.

| format | from | file | frame |
|---|---|---|---|
| `smpl` | AMASS, SMPL-H and SMPL-X npz, ASAP | npz: `poses`, `trans`, `betas`, `mocap_framerate` | z up, or found |
| `gvhmr` | zju3dv/GVHMR `tools/demo/demo.py` | `hmr4d_results.pt`: `smpl_params_global` | y up, 30 Hz |
| `wham` | yohanshin/WHAM `demo.py --save_pkl` | `wham_output.pkl`: per person `pose_world`, `trans_world` | y up |
| `tram` | yufu-wang/tram `scripts/estimate_humans.py` | `hps/hps_track_N.npy` beside `camera.npy` | first camera |
| `phalp` | shubham-goel/4D-Humans `track.py` | `demo_*.pkl`: per frame `smpl`, `camera`, `tid` | camera |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.errors import InputFileError, MotionError
from genmimic.core.human import SMPL_JOINTS
from genmimic.lift.importers.pickles import read_tool_pickle
from genmimic.lift.importers.smpl import BODY_JOINTS, rest_joints, rotation_matrices, smpl_joint_positions
from genmimic.lift.importers.upright import fill_frames

MAX_BYTES = 2 * 1024**3
_CAMERA_UP = "-y"
_PHALP_FOCAL_SHARE = 0.0614  # of a usual camera (1.2 picture widths) in PHALP's pretended one (5000 / 256 widths)


@dataclass(frozen=True)
class RawMotion:
    """Joint paths as a file has them, before they are put upright.

    Attributes:
        format: Which reader made it.
        joint_pos: Our joints by name. Shape (T, 3) each.
        fps: Frames per second; None where the file does not say.
        up: Axis that points up, like ``+y``; ``camera`` for a camera that may be tilted; None to find out.
        unit_m: Metres per unit; None to find out.
        present: False where a frame was bridged. Shape (T,).
        smpl: Parameters to keep.
        notes: What to record beside the file's name.
    """

    format: str
    joint_pos: dict[str, np.ndarray]
    fps: float | None = None
    up: str | None = None
    unit_m: float | None = None
    present: np.ndarray | None = None
    smpl: Mapping[str, np.ndarray] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


def from_smpl_fields(fields: Mapping[str, Any], path: Path, body_model: str | Path | None) -> RawMotion:
    """Return the motion of an npz with SMPL, SMPL-H or SMPL-X parameters."""
    trans_name = _first(fields, ("trans", "transl", "root_trans", "trans_world"), path)
    trans = _numbers(fields, trans_name, path).reshape(-1, 3)
    if any(name in fields for name in ("poses", "fullpose", "pose_world")):
        poses = _numbers(fields, _first(fields, ("poses", "fullpose", "pose_world"), path), path)
    else:
        root = _numbers(fields, _first(fields, ("root_orient", "global_orient"), path), path)
        body = _numbers(fields, _first(fields, ("pose_body", "body_pose"), path), path)
        poses = np.concatenate([root.reshape(len(root), -1), body.reshape(len(body), -1)], -1)
    poses = poses.reshape(len(poses), -1)
    if poses.shape[1] not in (66, 69, 72, 156, 165, 168) or len(poses) != len(trans):
        raise MotionError(
            f"{path}: poses have shape {poses.shape} and {trans_name} {trans.shape}, expected T x 66, 72 (SMPL), "
            "156 (SMPL-H) or 165 (SMPL-X) and T x 3"
        )
    used = 24 if poses.shape[1] in (69, 72) else BODY_JOINTS
    used = min(used, poses.shape[1] // 3)
    rotations = rotation_matrices(poses[:, : 3 * used].reshape(len(poses), used, 3))
    fps = next(
        (_single(fields, name, path) for name in ("mocap_framerate", "mocap_frame_rate", "fps") if name in fields), None
    )
    gender = _text(fields.get("gender", "neutral"))
    betas = np.asarray(fields["betas"], float) if "betas" in fields else None
    return _posed("smpl", rotations, trans, gender, betas, body_model, fps=fps, poses=poses)


def from_gvhmr(data: Mapping[str, Any], path: Path, body_model: str | Path | None) -> RawMotion:
    """Return the motion of GVHMR's results: global parameters, y up, at the 30 Hz its demo resamples video to."""
    part = data["smpl_params_global"]
    if not isinstance(part, dict):
        raise MotionError(f"{path}: smpl_params_global is no mapping")
    raw = from_smpl_fields(part, path, body_model)
    return _replace(raw, format="gvhmr", fps=30.0, up="+y")


def from_wham(
    data: Mapping[Any, Any], path: Path, body_model: str | Path | None, person: int | None
) -> RawMotion:  # fmt: skip
    """Return the motion of one person of WHAM's results: the longest, unless ``person`` chooses."""
    chosen, people = _choose({key: len(value["pose_world"]) for key, value in data.items()}, person, path)
    part = data[chosen]
    frames = np.asarray(part.get("frame_ids", np.arange(len(part["pose_world"])))).astype(int).ravel()
    poses, present = fill_frames(frames, _numbers(part, "pose_world", path).reshape(len(frames), -1))
    trans, _ = fill_frames(frames, _numbers(part, "trans_world", path).reshape(len(frames), 3))
    fields = {"poses": poses[:, :72], "trans": trans, "betas": part.get("betas", np.zeros(10))}
    raw = from_smpl_fields(fields, path, body_model)
    return _replace(raw, format="wham", up="+y", present=present, notes=people)


def from_tram(data: Mapping[str, Any], path: Path, body_model: str | Path | None) -> RawMotion:
    """Return the motion of one track of TRAM, moved by ``camera.npy`` to its world: that of the first camera."""
    rotations = _numbers(data, "pred_rotmat", path)
    if rotations.ndim != 4 or rotations.shape[1:] != (24, 3, 3):
        raise MotionError(f"{path}: pred_rotmat has shape {rotations.shape}, expected Tx24x3x3")
    count = len(rotations)
    trans = _numbers(data, "pred_trans", path).reshape(count, 3)
    frames: np.ndarray = _numbers(data, "frame", path).astype(int).ravel()
    shape = _numbers(data, "pred_shape", path).mean(0) if "pred_shape" in data else None
    rest = rest_joints("neutral", shape, body_model)
    joints = smpl_joint_positions(rotations, trans, rest)
    notes: dict[str, Any] = {}
    camera_path = next(
        (p for p in (path.parent.parent / "camera.npy", path.parent / "camera.npy") if p.is_file()), None
    )
    if camera_path is not None:
        camera = read_tool_pickle(camera_path.read_bytes(), str(camera_path), MAX_BYTES)
        rot, pos = _numbers(camera, "pred_cam_R", camera_path), _numbers(camera, "pred_cam_T", camera_path)
        if frames.max(initial=0) >= len(rot) or rot.shape[1:] != (3, 3) or pos.shape != (len(rot), 3):
            raise MotionError(f"{camera_path}: cameras {rot.shape} and {pos.shape} do not cover frame {frames.max()}")
        joints = np.einsum("tij,tnj->tni", rot[frames], joints) + pos[frames][:, None]
        notes["camera"] = camera_path.name
    else:
        notes["camera"] = "camera.npy not found: the camera is taken as still"
    joints, present = fill_frames(frames, joints)
    return RawMotion("tram", _named(joints), up="camera", unit_m=1.0, present=present, notes=notes)


def from_phalp(
    data: Mapping[Any, Any], path: Path, body_model: str | Path | None, person: int | None
) -> RawMotion:  # fmt: skip
    """Return one person of 4D-Humans' (PHALP's) tracks, in the camera's frame.

    PHALP pretends a very long lens, which stretches depth: it is shrunk to that of a usual camera.
    """
    tracks: dict[int, list[tuple[int, Mapping[str, Any], np.ndarray]]] = {}
    for number, key in enumerate(sorted(data, key=str)):
        frame = data[key]
        when = int(frame.get("time", number)) if isinstance(frame, dict) else number
        for tid, body, camera in zip(frame["tid"], frame["smpl"], frame["camera"], strict=False):
            if isinstance(body, dict) and "body_pose" in body:
                tracks.setdefault(int(tid), []).append((when, body, np.asarray(camera, float).reshape(-1)[-3:]))
    chosen, notes = _choose({tid: len(items) for tid, items in tracks.items()}, person, path)
    items = sorted(tracks[chosen], key=lambda item: item[0])
    frames = np.array([item[0] for item in items])
    keep = np.concatenate([[True], np.diff(frames) > 0])
    items, frames = [item for item, use in zip(items, keep, strict=True) if use], frames[keep]
    if len(items) < 2:
        raise MotionError(f"{path}: the longest track has {len(items)} frames, expected 2 or more")
    rotations = np.stack([
        np.concatenate([np.asarray(b["global_orient"], float).reshape(1, 3, 3),
                        np.asarray(b["body_pose"], float).reshape(23, 3, 3)])
        for _, b, _ in items
    ])  # fmt: skip
    betas = np.mean([np.asarray(b.get("betas", np.zeros(10)), float).ravel()[:10] for _, b, _ in items], 0)
    trans = np.stack([camera for _, _, camera in items])
    trans[:, 2] *= _PHALP_FOCAL_SHARE
    joints = smpl_joint_positions(rotations, trans, rest_joints("neutral", betas, body_model))
    joints, present = fill_frames(frames, joints)
    return RawMotion("phalp", _named(joints), up="camera", unit_m=1.0, present=present, notes=notes)


def _posed(
    format: str, rotations: np.ndarray, trans: np.ndarray, gender: str, betas: np.ndarray | None,
    body_model: str | Path | None, *, fps: float | None, poses: np.ndarray,
) -> RawMotion:  # fmt: skip
    shape = None if betas is None else betas.reshape(-1, betas.shape[-1]).mean(0) if betas.ndim else None
    rest = rest_joints(gender, shape, body_model)
    joints = smpl_joint_positions(rotations, trans, rest)
    smpl: dict[str, np.ndarray] = {"poses": poses.astype(np.float32), "trans": trans.astype(np.float32)}
    if shape is not None:
        smpl["betas"] = shape.astype(np.float32)
    notes: dict[str, Any] = {"gender": gender}
    if shape is not None and np.abs(shape).max(initial=0.0) > 1e-6 and body_model is None:
        notes["shape"] = "zero shape instead of the file's: no body model given"
    return RawMotion(format, _named(joints), fps=fps, unit_m=1.0, smpl=smpl, notes=notes)


def _named(joints: np.ndarray) -> dict[str, np.ndarray]:
    return {name: joints[:, idx] for idx, name in enumerate(SMPL_JOINTS)}


def _replace(raw: RawMotion, **changes: Any) -> RawMotion:
    values = {**vars(raw), **changes}
    values["notes"] = {**raw.notes, **changes.get("notes", {})}
    return RawMotion(**values)


def _choose(lengths: Mapping[Any, int], person: int | None, path: Path) -> tuple[Any, dict[str, Any]]:
    if not lengths:
        raise MotionError(f"{path}: there is nobody in it")
    if person is not None:
        if person not in lengths:
            raise MotionError(f"{path}: no person {person}; there are: {', '.join(map(str, sorted(lengths)))}")
        chosen = person
    else:
        chosen = max(lengths, key=lambda key: lengths[key])
    return chosen, {"person": int(chosen), "people": len(lengths)}


def _first(fields: Mapping[str, Any], names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in fields:
            return name
    raise MotionError(f"{path}: none of the fields {', '.join(names)} is there")


def _numbers(fields: Mapping[str, Any], name: str, path: Path) -> np.ndarray:
    if not isinstance(fields, Mapping) or name not in fields:
        raise MotionError(f"{path}: field {name!r} is missing")
    value = np.asarray(fields[name])
    if value.dtype.kind not in "fiu" or value.size == 0:
        raise MotionError(f"{path}: {name} is not made of numbers")
    if not np.isfinite(value).all():
        raise MotionError(f"{path}: {name} holds {int((~np.isfinite(value)).sum())} values that are not finite")
    return value.astype(float)


def _single(fields: Mapping[str, Any], name: str, path: Path) -> float:
    value = _numbers(fields, name, path)
    if value.size != 1:
        raise MotionError(f"{path}: {name} has shape {value.shape}, expected one number")
    return float(value.reshape(()))


def _text(value: Any) -> str:
    item = np.asarray(value).reshape(-1)
    if not item.size:
        return "neutral"
    text = item[0].decode(errors="replace") if isinstance(item[0], bytes) else str(item[0])
    return text.strip("b'\" ").lower()


__all__ = [
    "InputFileError", "RawMotion", "from_gvhmr", "from_phalp", "from_smpl_fields", "from_tram", "from_wham",
]  # fmt: skip
