"""Binary glTF 2.0, the container of GLB files: what a file holds, read with care, and how one is put together.

Reading goes from the container (`read`) to its nodes, skin, animation, and the places of joints over time. Own code,
because our files need a dozen JSON objects and one block of arrays, which is less than a glTF library (pygltflib,
trimesh) asks for, and because those trust what a file says of its sizes.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import in_chunks, snap_fps
from motiongpt3.motion.kinematics import pose_joints
from motiongpt3.motion.motion import MAX_FRAMES
from motiongpt3.motion.skeleton import Float32, Float64
from motiongpt3.untrusted import json_object, read_bytes

MAX_BYTES = 512 * 2**20
"""Larger files are refused; characters with all their textures have 5 to 100 MB."""
MAX_TEXT = 64 * 2**20
"""Bytes of the JSON; that of a character with faces and clothes has a few million."""
MAX_NODES = 20_000
"""Whole scenes have some thousand."""
MAX_BONES = 2000
"""More bones than any character has."""
MAX_KEYS = 8_000_000
"""Keys of all nodes together: those of the longest motion have half as many."""
MAX_CHAIN = 128
"""Nodes that a figure's joints hang from, the joints included; characters have 25 to 60."""
VERTICES, INDICES = 34962, 34963
"""The specification's numbers for what a part of the binary block is used."""
COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
_WIDTHS = {"translation": 3, "rotation": 4, "scale": 3}
_COMPONENTS = {"f4": 5126, "u1": 5121, "u2": 5123, "u4": 5125}
"""The specification's numbers for types of values, by numpy's names of these."""
_KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_SPARSE, _USUAL = 10.0, 20.0
"""Keys per second below which they were set by hand, and frames per second that are read from these."""


@dataclass
class Gltf:
    """A file: how errors call it, its JSON document and its binary block."""

    name: str
    document: dict[str, Any]
    binary: bytes

    def items(self, key: str) -> list[dict[str, Any]]:
        """The objects of a list of the document, such as "nodes"; empty if there is none."""
        return objects(self.document, key)

    def item(self, key: str, index: Any) -> dict[str, Any]:
        """One of these objects; MotionGPT3Error if the index, which the file says, is none."""
        items = self.items(key)
        if type(index) is not int or not 0 <= index < len(items):
            raise MotionGPT3Error(f"{self.name} is damaged: its animation asks for {key} that are not there")
        return items[index]


