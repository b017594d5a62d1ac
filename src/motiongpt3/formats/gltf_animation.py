"""The animation of a GLB file: its keys, read with care, and where they take the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats.gltf import FLOAT, Gltf, Nodes, objects
from motiongpt3.formats.guards import snap_fps
from motiongpt3.motion.motion import MAX_FRAMES
from motiongpt3.motion.skeleton import Float64

MAX_KEYS = 8_000_000
"""Keys of all nodes together: those of the longest motion have half as many."""
MAX_CHAIN = 128
"""Nodes that a figure's joints hang from, the joints included; characters have 25 to 60."""
_WIDTHS = {"translation": 3, "rotation": 4, "scale": 3}
_KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_CHUNK = 2048
_SPARSE, _USUAL = 10.0, 20.0
"""Keys per second below which they were set by hand, and frames per second that are read from these."""


@dataclass(frozen=True)
class Keys:
    """What one property of a node does.

    Attributes:
        times: (K,) seconds, rising.
        values: (K, 3) translations or scales, or (K, 4) rotations as quaternions x, y, z, w.
        steps: whether a value stays until the next key; otherwise values are interpolated.
    """

    times: Float64
    values: NDArray[np.float32]
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
class Animation:
    """The first animation of a file, as far as it moves certain nodes.

    Attributes:
        name: what it is called; "" if it has no name.
        extras: what its writer added.
        keys: {node: {"translation", "rotation" or "scale": its keys}}.
    """

    name: str
    extras: dict[str, Any]
    keys: dict[int, dict[str, Keys]]

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


def read_animation(gltf: Gltf, moved: set[int], name: str) -> Animation:
    """The first animation, as far as it moves these nodes; `name` is how errors call the file.

    Raises:
        MotionGPT3Error: there is none, it moves nothing of this, or its keys are not plain numbers of the file itself:
            cubic splines, sparse arrays, integers, too many, cut short, not finite, not rising.
    """
    animations = gltf.items("animations")
    if not animations:
        raise MotionGPT3Error(f"{name} has no animation: it is a figure that stands still")
    found = Animation(str(animations[0].get("name", "")), _extras(animations[0]), {})
    samplers = objects(animations[0], "samplers")
    arrays: dict[int, Float64] = {}
    total = 0
    for channel in objects(animations[0], "channels"):
        target, at = channel.get("target"), channel.get("sampler")
        node, path = (target.get("node"), target.get("path")) if isinstance(target, dict) else (None, None)
        if type(node) is not int or node not in moved or not isinstance(path, str) or path not in _WIDTHS:
            continue
        if type(at) is not int or not 0 <= at < len(samplers) or path in found.keys.get(node, {}):
            raise MotionGPT3Error(f"{name} is damaged: a channel of its animation has no keys, or a node has two")
        sampler = samplers[at]
        steps = sampler.get("interpolation", "LINEAR")
        if steps not in ("LINEAR", "STEP"):
            raise MotionGPT3Error(f"{name} has keys of the kind {str(steps)[:20]}: export it with linear, sampled keys")
        key = sampler.get("input")
        if type(key) is int and key not in arrays:
            arrays[key] = _times(gltf, key, name)
        values = _floats(gltf, sampler.get("output"), _WIDTHS[path], name)
        total += len(values)
        if total > MAX_KEYS:
            raise MotionGPT3Error(f"{name} has more than {MAX_KEYS} keys: too many for one motion")
        times = arrays.get(key, np.zeros(0)) if type(key) is int else np.zeros(0)
        if len(times) != len(values):
            raise MotionGPT3Error(f"{name} is damaged: {len(values)} values of its animation have {len(times)} times")
        if path == "rotation" and (values**2).sum(-1).min() < 0.25:
            raise MotionGPT3Error(f"{name} is damaged: its animation has rotations that are none")
        found.keys.setdefault(node, {})[path] = Keys(times, values, steps == "STEP")
    if not found.keys:
        raise MotionGPT3Error(f"{name}: its first animation moves none of the figure's joints")
    return found


def _extras(entry: dict[str, Any]) -> dict[str, Any]:
    extras = entry.get("extras")
    return extras if isinstance(extras, dict) else {}


