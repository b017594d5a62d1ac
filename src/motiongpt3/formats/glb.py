"""GLB (binary glTF 2.0): a skinned mannequin that plays the motion; and the motion of such a file.

Read and written directly: our files need a dozen JSON objects and one block of arrays, which is less code than a glTF
library asks for and brings no further dependency.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.characters.bone_names import KNOWN_RIGS, OWN, OWN_NAMES, FoundBones, RestingRig, find, known, plain
from motiongpt3.characters.mannequin import NODES, Mesh, mannequin, rest_places
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats.gltf import (
    BYTE,
    FLOAT,
    INDICES,
    INT,
    SHORT,
    VERTICES,
    Buffer,
    Gltf,
    Nodes,
    Track,
    animation,
    chain,
    continuous_quaternions,
    nodes_of,
    pack,
    places,
    read_animation,
    skin_joints,
)
from motiongpt3.formats.gltf import read as read_container
from motiongpt3.motion.kinematics import Fitted, fit
from motiongpt3.motion.motion import Motion, require_humanml3d
from motiongpt3.motion.retarget import RestPose, RiggedMotion, to_rig, to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.serialization import atomic_path

MAX_SECONDS = 1e6
"""A longer clip's times would lose their frames in 32 bits."""
MAX_TEXT = 4 * 2**20
"""Bytes of the JSON of a file that is read as a motion: ours have 30,000, characters a million."""
_LONGEST_TEXT = 1000
_NAMELESS = "motion"
_COLOUR = (0.60, 0.64, 0.70, 1.0)


def read(path: Path) -> Motion:
    """Read the first animation of a GLB file as the 22 joints, at the rate at which its keys come.

    Files that `write` wrote come back as they were, with name and caption. Characters whose bones have the names of a
    known map (`bone_maps.yaml`), all 22 of them, such as `motiongpt3.formats.glb` writes, get HumanML3D's bone
    lengths with every bone's direction kept.

    Raises:
        MotionGPT3Error: no GLB, damaged, compressed, too large; no skin or several figures; other bones; no animation
            or keys that cannot be read.
    """
    gltf = read_container(path, MAX_TEXT)
    nodes = nodes_of(gltf, path.name)
    joints, ours = _joints(nodes, skin_joints(gltf, nodes, path.name), path.name)
    links = chain(nodes, joints, path.name)
    played = read_animation(gltf, set(links), path.name)
    seconds, fps = played.frames()
    with np.errstate(all="ignore"):
        found = places(nodes, links, played, joints, seconds)
    if not (np.abs(found) < 1e9).all():
        raise MotionGPT3Error(f"{path.name}: joint positions are too large to compute")
    caption, name = played.extras.get("caption"), _clean(played.name)
    return Motion(
        found if ours else to_skeleton(found),
        fps=fps,
        caption=(_clean(caption) or None) if isinstance(caption, str) else None,
        name=path.stem if name in ("", _NAMELESS) else name,
    )


def _joints(nodes: Nodes, bones: list[int], file: str) -> tuple[list[int], bool]:
    """The nodes of the 22 joints, and whether they are of a rig of ours."""
    named = {plain(nodes.names[bone]): bone for bone in reversed(bones)}
    if OWN.fits(set(named)):
        return [named[OWN_NAMES[joint]] for joint in HUMANML3D.names], True
    found, kind = known(nodes.names, bones, {})
    missing = [joint for joint in HUMANML3D.names if joint not in found]
    if missing:
        almost = f"; of {kind}'s it has no {', '.join(missing)}" if len(missing) < 8 else ""
        raise MotionGPT3Error(
            f"{file} is another program's figure: of GLB files those of motiongpt3 are read, and characters with all "
            f"22 joints under the names of {', '.join(KNOWN_RIGS)}{almost}. Export BVH there"
        )
    return [found[joint] for joint in HUMANML3D.names], False


