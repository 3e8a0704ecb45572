# SPDX-License-Identifier: Apache-2.0
"""What the G1 looks like and where it can touch: primitives per link, once, for MJCF and URDF.

The joints, masses and frames are `genmimic.core.robot`'s; the shapes here are ours, drawn from
primitives to resemble the robot (no mesh is shipped). They carry no mass. Written for the left side
and mirrored; in m, frame of the link.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from genmimic.core.robot import Robot

Vec3 = tuple[float, float, float]

VISUAL = "visual"
"""Drawn, never touching."""

COLLISION = "collision"
"""Never drawn; touches what `touches` says."""

COLOURS: dict[str, tuple[float, float, float, float]] = {
    "white": (0.90, 0.91, 0.92, 1.0),
    "grey": (0.30, 0.31, 0.33, 1.0),
    "black": (0.08, 0.08, 0.09, 1.0),
    "visor": (0.02, 0.02, 0.03, 1.0),
    "glow": (0.25, 0.65, 0.95, 1.0),
}
"""Name to rgba."""


@dataclass(frozen=True)
class Shape:
    """A primitive fixed to a link.

    Attributes:
        name: Unique among the robot's shapes.
        link: The link that carries it.
        kind: ``capsule`` or ``cylinder`` (from ``start`` to ``end``), ``sphere`` or ``box`` (at ``start``).
        start: End of the axis, or centre, in m.
        end: Other end of the axis, in m; equals ``start`` for spheres and boxes.
        size: ``(radius,)``, or the three half extents of a box, in m.
        pitch: Turn of a box about the link's y axis, in rad.
        colour: A key of `COLOURS`.
        role: `VISUAL` or `COLLISION`.
        part: For collision shapes: ``core``, ``arm``, ``leg``, or empty when it meets the floor only; see
            `genmimic.sim.mjcf` for what meets what.
        floor: Whether a collision shape meets the floor.
    """

    name: str
    link: str
    kind: str
    start: Vec3
    end: Vec3
    size: tuple[float, ...]
    pitch: float = 0.0
    colour: str = "white"
    role: str = VISUAL
    part: str = ""
    floor: bool = False


def _line(kind: str, link: str, start: Vec3, end: Vec3, radius: float, colour: str) -> Shape:
    return Shape("", link, kind, start, end, (radius,), colour=colour)


def _capsule(link: str, start: Vec3, end: Vec3, radius: float, colour: str = "white") -> Shape:
    return _line("capsule", link, start, end, radius, colour)


def _cylinder(link: str, start: Vec3, end: Vec3, radius: float, colour: str = "grey") -> Shape:
    return _line("cylinder", link, start, end, radius, colour)


def _sphere(link: str, centre: Vec3, radius: float, colour: str = "white") -> Shape:
    return Shape("", link, "sphere", centre, centre, (radius,), colour=colour)


def _box(link: str, centre: Vec3, half: Vec3, colour: str = "white", pitch: float = 0.0) -> Shape:
    return Shape("", link, "box", centre, centre, half, pitch=pitch, colour=colour)


def _touch(link: str, start: Vec3, end: Vec3, radius: float, part: str, *, floor: bool = False) -> Shape:
    kind = "sphere" if start == end else "capsule"
    return Shape("", link, kind, start, end, (radius,), role=COLLISION, part=part, floor=floor)


_CENTRE = (
    # pelvis: motor block between the hips, waist column
    _capsule("pelvis", (0.0, -0.035, -0.090), (0.0, 0.035, -0.090), 0.054, "grey"),
    _capsule("pelvis", (0.0, -0.030, -0.055), (0.0, 0.030, -0.055), 0.052),
    _cylinder("pelvis", (-0.004, 0.0, -0.02), (-0.004, 0.0, 0.03), 0.05, "black"),
    # torso: rounded shell, narrow at the waist, dark chest panel and battery
    _cylinder("torso_link", (0.0, 0.0, -0.012), (0.0, 0.0, 0.03), 0.056, "grey"),
    _capsule("torso_link", (0.0, 0.020, 0.070), (0.004, 0.044, 0.165), 0.054),
    _capsule("torso_link", (0.0, -0.020, 0.070), (0.004, -0.044, 0.165), 0.054),
    _capsule("torso_link", (0.004, 0.044, 0.165), (0.004, 0.046, 0.240), 0.060),
    _capsule("torso_link", (0.004, -0.044, 0.165), (0.004, -0.046, 0.240), 0.060),
    _capsule("torso_link", (0.004, -0.044, 0.240), (0.004, 0.044, 0.240), 0.061),
    _box("torso_link", (0.004, 0.0, 0.165), (0.0575, 0.042, 0.085)),
    _box("torso_link", (0.0615, 0.0, 0.205), (0.006, 0.040, 0.038), "black"),
    _box("torso_link", (0.0680, 0.0, 0.222), (0.001, 0.018, 0.0035), "glow"),
    _box("torso_link", (-0.060, 0.0, 0.175), (0.016, 0.052, 0.075), "grey"),
    # neck and head with a dark visor
    _cylinder("torso_link", (0.0, 0.0, 0.29), (0.006, 0.0, 0.37), 0.036, "black"),
    _capsule("torso_link", (-0.006, 0.0, 0.398), (-0.002, 0.0, 0.452), 0.066),
    _capsule("torso_link", (0.018, 0.0, 0.398), (0.020, 0.0, 0.447), 0.056, "visor"),
    _cylinder("torso_link", (-0.004, -0.066, 0.425), (-0.004, 0.066, 0.425), 0.026, "grey"),
    # touch
    _touch("pelvis", (0.0, -0.03, -0.075), (0.0, 0.03, -0.075), 0.060, "core", floor=True),
    _touch("torso_link", (0.0, 0.0, 0.07), (0.0, 0.0, 0.235), 0.085, "core", floor=True),
    _touch("torso_link", (0.0, 0.0, 0.40), (0.0, 0.0, 0.45), 0.068, "core", floor=True),
)

_LEFT = (
    # hip: three motors
    _cylinder("left_hip_pitch_link", (0.0, -0.012, 0.0), (0.0, 0.060, 0.0), 0.046, "grey"),
    _cylinder("left_hip_pitch_link", (0.0, 0.060, 0.0), (0.0, 0.066, 0.0), 0.034, "black"),
    _box("left_hip_pitch_link", (0.0, 0.044, -0.030), (0.036, 0.026, 0.036), "grey"),
    _cylinder("left_hip_roll_link", (-0.058, 0.0, 0.0), (0.052, 0.0, 0.0), 0.042, "grey"),
    _cylinder("left_hip_roll_link", (-0.062, 0.0, 0.0), (0.056, 0.0, 0.0), 0.030, "black"),
    _capsule("left_hip_roll_link", (0.010, 0.0, -0.045), (0.022, 0.0, -0.095), 0.054),
    # thigh and knee motor
    _cylinder("left_hip_yaw_link", (-0.001, 0.0, -0.008), (-0.009, 0.0, -0.034), 0.054, "black"),
    _capsule("left_hip_yaw_link", (-0.012, 0.0, -0.055), (-0.050, 0.001, -0.125), 0.053),
    _capsule("left_hip_yaw_link", (-0.050, 0.001, -0.125), (-0.074, 0.002, -0.170), 0.050),
    _cylinder("left_hip_yaw_link", (-0.078, -0.050, -0.177), (-0.078, 0.054, -0.177), 0.048, "grey"),
    _cylinder("left_hip_yaw_link", (-0.078, -0.054, -0.177), (-0.078, 0.058, -0.177), 0.032, "black"),
    # shin, ankle, foot
    _capsule("left_knee_link", (0.012, 0.0, -0.020), (0.016, 0.0, -0.110), 0.041),
    _capsule("left_knee_link", (0.016, 0.0, -0.110), (0.002, 0.0, -0.250), 0.034),
    _capsule("left_knee_link", (-0.016, 0.0, -0.060), (-0.018, 0.0, -0.235), 0.026, "grey"),
    _cylinder("left_knee_link", (0.0, -0.030, -0.300), (0.0, 0.030, -0.300), 0.027, "grey"),
    _sphere("left_ankle_pitch_link", (0.0, 0.0, -0.004), 0.025, "black"),
    _capsule("left_ankle_roll_link", (-0.018, 0.0, -0.006), (0.050, 0.0, -0.012), 0.020, "grey"),
    _box("left_ankle_roll_link", (0.035, 0.0, -0.022), (0.088, 0.030, 0.008), "grey"),
    _box("left_ankle_roll_link", (0.035, 0.0, -0.0315), (0.090, 0.033, 0.0030), "black"),
    _cylinder("left_ankle_roll_link", (0.123, 0.0, -0.0345), (0.123, 0.0, -0.0145), 0.030, "grey"),
    _cylinder("left_ankle_roll_link", (-0.050, 0.0, -0.0345), (-0.050, 0.0, -0.0145), 0.030, "grey"),
    # shoulder and upper arm
    _cylinder("left_shoulder_pitch_link", (0.0, -0.018, 0.0), (0.0, 0.052, -0.004), 0.036, "grey"),
    _cylinder("left_shoulder_roll_link", (-0.040, 0.0, 0.0), (0.040, 0.0, 0.0), 0.034, "grey"),
    _sphere("left_shoulder_roll_link", (0.0, 0.004, -0.002), 0.042),
    _capsule("left_shoulder_roll_link", (0.0, 0.006, -0.020), (0.0, 0.006, -0.070), 0.037),
    _cylinder("left_shoulder_yaw_link", (0.0, 0.0, 0.0), (0.004, 0.0, -0.020), 0.036, "black"),
    _capsule("left_shoulder_yaw_link", (0.004, 0.0, -0.030), (0.012, 0.0, -0.066), 0.035),
    _cylinder("left_shoulder_yaw_link", (0.016, -0.036, -0.080), (0.016, 0.036, -0.080), 0.034, "grey"),
    # forearm, wrist, rubber hand
    _capsule("left_elbow_link", (0.012, 0.001, -0.006), (0.075, 0.002, -0.010), 0.032),
    _cylinder("left_elbow_link", (0.085, 0.002, -0.010), (0.100, 0.002, -0.010), 0.030, "black"),
    _capsule("left_wrist_roll_link", (0.014, 0.0, 0.0), (0.070, 0.0, 0.0), 0.028),
    _cylinder("left_wrist_roll_link", (0.070, 0.0, 0.0), (0.106, 0.0, 0.0), 0.022, "grey"),
    _box("left_wrist_roll_link", (0.138, 0.0, 0.0), (0.034, 0.013, 0.031), "black"),
    _capsule("left_wrist_roll_link", (0.168, 0.0, 0.0235), (0.202, -0.006, 0.0235), 0.0085, "black"),
    _capsule("left_wrist_roll_link", (0.168, 0.0, 0.0075), (0.210, -0.006, 0.0080), 0.0085, "black"),
    _capsule("left_wrist_roll_link", (0.168, 0.0, -0.0085), (0.206, -0.006, -0.0080), 0.0085, "black"),
    _capsule("left_wrist_roll_link", (0.168, 0.0, -0.0240), (0.196, -0.006, -0.0240), 0.0080, "black"),
    _capsule("left_wrist_roll_link", (0.118, -0.008, 0.026), (0.152, -0.016, 0.050), 0.0095, "black"),
    # touch
    _touch("left_hip_pitch_link", (0.0, 0.045, -0.015), (0.0, 0.045, -0.015), 0.050, "", floor=True),
    _touch("left_hip_yaw_link", (-0.012, 0.0, -0.040), (-0.062, 0.001, -0.150), 0.048, "leg", floor=True),
    _touch("left_knee_link", (0.006, 0.0, 0.0), (0.006, 0.0, 0.0), 0.050, "leg", floor=True),
    _touch("left_knee_link", (0.012, 0.0, -0.060), (0.0, 0.0, -0.270), 0.034, "leg", floor=True),
    _touch("left_ankle_roll_link", (-0.040, 0.0, -0.010), (0.110, 0.0, -0.010), 0.020, "leg", floor=True),
    _touch("left_shoulder_roll_link", (0.0, 0.004, 0.0), (0.0, 0.006, -0.080), 0.040, "", floor=True),
    _touch("left_elbow_link", (0.010, 0.001, -0.006), (0.090, 0.002, -0.010), 0.030, "arm", floor=True),
    _touch("left_wrist_roll_link", (0.030, 0.0, 0.0), (0.180, 0.0, 0.0), 0.026, "arm", floor=True),
)


def _mirrored(shape: Shape) -> Shape:
    (x0, y0, z0), (x1, y1, z1) = shape.start, shape.end
    link = "right_" + shape.link.removeprefix("left_")
    return replace(shape, link=link, start=(x0, -y0, z0), end=(x1, -y1, z1))


@lru_cache(maxsize=8)
def robot_shapes(robot: Robot) -> tuple[Shape, ...]:
    """Return all shapes of ``robot``, in link order, each with a unique name."""
    shapes = []
    for link in robot.link_names:
        own = [shape for shape in (*_CENTRE, *_LEFT, *map(_mirrored, _LEFT)) if shape.link == link]
        for role in (VISUAL, COLLISION):
            of_role = [shape for shape in own if shape.role == role]
            stem = link.removesuffix("_link")
            shapes += [replace(shape, name=f"{stem}_{role}_{idx}") for idx, shape in enumerate(of_role)]
    return tuple(shapes)


TETHER_HOOK: tuple[str, Vec3] = ("torso_link", (0.02, 0.0, 0.30))
"""Link and point (m, link frame) where the gantry holds the robot: midway between the lifting eyes on the
shoulders, above the centre of mass of the standing pose, so that the robot hangs upright. Ours."""

TETHER_EYE_SPREAD_M = 0.09
"""From the hook to each lifting eye, left and right; only drawn."""
