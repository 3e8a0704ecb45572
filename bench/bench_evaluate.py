# SPDX-License-Identifier: Apache-2.0
"""How much faster than real time a rollout runs, and where its time goes.

    python bench/bench_evaluate.py [--motion wave] [--policy P] [--repeats 5]

Without a policy, one of the paper's size (2370-512-256-128-23) is written with random weights, which needs onnx. Times
are CPU seconds of this process, so that other work on the machine disturbs less; the best of the repeats counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genmimic.core.controller import TrackingController
from genmimic.core.manifest import PolicyManifest
from genmimic.core.motion import load_motion
from genmimic.core.noise import NO_NOISE, PAPER_NOISE
from genmimic.core.randomization import PAPER_RANDOMIZATION
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import position_command
from genmimic.evaluate.rollout import PHYSICS_STEPS, plan, rollout, rollout_seed
from genmimic.policy import find_shipped, load_policy
from genmimic.sim.simulated_g1 import SimulatedG1


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--motion", default="wave", help="file or shipped name (default: %(default)s)")
    parser.add_argument("--policy", help="*.onnx (default: one of the paper's size with random weights)")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    robot = G1_23DOF
    with tempfile.TemporaryDirectory() as folder:
        policy = load_policy(args.policy or paper_size_policy(Path(folder)))
    planned = plan(robot, load_motion(find_shipped(args.motion, "motions", ".npz"), robot))
    sim = SimulatedG1(robot)
    results: dict[str, float] = {}
    for name, noise, ranges in (("none", NO_NOISE, None), ("paper", PAPER_NOISE, PAPER_RANDOMIZATION)):
        simulated = rollout(robot, policy, planned, noise=noise, randomization=ranges, sim=sim).simulated_s

        def once(noise=noise, ranges=ranges) -> None:  # type: ignore[no-untyped-def]
            seed = rollout_seed(0, "bench", 0)
            rollout(robot, policy, planned, noise=noise, randomization=ranges, seed=seed, sim=sim)

        results[f"times_real_time_{name}"] = round(simulated / best(once, 1, args.repeats), 1)

    controller = TrackingController(robot, lambda observation: np.zeros(robot.num_joints))
    noisy = TrackingController(robot, lambda observation: np.zeros(robot.num_joints), PAPER_NOISE)
    sim.stand()
    sim.apply(position_command(robot, robot.default_joint_pos))
    state, goal = sim.state(), planned.goals[0]
    observation = np.zeros(policy.manifest.observation_size, np.float32)
    for name, function in (
        ("controller", lambda: controller.step(0, state, goal)),
        ("controller_paper_noise", lambda: noisy.step(0, state, goal)),
        ("policy", lambda: policy(observation)),
        ("physics", lambda: sim.step(PHYSICS_STEPS)),
    ):
        results[f"{name}_us"] = round(1e6 * best(function, 200, args.repeats), 1)
    print(json.dumps(results, indent=1))


def best(function: Callable[[], object], count: int, repeats: int) -> float:
    """Return CPU seconds per call, the least of ``repeats`` times ``count`` calls."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(count):
            function()
        times.append((time.process_time() - begin) / count)
    return min(times)


def paper_size_policy(folder: Path) -> Path:
    """Write a policy of the paper's size that answers with small random actions; return its path."""
    from genmimic_train.export import Network, write_policy

    rng = np.random.default_rng(0)
    widths = (2370, 512, 256, 128, 23)
    layers = [
        (rng.standard_normal((out, width)) / np.sqrt(width), np.zeros(out))
        for width, out in zip(widths[:-1], widths[1:], strict=True)
    ]
    layers[-1] = (0.1 * layers[-1][0], layers[-1][1])
    path = folder / "paper_size.onnx"
    write_policy(path, PolicyManifest.for_robot(G1_23DOF), Network(layers, np.zeros(2370), np.ones(2370)))
    return path


if __name__ == "__main__":
    main()
