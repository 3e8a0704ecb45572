# SPDX-License-Identifier: Apache-2.0
"""What the robot looks like, as triangles per link: Unitree's meshes where they are installed, else our primitives.

No mesh is part of this project. Unitree's come in the wheel of mjlab (``pip install --no-deps mjlab``), which is found
without importing it; their licence is in THIRD_PARTY_NOTICES.md. They are thinned for the browser.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from genmimic.core.errors import InputFileError
from genmimic.core.kinematics import link_kinematics
from genmimic.core.robot import Robot
from genmimic.core.rotation import quat_conjugate, quat_multiply, quat_rotate
from genmimic.sim.shapes import COLOURS, VISUAL, Shape, robot_shapes

MESH_PACKAGE, MESH_MODEL = "mjlab", "unitree_g1/xmls/g1.xml"
"""The distribution that may hold Unitree's meshes, and how the path of its model ends."""

CELL_M = 0.005
"""Vertices within a cell of this size become one."""

MAX_STL_BYTES = 32 * 1024 * 1024
_ROUND = 20
"""Sides of a circle."""

_OWN_HANDS = ("left_wrist_roll_link", "right_wrist_roll_link")
"""The meshes are of the 29-joint robot, whose wrists are longer; on these links our primitives stay."""

_STL = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


@dataclass(frozen=True)
class LinkMesh:
    """Triangles of one colour, fixed to a link.

    Attributes:
        link: The link that carries them.
        vertices: In m, frame of the link. Shape (V, 3).
        faces: Indices of vertices, anticlockwise from outside. Shape (F, 3).
        rgb: Colour, 0 to 255 each.
    """

    link: str
    vertices: np.ndarray
    faces: np.ndarray
    rgb: tuple[int, int, int]


def robot_meshes(robot: Robot, meshes: str = "auto") -> list[LinkMesh]:
    """Return what the robot looks like.

    Args:
        robot: The robot.
        meshes: ``auto`` (Unitree's where installed), ``never`` (our primitives), or the path of an MJCF of the
            29-joint G1 beside its ``assets``.

    Raises:
        InputFileError: A file that was named is missing or damaged.
    """
    primitives = primitive_meshes(robot)
    if meshes == "never":
        return primitives
    path = find_model() if meshes == "auto" else Path(meshes)
    if path is None:
        return primitives
    try:
        found = model_meshes(robot, path)
    except InputFileError:
        if meshes != "auto":
            raise
        return primitives
    drawn = {mesh.link for mesh in found}
    return found + [mesh for mesh in primitives if mesh.link not in drawn]


