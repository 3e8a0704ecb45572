# SPDX-License-Identifier: Apache-2.0
"""How good and how fast retargeting and the gate are.

    python bench/bench_retarget.py pairs       # 35 SMPL clips: ours beside the G1 motions made from them elsewhere
    python bench/bench_retarget.py robots      # every public G1 motion brought to our 23 joints (docs/motions.md)
    python bench/bench_retarget.py mocap       # every human motion capture clip: failures, errors, speed
    python bench/bench_retarget.py speed       # the whole retargeter and live frames, in CPU time
    python bench/bench_retarget.py corruption  # motions damaged, repaired, and tracked in simulation

All but ``corruption`` need the public clips, found by GENMIMIC_SHARED or beside the repository. Times are
CPU seconds of this process. Prints a table, or with ``--json`` one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.check import check_motion, judge
from genmimic.check.corrupt import KINDS, corrupt
from genmimic.core.errors import GenMimicError
from genmimic.core.motion import Motion, load_motion, resample
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.rotation import quat_rotate
from genmimic.evaluate.metrics import aligned_keypoints
from genmimic.retarget import cleaning
from genmimic.retarget.g1_formats import read_g1_motion
from genmimic.retarget.g1_to_g1 import source_keypoints
from genmimic.retarget.g1_variants import VARIANTS
from genmimic.retarget.human import feet_of, retarget_human, sole_offsets, soles_at
from genmimic.retarget.human_pose import Targets
from genmimic.retarget.streaming import StreamingRetargeter

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("GENMIMIC_SHARED", ROOT.parent / "shared")) / "data"
PARTS = {
    "hands": ("left_hand", "right_hand"), "elbows": ("left_elbow", "right_elbow"), "head": ("head",),
    "knees": ("left_knee", "right_knee"), "feet": ("left_ankle_roll", "right_ankle_roll"),
}  # fmt: skip


def smpl_clips() -> list[Path]:
    """Return the SMPL clips, by name."""
    found = sorted((SHARED / "smpl_motions" / "asap_video").glob("*.npz"))
    if not found:
        raise SystemExit(f"no SMPL clips in {SHARED}; set GENMIMIC_SHARED")
    return found


def pairs() -> dict[str, Any]:
    """Compare with the G1 motions made from the same clips elsewhere (retargeting of LeCAR-Lab/ASAP)."""
    from genmimic.lift import read_human

    rows = []
    for path in smpl_clips():
        result = retarget_human(read_human(path))
        motion = result.motion
        theirs = read_g1_motion(SHARED / "g1_motions" / "asap" / f"0-motions_raw_tairantestbed_smpl_{path.stem}.pkl")
        pos, quat, joint_pos = source_keypoints(theirs)
        count = min(len(motion), int((len(theirs) - 1) * motion.fps / theirs.fps) + 1)
        at = np.minimum(np.arange(count) * theirs.fps / motion.fps, len(theirs) - 1.0)
        pos, quat = cleaning.interpolate(pos, at), cleaning.interpolate_quat(quat, at)
        joint_pos = cleaning.interpolate(joint_pos, at)
        model = VARIANTS[theirs.model]
        ours_local = aligned_keypoints(motion.keypoint_pos[:count], motion.root_quat[:count])
        difference = 100.0 * np.linalg.norm(ours_local - aligned_keypoints(pos, quat[:, 0]), axis=-1)
        state = _links(motion)
        rows.append(
            {
                "clip": path.stem.removeprefix("video_").removesuffix("_amass"),
                "difference_cm": float(difference.mean()),
                **{
                    f"{part}_cm": float(difference[:, ROBOT.keypoint_idx(names)].mean())
                    for part, names in PARTS.items()
                },
                "ours": _judge(*state, motion.joint_pos, ROBOT, motion.fps, result.targets),
                "theirs": _judge(pos, quat, joint_pos, model, motion.fps, result.targets),
            }
        )
    return {"clips": len(rows), "rows": rows, "mean": _mean(rows)}


def _links(motion: Any) -> tuple[np.ndarray, np.ndarray]:
    from genmimic.core.kinematics import forward_kinematics

    state = forward_kinematics(ROBOT, motion.root_pos, motion.root_quat, motion.joint_pos)
    return state.pos, state.quat


def _judge(
    pos: np.ndarray, quat: np.ndarray, joint_pos: np.ndarray, model: Any, fps: float, wanted: Targets
) -> dict[str, float]:
    """Feet, ranges and speed of a motion given by its keypoints; the same rules for everybody's."""
    feet, offset = feet_of(ROBOT), sole_offsets(ROBOT)
    soles = soles_at(pos[:, feet], quat[:, feet], offset)
    lowest = soles[..., 2].min((1, 2))
    level = soles.copy()
    level[..., 2] -= np.percentile(lowest, 20)  # contacts are found on everybody's own floor
    contacts = cleaning.foot_contacts(level, fps)
    tilt = np.arccos(np.clip(quat_rotate(quat[:, feet], np.array([0.0, 0.0, 1.0]))[..., 2], -1.0, 1.0))
    beyond = np.maximum(model.joint_lower - joint_pos, joint_pos - model.joint_upper)
    speed = np.abs(np.diff(joint_pos, axis=0)) * fps
    acceleration = np.abs(np.diff(joint_pos, 2, axis=0)) * fps**2
    names = [name for part in ("hands", "elbows", "knees", "feet") for name in PARTS[part]]
    idx = ROBOT.keypoint_idx(names)
    count = len(pos)
    off = (pos[:, idx] - pos[:, :1]) - (wanted.pos[:count, idx] - wanted.pos[:count, :1])
    return {
        "skate_cm_s": 100.0 * cleaning.skating(soles, contacts, fps),
        "tilt_deg": float(np.degrees(np.median(tilt[contacts]))) if contacts.any() else 0.0,
        "sink_cm": 100.0 * max(0.0, -float(lowest.min())),
        "float_cm": 100.0 * max(0.0, float(np.median(lowest))),
        "beyond_rad": max(0.0, float(beyond.max())),
        "beyond_share": float((beyond > 1e-4).any(-1).mean()),
        "speed_rad_s": float(speed.max()),
        "accel_p999": float(np.quantile(acceleration, 0.999)),
        "person_cm": 100.0 * float(np.linalg.norm(off, axis=-1).mean()),
    }


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mean: dict[str, Any] = {}
    for key, value in rows[0].items():
        if isinstance(value, dict):
            mean[key] = _mean([row[key] for row in rows])
        elif isinstance(value, (int, float)):
            mean[key] = float(np.mean([row[key] for row in rows]))
    return mean


