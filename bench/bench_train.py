# SPDX-License-Identifier: Apache-2.0
"""How many samples a second a teacher learns from: ``genmimic-train bench`` with the CPU profile.

python bench/bench_train.py [--envs 256] [--iterations 6] [--processes 1 2]
"""

import sys
from pathlib import Path

from genmimic_train.cli import main

if __name__ == "__main__":
    profile = Path(__file__).resolve().parents[1] / "config" / "train" / "cpu.yaml"
    sys.exit(main(["bench", "--config", str(profile), *sys.argv[1:]]))
