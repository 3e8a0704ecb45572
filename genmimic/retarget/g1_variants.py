# SPDX-License-Identifier: Apache-2.0
"""The other Unitree G1 robots that public motions are made for, as kinematic trees.

Legs and arms are those of `genmimic.core.robot`; only what differs is written here. Each tree carries the same
27 keypoints, so that its forward kinematics gives targets for our robot.

Sources:
    unitree_29dof: unitreerobotics/unitree_ros, g1_29dof_rev_1_0.xml at d6f13aa (BSD-3-Clause).
    asap_23dof: LeCAR-Lab/ASAP, g1_29dof_anneal_23dof.xml at 91df82c (MIT). Three waist joints, no wrist.
"""

from __future__ import annotations

from dataclasses import replace

from genmimic.core.robot import G1_23DOF, G1_LINKS, Joint, Keypoint, Link, Robot

_IDENTITY = (1.0, 0.0, 0.0, 0.0)
_HAND_FROM_WRIST_ROLL = 0.15  # m, as in genmimic.core.robot
_WRIST_PITCH_X, _WRIST_YAW_X = 0.038, 0.046  # m, along the forearm
_ASAP_SHOULDER_Z = 0.23778  # m; its torso link is 1 cm higher, so the shoulder is where ours is
_ASAP_TORSO_RAISE = 0.035 + 0.019 - 0.044


def _link(name: str, parent: str, pos: tuple[float, float, float]) -> Link:
    return Link(name, parent, pos, _IDENTITY, 0.0, (0.0, 0.0, 0.0), _IDENTITY, (0.0, 0.0, 0.0))


def _joint(name: str, link: str, axis: str, limit: float) -> Joint:
    direction = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}[axis]
    return Joint(name, link, direction, -limit, limit, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1)


def _waist(roll_z: float, pitch_z: float) -> tuple[list[Link], list[Joint]]:
    links = [
        _link("waist_yaw_link", "pelvis", (0.0, 0.0, 0.0)),
        _link("waist_roll_link", "waist_yaw_link", (-0.0039635, 0.0, roll_z)),
        _link("torso_link", "waist_roll_link", (0.0, 0.0, pitch_z)),
    ]
    joints = [
        _joint("waist_yaw_joint", "waist_yaw_link", "z", 2.618),
        _joint("waist_roll_joint", "waist_roll_link", "x", 0.52),
        _joint("waist_pitch_joint", "torso_link", "y", 0.52),
    ]
    return links, joints


def _ours(kind: tuple, prefix: str) -> list:
    names = ("hip", "knee", "ankle") if prefix == "legs" else ("shoulder", "elbow")
    return [item for item in kind if any(name in item.name for name in names)]


def _unitree_29dof() -> Robot:
    waist_links, waist_joints = _waist(0.044, 0.0)
    links = [G1_LINKS[0], *_ours(G1_LINKS, "legs"), *waist_links]
    joints = [*_ours(G1_23DOF.joints, "legs"), *waist_joints]
    for side in ("left_", "right_"):
        links += [link for link in G1_LINKS if link.name.startswith(side) and link not in links]
        links += [
            _link(f"{side}wrist_pitch_link", f"{side}wrist_roll_link", (_WRIST_PITCH_X, 0.0, 0.0)),
            _link(f"{side}wrist_yaw_link", f"{side}wrist_pitch_link", (_WRIST_YAW_X, 0.0, 0.0)),
        ]
        joints += [joint for joint in G1_23DOF.joints if joint.name.startswith(side) and joint not in joints]
        joints += [
            _joint(f"{side}wrist_pitch_joint", f"{side}wrist_pitch_link", "y", 1.61443),
            _joint(f"{side}wrist_yaw_joint", f"{side}wrist_yaw_link", "z", 1.61443),
        ]
    beyond = _HAND_FROM_WRIST_ROLL - _WRIST_PITCH_X - _WRIST_YAW_X
    keypoints = tuple(
        replace(keypoint, link=keypoint.link.replace("wrist_roll", "wrist_yaw"), offset=(beyond, 0.0, 0.0))
        if keypoint.name.endswith("_hand")
        else keypoint
        for keypoint in G1_23DOF.keypoints
    )
    return replace(G1_23DOF, name="unitree_29dof", links=tuple(links), joints=tuple(joints), keypoints=keypoints)


def _asap_23dof() -> Robot:
    waist_links, waist_joints = _waist(0.035, 0.019)
    arm_links = [
        replace(link, pos=(*link.pos[:2], _ASAP_SHOULDER_Z)) if "shoulder_pitch" in link.name else link
        for link in _ours(G1_LINKS, "arms")
    ]
    wrist = {link.name: link.pos for link in G1_LINKS if "wrist_roll" in link.name}

    def moved(keypoint: Keypoint) -> Keypoint:
        if keypoint.link in wrist:  # welded to the elbow link
            pos = wrist[keypoint.link]
            offset = (pos[0] + keypoint.offset[0], pos[1], pos[2])
            return replace(keypoint, link=keypoint.link.replace("wrist_roll", "elbow"), offset=offset)
        if keypoint.link == "torso_link":
            return replace(keypoint, offset=(0.0, 0.0, keypoint.offset[2] - _ASAP_TORSO_RAISE))
        return keypoint

    return replace(
        G1_23DOF,
        name="asap_23dof",
        links=(G1_LINKS[0], *_ours(G1_LINKS, "legs"), *waist_links, *arm_links),
        joints=(*_ours(G1_23DOF.joints, "legs"), *waist_joints, *_ours(G1_23DOF.joints, "arms")),
        keypoints=tuple(moved(keypoint) for keypoint in G1_23DOF.keypoints),
    )


G1_29DOF = _unitree_29dof()
"""Three waist joints and three joints per wrist. Order: legs, waist, left arm, right arm."""

ASAP_23DOF = _asap_23dof()
"""Three waist joints, no wrist joints; the "23 DoF" of ASAP and PBHC, not the robot on sale."""

VARIANTS: dict[str, Robot] = {"unitree_29dof": G1_29DOF, "asap_23dof": ASAP_23DOF, "unitree_23dof": G1_23DOF}
"""Robots by the name that a `SourceMotion` gives its model."""
