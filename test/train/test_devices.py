# SPDX-License-Identifier: Apache-2.0
"""Nothing in training takes the device for the CPU: the whole of it on a pretend GPU, or on a real one where it is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from genmimic.core.mirror import observation_mirror
from genmimic.core.motion import save_motion
from genmimic.core.observation import STUDENT
from genmimic.core.robot import G1_23DOF
from genmimic_train.cli import main
from genmimic_train.config import load_config
from genmimic_train.learning.dagger import SampleBuffer
from genmimic_train.runs import Run
from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator
from genmimic_train.tracking.env import TrackingEnv
from genmimic_train.tracking.motions import MotionLibrary

sys.path.insert(0, str(Path(__file__).parent))
from pretend_device import DEVICE, Elsewhere, pretend_device  # noqa: E402


@pytest.fixture
def device(monkeypatch):
    with pretend_device(monkeypatch) as name:
        yield name


def test_the_pretend_device_refuses_what_a_gpu_refuses(device):
    there = torch.arange(4, device=device)
    assert isinstance(there, Elsewhere) and str(there.device) == DEVICE
    assert int((there + 1).sum()) == 10 and there[torch.tensor([1, 2])].tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.arange(4)
    with pytest.raises(TypeError, match="cpu()"):
        np.asarray(there.numpy())
    assert there.cpu().numpy().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["teacher", "teacher_joints", "heading", "odometry"])
def test_an_environment_lives_where_its_simulator_does(device, arm_motion, kind):
    """Resets, pushes, clip ends, damaged goals, noise and a checkpoint; the same numbers as on the CPU."""
    student = kind in ("heading", "odometry")
    overrides = ["env.num_envs=4", "env.episode_s=0.1", "env.corruption.share=0.5"]
    overrides += ["env.randomization.push_interval_s=0.04"]
    overrides += [f"env.goal_frame={kind}"] if student else []
    overrides += ["env.teacher_goal=joints", "env.rewards.learned_weights=true"] if kind == "teacher_joints" else []
    config = load_config(None, overrides).env
    rewards, states = [], []
    for place in ("cpu", device):
        library = MotionLibrary(G1_23DOF, [arm_motion], True, place)
        env = TrackingEnv(config, MujocoCpuSimulator(4, device=place, threads=1), library, with_student=student)
        env.frame[:2] = env._clip_end[:2] - 2
        torch.manual_seed(0)
        for _ in range(7):
            obs, reward, done, _ = env.step(0.1 * torch.randn(4, env.num_actions).to(place))
        assert {str(value.device) for value in (reward, done, *obs.values())} == {place}
        assert env.reference_action().device == reward.device
        rewards.append(reward.cpu())
        state = env.state_dict()
        states.append(state)
        assert env.load_state_dict(state)
    assert torch.allclose(rewards[0], rewards[1], atol=1e-6)
    assert states[0]["tensors"].keys() == states[1]["tensors"].keys()


def test_a_sample_buffer_lives_there(device):
    """Filled past its end, drawn from, mirrored, saved and read back as a checkpoint is: from the CPU."""
    buffer, kept = SampleBuffer(8, 2370, 23, device), SampleBuffer(8, 2370, 23, device)
    buffer.add(torch.randn(6, 2370, device=device), torch.randn(6, 23, device=device))
    buffer.add(torch.randn(4, 2370, device=device), torch.randn(4, 23, device=device))
    obs, labels = buffer.sample(5)
    mirrored = observation_mirror(G1_23DOF, STUDENT)(obs)
    assert {str(values.device) for values in (obs, labels, mirrored)} == {DEVICE}
    assert kept.load_state_dict({name: _here(value) for name, value in buffer.state_dict().items()})
    assert torch.equal(kept._labels.cpu(), buffer._labels.cpu()) and kept.count == 8


def _here(value):
    return value.cpu() if isinstance(value, torch.Tensor) else value


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["mujoco", "warp"])
def test_on_a_real_gpu_runs_go_on_there_and_here(tmp_path, arm_motion, backend):
    """Teacher, student, fine-tuning and evaluation on the GPU; then the teacher goes on on the CPU, and back."""
    if backend == "warp":
        pytest.importorskip("mujoco_warp", reason="needs mujoco_warp and warp-lang (requirements/warp.txt)")
    motion = tmp_path / "arms.npz"
    save_motion(motion, G1_23DOF, arm_motion)
    small = ["ppo.hidden=[16]", "ppo.steps_per_env=4", "ppo.minibatches=2", "ppo.epochs=1", "dagger.hidden=[16]",
             "dagger.steps_per_env=4", "dagger.minibatch=32", "dagger.buffer_samples=200", "env.num_envs=8",
             "env.episode_s=1.0", "ppo.warm_start=true", "fine_tune.steps_per_env=4"]  # fmt: skip
    there, here = [f"sim.backend={backend}", "sim.device=cuda"], ["sim.backend=mujoco", "sim.device=cpu"]
    teacher, student, tuned = (str(tmp_path / name) for name in ("teacher", "student", "tuned"))
    common = ["--motions", str(motion), "--threads", "2"]
    assert main(["teacher", "--run", teacher, *common, "--samples", "64", "--set", *small, *there]) == 0
    for count, place in ((96, there), (128, here), (160, there)):
        assert main(["teacher", "--run", teacher, "--resume", "--samples", str(count), "--set", *place]) == 0
    state = Run(teacher).load()
    assert state["samples"] == 160 and Run(teacher).config().sim.backend == backend
    resumed = Run(teacher).info()["resumed"]
    assert [entry["exact"] for entry in resumed] == [True, False, False]
    assert resumed[1]["sim"]["device"] == "cpu"
    begin = ["--run", student, "--teacher", teacher, *common, "--set", *small, *there]
    assert main(["student", "--samples", "96", *begin]) == 0
    begin = ["--run", tuned, "--student", student, "--teacher", teacher, *common, "--set", *small, *there]
    assert main(["finetune", "--samples", "160", *begin]) == 0
    assert main(["evaluate", tuned, "--motions", str(motion), "--rollouts", "2", "--sim", f"{backend}:cuda"]) == 0
    assert main(["export", tuned, "-o", str(tmp_path / "policy.onnx")]) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_warp_on_a_gpu_goes_where_mujoco_goes():
    """As on Warp's CPU back end; by a captured graph, and one robot's reset leaves the others alone."""
    pytest.importorskip("mujoco_warp", reason="needs mujoco_warp and warp-lang (requirements/warp.txt)")
    from test_simulators import COUNT, EVERY, drawn_domain, standing, targets

    from genmimic_train.config import SimConfig
    from genmimic_train.sim import Domain, make_simulator

    cpu, gpu = make_simulator(SimConfig(), COUNT), make_simulator(SimConfig("warp", "cuda"), COUNT)
    domain = drawn_domain()
    cpu.set_domain(EVERY, domain)
    gpu.set_domain(EVERY.cuda(), Domain(**{name: value.cuda() for name, value in vars(domain).items()}))
    cpu.reset(EVERY, standing(), torch.zeros(COUNT, 29))
    gpu.reset(EVERY.cuda(), standing().cuda(), torch.zeros(COUNT, 29).cuda())
    rng = np.random.default_rng(0)
    for _ in range(25):
        control = targets(rng)
        assert not cpu.step(control).any() and not gpu.step(control.cuda()).any()
    assert gpu._graph is not None
    assert (cpu.qpos - gpu.qpos.cpu()).abs().max() < 1e-3
    before = gpu.qpos
    gpu.reset(EVERY[:1].cuda(), standing(1).cuda(), torch.zeros(1, 29).cuda())
    assert torch.equal(gpu.qpos[1:], before[1:]) and torch.equal(gpu.qpos[0].cpu(), standing(1)[0])
