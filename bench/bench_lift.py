# SPDX-License-Identifier: Apache-2.0
"""How good and how fast is lifting? Against truth, with every cleaning step left out in turn.

    python bench/bench_lift.py [--data SHARED/data] [--only four_cameras|robot|speed] [--json OUT]

- ``four_cameras``: the single-person clip of pose2sim. The reference is made here: MediaPipe's landmarks in the four
  calibrated pictures, triangulated. Each camera alone is then lifted and compared.
- ``robot``: clips of the simulated G1, drawn by a fixed camera, with its own motion as truth; once as it is, and once
  with a face, hair and ears, without which nobody sees where its front is. Needs OpenGL.
- ``speed``: pictures per second of the whole of `lift_video`, and of its parts.

Metrics, over hips, knees, ankles, shoulders, elbows and wrists: ``mpjpe`` (cm) with the middle of the hips and one
heading per clip aligned; ``pa`` (cm) with each picture's best similarity; ``root`` (cm), the path of the hips after the
first second is aligned in place, mean and at the end; ``accel`` (m/s^2), mean acceleration against that of the truth;
``skate`` (cm/s), horizontal speed of the lower ankle where the reference's is below 15 cm/s.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from unittest import mock

import numpy as np

from genmimic.core.human import REQUIRED_JOINTS
from genmimic.core.robot import Robot
from genmimic.lift.landmarks import LANDMARK_NAMES, Landmarker, start_landmarkers
from genmimic.lift.motion import _LANDMARK_OF, Steps, lift_observation, world_joints
from genmimic.lift.observe import observe
from genmimic.lift.solve import POINTS
from genmimic.sim.shapes import COLOURS, VISUAL, Shape, Vec3, robot_shapes

VARIANTS: dict[str, Steps] = {
    "all steps": Steps(),
    **{f"without {f.name}": replace(Steps(), **{f.name: False}) for f in fields(Steps)},
    "none": Steps(**{f.name: False for f in fields(Steps)}),
}
CAMERA_RIGHT = np.array([0.196, 0.981, 0.0])  # of the model's front camera
ROBOT_CLIPS = ("wave", "dance", "squat", "kick")
_ROBOT_POINTS = {
    "hip": "hip_roll", "knee": "knee", "ankle": "ankle_roll", "shoulder": "shoulder_roll", "elbow": "elbow",
    "wrist": "wrist_roll",
}  # fmt: skip


# truth -----------------------------------------------------------------------------------------
def read_cameras(path: Path) -> list[dict[str, np.ndarray]]:
    """Return intrinsics and poses from a Qualisys calibration: pinhole and two radial terms, world in m, z up."""
    cameras = []
    for item in ET.parse(path).getroot().iter("camera"):
        pose, lens = item.find("transform").attrib, item.find("intrinsic").attrib
        axes = np.array([[float(pose[f"r{row}{col}"]) for col in (1, 2, 3)] for row in (1, 2, 3)])
        cameras.append({
            "rotation": np.diag([1.0, -1.0, -1.0]) @ axes,  # their camera looks along -z, y up
            "centre": np.array([float(pose[axis]) for axis in "xyz"]) / 1000.0,
            "focal": np.array([float(lens["focalLengthU"]), float(lens["focalLengthV"])]) / 64.0,
            "middle": np.array([float(lens["centerPointU"]), float(lens["centerPointV"])]) / 64.0,
            "radial": np.array([float(lens["radialDistortion1"]), float(lens["radialDistortion2"])]),
        })  # fmt: skip
    return cameras


def undistorted(pixel: np.ndarray, camera: dict[str, np.ndarray]) -> np.ndarray:
    """Return x/z and y/z of pixels."""
    bent = (pixel - camera["middle"]) / camera["focal"]
    ray = bent.copy()
    for _ in range(5):
        square = (ray**2).sum(-1, keepdims=True)
        ray = bent / (1.0 + camera["radial"][0] * square + camera["radial"][1] * square**2)
    return ray


def triangulate(rays: np.ndarray, weight: np.ndarray, cameras: list[dict[str, np.ndarray]]) -> tuple[np.ndarray, float]:
    """Return points by weighted linear least squares, robustly, and the median error in the pictures in pixels.

    Args:
        rays: Shape (C, T, J, 2).
        weight: Shape (C, T, J).
        cameras: C of them.
    """
    loss = np.ones(weight.shape)
    points = np.zeros((*rays.shape[1:3], 3))
    off = np.zeros(weight.shape)
    for _ in range(6):
        normal, right = np.zeros((*points.shape, 3)), np.zeros(points.shape)
        for number, camera in enumerate(cameras):
            for axis in range(2):
                row = camera["rotation"][axis] - rays[number, ..., axis : axis + 1] * camera["rotation"][2]
                w = (weight[number] * loss[number])[..., None]
                normal += w[..., None] * row[..., :, None] * row[..., None, :]
                right += w * row * (row @ camera["centre"])[..., None]
        points = np.linalg.solve(normal + 1e-12 * np.eye(3), right[..., None])[..., 0]
        for number, camera in enumerate(cameras):
            seen = (points - camera["centre"]) @ camera["rotation"].T
            off[number] = np.linalg.norm(seen[..., :2] / seen[..., 2:] - rays[number], axis=-1) * camera["focal"][0]
        loss = 1.0 / (1.0 + (off / 8.0) ** 2) ** 2
    return points, float(np.median(off))


# metrics ---------------------------------------------------------------------------------------
def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a`` moved, turned and scaled onto ``b``. Shape (J, 3)."""
    ca, cb = a.mean(0), b.mean(0)
    u, s, vt = np.linalg.svd((a - ca).T @ (b - cb))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (s * sign).sum() / ((a - ca) ** 2).sum() * (a - ca) @ (u * sign) @ vt + cb


