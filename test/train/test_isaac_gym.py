# SPDX-License-Identifier: Apache-2.0
"""The Isaac Gym adapter: against a pretend package that obeys its rules, and against the real one where it is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.robot import G1_23DOF
from genmimic.core.rotation import quat_rotate
from genmimic_train.cli import main
from genmimic_train.config import SimConfig
from genmimic_train.sim import Domain, make_simulator

sys.path.insert(0, str(Path(__file__).parent))
from pretend_isaacgym import Gym, modules  # noqa: E402

COUNT = 3
EVERY = torch.arange(COUNT)


@pytest.fixture
def made(monkeypatch):
    parts = modules()
    gym: Gym = parts.pop("gym")
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)
    return make_simulator(SimConfig("isaacgym"), COUNT), gym


def state(count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    qpos, qvel = torch.randn(count, 30), torch.randn(count, 29)
    qpos[:, 3:7] /= qpos[:, 3:7].norm(dim=-1, keepdim=True)
    return qpos, qvel


def test_what_is_written_is_read_again(made):
    """Through xyzw quaternions, world angular velocity, the velocity of the centre of mass, another joint order."""
    sim, gym = made
    qpos, qvel = state()
    sim.reset(EVERY, qpos, qvel)
    assert torch.allclose(sim.qpos, qpos, atol=1e-6) and torch.allclose(sim.qvel, qvel, atol=1e-5)
    assert torch.equal(gym.root[:, 3:7], qpos[:, [4, 5, 6, 3]])
    assert not torch.allclose(gym.dof[..., 0], qpos[:, 7:])


def test_resets_and_pushes_before_a_step_all_arrive(made):
    sim, gym = made
    qpos, qvel = state()
    sim.reset(EVERY, qpos, torch.zeros(COUNT, 29))
    sim.step(qpos[:, None, 7:])
    sim.reset(torch.tensor([0]), qpos[:1], qvel[:1])
    sim.reset(torch.tensor([2]), qpos[2:], qvel[2:])
    push = torch.tensor([[0.5, -0.25]])
    sim.set_root_velocity_xy(torch.tensor([1]), push)
    sim.step(qpos[:, None, 7:])
    assert torch.allclose(sim.qpos[[0, 2], :2], qpos[[0, 2], :2] + 0.005 * gym.root[[0, 2], 7:9], atol=1e-5)
    assert torch.allclose(sim.qvel[1, :2], push[0], atol=1e-5)


def test_torque_is_equation_5_with_each_robots_own_numbers(made):
    sim, gym = made
    domain = Domain.nominal(G1_23DOF, COUNT)
    domain.kp_scale[:], domain.kd_scale[:], domain.strength[1] = 1.2, 0.8, 0.5
    sim.set_domain(EVERY, domain)
    qpos, qvel = state()
    sim.reset(EVERY, qpos, qvel)
    target = qpos[:, None, 7:] + torch.tensor([0.1, 10.0]).view(1, 2, 1)
    sim.step(target)
    assert len(gym.torques) == 10  # of 1 ms
    kp, kd = torch.tensor(G1_23DOF.kp.copy()).float(), torch.tensor(G1_23DOF.kd.copy()).float()
    effort = torch.tensor(G1_23DOF.joint_effort.copy()).float()
    order = [gym.dofs.index(name) for name in G1_23DOF.joint_names]
    demand = 1.2 * kp * 0.1 - 0.8 * kd * qvel[:, 6:]
    expected = torch.tensor([1.0, 0.5, 1.0])[:, None] * demand.clamp(-effort, effort)
    assert torch.allclose(gym.torques[0][:, order], expected, atol=1e-3)
    assert (gym.torques[5][1, order].abs() <= 0.5 * effort + 1e-4).all()


def test_a_wrench_at_the_root_is_force_and_moment_at_its_centre_of_mass(made):
    sim, gym = made
    qpos, qvel = state()
    sim.reset(EVERY, qpos, qvel)
    wrench = torch.randn(COUNT, 6)
    sim.step(qpos[:, None, 7:], wrench)
    assert len(gym.pulls) == 5  # each lasts 1 ms
    force, moment = (values[:, gym.links.index("pelvis")] for values in gym.pulls[0])
    assert torch.equal(force, wrench[:, :3])
    lever = quat_rotate(qpos[:, 3:7], torch.tensor(G1_23DOF.links[0].com).float().expand(COUNT, 3))
    about_root = moment + torch.linalg.cross(lever, force)
    assert torch.allclose(about_root, quat_rotate(qpos[:, 3:7], wrench[:, 3:]), atol=1e-4)
    others = torch.arange(len(gym.links)) != gym.links.index("pelvis")
    assert not any(values[:, others].any() for values in gym.pulls[0])
    sim.step(qpos[:, None, 7:])
    assert len(gym.pulls) == 5


def test_masses_are_those_of_the_first_draw_and_it_says_so(made):
    sim, gym = made
    first, second = Domain.nominal(G1_23DOF, COUNT), Domain.nominal(G1_23DOF, COUNT)
    first.mass_scale[1], first.com_offset[1, 0], first.friction[1] = 1.1, 0.03, 0.6
    second.mass_scale[:], second.friction[:], second.kp_scale[:] = 0.9, 0.5, 1.15
    assert torch.equal(sim.set_domain(EVERY, first).mass_scale, first.mass_scale)
    pelvis = gym.links.index("pelvis")
    link = G1_23DOF.links[0]
    assert gym.bodies[1][pelvis].mass == pytest.approx(1.1 * link.mass)
    assert gym.bodies[1][pelvis].com.x == pytest.approx(link.com[0] + 0.03)
    assert gym.bodies[1][pelvis].inertia.y.y == pytest.approx(1.1 * link.mass)
    assert gym.bodies[0][pelvis].mass == pytest.approx(link.mass)
    assert gym.friction[1] == pytest.approx(0.2)  # with the floor's 1 its mean is 0.6
    sim.reset(EVERY, *state())
    kept = sim.set_domain(EVERY, second)
    assert torch.equal(kept.mass_scale, first.mass_scale) and torch.equal(kept.com_offset, first.com_offset)
    assert torch.equal(kept.kp_scale, second.kp_scale) and gym.friction[1] == pytest.approx(0.0)


def test_forces_are_the_feets_and_bad_states_are_replaced(made):
    sim, gym = made
    qpos, qvel = state()
    qvel[1, 10] = float("nan")
    sim.reset(EVERY, qpos, qvel)
    assert sim.step(qpos[:, None, 7:]).tolist() == [False, True, False]
    feet = [float(gym.links.index(f"{side}_ankle_roll_link")) for side in ("left", "right")]
    assert sim.foot_force[0, :, 2].tolist() == feet and sim.foot_force[1].abs().max() == 0.0
    assert torch.isfinite(sim.qpos).all() and sim.qpos[1, 2] == pytest.approx(G1_23DOF.standing_height)


def test_the_robot_is_set_up_for_torques(made):
    _, gym = made
    assert (gym.dof_properties["driveMode"] == 3).all() and not gym.dof_properties["stiffness"].any()
    armature = dict(zip(gym.dofs, gym.dof_properties["armature"].tolist(), strict=True))
    for joint in G1_23DOF.joints:
        assert armature[joint.name] == pytest.approx(joint.armature)
    assert gym.params.gravity.z == -9.81 and not gym.params.use_gpu_pipeline and not gym.options.fix_base_link


def test_a_state_is_never_taken_for_one_that_goes_on_bit_for_bit(made):
    sim, _ = made
    assert sim.state_dict()["backend"] != sim.state_dict()["backend"]


@pytest.mark.skipif(importlib.util.find_spec("isaacgym") is not None, reason="isaacgym is installed")
def test_without_the_package_it_is_one_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match="not on PyPI"):
        make_simulator(SimConfig("isaacgym"), 1)
    motions = str(Path(__file__).parents[2] / "motions")
    command = ["teacher", "--run", str(tmp_path / "run"), "--motions", motions, "--set", "sim.backend=isaacgym"]
    assert main(command) == 2
    error = capsys.readouterr().err.strip()
    assert "Isaac Gym" in error and len(error.splitlines()) == 1


def test_the_command_line_imports_it_before_torch(tmp_path):
    """The real package refuses to be imported after torch."""
    (tmp_path / "isaacgym.py").write_text(
        "import sys\nprint('torch first' if 'torch' in sys.modules else 'in time', flush=True)\nraise ImportError\n"
    )
    code = (
        "import sys\nfrom genmimic_train.cli import main\n"
        f"main(['teacher', '--run', {str(tmp_path)!r}, '--motions', 'nowhere', '--set', 'sim.backend=isaacgym'])"
    )
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path, "PATH": ""}
    )
    assert done.stdout.splitlines()[0] == "in time", done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(importlib.util.find_spec("isaacgym") is None, reason="isaacgym is not installed (not on PyPI)")
def test_the_real_one_stands_falls_and_is_pushed():
    """In a process of its own, where isaacgym comes before torch."""
    script = Path(__file__).parent / "real_isaacgym.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
