# SPDX-License-Identifier: Apache-2.0
"""Runs that survive: bit for bit on the same back end, at all on another; signals; divergence."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from genmimic.core.errors import ConfigError
from genmimic.core.motion import save_motion
from genmimic.core.robot import G1_23DOF
from genmimic_train.cli import main
from genmimic_train.config import TrainConfig, load_config
from genmimic_train.learning.dagger import train_student
from genmimic_train.learning.networks import make_actor
from genmimic_train.learning.ppo import train_teacher
from genmimic_train.runs import Run, TrainingError, chance_state, pack, set_chance_state, stop_between_iterations
from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator
from genmimic_train.tracking.encoding import teacher_size
from genmimic_train.tracking.env import TrackingEnv
from genmimic_train.tracking.motions import MotionLibrary

SMALL = ["ppo.hidden=[16]", "ppo.steps_per_env=4", "ppo.minibatches=2", "ppo.epochs=2", "dagger.hidden=[16]",
         "dagger.steps_per_env=4", "dagger.minibatch=32", "dagger.buffer_samples=100", "dagger.keep_buffer=true",
         "dagger.teacher_iterations=4", "dagger.final_learning_rate=1e-3", "env.num_envs=8", "env.episode_s=0.3",
         "env.randomization.push_interval_s=0.1", "env.corruption.share=0.5"]  # fmt: skip
PER_ITERATION = 4 * 8


def _silent(*_: object) -> None:
    pass


def _env(config: TrainConfig, motion, student: bool = False) -> TrackingEnv:
    library = MotionLibrary(G1_23DOF, [motion], config.env.mirror_motions)
    sim = MujocoCpuSimulator(config.env.num_envs, threads=1)
    return TrackingEnv(config.env, sim, library, with_student=student, seed=config.seed)


def _train(run: Run, config: TrainConfig, motion, iterations: int) -> Run:
    if not run.folder.exists():
        run.create("teacher", config)
    train_teacher(_env(config, motion), config, run, iterations * PER_ITERATION, report=_silent, learner_threads=1)
    return run


def _distil(run: Run, config: TrainConfig, motion, iterations: int) -> Run:
    if not run.folder.exists():
        run.create("student", config)
    torch.manual_seed(5)
    teacher = make_actor("critic", teacher_size(), (16,), 23, None).eval()
    env = _env(config, motion, student=True)
    train_student(env, teacher, config, run, iterations * PER_ITERATION, report=_silent, learner_threads=1)
    return run


def _same(first: object, second: object, where: str = "") -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where  # type: ignore[arg-type]
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where  # type: ignore[attr-defined]
        for key in first:
            _same(first[key], second[key], f"{where}.{key}")  # type: ignore[index]
    else:
        assert first == second, where


@pytest.mark.parametrize("kind", ["teacher", "student"])
@pytest.mark.parametrize("frame", ["heading", "odometry"])
def test_six_iterations_are_three_and_three(tmp_path, arm_motion, kind, frame):
    """Weights, moments, learning rate, robots, episodes, sampler and chance: all of the checkpoint, bit for bit."""
    if (kind, frame) == ("teacher", "odometry"):
        pytest.skip("a teacher has no odometry")
    go = _train if kind == "teacher" else _distil
    config = load_config(None, [*SMALL, f"env.goal_frame={frame}"])
    straight = go(Run(tmp_path / "straight"), config, arm_motion, 6)
    halves = go(Run(tmp_path / "halves"), config, arm_motion, 3)
    assert halves.load()["iteration"] == 3
    go(halves, config, arm_motion, 6)
    assert halves.exact is True and halves.info()["resumed"][0]["samples"] == 3 * PER_ITERATION
    first, second = straight.load(), halves.load()
    assert first["exact"]["env"]["episode_length"].max() < 15  # episodes ended on the way
    _same(first, second)


def test_goes_on_with_other_motions_and_sizes(tmp_path, arm_motion):
    from genmimic.core.motion import crop_motion

    config = load_config(None, SMALL)
    run = _train(Run(tmp_path / "run"), config, arm_motion, 2)
    _train(run, config, crop_motion(arm_motion, 0.0, 2.0), 3)
    assert run.exact is False and run.load()["iteration"] == 3
    env = _env(load_config(None, [*SMALL, "env.num_envs=4"]), arm_motion)
    before = env.sim.qpos.clone()
    assert env.load_state_dict(run.load()["exact"]["env"]) is False
    assert torch.equal(env.sim.qpos, before)


def test_a_checkpoint_of_before_still_loads(tmp_path, arm_motion):
    """Runs written when there was no exact resuming go on from their weights."""
    config = load_config(None, SMALL)
    run = _train(Run(tmp_path / "run"), config, arm_motion, 1)
    state = run.load()
    del state["exact"]
    run.save(state)
    _train(run, config, arm_motion, 2)
    assert run.exact is False and run.load()["iteration"] == 2


def test_a_packed_run_has_no_moments_and_no_episodes(tmp_path, arm_motion):
    config = load_config(None, ["env.num_envs=8", "ppo.steps_per_env=4"])  # the paper's network
    run = _train(Run(tmp_path / "run"), config, arm_motion, 1)
    folder = pack(run, tmp_path / "packed")
    assert not {"exact", "optimizer_state_dict"} & set(Run(folder).load())
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6


def test_diverged_weights_never_replace_a_checkpoint(tmp_path):
    run = Run(tmp_path)
    run.save({"actor_state_dict": {"w": torch.ones(2)}})
    with pytest.raises(TrainingError, match="diverged"):
        run.save({"actor_state_dict": {"w": torch.tensor([1.0, float("nan")])}})
    assert torch.equal(run.load()["actor_state_dict"]["w"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]  # nothing half written lies about


def test_a_signal_ends_a_run_between_iterations(tmp_path, arm_motion):
    config = load_config(None, SMALL)
    run = Run(tmp_path / "run")
    run.create("teacher", config)

    def stop_after_two(iteration: int, *_: object) -> None:
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train_teacher(_env(config, arm_motion), config, run, report=stop_after_two, learner_threads=1)
    assert run.load()["iteration"] == 2 == run.load()["exact"]["iteration"]


def test_a_second_signal_interrupts():
    with stop_between_iterations() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()


def test_chance_goes_on():
    state = chance_state()
    first = (random.random(), np.random.rand(), torch.rand(3).tolist(), np.random.randn())
    set_chance_state(state)
    assert first == (random.random(), np.random.rand(), torch.rand(3).tolist(), np.random.randn())


def test_settings_lie_over_a_runs_own(tmp_path, arm_motion, capsys):
    """With --resume files and overrides change what they name, and are kept; layers cannot change."""
    motion, folder = tmp_path / "arms.npz", tmp_path / "run"
    save_motion(motion, G1_23DOF, arm_motion)
    begin = ["teacher", "--run", str(folder), "--motions", str(motion), "--threads", "1"]
    assert main([*begin, "--samples", "32", "--set", *SMALL, "ppo.gamma=0.9"]) == 0
    profile = tmp_path / "elsewhere.yaml"
    profile.write_text("sim: {backend: mujoco}\nenv: {num_envs: 4}\n")
    on = ["teacher", "--run", str(folder), "--resume", "--threads", "1"]
    assert main([*on, "--samples", "48", "--config", str(profile), "--set", "ppo.epochs=1"]) == 0
    config = Run(folder).config()
    assert (config.env.num_envs, config.ppo.epochs, config.ppo.gamma, config.ppo.hidden) == (4, 1, 0.9, (16,))
    assert Run(folder).info()["resumed"][0]["sim"]["backend"] == "mujoco"
    assert Run(folder).load()["samples"] == 48
    assert main([*on, "--set", "ppo.hidden=[8]"]) == 2
    assert main([*on, "--set", "sim.device=gpu"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert "layers" in errors[0] and "cpu, cuda or cuda:N" in errors[1] and len(errors) == 2
    assert Run(folder).config() == config


def test_a_later_profile_lies_over_an_earlier_one(tmp_path):
    first, second, broken = (tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml"))
    first.write_text("env: {num_envs: 3, rewards: {weights: {alive: 1.0}}}\nseed: 5\n")
    second.write_text("env: {num_envs: 4}\nsim: {backend: warp, device: cuda}\n")
    broken.write_text("- a\n")
    config = load_config([first, second], ["seed=6"])
    assert (config.env.num_envs, config.env.rewards.weights["alive"], config.seed) == (4, 1.0, 6)
    assert config.sim.backend == "warp" and load_config(first) == load_config([first])
    again = load_config(None, ["env.num_envs=9"], config)
    assert again.env.num_envs == 9 and again.sim == config.sim and again.env.rewards == config.env.rewards
    with pytest.raises(ConfigError, match="c.yaml: expected keys and values"):
        load_config([first, broken])
    root = Path(__file__).parents[2] / "config" / "train"
    if not root.is_dir():
        pytest.skip("config/train is not beside the tests")
    for name, where in (("gpu", ("warp", "cuda")), ("cpu_gpu", ("mujoco", "cuda"))):
        profile = load_config([root / "cpu.yaml", root / f"{name}.yaml"])
        assert (profile.sim.backend, profile.sim.device) == where and profile.ppo.hidden == (256, 128, 64)
