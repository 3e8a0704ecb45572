# SPDX-License-Identifier: Apache-2.0
"""Numbers that an operator may change: fields of a frozen dataclass with description, unit and range.

`genmimic_ros.parameters` declares such a dataclass as ROS parameters; without ROS it checks itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any

from genmimic.core.errors import ConfigError


def setting(
    default: Any,
    unit: str,
    low: float | None,
    high: float | None,
    description: str,
    choices: Sequence[str] = (),
) -> Any:
    """Return a dataclass field.

    Args:
        default: Of type bool, int, float, str, or a tuple of floats or of texts.
        unit: As written after the number; empty when it has none.
        low: Smallest value allowed, for numbers and for each number of a list; None for any.
        high: Largest value allowed.
        description: One sentence.
        choices: The texts allowed; any when empty.
    """
    metadata = {"description": description, "unit": unit, "low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata=metadata)


def check_ranges(config: Any) -> None:
    """Raise ConfigError when a number of ``config`` is outside its `setting`'s range, or none."""
    for item in fields(config):
        value, low, high = getattr(config, item.name), item.metadata["low"], item.metadata["high"]
        if low is not None and high is not None and not low <= value <= high:  # false for NaN
            raise ConfigError(f"{item.name} is {value!r}; expected {low:g} to {high:g} {item.metadata['unit']}")
