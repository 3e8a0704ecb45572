# SPDX-License-Identifier: Apache-2.0
"""How a policy walks: steps and their length in time, how far the standing foot slides, what odometry makes of it.

Success and errors do not show a gait. A robot that shuffles on trembling feet follows a walk as well as one that steps,
in a simulator; on the robot it wears its soles down, and leg odometry, which trusts a standing foot, loses its way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from genmimic.core.kinematics import soles_of_links
from genmimic.core.odometry import start_odometry, step_odometry
from genmimic_train.tracking.env import TrackingEnv

LOADED_N = 20.0
"""A foot stands when it bears more than this, 6 % of the robot's weight."""

GAIT = ("way_m", "slide_m", "odometry_m", "steps", "air_s", "time_s")


class GaitMeter:
    """Watches the robots of an environment. Call it before each step, as `play` calls ``look``."""

    def __init__(self, env: TrackingEnv) -> None:
        self._env = env
        self._last_pelvis: torch.Tensor | None = None
        self._totals = [torch.zeros(env.num_envs, 6)]
        """After each step: way, slide, what odometry got wrong (x, y), touchdowns, time in the air before them."""

    def __call__(self, step: int) -> None:
        env = self._env
        keypoints = env.keypoints
        pelvis = keypoints.pos[:, 0]
        soles = soles_of_links(env.robot, keypoints.pos, keypoints.quat) - pelvis[:, None]
        force = env.sim.foot_force.norm(dim=-1)
        loaded = force > LOADED_N
        if self._last_pelvis is None:
            self._last_pelvis, self._last_soles = pelvis, soles
            self._odometry = start_odometry(pelvis[:, :2], soles)
            self._air = torch.zeros_like(force)
        odometry = step_odometry(self._odometry, soles)
        moved = (pelvis - self._last_pelvis)[:, :2]
        # the slowest point of a foot tells whether it rolls or slides
        swept = (soles - self._last_soles)[..., :2] + moved[:, None]
        slowest = swept.norm(dim=-1).reshape(len(force), 2, -1).amin(-1)
        bearing = force.argmax(-1, keepdim=True)
        touched = loaded & (self._air > 0.0)
        now = [
            moved.norm(dim=-1),
            (slowest * loaded).gather(1, bearing)[:, 0],
            *(moved - (odometry.pos - self._odometry.pos)[:, :2]).unbind(-1),
            touched.sum(-1),
            (self._air * touched).sum(-1),
        ]
        self._totals.append(self._totals[-1] + torch.stack(now, -1).cpu())
        self._air = (self._air + env.cfg.control_period_s) * ~loaded
        self._last_pelvis, self._last_soles, self._odometry = pelvis, soles, odometry

    def of(self, idx: int, frames: int) -> dict[str, float]:
        """Return what robot ``idx`` did in its first ``frames`` control steps, by the names in `GAIT`.

        ``way_m``: path of the pelvis over the floor. ``slide_m``: path of the foot that bears most, as far as the whole
        sole slides. ``odometry_m``: by how much leg odometry without sensor noise is wrong in the end. ``steps``:
        touchdowns; ``air_s``: time in the air before them, in all. ``time_s``: how long it was watched.
        """
        frames = min(frames, len(self._totals) - 1)
        way, slide, wrong_x, wrong_y, steps, air = self._totals[frames][idx].tolist()
        return {
            "way_m": way,
            "slide_m": slide,
            "odometry_m": math.hypot(wrong_x, wrong_y),
            "steps": steps,
            "air_s": air,
            "time_s": frames * self._env.cfg.control_period_s,
        }


def total_gait(each: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the sums of several robots' gaits."""
    return {name: float(sum(gait[name] for gait in each)) for name in GAIT}


def gait_line(gait: dict[str, float]) -> str:
    """Return a gait in words."""
    steps = f"{gait['steps'] / max(gait['time_s'], 1e-9):.1f} steps/s"
    if gait["steps"]:
        steps += f" of {gait['air_s'] / gait['steps']:.2f} s in the air"
    if gait["way_m"] < 0.01:
        return f"{steps}; nobody went anywhere"
    slide, odometry = (100.0 * gait[name] / gait["way_m"] for name in ("slide_m", "odometry_m"))
    return (
        f"{steps}; over {gait['way_m']:.0f} m the standing foot slides {slide:.0f} % of the way, "
        f"odometry without noise loses {odometry:.0f} %"
    )
