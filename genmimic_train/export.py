# SPDX-License-Identifier: Apache-2.0
"""Write a policy as one ONNX file: normaliser, MLP, mirror, manifest. `write_policy` needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genmimic.core.errors import ConfigError, GenMimicError, InputFileError
from genmimic.core.files import write_whole
from genmimic.core.manifest import PolicyManifest
from genmimic.core.mirror import action_mirror, observation_mirror
from genmimic.core.observation import GOAL_FRAMES, STUDENT
from genmimic.core.robot import G1_23DOF

if TYPE_CHECKING:
    from onnx import NodeProto

    from genmimic_train.runs import Run

_OPSET = 17
NORMALIZER_EPS = 1e-2
"""What rsl-rl's normaliser adds to the standard deviation."""

Layer = tuple[np.ndarray, np.ndarray]
"""Weight (out, in) and bias (out,) of a linear layer; ELU between layers."""


@dataclass(frozen=True)
class Network:
    """What answers an observation of N numbers with an action of J: ``f(o) = MLP((o - mean) / std)``.

    ``equivariant``: the action is ``(f(o) + T_a f(T_s o)) / 2``, as in `EquivariantStudent`.
    """

    layers: Sequence[Layer]
    """Linear layers, the first taking the observation, the last giving the action."""
    mean: np.ndarray
    """Shape (N,)."""
    std: np.ndarray
    """Shape (N,), positive."""
    equivariant: bool = False

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return the action, computed in NumPy. Shapes (N,) to (J,)."""
        straight = self._forward(observation)
        if not self.equivariant:
            return straight
        mirrored = self._forward(observation_mirror(G1_23DOF, STUDENT)(observation))
        return 0.5 * (straight + action_mirror(G1_23DOF)(mirrored))

    def _forward(self, observation: np.ndarray) -> np.ndarray:
        hidden = (observation - self.mean) / self.std
        for weight, bias in self.layers[:-1]:
            hidden = weight @ hidden + bias
            hidden = np.where(hidden > 0.0, hidden, np.expm1(np.minimum(hidden, 0.0)))
        weight, bias = self.layers[-1]
        return weight @ hidden + bias


def write_policy(path: str | Path, manifest: PolicyManifest, network: Network, golden_seed: int = 0) -> PolicyManifest:
    """Write ``network`` with ``manifest`` inside; the file appears whole or not at all.

    Args:
        path: The ``.onnx`` file; its folder must exist.
        manifest: Its recorded input and output are filled in here.
        network: What the file computes.
        golden_seed: Seed of the recorded input.

    Returns:
        The manifest as written.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    path = Path(path)
    if not path.parent.is_dir():
        raise InputFileError(f"{path}: folder {path.parent} does not exist")
    width, layers, mean, std = manifest.observation_size, network.layers, network.mean, network.std
    if mean.shape != (width,) or layers[0][0].shape[1] != width or layers[-1][0].shape[0] != len(manifest.joint_names):
        raise ConfigError(
            f"the network maps {layers[0][0].shape[1]} to {layers[-1][0].shape[0]} numbers, "
            f"expected {width} to {len(manifest.joint_names)}"
        )
    constants = {"mean": mean, "std": std}
    nodes = [
        helper.make_node("Sub", ["batch" if network.equivariant else "obs", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["h0"]),
    ]
    for number, (weight, bias) in enumerate(layers):
        constants |= {f"w{number}": weight, f"b{number}": bias}
        last = number == len(layers) - 1
        out = f"z{number}" if not last else "answers" if network.equivariant else "action"
        nodes.append(helper.make_node("Gemm", [f"h{number}", f"w{number}", f"b{number}"], [out], transB=1))
        if not last:
            nodes.append(helper.make_node("Elu", [out], [f"h{number + 1}"]))
    if network.equivariant:
        before, after = _mirror_nodes(constants)
        nodes = [*before, *nodes, *after]
    graph = helper.make_graph(
        nodes,
        "genmimic_student",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, len(manifest.joint_names)])],
        [
            numpy_helper.from_array(np.asarray(value, np.int64 if value.dtype.kind == "i" else np.float32), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="genmimic-train")
    model.ir_version = 9  # what the oldest supported onnxruntime reads

    manifest = replace(manifest, golden_seed=golden_seed)
    golden = network(manifest.golden_observation())
    manifest = replace(manifest, golden_action=tuple(float(value) for value in golden))
    helper.set_model_props(model, manifest.to_metadata())
    onnx.checker.check_model(model)
    write_whole(path, model.SerializeToString())
    return manifest


def _mirror_nodes(constants: dict[str, np.ndarray]) -> tuple[list[NodeProto], list[NodeProto]]:
    """Return what joins ``obs`` with its mirror image into ``batch``, and what makes ``action`` of both ``answers``.

    One batch of two costs less than two passes. The arrays they read are put into ``constants``.
    """
    from onnx import helper

    for name, mirror in (("obs", observation_mirror(G1_23DOF, STUDENT)), ("action", action_mirror(G1_23DOF))):
        constants |= {f"{name}_mirror_index": mirror.index, f"{name}_mirror_sign": mirror.sign}
    constants |= {"first": np.array([0]), "second": np.array([1]), "half": np.array([0.5])}
    return [
        helper.make_node("Gather", ["obs", "obs_mirror_index"], ["obs_swapped"], axis=1),
        helper.make_node("Mul", ["obs_swapped", "obs_mirror_sign"], ["obs_mirrored"]),
        helper.make_node("Concat", ["obs", "obs_mirrored"], ["batch"], axis=0),
    ], [
        helper.make_node("Gather", ["answers", "first"], ["straight"], axis=0),
        helper.make_node("Gather", ["answers", "second"], ["other"], axis=0),
        helper.make_node("Gather", ["other", "action_mirror_index"], ["other_swapped"], axis=1),
        helper.make_node("Mul", ["other_swapped", "action_mirror_sign"], ["other_mirrored"]),
        helper.make_node("Add", ["straight", "other_mirrored"], ["sum"]),
        helper.make_node("Mul", ["sum", "half"], ["action"]),
    ]


def read_policy(path: Path) -> tuple[PolicyManifest, Network]:
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
        count = sum(re.fullmatch(r"w\d+", name) is not None for name in values)
        layers = [(values[f"w{number}"], values[f"b{number}"]) for number in range(count)]
        return manifest, Network(layers, values["mean"], values["std"], "obs_mirror_index" in values)
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
    config = run.config()
    network = Network(layers, mean, std, config.dagger.equivariant)
    write_policy(path, PolicyManifest.for_robot(G1_23DOF, training, GOAL_FRAMES[config.env.goal_frame]), network)
    return path
