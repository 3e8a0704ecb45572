# SPDX-License-Identifier: Apache-2.0
"""The robot, its goal and their difference in the browser. Only what has changed is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genmimic.core.kinematics import link_kinematics
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import quat_conjugate, quat_multiply, quat_rotate
from genmimic.view.meshes import LinkMesh, disc, robot_meshes, sphere
from genmimic.view.overlay import TAUT_N, contacts, heat, rope

ROBOT_RGB, GOAL_RGB = (255, 196, 40), (26, 153, 255)
"""Keypoints of the robot and of its goal."""

CONTACT_RGB, SLACK_RGB, TAUT_RGB = (60, 220, 110), (150, 150, 150), (255, 150, 40)

ERROR_LIMIT_M = 0.2
"""An error line of this length is fully red."""

_STILL_M, _STILL_QUAT = 4e-4, 2e-4
"""A link that has moved less is not sent again; errors of turning add up along the tree, to 3 mm at most."""

_HIDDEN = 1e-4

_CAMERA = (1.85, -1.25, 1.2), (0.0, 0.0, 0.75)
_TALL_CAMERA = (2.9, -2.0, 1.2), (0.1, 0.1, -0.05)
"""Where the camera is and what it looks at, in m, from the robot's place on the floor."""


@dataclass(frozen=True)
class Pose:
    """What is drawn at one instant; world frame, z up, the floor at z = 0.

    Attributes:
        root_pos: Pelvis, in m. Shape (3,).
        root_quat: Pelvis orientation, wxyz. Shape (4,).
        joint_pos: In rad. Shape (J,).
        goal_keypoint_pos: In m. Shape (K, 3); None without a goal.
        tension_n: Of the gantry's rope, in N; NaN without one.
    """

    root_pos: np.ndarray
    root_quat: np.ndarray
    joint_pos: np.ndarray
    goal_keypoint_pos: np.ndarray | None = None
    tension_n: float = float("nan")


