# SPDX-License-Identifier: Apache-2.0
"""One rollout without ROS and faster than real time: the simulated robot, the reference and a policy."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genmimic.core.controller import PolicyFunction, TrackingController
from genmimic.core.kinematics import forward_kinematics, lowest_sole_height
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.noise import NO_NOISE, ObservationNoise
from genmimic.core.observation import HEADING_FRAME, MASS_GROUPS
from genmimic.core.randomization import Randomization, mass_group_idx
from genmimic.core.reference import Goal, ReferencePlayer
from genmimic.core.robot import Robot
from genmimic.core.state import damping_command, position_command
from genmimic.evaluate.metrics import rollout_metrics
from genmimic.evaluate.report import track_of
from genmimic.sim.simulated_g1 import SimConfig, SimulatedG1

PHYSICS_STEPS = 4
"""Per control step: 200 Hz physics under a 50 Hz policy (paper 5.1)."""

START_JITTER_RAD = 0.02
"""Half-width of the uniform offset of each joint at the start, where anything else is random too."""

_PERIOD_NS = round(1e9 / CONTROL_RATE_HZ)


@dataclass(frozen=True)
class Plan:
    """A motion from standing to standing at the origin, one goal per control step.

    Attributes:
        goals: Of the whole timeline: stand, blend in, the motion, blend out, stand.
        start: Where the motion itself begins.
        end: Where it ends, excluded.
        root_quat: Of the goals' pelvis, wxyz. Shape (T, 4).
        keypoint_pos: Of the goals, in m, world. Shape (T, K, 3).
    """

    goals: tuple[Goal, ...]
    start: int
    end: int
    root_quat: np.ndarray
    keypoint_pos: np.ndarray


@dataclass(frozen=True)
class Rollout:
    """What came of one rollout.

    Attributes:
        metrics: See `genmimic.evaluate.metrics.rollout_metrics`.
        fell_at_s: Time of the fall since the start of the timeline; None when the robot stood.
        simulated_s: Simulated time.
        trajectory: Arrays over the T control steps that were run, see `genmimic.evaluate.report.trajectory_fields`.
    """

    metrics: dict[str, float | bool]
    fell_at_s: float | None
    simulated_s: float
    trajectory: dict[str, np.ndarray]


def plan(robot: Robot, motion: Motion) -> Plan:
    """Return the goals of a whole timeline of ``motion``, standing at the origin and facing x at first."""
    player = ReferencePlayer(robot)
    player.start(motion)
    timeline = player.timeline
    goals = [player.goal()]
    while len(goals) < len(timeline.motion):
        goals.append(player.step())
    whole = timeline.motion
    return Plan(tuple(goals), timeline.start, timeline.end, whole.root_quat, whole.keypoint_pos)


def rollout_seed(seed: int, motion: str, number: int) -> np.random.SeedSequence:
    """Return the source of all chance in rollout ``number`` of ``motion``, whatever else is run beside it."""
    return np.random.SeedSequence([seed, zlib.crc32(motion.encode()), number])


def sample_config(robot: Robot, ranges: Randomization, rng: np.random.Generator) -> SimConfig:
    """Return a simulated robot drawn from ``ranges``: mass per group of links, gains and strength per joint."""

    def draw(limits: Sequence[float], size: int) -> np.ndarray:
        return rng.uniform(limits[0], limits[1], size)

    joints = robot.num_joints
    mass = draw(ranges.mass_scale, len(MASS_GROUPS))
    return SimConfig(
        friction=float(draw(ranges.friction, 1)[0]),
        com_offset_m=tuple(draw(ranges.com_offset_m, 3)),  # type: ignore[arg-type]
        mass_scale=mass[mass_group_idx(robot)].tolist(),
        kp_scale=draw(ranges.kp_scale, joints).tolist(),
        kd_scale=draw(ranges.kd_scale, joints).tolist(),
        strength_scale=draw(ranges.strength, joints).tolist(),
        delay_steps=int(rng.integers(ranges.delay_substeps[0], ranges.delay_substeps[1] + 1)),
    )


def push_times(ranges: Randomization, steps: int, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Return the pushes of ``steps`` control steps: step to horizontal velocity in m/s, world. Shapes (2,).

    The first comes within the first interval, the others one interval after another.
    """
    pushes = {}
    at = float(rng.uniform(0.0, ranges.push_interval_s))
    while round(at * CONTROL_RATE_HZ) < steps:
        pushes[round(at * CONTROL_RATE_HZ)] = rng.uniform(*ranges.push_velocity_m_s, 2)
        at += ranges.push_interval_s
    return pushes


