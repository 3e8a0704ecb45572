# SPDX-License-Identifier: Apache-2.0
"""Isaac Gym (Preview 4) for those who have it: PhysX, all robots on one GPU. Not distributed with this package.

Its own ways, other than MuJoCo's: torques are computed here before each physics step (eq. 5, explicit), robots do not
touch themselves, and what is not a sole meets the floor too. Masses and the pelvis's centre of mass can be set only
before the simulation begins, so each robot keeps those of its first draw; `set_domain` says so.

Source of the calls: the API as public environments use it (legged_gym, IsaacGymEnvs). Nobody has run this file against
the package itself: its binaries are for Python 3.6 to 3.8, and this package asks for 3.10.
"""

from __future__ import annotations

import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.randomization import mass_group_idx
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import cross, quat_rotate, quat_rotate_inverse
from genmimic.sim.urdf import build_urdf
from genmimic_train.sim.base import MAX_SPEED, Domain

_FLOOR_FRICTION = 1.0
_STEPS_PER_SUBSTEP = 5
"""Of 1 ms, each with a torque of its own: explicit damping at 5 ms fells a policy that stands with MuJoCo's implicit
one (docs/training.md, In another simulator)."""
_NO_SELF_COLLISION = 1
"""Collision filter of the actor: shapes that share a bit do not meet."""


