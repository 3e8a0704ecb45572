# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of a robot, generated from `genmimic.core.robot` and `genmimic.sim.shapes`.

Who touches whom (contact bits; the floor's friction and softness win, so friction is one number):

    soles, and what hits the ground in a fall (all but the ankles)    the floor
    forearms and hands        torso, head, pelvis, thighs, shins, feet, and the other arm
    left leg                  right leg

Links next to each other never meet, and nothing touches in the default pose.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.robot import G1_23DOF, Link, Robot
from genmimic.sim.shapes import COLLISION, COLOURS, TETHER_HOOK, VISUAL, Shape, robot_shapes

if TYPE_CHECKING:
    import mujoco

_FLOOR, _BODY, _LEFT_ARM, _LEFT_LEG = 1, 2, 4, 8
_VISUAL_GROUP, _COLLISION_GROUP, _SITE_GROUP = 1, 3, 4

FOOT_SENSORS = ("left_foot_force", "right_foot_force")
"""Contact sensors: net force in N of everything on the foot, world frame; standing, z is positive."""

IMU_SENSORS = ("imu_gyro", "imu_accelerometer", "imu_quat")
"""At the pelvis origin: rad/s and m/s^2 (gravity included) in the base frame, orientation wxyz in the world."""


def build_mjcf(
    robot: Robot = G1_23DOF,
    *,
    timestep: float = 0.005,
    self_collision: bool = True,
    fall_contact: bool = True,
    tether: bool = True,
    visuals: bool = True,
    gains: tuple[Sequence[float], Sequence[float]] | None = None,
    friction: float = 1.0,
) -> str:
    """Return the model as MJCF text.

    The pelvis floats on the free joint ``root``. Actuators stand in joint order and give
    ``kp * ctrl - kp * q - kd * dq``, limited to the motor's peak torque: editing
    ``actuator_gainprm[:, 0]``, ``actuator_biasprm[:, 1:3]`` and ``actuator_forcerange`` of the
    compiled model changes gains and strength.

    Args:
        robot: Links, joints, gains, keypoints and soles.
        timestep: Of the physics, in s. Source: 200 Hz, appendix D.
        self_collision: Whether arms meet the body and the left leg meets the right one.
        fall_contact: Whether more than the soles meets the floor. Without it a fallen robot sinks.
        tether: Add the site ``tether_hook`` that `genmimic.sim.simulated_g1` pulls at.
        visuals: Add the shapes that are only drawn. Without them the model compiles and copies faster.
        gains: ``(kp, kd)``, each of shape (J,), in N m/rad and N m s/rad; None means the robot's.
        friction: Of the floor; sliding, no unit.

    Raises:
        ConfigError: A number is out of range or of the wrong shape.
    """
    if not 0.0 < timestep <= 0.02:
        raise ConfigError(f"timestep is {timestep:g} s; expected above 0 and at most 0.02 s")
    if not friction >= 0.0:
        raise ConfigError(f"friction is {friction:g}; expected 0 or more")
    kp, kd = (np.asarray(gain, float) for gain in (gains or (robot.kp, robot.kd)))
    if kp.shape != (robot.num_joints,) or kd.shape != (robot.num_joints,):
        raise ConfigError(f"gains have shapes {kp.shape} and {kd.shape}; expected ({robot.num_joints},) each")

    shapes = [
        shape
        for shape in robot_shapes(robot)
        if (shape.role == VISUAL and visuals)
        or (shape.role == COLLISION and ((self_collision and shape.part) or (fall_contact and shape.floor)))
    ]
    bodies = "\n".join(_body(robot, robot.links[0], shapes, self_collision, fall_contact, tether, 2))
    actuators = "\n".join(
        f'    <general name="{joint.name}" joint="{joint.name}" gaintype="fixed" biastype="affine"'
        f' gainprm="{_text(p)}" biasprm="0 {_text(-p)} {_text(-d)}"'
        f' forcerange="{_text([-joint.effort, joint.effort])}"/>'
        for joint, p, d in zip(robot.joints, kp, kd, strict=True)
    )
    feet = dict.fromkeys(sole.link for sole in robot.soles)
    sensors = "\n".join(
        f'    <contact name="{name}" body2="{foot}" reduce="netforce" data="force"/>'
        for name, foot in zip(FOOT_SENSORS, feet, strict=True)
    )
    materials = "\n".join(
        f'    <material name="{name}" rgba="{_text(rgba)}" specular="{0.9 if name == "visor" else 0.35}"'
        f' shininess="{0.9 if name == "visor" else 0.5}" emission="{0.8 if name == "glow" else 0.0}"/>'
        for name, rgba in COLOURS.items()
    )
    home = [0.0, 0.0, robot.standing_height, 1.0, 0.0, 0.0, 0.0, *robot.default_joint_pos]
    return f"""<mujoco model={quoteattr(robot.name)}>
  <compiler angle="radian" autolimits="true" inertiafromgeom="false"/>
  <option timestep="{_text(timestep)}" integrator="implicitfast" solver="Newton" iterations="10" ls_iterations="20"/>
  <visual>
    <headlight ambient="0.35 0.35 0.37" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
    <global offwidth="1920" offheight="1080" fovy="40"/>
    <quality shadowsize="4096" offsamples="8"/>
    <map znear="0.02" zfar="40" shadowclip="2.5" haze="0.4"/>
    <rgba haze="0.80 0.85 0.90 1"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.55 0.66 0.78" rgb2="0.93 0.95 0.97"
      width="256" height="256"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.62 0.65 0.68" rgb2="0.56 0.59 0.62" mark="edge"
      markrgb="0.72 0.75 0.78" width="512" height="512"/>
    <material name="floor" texture="floor" texuniform="true" texrepeat="1 1" reflectance="0.08"/>
{materials}
  </asset>
  <statistic center="0 0 0.8" extent="1.8"/>
  <worldbody>
    <light name="sun" directional="true" pos="1 -2 5" dir="-0.25 0.45 -1" diffuse="0.65 0.64 0.62"
      specular="0.3 0.3 0.3"/>
    <light name="fill" directional="true" pos="-2 3 4" dir="0.5 -0.6 -0.7" diffuse="0.18 0.19 0.22" castshadow="false"/>
    <geom name="floor" type="plane" size="0 0 0.5" material="floor" contype="{_FLOOR}" conaffinity="0" priority="1"
      friction="{_text(friction)} 0.005 0.0001" condim="3"/>
    <camera name="front" pos="3.0 -0.6 1.1" xyaxes="{_look((3.0, -0.6, 1.1), (0.0, 0.0, 0.72))}"/>
    <camera name="side" pos="0.0 -3.0 1.0" xyaxes="{_look((0.0, -3.0, 1.0), (0.0, 0.0, 0.72))}"/>
{bodies}
  </worldbody>
  <actuator>
{actuators}
  </actuator>
  <sensor>
{sensors}
    <gyro name="{IMU_SENSORS[0]}" site="imu"/>
    <accelerometer name="{IMU_SENSORS[1]}" site="imu"/>
    <framequat name="{IMU_SENSORS[2]}" objtype="site" objname="imu"/>
  </sensor>
  <keyframe>
    <key name="stand" qpos="{_text(home)}" ctrl="{_text(robot.default_joint_pos)}"/>
  </keyframe>
</mujoco>
"""


def build_model(robot: Robot = G1_23DOF, **options) -> mujoco.MjModel:
    """Return the compiled model; ``options`` are `build_mjcf`'s."""
    import mujoco

    return mujoco.MjModel.from_xml_string(build_mjcf(robot, **options))


def _body(
    robot: Robot,
    link: Link,
    shapes: list[Shape],
    self_collision: bool,
    fall_contact: bool,
    tether: bool,
    depth: int,
) -> list[str]:
    pad = "  " * depth
    inner = pad + "  "
    root = link.parent is None
    pos = (0.0, 0.0, robot.standing_height) if root else link.pos
    lines = [f'{pad}<body name="{link.name}" pos="{_text(pos)}" quat="{_text(link.quat)}">']
    lines.append(
        f'{inner}<inertial pos="{_text(link.com)}" quat="{_text(link.inertia_quat)}" mass="{_text(link.mass)}"'
        f' diaginertia="{_text(link.inertia_diag)}"/>'
    )
    if root:
        lines.append(f'{inner}<freejoint name="root"/>')
        lines.append(f'{inner}<site name="imu" group="{_SITE_GROUP}" size="0.01"/>')
        offset = (2.05, -1.2, 0.38)
        lines.append(
            f'{inner}<camera name="track" mode="track" pos="{_text(offset)}"'
            f' xyaxes="{_look(offset, (0.0, 0.0, -0.06))}"/>'
        )
    for joint in robot.joints:
        if joint.link == link.name:
            lines.append(
                f'{inner}<joint name="{joint.name}" axis="{_text(joint.axis)}"'
                f' range="{_text([joint.lower, joint.upper])}" armature="{_text(joint.armature)}"/>'
            )
    for shape in shapes:
        if shape.link == link.name:
            lines.append(inner + _geom(shape, self_collision, fall_contact))
    soles = [sole for sole in robot.soles if sole.link == link.name]
    for idx, sole in enumerate(soles):
        lines.append(
            f'{inner}<geom name="{link.name.removesuffix("_link")}_sole_{idx}" type="sphere" pos="{_text(sole.pos)}"'
            f' size="{_text(sole.radius)}" group="{_COLLISION_GROUP}" contype="0" conaffinity="{_FLOOR}" condim="3"'
            f' friction="1 0.005 0.0001"/>'
        )
    for keypoint in robot.keypoints:
        if keypoint.link == link.name:
            lines.append(
                f'{inner}<site name="kp_{keypoint.name}" pos="{_text(keypoint.offset)}"'
                f' group="{_SITE_GROUP}" size="0.01"/>'
            )
    if tether and link.name == TETHER_HOOK[0]:
        lines.append(
            f'{inner}<site name="tether_hook" pos="{_text(TETHER_HOOK[1])}" group="{_SITE_GROUP}" size="0.01"/>'
        )
    for child in robot.links:
        if child.parent == link.name:
            lines += _body(robot, child, shapes, self_collision, fall_contact, tether, depth + 1)
    lines.append(f"{pad}</body>")
    return lines


def _geom(shape: Shape, self_collision: bool, fall_contact: bool) -> str:
    place = f'type="{shape.kind}" size="{_text(shape.size)}"'
    if shape.kind in ("capsule", "cylinder"):
        place += f' fromto="{_text([*shape.start, *shape.end])}"'
    else:
        place += f' pos="{_text(shape.start)}"'
        if shape.pitch:
            place += f' quat="{_text([math.cos(shape.pitch / 2), 0.0, math.sin(shape.pitch / 2), 0.0])}"'
    if shape.role == VISUAL:
        return (
            f'<geom name="{shape.name}" {place} group="{_VISUAL_GROUP}" contype="0" conaffinity="0"'
            f' material="{shape.colour}" mass="0"/>'
        )
    contype, conaffinity = _contact_bits(shape, self_collision, fall_contact)
    return (
        f'<geom name="{shape.name}" {place} group="{_COLLISION_GROUP}" contype="{contype}" conaffinity="{conaffinity}"'
        f' condim="3" rgba="0.9 0.4 0.1 0.4"/>'
    )


def _contact_bits(shape: Shape, self_collision: bool, fall_contact: bool) -> tuple[int, int]:
    """Return contype and conaffinity; two geoms meet when one's contype shares a bit with the other's conaffinity."""
    contype, conaffinity = 0, 0
    if fall_contact and shape.floor:
        conaffinity |= _FLOOR
    if not self_collision or not shape.part:
        return contype, conaffinity
    left = shape.link.startswith("left_")
    if shape.part == "arm":
        conaffinity |= _BODY
        if left:
            contype |= _LEFT_ARM
        else:
            conaffinity |= _LEFT_ARM
    else:
        contype |= _BODY
        if shape.part == "leg" and left:
            contype |= _LEFT_LEG
        elif shape.part == "leg":
            conaffinity |= _LEFT_LEG
    return contype, conaffinity


def _look(eye: Sequence[float], target: Sequence[float]) -> str:
    """Return MJCF's ``xyaxes`` for a camera at ``eye`` that looks at ``target``, upright."""
    forward = np.subtract(target, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return _text([*right, *np.cross(right, forward)])


def _text(values: float | Iterable[float]) -> str:
    """Return numbers in the shortest form that reads back exactly."""
    if isinstance(values, (int, float, np.floating)):
        return repr(float(values) + 0.0)
    return " ".join(repr(float(value) + 0.0) for value in values)
