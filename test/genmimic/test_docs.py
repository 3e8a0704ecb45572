# SPDX-License-Identifier: Apache-2.0
"""The documentation: links lead somewhere, commands exist, the quick ones run, tables agree with the code."""

from __future__ import annotations

import ast
import glob
import inspect
import json
import pickle
import re
import shlex
import shutil
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from genmimic.cli import build_parser, main
from genmimic.core.human import HumanMotion, load_human_motion, save_human_motion
from genmimic.core.manifest import PolicyManifest
from genmimic.core.motion import load_motion
from genmimic.core.robot import G1_23DOF as ROBOT

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("motions/*.md")])
SHELLS = ("bash", "sh", "")
"""Languages of fenced blocks that may hold commands; an unnamed one is a drawing or a terminal."""


# links ----------------------------------------------------------------------------------------------
def without_code(text: str) -> str:
    """Return a page without fenced blocks and code spans."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Python-Markdown's toc makes them (GitHub's are the same here)."""
    found = set()
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.*?) *$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue  # other sites: no network in tests
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target)
        if page.parent == DOCS and name and DOCS not in path.parents:
            broken.append(f"{target} (outside docs/, so not on the site)")
    assert not broken, f"{page.relative_to(ROOT)}: {', '.join(broken)}"


def test_every_page_has_one_place_in_the_navigation() -> None:
    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(value)

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = list(leaves(site["nav"]))
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))
    assert site["theme"]["font"] is False and site["strict"] is True  # works offline; nothing broken is published


# commands -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Command:
    """A command of a page: where it is, its text, its words."""

    page: Path
    line: int
    text: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Return first line, language and content of every fenced block."""
    text = page.read_text()
    for match in re.finditer(r"^( *)```([\w-]*)[^\n]*\n(.*?)^\1```", text, flags=re.MULTILINE | re.DOTALL):
        yield text[: match.start()].count("\n") + 2, match[2], match[3]


def commands(page: Path) -> Iterator[Command]:
    """Return the commands of a page's shell blocks, one by one, without comments, prompts and redirections."""
    for first, language, content in blocks(page):
        if language not in SHELLS:
            continue
        joined = re.sub(r"\\\n", lambda _: "\0", content)
        line = first
        for row in joined.split("\n"):
            text = " ".join(row.replace("\0", " ").split()).removeprefix("$ ")
            here, line = line, line + 1 + row.count("\0")
            if not text or text.startswith("#") or (language == "" and not _is_command(text)):
                continue
            if re.search(r"\$[\w@{]", text):
                continue  # part of a script with variables
            yield from split(page, here, text)


