# SPDX-License-Identifier: Apache-2.0
"""Bring a motion of another Unitree G1 to our 23 joints, by inverse kinematics on the keypoints.

Leaving out the joints that our robot lacks would tilt the torso by up to 30 degrees, so the source robot's own
forward kinematics gives the targets, and our pelvis tilts and shifts for the waist joints it does not have.

    read -> repair flips -> 50 Hz -> put on the floor -> hold standing feet -> IK -> smooth -> put on the floor
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from genmimic import __version__
from genmimic.core.errors import MotionError
from genmimic.core.kinematics import forward_kinematics, lowest_sole_height, sole_positions
from genmimic.core.motion import CONTROL_RATE_HZ, Motion, resample
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import quat_conjugate, quat_multiply, quat_rotate, quat_rotate_inverse, wrap_angle
from genmimic.retarget import cleaning
from genmimic.retarget.g1_formats import SourceMotion, read_g1_motion
from genmimic.retarget.g1_variants import VARIANTS
from genmimic.retarget.ik import G1_TO_G1_WEIGHTS, IkWeights, KeypointIk

LINK_TOLERANCE = 0.01
"""Metres by which a link of a file without joint angles may be off its place on its parent."""


@dataclass(frozen=True)
class RetargetReport:
    """How well a clip came over. Lengths in cm, speeds in rad/s and cm/s.

    Attributes:
        error_cm: Mean distance of our keypoints from the source's, after the source was put on the floor.
        error_p95_cm: Its 95th percentile over frames and keypoints.
        hands_cm: Mean over both hands. ``head_cm`` and ``feet_cm`` likewise.
        max_joint_speed: Of our joints, by differences at 50 Hz.
        skate_cm_s: Mean sideways speed of standing feet; ``source_skate_cm_s`` that of the source.
        sole_min_cm: Lowest sole point over the clip; ``sole_median_cm``, ``sole_max_cm`` likewise.
        source_sole_cm: Minimum, median and maximum before.
        repaired_frames: Frames of the source that were drawn anew because it flipped there.
        flight_frames: Frames taken for jumps.
    """

    error_cm: float
    error_p95_cm: float
    hands_cm: float
    head_cm: float
    feet_cm: float
    max_joint_speed: float
    skate_cm_s: float
    source_skate_cm_s: float
    sole_min_cm: float
    sole_median_cm: float
    sole_max_cm: float
    source_sole_cm: tuple[float, float, float]
    repaired_frames: int
    flight_frames: int


def joints_from_links(model: Robot, link_pos: np.ndarray, link_quat: np.ndarray) -> np.ndarray:
    """Return the joint angles nearest to the links' orientations. Shapes (T, L, 3), (T, L, 4) to (T, J).

    A generated link may be turned a little about more than its joint's axis; that part is left out.

    Raises:
        MotionError: A link is not where ``model`` would have it on its parent.
    """
    names = list(model.link_names)
    angles = np.empty((len(link_quat), model.num_joints))
    for idx, joint in enumerate(model.joints):
        child = names.index(joint.link)
        link = model.links[child]
        parent = names.index(str(link.parent))
        arm = quat_rotate_inverse(link_quat[:, parent], link_pos[:, child] - link_pos[:, parent])
        off = float(np.linalg.norm(arm - link.pos, axis=-1).max())
        if off > LINK_TOLERANCE:
            raise MotionError(f"{link.name} is {100 * off:.1f} cm from its place on {model.name} (limit 1 cm)")
        rest = quat_multiply(link_quat[:, parent], np.broadcast_to(link.quat, link_quat[:, parent].shape))
        turn = quat_multiply(quat_conjugate(rest), link_quat[:, child])
        angles[:, idx] = wrap_angle(2.0 * np.arctan2(turn[:, 1:] @ np.array(joint.axis), turn[:, 0]))
    return angles


def source_keypoints(source: SourceMotion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the source's keypoints (T, K, 3), the orientation of their links (T, K, 4) and its joints (T, J)."""
    model = VARIANTS[source.model]
    if source.joint_pos is not None:
        state = forward_kinematics(model, source.root_pos, source.root_quat, source.joint_pos)
        return state.pos, state.quat, source.joint_pos
    assert source.link_pos is not None and source.link_quat is not None
    joint_pos = joints_from_links(model, source.link_pos, source.link_quat)
    idx = model.link_idx([keypoint.link for keypoint in model.keypoints])
    quat = source.link_quat[:, idx]
    offset = np.array([keypoint.offset for keypoint in model.keypoints])
    return source.link_pos[:, idx] + quat_rotate(quat, offset), quat, joint_pos


