# SPDX-License-Identifier: Apache-2.0
"""One function for NumPy on the robot and torch in training."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any
"""A NumPy array or a torch tensor."""


def array_namespace(*arrays: Array) -> Any:
    """Return the module whose functions fit ``arrays``: ``torch`` if any is a tensor, else ``numpy``.

    torch is never imported here: a tensor can exist only where it already is.
    """
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(array, torch.Tensor) for array in arrays):
        return torch
    return np


def constant_like(value: np.ndarray, like: Array) -> Array:
    """Return the constant ``value`` in the namespace, float type and device of ``like``.

    torch copies are kept, one per constant, type and device: converting at each call would
    cost more than the arithmetic. ``value`` must therefore not be changed afterwards.
    """
    xp = array_namespace(like)
    if xp is np:
        return value
    key = (id(value), like.dtype, like.device)
    found = _TORCH_CONSTANTS.get(key)
    if found is None:
        tensor = xp.as_tensor(value.copy(), device=like.device)
        if tensor.is_floating_point():
            tensor = tensor.to(like.dtype)
        found = _TORCH_CONSTANTS[key] = (tensor, value)  # the array is kept, so that its id stays its own
    return found[0]


_TORCH_CONSTANTS: dict[Any, tuple[Any, np.ndarray]] = {}


def take_rows(values: Array, idx: np.ndarray) -> Array:
    """Return ``values[..., idx, :]`` (..., n, C) for a constant ``idx`` (n,), several times faster than indexing."""
    rows = constant_like(idx, values)
    return values.take(rows, -2) if isinstance(values, np.ndarray) else values.index_select(-2, rows)