def yaw_onto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the rotation about z that brings horizontal vectors ``a`` closest to ``b``. Shapes (N, 3)."""
    angle = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a[:, :2] * b[:, :2]).sum())
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def compare(time_s: np.ndarray, got: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the metrics of the module's docstring. Paths of `REQUIRED_JOINTS`, shapes (T, 12, 3)."""
    hips = [REQUIRED_JOINTS.index(f"{side}_hip") for side in ("left", "right")]
    ankles = [REQUIRED_JOINTS.index(f"{side}_ankle") for side in ("left", "right")]
    got_root, true_root = got[:, hips].mean(1), truth[:, hips].mean(1)
    local, true_local = got - got_root[:, None], truth - true_root[:, None]
    turn = yaw_onto(local.reshape(-1, 3), true_local.reshape(-1, 3))
    local, path = local @ turn.T, got_root @ turn.T
    early = time_s <= time_s[0] + min(1.0, 0.3 * (time_s[-1] - time_s[0]))
    path = path + (true_root[early] - path[early]).mean(0)
    root = np.linalg.norm(path - true_root, axis=-1)
    pa = [np.linalg.norm(similarity(a, b) - b, axis=-1).mean() for a, b in zip(got, truth, strict=True)]
    step = np.gradient(time_s)

    def accel(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.diff(values, n=2, axis=0) / step[1:-1, None, None] ** 2, axis=-1)

    feet, true_feet = got[:, ankles], truth[:, ankles]
    slow = np.linalg.norm(np.gradient(true_feet, axis=0) / step[:, None, None], axis=-1) < 0.15
    skate = np.linalg.norm(np.gradient(feet, axis=0)[..., :2] / step[:, None, None], axis=-1)
    return {
        "mpjpe_cm": 100 * float(np.linalg.norm(local - true_local, axis=-1).mean()),
        "pa_cm": 100 * float(np.mean(pa)),
        "root_cm": 100 * float(root.mean()),
        "root_end_cm": 100 * float(root[-5:].mean()),
        "accel": float(accel(got).mean()),
        "accel_true": float(accel(truth).mean()),
        "skate_cm_s": 100 * float(skate[slow].mean()) if slow.sum() > 5 else float("nan"),
    }


def required(joints: dict[str, np.ndarray]) -> np.ndarray:
    """Return `REQUIRED_JOINTS` as one array. Shape (T, 12, 3)."""
    return np.stack([joints[name] for name in REQUIRED_JOINTS], 1)


