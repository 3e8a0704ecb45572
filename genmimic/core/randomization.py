# SPDX-License-Identifier: Apache-2.0
"""What differs from one simulated robot to the next: the paper's ranges (Table 8), used in training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.observation import MASS_GROUPS
from genmimic.core.robot import Robot


@dataclass(frozen=True)
class Randomization:
    """Table 8, rows "Reset" and "Push". Ranges are (low, high), drawn uniformly; the paper's values are the defaults.

    Departures, with reasons: ``com_offset_m`` is a length (the table prints grams), the same along each
    axis; ``delay_substeps`` counts physics steps of 5 ms (the table says "steps").
    """

    friction: tuple[float, float] = (0.4, 1.25)
    com_offset_m: tuple[float, float] = (-0.05, 0.05)
    mass_scale: tuple[float, float] = (0.7, 1.3)
    kp_scale: tuple[float, float] = (0.75, 1.25)
    kd_scale: tuple[float, float] = (0.75, 1.25)
    strength: tuple[float, float] = (0.5, 1.5)
    delay_substeps: tuple[int, int] = (0, 3)
    push_velocity_m_s: tuple[float, float] = (-1.0, 1.0)
    push_interval_s: float = 5.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, (tuple, list)) and not (len(value) == 2 and value[0] <= value[1]):
                raise ConfigError(f"randomization.{item.name} is {value}, expected (low, high)")
        if not self.push_interval_s > 0.0:
            raise ConfigError(f"randomization.push_interval_s is {self.push_interval_s}, expected above 0")


PAPER_RANDOMIZATION = Randomization()
"""Table 8."""

RANDOMIZATION_LEVELS: dict[str, Randomization | None] = {"none": None, "paper": PAPER_RANDOMIZATION}
"""By the name that the command line takes."""

_GROUP_PARTS = {
    "pelvis": ("pelvis",),
    "torso": ("torso",),
    "thigh": ("hip_pitch", "hip_roll", "hip_yaw"),
    "shin": ("knee", "ankle_pitch", "ankle_roll"),
    "arm": ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll"),
}


def mass_group_idx(robot: Robot) -> np.ndarray:
    """Return for each link the index in `MASS_GROUPS` of the group whose mass it shares. Shape (L,)."""
    groups = []
    for link in robot.link_names:
        side = link.split("_")[0] + "_" if link.startswith(("left_", "right_")) else ""
        part = next((name for name, keys in _GROUP_PARTS.items() if any(key in link for key in keys)), None)
        if side + str(part) not in MASS_GROUPS:
            known = ", ".join(MASS_GROUPS)
            raise ConfigError(f"link {link!r} of robot {robot.name!r} is in no mass group; known: {known}")
        groups.append(MASS_GROUPS.index(side + str(part)))
    return np.array(groups)