def split(page: Path, line: int, text: str) -> Iterator[Command]:
    """Return the simple commands of a line: of pipes the first, of ``a && b`` both, of ``eval "$(c)"`` the inner."""
    inner = re.fullmatch(r'eval "\$\((.*)\)"', text)
    text = inner[1] if inner else text
    lexer = shlex.shlex(text, posix=True, punctuation_chars="&|;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    dropped = False
    for word in [*lexer, "&&"]:
        if word in ("&&", ";", "&"):
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words:
                yield Command(page, line, " ".join(words), tuple(words))
            words, dropped = [], False
        elif word in ("|", ">", "<", ">>", "||"):
            dropped = True
        elif not dropped:
            words.append(word)


PROGRAMS = ("genmimic", "genmimic-train", "make", "ros2", "python", "docker")
OTHERS = {
    "git", "cd", "mkdir", "sudo", "pip", "rosdep", "colcon", "source", "export", "cp", "tensorboard", "ssh",
    "pre-commit", "kill", "mcap", "rosbags-convert", "plotjuggler", "for", "do", "done", "apt", "curl", "cat", "ls",
    "tar", "sha256sum", "python3", "foxglove-studio", "uv", "xdg-open", "rm", "taskset", "flock",
}  # fmt: skip
"""Programs that are not ours: not looked into."""


def program(word: str) -> str:
    return Path(word).name if word.startswith((".venv/bin/", "./")) else word


def _is_command(text: str) -> bool:
    return program(text.split()[0]) in (*PROGRAMS, *OTHERS)


ALL = [command for page in PAGES for command in commands(page)]
OURS = [command for command in ALL if program(command.words[0]) in PROGRAMS]


def test_commands_are_found() -> None:
    assert len(OURS) > 60 and {command.page.name for command in OURS} >= {"README.md", "tutorial.md", "training.md"}
    strange = [str(command) for command in ALL if not _is_command(command.text)]
    assert not strange, f"a program that this test does not know: {strange[:3]}"


def test_the_splitter_on_lines_worked_by_hand(tmp_path: Path) -> None:
    page = ROOT / "README.md"
    found = [c.words for c in split(page, 1, 'A=1 genmimic mimic wave && make test  # and "so on"')]
    assert found == [("genmimic", "mimic", "wave"), ("make", "test")]
    assert [c.words for c in split(page, 1, 'eval "$(genmimic --print-completion bash)"')] == [
        ("genmimic", "--print-completion", "bash")
    ]
    assert [c.words for c in split(page, 1, "genmimic evaluate --json | jq .total.sr")] == [
        ("genmimic", "evaluate", "--json")
    ]


def problem(parser: Any, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Return what the argument parser says against a command, or None."""
    if {"--help", "--version", "--print-completion"} & set(words):
        words = tuple(word for word in words if word.isupper() is False)
    try:
        parser.parse_args(list(words[1:]))
    except SystemExit as stop:
        text = capsys.readouterr().err.strip()
        return None if stop.code == 0 else text
    return None


def test_every_genmimic_command_is_accepted_by_its_parser(capsys: pytest.CaptureFixture[str]) -> None:
    train = pytest.importorskip("genmimic_train.cli").build_parser()
    parsers = {"genmimic": build_parser(), "genmimic-train": train}
    wrong = []
    for command in OURS:
        name = program(command.words[0])
        if name in parsers:
            error = problem(parsers[name], command.words, capsys)
            wrong += [f"{command}: {error}"] if error else []
    assert not wrong, "\n".join(wrong)


def test_every_command_named_in_the_text_exists() -> None:
    """Code spans such as `genmimic twin --no-operator`: the subcommand and each option are there."""
    train = pytest.importorskip("genmimic_train.cli").build_parser()
    parsers = {"genmimic": build_parser(), "genmimic-train": train}
    wrong = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for name, rest in re.findall(r"`(?:\.venv/bin/)?(genmimic(?:-train)?) ([^`]*)`", text.replace("\n", " ")):
            known = parsers[name]._subcommands()
            words = rest.split()
            options = [re.split(r"[=\[\]|]", word)[0] for word in words if word.startswith("--")]
            if words[0].isupper() or words[0] in ("...", "…"):
                continue  # a placeholder
            for verb in words[0].split("|"):
                parser = parsers[name] if verb.startswith("-") else known.get(verb)
                if parser is None:
                    wrong.append(f"{page.name}: {name} {rest}")
                    continue
                unknown = [option for option in options if option not in parser._option_string_actions]
                wrong += [f"{page.name}: {name} {rest}: {option}" for option in unknown]
    assert not wrong, "\n".join(wrong)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    wrong = []
    for command in OURS:
        if program(command.words[0]) == "make":
            named = [word for word in command.words[1:] if "=" not in word and not word.startswith("-")]
            wrong += [str(command) for word in named if word not in targets]
    spans = [(page.name, span) for page in PAGES for span in re.findall(r"`make ([a-z-]+)", page.read_text())]
    wrong += [f"{name}: make {span}" for name, span in spans if span not in targets]
    assert not wrong, wrong


def launch_arguments(file: str) -> set[str] | None:
    """Return the names that a launch file declares, from its ARGUMENTS or its DeclareLaunchArgument calls."""
    path = ROOT / "launch" / file
    if not path.is_file():
        return None
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ARGUMENTS":
            found |= {str(item.elts[0].value) for item in node.value.elts}  # type: ignore[attr-defined]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument":
            found |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def test_ros2_commands_name_files_arguments_topics_and_services_that_exist() -> None:
    interface = (DOCS / "ros-interface.md").read_text()
    names = {name if name.startswith("/") else f"/genmimic/{name}" for name in re.findall(r"^\| [a-z ]+ \| `([^`]+)`",
             interface, flags=re.MULTILINE)}  # fmt: skip
    nodes = set(re.findall(r"^### (\w+_node)$", interface, flags=re.MULTILINE))
    texts = [(str(command), command.words) for command in OURS if command.words[0] == "ros2"]
    spans = [
        (page.name, tuple(span.split()))
        for page in PAGES
        for span in re.findall(r"`(ros2 [^`]*)`", page.read_text().replace("\n", " "))
    ]
    wrong = []
    for where, words in [*texts, *spans]:
        if words[1:3] == ("launch", "genmimic_ros"):
            declared = launch_arguments(words[3])
            given = {word.split(":=")[0] for word in words[4:] if ":=" in word}
            if declared is None or not given <= declared:
                wrong.append(where)
        elif words[1:3] == ("service", "call") or words[1:3] in (("topic", "echo"), ("topic", "hz")):
            wrong += [where for word in words[3:] if word.startswith("/") and word not in names]
        elif words[1:2] == ("param",) and len(words) > 3:
            wrong += [where for word in words[3:4] if word.removeprefix("/genmimic/") not in nodes]
    assert len(texts) >= 8 and not wrong, wrong


def test_python_commands_name_modules_and_files_that_exist() -> None:
    texts = [command.words for command in OURS if program(command.words[0]) == "python"]
    texts += [
        tuple(span.split())
        for page in PAGES
        for span in re.findall(r"`(python (?:-m )?[^`]*)`", page.read_text().replace("\n", " "))
    ]
    wrong = []
    for words in texts:
        if words[1] == "-m" and words[2].startswith("genmimic"):
            path = ROOT / Path(*words[2].split("."))
            wrong += [] if path.with_suffix(".py").is_file() or (path / "__main__.py").is_file() else [words]
        elif words[1].endswith(".py"):
            wrong += [] if (ROOT / words[1]).is_file() else [words]
    assert not wrong, wrong


# running them ---------------------------------------------------------------------------------------
NOT_RUN = {
    "mimic": "starts the ROS 2 nodes and plays in real time: integration/test_mimic.py",
    "lift": "runs the pose landmarker over a video: genmimic/test_lift.py",
    "twin": "runs until it is stopped: integration/test_twin.py",
    "drill": "minutes of faults in real time: integration/test_drill.py",
    "doctor": "times the policy and listens for seconds: genmimic/test_doctor.py, genmimic/test_comfort.py",
    "view": "serves a page until it is stopped: genmimic/test_view.py",
    "replay": "needs the recording of a run: genmimic/test_replay.py",
    "report": "draws a video of a run: genmimic/test_report_page.py",
    "compare": "needs two runs: genmimic/test_report_page.py",
    "annotate": "needs runs and films: genmimic/test_report_page.py",
}
"""Commands that are only parsed here: why, and which tests run them."""

SHORTER = {
    "evaluate": ("--rollouts", "1", "--jobs", "1", "--keep", "0"),
    "check": ("--rollouts", "1"),
}
"""Options laid over those of a page, so that all of them together take seconds."""

USUAL = {".npz": "dance.npz", ".onnx": "policy.onnx", ".pkl": "clip.pkl", ".csv": "clip.csv"}
"""Stand-in for a file that a page names and that is not there, by its kind."""

DRAWS = {"--html", "--video", "--plots"}
OUTCOMES = {"evaluate": (0, 1), "check": (0, 1)}  # a fall is a result


def reason_not_to_run(words: tuple[str, ...]) -> str | None:
    """Return why a `genmimic` command of a page is only parsed, or None when it runs."""
    if words[1] in NOT_RUN:
        return NOT_RUN[words[1]]
    if words[1].startswith("-") or "--help" in words:
        return "prints a text: test_comfort.py"
    if DRAWS & set(words):
        return "draws for many seconds: test_check.py and test_retarget_human.py"
    if words[1] == "evaluate" and "--motions" not in words:
        return "all shipped motions: a minute"
    return None


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' commands read: short motions, a policy, G1 files, a person."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("motions", "my_motions", "data/set/test", "bench_motions", "GenMimicBench/Wan2.1"):
        (folder / name).mkdir(parents=True)
    shipped = ROOT / "motions"
    wave = load_motion(shipped / "wave.npz", ROBOT)
    for name in ("motions/wave", "my_motions/a", "data/set/test/b", "dance", "motion", "checked", "clip", "left_wave",
                 "bench_motions/wave_arms"):  # fmt: skip
        shutil.copy(shipped / "wave.npz", folder / f"{name}.npz")
    shutil.copy(shipped / "kick.npz", folder / "motions/kick.npz")
    for name in ("policy.onnx", "student.onnx"):
        shutil.copy(ROOT / "policies" / "student.onnx", folder / name)

    frames = 25 * 30
    joints = np.zeros((frames, 29))
    joints[:, :12] = ROBOT.default_joint_pos[:12]
    joints[:, 15] = np.sin(np.linspace(0.0, 20.0, frames)) * 0.3
    place = np.tile([0.3, 0.1, ROBOT.standing_height], (frames, 1))
    turn = np.tile([0.0, 0.0, 0.6, 0.8], (frames, 1))  # xyzw; read in another order, it would lie on the floor
    part = slice(0, 60)
    pickled = {"fps": 30.0, "root_pos": place[part], "root_rot": turn[part], "dof_pos": joints[part]}
    for name in ("clip.pkl", "dance.pkl"):
        (folder / name).write_bytes(pickle.dumps(pickled, protocol=4))
    for name in ("clip.csv", "walk.csv", "your_g1_motion.csv"):
        np.savetxt(folder / name, np.hstack([place, turn, joints]), delimiter=",", fmt="%.6f")

    names = {"hip": "hip_pitch", "knee": "knee", "ankle": "ankle_roll", "shoulder": "shoulder_pitch",
             "elbow": "elbow", "wrist": "wrist_roll"}  # fmt: skip
    pairs = {f"{side}_{joint}": f"{side}_{point}" for side in ("left", "right") for joint, point in names.items()}
    pairs["pelvis"], pairs["head"] = "pelvis", "head"
    points = 1.3 * wave.keypoint_pos[:60, ROBOT.keypoint_idx(list(pairs.values()))]
    person = HumanMotion(wave.fps, tuple(pairs), points, np.ones(points.shape[:2]), "person", {"licence": "Apache-2.0"})
    save_human_motion(folder / "person.npz", person)
    shutil.copy(folder / "person.npz", folder / "GenMimicBench/Wan2.1/wave_arms.npz")
    return folder


def test_what_is_not_run_here_is_run_elsewhere() -> None:
    for verb, reason in NOT_RUN.items():
        for name in re.findall(r"\w+/test_\w+\.py", reason):
            assert verb in (ROOT / "test" / name).read_text(), f"{name} says nothing of {verb!r}"


def runnable() -> list[Command]:
    """Return every `genmimic` command of the pages that is run, each text once."""
    found: dict[tuple[str, ...], Command] = {}
    for command in OURS:
        words = ("genmimic", *command.words[1:])
        if program(command.words[0]) == "genmimic" and reason_not_to_run(words) is None:
            found.setdefault(words, command)
    return list(found.values())


def test_the_quick_commands_really_run(
    stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mink", reason="convert needs mink, of the 'retarget' extra")
    failed, ran = [], set()
    for number, command in enumerate(runnable()):
        folder = tmp_path / str(number)
        shutil.copytree(stand_ins, folder)
        monkeypatch.chdir(folder)
        words: list[str] = []
        for word in command.words[1:]:
            words += sorted(glob.glob(word)) if "*" in word else [word]
        verb = words[0]
        outputs = [words[idx + 1] for idx, word in enumerate(words[:-1]) if word in ("-o", "--output")]
        outputs += words[2:3] if verb == "convert" else []
        for output in outputs:
            if Path(output).suffix == ".npz":
                Path(output).unlink(missing_ok=True)
        for word in words[1:]:
            kind = Path(word).suffix
            if kind in USUAL and word not in outputs and not Path(word).exists():
                Path(word).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy("person.npz" if verb == "retarget" else USUAL[kind], word)
        code = main([*words, *SHORTER.get(verb, ())])
        said = capsys.readouterr()
        if code not in OUTCOMES.get(verb, (0,)):
            failed.append(f"{command}: exit code {code}: {said.err.strip() or said.out.strip()[-300:]}")
        failed += [f"{command}: no {output}" for output in outputs if not Path(output).exists()]
        if verb == "retarget" and not failed:
            load_human_motion(folder / "person.npz")
        ran.add(verb)
        shutil.rmtree(folder, ignore_errors=True)
    assert not failed, "\n".join(failed)
    assert ran >= {"inspect", "convert", "check", "evaluate", "retarget", "bench"}


# containers -----------------------------------------------------------------------------------------
def test_containers_install_what_the_tutorial_asks_for() -> None:
    """Neither can be built here: no Docker. What can be held against each other is."""
    asked = re.search(r"^sudo apt install (.*)$", (DOCS / "tutorial.md").read_text(), flags=re.MULTILINE)
    assert asked is not None
    docker = (ROOT / "Dockerfile").read_text()
    container = json.loads(re.sub(r"^\s*//.*$", "", (ROOT / ".devcontainer/devcontainer.json").read_text(), flags=re.M))
    for package in asked[1].split():
        assert re.search(rf"^ +{re.escape(package)} ", docker, flags=re.MULTILINE), f"Dockerfile lacks {package}"
        assert package in container["onCreateCommand"].split(), f"devcontainer.json lacks {package}"
    assert "make setup" in docker and container["postCreateCommand"] == "make setup"
    copied = re.findall(r"^COPY --chown=\S+ (\S+) ", docker, flags=re.MULTILINE)
    assert all((ROOT / path).exists() for path in copied)


# tables ---------------------------------------------------------------------------------------------
def table(page: str, heading: str) -> list[str]:
    """Return the names in the first column of the first table below a heading."""
    section = (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE)


def test_the_page_of_formats_agrees_with_the_code(stand_ins: Path) -> None:
    from genmimic.evaluate.metrics import METRICS
    from genmimic.evaluate.report import REPORT_FORMAT, check_report, trajectory_fields

    with np.load(ROOT / "motions" / "wave.npz") as data:
        assert sorted(table("formats.md", "Robot motion")) == sorted(data.files)
    with np.load(stand_ins / "person.npz") as data:
        assert sorted(table("formats.md", "Human motion")) == sorted(data.files)
    assert table("formats.md", "Policy") == [item.name for item in fields(PolicyManifest)]
    assert sorted(table("formats.md", "Trajectory")) == sorted([*trajectory_fields(ROBOT), "motion_frames"])
    page = (DOCS / "formats.md").read_text()
    assert all(f"`{name}`" in page for name in METRICS) and REPORT_FORMAT in page
    required = re.findall(r'"(\w+)": (?:str|int|dict|bool|list)', inspect.getsource(check_report))
    assert sorted(table("formats.md", "Report")) == sorted({"format", *required})


def test_the_data_set_s_table_agrees_with_the_code() -> None:
    from genmimic_train.data import dataset

    source = inspect.getsource(dataset.build_dataset)
    record = source[source.index("record = {") : source.index("write_whole(")]
    top = re.findall(r'^        "(\w+)":', record, flags=re.MULTILINE)
    assert table("formats.md", "Data set") == top and dataset.DATASET_FORMAT in (DOCS / "formats.md").read_text()


def test_python_examples_are_whole(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block compiles; the page of formats is also run."""
    for page in PAGES:
        for line, language, content in blocks(page):
            if language == "python":
                compile(content, f"{page.name}:{line}", "exec")
    monkeypatch.chdir(stand_ins)
    for _, language, content in blocks(DOCS / "formats.md"):
        if language == "python":
            exec(content, {})


def test_json_examples_are_json() -> None:
    for page in PAGES:
        for line, language, content in blocks(page):
            if language == "json":
                try:
                    json.loads(content)
                except json.JSONDecodeError as error:
                    pytest.fail(f"{page.name}:{line}: {error}")
