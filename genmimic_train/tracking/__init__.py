# SPDX-License-Identifier: Apache-2.0
"""The tracking task: motions, rewards, terminations, randomisation, environment."""
