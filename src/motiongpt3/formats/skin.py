"""The mannequin of our GLB files as it is drawn: its surface in each frame, and triangles as pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motiongpt3.formats.camera import Camera
from motiongpt3.formats.figure import HEAD, LEFT, MIDDLE, RIGHT
from motiongpt3.formats.mannequin import mannequin, rest_places
from motiongpt3.formats.rig import NODES
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import Float32
from motiongpt3.motion.tpose import Fitted, fit

FINE = 2
"""Samples of a pixel across and down."""


class Skin:
    """The mannequin that plays a motion of HumanML3D's skeleton.

    Attributes:
        triangles: (F, 3) vertices.
        colours: (V, 3) red, green, blue, 0 to 255: left limbs blue, right ones orange, as of the capsules.
    """

    def __init__(self, motion: Motion) -> None:
        self._fitted = fit(motion)
        places = rest_places(self._fitted.rest)
        mesh = mannequin(places)
        self.triangles = mesh.triangles.astype(np.int64)
        self._weights = np.zeros((len(mesh.positions), len(NODES)), dtype=np.float32)
        for slot in range(4):
            np.add.at(self._weights, (np.arange(len(mesh.nodes)), mesh.nodes[:, slot]), mesh.weights[:, slot])
        at = places[[node.joint for node in NODES]]
        self._from = (mesh.positions[:, None] - at.astype(np.float32)[None], mesh.normals)
        self.colours = self._weights @ np.array([_colour(node.name) for node in NODES], dtype=np.float32)

    def surface(self, frame: int) -> tuple[Float32, Float32]:
        """(V, 3) places of the vertices in metres and (V, 3) normals in one frame."""
        turns, places = (one[0] for one in worlds(self._fitted, slice(frame, frame + 1)))
        away, normals = self._from
        moved = self._weights @ places.astype(np.float32)
        turned = np.zeros_like(moved)
        for i, turn in enumerate(turns.astype(np.float32)):
            some = np.flatnonzero(self._weights[:, i])
            share = self._weights[some, i, None]
            moved[some] += share * (away[some, i] @ turn.T)
            turned[some] += share * (normals[some] @ turn.T)
        return moved, turned


def worlds(fitted: Fitted, frames: slice = slice(None)) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(T, N, 3, 3) turns since the T-pose and (T, N, 3) places in metres of the rig's nodes in some frames."""
    local, root = fitted.rotations[frames].numpy(), fitted.root[frames]
    turns = np.empty((len(root), len(NODES), 3, 3))
    places = np.empty((len(root), len(NODES), 3))
    for i, node in enumerate(NODES):
        own = local[:, node.turns] if node.turns >= 0 else np.eye(3)
        if node.parent < 0:
            turns[:, i], places[:, i] = own, root
            continue
        offset = np.zeros(3) if node.is_helper else fitted.rest[node.joint]
        turns[:, i] = turns[:, node.parent] @ own
        places[:, i] = places[:, node.parent] + turns[:, node.parent] @ offset
    return turns, places


def _colour(node: str) -> tuple[int, int, int]:
    if node in ("Head",):
        return HEAD
    limb = ("Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")
    if node.startswith("Left") and node[4:] in limb:
        return LEFT
    return RIGHT if node.startswith("Right") and node[5:] in limb else MIDDLE


def fragments(
    camera: Camera, vertices: Float32, triangles: NDArray[np.int64], box: tuple[int, int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Float32, Float32]:
    """What is seen of a surface in a box (left, top, right, bottom) of pixels, `FINE` samples across and down each.

    Returns:
        of the S samples that show it: which one of the box, row by row; which triangle; (S, 3) shares of the triangle's
        vertices; (S,) depth in metres.
    """
    left, top, right, bottom = box
    wide, high = (right - left) * FINE, (bottom - top) * FINE
    seen = camera.project(vertices)
    x, y = (seen[:, 0] - left) * FINE, (seen[:, 1] - top) * FINE
    corners = np.stack([x, y, seen[:, 2]], axis=-1)[triangles]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.ceil(corners[..., :2].min(1) - 0.5).astype(np.int64)
    size = np.floor(corners[..., :2].max(1) - 0.5).astype(np.int64) - low + 1
    shown = (area < -1e-6) & (size > 0).all(1) & (seen[triangles, 2] > camera.near * 1.01).all(1)
    shown &= (low[:, 0] < wide) & (low[:, 1] < high) & (low + size > 0).all(1)
    numbers: list[NDArray[np.int64]] = []
    owners: list[NDArray[np.int64]] = []
    shares: list[Float32] = []
    sides = size.max(1)
    span = 1
    while shown.any():
        some = np.flatnonzero(shown & (sides <= span))
        shown[some] = False
        if len(some):
            grid = np.arange(span)
            px = low[some, 0, None, None] + grid[None, None, :]
            py = low[some, 1, None, None] + grid[None, :, None]
            u, v, w = _shares(corners[some], (px + 0.5).astype(np.float32), (py + 0.5).astype(np.float32), area[some])
            inside = (u >= 0) & (v >= 0) & (w >= 0) & (px >= 0) & (px < wide) & (py >= 0) & (py < high)
            which, row, column = np.nonzero(inside)
            numbers.append(py[which, row, 0] * wide + px[which, 0, column])
            owners.append(some[which])
            shares.append(np.stack([u[inside], v[inside], w[inside]], axis=-1))
        span *= 2
    if not numbers:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    number, owner, share = np.concatenate(numbers), np.concatenate(owners), np.concatenate(shares)
    depth = (share * corners[owner, :, 2]).sum(-1)
    nearest = np.full(wide * high, -1)
    order = np.argsort(-depth, kind="stable")
    nearest[number[order]] = order  # Of several at one place the last one stays: the nearest.
    kept = nearest[nearest >= 0]
    return number[kept], owner[kept], share[kept], depth[kept]


def _shares(corners: Float32, x: Float32, y: Float32, area: Float32) -> tuple[Float32, Float32, Float32]:
    """(F, rows, columns) shares of the three corners at points x (F, 1, columns) and y (F, rows, 1)."""
    (ax, ay), (bx, by), (cx, cy) = (corners[:, k, :2].T[..., None, None] for k in range(3))
    whole = area[:, None, None]
    u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / whole
    v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / whole
    return u, v, 1 - u - v
