# SPDX-License-Identifier: Apache-2.0
"""Training: teacher by PPO, student by DAgger, export to ONNX. Needs torch and rsl-rl."""
