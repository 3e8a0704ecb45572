# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics: the robot's pose, frame by frame, that comes closest to given keypoints.

mink builds the quadratic programme, daqp solves it. All keypoints are one task, so a step costs one Jacobian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from genmimic.core.errors import MissingDependencyError
from genmimic.core.motion import CONTROL_RATE_HZ
from genmimic.core.robot import Robot
from genmimic.core.rotation import quat_conjugate, quat_multiply, quat_normalize, quat_to_rotation_vector

SOLVER = "daqp"


@dataclass(frozen=True)
class IkWeights:
    """How much each part of the target counts; only ratios matter.

    Attributes:
        position: Per keypoint, in 1/m; a keypoint that is not named gets ``rest``.
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

    Raises:
        MissingDependencyError: mink or daqp is not installed.
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
    ) -> None:
        try:
            import daqp  # noqa: F401
            import mink
            import mujoco
        except ImportError as error:
            raise MissingDependencyError(
                f"retargeting needs mink, daqp and mujoco ({error}); pip install 'genmimic-ros[retarget]'"
            ) from None
        from genmimic.sim.mjcf import build_model

        self.robot = robot
        self._mink = mink
        self._iterations = iterations
        self._dt = 1.0 / (rate_hz * iterations)
        self._model = build_model(robot, visuals=False, self_collision=False, fall_contact=False, tether=False)
        self._configuration = mink.Configuration(self._model)
        knees = [idx for idx, name in enumerate(robot.joint_names) if "knee" in name]
        self._lower, self._upper = robot.joint_lower + limit_margin, robot.joint_upper - limit_margin
        self._lower[knees] = knee_min
        self._model.jnt_range[1:] = np.stack([self._lower, self._upper], -1)  # joint 0 is the free pelvis
        self._targets = _keypoint_task(mink, mujoco, self._model, robot, weights)
        pulls = [
            next((pull for part, pull in weights.pose.items() if part in name), weights.rest_pose)
            for name in robot.joint_names
        ]
        self._posture = mink.PostureTask(self._model, cost=[0.0] * 6 + pulls)
        self._tasks = [self._targets, self._posture]
        self._damping = weights.damping
        speed = {joint.name: speed_fraction * joint.speed for joint in robot.joints}
        self._range_limit = mink.ConfigurationLimit(self._model, gain=1.0)
        self._speed_limit = mink.VelocityLimit(self._model, speed)

    def start(self, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray) -> None:
        """Set the pose that the next solution starts from. Shapes (3,), (4,), (J,)."""
        joint_pos = np.clip(joint_pos, self._lower, self._upper)
        self._configuration.update(self._qpos(root_pos, root_quat, joint_pos))

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
        self._targets.aim(keypoint_pos, keypoint_quat)
        self._posture.set_target(self._qpos(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), pose))
        limits = [self._range_limit] if settle else [self._range_limit, self._speed_limit]
        for _ in range(100 if settle else self._iterations):
            velocity = self._mink.solve_ik(
                self._configuration, self._tasks, self._dt, SOLVER, damping=self._damping, limits=limits
            )
            self._configuration.integrate_inplace(velocity, self._dt)
        qpos = self._configuration.q
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

    def _qpos(self, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray) -> np.ndarray:
        return np.concatenate([root_pos, root_quat, joint_pos])


def _keypoint_task(mink, mujoco, model, robot: Robot, weights: IkWeights):  # noqa: ANN001, ANN202
    """Build the task; the class is made here, so that importing this module does not load mink."""

    class KeypointTask(mink.Task):
        """Error of all keypoint positions and of some orientations, in the world frame."""

        def __init__(self) -> None:
            names = robot.keypoint_names
            self._site = np.array([model.site(f"kp_{name}").id for name in names])
            self._turned = robot.keypoint_idx(list(weights.orientation))
            position = [weights.position.get(name, weights.rest) for name in names]
            cost = np.concatenate([np.repeat(position, 3), np.repeat(list(weights.orientation.values()), 3)])
            super().__init__(cost=cost, gain=1.0, lm_damping=0.0)
            self._link = np.array([model.site_bodyid[site] for site in self._site])
            self._jacobian = np.zeros((len(cost), model.nv))
            self._rows = 3 * len(names)
            rotation = {int(key): self._rows + 3 * n for n, key in enumerate(self._turned)}
            self._slices = [(int(site), 3 * key, rotation.get(key)) for key, site in enumerate(self._site)]

        def aim(self, pos: np.ndarray, quat: np.ndarray) -> None:
            self._pos, self._quat = pos, quat[self._turned]

        def compute_error(self, configuration) -> np.ndarray:  # noqa: ANN001
            data = configuration.data
            moved = data.site_xpos[self._site] - self._pos
            turn = quat_multiply(data.xquat[self._link[self._turned]], quat_conjugate(self._quat))
            return np.concatenate([moved.ravel(), quat_to_rotation_vector(turn).ravel()])

        def compute_jacobian(self, configuration) -> np.ndarray:  # noqa: ANN001
            data, jacobian = configuration.data, self._jacobian
            for site, row, turned in self._slices:
                rotation = None if turned is None else jacobian[turned : turned + 3]
                mujoco.mj_jacSite(model, data, jacobian[row : row + 3], rotation, site)
            return jacobian

    return KeypointTask()
