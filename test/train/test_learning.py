# SPDX-License-Identifier: Apache-2.0
"""PPO's symmetry loss (Eq. 2-3), DAgger's symmetric batch, runs that resume, the export."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rsl_rl.storage import RolloutStorage
from tensordict import TensorDict

from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.manifest import PolicyManifest
from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.motion import save_motion
from genmimic.core.observation import STUDENT, TEACHER, size
from genmimic.core.robot import G1_23DOF
from genmimic_train.cli import main
from genmimic_train.config import DaggerConfig, PpoConfig, TrainConfig, config_dict, config_from_dict, load_config
from genmimic_train.learning.dagger import Dagger, SampleBuffer, Teachers, teacher_of_clips
from genmimic_train.learning.ppo import SymmetricSurrogate, build_ppo
from genmimic_train.runs import Run
from genmimic_train.tracking.env import ARM_LEAD_S, arm_joints

SMALL = ["ppo.hidden=[16]", "ppo.steps_per_env=4", "ppo.minibatches=2", "ppo.epochs=1", "dagger.hidden=[16]",
         "dagger.steps_per_env=4", "dagger.minibatch=32", "env.num_envs=8", "env.episode_s=1.0"]  # fmt: skip


def _batch(count: int = 6) -> RolloutStorage.Batch:
    obs = TensorDict({"teacher": torch.randn(count, 757), "critic": torch.randn(count, 757)}, batch_size=[count])
    return RolloutStorage.Batch(
        observations=obs,
        actions=torch.randn(count, 23),
        values=torch.randn(count, 1),
        advantages=torch.randn(count, 1),
        returns=torch.randn(count, 1),
        old_actions_log_prob=torch.randn(count, 1),
    )


@pytest.mark.parametrize("coefficient", [1.0, 0.3])
def test_symmetry_loss_is_equation_2_and_3(make_env, coefficient):
    """The surrogate over the joined batch equals L_PPO + lambda L_SYM computed apart, from their formulas."""
    ppo = build_ppo(make_env(), PpoConfig(hidden=(16,), symmetry=coefficient))
    batch, clip = _batch(), 0.2
    advantage, old = batch.advantages.clone().squeeze(), batch.old_actions_log_prob.clone().squeeze()

    def surrogate(obs: TensorDict, actions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ppo.actor(obs, stochastic_output=True)
        ratio = torch.exp(ppo.actor.get_output_log_prob(actions) - old.repeat(len(actions) // len(old)))
        return torch.max(-weights * ratio, -weights * ratio.clamp(1 - clip, 1 + clip)).mean()

    t_s, t_a = observation_mirror(G1_23DOF, TEACHER), action_mirror(G1_23DOF)
    mirrored = TensorDict({name: t_s(values) for name, values in batch.observations.items()}, batch_size=[6])
    plain = surrogate(batch.observations, batch.actions, advantage)
    symmetric = surrogate(mirrored, t_a(batch.actions), advantage)

    SymmetricSurrogate(G1_23DOF, coefficient).augment_batch(batch, 6)
    joined = surrogate(batch.observations, batch.actions, batch.advantages.squeeze())
    assert joined.item() == pytest.approx((plain + coefficient * symmetric).item(), rel=1e-5)


def test_a_mirrored_batch_mirrors_back():
    t_s = observation_mirror(G1_23DOF, STUDENT)
    values = torch.randn(4, size(STUDENT))
    assert torch.equal(t_s(t_s(values)), values)


def test_dagger_learns_what_the_teacher_does_and_its_mirror_image():
    dagger = Dagger(DaggerConfig(hidden=(64,), learning_rate=3e-3), 23)
    obs = torch.randn(64, size(STUDENT))
    labels = 0.1 * obs[:, :23]
    dagger.observe(obs)
    losses = [dagger.imitate(obs, labels) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    # the mirror image was in each batch: what was never shown is also learnt
    t_s, t_a = observation_mirror(G1_23DOF, STUDENT), action_mirror(G1_23DOF)
    shown = dagger.student(TensorDict({"student": t_s(obs)}, batch_size=[64]))
    assert torch.nn.functional.mse_loss(shown, t_a(labels)).item() < 0.2 * losses[0]


def test_buffer_keeps_the_latest():
    buffer = SampleBuffer(5, 2, 1)
    for start in (0, 3, 6):
        rows = torch.arange(start, start + 3, dtype=torch.float32)
        buffer.add(rows[:, None].repeat(1, 2), rows[:, None])
    assert buffer.count == 5
    _, labels = buffer.sample(200)
    assert set(labels.squeeze().tolist()) == {4.0, 5.0, 6.0, 7.0, 8.0}


def test_train_distil_resume_export(tmp_path, arm_motion, capsys):
    """The three commands on a toy: files appear, resuming counts on, and ONNX equals torch."""
    onnxruntime = pytest.importorskip("onnxruntime")
    motion = tmp_path / "arms.npz"
    save_motion(motion, G1_23DOF, arm_motion)
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    common = ["--motions", str(motion), "--threads", "1"]
    assert main(["teacher", "--run", str(teacher), *common, "--samples", "64", "--set", *SMALL]) == 0
    assert Run(teacher).load()["samples"] == 64
    assert main(["teacher", "--run", str(teacher), "--resume", "--samples", "96", "--threads", "1"]) == 0
    assert Run(teacher).load()["samples"] == 96
    assert json.loads((teacher / "run.json").read_text())["motion_set"]
    assert list((teacher / "curves").iterdir())
    capsys.readouterr()
    assert main(["evaluate", str(teacher), *common, "--rollouts", "1"]) == 0
    assert "gait: " in capsys.readouterr().out.splitlines()[-1]

    arguments = ["student", "--teacher", str(teacher), "--run", str(student), *common]
    assert main([*arguments, "--samples", "64", "--set", *SMALL]) == 0
    policy_path = tmp_path / "policy.onnx"
    assert main(["export", str(student), "-o", str(policy_path)]) == 0

    from genmimic.policy import load_policy

    policy = load_policy(policy_path)
    network = Dagger(DaggerConfig(hidden=(16,)), 23).student
    network.load_state_dict(Run(student).load()["actor_state_dict"])
    network.eval()
    observation = np.random.default_rng(0).standard_normal(size(STUDENT)).astype(np.float32)
    with torch.no_grad():
        expected = network(TensorDict({"student": torch.tensor(observation)[None]}, batch_size=[1]))[0].numpy()
    np.testing.assert_allclose(policy(observation), expected, atol=1e-4)
    assert policy.manifest.training["samples"] == 64
    assert onnxruntime.__version__

    # a packed run is small, names no path of this machine, and goes on
    packed = tmp_path / "packed"
    assert main(["pack", str(teacher), "-o", str(packed)]) == 0
    assert "optimizer_state_dict" not in Run(packed).load()
    assert str(tmp_path) not in (packed / "run.json").read_text()
    assert "train/reward," in (packed / "curves.csv").read_text()
    assert main(["teacher", "--run", str(packed), "--resume", *common, "--samples", "128"]) == 0
    assert Run(packed).load()["samples"] == 128
    assert Run(packed).info()["motions"] == [str(motion.resolve())]  # a run that goes on says with what

    # what is refused
    assert main(["pack", str(teacher), "-o", str(packed)]) == 2
    assert main([*arguments[:-4], *common, "--run", str(student)]) == 2  # a checkpoint is there, no --resume
    assert main(["export", str(teacher), "-o", str(policy_path)]) == 2  # a teacher is not for export
    assert main(["student", "--run", str(tmp_path / "x"), "--teacher", str(student), *common]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 4 and all(line.startswith("genmimic-train: error: ") for line in errors)


def test_each_clip_is_taught_by_the_teacher_that_knows_it(tmp_path):
    """Three clips, two teachers: the second was trained on the second clip alone, nobody on the third."""
    runs = []
    for name, clips in (("gestures", ["wave"]), ("walks", ["walk"])):
        runs.append(Run(tmp_path / name))
        runs[-1].create("teacher", TrainConfig(), clips=clips)
    of_clip = teacher_of_clips(["wave", "walk", "jump"], runs)
    assert of_clip == [0, 1, 0]
    models = [lambda obs, value=value: obs["critic"][:, :3] * 0.0 + value for value in (1.0, 2.0)]
    obs = TensorDict({"critic": torch.randn(4, 5)}, batch_size=[4])
    env = SimpleNamespace(clip=torch.tensor([0, 1, 2, 1]), num_actions=2, lead_arms=lambda action: action + 10.0)
    labels = Teachers(models, torch.tensor(of_clip)).label(obs, env)
    assert labels.tolist() == [[1, 1], [2, 2], [1, 1], [2, 2]]
    assert Teachers.alone(models[1]).label(obs, env).eq(2.0).all()
    led = Teachers(models, torch.tensor(of_clip), [False, True]).label(obs, env)
    assert led.tolist() == [[1, 1], [12, 12], [1, 1], [12, 12]]


def test_led_arms_follow_the_reference_and_legs_do_not(make_env):
    """An action of nothing moves the arms to the reference's next angles; a student gets no such help."""
    arms = arm_joints(G1_23DOF)
    others = torch.tensor([idx for idx in range(23) if idx not in arms.tolist()])
    env, student = make_env("env.arms_led=true"), make_env("env.arms_led=true", with_student=True)
    wanted = env.reference_action(ARM_LEAD_S)
    assert wanted[:, arms].abs().max() > 0.5
    env.step(torch.zeros(8, 23))
    student.step(torch.zeros(8, 23))
    torch.testing.assert_close(env._action[:, arms], wanted[:, arms])
    assert not env._action[:, others].any() and not student._action.any()
    env.step(torch.full((8, 23), 1e3))
    assert env._action.abs().max() <= G1_23DOF.action_clip