def robots(every: int = 1) -> dict[str, Any]:
    """Bring every public motion of another G1 to ours."""
    from genmimic.retarget.g1_to_g1 import retarget

    folder = SHARED / "g1_motions"
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".pkl", ".gz", ".npz", ".csv"))[::every]
    if not paths:
        raise SystemExit(f"no G1 motions in {SHARED}; set GENMIMIC_SHARED")
    rows, failures, seconds = [], [], 0.0
    for path in paths:
        try:
            source = read_g1_motion(path)
            begin = time.process_time()
            motion, report = retarget(source)
            seconds += time.process_time() - begin
        except GenMimicError as error:
            failures.append(f"{path.name}: {error}")
            continue
        rows.append(
            {
                "clip": path.name,
                "collection": path.relative_to(folder).parts[0],
                "frames": len(motion),
                **asdict(report),
            }
        )
    frames = sum(row["frames"] for row in rows)
    return {
        "clips": len(paths), "failures": failures, "minutes": frames / 3000.0, "frames_per_s": frames / seconds,
        "rows": rows,
    }  # fmt: skip


def mocap(every: int = 1) -> dict[str, Any]:
    """Retarget every motion capture clip."""
    from genmimic.lift import read_human

    folder = SHARED / "human_mocap"
    paths = sorted([*folder.rglob("*.bvh.gz"), *folder.rglob("*.amc.gz")])[::every]
    if not paths:
        raise SystemExit(f"no motion capture in {SHARED}; set GENMIMIC_SHARED")
    rows, failures, frames, seconds = [], [], 0, 0.0
    for path in paths:
        try:
            person = read_human(path)
            begin = time.process_time()
            result = retarget_human(person)
            seconds += time.process_time() - begin
        except GenMimicError as error:
            failures.append(f"{path.name}: {error}")
            continue
        frames += len(result.motion)
        report = result.report
        verdict = judge(ROBOT, result.motion)
        rows.append(
            {
                "clip": path.name, "verdict": verdict.verdict, "error_cm": report.error_cm,
                "skate_cm_s": report.skate_cm_s, "sink_cm": max(0.0, -report.sole_min_cm),
                "speed_rad_s": report.max_joint_speed,
                "findings": sorted({finding.kind for finding in verdict.findings}),
            }
        )  # fmt: skip
    verdicts = {name: sum(row["verdict"] == name for row in rows) for name in ("ok", "gantry only", "refused")}
    return {
        "clips": len(paths), "failures": failures, "frames": frames, "frames_per_s": frames / seconds,
        "minutes": frames / 3000.0, "verdicts": verdicts, "mean": _mean(rows), "rows": rows,
    }  # fmt: skip


