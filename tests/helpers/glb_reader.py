"""A small reader of GLB files for the tests, written from the specification alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

_TYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COUNTS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass
class Glb:
    """A parsed file: the JSON and the binary block."""

    json: dict[str, Any]
    binary: bytes

    def array(self, accessor: int) -> np.ndarray:
        """(count, components) values of an accessor."""
        entry = self.json["accessors"][accessor]
        view = self.json["bufferViews"][entry["bufferView"]]
        count = entry["count"] * _COUNTS[entry["type"]]
        kind = np.dtype(_TYPES[entry["componentType"]])
        assert view["byteOffset"] % 4 == 0
        assert count * kind.itemsize == view["byteLength"]
        return np.frombuffer(self.binary, kind, count, view["byteOffset"]).reshape(entry["count"], -1)

    @property
    def parents(self) -> list[int]:
        """Index of every node's parent, -1 for those of the scene."""
        found = [-1] * len(self.json["nodes"])
        for number, node in enumerate(self.json["nodes"]):
            for child in node.get("children", ()):
                found[child] = number
        return found

    @property
    def times(self) -> np.ndarray:
        """(T,) seconds of the keys, which all samplers share."""
        inputs = {sampler["input"] for sampler in self.json["animations"][0]["samplers"]}
        assert len(inputs) == 1
        return self.array(inputs.pop())[:, 0]

    def tracks(self, path: str) -> dict[int, np.ndarray]:
        """{node: (T, components)} of the channels for this path."""
        animation = self.json["animations"][0]
        return {
            channel["target"]["node"]: self.array(animation["samplers"][channel["sampler"]]["output"])
            for channel in animation["channels"]
            if channel["target"]["path"] == path
        }

    def worlds(self, seconds: np.ndarray | None) -> np.ndarray:
        """(S, N, 4, 4) global matrices of all nodes at these times, or (1, N, 4, 4) in the rest pose."""
        nodes = self.json["nodes"]
        moved, turned = (self.tracks(path) if seconds is not None else {} for path in ("translation", "rotation"))
        size = 1 if seconds is None else len(seconds)
        found = np.tile(np.eye(4), (size, len(nodes), 1, 1))
        for number, node in enumerate(nodes):
            place = np.tile(np.array(node.get("translation", (0, 0, 0)), float), (size, 1))
            turn = np.tile(np.array(node.get("rotation", (0, 0, 0, 1)), float), (size, 1))
            if seconds is not None and number in moved:
                place = _linear(self.times, moved[number].astype(float), seconds)
            if seconds is not None and number in turned:
                turn = _slerp(self.times, turned[number].astype(float), seconds)
            found[:, number, :3, :3] = _matrix(turn) * np.array(node.get("scale", (1, 1, 1)), float)
            found[:, number, :3, 3] = place
        parents = self.parents

        def place_children(number: int) -> None:
            for child in nodes[number].get("children", ()):
                found[:, child] = found[:, number] @ found[:, child]
                place_children(child)

        for number, parent in enumerate(parents):
            if parent < 0:
                place_children(number)
        return found

    def skinned(self, worlds: np.ndarray) -> np.ndarray:
        """(S, V, 3) vertices of the mesh as the specification's skinning moves them."""
        skin = self.json["skins"][0]
        attributes = self.json["meshes"][0]["primitives"][0]["attributes"]
        bind = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1).astype(float)
        matrices = worlds[:, skin["joints"]] @ bind
        positions = self.array(attributes["POSITION"]).astype(float)
        homogeneous = np.concatenate([positions, np.ones((len(positions), 1))], axis=1)
        joints, weights = self.array(attributes["JOINTS_0"]), self.array(attributes["WEIGHTS_0"]).astype(float)
        moved = np.einsum("svkij,vj->svki", matrices[:, joints], homogeneous)
        return np.einsum("vk,svki->svi", weights, moved)[..., :3]

    @property
    def triangles(self) -> np.ndarray:
        """(F, 3) vertex indices."""
        return self.array(self.json["meshes"][0]["primitives"][0]["indices"]).reshape(-1, 3).astype(int)


def parse(data: bytes) -> Glb:
    """Read the header and the two chunks, checking what the specification says of them."""
    magic, version, size = struct.unpack_from("<4sII", data)
    assert (magic, version, size) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert length % 4 == 0
    text = data[20 : 20 + length]
    second, kind = struct.unpack_from("<I4s", data, 20 + length)
    assert kind == b"BIN\0"
    assert 28 + length + second == len(data)
    return Glb(json.loads(text), data[28 + length :])


def _linear(times: np.ndarray, values: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(seconds, times, column) for column in values.T], axis=-1)


def _slerp(times: np.ndarray, values: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    high = np.clip(np.searchsorted(times, seconds), 1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.tile(values, (len(seconds), 1))
    a, b = values[high - 1], values[high]
    part = np.clip((seconds - times[high - 1]) / (times[high] - times[high - 1]), 0, 1)[:, None]
    angle = np.arccos(np.clip((a * b).sum(-1, keepdims=True), -1, 1))
    sine = np.where(np.sin(angle) < 1e-6, 1, np.sin(angle))
    near = np.sin(angle) < 1e-6
    mixed = np.where(
        near, a * (1 - part) + b * part, (np.sin((1 - part) * angle) * a + np.sin(part * angle) * b) / sine
    )
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def _matrix(q: np.ndarray) -> np.ndarray:
    x, y, z, w = q.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
