"""A motion on a user's own character: a rigged GLB in, the same GLB with one more animation out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path
from motiongpt3.formats.bones import Bones, find
from motiongpt3.formats.glb import described
from motiongpt3.formats.gltf import (
    Buffer,
    Gltf,
    Nodes,
    Track,
    continuous_quaternions,
    nodes_of,
    pack,
    skin_joints,
)
from motiongpt3.formats.gltf import (
    read as read_container,
)
from motiongpt3.motion.motion import Motion, require_humanml3d
from motiongpt3.motion.retarget import Played, Rest, onto
from motiongpt3.motion.skeleton import HUMANML3D

SUFFIXES = (".glb", ".vrm")


@dataclass(frozen=True)
class Character:
    """A rigged GLB file and what was found in it.

    Attributes:
        name: of the file, for messages.
        gltf: its two parts.
        nodes: its tree.
        worlds: (N, 4, 4) global matrices of the nodes at rest.
        bones: which nodes are our joints.
        rest: the rest pose of these.
    """

    name: str
    gltf: Gltf
    nodes: Nodes
    worlds: NDArray[np.float64]
    bones: Bones
    rest: Rest


def load_character(path: str | Path, bones: dict[str, str] | None = None) -> Character:
    """Read a character: a .glb or .vrm file with a skin.

    Args:
        path: the file.
        bones: {our joint: name of its bone}, for what is not found by itself (`motiongpt3.formats.bones.load_map`).

    Raises:
        MotionGPT3Error: no such file, damaged or compressed; no skin or skins of several figures; bones missing, scaled
            unevenly or lying down.
    """
    source = Path(path)
    if source.suffix.lower() not in SUFFIXES:
        raise MotionGPT3Error(f"a character is a .glb or .vrm file, not {source.name}")
    gltf = read_container(source)
    nodes = nodes_of(gltf, source.name)
    joints = skin_joints(gltf, nodes, source.name)
    worlds = nodes.worlds()
    places = worlds[:, :3, 3]
    found = find(nodes.names, nodes.parents, places, joints, bones, _labels(gltf, len(nodes.names)))
    for joint, node in found.nodes.items():
        scale = np.linalg.norm(worlds[node, :3, :3], axis=0)
        if not scale.min() > 0 or scale.max() > 1.02 * scale.min() or np.linalg.det(worlds[node, :3, :3]) <= 0:
            raise MotionGPT3Error(
                f"{source.name}: the bone {nodes.names[node]!r} ({joint}) is scaled unevenly: apply scale"
            )
    where = np.full((len(HUMANML3D), 3), np.nan)
    for joint, node in found.nodes.items():
        where[HUMANML3D.index(joint)] = places[node]
    return Character(source.name, gltf, nodes, worlds, found, Rest(where, _floor(where)))


def write_character(motion: Motion, character: Character, path: str | Path) -> Played:
    """Put a motion on a character and write the file again, with the motion as its first animation.

    Meshes, materials and other animations stay as they are. Bones that are none of our joints (fingers, hair) keep
    their rest pose. How well the result fits is in `error` and `errors` of what is returned.

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, or the file cannot be written.
    """
    require_humanml3d(motion, "GLB")
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise MotionGPT3Error(f"a character is written as .glb or .vrm, not {target.name}")
    played = onto(motion, character.rest)
    data = _character_document(motion, character, played)
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return played


def _character_document(motion: Motion, character: Character, played: Played) -> bytes:
    gltf = character.gltf
    document: dict[str, Any] = dict(gltf.document)
    buffers = [dict(entry) for entry in gltf.items("buffers")]
    if buffers and "uri" in buffers[0]:
        raise MotionGPT3Error(f"{character.name} keeps its data in other files: export it as one .glb file")
    length = buffers[0].get("byteLength") if buffers else 0
    if type(length) is not int or not 0 <= length <= len(gltf.binary):
        raise MotionGPT3Error(f"{character.name} is damaged: its buffer is longer than its data")
    buffer = Buffer(gltf.binary[:length], gltf.items("bufferViews"), gltf.items("accessors"))
    entry = described(motion, _tracks(character, played), buffer)
    nodes = [dict(node) for node in gltf.items("nodes")]
    for node in character.bones.nodes.values():
        if nodes[node].pop("matrix", None) is not None:  # An animated node must not have one.
            nodes[node] |= _parts(character.nodes, node)
    buffers[:1] = [{**(buffers[0] if buffers else {}), "byteLength": len(buffer.data)}]
    document |= {
        "nodes": nodes,
        "animations": [entry, *gltf.items("animations")],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": buffers,
    }
    return pack(document, buffer.data)


def _tracks(character: Character, played: Played) -> list[Track]:
    """Rotations of the bones relative to their parents, and the place of the pelvis."""
    nodes, worlds = character.nodes, character.worlds
    frames = len(played.joints)
    resting = _rotations(worlds)
    turned = {
        node: played.turns[:, HUMANML3D.index(joint)] @ torch.from_numpy(resting[node])
        for joint, node in character.bones.nodes.items()
    }
    local = []
    for node in turned:
        parent = nodes.parents[node]
        above = parent
        while above >= 0 and above not in turned:
            above = nodes.parents[above]
        still = torch.from_numpy(resting[parent] if parent >= 0 else np.eye(3)).expand(frames, 3, 3)
        if above >= 0:  # What lies between two of our joints goes along with the upper one.
            still = turned[above] @ torch.from_numpy(resting[above].T @ resting[parent])
        local.append(still.transpose(-1, -2) @ turned[node])
    quaternions = continuous_quaternions(torch.stack(local, dim=1))
    pelvis = character.bones.nodes["pelvis"]
    frame = worlds[nodes.parents[pelvis]] if nodes.parents[pelvis] >= 0 else np.eye(4)
    place = played.joints[:, 0] + [0, character.rest.floor, 0]
    moved = np.linalg.solve(frame, np.concatenate([place, np.ones((frames, 1))], axis=1).T).T[:, :3]
    tracks = [Track(node, "rotation", quaternions[:, i]) for i, node in enumerate(turned)]
    return [Track(pelvis, "translation", moved.astype(np.float32)), *tracks]


def _rotations(worlds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3, 3) the rotations in global matrices."""
    found: NDArray[np.float64] = (
        worlds[:, :3, :3] / np.maximum(np.linalg.norm(worlds[:, :3, :3], axis=1), 1e-12)[:, None]
    )
    return found


