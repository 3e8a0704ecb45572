# SPDX-License-Identifier: Apache-2.0
"""What every part shares, in NumPy alone: robot, motion, observation, action, safety.

Array code works in the namespace of its inputs, so training (torch) and the robot (NumPy)
run the same lines. Nothing here reads a clock, starts a thread or holds global state.
"""
