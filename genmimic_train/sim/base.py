# SPDX-License-Identifier: Apache-2.0
"""The interface of a batched simulator: physics only; observations, rewards and noise live above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from genmimic.core.observation import MASS_GROUPS
from genmimic.core.robot import Robot

MAX_SPEED = 200.0
"""Beyond this generalised velocity a state counts as gone bad (rad/s or m/s)."""


@dataclass
class Domain:
    """The physical parameters of each environment (Table 8, "Reset"); N environments.

    Attributes:
        friction: Of the soles on the floor. Shape (N,).
        com_offset: Shift of the pelvis's centre of mass, in m. Shape (N, 3).
        mass_scale: Per group of links, in the order of `MASS_GROUPS`. Shape (N, 8).
        kp_scale: Shape (N, J).
        kd_scale: Shape (N, J).
        strength: Factor on the motor's torque and its limit. Shape (N, J).
    """

    friction: torch.Tensor
    com_offset: torch.Tensor
    mass_scale: torch.Tensor
    kp_scale: torch.Tensor
    kd_scale: torch.Tensor
    strength: torch.Tensor

    @classmethod
    def nominal(cls, robot: Robot, count: int, device: str = "cpu") -> Domain:
        """Return the robot as its table says, ``count`` times."""
        ones = torch.ones(count, robot.num_joints, device=device)
        return cls(
            torch.ones(count, device=device),
            torch.zeros(count, 3, device=device),
            torch.ones(count, len(MASS_GROUPS), device=device),
            ones.clone(),
            ones.clone(),
            ones.clone(),
        )

    def assign(self, env_idx: torch.Tensor, other: Domain) -> None:
        """Copy the rows of ``other`` into the environments ``env_idx``."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[env_idx] = getattr(other, name)


class Simulator(Protocol):
    """N robots on a floor. Positions in m, world frame; quaternions wxyz; q = [root pos, root quat, joints].

    Tensors live on ``device``. What a property returned stays as it was when the simulation goes on.
    """

    num_envs: int
    device: str
    timestep_s: float

    @property
    def qpos(self) -> torch.Tensor:
        """Shape (N, 7 + J)."""

    @property
    def qvel(self) -> torch.Tensor:
        """Root velocity (world), root angular velocity (base), joint velocities. Shape (N, 6 + J)."""

    @property
    def foot_force(self) -> torch.Tensor:
        """Net contact force on the left and right foot, world frame, in N. Shape (N, 2, 3)."""

    def reset(self, env_idx: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """Put the environments ``env_idx`` (n,) into the given states."""

    def set_domain(self, env_idx: torch.Tensor, domain: Domain) -> Domain:
        """Give the environments ``env_idx`` (n,) new physical parameters, rows of ``domain``; return those in force."""

    def set_root_velocity_xy(self, env_idx: torch.Tensor, velocity: torch.Tensor) -> None:
        """Set the root's horizontal velocity, in m/s. Shapes (n,), (n, 2)."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all robots, ``backend`` by name; parameters (`set_domain`) are the caller's to keep."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put all robots into a `state_dict` of the same backend and size; the future is then the same, bit for bit."""

    def step(self, joint_target: torch.Tensor, root_wrench: torch.Tensor | None = None) -> torch.Tensor:
        """Advance by the given substeps; return which states went bad. Shapes (N, substeps, J), (N,).

        ``root_wrench`` (N, 6) acts on the root all the while: force at its origin along the world's axes in N, torque
        along its own axes in N m.
        """
