# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics: the robot's pose, frame by frame, that comes closest to given keypoints.

A step is one quadratic programme: the weighted squared error of all keypoints, linearised, within the joints' ranges
and speeds and, where asked for, with the robot's parts kept apart. MuJoCo gives kinematics, Jacobians and distances,
daqp solves. The formulation is mink's (Levenberg-Marquardt steps with limits as constraints); it is written out here
because ranges and speeds as plain bounds, and one Jacobian for all keypoints, take half of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from genmimic.core.errors import MissingDependencyError
from genmimic.core.motion import CONTROL_RATE_HZ
from genmimic.core.robot import Robot
from genmimic.core.rotation import quat_normalize

SETTLE_STEPS = 100
"""Most steps that the first frame takes, and the change (m, rad) below which it has settled."""

SETTLED = 1e-6

SETTLE_STEP_RAD = 0.15
"""Largest step of a joint on that way when parts are kept apart: a longer one could pass through."""

UNLIMITED = 1e30
"""What daqp takes for no bound."""

NEAR = 0.06
"""Parts nearer than this, in m, beyond their clearance, are watched."""

MAX_SEPARATION_STEP = 0.02
"""Metres that parts which are too close are pushed apart in one step."""

_SOFT = 8  # daqp: a constraint that gives way rather than leave the problem without a solution


@dataclass(frozen=True)
class IkWeights:
    """How much each part of the target counts; only ratios matter.

    Attributes:
        position: Per keypoint, in 1/m; a keypoint that is not named gets ``rest``, and is left out when that is 0.
        orientation: Per keypoint (of its link), in 1/rad; one that is not named is free.
        rest: Position weight of the others.
        pose: Per joint, by a part of its name: pull to a given pose, in 1/rad; ``rest_pose`` for the others.
        damping: Pull to the previous frame, without unit.
    """

    position: Mapping[str, float] = field(default_factory=dict)
    orientation: Mapping[str, float] = field(default_factory=dict)
    rest: float = 0.3
    pose: Mapping[str, float] = field(default_factory=dict)
    rest_pose: float = 0.02
    damping: float = 1e-3


G1_TO_G1_WEIGHTS = IkWeights(
    position={
        "pelvis": 0.6,
        "left_knee": 0.8, "right_knee": 0.8,
        "left_ankle_roll": 20.0, "right_ankle_roll": 20.0,
        "torso": 0.6,
        "left_elbow": 2.0, "right_elbow": 2.0,
        "left_wrist_roll": 2.0, "right_wrist_roll": 2.0,
        "head": 4.0, "left_hand": 4.0, "right_hand": 4.0,
    },
    orientation={
        "pelvis": 0.25,
        "torso": 0.4,
        "left_ankle_roll": 4.0, "right_ankle_roll": 4.0,
        "left_wrist_roll": 0.05, "right_wrist_roll": 0.05,
    },
    pose={"shoulder": 0.3, "elbow": 0.3, "wrist": 0.1, "waist": 0.05},
)  # fmt: skip
"""Feet first, then hands and head; the pelvis gives way, because it must stand in for the waist we lack. The arms
are pulled to the source's angles, because the keypoints alone leave a choice between two arm poses."""


