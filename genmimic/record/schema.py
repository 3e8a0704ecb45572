# SPDX-License-Identifier: Apache-2.0
"""ROS 2 message definitions as text (MCAP's ``ros2msg``), and messages in CDR read by them. Needs no ROS.

A definition is the text of the message, then, each below a line of ``=`` and ``MSG: package/Name``, the texts of all
messages inside it. Source: mcap.dev/spec/registry, "ros2msg"; the wire form is OMG's CDR (XCDR1), as ROS 2 writes it.
"""

from __future__ import annotations

import keyword
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from genmimic.core.errors import InputFileError

SEPARATOR = "=" * 80
"""Between the message and those inside it."""

_NUMPY = {
    "bool": "?", "byte": "u1", "char": "u1", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}  # fmt: skip
_STRUCT = {"?": "?", "u1": "B", "i1": "b", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
           "f4": "f", "f8": "d"}  # fmt: skip
_FIELD = re.compile(
    r"^(?P<type>[A-Za-z][\w/]*)(?P<bound><=\d+)?(?P<array>\[(?P<size>(<=)?\d*)\])?\s+(?P<name>[a-z]\w*)(?P<rest>.*)$"
)
_WELL_KNOWN = {
    "Header": "std_msgs/Header",
    "time": "builtin_interfaces/Time",
    "duration": "builtin_interfaces/Duration",
}
MAX_ELEMENTS = 1 << 26


class Field(NamedTuple):
    """A member of a message: ``size`` is None for a single value, -1 for a sequence, else an array's length."""

    name: str
    type: str
    size: int | None


Types = dict[str, tuple[Field, ...]]
"""Fields of each message, by ``package/Name``."""


def short_name(name: str) -> str:
    """Return ``package/Name`` for ``package/msg/Name``."""
    parts = name.split("/")
    return f"{parts[0]}/{parts[-1]}" if len(parts) > 1 else name


def parse_fields(text: str, package: str) -> tuple[Field, ...]:
    """Return the fields of one message's text; comments and constants are passed over. Raises InputFileError."""
    fields = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip() if '"' not in raw and "'" not in raw else raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _FIELD.match(line)
        if found is None:
            if re.match(r"^[a-z]\w*(<=\d+)?\s+[A-Z]\w*\s*=", line):  # a constant
                continue
            raise InputFileError(f"message definition of {package}: cannot be understood: {line!r}")
        kind = found["type"]
        if kind not in _NUMPY and kind not in ("string", "wstring"):
            kind = _WELL_KNOWN.get(kind, kind if "/" in kind else f"{package}/{kind}")
            kind = short_name(kind)
        size: int | None = None
        if found["array"]:
            length = found["size"]
            size = int(length) if length.isdigit() else -1
        fields.append(Field(found["name"], kind, size))
    return tuple(fields)


def parse_definition(name: str, text: str) -> Types:
    """Return all messages of a definition; ``name`` is that of the first. Raises InputFileError."""
    blocks = re.split(r"^=+\s*$", text, flags=re.MULTILINE)
    types: Types = {}
    for number, block in enumerate(blocks):
        here = short_name(name)
        if number:
            head, _, block = block.lstrip().partition("\n")
            if not head.startswith("MSG:"):
                raise InputFileError(f"message definition of {name}: {head!r} where 'MSG: package/Name' was expected")
            here = short_name(head[4:].strip())
        types[here] = parse_fields(block, here.split("/")[0])
    for fields in list(types.values()):
        for field in fields:
            if field.type not in _NUMPY and field.type not in ("string", "wstring") and field.type not in types:
                raise InputFileError(f"message definition of {name}: {field.type} is used and not defined")
    return types


def whole_definition(name: str, text_of: Callable[[str], str]) -> str:
    """Return the definition of ``package/Name`` with all messages inside it; ``text_of`` gives the text of each."""
    first = short_name(name)
    texts: dict[str, str] = {first: text_of(first)}
    waiting = [first]
    while waiting:
        current = waiting.pop(0)
        for field in parse_fields(texts[current], current.split("/")[0]):
            if field.type in _NUMPY or field.type in ("string", "wstring") or field.type in texts:
                continue
            texts[field.type] = text_of(field.type)
            waiting.append(field.type)
    parts = [texts.pop(first).rstrip("\n")]
    parts += [f"{SEPARATOR}\nMSG: {other}\n{text.rstrip()}" for other, text in texts.items()]
    return "\n".join(parts) + "\n"


def text_from_fields(fields: Mapping[str, str], constants: Mapping[str, tuple[str, Any]] | None = None) -> str:
    """Return a message's text from its Python class: names to types as ``get_fields_and_field_types`` writes them."""
    lines = [f"{kind} {name}={value}" for name, (kind, value) in (constants or {}).items()]
    lines += [f"{_ros_type(kind)} {name}" for name, kind in fields.items()]
    return "\n".join(lines) + "\n"


def _ros_type(kind: str) -> str:
    found = re.match(r"^sequence<(.+?)(?:, (\d+))?>$", kind)
    if found:
        return f"{_ros_type(found[1])}[{'<=' + found[2] if found[2] else ''}]"
    found = re.match(r"^(.+)\[(\d+)\]$", kind)
    if found:
        return f"{_ros_type(found[1])}[{found[2]}]"
    found = re.match(r"^(w?string)<(\d+)>$", kind)
    if found:
        return f"{found[1]}<={found[2]}"
    return {"float": "float32", "double": "float64", "octet": "byte", "boolean": "bool"}.get(kind, kind)


