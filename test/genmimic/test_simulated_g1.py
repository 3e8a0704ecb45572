# SPDX-License-Identifier: Apache-2.0
"""Physics, motors, sensors and tether of the simulated robot."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulator needs mujoco")

from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic.core.robot import G1_23DOF  # noqa: E402
from genmimic.core.rotation import heading, quat_rotate_inverse  # noqa: E402
from genmimic.core.state import damping_command, position_command  # noqa: E402
from genmimic.sim.simulated_g1 import SensorNoise, SimConfig, SimulatedG1, TetherConfig  # noqa: E402

ROBOT = G1_23DOF
STAND = position_command(ROBOT, ROBOT.default_joint_pos)


@pytest.fixture()
def sim():
    return SimulatedG1()


def _in_the_air(sim, joint_pos=None, joint_vel=None):
    sim.reset((0.0, 0.0, 2.0), joint_pos=joint_pos, joint_vel=joint_vel)


# motors ---------------------------------------------------------------------------------------------
def test_torque_is_the_pd_law_worked_by_hand(sim):
    """Left knee, kp 300, kd 6, feed-forward 3: 300 * 0.05 + 6 * (0.5 - 1.0) + 3 = 15 N m."""
    knee = ROBOT.joint_idx(["left_knee_joint"])[0]
    velocity, wanted, feed_forward = np.zeros(23), np.zeros(23), np.zeros(23)
    velocity[knee], wanted[knee], feed_forward[knee] = 1.0, 0.5, 3.0
    target = ROBOT.default_joint_pos.copy()
    target[knee] += 0.05
    _in_the_air(sim, joint_vel=velocity)
    sim.apply(replace(STAND, joint_pos=target, joint_vel=wanted, joint_torque=feed_forward))
    sim.step()
    assert sim.joint_torque[knee] == pytest.approx(15.0, abs=1e-9)
    assert sim.state().joint_torque[knee] == pytest.approx(15.0, abs=1e-9)
    others = np.delete(sim.joint_torque, knee)
    np.testing.assert_allclose(others, 0.0, atol=1e-9)


def test_kp_and_kd_come_from_the_command(sim):
    velocity = np.linspace(-1.0, 1.0, 23)
    _in_the_air(sim, joint_vel=velocity)
    sim.apply(damping_command(ROBOT, ROBOT.default_joint_pos + 1.0, kd=8.0))
    sim.step()
    np.testing.assert_allclose(sim.joint_torque, -8.0 * velocity, atol=1e-9)


def test_torque_stays_within_the_motors_peak():
    sim = SimulatedG1()
    for strength in (1.0, 0.5):
        sim.configure(SimConfig(strength_scale=strength))
        _in_the_air(sim)
        sim.apply(position_command(ROBOT, ROBOT.joint_upper + 3.0))
        sim.step()
        np.testing.assert_allclose(sim.joint_torque, strength * ROBOT.joint_effort)
        sim.step(50)
        assert (np.abs(sim.joint_torque) <= strength * ROBOT.joint_effort + 1e-9).all()


def test_gain_scales_act_on_the_command(sim):
    velocity = np.full(23, 0.1)
    target = ROBOT.default_joint_pos + 0.02
    sim.configure(SimConfig(kp_scale=1.2, kd_scale=[0.8] * 23, strength_scale=0.9))
    _in_the_air(sim, joint_vel=velocity)
    sim.apply(position_command(ROBOT, target))
    sim.step()
    np.testing.assert_allclose(sim.joint_torque, 0.9 * (1.2 * ROBOT.kp * 0.02 - 0.8 * ROBOT.kd * 0.1), atol=1e-9)


def test_motors_are_limp_until_the_first_command(sim):
    _in_the_air(sim, joint_vel=np.ones(23))
    sim.step(5)
    np.testing.assert_array_equal(sim.joint_torque, 0.0)


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("stride", [1, 4])
def test_a_command_arrives_exactly_that_many_physics_steps_later(delay, stride):
    sim = SimulatedG1(config=SimConfig(delay_steps=delay))
    _in_the_air(sim)
    target = ROBOT.default_joint_pos + 0.1
    sim.apply(position_command(ROBOT, target))
    reference = SimulatedG1()
    _in_the_air(reference)
    for step in range(8):
        if step == delay:
            reference.apply(position_command(ROBOT, target))
        reference.step()
        if stride == 1:
            sim.step()
            assert (np.abs(sim.joint_torque).max() > 1.0) == (step >= delay)
    if stride != 1:
        sim.step(4)
        sim.step(4)
    np.testing.assert_array_equal(sim.joint_pos, reference.joint_pos)


def test_commands_in_flight_keep_their_order():
    sim = SimulatedG1(config=SimConfig(delay_steps=2))
    _in_the_air(sim)
    for offset in (0.01, 0.02, 0.03):
        sim.apply(position_command(ROBOT, sim.joint_pos + offset))
        sim.step()
    assert sim.joint_torque[0] == pytest.approx(200.0 * 0.01, rel=0.05)


def test_a_bad_command_is_refused_and_the_last_one_holds(sim):
    sim.apply(STAND)
    bad = STAND.joint_pos.copy()
    bad[3] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        sim.apply(replace(STAND, joint_pos=bad))
    with pytest.raises(ConfigError, match="kp has shape"):
        sim.apply(replace(STAND, kp=np.ones(29)))
    sim.step(20)
    assert not sim.failed


def test_a_loaded_motor_warms_up_and_an_idle_one_does_not(sim):
    sim.hang()
    sim.apply(replace(STAND, joint_pos=STAND.joint_pos + np.eye(23)[15] * 0.1))
    cold = sim.state().joint_temperature
    sim.step(400)
    warm = sim.state().joint_temperature
    assert warm.max() > cold.max() and (warm >= cold).all() and warm.max() < 90.0


# sensors --------------------------------------------------------------------------------------------
def test_feet_carry_the_weight_when_standing(sim):
    sim.apply(STAND)
    sim.step(60)
    total = sim.foot_force_w.sum(0)
    assert total[2] == pytest.approx(sim.weight_n, rel=0.05)
    assert abs(total[0]) < 0.1 * sim.weight_n and abs(total[1]) < 1.0
    left, right = sim.foot_force_w[:, 2]
    assert left == pytest.approx(right, rel=0.05)
    assert not sim.fallen


def test_the_accelerometer_reads_gravity_upwards(sim):
    sim.hang()
    sim.apply(STAND)
    sim.step(400)
    np.testing.assert_allclose(sim.state().base_lin_acc_b, (0.0, 0.0, 9.81), atol=0.6)


def test_perfect_sensors_tell_the_truth(sim):
    sim.apply(STAND)
    sim.step(30)
    state = sim.state(stamp_ns=7)
    np.testing.assert_array_equal(state.joint_pos, sim.joint_pos)
    np.testing.assert_array_equal(state.base_quat_w, sim.root_quat_w)
    np.testing.assert_array_equal(state.base_ang_vel_b, sim.root_ang_vel_b)
    np.testing.assert_array_equal(state.root_pos_w, sim.root_pos_w)
    assert (state.stamp_ns, state.tick, state.battery) == (7, 150, 0.9)
    assert state.is_finite()


def test_noise_has_the_spread_of_table_8():
    sim = SimulatedG1(config=SimConfig(noise=SensorNoise.paper()), seed=3)
    pos, vel, gyro, gravity, yaw = [], [], [], [], []
    down = np.array([0.0, 0.0, -1.0])
    for _ in range(600):
        sim.hang(seed=len(pos))
        state = sim.state()
        pos.append(state.joint_pos - sim.joint_pos)
        vel.append(state.joint_vel - sim.joint_vel)
        gyro.append(state.base_ang_vel_b - sim.root_ang_vel_b)
        gravity.append(quat_rotate_inverse(state.base_quat_w, down) - quat_rotate_inverse(sim.root_quat_w, down))
        yaw.append(float(heading(state.base_quat_w)))
    for errors, sigma in ((pos, 0.01), (vel, 0.1), (gyro, 0.5)):
        assert np.std(errors) == pytest.approx(sigma, rel=0.08)
        assert abs(np.mean(errors)) < 0.1 * sigma
    assert np.std(np.array(gravity)[:, :2]) == pytest.approx(0.1, rel=0.08)
    assert np.std(yaw) < 0.02


def test_reading_twice_gives_the_same_numbers_and_a_copy():
    sim = SimulatedG1(config=SimConfig(noise=SensorNoise.paper()))
    first = sim.state()
    np.testing.assert_array_equal(first.joint_pos, sim.state(stamp_ns=5).joint_pos)
    first.joint_pos[:] = 99.0
    assert sim.state().joint_pos.max() < 9.0
    sim.step()
    assert not np.array_equal(sim.state().joint_vel, first.joint_vel)


def test_the_same_seed_gives_the_same_run():
    def run(seed):
        sim = SimulatedG1(config=SimConfig(noise=SensorNoise.paper(), delay_steps=2), seed=seed)
        trace = []
        for _ in range(20):
            state = sim.state()
            sim.apply(position_command(ROBOT, ROBOT.default_joint_pos + 0.1 * state.joint_vel))
            sim.step(4)
            trace.append(np.concatenate([state.joint_pos, sim.root_pos_w]))
        return np.array(trace)

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_a_reset_repeats_the_run():
    sim = SimulatedG1(config=SimConfig(noise=SensorNoise.paper()))
    traces = []
    for _ in range(2):
        sim.stand(seed=4)
        sim.apply(STAND)
        sim.step(37)
        traces.append(np.concatenate([sim.state().joint_pos, sim.root_pos_w]))
    np.testing.assert_array_equal(*traces)


def test_keypoints_and_their_velocities_are_of_this_instant(sim):
    sim.apply(STAND)
    sim.step(200)
    before = sim.keypoints()
    sim.step()
    np.testing.assert_allclose((sim.keypoint_pos_w - before.pos) / 0.005, before.lin_vel, atol=0.05)


# tether ---------------------------------------------------------------------------------------------
def test_the_hanging_robot_pulls_with_its_weight_clear_of_the_floor(sim):
    sim.hang()
    sim.apply(STAND)
    sim.step(300)
    assert sim.tether_tension_n == pytest.approx(sim.weight_n, rel=0.02)
    assert sim.weight_n == pytest.approx(ROBOT.mass * 9.81, rel=1e-6)
    np.testing.assert_array_equal(sim.foot_force_w, 0.0)
    assert sim.root_pos_w[2] == pytest.approx(ROBOT.standing_height + 0.05, abs=0.01)
    assert not sim.fallen


def test_lowered_in_the_standing_pose_it_stands_supported(sim):
    sim.hang()
    sim.apply(STAND)
    length = sim.tether.length_m
    tension = []
    for _ in range(75):
        sim.tether.set_length(sim.tether.length_m + 0.001)
        sim.step(8)
        tension.append(sim.tether_tension_n)
    sim.step(400)
    assert sim.tether.length_m == pytest.approx(length + 0.075)
    assert tension[0] > 0.9 * sim.weight_n
    assert sim.tether_tension_n < 0.6 * sim.weight_n
    held = sim.tether_tension_n + sim.foot_force_w[:, 2].sum()
    assert held == pytest.approx(sim.weight_n, rel=0.03)
    assert not sim.fallen and sim.tilt_rad < math.radians(15.0)


def test_a_slack_or_unhooked_rope_does_not_pull(sim):
    sim.tether.attach(3.0)
    sim.step(10)
    assert sim.tether_tension_n == 0.0
    sim.hang()
    sim.step(10)
    assert sim.tether_tension_n > 0.0
    sim.tether.detach()
    height = sim.root_pos_w[2]
    sim.step(20)
    assert sim.tether_tension_n == 0.0
    assert height - sim.root_pos_w[2] == pytest.approx(0.5 * 9.81 * 0.1**2, rel=0.25)  # free fall for 0.1 s


def test_an_anchor_too_low_is_refused():
    with pytest.raises(ConfigError, match="anchor_height_m"):
        SimulatedG1(tether=TetherConfig(anchor_height_m=1.0)).hang()


# falling --------------------------------------------------------------------------------------------
def test_a_limp_robot_falls_lies_on_the_floor_and_rises_on_reset(sim):
    sim.push((1.0, 0.0))
    sim.step(600)
    assert sim.fallen and not sim.failed
    assert sim.keypoint_pos_w[:, 2].min() > -0.03  # on the floor, not in it
    assert np.abs(sim.data.qvel).max() < 5.0
    sim.stand()
    assert not sim.fallen


def test_tilt_counts_as_a_fall(sim):
    for degrees, fallen in ((50.0, False), (70.0, True)):
        half = math.radians(degrees) / 2
        sim.reset((0.0, 0.0, 1.0), (math.cos(half), 0.0, math.sin(half), 0.0))
        assert sim.tilt_rad == pytest.approx(math.radians(degrees))
        assert sim.fallen is fallen


def test_broken_physics_is_a_fall_and_stops(sim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs there
    sim.data.qvel[8] = np.nan
    sim.step(10)
    assert sim.failed and sim.fallen
    count = sim.step_count
    sim.step(10)
    assert sim.step_count == count
    sim.stand()
    sim.step(2)
    assert not sim.failed and np.isfinite(sim.joint_pos).all()


def test_a_push_sets_the_pelvis_velocity(sim):
    sim.push((0.5, -0.3))
    np.testing.assert_allclose(sim.root_lin_vel_w, (0.5, -0.3, 0.0))


# configuration --------------------------------------------------------------------------------------
def test_mass_and_centre_of_mass_can_differ_and_come_back(sim):
    nominal = sim.weight_n
    ipos = sim.model.body("pelvis").ipos.copy()
    sim.configure(SimConfig(mass_scale=1.3, com_offset_m=(0.03, 0.0, -0.01), friction=0.4))
    assert sim.weight_n == pytest.approx(1.3 * nominal)
    np.testing.assert_allclose(sim.model.body("pelvis").ipos - ipos, (0.03, 0.0, -0.01))
    assert sim.model.geom("floor").friction[0] == 0.4
    sim.configure(SimConfig())
    assert sim.weight_n == pytest.approx(nominal)
    np.testing.assert_array_equal(sim.model.body("pelvis").ipos, ipos)


def test_friction_decides_whether_the_feet_slide():
    def travel(friction):
        sim = SimulatedG1(config=SimConfig(friction=friction))
        sim.apply(STAND)
        sim.step(20)
        sim.push((0.0, 0.6))
        sim.step(40)
        return sim.keypoint_pos_w[ROBOT.keypoint_idx(["left_ankle_roll"])[0], 1] - 0.119

    assert travel(0.02) > travel(1.0) + 0.02


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimConfig(timestep_s=0.0),
        lambda: SimConfig(delay_steps=-1),
        lambda: SimConfig(delay_steps=1.5),
        lambda: SimConfig(friction=float("nan")),
        lambda: SimConfig(mass_scale=0.0),
        lambda: SimConfig(kp_scale="high"),
        lambda: SimConfig(com_offset_m=(0.0, 0.0)),
        lambda: SimConfig(battery=90.0),
        lambda: SensorNoise(gyro=-0.1),
        lambda: TetherConfig(stiffness_n_m=-1.0),
        lambda: SimulatedG1(config=SimConfig(kp_scale=[1.0, 2.0])),
        lambda: SimulatedG1().reset(joint_pos=np.zeros(29)),
        lambda: SimulatedG1().reset(root_quat=(0.0, 0.0, 0.0, 0.0)),
        lambda: SimulatedG1().reset(root_pos=(0.0, 0.0, float("nan"))),
        lambda: SimulatedG1().tether.set_length(-1.0),
    ],
)
def test_a_wrong_setting_is_refused(make):
    with pytest.raises(ConfigError, match="expected|finite"):
        make()


def test_configurations_compare_by_value():
    assert SimConfig(kp_scale=np.ones(23)) == SimConfig(kp_scale=[1.0] * 23)
    assert SensorNoise.none() == SensorNoise() != SensorNoise.paper()
