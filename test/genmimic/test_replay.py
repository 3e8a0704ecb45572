# SPDX-License-Identifier: Apache-2.0
"""A session in one process, recorded as messages carry it, and played through policy and safety again."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulator needs mujoco")

from genmimic.core.controller import TrackingController  # noqa: E402
from genmimic.core.desk import SafetyDesk  # noqa: E402
from genmimic.core.director import ReferenceDirector  # noqa: E402
from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic.core.gate import GateConfig, Heartbeat  # noqa: E402
from genmimic.core.modes import ARMED, Mode  # noqa: E402
from genmimic.core.motion import Motion  # noqa: E402
from genmimic.core.reference import Phase  # noqa: E402
from genmimic.core.robot import G1_23DOF as ROBOT  # noqa: E402
from genmimic.replay import Heard, replay_policy, replay_safety  # noqa: E402
from genmimic.sim.gantry import SimulatedBridge  # noqa: E402
from genmimic.sim.simulated_g1 import SimulatedG1  # noqa: E402

MS = 1_000_000
QUICK = GateConfig(stand_time_s=1.0)
WEIGHT = np.random.default_rng(0).normal(0.0, 0.02, (23, 2370)).astype(np.float32)


def policy(observation):
    """Answers to every number of the observation, a little; in single precision, as a network does."""
    return 0.05 * np.tanh(WEIGHT @ observation.astype(np.float32))


def single(value):
    """The same with every array in single precision, as a message carries it."""
    arrays = {k: np.float32(v).astype(float) for k, v in vars(value).items() if isinstance(v, np.ndarray)}
    return replace(value, **arrays)


def motion():
    joint_pos = np.tile(ROBOT.default_joint_pos, (51, 1))
    joint_pos[:, ROBOT.joint_idx(["left_elbow_joint"])[0]] += 0.3 * np.sin(np.linspace(0.0, np.pi, 51))
    root_pos = np.tile([0.0, 0.0, ROBOT.standing_height], (51, 1))
    return Motion.from_joints(ROBOT, 50.0, joint_pos, root_pos, np.tile([1.0, 0, 0, 0], (51, 1)), "swing")


def record(after_ready_s=1.4):
    """Run bridge, policy, reference and safety in turn, 200 steps a second; return what was heard of them.

    Armed at once, started 0.2 s after READY, and stopped by the emergency stop 1.0 s after that, before it topples.
    """
    bridge, controller = SimulatedBridge(SimulatedG1(ROBOT), QUICK, tether=False), TrackingController(ROBOT, policy)
    director, desk, heart = ReferenceDirector(ROBOT), SafetyDesk(ROBOT), Heartbeat()
    director.load(motion())
    heard, command, command_ns, goal, state, mode = [], None, None, None, None, Mode.DISARMED
    calls, ready = {50: "arm"}, None

    def hear(topic, value):
        heard.append(Heard(now, topic, value))

    for step in range(2000):
        if ready is not None and step - ready > 200 * after_ready_s:
            return heard
        if mode is Mode.READY and ready is None:
            ready, calls = step, {step + 40: "start", step + 240: "estop"}
        now = 5 * MS * (step + 1)
        moved = bridge.step(now, mode, heart.received_ns, command, command_ns)
        state = single(replace(moved.state, root_pos_w=None))
        hear("robot_state", (state, moved.mode))
        desk.hear_state(now, state, moved.mode)
        if step % 4 == 0:
            hear("gantry/tension", 0.0)
            desk.hear_tension(now, 0.0)
            director.observe(state.base_quat_w, state.joint_pos)
            goal = single(director.step(mode))
            hear("goal_keypoints", goal)
            desk.hear_goal(now, goal.phase is Phase.DONE)
            hear("policy_status", ("", 0.02, (0.02,)))
            desk.hear_policy(now, "", 0.02, (0.02,))
            if mode in ARMED:
                if mode is Mode.STANDING:
                    controller.reset()
                command, command_ns = single(controller.step(now, state, goal)), now
                hear("joint_command", command)
                desk.hear_command(now, command)
        if step in calls:
            hear("call", calls[step])
            assert desk.call(calls[step], now).accepted, (calls[step], desk.situation, desk.verdicts)
        if step % 2 == 0:
            hear("check", None)
            desk.tick(now)
            mode, reasons = desk.situation
            hear("safety_status", (mode, reasons))
            heart.beat(now, step)
    raise AssertionError(f"never READY: {desk.situation}")


@pytest.fixture(scope="module")
def recording():
    heard = record()
    modes = [each.value[0] for each in heard if each.topic == "safety_status"]
    seen = list(dict.fromkeys(modes))
    assert seen[:4] == [Mode.DISARMED, Mode.STANDING, Mode.READY, Mode.MIMIC] and seen[-1] is Mode.ESTOP, seen
    return heard


def test_the_policy_says_the_same_again(recording):
    result = replay_policy(recording, ROBOT, policy)
    assert result.commands > 100 and result.same
    assert result.identical == result.commands and result.worst_rad == 0.0 and result.first is None


def test_another_policy_is_noticed(recording):
    result = replay_policy(recording[:600], ROBOT, lambda observation: 1.01 * policy(observation))
    assert not result.same and result.identical == 0 and 0.0 < result.worst_rad < 0.01


def test_one_wrong_command_does_not_spoil_the_rest(recording):
    numbers = [at for at, each in enumerate(recording) if each.topic == "joint_command"]
    spoilt, at = list(recording), numbers[70]
    wrong = replace(spoilt[at].value, joint_pos=spoilt[at].value.joint_pos + 0.01)
    spoilt[at] = replace(spoilt[at], value=wrong)
    result = replay_policy(spoilt, ROBOT, policy)
    assert result.commands - result.identical == 1 and result.first == wrong.sequence
    assert result.worst_rad == pytest.approx(0.01, rel=1e-3)


def test_a_gap_in_the_recording_is_told(recording):
    numbers = [at for at, each in enumerate(recording) if each.topic == "joint_command"]
    gap = set(numbers[80:83])
    result = replay_policy([each for at, each in enumerate(recording) if at not in gap], ROBOT, policy)
    assert result.same and 0 < result.unsure < 40


def test_a_recorder_that_heard_things_in_another_order(recording):
    """It hears a newer state before the command that was computed without it."""
    shuffled, moved = list(recording), 0
    for at, each in enumerate(recording):
        if each.topic == "joint_command":
            state = next(i for i in range(at, len(recording)) if recording[i].topic == "robot_state")
            shuffled[state] = replace(recording[state], time_ns=each.time_ns)
            moved += 1
    shuffled.sort(key=lambda each: (each.time_ns, each.topic == "joint_command"))
    result = replay_policy(shuffled, ROBOT, policy)
    assert result.identical == result.commands == moved > 100


def test_safety_says_the_same_again_to_the_word(recording):
    result = replay_safety(recording, ROBOT)
    assert result.same and result.exact
    assert result.recorded[-1] == (Mode.ESTOP, ("estop",))


def test_safety_says_the_same_from_topics_alone(recording):
    """Neither checks nor calls are on a topic."""
    result = replay_safety([each for each in recording if each.topic not in ("check", "call")], ROBOT)
    assert result.same


def test_a_fault_is_found_again(recording):
    heard = recording
    at = next(i for i, each in enumerate(heard) if each.topic == "safety_status" and each.value[0] is Mode.READY)
    silent = [each for each in heard[: at + 1] if each.topic != "call"]
    end = silent[-1].time_ns + 400 * MS
    desk_says = (Mode.DAMPED, ("command_age: joint command is 70 ms old (limit 60 ms)",))
    silent += [Heard(end, "safety_status", desk_says)]
    result = replay_safety([each for each in silent if each.topic != "check"], ROBOT)
    assert result.replayed[-1][0] is Mode.DAMPED and not result.exact


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        ([Heard(0, "weather", None)], "'weather' is no topic of a recording; known: robot_state"),
        ([Heard(5, "check", None), Heard(4, "check", None)], "by time"),
    ],
)
def test_what_is_no_recording_is_refused(heard, words):
    for replayed in (lambda: replay_policy(heard, ROBOT, policy), lambda: replay_safety(heard, ROBOT)):
        with pytest.raises(ConfigError, match=words):
            replayed()


def test_nothing_recorded_is_not_the_same():
    assert not replay_policy([], ROBOT, policy).same and not replay_safety([], ROBOT).same
