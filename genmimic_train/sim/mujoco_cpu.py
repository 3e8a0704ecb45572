# SPDX-License-Identifier: Apache-2.0
"""MuJoCo on all CPU cores: one thread pool, one model per environment."""

from __future__ import annotations

import copy
import os
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco import rollout

from genmimic.core.randomization import mass_group_idx
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.sim.mjcf import FOOT_SENSORS, build_model
from genmimic_train.sim.base import MAX_SPEED, Domain


class MujocoCpuSimulator:
    """`Simulator` on ``mujoco.rollout``; ``device`` is where tensors live, so that a GPU learns from CPU physics.

    Each environment has a model of its own, so that masses, gains and friction differ; the models
    are edited in place. Physics runs in double precision, tensors are float32.
    """

    def __init__(
        self,
        num_envs: int,
        robot: Robot = G1_23DOF,
        device: str = "cpu",
        timestep_s: float = 0.005,
        threads: int | None = None,
    ) -> None:
        self.num_envs, self.device, self.timestep_s = num_envs, device, timestep_s
        self._robot = robot
        base = build_model(robot, timestep=timestep_s, tether=False, visuals=False, fall_contact=False)
        self._base = base
        self._models = [copy.copy(base) for _ in range(num_envs)]
        count = threads or os.cpu_count() or 1
        self._data = [mujoco.MjData(base) for _ in range(count)]
        self._pool = rollout.Rollout(nthread=count)
        self._nq, self._nv, self._nu = base.nq, base.nv, base.nu
        self._nstate = mujoco.mj_stateSize(base, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self._state = np.zeros((num_envs, self._nstate))
        self._state[:, 1 : 1 + self._nq] = base.qpos0
        self._scratch = mujoco.MjData(base)
        self._foot_adr = [int(base.sensor(name).adr[0]) for name in FOOT_SENSORS]
        self._foot_force = torch.zeros(num_envs, 2, 3, device=device)
        self._actuator = np.array([base.actuator(name).id for name in robot.joint_names])
        self._floor = base.geom("floor").id
        self._links = np.array([base.body(name).id for name in robot.link_names])
        self._group_of_link = mass_group_idx(robot)
        self._pelvis = self._links[0]
        self._refresh()

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
        idx = env_idx.cpu().numpy()
        self._state[idx] = 0.0
        self._state[idx, 1 : 1 + self._nq] = qpos.cpu().numpy()
        self._state[idx, 1 + self._nq : 1 + self._nq + self._nv] = qvel.cpu().numpy()
        self._foot_force = self._foot_force.index_fill(0, env_idx, 0.0)
        self._refresh()

    def set_root_velocity_xy(self, env_idx: torch.Tensor, velocity: torch.Tensor) -> None:
        first = 1 + self._nq
        self._state[env_idx.cpu().numpy(), first : first + 2] = velocity.cpu().numpy()
        self._refresh()

    def set_domain(self, env_idx: torch.Tensor, domain: Domain) -> Domain:
        robot, base = self._robot, self._base
        friction = domain.friction.cpu().numpy()
        com_offset = domain.com_offset.cpu().numpy()
        mass_scale = domain.mass_scale.cpu().numpy()
        strength = domain.strength.cpu().numpy()
        kp = robot.kp * domain.kp_scale.cpu().numpy() * strength
        kd = robot.kd * domain.kd_scale.cpu().numpy() * strength
        limit = robot.joint_effort * strength
        for row, env in enumerate(env_idx.tolist()):
            model = self._models[env]
            model.geom_friction[self._floor, 0] = friction[row]  # the floor's wins, by priority
            scale = mass_scale[row, self._group_of_link]
            model.body_mass[self._links] = base.body_mass[self._links] * scale
            model.body_inertia[self._links] = base.body_inertia[self._links] * scale[:, None]
            model.body_ipos[self._pelvis] = base.body_ipos[self._pelvis] + com_offset[row]
            model.actuator_gainprm[self._actuator, 0] = kp[row]
            model.actuator_biasprm[self._actuator, 1] = -kp[row]
            model.actuator_biasprm[self._actuator, 2] = -kd[row]
            model.actuator_forcerange[self._actuator, 0] = -limit[row]
            model.actuator_forcerange[self._actuator, 1] = limit[row]
            mujoco.mj_setConst(model, self._scratch)
        return domain

    def state_dict(self) -> dict[str, Any]:
        # Solver and controls start anew in each call of `step`, so position, velocity and time are all there is.
        return {
            "backend": "mujoco_cpu",
            "state": torch.from_numpy(self._state.copy()),
            "foot_force": self._foot_force.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state["state"].cpu().numpy().copy()
        self._foot_force = state["foot_force"].clone().to(self.device)
        self._refresh()

    def step(self, joint_target: torch.Tensor, root_wrench: torch.Tensor | None = None) -> torch.Tensor:
        substeps = joint_target.shape[1]
        spec = mujoco.mjtState.mjSTATE_CTRL.value
        control = np.zeros((self.num_envs, substeps, self._nu))
        control[:, :, self._actuator] = joint_target.cpu().numpy()
        if root_wrench is not None:
            spec |= mujoco.mjtState.mjSTATE_QFRC_APPLIED.value
            applied = np.zeros((self.num_envs, substeps, self._nv))
            applied[:, :, :6] = root_wrench.cpu().numpy()[:, None]
            control = np.concatenate([control, applied], -1)
        start_time = self._state[:, 0].copy()
        states, sensors = self._pool.rollout(self._models, self._data, self._state, control, control_spec=spec)
        self._state = states[:, -1].copy()
        # MuJoCo resets a bad state silently, which shows as time running backwards.
        bad = (self._state[:, 0] < start_time + 0.5 * substeps * self.timestep_s) | ~np.isfinite(self._state).all(-1)
        bad |= np.abs(self._state[:, 1 + self._nq :]).max(-1) > MAX_SPEED
        if bad.any():
            self._state[bad] = 0.0
            self._state[bad, 1 : 1 + self._nq] = self._base.qpos0
        force = np.stack([sensors[:, -1, adr : adr + 3] for adr in self._foot_adr], 1)
        force[bad] = 0.0
        self._foot_force = torch.as_tensor(force, dtype=torch.float32, device=self.device)
        self._refresh()
        return torch.as_tensor(bad, device=self.device)

    def _refresh(self) -> None:
        first, second = 1 + self._nq, 1 + self._nq + self._nv
        self._qpos = torch.as_tensor(self._state[:, 1:first], dtype=torch.float32, device=self.device)
        self._qvel = torch.as_tensor(self._state[:, first:second], dtype=torch.float32, device=self.device)
