# SPDX-License-Identifier: Apache-2.0
"""Training without network: one set of pins, and bad input in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "train_offline"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="tools/ is not beside the tests")


def pins(name: str) -> dict[str, str]:
    """Return the version of each distribution that is pinned for a recent Python."""
    found = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        match = re.match(r"([\w.-]+)==([\w.]+)(?: ; python_version (>=|<))?", line)
        if match and match[3] != "<":
            found[match[1].lower()] = match[2]
    return found


def test_what_travels_is_what_is_tested():
    travels, tested = pins("gpu") | pins("warp"), pins("run") | pins("libs") | pins("train")
    assert "torch" not in travels and {"mujoco", "numpy", "rsl-rl-lib", "tensordict", "warp-lang"} <= set(travels)
    both = set(travels) & set(tested)
    assert len(both) >= 7 and {name: travels[name] for name in both} == {name: tested[name] for name in both}


@pytest.mark.parametrize(("arguments", "words"), [([], "usage"), (["nowhere"], "usage"), (["{}"], "holds no wheels")])
def test_bad_input_is_one_line(tmp_path, arguments, words):
    done = subprocess.run(
        [str(SCRIPT), *(part.format(tmp_path) for part in arguments)],
        capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_without_torch_it_says_so(tmp_path):
    done = subprocess.run(
        [str(SCRIPT), str(tmp_path)], capture_output=True, text=True, env={**os.environ, "PYTHON": "/bin/false"}
    )
    assert done.returncode == 2 and "has no torch" in done.stderr
