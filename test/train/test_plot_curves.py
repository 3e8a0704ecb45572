# SPDX-License-Identifier: Apache-2.0
"""`tools/plot_curves`: the pictures of the model cards."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="drawing needs matplotlib")
ROOT = Path(__file__).parents[2]


def draw(curves: Path, picture: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "plot_curves"), str(curves), "-o", str(picture)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_cards_pictures_are_of_the_packed_runs(tmp_path):
    """Drawn again from the packed curves, each says what the file in docs/images does: titles, ranges, runs."""
    for kind in ("student", "teacher"):
        picture = tmp_path / f"{kind}.svg"
        done = draw(ROOT / "training" / kind / "curves.csv", picture)
        assert done.returncode == 0, done.stderr
        drawn, kept = (path.read_text() for path in (picture, ROOT / "docs" / "images" / f"curves-{kind}.svg"))
        words = [set(re.findall(r"<!-- (.*?) -->", text)) for text in (drawn, kept)]  # matplotlib draws words as paths
        assert words[0] == words[1] and "keypoint error, cm" in words[0]


def test_what_is_no_curve_is_one_line(tmp_path):
    (tmp_path / "curves.csv").write_text("a,b\n1,2\n")
    done = draw(tmp_path / "curves.csv", tmp_path / "picture.svg")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no curves" in done.stderr
    assert not (tmp_path / "picture.svg").exists()
