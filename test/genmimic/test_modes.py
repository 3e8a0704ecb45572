# SPDX-License-Identifier: Apache-2.0
"""The mode machine: every event in every mode, and what latches."""

from pathlib import Path

import pytest

from genmimic.core.modes import APPLIED, ARMED, Answer, Mode, ModeMachine, Reaction

PATHS = {
    Mode.DISARMED: (),
    Mode.STANDING: ("arm",),
    Mode.READY: ("arm", "stood"),
    Mode.MIMIC: ("arm", "stood", "start"),
    Mode.HOLD: ("arm", "stood", "start", "pause"),
    Mode.DAMPED: ("arm", "damp"),
    Mode.ESTOP: ("estop",),
}
EVENTS = ("arm", "start", "pause", "stop", "reset", "stood", "motion_done", "estop")
TRANSITIONS = {
    (Mode.DISARMED, "arm"): Mode.STANDING,
    (Mode.STANDING, "stood"): Mode.READY,
    (Mode.STANDING, "stop"): Mode.DISARMED,
    (Mode.READY, "start"): Mode.MIMIC,
    (Mode.MIMIC, "pause"): Mode.HOLD,
    (Mode.MIMIC, "stop"): Mode.READY,
    (Mode.MIMIC, "motion_done"): Mode.READY,
    (Mode.HOLD, "start"): Mode.MIMIC,
    (Mode.HOLD, "stop"): Mode.READY,
    (Mode.DAMPED, "reset"): Mode.DISARMED,
    (Mode.ESTOP, "reset"): Mode.DISARMED,
    **{(mode, "estop"): Mode.ESTOP for mode in Mode},
}


def send(machine: ModeMachine, event: str, now_ns: int = 0) -> Answer:
    if event == "damp":
        return machine.fault(now_ns, Reaction.DAMP, "tilt", "the pelvis tilts")
    return getattr(machine, event)(now_ns)


def machine_in(mode: Mode) -> ModeMachine:
    machine = ModeMachine()
    for event in PATHS[mode]:
        assert send(machine, event).accepted
    assert machine.mode is mode
    return machine


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("mode", list(Mode))
def test_every_event_in_every_mode(mode, event):
    machine = machine_in(mode)
    before = machine.reasons
    answer = send(machine, event, 7)
    wanted = TRANSITIONS.get((mode, event))
    assert "\n" not in answer.message
    if wanted is None:
        assert not answer.accepted
        assert machine.mode is mode
        assert machine.reasons == before
        assert answer.message.startswith(f"{event} refused in {mode.name}; accepted now: ")
    else:
        assert answer.accepted
        assert machine.mode is wanted
        assert answer.message.startswith(wanted.name)
        if wanted is not mode:
            assert machine.since_ns == 7


def test_the_numbers_are_those_of_the_messages():
    root = Path(__file__).parents[2]
    for file in ("SafetyStatus.msg", "RobotState.msg"):
        lines = [line.split("#")[0].strip() for line in (root / "msg" / file).read_text(encoding="utf-8").splitlines()]
        numbers = dict(line.removeprefix("uint8 ").split("=") for line in lines if "=" in line)
        assert {name: int(value) for name, value in numbers.items()} == {mode.name: mode.value for mode in Mode}


@pytest.mark.parametrize(("event", "mode"), [("arm", Mode.DISARMED), ("start", Mode.READY), ("start", Mode.HOLD)])
def test_what_blocks_is_named(event, mode):
    machine = machine_in(mode)
    answer = getattr(machine, event)(1, ["state_age: state is 130 ms old", "battery: low"])
    assert answer == Answer(False, f"{event} refused: state_age: state is 130 ms old; battery: low")
    assert machine.mode is mode


def test_the_policys_stretch_goes_from_ready_through_mimic_and_hold():
    machine = ModeMachine()
    machine.arm(1)
    assert machine.applied_since_ns is None
    for now, event in enumerate(("stood", "start", "pause", "start", "stop"), 2):
        send(machine, event, now)
        assert machine.mode in APPLIED
        assert machine.applied_since_ns == 2
    send(machine, "damp", 9)
    assert machine.applied_since_ns is None


