# SPDX-License-Identifier: Apache-2.0
"""The isolated environment in which the pose landmarker runs: found, or made on first use.

MediaPipe pins protobuf 4 and NumPy 1 and needs Python 3.10 to 3.12, so it lives in a virtual environment of its own and
talks to us through a pipe (`genmimic.lift.worker`). It is looked for in this order:

1. ``GENMIMIC_LIFT_PYTHON``: a Python that can import mediapipe.
2. This Python, when it has mediapipe of the right version.
3. The folder ``GENMIMIC_LIFT_ENV``, or ``genmimic-lift`` inside this virtual environment, or in the user's cache; made
   with pip when it is not there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from genmimic.core.errors import MissingDependencyError

REQUIREMENTS = Path(__file__).with_name("worker_requirements.txt")
MEDIAPIPE_VERSION = "0.10.21"
_PYTHONS = ("python3.12", "python3.11", "python3.10")
_STAMP = "genmimic-lift.stamp"
_PIP_TIMEOUT_S = 900


def environment_folder() -> Path:
    """Return where the isolated environment is, or would be made."""
    chosen = os.environ.get("GENMIMIC_LIFT_ENV")
    if chosen:
        return Path(chosen).expanduser()
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "genmimic-lift"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "genmimic-lift"


def find_python() -> Path | None:
    """Return a Python that can run the landmarker, or None when the environment has yet to be made."""
    chosen = os.environ.get("GENMIMIC_LIFT_PYTHON")
    if chosen:
        return Path(chosen)
    try:
        if importlib.metadata.version("mediapipe") == MEDIAPIPE_VERSION:
            return Path(sys.executable)
    except importlib.metadata.PackageNotFoundError:
        pass
    folder = environment_folder()
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text() == _fingerprint():
        return folder / "bin" / "python"
    return None


def ensure_python(say: Callable[[str], None] = lambda text: None) -> Path:
    """Return a Python that can run the landmarker; make its environment when there is none.

    Raises:
        MissingDependencyError: It cannot be made, with what to do about it.
    """
    found = find_python()
    if found is not None:
        return found
    if os.environ.get("GENMIMIC_LIFT_SETUP", "1") == "0":
        raise MissingDependencyError("the pose landmarker is not set up here; run: make lift-setup")
    folder, base = environment_folder(), _base_python()
    say(f"setting up the pose landmarker (once, about 60 MB) in {folder}")
    try:
        if folder.exists():
            shutil.rmtree(folder)
        if base == sys.executable:
            venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        else:
            _run([base, "-m", "venv", "--without-pip", str(folder)])
        python = folder / "bin" / "python"
        _run([
            sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet",
            "--no-deps", "--only-binary", ":all:", "-r", str(REQUIREMENTS),
        ])  # fmt: skip
        (folder / _STAMP).write_text(_fingerprint())
    except OSError as error:
        raise MissingDependencyError(f"cannot set up the pose landmarker in {folder}: {error}") from None
    return python


def _base_python() -> str:
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        return sys.executable
    for name in _PYTHONS:
        found = shutil.which(name)
        if found:
            return found
    raise MissingDependencyError(
        f"the pose landmarker (mediapipe {MEDIAPIPE_VERSION}) needs Python 3.10 to 3.12, this is "
        f"{sys.version_info[0]}.{sys.version_info[1]} and there is no other; install one, for example python3.12"
    )


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise MissingDependencyError(f"cannot set up the pose landmarker: no end after {_PIP_TIMEOUT_S} s") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise MissingDependencyError(
            "cannot set up the pose landmarker (is there a network?): "
            f"{lines[-1].strip()[:200] if lines else f'exit code {done.returncode}'}"
        )


def _fingerprint() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


if __name__ == "__main__":
    from genmimic.core.errors import GenMimicError

    try:
        print(ensure_python(lambda text: print(text, flush=True)))
    except GenMimicError as problem:
        sys.exit(f"genmimic.lift.environment: {problem}")
