"""Who is drawn, and from where: capsules around the joints, the mannequin's surface in each frame, and a camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from motiongpt3.characters.mannequin import NODES, mannequin, rest_places, rig_pose
from motiongpt3.motion.kinematics import fit_t_pose
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import unit
from motiongpt3.motion.skeleton import Array, Float32, Float64, Skeleton

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""
LEFT: Colour = (52, 120, 200)
RIGHT: Colour = (236, 132, 44)
MIDDLE: Colour = (116, 126, 144)
HEAD: Colour = (196, 202, 212)
FACE: Colour = (78, 86, 102)

_RADII = {
    "spine1": (0.100, 0.095), "spine2": (0.095, 0.100), "spine3": (0.096, 0.082), "neck": (0.070, 0.048),
    "head": (0.048, 0.046), "collar": (0.092, 0.078), "shoulder": (0.078, 0.062), "elbow": (0.055, 0.043),
    "wrist": (0.043, 0.032), "hip": (0.098, 0.094), "knee": (0.084, 0.057), "ankle": (0.057, 0.040),
    "foot": (0.042, 0.036),
}  # fmt: skip
"""Radii in metres at the parent's and at the joint's end of the bone that ends in a joint; chosen by eye, as all sizes
of bodies here."""
_CHEST = (("spine1", "l_collar", (0.094, 0.080)), ("spine1", "r_collar", (0.094, 0.080)))
"""Capsules that fill the chest."""
_TIPS = (
    ("wrist", "tip", (0.034, 0.026)), ("ankle", "heel", (0.040, 0.034)), ("heel", "foot", (0.034, 0.036)),
    ("foot", "toe", (0.036, 0.029)),
)  # fmt: skip
"""Capsules that end in a derived point, by the names of their ends without the side."""
_LIMBS = ("elbow", "wrist", "knee", "ankle", "foot")


@dataclass(frozen=True)
class Capsules:
    """A body of capsules between points; some points are joints and some are derived (finger tips, soles, head).

    Attributes:
        skeleton: whose joints are drawn.
        start: (B,) point index where each capsule starts; `end` where it ends. Equal for a ball.
        end: (B,) see `start`.
        radii: (B, 2) metres at start and end.
        colours: (B, 3) red, green, blue, 0 to 255.
        scale: 1 for a person of ordinary size; multiplies everything in metres.
    """

    skeleton: Skeleton
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    radii: Float32
    colours: Float32
    scale: float

    def points(self, joints: Float32) -> Float32:
        """(T, J, 3) joints -> (T, P, 3) points: the joints, then the derived ones in the order of `_derived`."""
        made = [joints, *(point[:, None] for point in _derived(self.skeleton, joints, self.scale).values())]
        return np.concatenate(made, axis=1).astype(np.float32)


def capsules_of(skeleton: Skeleton, joints: Float32) -> Capsules:
    """The body for a skeleton; its thickness follows the size of the person in `joints` (T, J, 3)."""
    parents = np.asarray(skeleton.parents)
    child = np.flatnonzero(parents >= 0)
    sample = joints[:: max(1, len(joints) // 16)]
    lengths = np.linalg.norm(sample[:, child] - sample[:, parents[child]], axis=-1).mean(axis=0)
    rest = float(skeleton.bone_lengths.sum())
    scale = float(np.clip(lengths.sum() / rest, 1e-3, 1e5)) if rest > 0 else 1.0
    side = {joint: LEFT for joint, _ in skeleton.pairs} | {joint: RIGHT for _, joint in skeleton.pairs}
    is_person = any("wrist" in name for name in skeleton.names)
    made: list[tuple[int, int, tuple[float, float], Colour]] = []
    for joint in child.tolist():
        kind = skeleton.names[joint].removeprefix("l_").removeprefix("r_")
        thickness = float(np.clip(0.2 * skeleton.bone_lengths[joint], 0.03, 0.08))
        colour = side.get(joint, MIDDLE) if kind in _LIMBS or not is_person else MIDDLE
        made.append((skeleton.parents[joint], joint, _RADII.get(kind, (thickness, thickness)), colour))
    at = {name: i for i, name in enumerate([*skeleton.names, *_derived(skeleton, joints[:1], scale)])}
    if {"spine1", "l_collar", "r_collar"} <= at.keys():
        made += [(at[start], at[end], radii, MIDDLE) for start, end, radii in _CHEST]
    for start, end, radii in _TIPS:
        for hand, colour in (("l_", LEFT), ("r_", RIGHT)):
            ends = at.get(hand + start, -1), at.get(hand + end, -1)
            if min(ends) >= 0 and max(ends) >= len(skeleton):
                made.append((*ends, radii, colour))
    if "ball" in at:
        made.append((at["ball"], at["ball"], (0.108, 0.108), HEAD))
        made.append((at["l_brow"], at["r_brow"], (0.036, 0.036), FACE))
    return Capsules(
        skeleton,
        np.array([start for start, _, _, _ in made], dtype=np.int64),
        np.array([end for _, end, _, _ in made], dtype=np.int64),
        np.array([radii for _, _, radii, _ in made], dtype=np.float32).reshape(-1, 2) * np.float32(scale),
        np.array([colour for _, _, _, colour in made], dtype=np.float32).reshape(-1, 3),
        scale,
    )


def _derived(skeleton: Skeleton, joints: Float32, scale: float) -> dict[str, Array]:
    """Points beyond the joints (T, J, 3) by name, (T, 3) each: finger tips, heels, toe tips, the head and its visor.

    Empty for joints that a skeleton does not have. HumanML3D's foot joint is the ball of the foot and lies lower than
    the ankle, so the sole is found by taking out of the foot's direction the part along the shin.
    """
    at = {name: joints[:, i] for i, name in enumerate(skeleton.names)}
    made: dict[str, Array] = {}
    for side in ("l_", "r_"):
        if {side + "elbow", side + "wrist"} <= at.keys():
            wrist = at[side + "wrist"]
            made[side + "tip"] = wrist + unit(wrist - at[side + "elbow"]) * 0.10 * scale
        if {side + "knee", side + "ankle", side + "foot"} <= at.keys():
            ankle, ball = at[side + "ankle"], at[side + "foot"]
            shin = unit(ankle - at[side + "knee"])
            sole = unit(unit(ball - ankle) - 0.5 * shin)
            made[side + "heel"] = ankle + (0.050 * shin - 0.045 * sole) * scale
            made[side + "toe"] = ball + 0.065 * sole * scale
    if {"neck", "head"} <= at.keys():
        left, right = skeleton.shoulders
        up, side_way = unit(at["head"] - at["neck"]), unit(joints[:, left] - joints[:, right])
        ahead = unit(np.cross(side_way, up))
        made["ball"] = at["head"] + (0.055 * up + 0.015 * ahead) * scale
        face = made["ball"] + (0.086 * ahead + 0.012 * up) * scale
        made["l_brow"], made["r_brow"] = face + 0.038 * side_way * scale, face - 0.038 * side_way * scale
    return made


class Skin:
    """The mannequin that plays a motion of HumanML3D's skeleton.

    Attributes:
        triangles: (F, 3) vertices.
        colours: (V, 3) red, green, blue, 0 to 255: left limbs blue, right ones orange, as of the capsules.
    """

    def __init__(self, motion: Motion) -> None:
        self._fitted = fit_t_pose(motion)
        places = rest_places(self._fitted.rest)
        mesh = mannequin(places)
        self.triangles = mesh.triangles.astype(np.int64)
        self._weights = mesh.node_weights()
        at = places[[node.joint for node in NODES]]
        self._from = (mesh.positions[:, None] - at.astype(np.float32)[None], mesh.normals)
        self.colours = self._weights @ np.array([_colour(node.name) for node in NODES], dtype=np.float32)

    def surface(self, frame: int) -> tuple[Float32, Float32]:
        """(V, 3) places of the vertices in metres and (V, 3) normals in one frame."""
        turns, places = (one[0] for one in rig_pose(self._fitted, slice(frame, frame + 1)))
        away, normals = self._from
        moved = self._weights @ places.astype(np.float32)
        turned = np.zeros_like(moved)
        for i, turn in enumerate(turns.astype(np.float32)):
            some = np.flatnonzero(self._weights[:, i])
            share = self._weights[some, i, None]
            moved[some] += share * (away[some, i] @ turn.T)
            turned[some] += share * (normals[some] @ turn.T)
        return moved, turned


def _colour(node: str) -> Colour:
    for side, colour in (("Left", LEFT), ("Right", RIGHT)):
        if node.removeprefix(side) in ("Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase"):
            return colour
    return HEAD if node == "Head" else MIDDLE


def facing(joints: Array, skeleton: Skeleton) -> Float64:
    """(T, J, 3) -> (T, 2) unit x and z of the way the body faces on the floor, from hips and shoulders; +z if none."""
    left, right = skeleton.hips
    across = joints[:, left].astype(np.float64) - joints[:, right]
    left, right = skeleton.shoulders
    across = across + joints[:, left] - joints[:, right]
    forward = np.stack([-across[:, 2], across[:, 0]], axis=-1)
    length = np.linalg.norm(forward, axis=-1, keepdims=True)
    return np.where(length > 1e-6, forward / np.maximum(length, 1e-6), np.array([0.0, 1.0]))


def front(joints: Array, skeleton: Skeleton) -> float:
    """Angle in radians from +z towards +x that the body mostly faces; the first frame's where it turns all around."""
    ways = facing(joints, skeleton)
    mean = ways.mean(axis=0)
    x, z = mean if np.hypot(*mean) > 0.5 else ways[0]
    return float(np.arctan2(x, z))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at `target` from `distance` metres away.

    Attributes:
        target: point in metres that lands on `centre`.
        azimuth: side the camera stands on, radians from +z towards +x.
        pitch: radians that it looks down by.
        distance: metres from the target.
        focal: focal length in pixels.
        centre: (x, y) pixel of the target; y grows downwards.
    """

    target: tuple[float, float, float]
    azimuth: float
    pitch: float
    distance: float
    focal: float
    centre: tuple[float, float]

    @property
    def axes(self) -> Float32:
        """(3, 3) rows: the picture's right, its down, and away from the camera, in world coordinates."""
        sin, cos = np.sin(self.azimuth), np.cos(self.azimuth)
        low, flat = np.sin(self.pitch), np.cos(self.pitch)
        away = np.array([-sin * flat, -low, -cos * flat])
        right = np.array([cos, 0.0, -sin])
        return np.stack([right, np.cross(away, right), away]).astype(np.float32)

    @property
    def near(self) -> float:
        """Depth in metres before which nothing is drawn."""
        return 0.05 * self.distance

    @property
    def scale(self) -> float:
        """Pixels per metre at the target."""
        return self.focal / self.distance

    def height_above(self, level: float) -> np.float64:
        """Metres from the floor y = `level` up to the camera."""
        return np.float64(self.target[1] + self.distance * np.sin(self.pitch) - level)

    def aim(self, target: Array) -> Camera:
        """The same camera moved along with its target (3,)."""
        return replace(self, target=(float(target[0]), float(target[1]), float(target[2])))

    def project(self, points: Array) -> Float32:
        """(..., 3) points in metres -> (..., 3) pixel x, pixel y and depth in metres, depth at least `near`."""
        view = ((np.asarray(points) - np.asarray(self.target)) @ self.axes.T).astype(np.float32)
        depth = np.maximum(view[..., 2] + self.distance, self.near)
        x = self.centre[0] + self.focal * view[..., 0] / depth
        y = self.centre[1] + self.focal * view[..., 1] / depth
        return np.stack([x, y, depth], axis=-1).astype(np.float32)

    def is_before(self, seen: Float32) -> NDArray[np.bool_]:
        """(...) whether projected points (..., 3) lie before the camera, and not on its nearest plane or behind."""
        return np.asarray(seen[..., 2] > self.near * 1.01)

    def floor(self, width: int, height: int, level: float) -> tuple[Float32, Float32, Float32]:
        """Where each pixel meets the floor y = `level`: x and z relative to the target, and distance in metres.

        Three (height, width) arrays; the distance is infinite, and x and z 0, where a ray misses the floor.
        """
        right, down, away = self.axes
        u = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - self.centre[0]) / self.focal
        v = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - self.centre[1]) / self.focal
        ray = u[..., None] * right + v[..., None] * down + away
        eye = -self.distance * away
        fall = level - self.target[1] - eye[1]
        along = np.where(ray[..., 1] < -1e-6, fall / np.minimum(ray[..., 1], -1e-6), np.inf)
        along = np.where(along > 0, along, np.inf).astype(np.float32)
        meets = np.where(np.isfinite(along), along, 0.0).astype(np.float32)
        return eye[0] + meets * ray[..., 0], eye[2] + meets * ray[..., 2], along


