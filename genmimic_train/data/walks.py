# SPDX-License-Identifier: Apache-2.0
"""Walks of our own making, which physics allows: footsteps first, then a body that stays over them.

Human walks brought to the robot skate, sink and lean where the robot could not: a policy cannot follow what no motor
can do, and learns to walk from them slowly or not at all. Here feet are planned as steps that stand still, and the
centre of mass follows the linear inverted pendulum (Kajita et al., IROS 2001 and ICRA 2003) whose zero-moment point is
the standing foot: c'' = g / z (c - p), solved over the whole walk at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from genmimic.check.measure import GRAVITY, centre_of_mass
from genmimic.core.kinematics import forward_kinematics
from genmimic.core.motion import CONTROL_RATE_HZ, Motion
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import quat_from_heading, quat_multiply, rotate_heading
from genmimic_train.data.gestures import STYLES as GESTURES
from genmimic_train.data.gestures import arm_poses, body_over_feet, frames_of, minimum_jerk

_PRESSURE_AHEAD_M = 0.025
"""Where under a standing foot the weight rests, ahead of the ankle, well within the sole."""
_PASSES = 4
"""Times that the path is corrected by what the pendulum leaves out: limbs that swing, and a centre of mass that is not
the pelvis's."""

_CORRECTION_M = 0.04
"""By how much they may move the pendulum's point: a body shifted further would leave its feet behind."""


@dataclass(frozen=True)
class WalkStyle:
    """Which way and how a walk goes; each stretch of it draws anew.

    Attributes:
        ahead_m_s: Slowest and fastest speed ahead.
        aside_m_s: Fastest speed to a side.
        turn_rad_s: Fastest turn.
        step_s: Shortest and longest time of a step, from one foot's landing to the other's.
        lift_m: Lowest and highest swing of a foot.
        gestures: Whether arms gesture on the way, instead of swinging.
    """

    ahead_m_s: tuple[float, float] = (0.2, 0.6)
    aside_m_s: float = 0.0
    turn_rad_s: float = 0.0
    step_s: tuple[float, float] = (0.40, 0.52)
    lift_m: tuple[float, float] = (0.05, 0.09)
    gestures: bool = False


STYLES = {
    "ahead": WalkStyle(),
    "curved": WalkStyle(turn_rad_s=0.5),
    "turning": WalkStyle(ahead_m_s=(0.0, 0.1), turn_rad_s=0.9),
    "around": WalkStyle(ahead_m_s=(-0.35, 0.5), aside_m_s=0.25, turn_rad_s=0.3),
    "gesturing": WalkStyle(ahead_m_s=(0.0, 0.6), turn_rad_s=0.5, gestures=True),
}
_DOUBLE_SUPPORT = 0.25
"""Share of a step in which both feet stand."""
_REST_S = (0.6, 1.2)
_LAST_REST_S = 1.6
_STRETCH_S = (2.0, 5.0)
_STOP_SHARE = 0.2
"""Of the stretches, those in which the robot stands."""
_LOWER_M = (0.03, 0.07)
"""How far below standing the pelvis is carried, so that knees never stretch."""


@dataclass
class _Track:
    """What the feet do, frame by frame; two feet."""

    pos: np.ndarray  # of the ankles, (T, 2, 3)
    yaw: np.ndarray  # (T, 2)
    pressure: np.ndarray  # zero-moment point, (T, 2)
    swing: np.ndarray  # 1 where the left foot swings fully, -1 the right one, (T,)
    at: int = 0
    places: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))  # x, y, yaw of each foot as it stands

    def under(self, share_left: float) -> np.ndarray:
        """Return the point where the weight rests with this share of it on the left foot. Shape (2,)."""
        ahead = _PRESSURE_AHEAD_M * np.stack([np.cos(self.places[:, 2]), np.sin(self.places[:, 2])], -1)
        return np.array([share_left, 1.0 - share_left]) @ (self.places[:, :2] + ahead)


