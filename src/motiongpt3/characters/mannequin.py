"""A mannequin: the rig of the files for other programs, and the skin around its rest pose.

Every part of the skin is a tube of rings along one axis of the T-pose, closed at both ends. Its sections are drawn once
(`mannequin.yaml`), for a person with HumanML3D's bones, and moved with the joints of the person at hand. A ring belongs
to the bone it lies at, and smoothly to two of them near a joint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.characters.bone_names import OWN_HELPERS, OWN_NAMES, shipped_table
from motiongpt3.motion.kinematics import Fitted, pose_joints
from motiongpt3.motion.signals import smoothstep
from motiongpt3.motion.skeleton import HUMANML3D, Float32, Float64


@dataclass(frozen=True)
class RigNode:
    """A joint of the rig that our files have.

    Attributes:
        name: Mixamo's, or CMU's for a helper.
        parent: index in `NODES`, -1 for the root.
        joint: which of the 22 joints it lies at.
        turns: which of the 22 bones its rotation is; -1 for none.
        is_helper: whether it lies where its parent does.
    """

    name: str
    parent: int
    joint: int
    turns: int
    is_helper: bool = False


def _rig() -> tuple[RigNode, ...]:
    found: list[RigNode] = []

    def add(joint: int, parent: int) -> None:
        """The joint and all below it. A joint with one child turns that child's bone; at a branch helpers do."""
        children = [child for child, above in enumerate(HUMANML3D.parents) if above == joint]
        branches = len(children) > 1
        turns = 0 if joint == 0 else -1 if branches or not children else children[0]
        own = len(found)
        found.append(RigNode(OWN_NAMES[HUMANML3D.names[joint]], parent, joint, turns))
        for child in children:
            if branches:
                found.append(RigNode(OWN_HELPERS[HUMANML3D.names[child]], own, joint, child, is_helper=True))
            add(child, len(found) - 1 if branches else own)

    add(0, -1)
    return tuple(found)


NODES = _rig()
"""The rig of our BVH and GLB files, parents first. Where several bones start at one joint, helpers without length turn
each on its own, because hips and spine are not rigid with one another in real data."""


def rig_offsets(fitted: Fitted) -> Float64:
    """(N, 3) metres from each node's parent to it in the T-pose; zero for the root and helpers."""
    return np.stack([0 * fitted.rest[node.joint] if node.is_helper else fitted.rest[node.joint] for node in NODES])


def rig_rotations(fitted: Fitted, frames: slice = slice(None)) -> torch.Tensor:
    """(T, N, 3, 3) rotation of each node relative to its parent; all are identities in the T-pose."""
    bones = fitted.rotations[frames]
    still = torch.eye(3, dtype=bones.dtype).expand(len(bones), 3, 3)
    return torch.stack([still if node.turns < 0 else bones[:, node.turns] for node in NODES], dim=1)


def rig_pose(fitted: Fitted, frames: slice = slice(None)) -> tuple[Float64, Float64]:
    """(T, N, 3, 3) turns since the T-pose and (T, N, 3) places in metres of the nodes in some frames."""
    offsets = np.repeat(rig_offsets(fitted)[None], len(fitted.root[frames]), axis=0)
    offsets[:, 0] = fitted.root[frames]
    turns, places = pose_joints(
        rig_rotations(fitted, frames), torch.from_numpy(offsets), [node.parent for node in NODES]
    )
    return turns.numpy(), places.numpy()


@dataclass(frozen=True)
class Mesh:
    """A skinned surface in the rest pose.

    Attributes:
        positions: (V, 3) metres.
        normals: (V, 3) of length 1, outwards.
        nodes: (V, 4) indices of `NODES`; 0 where the weight is 0.
        weights: (V, 4) that add up to 1.
        triangles: (F, 3) indices of vertices, counter-clockwise seen from outside.
    """

    positions: Float32
    normals: Float32
    nodes: NDArray[np.uint8]
    weights: Float32
    triangles: NDArray[np.uint32]

    def node_weights(self) -> Float32:
        """(V, N) how much each node of `NODES` moves each vertex."""
        found = np.zeros((len(self.positions), len(NODES)), dtype=np.float32)
        for slot in range(self.nodes.shape[1]):
            np.add.at(found, (np.arange(len(found)), self.nodes[:, slot]), self.weights[:, slot])
        return found


