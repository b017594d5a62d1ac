"""Foot contacts: when a foot stands on the floor, and how far it slides there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.signals import averaged, box, spans
from motiongpt3.motion.skeleton import Array, Float64

MAX_CONTACT_HEIGHT = 0.065
"""Metres above the floor below which toes can stand; by eye, a little above `quality.CONTACT_HEIGHT`."""
MAX_CONTACT_SPEED = 0.5
"""Metres per second: toes slower than this can stand. The speed at which GMD's measure calls a foot skating."""
MAX_SPEED_SHARE = 0.45
"""Toes of somebody who runs can stand when they are slower than this share of the body; chosen by eye. Drawn feet slide
15 to 20 cm in every contact of a run (docs/experiments.md, "The last contacts")."""
MIN_CONTACT_SECONDS = 0.1
"""Seconds of the shortest contact: two frames at 20 fps, the fewest in which one sees that a foot rests."""
MAX_CONTACT_SLIDE = 0.20
"""Metres: toes that slide farther than this on their own have not been standing, they are dragged. A round number just
above what runs slide (docs/experiments.md, "The last contacts")."""
_BODY_RADIUS, _TOE_RADIUS = 0.3, 0.05  # seconds on each side over which speeds are averaged: a step, a frame at 20 fps


@dataclass(frozen=True, order=True)
class Contact:
    """The frames `start` up to before `stop` in which the toes of a side (0 left, 1 right) stand."""

    side: int
    start: int
    stop: int

    def overlaps(self, other: Contact) -> bool:
        """Whether both are of one foot and have a frame in common."""
        return self.side == other.side and self.start < other.stop and other.start < self.stop


def find_contacts(motion: Motion, floor: float = 0.0) -> list[Contact]:
    """The foot contacts of a motion, those of the left foot first.

    Toes stand while they are lower than `MAX_CONTACT_HEIGHT` and slower along the floor than `MAX_CONTACT_SPEED`, or
    than `MAX_SPEED_SHARE` of the body's speed, for at least `MIN_CONTACT_SECONDS`. Where they slide farther than
    `MAX_CONTACT_SLIDE`, and not with the body, the contact is cut in parts, or is none where the person walks.
    """
    joints, fps = motion.joints.astype(np.float64), motion.fps
    if len(joints) < 3:
        return []
    body = _speed(joints[:, 0], fps, _BODY_RADIUS)
    found = []
    for side, toe in enumerate(motion.skeleton.contacts[1::2]):
        slow = _speed(joints[:, toe], fps, _TOE_RADIUS) < np.maximum(MAX_CONTACT_SPEED, MAX_SPEED_SHARE * body)
        for start, stop in spans((joints[:, toe, 1] - floor < MAX_CONTACT_HEIGHT) & slow):
            if stop - start < max(2, round(MIN_CONTACT_SECONDS * fps)):
                continue
            own = joints[start:stop, toe]
            slide = min(_reach(own), _reach(own - joints[start:stop, 0]))
            if slide > MAX_CONTACT_SLIDE and body[start:stop].mean() > MAX_CONTACT_SPEED:
                continue
            edges = np.linspace(start, stop, int(slide / MAX_CONTACT_SLIDE) + 2).round().astype(int)
            found += [Contact(side, int(a), int(b)) for a, b in pairwise(edges) if b - a > 1]
    return found


def slides(motion: Motion, found: list[Contact]) -> Float64:
    """(C,) how far the toes get from where each contact began, along the floor, in metres."""
    toes = motion.skeleton.contacts[1::2]
    return np.array([_reach(motion.joints[c.start : c.stop, toes[c.side]].astype(np.float64)) for c in found])


def frames_of(found: list[Contact]) -> int:
    """Frames of all contacts together."""
    return sum(c.stop - c.start for c in found)


def _speed(points: Float64, fps: float, radius: float) -> Float64:
    """(T,) horizontal speed of (T, 3) points in m/s, central differences, averaged over `radius` seconds each side."""
    speed = np.linalg.norm(np.gradient(points[:, [0, 2]], axis=0), axis=-1) * fps
    return averaged(speed, box(max(1, round(radius * fps))), "held")


def _reach(points: Array) -> float:
    """How far (T, 3) points get from the first along the floor."""
    return float(np.linalg.norm(points[:, [0, 2]] - points[0, [0, 2]], axis=-1).max())
