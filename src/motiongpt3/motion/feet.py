"""Foot contacts: when a foot stands on the floor, how far it slides there, and how to hold it in its place.

A generated foot slides while it should stand. `fix_feet` finds the contacts, gives the toes of each one place, moves
the body a little where both feet slide the same way, and bends the legs so that all meet (`motiongpt3.motion.legs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.average import averaged
from motiongpt3.motion.blend import eased
from motiongpt3.motion.legs import bend
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

Array = NDArray[np.floating[Any]]

HEIGHT = 0.065
"""Metres above the floor below which toes can stand."""
SPEED = 0.5
"""Metres per second: toes slower than this can stand; or, in a run, slower than `SHARE` of the body."""
SHARE = 0.45
SHORTEST = 0.1
"""Seconds of the shortest contact."""
FARTHEST = 0.20
"""Metres: toes that slide farther than this on their own have not been standing, they are dragged."""
FASTEST = 0.36
"""Metres per second that a correction may add to a foot in the air: 1.8 cm per frame at 20 fps."""
POP = 0.4
"""Metres per second by which a fixed motion may be faster than it was: 2 cm per frame at 20 fps."""
_ATTEMPTS = 40
_FADE = 0.35  # seconds in which a correction starts before the first contact and ends after the last
_SIGMA = 0.25  # seconds over which the body's share of the correction is averaged
_STEEPEST = 15 / 8  # slope of `eased` in the middle
_STRAIGHT = 0.998  # of a leg's length: how far a corrected leg stretches


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


def fix_feet(motion: Motion, floor: float = 0.0) -> Motion:
    """The motion with standing feet held in their places, and no foot under the floor.

    The toes of each contact get one place, the middle of where they were. Where the feet slide the same way for some
    time the whole body goes along, the rest is done by bending the legs; the pelvis gives way where a leg would be too
    short. In the air a correction passes smoothly into the next one. A contact that would need a foot faster than
    `FASTEST`, or make any joint faster than it was by more than `POP`, is shortened, or let go. Heights are kept, and
    so are bone lengths.

    Args:
        motion: any frame rate.
        floor: height of the floor in metres.

    Returns:
        the same frames; the motion itself if no foot ever stands.
    """
    found = contacts(motion, floor)
    for attempt in range(_ATTEMPTS):
        fixed = _held(motion, found, floor)
        quick = added_speed(motion, fixed) > POP
        if not quick.any():
            return fixed
        found = _less(found, quick, motion, drop=attempt > _ATTEMPTS // 2)
    return motion


def added_speed(before: Motion, after: Motion) -> NDArray[np.float64]:
    """(T - 1, J) by how much each joint is faster between two frames than it was, in m/s; negative where slower."""
    old, new = (np.linalg.norm(np.diff(m.joints.astype(np.float64), axis=0), axis=-1) * m.fps for m in (before, after))
    return np.asarray(new - old)


def _less(found: list[Contact], quick: NDArray[np.bool_], motion: Motion, *, drop: bool) -> list[Contact]:
    """The contacts with those shortened, or dropped, that lie nearest to a leg, or a body, that moves too quickly."""
    legs = _legs(motion.skeleton)
    cut = max(1, round(motion.fps / 20))
    body = np.delete(quick, [joint for leg in legs for joint in leg[1:]], axis=1).any(axis=1)
    left = []
    for side, leg in enumerate(legs):
        own = [[c.start, c.stop] for c in found if c.side == side]
        for frame in np.flatnonzero(body | quick[:, list(leg[1:])].any(axis=1)):
            if own:
                near = min(own, key=lambda c: max(c[0] - frame - 1, frame - c[1] + 1, 0))
                if drop:
                    near[1] = near[0]
                elif abs(near[0] - frame) <= abs(near[1] - frame):
                    near[0] += cut
                else:
                    near[1] -= cut
                own = [c for c in own if c[1] - c[0] > 1]
        left += [Contact(side, start, stop) for start, stop in own]
    return left


def _held(motion: Motion, found: list[Contact], floor: float) -> Motion:
    """The motion with the toes of each contact in one place."""
    joints, fps = motion.joints.astype(np.float64), motion.fps
    legs = _legs(motion.skeleton)
    joints = joints + _body_shift(joints, found, legs, fps)[:, None]
    toes = []
    for side, (_, _, _, toe) in enumerate(legs):
        own = _bridgeable(joints[:, toe], [c for c in found if c.side == side], fps)
        toes.append(joints[:, toe] + _correction(joints[:, toe], own, fps))
        toes[-1][:, 1] = np.maximum(toes[-1][:, 1], floor)
    ankles = [at + joints[:, ankle] - joints[:, toe] for at, (_, _, ankle, toe) in zip(toes, legs, strict=True)]
    return motion.replace(joints=place_ankles(joints, ankles, fps, motion.skeleton).astype(np.float32))


def place_ankles(joints: Array, ankles: Sequence[Array], fps: float, skeleton: Skeleton = HUMANML3D) -> Array:
    """The legs bent so that the ankles are where they are wanted; where a leg is too short, the body gives way.

    Args:
        joints: (T, J, 3) metres.
        ankles: (T, 3) for the left and for the right ankle.
        fps: frames per second.
        skeleton: the tree of the joints.

    Returns:
        (T, J, 3) joints: feet keep their direction, knees point where they did, bones keep their lengths.
    """
    legs = _legs(skeleton)
    joints = joints + _give_way(joints, ankles, legs, fps)[:, None]
    out = joints.copy()
    for target, (hip, knee, ankle, toe) in zip(ankles, legs, strict=True):
        foot = joints[:, toe] - joints[:, ankle]
        out[:, knee], out[:, ankle] = _bent(joints, target, hip, knee, ankle, toe)
        out[:, toe] = out[:, ankle] + foot
    return out


def _body_shift(joints: Array, found: list[Contact], legs: list[tuple[int, int, int, int]], fps: float) -> Array:
    """(T, 3) horizontal move of the whole body that takes up what the standing feet slide together."""
    shift = np.zeros((len(joints), 3))
    weight = np.zeros(len(joints))
    for c in found:
        weight[c.start : c.stop] += 1
    dense = averaged(weight, _SIGMA * fps, "held")
    for _ in range(3):
        wanted = np.zeros_like(shift)
        for c in found:
            wanted[c.start : c.stop] += _away(joints[:, legs[c.side][3]] + shift, c)
        shift += averaged(wanted, _SIGMA * fps, "held") / np.maximum(dense, 0.25)[:, None]
    return shift


def _away(toe: Array, c: Contact) -> Array:
    """(frames, 3) from the toes of a contact to the place where they are to stand, along the floor."""
    at = toe[c.start : c.stop]
    return (at.mean(0) - at) * [1, 0, 1]


def _bridgeable(toe: Array, own: list[Contact], fps: float) -> list[Contact]:
    """The contacts of one foot, shortened or dropped until the correction between them is slow enough."""
    own = list(own)
    shortest = max(2, round(SHORTEST * fps))
    at = 0
    while at < len(own) - 1:
        a, b = own[at : at + 2]
        jump = _away(toe, b)[0] - _away(toe, a)[-1]
        if _STEEPEST * np.linalg.norm(jump) * fps / (b.start - a.stop + 1) <= FASTEST:
            at += 1
            continue
        if a.stop - a.start >= b.stop - b.start:
            own[at] = Contact(a.side, a.start, a.stop - 1)
        else:
            own[at + 1] = Contact(b.side, b.start + 1, b.stop)
        own = [c for c in own if c.stop - c.start >= shortest]
        at = max(at - 1, 0)
    return own


def _correction(toe: Array, own: list[Contact], fps: float) -> Array:
    """(T, 3) what to add to the toes of one foot: all of the way in a contact, eased from one to the next between."""
    out = np.zeros((len(toe), 3))
    if not own:
        return out
    for c in own:
        out[c.start : c.stop] = _away(toe, c)
    for a, b in pairwise(own):
        first, last = a.stop - 1, b.start
        part = eased(np.arange(1, last - first) / (last - first))[:, None]
        out[first + 1 : last] = out[first] + part * (out[last] - out[first])
    fade = max(1, round(_FADE * fps))
    before, after = np.arange(own[0].start, 0, -1), np.arange(1, len(toe) - own[-1].stop + 1)
    out[: own[0].start] = (1 - eased(before / fade))[:, None] * out[own[0].start]
    out[own[-1].stop :] = (1 - eased(after / fade))[:, None] * out[own[-1].stop - 1]
    return out


def _give_way(joints: Array, ankles: Sequence[Array], legs: list[tuple[int, int, int, int]], fps: float) -> Array:
    """(T, 3) smooth move of the body after which each leg reaches its ankle."""
    move = np.zeros((len(joints), 3))
    width = 0.08 * fps
    for _ in range(12):
        need = np.zeros_like(move)
        for target, (hip, knee, ankle, _) in zip(ankles, legs, strict=True):
            line = target - joints[:, hip] - move
            distance = np.linalg.norm(line, axis=-1)
            short = distance - _most(joints, hip, knee, ankle)
            need += np.where(short > 0, short / np.maximum(distance, 1e-8), 0)[:, None] * line
        if np.abs(need).max() < 5e-4:
            break
        move += averaged(need, width, "held") * 1.5
    return move


def _most(joints: Array, hip: int, knee: int, ankle: int) -> Array:
    """(T,) how far a leg may stretch: nearly straight, or as straight as it was."""
    full = _length(joints, hip, knee) + _length(joints, knee, ankle)
    return np.maximum(_STRAIGHT * full, _length(joints, hip, ankle))


def _bent(joints: Array, target: Array, hip: int, knee: int, ankle: int, toe: int) -> tuple[Array, Array]:
    """Knee and ankle of a leg, the ankle at its target as far as it reaches; the knee points where it did.

    A straight leg's knee points nowhere: as far as such a leg is moved, the foot says where.
    """
    thigh, shin = _length(joints, hip, knee), _length(joints, knee, ankle)
    line = target - joints[:, hip]
    reach = np.minimum(np.linalg.norm(line, axis=-1), _most(joints, hip, knee, ankle))
    reach = np.clip(reach, np.abs(thigh - shin) + 1e-4, thigh + shin)
    old = joints[:, ankle] - joints[:, hip]
    pole = joints[:, knee] - joints[:, hip]
    pole = pole - old * ((pole * old).sum(-1) / np.maximum((old * old).sum(-1), 1e-8))[:, None]
    straight = np.maximum(0.08 - np.linalg.norm(pole, axis=-1), 0)
    moved = np.minimum(np.linalg.norm(target - joints[:, ankle], axis=-1) / 0.02, 1)
    foot = joints[:, toe] - joints[:, ankle]
    foot = foot / np.maximum(np.linalg.norm(foot, axis=-1, keepdims=True), 1e-8)
    return bend(joints[:, hip], line, reach, thigh, shin, pole + (straight * moved)[:, None] * foot)


def _legs(skeleton: Skeleton) -> list[tuple[int, int, int, int]]:
    """Hip, knee, ankle and toes of the left and of the right leg."""
    found = []
    for ankle, toe in (skeleton.contacts[:2], skeleton.contacts[2:]):
        knee = skeleton.parents[ankle]
        found.append((skeleton.parents[knee], knee, ankle, toe))
    return found


def _length(joints: Array, a: int, b: int) -> Array:
    return np.asarray(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1))


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
