# SPDX-License-Identifier: Apache-2.0
"""The learners: PPO with the symmetry loss, DAgger with the symmetric batch."""
