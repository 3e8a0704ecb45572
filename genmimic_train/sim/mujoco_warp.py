# SPDX-License-Identifier: Apache-2.0
"""MuJoCo Warp: all robots in one batch on a GPU, torch and Warp sharing its memory; slowly on a CPU too.

Nothing here waits for the device or goes through the host: targets are written into a buffer that a CUDA graph of all
substeps reads, resets and parameters are written in place, and states are copied out on the device.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.randomization import mass_group_idx
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.sim.mjcf import FOOT_SENSORS, IMU_SENSORS, build_mjcf
from genmimic_train.sim.base import MAX_SPEED, Domain

INSTALL_HINT = "pip install -r requirements/warp.txt"

_BATCHED = (
    "geom_friction", "body_mass", "body_inertia", "body_ipos", "body_subtreemass", "body_invweight0", "dof_invweight0",
    "actuator_gainprm", "actuator_biasprm", "actuator_forcerange",
)  # fmt: skip
"""Model arrays of which each robot has its own."""

_CONTACTS = 32
"""Per robot, on average over all: standing there are 8; of 200 000 steps with random targets none had more
than 15, and 60 constraint rows. Beyond, Warp drops contacts; `step` then reports the state as bad."""
_ROWS = 160
"""Constraint rows per robot: four per contact, one per joint at its limit."""


class MujocoWarpSimulator:
    """`Simulator` on ``mujoco_warp``, in single precision; ``device`` is ``cpu``, ``cuda`` or ``cuda:N``.

    With ``deterministic`` contacts and constraints are kept in a fixed order and sums are taken in a fixed order, so
    that a resumed run repeats bit for bit on a GPU too; Warp's CPU back end is in order anyway.

    Raises:
        ConfigError: ``mujoco_warp`` is not installed, or there is no such device.
    """

    def __init__(
        self,
        num_envs: int,
        robot: Robot = G1_23DOF,
        device: str = "cuda",
        timestep_s: float = 0.005,
        deterministic: bool = False,
    ) -> None:
        wp, mjw = import_warp()
        self.num_envs, self.device, self.timestep_s = num_envs, device, timestep_s
        self._wp, self._mjw, self._robot = wp, mjw, robot
        try:
            self._wp_device = wp.get_device(device)
        except (RuntimeError, ValueError):
            raise ConfigError(
                f"Warp finds no device {device!r} here; it has {', '.join(map(str, _devices(wp)))}"
            ) from None
        base = _model(robot, timestep_s)
        self._base = base
        with wp.ScopedDevice(self._wp_device):
            self._model = mjw.put_model(base, batch_sizes=dict.fromkeys(_BATCHED, num_envs))
            self._data = mjw.make_data(base, nworld=num_envs, nconmax=_CONTACTS, njmax=_ROWS)
        self._model.opt.warn_overflow = 0  # `step` looks itself
        if self._wp_device.is_cuda:
            # without these nodes (drivers before 12.4) the solver takes all its iterations
            self._model.opt.graph_conditional = wp.is_conditional_graph_supported()
            self._model.opt.deterministic = int(mjw.DeterminismType.ALL if deterministic else mjw.DeterminismType.NONE)
        overflow = mjw.OverflowType
        self._too_many = int(overflow.NEFC | overflow.BROADPHASE | overflow.NARROWPHASE)

        data = self._data
        views = ("qpos", "qvel", "qacc_warmstart", "qfrc_applied", "sensordata", "overflow")
        self._view = {name: wp.to_torch(getattr(data, name)) for name in views}
        self._param = {name: wp.to_torch(getattr(self._model, name)) for name in _BATCHED}
        self._qpos0 = self._tensor(base.qpos0)
        self._foot_adr = [int(base.sensor(name).adr[0]) for name in FOOT_SENSORS]
        self._actuator = torch.tensor([base.actuator(name).id for name in robot.joint_names], device=device)
        self._floor = base.geom("floor").id
        self._links = torch.tensor([base.body(name).id for name in robot.link_names], device=device)
        self._group_of_link = torch.tensor(mass_group_idx(robot), device=device)
        self._inertia = InertiaAtRest(base, device)
        self._nominal_mass, self._nominal_inertia = self._tensor(base.body_mass), self._tensor(base.body_inertia)
        self._nominal_ipos = self._tensor(base.body_ipos)
        self._kp, self._kd = self._tensor(robot.kp), self._tensor(robot.kd)
        self._effort = self._tensor(robot.joint_effort)

        self._control: torch.Tensor | None = None
        self._graph: Any = None
        self._view["qpos"].copy_(self._qpos0.expand(num_envs, -1))
        self._foot_force = torch.zeros(num_envs, 2, 3, device=device)
        self._read()

    @property
    def qpos(self) -> torch.Tensor:
        return self._qpos

    @property
    def qvel(self) -> torch.Tensor:
        return self._qvel

    @property
    def foot_force(self) -> torch.Tensor:
        return self._foot_force

    def reset(self, env_idx: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        self._view["qpos"][env_idx] = qpos.to(self.device, torch.float32)
        self._view["qvel"][env_idx] = qvel.to(self.device, torch.float32)
        self._view["qacc_warmstart"][env_idx] = 0.0
        self._foot_force = self._foot_force.index_fill(0, env_idx, 0.0)
        self._read()

    def set_root_velocity_xy(self, env_idx: torch.Tensor, velocity: torch.Tensor) -> None:
        self._view["qvel"][env_idx, :2] = velocity
        self._read()

    def set_domain(self, env_idx: torch.Tensor, domain: Domain) -> Domain:
        param, actuator, pelvis = self._param, self._actuator, int(self._base.body(self._robot.link_names[0]).id)
        param["geom_friction"][env_idx, self._floor, 0] = domain.friction  # the floor's wins, by priority
        scale = torch.ones(len(env_idx), self._base.nbody, device=self.device)
        scale[:, self._links] = domain.mass_scale[:, self._group_of_link]
        offset = domain.com_offset
        param["body_mass"][env_idx] = self._nominal_mass * scale
        param["body_inertia"][env_idx] = self._nominal_inertia * scale[..., None]
        param["body_ipos"][env_idx, pelvis] = self._nominal_ipos[pelvis] + offset
        subtree_mass, body_weight, dof_weight = self._inertia.constants(scale, pelvis, offset)
        param["body_subtreemass"][env_idx] = subtree_mass
        param["body_invweight0"][env_idx] = body_weight
        param["dof_invweight0"][env_idx] = dof_weight
        rows = env_idx[:, None]
        kp, kd = self._kp * domain.kp_scale * domain.strength, self._kd * domain.kd_scale * domain.strength
        limit = self._effort * domain.strength
        param["actuator_gainprm"][rows, actuator, 0] = kp
        param["actuator_biasprm"][rows, actuator, 1] = -kp
        param["actuator_biasprm"][rows, actuator, 2] = -kd
        param["actuator_forcerange"][rows, actuator, 0] = -limit
        param["actuator_forcerange"][rows, actuator, 1] = limit
        return domain

    def state_dict(self) -> dict[str, Any]:
        names = ("qpos", "qvel", "qacc_warmstart")
        return {
            "backend": "mujoco_warp",
            **{name: self._view[name].clone() for name in names},
            "foot_force": self._foot_force.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("qpos", "qvel", "qacc_warmstart"):
            self._view[name].copy_(state[name])
        self._foot_force = state["foot_force"].clone().to(self.device)
        self._read()

    def step(self, joint_target: torch.Tensor, root_wrench: torch.Tensor | None = None) -> torch.Tensor:
        substeps = joint_target.shape[1]
        if self._control is None or len(self._control) != substeps:
            self._prepare(substeps)
        self._control[:, :, self._actuator] = joint_target.transpose(0, 1)  # type: ignore[index]
        applied = self._view["qfrc_applied"][:, :6]
        if root_wrench is not None:
            applied.copy_(root_wrench)
        else:
            applied.zero_()
        self._view["overflow"].zero_()
        if self._graph is None:
            with self._wp.ScopedDevice(self._wp_device):
                self._advance()
        else:
            stream = self._wp.stream_from_torch(torch.cuda.current_stream(self.device))
            self._wp.capture_launch(self._graph, stream=stream)
        qpos, qvel = self._view["qpos"], self._view["qvel"]
        bad = ~(torch.isfinite(qpos).all(-1) & torch.isfinite(qvel).all(-1)) | (qvel.abs().amax(-1) > MAX_SPEED)
        bad |= (self._view["overflow"] & self._too_many) != 0
        # where, and not an index: the host need not know how many are bad
        qpos.copy_(torch.where(bad[:, None], self._qpos0, qpos))
        for name in ("qvel", "qacc_warmstart"):
            values = self._view[name]
            values.copy_(torch.where(bad[:, None], torch.zeros_like(values), values))
        force = torch.stack([self._view["sensordata"][:, adr : adr + 3] for adr in self._foot_adr], 1)
        self._foot_force = torch.where(bad[:, None, None], torch.zeros_like(force), force)
        self._read()
        return bad

    def _prepare(self, substeps: int) -> None:
        """Make the buffer of targets, compile, and on a GPU capture all substeps as one graph."""
        wp = self._wp
        with wp.ScopedDevice(self._wp_device):
            self._targets = wp.zeros((substeps, self.num_envs, self._base.nu), dtype=float)
            self._control = wp.to_torch(self._targets)
            if not self._wp_device.is_cuda:
                return
            kept = self.state_dict()
            torch.cuda.synchronize(self.device)
            self._advance()  # loads every kernel, which a capture could not
            with wp.ScopedCapture() as capture:
                self._advance()
            self._graph = capture.graph
            wp.synchronize_device(self._wp_device)
            self.load_state_dict(kept)

    def _advance(self) -> None:
        for step in range(self._targets.shape[0]):
            self._wp.copy(self._data.ctrl, self._targets[step])
            self._mjw.step(self._model, self._data)

    def _read(self) -> None:
        # Copies, since Warp's arrays change under whoever keeps them.
        self._qpos, self._qvel = self._view["qpos"].clone(), self._view["qvel"].clone()

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


class InertiaAtRest:
    """What `mujoco.mj_setConst` derives from masses, for many robots at once and for some of them.

    Warp's own ``set_const`` does it for all robots, by some 600 kernels. The joint-space inertia is a sum over bodies,
    linear in their masses, so one batched inverse does. Source: MuJoCo's ``mj_setConst``.
    """

    def __init__(self, model: mujoco.MjModel, device: str) -> None:
        data = mujoco.MjData(model)
        data.qpos[:] = model.qpos0
        mujoco.mj_forward(model, data)
        nbody, nv = model.nbody, model.nv
        linear, angular = np.zeros((nbody, 3, nv)), np.zeros((nbody, 3, nv))
        inertia = np.zeros((nbody, 3, 3))
        below = np.zeros((nbody, nbody))
        for body in range(1, nbody):
            mujoco.mj_jacBodyCom(model, data, linear[body], angular[body], body)
            turn = data.ximat[body].reshape(3, 3)
            inertia[body] = turn @ np.diag(model.body_inertia[body]) @ turn.T
            above = body
            while True:
                below[above, body] = 1.0
                if above == 0:
                    break
                above = model.body_parentid[above]

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self._linear, self._angular, self._below = tensor(linear), tensor(angular), tensor(below)
        self._mass, self._armature = tensor(model.body_mass), tensor(model.dof_armature)
        self._turning = torch.einsum("bij,bik,bkl->bjl", self._angular, tensor(inertia), self._angular)
        self._turn = tensor(data.xmat.reshape(-1, 3, 3))

    def constants(
        self, scale: torch.Tensor, body: int, com_offset: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what depends on the masses, in the pose where all joints are 0.

        Args:
            scale: Of mass and inertia of each body. Shape (n, B).
            body: The body whose centre of mass is shifted.
            com_offset: By how much, in its own frame, in m. Shape (n, 3).

        Returns:
            Mass of each body and all below it, in kg (n, B); mean inverse inertia of each body for translation and
            rotation, in 1/kg and 1/(kg m^2) (n, B, 2); the same of each degree of freedom (n, V).
        """
        scale, offset = scale.double(), com_offset.double() @ self._turn[body].T
        mass = self._mass * scale
        # a point at r on a turning body moves at omega x r more
        skew = torch.zeros(len(scale), 3, 3, dtype=torch.float64, device=scale.device)
        skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = offset[:, 2], -offset[:, 1], offset[:, 0]
        skew = skew - skew.transpose(1, 2)
        shifted = self._linear[body] + skew @ self._angular[body]
        linear = self._linear.expand(len(scale), *self._linear.shape).clone()
        linear[:, body] = shifted
        inertia = torch.einsum("nb,nbij,nbik->njk", mass, linear, linear)
        inertia = inertia + torch.einsum("nb,bjk->njk", scale, self._turning) + torch.diag(self._armature)
        inverse = torch.linalg.inv_ex(inertia)[0]  # inv would wait for the device, to look for errors
        straight = torch.einsum("nbij,njk,nbik->nb", linear, inverse, linear) / 3.0
        turning = torch.einsum("bij,njk,bik->nb", self._angular, inverse, self._angular) / 3.0
        each = torch.diagonal(inverse, dim1=1, dim2=2).clone()
        each[:, :3] = each[:, :3].mean(-1, keepdim=True)  # the free joint's translations, and its rotations
        each[:, 3:6] = each[:, 3:6].mean(-1, keepdim=True)
        weights = torch.stack([straight, turning], -1)
        return (mass @ self._below.T).float(), weights.float(), each.float()


def _model(robot: Robot, timestep_s: float) -> mujoco.MjModel:
    """Return the model of `MujocoCpuSimulator`, without the sensors that training does not read."""
    text = build_mjcf(robot, timestep=timestep_s, tether=False, visuals=False, fall_contact=False)
    spec = mujoco.MjSpec.from_string(text)
    for sensor in list(spec.sensors):
        if sensor.name in IMU_SENSORS:
            spec.delete(sensor)
    return spec.compile()


def import_warp() -> tuple[Any, Any]:
    try:
        import warp
    except ImportError:
        raise ConfigError(f"sim.backend warp needs mujoco_warp and warp-lang: {INSTALL_HINT}") from None
    warp.config.log_level = warp.LOG_WARNING  # its greeting, and a line for each kernel that it compiles
    warp.config.cuda_output = "cubin"  # machine code, as `warp_kernels` makes it, and no PTX that a driver may not know
    try:
        import mujoco_warp
    except ImportError as error:
        raise ConfigError(f"sim.backend warp needs mujoco_warp: {INSTALL_HINT} ({error})") from None
    return warp, mujoco_warp


def _devices(warp: Any) -> list[Any]:
    return warp.get_devices()
