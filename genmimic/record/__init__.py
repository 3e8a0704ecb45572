# SPDX-License-Identifier: Apache-2.0
"""Recordings of runs, as MCAP: written while the robot moves, read without ROS."""
