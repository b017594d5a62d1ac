"""A mannequin: the skin of the files for other programs, lofted around the rig's rest pose.

Every part is a tube of rings along one axis of the T-pose, closed at both ends. Its sections are drawn once, for a
person with HumanML3D's bones, and moved with the joints of the person at hand. A ring belongs to the bone it lies at,
and smoothly to two of them near a joint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.characters.bone_names import OWN_HELPERS, OWN_NAMES
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


_SMALLEST = 1e-3
"""Scale of the smallest body, so that even one whose joints lie in one place has a surface."""


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
    """One tube, for the left or the middle of the body.

    Attributes:
        anchors: the joints it runs along; l_ is the side's.
        at: where these are along the tube, for HumanML3D's bones; sections are placed relative to them.
        nodes: the nodes that move it: the first before the first joint of `bends`, the next after it ...
        bends: where along the tube one node hands over to the next, and half the length of the passage.
        along: direction of the tube in the T-pose.
        across: direction of the sections' first half width.
        front: direction of the second.
        sections: rows (along, half width across, half width front, shift across, shift front) in metres.
        segments: vertices of a ring.
        roundness: exponent of the superellipse; 2 is an ellipse, more is boxier.
    """

    anchors: tuple[str, ...]
    at: tuple[float, ...]
    nodes: tuple[str, ...]
    bends: tuple[tuple[float, float], ...]
    along: tuple[float, float, float]
    across: tuple[float, float, float]
    front: tuple[float, float, float]
    sections: tuple[tuple[float, float, float, float, float], ...]
    segments: int = 16
    roundness: float = 2.0


_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

_TORSO = _Part(
    anchors=("pelvis", "spine1", "spine2", "spine3", "neck", "head"),
    at=(0.0, 0.132, 0.275, 0.332, 0.552, 0.655),
    nodes=("Hips", "LowerBack", "Spine", "Spine1", "LowerNeck", "Neck"),
    bends=((0.04, 0.05), (0.132, 0.06), (0.275, 0.06), (0.332, 0.06), (0.552, 0.04)),
    along=_Y, across=_X, front=_Z, segments=32, roundness=2.3,
    sections=(
        (-0.115, 0, 0, 0, -0.012), (-0.105, 0.060, 0.050, 0, -0.012), (-0.080, 0.106, 0.074, 0, -0.012),
        (-0.040, 0.142, 0.095, 0, -0.011), (0.005, 0.159, 0.106, 0, -0.010), (0.050, 0.156, 0.103, 0, -0.007),
        (0.105, 0.141, 0.095, 0, -0.002), (0.165, 0.132, 0.092, 0, 0.002), (0.225, 0.138, 0.098, 0, 0.004),
        (0.290, 0.151, 0.107, 0, 0.005), (0.350, 0.168, 0.112, 0, 0.002), (0.400, 0.184, 0.109, 0, -0.006),
        (0.440, 0.190, 0.099, 0, -0.014), (0.470, 0.180, 0.084, 0, -0.022), (0.495, 0.154, 0.068, 0, -0.028),
        (0.520, 0.112, 0.061, 0, -0.028), (0.545, 0.078, 0.057, 0, -0.023), (0.575, 0.061, 0.056, 0, -0.018),
        (0.610, 0.056, 0.055, 0, -0.014), (0.640, 0.054, 0.054, 0, -0.013), (0.672, 0.046, 0.046, 0, -0.012),
        (0.690, 0, 0, 0, -0.012),
    ),
)  # fmt: skip
_HEAD = _Part(
    anchors=("head",), at=(0.0,), nodes=("Head",), bends=(), along=_Y, across=_X, front=_Z, segments=24,
    roundness=2.15,
    sections=(
        (-0.074, 0, 0, 0, 0.046), (-0.071, 0.024, 0.024, 0, 0.045), (-0.056, 0.043, 0.046, 0, 0.037),
        (-0.030, 0.059, 0.069, 0, 0.024), (0.000, 0.069, 0.085, 0, 0.014), (0.037, 0.077, 0.097, 0, 0.005),
        (0.075, 0.081, 0.103, 0, 0.000), (0.112, 0.077, 0.098, 0, -0.002), (0.140, 0.064, 0.081, 0, -0.003),
        (0.159, 0.043, 0.055, 0, -0.004), (0.168, 0.022, 0.028, 0, -0.004), (0.171, 0, 0, 0, -0.004),
    ),
)  # fmt: skip
_NOSE = _Part(
    anchors=("head",), at=(0.0,), nodes=("Head",), bends=(), along=_Y, across=_X, front=_Z, segments=10,
    sections=(
        (0.004, 0, 0, 0, 0.094), (0.008, 0.012, 0.015, 0, 0.098), (0.019, 0.013, 0.018, 0, 0.098),
        (0.040, 0.009, 0.014, 0, 0.095), (0.064, 0, 0, 0, 0.090),
    ),
)  # fmt: skip
_ARM = _Part(
    anchors=("l_collar", "l_shoulder", "l_elbow", "l_wrist"),
    at=(-0.128, 0.0, 0.260, 0.528),
    nodes=("LCollarJoint", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand"),
    bends=((-0.120, 0.04), (0.0, 0.08), (0.260, 0.045), (0.528, 0.03)),
    along=_X, across=_Y, front=_Z, roundness=2.1,
    sections=(
        (-0.125, 0, 0, -0.020, -0.012), (-0.117, 0.018, 0.020, -0.020, -0.012),
        (-0.095, 0.034, 0.037, -0.020, -0.010), (-0.065, 0.045, 0.048, -0.017, -0.006),
        (-0.030, 0.054, 0.057, -0.012, -0.002), (0.010, 0.059, 0.061, -0.007, 0), (0.045, 0.057, 0.060, -0.003, 0),
        (0.085, 0.053, 0.055, 0, 0), (0.135, 0.048, 0.050, 0, 0),
        (0.190, 0.044, 0.045, 0, 0), (0.235, 0.041, 0.042, 0, 0), (0.260, 0.040, 0.041, 0, 0),
        (0.285, 0.040, 0.042, 0, 0), (0.330, 0.040, 0.043, 0, 0), (0.390, 0.036, 0.039, 0, 0),
        (0.450, 0.030, 0.033, 0, 0), (0.500, 0.025, 0.029, 0, 0), (0.528, 0.024, 0.029, 0, 0),
        (0.550, 0.023, 0.034, 0, 0.001), (0.580, 0.022, 0.041, 0, 0.002), (0.615, 0.020, 0.043, 0, 0.001),
        (0.650, 0.017, 0.041, 0, 0), (0.685, 0.014, 0.036, -0.002, -0.001), (0.710, 0.011, 0.027, -0.003, -0.002),
        (0.722, 0.007, 0.015, -0.004, -0.002), (0.726, 0, 0, -0.004, -0.002),
    ),
)  # fmt: skip
_THUMB = _Part(
    anchors=("l_wrist",), at=(0.0,), nodes=("LeftHand",), bends=(), segments=10,
    along=(0.75, -0.2, 0.63), across=(0.64, 0.0, -0.76), front=(0.15, 0.97, 0.13),
    sections=(
        (0.015, 0, 0, 0, 0), (0.020, 0.010, 0.009, 0, 0), (0.040, 0.016, 0.013, 0, 0), (0.065, 0.013, 0.012, 0, 0),
        (0.090, 0.011, 0.010, 0, 0), (0.104, 0.007, 0.006, 0, 0), (0.108, 0, 0, 0, 0),
    ),
)  # fmt: skip
_LEG = _Part(
    anchors=("l_hip", "l_knee", "l_ankle"),
    at=(0.0, 0.392, 0.821),
    nodes=("LHipJoint", "LeftUpLeg", "LeftLeg", "LeftFoot"),
    bends=((0.0, 0.085), (0.392, 0.06), (0.821, 0.035)),
    along=(0.0, -1.0, 0.0), across=_X, front=_Z, segments=20, roundness=2.05,
    sections=(
        (-0.100, 0, 0, -0.014, -0.012), (-0.090, 0.036, 0.045, -0.014, -0.012),
        (-0.060, 0.066, 0.083, -0.010, -0.011), (-0.015, 0.081, 0.101, -0.004, -0.010),
        (0.035, 0.085, 0.102, 0.000, -0.008), (0.085, 0.083, 0.096, 0.001, -0.004), (0.140, 0.078, 0.088, 0.001, 0),
        (0.200, 0.073, 0.080, 0, 0.004), (0.280, 0.064, 0.069, 0, 0.004), (0.345, 0.057, 0.061, 0, 0.003),
        (0.392, 0.053, 0.058, 0, 0.003), (0.435, 0.051, 0.056, 0, -0.004), (0.490, 0.053, 0.060, 0, -0.012),
        (0.550, 0.051, 0.058, 0, -0.013), (0.630, 0.043, 0.048, 0, -0.009), (0.710, 0.036, 0.039, 0, -0.006),
        (0.775, 0.033, 0.036, 0, -0.006), (0.812, 0.032, 0.036, 0, -0.003), (0.828, 0.025, 0.030, 0, 0),
        (0.834, 0, 0, 0, 0.002),
    ),
)  # fmt: skip
_FOOT_SECTIONS = (
    (-0.066, 0, 0.034), (-0.062, 0.017, 0.050), (-0.048, 0.032, 0.072), (-0.022, 0.039, 0.096), (0.010, 0.041, 0.104),
    (0.040, 0.042, 0.092), (0.070, 0.044, 0.072), (0.105, 0.049, 0.054), (0.140, 0.049, 0.044), (0.168, 0.042, 0.037),
    (0.186, 0.029, 0.030), (0.195, 0.014, 0.022), (0.198, 0, 0.012),
)  # fmt: skip
"""Rows (along, half width, height of the back of the foot above the sole)."""
_FOOT = _Part(
    anchors=("l_sole", "l_foot"), at=(0.0, 0.114), nodes=("LeftFoot", "LeftToeBase"), bends=((0.114, 0.03),),
    along=_Z, across=_X, front=_Y, segments=20, roundness=2.5,
    sections=tuple((z, w, h / 2 if w else 0.0, -0.004 if z > 0.1 else 0.0, h / 2) for z, w, h in _FOOT_SECTIONS),
)  # fmt: skip

_MIDDLE = (_TORSO, _HEAD, _NOSE)
_SIDE = (_ARM, _THUMB, _LEG, _FOOT)


def rest_places(rest: Float64) -> Float64:
    """(22, 3) offsets of the T-pose -> (22, 3) positions of the joints with the lower foot on the floor, hips above
    the origin."""
    places = np.zeros((len(HUMANML3D), 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        places[joint] = places[parent] + rest[joint]
    places[:, 1] -= places[:, 1].min()
    return places


def mannequin(places: Float64) -> Mesh:
    """The skinned mannequin around the joints of a T-pose: (22, 3) metres as `rest_places` makes them."""
    canonical = float(HUMANML3D.bone_lengths.sum())
    lengths = places[1:] - places[list(HUMANML3D.parents[1:])]
    scale = max(float(np.linalg.norm(lengths, axis=-1).sum()) / canonical, _SMALLEST)
    index = {node.name: i for i, node in enumerate(NODES)}
    tubes = [_tube(part, places, scale, index, mirrored=False) for part in _MIDDLE]
    _hand_to_shoulders(*tubes[0][:2], places, scale, index)
    tubes += [_tube(part, places, scale, index, mirrored) for part in _SIDE for mirrored in (False, True)]
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


def _tube(
    part: _Part, places: Float64, scale: float, index: dict[str, int], mirrored: bool
) -> tuple[Float64, Float64, NDArray[np.int64]]:
    """Points (V, 3), weights (V, nodes) and triangles (F, 3) of one part; mirrored is the person's right."""
    mirror = np.array([-1.0 if mirrored else 1.0, 1.0, 1.0])
    along, across, front = (np.array(axis) * mirror for axis in (part.along, part.across, part.front))
    anchors = np.stack([_anchor(name, places, mirrored) for name in part.anchors])
    rows = _refined(part.sections)
    s, at = rows[:, 0], np.array(part.at)
    beyond = np.minimum(s - at[0], 0) + np.maximum(s - at[-1], 0)
    centres = np.stack([np.interp(s, at, anchors[:, axis]) for axis in range(3)], axis=-1)
    centres += scale * (beyond[:, None] * along + rows[:, 3:4] * across + rows[:, 4:5] * front)

    angle = np.arange(part.segments) * (2 * np.pi / part.segments)
    power = 2 / part.roundness
    cosine, sine = (np.sign(wave) * abs(wave) ** power for wave in (np.cos(angle), np.sin(angle)))
    widths = scale * rows[1:-1, 1:3]
    rings = (
        centres[1:-1, None] + (widths[:, :1] * cosine)[..., None] * across + (widths[:, 1:] * sine)[..., None] * front
    )
    points = np.concatenate([centres[:1], rings.reshape(-1, 3), centres[-1:]])

    names = [_other_side(name) if mirrored else name for name in part.nodes]
    weights = np.zeros((len(rows), len(index)))
    weights[:, [index[name] for name in names]] = _shares(s, part.bends)
    per_point = np.concatenate([weights[:1], weights[1:-1].repeat(part.segments, axis=0), weights[-1:]])
    faces = _faces(len(rows) - 2, part.segments)
    return points, per_point, faces if np.dot(np.cross(across, front), along) > 0 else faces[:, ::-1]


