# SPDX-License-Identifier: Apache-2.0
"""Students that grew from one another become one whose weights are their mean.

Wortsman et al. 2022, "Model soups" (arXiv 2203.05482): networks fine-tuned from the same one lie in one basin, and
their mean does better than each. What one stage unlearned while another clip was practised comes back. No part of the
paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from genmimic.core.errors import ConfigError, InputFileError
from genmimic_train.runs import Run


def average_students(runs: Sequence[Run], weights: Sequence[float], folder: Path) -> Run:
    """Write a student run whose weights are the mean of those of ``runs``, and return it.

    Its configuration is the first run's; one equivariant student makes it equivariant. The input normaliser's mean and
    variance are averaged alike.

    Args:
        runs: Two or more students with the same network and goal frame.
        weights: Of each run, positive; only their ratios count. Shape (R,).
        folder: To make.

    Raises:
        ConfigError: Fewer than two runs, a weight that is not positive, or runs that do not fit together.
        InputFileError: A run cannot be read, or ``folder`` holds a checkpoint.
    """
    if len(runs) < 2 or len(weights) != len(runs):
        raise ConfigError(f"{len(runs)} runs and {len(weights)} weights, expected two or more runs, a weight each")
    if not all(0.0 < weight < float("inf") for weight in weights):
        raise ConfigError(f"weights are {', '.join(f'{weight:g}' for weight in weights)}; expected positive numbers")
    averaged = Run(folder)
    if averaged.checkpoint.exists():
        raise InputFileError(f"{folder} already holds a checkpoint; choose another folder")
    infos, states = [run.info() for run in runs], [run.load() for run in runs]
    shapes = [{name: tuple(value.shape) for name, value in state["actor_state_dict"].items()} for state in states]
    for run, info, shape in zip(runs, infos, shapes, strict=True):
        if info["kind"] != "student":
            raise ConfigError(f"{run.folder} holds a {info['kind']} run; only students can be averaged")
        if shape != shapes[0]:
            raise ConfigError(f"{run.folder} holds another network than {runs[0].folder}")
        if run.config().env.goal_frame != runs[0].config().env.goal_frame:
            raise ConfigError(f"{run.folder} has other goals than {runs[0].folder}: goal_frame differs")

    total = sum(weights)
    mean: dict[str, torch.Tensor] = {}
    for name, first in states[0]["actor_state_dict"].items():
        parts = [state["actor_state_dict"][name] for state in states]
        if not first.is_floating_point():  # the number of observations seen
            mean[name] = torch.stack(parts).amax(0)
            continue
        mean[name] = sum((w / total) * part for w, part in zip(weights, parts, strict=True))  # type: ignore[assignment]
    mean["obs_normalizer._std"] = mean["obs_normalizer._var"].sqrt()

    configs = [run.config() for run in runs]
    dagger = replace(configs[0].dagger, equivariant=any(config.dagger.equivariant for config in configs))
    averaged.create(
        "student",
        replace(configs[0], dagger=dagger),
        motions=[],
        clips=sorted({clip for info in infos for clip in info["clips"]}),
        motion_set=infos[0]["motion_set"],
        teacher=infos[0].get("teacher", ""),
        teacher_facts=infos[0].get("teacher_facts", {}),
        averaged_from=[
            {"run": run.folder.name, "weight": weight / total, "samples": state["samples"]}
            for run, weight, state in zip(runs, weights, states, strict=True)
        ],
    )
    averaged.save(
        {
            "actor_state_dict": mean,
            "iteration": 0,
            "samples": max(state["samples"] for state in states),
            "level": states[0]["level"],
        }
    )
    return averaged
