# SPDX-License-Identifier: Apache-2.0
"""Rollouts of a policy without ROS, their metrics (paper 5.3) and their reports."""
