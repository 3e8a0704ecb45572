# SPDX-License-Identifier: Apache-2.0
"""Each rule trips beyond its limit and not at it; times are passed in."""

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from genmimic.core.errors import ConfigError
from genmimic.core.modes import APPLIED, Mode, Reaction
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.safety import RULES, SafetyInputs, SafetyLimits, SafetyMonitor, lines, tilt_rad, worst
from genmimic.core.state import RobotState, position_command
from genmimic.link.config import DAMPING_FAULTS, LinkConfig
from genmimic.link.rules import bridge_table, monitor_table

MS = 1_000_000
NOW = 10_000 * MS
KNEE = ROBOT.joint_names.index("left_knee_joint")
WEIGHT = ROBOT.mass * 9.81
ZERO = np.zeros(23)
STATE = RobotState(
    stamp_ns=0,
    tick=100,
    joint_pos=ROBOT.default_joint_pos,
    joint_vel=ZERO,
    joint_torque=ZERO,
    joint_temperature=np.full(23, 40.0),
    base_quat_w=np.array([1.0, 0.0, 0.0, 0.0]),
    base_ang_vel_b=np.zeros(3),
    base_lin_acc_b=np.array([0.0, 0.0, 9.81]),
    battery=0.9,
)
COMMAND = position_command(ROBOT, ROBOT.default_joint_pos, sequence=1)
WELL = SafetyInputs(
    mode=Mode.MIMIC,
    mode_since_ns=NOW - 5000 * MS,
    applied_since_ns=NOW - 6000 * MS,
    state=STATE,
    state_received_ns=NOW,
    bridge_mode=Mode.MIMIC,
    command=COMMAND,
    command_received_ns=NOW,
    goal_received_ns=NOW,
    policy_received_ns=NOW,
    tracking_error_m=0.05,
    gantry_tension_n=0.0,
)
DISARMED = replace(WELL, mode=Mode.DISARMED, bridge_mode=Mode.DISARMED, applied_since_ns=None)


def with_joint(name, value, joint=KNEE):
    array = getattr(STATE, name).copy()
    array[joint] = value
    return replace(WELL, state=replace(STATE, **{name: array}))


def with_faults(*faults):
    return replace(WELL, state=replace(STATE, link_faults=faults))


def tilted(angle):
    return replace(WELL, state=replace(STATE, base_quat_w=np.array([math.cos(angle / 2), 0, math.sin(angle / 2), 0])))


