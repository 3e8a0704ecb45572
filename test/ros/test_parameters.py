# SPDX-License-Identifier: Apache-2.0
"""Parameters are declared once: dataclass, file and node agree."""

from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("genmimic_ros.msg", reason="needs the built messages (make setup, or colcon build)")

import yaml  # noqa: E402

from genmimic.core.errors import ConfigError  # noqa: E402
from genmimic_ros.nodes.motion_reference_node import ReferenceParams  # noqa: E402
from genmimic_ros.nodes.policy_node import PolicyParams  # noqa: E402
from genmimic_ros.nodes.record_node import RecordParams  # noqa: E402
from genmimic_ros.nodes.viz_node import VizParams  # noqa: E402
from genmimic_ros.parameters import declare_parameters, parameter, parameter_names  # noqa: E402
from genmimic_ros.session import SessionParams  # noqa: E402

ROOT = Path(__file__).parents[2]
FILES = [
    ("reference.yaml", "motion_reference_node", ReferenceParams),
    ("policy.yaml", "policy_node", PolicyParams),
    ("viz.yaml", "viz_node", VizParams),
    ("record.yaml", "record_node", RecordParams),
    ("session.yaml", "session_node", SessionParams),
]


@dataclass(frozen=True)
class Params:
    rate_hz: float = parameter(50.0, "Rate", unit="Hz", low=1, high=200)
    count: int = parameter(3, "Count", low=1)
    name: str = parameter("", "Name")
    kind: str = parameter("a", "Kind", choices=("a", "b"))
    on: bool = parameter(True, "Switch")
    gains: tuple[float, ...] = parameter((1.0, 2.0), "Gains", low=0)


def declare(cls, *arguments, name="probe"):
    context = rclpy.Context()
    context.init(args=["--ros-args", *arguments] if arguments else [], domain_id=0)
    node = rclpy.create_node(name, namespace="/genmimic", context=context)
    try:
        return declare_parameters(node, cls), node.describe_parameters(parameter_names(cls))
    finally:
        node.destroy_node()
        context.shutdown()


@pytest.mark.parametrize(("file", "node", "cls"), FILES)
def test_a_file_holds_every_parameter_with_its_default_and_no_other(file, node, cls):
    path = ROOT / "config" / file
    held = yaml.safe_load(path.read_text())[f"/**/{node}"]["ros__parameters"]
    assert list(held) == parameter_names(cls)
    values, _ = declare(cls, "--params-file", str(path), name=node)
    assert values == cls()


def test_files_reach_the_nodes_they_name(tmp_path):
    given = (ROOT / "config" / "policy.yaml").read_text().replace("seed: 0", "seed: 7")
    (tmp_path / "policy.yaml").write_text(given)
    assert declare(PolicyParams, "--params-file", str(tmp_path / "policy.yaml"), name="policy_node")[0].seed == 7
    assert declare(PolicyParams, "--params-file", str(tmp_path / "policy.yaml"), name="other_node")[0].seed == 0


@pytest.mark.parametrize("cls", [cls for _, _, cls in FILES])
def test_every_parameter_is_described(cls):
    _, descriptors = declare(cls)
    assert all(len(descriptor.description) > 5 and descriptor.read_only for descriptor in descriptors)


def test_what_the_command_line_makes_of_a_value_is_put_right():
    values, _ = declare(Params, "-p", "name:=123", "-p", "rate_hz:=20", "-p", "gains:=[3, 4]")
    assert (values.name, values.rate_hz, values.gains) == ("123", 20.0, (3.0, 4.0))
    assert declare(Params, "-p", "name:=true")[0].name == "true"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rate_hz:=500.0", "'rate_hz' of probe is 500, expected 1 to 200 Hz"),
        ("rate_hz:=.nan", "'rate_hz' of probe is nan, expected 1 to 200 Hz"),
        ("rate_hz:=fast", "'rate_hz' of probe is 'fast', expected a number"),
        ("rate_hz:=true", "'rate_hz' of probe is True, expected a number"),
        ("count:=0", "'count' of probe is 0, expected at least 1"),
        ("count:=1.5", "'count' of probe is 1.5, expected a whole number"),
        ("kind:=c", "'kind' of probe is 'c', expected one of a, b"),
        ("on:=1", "'on' of probe is 1, expected true or false"),
        ("gains:=[1.0, -1.0]", "'gains' of probe is -1, expected at least 0"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(given, words):
    with pytest.raises(ConfigError) as caught:
        declare(Params, "-p", given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_ranges_and_units_are_told():
    _, descriptors = declare(Params)
    rate, count = descriptors[:2]
    assert rate.description == "Rate [Hz]"
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (1.0, 200.0)
    assert count.integer_range[0].from_value == 1
    assert descriptors[3].additional_constraints == "one of: a, b"
