"""GLB (binary glTF 2.0): a skinned mannequin that plays the motion.

Written directly: our files need a dozen JSON objects and one block of arrays, which is less code than a glTF library
asks for and brings no further dependency. Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path
from motiongpt3.formats.guards import require_humanml3d
from motiongpt3.formats.mannequin import Mesh, mannequin, rest_places
from motiongpt3.formats.rig import NODES
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.tpose import Fitted, fit

MAX_SECONDS = 1e6
"""A longer clip's times would lose their frames in 32 bits."""
_LONGEST_TEXT = 1000
_FLOAT, _BYTE, _SHORT, _INT = 5126, 5121, 5123, 5125
_VERTICES, _INDICES = 34962, 34963
_COLOUR = (0.60, 0.64, 0.70, 1.0)


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
    if motion.seconds > MAX_SECONDS:
        raise MotionGPT3Error(f"{motion.seconds:.3g} seconds are too long for a GLB file; is {motion.fps:g} fps right?")
    fitted = fit(motion)
    places = rest_places(fitted.rest)
    data = _document(motion, fitted, mannequin(places), places)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _document(motion: Motion, fitted: Fitted, mesh: Mesh, places: NDArray[np.float64]) -> bytes:
    """The bytes of the file."""
    buffer = _Buffer()
    bind = np.tile(np.eye(4, dtype=np.float32), (len(NODES), 1, 1))
    bind[:, 3, :3] = -places[[node.joint for node in NODES]]  # columns come first in glTF
    skin = len(NODES)
    primitive = {
        "attributes": {
            "POSITION": buffer.add(mesh.positions, _FLOAT, "VEC3", _VERTICES, bounds=True),
            "NORMAL": buffer.add(mesh.normals, _FLOAT, "VEC3", _VERTICES),
            "JOINTS_0": buffer.add(mesh.nodes, _BYTE, "VEC4", _VERTICES),
            "WEIGHTS_0": buffer.add(mesh.weights, _FLOAT, "VEC4", _VERTICES),
        },
        "indices": buffer.add(*_indices(mesh), "SCALAR", _INDICES),
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
        "nodes": [*_nodes(fitted.rest, places[0]), {"name": "Mannequin", "mesh": 0, "skin": 0}],
        "meshes": [{"name": "Mannequin", "primitives": [primitive]}],
        "materials": [material],
        "skins": [
            {
                "name": "Armature",
                "skeleton": 0,
                "joints": list(range(len(NODES))),
                "inverseBindMatrices": buffer.add(bind.reshape(-1, 16), _FLOAT, "MAT4"),
            }
        ],
        "animations": [_animation(motion, fitted, buffer)],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(buffer.data)
    head = struct.pack("<4sII", b"glTF", 2, size) + struct.pack("<I4s", len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(buffer.data), b"BIN\0") + bytes(buffer.data)


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


def _animation(motion: Motion, fitted: Fitted, buffer: _Buffer) -> dict[str, Any]:
    """Keys at every frame: the translation of the hips and the rotation of every joint that turns a bone."""
    times = buffer.add((np.arange(len(motion)) / motion.fps).astype(np.float32)[:, None], _FLOAT, "SCALAR", bounds=True)
    turning = [i for i, node in enumerate(NODES) if node.turns >= 0]
    rotations = continuous_quaternions(fitted.rotations[:, [NODES[i].turns for i in turning]])
    outputs = [(0, "translation", fitted.root.astype(np.float32), "VEC3")]
    outputs += [(i, "rotation", rotations[:, k], "VEC4") for k, i in enumerate(turning)]
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []
    for node, path, values, kind in outputs:
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
        samplers.append({"input": times, "output": buffer.add(values, _FLOAT, kind), "interpolation": "LINEAR"})
    extras: dict[str, Any] = {"fps": motion.fps}
    if motion.caption:
        extras["caption"] = _clean(motion.caption)
    return {"name": _clean(motion.name or "") or "motion", "samplers": samplers, "channels": channels, "extras": extras}


def continuous_quaternions(rotations: torch.Tensor) -> NDArray[np.float32]:
    """(T, N, 3, 3) rotations -> (T, N, 4) unit quaternions x, y, z, w, each of the sign nearer to the one before."""
    quaternions: torch.Tensor = roma.quat_normalize(roma.rotmat_to_unitquat(rotations))
    facing = (quaternions[1:] * quaternions[:-1]).sum(-1)
    first = torch.where(quaternions[:1, :, 3] < 0, -1.0, 1.0)
    signs = torch.cat([first, torch.where(facing < 0, -1.0, 1.0)]).cumprod(0)
    found: NDArray[np.float32] = (quaternions * signs[..., None]).numpy().astype(np.float32)
    return found


def _indices(mesh: Mesh) -> tuple[NDArray[np.generic], int]:
    """The triangles as one column, in 16 bits where these do."""
    column = mesh.triangles.reshape(-1, 1)
    return (column.astype("<u2"), _SHORT) if len(mesh.positions) < 2**16 - 1 else (column.astype("<u4"), _INT)


def _clean(text: str) -> str:
    """Text that any JSON reader takes: no half characters, no control characters, not endless."""
    whole = text[:_LONGEST_TEXT].encode("utf-8", errors="replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else " " for letter in whole).strip()


class _Buffer:
    """The binary block, with the views and accessors that say what is where in it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(
        self, array: NDArray[Any], component: int, kind: str, target: int | None = None, bounds: bool = False
    ) -> int:
        """Append (count, components); returns the index of its accessor."""
        raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += raw + b"\0" * (-len(raw) % 4)
        accessor = {"bufferView": len(self.views) - 1, "componentType": component, "count": len(array), "type": kind}
        if bounds:
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1
