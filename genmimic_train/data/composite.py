# SPDX-License-Identifier: Apache-2.0
"""Composite motions: the arms of one clip over the legs of another (the paper's composite classes, section 5.2)."""

from __future__ import annotations

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.core.motion import CONTROL_RATE_HZ, Motion, resample
from genmimic.core.robot import Robot, is_leg

MIN_COMPOSITE_S = 1.0


def composite(robot: Robot, upper: Motion, lower: Motion, start_s: float = 0.0) -> Motion:
    """Return the legs and the pelvis of ``lower`` under waist and arms of ``upper``, as long as ``lower``.

    ``upper`` is entered at ``start_s`` and played back and forth, which has no seam, until ``lower`` ends.
    Whether the robot keeps its balance under the other arms is for the motion checks to say.

    Raises:
        MotionError: One of them is shorter than a second.
    """
    upper, lower = resample(robot, upper), resample(robot, lower)
    for motion in (upper, lower):
        if motion.duration < MIN_COMPOSITE_S:
            raise MotionError(f"{motion.name}: lasts {motion.duration:.2f} s, expected at least {MIN_COMPOSITE_S:g} s")
    arms = np.array([not is_leg(name) for name in robot.joint_names])
    last = len(upper) - 1
    at: np.ndarray = (round(start_s * CONTROL_RATE_HZ) + np.arange(len(lower))) % (2 * last)
    at = np.where(at > last, 2 * last - at, at)
    joint_pos = lower.joint_pos.copy()
    joint_pos[:, arms] = upper.joint_pos[at][:, arms]
    licences = sorted({str(part.source.get("licence", "unknown")) for part in (upper, lower)})
    source = {
        "file": f"{upper.source.get('file', upper.name)} over {lower.source.get('file', lower.name)}",
        "licence": licences[0] if len(licences) == 1 else " and ".join(licences),
        "credit": "; ".join(dict.fromkeys(str(part.source.get("credit", part.name)) for part in (upper, lower))),
        "content": f"arms: {upper.source.get('content', upper.name)}; legs: {lower.source.get('content', lower.name)}",
        "changes": "composed of two clips",
    }
    name = f"{upper.name}_over_{lower.name}"
    return Motion.from_joints(robot, CONTROL_RATE_HZ, joint_pos, lower.root_pos, lower.root_quat, name, source)