def test_arms_are_led_or_taught_but_not_both():
    with pytest.raises(ConfigError, match="env.arms_led gives the arms"):
        load_config(None, ["env.arms_led=true", "ppo.warm_start=true"])


def test_a_student_of_two_teachers_goes_on_and_is_packed(tmp_path, arm_motion, capsys):
    motion = tmp_path / "arm.npz"
    save_motion(motion, G1_23DOF, arm_motion)
    common = ["--motions", str(motion), "--threads", "1", "--set", *SMALL]
    folders = [str(tmp_path / name) for name in ("first", "second")]
    for folder in folders:
        assert main(["teacher", "--run", folder, "--samples", "32", *common]) == 0
    student = tmp_path / "student"
    assert main(["student", "--run", str(student), "--teacher", *folders, "--samples", "32", *common]) == 0
    assert "first: teaches 2 of 2 clips" in capsys.readouterr().out
    assert Run(student).info()["more_teachers_facts"][0]["run"] == "second"
    assert main(["student", "--run", str(student), "--resume", "--samples", "64", "--threads", "1"]) == 0
    assert Run(student).load()["samples"] == 64
    assert main(["pack", str(student), "-o", str(tmp_path / "packed")]) == 0
    assert Run(tmp_path / "packed").info()["more_teachers"] == ["second"]


