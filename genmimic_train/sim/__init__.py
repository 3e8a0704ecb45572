# SPDX-License-Identifier: Apache-2.0
"""Batched simulators behind one small interface, `Simulator`."""

from genmimic_train.sim.base import Domain, Simulator

__all__ = ["Domain", "Simulator"]
