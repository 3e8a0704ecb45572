# SPDX-License-Identifier: Apache-2.0
"""`genmimic.link.guard` over plain ROS topics: the process that damps the robot when a bridge on them has died."""

from __future__ import annotations

import sys

from genmimic.link.guard import main
from genmimic_ros.ros_bus import RosBus

if __name__ == "__main__":
    sys.exit(main(open_bus=lambda _, domain: RosBus(domain)))
