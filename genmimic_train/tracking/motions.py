# SPDX-License-Identifier: Apache-2.0
"""The motions to train on, as tensors: every clip from standing to standing, and its mirror image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from genmimic.core.errors import InputFileError
from genmimic.core.kinematics import KeypointState, forward_kinematics, soles_of_links
from genmimic.core.motion import CONTROL_RATE_HZ, Motion, load_motion, mirror_motion, motion_rates
from genmimic.core.reference import stand_to_stand
from genmimic.core.robot import Robot
from genmimic.retarget.cleaning import foot_contacts

_BIN_FRAMES = 50
"""Frames per bin of the failure statistics: one second."""


def find_motions(paths: Sequence[str | Path]) -> list[Path]:
    """Return the motion files named by ``paths``, folders searched. Raises InputFileError when none are."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(path.rglob("*.npz"))
        elif path.is_file():
            files.append(path)
        else:
            raise InputFileError(f"{path}: no such file or folder")
    if not files:
        raise InputFileError(f"no motions (*.npz) found in {', '.join(map(str, paths))}")
    return files


class MotionLibrary:
    """All clips end to end. Frames are addressed by one index; T frames in all."""

    def __init__(self, robot: Robot, motions: Sequence[Motion], mirror: bool = True, device: str = "cpu") -> None:
        clips = [stand_to_stand(robot, motion).motion for motion in motions]
        if mirror:
            clips += [mirror_motion(robot, clip) for clip in clips]
        rates = [motion_rates(clip) for clip in clips]
        self.names = [clip.name for clip in clips]

        def tensor(parts: list[np.ndarray]) -> torch.Tensor:
            return torch.as_tensor(np.concatenate(parts), dtype=torch.float32, device=device)

        self.joint_pos = tensor([clip.joint_pos for clip in clips])
        self.joint_vel = tensor([rate.joint_vel for rate in rates])
        self.root_pos = tensor([clip.root_pos for clip in clips])
        self.root_quat = tensor([clip.root_quat for clip in clips])
        self.root_lin_vel = tensor([rate.root_lin_vel for rate in rates])
        self.root_ang_vel = tensor([rate.root_ang_vel for rate in rates])
        keypoints = forward_kinematics(robot, self.root_pos, self.root_quat, self.joint_pos)
        self.keypoints = KeypointState(keypoints.pos.contiguous(), keypoints.quat.contiguous())
        soles = soles_of_links(robot, keypoints.pos, keypoints.quat).double().cpu().numpy()
        ends = np.cumsum([len(clip) for clip in clips])[:-1]
        self.foot_contact = torch.as_tensor(
            np.concatenate(
                [foot_contacts(part.reshape(len(part), 2, -1, 3), CONTROL_RATE_HZ) for part in np.split(soles, ends)]
            ),
            device=device,
        )
        """When which foot of the reference stands. Shape (T, 2)."""

        lengths = torch.tensor([len(clip) for clip in clips], device=device)
        self.clip_end = torch.cumsum(lengths, 0)
        self.clip_start = self.clip_end - lengths
        self.frames = int(lengths.sum())
        self.clip_of_frame = torch.repeat_interleave(torch.arange(len(clips), device=device), lengths)
        self.bin_of_frame = torch.div(torch.arange(self.frames, device=device), _BIN_FRAMES, rounding_mode="floor")
        self.failures = torch.zeros(int(self.bin_of_frame.max()) + 1, device=device)
        """How often an episode fell in each bin, decaying."""
        self._digest: str | None = None

    @classmethod
    def load(cls, robot: Robot, paths: Sequence[str | Path], mirror: bool, device: str = "cpu") -> MotionLibrary:
        """Read the motion files named by ``paths``."""
        return cls(robot, [load_motion(path, robot) for path in find_motions(paths)], mirror, device)

    @property
    def hours(self) -> float:
        """Hours of motion, mirror images and transitions included."""
        return self.frames / 50.0 / 3600.0

    def sample_frames(
        self,
        count: int,
        failure_share: float,
        generator: torch.Generator | None = None,
        clip_share: float = 0.5,
    ) -> torch.Tensor:
        """Return ``count`` start frames, ``failure_share`` of them shortly before places where episodes fall.

        Of the others, ``clip_share`` is uniform over clips, so that a short clip is not drowned by long ones, and the
        rest uniform over time. The last second of a clip is left out, since nothing follows there.
        """
        device = self.failures.device
        clips = self._draw_clips(count, generator, clip_share)
        part = torch.rand(count, generator=generator, device=device)
        frames = self.clip_start[clips] + (part * (self.clip_end - self.clip_start)[clips]).long()
        total = float(self.failures.sum())
        if failure_share > 0.0 and total > 1.0:
            bins = torch.multinomial(self.failures + 1e-6, count, replacement=True, generator=generator)
            # start up to two seconds before the place where episodes fall
            back = (torch.rand(count, generator=generator, device=device) * 2.0 * _BIN_FRAMES).long()
            hard = (bins * _BIN_FRAMES + _BIN_FRAMES // 2 - back).clamp(0, self.frames - 1)
            chosen = torch.rand(count, generator=generator, device=device) < failure_share
            frames = torch.where(chosen, hard, frames)
        clip = self.clip_of_frame[frames]
        return torch.minimum(frames, self.clip_end[clip] - _BIN_FRAMES).clamp(min=0)

    def sample_clips(
        self, count: int, generator: torch.Generator | None = None, clip_share: float = 0.5
    ) -> torch.Tensor:
        """Return the first frame of ``count`` clips, drawn as in `sample_frames`."""
        return self.clip_start[self._draw_clips(count, generator, clip_share)]

    def _draw_clips(self, count: int, generator: torch.Generator | None, clip_share: float) -> torch.Tensor:
        device = self.failures.device
        by_time = self.clip_of_frame[(torch.rand(count, generator=generator, device=device) * self.frames).long()]
        by_clip = (torch.rand(count, generator=generator, device=device) * len(self.clip_start)).long()
        over_time = torch.rand(count, generator=generator, device=device) < 1.0 - clip_share
        return torch.where(over_time, by_time, by_clip)

    def record_failures(self, frames: torch.Tensor, decay: float = 0.999) -> None:
        """Count episodes that fell at ``frames`` (n,)."""
        self.failures *= decay
        if len(frames):
            self.failures.index_add_(0, self.bin_of_frame[frames], torch.ones_like(frames, dtype=torch.float32))

    def digest(self) -> str:
        """Return a short hash of what is trained on."""
        if self._digest is None:
            data = self.joint_pos.cpu().numpy().tobytes() + self.root_pos.cpu().numpy().tobytes()
            self._digest = hashlib.sha256(data).hexdigest()[:16]
        return self._digest
