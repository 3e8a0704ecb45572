# SPDX-License-Identifier: Apache-2.0
"""A motion in rviz, without policy and simulator: ``ros2 launch genmimic_ros view_motion.launch.py motion:=wave``.

motion_view_node plays it, viz_node publishes joint states, transforms, the robot's model and markers. Both live in
``/genmimic_view``, away from any robot. In the browser, without ROS: ``genmimic view wave``.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

NAMESPACE = "genmimic_view"

ARGUMENTS = (
    # name, default (None: required), description
    ("motion", None, "motion to play: a file, or the name of a shipped one"),
    ("speed", "1.0", "1 is as fast as it is meant to be"),
    ("loop", "true", "whether it begins again at its end"),
    ("rviz", "true", "whether rviz2 is opened"),
)


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` runs."""
    share = Path(get_package_share_directory("genmimic_ros"))
    declared = [
        DeclareLaunchArgument(name, description=text, **({} if default is None else {"default_value": default}))
        for name, default, text in ARGUMENTS
    ]
    player = _node(
        share,
        "motion_view_node",
        "motion_view.yaml",
        {
            "motion": ParameterValue(LaunchConfiguration("motion"), value_type=str),
            "speed": ParameterValue(LaunchConfiguration("speed"), value_type=float),
            "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
        },
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(share / "rviz" / "genmimic.rviz")],
        remappings=[("/genmimic/markers", f"/{NAMESPACE}/markers")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription(
        [
            *declared,
            player,
            _node(share, "viz_node", "viz.yaml", {}),
            rviz,
            _shut_down_after(player, "motion_view_node has ended"),
            _shut_down_after(rviz, "rviz has been closed"),
        ]
    )


def _node(share: Path, name: str, config: str, parameters: dict) -> Node:
    return Node(
        package="genmimic_ros",
        executable=name,
        name=name,
        namespace=NAMESPACE,
        parameters=[str(share / "config" / config), parameters],
        output="screen",
    )


def _shut_down_after(node: Node, reason: str) -> RegisterEventHandler:
    return RegisterEventHandler(
        OnProcessExit(target_action=node, on_exit=[EmitEvent(event=Shutdown(reason=reason))])
    )  # fmt: skip