class IsaacGymSimulator:
    """`Simulator` on Isaac Gym; ``device`` is ``cuda:N``, or ``cpu`` for PhysX on the CPU.

    Raises:
        ConfigError: The package is not installed, does not fit this Python, or torch was imported before it.
    """

    def __init__(
        self, num_envs: int, robot: Robot = G1_23DOF, device: str = "cuda:0", timestep_s: float = 0.005
    ) -> None:
        gymapi, self._gymtorch = import_isaacgym()
        self.num_envs, self.device, self.timestep_s = num_envs, device, timestep_s
        self._robot, self._gymapi, self._gym = robot, gymapi, gymapi.acquire_gym()
        on_gpu = device != "cpu"
        number = int(device.partition(":")[2] or 0)
        self._sim = self._gym.create_sim(number, -1, gymapi.SIM_PHYSX, self._sim_params(on_gpu))
        if self._sim is None:
            raise ConfigError(f"Isaac Gym makes no simulation on {device}")
        plane = gymapi.PlaneParams()
        plane.normal = gymapi.Vec3(0.0, 0.0, 1.0)
        plane.static_friction = plane.dynamic_friction = _FLOOR_FRICTION
        self._gym.add_ground(self._sim, plane)
        self._create_robots()

        self._prepared = False
        self._dirty = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self._kp, self._kd = self._tensor(robot.kp), self._tensor(robot.kd)
        self._effort = self._tensor(robot.joint_effort)
        ones = torch.ones(num_envs, robot.num_joints, device=device)
        self._kp_now, self._kd_now, self._strength = self._kp * ones, self._kd * ones, ones.clone()
        self._group_of_link = torch.tensor(mass_group_idx(robot))
        self._fixed = Domain.nominal(robot, num_envs, device)
        self._com = self._tensor(np.asarray(robot.links[0].com)).repeat(num_envs, 1)
        self._foot_force = torch.zeros(num_envs, 2, 3, device=device)

    # Simulator ---------------------------------------------------------------------------------
    @property
    def qpos(self) -> torch.Tensor:
        self._prepare()
        quat = self._root[:, [6, 3, 4, 5]]  # xyzw to wxyz
        return torch.cat([self._root[:, :3], quat, self._dof[..., 0][:, self._dof_of_joint]], -1)

    @property
    def qvel(self) -> torch.Tensor:
        self._prepare()
        quat, angular = self._root[:, [6, 3, 4, 5]], self._root[:, 10:13]
        # PhysX tells the velocity of the centre of mass
        linear = self._root[:, 7:10] - cross(angular, quat_rotate(quat, self._com))
        return torch.cat([linear, quat_rotate_inverse(quat, angular), self._dof[..., 1][:, self._dof_of_joint]], -1)

    @property
    def foot_force(self) -> torch.Tensor:
        return self._foot_force

    def reset(self, env_idx: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        self._prepare()
        self._write(env_idx, qpos.to(self.device, torch.float32), qvel.to(self.device, torch.float32))
        self._foot_force = self._foot_force.index_fill(0, env_idx, 0.0)

    def set_root_velocity_xy(self, env_idx: torch.Tensor, velocity: torch.Tensor) -> None:
        qpos, qvel = self.qpos[env_idx], self.qvel[env_idx]
        qvel[:, :2] = velocity
        self._write(env_idx, qpos, qvel)

    def set_domain(self, env_idx: torch.Tensor, domain: Domain) -> Domain:
        if not self._prepared:
            self._fixed.assign(env_idx, domain)
            self._com[env_idx] = self._tensor(np.asarray(self._robot.links[0].com)) + domain.com_offset
            self._set_masses(env_idx.tolist(), domain)
        kept = replace(domain, mass_scale=self._fixed.mass_scale[env_idx], com_offset=self._fixed.com_offset[env_idx])
        self._kp_now[env_idx], self._kd_now[env_idx] = self._kp * domain.kp_scale, self._kd * domain.kd_scale
        self._strength[env_idx] = domain.strength
        for env, friction in zip(env_idx.tolist(), domain.friction.tolist(), strict=True):
            handle, actor = self._envs[env], self._actors[env]
            shapes = self._gym.get_actor_rigid_shape_properties(handle, actor)
            for shape in shapes:  # PhysX takes the mean of robot and floor
                shape.friction = max(2.0 * friction - _FLOOR_FRICTION, 0.0)
            self._gym.set_actor_rigid_shape_properties(handle, actor, shapes)
        return kept

    def state_dict(self) -> dict[str, Any]:
        # PhysX keeps contacts and more to itself: no state goes on bit for bit, so none is taken for one that does.
        return {"backend": f"isaacgym {uuid.uuid4()}", "qpos": self.qpos.clone(), "qvel": self.qvel.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        every = torch.arange(self.num_envs, device=self.device)
        self.reset(every, state["qpos"], state["qvel"])

    def step(self, joint_target: torch.Tensor, root_wrench: torch.Tensor | None = None) -> torch.Tensor:
        self._prepare()
        self._apply_writes()
        gym, sim = self._gym, self._sim
        if root_wrench is not None:
            self._hold(root_wrench)
        for target in joint_target.repeat_interleave(_STEPS_PER_SUBSTEP, 1).unbind(1):
            position, velocity = self._dof[..., 0][:, self._dof_of_joint], self._dof[..., 1][:, self._dof_of_joint]
            torque = self._kp_now * (target - position) - self._kd_now * velocity
            torque = self._strength * torch.maximum(torch.minimum(torque, self._effort), -self._effort)
            self._torque[:, self._dof_of_joint] = torque
            gym.set_dof_actuation_force_tensor(sim, self._gymtorch.unwrap_tensor(self._torque))
            if root_wrench is not None:  # lasts for one step
                unwrap = self._gymtorch.unwrap_tensor
                forces, moments = unwrap(self._body_force), unwrap(self._body_moment)
                gym.apply_rigid_body_force_tensors(sim, forces, moments, self._gymapi.ENV_SPACE)
            gym.simulate(sim)
            if self.device == "cpu":
                gym.fetch_results(sim, True)
            gym.refresh_dof_state_tensor(sim)
        gym.refresh_actor_root_state_tensor(sim)
        gym.refresh_net_contact_force_tensor(sim)
        self._foot_force = self._contact[:, self._feet].clone()
        qpos, qvel = self.qpos, self.qvel
        bad = ~(torch.isfinite(qpos).all(-1) & torch.isfinite(qvel).all(-1)) | (qvel.abs().amax(-1) > MAX_SPEED)
        idx = bad.nonzero().squeeze(-1)
        if len(idx):
            pose = torch.zeros(len(idx), qpos.shape[1], device=self.device)
            pose[:, 2], pose[:, 3] = self._robot.standing_height, 1.0
            self.reset(idx, pose, torch.zeros(len(idx), qvel.shape[1], device=self.device))
        return bad

    # Isaac Gym -----------------------------------------------------------------------------------
    def _hold(self, root_wrench: torch.Tensor) -> None:
        """Write ``root_wrench`` (N, 6) as PhysX takes it: force and moment at the centre of mass, world axes."""
        pelvis, quat = self._body_of_link[0], self.qpos[:, 3:7]
        force, torque_b = root_wrench[:, :3], root_wrench[:, 3:]
        self._body_force[:, pelvis] = force
        self._body_moment[:, pelvis] = quat_rotate(quat, torque_b) - cross(quat_rotate(quat, self._com), force)

    def _sim_params(self, on_gpu: bool) -> Any:
        gymapi = self._gymapi
        params = gymapi.SimParams()
        params.dt, params.substeps = self.timestep_s / _STEPS_PER_SUBSTEP, 1
        params.up_axis = gymapi.UP_AXIS_Z
        params.gravity = gymapi.Vec3(0.0, 0.0, -9.81)
        params.use_gpu_pipeline = params.physx.use_gpu = on_gpu
        params.physx.solver_type = 1  # TGS
        params.physx.num_position_iterations, params.physx.num_velocity_iterations = 4, 0
        params.physx.contact_offset, params.physx.rest_offset = 0.01, 0.0
        params.physx.bounce_threshold_velocity = 0.5
        params.physx.max_depenetration_velocity = 1.0
        params.physx.max_gpu_contact_pairs = 2**23
        params.physx.default_buffer_size_multiplier = 5
        return params

    def _create_robots(self) -> None:
        gym, gymapi, robot = self._gym, self._gymapi, self._robot
        options = gymapi.AssetOptions()
        options.default_dof_drive_mode = int(gymapi.DOF_MODE_EFFORT)
        options.collapse_fixed_joints = False
        options.replace_cylinder_with_capsule = False
        options.fix_base_link = False
        options.linear_damping = options.angular_damping = 0.0
        options.max_linear_velocity = options.max_angular_velocity = 1000.0
        with tempfile.TemporaryDirectory() as folder:
            name = f"{robot.name}.urdf"
            Path(folder, name).write_text(build_urdf(robot), encoding="utf-8")
            asset = gym.load_asset(self._sim, folder, name, options)
        names = list(gym.get_asset_dof_names(asset))
        if sorted(names) != sorted(robot.joint_names):
            raise ConfigError(f"Isaac Gym finds the joints {names} in {name}, expected {list(robot.joint_names)}")
        self._dof_of_joint = torch.tensor([names.index(joint) for joint in robot.joint_names], device=self.device)
        bodies = list(gym.get_asset_rigid_body_names(asset))
        self._body_of_link = [bodies.index(link) for link in robot.link_names]
        self._num_bodies = len(bodies)
        feet = dict.fromkeys(sole.link for sole in robot.soles)
        self._feet = torch.tensor([bodies.index(foot) for foot in feet], device=self.device)
        joints = gym.get_asset_dof_properties(asset)
        joints["driveMode"].fill(int(gymapi.DOF_MODE_EFFORT))
        joints["stiffness"].fill(0.0)
        joints["damping"].fill(0.0)
        for joint in robot.joints:
            joints["armature"][names.index(joint.name)] = joint.armature

        start = gymapi.Transform()
        start.p = gymapi.Vec3(0.0, 0.0, robot.standing_height)
        corner = gymapi.Vec3(0.0, 0.0, 0.0)  # all stand in the same place: groups keep them apart
        self._envs: list[Any] = []
        self._actors: list[Any] = []
        for number in range(self.num_envs):
            env = gym.create_env(self._sim, corner, corner, max(1, int(self.num_envs**0.5)))
            actor = gym.create_actor(env, asset, start, robot.name, number, _NO_SELF_COLLISION, 0)
            gym.set_actor_dof_properties(env, actor, joints)
            self._envs.append(env)
            self._actors.append(actor)
        # by link; scaled from these, not from what was set last
        bodies_now = gym.get_actor_rigid_body_properties(self._envs[0], self._actors[0])
        self._nominal = [
            (body.mass, _vector(body.com), [_vector(axis) for axis in _axes(body.inertia)]) for body in bodies_now
        ]

    def _set_masses(self, envs: list[int], domain: Domain) -> None:
        gym, gymapi = self._gym, self._gymapi
        scales = domain.mass_scale.cpu()[:, self._group_of_link].tolist()
        for row, env in enumerate(envs):
            handle, actor = self._envs[env], self._actors[env]
            bodies = gym.get_actor_rigid_body_properties(handle, actor)
            for body, scale in zip(self._body_of_link, scales[row], strict=True):
                mass, _, inertia = self._nominal[body]
                bodies[body].mass = mass * scale
                for axis, values in zip(_axes(bodies[body].inertia), inertia, strict=True):
                    axis.x, axis.y, axis.z = (scale * value for value in values)
            pelvis = self._body_of_link[0]
            com = np.add(self._nominal[pelvis][1], domain.com_offset[row].cpu().numpy())
            bodies[pelvis].com = gymapi.Vec3(*map(float, com))
            gym.set_actor_rigid_body_properties(handle, actor, bodies, recomputeInertia=False)

    def _prepare(self) -> None:
        """Begin the simulation and take its tensors; from here on masses stay."""
        if self._prepared:
            return
        self._prepared = True
        gym, sim, wrap = self._gym, self._sim, self._gymtorch.wrap_tensor
        gym.prepare_sim(sim)
        self._root = wrap(gym.acquire_actor_root_state_tensor(sim)).view(self.num_envs, 13)
        self._dof_flat = wrap(gym.acquire_dof_state_tensor(sim))
        self._dof = self._dof_flat.view(self.num_envs, self._robot.num_joints, 2)
        self._contact = wrap(gym.acquire_net_contact_force_tensor(sim)).view(self.num_envs, self._num_bodies, 3)
        gym.refresh_actor_root_state_tensor(sim)
        gym.refresh_dof_state_tensor(sim)
        gym.refresh_net_contact_force_tensor(sim)
        self._torque = torch.zeros(self.num_envs, self._robot.num_joints, device=self.device)
        self._body_force = torch.zeros(self.num_envs, self._num_bodies, 3, device=self.device)
        self._body_moment = torch.zeros_like(self._body_force)

    def _write(self, env_idx: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """Put states into our tensors; `_apply_writes` hands them over before the next step."""
        quat = qpos[:, 3:7]
        angular = quat_rotate(quat, qvel[:, 3:6])
        linear = qvel[:, :3] + cross(angular, quat_rotate(quat, self._com[env_idx]))
        self._root[env_idx] = torch.cat([qpos[:, :3], quat[:, [1, 2, 3, 0]], linear, angular], -1)
        rows = env_idx[:, None]
        self._dof[rows, self._dof_of_joint, 0] = qpos[:, 7:]
        self._dof[rows, self._dof_of_joint, 1] = qvel[:, 6:]
        self._dirty[env_idx] = True

    def _apply_writes(self) -> None:
        """Hand over all changed robots in one call: of several calls before a step only the last would count."""
        idx = self._dirty.nonzero().squeeze(-1).to(torch.int32)
        if not len(idx):
            return
        unwrap = self._gymtorch.unwrap_tensor
        self._gym.set_actor_root_state_tensor_indexed(self._sim, unwrap(self._root), unwrap(idx), len(idx))
        self._gym.set_dof_state_tensor_indexed(self._sim, unwrap(self._dof_flat), unwrap(idx), len(idx))
        self._dirty[:] = False

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


def import_isaacgym() -> tuple[Any, Any]:
    """Return ``gymapi`` and ``gymtorch``. Raises ConfigError with what is wrong."""
    try:
        from isaacgym import gymapi, gymtorch
    except ImportError as error:
        if "before isaacgym" in str(error):
            raise ConfigError(
                "isaacgym must be imported before torch: start with `genmimic-train`, or import it first yourself"
            ) from None
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ConfigError(
            f"sim.backend isaacgym needs NVIDIA's Isaac Gym in this Python {version} (Preview 4 is built for 3.6 to "
            "3.8); it is not on PyPI. Use sim.backend=warp instead"
        ) from None
    return gymapi, gymtorch


def _axes(inertia: Any) -> tuple[Any, Any, Any]:
    return inertia.x, inertia.y, inertia.z


def _vector(value: Any) -> tuple[float, float, float]:
    return value.x, value.y, value.z
