# SPDX-License-Identifier: Apache-2.0
"""Repair of captured or lifted motion, in NumPy: spikes, floating and sinking, skating feet, jitter.

Every function takes arrays over time and returns new ones; nothing here knows where a motion came from.
"""

from __future__ import annotations

import numpy as np

from genmimic.core.motion import continuous_quat
from genmimic.core.rotation import heading, quat_from_heading, quat_normalize, quat_rotate, quat_slerp, wrap_angle

SPIKE_SPEED = 25.0
"""Joint speed in rad/s above which a source is taken to have flipped, not moved."""

FLIGHT_HEIGHT = 0.08
"""Height in m of the lowest sole above the floor around it from which a ballistic stretch counts as a jump."""

FREE_FALL = -4.0
"""Acceleration in m/s^2 of the body's middle below which it is in flight; 9.8 less what smoothing takes."""

CONTACT = ((0.025, 0.30), (0.05, 0.12), (0.10, 0.06))
"""A foot stands when its sole is lower (m) and slower (m/s) than one of these pairs; the others are for feet that a
video's noise lets hover, or stand on the toes that the robot does not have."""

STILL_CONTACT = (0.06, 0.40)
"""Height and speed that a foot may reach between two moments of contact and yet be standing."""

LOCK_SLACK = 0.04  # m by which a foot may leave its anchor before the anchor follows


# smoothing -------------------------------------------------------------------------------------
def gaussian_smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return ``values`` (T, ...) smoothed over ``sigma`` frames without delay; the ends are reflected oddly.

    The odd reflection keeps first and last values, and slopes, where they are.
    """
    values = np.asarray(values, float)
    radius = min(int(np.ceil(4.0 * sigma)), len(values) - 1)
    if sigma <= 0.0 or radius < 1:
        return values.copy()
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    head = 2.0 * values[0] - values[radius:0:-1]
    tail = 2.0 * values[-1] - values[-2 : -radius - 2 : -1]
    padded = np.concatenate([head, values, tail])
    return sum(weight * padded[shift : shift + len(values)] for shift, weight in enumerate(kernel))  # type: ignore


def smooth_quat(quat: np.ndarray, sigma: float) -> np.ndarray:
    """Return rotations (T, ..., 4) smoothed over ``sigma`` frames; right for neighbours that are close."""
    flat = quat.reshape(len(quat), -1, 4)
    flat = np.stack([continuous_quat(flat[:, idx]) for idx in range(flat.shape[1])], 1)
    return quat_normalize(gaussian_smooth(flat, sigma)).reshape(quat.shape)


def interpolate(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return ``values`` (T, ...) at fractional frames ``at`` by Catmull-Rom splines, smooth and exact."""
    last = len(values) - 1
    below = np.clip(at.astype(int), 0, max(last - 1, 0))
    u = (at - below).reshape(-1, *([1] * (values.ndim - 1)))
    p1, p2 = values[below], values[np.minimum(below + 1, last)]
    p0 = np.where((below > 0).reshape(u.shape), values[np.maximum(below - 1, 0)], 2.0 * p1 - p2)
    p3 = np.where((below + 2 <= last).reshape(u.shape), values[np.minimum(below + 2, last)], 2.0 * p2 - p1)
    m1, m2 = 0.5 * (p2 - p0), 0.5 * (p3 - p1)
    return (
        (2 * u**3 - 3 * u**2 + 1) * p1 + (u**3 - 2 * u**2 + u) * m1 + (-2 * u**3 + 3 * u**2) * p2 + (u**3 - u**2) * m2
    )


