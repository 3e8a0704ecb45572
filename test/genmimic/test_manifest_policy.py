# SPDX-License-Identifier: Apache-2.0
"""A policy file is used only when all of it fits; a refusal is one line that names what does not."""

from dataclasses import replace

import numpy as np
import pytest

from genmimic.core.errors import ConfigError, GenMimicError, InputFileError, ManifestError
from genmimic.core.manifest import METADATA_PREFIX, PolicyManifest
from genmimic.core.robot import G1_23DOF

ROBOT = G1_23DOF
GOOD = replace(PolicyManifest.for_robot(ROBOT), golden_action=(0.0,) * 23)


def _refused(manifest):
    with pytest.raises(ManifestError) as caught:
        manifest.check(ROBOT, "p.onnx")
    text = str(caught.value)
    assert text.startswith("p.onnx: ") and "\n" not in text and len(text) < 400
    return text


# the manifest alone ---------------------------------------------------------------------------------
def test_a_good_manifest_passes_and_survives_metadata():
    GOOD.check(ROBOT, "p.onnx")
    assert PolicyManifest.from_metadata(GOOD.to_metadata(), "p.onnx") == GOOD


def test_swapped_joints_are_named():
    names = list(ROBOT.joint_names)
    names[0], names[6] = names[6], names[0]
    text = _refused(replace(GOOD, joint_names=tuple(names)))
    assert "joint_names[0] is 'right_hip_pitch_joint', expected 'left_hip_pitch_joint'" in text


def test_29_joints_are_counted_and_the_extra_ones_named():
    extra = ("waist_roll_joint", "waist_pitch_joint", "left_wrist_pitch_joint", "left_wrist_yaw_joint",
             "right_wrist_pitch_joint", "right_wrist_yaw_joint")  # fmt: skip
    text = _refused(replace(GOOD, joint_names=ROBOT.joint_names + extra))
    assert "joint_names has 29 entries but robot 'g1_23dof' needs 23; extra: waist_roll_joint" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "genmimic-policy/2"}, "format is 'genmimic-policy/2', expected 'genmimic-policy/1'"),
        ({"robot": "g1_29dof"}, "robot is 'g1_29dof', expected 'g1_23dof'"),
        ({"keypoint_names": ROBOT.keypoint_names[:26]}, "keypoint_names has 26 entries"),
        ({"kp": (100.0,) + GOOD.kp[1:]}, "kp[0] is 100.0, expected 200.0"),
        ({"kd": GOOD.kd[:-1] + (9.0,)}, "kd[22] is 9.0, expected 2.0"),
        ({"action_scale": 0.5}, "action_scale is 0.5, expected 0.25"),
        ({"action_clip": 100.0}, "action_clip is 100.0, expected 10.0"),
        ({"history": 5}, "history is 5, expected 10"),
        ({"goal_future": 1}, "goal_future is 1, expected 10"),
        ({"goal_frame": "base"}, "goal_frame is 'base'"),
        ({"control_rate_hz": 100.0}, "control_rate_hz is 100.0, expected 50.0"),
        ({"physics_rate_hz": 500.0}, "physics_rate_hz is 500.0, expected 200.0"),
        ({"proprioception": GOOD.proprioception[::-1]}, "proprioception[0]"),
        ({"golden_action": (0.0,) * 29}, "golden_action has 29 numbers, expected 23"),
        ({"kp": None}, "kp has no entries"),
        ({"action_scale": "0.25"}, "action_scale is '0.25', expected 0.25"),
    ],
)
def test_each_difference_is_named(change, message):
    assert message in _refused(replace(GOOD, **change))


def test_a_default_pose_that_differs_is_named():
    pose = list(GOOD.default_joint_pos)
    pose[3] += 0.01
    assert "default_joint_pos[3] is 0.43" in _refused(replace(GOOD, default_joint_pos=tuple(pose)))


def test_missing_and_damaged_metadata():
    with pytest.raises(ManifestError, match="no GenMimic manifest in its metadata"):
        PolicyManifest.from_metadata({}, "p.onnx")
    metadata = GOOD.to_metadata()
    for name in ("joint_names", "golden_action", "training"):
        less = {key: value for key, value in metadata.items() if key != METADATA_PREFIX + name}
        with pytest.raises(ManifestError, match=f"lacks '{name}'"):
            PolicyManifest.from_metadata(less, "p.onnx")
    with pytest.raises(ManifestError, match="'kp' is damaged"):
        PolicyManifest.from_metadata({**metadata, METADATA_PREFIX + "kp": "[200.0, "}, "p.onnx")


def test_golden_action_within_a_thousandth():
    GOOD.check_golden(np.full(23, 0.0009), "p.onnx")
    with pytest.raises(ManifestError, match="0.002 off the recorded output"):
        GOOD.check_golden(np.full(23, 0.002), "p.onnx")
    with pytest.raises(ManifestError, match="nan off the recorded output"):
        GOOD.check_golden(np.full(23, np.nan), "p.onnx")


# the file -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def load_policy():
    pytest.importorskip("onnxruntime", reason="running a policy needs onnxruntime")
    from genmimic.policy import load_policy

    return load_policy


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx", reason="making a damaged policy needs onnx")


def _refusal(load_policy, path, kind=GenMimicError):
    with pytest.raises(kind) as caught:
        load_policy(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


def _with_metadata(onnx, source, target, change):
    """Copy a policy, its metadata changed by ``change(dict)``."""
    model = onnx.load(str(source))
    metadata = {item.key: item.value for item in model.metadata_props}
    change(metadata)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(target))
    return target