def speed(repeats: int = 3) -> dict[str, Any]:
    """Time the whole retargeter, best of some repeats per clip, and live frames."""
    from genmimic.lift import read_human

    people = [read_human(path) for path in smpl_clips()]
    retarget_human(people[0])  # builds models and caches
    frames = human_frames = 0
    seconds = 0.0
    for person in people:
        times = []
        for _ in range(repeats):
            begin = time.process_time()
            result = retarget_human(person)
            times.append(time.process_time() - begin)
        frames, human_frames, seconds = frames + len(result.motion), human_frames + len(person), seconds + min(times)
    return {
        "robot_frames": frames, "robot_frames_per_s": frames / seconds, "human_frames_per_s": human_frames / seconds,
        **_live(people),
    }  # fmt: skip


def _live(people: Sequence[Any]) -> dict[str, float]:
    """Push the clips frame by frame: time per frame, distance from the whole clip's result, and delay behind it."""
    times: list[float] = []
    off, delays, skates = [], [], []
    for person in people:
        live = StreamingRetargeter(person.joint_names, person.fps)
        poses = []
        for frame in person.joint_pos:
            begin = time.process_time()
            poses.append(live.push(frame))
            times.append(time.process_time() - begin)
        joint_pos = np.array([pose.joint_pos for pose in poses])
        root_pos, root_quat = (np.array([getattr(pose, name) for pose in poses]) for name in ("root_pos", "root_quat"))
        streamed = Motion.from_joints(ROBOT, person.fps, joint_pos, root_pos, root_quat, "live")
        clip = resample(ROBOT, retarget_human(person).motion, person.fps)
        count = min(len(streamed), len(clip))
        settled = slice(min(count - 2, round(person.fps)), count)  # the first second is for the proportions
        one, two = (
            aligned_keypoints(motion.keypoint_pos, motion.root_quat)[settled] for motion in (streamed, clip)
        )  # fmt: skip
        off.append(100.0 * float(np.linalg.norm(one - two, axis=-1).mean()))
        delays.append(_delay(one.reshape(len(one), -1), two.reshape(len(two), -1)))
        feet, offset = feet_of(ROBOT), sole_offsets(ROBOT)
        pos, quat = _links(streamed)
        contacts = np.array([pose.contacts for pose in poses])
        skates.append(100.0 * cleaning.skating(soles_at(pos[:, feet], quat[:, feet], offset), contacts, person.fps))
    return {
        "live_ms_p50": 1e3 * float(np.median(times)), "live_ms_p99": 1e3 * float(np.quantile(times, 0.99)),
        "live_off_clip_cm": float(np.mean(off)), "live_delay_frames": float(np.mean(delays)),
        "live_skate_cm_s": float(np.mean(skates)),
    }  # fmt: skip


def _delay(late: np.ndarray, early: np.ndarray, most: int = 4) -> float:
    """Return by how many frames, in fractions, ``late`` (T, D) follows ``early``: the minimum of their distance."""
    shifts = range(-most, most + 1)
    inner = slice(most, len(early) - most)
    if len(early) < 4 * most:
        return 0.0
    distance = [float(np.mean((late[inner] - np.roll(early, shift, 0)[inner]) ** 2)) for shift in shifts]
    best = int(np.clip(np.argmin(distance), 1, len(distance) - 2))
    left, here, right = distance[best - 1 : best + 2]
    return shifts[best] + 0.5 * (left - right) / max(left - 2.0 * here + right, 1e-12)


