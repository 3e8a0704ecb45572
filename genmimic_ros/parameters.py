# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node, declared once: the fields of a frozen dataclass.

Each field gives its default, a description, a unit and a range; the values that an operator changes live in
``config/*.yaml``. A node reads its parameters when it starts, so all of them are read-only afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any, TypeVar, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from genmimic.core.errors import ConfigError
from genmimic.core.settings import setting

Params = TypeVar("Params")

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple[float, ...]: "a list of numbers",
    tuple[str, ...]: "a list of texts",
}


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """Return a dataclass field that `declare_parameters` understands.

    Arguments as those of `genmimic.core.settings.setting`; ``description`` is what ``ros2 param describe`` says.
    """
    return setting(default, unit, low, high, description, choices)


def parameter_names(cls: type) -> list[str]:
    """Return the names that a parameter file for ``cls`` may hold."""
    return [item.name for item in fields(cls)]


def declare_parameters(node: Node, cls: type[Params]) -> Params:
    """Declare every field of ``cls`` on ``node`` and return the values found.

    A whole number is accepted for a float and anything plain for a text, because the command line
    turns ``motion:=123`` into a number.

    Raises:
        ConfigError: A value has the wrong type, is out of range or is none of the choices; or ``cls`` refuses it.
    """
    types = get_type_hints(cls)
    values: dict[str, Any] = {}
    for item in fields(cls):  # type: ignore[arg-type]
        # once as whatever was given, then as what it must be: rclpy would refuse 50 for 50.0
        node.declare_parameter(item.name, _plain(item.default), ParameterDescriptor(dynamic_typing=True))
        given = node.get_parameter(item.name).value
        node.undeclare_parameter(item.name)
        value = _convert(item, types[item.name], given, node.get_name())
        node.declare_parameter(item.name, _plain(value), _descriptor(item, types[item.name]), ignore_override=True)
        values[item.name] = value
    return cls(**values)


def _convert(item: Field, wanted: Any, given: Any, node: str) -> Any:  # type: ignore[type-arg]
    where = f"parameter {item.name!r} of {node}"
    value: Any = None
    if wanted is float and isinstance(given, (int, float)) and not isinstance(given, bool):
        value = float(given)
    elif wanted is int and isinstance(given, int) and not isinstance(given, bool):
        value = given
    elif wanted is bool and isinstance(given, bool):
        value = given
    elif wanted is str and isinstance(given, (str, int, float)):
        value = str(given).lower() if isinstance(given, bool) else str(given)
    elif wanted == tuple[float, ...] and _is_list(given, (int, float)):
        value = tuple(float(number) for number in given)
    elif wanted == tuple[str, ...] and _is_list(given, (str,)):
        value = tuple(given)
    if value is None:
        raise ConfigError(f"{where} is {given!r}, expected {_WORDS[wanted]}")
    low, high, unit = item.metadata["low"], item.metadata["high"], item.metadata["unit"]
    if wanted in (int, float) or wanted == tuple[float, ...]:
        for number in value if isinstance(value, tuple) else (value,):
            fits = math.isfinite(number) and (low is None or number >= low) and (high is None or number <= high)
            if not fits:
                raise ConfigError(f"{where} is {number:g}, expected {_range_text(low, high)} {unit}".rstrip())
    choices = item.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(f"{where} is {value!r}, expected one of {', '.join(choices)}")
    return value


def _descriptor(item: Field, wanted: Any) -> ParameterDescriptor:  # type: ignore[type-arg]
    unit, low, high = item.metadata["unit"], item.metadata["low"], item.metadata["high"]
    descriptor = ParameterDescriptor(
        description=item.metadata["description"] + (f" [{unit}]" if unit else ""), read_only=True
    )
    if item.metadata["choices"]:
        descriptor.additional_constraints = f"one of: {', '.join(item.metadata['choices'])}"
    if low is not None or high is not None:
        if wanted is float:
            ends = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
            descriptor.floating_point_range = [FloatingPointRange(from_value=ends[0], to_value=ends[1])]
        elif wanted is int:
            widest = 2**63 - 1
            first, last = (-widest if low is None else int(low)), (widest if high is None else int(high))
            descriptor.integer_range = [IntegerRange(from_value=first, to_value=last, step=1)]
        else:
            descriptor.additional_constraints = f"each {_range_text(low, high)}"
    return descriptor


def _is_list(given: Any, of: tuple[type, ...]) -> bool:
    is_sequence = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
    return is_sequence and all(isinstance(entry, of) and not isinstance(entry, bool) for entry in given)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _range_text(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "a finite number"
    if high is None:
        return f"at least {low:g}"
    return f"at most {high:g}" if low is None else f"{low:g} to {high:g}"
