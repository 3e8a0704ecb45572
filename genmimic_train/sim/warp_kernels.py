# SPDX-License-Identifier: Apache-2.0
"""Compile MuJoCo Warp's kernels for a GPU that is not here: ``python -m genmimic_train.sim.warp_kernels 90 -o DIR``.

A first step on a GPU compiles some sixty kernels, one after another; the folder brings them along, as Warp's kernel
cache (``WARP_CACHE_PATH``). Needs no GPU: the compiler is part of the wheel. Kernels that Warp uses on a GPU alone are
not seen here and are compiled there.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from genmimic.core.errors import GenMimicError
from genmimic_train.sim.mujoco_warp import MujocoWarpSimulator, import_warp

_DEFAULT_BLOCK = 256
"""Of Warp's launches."""


def precompile(arch: int, folder: str | Path, show: Any = None) -> int:
    """Step two robots on the CPU, and compile each kernel that was launched for ``arch`` (90: H100); return how many.

    Args:
        arch: Compute capability without the point.
        folder: Becomes Warp's kernel cache; what is in it already is not compiled again.
        show: Called with kernels done, and in all.
    """
    import torch

    warp, _ = import_warp()
    launched: dict[tuple[Any, int], None] = {}
    originals = warp.launch, warp.launch_tiled

    def recording(original: Any) -> Any:
        def launch(kernel: Any, *args: Any, **options: Any) -> Any:
            launched[kernel.module, options.get("block_dim") or _DEFAULT_BLOCK] = None
            return original(kernel, *args, **options)

        return launch

    warp.launch, warp.launch_tiled = map(recording, originals)
    try:
        sim = MujocoWarpSimulator(2, device="cpu")
        sim.step(torch.zeros(2, 1, sim.qpos.shape[1] - 7))
    finally:
        warp.launch, warp.launch_tiled = originals
    inside = Path(folder).resolve() / warp.config.version  # where Warp looks for it
    inside.mkdir(parents=True, exist_ok=True)
    cache, warp.config.kernel_cache_dir = warp.config.kernel_cache_dir, str(inside)
    try:
        for done, (module, block) in enumerate(launched):
            if show is not None:
                show(done, len(launched))
            before, module.options["block_dim"] = module.options["block_dim"], block
            try:
                warp.compile_aot_module(module, arch=arch, use_ptx=False)
            finally:
                module.options["block_dim"] = before
    finally:
        warp.config.kernel_cache_dir = cache
    return len(launched)


def main() -> int:
    """Compile, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("arch", type=int, help="compute capability without the point: 80 A100, 89 RTX 40, 90 H100")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the kernel cache to fill")
    args = parser.parse_args()

    def show(done: int, count: int) -> None:
        print(f"\r{done}/{count} kernels", end="", file=sys.stderr, flush=True)

    begin = time.monotonic()
    try:
        count = precompile(args.arch, args.output, show if sys.stderr.isatty() else None)
    except GenMimicError as error:
        print(f"warp_kernels: error: {error}", file=sys.stderr)
        return 2
    print(f"{count} kernels for sm_{args.arch} in {args.output}, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
