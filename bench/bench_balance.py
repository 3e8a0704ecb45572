# SPDX-License-Identifier: Apache-2.0
"""What walking clips again as physics allows does to them: `genmimic-train dataset --balance`.

    python bench/bench_balance.py PATH ... [--json]

For each clip the share of frames whose zero-moment point lies within the soles that are down, before and after; how
far keypoints went, in the room and as seen from the pelvis; and the motion gate's verdict, without tracking, on both.
Before is the clip with the way from standing and back that every player adds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from typing import Any

import numpy as np

from genmimic.check.judge import judge
from genmimic.check.measure import outside
from genmimic.cli.evaluate import find_motions
from genmimic.core.errors import GenMimicError
from genmimic.core.kinematics import sole_positions
from genmimic.core.motion import CONTROL_RATE_HZ, Motion, load_motion
from genmimic.core.reference import stand_to_stand
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic_train.data.balance import OffBalanceError, balanced
from genmimic_train.data.walks import zero_moment_point

DOWN_M = 0.015
"""A sole point so far above the lowest one is down."""


def measure(motion: Motion) -> dict[str, Any]:
    """Return the row of one clip; ``refused`` is why it cannot be walked again, empty when it was."""
    row: dict[str, Any] = {"motion": motion.name, "seconds": round(motion.duration, 1), "refused": ""}
    started = time.perf_counter()
    try:
        after = balanced(motion)
    except OffBalanceError as error:
        return {**row, "refused": str(error)}
    row["took_s"] = round(time.perf_counter() - started, 2)
    whole = stand_to_stand(ROBOT, motion).motion
    cut = (len(whole) - len(after)) // 2
    before = Motion.from_joints(
        ROBOT, CONTROL_RATE_HZ, *(part[cut : cut + len(after)] for part in _body(whole)), motion.name
    )
    moved = np.linalg.norm(after.keypoint_pos - before.keypoint_pos, axis=-1).mean()
    local = [one.keypoint_pos - one.keypoint_pos[:, :1] for one in (after, before)]
    return {
        **row,
        "inside": [_inside(before), _inside(after)],
        "moved_cm": 100.0 * float(moved),
        "local_cm": 100.0 * float(np.linalg.norm(local[0] - local[1], axis=-1).mean()),
        "verdict": [str(judge(ROBOT, one).verdict) for one in (before, after)],
    }


def _body(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return motion.joint_pos, motion.root_pos, motion.root_quat


def _inside(motion: Motion) -> float:
    body = motion.root_pos, motion.root_quat, motion.joint_pos
    soles = sole_positions(ROBOT, *body)
    down = [frame[frame[:, 2] < frame[:, 2].min() + DOWN_M, :2] for frame in soles]
    points = zero_moment_point(ROBOT, *body)
    return float(np.mean([outside(point, corners) <= 0.0 for point, corners in zip(points, down, strict=True)]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motions", nargs="+", metavar="PATH", help="motion files or folders")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    try:
        rows = [measure(load_motion(path, ROBOT)) for path in find_motions(args.motions)]
    except GenMimicError as error:
        print(f"bench_balance: error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        if row["refused"]:
            print(f"{row['motion'][:44]:<44} {row['refused']}")
            continue
        inside, verdict = row["inside"], row["verdict"]
        print(
            f"{row['motion'][:44]:<44} within the soles {100 * inside[0]:3.0f} -> {100 * inside[1]:3.0f} %  "
            f"moved {row['moved_cm']:4.1f} cm, locally {row['local_cm']:3.1f}  {verdict[0]} -> {verdict[1]}"
        )
    done = [row for row in rows if not row["refused"]]
    if done:
        mean = np.array([[*row["inside"], row["moved_cm"], row["local_cm"]] for row in done]).mean(0)
        verdicts = [dict(Counter(row["verdict"][idx] for row in done)) for idx in (0, 1)]
        speed = sum(row["seconds"] for row in done) / sum(row["took_s"] for row in done)
        print(
            f"{len(done)} of {len(rows)} clips: within the soles {100 * mean[0]:.0f} -> {100 * mean[1]:.0f} %, moved "
            f"{mean[2]:.1f} cm, locally {mean[3]:.1f}; gate {verdicts[0]} -> {verdicts[1]}; {speed:.0f} s of clip "
            "a second"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
