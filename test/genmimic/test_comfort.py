# SPDX-License-Identifier: Apache-2.0
"""Everyday comfort: help that teaches, errors that name the fix, completion, colours, and doctor's software side."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genmimic import doctor_software
from genmimic.cli import COMMANDS, build_parser, main
from genmimic.cli.terminal import paint, paint_verdicts
from genmimic.cli.usage import EXAMPLES, Parser
from genmimic.core.errors import MissingDependencyError
from genmimic.link.doctor import FAIL, OK, WARN

ROOT = Path(__file__).parents[2]
WIDTH = 80


def parsers(name: str) -> dict[str, Parser]:
    """Return the program's parser under its own name, and one per subcommand."""
    if name == "genmimic":
        parser = build_parser()
    else:
        parser = pytest.importorskip("genmimic_train.cli").build_parser()
    return {name: parser, **{f"{name} {key}": value for key, value in parser._subcommands().items()}}


# help and errors ------------------------------------------------------------------------------------
@pytest.mark.parametrize("program", ["genmimic", "genmimic-train"])
def test_every_help_text_has_an_example_and_fits_a_terminal(program, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    for name, parser in parsers(program).items():
        text = parser.format_help()
        assert parser.examples and "example" in text, f"{name} --help has no example"
        wide = [line for line in text.splitlines() if len(line) > WIDTH]
        assert not wide, f"{name} --help: {wide[0]!r}"
        mute = [action.option_strings for action in parser._actions if action.option_strings and not action.help]
        assert not mute, f"{name}: {mute[0]} has no help text"


@pytest.mark.parametrize("program", ["genmimic", "genmimic-train"])
def test_examples_are_accepted_by_the_parsers_they_explain(program):
    every = parsers(program)
    for name, parser in every.items():
        for example in parser.examples:
            words = shlex.split(example.replace("\\\n", " "))
            assert words[0] == program and (name == program or words[1] == name.split()[1])
            if "--help" not in words:
                every[program].parse_args(words[1:])


def test_no_example_is_left_over():
    planned = {"view", "replay", "report", "compare"}
    assert set(EXAMPLES) - set(COMMANDS) - {""} <= planned


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mimik", "wave"], "did you mean 'mimic'?"),
        (["evaluate", "--rolouts", "3"], "did you mean --rollouts?"),
        (["evaluate", "--noise", "papr"], "did you mean 'paper'?"),
        (["convert"], "for example: genmimic convert"),
        ([], "see genmimic --help"),
        (["check", "wave", "--dry-run", "--xyzzy"], "unknown: --xyzzy; see genmimic check --help"),
    ],
)
def test_a_mistyped_command_is_one_line_that_names_the_fix(arguments, said, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert said in captured.err and "error:" in captured.err


def test_an_unlike_word_gets_no_suggestion(capsys):
    assert main(["xyzzy"]) == 2
    assert "did you mean" not in capsys.readouterr().err


# completion -----------------------------------------------------------------------------------------
def test_bash_completes_commands_options_and_choices(tmp_path, capsys):
    pytest.importorskip("shtab", reason="completion needs shtab")
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    assert main(["--print-completion", "bash"]) == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    (tmp_path / "dance.npz").touch()

    def complete(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        script = (
            f"source ./completion; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMPREPLY=(); "
            f"function=$(complete -p genmimic | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $function genmimic '{words[-1]}' ''; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        return set(done.stdout.split())

    assert complete("genmimic", "in") == {"inspect"}
    assert {"--rollouts", "--randomize"} <= complete("genmimic", "evaluate", "--r")
    assert complete("genmimic", "evaluate", "--noise", "p") == {"paper"}
    assert "dance.npz" in complete("genmimic", "inspect", "da")


# colours --------------------------------------------------------------------------------------------
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "coloured"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_go_to_terminals_alone(stream, variables, coloured, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\033[" in paint("text", "red", stream)) == coloured
    painted = paint_verdicts("ok    a\nfail  b ok\n", stream)
    assert painted.count("\033[0m") == (2 if coloured else 0)


# doctor ---------------------------------------------------------------------------------------------
def verdicts(**environ: str) -> dict[str, tuple[str, str]]:
    return {each.check: (each.verdict, each.fix) for each in (
        doctor_software._middleware(environ), doctor_software._discovery(environ),
    )}  # fmt: skip


def test_discovery_settings_that_break_are_found_with_their_fix(tmp_path):
    assert verdicts()["discovery"] == (OK, "")
    assert verdicts(ROS_AUTOMATIC_DISCOVERY_RANGE="OFF")["discovery"][0] == FAIL
    assert "SUBNET" in verdicts(ROS_AUTOMATIC_DISCOVERY_RANGE="LOCAL")["discovery"][1]
    assert verdicts(ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")["discovery"][0] == WARN  # brings shared memory back
    assert verdicts(FASTDDS_DEFAULT_PROFILES_FILE=str(tmp_path / "none.xml"))["discovery"][0] == FAIL
    assert verdicts(ROS_DOMAIN_ID="many")["discovery"][0] == FAIL
    assert verdicts(CYCLONEDDS_URI="<x/>")["discovery"][0] == WARN


def test_a_middleware_that_is_not_installed_is_found_before_it_ends_the_process(tmp_path, monkeypatch):
    (tmp_path / "librmw_fastrtps_cpp.so").touch()
    monkeypatch.setattr(doctor_software.importlib.util, "find_spec", lambda name: object())
    there = {"LD_LIBRARY_PATH": str(tmp_path)}
    assert verdicts(**there, RMW_IMPLEMENTATION="rmw_fastrtps_cpp")["middleware"][0] == OK
    verdict, fix = verdicts(**there, RMW_IMPLEMENTATION="rmw_cyclonedds_cpp")["middleware"]
    assert verdict == FAIL and "rmw_fastrtps_cpp" in fix
    with pytest.raises(MissingDependencyError, match="not installed; unset RMW_IMPLEMENTATION"):
        doctor_software.require_middleware({**there, "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})


def test_a_full_disk_and_a_folder_without_permission(tmp_path, monkeypatch):
    assert doctor_software._disk(tmp_path).verdict in (OK, WARN)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor_software.shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    assert doctor_software._disk(tmp_path).verdict == WARN


def test_a_policy_that_is_a_git_lfs_pointer_is_named(tmp_path, monkeypatch):
    pointer = tmp_path / "student.onnx"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
    import genmimic.policy

    monkeypatch.setattr(genmimic.policy, "find_policy", lambda: pointer)
    finding = doctor_software._files()
    assert finding.verdict == FAIL and "git lfs pull" in finding.fix


def test_drawing_switched_off_is_said(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "off")
    finding = doctor_software._drawing(os.environ)
    assert finding.verdict == WARN and "unset it" in finding.fix


def test_doctor_runs_without_ros_and_dds(tmp_path):
    """As in a plain `pip install`: with both made unimportable, every line is there and none is a traceback."""
    code = (
        "import sys\n"
        "for name in ('rclpy', 'cyclonedds', 'genmimic_ros.msg'): sys.modules[name] = None\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name in ('rclpy', 'cyclonedds') else find(name, *rest)\n"
        "from genmimic.cli import main\n"
        "sys.exit(main(['doctor', '--json']))\n"
    )
    environ = {**os.environ, "MUJOCO_GL": "off", "ROS_DOMAIN_ID": "42"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environ, timeout=120
    )
    report = json.loads(done.stdout)
    found = {finding["check"]: finding["verdict"] for finding in report["findings"]}
    assert found["ROS 2"] != OK and found["middleware"] == WARN and found["genmimic"] == OK
    assert done.returncode == (0 if report["success"] else 1) and "Traceback" not in done.stderr
