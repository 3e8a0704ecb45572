# SPDX-License-Identifier: Apache-2.0
"""Pickles as pose-estimation tools write them: with torch tensors and default dictionaries, still without running any.

The interpreter of `genmimic.retarget.safe_pickle` with a few more names: torch tensors inside ``torch.save`` archives,
inside plain pickles and inside ``numpy.save`` files, ``OrderedDict`` and ``defaultdict``. Tensors become arrays.

Sources: torch's serialisation formats (``torch/serialization.py``: the zip archive, and the older stream of pickles
followed by raw storages); NumPy's npy header.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from genmimic.core.errors import InputFileError
from genmimic.retarget import safe_pickle

_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1",
}  # fmt: skip
_EXTRA_NAMES = {
    "torch._utils _rebuild_tensor_v2": "tensor",
    "torch.storage _load_from_bytes": "storage bytes",
    "collections OrderedDict": "mapping",
    "collections defaultdict": "mapping",
    "builtins dict": "mapping",
    "__builtin__ dict": "mapping",
    **{f"torch {name}": f"storage {code}" for name, code in _STORAGES.items()},
    **{f"torch.storage {name}": f"storage {code}" for name, code in _STORAGES.items()},
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ITEMS = "items of an object array"


def read_tool_pickle(data: bytes, where: str, max_bytes: int) -> Any:
    """Return the plain data of a pickle, joblib file, ``torch.save`` archive or ``numpy.save`` file.

    Args:
        data: The whole file; zlib-compressed joblib files are unpacked.
        where: The file, for messages.
        max_bytes: Limit for all arrays together.

    Raises:
        InputFileError: Truncated, damaged, too large, or anything but plain data inside.
    """
    try:
        if data[:1] == b"\x78":  # joblib's compress=: one zlib stream
            unpack = zlib.decompressobj()
            data = unpack.decompress(data, max_bytes)
            if unpack.unconsumed_tail:
                raise safe_pickle._Refused("larger than the limit")
        if data[:6] == b"\x93NUMPY":
            return _read_npy(data, max_bytes)
        if data[:2] == b"PK":
            return _read_archive(data, max_bytes)
        return _ToolInterpreter(data, max_bytes).run()
    except safe_pickle._Refused as error:
        raise InputFileError(f"{where}: pickle refused: {error}") from None
    except (
        ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, EOFError,
        zipfile.BadZipFile, zlib.error, RecursionError,
    ) as error:  # fmt: skip
        text = " ".join(str(error).split())[:120]
        raise InputFileError(f"{where}: damaged or truncated file ({text or type(error).__name__})") from None


def _read_npy(data: bytes, max_bytes: int) -> Any:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    _, _, dtype = read_header(file)
    if not dtype.hasobject:
        file.seek(0)
        return np.load(file, allow_pickle=False)
    return _ToolInterpreter(data[file.tell() :], max_bytes).run()


def _read_archive(data: bytes, max_bytes: int) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = {info.filename: info.file_size for info in archive.infolist()}
        if sum(names.values()) > max_bytes:
            raise safe_pickle._Refused("larger than the limit")
        start = next((name for name in names if name.endswith("data.pkl")), None)
        if start is None:
            raise ValueError("no data.pkl in the archive")
        folder = start.removesuffix("data.pkl")
        return _ToolInterpreter(
            archive.read(start), max_bytes, lambda key, dtype: np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)
        ).run()


def _read_legacy_storage(data: bytes, max_bytes: int) -> np.ndarray:
    """Return the one storage of an old-style ``torch.save`` stream."""
    file = io.BytesIO(data)

    def part() -> Any:
        start = file.tell()
        for _ in pickletools.genops(file):
            pass
        return _ToolInterpreter(data[start : file.tell()], max_bytes, lambda key, dtype: np.empty(0, dtype)).run()

    if part() != _LEGACY_MAGIC:
        raise ValueError("not a stream of torch storages")
    part(), part()  # protocol and system
    empty = part()
    part()  # keys
    if not isinstance(empty, np.ndarray):
        raise ValueError("no storage in the stream")
    count = int(np.frombuffer(file.read(8), "<i8")[0])
    if not 0 <= count * empty.itemsize <= max_bytes:
        raise safe_pickle._Refused("larger than the limit")
    return np.frombuffer(file.read(count * empty.itemsize), empty.dtype, count)


class _ToolInterpreter(safe_pickle._Interpreter):
    """The plain interpreter with tensors; still nothing is looked up or called by name."""

    def __init__(
        self, data: bytes, max_bytes: int, storage: Callable[[str, np.dtype], np.ndarray] | None = None
    ) -> None:
        super().__init__(data, max_bytes)
        self._max_bytes = max_bytes
        self._storage = storage

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self._file):
            if opcode.name == "STOP":
                return _plain(self._stack.pop())
            self._step(opcode.name, argument)
        raise ValueError("no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        extra = None
        if name == "GLOBAL":
            extra = _EXTRA_NAMES.get(str(argument))
        elif name == "STACK_GLOBAL":
            extra = _EXTRA_NAMES.get(f"{stack[-2]} {stack[-1]}")
            if extra is not None:
                del stack[-2:]
        if extra is not None:
            stack.append(safe_pickle._Name(extra))
        elif name == "BINPERSID":
            stack.append(self._persistent(stack.pop()))
        else:
            super()._step(name, argument)

    def _persistent(self, key: Any) -> np.ndarray:
        kind = safe_pickle._kind(key[1]) if isinstance(key, tuple) and len(key) >= 5 else None
        if kind is None or not kind.startswith("storage ") or self._storage is None:
            raise safe_pickle._Refused("it refers to something outside the file")
        return self._storage(str(key[2]), np.dtype(kind.removeprefix("storage ")))

    def _reduce(self, kind: str | None, arguments: tuple[Any, ...]) -> Any:
        if kind == "mapping":
            pairs = arguments[0] if arguments and isinstance(arguments[0], (list, tuple)) else ()
            return {pair[0]: pair[1] for pair in pairs}
        if kind == "storage bytes":
            return _read_legacy_storage(bytes(arguments[0]), self._max_bytes)
        if kind == "tensor":
            storage, offset, shape, stride = arguments[:4]
            return self._tensor(storage, offset, shape, stride)
        if kind == "dtype" and str(arguments[0]) in ("O8", "O4", "O"):
            return _ITEMS
        return super()._reduce(kind, arguments)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> np.ndarray:
        if not isinstance(storage, np.ndarray) or len(shape) != len(stride) or len(shape) > 8:
            raise ValueError("tensor without storage")
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        count = int(np.prod(shape, dtype=object))
        if any(value < 0 for value in (offset, *shape, *stride)) or (count and last >= len(storage)):
            raise ValueError(f"tensor of shape {tuple(shape)} does not fit its {len(storage)} numbers")
        self._left -= count * storage.itemsize
        if self._left < 0:
            raise safe_pickle._Refused("arrays larger than the limit")
        if not count:
            return np.zeros(shape, storage.dtype)
        steps = tuple(step * storage.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False).copy()

    def _build(self, state: Any, target: Any) -> None:
        if target is _ITEMS or target == _ITEMS:
            return
        if isinstance(target, safe_pickle._Box) and target.kind == "array" and state[2] == _ITEMS:
            items = state[4]
            if not isinstance(items, list):
                raise ValueError("object array without items")
            content: Any = items[0] if state[1] == () and len(items) == 1 else items
            target.value = content
            return
        super()._build(state, target)


def _plain(item: Any, depth: int = 0) -> Any:
    if depth > 12:
        raise safe_pickle._Refused("nested deeper than 12")
    if isinstance(item, safe_pickle._Box):
        if item.value is None:
            raise ValueError("array without data")
        return item.value if isinstance(item.value, np.ndarray) else _plain(item.value, depth + 1)
    if isinstance(item, (safe_pickle._Name, safe_pickle._Dtype)) or item is safe_pickle._MARK:
        raise safe_pickle._Refused("something that is not data")
    if isinstance(item, dict):
        return {_plain(key, depth + 1): _plain(value, depth + 1) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return type(item)(_plain(value, depth + 1) for value in item)
    return item
