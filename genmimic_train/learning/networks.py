# SPDX-License-Identifier: Apache-2.0
"""The policy network: rsl-rl's MLP with its input normaliser (Table 5: normalise input), or its symmetric mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict

from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.observation import STUDENT
from genmimic.core.robot import G1_23DOF

ACTIVATION = "elu"


class EquivariantStudent(MLPModel):
    """A student with ``pi(T_s o) = T_a pi(o)`` by construction: ``pi(o) = (f(o) + T_a f(T_s o)) / 2``, f the MLP.

    The paper asks for this symmetry by its loss (Eq. 2-3) and its batch (B.1), which come near it; the mean has it, and
    the errors of the two answers, being two guesses at one action, partly cancel. It has f's parameters and no others,
    so that any student's weights can be loaded.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, mirror in (("obs", observation_mirror(G1_23DOF, STUDENT)), ("action", action_mirror(G1_23DOF))):
            self.register_buffer(f"_{name}_index", torch.tensor(mirror.index), persistent=False)
            self.register_buffer(f"_{name}_sign", torch.tensor(mirror.sign, dtype=torch.float32), persistent=False)

    def forward(
        self,
        obs: TensorDict,
        masks: torch.Tensor | None = None,
        hidden_state: Any = None,
        stochastic_output: bool = False,
    ) -> torch.Tensor:
        values = torch.cat([obs[group] for group in self.obs_groups], dim=-1)
        image = values[:, self._obs_index] * self._obs_sign
        both = self.mlp(self.obs_normalizer(torch.cat([values, image])))
        straight, mirrored = both.chunk(2)
        mean = 0.5 * (straight + mirrored[:, self._action_index] * self._action_sign)
        if self.distribution is None:
            return mean
        if stochastic_output:
            self.distribution.update(mean)
            return self.distribution.sample()
        return self.distribution.deterministic_output(mean)


def actor_config(hidden: Sequence[int], init_std: float | None, equivariant: bool = False) -> dict[str, Any]:
    """Return rsl-rl's configuration of an actor; deterministic when ``init_std`` is None.

    ``equivariant``: the actor is a student that is its own mirror image.
    """
    config: dict[str, Any] = {
        "class_name": EquivariantStudent if equivariant else MLPModel,
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


def make_actor(
    group: str,
    obs_size: int,
    hidden: Sequence[int],
    num_actions: int,
    init_std: float | None,
    equivariant: bool = False,
) -> MLPModel:
    """Return an actor that reads the observation group ``group`` of ``obs_size`` numbers."""
    config = actor_config(hidden, init_std, equivariant)
    model = config.pop("class_name")
    example = TensorDict({group: torch.zeros(1, obs_size)}, batch_size=[1])
    if "distribution_cfg" in config:
        config["distribution_cfg"] = dict(config["distribution_cfg"])
    return model(example, {"actor": [group]}, "actor", num_actions, **config)
