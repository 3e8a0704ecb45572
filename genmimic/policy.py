# SPDX-License-Identifier: Apache-2.0
"""An exported policy behind its manifest: loaded, checked, then called 50 times a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genmimic.core.errors import ConfigError, InputFileError, ManifestError
from genmimic.core.manifest import PolicyManifest
from genmimic.core.robot import G1_23DOF, Robot

MAX_POLICY_BYTES = 256 * 1024 * 1024
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

DEFAULT_POLICY = "student.onnx"


class Policy:
    """``action = policy(observation)``: shapes (N,) to (J,), float32. Not to be called from two threads."""

    def __init__(self, path: Path, manifest: PolicyManifest, session: object, input_name: str) -> None:
        self.path, self.manifest = path, manifest
        self._session, self._input = session, input_name

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return the raw action, before clip and scale."""
        batch = np.asarray(observation, np.float32)[None]
        return self._session.run(None, {self._input: batch})[0][0]  # type: ignore[attr-defined]

    @property
    def name(self) -> str:
        return self.path.stem


def load_policy(path: str | Path, robot: Robot = G1_23DOF, provider: str = "cpu") -> Policy:
    """Load a policy, compare its manifest with ``robot``, and replay its recorded input.

    Args:
        path: An ``.onnx`` file of `genmimic-train export`.
        robot: What it must have been made for.
        provider: ``cpu``, ``cuda`` or ``tensorrt``; the last two need onnxruntime-gpu.

    Raises:
        InputFileError: Missing, too large, not an ONNX file, or one that cannot be run.
        ManifestError: Made for another robot, layout or rate, or it answers its recorded input otherwise.
        ConfigError: The provider is unknown or not installed.
    """
    import onnxruntime

    path = Path(path)
    if not path.is_file():
        raise InputFileError(f"{path}: no such policy file")
    if path.stat().st_size > MAX_POLICY_BYTES:
        raise InputFileError(f"{path}: {path.stat().st_size} bytes, limit {MAX_POLICY_BYTES}")
    if provider not in PROVIDERS:
        raise ConfigError(f"provider is {provider!r}; known: {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        raise ConfigError(f"provider {provider!r} is not in this onnxruntime; install the gpu extra or use cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDERS[provider]])
    except Exception as error:
        reason = str(error).splitlines()[0][:160]
        raise InputFileError(f"{path}: not a usable ONNX file ({reason})") from None

    manifest = PolicyManifest.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
    manifest.check(robot, str(path))
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _check_port(path, "input", inputs, manifest.observation_size)
    _check_port(path, "output", outputs, robot.num_joints)
    policy = Policy(path, manifest, session, inputs[0].name)
    try:
        answer = policy(manifest.golden_observation())
    except Exception as error:  # a graph may load and still not run
        raise InputFileError(f"{path}: cannot be run ({str(error).splitlines()[0][:160]})") from None
    manifest.check_golden(answer, str(path))
    return policy


def find_policy(name: str | Path | None = None) -> Path:
    """Return the policy to use: ``name`` as a path, else among the shipped ones. Raises InputFileError."""
    return find_shipped(name or DEFAULT_POLICY, "policies", ".onnx")


def find_shipped(name: str | Path, folder: str, suffix: str) -> Path:
    """Return ``name`` as given if it exists, else from the shipped ``folder``, with or without ``suffix``.

    Raises:
        InputFileError: In none of these places; the shipped names are listed.
    """
    given = Path(name)
    if given.is_file():
        return given
    places = [place / folder for place in shipped_places()]
    for place in places:
        for candidate in (place / given.name, place / f"{given.name}{suffix}"):
            if given.parent == Path(".") and candidate.is_file():
                return candidate
    known = sorted({file.stem for place in places if place.is_dir() for file in place.glob(f"*{suffix}")})
    raise InputFileError(
        f"{name}: no such file, and no shipped one of that name; shipped: {', '.join(known) or 'none'}"
    )


def shipped_places() -> list[Path]:
    """Return the folders that may hold shipped files: the source tree, then the installed package's share."""
    import sys

    places = [Path(__file__).resolve().parent.parent]
    prefixes: Sequence[str] = [str(parent) for parent in Path(__file__).resolve().parents]
    places += [Path(prefix) / "share" / "genmimic_ros" for prefix in [*prefixes, sys.prefix]]
    return [place for place in places if place.is_dir()]


def _check_port(path: Path, kind: str, ports: Sequence, width: int) -> None:  # type: ignore[type-arg]
    if len(ports) != 1 or len(ports[0].shape) != 2 or ports[0].shape[1] != width:
        shapes = [tuple(port.shape) for port in ports]
        raise ManifestError(f"{path}: its {kind} has shapes {shapes}, expected one of (1, {width})")