def later(inputs, shift_ns):
    """The same inputs, with everything as old as it was, that much later."""
    names = [item.name for item in fields(inputs) if item.name.endswith("_ns")]
    times = {name: getattr(inputs, name) + shift_ns for name in names if getattr(inputs, name) is not None}
    state = inputs.state and replace(inputs.state, tick=inputs.state.tick + shift_ns // MS)
    return replace(inputs, state=state, **times)


def verdicts(inputs, seconds=0.0):
    """Check the same inputs for a while, 100 times a second, each as old as the one before; the rope was slack."""
    monitor = SafetyMonitor(ROBOT)
    monitor.check(NOW - 10 * MS, replace(later(WELL, -10 * MS), mode=inputs.mode))
    for step in range(round(seconds * 100) + 1):
        found = monitor.check(NOW + 10 * MS * step, later(inputs, 10 * MS * step))
    return found


def ids(found):
    return [verdict.rule for verdict in found]


# rule, inputs at the limit, inputs beyond it, how long it must last, a part of the text
CASES = [
    ("state_age", replace(WELL, state_received_ns=NOW - 100 * MS), replace(WELL, state_received_ns=NOW - 101 * MS), 0.0,
     "state is 101 ms old (limit 100 ms)"),
    ("state_finite", WELL, with_joint("joint_vel", math.nan), 0.0, "joint_vel of left_knee_joint is not"),
    ("state_finite", WELL, replace(WELL, state=replace(STATE, base_quat_w=np.full(4, math.inf))), 0.0, "IMU"),
    ("bridge_damped", WELL, replace(WELL, bridge_mode=Mode.DAMPED), 0.0, "the bridge is DAMPED by itself"),
    ("bridge_follows", WELL, replace(WELL, bridge_mode=Mode.STANDING), 0.5, "is STANDING while the mode is MIMIC"),
    ("bridge_busy", DISARMED, replace(DISARMED, bridge_mode=Mode.DAMPED), 0.0, "still DAMPED"),
    ("policy_age", replace(WELL, policy_received_ns=NOW - 500 * MS),
     replace(WELL, policy_received_ns=NOW - 501 * MS), 0.0, "policy status is 501 ms old (limit 500 ms)"),
    ("policy_age", WELL, replace(WELL, policy_received_ns=None), 0.0, "is policy_node running?"),
    ("policy_fit", WELL, replace(WELL, policy_problem="the policy is WAITING"), 0.0, "the policy is WAITING"),
    ("command_age", replace(WELL, command_received_ns=NOW - 60 * MS), replace(WELL, command_received_ns=NOW - 61 * MS),
     0.0, "joint command is 61 ms old (limit 60 ms)"),
    ("command_age", replace(WELL, applied_since_ns=NOW - 500 * MS, command_received_ns=None),
     replace(WELL, applied_since_ns=NOW - 501 * MS, command_received_ns=None), 0.0, "no joint_command for 501 ms"),
    ("command_finite", WELL, replace(WELL, command=replace(COMMAND, kp=np.full(23, math.nan))), 0.0,
     "the command's kp of left_hip_pitch_joint"),
    ("goal_age", replace(WELL, goal_received_ns=NOW - 200 * MS), replace(WELL, goal_received_ns=NOW - 201 * MS), 0.0,
     "goal is 201 ms old (limit 200 ms)"),
    ("goal_lost", replace(WELL, goal_received_ns=NOW - 1000 * MS), replace(WELL, goal_received_ns=NOW - 1001 * MS), 0.0,
     "goal is 1001 ms old (limit 1000 ms)"),
    ("goal_lost", replace(WELL, goal_received_ns=None, applied_since_ns=NOW - 1000 * MS),
     replace(WELL, goal_received_ns=None, applied_since_ns=NOW - 1001 * MS), 0.0, "no goal_keypoints since READY"),
    ("joint_pos", with_joint("joint_pos", 2.8798 + 0.1), with_joint("joint_pos", 2.8798 + 0.101), 0.0,
     "left_knee_joint is at 2.98 rad, 0.10 rad beyond its range (limit 0.10 rad)"),
    ("joint_pos", with_joint("joint_pos", -0.087267 - 0.1), with_joint("joint_pos", -0.087267 - 0.101), 0.0, "beyond"),
    ("joint_vel", with_joint("joint_vel", 20.0), with_joint("joint_vel", 20.1), 0.02,
     "left_knee_joint turns at 20.1 rad/s (limit 20.0 rad/s, either way)"),
    ("joint_vel", with_joint("joint_vel", -20.0), with_joint("joint_vel", -20.1), 0.02, "turns at -20.1 rad/s"),
    ("joint_torque", with_joint("joint_torque", 0.95 * 139), with_joint("joint_torque", -133.0), 1.0,
     "left_knee_joint gives -133 N m (limit 132 N m)"),
    ("temperature_warn", with_joint("joint_temperature", 90.0), with_joint("joint_temperature", 91.0), 0.0,
     "left_knee_joint is at 91 degrees Celsius (limit 90)"),
    ("temperature", with_joint("joint_temperature", 120.0), with_joint("joint_temperature", 121.0), 0.0, "limit 120"),
    ("tilt", tilted(1.0), tilted(1.01), 0.0, "the pelvis tilts by 1.01 rad (limit 1.00 rad)"),
    ("tilt", tilted(-1.0), tilted(-1.01), 0.0, "1.01 rad"),
    ("ang_vel", replace(WELL, state=replace(STATE, base_ang_vel_b=np.array([0.0, 6.0, 0.0]))),
     replace(WELL, state=replace(STATE, base_ang_vel_b=np.array([4.3, 4.3, 0.0]))), 0.04,
     "the pelvis turns at 6.1 rad/s (limit 6.0 rad/s)"),
    ("tracking", replace(WELL, tracking_error_m=0.3), replace(WELL, tracking_error_m=0.31), 1.0,
     "31 cm from their goals on average (limit 30 cm)"),
    ("gantry", replace(WELL, gantry_tension_n=0.6 * WEIGHT), replace(WELL, gantry_tension_n=0.61 * WEIGHT), 0.1,
     "the robot hangs, so it fell"),
    ("policy_period", replace(WELL, policy_period_s=0.025), replace(WELL, policy_period_s=0.026), 1.0,
     "takes 26 ms per step (limit 25 ms)"),
    ("standing", replace(WELL, mode=Mode.STANDING, mode_since_ns=NOW - 20_000 * MS),
     replace(WELL, mode=Mode.STANDING, mode_since_ns=NOW - 20_001 * MS), 0.0, "does not stand after 20 s"),
    ("battery_arm", replace(DISARMED, state=replace(STATE, battery=0.2)),
     replace(DISARMED, state=replace(STATE, battery=0.19)), 0.0, "the battery is at 19 % (limit 20 %)"),
    ("battery", replace(WELL, state=replace(STATE, battery=0.1)), replace(WELL, state=replace(STATE, battery=0.09)),
     0.0, "the battery is at 9 % (limit 10 %)"),
    *(
        (rule, with_faults("something_else: of no concern"), with_faults("other: x", f"{rule}: the bridge's words"),
         0.0, "the bridge's words")
        for rule in ("controller", "guard", "overrun", "second_writer", "mode_machine", "silence", "wrong_crc",
                     "state_late", "joint_frozen", "remote_lost")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "at", "beyond", "seconds", "text"), CASES)
def test_a_rule_trips_beyond_its_limit_and_not_at_it(rule, at, beyond, seconds, text):
    assert rule not in ids(verdicts(at, seconds + 0.1))
    if seconds:
        assert rule not in ids(verdicts(beyond, seconds - 0.01)), "too short"
    found = {verdict.rule: verdict for verdict in verdicts(beyond, seconds)}
    assert rule in found
    assert text in found[rule].text
    assert "\n" not in found[rule].text
    assert found[rule].reaction == next(row.reaction for row in RULES if row.id == rule)


def test_every_rule_has_a_case_here():
    elsewhere = {"state_frozen", "command_jump", "command_rate", "untethered", "tether_lost"}
    assert {case[0] for case in CASES} | elsewhere == {rule.id for rule in RULES}


@pytest.mark.parametrize("mode", list(Mode))
def test_all_is_well(mode):
    bridge = Mode.DISARMED if mode in (Mode.DAMPED, Mode.ESTOP) else mode
    inputs = replace(WELL, mode=mode, bridge_mode=bridge, mode_since_ns=NOW)
    assert verdicts(inputs, 2.0) == []
    unknown = replace(STATE, battery=math.nan, joint_temperature=np.full(23, math.nan))
    inputs = replace(inputs, state=unknown, gantry_tension_n=math.nan, tracking_error_m=math.nan)
    assert verdicts(inputs, 2.0) == [], "what is not measured is not judged"


def test_nothing_heard_yet_blocks_arming():
    found = SafetyMonitor(ROBOT).check(NOW, SafetyInputs(Mode.DISARMED))
    assert ids(found) == ["state_age", "policy_age"]
    assert worst(found) is Reaction.DAMP
    assert lines(found, Reaction.DAMP) == ["state_age: no robot_state yet; is g1_bridge_node running?"]


def test_a_frozen_robot_is_noticed_although_states_arrive():
    monitor = SafetyMonitor(ROBOT)
    for ms in range(0, 101, 5):
        assert monitor.check(NOW + ms * MS, replace(later(WELL, ms * MS), state=STATE)) == []
    frozen = replace(later(WELL, 105 * MS), state=STATE)
    assert ids(monitor.check(NOW + 105 * MS, frozen)) == ["state_frozen"]
    assert monitor.check(NOW + 105 * MS, later(WELL, 105 * MS)) == []


@pytest.mark.parametrize(
    ("jump", "steps", "trips"), [(1.5, 1, False), (1.51, 1, True), (-1.51, 1, True), (2.9, 2, False), (3.1, 2, True)]
)
def test_a_jump_is_judged_per_command(jump, steps, trips):
    monitor = SafetyMonitor(ROBOT)
    assert monitor.check(NOW, WELL) == []
    target = ROBOT.default_joint_pos.copy()
    target[KNEE] += jump
    after = replace(WELL, command=replace(COMMAND, sequence=1 + steps, joint_pos=target))
    assert ids(monitor.check(NOW, after)) == (["command_jump"] if trips else [])
    assert ids(monitor.check(NOW, after)) == (["command_jump"] if trips else []), "seen twice, it is the same jump"
    after = replace(after, command=replace(after.command, sequence=after.command.sequence + 1))
    assert monitor.check(NOW, after) == []


@pytest.mark.parametrize(("amplitude", "trips"), [(0.7, False), (0.9, True)])
def test_a_target_that_shakes_is_noticed(amplitude, trips):
    """Back and forth 50 times a second: 0.7 rad per 20 ms are 35 rad/s, 0.9 are 45; the limit is 40."""
    monitor, found = SafetyMonitor(ROBOT), []
    for step in range(25):
        now = NOW + 20 * MS * step
        target = ROBOT.default_joint_pos + (amplitude / 2 if step % 2 else -amplitude / 2) * (np.arange(23) == KNEE)
        command = replace(COMMAND, sequence=1 + step, joint_pos=target)
        found += monitor.check(now, replace(later(WELL, 20 * MS * step), command=command))
    assert set(ids(found)) == ({"command_rate"} if trips else set())
    if trips:
        assert found[-1].text == "the target of left_knee_joint moved at 45 rad/s over 200 ms (limit 40 rad/s)"
    rest = [NOW + 20 * MS * (25 + step) for step in range(15)]
    for step, now in enumerate(rest):
        command = replace(command, sequence=26 + step)
        found = monitor.check(now, replace(later(WELL, now - NOW), command=command))
    assert found == [], "at rest again"


def test_a_required_tether_must_be_taut_to_arm_and_measured_to_go_on():
    monitor = SafetyMonitor(ROBOT, SafetyLimits(tether_required=True))
    for tension, text in ((0.09 * WEIGHT, "carries 28 N"), (math.nan, "is not measured")):
        found = monitor.check(NOW, replace(DISARMED, gantry_tension_n=tension))
        assert ids(found) == ["untethered"] and text in found[0].text and found[0].reaction is Reaction.BLOCK
    assert monitor.check(NOW, replace(DISARMED, gantry_tension_n=0.1 * WEIGHT)) == []
    assert monitor.check(NOW, replace(WELL, gantry_tension_n=0.0)) == [], "slack while it dances"
    found = monitor.check(NOW, replace(WELL, gantry_tension_n=math.nan))
    assert ids(found) == ["tether_lost"] and found[0].reaction is Reaction.STAND


def test_a_jump_with_a_sequence_that_goes_back_is_one():
    """Nobody who restarts is back within 50 ms: in MIMIC it is another speaker. The drill got a jump past us so."""
    monitor, jumped = SafetyMonitor(ROBOT), replace(COMMAND, joint_pos=ROBOT.default_joint_pos + 2.0)
    monitor.check(NOW, replace(WELL, command=replace(COMMAND, sequence=500)))
    assert ids(monitor.check(NOW, replace(WELL, command=jumped))) == ["command_jump"]


def test_a_restarted_policys_first_command_is_no_jump():
    """It comes in STANDING, before it is applied."""
    monitor = SafetyMonitor(ROBOT)
    monitor.check(NOW, replace(WELL, command=replace(COMMAND, sequence=500)))
    standing = replace(WELL, mode=Mode.STANDING, mode_since_ns=NOW, bridge_mode=Mode.STANDING)
    jumped = replace(COMMAND, joint_pos=ROBOT.default_joint_pos + 2.0)
    assert monitor.check(NOW, replace(standing, command=jumped)) == []
    assert monitor.check(NOW, replace(WELL, command=replace(jumped, sequence=2))) == []


def test_the_fast_wave_and_the_push_recovery_pass_the_jump_rule():
    """0.6 rad at 2 Hz moves 0.15 rad in 20 ms; reversing a saturated knee takes 2 * 139 / 300 = 0.93 rad."""
    limit = SafetyLimits().command_jump_rad
    assert 0.6 * 2 * math.pi * 2.0 / 50 < limit
    reversal = 2.0 * ROBOT.joint_effort / ROBOT.kp
    legs = [name.endswith(("hip_pitch_joint", "hip_roll_joint", "knee_joint")) for name in ROBOT.joint_names]
    assert reversal[legs].max() < limit
    assert limit < 2.0 * ROBOT.action_scale * ROBOT.action_clip


def test_the_rope_matters_only_after_it_was_slack():
    monitor, taut = SafetyMonitor(ROBOT), replace(WELL, gantry_tension_n=WEIGHT)
    for step in range(100):
        assert monitor.check(NOW + 10 * MS * step, later(taut, 10 * MS * step)) == [], "the policy has just begun"
    monitor.check(NOW, WELL)
    assert monitor.check(NOW, taut) == []
    assert ids(monitor.check(NOW + 100 * MS, later(taut, 100 * MS))) == ["gantry"]
    monitor.check(NOW, DISARMED)
    for step in range(100):
        assert monitor.check(NOW + 10 * MS * step, later(taut, 10 * MS * step)) == [], "a new run"


def test_a_rule_that_recovers_starts_its_time_again():
    monitor, fast = SafetyMonitor(ROBOT), with_joint("joint_vel", 25.0)
    assert monitor.check(NOW, fast) == []
    assert monitor.check(NOW + 10 * MS, WELL) == []
    assert monitor.check(NOW + 20 * MS, fast) == []
    assert monitor.check(NOW + 30 * MS, fast) == []
    assert ids(monitor.check(NOW + 40 * MS, fast)) == ["joint_vel"]


def test_the_worst_comes_first():
    inputs = replace(tilted(1.2), goal_received_ns=NOW - 300 * MS, policy_problem="x")
    found = verdicts(inputs)
    assert ids(found) == ["tilt", "goal_age", "policy_fit"]
    assert worst(found) is Reaction.DAMP
    assert worst([]) is Reaction.OK
    assert [line.split(":")[0] for line in lines(found, Reaction.HOLD)] == ["tilt", "goal_age"]


def test_the_policys_silence_does_not_matter_before_ready():
    silent = replace(
        WELL, mode=Mode.STANDING, bridge_mode=Mode.STANDING, applied_since_ns=None, mode_since_ns=NOW,
        command=None, command_received_ns=None, goal_received_ns=None,
    )  # fmt: skip
    assert verdicts(silent, 1.0) == []


def test_tilt_by_hand():
    assert tilt_rad(np.array([1.0, 0, 0, 0])) == 0.0
    assert tilt_rad(np.array([math.cos(0.25), 0, 0, math.sin(0.25)])) == 0.0, "yaw is no tilt"
    assert tilt_rad(np.array([math.cos(0.4), math.sin(0.4), 0, 0])) == pytest.approx(0.8)
    assert math.isnan(tilt_rad(np.full(4, math.nan)))


@pytest.mark.parametrize("item", fields(SafetyLimits), ids=lambda item: item.name)
def test_limits_are_checked(item):
    assert item.metadata["description"]
    if isinstance(item.default, bool):
        return
    assert item.metadata["unit"]
    for bad in (item.metadata["low"] - 0.1, item.metadata["high"] * 2 + 1, math.nan):
        with pytest.raises(ConfigError, match=item.name):
            SafetyLimits(**{item.name: bad})


def test_limits_must_agree_with_each_other():
    with pytest.raises(ConfigError, match="goal_hold_s is 0.5; expected at most goal_damp_s, 0.3"):
        SafetyLimits(goal_hold_s=0.5, goal_damp_s=0.3)


def test_every_limit_is_used_by_a_rule():
    used = {name for rule in RULES for name in (*rule.limits, rule.lasts)} - {""}
    assert {item.name for item in fields(SafetyLimits)} <= used
    known = {item.name for settings in (SafetyLimits, LinkConfig) for item in fields(settings)}
    assert used <= known


def test_the_table_in_the_documentation_is_this_one():
    text = (Path(__file__).parents[2] / "docs" / "safety.md").read_text(encoding="utf-8")
    for table in (monitor_table(), bridge_table()):
        assert table in text, "run `python -m genmimic.link.rules` and put its output into docs/safety.md"


def test_the_bridge_damps_by_itself_on_nothing_lesser():
    reactions = {rule.id: rule.reaction for rule in RULES}
    assert all(reactions[name] is Reaction.DAMP for name in DAMPING_FAULTS)


def test_what_moves_the_robot_is_watched():
    for rule in ("state_age", "command_age", "goal_lost", "joint_vel", "tilt", "gantry"):
        assert next(row for row in RULES if row.id == rule).modes >= APPLIED
