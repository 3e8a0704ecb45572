# SPDX-License-Identifier: Apache-2.0
"""What the drill makes of its trials: verdicts, tables, and a folder that goes on where it was left."""

import argparse
import json

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.safety import RULES  # noqa: E402
from genmimic.link.twin import HELP  # noqa: E402
from genmimic_ros import drill  # noqa: E402
from genmimic_ros.drill import CASES, SHORT, Case, Drill, Folder, Result, Trial, choose, summary, table  # noqa: E402

WELL = {"outside": {}, "first_fading_ms": None, "first_limp_ms": None, "stiff_after_limp": 0}
DAMPED = {**WELL, "first_fading_ms": 50.0, "first_limp_ms": 250.0}
OWN = ("kill", "term", "int", "stop", "throttle", "load", "say", "keys", "call", "files", "memory", "clock")


def trial(**changes):
    after = {"stiff": False, "fallen": False, "rope_n": 300.0}
    return Trial(**{
        "mode": "DAMPED", "rules": ["silence"], "text": "x", "fading_ms": 50.0, "limp_ms": 250.0, "outside": {},
        "after": after, "good": True, **changes,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("expect", "rules", "mode", "named", "report", "words"),
    [
        ("damp", ("silence",), Mode.DAMPED, ["silence"], DAMPED, ""),
        ("ride", (), Mode.MIMIC, [], WELL, ""),
        ("stand", ("battery",), Mode.READY, ["battery"], WELL, ""),
        ("hold", ("tracking",), Mode.HOLD, ["tracking"], WELL, ""),
        ("ride hold", ("*",), Mode.HOLD, ["goal_age"], WELL, ""),
        ("damp", (), Mode.MIMIC, [], WELL, "ride (MIMIC: no reason), expected damp"),
        ("ride", (), Mode.DAMPED, ["tilt"], DAMPED, "damp (DAMPED: tilt), expected ride"),
        ("ride", (), Mode.DAMPED, ["tilt"], WELL, "but no damping on the wire"),
        ("damp", (), Mode.DAMPED, [], {**DAMPED, "first_limp_ms": None}, "less stiffness on the wire, but no damping"),
        ("damp", (), Mode.DAMPED, [], {**DAMPED, "stiff_after_limp": 3}, "stiff again after it was limp"),
        ("damp", ("silence",), Mode.DAMPED, ["tilt"], DAMPED, "named tilt; expected one of silence"),
        ("damp", (), Mode.DAMPED, [], {**DAMPED, "outside": {"kp": 1}}, "commands outside the limits: {'kp': 1}"),
    ],
)
def test_a_trial_is_judged(expect, rules, mode, named, report, words):
    problem = Drill._problem(Case("x", "mark", expect, rules), mode, named, report)
    assert (problem == "") if not words else words in problem


def test_every_act_is_known_and_every_rule_exists():
    known = {rule.id for rule in RULES} | {"*", "estop"}
    orders = {line.split()[0] for line in HELP}
    for case in CASES:
        assert {act.split()[0] for act in case.act.split(";")} <= orders | set(OWN), case
        assert set(case.rules) <= known, case
        assert set(case.expect.split()) <= {"damp", "stand", "hold", "ride"}
    assert set(SHORT) <= {case.name for case in CASES} and len({case.name for case in CASES}) == len(CASES)


def test_rules_that_act_on_a_motion_have_a_case():
    """Those that cannot be broken from outside while a motion plays are judged in test_safety.py alone."""
    elsewhere = {
        "bridge_follows", "bridge_busy", "policy_age", "policy_fit", "standing", "untethered", "tether_lost",
        "battery_arm", "controller",
    }  # fmt: skip
    tried = {rule for case in CASES for rule in case.rules}
    assert {rule.id for rule in RULES} - tried == elsewhere


def test_every_misbehaviour_of_the_twin_has_a_case():
    tried = {act.split()[0] for case in CASES for act in case.act.split(";")}
    people = {"mark", "clear", "hang", "select", "operator", "stats", "report", "quit", "flip"}
    assert {line.split()[0] for line in HELP} - tried == people


def test_the_folder_goes_on_where_it_was_left(tmp_path):
    case = CASES[0]
    first, folder = Result(case), Folder(tmp_path / "drill")
    for made in (trial(), trial(fading_ms=70.0, good=False, problem="stiff again after it was limp")):
        first.trials.append(made)
        folder.add(case, made)
    folder.write(summary([first], 2))
    again = Result(case)
    Folder(tmp_path / "drill").read([again])
    assert again.trials == first.trials
    report = json.loads((tmp_path / "drill" / "drill.json").read_text())
    assert not report["success"] and report["complete"] and report["trials"] == 2
    row = report["faults"][0]
    assert row["damped_ms"] == {"p50": 60.0, "max": 70.0} and row["after"] == "limp, in the rope"
    assert (
        "| robot vanishes | silence | DAMPED | 60 / 70 | 0 | limp, in the rope | 1/2 |"
        in (tmp_path / "drill" / "drill.md").read_text()
    )
    assert "stiff again" in table(report["faults"])


def test_void_trials_are_kept_and_do_not_count(tmp_path):
    case, folder = CASES[0], Folder(tmp_path)
    folder.add(case, trial(stall_ms=80.0, good=False, problem="nothing happened"), void=True)
    again = Result(case)
    folder.read([again])
    assert again.trials == [] and again.void == 1
    report = summary([again], 1)
    assert report["void"] == 1 and not report["success"] and not report["complete"]
    again.trouble = "the machine stood still"
    assert again.row()["problems"] == ["the machine stood still"], "there is nothing else to tell"
    again.trials.append(trial())
    assert again.row()["problems"] == []


def test_a_trial_is_made_until_the_machine_lets_it(monkeypatch):
    """Void ones are made again, others come first after some, and an extra round catches up."""

    class Fake:
        made = 0

        def trial(self, case, repetition):
            Fake.made += 1
            if case is CASES[0] and Fake.made <= drill.VOID_TRIES:
                raise drill.DrillError("DAMPED")
            return trial(stall_ms=drill.STALL_MS + 1.0 if case is CASES[1] and Fake.made == 4 else 0.0)

    results = [Result(case) for case in CASES[:2]]
    drill._all(Fake(), results, argparse.Namespace(repeat=1, minutes=0.0), None)
    assert [(len(result.trials), result.void) for result in results] == [(1, drill.VOID_TRIES), (1, 1)]


def test_a_damaged_folder_is_refused(tmp_path):
    (tmp_path / "trials.jsonl").write_text('{"fault": "robot vanishes"}\n')
    with pytest.raises(ConfigError, match="line 1: not a trial"):
        Folder(tmp_path).read([Result(CASES[0])])


def test_success_needs_every_fault_tried():
    assert not summary([Result(CASES[0])], 1)["success"]
    assert summary([Result(CASES[0], [trial()])], 20)["success"]
    assert not summary([Result(CASES[0], [trial()])], 20)["complete"]


def test_cases_are_chosen_by_name_or_act():
    assert [case.name for case in choose(["robot vanishes"], False)] == ["robot vanishes"]
    assert {case.name for case in choose([], True)} == set(SHORT)
    with pytest.raises(ConfigError, match="no fault is called 'x'"):
        choose(["x"], False)


def test_a_clock_is_set_for_children_alone(tmp_path):
    import subprocess
    import sys
    import time

    clock = drill.SteppedClock.build(tmp_path)
    if clock is None:
        pytest.skip("no C compiler")
    code = "import time, sys\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    with clock.preloaded():
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask():
        child.stdin.write("\n")
        child.stdin.flush()
        wall, steady = map(float, child.stdout.readline().split())
        return wall - time.time(), steady - time.monotonic()

    try:
        for step in (0.0, 3600.0, -3600.0, 0.0):
            clock.step(step)
            wall, steady = ask()
            assert wall == pytest.approx(step, abs=60.0) and steady == pytest.approx(0.0, abs=60.0)
    finally:
        child.kill()
        child.communicate()
