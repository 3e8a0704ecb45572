# SPDX-License-Identifier: Apache-2.0
"""The contract of `Simulator`, on MuJoCo's CPU threads and on MuJoCo Warp; the two beside each other."""

from __future__ import annotations

import importlib.util
import sys

import mujoco
import numpy as np
import pytest
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.robot import G1_23DOF
from genmimic.sim.mjcf import build_model
from genmimic_train.config import SimConfig
from genmimic_train.sim import Domain, Simulator, make_simulator, parse_sim, resolve_device
from genmimic_train.sim.base import MAX_SPEED
from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator

needs_warp = pytest.mark.skipif(
    importlib.util.find_spec("mujoco_warp") is None, reason="needs mujoco_warp and warp-lang (requirements/warp.txt)"
)
COUNT = 4
EVERY = torch.arange(COUNT)


def standing(count: int = COUNT, height: float = -0.001) -> torch.Tensor:
    """States of robots that stand with all soles in the floor, or hang ``height`` m above. Shape (count, 30).

    Where a sole just touches, rounding decides whether it bears weight in the first step: centimetres later on.
    """
    pose = [0.0, 0.0, G1_23DOF.standing_height + height, 1.0, 0.0, 0.0, 0.0, *G1_23DOF.default_joint_pos]
    return torch.tensor(pose, dtype=torch.float32).repeat(count, 1)


def targets(rng: np.random.Generator, count: int = COUNT, substeps: int = 4, spread: float = 0.1) -> torch.Tensor:
    values = G1_23DOF.default_joint_pos + spread * rng.standard_normal((count, substeps, 23))
    return torch.tensor(values, dtype=torch.float32)


