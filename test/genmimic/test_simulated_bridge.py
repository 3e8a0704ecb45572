# SPDX-License-Identifier: Apache-2.0
"""The simulated robot behind its gate, on its gantry: arm, stand, damp, arm again; in simulated time."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulator needs mujoco")

from genmimic.core.modes import Mode  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.core.state import position_command  # noqa: E402
from genmimic.sim.gantry import CARRIED_RATIO, SimulatedBridge  # noqa: E402
from genmimic.sim.simulated_g1 import SensorNoise, SimConfig, SimulatedG1  # noqa: E402

STEP_NS = 5_000_000
STAND = position_command(ROBOT, ROBOT.default_joint_pos)


class Bench:
    """A bridge with a live heartbeat and, if wanted, a live policy that holds the standing pose."""

    def __init__(self, tether=True, config=None):
        self.bridge = SimulatedBridge(SimulatedG1(config=config), tether=tether)
        self.now_ns, self.sequence = 1_000_000_000, 0
        self.last = None

    def run(self, mode, seconds, policy=False, until=None, heartbeat=True):
        """Step; returns the seconds it took until ``until(step)``, or all of them."""
        started = self.now_ns
        while self.now_ns - started < seconds * 1e9:
            if policy and (self.now_ns // STEP_NS) % 4 == 0:
                self.sequence += 1
                self.command = (replace(STAND, sequence=self.sequence), self.now_ns)
            command, received = getattr(self, "command", (None, None))
            beat = self.now_ns if heartbeat else None
            self.last = self.bridge.step(self.now_ns, mode, beat, command, received)
            self.now_ns += STEP_NS
            if until and until(self.last):
                break
        return (self.now_ns - started) / 1e9

    def stand(self):
        self.run(Mode.DISARMED, 0.2)
        return self.run(Mode.STANDING, 10.0, until=lambda step: step.mode is Mode.READY)


@pytest.mark.parametrize("config", [SimConfig(), SimConfig(noise=SensorNoise.paper(), delay_steps=2)])
def test_the_robot_is_put_on_its_feet(config):
    bench = Bench(config=config)
    assert bench.run(Mode.DISARMED, 1.0) and bench.last.mode is Mode.DISARMED
    weight = bench.bridge.sim.weight_n
    assert bench.last.tension_n == pytest.approx(weight, rel=0.05), "it hangs"
    seconds = bench.stand()
    assert bench.last.mode is Mode.READY, "the bridge says that the robot stands"
    assert 3.0 < seconds < 7.0
    assert bench.last.tension_n < (CARRIED_RATIO + 0.1) * weight
    assert bench.bridge.sim.tilt_rad < 0.1
    bench.run(Mode.STANDING, 5.0)  # and it waits there as long as needed
    assert bench.last.mode is Mode.READY
    assert bench.bridge.sim.tilt_rad < 0.2


def test_the_rope_is_slack_once_the_policy_speaks_and_catches_after_damping():
    bench = Bench()
    bench.stand()
    bench.run(Mode.READY, 0.4)
    assert bench.last.mode is Mode.READY
    assert bench.last.tension_n > 0.0, "the policy has not spoken: the rope helps"
    bench.run(Mode.READY, 0.4, policy=True)
    assert bench.last.tension_n == 0.0
    assert bench.bridge.gate.policy_speaks
    bench.run(Mode.DAMPED, 3.0)
    assert bench.last.mode is Mode.DAMPED
    assert bench.last.tension_n > 0.5 * bench.bridge.sim.weight_n, "the rope has caught it"
    assert bench.bridge.sim.root_pos_w[2] > 0.4
    tick = bench.last.state.tick
    bench.run(Mode.DISARMED, 0.05)
    assert bench.last.state.tick == tick + 50, "put back under the gantry; the tick goes on"
    assert bench.bridge.sim.root_pos_w[2] == pytest.approx(ROBOT.standing_height + 0.05, abs=0.02)
    bench.stand()
    assert bench.last.mode is Mode.READY, "and the next run can begin"


def test_a_robot_that_falls_hangs_in_the_rope():
    bench = Bench()
    bench.stand()
    bench.run(Mode.READY, 5.0, policy=True)  # this policy only holds the pose: it tips over
    assert bench.bridge.sim.data.site("tether_hook").xpos[2] > 0.5
    assert bench.last.tension_n > 0.0


def test_silence_damps_within_the_timeout():
    bench = Bench()
    bench.stand()
    bench.run(Mode.READY, 0.3, policy=True)
    silent = bench.command[1]
    bench.run(Mode.READY, 1.0, until=lambda step: step.mode is Mode.DAMPED)
    assert bench.last.mode is Mode.DAMPED
    assert 50 <= (bench.now_ns - STEP_NS - silent) / 1e6 <= 60
    assert "joint command" in bench.last.reason
    bench.run(Mode.READY, 0.5, policy=True)
    assert bench.last.mode is Mode.DAMPED, "it stays damped although commands come again"


def test_damp_works_without_anybody():
    bench = Bench()
    bench.stand()
    bench.bridge.damp(bench.now_ns, "the bridge stops")
    bench.run(Mode.STANDING, 0.5)
    assert bench.last.mode is Mode.DAMPED
    assert bench.last.reason == "the bridge stops"


def test_without_a_rope_it_starts_on_its_feet_and_may_fall():
    bench = Bench(tether=False)
    seconds = bench.stand()
    assert 1.5 < seconds < 3.0
    assert np.isnan(bench.last.tension_n)
    height = bench.bridge.sim.root_pos_w[2]
    assert height == pytest.approx(ROBOT.standing_height, abs=0.01)
    bench.run(Mode.READY, 0.1, policy=True)
    bench.run(Mode.DAMPED, 2.0)
    assert bench.bridge.sim.root_pos_w[2] < 0.4
    bench.run(Mode.DISARMED, 0.1)
    assert bench.bridge.sim.root_pos_w[2] == pytest.approx(height, abs=0.01)


def test_several_physics_steps_per_call_keep_the_time():
    bench = Bench()
    step = bench.bridge.step(bench.now_ns, Mode.DISARMED, bench.now_ns, None, None, steps=4)
    assert step.state.tick == 20
    assert bench.bridge.sim.step_count == 4