def retarget(
    source: SourceMotion, robot: Robot = G1_23DOF, weights: IkWeights = G1_TO_G1_WEIGHTS, iterations: int = 2
) -> tuple[Motion, RetargetReport]:
    """Return the motion on our robot at 50 Hz, and how well it came over.

    Raises:
        MotionError: The source's links do not fit its model, or the clip is shorter than 0.2 s.
        MissingDependencyError: mink or daqp is not installed.
    """
    model = VARIANTS[source.model]
    rate = CONTROL_RATE_HZ
    if source.duration < 0.2:
        raise MotionError(f"{source.name}: lasts {source.duration:.2f} s, expected at least 0.2 s")

    # the source's keypoints, repaired, at 50 Hz
    pos, quat, joint_pos = source_keypoints(source)
    flipped = cleaning.spike_frames(joint_pos, source.fps)
    flipped |= cleaning.displaced_frames(source.root_pos, source.fps)
    flipped = cleaning.widen(flipped, max(1, round(0.06 * source.fps)))
    for first, end in cleaning.runs(~flipped):  # a few good frames between two bad ones are not to be trusted
        if (end - first) / source.fps < 0.1 and first > 0 and end < len(flipped):
            flipped[first:end] = True
    if flipped.all():
        raise MotionError(f"{source.name}: joints flip in every frame; expected a motion slower than 25 rad/s")
    pose = _shared_joints(robot, model, joint_pos)
    pose = cleaning.bridge(pose[:, :, None], quat[:, :1], flipped)[0][:, :, 0]
    pos, quat = cleaning.bridge(pos, quat, flipped)
    at = np.arange(int(np.floor(source.duration * rate + 1e-6)) + 1) * source.fps / rate
    at = np.minimum(at, len(source) - 1.0)
    pos, quat, pose = cleaning.interpolate(pos, at), cleaning.interpolate_quat(quat, at), cleaning.interpolate(pose, at)

    # the floor, then standing feet
    feet = robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])
    sole_offset = _sole_offset(robot)
    soles = _soles_of(pos[:, feet], quat[:, feet], sole_offset)
    before = soles[..., 2].min((1, 2))
    flight = cleaning.flight_frames(before, pos[..., 2].mean(-1), rate)
    pos[..., 2] += cleaning.floor_correction(before, flight, sigma=2.0)[:, None]
    soles = _soles_of(pos[:, feet], quat[:, feet], sole_offset)
    contacts = cleaning.foot_contacts(soles, rate)
    ankle_pos, ankle_quat = cleaning.lock_feet(pos[:, feet], quat[:, feet], sole_offset, contacts, rate)
    drop = cleaning.stance_change(ankle_pos[..., 2] - pos[:, feet, 2], contacts, sigma=0.1 * rate)
    pos[..., 2] += drop[:, None]  # a tiptoe that was laid flat takes the body down with it, or the legs would stretch
    ankle_pos[..., 2] += np.where(contacts, 0.0, drop[:, None])
    ankle_pos[..., 2] += np.maximum(0.0, -_soles_of(ankle_pos, ankle_quat, sole_offset)[..., 2].min(-1))
    wanted_pos, wanted_quat = pos.copy(), quat.copy()
    wanted_pos[:, feet], wanted_quat[:, feet] = ankle_pos, ankle_quat

    # our robot
    ik = KeypointIk(robot, weights, rate, iterations)
    root_pos, root_quat, joints = ik.follow(wanted_pos, wanted_quat, pose)
    root_pos = cleaning.gaussian_smooth(root_pos, 1.0)
    root_quat = cleaning.smooth_quat(root_quat, 1.0)
    joints = np.clip(cleaning.gaussian_smooth(joints, 1.0), robot.joint_lower, robot.joint_upper)
    left = lowest_sole_height(robot, root_pos, root_quat, joints)
    root_pos[:, 2] += cleaning.floor_correction(left, flight, sigma=1.5)

    motion = Motion.from_joints(robot, rate, joints, root_pos, root_quat, source.name, source.source)
    return motion, _report(robot, motion, pos, contacts, soles, before, int(flipped.sum()), int(flight.sum()))


def _report(
    robot: Robot,
    motion: Motion,
    target: np.ndarray,
    contacts: np.ndarray,
    source_soles: np.ndarray,
    source_height: np.ndarray,
    repaired: int,
    flights: int,
) -> RetargetReport:
    error = 100.0 * np.linalg.norm(motion.keypoint_pos - target, axis=-1)

    def of(*names: str) -> float:
        return round(float(error[:, robot.keypoint_idx(names)].mean()), 2)

    soles = sole_positions(robot, motion.root_pos, motion.root_quat, motion.joint_pos)
    soles = soles.reshape(len(motion), 2, -1, 3)
    height = 100.0 * soles[..., 2].min((1, 2))
    fps = motion.fps
    return RetargetReport(
        error_cm=round(float(error.mean()), 2),
        error_p95_cm=round(float(np.percentile(error, 95)), 2),
        hands_cm=of("left_hand", "right_hand"),
        head_cm=of("head"),
        feet_cm=of("left_ankle_roll", "right_ankle_roll"),
        max_joint_speed=round(float(np.abs(np.diff(motion.joint_pos, axis=0)).max() * fps), 2),
        skate_cm_s=round(100.0 * cleaning.skating(soles, contacts, fps), 2),
        source_skate_cm_s=round(100.0 * cleaning.skating(source_soles, contacts, fps), 2),
        sole_min_cm=round(float(height.min()), 2),
        sole_median_cm=round(float(np.median(height)), 2),
        sole_max_cm=round(float(height.max()), 2),
        source_sole_cm=tuple(  # type: ignore[arg-type]
            round(100.0 * float(value), 1)
            for value in (source_height.min(), np.median(source_height), source_height.max())
        ),
        repaired_frames=repaired,
        flight_frames=flights,
    )


