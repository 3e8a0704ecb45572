# SPDX-License-Identifier: Apache-2.0
"""Damaged references as training noise (paper C.2.3): what a policy sees of its goal, made beforehand.

Rewards, terminations and the critic keep the undamaged goal, as with Table 8's noise on goals.
"""

from __future__ import annotations

import numpy as np
import torch

from genmimic.check.corrupt import corrupt
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.robot import Robot
from genmimic_train.config import CorruptionConfig
from genmimic_train.tracking.motions import MotionLibrary


class CorruptedGoals:
    """Damaged copies of a whole motion library; variant 0 is the library itself."""

    def __init__(self, keypoint_pos: torch.Tensor, joint_pos: torch.Tensor, share: float) -> None:
        """Take goals as seen, of each variant. Shapes (1 + V, T, K, 3), (1 + V, T, J)."""
        self._keypoint_pos, self._joint_pos, self._share = keypoint_pos, joint_pos, share

    @classmethod
    def build(cls, robot: Robot, library: MotionLibrary, config: CorruptionConfig, seed: int) -> CorruptedGoals:
        """Damage every clip ``config.variants`` times, each time in one way drawn from ``config``; seeded."""
        rng = np.random.default_rng(seed)
        device = library.joint_pos.device
        keypoint_pos, joint_pos = [library.keypoints.pos], [library.joint_pos]
        for _ in range(config.variants):
            joints, roots, quats = [], [], []
            for clip in clips_of(robot, library):
                kind = str(rng.choice(config.kinds))
                damaged = corrupt(robot, clip, kind, float(rng.uniform(*config.level)), int(rng.integers(2**31)))
                joints.append(damaged.joint_pos)
                roots.append(damaged.root_pos)
                quats.append(damaged.root_quat)
            joint, root, quat = (
                torch.as_tensor(np.concatenate(parts), dtype=torch.float32, device=device)
                for parts in (joints, roots, quats)
            )
            keypoint_pos.append(forward_kinematics(robot, root, quat, joint).pos)
            joint_pos.append(joint)
        return cls(torch.stack(keypoint_pos), torch.stack(joint_pos), config.share)

    def draw(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return the variant that each of ``count`` new episodes sees. Shape (count,)."""
        device = self._keypoint_pos.device
        first, second = torch.rand(2, count, generator=generator, device=device)
        variant = 1 + (second * (len(self._keypoint_pos) - 1)).long()
        return torch.where(first < self._share, variant, torch.zeros_like(variant))

    def keypoints_of(self, variant: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return goal keypoints as seen. Shapes (N,), (N, F) to (N, F, K, 3)."""
        return self._keypoint_pos[variant[:, None], frames]

    def joint_pos_of(self, variant: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return goal angles as seen. Shapes (N,), (N,) to (N, J)."""
        return self._joint_pos[variant, frames]


def clips_of(robot: Robot, library: MotionLibrary) -> list[Motion]:
    """Return the clips of a library, as they are in it, at the control rate."""
    clips = []
    for number, name in enumerate(library.names):
        part = slice(int(library.clip_start[number]), int(library.clip_end[number]))
        joint_pos, root_pos, root_quat = (
            values[part].double().cpu().numpy() for values in (library.joint_pos, library.root_pos, library.root_quat)
        )
        clips.append(Motion.from_joints(robot, CONTROL_RATE_HZ, joint_pos, root_pos, root_quat, name))
    return clips
