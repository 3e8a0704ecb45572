# SPDX-License-Identifier: Apache-2.0
"""What is drawn around the robot, wherever it is drawn: contacts, the rope, the colours of errors. NumPy alone."""

from __future__ import annotations

import numpy as np

from genmimic.core.kinematics import soles_of_links
from genmimic.core.robot import Robot
from genmimic.core.rotation import quat_rotate
from genmimic.sim.shapes import TETHER_HOOK

CONTACT_M = 0.01
"""A sole no higher above the floor counts as touching it."""

ANCHOR_M = 2.5
"""Height in m of the gantry's hook, as in simulation; on hardware only a picture."""

TAUT_N = 20.0
"""From here on the rope is drawn as pulling."""


def contacts(robot: Robot, pos: np.ndarray, quat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sole points on the floor, in m, shape (S, 3), and which of them touch it, shape (S,).

    Args:
        robot: The robot.
        pos: Links, or keypoints, which begin with the links, in m; the floor is at z = 0. Shape (L, 3).
        quat: Their orientation, wxyz. Shape (L, 4).
    """
    soles = soles_of_links(robot, pos, quat)
    return soles * [1.0, 1.0, 0.0], soles[:, 2] < CONTACT_M


def rope(robot: Robot, pos: np.ndarray, quat: np.ndarray) -> np.ndarray:
    """Return the ends of the gantry's rope, at the robot and above it, in m; arguments as in `contacts`.

    Nobody measures where the gantry is: it is drawn straight above. Shape (2, 3).
    """
    link, offset = TETHER_HOOK
    idx = robot.link_names.index(link)
    hook = pos[idx] + quat_rotate(quat[idx], np.array(offset))
    return np.array([hook, [hook[0], hook[1], max(ANCHOR_M, hook[2])]])


def heat(part: np.ndarray) -> np.ndarray:
    """Return green for 0, yellow, red for 1 and beyond; 0 to 1. Shape (N,) to (N, 3)."""
    part = np.clip(np.asarray(part, float), 0.0, 1.0)
    return np.stack(
        [np.minimum(1.0, 2.0 * part), np.minimum(1.0, 2.0 - 2.0 * part), np.full_like(part, 0.1)], -1
    )  # fmt: skip