def corruption(names: Sequence[str], seed: int, policy: str | None, rollouts: int) -> dict[str, Any]:
    """Track motions damaged, repaired, and as `check --repair` hands them out, against the undamaged motion.

    The rollouts that decide what is handed out and those that are reported are different ones.
    """
    rows = []
    for row in _corruption(names, seed, policy, rollouts):
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    kinds = ("none", *KINDS)
    table = {kind: _mean([row for row in rows if row["kind"] == kind]) for kind in kinds}
    damaged = _mean([row for row in rows if row["kind"] != "none"])
    by_motion = {Path(name).stem: _mean([row for row in rows if row["motion"] == Path(name).stem and
                                         row["kind"] != "none"]) for name in names}  # fmt: skip
    return {
        "motions": list(names), "seed": seed, "rollouts": rollouts, "rows": rows, "by_kind": {**table, "all": damaged},
        "by_motion": by_motion,
    }  # fmt: skip


def _corruption(names: Sequence[str], seed: int, policy: str | None, rollouts: int) -> Iterator[dict[str, Any]]:
    from genmimic.policy import find_policy, find_shipped, load_policy
    from genmimic.sim.simulated_g1 import SimulatedG1

    path = find_policy(policy)
    student, sim = load_policy(path, ROBOT), SimulatedG1(ROBOT)
    for name in names:
        clean = load_motion(find_shipped(name, "motions", ".npz"), ROBOT)
        for kind in ("none", *KINDS):
            damaged = clean if kind == "none" else corrupt(ROBOT, clean, kind, seed=seed)
            repaired = check_motion(ROBOT, damaged, mend=True)
            handed = check_motion(ROBOT, damaged, path, mend=True, seed=seed)
            row: dict[str, Any] = {"motion": Path(name).stem, "kind": kind, "repairs": repaired.judgement.repairs,
                                   "verdict": handed.judgement.verdict, "left_out": handed.left_out}  # fmt: skip
            results: dict[bytes, dict[str, float]] = {}
            for label, motion in (("before", damaged), ("repaired", repaired.motion), ("handed", handed.motion)):
                same = motion.joint_pos.tobytes() + motion.root_pos.tobytes()
                if same not in results:
                    results[same] = _tracked(student, sim, motion, clean, rollouts)
                row[label] = results[same]
            yield row


def _tracked(student: Any, sim: Any, motion: Motion, clean: Motion, rollouts: int) -> dict[str, float]:
    """Return how the policy tracks ``motion``, held against ``clean``: once as it is, else as `judge.track` does."""
    from genmimic.core.noise import NOISE_LEVELS
    from genmimic.core.randomization import PAPER_RANDOMIZATION
    from genmimic.evaluate.rollout import plan, rollout, rollout_seed

    unpushed = replace(PAPER_RANDOMIZATION, push_velocity_m_s=(0.0, 0.0))
    goal = aligned_keypoints(clean.keypoint_pos, clean.root_quat)
    local = aligned_keypoints(motion.keypoint_pos, motion.root_quat)
    planned, runs, off = plan(ROBOT, motion), [], []
    for number in range(rollouts):
        run = rollout(
            ROBOT, student, planned, noise=NOISE_LEVELS["paper" if number else "none"],
            randomization=unpushed if number else None, seed=rollout_seed(1, "corruption", number), sim=sim,
            goal_frame=student.manifest.goal_frame,
        )  # fmt: skip
        start, end = (int(frame) for frame in run.trajectory["motion_frames"])
        did = aligned_keypoints(run.trajectory["keypoint_pos"][start:end], run.trajectory["root_quat"][start:end])
        off.append(100.0 * float(np.linalg.norm(did - goal[: len(did)], axis=-1).mean()))
        runs.append(run)
    return {
        "goal_cm": 100.0 * float(np.linalg.norm(local - goal, axis=-1).mean()),
        "robot_cm": off[0],
        "nominal": float(runs[0].metrics["no_fall"]),
        "no_fall": float(np.mean([run.metrics["no_fall"] for run in runs])),
        "sr": float(np.mean([run.metrics["sr"] for run in runs])),
        "refused": float(judge(ROBOT, motion).verdict == "refused"),
    }