def objects(parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list in an object; empty if there is none. MotionGPT3Error if it is something else."""
    found = parent.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise MotionGPT3Error(f"the GLB is damaged: its {key} are no list of objects")
    return found


def read(path: Path, max_text: int = MAX_TEXT) -> Gltf:
    """The two parts of a GLB file, whose JSON has at most `max_text` bytes.

    Raises:
        MotionGPT3Error: it is no GLB, truncated, too large, of another version or compressed.
    """
    name = path.name
    data = read_bytes(path, MAX_BYTES, f"has over {MAX_BYTES // 2**20} MB: make its textures smaller")
    if data[:4] != b"glTF":
        hint = "export it as one .glb file" if path.suffix.lower() == ".gltf" else "it does not begin with glTF"
        raise MotionGPT3Error(f"{name} is no GLB file: {hint}")
    version, size = struct.unpack_from("<II", data, 4) if len(data) >= 12 else (2, 12)
    if version != 2:
        raise MotionGPT3Error(f"{name} is glTF of version {version}; version 2 is read")
    chunks: list[bytes] = []
    at, whole = 12, len(data) >= size
    while at + 8 <= min(size, len(data)) and len(chunks) < 2:
        length, kind = struct.unpack_from("<I4s", data, at)
        if kind != (b"JSON", b"BIN\0")[len(chunks)]:
            break
        chunks.append(data[at + 8 : at + 8 + length])
        whole &= len(chunks[-1]) == length
        at += 8 + length + -length % 4
    if not whole or not chunks:
        raise MotionGPT3Error(f"{name} is cut short: {len(data)} of {size} bytes are there")
    if len(chunks[0]) > max_text:
        raise MotionGPT3Error(f"{name}: its JSON has over {max_text // 2**20} MB")
    document = json_object(chunks[0], name)
    used = json.dumps([document.get("extensionsRequired"), document.get("extensionsUsed")])
    for extension in COMPRESSED:
        if extension in used:
            raise MotionGPT3Error(f"{name} is compressed ({extension}): export it again without compression")
    return Gltf(name, document, chunks[1] if len(chunks) > 1 else b"")


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
    translations: Float64
    rotations: Float64
    scales: Float64

    def worlds(self) -> Float64:
        """(N, 4, 4) global matrices."""
        found = np.tile(np.eye(4), (len(self.names), 1, 1))
        found[:, :3, :3] = self.rotations * self.scales[:, None, :]
        found[:, :3, 3] = self.translations
        for node in self.order:
            if self.parents[node] >= 0:
                found[node] = found[self.parents[node]] @ found[node]
        return found


def nodes_of(gltf: Gltf) -> Nodes:
    """The nodes of a file.

    Raises:
        MotionGPT3Error: too many nodes, a cycle, two parents, or numbers that are none.
    """
    entries = gltf.items("nodes")
    if not 0 < len(entries) <= MAX_NODES:
        raise MotionGPT3Error(f"{gltf.name} has {len(entries)} nodes; 1 to {MAX_NODES} are expected")
    parents = [-1] * len(entries)
    for index, entry in enumerate(entries):
        children = entry.get("children", [])
        for child in children if isinstance(children, list) else [None]:
            if type(child) is not int or not 0 <= child < len(entries) or parents[child] >= 0:
                raise MotionGPT3Error(f"{gltf.name} is damaged: node {index} has impossible children")
            parents[child] = index
    order = [index for index, parent in enumerate(parents) if parent < 0]
    for index in order:  # grows as it is walked
        order.extend(entries[index].get("children", []))
    if len(order) < len(entries):
        raise MotionGPT3Error(f"{gltf.name} is damaged: its nodes form a cycle")
    transforms = [_transform(entry, f"{gltf.name}: node {index}") for index, entry in enumerate(entries)]
    moved, turned, scaled = (np.stack(part) for part in zip(*transforms, strict=True))
    return Nodes([str(entry.get("name", ""))[:200] for entry in entries], parents, order, moved, turned, scaled)


def _transform(entry: dict[str, Any], where: str) -> tuple[Float64, Float64, Float64]:
    """Translation (3,), rotation (3, 3) and scale (3,) of a node."""

    def numbers(key: str, count: int, default: Sequence[int] = ()) -> Float64:
        try:
            found = np.array(entry.get(key, default), dtype=np.float64)
        except (TypeError, ValueError):
            found = np.zeros(0)
        if found.shape != (count,) or not (np.abs(found) < 1e9).all():
            raise MotionGPT3Error(f"{where} has a place, rotation or scale that is none")
        return found

    if "matrix" in entry:
        matrix = numbers("matrix", 16).reshape(4, 4).T  # columns come first in glTF
        scale = np.linalg.norm(matrix[:3, :3], axis=0)
        if not np.linalg.det(matrix[:3, :3]) > 0:
            raise MotionGPT3Error(f"{where} is mirrored or flat: apply its scale, then export it again")
        return matrix[:3, 3], roma.special_procrustes(torch.from_numpy(matrix[:3, :3] / scale)).numpy(), scale
    quaternion = numbers("rotation", 4, (0, 0, 0, 1))
    if not 0.5 < np.linalg.norm(quaternion) < 2:
        raise MotionGPT3Error(f"{where} has a rotation that is none")
    rotation = roma.unitquat_to_rotmat(torch.from_numpy(quaternion / np.linalg.norm(quaternion))).numpy()
    return numbers("translation", 3, (0, 0, 0)), rotation, numbers("scale", 3, (1, 1, 1))


def bind_pose(gltf: Gltf, nodes: Nodes) -> Nodes:
    """The nodes in the pose in which the skin was bound to the bones; the same object where they stand in it already.

    A file that was saved in the middle of an animation holds that pose in its nodes, and the rest pose only in the
    inverse bind matrices of its skins. Turns are taken from these, and the place of the topmost bone; the bones stay as
    long as they are. The matrices are in the space of the mesh: its axes are taken for those of the scene, or, if the
    figure would lie, for those of what the bones hang from; its unit is told by the bones' lengths.
    """
    binds = _bind_matrices(gltf)
    worlds = nodes.worlds()
    pairs = [(nodes.parents[node], node) for node in binds if nodes.parents[node] in binds]
    if not pairs:
        return nodes
    above, below = (np.array(each) for each in zip(*pairs, strict=True))
    bound, bound_above = (np.stack([binds[int(node)] for node in each]) for each in (below, above))
    here = np.linalg.norm(worlds[below, :3, 3] - worlds[above, :3, 3], axis=-1).sum()
    there = np.linalg.norm(bound[:, :3, 3] - bound_above[:, :3, 3], axis=-1).sum()
    now = _axes(worlds[above]).transpose(0, 2, 1) @ _axes(worlds[below])
    then = _axes(bound_above).transpose(0, 2, 1) @ _axes(bound)
    if np.abs(now - then).max() < MAX_POSED or not here > 0 or not there > 0:
        return nodes
    places = np.stack(list(binds.values()))[:, :3, 3] * here / there
    top = next(node for node in nodes.order if node in binds)
    frame = worlds[nodes.parents[top]] if nodes.parents[top] >= 0 else np.eye(4)
    turn = _axes(frame) if np.ptp(places[:, 2]) > np.ptp(places[:, 1]) else np.eye(3)
    turned = nodes.rotations.copy()
    for node in nodes.order:
        over = worlds[nodes.parents[node]] if nodes.parents[node] >= 0 else np.eye(4)
        if node in binds:
            turned[node] = _axes(over).T @ turn @ _axes(binds[node])
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turned[node] * nodes.scales[node], nodes.translations[node]
        worlds[node] = over @ local
    # The topmost bone is where it was bound, but the lowest bone as high as it was, whatever the legs' length.
    place = turn @ binds[top][:3, 3] * here / there
    place[1] = worlds[top, 1, 3] + (places @ turn.T)[:, 1].min() - min(worlds[node, 1, 3] for node in binds)
    moved = nodes.translations.copy()
    moved[top] = np.linalg.solve(frame, [*place, 1])[:3]
    return replace(nodes, translations=moved, rotations=turned)


def _axes(matrices: Float64) -> Float64:
    """Matrices (..., 4, 4) without their places and scales, (..., 3, 3)."""
    columns = matrices[..., :3, :3]
    axes: Float64 = columns / np.maximum(np.linalg.norm(columns, axis=-2, keepdims=True), 1e-12)
    return axes


MAX_POSED = 0.02
"""A bone this far off its bind pose (a degree, as an entry of its matrix) is posed; exporters round less."""


def _bind_matrices(gltf: Gltf) -> dict[int, Float64]:
    """{joint: its global matrix when the skin was bound} of what is plainly there; skins that pack it tell nothing."""
    found: dict[int, Float64] = {}
    for skin in gltf.items("skins"):
        joints, accessor = skin.get("joints"), skin.get("inverseBindMatrices")
        if not isinstance(joints, list) or type(accessor) is not int:
            continue
        try:
            inverse = _floats(gltf, accessor, 16).reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float64)
        except MotionGPT3Error:
            continue
        for joint, matrix in zip(joints, inverse, strict=False):
            plain = (np.abs(matrix) < 1e6).all() and (matrix[3] == [0, 0, 0, 1]).all()
            if plain and abs(np.linalg.det(matrix[:3, :3])) > 1e-12:
                found.setdefault(joint, np.asarray(np.linalg.inv(matrix), np.float64))
    return found


def skin_joints(gltf: Gltf, nodes: Nodes) -> list[int]:
    """The nodes that bend the skin, parents first; several skins must share bones, as the parts of one figure do.

    Raises:
        MotionGPT3Error: no skin, skins of several figures, or more than `MAX_BONES` bones.
    """
    skins = [skin.get("joints") for skin in gltf.items("skins")]
    if not skins:
        raise MotionGPT3Error(f"{gltf.name} has no skin: a figure needs a mesh that is bound to bones")
    groups: list[set[int]] = []
    for joints in skins:
        listed = joints if isinstance(joints, list) else []
        if not listed or not all(type(joint) is int and 0 <= joint < len(nodes.names) for joint in listed):
            raise MotionGPT3Error(f"{gltf.name} is damaged: a skin has no joints")
        groups.append(set(listed))
    main = max(groups, key=len)
    if any(not group & main for group in groups):
        raise MotionGPT3Error(f"{gltf.name} has {len(skins)} skins on separate skeletons: export one figure alone")
    every = set().union(*groups)
    if len(every) > MAX_BONES:
        raise MotionGPT3Error(f"{gltf.name} has {len(every)} bones; {MAX_BONES} at most are expected")
    return [node for node in nodes.order if node in every]


def chain(gltf: Gltf, nodes: Nodes, joints: Sequence[int]) -> list[int]:
    """The joints and all that they hang from, parents first; MotionGPT3Error if there are more than `MAX_CHAIN`."""
    needed: set[int] = set()
    for joint in joints:
        while joint >= 0 and joint not in needed:
            needed.add(joint)
            joint = nodes.parents[joint]
    if len(needed) > MAX_CHAIN:
        raise MotionGPT3Error(
            f"{gltf.name}: its joints hang from {len(needed)} nodes; {MAX_CHAIN} at most are expected"
        )
    return [node for node in nodes.order if node in needed]


@dataclass(frozen=True)
class Keys:
    """What one property of a node does.

    Attributes:
        times: (K,) seconds, rising.
        values: (K, 3) translations or scales, or (K, 4) rotations as quaternions x, y, z, w.
        steps: whether a value stays until the next key; otherwise values are interpolated.
    """

    times: Float64
    values: Float32
    steps: bool

    def at(self, seconds: Float64) -> Float64:
        """(S, 3 or 4) values at (S,) seconds; before the first key it is the first one's, after the last its."""
        low = (np.searchsorted(self.times, seconds, side="right") - 1).clip(0)
        high = (low + 1).clip(max=len(self.times) - 1)
        span = self.times[high] - self.times[low]
        part = ((seconds - self.times[low]) / np.where(span > 0, span, 1)).clip(0, 1)[:, None] * (not self.steps)
        before, after = (self.values[index].astype(np.float64) for index in (low, high))
        if self.values.shape[1] == 3:
            return before + part * (after - before)
        start, end = (roma.quat_normalize(torch.from_numpy(values)) for values in (before, after))
        if part.any():
            way = roma.unitquat_to_rotvec(roma.quat_product(roma.quat_conjugation(start), end))
            start = roma.quat_product(start, roma.rotvec_to_unitquat(torch.from_numpy(part) * way))
        found: Float64 = start.numpy()
        return found


@dataclass(frozen=True)
class GltfAnimation:
    """An animation of a file, as far as it moves certain nodes.

    Attributes:
        name: what it is called; "" if it has no name.
        extras: what its writer added.
        keys: {node: {"translation", "rotation" or "scale": its keys}}.
    """

    name: str
    extras: dict[str, Any]
    keys: dict[int, dict[str, Keys]]

    def moves(self) -> bool:
        """Whether any joint does more than stay where it is; a T-pose or a rest pose is no motion."""
        tracks = (keys.values for paths in self.keys.values() for keys in paths.values())
        return any(len(values) > 1 and float(np.ptp(values, axis=0).max()) > 1e-3 for values in tracks)

    def frames(self) -> tuple[Float64, float]:
        """(T,) seconds of the frames and frames per second.

        The keys are the frames where they come evenly, and at the rate that the writer told or at least 10 a second.
        Otherwise frames are laid between the first and the last, as often as the keys mostly come, at least 20 a
        second.

        Raises:
            MotionGPT3Error: they come too often or are too many.
        """
        times = [keys.times for paths in self.keys.values() for keys in paths.values()]
        first, last = min(each[0] for each in times), max(each[-1] for each in times)
        longest = max(times, key=len)
        said = self.extras.get("fps")
        told = float(said) if isinstance(said, (int, float)) and 0 < said <= 1000 else None
        if last == first:
            return longest[:1], told or _USUAL
        rate = (len(longest) - 1) / (longest[-1] - longest[0]) if len(longest) > 1 else _USUAL
        off = np.abs(longest - first - np.arange(len(longest)) / rate).max()
        if max(off, last - longest[-1]) * rate < 0.1:
            if told and abs(told / rate - 1) < 1e-3:
                return longest, told
            if rate >= _SPARSE:
                return longest, snap_fps(rate)
        rate = max(snap_fps(1 / float(np.median(np.diff(longest)))), _USUAL) if len(longest) > 1 else _USUAL
        count = (last - first) * rate + 1
        if not (rate <= 1000 and count <= MAX_FRAMES):
            raise MotionGPT3Error(f"the GLB's keys make {count:.3g} frames at {rate:.3g} a second: too many")
        frames = first + np.arange(int(count + 1e-6)) / rate
        return frames.astype(np.float32).astype(np.float64), rate  # as exact as the keys, so that they meet


def animation_names(gltf: Gltf) -> list[str]:
    """What the animations are called, in the file's order; "" where one has no name."""
    return [str(entry.get("name", ""))[:_LETTERS] for entry in gltf.items("animations")]


def read_animation(gltf: Gltf, moved: set[int], wanted: str | None = None) -> tuple[GltfAnimation, list[str]]:
    """An animation, as far as it moves these nodes, and which of several was taken, in words.

    Args:
        gltf: the file.
        moved: the nodes.
        wanted: its name, or its number from 1; None for the first one that moves them, or the first one if none does.

    Raises:
        MotionGPT3Error: there is none, or none of that name; it moves nothing of this, or its keys are not plain
            numbers of the file itself: cubic splines, sparse arrays, integers, too many, cut short, not finite, not
            rising.
    """
    names = animation_names(gltf)
    if not names:
        raise MotionGPT3Error(f"{gltf.name} has no animation: it is a figure that stands still")
    listed = ", ".join(f"{number} {name!r}" for number, name in enumerate(names, start=1))[:400]
    if wanted is not None:
        at = names.index(wanted) if wanted in names else int(wanted) - 1 if wanted.isdecimal() else -1
        if not 0 <= at < len(names):
            raise MotionGPT3Error(f"{gltf.name} has no animation {wanted[:40]!r}; there are {listed}")
        return _read_animation(gltf, gltf.items("animations")[at], moved), []
    if len(names) == 1:
        return _read_animation(gltf, gltf.items("animations")[0], moved), []
    failed: MotionGPT3Error | None = None
    still: GltfAnimation | None = None
    for number, entry in enumerate(gltf.items("animations")[:_MAX_TRIED], start=1):
        try:
            found = _read_animation(gltf, entry, moved)
        except MotionGPT3Error as error:
            failed = failed or error
            continue
        if found.moves():
            told = f"of {len(names)} animations number {number}, {found.name[:60]!r}, is read: --animation chooses"
            return found, [f"{told} ({listed})"]
        still = still or found
    if still:
        return still, [f"none of the animations moves the figure ({listed})"]
    raise failed or MotionGPT3Error(f"{gltf.name}: none of its animations moves the figure's joints")


_LETTERS = 100
"""Letters of an animation's name that are shown."""
_MAX_TRIED = 64
"""Animations that are looked into for one that moves; character packs have 20 to 50."""


def _read_animation(gltf: Gltf, animation: dict[str, Any], moved: set[int]) -> GltfAnimation:
    name, extras = gltf.name, animation.get("extras")
    found = GltfAnimation(str(animation.get("name", "")), extras if isinstance(extras, dict) else {}, {})
    samplers = objects(animation, "samplers")
    arrays: dict[int, Float64] = {}
    total = 0
    for channel in objects(animation, "channels"):
        target, at = channel.get("target"), channel.get("sampler")
        node, path = (target.get("node"), target.get("path")) if isinstance(target, dict) else (None, None)
        if type(node) is not int or node not in moved or not isinstance(path, str) or path not in _WIDTHS:
            continue
        if type(at) is not int or not 0 <= at < len(samplers) or path in found.keys.get(node, {}):
            raise MotionGPT3Error(f"{name} is damaged: a channel of its animation has no keys, or a node has two")
        steps, key = samplers[at].get("interpolation", "LINEAR"), samplers[at].get("input")
        if steps not in ("LINEAR", "STEP"):
            raise MotionGPT3Error(f"{name} has keys of the kind {str(steps)[:20]}: export it with linear, sampled keys")
        times = np.zeros(0)
        if type(key) is int:
            if key not in arrays:
                arrays[key] = _floats(gltf, key, 1)[:, 0].astype(np.float64)
                if not (np.diff(arrays[key]) > 0).all():
                    raise MotionGPT3Error(f"{name} is damaged: the times of its animation do not rise")
            times = arrays[key]
        values = _floats(gltf, samplers[at].get("output"), _WIDTHS[path])
        total += len(values)
        if total > MAX_KEYS:
            raise MotionGPT3Error(f"{name} has more than {MAX_KEYS} keys: too many for one motion")
        if len(times) != len(values):
            raise MotionGPT3Error(f"{name} is damaged: {len(values)} values of its animation have {len(times)} times")
        if path == "rotation" and (values**2).sum(-1).min() < 0.25:
            raise MotionGPT3Error(f"{name} is damaged: its animation has rotations that are none")
        found.keys.setdefault(node, {})[path] = Keys(times, values, steps == "STEP")
    if not found.keys:
        raise MotionGPT3Error(f"{name}: its animation {found.name[:60]!r} moves none of the figure's joints")
    return found


def _floats(gltf: Gltf, accessor: Any, width: int) -> Float32:
    """(count, width) numbers of an accessor, as they lie in the file."""
    name = gltf.name

    def whole(entry: dict[str, Any], key: str) -> int:
        found = entry.get(key, 0)
        if type(found) is not int or not 0 <= found < 2**32:
            raise MotionGPT3Error(f"{name} is damaged: a {key} of its arrays is no whole number")
        return found

    entry = gltf.item("accessors", accessor)
    if "sparse" in entry:
        raise MotionGPT3Error(f"{name} has keys in a sparse array: export it again without")
    if entry.get("componentType") != _COMPONENTS["f4"] or entry.get("type") != _KINDS[width]:
        raise MotionGPT3Error(f"{name} has keys that are no {_KINDS[width]} of floats: export it again without packing")
    view = gltf.item("bufferViews", entry.get("bufferView"))
    if whole(view, "buffer") != 0 or "uri" in gltf.item("buffers", 0):
        raise MotionGPT3Error(f"{name} keeps its data in other files: export it as one .glb file")
    count, stride = whole(entry, "count"), whole(view, "byteStride") or 4 * width
    if not 1 <= count <= MAX_FRAMES:
        raise MotionGPT3Error(f"{name} has {count} keys; 1 to {MAX_FRAMES} are expected")
    within, start = whole(entry, "byteOffset"), whole(view, "byteOffset")
    size = within + stride * (count - 1) + 4 * width
    if stride < 4 * width or size > whole(view, "byteLength") or start + size > len(gltf.binary):
        raise MotionGPT3Error(f"{name} is cut short: its animation lies beyond its data")
    values = np.ndarray((count, width), "<f4", gltf.binary, start + within, (stride, 4))
    if not (np.abs(values) < 1e9).all():
        raise MotionGPT3Error(f"{name} contains NaN or infinite values")
    return values


def joint_positions(
    nodes: Nodes, links: Sequence[int], played: GltfAnimation, joints: Sequence[int], seconds: Float64
) -> Float64:
    """(T, J, 3) where joints are at (T,) seconds; `links` is their `chain`."""
    at = {node: number for number, node in enumerate(links)}
    parents = [at.get(nodes.parents[node], -1) for node in links]

    def posed(frames: slice) -> Float64:
        now = seconds[frames]
        turns, shifts = np.empty((len(now), len(links), 3, 3)), np.empty((len(now), len(links), 3))
        for number, node in enumerate(links):
            keys = {path: track.at(now) for path, track in played.keys.get(node, {}).items()}
            turn, scale = nodes.rotations[node], keys.get("scale", nodes.scales[node][None])
            if "rotation" in keys:
                turn = roma.unitquat_to_rotmat(torch.from_numpy(keys["rotation"])).numpy()
            turns[:, number] = turn * scale[:, None, :]
            shifts[:, number] = keys.get("translation", nodes.translations[node])
        places = pose_joints(torch.from_numpy(turns), torch.from_numpy(shifts), parents)[1].numpy()
        return places[:, [at[joint] for joint in joints]]

    return in_chunks(posed, len(seconds))


@dataclass
class Buffer:
    """The binary block of a file to write, with the views and accessors that say what is where in it."""

    data: bytearray = field(default_factory=bytearray)
    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, array: NDArray[Any], target: int | None = None, bounds: bool = False) -> int:
        """Append (count, components); returns the index of its accessor."""
        raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += padded(raw)
        component, kind = _COMPONENTS[array.dtype.str[1:]], _KINDS[array.shape[1]]
        accessor = {"bufferView": len(self.views) - 1, "componentType": component, "count": len(array), "type": kind}
        if bounds:
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_animation(self, name: str, times: Float32, tracks: Iterable[tuple[int, str, Float32]]) -> dict[str, Any]:
        """Append the keys of an animation; returns its JSON.

        Args:
            name: what it is called.
            times: (T,) seconds of its keys.
            tracks: node, "translation" or "rotation", and (T, 3) translations in its parent's axes or (T, 4) rotations
                as quaternions x, y, z, w.
        """
        keys = self.add(times[:, None], bounds=True)
        samplers: list[dict[str, Any]] = []
        channels: list[dict[str, Any]] = []
        for node, path, values in tracks:
            output = self.add(values)
            channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
            samplers.append({"input": keys, "output": output, "interpolation": "LINEAR"})
        return {"name": name, "samplers": samplers, "channels": channels}


