# SPDX-License-Identifier: Apache-2.0
"""A run folder: resolved configuration, versions, checkpoints that survive a kill, curves."""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genmimic import __version__
from genmimic.core.errors import GenMimicError, InputFileError
from genmimic.core.files import whole_file, write_whole
from genmimic_train.config import TrainConfig, config_dict, config_from_dict


class TrainingError(GenMimicError, RuntimeError):
    """Learning cannot go on."""


class Run:
    """A folder with ``run.json`` (what runs), ``checkpoint.pt`` (to resume) and TensorBoard curves.

    A path of a file stands for the folder that it is in, and for that checkpoint in the place of the latest.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.folder, self._name = (path.parent, path.name) if path.suffix == ".pt" else (path, "checkpoint.pt")
        self.exact: bool | None = None
        """Whether the run went on bit for bit in this call; None when it began."""

    @property
    def checkpoint(self) -> Path:
        return self.folder / self._name

    def create(self, kind: str, config: TrainConfig, **facts: Any) -> None:
        """Write ``run.json``. The folder may exist; a checkpoint in it may not."""
        if self.checkpoint.exists():
            raise InputFileError(f"{self.folder} already holds a checkpoint; add --resume to go on, or choose another")
        self.folder.mkdir(parents=True, exist_ok=True)
        info = {
            "kind": kind,
            "config": config_dict(config),
            "revision": git_revision(),
            "versions": versions(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **facts,
        }
        write_whole(self.folder / "run.json", json.dumps(info, indent=2).encode())

    def amend(self, **facts: Any) -> None:
        """Change facts of ``run.json``, for a run that goes on with other motions."""
        write_whole(self.folder / "run.json", json.dumps({**self.info(), **facts}, indent=2).encode())

    def note_resumed(self, samples: int, exact: bool) -> None:
        """Add to ``run.json`` that the run went on: where, with what, and whether bit for bit."""
        self.exact = exact
        entry = {
            "samples": samples, "exact": exact, "sim": self.info()["config"].get("sim"), "revision": git_revision(),
            "versions": versions(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip
        self.amend(resumed=[*self.info().get("resumed", []), entry])

    def info(self) -> dict[str, Any]:
        """Return what ``run.json`` says. Raises InputFileError when it is missing or damaged."""
        path = self.folder / "run.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            raise InputFileError(f"{self.folder} is not a run folder: no run.json in it") from None
        except json.JSONDecodeError as error:
            raise InputFileError(f"{path}: damaged ({error})") from None

    def config(self) -> TrainConfig:
        """Return the configuration of the run."""
        return config_from_dict(self.info()["config"])

    def save(self, state: dict[str, Any], name: str = "checkpoint.pt") -> None:
        """Write the checkpoint, or another part of the run, whole or not at all.

        Raises:
            TrainingError: Weights are not finite; the checkpoint before stays.
            InputFileError: It cannot be written.
        """
        for value in state.get("actor_state_dict", {}).values():
            if not bool(torch.isfinite(value).all()):
                raise TrainingError(
                    f"{self.folder}: learning diverged, weights are not finite; the last checkpoint stays"
                )
        with whole_file(self.folder / name, suffix=".tmp") as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    def load(self, name: str | None = None) -> dict[str, Any]:
        """Return the checkpoint or another part. Raises InputFileError when there is none or it is damaged."""
        name = name or self._name
        path = self.folder / name
        if not path.is_file():
            raise InputFileError(f"{self.folder} holds no {name}")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputFileError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


@contextmanager
def stop_between_iterations() -> Iterator[threading.Event]:
    """Let the first SIGINT or SIGTERM set the event instead of interrupting; a second one interrupts.

    A loop that looks at the event between two iterations ends with a checkpoint from which it goes on exactly.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(signum: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def chance_state() -> dict[str, Any]:
    """Return the state of every global source of chance, in types that a checkpoint may hold."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_chance_state(state: dict[str, Any]) -> None:
    """Go on from `chance_state`."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def pack(run: Run, folder: Path) -> Path:
    """Copy a run without optimiser moments, running episodes and this machine's paths, to be kept or shared.

    The copy goes on from the same weights, given the motions again. Its curves become ``curves.csv``.
    Raises InputFileError when ``run`` has no checkpoint or ``folder`` exists.
    """
    if folder.exists():
        raise InputFileError(f"{folder} exists already; choose another folder")
    state, info = run.load(), run.info()
    state.pop("optimizer_state_dict", None)
    state.pop("exact", None)
    info["motions"] = []
    if "teacher" in info:
        info["teacher"] = Path(info["teacher"]).name
    if "more_teachers" in info:
        info["more_teachers"] = [Path(teacher).name for teacher in info["more_teachers"]]
    folder.mkdir(parents=True)
    packed = Run(folder)
    packed.save(state)
    write_whole(folder / "run.json", json.dumps(info, indent=2).encode())
    write_whole(folder / "curves.csv", _curves(run.folder / "curves").encode())
    return folder


def _curves(folder: Path, points: int = 200) -> str:
    """Return the curves as CSV: a row per curve point with tag, samples and the mean over neighbouring points."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("*tfevents*"), key=lambda path: path.stat().st_mtime):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            values.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    rows = ["tag,samples,value"]
    for tag, series in sorted(values.items()):
        width = max(1, -(-len(series) // points))
        for start in range(0, len(series), width):
            part = series[start : start + width]
            rows.append(f"{tag},{part[-1][0]},{sum(value for _, value in part) / len(part):.6g}")
    return "\n".join(rows) + "\n"


def versions() -> dict[str, str]:
    """Return the versions a result depends on, and the GPU's name where there is one."""
    import mujoco
    import numpy

    found = {
        "genmimic": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mujoco": mujoco.__version__,
        "numpy": numpy.__version__,
    }
    for name in ("mujoco-warp", "warp-lang"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def git_revision() -> str:
    """Return the revision of the sources, with ``+`` when changed, or ``unknown``."""
    folder = Path(__file__).resolve().parent
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return revision + ("+" if changed else "")
