# SPDX-License-Identifier: Apache-2.0
"""How far leg odometry drifts from where a simulated robot really went, for the path it went.

    python bench/bench_odometry.py [--policy P] [--motions PATH ...] [--rollouts 4] [--noise {none,paper}] [--json]
    python bench/bench_odometry.py --recorded --motions PATH ...

A policy plays each motion in simulation; odometry then reads the joints and orientation that were recorded, with or
without noise on the sole points, and is compared with the simulator's pelvis. Rollouts that fall are left
out: nobody asks a robot on the floor where it stands. Heading is the IMU's, and so has no drift of its own here.

With ``--recorded`` the motions themselves are what a robot did: another controller's walk, say, kept as a motion file.
Each window of four seconds in which the pelvis goes 0.8 m or further counts once.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from genmimic.cli.evaluate import find_motions
from genmimic.core.errors import GenMimicError
from genmimic.core.kinematics import sole_positions
from genmimic.core.motion import CONTROL_RATE_HZ, Motion, load_motion, resample
from genmimic.core.noise import NOISE_LEVELS
from genmimic.core.odometry import start_odometry, step_odometry
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.evaluate.rollout import plan, rollout, rollout_seed
from genmimic.policy import find_policy, load_policy
from genmimic.sim.simulated_g1 import SimulatedG1

WINDOW_S, WINDOW_WALKED_M = 4.0, 0.8
"""A stretch of a recorded walk, and the way from which on it counts."""

WALKED_M = 1.0
"""A path of at least this counts for the share of the way: of a robot that stands, any share is noise."""


def believed_path(
    robot: Robot, trajectory: dict[str, np.ndarray], sigma_m: float, rng: np.random.Generator
) -> np.ndarray:
    """Return where odometry believes the pelvis went, in m, from where it was. Shape (T, 2).

    Args:
        robot: The robot.
        trajectory: With ``joint_pos`` (T, J), ``root_pos`` (T, 3) and ``root_quat`` (T, 4).
        sigma_m: Noise on every sole point.
        rng: Its source.
    """
    soles = sole_positions(
        robot, np.zeros_like(trajectory["root_pos"]), trajectory["root_quat"], trajectory["joint_pos"]
    )
    soles = soles + rng.normal(0.0, sigma_m, soles.shape)
    odometry = start_odometry(trajectory["root_pos"][0, :2], soles[0])
    path = [odometry.pos[:2]]
    for now in soles[1:]:
        odometry = step_odometry(odometry, now)
        path.append(odometry.pos[:2])
    return np.array(path)


def way_of(path: np.ndarray) -> float:
    """Return the length of ``path`` (T, 2) at 50 Hz, in m, without sway: from one fifth of a second to the next."""
    return float(np.linalg.norm(np.diff(path[::10], axis=0), axis=1).sum())


def judge_recorded(robot: Robot, motions: dict[str, Motion], sigma_m: float, as_json: bool) -> int:
    """Print how far odometry is off in the windows of each motion; return the exit code."""
    rows: list[dict[str, Any]] = []
    window = round(CONTROL_RATE_HZ * WINDOW_S)
    for number, (name, motion) in enumerate(motions.items()):
        trajectory = {"joint_pos": motion.joint_pos, "root_pos": motion.root_pos, "root_quat": motion.root_quat}
        true = motion.root_pos[:, :2]
        believed = believed_path(robot, trajectory, sigma_m, np.random.default_rng(number))
        for start in range(0, len(true) - window, window):
            way = way_of(true[start : start + window + 1])
            if way >= WINDOW_WALKED_M:
                error = believed[start + window] - believed[start] - (true[start + window] - true[start])
                rows.append(
                    {
                        "motion": name,
                        "start_s": start / CONTROL_RATE_HZ,
                        "way_m": way,
                        "error_m": float(np.hypot(*error)),
                    }
                )
    if not rows:
        print(f"bench_odometry: error: no {WINDOW_S:g} s of these motions go {WINDOW_WALKED_M} m", file=sys.stderr)
        return 2
    shares = [row["error_m"] / row["way_m"] for row in rows]
    total = {
        "windows": len(rows), "way_m": sum(row["way_m"] for row in rows),
        "median_share_of_way": float(np.median(shares)), "p90_share_of_way": float(np.percentile(shares, 90)),
    }  # fmt: skip
    if as_json:
        print(json.dumps({"sigma_m": sigma_m, "total": total, "windows": rows}, indent=1))
        return 0
    for name in motions:
        own = [row["error_m"] / row["way_m"] for row in rows if row["motion"] == name]
        if own:
            print(f"{name[:60]:<60} {len(own):3d} windows  {100.0 * float(np.median(own)):5.1f} % of the way")
    print(json.dumps(total))
    return 0


def main() -> int:
    """Print a table, or JSON; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--policy", default="student", metavar="P", help="policy, *.onnx, or a shipped one's name")
    parser.add_argument("--motions", nargs="+", metavar="PATH", help="motions, folders, or shipped names (all shipped)")
    parser.add_argument("--recorded", action="store_true", help="judge the motions as they are, none is simulated")
    parser.add_argument("--rollouts", type=int, default=4, metavar="N", help="of each motion (4)")
    parser.add_argument("--noise", choices=sorted(NOISE_LEVELS), default="paper", help="(paper)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if args.rollouts < 1:
        parser.error("--rollouts must be at least 1")
    robot = G1_23DOF
    try:
        motions = find_motions(args.motions)
        if args.recorded:
            recorded = {path.stem: resample(robot, load_motion(path, robot)) for path in motions}
            return judge_recorded(robot, recorded, NOISE_LEVELS[args.noise].sole_pos, args.json)
        policy = load_policy(find_policy(args.policy), robot)
        plans = {path.stem: plan(robot, load_motion(path, robot)) for path in motions}
    except GenMimicError as error:
        print(f"bench_odometry: error: {error}", file=sys.stderr)
        return 2
    noise = NOISE_LEVELS[args.noise]
    sim = SimulatedG1(robot)
    rows: list[dict[str, Any]] = []
    for name, timeline in plans.items():
        for number in range(args.rollouts):
            seed = rollout_seed(0, name, number)
            done = rollout(
                robot, policy, timeline, noise=noise, seed=seed, sim=sim, goal_frame=policy.manifest.goal_frame
            )
            if done.fell_at_s is not None:
                continue
            true = done.trajectory["root_pos"][:, :2]
            believed = believed_path(robot, done.trajectory, noise.sole_pos, np.random.default_rng(number))
            way = way_of(true)
            error = float(np.linalg.norm(believed[-1] - true[-1]))
            rows.append({"motion": name, "way_m": way, "error_m": error, "seconds": len(true) / CONTROL_RATE_HZ})
    if not rows:
        print("bench_odometry: error: every rollout fell, nothing is left to measure", file=sys.stderr)
        return 2
    walked = [row["error_m"] / row["way_m"] for row in rows if row["way_m"] >= WALKED_M]
    total = {
        "rollouts": len(rows), "median_error_cm": 100.0 * float(np.median([row["error_m"] for row in rows])),
        "walked": len(walked), "median_share_of_way": float(np.median(walked)) if walked else None,
        "p90_share_of_way": float(np.percentile(walked, 90)) if walked else None,
    }  # fmt: skip
    if args.json:
        print(json.dumps({"noise": args.noise, "total": total, "rollouts": rows}, indent=1))
        return 0
    for name in plans:
        own = [row for row in rows if row["motion"] == name]
        if own:
            way, error = (float(np.mean([row[key] for row in own])) for key in ("way_m", "error_m"))
            share = 100.0 * error / way
            print(f"{name[:60]:<60} {len(own):3d}  way {way:5.2f} m  off {100 * error:5.1f} cm  {share:5.1f} %")
    print(json.dumps(total))
    return 0


if __name__ == "__main__":
    sys.exit(main())
