# SPDX-License-Identifier: Apache-2.0
"""The simulated G1: MuJoCo model, physics with sensors and a gantry tether, rendering, URDF.

MuJoCo is imported by the modules that step or draw (`simulated_g1`, `render`); the descriptions
(`shapes`, `build_mjcf`, `urdf`) need NumPy alone.
"""
