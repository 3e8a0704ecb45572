# SPDX-License-Identifier: Apache-2.0
"""Pictures of the robot without a window: EGL where there is a GPU or Mesa, else OSMesa."""

from __future__ import annotations

import ctypes.util
import importlib
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from genmimic.core.errors import ConfigError, MissingDependencyError
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.sim.shapes import TETHER_EYE_SPREAD_M

GOAL_RGBA = (0.10, 0.75, 0.35, 0.9)
"""Colour of goal keypoints."""

TETHER_RGBA = (0.85, 0.45, 0.10, 1.0)
"""Colour of the gantry's rope."""

_NO_GL = (
    "cannot draw: no OpenGL that works without a screen; "
    "on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)"
)


def gl_candidates() -> tuple[str, ...]:
    """Return the OpenGL back ends worth trying for drawing without a screen, best first.

    What the user set in ``MUJOCO_GL`` wins and stands alone.

    Raises:
        MissingDependencyError: There is no library to draw with, or the user switched drawing off.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen in ("egl", "osmesa", "glfw", "cgl"):
        return (chosen,)
    if chosen in ("disable", "disabled", "off", "false", "0"):
        raise MissingDependencyError(f"cannot draw: MUJOCO_GL={chosen} switches OpenGL off; unset it")
    if sys.platform == "darwin":
        return ("cgl",)
    known = {"egl": "EGL", "osmesa": "OSMesa"}
    found = tuple(name for name, library in known.items() if ctypes.util.find_library(library))
    if not found:
        raise MissingDependencyError(_NO_GL)
    return found


def _open_gl(width: int, height: int) -> Any:
    """Return a current OpenGL context of the first back end that works.

    Each back end is opened by its own module, so it does not matter what ``MUJOCO_GL`` was when
    mujoco was first imported.
    """
    problems = []
    for name in gl_candidates():
        try:
            context = importlib.import_module(f"mujoco.{name}").GLContext(width, height)
            context.make_current()
            return context
        except Exception as error:  # each fails in its own way: missing symbols, no display, no device
            problems.append(f"{name}: {type(error).__name__} {error}".splitlines()[0])
    raise MissingDependencyError(f"{_NO_GL} ({'; '.join(problems)})")


@lru_cache(maxsize=1)
def gl_problem() -> str | None:
    """Return None when pictures can be drawn here, else one line that says why not."""
    try:
        with OffscreenRenderer(width=16, height=16):
            return None
    except MissingDependencyError as error:
        return str(error)


class OffscreenRenderer:
    """Draws poses of one robot into arrays. A context manager: it holds an OpenGL context.

    Args:
        robot: Whose model to draw.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        shadows: Draw shadows; without a GPU, leaving them out is about twice as fast.

    Raises:
        MissingDependencyError: There is no OpenGL here.
        ConfigError: The size is out of range.
    """

    def __init__(self, robot: Robot = G1_23DOF, *, width: int = 960, height: int = 720, shadows: bool = True) -> None:
        if not (0 < width <= 1920 and 0 < height <= 1080):
            raise ConfigError(f"picture size is {width} x {height}; expected 1 to 1920 x 1 to 1080 pixels")
        import mujoco

        from genmimic.sim.mjcf import build_model

        self._mujoco = mujoco
        self._model = build_model(robot)
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._data = mujoco.MjData(self._model)
        self._gl = _open_gl(width, height)
        self._scene = mujoco.MjvScene(self._model, maxgeom=1000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._size = (width, height)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 0
        self._options.geomgroup[:2] = 1
        self._options.sitegroup[:] = 0

    def __enter__(self) -> OffscreenRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the OpenGL context."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def render(
        self,
        root_pos: np.ndarray,
        root_quat: np.ndarray,
        joint_pos: np.ndarray,
        goal_keypoint_pos: np.ndarray | None = None,
        *,
        camera: str = "track",
        tether_anchor: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return a picture, uint8, shape (height, width, 3).

        Args:
            root_pos: Pelvis in the world, in m. Shape (3,).
            root_quat: Pelvis orientation, wxyz. Shape (4,).
            joint_pos: In rad. Shape (J,).
            goal_keypoint_pos: Drawn as small green balls; world frame, in m. Shape (K, 3).
            camera: ``track`` (follows the pelvis), ``front`` or ``side``.
            tether_anchor: Draw a rope from here to the hook; world frame, in m. Shape (3,).
        """
        self._data.qpos[:] = np.concatenate([root_pos, root_quat, joint_pos])
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_comPos(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)
        self._gl.make_current()
        self._camera.fixedcamid = self._model.camera(camera).id
        self._mujoco.mjv_updateScene(
            self._model, self._data, self._options, None, self._camera,
            self._mujoco.mjtCatBit.mjCAT_ALL, self._scene,
        )  # fmt: skip
        for point in () if goal_keypoint_pos is None else np.asarray(goal_keypoint_pos, float):
            self._add_ball(point, 0.03, GOAL_RGBA)
        if tether_anchor is not None:
            hook = self._data.site("tether_hook")
            for side in (-TETHER_EYE_SPREAD_M, TETHER_EYE_SPREAD_M):
                eye = hook.xpos + side * hook.xmat.reshape(3, 3)[:, 1]
                self._add_rope(np.asarray(tether_anchor, float), eye)
        width, height = self._size
        image: np.ndarray = np.empty((height, width, 3), np.uint8)
        self._mujoco.mjr_render(self._mujoco.MjrRect(0, 0, width, height), self._scene, self._context)
        self._mujoco.mjr_readPixels(image, None, self._mujoco.MjrRect(0, 0, width, height), self._context)
        return image[::-1]  # OpenGL counts rows from below

    def _next_geom(self) -> Any:
        scene = self._scene
        if scene.ngeom >= scene.maxgeom:
            return None
        scene.ngeom += 1
        return scene.geoms[scene.ngeom - 1]

    def _add_ball(self, centre: np.ndarray, radius: float, rgba: tuple[float, ...]) -> None:
        geom = self._next_geom()
        if geom is not None:
            self._mujoco.mjv_initGeom(
                geom, self._mujoco.mjtGeom.mjGEOM_SPHERE, np.array([radius, 0.0, 0.0]), centre, np.eye(3).ravel(),
                np.array(rgba, np.float32),
            )  # fmt: skip

    def _add_rope(self, start: np.ndarray, end: np.ndarray) -> None:
        geom = self._next_geom()
        if geom is not None:
            kind = self._mujoco.mjtGeom.mjGEOM_CAPSULE
            self._mujoco.mjv_initGeom(
                geom, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), np.array(TETHER_RGBA, np.float32)
            )
            self._mujoco.mjv_connector(geom, kind, 0.006, start, end)


