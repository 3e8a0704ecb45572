# SPDX-License-Identifier: Apache-2.0
"""The bridge's last line: what it lets through, and how it damps. Times are passed in."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from genmimic.core.errors import ConfigError
from genmimic.core.gate import CommandGate, GateConfig, Heartbeat
from genmimic.core.modes import APPLIED, DAMPING, Mode
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.state import RobotState, all_finite, position_command

MS = 1_000_000
ZERO = np.zeros(23)
KNEE = ROBOT.joint_names.index("left_knee_joint")


def state_at(joint_pos):
    return RobotState(
        0, 0, np.asarray(joint_pos, float), ZERO, ZERO, np.full(23, 40.0),
        np.array([1.0, 0, 0, 0]), np.zeros(3), np.array([0, 0, 9.81]),
    )  # fmt: skip


class Bench:
    """A gate with a live heartbeat, a measured pose, and a policy's command."""

    def __init__(self, config=None, joint_pos=None):
        self.gate = CommandGate(ROBOT, config)
        self.now_ns = 0
        self.state = state_at(ROBOT.default_joint_pos if joint_pos is None else joint_pos)
        self.command, self.received_ns = None, None
        self.sequence = 0

    def policy(self, joint_pos=None, **changes):
        self.sequence += 1
        command = position_command(ROBOT, ROBOT.default_joint_pos if joint_pos is None else joint_pos)
        self.command = replace(command, sequence=self.sequence, **changes)
        self.received_ns = self.now_ns

    def at(self, ms, mode, beat_ms=None, state="live"):
        self.now_ns = ms * MS
        beat = self.now_ns if beat_ms is None else beat_ms * MS
        seen = self.state if state == "live" else state
        return self.gate.gate(self.now_ns, mode, beat, self.command, self.received_ns, seen)

    def ready(self):
        """Through DISARMED and STANDING to the first policy command in READY at 5000 ms."""
        self.at(0, Mode.DISARMED)
        for ms in range(5, 4900, 5):
            self.at(ms, Mode.STANDING)
        assert self.gate.standing
        self.now_ns = 5000 * MS
        self.policy()
        result = self.at(5000, Mode.READY)
        assert result.mode is Mode.READY
        return result


def is_braking(command, kd=8.0):
    return not command.kp.any() and np.allclose(command.kd, kd) and not command.joint_torque.any()


# damping ------------------------------------------------------------------------------------------
def test_before_the_first_word_it_brakes():
    bench = Bench()
    result = bench.gate.gate(0, None, None, None, None, None)
    assert result.mode is Mode.DAMPED
    assert result.reason == "waiting for the safety monitor to say DISARMED"
    assert not result.command.kp.any()
    assert bench.at(10, Mode.DISARMED).mode is Mode.DISARMED
    assert bench.at(10, Mode.DISARMED).reason == ""


@pytest.mark.parametrize("mode", [Mode.STANDING, *sorted(APPLIED)])
def test_a_bridge_that_starts_late_damps(mode):
    bench = Bench()
    bench.policy()
    assert bench.at(0, mode).mode is Mode.DAMPED
    assert is_braking(bench.at(1000, mode).command)


@pytest.mark.parametrize("mode", sorted(APPLIED))
def test_the_policy_needs_standing_before_it(mode):
    bench = Bench()
    bench.at(0, Mode.DISARMED)
    bench.policy()
    result = bench.at(5, mode)
    assert result.mode is Mode.DAMPED
    assert result.reason == f"{mode.name} without STANDING before it"
    bench = Bench()
    bench.at(0, Mode.DISARMED)
    bench.at(5, Mode.STANDING)
    bench.policy()
    assert bench.at(100, mode).reason == f"{mode.name} before the robot stands"


@pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.DAMPED, Mode.ESTOP])
def test_stiffness_fades_and_the_robot_is_not_dropped(mode):
    bench = Bench()
    bench.ready()
    bench.state = state_at(ROBOT.default_joint_pos + 0.05)
    first = bench.at(5010, mode)
    assert first.mode is mode
    np.testing.assert_allclose(first.command.kp, ROBOT.kp)
    np.testing.assert_allclose(first.command.joint_pos, ROBOT.default_joint_pos + 0.05, err_msg="holds where it is")
    bench.state = state_at(ROBOT.default_joint_pos + 0.3)
    half = bench.at(5110, mode)
    np.testing.assert_allclose(half.command.kp, 0.5 * ROBOT.kp)
    np.testing.assert_allclose(half.command.kd, 0.5 * (ROBOT.kd + 8.0))
    np.testing.assert_allclose(half.command.joint_pos, ROBOT.default_joint_pos + 0.05)
    assert is_braking(bench.at(5210, mode).command)
    assert is_braking(bench.at(9999, mode).command)


