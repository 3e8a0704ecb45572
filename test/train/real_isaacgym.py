# SPDX-License-Identifier: Apache-2.0
"""What test_isaac_gym.py starts where the package is: the contract, as far as another physics engine can keep it."""

from __future__ import annotations

import isaacgym  # noqa: F401  # isort: skip  before torch
import torch

from genmimic.core.robot import G1_23DOF
from genmimic_train.config import SimConfig
from genmimic_train.sim import Domain, make_simulator

if __name__ == "__main__":
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    sim = make_simulator(SimConfig("isaacgym", device), 4)
    every = torch.arange(4, device=device)
    sim.set_domain(every, Domain.nominal(G1_23DOF, 4, device))
    pose = [0.0, 0.0, G1_23DOF.standing_height, 1.0, 0.0, 0.0, 0.0, *G1_23DOF.default_joint_pos]
    qpos = torch.tensor(pose, device=device, dtype=torch.float32).repeat(4, 1)
    qpos[2:, 2] += 2.0
    sim.reset(every, qpos, torch.zeros(4, 29, device=device))
    target = qpos[:, None, 7:].repeat(1, 4, 1)
    for _ in range(10):
        assert not sim.step(target).any()
    weight = 9.81 * sum(link.mass for link in G1_23DOF.links)
    standing, falling = sim.foot_force[:2, :, 2].sum(-1), sim.foot_force[2:].abs().amax()
    assert (standing - weight).abs().max() < 0.3 * weight and falling == 0.0
    # a fifth of a second of free fall
    assert (sim.qvel[2:, 2] + 9.81 * 0.2).abs().max() < 0.1
    assert (sim.qpos[2:, 2] - (G1_23DOF.standing_height + 2.0 - 0.5 * 9.81 * 0.2**2)).abs().max() < 0.03
    before = sim.qpos.clone()
    sim.set_root_velocity_xy(every[:1], torch.tensor([[1.0, 0.0]], device=device))
    sim.reset(every[3:], qpos[3:], torch.zeros(1, 29, device=device))
    sim.step(target)
    assert sim.qpos[0, 0] - before[0, 0] > 0.01 and (sim.qpos[3, 2] - qpos[3, 2]).abs() < 0.02