# cases -----------------------------------------------------------------------------------------
def four_cameras(folder: Path, landmarkers: Sequence[Landmarker]) -> dict[str, dict[str, float]]:
    """Lift each camera of the pose2sim clip alone; return mean metrics per variant."""
    cameras = read_cameras(folder / "Calib.qca.txt")
    seen = [observe(folder / f"cam0{number}.mp4", landmarkers=landmarkers) for number in (1, 2, 3, 4)]
    count = min(len(item) for item in seen)
    rays, weight = [], []
    for item, camera in zip(seen, cameras, strict=True):
        scale = 1920.0 / max(item.size)
        pixel = np.stack([item.pixel[:count, idx].mean(1) for idx in _LANDMARK_OF.values()], 1) * scale
        rays.append(undistorted(pixel, camera))
        weight.append(np.stack([item.visibility[:count, idx].min(1) for idx in _LANDMARK_OF.values()], 1) ** 2)
    points, error = triangulate(np.stack(rays), np.stack(weight), cameras)
    kernel = np.hanning(9)[1:-1] / np.hanning(9)[1:-1].sum()
    padded = np.pad(points, ((3, 3), (0, 0), (0, 0)), mode="edge")
    points = np.apply_along_axis(lambda column: np.convolve(column, kernel, "valid"), 0, padded)
    at = {name: points[:, idx] for idx, name in enumerate(POINTS)}
    legs = np.mean([np.median(np.linalg.norm(at[f"{s}_hip"] - at[f"{s}_knee"], axis=-1)
                              + np.linalg.norm(at[f"{s}_knee"] - at[f"{s}_ankle"], axis=-1)
                              + np.linalg.norm(at[f"{s}_hip"] - at[f"{s}_shoulder"], axis=-1))
                    for s in ("left", "right")])  # fmt: skip
    height = float(legs / 0.772)
    print(f"four cameras: reference reprojects within {error:.1f} px (median), height {height:.2f} m")
    truth = required(world_joints(points))
    focal = cameras[0]["focal"][0] / 1920.0
    table: dict[str, dict[str, float]] = {}
    cases = [(name, steps, height, None) for name, steps in VARIANTS.items()]
    cases += [
        ("all steps, true focal length", Steps(), height, focal),
        ("all steps, height unknown", Steps(), None, None),
    ]
    for name, steps, tall, share in cases:
        results = []
        for item in seen:
            lifted = lift_observation(
                item.part(slice(0, count)), height=tall, steps=steps,
                focal_px=None if share is None else share * max(item.size),
            )  # fmt: skip
            results.append(compare(item.time_s[:count], required(world_joints(lifted.clean_pos)), truth))
        table[name] = {key: float(np.mean([result[key] for result in results])) for key in results[0]}
        if name == "all steps":
            for number, result in enumerate(results):
                table[f"  camera {number + 1}"] = result
    return table


FACE_COLOURS = {
    "skin": (0.87, 0.66, 0.53, 1.0), "hair": (0.16, 0.10, 0.06, 1.0), "lips": (0.65, 0.25, 0.25, 1.0),
    "eye": (0.95, 0.95, 0.95, 1.0),
}  # fmt: skip


def with_face(robot: Robot) -> tuple[Shape, ...]:
    """Return the robot's shapes with a person's head in place of its own."""

    def ball(x: float, y: float, z: float, radius: float, colour: str) -> Shape:
        return Shape("", "torso_link", "sphere", (x, y, z), (x, y, z), (radius,), colour=colour)

    def rod(start: Vec3, end: Vec3, radius: float, colour: str) -> Shape:
        return Shape("", "torso_link", "capsule", start, end, (radius,), colour=colour)

    def bar(x: float, y: float, z: float, half: Vec3, colour: str) -> Shape:
        return Shape("", "torso_link", "box", (x, y, z), (x, y, z), half, colour=colour)

    head = [
        rod((0.004, 0.0, 0.405), (0.004, 0.0, 0.452), 0.072, "skin"),
        rod((-0.018, 0.0, 0.400), (-0.018, 0.0, 0.462), 0.070, "hair"),
        ball(-0.004, 0.0, 0.470, 0.070, "hair"),
        rod((0.073, 0.0, 0.438), (0.082, 0.0, 0.418), 0.008, "skin"),
        bar(0.072, 0.0, 0.392, (0.004, 0.018, 0.004), "lips"),
    ]
    for side in (-1.0, 1.0):
        head += [
            ball(0.068, 0.026 * side, 0.440, 0.011, "eye"),
            ball(0.076, 0.026 * side, 0.440, 0.006, "black"),
            bar(0.070, 0.026 * side, 0.458, (0.004, 0.012, 0.0025), "hair"),
            ball(0.0, 0.074 * side, 0.430, 0.014, "skin"),
        ]
    body = [one for one in robot_shapes(robot) if one.role != VISUAL or one.link != "torso_link" or one.start[2] < 0.39]
    return (*body, *(replace(one, name=f"face_{number}") for number, one in enumerate(head)))