def _times(gltf: Gltf, accessor: int, name: str) -> Float64:
    times = _floats(gltf, accessor, 1, name)[:, 0].astype(np.float64)
    if not (np.diff(times) > 0).all():
        raise MotionGPT3Error(f"{name} is damaged: the times of its animation do not rise")
    return times


def _floats(gltf: Gltf, accessor: Any, width: int, name: str) -> NDArray[np.float32]:
    """(count, width) numbers of an accessor, as they lie in the file."""
    entry = _entry(gltf, "accessors", accessor, name)
    if "sparse" in entry:
        raise MotionGPT3Error(f"{name} has keys in a sparse array: export it again without")
    if entry.get("componentType") != FLOAT or entry.get("type") != _KINDS[width]:
        raise MotionGPT3Error(f"{name} has keys that are no {_KINDS[width]} of floats: export it again without packing")
    view = _entry(gltf, "bufferViews", entry.get("bufferView"), name)
    if _whole(view, "buffer", name) != 0 or "uri" in _entry(gltf, "buffers", 0, name):
        raise MotionGPT3Error(f"{name} keeps its data in other files: export it as one .glb file")
    count, stride = _whole(entry, "count", name), _whole(view, "byteStride", name) or 4 * width
    if not 1 <= count <= MAX_FRAMES:
        raise MotionGPT3Error(f"{name} has {count} keys; 1 to {MAX_FRAMES} are expected")
    within, start = _whole(entry, "byteOffset", name), _whole(view, "byteOffset", name)
    size = within + stride * (count - 1) + 4 * width
    if stride < 4 * width or size > _whole(view, "byteLength", name) or start + size > len(gltf.binary):
        raise MotionGPT3Error(f"{name} is cut short: its animation lies beyond its data")
    values = np.ndarray((count, width), "<f4", gltf.binary, start + within, (stride, 4))
    if not (np.abs(values) < 1e9).all():
        raise MotionGPT3Error(f"{name} contains NaN or infinite values")
    return values


def _entry(gltf: Gltf, key: str, index: Any, name: str) -> dict[str, Any]:
    items = gltf.items(key)
    if type(index) is not int or not 0 <= index < len(items):
        raise MotionGPT3Error(f"{name} is damaged: its animation asks for {key} that are not there")
    return items[index]


def _whole(entry: dict[str, Any], key: str, name: str) -> int:
    found = entry.get(key, 0)
    if type(found) is not int or not 0 <= found < 2**32:
        raise MotionGPT3Error(f"{name} is damaged: a {key} of its arrays is no whole number")
    return found


def chain(nodes: Nodes, joints: Sequence[int], name: str) -> list[int]:
    """The joints and all that they hang from, parents first; MotionGPT3Error if there are more than `MAX_CHAIN`."""
    needed: set[int] = set()
    for joint in joints:
        while joint >= 0 and joint not in needed:
            needed.add(joint)
            joint = nodes.parents[joint]
    if len(needed) > MAX_CHAIN:
        raise MotionGPT3Error(f"{name}: its joints hang from {len(needed)} nodes; {MAX_CHAIN} at most are expected")
    return [node for node in nodes.order if node in needed]


def places(
    nodes: Nodes, links: Sequence[int], animation: Animation, joints: Sequence[int], seconds: Float64
) -> Float64:
    """(T, J, 3) where joints are at (T,) seconds; `links` is their `chain`."""
    parts = []
    for start in range(0, len(seconds), _CHUNK):
        now = seconds[start : start + _CHUNK]
        turned, at = {-1: np.eye(3)[None]}, {-1: np.zeros((1, 3))}
        for node in links:
            moved, parent = animation.keys.get(node, {}), nodes.parents[node]
            rotation, scale, shift = nodes.rotations[node][None], nodes.scales[node][None], nodes.translations[node]
            if "rotation" in moved:
                rotation = roma.unitquat_to_rotmat(torch.from_numpy(moved["rotation"].at(now))).numpy()
            if "scale" in moved:
                scale = moved["scale"].at(now)
            shift = moved["translation"].at(now) if "translation" in moved else shift[None]
            at[node] = at[parent] + (turned[parent] @ shift[..., None])[..., 0]
            turned[node] = turned[parent] @ (rotation * scale[:, None, :])
        parts.append(np.stack([np.broadcast_to(at[joint], (len(now), 3)) for joint in joints], axis=1))
    return np.concatenate(parts)
