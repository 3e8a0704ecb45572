# SPDX-License-Identifier: Apache-2.0
"""What the policies see (Table 6): the terms, their order, and how each is computed.

The order of the tuples below is the order in every tensor, ONNX file and log.
"""

from __future__ import annotations

from dataclasses import dataclass

from genmimic.core.arrays import Array, array_namespace, constant_like
from genmimic.core.kinematics import KeypointState, keypoints_in_base
from genmimic.core.robot import Robot
from genmimic.core.rotation import (
    heading,
    quat_canonical,
    quat_from_heading,
    quat_multiply,
    quat_rotate_inverse,
    rotate_heading,
)

HISTORY = 10
"""Frames of proprioception that the student sees (paper 5.1)."""

FUTURE = 10
"""Goal frames ahead that the student sees, one per control step (paper 5.1)."""

HEADING_FRAME = "goal_root_ground/robot_heading"
"""A student's goal frame: origin under the goal root, axes turned by the robot's own heading."""

ODOMETRY_FRAME = "robot_ground/robot_heading"
"""The other: origin under the robot's own pelvis, where leg odometry believes it to be."""

GOAL_FRAMES = {"heading": HEADING_FRAME, "odometry": ODOMETRY_FRAME}
"""By the name that a training configuration gives; a policy's manifest carries the long one."""


@dataclass(frozen=True)
class Term:
    """A part of an observation.

    Attributes:
        name: The quantity, then its frame.
        size: How many numbers.
        kind: How a mirror acts on it: see `genmimic.core.mirror`.
    """

    name: str
    size: int
    kind: str


PROPRIOCEPTION = (
    Term("joint_pos", 23, "joint"),
    Term("joint_vel", 23, "joint"),
    Term("base_ang_vel_b", 3, "axial"),
    Term("gravity_dir_b", 3, "polar"),
    Term("last_action", 23, "joint"),
    Term("keypoint_pos_b", 81, "points"),
)
"""156 numbers, of one step."""

GLOBAL_STATE = (
    Term("keypoint_pos_g", 81, "points"),
    Term("keypoint_quat_g", 108, "quats"),
    Term("keypoint_lin_vel_g", 81, "points"),
    Term("keypoint_ang_vel_g", 81, "axial_points"),
)
"""351 numbers that only a simulator knows, in the frame of the goal root (see `teacher_observation`)."""

TEACHER_GOAL = (
    Term("goal_keypoint_pos_g", 81, "points"),
    Term("goal_keypoint_diff_g", 81, "points"),
)
"""162 numbers."""

PRIVILEGED = (
    Term("base_com_bias_b", 3, "polar"),
    Term("feet_friction", 2, "feet"),
    Term("mass_scale", 8, "mass_groups"),
    Term("kd_scale", 23, "joint_scale"),
    Term("kp_scale", 23, "joint_scale"),
    Term("torque_scale", 23, "joint_scale"),
    Term("feet_contact_force_w", 6, "feet_polar"),
)
"""88 numbers: the randomised parameters and the contact forces."""

MASS_GROUPS = ("pelvis", "torso", "left_thigh", "right_thigh", "left_shin", "right_shin", "left_arm", "right_arm")
"""Table 6 has eight randomised masses and does not name them; ours."""

TEACHER = (*PROPRIOCEPTION, *GLOBAL_STATE, *TEACHER_GOAL, *PRIVILEGED)
"""757 numbers: the rows of Table 6 summed. (Its printed total, 676, lacks one 81.)"""

STUDENT = (
    *(
        Term(f"{term.name}[{step - HISTORY + 1}]", term.size, term.kind)
        for step in range(HISTORY)
        for term in PROPRIOCEPTION
    ),
    *(Term(f"goal_keypoint_pos_h[+{step + 1}]", 81, "points") for step in range(FUTURE)),
)
"""2370 numbers: ten frames of proprioception, oldest first, then the goals of the next ten steps."""


def size(terms: tuple[Term, ...]) -> int:
    """Return how many numbers the terms hold together."""
    return sum(term.size for term in terms)


def gravity_direction(base_quat_w: Array) -> Array:
    """Return the unit vector of gravity in the base frame. Shape (..., 4) to (..., 3)."""
    xp = array_namespace(base_quat_w)
    zero = xp.zeros_like(base_quat_w[..., :2])
    down = xp.concatenate([zero, zero[..., :1] - 1.0], -1)
    return quat_rotate_inverse(base_quat_w, down)