def _hand_to_shoulders(points: Float64, weights: Float64, places: Float64, scale: float, index: dict[str, int]) -> None:
    """Let the upper corners of the torso go with the shoulders: changes `weights` (V, nodes)."""
    for side, node in (("l_shoulder", "LeftShoulder"), ("r_shoulder", "RightShoulder")):
        x, y, _ = places[HUMANML3D.index(side)]
        outwards = _step(points[:, 0] * np.sign(x) / scale, 0.02, 0.20)
        share = outwards * _step(-abs(points[:, 1] - y) / scale, -0.20, 0.0)
        weights *= 1 - share[:, None]
        weights[:, index[node]] += share


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


def _other_side(name: str) -> str:
    if name.startswith("Left"):
        return "Right" + name[4:]
    return "R" + name[1:]


def _refined(sections: tuple[tuple[float, ...], ...]) -> Float64:
    """The rows with one more between each two, on a Catmull-Rom spline; widths stay positive."""
    rows = np.array(sections)
    before, after = np.vstack([rows[:1], rows[:-2]]), np.vstack([rows[2:], rows[-1:]])
    middle = (-before + 9 * rows[:-1] + 9 * rows[1:] - after) / 16
    middle[:, 1:3] = np.maximum(middle[:, 1:3], np.minimum(rows[:-1], rows[1:])[:, 1:3] + 1e-4)
    woven = np.empty((2 * len(rows) - 1, rows.shape[1]))
    woven[::2], woven[1::2] = rows, middle
    return woven


def _shares(s: Float64, bends: tuple[tuple[float, float], ...]) -> Float64:
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


def _normals(positions: Float64, triangles: NDArray[np.int64]) -> NDArray[np.float32]:
    """(V, 3) normals: the mean of the faces around a vertex, weighted by area; upwards where these have none."""
    a, b, c = (positions[triangles[:, corner]] for corner in range(3))
    faces = np.cross(b - a, c - a)
    total = np.zeros_like(positions)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], faces)
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    upwards = np.broadcast_to(np.array(_Y), total.shape)
    return np.where(length > 1e-18, total / np.maximum(length, 1e-18), upwards).astype(np.float32)
