"""A pinhole camera that looks at a person on a floor, and how it finds its place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.skeleton import Float32, Skeleton


@dataclass(frozen=True)
class Camera:
    """Looks at `target` from `distance` metres away.

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

    def aim(self, target: NDArray[np.floating]) -> Camera:
        """The same camera moved along with its target (3,)."""
        return replace(self, target=(float(target[0]), float(target[1]), float(target[2])))

    def project(self, points: NDArray[np.floating]) -> Float32:
        """(..., 3) points in metres -> (..., 3) pixel x, pixel y and depth in metres, depth at least `near`."""
        view = ((np.asarray(points) - np.asarray(self.target)) @ self.axes.T).astype(np.float32)
        depth = np.maximum(view[..., 2] + self.distance, self.near)
        x = self.centre[0] + self.focal * view[..., 0] / depth
        y = self.centre[1] + self.focal * view[..., 1] / depth
        return np.stack([x, y, depth], axis=-1).astype(np.float32)

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


def fitted(
    points: NDArray[np.floating],
    azimuth: float,
    pitch: float,
    focal: float,
    frame: tuple[float, float, float, float],
    nearest: float,
) -> Camera:
    """The closest camera at this angle that sees all points, looking at the middle of what it sees.

    Args:
        points: (N, 3) metres.
        azimuth: radians from +z towards +x.
        pitch: radians that it looks down by.
        focal: pixels.
        frame: left, top, right, bottom of the part of the picture the points must lie in, pixels.
        nearest: the distance is at least this many metres.
    """
    left, top, right, bottom = frame
    centre = ((left + right) / 2, (top + bottom) / 2)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    camera = Camera((0.0, 0.0, 0.0), azimuth, pitch, nearest, focal, centre).aim(middle)
    half = np.array([(right - left) / 2, (bottom - top) / 2])
    for _ in range(3):
        view = (points - np.asarray(camera.target)) @ camera.axes.T.astype(np.float64)
        needed = (np.abs(view[:, :2]) * focal / half).max(axis=1) - view[:, 2]
        camera = replace(camera, distance=max(nearest, float(needed.max())))
        seen = camera.project(points)[:, :2]
        shift = ((seen.min(axis=0) + seen.max(axis=0)) / 2 - np.asarray(centre)) / camera.scale
        camera = camera.aim(np.asarray(camera.target) + shift[0] * camera.axes[0] + shift[1] * camera.axes[1])
    view = (points - np.asarray(camera.target)) @ camera.axes.T.astype(np.float64)
    needed = (np.abs(view[:, :2]) * focal / half).max(axis=1) - view[:, 2]
    return replace(camera, distance=max(nearest, float(needed.max())))


def facing(joints: NDArray[np.floating], skeleton: Skeleton) -> NDArray[np.float64]:
    """(T, J, 3) -> (T, 2) unit x and z of the way the body faces on the floor, from hips and shoulders; +z if none."""
    left, right = skeleton.hips
    across = joints[:, left].astype(np.float64) - joints[:, right]
    left, right = skeleton.shoulders
    across = across + joints[:, left] - joints[:, right]
    forward = np.stack([-across[:, 2], across[:, 0]], axis=-1)
    length = np.linalg.norm(forward, axis=-1, keepdims=True)
    return np.where(length > 1e-6, forward / np.maximum(length, 1e-6), np.array([0.0, 1.0]))


def front(joints: NDArray[np.floating], skeleton: Skeleton) -> float:
    """Angle in radians from +z towards +x that the body mostly faces; the first frame's where it turns all around."""
    ways = facing(joints, skeleton)
    mean = ways.mean(axis=0)
    x, z = mean if np.hypot(*mean) > 0.5 else ways[0]
    return float(np.arctan2(x, z))