def proprioception(
    robot: Robot,
    joint_pos: Array,
    joint_vel: Array,
    base_ang_vel_b: Array,
    gravity_dir_b: Array,
    last_action: Array,
    keypoint_pos_b: Array | None = None,
) -> Array:
    """Return one frame of proprioception, `PROPRIOCEPTION` in order. Shape (..., 156).

    Args:
        robot: Gives the default pose that is subtracted, and the kinematics.
        joint_pos: In rad. Shape (..., J).
        joint_vel: In rad/s. Shape (..., J).
        base_ang_vel_b: In rad/s. Shape (..., 3).
        gravity_dir_b: Unit vector. Shape (..., 3).
        last_action: The clipped action of the step before. Shape (..., J).
        keypoint_pos_b: In m, by forward kinematics of ``joint_pos`` when None. Shape (..., K, 3).
    """
    xp = array_namespace(joint_pos)
    if keypoint_pos_b is None:
        keypoint_pos_b = keypoints_in_base(robot, joint_pos)
    default = constant_like(robot.default_joint_pos, joint_pos)
    flat = keypoint_pos_b.reshape(*keypoint_pos_b.shape[:-2], -1)
    return xp.concatenate([joint_pos - default, joint_vel, base_ang_vel_b, gravity_dir_b, last_action, flat], -1)


def push_history(history: Array, frame: Array) -> Array:
    """Drop the oldest frame and append the newest. Shapes (..., H, 156), (..., 156)."""
    xp = array_namespace(history)
    return xp.concatenate([history[..., 1:, :], frame[..., None, :]], -2)


def student_goal(goal_keypoint_pos_w: Array, origin_w: Array, base_heading: Array) -> Array:
    """Return the student's goals. Shape (..., F * K * 3).

    The paper gives no frame, and a student has no global position. Ours: positions relative to a point
    on the floor, turned by minus the robot's heading, so that the robot sees when it faces elsewhere than the goal.
    With the point under the goal root now (`HEADING_FRAME`) it cannot see that it stands elsewhere; with the
    point under its own pelvis by leg odometry (`ODOMETRY_FRAME`) it can.

    Args:
        goal_keypoint_pos_w: Goals of the coming steps, in m. Shape (..., F, K, 3).
        origin_w: Goal pelvis position now, or the estimated own one, in m; its height is not used. Shape (..., 2 or 3).
        base_heading: The robot's heading in the same world, in rad. Shape (...,).
    """
    xp = array_namespace(goal_keypoint_pos_w)
    origin = xp.concatenate([origin_w[..., :2], xp.zeros_like(origin_w[..., :1])], -1)
    relative = goal_keypoint_pos_w - origin[..., None, None, :]
    turned = rotate_heading(-base_heading[..., None, None], relative)
    return turned.reshape(*turned.shape[:-3], -1)


def student_observation(history: Array, goal: Array) -> Array:
    """Return the student's observation, `STUDENT` in order. Shapes (..., H, 156), (..., 810) to (..., 2370)."""
    xp = array_namespace(history)
    return xp.concatenate([history.reshape(*history.shape[:-2], -1), goal], -1)


def to_goal_frame(keypoints: KeypointState, goal_root_pos_w: Array, goal_root_quat_w: Array) -> KeypointState:
    """Express keypoints in the frame under the goal root that shares its heading.

    A rigid shift and turn on the floor: the global state stays complete, and the same motion looks
    the same wherever it is performed. Orientations get a non-negative scalar part.
    """
    xp = array_namespace(keypoints.pos)
    turn = -heading(goal_root_quat_w)[..., None]
    origin = xp.concatenate([goal_root_pos_w[..., :2], xp.zeros_like(goal_root_pos_w[..., :1])], -1)
    return KeypointState(
        rotate_heading(turn, keypoints.pos - origin[..., None, :]),
        quat_canonical(quat_multiply(quat_from_heading(turn) + xp.zeros_like(keypoints.quat), keypoints.quat)),
        None if keypoints.lin_vel is None else rotate_heading(turn, keypoints.lin_vel),
        None if keypoints.ang_vel is None else rotate_heading(turn, keypoints.ang_vel),
    )


def teacher_observation(
    proprio: Array, keypoints_g: KeypointState, goal_keypoint_pos_g: Array, privileged: Array
) -> Array:
    """Return the teacher's observation, `TEACHER` in order. Shape (..., 757).

    Args:
        proprio: One frame of proprioception. Shape (..., 156).
        keypoints_g: The robot's keypoints with velocities, in the goal frame of `to_goal_frame`.
        goal_keypoint_pos_g: Goals of the next step, same frame, in m. Shape (..., K, 3).
        privileged: `PRIVILEGED` in order. Shape (..., 88).
    """
    xp = array_namespace(proprio)
    lead = proprio.shape[:-1]
    parts = [
        keypoints_g.pos,
        keypoints_g.quat,
        keypoints_g.lin_vel,
        keypoints_g.ang_vel,
        goal_keypoint_pos_g,
        goal_keypoint_pos_g - keypoints_g.pos,
    ]
    return xp.concatenate([proprio, *(part.reshape(*lead, -1) for part in parts), privileged], -1)