def test_damaged_checkpoint_is_one_line(tmp_path):
    run = Run(tmp_path)
    run.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(InputFileError, match="cannot be read"):
        run.load()


def test_configuration_round_trip_and_refusals(tmp_path):
    config = load_config(None, ["ppo.epochs=3", "env.randomization.friction=[0.5, 0.6]"])
    assert config.ppo.epochs == 3 and config.env.randomization.friction == (0.5, 0.6)
    assert config_from_dict(json.loads(json.dumps(config_dict(config)))) == config
    for override, message in (
        ("ppo.epoch=3", "unknown key 'epoch'"),
        ("env.num_envs=0", "at least 1"),
        ("env.rewards.weights.speed=1", "known keys"),
        ("env.rewards.weights.feet_slip=x", "feet_slip is x, expected a finite number"),
        ("env.rewards.weights.feet_slip=.nan", "feet_slip is nan, expected a finite number"),
        ("env.randomization.friction=[2, 1]", "expected"),
        ("nonsense", "key=value"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(None, [override])
    with pytest.raises(InputFileError):
        load_config(tmp_path / "none.yaml")


def test_shipped_configurations_load():
    from pathlib import Path

    folder = Path(__file__).resolve().parents[2] / "config" / "train"
    names = {path.name for path in folder.glob("*.yaml")}
    assert {"cpu.yaml", "paper.yaml"} <= names
    for name in names:
        load_config(folder / name)


@pytest.mark.parametrize("equivariant", [False, True])
def test_a_student_begins_with_an_exported_policy(tmp_path, equivariant):
    """Same weights, same answer from torch, ONNX and NumPy; other layers are refused, and so is what is no policy."""
    from genmimic.policy import load_policy
    from genmimic_train.export import Network, read_policy, write_policy
    from genmimic_train.learning.dagger import begin_with

    rng = np.random.default_rng(0)
    width = size(STUDENT)
    layers = [
        (0.01 * rng.standard_normal((16, width)), rng.standard_normal(16)),
        (rng.standard_normal((23, 16)), np.ones(23)),
    ]
    network = Network(layers, rng.standard_normal(width), rng.uniform(0.5, 2.0, width), equivariant)
    path = tmp_path / "policy.onnx"
    manifest = write_policy(path, PolicyManifest.for_robot(G1_23DOF), network)
    again, found = read_policy(path)
    assert again == manifest and len(found.layers) == 2 and found.equivariant == equivariant
    np.testing.assert_allclose(found.std, network.std, rtol=1e-6)

    student = Dagger(DaggerConfig(hidden=(16,), equivariant=equivariant), 23).student
    begin_with(student, path)
    student.eval()
    observation = manifest.golden_observation()
    mirrored = observation_mirror(G1_23DOF, STUDENT)(observation)
    both = TensorDict({"student": torch.tensor(np.stack([observation, mirrored]), dtype=torch.float32)}, batch_size=[2])
    with torch.no_grad():
        actions = student(both).numpy()
    policy = load_policy(path)
    np.testing.assert_allclose(actions[0], manifest.golden_action, atol=1e-4)
    np.testing.assert_allclose(policy(observation), manifest.golden_action, atol=1e-4)
    np.testing.assert_allclose(policy(mirrored), actions[1], atol=1e-4)
    asymmetry = np.abs(actions[1] - action_mirror(G1_23DOF)(actions[0])).max()
    assert asymmetry < 1e-4 if equivariant else asymmetry > 0.1

    with pytest.raises(ConfigError, match=r"hidden layers are \[16\]"):
        begin_with(Dagger(DaggerConfig(hidden=(32,), equivariant=equivariant), 23).student, path)
    with pytest.raises(ConfigError, match=f"needs dagger.equivariant={str(equivariant).lower()}"):
        begin_with(Dagger(DaggerConfig(hidden=(16,), equivariant=not equivariant), 23).student, path)
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(InputFileError, match=r"no\.onnx"):
        begin_with(student, tmp_path / "no.onnx")
