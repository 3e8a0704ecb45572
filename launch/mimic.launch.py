# SPDX-License-Identifier: Apache-2.0
"""The nodes, and the main job: ``ros2 launch genmimic_ros mimic.launch.py motion:=wave.npz``.

With ``auto:=true`` (the default for the simulated robot) session_node arms the robot, plays the motion, prints a
summary, and the launch ends. With ``auto:=false`` the nodes wait for the services under /genmimic: docs/ros.md.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

NAMESPACE = "genmimic"

ARGUMENTS = (
    # name, default (None: required), description
    ("motion", None, "motion to play: a file, or the name of a shipped one"),
    ("policy", "", "policy, *.onnx, or the name of a shipped one; the shipped student when empty"),
    ("robot", "sim", "sim or g1"),
    ("interface", "", "network interface of the hardware, for example eth0"),
    ("dds_domain", "0", "DDS domain of the hardware; not ROS's own"),
    ("transport", "dds", "how the hardware is reached: dds, ros (needs unitree_hg) or sdk (needs unitree_sdk2py)"),
    ("sdk_python", "", "with transport:=sdk: the Python that has unitree_sdk2py"),
    ("on_gantry", "false", "whether the hardware hangs in its gantry throughout: the verdict `gantry only` passes"),
    ("override_gate", "false", "play on the hardware what has not passed `genmimic check`; logged"),
    ("auto", "default", "whether to arm, play and end by itself: true, false; default: only the simulated robot"),
    ("repeat", "1", "with auto: how many times the motion is played"),
    ("report", "", "with auto: folder for report, trajectory and picture; none when empty"),
    ("noise", "none", "on what the policy observes, simulated robot only: none or paper"),
    ("seed", "0", "of that noise"),
    ("provider", "cpu", "where the network runs: cpu, cuda or tensorrt"),
    ("record", "true", "whether everything is recorded: run.mcap in `report`, or in reports/MOTION-TIME"),
    ("use_viz", "true", "whether viz_node runs: markers, joint states, transforms, the robot's model"),
    ("rviz", "false", "whether rviz2 is opened"),
    ("viewer", "false", "whether viewer_node runs: the robot in the browser, with buttons"),
    ("viewer_host", "127.0.0.1", "address the viewer listens on; with 0.0.0.0 everybody can operate the robot"),
    ("viewer_port", "8080", "port of the viewer; the next free one is taken"),
)


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, description=text, **({} if default is None else {"default_value": default}))
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription(
        [
            *declared,
            SetEnvironmentVariable("PYTHONUNBUFFERED", "1"),  # the summary comes when it is written
            OpaqueFunction(function=_nodes),
        ]
    )


def _text(name: str) -> ParameterValue:
    """Return a launch argument as text, whatever it looks like: `motion:=123` is a name, not a number."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def _nodes(context: object) -> list:
    share = Path(get_package_share_directory("genmimic_ros"))

    def node(name: str, config: str, parameters: dict, **options: object) -> Node:
        return Node(
            package="genmimic_ros",
            executable=name,
            name=name,
            namespace=NAMESPACE,
            parameters=[str(share / "config" / config), parameters],
            output="screen",
            **options,
        )

    chosen = LaunchConfiguration("auto").perform(context)
    robot = LaunchConfiguration("robot").perform(context)
    if chosen not in ("default", "true", "false"):
        raise RuntimeError(f"auto:={chosen}: expected true, false or default")
    auto = robot == "sim" if chosen == "default" else chosen == "true"
    noise = {"noise": _text("noise"), "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int)}

    gate = {name: ParameterValue(LaunchConfiguration(name), value_type=bool) for name in ("on_gantry", "override_gate")}

    required = [
        node(
            "g1_bridge_node",
            "bridge.yaml",
            {
                "robot": _text("robot"),
                "interface": _text("interface"),
                "transport": _text("transport"),
                "sdk_python": _text("sdk_python"),
                "dds_domain": ParameterValue(LaunchConfiguration("dds_domain"), value_type=int),
            },
        ),
        node("policy_node", "policy.yaml", {"policy": _text("policy"), "provider": _text("provider"), **noise}),
        node(
            "motion_reference_node",
            "reference.yaml",
            {**{name: _text(name) for name in ("motion", "robot", "policy")}, **gate},
        ),
        # a person lowers the real robot onto its feet
        node("safety_node", "safety.yaml", {} if robot == "sim" else {"standing_timeout_s": 120.0}),
    ]
    report = LaunchConfiguration("report").perform(context)
    kept = {"path": f"{report}/run.mcap", "report": f"{report}/report.json"} if report else {}
    others = [
        node(
            "record_node",
            "record.yaml",
            {**{name: _text(name) for name in ("motion", "policy", "robot")}, **kept},
            condition=IfCondition(LaunchConfiguration("record")),
            sigterm_timeout="15",  # to finish its file
        ),
        node("viz_node", "viz.yaml", {}, condition=IfCondition(LaunchConfiguration("use_viz"))),
        node(
            "viewer_node",
            "viewer.yaml",
            {
                "host": _text("viewer_host"),
                "port": ParameterValue(LaunchConfiguration("viewer_port"), value_type=int),
            },
            condition=IfCondition(LaunchConfiguration("viewer")),
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", str(share / "rviz" / "genmimic.rviz")],
            condition=IfCondition(LaunchConfiguration("rviz")),
        ),
    ]
    actions = [*required, *others]
    for each in required:  # without one of these the robot is damped and nothing more can happen
        actions.append(_shut_down_after(each, f"{each.node_executable} has ended"))
    if auto:
        session = node(
            "session_node",
            "session.yaml",
            {
                **{name: _text(name) for name in ("motion", "policy", "robot", "report")},
                "repeat": ParameterValue(LaunchConfiguration("repeat"), value_type=int),
                **noise,
                **gate,
            },
        )
        actions += [session, _shut_down_after(session, "the session is over")]
    else:
        actions.append(LogInfo(msg="next: ros2 service call /genmimic/arm std_srvs/srv/Trigger, then /genmimic/start"))
    return actions


def _shut_down_after(node: Node, reason: str) -> RegisterEventHandler:
    return RegisterEventHandler(
        OnProcessExit(target_action=node, on_exit=[EmitEvent(event=Shutdown(reason=reason))])
    )  # fmt: skip
