# SPDX-License-Identifier: Apache-2.0
"""From other motions to the robot's: file readers, cleaning and inverse kinematics."""
