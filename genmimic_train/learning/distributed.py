# SPDX-License-Identifier: Apache-2.0
"""Several processes that learn as one: started by torchrun, gloo between CPUs and NCCL between GPUs.

Each process has its share of the environments. Gradients, the divergence that sets the learning rate, the input
normaliser (all by rsl-rl) and the advantages' mean and spread (ours) are those of all samples, so that two processes
take the step that one would take with both their samples in one minibatch.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import Any

import torch
from rsl_rl.algorithms import PPO

from genmimic.core.errors import ConfigError


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: Of this process; 0 writes files and talks.
        size: How many processes there are, on all machines.
        local_rank: Among those of this machine.
        local_size: How many there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    @property
    def multi_gpu(self) -> dict[str, int] | None:
        """What rsl-rl's learners want to know; None for a process alone."""
        if self.size == 1:
            return None
        return {"global_rank": self.rank, "local_rank": self.local_rank, "world_size": self.size}

    def share(self, value: Any) -> Any:
        """Return rank 0's ``value``, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of ``values`` over all ranks."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def part_of(self, count: int, what: str) -> int:
        """Return this process's equal share of ``count``. Raises ConfigError when it cannot be divided."""
        if count % self.size:
            raise ConfigError(f"{what} is {count}, expected a multiple of the {self.size} processes")
        return count // self.size


def join_world() -> World:
    """Return this process's place as torchrun tells it, and meet the others; alone when torchrun did not start it.

    On a machine with GPUs each process takes the one of its local rank as its ``cuda``.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    world = World(
        int(os.environ["RANK"]),
        size,
        int(os.environ.get("LOCAL_RANK", "0")),
        int(os.environ.get("LOCAL_WORLD_SIZE", str(size))),
    )
    if not torch.distributed.is_initialized():
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if gpus:
            torch.cuda.set_device(world.local_rank % gpus)
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return world


class DistributedPPO(PPO):
    """rsl-rl's PPO, its advantages brought to mean 0 and spread 1 over the samples of all processes."""

    def compute_returns(self, obs: Any) -> None:
        super().compute_returns(obs)
        advantages = self.storage.returns - self.storage.values
        world = World(self.gpu_global_rank, self.gpu_world_size)
        count = advantages.numel() * world.size
        mean = world.sum(advantages.sum()) / count
        variance = world.sum(((advantages - mean) ** 2).sum()) / (count - 1)
        self.storage.advantages = (advantages - mean) / (variance.sqrt() + 1e-8)