@pytest.mark.parametrize("mode", sorted(ARMED))
def test_damp_latches_until_reset_and_reset_needs_all_to_be_well(mode):
    machine = machine_in(mode)
    machine.fault(5, Reaction.DAMP, "tilt", "first")
    assert machine.mode is Mode.DAMPED
    assert [str(reason) for reason in machine.reasons] == ["tilt: first"]
    assert not machine.arm(6).accepted
    answer = machine.reset(6, ["state_age: state is 130 ms old"])
    assert answer == Answer(False, "reset refused: state_age: state is 130 ms old")
    assert machine.mode is Mode.DAMPED
    assert machine.reset(7).accepted
    assert machine.mode is Mode.DISARMED
    assert machine.reasons == ()


def test_the_worst_wins_and_the_reasons_are_worst_first():
    machine = machine_in(Mode.MIMIC)
    machine.fault(1, Reaction.HOLD, "goal_age", "goal is old")
    assert machine.mode is Mode.HOLD
    machine.fault(2, Reaction.DAMP, "goal_lost", "goal is very old")
    machine.fault(3, Reaction.DAMP, "command_age", "command is old")
    machine.fault(4, Reaction.DAMP, "goal_lost", "another text")
    machine.fault(5, Reaction.HOLD, "battery", "low")
    assert machine.mode is Mode.DAMPED
    assert [str(reason) for reason in machine.reasons] == [
        "goal_lost: goal is very old",
        "command_age: command is old",
    ]
    machine.estop(6, "button")
    assert machine.mode is Mode.ESTOP
    assert [reason.rule for reason in machine.reasons] == ["estop", "goal_lost", "command_age"]
    machine.fault(7, Reaction.DAMP, "tilt", "fell")
    assert machine.mode is Mode.ESTOP, "a lesser fault does not lift it"
    assert machine.reasons[-1].rule == "tilt"


def test_hold_acts_on_a_motion_only():
    for mode in (Mode.DISARMED, Mode.STANDING, Mode.READY, Mode.DAMPED, Mode.ESTOP):
        machine = machine_in(mode)
        assert not machine.fault(1, Reaction.HOLD, "battery", "low").accepted
        assert machine.mode is mode
    machine = machine_in(Mode.MIMIC)
    assert machine.fault(1, Reaction.HOLD, "battery", "low").accepted
    assert machine.reasons[0].rule == "battery"
    assert machine.stop(2).accepted
    assert machine.reasons == ()


@pytest.mark.parametrize("mode", [Mode.MIMIC, Mode.HOLD])
def test_stand_ends_a_motion_and_says_why(mode):
    machine = machine_in(mode)
    assert machine.fault(1, Reaction.STAND, "battery", "low").accepted
    assert machine.mode is Mode.READY and [str(reason) for reason in machine.reasons] == ["battery: low"]
    machine.fault(2, Reaction.STAND, "remote_lost", "silent")
    assert [reason.rule for reason in machine.reasons] == ["battery", "remote_lost"]
    assert not machine.start(3, ["battery: low"]).accepted
    assert machine.start(4).accepted and machine.reasons == (), "it goes on when nothing speaks against it"


def test_stand_and_hold_change_nothing_where_no_motion_plays():
    for mode in (Mode.DISARMED, Mode.STANDING, Mode.READY, Mode.DAMPED, Mode.ESTOP):
        machine = machine_in(mode)
        assert not machine.fault(1, Reaction.STAND, "battery", "low").accepted
        assert machine.mode is mode


def test_the_reactions_are_ordered():
    assert Reaction.HOLD < Reaction.STAND < Reaction.DAMP < Reaction.ESTOP
    machine = machine_in(Mode.MIMIC)
    machine.fault(1, Reaction.STAND, "battery", "low")
    machine.fault(1, Reaction.HOLD, "tracking", "far")
    assert machine.mode is Mode.READY, "the lesser one does not stop the return to standing"
    machine.fault(2, Reaction.DAMP, "tilt", "fell")
    assert machine.mode is Mode.DAMPED


def test_what_only_warns_changes_nothing():
    for reaction in (Reaction.OK, Reaction.WARN, Reaction.BLOCK):
        machine = machine_in(Mode.MIMIC)
        assert not machine.fault(1, reaction, "temperature_warn", "warm").accepted
        assert machine.mode is Mode.MIMIC


def test_a_disarmed_robot_stays_disarmed_on_faults_but_not_on_estop():
    machine = ModeMachine()
    machine.fault(1, Reaction.DAMP, "state_age", "no robot_state yet")
    assert machine.mode is Mode.DISARMED
    machine.fault(1, Reaction.ESTOP, "button", "pressed")
    assert machine.mode is Mode.ESTOP
