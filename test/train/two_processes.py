# SPDX-License-Identifier: Apache-2.0
"""What test_distributed.py starts by torchrun: this process's half of a gradient, then a short run by command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

from rollout_halves import learn_from_half  # noqa: E402

from genmimic_train.cli import main  # noqa: E402
from genmimic_train.learning.distributed import join_world  # noqa: E402

if __name__ == "__main__":
    motion, folder, *overrides = sys.argv[1:]
    torch.set_num_threads(1)
    world = join_world()
    learner = learn_from_half(motion, world)
    if world.main:
        torch.save(learner, Path(folder) / "learner.pt")
    command = ["teacher", "--run", f"{folder}/run", "--threads", "2"]
    codes = [
        main([*command, "--motions", motion, "--samples", "64", "--set", *overrides]),
        main([*command, "--resume", "--samples", "96"]),
        main([*command, "--motions", motion]),  # it exists: refused on every rank, one line
    ]
    Path(folder, f"codes{world.rank}").write_text(str(codes))
