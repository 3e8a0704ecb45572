# SPDX-License-Identifier: Apache-2.0
"""The nodes: one module each, with a ``main`` that ``ros2 run`` and ``python -m`` start."""

import os

# Before NumPy is loaded: arrays here are small, and a pool of threads that spins beside a real-time loop delays it.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
