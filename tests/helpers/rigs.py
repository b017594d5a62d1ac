"""Rigged characters for the tests: our own mannequin under other names, in other poses and with other bones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from clips import invented
from glb_reader import parse

from motiongpt3.characters.bone_names import KNOWN_RIGS, OWN_NAMES
from motiongpt3.formats import save
from motiongpt3.formats.gltf import pack
from motiongpt3.motion.skeleton import HUMANML3D

OURS = {name: joint for joint, name in OWN_NAMES.items()}


def names_of(kind: str) -> dict[str, str]:
    """{our joint: bone} of a shipped map."""
    return KNOWN_RIGS[kind]


def rig(
    folder: Path,
    names: dict[str, str] | None = None,
    pose: str = "T",
    legs: float = 1.0,
    unit: float = 1.0,
    yaw: float = 0.0,
    without: tuple[str, ...] = (),
    change: Any = None,
) -> Path:
    """A GLB of the mannequin at rest.

    Args:
        folder: where to write it.
        names: {our joint: bone}; Mixamo's unless given.
        pose: "T" or "A"; in an A, arms and legs go obliquely.
        legs: how many times as long the legs are.
        unit: how many units a metre has.
        yaw: radians that it is turned by; above the hips there is then one more node that turns and scales it.
        without: joints that it does not have; what is below them hangs from what is above.
        change: is called with the document before it is written.
    """
    path = save(invented(frames=1), folder / "mannequin.glb")
    glb = parse(path.read_bytes())
    document, nodes = glb.json, glb.json["nodes"]
    _forget_the_animation(document)
    places = glb.worlds(None)[0, :, :3, 3]
    joints = {OURS[node["name"]]: number for number, node in enumerate(nodes) if node["name"] in OURS}
    for side, sign in (("l_", 1), ("r_", -1)):
        if pose == "A":
            _turn(nodes, places, joints[side + "shoulder"], -sign * 0.8)
            _turn(nodes, places, joints[side + "hip"], sign * 0.12)
        for joint in ("knee", "ankle"):
            node = nodes[joints[side + joint]]
            node["translation"] = [value * legs for value in node["translation"]]
    hips = nodes[joints["pelvis"]]
    longer = (places[joints["l_hip"]] - places[joints["l_ankle"]])[1] * (legs - 1)
    hips["translation"] = [0.3, hips["translation"][1] + longer, -0.2]
    wanted = names or names_of("Mixamo")
    for joint, number in joints.items():
        nodes[number]["name"] = wanted.get(joint, f"extra_{number}")
    for joint in without:
        nodes[joints[joint]]["name"] = f"extra {joints[joint]}"
        if joint.endswith(("_hip", "_foot")):
            _cut(document, joints[joint])
    if yaw or unit != 1:
        half = yaw / 2
        nodes.append(
            {"name": "Armature", "children": [0], "rotation": [0, np.sin(half), 0, np.cos(half)], "scale": [unit] * 3}
        )
        document["scenes"][0]["nodes"][0] = len(nodes) - 1
        document["skins"][0].pop("skeleton")
    if change:
        change(document)
    target = folder / "hero.glb"
    used = document["buffers"][0].get("byteLength", 0) if isinstance(document.get("buffers"), list) else 0
    target.write_bytes(pack(document, glb.binary[:used]))
    return target


def _forget_the_animation(document: dict[str, Any]) -> None:
    """Its arrays are the last ones."""
    first = min(sampler["input"] for sampler in document.pop("animations")[0]["samplers"])
    document["accessors"], document["bufferViews"] = document["accessors"][:first], document["bufferViews"][:first]
    last = document["bufferViews"][-1]
    document["buffers"][0]["byteLength"] = last["byteOffset"] + last["byteLength"]


def _turn(nodes: list[dict[str, Any]], places: np.ndarray, node: int, angle: float) -> None:
    """Turn a node about the z axis of the world; all nodes rest without rotations."""
    nodes[node]["rotation"] = [0, 0, float(np.sin(angle / 2)), float(np.cos(angle / 2))]


def _cut(document: dict[str, Any], node: int) -> None:
    """Take a node and all below it out of the skin and the tree."""
    nodes, gone = document["nodes"], [node]
    for number in gone:
        gone += nodes[number].pop("children", [])
    for entry in nodes:
        if node in entry.get("children", []):
            entry["children"].remove(node)
            if not entry["children"]:
                entry.pop("children")
    document["skins"][0]["joints"] = [number for number in document["skins"][0]["joints"] if number not in gone]
    document["skins"][0].pop("inverseBindMatrices", None)
    for primitive in document["meshes"][0]["primitives"]:
        primitive["attributes"] = {k: v for k, v in primitive["attributes"].items() if k in ("POSITION", "NORMAL")}


def rest_joints(places: np.ndarray, names: list[str], wanted: dict[str, str]) -> np.ndarray:
    """(..., 22, 3) of (..., N, 3) places of nodes; NaN for joints that are not there."""
    found = np.full((*places.shape[:-2], len(HUMANML3D), 3), np.nan)
    for joint, bone in wanted.items():
        if bone in names:
            found[..., HUMANML3D.index(joint), :] = places[..., names.index(bone), :]
    return found