def write(motion: Motion, path: Path) -> None:
    """Write a GLB file: y up, metres, T-pose at rest, one animation with the motion's frames as keys.

    The joints have the names and the hierarchy of our BVH files (`motiongpt3.characters.mannequin`); the hips move and
    turn, all other joints turn. A bone of the file has one length: the mean over the clip. The animation is called as
    the motion is; its `extras` hold the caption and the frames per second. The same motion gives the same bytes.

    Raises:
        MotionGPT3Error: another skeleton than HumanML3D's, a clip of more than `MAX_SECONDS`, or the folder cannot be
            written.
    """
    require_humanml3d(motion, "GLB")
    fitted = fit(motion)
    resting = rest_places(fitted.rest)
    data = _document(motion, fitted, mannequin(resting), resting)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _document(motion: Motion, fitted: Fitted, mesh: Mesh, resting: NDArray[np.float64]) -> bytes:
    """The bytes of the file."""
    buffer = Buffer()
    bind = np.tile(np.eye(4, dtype=np.float32), (len(NODES), 1, 1))
    bind[:, 3, :3] = -resting[[node.joint for node in NODES]]  # columns come first in glTF
    skin = len(NODES)
    primitive = {
        "attributes": {
            "POSITION": buffer.add(mesh.positions, FLOAT, "VEC3", VERTICES, bounds=True),
            "NORMAL": buffer.add(mesh.normals, FLOAT, "VEC3", VERTICES),
            "JOINTS_0": buffer.add(mesh.nodes, BYTE, "VEC4", VERTICES),
            "WEIGHTS_0": buffer.add(mesh.weights, FLOAT, "VEC4", VERTICES),
        },
        "indices": buffer.add(*_indices(mesh), "SCALAR", INDICES),
        "material": 0,
    }
    material = {
        "name": "Mannequin",
        "pbrMetallicRoughness": {"baseColorFactor": list(_COLOUR), "metallicFactor": 0.0, "roughnessFactor": 0.7},
    }
    document = {
        "asset": {"version": "2.0", "generator": "motiongpt3"},
        "scene": 0,
        "scenes": [{"name": "Scene", "nodes": [0, skin]}],
        "nodes": [*_nodes(fitted.rest, resting[0]), {"name": "Mannequin", "mesh": 0, "skin": 0}],
        "meshes": [{"name": "Mannequin", "primitives": [primitive]}],
        "materials": [material],
        "skins": [
            {
                "name": "Armature",
                "skeleton": 0,
                "joints": list(range(len(NODES))),
                "inverseBindMatrices": buffer.add(bind.reshape(-1, 16), FLOAT, "MAT4"),
            }
        ],
        "animations": [_animation(motion, fitted, buffer)],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return pack(document, buffer.data)


def _nodes(rest: NDArray[np.float64], root: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The rig in its rest pose."""
    found = []
    for i, node in enumerate(NODES):
        entry: dict[str, Any] = {"name": node.name}
        children = [j for j, other in enumerate(NODES) if other.parent == i]
        if children:
            entry["children"] = children
        if not node.is_helper:
            offset = root if node.parent < 0 else rest[node.joint]
            entry["translation"] = offset.astype(np.float32).tolist()
        found.append(entry)
    return found


def _animation(motion: Motion, fitted: Fitted, buffer: Buffer) -> dict[str, Any]:
    """Keys at every frame: the translation of the hips and the rotation of every joint that turns a bone."""
    turning = [i for i, node in enumerate(NODES) if node.turns >= 0]
    rotations = continuous_quaternions(fitted.rotations[:, [NODES[i].turns for i in turning]])
    tracks = [Track(0, "translation", fitted.root.astype(np.float32))]
    tracks += [Track(i, "rotation", rotations[:, k]) for k, i in enumerate(turning)]
    return described(motion, tracks, buffer)


def described(motion: Motion, tracks: list[Track], buffer: Buffer) -> dict[str, Any]:
    """The JSON of an animation that plays a motion, with its name, caption and frames per second."""
    if motion.seconds > MAX_SECONDS:
        raise MotionGPT3Error(f"{motion.seconds:.3g} seconds are too long for a GLB file; is {motion.fps:g} fps right?")
    times = (np.arange(len(motion)) / motion.fps).astype(np.float32)
    extras: dict[str, Any] = {"fps": motion.fps}
    if motion.caption:
        extras["caption"] = _clean(motion.caption)
    return animation(_clean(motion.name or "") or _NAMELESS, times, tracks, buffer) | {"extras": extras}


def _indices(mesh: Mesh) -> tuple[NDArray[np.generic], int]:
    """The triangles as one column, in 16 bits where these do."""
    column = mesh.triangles.reshape(-1, 1)
    return (column.astype("<u2"), SHORT) if len(mesh.positions) < 2**16 - 1 else (column.astype("<u4"), INT)


def _clean(text: str) -> str:
    """Text that any JSON reader takes: no half characters, no control characters, not endless."""
    whole = text[:_LONGEST_TEXT].encode("utf-8", errors="replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else " " for letter in whole).strip()


# A motion on a user's own character: a rigged GLB in, the same GLB with one more animation out.

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
    bones: FoundBones
    rest: RestPose


def load_character(path: str | Path, bones: dict[str, str] | None = None) -> Character:
    """Read a character: a .glb or .vrm file with a skin.

    Args:
        path: the file.
        bones: {our joint: name of its bone}, for what is not found by itself
        (`motiongpt3.characters.bone_names.load_map`).

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
    found = find(RestingRig(nodes.names, nodes.parents, places, joints), bones, _labels(gltf, len(nodes.names)))
    for joint, node in found.nodes.items():
        scale = np.linalg.norm(worlds[node, :3, :3], axis=0)
        if not scale.min() > 0 or scale.max() > 1.02 * scale.min() or np.linalg.det(worlds[node, :3, :3]) <= 0:
            raise MotionGPT3Error(
                f"{source.name}: the bone {nodes.names[node]!r} ({joint}) is scaled unevenly: apply scale"
            )
    where = np.full((len(HUMANML3D), 3), np.nan)
    for joint, node in found.nodes.items():
        where[HUMANML3D.index(joint)] = places[node]
    return Character(source.name, gltf, nodes, worlds, found, RestPose(where, _floor(where)))


def write_character(motion: Motion, character: Character, path: str | Path) -> RiggedMotion:
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
    played = to_rig(motion, character.rest)
    data = _character_document(motion, character, played)
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return played


def _character_document(motion: Motion, character: Character, played: RiggedMotion) -> bytes:
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


def _tracks(character: Character, played: RiggedMotion) -> list[Track]:
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
