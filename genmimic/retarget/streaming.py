# SPDX-License-Identifier: Apache-2.0
"""Retarget a live source: one human frame in, one robot pose out, in the same call.

Targets and inverse kinematics are those of whole clips (`genmimic.retarget.human`); what a clip finds by looking ahead
(proportions, floor, standing feet) is found here from what has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genmimic.core.errors import MotionError
from genmimic.core.human import HumanMotion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import heading, quat_from_heading, quat_rotate, quat_slerp
from genmimic.retarget.human import (
    CLEARANCE_M,
    HIP_YAW_MAX,
    HUMAN_WEIGHTS,
    SPEED_FRACTION,
    feet_of,
    sole_offsets,
    soles_at,
)
from genmimic.retarget.human_pose import Proportions, paired_points, proportions, targets
from genmimic.retarget.ik import KeypointIk

CALIBRATION_S = 1.0
"""Time over which the person's proportions are measured; after it they stay."""

_STAND = (0.03, 0.3)  # a foot starts to stand below this height (m) and speed (m/s)
_LEAVE = (0.06, 0.6)  # and stops above one of these
_SLACK = 0.04  # m by which a standing foot may be away from its anchor before the anchor follows
_RELEASE_S = 0.12  # time constant with which a foot that left returns to the person's
_FLOOR_S, _FLIGHT_S = 0.15, 1.5  # time constants of the floor's height below a foot that is near, or far above it


@dataclass(frozen=True)
class StreamedPose:
    """The robot's pose for one frame: m, wxyz, rad.

    Attributes:
        root_pos: Shape (3,).
        root_quat: Shape (4,).
        joint_pos: Shape (J,).
        contacts: Whether the left, the right foot stands. Shape (2,).
    """

    root_pos: np.ndarray
    root_quat: np.ndarray
    joint_pos: np.ndarray
    contacts: np.ndarray