def interpolate_quat(quat: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return rotations (T, ..., 4) at fractional frames ``at``, along shorter arcs."""
    below = np.clip(at.astype(int), 0, max(len(quat) - 2, 0))
    above = np.minimum(below + 1, len(quat) - 1)
    weight = np.broadcast_to((at - below).reshape(-1, *([1] * (quat.ndim - 2))), quat[below].shape[:-1])
    return quat_slerp(quat[below], quat[above], weight)


# spikes ----------------------------------------------------------------------------------------
def widen(mask: np.ndarray, frames: int) -> np.ndarray:
    """Return ``mask`` (T,) grown by ``frames`` on both sides."""
    wide = mask.copy()
    for shift in range(1, frames + 1):
        wide[shift:] |= mask[:-shift]
        wide[:-shift] |= mask[shift:]
    return wide


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the stretches of ``mask`` (T,) that are true, as first and one-past-last frame."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def spike_frames(joint_pos: np.ndarray, fps: float, limit: float = SPIKE_SPEED) -> np.ndarray:
    """Return which frames lie at a joint speed above ``limit`` rad/s. Shape (T, J) to (T,)."""
    fast = (np.abs(np.diff(joint_pos, axis=0)) * fps > limit).any(-1)
    mask: np.ndarray = np.zeros(len(joint_pos), bool)
    mask[1:] |= fast
    mask[:-1] |= fast
    return mask


def displaced_frames(root_pos: np.ndarray, fps: float, height: float = 0.45, speed: float = 6.0) -> np.ndarray:
    """Return which frames have a root that jumped away: ``height`` m above its usual, or faster than ``speed`` m/s.

    "Usual" is the median over the clip; a person's pelvis does not rise by 0.45 m, a lost marker's does.
    Shape (T, 3) to (T,).
    """
    fast = np.linalg.norm(np.diff(root_pos, axis=0), axis=-1) * fps > speed
    mask = root_pos[:, 2] > np.median(root_pos[:, 2]) + height
    mask[1:] |= fast
    mask[:-1] |= fast
    return mask


def bridge(pos: np.ndarray, quat: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (T, K, 3) and rotations (T, K, 4) with the masked frames (T,) drawn anew between the others.

    Positions follow a cubic that fits the clean values and slopes on both sides; at the ends of the clip the
    nearest clean frame is held.
    """
    pos, quat = pos.copy(), quat.copy()
    count = len(mask)
    for first, end in runs(mask):
        left, right = first - 1, end
        if left < 0 and right >= count:
            return pos, quat
        if left < 0 or right >= count:
            near = right if left < 0 else left
            pos[first:end], quat[first:end] = pos[near], quat[near]
            continue
        span = right - left
        u = (np.arange(first, end) - left) / span
        slope_l = (pos[left] - pos[left - 1]) * span if left > 0 and not mask[left - 1] else pos[right] - pos[left]
        clean_right = right + 1 < count and not mask[right + 1]
        slope_r = (pos[right + 1] - pos[right]) * span if clean_right else pos[right] - pos[left]
        chord = np.linalg.norm(pos[right] - pos[left], axis=-1, keepdims=True) + 0.02
        slope_l, slope_r = (
            slope * np.minimum(1.0, 3.0 * chord / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-9))
            for slope in (slope_l, slope_r)
        )  # no overshoot
        u3 = u[:, None, None]
        pos[first:end] = (
            (2 * u3**3 - 3 * u3**2 + 1) * pos[left]
            + (u3**3 - 2 * u3**2 + u3) * slope_l
            + (-2 * u3**3 + 3 * u3**2) * pos[right]
            + (u3**3 - u3**2) * slope_r
        )
        weight = np.broadcast_to(u[:, None], (len(u), quat.shape[1]))
        quat[first:end] = quat_slerp(quat[left][None], quat[right][None], weight)
    return pos, quat


# ground ----------------------------------------------------------------------------------------
def flight_frames(sole_height: np.ndarray, body_height: np.ndarray, fps: float) -> np.ndarray:
    """Return which frames belong to a jump: soles well above the floor around, body in free fall. Shapes (T,).

    Args:
        sole_height: Lowest sole point in m, in any floor's height.
        body_height: Height of the body's middle in m, for example the mean keypoint.
        fps: Frames per second.
    """
    count = len(sole_height)
    mask: np.ndarray = np.zeros(count, bool)
    if count < 5:
        return mask
    reach = max(2, int(round(0.5 * fps)))
    padded = np.pad(sole_height, reach, mode="edge")
    floor = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(-1)
    height = gaussian_smooth(body_height, 0.03 * fps)
    falling = np.gradient(np.gradient(height)) * fps**2 < FREE_FALL
    for first, end in runs(falling & (sole_height - floor > 0.03)):
        if (sole_height - floor)[first:end].max() < FLIGHT_HEIGHT or (end - first) / fps < 0.08:
            continue
        widest = int(round(0.2 * fps))
        low, high = first, end - 1
        while low > max(0, first - widest) and sole_height[low - 1] < sole_height[low]:
            low -= 1
        while high < min(count - 1, end - 1 + widest) and sole_height[high + 1] < sole_height[high]:
            high += 1
        mask[low + 1 : high] = True  # the two ends touch the floor
    return mask


def floor_correction(sole_height: np.ndarray, in_flight: np.ndarray, sigma: float) -> np.ndarray:
    """Return the height in m to add at each frame so that the lowest sole is on the floor outside flights.

    Within a flight the correction runs straight from take-off to landing, so the jump keeps its shape.

    Args:
        sole_height: Lowest sole point. Shape (T,).
        in_flight: From `flight_frames`. Shape (T,).
        sigma: Smoothing in frames.
    """
    frames = np.arange(len(sole_height))
    if in_flight.all():
        return np.full(len(sole_height), -float(sole_height.min()))
    correction = np.interp(frames, frames[~in_flight], -sole_height[~in_flight])
    return gaussian_smooth(correction, sigma)


