"""The container of GLB files (binary glTF 2.0): reading one with care, and putting one together.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error

MAX_BYTES = 512 * 2**20
"""Larger files are refused; characters with all their textures have 5 to 100 MB."""
MAX_TEXT = 64 * 2**20
MAX_NODES = 20_000
MAX_BONES = 2000
"""More bones than any character has."""
FLOAT, BYTE, SHORT, INT = 5126, 5121, 5123, 5125
VERTICES, INDICES = 34962, 34963
COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")


@dataclass
class Gltf:
    """A file's JSON document and its binary block."""

    document: dict[str, Any]
    binary: bytes

    def items(self, key: str) -> list[dict[str, Any]]:
        """The objects of a list of the document, such as "nodes"; empty if there is none."""
        return objects(self.document, key)


def objects(parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list in an object; empty if there is none. MotionGPT3Error if it is something else."""
    found = parent.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise MotionGPT3Error(f"the GLB is damaged: its {key} are no list of objects")
    return found


@dataclass(frozen=True)
class Nodes:
    """The tree of a file's nodes in the pose that the file rests in.

    Attributes:
        names: what they are called; "" for those without a name.
        parents: index of each node's parent; -1 for those of the scene.
        order: every node after its parent.
        translations: (N, 3) relative to the parent.
        rotations: (N, 3, 3).
        scales: (N, 3).
    """

    names: list[str]
    parents: list[int]
    order: list[int]
    translations: NDArray[np.float64]
    rotations: NDArray[np.float64]
    scales: NDArray[np.float64]

    def worlds(self) -> NDArray[np.float64]:
        """(N, 4, 4) global matrices."""
        found = np.tile(np.eye(4), (len(self.names), 1, 1))
        found[:, :3, :3] = self.rotations * self.scales[:, None, :]
        found[:, :3, 3] = self.translations
        for node in self.order:
            if self.parents[node] >= 0:
                found[node] = found[self.parents[node]] @ found[node]
        return found


def read(path: Path, max_text: int = MAX_TEXT) -> Gltf:
    """The two parts of a GLB file, whose JSON has at most `max_text` bytes.

    Raises:
        MotionGPT3Error: it is no GLB, truncated, too large, of another version or compressed.
    """
    name = path.name
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise MotionGPT3Error(f"{name} has over {MAX_BYTES // 2**20} MB: make its textures smaller")
    if data[:4] != b"glTF":
        hint = "export it as one .glb file" if path.suffix.lower() == ".gltf" else "it does not begin with glTF"
        raise MotionGPT3Error(f"{name} is no GLB file: {hint}")
    version, size = struct.unpack_from("<II", data, 4) if len(data) >= 12 else (2, 12)
    if version != 2:
        raise MotionGPT3Error(f"{name} is glTF of version {version}; version 2 is read")
    chunks: list[bytes] = []
    at = 12
    while at + 8 <= min(size, len(data)) and len(chunks) < 2:
        length, kind = struct.unpack_from("<I4s", data, at)
        if kind != (b"JSON", b"BIN\0")[len(chunks)]:
            break
        chunks.append(data[at + 8 : at + 8 + length])
        if len(chunks[-1]) < length:
            raise MotionGPT3Error(f"{name} is cut short: {len(data)} of {size} bytes are there")
        at += 8 + length + -length % 4
    if len(data) < size or not chunks:
        raise MotionGPT3Error(f"{name} is cut short: {len(data)} of {size} bytes are there")
    if len(chunks[0]) > max_text:
        raise MotionGPT3Error(f"{name}: its JSON has over {max_text // 2**20} MB")
    try:
        document = json.loads(chunks[0].decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise MotionGPT3Error(f"{name} is damaged: its JSON cannot be read: {str(error)[:80]}") from None
    if not isinstance(document, dict):
        raise MotionGPT3Error(f"{name} is damaged: its JSON is no object")
    used = json.dumps([document.get("extensionsRequired"), document.get("extensionsUsed")])
    for extension in COMPRESSED:
        if extension in used:
            raise MotionGPT3Error(f"{name} is compressed ({extension}): export it again without compression")
    return Gltf(document, chunks[1] if len(chunks) > 1 else b"")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def nodes_of(gltf: Gltf, name: str) -> Nodes:
    """The nodes of a file; `name` is how errors call it.

    Raises:
        MotionGPT3Error: too many nodes, a cycle, two parents, or numbers that are none.
    """
    entries = gltf.items("nodes")
    if not 0 < len(entries) <= MAX_NODES:
        raise MotionGPT3Error(f"{name} has {len(entries)} nodes; 1 to {MAX_NODES} are expected")
    parents = [-1] * len(entries)
    for index, entry in enumerate(entries):
        children = entry.get("children", [])
        for child in children if isinstance(children, list) else [None]:
            if type(child) is not int or not 0 <= child < len(entries) or parents[child] >= 0:
                raise MotionGPT3Error(f"{name} is damaged: node {index} has impossible children")
            parents[child] = index
    order = [index for index, parent in enumerate(parents) if parent < 0]
    for index in order:  # grows as it is walked
        order.extend(entries[index].get("children", []))
    if len(order) < len(entries):
        raise MotionGPT3Error(f"{name} is damaged: its nodes form a cycle")
    found = [_transform(entry, f"{name}: node {index}") for index, entry in enumerate(entries)]
    moved, turned, scaled = (np.stack([part[i] for part in found]) for i in range(3))
    return Nodes([str(entry.get("name", ""))[:200] for entry in entries], parents, order, moved, turned, scaled)


def skin_joints(gltf: Gltf, nodes: Nodes, name: str) -> list[int]:
    """The nodes that bend the skin, parents first; several skins must share bones, as the parts of one figure do.

    Raises:
        MotionGPT3Error: no skin, skins of several figures, or more than `MAX_BONES` bones.
    """
    skins = gltf.items("skins")
    if not skins:
        raise MotionGPT3Error(f"{name} has no skin: a figure needs a mesh that is bound to bones")
    groups: list[set[int]] = []
    for skin in skins:
        joints = skin.get("joints")
        if (
            not isinstance(joints, list)
            or not joints
            or not all(type(j) is int and 0 <= j < len(nodes.names) for j in joints)
        ):
            raise MotionGPT3Error(f"{name} is damaged: a skin has no joints")
        groups.append(set(joints))
    main = max(groups, key=len)
    if any(not group & main for group in groups):
        raise MotionGPT3Error(f"{name} has {len(skins)} skins on separate skeletons: export one figure alone")
    every = set().union(*groups)
    if len(every) > MAX_BONES:
        raise MotionGPT3Error(f"{name} has {len(every)} bones; {MAX_BONES} at most are expected")
    return [node for node in nodes.order if node in every]


def _transform(
    entry: dict[str, Any], where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Translation (3,), rotation (3, 3) and scale (3,) of a node."""
    if "matrix" in entry:
        matrix = _numbers(entry["matrix"], 16, where).reshape(4, 4).T
        scale = np.linalg.norm(matrix[:3, :3], axis=0)
        if not np.linalg.det(matrix[:3, :3]) > 0:
            raise MotionGPT3Error(f"{where} is mirrored or flat: apply its scale, then export it again")
        rotation = roma.special_procrustes(torch.from_numpy(matrix[:3, :3] / scale)).numpy()
        return matrix[:3, 3], rotation, scale
    quaternion = _numbers(entry.get("rotation", (0, 0, 0, 1)), 4, where)
    if not 0.5 < np.linalg.norm(quaternion) < 2:
        raise MotionGPT3Error(f"{where} has a rotation that is none")
    rotation = roma.unitquat_to_rotmat(torch.from_numpy(quaternion / np.linalg.norm(quaternion))).numpy()
    return (
        _numbers(entry.get("translation", (0, 0, 0)), 3, where),
        rotation,
        _numbers(entry.get("scale", (1, 1, 1)), 3, where),
    )


def _numbers(values: Any, count: int, where: str) -> NDArray[np.float64]:
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape != (count,) or not (np.abs(found) < 1e9).all():
        raise MotionGPT3Error(f"{where} has a place, rotation or scale that is none")
    return found


def pack(document: dict[str, Any], binary: bytes | bytearray) -> bytes:
    """The bytes of a GLB file of a JSON document and a binary block."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
    text += b" " * (-len(text) % 4)
    data = bytes(binary) + b"\0" * (-len(binary) % 4)
    size = 12 + 8 + len(text) + 8 + len(data)
    if size >= 2**32:
        raise MotionGPT3Error("a GLB file holds less than 4 GB")
    head = struct.pack("<4sII", b"glTF", 2, size) + struct.pack("<I4s", len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(data), b"BIN\0") + data


class Buffer:
    """The binary block, with the views and accessors that say what is where in it; begins with what is there."""

    def __init__(
        self,
        data: bytes = b"",
        views: list[dict[str, Any]] | None = None,
        accessors: list[dict[str, Any]] | None = None,
    ) -> None:
        self.data = bytearray(data + b"\0" * (-len(data) % 4))
        self.views = list(views or [])
        self.accessors = list(accessors or [])

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


@dataclass(frozen=True)
class Track:
    """What one node does: (T, 3) translations in its parent's axes, or (T, 4) rotations as quaternions x, y, z, w."""

    node: int
    path: str
    values: NDArray[np.float32]


def animation(name: str, times: NDArray[np.float32], tracks: list[Track], buffer: Buffer) -> dict[str, Any]:
    """The JSON of an animation with a key for every one of (T,) times in seconds; its arrays go into the buffer."""
    keys = buffer.add(times[:, None], FLOAT, "SCALAR", bounds=True)
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []
    for track in tracks:
        output = buffer.add(track.values, FLOAT, f"VEC{track.values.shape[1]}")
        channels.append({"sampler": len(samplers), "target": {"node": track.node, "path": track.path}})
        samplers.append({"input": keys, "output": output, "interpolation": "LINEAR"})
    return {"name": name, "samplers": samplers, "channels": channels}


def continuous_quaternions(rotations: torch.Tensor) -> NDArray[np.float32]:
    """(T, N, 3, 3) rotations -> (T, N, 4) unit quaternions x, y, z, w, each of the sign nearer to the one before."""
    quaternions: torch.Tensor = roma.quat_normalize(roma.rotmat_to_unitquat(rotations))
    facing = (quaternions[1:] * quaternions[:-1]).sum(-1)
    first = torch.where(quaternions[:1, :, 3] < 0, -1.0, 1.0)
    signs = torch.cat([first, torch.where(facing < 0, -1.0, 1.0)]).cumprod(0)
    found: NDArray[np.float32] = (quaternions * signs[..., None]).numpy().astype(np.float32)
    return found
