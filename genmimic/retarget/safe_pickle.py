# SPDX-License-Identifier: Apache-2.0
"""Read numbers and text from a pickle without running anything in it.

A pickle is a program. This is an interpreter for the few instructions that plain containers, NumPy arrays and
joblib's uncompressed arrays need; it calls nothing by name, so there is nothing to subvert: any other instruction
or name is refused. Sizes are checked against the bytes that are there before an array is made.

Sources: the opcodes of `pickletools`; NumPy's array reduction; joblib 1.x `numpy_pickle.NumpyArrayWrapper`.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from typing import Any

import numpy as np

from genmimic.core.errors import InputFileError

_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {
    "numpy dtype": "dtype",
    "numpy ndarray": "ndarray",
    "joblib.numpy_pickle NumpyArrayWrapper": "wrapper",
    **{f"{module} _reconstruct": "reconstruct" for module in _CORE},
    **{f"{module} scalar": "scalar" for module in _CORE},
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy._core.numeric _frombuffer": "frombuffer",
}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


class _Refused(Exception):
    """What is wrong with the pickle, for people."""


class _Name:
    """An allowed global; a marker, never called."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Dtype:
    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[fiu][1248]|b1|\?", code):
            raise _Refused(f"array type {str(code)[:20]!r}, expected plain numbers")
        self.dtype = np.dtype(code)


class _Box:
    """An array that is filled in after it was announced."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.value: np.ndarray | None = None


_MARK = object()


def read_plain_pickle(data: bytes, where: str, max_bytes: int) -> Any:
    """Return the containers, numbers, text and arrays of a pickle (protocol 2 to 5).

    Args:
        data: The whole file; joblib's uncompressed format is understood.
        where: The file, for messages.
        max_bytes: Limit for all arrays together.

    Raises:
        InputFileError: Truncated, damaged, too large, or anything but plain data inside.
    """
    try:
        return _Interpreter(data, max_bytes).run()
    except _Refused as error:
        raise InputFileError(f"{where}: pickle refused: {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        text = " ".join(str(error).split())[:120]
        raise InputFileError(f"{where}: damaged or truncated pickle ({text or type(error).__name__})") from None


class _Interpreter:
    def __init__(self, data: bytes, max_bytes: int) -> None:
        self._file = io.BytesIO(data)
        self._left = max_bytes
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self._file):
            name = opcode.name
            if name == "STOP":
                return _unbox(self._stack.pop())
            self._step(name, argument)
        raise ValueError("no end")

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        if name in ("PROTO", "FRAME"):
            pass
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else [stack.pop()]
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            self._top(dict).update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_allowed(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_allowed(f"{module} {attribute}"))
        elif name == "NEWOBJ":
            stack.pop()
            if _kind(stack.pop()) != "wrapper":
                raise _Refused("it makes an object that is not an array")
            stack.append(_Box("wrapper"))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self._reduce(_kind(stack.pop()), arguments))
        elif name == "BUILD":
            self._build(stack.pop(), stack[-1])
        else:
            raise _Refused(f"instruction {name}, expected plain data")

    def _to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ValueError(f"no {kind.__name__} to fill")
        return self._stack[-1]

    def _reduce(self, kind: str | None, arguments: tuple[Any, ...]) -> Any:
        if kind == "dtype":
            return _Dtype(arguments[0])
        if kind == "reconstruct":
            return _Box("array")
        if kind == "scalar":
            dtype, raw = arguments
            return self._array(dtype, (), raw)[()].item()
        if kind == "frombuffer":
            raw, dtype, shape, order = arguments
            box = _Box("array")
            box.value = self._array(dtype, shape, bytes(raw) if isinstance(raw, bytearray) else raw, str(order))
            return box
        raise _Refused("it calls something that is not an array")

    def _build(self, state: Any, target: Any) -> None:
        if isinstance(target, _Dtype):
            if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
                raise _Refused("structured array, expected plain numbers")
            target.dtype = target.dtype.newbyteorder(state[1])
        elif isinstance(target, _Box) and target.kind == "array":
            _, shape, dtype, fortran, raw = state
            target.value = self._array(dtype, shape, raw, "F" if fortran else "C")
        elif isinstance(target, _Box):
            padding = self._file.read(1)[0] if state.get("numpy_array_alignment_bytes") else 0
            self._file.seek(padding, io.SEEK_CUR)
            count = _size(state["dtype"], state["shape"])
            target.value = self._array(state["dtype"], state["shape"], self._file.read(count), str(state["order"]))
        else:
            raise _Refused("it sets the state of something that is not an array")

    def _array(self, dtype: Any, shape: Any, raw: Any, order: str = "C") -> np.ndarray:
        expected = _size(dtype, shape)
        if not isinstance(raw, bytes) or len(raw) != expected:
            found = f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__
            raise ValueError(f"array of shape {shape} needs {expected} bytes, found {found}")
        self._left -= expected
        if self._left < 0:
            raise _Refused("arrays larger than the limit")
        flat = np.frombuffer(raw, dtype.dtype)
        return flat.reshape(shape, order="F" if order == "F" else "C").astype(dtype.dtype.newbyteorder("="))


def _allowed(name: str) -> _Name:
    if name not in _NAMES:
        raise _Refused(f"it refers to {name.replace(' ', '.')[:80]!r}; only NumPy arrays, numbers and text are read")
    return _Name(_NAMES[name])


def _kind(item: Any) -> str | None:
    return item.kind if isinstance(item, _Name) else None


def _size(dtype: Any, shape: Any) -> int:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or len(shape) > 8:
        raise ValueError("array without type or shape")
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"array shape {shape}")
    return math.prod(shape) * dtype.dtype.itemsize


def _unbox(item: Any, depth: int = 0) -> Any:
    if depth > 8:
        raise _Refused("nested deeper than 8")
    if isinstance(item, _Box):
        if item.value is None:
            raise ValueError("array without data")
        return item.value
    if isinstance(item, (_Name, _Dtype)) or item is _MARK:
        raise _Refused("something that is not data")
    if isinstance(item, dict):
        return {_unbox(key, depth + 1): _unbox(value, depth + 1) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return type(item)(_unbox(value, depth + 1) for value in item)
    return item