def drawn_domain(count: int = COUNT, seed: int = 3) -> Domain:
    """Parameters over all of Table 8."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    return Domain(
        draw(0.5, 1.2, count), draw(-0.05, 0.05, count, 3), draw(0.8, 1.2, count, 8), draw(0.8, 1.2, count, 23),
        draw(0.8, 1.2, count, 23), draw(0.5, 1.5, count, 23),
    )  # fmt: skip


def centre_velocity(sim: Simulator, env: int) -> torch.Tensor:
    """Velocity of the centre of mass, in m/s. Shape (3,)."""
    model = build_model(G1_23DOF, tether=False, visuals=False, fall_contact=False)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = sim.qpos[env], sim.qvel[env]
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return torch.tensor(data.subtree_linvel[1], dtype=torch.float32)


def test_agrees_with_plain_mujoco(make_sim):
    """Ten control steps with random targets; Warp rounds to single precision at each of its 40."""
    sim = make_sim(3)
    rng = np.random.default_rng(1)
    model = build_model(G1_23DOF, tether=False, visuals=False, fall_contact=False)
    sim.reset(torch.arange(3), standing(3), torch.zeros(3, 29))
    data = mujoco.MjData(model)
    data.qpos[:] = standing(1)[0]
    for _ in range(10):
        target = G1_23DOF.default_joint_pos + 0.1 * rng.standard_normal(23)
        sim.step(torch.tensor(target, dtype=torch.float32).repeat(3, 4, 1))
        data.ctrl[:] = target
        for _ in range(4):
            mujoco.mj_step(model, data)
    assert np.abs(sim.qpos.numpy() - data.qpos).max() < 1e-5
    assert np.abs(sim.qvel.numpy() - data.qvel).max() < 1e-3
    force = [data.sensor(name).data for name in ("left_foot_force", "right_foot_force")]
    np.testing.assert_allclose(sim.foot_force[0].numpy(), np.stack(force), atol=0.5)


@pytest.mark.parametrize("parameter", ["friction", "com_offset", "mass_scale", "kp_scale", "kd_scale", "strength"])
def test_each_parameter_acts_and_on_its_own_robot_only(make_sim, parameter):
    """Changed for one robot, it moves that one elsewhere and leaves the others where they were."""
    drawn, domain = drawn_domain(), Domain.nominal(G1_23DOF, COUNT)
    getattr(domain, parameter)[:] = getattr(drawn, parameter)
    ends = []
    for rows in ([], [2]):
        sim = make_sim(COUNT)
        if rows:
            sim.set_domain(torch.tensor(rows), Domain(**{name: getattr(domain, name)[rows] for name in vars(domain)}))
        velocity = torch.zeros(COUNT, 29)
        velocity[:, 0] = 0.8  # sliding, so that friction tells
        sim.reset(EVERY, standing(), velocity)
        rng = np.random.default_rng(0)
        for _ in range(4):
            # wide, so that torques reach their limits
            sim.step(targets(rng, spread=0.6))
        ends.append(sim.qpos)
    moved = (ends[0] - ends[1]).abs().amax(-1)
    assert moved[2] > 1e-4
    assert moved[[0, 1, 3]].max() < 1e-5


def test_a_subset_is_reset_and_pushed(make_sim):
    sim = make_sim(COUNT)
    sim.reset(EVERY, standing(), torch.zeros(COUNT, 29))
    rng = np.random.default_rng(0)
    for _ in range(3):
        sim.step(targets(rng))
    before, velocity = sim.qpos, sim.qvel
    kept = before.clone()
    pose, rates = standing(2, height=0.3), torch.randn(2, 29)
    sim.reset(torch.tensor([1, 3]), pose, rates)
    assert torch.equal(before, kept)  # what was returned stays as it was
    assert torch.equal(sim.qpos[[1, 3]], pose) and torch.equal(sim.qvel[[1, 3]], rates)
    assert torch.equal(sim.qpos[[0, 2]], before[[0, 2]])
    assert sim.foot_force[[1, 3]].abs().max() == 0.0 and sim.foot_force[[0, 2], :, 2].max() > 10.0
    push = torch.tensor([[0.7, -0.4]])
    sim.set_root_velocity_xy(torch.tensor([2]), push)
    assert torch.equal(sim.qvel[[2], :2], push) and torch.equal(sim.qvel[2, 2:], velocity[2, 2:])


def test_a_target_acts_in_its_substep(make_sim):
    """Late targets, which is how a control delay is simulated, move the robot less by the end of the step."""
    sim = make_sim(2)
    sim.reset(torch.arange(2), standing(2, height=1.0), torch.zeros(2, 29))
    control = torch.tensor(G1_23DOF.default_joint_pos, dtype=torch.float32).repeat(2, 4, 1)
    arm = int(G1_23DOF.joint_idx(["left_elbow_joint"])[0])
    control[0, :, arm] += 0.3
    control[1, 3:, arm] += 0.3
    sim.step(control)
    travelled = sim.qpos[:, 7 + arm] - standing(1)[0, 7 + arm]
    assert travelled[0] > 2.0 * travelled[1] > 0.0


def test_a_wrench_acts_on_the_root_of_its_robot_for_one_step(make_sim):
    """In the air, joints held: the momentum that it gives is force times time, and a torque turns about its axis."""
    sim = make_sim(COUNT)
    sim.reset(EVERY, standing(height=1.0), torch.zeros(COUNT, 29))
    control = torch.tensor(G1_23DOF.default_joint_pos, dtype=torch.float32).repeat(COUNT, 4, 1)
    wrench = torch.zeros(COUNT, 6)
    wrench[1, :3] = torch.tensor([60.0, -30.0, 90.0])
    wrench[2, 5] = 10.0
    sim.step(control, wrench)
    pulled, still = sim.qvel[1], sim.qvel[0]
    momentum = G1_23DOF.mass * (centre_velocity(sim, 1) - centre_velocity(sim, 0))
    assert torch.allclose(momentum, 0.02 * wrench[1, :3], atol=0.02)
    assert not torch.equal(pulled, still) and torch.equal(still, sim.qvel[3])
    assert sim.qvel[2, 5] > 0.1 and sim.qvel[2, 5] > 5.0 * sim.qvel[2, 3:5].abs().max()
    before = centre_velocity(sim, 1)
    sim.step(control)
    fall = torch.tensor([0.0, 0.0, -9.81 * 0.02])
    assert torch.allclose(centre_velocity(sim, 1) - before, fall, atol=2e-3)


def test_torque_is_limited_by_the_motor(make_sim):
    """With both demands beyond its limit a motor gives the same torque for either."""
    sim = make_sim(2)
    sim.reset(torch.arange(2), standing(2, height=1.0), torch.zeros(2, 29))
    control = torch.tensor(G1_23DOF.default_joint_pos, dtype=torch.float32).repeat(2, 1, 1)
    arm = int(G1_23DOF.joint_idx(["left_elbow_joint"])[0])
    for row, demand in enumerate((20.0, 40.0)):
        control[row, :, arm] += demand
    sim.step(control)
    speed = sim.qvel[:, 6 + arm]
    assert speed[0] > 1.0 and speed[0].item() == pytest.approx(speed[1].item(), rel=1e-5)


@pytest.mark.parametrize("value", [1e7, float("nan")])
def test_bad_state_is_reported_and_replaced(make_sim, value):
    sim = make_sim(2)
    sim.reset(torch.arange(2), standing(2), torch.zeros(2, 29))
    qvel = torch.zeros(1, 29)
    qvel[0, 10] = value
    sim.reset(torch.tensor([1]), standing(1), qvel)
    bad = sim.step(targets(np.random.default_rng(0), 2))
    assert bad.tolist() == [False, True]
    assert torch.isfinite(sim.qpos).all() and torch.isfinite(sim.qvel).all()
    assert sim.qvel[1].abs().max() == 0.0 and sim.foot_force[1].abs().max() == 0.0
    assert not sim.step(targets(np.random.default_rng(0), 2)).any()  # the next step starts from a sound state


def test_a_state_goes_on_bit_for_bit(make_sim):
    first, second = make_sim(COUNT), make_sim(COUNT)
    for sim in (first, second):
        sim.set_domain(EVERY, drawn_domain())
    first.reset(EVERY, standing(), torch.zeros(COUNT, 29))
    rng = np.random.default_rng(0)
    for _ in range(3):
        first.step(targets(rng))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.foot_force, second.foot_force)
    for _ in range(3):
        control = targets(rng)
        first.step(control), second.step(control)
    assert torch.equal(first.qpos, second.qpos) and torch.equal(first.qvel, second.qvel)


@needs_warp
@pytest.mark.parametrize("height", [-0.001, 3.0], ids=["contact", "flight"])
def test_warp_goes_where_mujoco_goes(height):
    """All of Table 8 drawn anew for each robot, half a second of random targets, standing and falling freely.

    Single precision keeps 6e-8 of a metre or radian a step; 7e-7 were measured in contact, where the solver stops at
    1e-6, and 4e-6 after a landing. 2e-5 leaves room for other processors.
    """
    sims: list[Simulator] = [make_simulator(SimConfig(name), COUNT, threads=1) for name in ("mujoco", "warp")]
    for sim in sims:
        sim.set_domain(EVERY, drawn_domain())
        sim.reset(EVERY, standing(height=height), torch.zeros(COUNT, 29))
    rng = np.random.default_rng(0)
    for _ in range(25):
        control = targets(rng)
        assert not torch.stack([sim.step(control) for sim in sims]).any()
        assert (sims[0].foot_force - sims[1].foot_force).abs().max() < 1.0
    assert (sims[0].foot_force.abs().max() > 100.0) == (height < 0.5)
    assert (sims[0].qpos - sims[1].qpos).abs().max() < 2e-5
    assert (sims[0].qvel - sims[1].qvel).abs().max() < 2e-3


@needs_warp
def test_constants_at_rest_are_those_of_mujoco():
    """What `mj_setConst` computes one robot at a time, in a batch."""
    from genmimic_train.sim.mujoco_warp import InertiaAtRest

    domain, cpu = drawn_domain(), MujocoCpuSimulator(COUNT, threads=1)
    cpu.set_domain(EVERY, domain)
    base = build_model(G1_23DOF, tether=False, visuals=False, fall_contact=False)
    links = [base.body(name).id for name in G1_23DOF.link_names]
    scale = torch.ones(COUNT, base.nbody)
    scale[:, links] = domain.mass_scale[:, cpu._group_of_link]
    found = InertiaAtRest(base, "cpu").constants(scale, links[0], domain.com_offset)
    for values, name in zip(found, ("body_subtreemass", "body_invweight0", "dof_invweight0"), strict=True):
        expected = np.stack([getattr(model, name) for model in cpu._models])
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5, atol=1e-8)


@needs_warp
def test_too_many_contacts_are_a_bad_state():
    """Warp drops what does not fit; that is no physics to learn from."""
    from genmimic_train.sim import mujoco_warp

    kept = mujoco_warp._CONTACTS
    mujoco_warp._CONTACTS = 3  # standing takes eight
    try:
        sim = make_simulator(SimConfig("warp"), 1)
    finally:
        mujoco_warp._CONTACTS = kept
    sim.reset(torch.arange(1), standing(1), torch.zeros(1, 29))
    assert sim.step(targets(np.random.default_rng(0), 1)).all()


@needs_warp
def test_torch_and_warp_share_memory():
    sim = make_simulator(SimConfig("warp"), 2)
    sim._view["qpos"][1, 0] = 7.0
    assert sim._data.qpos.numpy()[1, 0] == 7.0
    sim.set_domain(torch.tensor([1]), drawn_domain(1))
    assert sim._model.body_mass.numpy()[1].sum() != pytest.approx(sim._model.body_mass.numpy()[0].sum())


def test_what_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    with pytest.raises(ConfigError, match="requirements/warp.txt"):
        make_simulator(SimConfig("warp"), 1)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="sim.device is cuda:3, but torch .* use sim.device=cpu"):
            resolve_device(SimConfig("mujoco", "cuda:3"))
    for text in ("gazebo", "warp:", "warp:gpu", ""):
        with pytest.raises(ConfigError, match="expected"):
            parse_sim(text)
    assert parse_sim("warp:cuda:1") == SimConfig("warp", "cuda:1") and parse_sim("mujoco") == SimConfig()
    assert MAX_SPEED > 100.0