def find_model() -> Path | None:
    """Return the MJCF with meshes of an installed mjlab, or None; nothing is imported."""
    try:
        files = metadata.files(MESH_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.as_posix().endswith(MESH_MODEL):
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None


# Unitree's meshes ---------------------------------------------------------------------------------
def model_meshes(robot: Robot, path: Path) -> list[LinkMesh]:
    """Return the meshes of an MJCF on the links of ``robot``, in whose zero pose both robots agree.

    A body that ``robot`` lacks is fixed to the last one above it, or to its first child, that it has.

    Raises:
        InputFileError: The model or a mesh is missing or damaged.
    """
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise InputFileError(f"{path}: no model with meshes ({error})") from None
    compiler = root.find("compiler")
    folder = path.parent / (compiler.get("meshdir", ".") if compiler is not None else ".")
    files = {item.get("name", ""): folder / item.get("file", "") for item in root.iter("mesh") if item.get("file")}
    colours = {item.get("name", ""): _rgb(item.get("rgba")) for item in root.iter("material")}
    zero = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
    pos, quat, _, _ = link_kinematics(robot, *zero, np.zeros(robot.num_joints))
    place = {name: (pos[idx], quat[idx]) for idx, name in enumerate(robot.link_names)}

    found: list[LinkMesh] = []
    body = next((item for item in root.iter("body") if item.get("name") == robot.link_names[0]), None)
    if body is None:
        raise InputFileError(f"{path}: has no body {robot.link_names[0]!r}")

    def visit(body: ET.Element, pose: tuple[np.ndarray, np.ndarray], above: str) -> None:
        name = body.get("name", "")
        link = name if name in place else _first_known(body, place) or above
        for geom in body.findall("geom"):
            mesh = geom.get("mesh")
            if geom.get("class") != "visual" or mesh not in files or link in _OWN_HANDS:
                continue
            at = _compose(pose, _pose(geom))
            inverse = quat_conjugate(place[link][1])
            vertices, faces = thinned(read_stl(files[mesh]), CELL_M)
            local = quat_rotate(inverse, quat_rotate(at[1], vertices) + at[0] - place[link][0])
            found.append(LinkMesh(link, local, faces, colours.get(geom.get("material", ""), (178, 178, 178))))
        for child in body.findall("body"):
            visit(child, _compose(pose, _pose(child)), link)

    visit(body, zero, robot.link_names[0])
    return found


def _first_known(body: ET.Element, place: Mapping[str, object]) -> str | None:
    """Return the name of the first body below, in a chain of single children, that is in ``place``."""
    below = body.findall("body")
    if len(below) != 1:
        return None
    name = below[0].get("name", "")
    return name if name in place else _first_known(below[0], place)


def _pose(element: ET.Element) -> tuple[np.ndarray, np.ndarray]:
    pos = np.array([float(value) for value in element.get("pos", "0 0 0").split()])
    quat = np.array([float(value) for value in element.get("quat", "1 0 0 0").split()])
    return pos, quat / np.linalg.norm(quat)


def _compose(
    outer: tuple[np.ndarray, np.ndarray], inner: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    return outer[0] + quat_rotate(outer[1], inner[0]), quat_multiply(outer[1], inner[1])


def _rgb(text: str | None) -> tuple[int, int, int]:
    values = [float(value) for value in (text or "0.7 0.7 0.7").split()][:3]
    return _bytes(values)


def read_stl(path: Path) -> np.ndarray:
    """Return the corners of the triangles of a binary STL, in m. Shape (F, 3, 3). Raises InputFileError."""
    try:
        size = path.stat().st_size
        if size > MAX_STL_BYTES:
            raise InputFileError(f"{path}: {size} bytes, limit {MAX_STL_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror})") from None
    count = int.from_bytes(content[80:84], "little") if len(content) >= 84 else 0
    if not count or len(content) < 84 + count * _STL.itemsize:
        raise InputFileError(f"{path}: not a whole binary STL")
    corners = np.frombuffer(content, _STL, count, 84)["corners"].astype(float)
    if not np.isfinite(corners).all():
        raise InputFileError(f"{path}: holds corners that are not finite")
    return corners


def thinned(corners: np.ndarray, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and faces (F, 3) of triangles (N, 3, 3) whose vertices per cell have become one."""
    points = corners.reshape(-1, 3)
    cell = np.floor(points / cell_m).astype(np.int64)
    cell_idx = np.unique(_keys(cell - cell.min(0)), return_inverse=True)[1].reshape(-1)
    count = np.bincount(cell_idx)
    vertices = np.stack([np.bincount(cell_idx, points[:, axis]) / count for axis in range(3)], -1)
    faces = cell_idx.reshape(-1, 3)
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(_keys(np.sort(faces, axis=1)), return_index=True)
    return vertices, faces[np.sort(first)]


def _keys(rows: np.ndarray) -> np.ndarray:
    """Return one number per row of three that are not negative. Shape (N, 3) to (N,)."""
    size = int(rows.max(initial=0)) + 1
    return (rows[:, 0] * size + rows[:, 1]) * size + rows[:, 2]


# our primitives -----------------------------------------------------------------------------------
def primitive_meshes(robot: Robot) -> list[LinkMesh]:
    """Return the shapes of `genmimic.sim.shapes` as triangles, one mesh per link and colour."""
    groups: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for shape in robot_shapes(robot):
        if shape.role == VISUAL:
            groups.setdefault((shape.link, shape.colour), []).append(shape_triangles(shape))
    return [
        LinkMesh(link, *_joined(parts), _bytes(COLOURS[colour][:3])) for (link, colour), parts in groups.items()
    ]  # fmt: skip


def shape_triangles(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) in m, frame of the link, and faces (F, 3) of a primitive."""
    start, end = np.array(shape.start), np.array(shape.end)
    if shape.kind == "box":
        cos, sin = math.cos(shape.pitch), math.sin(shape.pitch)
        turn = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
        vertices, faces = _box(np.array(shape.size))
        return vertices @ turn.T + start, faces
    radius, length = shape.size[0], float(np.linalg.norm(end - start))
    if shape.kind == "cylinder":
        vertices, faces = _cylinder(radius, length)
    else:
        vertices, faces = _capsule(radius, length)
    return vertices @ _turn_z_to(end - start).T + start, faces


def sphere(radius: float, sides: int = _ROUND) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and faces (F, 3) of a sphere around the origin."""
    return _capsule(radius, 0.0, sides)


def disc(radius: float, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and faces (F, 3) of a disc standing on the origin."""
    return _cylinder(radius, thickness)


def _box(half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each side has corners of its own, so that edges are drawn sharp."""
    vertices: list[np.ndarray] = []
    faces: list[tuple[int, int, int]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            if sign < 0.0:
                u, v = v, u
            centre, first = sign * np.eye(3)[axis], len(vertices)
            vertices += [(centre + a * u + b * v) * half for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            faces += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    return np.array(vertices), np.array(faces)


def _cylinder(radius: float, length: float) -> tuple[np.ndarray, np.ndarray]:
    """From the origin along z; the rims are sharp."""
    angle = np.linspace(0.0, 2.0 * np.pi, _ROUND, endpoint=False)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(_ROUND)], -1)
    top = ring + [0.0, 0.0, length]
    side = _band(0, _ROUND, _ROUND)
    caps = []
    for first, flip in ((2 * _ROUND, True), (3 * _ROUND, False)):
        fan = np.array([(first, first + i, first + i + 1) for i in range(1, _ROUND - 1)])
        caps.append(fan[:, ::-1] if flip else fan)
    return np.concatenate([ring, top, ring, top]), np.concatenate([side, *caps])


def _capsule(radius: float, length: float, sides: int = _ROUND) -> tuple[np.ndarray, np.ndarray]:
    """From the origin to ``length`` along z, a half ball at each end."""
    angle = np.linspace(0.0, 2.0 * np.pi, sides, endpoint=False)
    rise = np.linspace(-0.5 * np.pi, 0.0, sides // 4 + 1)
    heights = [(value, 0.0) for value in rise] + [(-value, length) for value in rise[::-1]]
    rings = [
        np.stack(
            [
                radius * math.cos(value) * np.cos(angle),
                radius * math.cos(value) * np.sin(angle),
                np.full(sides, shift + radius * math.sin(value)),
            ],
            -1,
        )
        for value, shift in heights
    ]
    faces = [_band(i * sides, (i + 1) * sides, sides) for i in range(len(rings) - 1)]
    return np.concatenate(rings), np.concatenate(faces)


def _band(lower: int, upper: int, sides: int) -> np.ndarray:
    """Faces between two rings of vertices that begin at ``lower`` and ``upper``."""
    i: np.ndarray = np.arange(sides)
    j: np.ndarray = (i + 1) % sides
    return np.concatenate(
        [np.stack([lower + i, lower + j, upper + j], -1), np.stack([lower + i, upper + j, upper + i], -1)]
    )


def _turn_z_to(axis: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        return np.eye(3)
    z = axis / length
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], -1)


def _joined(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    vertices: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    first = 0
    for own_vertices, own_faces in parts:
        vertices.append(own_vertices)
        faces.append(own_faces + first)
        first += len(own_vertices)
    return np.concatenate(vertices), np.concatenate(faces)


def _bytes(rgb: Iterable[float]) -> tuple[int, int, int]:
    red, green, blue = (round(255.0 * max(0.0, min(1.0, value))) for value in rgb)
    return red, green, blue
