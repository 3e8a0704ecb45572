# SPDX-License-Identifier: Apache-2.0
"""``genmimic inspect``: what is in a motion file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genmimic.core.motion import Motion
    from genmimic.core.robot import Robot


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what is in a motion file",
        description="Show length, travel, joint use, sole height and origin of motions (genmimic-motion/1).",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="motion, *.npz, or a shipped one's name")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of tables")


def run(args: argparse.Namespace) -> int:
    """Read every file, then print; a bad file prints nothing but its error."""
    import json

    from genmimic.core.motion import load_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.policy import find_shipped

    summaries = []
    for path in args.files:
        summary = summarize_motion(G1_23DOF, load_motion(find_shipped(path, "motions", ".npz"), G1_23DOF))
        summaries.append({"file": path, **summary})
    if args.json:
        print(json.dumps(summaries, indent=2, sort_keys=True))
    else:
        print("\n\n".join(_table(summary) for summary in summaries))
    return 0


def summarize_motion(robot: Robot, motion: Motion) -> dict[str, Any]:
    """Return figures that describe a motion, as plain JSON types; the unit is in each name.

    ``sole_height_m`` is that of the lowest sole point over the floor; ``root_net_m`` the distance on the floor between
    the first and the last root position; speeds are differences between neighbouring frames.
    """
    import numpy as np

    from genmimic.core.kinematics import lowest_sole_height
    from genmimic.core.rotation import heading

    travel = np.linalg.norm(np.diff(motion.root_pos[:, :2], axis=0), axis=-1)
    yaw = np.unwrap(heading(motion.root_quat))
    margin = np.minimum(motion.joint_pos - robot.joint_lower, robot.joint_upper - motion.joint_pos).min(0)
    closest = int(margin.argmin())
    speed = np.abs(np.diff(motion.joint_pos, axis=0)) * motion.fps
    at, fastest = np.unravel_index(int(speed.argmax()), speed.shape)
    sole = lowest_sole_height(robot, motion.root_pos, motion.root_quat, motion.joint_pos)
    joint = robot.joints[closest]
    return {
        "name": motion.name,
        "duration_s": round(motion.duration, 3),
        "fps": motion.fps,
        "frames": len(motion),
        "root_path_m": round(float(travel.sum()), 3),
        "root_net_m": round(float(np.linalg.norm(motion.root_pos[-1, :2] - motion.root_pos[0, :2])), 3),
        "root_height_m": [
            round(float(value), 3) for value in (motion.root_pos[:, 2].min(), motion.root_pos[:, 2].max())
        ],
        "yaw_span_deg": round(float(np.degrees(yaw.max() - yaw.min())), 1),
        "closest_limit": {
            "joint": joint.name,
            "margin_rad": round(float(margin[closest]), 4),
            "range_rad": round(joint.upper - joint.lower, 4),
        },
        "fastest_joint": {
            "joint": robot.joint_names[fastest],
            "speed_rad_s": round(float(speed[at, fastest]), 3),
            "at_s": round(float(at) / motion.fps, 3),
        },
        "sole_height_m": {
            "min": round(float(sole.min()), 4),
            "median": round(float(np.median(sole)), 4),
            "max": round(float(sole.max()), 4),
        },
        "source": dict(motion.source),
    }


def _table(summary: dict[str, Any]) -> str:
    sole, margin, speed = summary["sole_height_m"], summary["closest_limit"], summary["fastest_joint"]
    source = summary["source"]
    origin = ", ".join(str(source[key]) for key in ("repo", "file", "format") if source.get(key)) or "unknown"
    rows = [
        ("name", summary["name"]),
        ("duration", f"{summary['duration_s']:.2f} s, {summary['frames']} frames at {summary['fps']:g} Hz"),
        ("root", f"path {summary['root_path_m']:.2f} m, net {summary['root_net_m']:.2f} m, "
                 f"height {summary['root_height_m'][0]:.2f} to {summary['root_height_m'][1]:.2f} m"),
        ("heading", f"spans {summary['yaw_span_deg']:.0f} deg"),
        ("closest limit", f"{margin['joint']}, {margin['margin_rad']:.3f} rad left of {margin['range_rad']:.2f} rad"),
        ("fastest joint", f"{speed['joint']}, {speed['speed_rad_s']:.1f} rad/s at {speed['at_s']:.2f} s"),
        ("lowest sole", f"{100 * sole['min']:.1f} / {100 * sole['median']:.1f} / {100 * sole['max']:.1f} cm "
                        "(min / median / max)"),
        ("content", source.get("content", "not described")),
        ("source", origin),
        ("licence", source.get("licence", "not stated")),
    ]  # fmt: skip
    if source.get("credit"):
        rows.append(("credit", source["credit"]))
    retarget = source.get("retarget")
    if isinstance(retarget, dict) and "error_cm" in retarget:
        p95 = retarget.get("error_p95_cm", "?")
        rows.append(("retargeting", f"keypoints {retarget['error_cm']} cm off the source's, 95th percentile {p95} cm"))
    return "\n".join([str(summary["file"]), *(f"  {label:<14}{value}" for label, value in rows)])
