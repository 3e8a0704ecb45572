# SPDX-License-Identifier: Apache-2.0
"""The contract between an exported policy and whatever runs it; carried in the ONNX file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from genmimic.core.errors import ManifestError
from genmimic.core.motion import CONTROL_RATE_HZ
from genmimic.core.observation import FUTURE, GOAL_FRAMES, HEADING_FRAME, HISTORY, PROPRIOCEPTION, STUDENT, size
from genmimic.core.robot import Robot

POLICY_FORMAT = "genmimic-policy/1"
METADATA_PREFIX = "genmimic."
PHYSICS_RATE_HZ = 200.0
_TOLERANCE = 1e-6
_GOLDEN_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PolicyManifest:
    """All that must agree before a policy may move a robot; plain types, joint and keypoint order included.

    ``golden_seed`` and ``golden_action`` are a recorded input and its output: the input is
    ``numpy.random.default_rng(golden_seed).standard_normal(observation_size)`` in float32.
    """

    format: str
    robot: str
    joint_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    default_joint_pos: tuple[float, ...]
    kp: tuple[float, ...]
    kd: tuple[float, ...]
    action_scale: float
    action_clip: float
    proprioception: tuple[tuple[str, int], ...]
    history: int
    goal_future: int
    goal_frame: str
    control_rate_hz: float
    physics_rate_hz: float
    golden_seed: int = 0
    golden_action: tuple[float, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    """Run, revision, samples, motion-set hash: for people and reports; not checked."""

    @classmethod
    def for_robot(
        cls, robot: Robot, training: Mapping[str, Any] | None = None, goal_frame: str = HEADING_FRAME
    ) -> PolicyManifest:
        """Return the manifest of a student made by this version for ``robot``.

        ``goal_frame``: one of the values of `GOAL_FRAMES`.
        """
        return cls(
            format=POLICY_FORMAT,
            robot=robot.name,
            joint_names=robot.joint_names,
            keypoint_names=robot.keypoint_names,
            default_joint_pos=_floats(robot.default_joint_pos),
            kp=_floats(robot.kp),
            kd=_floats(robot.kd),
            action_scale=robot.action_scale,
            action_clip=robot.action_clip,
            proprioception=tuple((term.name, term.size) for term in PROPRIOCEPTION),
            history=HISTORY,
            goal_future=FUTURE,
            goal_frame=goal_frame,
            control_rate_hz=CONTROL_RATE_HZ,
            physics_rate_hz=PHYSICS_RATE_HZ,
            training=dict(training or {}),
        )

    @property
    def observation_size(self) -> int:
        """Numbers in the policy's input."""
        return size(STUDENT)

    def to_metadata(self) -> dict[str, str]:
        """Return the manifest as the text pairs of an ONNX file."""
        return {METADATA_PREFIX + key: json.dumps(value) for key, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> PolicyManifest:
        """Read a manifest. Raises ManifestError that names ``where`` and the entry that is missing or damaged."""
        if METADATA_PREFIX + "format" not in metadata:
            raise ManifestError(f"{where}: no GenMimic manifest in its metadata; export it with genmimic-train export")
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = metadata.get(METADATA_PREFIX + item.name)
            if text is None:
                raise ManifestError(f"{where}: the manifest lacks {item.name!r}")
            try:
                values[item.name] = _frozen(json.loads(text)) if item.name != "training" else json.loads(text)
            except json.JSONDecodeError:
                raise ManifestError(f"{where}: the manifest's {item.name!r} is damaged: {text[:40]!r}") from None
        return cls(**values)

    def check(self, robot: Robot, where: str) -> None:
        """Refuse a policy that was not made for this robot and this runtime.

        Raises:
            ManifestError: Names the first entry that differs, what it is and what was expected.
        """
        if self.goal_frame not in GOAL_FRAMES.values():
            known = " or ".join(map(repr, GOAL_FRAMES.values()))
            raise ManifestError(f"{where}: goal_frame is {self.goal_frame!r}, expected {known}")
        expected = PolicyManifest.for_robot(robot, goal_frame=self.goal_frame)
        for item in fields(self):
            if item.name in ("golden_seed", "golden_action", "training"):
                continue
            found, wanted = getattr(self, item.name), getattr(expected, item.name)
            if not _same(found, wanted):
                raise ManifestError(f"{where}: {_difference(item.name, found, wanted, robot.name)}")
        if len(self.golden_action) != robot.num_joints:
            raise ManifestError(
                f"{where}: golden_action has {len(self.golden_action)} numbers, expected {robot.num_joints}"
            )

    def golden_observation(self) -> np.ndarray:
        """Return the recorded input. Shape (N,), float32."""
        return np.random.default_rng(self.golden_seed).standard_normal(self.observation_size).astype(np.float32)

    def check_golden(self, action: np.ndarray, where: str) -> None:
        """Refuse a policy whose output for `golden_observation` is not what was recorded. Shape (J,)."""
        worst = float(np.abs(np.asarray(self.golden_action) - action).max())
        if not worst <= _GOLDEN_TOLERANCE:
            raise ManifestError(
                f"{where}: its answer to the recorded input is {worst:.2g} off the recorded output "
                f"(limit {_GOLDEN_TOLERANCE:g}); the file is damaged or the runtime computes something else"
            )


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(found, (int, float)) and abs(found - wanted) <= _TOLERANCE
    if isinstance(wanted, tuple):
        return isinstance(found, tuple) and len(found) == len(wanted) and all(map(_same, found, wanted))
    return found == wanted


def _difference(name: str, found: Any, wanted: Any, robot: str) -> str:
    if not isinstance(wanted, tuple):
        return f"{name} is {found!r}, expected {wanted!r}"
    if not isinstance(found, tuple) or len(found) != len(wanted):
        count = len(found) if isinstance(found, tuple) else "no"
        extra = [str(item) for item in found if item not in wanted] if isinstance(found, tuple) else []
        return f"{name} has {count} entries but robot {robot!r} needs {len(wanted)}" + (
            f"; extra: {', '.join(extra[:4])}" if extra else ""
        )
    at = next(idx for idx, pair in enumerate(zip(found, wanted, strict=True)) if not _same(*pair))
    return f"{name}[{at}] is {found[at]!r}, expected {wanted[at]!r} for robot {robot!r}"