def test_a_pose_that_is_measured_wrongly_does_not_pull_while_stiffness_fades():
    bench = Bench()
    before = bench.ready().command.joint_pos
    bench.state = state_at(ROBOT.default_joint_pos + 3.0)
    ahead = GateConfig().limit_torque_ratio * ROBOT.joint_effort / ROBOT.kp
    for ms in range(5005, 5200, 5):
        command = bench.at(ms, Mode.DAMPED).command
        assert command.kp.any() and (np.abs(command.joint_pos - before) <= GateConfig().target_step_rad + 1e-9).all()
        assert (command.joint_pos <= ROBOT.joint_upper + ahead + 1e-9).all()


def test_the_ramp_may_be_none():
    bench = Bench(GateConfig(damping_ramp_s=0.0, damping_kd=5.0))
    bench.ready()
    assert is_braking(bench.at(5010, Mode.ESTOP).command, 5.0)


# timeouts -----------------------------------------------------------------------------------------
def test_the_policys_silence_damps_after_exactly_its_time():
    bench = Bench()
    bench.ready()
    assert bench.at(5050, Mode.READY).mode is Mode.READY
    result = bench.at(5051, Mode.READY)
    assert result.mode is Mode.DAMPED
    assert result.reason == "the joint command is 51 ms old (limit 50 ms)"


def test_a_policy_killed_while_the_bridge_runs_at_200_hz_damps_within_60_ms():
    bench = Bench()
    bench.ready()
    times = [ms for ms in range(5005, 5100, 5) if bench.at(ms, Mode.READY).mode is Mode.DAMPED]
    assert times[0] - 5000 <= 60


def test_the_monitors_silence_damps_after_exactly_its_time():
    bench = Bench()
    bench.ready()
    bench.now_ns = 5100 * MS
    bench.policy()
    assert bench.at(5100, Mode.READY, beat_ms=5000).mode is Mode.READY
    result = bench.at(5101, Mode.READY, beat_ms=5000)
    assert result.mode is Mode.DAMPED
    assert result.reason == "the safety heartbeat is 101 ms old (limit 100 ms)"


@pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.STANDING])
def test_the_monitors_silence_damps_in_every_mode(mode):
    bench = Bench()
    bench.at(0, Mode.DISARMED)
    bench.at(5, mode)
    assert bench.at(106, mode, beat_ms=5).mode is Mode.DAMPED


def test_it_stays_damped_until_disarmed_was_said_alive():
    bench = Bench()
    bench.ready()
    bench.at(5200, Mode.READY)
    for ms, mode in ((5300, Mode.READY), (5400, Mode.MIMIC), (5500, Mode.STANDING), (5600, Mode.DAMPED)):
        bench.now_ns = ms * MS
        bench.policy()
        result = bench.at(ms, mode)
        assert result.mode is Mode.DAMPED
        assert result.reason == "the joint command is 200 ms old (limit 50 ms)", "the first cause stays"
    assert bench.at(5700, Mode.DISARMED, beat_ms=5500).mode is Mode.DAMPED, "an old DISARMED is no word"
    assert bench.at(5800, Mode.DISARMED).mode is Mode.DISARMED
    assert bench.at(5805, Mode.STANDING).mode is Mode.STANDING


@pytest.mark.parametrize("mode", sorted(DAMPING))
def test_damped_by_the_monitor_also_needs_disarmed(mode):
    bench = Bench()
    bench.ready()
    assert bench.at(5005, mode).mode is mode
    bench.now_ns = 5010 * MS
    bench.policy()
    assert bench.at(5010, Mode.READY).mode is Mode.DAMPED
    assert bench.at(5015, Mode.STANDING).mode is Mode.DAMPED


def test_after_ready_the_policy_has_a_moment_for_its_first_command():
    bench = Bench()
    bench.at(0, Mode.DISARMED)
    for ms in range(5, 3000, 5):
        bench.at(ms, Mode.STANDING)
    for ms in range(3000, 3501, 5):
        result = bench.at(ms, Mode.READY)
        assert result.mode is Mode.READY
        np.testing.assert_array_equal(result.command.joint_pos, ROBOT.default_joint_pos)
        assert not bench.gate.policy_speaks
    result = bench.at(3505, Mode.READY)
    assert result.mode is Mode.DAMPED
    assert result.reason == "no joint command within 500 ms of READY"


def test_the_moment_is_not_renewed_by_mimic():
    bench = Bench()
    bench.at(0, Mode.DISARMED)
    for ms in range(5, 3000, 5):
        bench.at(ms, Mode.STANDING)
    bench.at(3000, Mode.READY)
    bench.at(3300, Mode.MIMIC)
    assert bench.at(3505, Mode.MIMIC).mode is Mode.DAMPED