class RobotScene:
    """Draws poses of one robot.

    Args:
        viser: The ``viser.ViserServer``.
        robot: Whose tree it is.
        meshes: What it looks like; found by `robot_meshes` when left out.
    """

    def __init__(self, viser: Any, robot: Robot = G1_23DOF, meshes: Sequence[LinkMesh] | None = None) -> None:
        self._viser, self._robot = viser, robot
        self._parent_idx = np.array([max(0, robot.link_names.index(link.parent or link.name)) for link in robot.links])
        self._root_pos = np.full(3, np.inf)
        self._turn = np.full((len(robot.links), 4), np.inf)
        self._keypoint_link_idx = robot.link_idx([keypoint.link for keypoint in robot.keypoints])
        self._keypoint_offset = np.array([keypoint.offset for keypoint in robot.keypoints])
        self._centre = np.zeros(2)
        self.follow = True
        """Whether the picture moves with the robot."""
        self._build(robot_meshes(robot) if meshes is None else meshes)

    def _build(self, meshes: Sequence[LinkMesh]) -> None:
        scene, robot = self._viser.scene, self._robot
        viser = self._viser
        scene.set_up_direction("+z")
        viser.initial_camera.position, viser.initial_camera.look_at = _CAMERA
        viser.on_client_connect(_fit_camera)
        scene.configure_environment_map("studio", background=False, environment_intensity=0.6)
        self._world = scene.add_frame("/world", show_axes=False)
        scene.add_grid(
            "/world/floor", width=12.0, height=12.0, cell_size=0.5, section_size=1.0, cell_color=(74, 82, 94),
            section_color=(110, 122, 138), plane_color=(34, 39, 46), plane_opacity=1.0, fade_distance=9.0,
            shadow_opacity=0.45,
        )  # fmt: skip
        paths: dict[str, str] = {}
        self._links = []
        for link in robot.links:  # each in its parent: a joint that turns is one message, whatever hangs on it
            paths[link.name] = f"{paths[link.parent]}/{link.name}" if link.parent else f"/world/robot/{link.name}"
            self._links.append(scene.add_frame(paths[link.name], show_axes=False, position=link.pos))
        self._looks = []
        for number, mesh in enumerate(meshes):
            self._looks.append(
                scene.add_mesh_simple(
                    f"{paths[mesh.link]}/{number}", mesh.vertices, mesh.faces, color=mesh.rgb, side="double"
                )
            )
        balls, ball_faces = sphere(1.0, 12)
        count = robot.num_keypoints
        still = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
        self._keypoints, self._goals = (
            scene.add_batched_meshes_simple(
                f"/world/{name}", balls * radius, ball_faces, still, np.zeros((count, 3)), batched_colors=rgb,
                lod="off", cast_shadow=False, receive_shadow=False, visible=False,
            )
            for name, rgb, radius in (("keypoints", ROBOT_RGB, 0.016), ("goal", GOAL_RGB, 0.021))
        )  # fmt: skip
        self._errors = scene.add_line_segments(
            "/world/errors", np.zeros((count, 2, 3)), np.zeros((count, 2, 3), np.uint8), thickness=4.0,
            thickness_units="screen", visible=False,
        )  # fmt: skip
        soles = len(robot.soles)
        vertices, faces = disc(0.022, 0.004)
        self._contacts = scene.add_batched_meshes_simple(
            "/world/contacts", vertices, faces, np.tile([1.0, 0.0, 0.0, 0.0], (soles, 1)), np.zeros((soles, 3)),
            batched_scales=np.full(soles, _HIDDEN), batched_colors=CONTACT_RGB, lod="off", cast_shadow=False,
            receive_shadow=False,
        )  # fmt: skip
        self._rope = scene.add_line_segments(
            "/world/rope", np.zeros((1, 2, 3)), SLACK_RGB, thickness=3.0, thickness_units="screen", visible=False
        )  # fmt: skip
        self.shown = {"robot": True, "keypoints": True, "goal": True, "errors": True, "contacts": True, "rope": True}
        """What may be switched off, see `show`."""

    def show(self, name: str, shown: bool) -> None:
        """Switch ``robot``, ``keypoints``, ``goal``, ``errors``, ``contacts`` or ``rope`` on or off."""
        self.shown[name] = shown
        parts = {"robot": self._looks, "contacts": [self._contacts]}.get(name)
        for part in parts or ():
            part.visible = shown
        if name in ("keypoints", "goal", "errors", "rope") and not shown:
            {"keypoints": self._keypoints, "goal": self._goals, "errors": self._errors, "rope": self._rope}[
                name
            ].visible = False

    def see_through(self, wanted: bool) -> None:
        """Draw the robot like glass, so that the keypoints inside it can be seen, or solid."""
        for look in self._looks:
            look.opacity = 0.35 if wanted else None

    def look_at_robot(self) -> None:
        """Put every browser's camera back to where it began."""
        for client in self._viser.get_clients().values():
            _place_camera(client)

    def update(self, pose: Pose) -> float:
        """Draw ``pose``; return the mean distance of the keypoints from their goal in m, NaN without a goal."""
        pos, quat, _, _ = link_kinematics(self._robot, pose.root_pos, pose.root_quat, pose.joint_pos)
        keypoints = pos[self._keypoint_link_idx] + quat_rotate(quat[self._keypoint_link_idx], self._keypoint_offset)
        goal = pose.goal_keypoint_pos
        with self._viser.atomic():
            self._move_links(pose.root_pos, quat)
            self._move_world(pose.root_pos)
            if self.shown["keypoints"]:
                self._keypoints.batched_positions = keypoints
                _set_visible(self._keypoints, True)
            error_m = float("nan")
            if goal is not None:
                errors_m = np.linalg.norm(goal - keypoints, axis=-1)
                error_m = float(errors_m.mean())
                if self.shown["goal"]:
                    self._goals.batched_positions = goal
                if self.shown["errors"]:
                    self._errors.points = np.stack([keypoints, goal], 1)
                    colours = (255.0 * heat(errors_m / ERROR_LIMIT_M)).astype(np.uint8)
                    self._errors.colors = np.repeat(colours[:, None], 2, 1)
            _set_visible(self._goals, goal is not None and self.shown["goal"])
            _set_visible(self._errors, goal is not None and self.shown["errors"])
            if self.shown["contacts"]:
                self._mark_contacts(*contacts(self._robot, pos, quat))
            self._draw_rope(pos, quat, pose.tension_n)
        return error_m

    def _move_links(self, root_pos: np.ndarray, quat: np.ndarray) -> None:
        turn = quat_multiply(quat_conjugate(quat[self._parent_idx]), quat)
        turn[0] = quat[0]
        if np.abs(root_pos - self._root_pos).max() > _STILL_M:
            self._root_pos = np.array(root_pos)
            self._links[0].position = root_pos
        turned = np.abs(turn - self._turn).max(-1) > _STILL_QUAT
        for idx in np.flatnonzero(turned):
            self._links[idx].wxyz = turn[idx]
        self._turn[turned] = turn[turned]

    def _move_world(self, root_pos: np.ndarray) -> None:
        wanted = root_pos[:2] if self.follow else np.zeros(2)
        if np.abs(wanted - self._centre).max() > 5e-3:
            self._centre = np.array(wanted)
            self._world.position = (-wanted[0], -wanted[1], 0.0)

    def _mark_contacts(self, points: np.ndarray, touching: np.ndarray) -> None:
        self._contacts.batched_scales = np.where(touching, 1.0, _HIDDEN)
        if touching.any():
            self._contacts.batched_positions = points

    def _draw_rope(self, pos: np.ndarray, quat: np.ndarray, tension_n: float) -> None:
        there = bool(np.isfinite(tension_n)) and self.shown["rope"]
        if there:
            self._rope.points = rope(self._robot, pos, quat)[None]
            self._rope.colors = np.array(TAUT_RGB if tension_n > TAUT_N else SLACK_RGB, np.uint8)
        _set_visible(self._rope, there)


def _fit_camera(client: Any) -> None:
    if client.camera.aspect < 1.0:
        _place_camera(client)


def _place_camera(client: Any) -> None:
    """Put a browser's camera to its start: on a tall screen the robot is above the panel."""
    client.camera.position, client.camera.look_at = _TALL_CAMERA if client.camera.aspect < 1.0 else _CAMERA


def _set_visible(handle: Any, visible: bool) -> None:
    if handle.visible != visible:
        handle.visible = visible
