# SPDX-License-Identifier: Apache-2.0
"""A pretend GPU: tensors that say they are elsewhere, and refuse to meet those of the CPU as a GPU's would.

What is computed is computed on the CPU. The device is called ``meta``, the one name besides ``cpu`` that all of torch
knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = "meta"
_INDEXING = ("aten.index", "aten.index_put", "aten.index_put_", "aten._index_put_impl_", "aten.copy_")
"""These take indices, or a source, of the CPU."""


class Elsewhere(torch.Tensor):
    """A tensor of the pretend GPU; ``inner`` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert a GPU's tensor to numpy; use Tensor.cpu() first")

    def tolist(self) -> Any:
        return self.inner.tolist()

    def new_tensor(self, data: Any) -> Elsewhere:  # type: ignore[override]
        return Elsewhere(self.inner.new_tensor(data))


class _Factories(TorchDispatchMode):
    """Makes tensors there when ``device`` says so."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, spec = tree_flatten((args, kwargs))
    there = any(isinstance(value, Elsewhere) for value in flat)
    device = kwargs.get("device")
    name = str(func).rsplit(".", 1)[0] if str(func).count(".") > 1 else str(func)
    if there and name not in _INDEXING:
        for value in flat:
            if isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere) and value.dim():
                raise RuntimeError(f"Expected all tensors to be on the same device: {func} got cpu and {DEVICE}")
    if device is not None:
        there = torch.device(device).type == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
        flat, spec = tree_flatten((args, kwargs))
    inner = [value.inner if isinstance(value, Elsewhere) else value for value in flat]
    args_in, kwargs_in = tree_unflatten(inner, spec)
    result = func(*args_in, **kwargs_in)
    if not there:
        return result
    known = {id(value.inner): value for value in flat if isinstance(value, Elsewhere)}  # of an operation in place

    def out(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else Elsewhere(value)

    return tree_map(out, result)


@contextmanager
def pretend_device(monkeypatch: Any) -> Iterator[str]:
    """Yield the device's name; while it lasts, tensors can be made there."""
    generator, tensor, as_tensor = torch.Generator, torch.tensor, torch.as_tensor

    def make(data: Any, original: Any, device: Any, dtype: Any) -> Any:
        if isinstance(data, Elsewhere):
            return data.to(device or data.device, dtype or data.dtype)
        made = original(data, dtype=dtype)
        return Elsewhere(made) if device is not None and torch.device(device).type == DEVICE else made

    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator())
    monkeypatch.setattr(torch, "tensor", lambda data, dtype=None, device=None: make(data, tensor, device, dtype))
    monkeypatch.setattr(torch, "as_tensor", lambda data, dtype=None, device=None: make(data, as_tensor, device, dtype))
    with _Factories():
        yield DEVICE