def walk(style: str, seed: int, duration_s: float = 20.0, robot: Robot = G1_23DOF) -> Motion:
    """Return a walk drawn at random that begins and ends standing; the same arguments give the same motion.

    Raises:
        ConfigError: There is no such style, or the duration is not from 4 to 600 s.
        MissingDependencyError: mink or daqp is not installed.
    """
    from genmimic.retarget.cleaning import gaussian_smooth

    frames = frames_of(style, STYLES, duration_s, shortest_s=4.0)
    how = STYLES[style]
    rng = np.random.default_rng([seed, *b"walk", *style.encode()])
    standing = np.array([0.0, 0.0, robot.standing_height]), np.array([1.0, 0.0, 0.0, 0.0])
    rest = forward_kinematics(robot, *standing, robot.default_joint_pos)
    feet = robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])

    track = _footsteps(rest.pos[feet], how, frames, rng)
    lower = rng.uniform(*_LOWER_M)
    height = centre_of_mass(robot, *standing, robot.default_joint_pos)[2] - lower
    pose = arm_poses(robot, GESTURES["calm"], frames, rng) if how.gestures else _swinging(robot, track, rng)

    yaw = gaussian_smooth(track.yaw.mean(-1)[:, None], 0.1 * CONTROL_RATE_HZ)[:, 0]
    down = np.minimum(np.arange(frames), np.arange(frames)[::-1]) / (0.5 * CONTROL_RATE_HZ)
    pelvis = np.zeros((frames, 3))
    pelvis[:, :2] = pendulum(track.pressure, height)
    pelvis[:, 2] = rest.pos[0, 2] - lower * minimum_jerk(np.minimum(down, 1.0))
    target_pos, target_quat = np.tile(rest.pos, (frames, 1, 1)), np.tile(rest.quat, (frames, 1, 1))
    target_quat[:, 0] = quat_from_heading(yaw)
    target_pos[:, feet] = track.pos
    target_quat[:, feet] = quat_multiply(quat_from_heading(track.yaw), rest.quat[feet])
    ik = body_over_feet(robot, place=10.0, attitude=4.0)
    asked = track.pressure.copy()
    gentle = minimum_jerk(np.minimum(down, 1.0))[:, None]  # it begins and ends standing, whatever its limbs do
    for _ in range(_PASSES):
        target_pos[:, 0] = pelvis
        root_pos, root_quat, joint_pos = ik.follow(target_pos, target_quat, pose)
        joint_pos = np.clip(joint_pos, robot.joint_lower, robot.joint_upper)
        centre = centre_of_mass(robot, root_pos, root_quat, joint_pos)[:, :2]
        reached = zero_moment_point(robot, root_pos, root_quat, joint_pos)
        asked += 0.6 * gentle * gaussian_smooth(track.pressure - reached, 4.0)
        asked = np.clip(asked, track.pressure - _CORRECTION_M, track.pressure + _CORRECTION_M)
        pelvis[:, :2] += pendulum(asked, height) - centre
    source = {"file": f"walk:{style}:{seed}", "licence": "Apache-2.0", "credit": "GenMimic-ROS", "content": style}
    return Motion.from_joints(robot, CONTROL_RATE_HZ, joint_pos, root_pos, root_quat, f"walk_{style}_{seed}", source)


def pendulum(pressure: np.ndarray, height_m: float | np.ndarray) -> np.ndarray:
    """Return the path of a centre of mass at ``height_m`` whose zero-moment point is ``pressure``, 50 Hz. Both (T, 2).

    It begins and ends over that point; in between nothing else fulfils c'' = g / z (c - p). The height may change,
    shape (T,), and counts as less where the centre is thrown up: g z / (g + z'').
    """
    frames = len(pressure)
    pull = np.broadcast_to(GRAVITY / np.asarray(height_m) / CONTROL_RATE_HZ**2, frames)
    # tridiagonal: c[k-1] - (2 + pull) c[k] + c[k+1] = -pull p[k], by elimination downwards and insertion upwards
    ratio, known = np.zeros(frames), np.zeros_like(pressure)
    known[0] = pressure[0]
    for at in range(1, frames - 1):
        pivot = 2.0 + pull[at] - ratio[at - 1]
        ratio[at] = 1.0 / pivot
        known[at] = (known[at - 1] + pull[at] * pressure[at]) / pivot
    path = np.zeros_like(pressure)
    path[-1] = pressure[-1]
    for at in range(frames - 2, -1, -1):
        path[at] = known[at] + ratio[at] * path[at + 1]
    return path


