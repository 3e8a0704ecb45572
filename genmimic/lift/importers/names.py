# SPDX-License-Identifier: Apache-2.0
"""Which joint of a foreign skeleton is which of ours, by its name and its place in the tree."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LIMB = {
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip", "uleg"),
    "knee": ("leg", "lowerleg", "lowleg", "shin", "calf", "tibia", "knee", "lleg"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toes", "toe", "toe0", "ball", "bigtoe"),
    "collar": ("shoulder", "clavicle", "collar", "collarbone", "inshoulder"),
    "shoulder": ("arm", "upperarm", "uparm", "humerus", "uarm"),
    "elbow": ("forearm", "lowerarm", "lowarm", "elbow", "radius", "larm"),
    "wrist": ("hand", "wrist"),
    "hand": ("fingerbase", "fingers", "inhandmiddle", "handmiddle1", "middle1", "handend", "handmiddle0"),
    "toe": ("toeend", "toetip", "toebaseend", "toesend"),
    "heel": ("heel",),
    "ear": ("ear",),
    "index": ("index", "index1"),
    "pinky": ("pinky", "pinky1"),
    "thumb": ("thumb",),
}
_CENTRE = {
    "pelvis": ("hips", "pelvis", "hip", "root"),
    "neck": ("neck", "lowerneck", "neck1", "upperneck", "thoraxneck"),
    "head": ("head",),
    "nose": ("nose",),
}
_SPINE = re.compile(r"^(spine|chest|torso|lowerback|upperback|thorax|abdomen|waist|ribcage|spinelow|back)\w*$")
_SHORT = "hip|fem|tib|foot|toe|clav|hum|rad|wrist|hand|finger|thumb|knee|ankle|sho|elb|ear|heel"
_SIDES = (
    (re.compile(r"^(left|right)[ _.\-]?(.+)$", re.I), 1, 2),
    (re.compile(r"^(.+?)[ _.\-]?(left|right)$", re.I), 2, 1),
    (re.compile(r"^(l|r)[ _.\-](.+)$", re.I), 1, 2),
    (re.compile(r"^(.+?)[ _.\-](l|r)$", re.I), 2, 1),
    (re.compile(r"^(L|R)([A-Z].+)$"), 1, 2),
    (re.compile(rf"^([LRlr])((?:{_SHORT})\w*)$"), 1, 2),
)  # fmt: skip


def split_side(name: str) -> tuple[str, str]:
    """Return (``left``, ``right`` or empty, the rest in lower-case letters and digits)."""
    name = re.sub(r"^(mixamorig\d*|bip\d*|bip\d* |m_avg|f_avg|joint|skel|def)[:_ .\-]+", "", name.strip(), flags=re.I)
    for pattern, side_group, rest_group in _SIDES:
        match = pattern.match(name)
        if match:
            side = "left" if match.group(side_group)[0].lower() == "l" else "right"
            return side, re.sub(r"[^a-z0-9]", "", match.group(rest_group).lower())
    return "", re.sub(r"[^a-z0-9]", "", name.lower())


def map_joint_names(names: Sequence[str], parents: Sequence[int] | None = None) -> dict[str, int]:
    """Return the index of each of our joints that the skeleton has.

    Args:
        names: Names of the foreign joints.
        parents: Parent of each, -1 for the root; None for points without a tree.

    The words that mean two things are told apart by their neighbours: ``LeftShoulder`` is the collar when there is a
    ``LeftArm``, ``LeftFoot`` the toes when there is a ``LeftAnkle``, and so on.
    """
    parts = [split_side(name) for name in names]
    found: dict[str, int] = {}
    for side in ("left", "right"):
        have = {rest: idx for idx, (where, rest) in reversed(list(enumerate(parts))) if where == side}

        def first(role: str, skip: tuple[str, ...] = (), have: dict[str, int] = have) -> int | None:
            return next((have[word] for word in _LIMB[role] if word in have and word not in skip), None)

        roles: dict[str, int | None] = {role: first(role) for role in _LIMB}
        if roles["shoulder"] is None:  # no upper arm by name: the shoulder is the joint itself
            roles["shoulder"], roles["collar"] = have.get("shoulder"), first("collar", ("shoulder",))
        if "ankle" in have:
            roles["ankle"] = have["ankle"]
            roles["foot"] = first("foot") if first("foot") is not None else have.get("foot")
        if "wrist" in have:
            roles["wrist"] = have["wrist"]
            roles["hand"] = have["hand"] if "hand" in have else first("hand")
        if "hip" in have and roles["hip"] != have["hip"] and roles["knee"] is None:
            roles["knee"], roles["hip"] = roles["hip"], have["hip"]
        found.update({f"{side}_{role}": idx for role, idx in roles.items() if idx is not None})
    centre = {rest: idx for idx, (where, rest) in reversed(list(enumerate(parts))) if not where}
    for role, words in _CENTRE.items():
        idx = next((centre[word] for word in words if word in centre), None)
        if idx is not None:
            found[role] = idx
    spine = [idx for idx, (where, rest) in enumerate(parts) if not where and _SPINE.match(rest)]
    if parents is not None and spine:  # only those between the pelvis and the collars
        hub = next((found[name] for name in ("left_collar", "left_shoulder") if name in found), None)
        chain: list[int] = []
        while hub is not None and hub >= 0:
            chain.append(hub)
            hub = parents[hub]
        spine = [idx for idx in spine if idx in chain] or spine
    if spine:
        found["spine3"] = spine[-1]
    if len(spine) > 1:
        found["spine1"] = spine[0]
    if len(spine) > 2:
        found["spine2"] = spine[len(spine) // 2]
    return found