# reading CDR -----------------------------------------------------------------------------------
class _Buffer:
    __slots__ = ("data", "at", "order")

    def __init__(self, data: bytes) -> None:
        if len(data) < 4 or data[1] not in (0, 1):
            raise InputFileError(f"message of {len(data)} bytes: not in CDR")
        self.data, self.at, self.order = data, 4, "<" if data[1] == 1 else ">"


_Read = Callable[[_Buffer], Any]


class Decoder:
    """Reads messages of one type.

    A message becomes a plain object with its fields as attributes: numbers, texts, NumPy arrays for arrays and
    sequences of numbers, and lists of objects otherwise. An array of messages that hold numbers of one type alone,
    such as ``geometry_msgs/Point[27]``, becomes a NumPy array with a row for each. Shape (27, 3).

    Args:
        name: Type of the message.
        definition: Its text, with all messages inside it.

    Raises:
        InputFileError: The definition cannot be understood.
    """

    def __init__(self, name: str, definition: str) -> None:
        self._types = parse_definition(name, definition)
        self._name = name
        self._made: dict[str, tuple[type, _Read]] = {}
        self._read = self._message(short_name(name), ())

    def __call__(self, data: bytes) -> Any:
        """Return the message. Raises InputFileError when ``data`` is too short or not CDR."""
        try:
            return self._read(_Buffer(data))
        except (struct.error, ValueError, IndexError):
            raise InputFileError(f"message of {len(data)} bytes does not fit {self._name}") from None

    def _message(self, name: str, above: tuple[str, ...]) -> _Read:
        if name in above:
            raise InputFileError(f"message definition of {self._name}: {name} holds itself")
        if name not in self._made:
            fields = self._types[name]
            readers = [self._member(field, (*above, name)) for field in fields]
            names = [field.name + ("_" if keyword.iskeyword(field.name) else "") for field in fields]
            cls = make_dataclass(name.split("/")[-1], names or ["_"] if fields else [])

            def read(buffer: _Buffer) -> Any:
                return cls(*[reader(buffer) for reader in readers])

            self._made[name] = (cls, read)
        return self._made[name][1]

    def _member(self, field: Field, above: tuple[str, ...]) -> _Read:
        kind, size = field.type, field.size
        if kind in _NUMPY:
            code = _NUMPY[kind]
            return _number(code) if size is None else _numbers(code, size, ())
        if kind == "wstring":
            one: _Read = _wide_text
        elif kind == "string":
            one = _text
        else:
            codes = {_NUMPY.get(inner.type) for inner in self._types[kind] if inner.size is None}
            uniform = len(codes) == 1 and None not in codes and all(f.size is None for f in self._types[kind])
            if uniform and size is not None:
                return _numbers(str(next(iter(codes))), size, (len(self._types[kind]),))
            one = self._message(kind, above)
        if size is None:
            return one
        return _many(one, size)


def _number(code: str) -> _Read:
    width = np.dtype(code).itemsize
    readers = {order: struct.Struct(order + _STRUCT[code]) for order in "<>"}

    def read(buffer: _Buffer) -> Any:
        at = buffer.at + (4 - buffer.at) % width
        buffer.at = at + width
        return readers[buffer.order].unpack_from(buffer.data, at)[0]

    return read


def _numbers(code: str, size: int, row: tuple[int, ...]) -> _Read:
    dtypes = {order: np.dtype(order + code) for order in "<>"}
    width = dtypes["<"].itemsize
    per_row = int(np.prod(row)) if row else 1

    def read(buffer: _Buffer) -> np.ndarray:
        count = _count(buffer) if size < 0 else size
        if not count:
            return np.zeros((0, *row), dtypes["<"])
        at = buffer.at + (4 - buffer.at) % width
        buffer.at = at + count * per_row * width
        array: np.ndarray = np.frombuffer(buffer.data, dtypes[buffer.order], count * per_row, at)
        return array.reshape(count, *row) if row else array

    return read


def _many(one: _Read, size: int) -> _Read:
    def read(buffer: _Buffer) -> list[Any]:
        return [one(buffer) for _ in range(_count(buffer) if size < 0 else size)]

    return read


def _count(buffer: _Buffer) -> int:
    at = buffer.at + (4 - buffer.at) % 4
    count = int(struct.unpack_from(buffer.order + "I", buffer.data, at)[0])
    buffer.at = at + 4
    if count > MAX_ELEMENTS or count > len(buffer.data):
        raise ValueError("a length beyond the end")
    return count


def _text(buffer: _Buffer) -> str:
    count = _count(buffer)
    start, buffer.at = buffer.at, buffer.at + count
    if buffer.at > len(buffer.data):
        raise ValueError("a text beyond the end")
    return buffer.data[start : buffer.at - 1].decode(errors="replace") if count else ""


def _wide_text(buffer: _Buffer) -> str:
    count = _count(buffer)
    start, buffer.at = buffer.at, buffer.at + 2 * count
    return buffer.data[start : buffer.at].decode("utf-16-le" if buffer.order == "<" else "utf-16-be", errors="replace")


@lru_cache(maxsize=64)
def decoder(name: str, definition: str) -> Decoder:
    """Return the decoder of a type, made once."""
    return Decoder(name, definition)