def zero_moment_point(robot: Robot, root_pos: np.ndarray, root_quat: np.ndarray, joint_pos: np.ndarray) -> np.ndarray:
    """Return where a floor has to push to make the whole robot move like this, at 50 Hz, by inverse dynamics, in m.

    Args:
        robot: The robot.
        root_pos: Pelvis, world. Shape (T, 3).
        root_quat: Its orientation, wxyz. Shape (T, 4).
        joint_pos: In rad. Shape (T, J).

    Returns:
        The point on the floor z = 0 about which no horizontal moment is needed, world. Shape (T, 2).
    """
    import mujoco

    from genmimic.sim.mjcf import build_model

    model = build_model(robot, visuals=False, tether=False, fall_contact=False)
    data = mujoco.MjData(model)
    order = [int(model.joint(name).qposadr[0]) for name in robot.joint_names]
    qpos = np.zeros((len(root_pos), model.nq))
    qpos[:, :3], qpos[:, 3:7], qpos[:, order] = root_pos, root_quat, joint_pos
    qvel = np.zeros((len(qpos) + 1, model.nv))
    for at in range(1, len(qpos)):
        mujoco.mj_differentiatePos(model, qvel[at], 1.0 / CONTROL_RATE_HZ, qpos[at - 1], qpos[at])
    points = np.zeros((len(qpos), 2))
    turn = np.zeros(9)
    for at, pose in enumerate(qpos):
        data.qpos[:] = pose
        data.qpos[2] += 1.0  # in the air: the root has to be given all that the floor would
        data.qvel[:] = 0.5 * (qvel[at] + qvel[at + 1])
        data.qacc[:] = (qvel[at + 1] - qvel[at]) * CONTROL_RATE_HZ
        mujoco.mj_inverse(model, data)
        force = data.qfrc_inverse[:3]
        mujoco.mju_quat2Mat(turn, pose[3:7])
        moment = turn.reshape(3, 3) @ data.qfrc_inverse[3:6]
        points[at, 0] = pose[0] - (moment[1] + force[0] * pose[2]) / force[2]
        points[at, 1] = pose[1] + (moment[0] - force[1] * pose[2]) / force[2]
    return points


