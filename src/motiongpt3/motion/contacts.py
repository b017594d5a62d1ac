"""Foot contacts: when a foot stands on the floor, and how far it slides there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import Array

HEIGHT = 0.065
"""Metres above the floor below which toes can stand."""
SPEED = 0.5
"""Metres per second: toes slower than this can stand; or, in a run, slower than `SHARE` of the body."""
SHARE = 0.45
SHORTEST = 0.1
"""Seconds of the shortest contact."""
FARTHEST = 0.20
"""Metres: toes that slide farther than this on their own have not been standing, they are dragged."""


@dataclass(frozen=True)
class Contact:
    """The frames `start` up to before `stop` in which the toes of a side (0 left, 1 right) stand."""

    side: int
    start: int
    stop: int


def contacts(motion: Motion, floor: float = 0.0) -> list[Contact]:
    """The foot contacts of a motion, those of the left foot first.

    Toes stand while they are lower than `HEIGHT` and slower along the floor than `SPEED`, or than `SHARE` of the
    body's speed, for at least `SHORTEST` seconds. Where they slide farther than `FARTHEST`, and not with the body, the
    contact is cut in parts, or is none where the person walks.
    """
    joints, fps = motion.joints.astype(np.float64), motion.fps
    if len(joints) < 3:
        return []
    body = _box(_speed(joints[:, 0], fps), max(1, round(0.3 * fps)))
    found = []
    for side, toe in enumerate(motion.skeleton.contacts[1::2]):
        speed = _box(_speed(joints[:, toe], fps), max(1, round(0.05 * fps)))
        stands = (joints[:, toe, 1] - floor < HEIGHT) & (speed < np.maximum(SPEED, SHARE * body))
        for start, stop in _runs(stands):
            if stop - start < max(2, round(SHORTEST * fps)):
                continue
            own = joints[start:stop, toe]
            slide = min(_reach(own), _reach(own - joints[start:stop, 0]))
            if slide > FARTHEST and body[start:stop].mean() > SPEED:
                continue
            edges = np.linspace(start, stop, int(slide / FARTHEST) + 2).round().astype(int)
            found += [Contact(side, int(a), int(b)) for a, b in pairwise(edges) if b - a > 1]
    return found


def slides(motion: Motion, found: list[Contact]) -> NDArray[np.float64]:
    """(C,) how far the toes get from where each contact began, along the floor, in metres."""
    toes = motion.skeleton.contacts[1::2]
    return np.array([_reach(motion.joints[c.start : c.stop, toes[c.side]].astype(np.float64)) for c in found])


def frames_of(found: list[Contact]) -> int:
    """Frames of all contacts together."""
    return sum(c.stop - c.start for c in found)


def _speed(points: Array, fps: float) -> Array:
    """(T,) horizontal speed of (T, 3) points in m/s, central differences."""
    return np.asarray(np.linalg.norm(np.gradient(points[:, [0, 2]], axis=0), axis=-1) * fps)


def _reach(points: Array) -> float:
    """How far (T, 3) points get from the first along the floor."""
    return float(np.linalg.norm(points[:, [0, 2]] - points[0, [0, 2]], axis=-1).max())


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _box(values: Array, radius: int) -> Array:
    """(T,) the mean over 2 x radius + 1 frames."""
    kernel = np.full(2 * radius + 1, 1 / (2 * radius + 1))
    return np.convolve(np.pad(values, radius, mode="edge"), kernel, mode="valid")