def test_a_heartbeat_must_rise():
    heart = Heartbeat()
    heart.beat(1, 10)
    assert heart.received_ns is None, "the first says nothing about life"
    heart.beat(2, 11)
    assert heart.received_ns == 2
    heart.beat(3, 11)
    assert heart.received_ns == 2, "it stands still"
    heart.beat(4, 0)
    assert heart.received_ns == 2, "its sender was started again"
    heart.beat(5, 1)
    assert heart.received_ns == 5


# standing -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("offset", "seconds"), [(0.0, 2.0), (0.5, 2.0), (1.5, 3.0)])
def test_the_way_into_standing_is_smooth_and_slow(offset, seconds):
    start = ROBOT.default_joint_pos.copy()
    start[KNEE] += offset
    bench = Bench(joint_pos=start)
    bench.at(0, Mode.DISARMED)
    targets, times = [], range(1000, 1000 + round(1000 * seconds) + 20, 5)
    for ms in times:
        result = bench.at(ms, Mode.STANDING)
        assert result.mode is Mode.STANDING
        np.testing.assert_array_equal(result.command.kp, ROBOT.kp)
        targets.append(result.command.joint_pos)
        assert bench.gate.standing == (ms >= 1000 + 1000 * seconds)
    targets = np.array(targets)
    np.testing.assert_allclose(targets[0], start)
    np.testing.assert_array_equal(targets[-1], ROBOT.default_joint_pos)
    speed = np.abs(np.diff(targets[:, KNEE])) / 0.005
    assert speed.max() <= 1.9 * offset / seconds + 1e-9
    assert speed[0] < 0.01 and speed[-1] == 0.0


def test_standing_begins_at_the_pose_that_is_measured_then():
    bench = Bench()
    bench.at(0, Mode.DISARMED)
    bench.at(5, Mode.STANDING)
    bench.at(10, Mode.DISARMED)
    bench.state = state_at(ROBOT.default_joint_pos - 0.4)
    np.testing.assert_allclose(bench.at(15, Mode.STANDING).command.joint_pos, ROBOT.default_joint_pos - 0.4)


# what passes --------------------------------------------------------------------------------------
def test_an_ordinary_command_passes_unchanged_and_at_once():
    bench = Bench()
    bench.ready()
    wave = ROBOT.default_joint_pos + 0.6 * np.sin(np.arange(23))
    bench.now_ns = 5020 * MS
    bench.policy(wave, joint_vel=np.full(23, 0.5), joint_torque=np.full(23, 2.0))
    for ms, mode in ((5020, Mode.READY), (5025, Mode.MIMIC), (5030, Mode.HOLD)):
        result = bench.at(ms, mode)
        assert result.mode is mode
        inside = np.clip(wave, ROBOT.joint_lower, ROBOT.joint_upper) == wave
        assert inside.sum() > 15
        np.testing.assert_array_equal(result.command.joint_pos[inside], wave[inside])
        np.testing.assert_array_equal(result.command.kp, ROBOT.kp)
        np.testing.assert_array_equal(result.command.joint_vel, np.full(23, 0.5))
        np.testing.assert_array_equal(result.command.joint_torque, np.full(23, 2.0))
        assert bench.gate.policy_speaks


def test_a_wild_target_comes_in_steps_and_stops_near_the_joints_range():
    bench = Bench()
    bench.ready()
    for step in range(1, 9):
        bench.now_ns = (5000 + 20 * step) * MS
        bench.policy(ROBOT.default_joint_pos + 50.0)
        result = bench.at(5000 + 20 * step, Mode.READY)
        again = bench.at(5005 + 20 * step, Mode.READY)
        np.testing.assert_array_equal(result.command.joint_pos, again.command.joint_pos)
        moved = result.command.joint_pos - ROBOT.default_joint_pos
        assert moved.max() <= step * 1.0 + 1e-9
    highest = ROBOT.joint_upper + 0.5 * ROBOT.joint_effort / ROBOT.kp
    np.testing.assert_allclose(result.command.joint_pos, highest)
    # worked by hand, at the end of the range the left ankle's roll presses with 40 * 0.5 * 50 / 40 = 25 N m
    roll = ROBOT.joint_names.index("left_ankle_roll_joint")
    assert 40.0 * (result.command.joint_pos[roll] - ROBOT.joint_upper[roll]) == pytest.approx(25.0)


