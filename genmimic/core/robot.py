# SPDX-License-Identifier: Apache-2.0
"""The Unitree G1 with 23 joints: every number about the robot, once.

Sources:
    Links, inertias, joint ranges, torque: unitreerobotics/unitree_ros, g1_23dof_rev_1_0.xml at
        d6f13aa (BSD-3-Clause, see THIRD_PARTY_NOTICES.md).
    Joint speed: the URDF of the same revision. Armature: rotor inertias of Unitree's motors as in
        mjlab 1.6.0 (5020: 0.00361, 7520-14: 0.01018, 7520-22: 0.02510; an ankle has two 5020).
    PD gains: GenMimic paper, appendix D. Action scale and clip: Eq. 4.
    Motor slots: the 29-slot numbering with holes of Unitree's low-level examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genmimic.core.errors import ConfigError

NUM_MOTOR_SLOTS = 35
"""Motors in a low-level message, of which the 23-joint robot uses 23."""

ABSENT_MOTOR_SLOTS = (13, 14, 20, 21, 27, 28)
"""Slots of the 29-joint robot that the 23-joint robot lacks: waist roll and pitch, wrist pitch and yaw."""

VALID_MODE_MACHINE = (1, 4, 10)
"""Values of ``mode_machine`` that a 23-joint G1 reports (1 deprecated, 4 rev 1.0, 10 new hip gear)."""


@dataclass(frozen=True)
class Link:
    """A rigid link. ``pos`` (m) and ``quat`` (wxyz) place it in its parent; inertia is about ``com``."""

    name: str
    parent: str | None
    pos: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    mass: float  # kg
    com: tuple[float, float, float]  # m, link frame
    inertia_quat: tuple[float, float, float, float]  # principal axes in the link frame, wxyz
    inertia_diag: tuple[float, float, float]  # kg m^2


@dataclass(frozen=True)
class Joint:
    """A hinge at the origin of ``link``. Angles in rad, torque in N m, speed in rad/s."""

    name: str
    link: str
    axis: tuple[float, float, float]
    lower: float
    upper: float
    effort: float
    speed: float
    armature: float  # kg m^2
    kp: float  # N m / rad
    kd: float  # N m s / rad
    default: float  # rad, the standing pose
    motor_slot: int


@dataclass(frozen=True)
class Keypoint:
    """A tracked point: ``offset`` (m) in the frame of ``link``."""

    name: str
    link: str
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    group: str = "lower"  # "lower", "upper" or "end_effector": the weights of Table 7


@dataclass(frozen=True)
class ContactSphere:
    """A sphere under a sole. Centre ``pos`` and ``radius`` in m, frame of ``link``."""

    link: str
    pos: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Robot:
    """A legged robot with a free pelvis. Arrays follow the order of ``joints``, ``links``, ``keypoints``."""

    name: str
    links: tuple[Link, ...]
    joints: tuple[Joint, ...]
    keypoints: tuple[Keypoint, ...]
    soles: tuple[ContactSphere, ...]
    action_scale: float
    action_clip: float

    # names and indices -------------------------------------------------------------------------
    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def link_names(self) -> tuple[str, ...]:
        return tuple(link.name for link in self.links)

    @cached_property
    def keypoint_names(self) -> tuple[str, ...]:
        return tuple(keypoint.name for keypoint in self.keypoints)

    def joint_idx(self, names: Sequence[str]) -> np.ndarray:
        """Return the index of each joint in ``names``. Raises ConfigError for an unknown name."""
        return _lookup(names, self.joint_names, "joint", self.name)

    def keypoint_idx(self, names: Sequence[str]) -> np.ndarray:
        """Return the index of each keypoint in ``names``. Raises ConfigError for an unknown name."""
        return _lookup(names, self.keypoint_names, "keypoint", self.name)

    def link_idx(self, names: Sequence[str]) -> np.ndarray:
        """Return the index of each link in ``names``. Raises ConfigError for an unknown name."""
        return _lookup(names, self.link_names, "link", self.name)

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    # joint arrays, shape (J,) ------------------------------------------------------------------
    @cached_property
    def joint_lower(self) -> np.ndarray:
        return _array([joint.lower for joint in self.joints])

    @cached_property
    def joint_upper(self) -> np.ndarray:
        return _array([joint.upper for joint in self.joints])

    @cached_property
    def joint_effort(self) -> np.ndarray:
        return _array([joint.effort for joint in self.joints])

    @cached_property
    def joint_speed(self) -> np.ndarray:
        return _array([joint.speed for joint in self.joints])

    @cached_property
    def joint_armature(self) -> np.ndarray:
        return _array([joint.armature for joint in self.joints])

    @cached_property
    def kp(self) -> np.ndarray:
        return _array([joint.kp for joint in self.joints])

    @cached_property
    def kd(self) -> np.ndarray:
        return _array([joint.kd for joint in self.joints])

    @cached_property
    def default_joint_pos(self) -> np.ndarray:
        return _array([joint.default for joint in self.joints])

    @cached_property
    def motor_slots(self) -> np.ndarray:
        return np.array([joint.motor_slot for joint in self.joints])

    @cached_property
    def mass(self) -> float:
        """Total mass in kg."""
        return sum(link.mass for link in self.links)

    # mirror maps -------------------------------------------------------------------------------
    @cached_property
    def joint_mirror_idx(self) -> np.ndarray:
        """Index of the joint on the other side; mirrored = ``joint_mirror_sign * q[joint_mirror_idx]``."""
        return self.joint_idx([other_side(name) for name in self.joint_names])

    @cached_property
    def joint_mirror_sign(self) -> np.ndarray:
        """+1 for pitch joints (axis y), -1 for roll and yaw joints, which turn the other way in a mirror."""
        return _array([1.0 if joint.axis[1] else -1.0 for joint in self.joints])

    @cached_property
    def keypoint_mirror_idx(self) -> np.ndarray:
        """Index of the keypoint on the other side."""
        return self.keypoint_idx([other_side(name) for name in self.keypoint_names])

    # keypoint weights --------------------------------------------------------------------------
    def keypoint_weights(self, lower: float = 1.0, upper: float = 2.0, end_effector: float = 4.0) -> np.ndarray:
        """Return per-keypoint weights that sum to one. Shape (K,). Source: Table 7, appendix B.3."""
        value = {"lower": lower, "upper": upper, "end_effector": end_effector}
        weights = np.array([value[keypoint.group] for keypoint in self.keypoints])
        return weights / weights.sum()

    def joint_weights(self, lower: float = 1.0, upper: float = 2.0) -> np.ndarray:
        """Return per-joint weights that sum to one. Shape (J,). Source: Table 7, appendix B.3."""
        weights = np.array([lower if is_leg(joint.name) else upper for joint in self.joints])
        return weights / weights.sum()

    @cached_property
    def standing_height(self) -> float:
        """Pelvis height in m at which the soles of the default pose touch the floor."""
        from genmimic.core.kinematics import lowest_sole_height

        return -float(lowest_sole_height(self, np.zeros(3), np.array([1.0, 0, 0, 0]), self.default_joint_pos))


def _array(values: Sequence[float]) -> np.ndarray:
    array = np.array(values, float)
    array.setflags(write=False)
    return array


def _lookup(names: Sequence[str], known: tuple[str, ...], what: str, robot: str) -> np.ndarray:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"{robot} has no {what} {', '.join(unknown)}; known: {', '.join(known)}")
    return np.array([known.index(name) for name in names], int)


def other_side(name: str) -> str:
    """Return the name of the same thing on the other side: ``left_x`` to ``right_x`` and back."""
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


def is_leg(name: str) -> bool:
    """Return whether a link or joint belongs to a leg; the pelvis does not."""
    return any(part in name for part in ("hip", "knee", "ankle"))


_LINKS = (
    # fmt: off
    # name, parent, pos, quat, mass, com, inertia_quat, inertia_diag
    (
        "pelvis",
        None,
        (0.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, 0.0),
        3.813,
        (0.0, 0.0, -0.07605),
        (1.0, 0.0, -0.000399148, 0.0),
        (0.010549, 0.0093089, 0.0079184),
    ),
    (
        "left_hip_pitch_link",
        "pelvis",
        (0.0, 0.064452, -0.1027),
        (1.0, 0.0, 0.0, 0.0),
        1.35,
        (0.002741, 0.047791, -0.02606),
        (0.954862, 0.293964, 0.0302556, 0.030122),
        (0.00181517, 0.00153422, 0.00116212),
    ),
    (
        "left_hip_roll_link",
        "left_hip_pitch_link",
        (0.0, 0.052, -0.030465),
        (0.996179, 0.0, -0.0873386, 0.0),
        1.52,
        (0.029812, -0.001045, -0.087934),
        (0.977808, -1.97119e-05, 0.205576, -0.0403793),
        (0.00254986, 0.00241169, 0.00148755),
    ),
    (
        "left_hip_yaw_link",
        "left_hip_roll_link",
        (0.025001, 0.0, -0.12412),
        (1.0, 0.0, 0.0, 0.0),
        1.702,
        (-0.057709, -0.010981, -0.15078),
        (0.600598, 0.15832, 0.223482, 0.751181),
        (0.00776166, 0.00717575, 0.00160139),
    ),
    (
        "left_knee_link",
        "left_hip_yaw_link",
        (-0.078273, 0.0021489, -0.17734),
        (0.996179, 0.0, 0.0873386, 0.0),
        1.932,
        (0.005457, 0.003964, -0.12074),
        (0.923418, -0.0327699, 0.0158246, 0.382067),
        (0.0113804, 0.0112778, 0.00146458),
    ),
    (
        "left_ankle_pitch_link",
        "left_knee_link",
        (0.0, -9.4445e-05, -0.30001),
        (1.0, 0.0, 0.0, 0.0),
        0.074,
        (-0.007269, 0.0, 0.011137),
        (0.603053, 0.369225, 0.369225, 0.603053),
        (1.89e-05, 1.40805e-05, 6.9195e-06),
    ),
    (
        "left_ankle_roll_link",
        "left_ankle_pitch_link",
        (0.0, 0.0, -0.017558),
        (1.0, 0.0, 0.0, 0.0),
        0.608,
        (0.026505, 0.0, -0.016425),
        (-0.000481092, 0.728482, -0.000618967, 0.685065),
        (0.00167218, 0.0016161, 0.000217621),
    ),
    (
        "right_hip_pitch_link",
        "pelvis",
        (0.0, -0.064452, -0.1027),
        (1.0, 0.0, 0.0, 0.0),
        1.35,
        (0.002741, -0.047791, -0.02606),
        (0.954862, -0.293964, 0.0302556, -0.030122),
        (0.00181517, 0.00153422, 0.00116212),
    ),
    (
        "right_hip_roll_link",
        "right_hip_pitch_link",
        (0.0, -0.052, -0.030465),
        (0.996179, 0.0, -0.0873386, 0.0),
        1.52,
        (0.029812, 0.001045, -0.087934),
        (0.977808, 1.97119e-05, 0.205576, 0.0403793),
        (0.00254986, 0.00241169, 0.00148755),
    ),
    (
        "right_hip_yaw_link",
        "right_hip_roll_link",
        (0.025001, 0.0, -0.12412),
        (1.0, 0.0, 0.0, 0.0),
        1.702,
        (-0.057709, 0.010981, -0.15078),
        (0.751181, 0.223482, 0.15832, 0.600598),
        (0.00776166, 0.00717575, 0.00160139),
    ),
    (
        "right_knee_link",
        "right_hip_yaw_link",
        (-0.078273, -0.0021489, -0.17734),
        (0.996179, 0.0, 0.0873386, 0.0),
        1.932,
        (0.005457, -0.003964, -0.12074),
        (0.923439, 0.0345276, 0.0116333, -0.382012),
        (0.011374, 0.0112843, 0.00146452),
    ),
    (
        "right_ankle_pitch_link",
        "right_knee_link",
        (0.0, 9.4445e-05, -0.30001),
        (1.0, 0.0, 0.0, 0.0),
        0.074,
        (-0.007269, 0.0, 0.011137),
        (0.603053, 0.369225, 0.369225, 0.603053),
        (1.89e-05, 1.40805e-05, 6.9195e-06),
    ),
    (
        "right_ankle_roll_link",
        "right_ankle_pitch_link",
        (0.0, 0.0, -0.017558),
        (1.0, 0.0, 0.0, 0.0),
        0.608,
        (0.026505, 0.0, -0.016425),
        (0.000481092, 0.728482, 0.000618967, 0.685065),
        (0.00167218, 0.0016161, 0.000217621),
    ),
    (
        "torso_link",
        "pelvis",
        (-0.0039635, 0.0, 0.044),
        (1.0, 0.0, 0.0, 0.0),
        7.818,
        (0.00203158, 0.000339683, 0.184568),
        (0.999803, -6.03319e-05, 0.0198256, 0.00131986),
        (0.121847, 0.109825, 0.0273735),
    ),
    (
        "left_shoulder_pitch_link",
        "torso_link",
        (0.0039563, 0.10022, 0.24778),
        (0.990264, 0.139201, 1.38722e-05, -9.86868e-05),
        0.718,
        (0.0, 0.035892, -0.011628),
        (0.654152, 0.0130458, -0.326267, 0.68225),
        (0.000465864, 0.000432842, 0.000406394),
    ),
    (
        "left_shoulder_roll_link",
        "left_shoulder_pitch_link",
        (0.0, 0.038, -0.013831),
        (0.990268, -0.139172, 0.0, 0.0),
        0.643,
        (-0.000227, 0.00727, -0.063243),
        (0.701256, -0.0196223, -0.00710317, 0.712604),
        (0.000691311, 0.000618011, 0.000388977),
    ),
    (
        "left_shoulder_yaw_link",
        "left_shoulder_roll_link",
        (0.0, 0.00624, -0.1032),
        (1.0, 0.0, 0.0, 0.0),
        0.734,
        (0.010773, -0.002949, -0.072009),
        (0.716879, -0.0964829, -0.0679942, 0.687134),
        (0.00106187, 0.00103217, 0.000400661),
    ),
    (
        "left_elbow_link",
        "left_shoulder_yaw_link",
        (0.015783, 0.0, -0.080518),
        (1.0, 0.0, 0.0, 0.0),
        0.6,
        (0.064956, 0.004454, -0.010062),
        (0.541765, 0.636132, 0.388821, 0.388129),
        (0.000443035, 0.000421612, 0.000259353),
    ),
    (
        "left_wrist_roll_link",
        "left_elbow_link",
        (0.1, 0.00188791, -0.01),
        (1.0, 0.0, 0.0, 0.0),
        0.356929,
        (0.107947, 0.00163512, 0.00202245),
        (0.494051, 0.504265, 0.48416, 0.516933),
        (0.00200292, 0.0019426, 0.000195232),
    ),
    (
        "right_shoulder_pitch_link",
        "torso_link",
        (0.0039563, -0.10021, 0.24778),
        (0.990264, -0.139201, 1.38722e-05, 9.86868e-05),
        0.718,
        (0.0, -0.035892, -0.011628),
        (0.68225, -0.326267, 0.0130458, 0.654152),
        (0.000465864, 0.000432842, 0.000406394),
    ),
    (
        "right_shoulder_roll_link",
        "right_shoulder_pitch_link",
        (0.0, -0.038, -0.013831),
        (0.990268, 0.139172, 0.0, 0.0),
        0.643,
        (-0.000227, -0.00727, -0.063243),
        (0.712604, -0.00710317, -0.0196223, 0.701256),
        (0.000691311, 0.000618011, 0.000388977),
    ),
    (
        "right_shoulder_yaw_link",
        "right_shoulder_roll_link",
        (0.0, -0.00624, -0.1032),
        (1.0, 0.0, 0.0, 0.0),
        0.734,
        (0.010773, 0.002949, -0.072009),
        (0.687134, -0.0679942, -0.0964829, 0.716879),
        (0.00106187, 0.00103217, 0.000400661),
    ),
    (
        "right_elbow_link",
        "right_shoulder_yaw_link",
        (0.015783, 0.0, -0.080518),
        (1.0, 0.0, 0.0, 0.0),
        0.6,
        (0.064956, -0.004454, -0.010062),
        (0.388129, 0.388821, 0.636132, 0.541765),
        (0.000443035, 0.000421612, 0.000259353),
    ),
    (
        "right_wrist_roll_link",
        "right_elbow_link",
        (0.1, -0.00188791, -0.01),
        (1.0, 0.0, 0.0, 0.0),
        0.356929,
        (0.107947, -0.00163512, 0.00202245),
        (0.516933, 0.48416, 0.504265, 0.494051),
        (0.00200292, 0.0019426, 0.000195232),
    ),
    # fmt: on
)

_KNEE_MOTOR, _HIP_MOTOR, _ARM_MOTOR = 0.02510, 0.01018, 0.00361
_ANKLE_MOTORS = 2 * _ARM_MOTOR

_LEG = (
    # name, axis, lower, upper, effort, speed, armature, kp, kd, default; the left side
    ("hip_pitch", "y", -2.5307, 2.8798, 88.0, 32.0, _HIP_MOTOR, 200.0, 5.0, -0.20),
    ("hip_roll", "x", -0.5236, 2.9671, 139.0, 20.0, _KNEE_MOTOR, 200.0, 5.0, 0.0),
    ("hip_yaw", "z", -2.7576, 2.7576, 88.0, 32.0, _HIP_MOTOR, 200.0, 5.0, 0.0),
    ("knee", "y", -0.087267, 2.8798, 139.0, 20.0, _KNEE_MOTOR, 300.0, 6.0, 0.42),
    ("ankle_pitch", "y", -0.87267, 0.5236, 50.0, 37.0, _ANKLE_MOTORS, 40.0, 2.0, -0.22),
    ("ankle_roll", "x", -0.2618, 0.2618, 50.0, 37.0, _ANKLE_MOTORS, 40.0, 2.0, 0.0),
)
_WAIST = (("waist_yaw", "z", -2.618, 2.618, 88.0, 32.0, _HIP_MOTOR, 100.0, 2.0, 0.0),)
_ARM = (
    ("shoulder_pitch", "y", -3.0892, 2.6704, 25.0, 37.0, _ARM_MOTOR, 100.0, 2.0, 0.35),
    ("shoulder_roll", "x", -1.5882, 2.2515, 25.0, 37.0, _ARM_MOTOR, 100.0, 2.0, 0.18),
    ("shoulder_yaw", "z", -2.618, 2.618, 25.0, 37.0, _ARM_MOTOR, 100.0, 2.0, 0.0),
    ("elbow", "y", -1.0472, 2.0944, 25.0, 37.0, _ARM_MOTOR, 100.0, 2.0, 0.87),
    ("wrist_roll", "x", -1.97222, 1.97222, 25.0, 37.0, _ARM_MOTOR, 100.0, 2.0, 0.0),
)
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def _joints() -> tuple[Joint, ...]:
    joints = []
    for prefix, part, first_slot in (
        ("left_", _LEG, 0), ("right_", _LEG, 6), ("", _WAIST, 12), ("left_", _ARM, 15), ("right_", _ARM, 22),
    ):  # fmt: skip
        for offset, (name, axis, lower, upper, effort, speed, armature, kp, kd, default) in enumerate(part):
            if prefix == "right_" and axis != "y":
                lower, upper, default = -upper, -lower, -default
            link = "torso_link" if name == "waist_yaw" else f"{prefix}{name}_link"
            joints.append(
                Joint(f"{prefix}{name}_joint", link, _AXES[axis], lower, upper, effort, speed, armature, kp, kd,
                      default + 0.0, first_slot + offset)
            )  # fmt: skip
    return tuple(joints)


def _keypoints() -> tuple[Keypoint, ...]:
    """24 links, then head and hands (paper B.2 adds them to the tree; their offsets are ours).

    The head is 0.42 m above the torso frame, the centre of the head shell. A hand is 0.15 m from
    the wrist along the forearm, the middle of the rubber hand's palm.
    """
    of_link = []
    for link in (_link.name for _link in G1_LINKS):
        group = "lower" if link == "pelvis" or is_leg(link) else "upper"
        of_link.append(Keypoint(link.removesuffix("_link"), link, group=group))
    return (
        *of_link,
        Keypoint("head", "torso_link", (0.0, 0.0, 0.42), "end_effector"),
        Keypoint("left_hand", "left_wrist_roll_link", (0.15, 0.0, 0.0), "end_effector"),
        Keypoint("right_hand", "right_wrist_roll_link", (0.15, 0.0, 0.0), "end_effector"),
    )


def _soles() -> tuple[ContactSphere, ...]:
    corners = ((-0.05, 0.025), (-0.05, -0.025), (0.12, 0.03), (0.12, -0.03))
    return tuple(
        ContactSphere(f"{side}_ankle_roll_link", (x, y, -0.03), 0.005) for side in ("left", "right") for x, y in corners
    )


G1_LINKS = tuple(Link(*row) for row in _LINKS)

G1_23DOF = Robot(
    name="g1_23dof",
    links=G1_LINKS,
    joints=_joints(),
    keypoints=_keypoints(),
    soles=_soles(),
    action_scale=0.25,
    action_clip=10.0,
)
"""The Unitree G1, 23 joints, revision 1.0, 32.1 kg: 24 links, 27 keypoints."""
