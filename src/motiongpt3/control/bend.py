"""A motion bent onto a path: the person walks where they are wanted, with the steps that they had.

The drawn walk is read as three things: a smooth path, how the body faces along it, and how it sways about it. The path
is replaced by one through the wanted places; the steps follow by arc length, so that a foot that stood stands where the
path is as long as the drawn one; facing and swaying go along.

All arrays are joints (T, 22, 3) in metres, y up; places are (x, z).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motiongpt3.control.constraints import Constraint, wanted_headings
from motiongpt3.motion.poses import heading, rotate, wrapped
from motiongpt3.motion.resample import poses_at
from motiongpt3.motion.signals import averaged, gaussian
from motiongpt3.motion.skeleton import Array, Float64

SMOOTH_SECONDS, SMOOTH_SHARE = 0.25, 0.9
"""Standard deviation of the Gaussian, cut off after three, with which the pelvis's way is smoothed: half a step, which
takes its swaying away. At the ends the way is mirrored in place and time, so that the first and the last place stay.
The smoothed way is 0.9 of that and 0.1 of the way itself: so any way can be had, where a Gaussian alone cannot be
undone."""
_MIN_WAY = 0.3  # metres: a shorter way has no steps that could follow another; by eye
_CALM_SPEED = 0.15  # metres per second that time alone counts as way: steps go on slowly where the path stops; by eye
_MIN_SPEED = 0.15  # metres per second of a path whose direction means something; by eye
_TURN_SECONDS = 0.2  # deviation, over which turns are averaged; by eye
_MIN_WALK = 1.2  # metres: along a shorter way, such as a lunge's, nobody turns to face it; by eye
SKEW_SECONDS = 0.5
"""Deviation, over which it is averaged how far a body faces past its way: a step; by eye."""
_MIN_CHORD = 0.2  # metres between two places whose direction means something; by eye
_GO_ON = 0.1  # of drawn steps, outside the places, against third differences; by eye
_TENSION = 1e-4  # of even steps between places, against third differences: corners are half a second wide; by eye
_STIFF = 1e-3  # of even speed against third differences, for a path through few places; by eye


def smooth_root(xz: Array, fps: float) -> Float64:
    """(T, 2) the way of the pelvis without its swaying: what `RootPath(smooth=True)` holds."""
    return SMOOTH_SHARE * averaged(xz, gaussian(SMOOTH_SECONDS * fps)) + (1 - SMOOTH_SHARE) * xz


@dataclass(frozen=True)
class Anchors:
    """Where the pelvis is to be, and how the person is to face.

    Attributes:
        frames: (K,) rising.
        xz: (K, 2) metres.
        headings: (K,) radians, NaN where free.
        swaying: (K,) whether the pelvis may sway about the place, which is that of a smoothed path.
    """

    frames: NDArray[np.int64]
    xz: Float64
    headings: Float64
    swaying: NDArray[np.bool_]


class Bent(NamedTuple):
    """A bent motion, and how each of its frames came about.

    Attributes:
        joints: (T, 22, 3).
        at: (T,) which drawn frame it was.
        turn: (T,) radians by which that was turned about its pelvis.
    """

    joints: Float64
    at: Float64
    turn: Float64


def anchors(constraints: Sequence[Constraint]) -> Anchors:
    """What constraints say about place and facing: root paths, and keyframes that are placed."""
    places: dict[int, tuple[Array, float, bool]] = {}
    for one in constraints:
        if 0 in one.joints and one.placed and one.kind in ("root", "keyframe"):
            root = one.positions[:, one.joints.index(0)][:, [0, 2]]
            for frame, xz, angle in zip(one.frames.tolist(), root, wanted_headings(one).tolist(), strict=True):
                if frame not in places or np.isnan(places[frame][1]):
                    places[frame] = xz, angle, one.smooth
    frames = np.array(sorted(places), dtype=np.int64)
    xz, headings, swaying = ([places[frame][part] for frame in frames.tolist()] for part in range(3))
    return Anchors(frames, np.array(xz).reshape(-1, 2), np.array(headings), np.array(swaying, dtype=bool))


def bend(joints: Array, to: Anchors, fps: float) -> Bent:
    """The motion with its pelvis at the anchors, facing as they say, or along the path as it did.

    One anchor moves and turns it rigidly. Bones keep their lengths.

    Args:
        joints: (T, 22, 3).
        to: any number of anchors.
        fps: frames per second.
    """
    walk: Float64 = joints.astype(np.float64)
    count = len(walk)
    if len(to.frames) < 2:
        angle = 0.0
        if len(to.frames):
            frame = int(to.frames[0])
            angle = 0.0 if np.isnan(to.headings[0]) else float(to.headings[0] - heading(walk[frame : frame + 1])[0])
            walk = np.asarray(rotate(walk, angle), dtype=np.float64)
            walk += _on_ground(to.xz[:1] - walk[frame, 0, [0, 2]])
        return Bent(walk, np.arange(count, dtype=np.float64), np.full(count, angle))
    drawn = smooth_root(walk[:, 0, [0, 2]], fps)
    wanted = _curve(to, drawn, fps)
    at = _steps(drawn, wanted, fps)
    posed = poses_at(walk, at).astype(np.float64)
    drawn = smooth_root(posed[:, 0, [0, 2]], fps)
    turn = _turns(posed, drawn, wanted, to, fps)
    sway = rotate(posed[:, 0] - _on_ground(drawn), turn)[:, [0, 2]]
    still = to.frames[~to.swaying]
    if len(still):
        sway -= np.stack([np.interp(np.arange(count), still, sway[still, axis]) for axis in (0, 1)], axis=-1)
    body = rotate(posed - posed[:, :1], turn[:, None])
    body += (_on_ground(wanted + sway) + posed[:, 0] * [0, 1, 0])[:, None]
    return Bent(np.asarray(body, dtype=np.float64), at, turn)


def mismatch(joints: Array, to: Anchors, fps: float) -> float:
    """Metres per second by which a walk is too fast or too slow for the path: what its feet would slide if bent."""
    if len(to.frames) < 2:
        return 0.0
    drawn = smooth_root(joints[:, 0, [0, 2]].astype(np.float64), fps)
    wanted = _curve(to, drawn, fps)
    at = _steps(drawn, wanted, fps)
    moved = np.stack([np.interp(at, np.arange(len(drawn)), drawn[:, axis]) for axis in (0, 1)], axis=-1)
    away = _speeds(moved, fps) - _speeds(wanted, fps)
    return float(np.sqrt(np.mean(away**2)) + 0.5 * np.abs(np.diff(at) - 1).mean())


def _on_ground(xz: Array) -> Float64:
    """(T, 3) places on the ground."""
    return np.stack([xz[:, 0], np.zeros(len(xz)), xz[:, 1]], axis=-1)


def _curve(to: Anchors, drawn: Array, fps: float) -> Float64:
    """(T, 2) the smoothest path through the anchors; before the first and after the last it goes on as drawn.

    The minimum of sum |third difference|^2 + stiff * sum |second difference|^2 + on * sum |step - wanted step|^2, exact
    at the anchors: a spline in tension, which swings out little where places are close in time and far apart. Wanted
    are even steps between anchors, and outside drawn ones, turned as the way between the anchors is.
    """
    count, fixed = len(drawn), to.frames
    third, second, first = (np.diff(np.eye(count), n=n, axis=0) for n in (3, 2, 1))
    outside = (np.arange(count - 1) < fixed[0]) | (np.arange(count - 1) >= fixed[-1])
    steps = np.diff(drawn, axis=0)
    for side, near in ((np.arange(count - 1) < fixed[0], 0), (np.arange(count - 1) >= fixed[-1], -1)):
        ends = (0, min(1, len(fixed) - 1)) if near == 0 else (max(-2, -len(fixed)), -1)
        wanted, own = (path[ends[1]] - path[ends[0]] for path in (to.xz, drawn[fixed]))
        if min(np.linalg.norm(wanted), np.linalg.norm(own)) > _MIN_CHORD:
            angle = np.arctan2(wanted[0], wanted[1]) - np.arctan2(own[0], own[1])
            steps[side] = rotate(_on_ground(steps[side]), angle)[:, [0, 2]]
    even = np.diff(np.stack([np.interp(np.arange(count), fixed, to.xz[:, axis]) for axis in (0, 1)], axis=-1), axis=0)
    steps = np.where(outside[:, None], steps, even)
    on = first.T * (np.where(outside, _GO_ON, _TENSION) * (fps / 20) ** 2)
    smooth = third.T @ third * (fps / 20) ** 6 + _STIFF * second.T @ second * (fps / 20) ** 4 + on @ first
    free = np.setdiff1d(np.arange(count), fixed)
    path = np.empty((count, 2))
    path[fixed] = to.xz
    path[free] = np.linalg.solve(smooth[np.ix_(free, free)], (on @ steps)[free] - smooth[np.ix_(free, fixed)] @ to.xz)
    return path


def _speeds(path: Array, fps: float) -> Float64:
    """(T,) metres per second along a path."""
    return np.asarray(np.linalg.norm(np.gradient(path, axis=0), axis=-1) * fps)


def _steps(drawn: Array, wanted: Array, fps: float) -> Float64:
    """(T,) which drawn frame comes when: as far along its way as the wanted path is along its own."""
    count = len(drawn)
    ways = []
    for path in (drawn, wanted):
        speed = averaged(_speeds(path, fps), gaussian(_TURN_SECONDS * fps), "held") / fps
        ways.append(np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2)]))
    if min(way[-1] for way in ways) < _MIN_WAY:
        return np.arange(count, dtype=np.float64)
    calm = _CALM_SPEED / fps * np.arange(count)
    along, goal = (way / way[-1] + calm / (ways[0][-1]) for way in ways)
    return np.interp(goal, along, np.arange(count, dtype=np.float64))


def _turns(posed: Float64, drawn: Array, wanted: Array, to: Anchors, fps: float) -> Float64:
    """(T,) radians by which the body turns: with the path, or so that it faces as the anchors say."""
    window = gaussian(_TURN_SECONDS * fps)
    facing = np.unwrap(heading(posed))
    turn = _directions(wanted, fps) - _directions(drawn, fps)
    told = ~np.isnan(to.headings)
    still = min(np.linalg.norm(np.diff(path, axis=0), axis=-1).sum() for path in (drawn, wanted)) < _MIN_WALK
    turn = np.zeros(len(turn)) if still else averaged(np.unwrap(turn), window, "held")
    if not told.any():
        return turn if still else turn - _askew(facing + turn - _directions(wanted, fps), fps)
    frames = to.frames[told]
    off = np.unwrap(wrapped(to.headings[told] - facing[frames] - turn[frames]))
    rest = np.interp(np.arange(len(turn)), frames, off)
    return turn + (averaged(rest, window, "held") if len(frames) < len(turn) else rest)


def _askew(facing: Array, fps: float) -> Float64:
    """(T,) radians that a body faces past the nearest of ahead, left, back and right of its way, its swaying aside."""
    steady = averaged(np.unwrap(facing), gaussian(SKEW_SECONDS * fps), "held")
    return steady - np.round(steady.mean() / (np.pi / 2)) * (np.pi / 2)


def _directions(path: Array, fps: float) -> Float64:
    """(T,) yaw of a path's direction, unwrapped; where it stands, that before or after."""
    step = np.gradient(path, axis=0)
    moving = np.linalg.norm(step, axis=-1) * fps > _MIN_SPEED
    if not moving.any():
        return np.zeros(len(path))
    angle = np.unwrap(np.arctan2(step[moving, 0], step[moving, 1]))
    return np.interp(np.arange(len(path)), np.flatnonzero(moving), angle)
