# SPDX-License-Identifier: Apache-2.0
"""Observation noise (Table 8): one table for training, evaluation and the simulated robot."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from genmimic.core.errors import ConfigError


@dataclass(frozen=True)
class ObservationNoise:
    """Standard deviations of independent Gaussian noise on each number of a term, each control step.

    ``goal_offset_m`` is the half-width of a uniform shift that stays for a whole rollout.
    """

    joint_pos: float = 0.0  # rad
    joint_vel: float = 0.0  # rad/s
    base_ang_vel_b: float = 0.0  # rad/s
    gravity_dir_b: float = 0.0  # of a unit vector
    keypoint_pos_b: float = 0.0  # m
    keypoint_pos_g: float = 0.0  # m
    keypoint_quat_g: float = 0.0
    keypoint_lin_vel_g: float = 0.0  # m/s
    keypoint_ang_vel_g: float = 0.0  # rad/s
    sole_pos: float = 0.0  # m, what leg odometry reads
    goal_keypoint_pos: float = 0.0  # m
    goal_offset_m: float = 0.0  # m

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0.0 <= value < 100.0:
                raise ConfigError(f"noise {item.name} is {value}, expected a number from 0 to 100")

    def scaled(self, factor: float) -> ObservationNoise:
        """Return the same noise, ``factor`` times as strong."""
        return replace(self, **{item.name: factor * getattr(self, item.name) for item in fields(self)})


NO_NOISE = ObservationNoise()

PAPER_NOISE = ObservationNoise(
    joint_pos=0.01,
    joint_vel=0.1,
    base_ang_vel_b=0.5,
    gravity_dir_b=0.1,
    keypoint_pos_b=0.01,
    keypoint_pos_g=0.01,
    keypoint_quat_g=0.01,
    keypoint_lin_vel_g=0.2,
    keypoint_ang_vel_g=0.5,
    sole_pos=0.003,
    goal_keypoint_pos=0.05,
    goal_offset_m=0.02,
)
"""Table 8, rows "Noise" and "Goal 3D keypoint offset". ``sole_pos`` is ours, what encoders and an IMU that jitters by
0.2 degrees do to a sole: the paper has no odometry, and no robot has a centimetre of white noise on each point."""

NOISE_LEVELS = {"none": NO_NOISE, "paper": PAPER_NOISE}
"""By the name that the command line takes."""