def robot(
    landmarkers: Sequence[Landmarker], clips: tuple[str, ...] = ROBOT_CLIPS, keep: Path | None = None, face: bool = True
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Draw the G1, lift the pictures, compare with its motion; return mean metrics per variant."""
    with ExitStack() as stack:
        if face:
            stack.enter_context(mock.patch.dict(COLOURS, FACE_COLOURS))
            stack.enter_context(mock.patch("genmimic.sim.mjcf.robot_shapes", with_face))
        return _robot(landmarkers, clips, keep, "face" if face else "plain")


def _robot(
    landmarkers: Sequence[Landmarker], clips: tuple[str, ...], keep: Path | None, looks: str
) -> dict[str, dict[str, float]]:  # fmt: skip
    from genmimic.core.motion import load_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.sim.render import render_sequence
    from genmimic.sim.video import VideoWriter

    motions = Path(__file__).resolve().parent.parent / "motions"
    results: dict[str, list[dict[str, float]]] = {}
    size, fps = 480, 25.0
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            motion = load_motion(motions / f"{clip}.npz", G1_23DOF)
            video = (keep or Path(folder)) / f"{clip}_{looks}.mp4"
            if not video.exists():
                with VideoWriter(video, fps) as writer:
                    for image in render_sequence(
                        G1_23DOF, motion.root_pos, motion.root_quat, motion.joint_pos, every=2, width=size,
                        height=size, camera="front", shadows=False,
                    ):  # fmt: skip
                        writer.add(image)
            keypoints = motion.keypoint_pos[::2]
            truth = np.stack([
                keypoints[:, G1_23DOF.keypoint_names.index(f"{name.split('_')[0]}_{_ROBOT_POINTS[name.split('_')[1]]}")]
                for name in REQUIRED_JOINTS
            ], 1)  # fmt: skip
            seen = observe(video, landmarkers=landmarkers)
            number = seen.frame_number
            focal = 0.5 * size / np.tan(np.deg2rad(22.5))
            sides = [LANDMARK_NAMES.index(f"{side}_shoulder") for side in ("left", "right")]
            left = seen.pixel[:, sides[0], 0] - seen.pixel[:, sides[1], 0]
            facing = (
                truth[number][:, REQUIRED_JOINTS.index("left_shoulder")]
                - truth[number][:, REQUIRED_JOINTS.index("right_shoulder")]
            )
            right = np.mean((left > 0.0) == (facing @ CAMERA_RIGHT > 0.0))
            print(f"robot ({looks}) {clip}: {len(seen)} pictures of {len(keypoints)}, found in "
                  f"{100 * seen.found.mean():.0f} %, sides seen right in {100 * right:.0f} %")  # fmt: skip
            for name, steps in VARIANTS.items():
                lifted = lift_observation(seen, height=1.30, focal_px=focal, steps=steps)
                result = compare(seen.time_s, required(world_joints(lifted.clean_pos)), truth[number])
                results.setdefault(name, []).append(result)
                if name == "all steps":
                    results[f"  {clip}"] = [result]
    return {
        name: {key: float(np.nanmean([item[key] for item in items])) for key in items[0]}
        for name, items in results.items()
    }


def speed(video: Path, landmarkers: Sequence[Landmarker]) -> dict[str, dict[str, float]]:
    """Time the parts on one video."""
    from genmimic.lift.video import VideoReader

    start = time.perf_counter()
    with VideoReader(video) as reader:
        count = sum(1 for _ in reader.frames())
    decode = time.perf_counter() - start
    start = time.perf_counter()
    seen = observe(video, landmarkers=landmarkers)
    watch = time.perf_counter() - start
    start = time.perf_counter()
    lift_observation(seen)
    solve = time.perf_counter() - start
    return {
        f"{video.stem} {seen.size[0]}x{seen.size[1]}": {
            "pictures": count, "decode_fps": count / decode, "observe_fps": len(seen) / watch,
            "clean_fps": len(seen) / solve, "lift_fps": len(seen) / (watch + solve),
        }
    }  # fmt: skip


def show(title: str, table: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    columns = list(next(iter(table.values())))
    print(f"\n{title}\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, row in table.items():
        print(f"| {name} | {' | '.join(f'{row[column]:.1f}' for column in columns)} |")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Accuracy and speed of lifting.")
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="folder with videos/")
    parser.add_argument("--only", choices=("four_cameras", "robot", "speed"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--landmarkers", type=int, metavar="N", help="at once; as many as there are cores by default")
    parser.add_argument("--keep", type=Path, help="folder to keep drawn clips in, and take them from")
    parser.add_argument("--clips", nargs="+", default=ROBOT_CLIPS, metavar="NAME", help="for robot")
    args = parser.parse_args()
    tables = {}
    with ExitStack() as stack:
        landmarkers = [stack.enter_context(one) for one in start_landmarkers(args.landmarkers, print)]
        if args.only in (None, "four_cameras"):
            tables["four_cameras"] = four_cameras(args.data / "videos" / "pose2sim_singleperson", landmarkers)
            show("Four cameras, each alone (means)", tables["four_cameras"])
        if args.only in (None, "robot"):
            for name, face in (("robot", False), ("robot with a face", True)):
                tables[name] = robot(landmarkers, tuple(args.clips), args.keep, face)
                show(f"Simulated G1: {name} (means)", tables[name])
        if args.only in (None, "speed"):
            tables["speed"] = {}
            for video in ("sports2d/demo.mp4", "pose2sim_singleperson/cam01.mp4"):
                tables["speed"].update(speed(args.data / "videos" / video, landmarkers))
            show("Speed, pictures per second", tables["speed"])
    if args.json:
        args.json.write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