class KeypointIk:
    """Follow keypoints from frame to frame, each solution starting at the one before.

    Args:
        robot: The robot to move.
        weights: What counts how much.
        rate_hz: Of the frames; turns the speed limit into a step.
        iterations: Steps per frame.
        speed_fraction: Joint speed limit as a part of the motor's.
        limit_margin: Distance that is kept from the joint limits, in rad.
        knee_min: Least bend of the knees, in rad: a straight leg snaps, and this costs 2 mm of reach.
        clearance: Distance in m to keep between arms and body, between the arms and between the legs; None: any.
        hip_yaw_max: Limit of the hips' yaw, in rad; None: the joint's. Keeps a leg from turning around backwards.

    Raises:
        MissingDependencyError: daqp or mujoco is not installed.
    """

    def __init__(
        self,
        robot: Robot,
        weights: IkWeights = G1_TO_G1_WEIGHTS,
        rate_hz: float = CONTROL_RATE_HZ,
        iterations: int = 2,
        speed_fraction: float = 0.6,
        limit_margin: float = 0.01,
        knee_min: float = 0.15,
        clearance: float | None = None,
        hip_yaw_max: float | None = None,
    ) -> None:
        try:
            import daqp
            import mujoco
        except ImportError as error:
            raise MissingDependencyError(
                f"retargeting needs daqp and mujoco ({error}); pip install 'genmimic-ros[retarget]'"
            ) from None
        self.robot = robot
        self.solutions = 0
        """Quadratic programmes solved so far."""
        self._mujoco, self._daqp = mujoco, daqp
        self._iterations = iterations
        self._clearance = clearance
        model = _model(robot, clearance)
        self._model, self._data = model, mujoco.MjData(model)
        knees = [idx for idx, name in enumerate(robot.joint_names) if "knee" in name]
        self._lower, self._upper = robot.joint_lower + limit_margin, robot.joint_upper - limit_margin
        self._lower[knees] = knee_min
        if hip_yaw_max is not None:
            yaws = [idx for idx, name in enumerate(robot.joint_names) if "hip_yaw" in name]
            self._lower[yaws] = np.maximum(self._lower[yaws], -hip_yaw_max)
            self._upper[yaws] = np.minimum(self._upper[yaws], hip_yaw_max)
        self._step = np.full(model.nv, UNLIMITED)
        self._step[6:] = speed_fraction * robot.joint_speed / (rate_hz * iterations)
        self._settle_step = np.full(model.nv, UNLIMITED)
        if clearance is not None:
            self._settle_step[6:] = SETTLE_STEP_RAD
        pulls = [
            next((pull for part, pull in weights.pose.items() if part in name), weights.rest_pose)
            for name in robot.joint_names
        ]
        self._pull = np.concatenate([np.zeros(6), np.square(pulls)])
        self._ridge = np.diag(self._pull + weights.damping)
        self._aim_at(weights)
        self._no_rows = np.zeros((0, model.nv))

    def _aim_at(self, weights: IkWeights) -> None:
        """Choose the keypoints that count, and the rows of the Jacobian that they fill."""
        robot, model = self.robot, self._model
        cost = np.array([weights.position.get(name, weights.rest) for name in robot.keypoint_names])
        self._points = np.flatnonzero(cost > 0.0)
        self._sites = np.array([model.site(f"kp_{robot.keypoint_names[idx]}").id for idx in self._points])
        self._turned = robot.keypoint_idx(list(weights.orientation))
        self._turned_links = np.array(
            [model.site_bodyid[model.site(f"kp_{robot.keypoint_names[idx]}").id] for idx in self._turned], int
        )
        self._weight = np.concatenate(
            [np.repeat(cost[self._points], 3), np.repeat(list(weights.orientation.values()), 3)]
        )
        links = np.concatenate([model.site_bodyid[self._sites], self._turned_links])
        self._moved = np.array([self._ancestry(body) for body in range(model.nbody)])
        self._moved_by = self._moved[links][:, None, :]  # (rows, 1, nv)
        self._jacobian = np.empty((len(links), 3, model.nv))
        self._skew = np.zeros((len(self._points), 3, 3))

    def _ancestry(self, body: int) -> np.ndarray:
        """Return 1 for each degree of freedom that moves ``body``, else 0. Shape (nv,)."""
        model = self._model
        mask = np.zeros(model.nv)
        while body:
            first, count = model.body_dofadr[body], model.body_dofnum[body]
            mask[first : first + count] = 1.0
            body = model.body_parentid[body]
        return mask

    def start(self, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray) -> None:
        """Set the pose that the next solution starts from. Shapes (3,), (4,), (J,)."""
        joint_pos = np.clip(joint_pos, self._lower, self._upper)
        self._data.qpos[:] = np.concatenate([root_pos, root_quat, joint_pos])
        self._update()

    def solve(
        self, keypoint_pos: np.ndarray, keypoint_quat: np.ndarray, pose: np.ndarray, settle: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return root position (3,), orientation (4,) and joints (J,) for one frame.

        Args:
            keypoint_pos: World frame, in m. Shape (K, 3).
            keypoint_quat: Orientation of each keypoint's link, wxyz. Shape (K, 4).
            pose: Joints to lean to where the keypoints leave a choice. Shape (J,).
            settle: Take many steps and ignore the speed limit: for the first frame.
        """
        goal_pos, goal_quat = keypoint_pos[self._points], keypoint_quat[self._turned]
        qpos = self._data.qpos
        for _ in range(SETTLE_STEPS if settle else self._iterations):
            moved = self._take_step(goal_pos, goal_quat, pose, settle)
            if settle and moved < SETTLED:
                break
        return qpos[:3].copy(), quat_normalize(qpos[3:7]), np.clip(qpos[7:], self._lower, self._upper)

    def follow(
        self, keypoint_pos: np.ndarray, keypoint_quat: np.ndarray, pose: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return root position (T, 3), orientation (T, 4) and joints (T, J) for a whole clip.

        Args:
            keypoint_pos: Shape (T, K, 3). The pelvis must be the first keypoint.
            keypoint_quat: Shape (T, K, 4).
            pose: Joints to lean to; None is the standing pose. Shape (T, J).
        """
        if pose is None:
            pose = np.broadcast_to(self.robot.default_joint_pos, (len(keypoint_pos), self.robot.num_joints))
        self.start(keypoint_pos[0, 0], keypoint_quat[0, 0], pose[0])
        frames = enumerate(zip(keypoint_pos, keypoint_quat, pose, strict=True))
        poses = [self.solve(*frame, settle=idx == 0) for idx, frame in frames]
        root_pos, root_quat, joint_pos = (np.array(part) for part in zip(*poses, strict=True))
        return root_pos, root_quat, joint_pos

    def _take_step(self, goal_pos: np.ndarray, goal_quat: np.ndarray, pose: np.ndarray, settle: bool) -> float:
        """Move towards the goal; return the largest change of a coordinate."""
        data, weight = self._data, self._weight
        points = data.site_xpos[self._sites]
        error = np.concatenate([(points - goal_pos).ravel(), _turn(data.xquat[self._turned_links], goal_quat).ravel()])
        rows = self._jacobian_at(points).reshape(len(weight), -1) * weight[:, None]
        joints = data.qpos[7:]
        gradient = rows.T @ (weight * error)
        gradient[6:] += self._pull[6:] * (joints - pose)
        limit = self._settle_step if settle else self._step
        high, low = limit.copy(), -limit
        high[6:], low[6:] = np.minimum(high[6:], self._upper - joints), np.maximum(low[6:], self._lower - joints)
        apart, room = self._no_rows, None
        if self._clearance is not None:
            apart, room = self._separation()
        if room is not None:
            high, low = np.concatenate([high, np.full(len(room), UNLIMITED)]), np.concatenate([low, room])
        sense: np.ndarray = np.zeros(len(high), np.int32)
        sense[len(gradient) :] = _SOFT
        step, _, flag, _ = self._daqp.solve(rows.T @ rows + self._ridge, gradient, apart, high, low, sense)
        self.solutions += 1
        if flag <= 0:  # stay: the next frame tries again
            return 0.0
        self._mujoco.mj_integratePos(self._model, data.qpos, step, 1.0)
        self._update()
        return float(np.abs(step).max())

    def _update(self) -> None:
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_comPos(self._model, self._data)
        if self._clearance is not None:
            self._mujoco.mj_collision(self._model, self._data)

    def _jacobian_at(self, points: np.ndarray) -> np.ndarray:
        """Return d(position)/dq of the keypoints, then d(rotation)/dq of the turned links. Shape (rows, 3, nv)."""
        data, count = self._data, len(points)
        spin, slide = data.cdof[:, :3].T, data.cdof[:, 3:].T  # about the tree's centre of mass
        arm = points - data.subtree_com[1]
        skew = self._skew  # of -arm, so that skew @ spin = spin x arm
        skew[:, 0, 1], skew[:, 1, 0] = arm[:, 2], -arm[:, 2]
        skew[:, 0, 2], skew[:, 2, 0] = -arm[:, 1], arm[:, 1]
        skew[:, 1, 2], skew[:, 2, 1] = arm[:, 0], -arm[:, 0]
        jacobian = self._jacobian
        np.matmul(skew, spin, out=jacobian[:count])
        jacobian[:count] += slide
        jacobian[count:] = spin
        jacobian *= self._moved_by
        return jacobian

    def _separation(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return rows (C, nv) and least changes (C,) of the distances between parts that are close."""
        data = self._data
        if not data.ncon:
            return self._no_rows, None
        contact = data.contact
        normal = contact.frame[:, :3]  # from the first to the second
        bodies = self._model.geom_bodyid[contact.geom]
        spin, slide = data.cdof[:, :3], data.cdof[:, 3:]
        arm = contact.pos - data.subtree_com[1]
        rows = normal @ slide.T + _cross(arm, normal) @ spin.T
        rows *= self._moved[bodies[:, 1]] - self._moved[bodies[:, 0]]
        return rows, np.minimum((self._clearance or 0.0) - contact.dist, MAX_SEPARATION_STEP)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cross products; shapes (n, 3). NumPy's own is slow for few vectors."""
    ax, ay, az = a.T
    bx, by, bz = b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


@lru_cache(maxsize=4)
def _model(robot: Robot, clearance: float | None):  # noqa: ANN202
    """Return the compiled robot, shared and not to be changed; with ``clearance``, parts that are near are contacts."""
    from genmimic.sim.mjcf import build_model

    model = build_model(robot, visuals=False, self_collision=clearance is not None, fall_contact=False, tether=False)
    if clearance is not None:
        model.geom_contype[model.geom("floor").id] = 0
        model.geom_margin[:] = 0.5 * (clearance + NEAR)  # of a pair: the sum
    return model


_TURN_IDX = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
_TURN_SIGN = np.array([[1, 1, 1, 1], [-1, 1, -1, 1], [-1, 1, 1, -1], [-1, -1, 1, 1]], float)


def _turn(quat: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return the rotation vectors from ``goal`` to ``quat``. Shapes (n, 4) to (n, 3)."""
    delta = np.matmul(goal[:, _TURN_IDX] * _TURN_SIGN, quat[:, :, None])[:, :, 0]  # quat times goal's inverse
    real, vector = delta[:, :1], delta[:, 1:]
    vector = np.where(real < 0.0, -vector, vector)
    norm = np.sqrt((vector * vector).sum(-1, keepdims=True))
    angle = 2.0 * np.arctan2(norm, np.abs(real))
    return vector * np.where(norm > 1e-9, angle / np.maximum(norm, 1e-9), 2.0)