def rollout(
    robot: Robot,
    policy: PolicyFunction,
    plan: Plan,
    *,
    noise: ObservationNoise = NO_NOISE,
    randomization: Randomization | None = None,
    seed: np.random.SeedSequence | None = None,
    sim: SimulatedG1 | None = None,
    goal_frame: str = HEADING_FRAME,
) -> Rollout:
    """Let ``policy`` track ``plan`` once.

    The robot stands at the timeline's start, off the gantry. Falls count over the whole timeline; errors
    over the motion's own frames. After a fall the policy goes on to the end of the motion, for the
    metrics without termination. An action that is not finite counts as a fall, and the motors damp.

    Args:
        robot: The robot.
        policy: From an observation (2370,) to an action (J,).
        plan: What to do.
        noise: On what the policy observes, Table 8.
        randomization: Of the simulated robot, and pushes; the nominal robot and none when None.
        seed: Of everything random; the start is jittered where noise or randomization is on.
        sim: A simulator to use again, for speed; its state and configuration are overwritten.
        goal_frame: The policy's.
    """
    # one stream each, so that switching one source of chance on leaves the others as they were
    streams = (seed or np.random.SeedSequence(0)).spawn(4)
    noise_rng, domain_rng, push_rng, start_rng = (np.random.default_rng(stream) for stream in streams)
    sim = sim or SimulatedG1(robot)
    sim.configure(SimConfig() if randomization is None else sample_config(robot, randomization, domain_rng))
    steps = len(plan.goals)
    pushes = {} if randomization is None else push_times(randomization, steps, push_rng)
    _stand(robot, sim, plan.goals[0], None if noise == NO_NOISE and randomization is None else start_rng)
    controller = TrackingController(robot, policy, noise, noise_rng, goal_frame)

    joints = robot.num_joints
    record = {
        "joint_pos": np.zeros((steps, joints)),
        "root_pos": np.zeros((steps, 3)),
        "root_quat": np.zeros((steps, 4)),
        "action": np.zeros((steps, joints)),
        "torque": np.zeros((steps, joints)),
        "fell": np.zeros(steps, bool),
    }
    fell_at: int | None = None
    done = 0
    for step, goal in enumerate(plan.goals):
        done = step + 1
        if sim.failed:  # physics broke down; the last good frame stands for the rest
            for name in ("joint_pos", "root_pos", "root_quat", "torque"):
                record[name][step] = record[name][step - 1]
        else:
            state = sim.state(step * _PERIOD_NS)
            record["joint_pos"][step], record["torque"][step] = state.joint_pos, state.joint_torque
            record["root_pos"][step], record["root_quat"][step] = state.root_pos_w, state.base_quat_w
            command = controller.step(step * _PERIOD_NS, state, goal)
            record["action"][step] = command.action
        finite = sim.failed or bool(np.isfinite(record["action"][step]).all())
        record["fell"][step] = sim.fallen or not finite
        if fell_at is None and record["fell"][step]:
            fell_at = step
        if fell_at is not None and done >= plan.end:
            break
        if done == steps or sim.failed:
            continue
        if step in pushes:
            sim.push(pushes[step].tolist())
        sim.apply(command if finite else damping_command(robot, state.joint_pos))
        sim.step(PHYSICS_STEPS)

    trajectory = {name: values[:done] for name, values in record.items()}
    clip = robot.action_clip
    trajectory["action"] = np.nan_to_num(trajectory["action"], nan=0.0, posinf=clip, neginf=-clip)
    trajectory["t"] = np.arange(done) / CONTROL_RATE_HZ
    trajectory["keypoint_pos"] = forward_kinematics(
        robot, trajectory["root_pos"], trajectory["root_quat"], trajectory["joint_pos"]
    ).pos
    trajectory["goal_keypoint_pos"] = plan.keypoint_pos[:done]
    trajectory["goal_root_quat"] = plan.root_quat[:done]
    trajectory["motion_frames"] = np.array([plan.start, plan.end])
    return Rollout(
        metrics=rollout_metrics(track_of(trajectory), robot),
        fell_at_s=None if fell_at is None else fell_at / CONTROL_RATE_HZ,
        simulated_s=done / CONTROL_RATE_HZ,
        trajectory=trajectory,
    )


def _stand(robot: Robot, sim: SimulatedG1, goal: Goal, rng: np.random.Generator | None) -> None:
    """Put the robot into the first goal's pose, held by its motors for one control step."""
    joint_pos = goal.joint_pos
    if rng is not None:
        jitter = rng.uniform(-START_JITTER_RAD, START_JITTER_RAD, robot.num_joints)
        joint_pos = np.clip(joint_pos + jitter, robot.joint_lower, robot.joint_upper)
    root_pos = goal.root_pos.copy()
    root_pos[2] -= float(lowest_sole_height(robot, root_pos, goal.root_quat, joint_pos))
    sim.tether.detach()
    sim.reset(root_pos.tolist(), goal.root_quat.tolist(), joint_pos)
    sim.apply(position_command(robot, goal.joint_pos))
    sim.step(PHYSICS_STEPS)