def test_the_range_may_be_strict():
    bench = Bench(GateConfig(limit_torque_ratio=0.0, target_step_rad=5.0))
    bench.ready()
    bench.now_ns = 5020 * MS
    bench.policy(ROBOT.default_joint_pos - 5.0)
    np.testing.assert_allclose(
        bench.at(5020, Mode.READY).command.joint_pos, np.maximum(ROBOT.joint_lower, ROBOT.default_joint_pos - 5.0)
    )


def test_gains_speed_and_torque_stay_within_the_robots_table():
    bench = Bench()
    bench.ready()
    bench.now_ns = 5020 * MS
    bench.policy(kp=np.full(23, 1e4), kd=np.full(23, -3.0), joint_vel=np.full(23, 1e3), joint_torque=np.full(23, -1e3))
    command = bench.at(5020, Mode.READY).command
    np.testing.assert_array_equal(command.kp, ROBOT.kp)
    np.testing.assert_array_equal(command.kd, ZERO)
    np.testing.assert_array_equal(command.joint_vel, ROBOT.joint_speed)
    np.testing.assert_array_equal(command.joint_torque, -ROBOT.joint_effort)


@pytest.mark.parametrize("name", ["joint_pos", "joint_vel", "joint_torque", "kp", "kd"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_damps_at_once(name, value):
    bench = Bench()
    bench.ready()
    bench.now_ns = 5020 * MS
    bench.policy(**{name: np.where(np.arange(23) == 7, value, 0.1)})
    result = bench.at(5020, Mode.MIMIC)
    assert result.mode is Mode.DAMPED
    assert result.reason == f"the command's {name} is not finite"
    assert result.command.is_finite()


def test_a_command_of_the_wrong_shape_damps_at_once():
    bench = Bench()
    bench.ready()
    bench.now_ns = 5020 * MS
    bench.policy(np.zeros(29))
    assert bench.at(5020, Mode.MIMIC).reason == "the command's joint_pos has shape (29,), expected (23,)"


@pytest.mark.parametrize("mode", [Mode.STANDING, Mode.READY])
def test_a_state_that_is_not_finite_or_missing_damps_with_finite_numbers(mode):
    for bad in (None, state_at(np.full(23, math.nan))):
        bench = Bench()
        if mode is Mode.READY:
            bench.ready()
        else:
            bench.at(4990, Mode.DISARMED)
            bench.at(4995, Mode.STANDING)
        result = bench.at(5005, mode, state=bad)
        assert result.mode is Mode.DAMPED
        assert result.command.is_finite()


def test_trip_keeps_the_first_reason():
    bench = Bench()
    bench.ready()
    bench.gate.trip("the bridge stops")
    bench.gate.trip("something else")
    assert bench.at(5005, Mode.READY).reason == "the bridge stops"


def test_whatever_comes_in_what_goes_out_is_finite_and_within_the_table():
    rng = np.random.default_rng(0)
    bench = Bench()
    modes = [None, *Mode]
    for step in range(3000):
        ms = 5 * step
        bench.now_ns = ms * MS
        if rng.random() < 0.3:
            scale = rng.choice([0.1, 1.0, 100.0])
            bench.policy(
                ROBOT.default_joint_pos + scale * rng.standard_normal(23),
                kp=rng.choice([1.0, np.nan, 1e9], p=[0.98, 0.01, 0.01]) * ROBOT.kp,
            )
        pose = ROBOT.default_joint_pos + rng.choice([0.1, np.nan], p=[0.99, 0.01]) * rng.standard_normal(23)
        mode = modes[rng.integers(len(modes))] if rng.random() < 0.02 else (modes[1 + (step // 700) % 4])
        result = bench.at(ms, mode, state=state_at(pose))
        command = result.command
        assert command.is_finite()
        assert (command.kp <= ROBOT.kp).all() and (command.kp >= 0).all()
        assert (command.kd >= 0).all() and (command.kd <= np.maximum(ROBOT.kd, 8.0)).all()
        assert (np.abs(command.joint_torque) <= ROBOT.joint_effort).all()
        assert (result.reason != "") == (result.mode in DAMPING)
        if result.mode in APPLIED:
            assert mode is result.mode


@pytest.mark.parametrize("item", fields(GateConfig), ids=lambda item: item.name)
def test_settings_are_checked(item):
    assert item.metadata["description"] and item.metadata["unit"]
    for bad in (item.metadata["low"] - 0.1, item.metadata["high"] * 2 + 1, math.nan):
        with pytest.raises(ConfigError, match=item.name):
            GateConfig(**{item.name: bad})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_a_number_that_is_none_is_found_wherever_it_is(bad):
    for at in range(23):
        values = np.linspace(-3.0, 3.0, 23)
        assert all_finite(values) and all_finite(1e30 * values)
        values[at] = bad
        assert not all_finite(values)
    assert not all_finite(np.array([np.inf, -np.inf])), "they do not cancel"