def foot_contacts(sole_pos: np.ndarray, fps: float) -> np.ndarray:
    """Return when which foot stands: low, slow, and for at least 0.1 s. Sole points (T, 2, S, 3) to (T, 2).

    Its slowest point counts: a foot that rolls or turns stands on the point about which it does.
    """
    low = sole_pos[..., 2].min(-1)
    smooth = gaussian_smooth(sole_pos, 0.03 * fps)
    speed = np.linalg.norm(np.gradient(smooth, 1.0 / fps, axis=0), axis=-1).min(-1)
    contact = np.any([(low < height) & (speed < limit) for height, limit in CONTACT], axis=0)
    may_stand = (low < STILL_CONTACT[0]) & (speed < STILL_CONTACT[1])
    for foot in range(2):
        for first, end in runs(~contact[:, foot]):
            blink = (end - first) / fps <= 0.06 or may_stand[first:end, foot].all()
            if blink and first > 0 and end < len(contact):
                contact[first:end, foot] = True
        for first, end in runs(contact[:, foot]):
            if (end - first) / fps < 0.1:
                contact[first:end, foot] = False
    return contact


def lock_feet(
    ankle_pos: np.ndarray,
    ankle_quat: np.ndarray,
    sole_offset: np.ndarray,
    contacts: np.ndarray,
    fps: float,
    flat_tilt: float = 2.0,
    ramp_s: float = 0.16,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ankle targets that hold still, and lie flat on z = 0, while a foot stands.

    Args:
        ankle_pos: Ankle links, world, in m. Shape (T, 2, 3).
        ankle_quat: Shape (T, 2, 4).
        sole_offset: Sole points of one foot in its frame, already lowered by their radius. Shape (2, S, 3).
        contacts: From `foot_contacts`. Shape (T, 2).
        fps: Frames per second.
        flat_tilt: A standing foot tilted by less than this many rad is laid flat.
        ramp_s: Time in which a foot comes to hold still, and lets go.

    A foot that drifts more than `LOCK_SLACK` from where it stands on average is followed at that distance.
    """
    pos, quat = ankle_pos.copy(), ankle_quat.copy()
    ramp_frames = max(2.0, ramp_s * fps)
    for foot in range(2):
        for first, end in runs(contacts[:, foot]):
            frames = np.arange(first, end)
            since_start = frames - first + 1.0 if first > 0 else np.full(len(frames), ramp_frames)
            until_end = end - frames + 0.0 if end < len(pos) else np.full(len(frames), ramp_frames)
            ramp = np.clip(np.minimum(since_start, until_end) / ramp_frames, 0.0, 1.0)
            ramp = ramp * ramp * (3.0 - 2.0 * ramp)
            part, turn = ankle_pos[first:end, foot], ankle_quat[first:end, foot]
            off = part[:, :2] - np.median(part[:, :2], axis=0)
            distance = np.linalg.norm(off, axis=-1, keepdims=True)
            kept = off * np.maximum(0.0, 1.0 - LOCK_SLACK / np.maximum(distance, 1e-9))
            held = np.median(part[:, :2], axis=0) + kept

            up = quat_rotate(turn, np.array([0.0, 0.0, 1.0]))
            tilt = np.arccos(np.clip(up[:, 2], -1.0, 1.0))
            flat = np.clip((flat_tilt - tilt) / (0.5 * flat_tilt), 0.0, 1.0) * ramp
            yaw = heading(turn)
            centre = np.arctan2(np.sin(yaw).mean(), np.cos(yaw).mean())
            drift = wrap_angle(yaw - centre)
            yaw_held = centre + np.sign(drift) * np.maximum(np.abs(drift) - 0.1, 0.0)
            pos[first:end, foot, :2] += ramp[:, None] * (held - part[:, :2])
            quat[first:end, foot] = quat_slerp(turn, quat_from_heading(yaw_held), flat)
            lowest = part[:, 2] + quat_rotate(quat[first:end, foot, None], sole_offset[foot])[..., 2].min(-1)
            pos[first:end, foot, 2] -= ramp * lowest
    return pos, quat


def stance_change(change: np.ndarray, contacts: np.ndarray, sigma: float) -> np.ndarray:
    """Return the mean of ``change`` (T, 2) over the standing feet, carried across flights. Shape (T,).

    ``sigma``: smoothing in frames.
    """
    count = contacts.sum(-1)
    standing = np.flatnonzero(count)
    if not len(standing):
        return np.zeros(len(change))
    mean = (change * contacts).sum(-1)[standing] / count[standing]
    return gaussian_smooth(np.interp(np.arange(len(change)), standing, mean), sigma)


def skating(sole_pos: np.ndarray, contacts: np.ndarray, fps: float) -> float:
    """Return the mean sideways speed in m/s of standing feet; sole points (T, 2, S, 3). 0 without contact."""
    speed = np.linalg.norm(np.diff(sole_pos.mean(2)[..., :2], axis=0), axis=-1) * fps
    both = contacts[1:] & contacts[:-1]
    return float(speed[both].mean()) if both.any() else 0.0
