# SPDX-License-Identifier: Apache-2.0
"""Small motions and environments; everything here needs torch and rsl-rl."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

pytest.importorskip("torch", reason="training needs torch (requirements/train.txt)")
pytest.importorskip("rsl_rl", reason="training needs rsl-rl (requirements/train.txt)")

import torch  # noqa: E402

from genmimic.core.motion import Motion  # noqa: E402
from genmimic.core.robot import G1_23DOF  # noqa: E402
from genmimic_train.config import SimConfig, load_config  # noqa: E402
from genmimic_train.sim import Simulator, make_simulator  # noqa: E402
from genmimic_train.tracking.env import TrackingEnv  # noqa: E402
from genmimic_train.tracking.motions import MotionLibrary  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def make_arm_motion(seconds: float = 3.0, name: str = "arms") -> Motion:
    """Standing legs, arms that swing unequally: nothing about it is mirror-symmetric."""
    robot = G1_23DOF
    frames = round(seconds * 50)
    t = np.arange(frames) / 50.0
    joint_pos = np.tile(robot.default_joint_pos, (frames, 1))
    left, right = robot.joint_idx(["left_shoulder_pitch_joint", "right_elbow_joint"])
    joint_pos[:, left] += 0.4 * np.sin(2.0 * np.pi * 0.5 * t)
    joint_pos[:, right] -= 0.3 * (1.0 - np.cos(2.0 * np.pi * 0.7 * t))
    root_pos = np.tile([0.0, 0.0, robot.standing_height], (frames, 1))
    return Motion.from_joints(robot, 50.0, joint_pos, root_pos, np.tile([1.0, 0, 0, 0], (frames, 1)), name)


@pytest.fixture
def arm_motion() -> Motion:
    return make_arm_motion()


@pytest.fixture(params=["mujoco", "warp"])
def make_sim(request):
    """Makes a simulator for so many robots: each test runs on both, Warp on its CPU back end."""
    if request.param == "warp":
        pytest.importorskip("mujoco_warp", reason="needs mujoco_warp and warp-lang (requirements/warp.txt)")

    def build(num_envs: int) -> Simulator:
        return make_simulator(SimConfig(request.param, "cpu"), num_envs, threads=1)

    return build


@pytest.fixture
def make_env(arm_motion, make_sim):
    def build(*overrides: str, with_student: bool = False, num_envs: int = 8) -> TrackingEnv:
        config = load_config(None, [f"env.num_envs={num_envs}", *overrides]).env
        library = MotionLibrary(G1_23DOF, [arm_motion], config.mirror_motions)
        return TrackingEnv(config, make_sim(num_envs), library, with_student=with_student)

    return build
