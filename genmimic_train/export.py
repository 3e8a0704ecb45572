# SPDX-License-Identifier: Apache-2.0
"""Write a policy as one ONNX file: normaliser, MLP, manifest. `write_policy` needs no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genmimic.core.errors import ConfigError, GenMimicError, InputFileError
from genmimic.core.manifest import PolicyManifest
from genmimic.core.observation import GOAL_FRAMES
from genmimic.core.robot import G1_23DOF

if TYPE_CHECKING:
    from genmimic_train.runs import Run

_OPSET = 17
NORMALIZER_EPS = 1e-2
"""What rsl-rl's normaliser adds to the standard deviation."""

Layer = tuple[np.ndarray, np.ndarray]
"""Weight (out, in) and bias (out,) of a linear layer; ELU between layers."""


def write_policy(
    path: str | Path,
    manifest: PolicyManifest,
    layers: Sequence[Layer],
    mean: np.ndarray,
    std: np.ndarray,
    golden_seed: int = 0,
) -> PolicyManifest:
    """Write ``action = MLP((obs - mean) / std)`` with ``manifest`` inside; the file appears whole or not at all.

    Args:
        path: The ``.onnx`` file; its folder must exist.
        manifest: Its recorded input and output are filled in here.
        layers: Linear layers, the first taking the observation, the last giving the action.
        mean: Shape (N,).
        std: Shape (N,), positive.
        golden_seed: Seed of the recorded input.

    Returns:
        The manifest as written.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    path = Path(path)
    if not path.parent.is_dir():
        raise InputFileError(f"{path}: folder {path.parent} does not exist")
    width = manifest.observation_size
    if mean.shape != (width,) or layers[0][0].shape[1] != width or layers[-1][0].shape[0] != len(manifest.joint_names):
        raise ConfigError(
            f"the network maps {layers[0][0].shape[1]} to {layers[-1][0].shape[0]} numbers, "
            f"expected {width} to {len(manifest.joint_names)}"
        )
    constants = {"mean": mean, "std": std}
    nodes = [helper.make_node("Sub", ["obs", "mean"], ["centred"]), helper.make_node("Div", ["centred", "std"], ["h0"])]
    for number, (weight, bias) in enumerate(layers):
        constants |= {f"w{number}": weight, f"b{number}": bias}
        last = number == len(layers) - 1
        out = "action" if last else f"z{number}"
        nodes.append(helper.make_node("Gemm", [f"h{number}", f"w{number}", f"b{number}"], [out], transB=1))
        if not last:
            nodes.append(helper.make_node("Elu", [out], [f"h{number + 1}"]))
    graph = helper.make_graph(
        nodes,
        "genmimic_student",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, len(manifest.joint_names)])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="genmimic-train")
    model.ir_version = 9  # what the oldest supported onnxruntime reads

    manifest = replace(manifest, golden_seed=golden_seed)
    golden = _forward(manifest.golden_observation(), layers, mean, std)
    manifest = replace(manifest, golden_action=tuple(float(value) for value in golden))
    helper.set_model_props(model, manifest.to_metadata())
    onnx.checker.check_model(model)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(model.SerializeToString())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def read_policy(path: Path) -> tuple[PolicyManifest, list[Layer], np.ndarray, np.ndarray]:
    """Return what `write_policy` was given, without the recorded input and output changed.

    Raises:
        InputFileError: No such file, or not a policy of this form.
        ManifestError: Its manifest is missing or damaged.
    """
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise InputFileError(f"{path}: no such file")
    try:
        model = onnx.load(str(path))
        manifest = PolicyManifest.from_metadata({item.key: item.value for item in model.metadata_props}, str(path))
        values: dict[str, np.ndarray] = {
            item.name: numpy_helper.to_array(item).astype(np.float64) for item in model.graph.initializer
        }
        layers = [(values[f"w{number}"], values[f"b{number}"]) for number in range((len(values) - 2) // 2)]
        return manifest, layers, values["mean"], values["std"]
    except GenMimicError:
        raise
    except Exception as error:  # onnx raises what protobuf does
        raise InputFileError(f"{path}: not a policy that was exported here ({type(error).__name__})") from None


def export_student(run: Run, path: Path) -> Path:
    """Export the student of a run folder. Raises ConfigError when the run is not a student's."""
    info = run.info()
    if info["kind"] != "student":
        raise ConfigError(f"{run.folder} holds a {info['kind']} run; only a student can be exported")
    state = run.load()
    weights = {name: tensor.cpu().numpy().astype(np.float64) for name, tensor in state["actor_state_dict"].items()}
    numbers = sorted({int(name.split(".")[1]) for name in weights if name.startswith("mlp.")})
    layers = [(weights[f"mlp.{number}.weight"], weights[f"mlp.{number}.bias"]) for number in numbers]
    training: dict[str, object] = {
        "run": run.folder.name,
        "revision": info["revision"],
        "versions": info["versions"],
        "samples": state["samples"],
        "motion_set": info["motion_set"],
        "clips": [name for name in info["clips"] if not name.endswith("_mirrored")],
        "teacher": info.get("teacher_facts", {}),
        **{name: info[name] for name in ("fine_tuned_from", "averaged_from") if name in info},
    }
    mean = weights["obs_normalizer._mean"].ravel()
    std = weights["obs_normalizer._std"].ravel() + NORMALIZER_EPS
    write_policy(
        path, PolicyManifest.for_robot(G1_23DOF, training, GOAL_FRAMES[run.config().env.goal_frame]), layers, mean, std
    )
    return path


def _forward(observation: np.ndarray, layers: Sequence[Layer], mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    hidden = (observation - mean) / std
    for weight, bias in layers[:-1]:
        hidden = weight @ hidden + bias
        hidden = np.where(hidden > 0.0, hidden, np.expm1(np.minimum(hidden, 0.0)))
    return layers[-1][0] @ hidden + layers[-1][1]