class StreamingRetargeter:
    """Turns frames of a person into poses of the robot, one for one.

    Args:
        joint_names: Of the frames that will come, see `genmimic.core.human.HUMAN_JOINTS`.
        rate_hz: Of the frames.
        robot: The robot.
        fixed: The person's proportions, where they are known; else the first second tells.

    Raises:
        MotionError: A joint that is needed is not among the names.
        MissingDependencyError: daqp or mujoco is not installed.
    """

    def __init__(
        self, joint_names: tuple[str, ...], rate_hz: float, robot: Robot = G1_23DOF, fixed: Proportions | None = None
    ) -> None:
        if not 1.0 <= rate_hz <= 1000.0:
            raise MotionError(f"rate is {rate_hz:g} Hz, expected 1 to 1000")
        self._names, self._rate, self._robot = joint_names, rate_hz, robot
        self._ik = KeypointIk(
            robot, HUMAN_WEIGHTS, rate_hz, 2, SPEED_FRACTION, clearance=CLEARANCE_M, hip_yaw_max=HIP_YAW_MAX
        )
        self._feet, self._offset = feet_of(robot), sole_offsets(robot)
        self._fixed = fixed
        self._seen: list[dict[str, np.ndarray]] | None = [] if fixed is None else None
        self._started = False
        self._lift = 0.0
        self._contacts: np.ndarray = np.zeros(2, bool)
        self._anchor, self._away = np.zeros((2, 3)), np.zeros((2, 3))  # away: target minus the person's foot
        self._level = np.zeros(2)
        self._last = np.zeros((2, 3))
        paired_points(self._person(np.zeros((len(joint_names), 3))))  # names that are missing are said at once

    def push(self, joint_pos: np.ndarray) -> StreamedPose:
        """Return the robot's pose for one frame of the person, in m, world, z up. Shape (J, 3).

        Raises:
            MotionError: The frame has another shape, or holds a number that is not finite.
        """
        joint_pos = np.asarray(joint_pos, float)
        if joint_pos.shape != (len(self._names), 3):
            raise MotionError(f"frame has shape {joint_pos.shape}, expected ({len(self._names)}, 3)")
        points = {name: path[:1] for name, path in paired_points(self._person(joint_pos)).items()}
        wanted = targets(points, self._proportions(joint_pos, points), self._robot)
        pos, quat = wanted.pos[0], wanted.quat[0]
        used = (pos != 0.0).any(-1)
        self._ground(pos, quat, used)
        settle = not self._started
        if settle:
            self._ik.start(pos[0], quat[0], self._robot.default_joint_pos)
            self._started = True
        root_pos, root_quat, joints = self._ik.solve(pos, quat, self._robot.default_joint_pos, settle=settle)
        return StreamedPose(root_pos, root_quat, joints, self._contacts.copy())

    def _person(self, joint_pos: np.ndarray) -> HumanMotion:
        both = np.stack([joint_pos, joint_pos])
        return HumanMotion(self._rate, self._names, both, np.ones(both.shape[:2]), "live")

    def _proportions(self, joint_pos: np.ndarray, points: dict[str, np.ndarray]) -> Proportions:
        if self._seen is not None:
            self._seen.append(points)
            if len(self._seen) >= CALIBRATION_S * self._rate or self._fixed is None or len(self._seen) % 5 == 0:
                seen = {name: np.concatenate([frame[name] for frame in self._seen]) for name in points}
                self._fixed = proportions(seen, self._robot)
            if len(self._seen) >= CALIBRATION_S * self._rate:
                self._seen = None
        assert self._fixed is not None
        return self._fixed

    def _ground(self, pos: np.ndarray, quat: np.ndarray, used: np.ndarray) -> None:
        """Put the pose on the floor, hold standing feet still and level; changes ``pos`` and ``quat``."""
        dt, feet = 1.0 / self._rate, self._feet
        soles = soles_at(pos[None, feet], quat[None, feet], self._offset)[0]  # (2, S, 3)
        lowest = float(soles[..., 2].min())
        if not self._started:
            self._lift, self._last = -lowest, pos[feet] + [0.0, 0.0, -lowest]
        gap = lowest + self._lift
        self._lift -= gap if gap < 0.0 else gap * min(1.0, dt / (_FLOOR_S if gap < 0.05 else _FLIGHT_S))
        pos[used, 2] += self._lift
        speed = np.linalg.norm(pos[feet] - self._last, axis=-1) / dt
        self._last = pos[feet].copy()
        height = soles[..., 2].min(-1) + self._lift

        shift, standing = np.zeros(3), 0
        for side, foot in enumerate(feet):
            stood = self._contacts[side]
            limit = _LEAVE if stood else _STAND
            stands = height[side] < limit[0] and speed[side] < limit[1]
            own = pos[foot].copy()
            if stands and not stood:
                self._anchor[side] = own + self._away[side]
            self._contacts[side] = stands
            self._level[side] = np.clip(self._level[side] + (dt if stands else -dt) / 0.1, 0.0, 1.0)
            flat = quat_from_heading(np.asarray(heading(quat[foot])))
            quat[foot] = quat_slerp(quat[foot], flat, np.asarray(self._level[side]))
            if stands:
                off = own[:2] - self._anchor[side, :2]
                far = float(np.linalg.norm(off))
                if far > _SLACK:
                    self._anchor[side, :2] += off * (1.0 - _SLACK / far)
                sole = quat_rotate(quat[foot], self._offset[side])[:, 2].min()
                self._away[side, :2] = self._anchor[side, :2] - own[:2]
                self._away[side, 2] += min(1.0, dt / 0.05) * (-float(sole) - own[2] - self._away[side, 2])
                shift, standing = shift + self._away[side], standing + 1
            else:
                self._away[side] *= np.exp(-dt / _RELEASE_S)
            pos[foot] = own + self._away[side]
        if standing:
            body = used.copy()
            body[feet] = False
            pos[body] += shift / standing
        under = soles_at(pos[None, feet], quat[None, feet], self._offset)[0][..., 2].min(-1)
        pos[feet, 2] += np.maximum(0.0, -under)