def test_a_good_policy_answers(load_policy, balance_policy):
    policy = load_policy(balance_policy)
    assert policy.name == "balance" and policy.manifest.training["run"] == "balance"
    action = policy(np.zeros(2370))
    assert action.shape == (23,) and action.dtype == np.float32
    np.testing.assert_array_equal(action, 0.0)


def test_wrong_joint_order_in_the_file(load_policy, onnx, hold_policy, tmp_path):
    def swap(metadata):
        key = METADATA_PREFIX + "joint_names"
        text = metadata[key].replace("left_knee", "x")
        metadata[key] = text.replace("right_knee", "left_knee").replace("x", "right_knee")

    path = _with_metadata(onnx, hold_policy, tmp_path / "p.onnx", swap)
    assert "joint_names[3] is 'right_knee_joint'" in _refusal(load_policy, path, ManifestError)


def test_no_manifest_at_all(load_policy, onnx, hold_policy, tmp_path):
    path = _with_metadata(onnx, hold_policy, tmp_path / "p.onnx", lambda metadata: metadata.clear())
    assert "no GenMimic manifest" in _refusal(load_policy, path, ManifestError)


def test_one_entry_missing(load_policy, onnx, hold_policy, tmp_path):
    path = _with_metadata(
        onnx, hold_policy, tmp_path / "p.onnx", lambda metadata: metadata.pop(METADATA_PREFIX + "goal_frame")
    )
    assert "lacks 'goal_frame'" in _refusal(load_policy, path, ManifestError)


def test_another_answer_than_recorded(load_policy, onnx, hold_policy, tmp_path):
    def spoil(metadata):
        metadata[METADATA_PREFIX + "golden_action"] = str([0.5] + [0.0] * 22)

    path = _with_metadata(onnx, hold_policy, tmp_path / "p.onnx", spoil)
    assert "0.5 off the recorded output" in _refusal(load_policy, path, ManifestError)


def test_changed_weights_are_noticed(load_policy, onnx, balance_policy, tmp_path):
    model = onnx.load(str(balance_policy))
    weight = next(item for item in model.graph.initializer if item.name == "w0")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), "w0"))
    onnx.save(model, str(tmp_path / "p.onnx"))
    assert "off the recorded output" in _refusal(load_policy, tmp_path / "p.onnx", ManifestError)


@pytest.mark.parametrize(("inputs", "outputs"), [(2371, 23), (2370, 29)])
def test_a_network_of_another_size(load_policy, onnx, hold_policy, tmp_path, inputs, outputs):
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["obs", "w"], ["action"], transB=1)],
        "other",
        [onnx.helper.make_tensor_value_info("obs", kind, [1, inputs])],
        [onnx.helper.make_tensor_value_info("action", kind, [1, outputs])],
        [onnx.numpy_helper.from_array(np.zeros((outputs, inputs), np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    good = onnx.load(str(hold_policy))
    onnx.helper.set_model_props(model, {item.key: item.value for item in good.metadata_props})
    path = tmp_path / "p.onnx"
    onnx.save(model, str(path))
    wanted = "(1, 2370)" if inputs != 2370 else "(1, 23)"
    assert f"expected one of {wanted}" in _refusal(load_policy, path, ManifestError)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file(load_policy, hold_policy, tmp_path, keep):
    content = hold_policy.read_bytes()
    path = tmp_path / "p.onnx"
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    _refusal(load_policy, path, InputFileError if keep != 0.99 else GenMimicError)


def test_not_onnx_at_all(load_policy, tmp_path):
    path = tmp_path / "p.onnx"
    path.write_text("hello\nworld\n")
    assert "not a usable ONNX file" in _refusal(load_policy, path, InputFileError)


def test_a_graph_that_loads_and_cannot_be_run(load_policy, tmp_path):
    onnx = pytest.importorskip("onnx", reason="damaging a policy needs onnx")
    from genmimic_train.export import Network, write_policy

    size, path = GOOD.observation_size, tmp_path / "p.onnx"
    network = Network([(np.zeros((23, size)), np.zeros(23))], np.zeros(size), np.ones(size), equivariant=True)
    write_policy(path, PolicyManifest.for_robot(ROBOT), network)
    model = onnx.load(str(path))
    index = next(item for item in model.graph.initializer if item.name == "obs_mirror_index")
    index.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(index) + size, index.name))
    onnx.save(model, str(path))
    assert "cannot be run" in _refusal(load_policy, path, InputFileError)


def test_missing_folder_and_size_limit(load_policy, hold_policy, tmp_path, monkeypatch):
    assert "no such policy file" in _refusal(load_policy, tmp_path / "none.onnx", InputFileError)
    assert "no such policy file" in _refusal(load_policy, tmp_path, InputFileError)
    monkeypatch.setattr("genmimic.policy.MAX_POLICY_BYTES", 1000)
    assert "limit 1000" in _refusal(load_policy, hold_policy, InputFileError)


def test_unknown_and_absent_providers(load_policy, hold_policy, monkeypatch):
    with pytest.raises(ConfigError, match="provider is 'tpu'; known: cpu, cuda, tensorrt"):
        load_policy(hold_policy, provider="tpu")
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="install the gpu extra or use cpu"):
        load_policy(hold_policy, provider="cuda")


def test_shipped_names_are_listed_when_one_is_unknown():
    from genmimic.policy import find_policy, find_shipped

    with pytest.raises(InputFileError, match="no such file, and no shipped one of that name; shipped: "):
        find_policy("no_such_policy")
    with pytest.raises(InputFileError, match="nowhere: no such file"):
        find_shipped("nowhere", "motions", ".npz")


def test_a_given_path_wins_over_shipped_ones(hold_policy):
    from genmimic.policy import find_policy

    assert find_policy(hold_policy) == hold_policy