def fit_camera(
    points: Array, azimuth: float, pitch: float, focal: float, frame: tuple[float, float, float, float], nearest: float
) -> Camera:
    """The closest camera at this angle that sees all points, looking at the middle of what it sees.

    Args:
        points: (..., 3) metres.
        azimuth: radians from +z towards +x.
        pitch: radians that it looks down by.
        focal: pixels.
        frame: left, top, right, bottom of the part of the picture the points must lie in, pixels.
        nearest: the distance is at least this many metres.
    """
    points = points.reshape(-1, 3)
    left, top, right, bottom = frame
    centre = ((left + right) / 2, (top + bottom) / 2)
    half = np.array([(right - left) / 2, (bottom - top) / 2])

    def closer(camera: Camera) -> Camera:
        view = (points - np.asarray(camera.target)) @ camera.axes.T.astype(np.float64)
        needed = (np.abs(view[:, :2]) * focal / half).max(axis=1) - view[:, 2]
        return replace(camera, distance=max(nearest, float(needed.max())))

    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    camera = closer(Camera((0.0, 0.0, 0.0), azimuth, pitch, nearest, focal, centre).aim(middle))
    for _ in range(3):
        seen = camera.project(points)[:, :2]
        shift = ((seen.min(axis=0) + seen.max(axis=0)) / 2 - np.asarray(centre)) / camera.scale
        aside = shift[0] * camera.axes[0] + shift[1] * camera.axes[1]
        camera = closer(camera.aim(np.asarray(camera.target) + aside))
    return camera


FINE = 2
"""Samples of a pixel across and down, for soft edges of the mannequin."""


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
    shown = (area < -1e-6) & (size > 0).all(1) & camera.is_before(seen[triangles]).all(1)
    shown &= (low[:, 0] < wide) & (low[:, 1] < high) & (low + size > 0).all(1)
    numbers, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    shares = [np.zeros((0, 3), np.float32)]
    sides = size.max(1)
    span = 1
    while shown.any():  # those of about one size together, on a grid that is as large
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
