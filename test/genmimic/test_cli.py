# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, one-line errors, and what inspect and convert do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genmimic import __version__
from genmimic import cli as cli_module
from genmimic.cli import main
from genmimic.core.motion import load_motion
from genmimic.core.robot import G1_23DOF as ROBOT

WAVE = Path(__file__).parents[2] / "motions" / "wave.npz"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with exit code 2 and one line; return the line."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("genmimic: error: ") and captured.err.count("\n") == 1
    return captured.err


def twist2_file(path: Path) -> Path:
    frames = 31
    joint_pos = np.zeros((frames, 29))
    joint_pos[:, :12] = ROBOT.default_joint_pos[:12]
    joint_pos[:, 15] = np.linspace(0.0, 0.5, frames)
    fields = {
        "fps": 30.0,
        "root_pos": np.tile([1.0, 2.0, ROBOT.standing_height], (frames, 1)),
        "root_rot": np.tile([0.0, 0.0, 0.0, 1.0], (frames, 1)),
        "dof_pos": joint_pos,
    }
    path.write_bytes(pickle.dumps(fields, protocol=4))
    return path


def test_help_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"genmimic {__version__}"
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli_module.COMMANDS)
    for arguments in ([], ["dance"], ["inspect"], ["inspect", "--loud", "x.npz"], ["convert", "a", "b", "--fps", "x"]):
        assert main(arguments) == 2
        assert "error:" in capsys.readouterr().err


def test_help_is_quick() -> None:
    code = (
        "import sys; from genmimic.cli import build_parser; build_parser(); "
        "print([m for m in ('numpy', 'mujoco', 'mink', 'torch', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_inspect_as_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(WAVE)]) == 0
    text = capsys.readouterr().out
    for word in ("wave", "4.96 s, 249 frames at 50 Hz", "closest limit", "rad/s", "lowest sole", "Apache-2.0"):
        assert word in text
    assert main(["inspect", "--json", str(WAVE), str(WAVE)]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second and first["frames"] == 249 and first["source"]["licence"] == "Apache-2.0"
    assert abs(first["sole_height_m"]["median"]) < 0.005 and first["root_net_m"] < 0.2


def test_inspect_refuses_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no such file" in refused(capsys, "inspect", WAVE, tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    assert "not a whole npz file" in refused(capsys, "inspect", tmp_path / "bad.npz")


def test_convert(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("mink", reason="retargeting needs mink, of the 'retarget' extra")
    source, output = twist2_file(tmp_path / "raise.pkl"), tmp_path / "raise.npz"
    assert (
        main(["convert", str(source), str(output), "--licence", "MIT", "--repo", "a/b@12", "--crop", "0.2", "0.8"]) == 0
    )
    assert "raise, 0.60 s at 50 Hz" in capsys.readouterr().out
    motion = load_motion(output, ROBOT)
    assert (motion.source["licence"], motion.source["repo"], motion.source["commit"]) == ("MIT", "a/b", "12")
    assert motion.source["crop_s"] == [0.2, 0.8] and "cropped" in motion.source["changes"]
    np.testing.assert_allclose(motion.root_pos[0, :2], 0.0, atol=1e-6)

    before = output.read_bytes()
    assert "exists; give --force" in refused(capsys, "convert", source, output)
    assert output.read_bytes() == before
    assert main(["convert", str(source), str(output), "--force", "--mirror", "--name", "other"]) == 0
    mirrored = load_motion(output, ROBOT)
    assert mirrored.name == "other" and mirrored.source["mirrored"] is True
    right, left = (
        ROBOT.joint_names.index("right_shoulder_pitch_joint"),
        ROBOT.joint_names.index("left_shoulder_pitch_joint"),
    )
    assert np.ptp(mirrored.joint_pos[:, right]) > 0.3 > np.ptp(mirrored.joint_pos[:, left])


def test_convert_leaves_nothing_behind_when_it_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "out" / "m.npz"
    output.parent.mkdir()
    assert "no such file" in refused(capsys, "convert", tmp_path / "none.pkl", output)
    assert "expected .npz" in refused(capsys, "convert", WAVE, tmp_path / "m.pkl")
    assert "does not exist" in refused(capsys, "convert", WAVE, tmp_path / "nowhere" / "m.npz")
    assert "outside the motion's" in refused(capsys, "convert", WAVE, output, "--crop", 8, 9)
    assert "fps is -1" in refused(capsys, "convert", WAVE, output, "--fps", -1)
    assert list(output.parent.iterdir()) == []


def test_interruption_and_closed_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import genmimic.cli.inspect as command

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    assert main(["inspect", "x.npz"]) == 130
    assert capsys.readouterr().err.strip() == "genmimic: interrupted"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "import sys; from genmimic.cli import main; sys.exit(main(sys.argv[1:]))"
    files = [str(WAVE)] * 200
    process = subprocess.Popen(
        [sys.executable, "-c", code, "inspect", *files], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 0 and errors == b""
