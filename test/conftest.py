# SPDX-License-Identifier: Apache-2.0
"""Small policies for tests, exported the way a trained one is."""

from __future__ import annotations

import numpy as np
import pytest


def _write(folder, name, weight):
    pytest.importorskip("onnx", reason="writing a test policy needs onnx")
    from genmimic.core.manifest import PolicyManifest
    from genmimic.core.robot import G1_23DOF
    from genmimic_train.export import Network, write_policy

    path = folder / f"{name}.onnx"
    size = weight.shape[1]
    layers = [(weight, np.zeros(len(weight)))]
    write_policy(
        path, PolicyManifest.for_robot(G1_23DOF, {"run": name}), Network(layers, np.zeros(size), np.ones(size))
    )
    return path


@pytest.fixture(scope="session")
def hold_policy(tmp_path_factory):
    """Path of a policy whose action is always zero: the motors hold the default pose, and the robot topples slowly."""
    return _write(tmp_path_factory.mktemp("policies"), "hold", np.zeros((23, 2370)))


@pytest.fixture(scope="session")
def balance_policy(tmp_path_factory):
    """Path of a policy that stands: the ankles answer to tilt and angular rate, the rest holds the default pose."""
    return _write(tmp_path_factory.mktemp("policies"), "balance", balance_weight())


def balance_weight():
    """Weight of a linear standing policy. Shape (23, 2370)."""
    from genmimic.core.observation import STUDENT
    from genmimic.core.robot import G1_23DOF

    begin, offset = {}, 0
    for term in STUDENT:
        begin[term.name], offset = offset, offset + term.size
    gravity, rate = begin["gravity_dir_b[0]"], begin["base_ang_vel_b[0]"]
    weight = np.zeros((23, 2370))
    for side in ("left", "right"):
        pitch, roll = G1_23DOF.joint_idx([f"{side}_ankle_pitch_joint", f"{side}_ankle_roll_joint"])
        weight[pitch, [gravity, rate + 1]] = 16.0, 0.75  # leaning forward: push with the toes
        weight[roll, [gravity + 1, rate]] = -16.0, 0.75
    return weight
