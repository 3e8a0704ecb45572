# SPDX-License-Identifier: Apache-2.0
"""A pretend `isaacgym` that records what it is asked and obeys the rules the real one is known for.

Joints are unit masses that go where torques push them, the root flies by gravity, and nothing touches anything. Of
several indexed writes before a step only the last counts; a tensor is new only after its refresh.
"""

from __future__ import annotations

import types
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Vec3:
    def __init__(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        self.x, self.y, self.z = x, y, z


class Gym:
    def __init__(self) -> None:
        self.friction: dict[int, float] = {}
        self.bodies: list[list[Any]] = []
        self.torques: list[torch.Tensor] = []
        self.pulls: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.prepared = False

    # set-up
    def create_sim(self, compute: int, graphics: int, engine: str, params: Any) -> Gym:
        self.params = params
        return self

    def add_ground(self, sim: Gym, plane: Any) -> None:
        self.plane = plane

    def load_asset(self, sim: Gym, folder: str, name: str, options: Any) -> Any:
        self.options = options
        self.urdf = ET.fromstring(Path(folder, name).read_text())
        joints = [joint for joint in self.urdf.iter("joint") if joint.get("type") == "revolute"]
        self.dofs = sorted(str(joint.get("name")) for joint in joints)  # not our order
        self.links = [str(link.get("name")) for link in self.urdf.iter("link")]
        return self.urdf

    def get_asset_dof_names(self, asset: Any) -> list[str]:
        return self.dofs

    def get_asset_rigid_body_names(self, asset: Any) -> list[str]:
        return self.links

    def get_asset_dof_properties(self, asset: Any) -> np.ndarray:
        fields = [("driveMode", "i4"), ("stiffness", "f4"), ("damping", "f4"), ("armature", "f4")]
        return np.zeros(len(self.dofs), fields)

    def create_env(self, sim: Gym, lower: Vec3, upper: Vec3, per_row: int) -> int:
        self.bodies.append([])
        return len(self.bodies) - 1

    def create_actor(self, env: int, asset: Any, pose: Any, name: str, group: int, bits: int, segment: int) -> int:
        assert group == env and bits
        for link in self.urdf.iter("link"):
            inertial = link.find("inertial")
            com, mass = [0.0] * 3, 0.0
            if inertial is not None:
                com = [float(part) for part in inertial.find("origin").get("xyz").split()]  # type: ignore[union-attr]
                mass = float(inertial.find("mass").get("value"))  # type: ignore[union-attr, arg-type]
            inertia = types.SimpleNamespace(x=Vec3(mass), y=Vec3(0.0, mass), z=Vec3(0.0, 0.0, mass))
            self.bodies[env].append(types.SimpleNamespace(mass=mass, com=Vec3(*com), inertia=inertia))
        return 0

    def set_actor_dof_properties(self, env: int, actor: int, properties: np.ndarray) -> None:
        self.dof_properties = properties

    def get_actor_rigid_body_properties(self, env: int, actor: int) -> list[Any]:
        return self.bodies[env]

    def set_actor_rigid_body_properties(self, env: int, actor: int, bodies: list[Any], recomputeInertia: bool) -> None:
        assert not self.prepared and not recomputeInertia
        self.bodies[env] = bodies

    def get_actor_rigid_shape_properties(self, env: int, actor: int) -> list[Any]:
        return [types.SimpleNamespace(friction=1.0) for _ in range(3)]

    def set_actor_rigid_shape_properties(self, env: int, actor: int, shapes: list[Any]) -> None:
        (self.friction[env],) = {shape.friction for shape in shapes}

    # tensors
    def prepare_sim(self, sim: Gym) -> None:
        count = len(self.bodies)
        self.prepared = True
        self.root, self.dof = torch.zeros(count, 13), torch.zeros(count, len(self.dofs), 2)
        self.root[:, 6] = 1.0
        self.true_root, self.true_dof = self.root.clone(), self.dof.clone()
        self.contact = torch.zeros(count, len(self.links), 3)
        self.writes: dict[str, tuple[torch.Tensor, list[int]]] = {}

    def acquire_actor_root_state_tensor(self, sim: Gym) -> torch.Tensor:
        return self.root

    def acquire_dof_state_tensor(self, sim: Gym) -> torch.Tensor:
        return self.dof.view(-1, 2)

    def acquire_net_contact_force_tensor(self, sim: Gym) -> torch.Tensor:
        return self.contact.view(-1, 3)

    def refresh_actor_root_state_tensor(self, sim: Gym) -> None:
        self.root.copy_(self.true_root)

    def refresh_dof_state_tensor(self, sim: Gym) -> None:
        self.dof.copy_(self.true_dof)

    def refresh_net_contact_force_tensor(self, sim: Gym) -> None:
        for body in range(len(self.links)):
            self.contact[:, body, 2] = float(body)

    def set_actor_root_state_tensor_indexed(self, sim: Gym, values: Any, idx: Any, count: int) -> None:
        assert idx.dtype == torch.int32 and len(idx) == count
        self.writes["root"] = (values.clone(), idx.tolist())

    def set_dof_state_tensor_indexed(self, sim: Gym, values: Any, idx: Any, count: int) -> None:
        assert idx.dtype == torch.int32 and len(idx) == count
        self.writes["dof"] = (values.clone().view_as(self.dof), idx.tolist())

    def set_dof_actuation_force_tensor(self, sim: Gym, values: torch.Tensor) -> None:
        self.torques.append(values.clone())

    def apply_rigid_body_force_tensors(self, sim: Gym, forces: Any, moments: Any, space: str) -> None:
        assert space == "env" and forces.shape == moments.shape == (len(self.bodies), len(self.links), 3)
        self.pulls.append((forces.clone(), moments.clone()))

    def simulate(self, sim: Gym) -> None:
        for name, (values, idx) in self.writes.items():
            getattr(self, f"true_{name}")[idx] = values[idx]
        self.writes = {}
        dt = self.params.dt
        self.true_dof[..., 1] += dt * self.torques[-1].view(self.true_dof.shape[:2])
        self.true_dof[..., 0] += dt * self.true_dof[..., 1]
        self.true_root[:, 9] += dt * self.params.gravity.z
        self.true_root[:, :3] += dt * self.true_root[:, 7:10]

    def fetch_results(self, sim: Gym, wait: bool) -> None:
        assert wait


def modules() -> dict[str, Any]:
    """Return what to put into `sys.modules`, and the gym itself under ``gym``."""
    gym = Gym()

    def params() -> Any:
        return types.SimpleNamespace(physx=types.SimpleNamespace())

    gymapi: Any = types.ModuleType("isaacgym.gymapi")
    gymapi.acquire_gym = lambda: gym
    gymapi.SimParams, gymapi.Vec3 = params, Vec3
    gymapi.PlaneParams = gymapi.AssetOptions = gymapi.Transform = types.SimpleNamespace
    gymapi.SIM_PHYSX, gymapi.UP_AXIS_Z, gymapi.DOF_MODE_EFFORT = "physx", "z", 3
    gymapi.ENV_SPACE = "env"
    gymtorch: Any = types.ModuleType("isaacgym.gymtorch")
    gymtorch.wrap_tensor = gymtorch.unwrap_tensor = lambda values: values
    package: Any = types.ModuleType("isaacgym")
    package.gymapi, package.gymtorch = gymapi, gymtorch
    return {"isaacgym": package, "isaacgym.gymapi": gymapi, "isaacgym.gymtorch": gymtorch, "gym": gym}
