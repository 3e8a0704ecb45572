# SPDX-License-Identifier: Apache-2.0
"""Batched simulators behind one small interface, `Simulator`; each is imported when it is asked for."""

from __future__ import annotations

import re

from genmimic.core.errors import ConfigError
from genmimic_train.config import BACKENDS, SimConfig
from genmimic_train.sim.base import Domain, Simulator

__all__ = ["Domain", "Simulator", "make_simulator", "parse_sim", "resolve_device"]


def make_simulator(config: SimConfig, num_envs: int, threads: int | None = None) -> Simulator:
    """Return a simulator of ``num_envs`` robots.

    Args:
        config: Which one, and where its tensors live.
        num_envs: How many robots.
        threads: Of the CPU, for ``mujoco``; None means one per core.

    Raises:
        ConfigError: A package is missing, or there is no such device.
    """
    device = resolve_device(config)
    if config.backend == "warp":
        from genmimic_train.sim.mujoco_warp import MujocoWarpSimulator

        return MujocoWarpSimulator(num_envs, device=device, deterministic=config.deterministic)
    if config.backend == "isaacgym":
        from genmimic_train.sim.isaac_gym import IsaacGymSimulator

        return IsaacGymSimulator(num_envs, device=device)
    from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator

    return MujocoCpuSimulator(num_envs, device=device, threads=threads)


def resolve_device(config: SimConfig) -> str:
    """Return torch's name of the device, numbered: under torchrun each process of a machine has a GPU of its own.

    Raises:
        ConfigError: torch cannot use it here.
    """
    import torch

    if config.device == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"torch {torch.__version__} finds no GPU" if built else f"torch {torch.__version__} is built without CUDA"
        raise ConfigError(f"sim.device is {config.device}, but {why}; use sim.device=cpu")
    number = int(config.device.partition(":")[2] or torch.cuda.current_device())
    if number >= torch.cuda.device_count():
        raise ConfigError(f"sim.device is {config.device}, but there are {torch.cuda.device_count()} GPUs")
    return f"cuda:{number}"


def parse_sim(text: str) -> SimConfig:
    """Return what ``BACKEND[:DEVICE]`` names, e.g. ``warp:cuda``; CPU when no device is given.

    Raises:
        ConfigError: It is of another form, or not known.
    """
    found = re.fullmatch(r"(\w+)(?::(.+))?", text)
    if not found or found[1] not in BACKENDS:
        raise ConfigError(f"--sim is {text!r}, expected {', '.join(BACKENDS)}, with :cuda behind it for a GPU")
    return SimConfig(found[1], found[2] or "cpu")
