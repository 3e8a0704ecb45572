# SPDX-License-Identifier: Apache-2.0
"""Where the robot stands: leg odometry from joints and IMU orientation, with a guess of which points touch the floor.

The pelvis moves as far as the standing foot moves backwards under it. Each sole point is a witness to the pelvis's
velocity, true if it stands. Those are believed that are low and that tell what the estimate of the velocity expects: a
swinging foot that has hardly left the floor tells of a pelvis that flies backwards, and is not heard. What the believed
ones tell moves the pelvis and corrects the velocity. How far they disagree measures the noise of joints and IMU, which
widens the gate and smooths the points. Weights are smooth throughout, so that weight shifts from foot to foot, or along
a rolling sole, without a switch; a foot that stands still does not drift, since its steps back and forth cancel. An
error comes from feet that slip and from moments without contact.

One implementation over NumPy (robot, simulation) and torch (training). No clock: one step is one control period.
"""

from __future__ import annotations

from dataclasses import dataclass

from genmimic.core.arrays import Array, array_namespace

CONTACT_HEIGHT_M = 0.01
"""Height above the lowest sole point at which a point's weight has fallen to 1/e."""

GATE_M = 0.002
"""By how much a sole point's step may differ from the expected one: standard deviation, for a control period of 20 ms
0.1 m/s. Walking at 0.3 m/s the two feet differ by six times that."""

NOISE_M = 0.009
"""Noise of the steps at which half of each new measurement is smoothed away."""

_LEAST_SHARE = 0.2
"""Of the newest measurement in the smoothed sole points, however noisy."""
_UNHEARD = 1e-4
"""Weight of a point far outside the gate: where nothing fits, the lowest points are believed."""
_VELOCITY_GAIN = 0.5
_NOISE_GAIN = 0.1

MAX_LAG_M = 0.4
"""How far from the goal's place the robot may believe to be; see `lag_excess`."""


@dataclass(frozen=True)
class Odometry:
    """The estimate after a step.

    Attributes:
        pos: Estimated pelvis position, world, in m: xy by odometry, z above the floor it stands on. Shape (..., 3).
        step_xy: By how much the pelvis is expected to move in a control period, in m. Shape (..., 2).
        variance: Of the steps that sole points make which are believed to stand, in m^2. Shape (...).
        measured_pos: Sole points relative to the pelvis as measured last, world axes, in m. Shape (..., S, 3).
        sole_pos: The same, smoothed as their noise asks for. Shape (..., S, 3).
    """

    pos: Array
    step_xy: Array
    variance: Array
    measured_pos: Array
    sole_pos: Array


def start_odometry(pos_xy: Array, sole_pos: Array) -> Odometry:
    """Begin where the pelvis is known to be, standing still.

    Args:
        pos_xy: Pelvis on the floor, world, in m. Shape (..., 2).
        sole_pos: As for `step_odometry`. Shape (..., S, 3).
    """
    xp = array_namespace(sole_pos)
    height = -(contact_weights(sole_pos[..., 2]) * sole_pos[..., 2]).sum(-1)
    return Odometry(
        pos=xp.concatenate([pos_xy, height[..., None]], -1),
        step_xy=xp.zeros_like(sole_pos[..., 0, :2]),
        variance=xp.zeros_like(sole_pos[..., 0, 0]),
        measured_pos=sole_pos,
        sole_pos=sole_pos,
    )


def step_odometry(odometry: Odometry, sole_pos: Array) -> Odometry:
    """Return the estimate one control period later.

    Args:
        odometry: The last estimate.
        sole_pos: Sole points relative to the pelvis in world axes (yaw by the IMU), in m, from
            `genmimic.core.kinematics.sole_positions` with the root at the origin. Shape (..., S, 3).
    """
    xp = array_namespace(sole_pos)
    share = 1.0 / (1.0 + odometry.variance / NOISE_M**2)
    share = share + (_LEAST_SHARE - share) * (share < _LEAST_SHARE)
    now = odometry.sole_pos + share[..., None, None] * (sole_pos - odometry.sole_pos)
    told = (odometry.sole_pos - now)[..., :2]  # how far each point says that the pelvis has moved
    surprise = ((told - odometry.step_xy[..., None, :]) ** 2).sum(-1)
    gate = GATE_M**2 + odometry.variance * share**2
    weights = contact_weights(now[..., 2]) * (xp.exp(-0.5 * surprise / gate[..., None]) + _UNHEARD)
    weights = weights / weights.sum(-1)[..., None]
    moved = (weights[..., None] * told).sum(-2)
    measured = (odometry.measured_pos - sole_pos)[..., :2]
    spread = ((measured - (weights[..., None] * measured).sum(-2)[..., None, :]) ** 2).sum(-1)
    height = -(weights * now[..., 2]).sum(-1)
    return Odometry(
        pos=xp.concatenate([odometry.pos[..., :2] + moved, height[..., None]], -1),
        step_xy=odometry.step_xy + _VELOCITY_GAIN * (moved - odometry.step_xy),
        variance=odometry.variance + _NOISE_GAIN * ((weights * spread).sum(-1) - odometry.variance),
        measured_pos=sole_pos,
        sole_pos=now,
    )


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