def _footsteps(rest: np.ndarray, how: WalkStyle, frames: int, rng: np.random.Generator) -> _Track:
    """Return what the feet do, from standing as ``rest`` (2, 3) to standing."""
    track = _Track(np.tile(rest, (frames, 1, 1)), np.zeros((frames, 2)), np.zeros((frames, 2)), np.zeros(frames))
    track.places[:, :2] = rest[:, :2]
    width, ankle = float(rest[0, 1] - rest[1, 1]), float(rest[0, 2])
    step_s, lift = rng.uniform(*how.step_s), rng.uniform(*how.lift_m)
    step = max(round(step_s * CONTROL_RATE_HZ), 4)
    both = max(round(_DOUBLE_SUPPORT * step), 2)
    end = frames - round(_LAST_REST_S * CONTROL_RATE_HZ) - 2 * step
    foot = int(rng.integers(2))

    def hold(seconds: float) -> None:
        """Stand on both feet."""
        count = min(round(seconds * CONTROL_RATE_HZ), frames - track.at)
        rows = slice(track.at, track.at + count)
        before = track.pressure[track.at - 1] if track.at else track.under(0.5)
        part = minimum_jerk(np.minimum(np.arange(1, count + 1) / (0.5 * step), 1.0))[:, None]
        track.pressure[rows] = before + part * (track.under(0.5) - before)
        _stand(track, rows, ankle)
        track.at += count

    def take(foot: int, place: np.ndarray) -> None:
        """Shift the weight to the other foot and put this one to ``place``: x, y, yaw."""
        rows = slice(track.at, track.at + step)
        before = track.pressure[track.at - 1]
        goal = track.under(0.0 if foot == 0 else 1.0)
        part = minimum_jerk(np.minimum(np.arange(1, step + 1) / both, 1.0))
        track.pressure[rows] = before + part[:, None] * (goal - before)
        _stand(track, rows, ankle)
        swing = np.clip((np.arange(1, step + 1) - both) / (step - both), 0.0, 1.0)
        moved = track.places[foot] + minimum_jerk(swing)[:, None] * (place - track.places[foot])
        track.pos[rows, foot, :2], track.yaw[rows, foot] = moved[:, :2], moved[:, 2]
        track.pos[rows, foot, 2] = ankle + lift * np.sin(np.pi * swing) ** 2
        track.swing[rows] = (1.0 if foot == 0 else -1.0) * np.sin(np.pi * swing)
        track.places[foot] = place
        track.at += step

    def beside(foot: int, ahead: float, aside: float, turn: float) -> np.ndarray:
        """Return the place of ``foot`` for the other one as it stands."""
        other, out = track.places[1 - foot], 1.0 if foot == 0 else -1.0
        # out with one foot, after it with the other
        lateral = out * width + (2.0 * aside if out * aside > 0.0 else 0.0)
        reach = rotate_heading(other[2] + 0.5 * turn, np.array([ahead, lateral, 0.0]))
        return np.array([other[0] + reach[0], other[1] + reach[1], other[2] + turn])

    hold(rng.uniform(*_REST_S))
    while track.at < end:
        until = min(track.at + round(rng.uniform(*_STRETCH_S) * CONTROL_RATE_HZ), end)
        ahead = rng.uniform(*how.ahead_m_s) * step_s
        aside, turn = (rng.uniform(-1.0, 1.0) * limit * step_s for limit in (how.aside_m_s, how.turn_rad_s))
        if rng.random() < _STOP_SHARE:
            take(foot, beside(foot, 0.0, 0.0, 0.0))
            foot = 1 - foot
            hold(rng.uniform(*_REST_S))
            continue
        while track.at < until:
            # a foot turns out with its own side and follows with the other, so that heels never meet
            own = turn if (turn > 0.0) == (foot == 0) else 0.0
            take(foot, beside(foot, ahead, aside, 2.0 * own))
            foot = 1 - foot
    take(foot, beside(foot, 0.0, 0.0, 0.0))
    hold((frames - track.at) / CONTROL_RATE_HZ)
    return track


def _stand(track: _Track, rows: slice, ankle: float) -> None:
    """Keep both feet where they are in the frames ``rows``."""
    track.pos[rows, :, :2], track.pos[rows, :, 2] = track.places[:, :2], ankle
    track.yaw[rows] = track.places[:, 2]


def _swinging(robot: Robot, track: _Track, rng: np.random.Generator) -> np.ndarray:
    """Return joint angles to lean to, arms swinging against the legs as far as steps are long. Shape (T, J)."""
    from genmimic.retarget.cleaning import gaussian_smooth

    pose = np.tile(robot.default_joint_pos, (len(track.swing), 1))
    gap = track.pos[:, 0, :2] - track.pos[:, 1, :2]
    yaw = track.yaw.mean(-1)
    stride = gaussian_smooth((np.cos(yaw) * gap[:, 0] + np.sin(yaw) * gap[:, 1])[:, None], 3.0)[:, 0]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = int(robot.joint_idx([f"{side}_shoulder_pitch_joint"])[0])
        pose[:, shoulder] += sign * rng.uniform(0.4, 1.0) * stride
    return pose
