# SPDX-License-Identifier: Apache-2.0
"""Where the robot stands: leg odometry from joints and IMU orientation, with a guess of which points touch the floor.

The pelvis moves as far as the standing foot moves backwards under it. Which sole points stand is guessed from height
alone: the lowest ones do, on a flat floor. Their weights fall off smoothly, so that weight shifts from foot to foot, or
along a rolling sole, without a switch. As long as a foot stands still nothing drifts, because its steps back and forth
cancel exactly; an error comes from feet that slip and from moments without contact.

One implementation over NumPy (robot, simulation) and torch (training). No clock: one step is one control period.
"""

from __future__ import annotations

from dataclasses import dataclass

from genmimic.core.arrays import Array, array_namespace

CONTACT_HEIGHT_M = 0.02
"""Height above the lowest sole point at which a point's weight has fallen to 1/e."""

MAX_LAG_M = 0.4
"""How far from the goal's place the robot may believe to be; see `lag_excess`."""

SMOOTHING = 0.3
"""Share of the newest measurement in the smoothed sole points: noise must not decide which foot stands."""


@dataclass(frozen=True)
class Odometry:
    """The estimate after a step.

    Attributes:
        pos: Estimated pelvis position, world, in m: xy by odometry, z above the floor it stands on. Shape (..., 3).
        sole_pos: Smoothed sole points relative to the pelvis, world axes, in m. Shape (..., S, 3).
    """

    pos: Array
    sole_pos: Array


def start_odometry(pos_xy: Array, sole_pos: Array) -> Odometry:
    """Begin where the pelvis is known to be.

    Args:
        pos_xy: Pelvis on the floor, world, in m. Shape (..., 2).
        sole_pos: As for `step_odometry`. Shape (..., S, 3).
    """
    xp = array_namespace(sole_pos)
    height = -(contact_weights(sole_pos[..., 2]) * sole_pos[..., 2]).sum(-1)
    return Odometry(xp.concatenate([pos_xy, height[..., None]], -1), sole_pos)


def step_odometry(odometry: Odometry, sole_pos: Array) -> Odometry:
    """Return the estimate one control period later.

    Args:
        odometry: The last estimate.
        sole_pos: Sole points relative to the pelvis in world axes (yaw by the IMU), in m, from
            `genmimic.core.kinematics.sole_positions` with the root at the origin. Shape (..., S, 3).
    """
    xp = array_namespace(sole_pos)
    now = odometry.sole_pos + SMOOTHING * (sole_pos - odometry.sole_pos)
    weights = contact_weights(0.5 * (now[..., 2] + odometry.sole_pos[..., 2]))
    moved = (weights[..., None] * (odometry.sole_pos - now)).sum(-2)
    height = -(weights * now[..., 2]).sum(-1)
    return Odometry(xp.concatenate([odometry.pos[..., :2] + moved[..., :2], height[..., None]], -1), now)


def lag_excess(pos_xy: Array, goal_xy: Array, limit_m: float = MAX_LAG_M) -> Array:
    """Return the part of ``goal_xy - pos_xy`` beyond ``limit_m``: how far a goal has run away. Shapes (..., 2).

    A robot that was pushed or held far from its goal would see goals that no training has shown it; the
    goal then waits at this distance.
    """
    xp = array_namespace(pos_xy)
    lag = goal_xy - pos_xy
    distance = xp.sqrt((lag * lag).sum(-1) + 1e-12)[..., None]
    part = 1.0 - limit_m / distance
    return lag * (part * (part > 0.0))


def contact_weights(height: Array) -> Array:
    """Return how much each sole point is trusted to stand; they add up to 1. Heights in m. Shape (..., S)."""
    xp = array_namespace(height)
    lowest = height.min(-1)[..., None] if not hasattr(height, "amin") else height.amin(-1)[..., None]
    weights = xp.exp((lowest - height) / CONTACT_HEIGHT_M)
    return weights / weights.sum(-1)[..., None]
