# SPDX-License-Identifier: Apache-2.0
"""GenMimic-ROS: a Unitree G1 does what a person in a video does."""

__version__ = "0.1.0"