def render_pose(
    robot: Robot,
    root_pos: np.ndarray,
    root_quat: np.ndarray,
    joint_pos: np.ndarray,
    goal_keypoint_pos: np.ndarray | None = None,
    *,
    width: int = 960,
    height: int = 720,
    camera: str = "track",
) -> np.ndarray:
    """Return one picture, uint8, shape (height, width, 3); arguments as in `OffscreenRenderer.render`."""
    with OffscreenRenderer(robot, width=width, height=height) as renderer:
        return renderer.render(root_pos, root_quat, joint_pos, goal_keypoint_pos, camera=camera)


def render_sequence(
    robot: Robot,
    root_pos: np.ndarray,
    root_quat: np.ndarray,
    joint_pos: np.ndarray,
    goal_keypoint_pos: np.ndarray | None = None,
    *,
    every: int = 1,
    width: int = 960,
    height: int = 720,
    camera: str = "track",
    shadows: bool = True,
) -> Iterator[np.ndarray]:
    """Yield a picture of every ``every``-th frame; arguments as in `OffscreenRenderer.render` with a leading T."""
    if every < 1:
        raise ConfigError(f"every is {every}; expected 1 or more")
    with OffscreenRenderer(robot, width=width, height=height, shadows=shadows) as renderer:
        for t in range(0, len(joint_pos), every):
            goal = None if goal_keypoint_pos is None else goal_keypoint_pos[t]
            yield renderer.render(root_pos[t], root_quat[t], joint_pos[t], goal, camera=camera)


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a picture, uint8 (height, width, 3), as PNG; needs no imaging library."""
    import struct
    import zlib

    image = np.ascontiguousarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ConfigError(f"image is {image.dtype} {image.shape}; expected uint8 (height, width, 3)")
    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, width * 3)], 1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    data += chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")
    Path(path).write_bytes(data)