@dataclass(frozen=True)
class _Part:
    """One tube, for the left or the middle of the body; `mannequin.yaml` says what is what."""

    anchors: list[str]
    at: list[float]
    nodes: list[str]
    bends: list[tuple[float, float]]
    along: tuple[float, float, float]
    across: tuple[float, float, float]
    front: tuple[float, float, float]
    segments: int
    roundness: float
    sections: list[list[float]]


@cache
def _parts() -> tuple[list[_Part], list[_Part]]:
    """Those of the middle, torso first, and those of the left side."""
    table = shipped_table("mannequin.yaml")
    return [_Part(**part) for part in table["middle"]], [_Part(**part) for part in table["side"]]


def rest_places(rest: Float64) -> Float64:
    """(22, 3) offsets of the T-pose -> (22, 3) positions of the joints with the lower foot on the floor, hips above
    the origin."""
    places = np.zeros((len(HUMANML3D), 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        places[joint] = places[parent] + rest[joint]
    places[:, 1] -= places[:, 1].min()
    return places


_SMALLEST = 1e-3
"""Scale of the smallest body, so that even one whose joints lie in one place has a surface."""


def mannequin(places: Float64) -> Mesh:
    """The skinned mannequin around the joints of a T-pose: (22, 3) metres as `rest_places` makes them."""
    bones = np.linalg.norm(places[1:] - places[list(HUMANML3D.parents[1:])], axis=-1)
    scale = max(float(bones.sum()) / float(HUMANML3D.bone_lengths.sum()), _SMALLEST)
    middle, side = _parts()
    tubes = [_tube(part, places, scale, mirrored=False) for part in middle]
    _hand_to_shoulders(*tubes[0][:2], places, scale)
    tubes += [_tube(part, places, scale, mirrored) for part in side for mirrored in (False, True)]
    starts = np.cumsum([0, *(len(points) for points, _, _ in tubes)])
    positions = np.concatenate([points for points, _, _ in tubes])
    triangles = np.concatenate([faces + start for (_, _, faces), start in zip(tubes, starts, strict=False)])
    weights = np.concatenate([shares for _, shares, _ in tubes])
    chosen = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    shares = np.take_along_axis(weights, chosen, axis=1)
    shares = (shares / shares.sum(-1, keepdims=True)).astype(np.float32)
    return Mesh(
        positions=positions.astype(np.float32),
        normals=_normals(positions, triangles),
        nodes=np.where(shares > 0, chosen, 0).astype(np.uint8),
        weights=shares,
        triangles=triangles.astype(np.uint32),
    )


def _tube(part: _Part, places: Float64, scale: float, mirrored: bool) -> tuple[Float64, Float64, NDArray[np.int64]]:
    """Points (V, 3), weights (V, nodes) and triangles (F, 3) of one part; mirrored is the person's right."""
    mirror = np.array([-1.0 if mirrored else 1.0, 1.0, 1.0])
    along, across, front = (np.array(axis) * mirror for axis in (part.along, part.across, part.front))
    anchors = np.stack([_anchor(name, places, mirrored) for name in part.anchors])
    rows = _refined(np.array(part.sections))
    s, at = rows[:, 0], np.array(part.at)
    beyond = np.minimum(s - at[0], 0) + np.maximum(s - at[-1], 0)
    centres = np.stack([np.interp(s, at, anchors[:, axis]) for axis in range(3)], axis=-1)
    centres += scale * (beyond[:, None] * along + rows[:, 3:4] * across + rows[:, 4:5] * front)

    angle = np.arange(part.segments) * (2 * np.pi / part.segments)
    power = 2 / part.roundness
    cosine, sine = (np.sign(wave) * abs(wave) ** power for wave in (np.cos(angle), np.sin(angle)))
    wide, deep = (scale * rows[1:-1, column, None] for column in (1, 2))
    rings = centres[1:-1, None] + (wide * cosine)[..., None] * across + (deep * sine)[..., None] * front
    points = np.concatenate([centres[:1], rings.reshape(-1, 3), centres[-1:]])

    weights = np.zeros((len(rows), len(NODES)))
    weights[:, [_node(name, mirrored) for name in part.nodes]] = _shares(s, part.bends)
    per_point = np.concatenate([weights[:1], weights[1:-1].repeat(part.segments, axis=0), weights[-1:]])
    faces = _faces(len(rows) - 2, part.segments)
    return points, per_point, faces if np.dot(np.cross(across, front), along) > 0 else faces[:, ::-1]


def _hand_to_shoulders(points: Float64, weights: Float64, places: Float64, scale: float) -> None:
    """Let the upper corners of the torso go with the shoulders: changes `weights` (V, nodes)."""
    for side, mirrored in (("l_shoulder", False), ("r_shoulder", True)):
        x, y, _ = places[HUMANML3D.index(side)]
        outwards = _step(points[:, 0] * np.sign(x) / scale, 0.02, 0.20)
        share = outwards * _step(-abs(points[:, 1] - y) / scale, -0.20, 0.0)
        weights *= 1 - share[:, None]
        weights[:, _node("LeftShoulder", mirrored)] += share


def _step(values: Float64, start: float, end: float) -> Float64:
    """A smooth step from 0 at `start` to 1 at `end`."""
    return np.asarray(smoothstep((values - start) / (end - start)))


def _anchor(name: str, places: Float64, mirrored: bool) -> Float64:
    """Where a joint of the part lies; `l_sole` is on the floor below the ankle."""
    side = "r_" + name[2:] if mirrored and name.startswith("l_") else name
    if not side.endswith("_sole"):
        return places[HUMANML3D.index(side)]
    ankle, foot = (places[HUMANML3D.index(side[:2] + joint)] for joint in ("ankle", "foot"))
    return np.array([ankle[0], foot[1], ankle[2]])


def _node(name: str, mirrored: bool) -> int:
    """Index of a node of the middle or the left side, or of the one on the other side."""
    other = "Right" + name[4:] if name.startswith("Left") else "R" + name[1:]
    return next(i for i, node in enumerate(NODES) if node.name == (other if mirrored else name))


def _refined(rows: Float64) -> Float64:
    """The sections with one more between each two, on a Catmull-Rom spline; widths stay positive."""
    before, after = np.vstack([rows[:1], rows[:-2]]), np.vstack([rows[2:], rows[-1:]])
    middle = (-before + 9 * rows[:-1] + 9 * rows[1:] - after) / 16
    middle[:, 1:3] = np.maximum(middle[:, 1:3], np.minimum(rows[:-1], rows[1:])[:, 1:3] + 1e-4)
    woven = np.empty((2 * len(rows) - 1, rows.shape[1]))
    woven[::2], woven[1::2] = rows, middle
    return woven


def _shares(s: Float64, bends: list[tuple[float, float]]) -> Float64:
    """(R, K) weights of the K nodes at places along a tube, handed over with a smooth step at each bend."""
    steps = [np.ones_like(s)]
    for place, half in bends:
        steps.append(np.minimum(steps[-1], _step(s, place - half, place + half)))
    steps.append(np.zeros_like(s))
    return -np.diff(np.stack(steps, axis=1), axis=1)


@cache
def _faces(rings: int, segments: int) -> NDArray[np.int64]:
    """Triangles of a closed tube whose vertices are a pole, the rings, and a pole."""
    ring = 1 + np.arange(rings * segments).reshape(rings, segments)
    following = np.roll(ring, -1, axis=1)
    last = rings * segments + 1
    a, b, c, d = ring[:-1], following[:-1], following[1:], ring[1:]
    sides = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    start = np.stack([np.zeros_like(ring[0]), following[0], ring[0]], axis=-1)
    end = np.stack([np.full_like(ring[-1], last), ring[-1], following[-1]], axis=-1)
    return np.concatenate([start, sides, end])


def _normals(positions: Float64, triangles: NDArray[np.int64]) -> Float32:
    """(V, 3) normals: the mean of the faces around a vertex, weighted by area; upwards where these have none."""
    a, b, c = (positions[triangles[:, corner]] for corner in range(3))
    faces = np.cross(b - a, c - a)
    total = np.zeros_like(positions)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], faces)
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    return np.where(length > 1e-18, total / np.maximum(length, 1e-18), [0.0, 1.0, 0.0]).astype(np.float32)
