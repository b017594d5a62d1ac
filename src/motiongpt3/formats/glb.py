"""GLB (binary glTF 2.0): a skinned mannequin that plays the motion; and the motion of such a file.

Read and written directly: our files need a dozen JSON objects and one block of arrays, which is less code than a glTF
library asks for and brings no further dependency.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path
from motiongpt3.formats.bones import known, known_maps
from motiongpt3.formats.dialects import OWN, OWN_NAMES, plain
from motiongpt3.formats.gltf import (
    BYTE,
    FLOAT,
    INDICES,
    INT,
    SHORT,
    VERTICES,
    Buffer,
    Nodes,
    Track,
    animation,
    continuous_quaternions,
    nodes_of,
    pack,
    skin_joints,
)
from motiongpt3.formats.gltf import read as read_container
from motiongpt3.formats.gltf_animation import chain, places, read_animation
from motiongpt3.formats.mannequin import Mesh, mannequin, rest_places
from motiongpt3.formats.rig import NODES
from motiongpt3.motion.motion import Motion, require_humanml3d
from motiongpt3.motion.retarget import to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.motion.tpose import Fitted, fit

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
    known map (`bone_maps.yaml`), all 22 of them, such as `motiongpt3.formats.rigged` writes, get HumanML3D's bone
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
            f"22 joints under the names of {', '.join(known_maps())}{almost}. Export BVH there"
        )
    return [found[joint] for joint in HUMANML3D.names], False


def write(motion: Motion, path: Path) -> None:
    """Write a GLB file: y up, metres, T-pose at rest, one animation with the motion's frames as keys.

    The joints have the names and the hierarchy of our BVH files (`motiongpt3.formats.rig`); the hips move and turn,
    all other joints turn. A bone of the file has one length: the mean over the clip. The animation is called as the
    motion is; its `extras` hold the caption and the frames per second. The same motion gives the same bytes.

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
