# SPDX-License-Identifier: Apache-2.0
"""How many samples a second a teacher learns from, where the time goes, and how it scales over processes.

A sample is one control step of one robot. ``collect`` is simulation, observations, rewards and acting; ``all`` is that
and learning; medians over the iterations but the first. Memory is the largest resident set of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from genmimic.core.errors import ConfigError


def bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the measurement."""
    parser.add_argument("--envs", type=int, default=256, metavar="N", help="robots, over all processes (256)")
    parser.add_argument("--iterations", type=int, default=6, metavar="N", help="to train for (6)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N", help="one after another (1 2)")
    parser.add_argument(
        "--config", nargs="+", metavar="YAML", help="files over the defaults, e.g. config/train/cpu.yaml"
    )
    parser.add_argument("--motions", nargs="+", metavar="PATH", help="motion files or folders (the shipped ones)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides", help="over --config")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="over all processes")
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of each number of processes, every one measured in processes of its own.

    Raises:
        ConfigError: An option is out of range.
        TrainingError: A measurement failed; what it said.
    """
    import torch

    from genmimic_train.config import load_config
    from genmimic_train.runs import TrainingError

    if min(args.envs, args.iterations, args.threads, *args.processes) < 1:
        raise ConfigError("--envs, --iterations, --threads and --processes must be at least 1")
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = ["--envs", args.envs, "--iterations", args.iterations, "--threads", args.threads,
               "--motions", *(args.motions or _shipped())]  # fmt: skip
    options += ["--config", *args.config] if args.config else []
    options += ["--set", *args.overrides] if args.overrides else []
    results = []
    for count in args.processes:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable]
            if count > 1:
                command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
                command += ["--module"]
            else:
                command += ["-m"]
            command += [__name__ if __name__ != "__main__" else "genmimic_train.benchmark"]
            command += [*map(str, options), "--worker", folder]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                said = re.findall(r"^(?:\[\w+\]:)?[\w.]+Error: (.*)", done.stderr, re.M) or ["no message"]
                raise TrainingError(f"measuring {count} processes failed: {said[0]}")
            results.append(json.loads((Path(folder) / "result.json").read_text()))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    sim = load_config(args.config, args.overrides).sim
    return {
        "envs": args.envs, "backend": sim.backend, "device": sim.device, "cores": cores, "torch": torch.__version__,
        "runs": results,
    }  # fmt: skip


def _shipped() -> list[str]:
    from genmimic.policy import shipped_places

    for place in shipped_places():
        if (place / "motions").is_dir():
            return [str(place / "motions")]
    raise ConfigError("no shipped motions found; name some with --motions")


def _measure(args: argparse.Namespace) -> None:
    """Train for a few iterations and write ``result.json`` into the worker's folder."""
    import resource
    from dataclasses import replace

    from genmimic.core.robot import G1_23DOF
    from genmimic_train.config import load_config
    from genmimic_train.learning.distributed import join_world
    from genmimic_train.learning.ppo import train_teacher
    from genmimic_train.runs import Run
    from genmimic_train.sim import make_simulator, resolve_device
    from genmimic_train.tracking.env import TrackingEnv
    from genmimic_train.tracking.motions import MotionLibrary

    world = join_world()
    config = load_config(args.config, [*args.overrides, f"env.num_envs={args.envs}", "ppo.warm_start=false"])
    own = replace(config.env, num_envs=world.part_of(args.envs, "--envs"))
    threads = max(1, args.threads // world.local_size)
    library = MotionLibrary.load(G1_23DOF, args.motions, config.env.mirror_motions, resolve_device(config.sim))
    env = TrackingEnv(own, make_simulator(config.sim, own.num_envs, threads), library, seed=1 + world.rank)
    run = Run(Path(args.worker) / "run")
    if world.main:
        run.create("teacher", config)
    world.share(None)
    seen: list[dict[str, float]] = []
    train_teacher(
        env,
        config,
        run,
        args.iterations * config.ppo.steps_per_env * args.envs,
        report=lambda *facts: seen.append(facts[2]),
        learner_threads=threads,
        world=world,
    )
    if not world.main:
        return
    counted = seen[1:] or seen
    collect = statistics.median(figures["speed/collect_per_s"] for figures in counted)
    everything = statistics.median(figures["speed/samples_per_s"] for figures in counted)
    result = {
        "processes": world.size,
        "threads_each": threads,
        "collect_per_s": round(collect),
        "all_per_s": round(everything),
        "learning_share": round(1.0 - everything / collect, 2),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **_gpu_memory(env.device),
        "checkpoint_mb": round(run.checkpoint.stat().st_size / 1e6, 1),
    }
    (Path(args.worker) / "result.json").write_text(json.dumps(result))


def _gpu_memory(device: str) -> dict[str, Any]:
    """Return what is taken of the GPU by everything on it; torch's own count would leave Warp out."""
    import torch

    if device == "cpu":
        return {}
    free, whole = torch.cuda.mem_get_info(device)
    return {"gpu": torch.cuda.get_device_name(device), "gpu_memory_mib": round((whole - free) / 2**20)}


if __name__ == "__main__":
    _parser = argparse.ArgumentParser()
    bench_arguments(_parser)
    _measure(_parser.parse_args())
