# SPDX-License-Identifier: Apache-2.0
"""Samples a second of teacher training here, and of mjlab's G1 tracking task, on this machine at one number of robots.

    python3 -m venv /tmp/mjlab && /tmp/mjlab/bin/pip install mjlab
    python bench/bench_mjlab.py --mjlab /tmp/mjlab/bin/python [--envs 256] [--iterations 4] [--device cpu]

A sample is a control step (20 ms, four physics steps) of one robot. mjlab has versions of MuJoCo, Warp and rsl-rl of
its own, hence a Python of its own. Its task is taken as it is (29 joints, its observations, networks of 512-256-128,
5 epochs); ours with the ``cpu`` profile and, so that learning costs the same, with Table 5's network and epochs. Both
follow the shipped wave, and the same process alternates between them: the machine's mood then hits both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WAVE = ROOT / "motions" / "wave.npz"
TASK = "Mjlab-Tracking-Flat-Unitree-G1"
OURS = {
    "cpu profile": [],
    "cpu profile, network and epochs of Table 5": ["ppo.hidden=[512,256,128]", "ppo.epochs=5"],
}


def main() -> int:
    """Measure and print both as JSON; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mjlab", default=sys.executable, metavar="PYTHON", help="a Python that has mjlab (this one)")
    parser.add_argument("--envs", type=int, default=256, metavar="N", help="robots (256)")
    parser.add_argument(
        "--iterations", type=int, default=4, metavar="N", help="to train for, the first not counted (4)"
    )
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="measurements of each, in turn (2)")
    parser.add_argument("--device", default="cpu", help="mjlab's: cpu or cuda:0 (cpu)")
    parser.add_argument("--config", nargs="+", default=[str(ROOT / "config/train/cpu.yaml")], help="ours")
    parser.add_argument("--worker", nargs=2, metavar=("MOTION", "RESULT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _mjlab(args)
        return 0
    if min(args.envs, args.rounds) < 1 or args.iterations < 2:
        parser.error("--envs and --rounds must be at least 1, --iterations at least 2")
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            result = Path(folder) / f"mjlab{number}.json"
            own = ["--envs", args.envs, "--iterations", args.iterations, "--device", args.device]
            _run([args.mjlab, __file__, *map(str, own), "--worker", str(WAVE), str(result)])
            found.setdefault("mjlab", []).append(json.loads(result.read_text()))
            for name, overrides in OURS.items():
                command = [sys.executable, "-m", "genmimic_train.cli", "bench", "--processes", "1"]
                command += ["--envs", str(args.envs), "--iterations", str(args.iterations)]
                command += ["--motions", str(WAVE), "--config", *args.config]
                command += ["--set", *overrides] if overrides else []
                found.setdefault(name, []).append(json.loads(_run(command))["runs"][0])
    table = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("collect_per_s", "all_per_s", "memory_mib")}
        for name, runs in found.items()
    }
    print(json.dumps({"envs": args.envs, "cores": os.cpu_count(), "median": table, "runs": found}, indent=1))
    return 0


def _run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE", "WANDB_MODE": "disabled"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    except OSError as error:
        problem = str(error.strerror)
    else:
        if done.returncode == 0:
            return done.stdout
        problem = (done.stderr.strip().splitlines() or ["no message"])[-1]
    print(f"bench_mjlab: error: {command[0]}: {problem}", file=sys.stderr)
    raise SystemExit(2)


def _mjlab(args: argparse.Namespace) -> None:
    """Train mjlab's task for a few iterations, in mjlab's Python, and write the result."""
    from dataclasses import asdict

    import torch
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.rl import RslRlVecEnvWrapper
    from mjlab.tasks.registry import load_env_cfg, load_rl_cfg, load_runner_cls
    from mjlab.utils.torch import configure_torch_backends

    given, result = map(Path, args.worker)
    configure_torch_backends()
    config, agent = load_env_cfg(TASK), load_rl_cfg(TASK)
    config.scene.num_envs = args.envs
    config.commands["motion"].motion_file = str(result.with_suffix(".npz"))
    _for_mjlab(given, Path(config.commands["motion"].motion_file))
    agent.logger, agent.upload_model = "tensorboard", False
    env = RslRlVecEnvWrapper(ManagerBasedRlEnv(cfg=config, device=args.device), clip_actions=agent.clip_actions)
    runner = load_runner_cls(TASK)(env, asdict(agent), None, args.device)
    times: list[tuple[float, float]] = []
    update, collected = runner.alg.update, [0.0]

    def timed_update(*arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        told = update(*arguments, **named)
        now = time.perf_counter()
        times.append((begun - collected[0], now - begun))
        collected[0] = now
        return told

    runner.alg.update = timed_update
    collected[0] = time.perf_counter()
    runner.learn(num_learning_iterations=args.iterations, init_at_random_ep_len=True)
    samples = agent.num_steps_per_env * args.envs
    counted = times[1:]
    facts: dict[str, Any] = {
        "collect_per_s": round(statistics.median(samples / first for first, _ in counted)),
        "all_per_s": round(statistics.median(samples / (first + second) for first, second in counted)),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    if args.device != "cpu":
        free, whole = torch.cuda.mem_get_info(args.device)
        facts["gpu_memory_mib"] = round((whole - free) / 2**20)
    result.write_text(json.dumps(facts))


def _for_mjlab(given: Path, path: Path) -> None:
    """Write a motion as mjlab reads it: joints, and all bodies by its own model's kinematics."""
    import mujoco
    import numpy as np
    from mjlab.asset_zoo.robots import get_g1_robot_cfg

    source = np.load(given)
    model = get_g1_robot_cfg().spec_fn().compile()
    data = mujoco.MjData(model)
    joints = [model.joint(idx).name for idx in range(1, model.njnt)]
    joint_pos = np.zeros((len(source["joint_pos"]), len(joints)))
    for column, name in enumerate(source["joint_names"]):
        alike = [idx for idx, joint in enumerate(joints) if joint.removesuffix("_joint") == name.removesuffix("_joint")]
        joint_pos[:, alike] = source["joint_pos"][:, [column]]
    pos = np.zeros((len(joint_pos), model.nbody - 1, 3))
    quat = np.zeros((len(joint_pos), model.nbody - 1, 4))
    for frame, angles in enumerate(joint_pos):
        data.qpos[:] = np.concatenate([source["root_pos"][frame], source["root_quat"][frame], angles])
        mujoco.mj_kinematics(model, data)
        pos[frame], quat[frame] = data.xpos[1:], data.xquat[1:]
    still = np.zeros_like(pos)  # of a wave, little turns: good enough for timing
    np.savez(
        path, fps=[50], joint_pos=joint_pos, joint_vel=np.gradient(joint_pos, 0.02, axis=0), body_pos_w=pos,
        body_quat_w=quat, body_lin_vel_w=np.gradient(pos, 0.02, axis=0), body_ang_vel_w=still,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
