# SPDX-License-Identifier: Apache-2.0
"""rviz's configuration, Foxglove's layout and the launch files name topics, types, services and nodes that exist."""

import ast
import json
import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

from genmimic.core.desk import EVENTS  # noqa: E402

ROOT = Path(__file__).parents[2]
NODES = sorted((ROOT / "genmimic_ros" / "nodes").glob("*_node.py"))
RVIZ_TYPES = {"RobotModel": "std_msgs/String", "MarkerArray": "visualization_msgs/MarkerArray"}
"""What a display of rviz listens to."""

STANDARD = {"std_msgs/Float32": {"data"}}


@pytest.fixture(scope="module")
def endpoints():
    """Return what the nodes publish and hear, by verb: full name to type."""
    interface = pytest.importorskip("genmimic_ros.interface", reason="needs ROS 2's Python packages")
    found = {}
    for path in (*NODES, ROOT / "genmimic_ros" / "hardware_bridge.py"):
        if path.stem == "motion_view_node":  # lives elsewhere
            continue
        for verb, name, kind in interface.scan(path).found:
            full = name if name.startswith("/") else f"/genmimic/{name}"
            found.setdefault(verb, {})[full] = kind
    return found


def message_fields(kind):
    """Return the fields of a message type of ours, constants left out, or of a standard one that is used."""
    if kind in STANDARD:
        return STANDARD[kind]
    text = (ROOT / "msg" / f"{kind.rpartition('/')[2]}.msg").read_text()
    return set(re.findall(r"^[\w/\[\]]+\s+(\w+)\s*(?:#.*)?$", text, re.M))


# rviz ----------------------------------------------------------------------------------------------
def test_rviz_listens_to_what_is_published(endpoints):
    displays = yaml.safe_load((ROOT / "rviz" / "genmimic.rviz").read_text())["Visualization Manager"]["Displays"]
    heard = 0
    for display in displays:
        topic = (display.get("Topic") or display.get("Description Topic") or {}).get("Value")
        if topic:
            heard += 1
            assert endpoints["publishes"][topic] == RVIZ_TYPES[display["Class"].rpartition("/")[2]], display["Name"]
    assert heard == 2 and any(display["Class"].endswith("/TF") for display in displays)
    assert "/tf" in endpoints["publishes"]


def test_rviz_knows_every_marker_and_the_frame():
    manager = yaml.safe_load((ROOT / "rviz" / "genmimic.rviz").read_text())["Visualization Manager"]
    source = (ROOT / "genmimic_ros" / "nodes" / "viz_node.py").read_text()
    drawn = set(re.findall(r"_marker\(\s*stamp, \"(\w+)\"", source))
    shown = next(display for display in manager["Displays"] if display["Class"].endswith("/MarkerArray"))
    assert drawn == set(shown["Namespaces"]) and len(drawn) >= 6
    conversions = (ROOT / "genmimic_ros" / "conversions.py").read_text()
    assert f'WORLD_FRAME = "{manager["Global Options"]["Fixed Frame"]}"' in conversions


# Foxglove ------------------------------------------------------------------------------------------
def leaves(node):
    return [node] if isinstance(node, str) else [*leaves(node["first"]), *leaves(node["second"])]


def test_foxglove_shows_what_exists(endpoints):
    layout = json.loads((ROOT / "foxglove" / "genmimic.json").read_text())
    panels = layout["configById"]
    assert sorted(leaves(layout["layout"])) == sorted(panels)
    topics = endpoints["publishes"]
    for name, panel in panels.items():
        kind = name.partition("!")[0]
        assert set(panel.get("topics", {})) <= set(topics), name
        if kind == "CallService":
            assert panel["serviceName"] in {f"/genmimic/{event}" for event in EVENTS}, name
        for key in ("topicPath", "topicToRender"):
            assert panel.get(key, "/diagnostics") in topics, name
        for path in panel.get("paths", ()):
            topic = max((each for each in topics if path["value"].startswith(each + ".")), key=len, default="")
            assert topic, f"{name}: {path['value']}"
            field = re.match(r"\w+", path["value"][len(topic) + 1 :])[0]
            assert field in message_fields(topics[topic]), f"{name}: {path['value']}"
    asked = {panel["serviceName"].rpartition("/")[2] for panel in panels.values() if "serviceName" in panel}
    assert asked == set(EVENTS)


# launch files --------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.launch.py")), ids=lambda path: path.name)
def test_a_launch_file_starts_what_is_there(path):
    tree = ast.parse(path.read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    installed = (ROOT / "CMakeLists.txt").read_text()
    nodes = {text for text in texts if re.fullmatch(r"\w+_node", text)}
    assert nodes
    for node in nodes:
        assert (ROOT / "genmimic_ros" / "nodes" / f"{node}.py").is_file() and f" {node}" in installed, node
    for name in (text for text in texts if re.fullmatch(r"\w+\.(yaml|rviz)", text)):
        folder = "config" if name.endswith(".yaml") else "rviz"
        assert (ROOT / folder / name).is_file(), name
    declared = ast.literal_eval(
        next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "ARGUMENTS")
    )
    names = {name for name, _, _ in declared}
    used = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in ("LaunchConfiguration", "_text")
        and isinstance(node.args[0], ast.Constant)
    }
    assert used <= names
    assert {"rviz"} <= used and all(text for _, _, text in declared)
