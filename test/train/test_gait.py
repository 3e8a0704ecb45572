# SPDX-License-Identifier: Apache-2.0
"""Steps, sliding and what odometry loses, of robots whose feet do what the test says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genmimic.core.kinematics import forward_kinematics
from genmimic.core.robot import G1_23DOF
from genmimic_train.tracking.gait import GaitMeter, gait_line, total_gait

STEP_M, FRAMES = 0.01, 51
FEET = G1_23DOF.keypoint_idx(["left_ankle_roll", "right_ankle_roll"])


def _watched(feet_move: bool, force: torch.Tensor) -> dict[str, float]:
    """A pelvis that moves 1 cm a frame, over feet that stand or slide along; ``force`` (FRAMES, 2) in N."""
    root = np.array([[0.0, 0.0, G1_23DOF.standing_height]])
    stand = forward_kinematics(G1_23DOF, root, np.array([[1.0, 0.0, 0.0, 0.0]]), G1_23DOF.default_joint_pos[None])
    quat = torch.from_numpy(stand.quat).float()
    env = SimpleNamespace(
        robot=G1_23DOF, num_envs=1, cfg=SimpleNamespace(control_period_s=0.02), sim=SimpleNamespace(), keypoints=None
    )
    meter = GaitMeter(env)
    for frame in range(FRAMES):
        pos = torch.from_numpy(stand.pos.copy()).float()
        pos[..., 0] += STEP_M * frame
        if not feet_move:
            pos[:, FEET] = torch.from_numpy(stand.pos[:, FEET]).float()
        env.keypoints = SimpleNamespace(pos=pos, quat=quat)
        env.sim.foot_force = torch.zeros(1, 2, 3)
        env.sim.foot_force[0, :, 2] = force[frame]
        meter(frame)
    return meter.of(0, 1000)


def test_a_pelvis_over_standing_feet_slides_nowhere():
    gait = _watched(False, torch.full((FRAMES, 2), 160.0))
    assert gait["way_m"] == pytest.approx(0.5, abs=1e-4) and gait["time_s"] == pytest.approx(1.02)
    assert gait["slide_m"] == pytest.approx(0.0, abs=1e-4) and gait["odometry_m"] < 0.02
    assert gait["steps"] == 0 and gait["air_s"] == 0


def test_feet_that_glide_along_slide_all_the_way_and_odometry_sees_nothing():
    gait = _watched(True, torch.full((FRAMES, 2), 160.0))
    assert gait["slide_m"] == pytest.approx(0.5, abs=1e-3) and gait["odometry_m"] == pytest.approx(0.5, abs=0.01)
    assert "slides 100 % of the way" in gait_line(gait) and "loses 100 %" in gait_line(gait)


def test_only_the_foot_that_bears_is_said_to_slide():
    force = torch.zeros(FRAMES, 2)
    assert _watched(True, force)["slide_m"] == 0.0  # flying


def test_steps_are_counted_with_their_time_in_the_air():
    force = torch.full((FRAMES, 2), 160.0)
    force[10:20, 0] = 0.0  # ten frames in the air
    force[30:35, 1] = 0.0
    gait = _watched(False, force)
    assert gait["steps"] == 2 and gait["air_s"] == pytest.approx(0.3)
    twice = total_gait([gait, gait])
    assert twice["steps"] == 4 and gait_line(twice).startswith("2.0 steps/s of 0.15 s in the air")


def test_one_who_fell_at_once_did_nothing(make_env):
    env = make_env()
    meter = GaitMeter(env)
    meter(0)
    assert not any(meter.of(3, 0).values())


def test_one_who_stands_went_nowhere():
    gait = dict.fromkeys(("way_m", "slide_m", "odometry_m", "steps", "air_s"), 0.0) | {"time_s": 2.0}
    assert gait_line(gait) == "0.0 steps/s; nobody went anywhere"