def _parts(nodes: Nodes, node: int) -> dict[str, Any]:
    """A node's matrix as translation, rotation and scale."""
    turned = continuous_quaternions(torch.from_numpy(nodes.rotations[node])[None, None])[0, 0]
    return {
        "translation": nodes.translations[node].tolist(),
        "rotation": turned.tolist(),
        "scale": nodes.scales[node].tolist(),
    }


def _labels(gltf: Gltf, count: int) -> dict[str, int]:
    """{VRM's name of a bone: node} where the file has VRM's extension, of version 0 or 1."""
    extensions = gltf.document.get("extensions")
    found: dict[str, int] = {}
    for key in ("VRM", "VRMC_vrm"):
        part: Any = extensions.get(key) if isinstance(extensions, dict) else None
        humanoid = part.get("humanoid") if isinstance(part, dict) else None
        listed = humanoid.get("humanBones") if isinstance(humanoid, dict) else None
        pairs = listed.items() if isinstance(listed, dict) else []
        if isinstance(listed, list):
            pairs = [(entry.get("bone"), entry) for entry in listed if isinstance(entry, dict)]
        for label, entry in pairs:
            node = entry.get("node") if isinstance(entry, dict) else None
            if type(node) is int and 0 <= node < count and isinstance(label, str):
                found[label] = node
    return found


def _floor(places: NDArray[np.float64]) -> float:
    """Height of the floor under a rest pose: 0 where the feet are near it, else where the lowest joint is."""
    feet = places[list(HUMANML3D.contacts), 1]
    lowest, size = float(np.nanmin(feet)), float(np.nanmax(places[:, 1]) - np.nanmin(feet))
    return 0.0 if -0.02 * size < lowest < 0.12 * size else lowest
