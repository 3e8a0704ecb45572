# SPDX-License-Identifier: Apache-2.0
"""Numbers of the robot's link. Needs no DDS, so that a simulated bridge can declare them too."""

from __future__ import annotations

from dataclasses import dataclass

from genmimic.core.settings import check_ranges, setting

DAMPING_FAULTS = ("second_writer", "mode_machine", "silence", "wrong_crc", "state_late", "joint_frozen")
"""Rules of `genmimic.core.safety` on which the hardware bridge damps by itself, before the monitor hears of them."""


@dataclass(frozen=True)
class LinkConfig:
    """Numbers of the link. A field's description, unit and range are in its metadata.

    Raises:
        ConfigError: A value is outside its range.
    """

    link_timeout_s: float = setting(0.05, "s", 0.01, 1.0, "Silence of the robot after which it is damped")
    link_late_s: float = setting(0.05, "s", 0.01, 1.0, "Delay of the robot's state, against its best, that damps")
    wrong_crc_ratio: float = setting(
        0.1, "of the last second's messages", 0.0, 1.0, "Wrong checksums at which the robot is damped"
    )
    joint_frozen_s: float = setting(
        0.1, "s", 0.02, 10.0, "How long one joint's position, speed and torque may all stand still, to the last bit"
    )
    remote_lost_s: float = setting(3.0, "s", 0.1, 60.0, "Silence of the remote after which it counts as lost")
    overrun_ratio: float = setting(
        0.5, "of the steps in a second", 0.0, 1.0, "Fewest steps of the bridge's loop with which a motion goes on"
    )
    find_s: float = setting(10.0, "s", 0.5, 120.0, "How long the robot may take to be heard at first")
    listen_s: float = setting(0.5, "s", 0.2, 10.0, "How long another writer is listened for before the first command")

    def __post_init__(self) -> None:
        check_ranges(self)