def _shared_joints(robot: Robot, model: Robot, joint_pos: np.ndarray) -> np.ndarray:
    """The source's angles in our order, and 0 for joints that it lacks. Shape (T, J)."""
    shared = np.zeros((len(joint_pos), robot.num_joints))
    for idx, name in enumerate(robot.joint_names):
        if name in model.joint_names:
            shared[:, idx] = joint_pos[:, model.joint_names.index(name)]
    return shared


def _sole_offset(robot: Robot) -> np.ndarray:
    """Lowest points of each foot's spheres in the foot's frame. Shape (2, S, 3), left first."""
    sides = [[sole for sole in robot.soles if sole.link.startswith(side)] for side in ("left", "right")]
    return np.array([[(*sole.pos[:2], sole.pos[2] - sole.radius) for sole in side] for side in sides])


def _soles_of(ankle_pos: np.ndarray, ankle_quat: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return ankle_pos[:, :, None] + quat_rotate(ankle_quat[:, :, None], offset)


# files -----------------------------------------------------------------------------------------
def convert_file(
    path: str | Path, format: str | None = None, fps: float | None = None, robot: Robot = G1_23DOF
) -> Motion:
    """Read a motion of any known format and return it on our robot at 50 Hz, with its origin in ``source``.

    Our own format is resampled and otherwise left alone. Where an ``index.json`` in the file's folder or one of its
    two parents names the file, its repository, commit, licence and content are taken over.

    Raises:
        InputFileError, MotionError, ConfigError: As `read_g1_motion`.
        MissingDependencyError: mink or daqp is not installed.
    """
    path = Path(path)
    source = read_g1_motion(path, format, fps)
    if source.format == "genmimic":
        assert source.joint_pos is not None
        motion = Motion.from_joints(
            robot, source.fps, source.joint_pos, source.root_pos, source.root_quat, source.name, source.source
        )
        return resample(robot, motion, CONTROL_RATE_HZ)
    motion, report = retarget(source, robot)
    origin: dict[str, Any] = {"file": path.name, "format": source.format, "model": source.model, "fps": source.fps}
    entry = index_entry(path)
    if entry is not None:
        origin.update({key: entry[key] for key in ("repo", "path", "commit", "licence", "content") if key in entry})
        origin["in_place"] = in_place(entry)
    origin["changes"] = "retargeted to the 23-joint G1, resampled to 50 Hz, put on the floor, smoothed"
    origin["retarget"] = asdict(report)
    origin["versions"] = versions()
    return replace(motion, source=origin)


def index_entry(path: str | Path) -> dict[str, Any] | None:
    """Return what an ``index.json`` beside the file, or up to two folders above it, says about it; else None."""
    path = Path(path).resolve()
    for folder in list(path.parents)[:3]:
        listing = folder / "index.json"
        if not listing.is_file():
            continue
        try:
            files = json.loads(listing.read_text(encoding="utf-8"))["files"]
            name = path.relative_to(folder).as_posix()
            return next((dict(entry) for entry in files if entry.get("file") == name), None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    return None


def in_place(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry of an ``index.json`` is a motion that stays where it is; the rule is in docs/motions.md.

    Net root motion at most 0.2 m, root path at most 0.15 m per second, headings within 75 degrees, soles never more
    than 0.12 m up, and no word "hard", "jump" or "walk" in its description. False where a figure is missing.
    """
    try:
        return (
            float(entry["root_net_m"]) <= 0.2
            and float(entry["root_path_m"]) / float(entry["duration_s"]) <= 0.15
            and abs(float(entry["yaw_span_deg"])) <= 75.0
            and float(entry["sole_low_m"][2]) <= 0.12
            and not any(word in str(entry.get("content", "")).lower() for word in ("hard", "jump", "walk"))
        )
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return False


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of what computed a result."""
    from importlib import metadata

    found = {"genmimic": __version__, "numpy": np.__version__}
    for name in ("mujoco", "mink", "daqp"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found