def continuous_quaternions(rotations: torch.Tensor) -> Float32:
    """(T, N, 3, 3) rotations -> (T, N, 4) unit quaternions x, y, z, w, each of the sign nearer to the one before."""
    quaternions: torch.Tensor = roma.quat_normalize(roma.rotmat_to_unitquat(rotations))
    facing = (quaternions[1:] * quaternions[:-1]).sum(-1)
    first = torch.where(quaternions[:1, :, 3] < 0, -1.0, 1.0)
    signs = torch.cat([first, torch.where(facing < 0, -1.0, 1.0)]).cumprod(0)
    found: Float32 = (quaternions * signs[..., None]).numpy().astype(np.float32)
    return found


def padded(data: bytes, fill: bytes = b"\0") -> bytes:
    """The data and what makes its length a multiple of 4."""
    return data + fill * (-len(data) % 4)


def pack(document: dict[str, Any], binary: bytes | bytearray) -> bytes:
    """The bytes of a GLB file of a JSON document and a binary block."""
    text = padded(json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii"), b" ")
    data = padded(bytes(binary))
    size = 12 + 8 + len(text) + 8 + len(data)
    if size >= 2**32:
        raise MotionGPT3Error("a GLB file holds less than 4 GB")
    head = struct.pack("<4sII", b"glTF", 2, size) + struct.pack("<I4s", len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(data), b"BIN\0") + data