# printing --------------------------------------------------------------------------------------
def _print_pairs(result: dict[str, Any]) -> None:
    print("| clip | difference cm | hands | feet | skate ours/theirs cm/s | sole tilt deg | sink cm | float cm | "
          "beyond range, frames % | person cm |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in [*result["rows"], {"clip": "mean", **result["mean"]}]:
        ours, theirs = row["ours"], row["theirs"]

        def both(key: str, factor: float = 1.0, ours: dict = ours, theirs: dict = theirs) -> str:  # type: ignore[type-arg]
            return f"{factor * ours[key]:.1f} / {factor * theirs[key]:.1f}"

        print(
            f"| {row['clip']} | {row['difference_cm']:.1f} | {row['hands_cm']:.1f} | {row['feet_cm']:.1f} | "
            f"{both('skate_cm_s')} | {both('tilt_deg')} | {both('sink_cm')} | {both('float_cm')} | "
            f"{both('beyond_share', 100.0)} | {both('person_cm')} |"
        )


def _print_robots(result: dict[str, Any]) -> None:
    print(
        "| collection | clips | min | mean cm | 95th percentile cm | hands cm | head cm | feet cm | "
        "fastest joint rad/s, median (max) | skating of standing feet cm/s | lowest sole cm | frames repaired | "
        "clips with jumps |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["collection"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["collection"] == name]

        def of(key: str, rows: list[dict[str, Any]] = rows) -> np.ndarray:
            return np.array([row[key] for row in rows], float)

        print(
            f"| {name} | {len(rows)} | {of('frames').sum() / 3000.0:.1f} | {of('error_cm').mean():.2f} "
            f"({of('error_cm').max():.2f}) | {of('error_p95_cm').mean():.1f} ({of('error_p95_cm').max():.1f}) | "
            f"{of('hands_cm').mean():.2f} | {of('head_cm').mean():.2f} | {of('feet_cm').mean():.2f} | "
            f"{np.median(of('max_joint_speed')):.1f} ({of('max_joint_speed').max():.1f}) | "
            f"{of('source_skate_cm_s').mean():.1f} to {of('skate_cm_s').mean():.1f} | {of('sole_min_cm').min():.2f} | "
            f"{of('repaired_frames').sum():.0f} | {(of('flight_frames') > 0).sum()} |"
        )
    print(
        f"{result['clips']} clips, {len(result['failures'])} failures {result['failures']}, "
        f"{result['minutes']:.1f} min, {result['frames_per_s']:.0f} frames per CPU second"
    )


def _print_corruption(result: dict[str, Any]) -> None:
    print(f"{len(result['motions'])} motions, {result['rollouts']} rollouts each: damaged / repaired / handed out\n")
    print("| damage | goal off clean cm | robot off clean cm | no fall % | SR % | refused without simulation % |")
    print("|---|---|---|---|---|---|")
    for name, row in {**result["by_kind"], **result["by_motion"]}.items():
        three = [row[label] for label in ("before", "repaired", "handed")]
        cells = [" / ".join(f"{one[key]:.1f}" for one in three) for key in ("goal_cm", "robot_cm")]
        cells += [" / ".join(f"{100 * one[key]:.0f}" for one in three) for key in ("no_fall", "sr", "refused")]
        print(f"| {name} | {' | '.join(cells)} |")
    left = sum(bool(row["left_out"]) for row in result["rows"])
    print(f"\na repair was left out, whole or in part, in {left} of {len(result['rows'])} cases")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("pairs", "robots", "mocap", "speed", "corruption"))
    parser.add_argument("--every", type=int, default=1, help="of robots and mocap, take every Nth clip")
    parser.add_argument("--motions", nargs="+", help="motions for the corruption test (default: all shipped)")
    parser.add_argument("--rollouts", type=int, default=4, help="for the corruption test, the first nominal")
    parser.add_argument("--policy", help="for the corruption test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.what == "pairs":
        result = pairs()
    elif args.what == "robots":
        result = robots(args.every)
    elif args.what == "mocap":
        result = mocap(args.every)
    elif args.what == "speed":
        result = speed()
    else:
        names = args.motions or sorted(path.stem for path in (ROOT / "motions").glob("*.npz"))
        result = corruption(names, args.seed, args.policy, args.rollouts)
    if args.json:
        print(json.dumps(result, indent=1))
    elif args.what == "pairs":
        _print_pairs(result)
    elif args.what == "robots":
        _print_robots(result)
    elif args.what == "corruption":
        _print_corruption(result)
    else:
        print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1))


if __name__ == "__main__":
    main()
