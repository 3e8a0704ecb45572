# SPDX-License-Identifier: Apache-2.0
"""The policy network: rsl-rl's MLP with its input normaliser (Table 5: normalise input)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict

ACTIVATION = "elu"


def actor_config(hidden: Sequence[int], init_std: float | None) -> dict[str, Any]:
    """Return rsl-rl's configuration of an actor; deterministic when ``init_std`` is None."""
    config: dict[str, Any] = {
        "class_name": "rsl_rl.models:MLPModel",
        "hidden_dims": list(hidden),
        "activation": ACTIVATION,
        "obs_normalization": True,
    }
    if init_std is not None:
        config["distribution_cfg"] = {
            "class_name": "rsl_rl.modules.distribution:GaussianDistribution",
            "init_std": init_std,
        }
    return config


def make_actor(group: str, obs_size: int, hidden: Sequence[int], num_actions: int, init_std: float | None) -> MLPModel:
    """Return an actor that reads the observation group ``group`` of ``obs_size`` numbers."""
    config = actor_config(hidden, init_std)
    config.pop("class_name")
    example = TensorDict({group: torch.zeros(1, obs_size)}, batch_size=[1])
    if "distribution_cfg" in config:
        config["distribution_cfg"] = dict(config["distribution_cfg"])
    return MLPModel(example, {"actor": [group]}, "actor", num_actions, **config)
