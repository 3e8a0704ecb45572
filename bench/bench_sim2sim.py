# SPDX-License-Identifier: Apache-2.0
"""What a policy loses where the simulator is another than it was trained in: contact, time step, integrator.

    python bench/bench_sim2sim.py [--policy P] [--motions PATH ...] [--rollouts 8] [--only NAME ...] [--json]

Each variation changes one thing of the CPU simulator and plays the same motions with the same noise (Table 8's) and the
same seeds, so that rows differ by it alone. The simulated robot is otherwise the nominal one, without pushes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mujoco

from genmimic.cli.evaluate import find_motions
from genmimic.core.errors import ConfigError, GenMimicError
from genmimic.core.motion import load_motion
from genmimic.core.noise import NOISE_LEVELS
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.evaluate.metrics import summarize
from genmimic.evaluate.rollout import Plan, plan, rollout, rollout_seed
from genmimic.policy import find_policy, load_policy
from genmimic.sim.simulated_g1 import SimConfig, SimulatedG1

_TRAINED_TIMESTEP_S = 0.005


@dataclass(frozen=True)
class Variation:
    """One change of the simulator.

    Attributes:
        text: What it is, for people.
        friction: Of the floor, sliding.
        timestep_s: Of the physics; control stays at 50 Hz.
        edit: Further changes of the compiled model; contact parameters are the floor's, which win by priority.
    """

    text: str
    friction: float = 1.0
    timestep_s: float = _TRAINED_TIMESTEP_S
    edit: Callable[[mujoco.MjModel, int], None] = lambda model, floor: None


def _solref(time_s: float, damping: float = 1.0) -> Callable[[mujoco.MjModel, int], None]:
    def edit(model: mujoco.MjModel, floor: int) -> None:
        model.geom_solref[floor] = time_s, damping

    return edit


def _solimp(low: float, high: float, width_m: float) -> Callable[[mujoco.MjModel, int], None]:
    def edit(model: mujoco.MjModel, floor: int) -> None:
        model.geom_solimp[floor, :3] = low, high, width_m

    return edit


def _option(**values: Any) -> Callable[[mujoco.MjModel, int], None]:
    def edit(model: mujoco.MjModel, floor: int) -> None:
        for name, value in values.items():
            setattr(model.opt, name, value)

    return edit


def _torsion(model: mujoco.MjModel, floor: int) -> None:
    model.geom_condim[floor] = 4
    model.geom_friction[floor, 1] = 0.02


VARIATIONS: dict[str, Variation] = {
    "nominal": Variation("as trained: 5 ms, implicitfast, pyramidal cone, friction 1, solref 0.02 1"),
    "friction_0.4": Variation("friction 0.4 (trained: 0.5 to 1.2)", friction=0.4),
    "friction_1.5": Variation("friction 1.5", friction=1.5),
    "soft": Variation("contact time constant 40 ms instead of 20: a mat", edit=_solref(0.04)),
    "stiff": Variation("10 ms: a hard floor", edit=_solref(0.01)),
    "bouncy": Variation("contact damping 0.3 of critical", edit=_solref(0.02, 0.3)),
    "deep": Variation("solimp 0.7 0.95 over 5 mm: gives way under weight", edit=_solimp(0.7, 0.95, 0.005)),
    "step_2.5": Variation("time step 2.5 ms", timestep_s=0.0025),
    "step_1": Variation("time step 1 ms", timestep_s=0.001),
    "step_10": Variation("time step 10 ms", timestep_s=0.01),
    "euler": Variation(
        "Euler integrator: the motors' damping is explicit", edit=_option(integrator=mujoco.mjtIntegrator.mjINT_EULER)
    ),
    "euler_1": Variation(
        "the same at 1 ms", timestep_s=0.001, edit=_option(integrator=mujoco.mjtIntegrator.mjINT_EULER)
    ),
    "rk4": Variation("Runge-Kutta integrator", edit=_option(integrator=mujoco.mjtIntegrator.mjINT_RK4)),
    "elliptic": Variation(
        "elliptic cone, impratio 10", edit=_option(cone=mujoco.mjtCone.mjCONE_ELLIPTIC, impratio=10.0)
    ),
    "torsion": Variation("torsional friction 0.02 m", edit=_torsion),
}


class VariedG1(SimulatedG1):
    """`SimulatedG1` under a variation; steps still count 5 ms each."""

    def __init__(self, robot: Robot, variation: Variation) -> None:
        self._variation = variation
        self._each = _TRAINED_TIMESTEP_S / variation.timestep_s
        super().__init__(robot)

    def configure(self, config: SimConfig) -> None:
        variation = self._variation
        super().configure(
            replace(
                config,
                timestep_s=variation.timestep_s,
                friction=config.friction * variation.friction,
                delay_steps=round(config.delay_steps * self._each),
            )
        )
        variation.edit(self.model, self.model.geom("floor").id)

    def step(self, n: int = 1) -> None:
        super().step(round(n * self._each))


def measure(
    policy_path: str, plans: dict[str, Plan], name: str, rollouts: int, noise: str, robot: Robot = G1_23DOF
) -> dict[str, Any]:
    """Return the totals of all motions under one variation, ``fell`` naming the rollouts that did."""
    policy, sim = load_policy(policy_path, robot), VariedG1(robot, VARIATIONS[name])
    metrics, fell = [], []
    for label, planned in plans.items():
        for number in range(rollouts):
            outcome = rollout(
                robot, policy, planned, noise=NOISE_LEVELS[noise], seed=rollout_seed(0, label, number), sim=sim,
                goal_frame=policy.manifest.goal_frame,
            )  # fmt: skip
            metrics.append(outcome.metrics)
            if not outcome.metrics["no_fall"]:
                fell.append(f"{label}/{number}")
    return {"variation": name, "text": VARIATIONS[name].text, **summarize(metrics), "fell": fell}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--policy", help="*.onnx or a shipped policy's name (default: student)")
    parser.add_argument("--motions", nargs="+", help="files, folders or shipped names (default: all shipped)")
    parser.add_argument("--rollouts", type=int, default=8, help="of each motion (default: %(default)s)")
    parser.add_argument("--noise", choices=tuple(NOISE_LEVELS), default="paper")
    parser.add_argument("--only", nargs="+", default=list(VARIATIONS), metavar="NAME", help=", ".join(VARIATIONS))
    parser.add_argument("--json", action="store_true", help="print all metrics")
    args = parser.parse_args()
    try:
        unknown = sorted(set(args.only) - set(VARIATIONS))
        if unknown or args.rollouts < 1:
            known = ", ".join(VARIATIONS)
            raise ConfigError(f"--only is {unknown}, --rollouts {args.rollouts}; expected some of {known}; at least 1")
        policy = str(find_policy(args.policy))
        plans = {path.stem: plan(G1_23DOF, load_motion(path, G1_23DOF)) for path in find_motions(args.motions)}
        results = []
        if not args.json:
            print(f"{len(plans)} motions, {args.rollouts} rollouts each, noise {args.noise}; {policy}")
            head = f"{'variation':<14} {'no fall %':>16} {'SR %':>14} {'LMPKPE cm':>10} {'drift m':>8}  what"
            print(head, flush=True)
        for name in args.only:
            result = measure(policy, plans, name, args.rollouts, args.noise)
            results.append(result)
            if not args.json:
                print(_row(result), flush=True)
    except GenMimicError as error:
        print(f"bench_sim2sim: error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(results, indent=1))
    return 0


def _row(result: dict[str, Any]) -> str:
    def rate(name: str) -> str:
        low, high = result["ci95"][name]
        return f"{100 * result[name]:.0f} [{100 * low:.0f}, {100 * high:.0f}]"

    lmpkpe = "-" if result["lmpkpe_cm"] is None else f"{result['lmpkpe_cm']:.1f}"
    return (
        f"{result['variation']:<14} {rate('no_fall'):>16} {rate('sr'):>14} {lmpkpe:>10} {result['drift_m']:>8.2f}"
        f"  {result['text']}"
    )


if __name__ == "__main__":
    sys.exit(main())
