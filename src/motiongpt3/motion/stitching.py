"""Fitting a drawn motion to given frames, which stay exactly what they are.

A model that continues or fills in a motion draws the whole window, given frames included, and reproduces those only
roughly. Here the drawn window is cut, turned and placed so that it fits the given frames, and what is left of the
difference fades out over the new frames. Differences are taken where they are small and smooth: pelvis positions,
bone directions, toe positions. Each fades along the curve that minimises

    sum |third difference of the offset|^2 + pull * sum |offset|^2 (+ hold * sum |speed of a planted toe|^2)

with the offset of the given frames fixed, so that position, velocity and acceleration carry on through the seam
("inertialisation", Bollo, GDC 2018, posed as least squares, which covers one side and both alike). Where both ends
are given, what the drawn path misses in heading and position is added along the way, in step with the feet.

All arrays are (T, 22, 3) joint positions in metres, y up, 20 frames per second. Numbers come from docs/experiments.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.blend import PLANTED_HEIGHT, PLANTED_SPEED, best_cut
from motiongpt3.motion.kinematics import arc_vectors, turned_by
from motiongpt3.motion.leg_ik import place_ankle
from motiongpt3.motion.poses import (
    assemble,
    bone_lengths,
    bone_vectors,
    checked_joints,
    ground_height,
    rotate,
    wrapped,
    yaw_of,
)
from motiongpt3.motion.retarget import leg_length
from motiongpt3.motion.signals import averaged, interpolate, triangle
from motiongpt3.motion.skeleton import LEGS, Array

CONTEXT = 3
"""Given frames on each side of the new ones that decide how the motion carries on: a third difference needs three."""
_MIN_FADE, _MAX_FADE = 1.5, 4.0  # frames in which an offset fades; pull = frames ** -6 ("Keeping given frames exactly")
_GENTLE = 0.02  # metres per frame^3; offset / frames^3 is about the third difference of the fading; by eye
_ARM = 0.3  # metres; what a bone that turns moves: about a forearm
_NEAR = 0.08  # metres; a toe that is farther from where it was drawn goes there at once; by eye
_HOLD = 1.0  # of the speed of planted toes ("Keeping given frames exactly": without it they slip twice as fast)
_PLANTED_STEPS = 1  # for so many steps before and after a toe must be planted, too, not about to leave; by eye
_SWING_SPEED, _SWING_HEIGHT = 0.06, 0.06
"""Metres per frame of a toe that swings, and its height in metres: three in four do ("Why feet skate at seams")."""
_FIRM = 1.0  # how much more the height of a toe counts than its smoothness; by eye


def stitch(
    window: Array, frames: int, before: Array, after: Array | None = None, ground: float = 0.0, slack: int = 0
) -> NDArray[np.float32]:
    """The new frames: as the window has them, carrying on from `before` and leading into `after`.

    Args:
        window: drawn motion; it covers len(before) + frames + len(after) frames, in this order, and
            may go on. Its lowest joint is on the ground.
        frames: how many new frames.
        before: given frames.
        after: given frames that follow the new ones.
        ground: height of the ground that the given frames stand on.
        slack: frames by which the window may be early or late.

    Returns:
        (frames, 22, 3), with the bone lengths of the given frames.

    Raises:
        MotionGPT3Error: the window is too short, or an array is not (T, 22, 3) with T > 0.
    """
    given = [before] if after is None else [before, after]
    for array in (window, *given):
        checked_joints(array)
    count = sum(map(len, given))
    if frames < 1 or len(window) < frames + count:
        raise MotionGPT3Error(
            f"a window of {len(window)} frames does not hold {frames} new frames beside {count} given ones"
        )
    first = before[-CONTEXT:].astype(np.float64)
    last = before[:0] if after is None else after[:CONTEXT].astype(np.float64)
    window = window * (leg_length(first) / leg_length(window))
    start, end = _cuts(window, frames, before, after, slack)
    drawn = _stretch(window[start - len(first) : end + len(last)], len(first), frames, len(last))
    drawn[..., 1] += ground - ground_height(window, at_end=False)
    drawn = _placed(drawn, first, ground)
    planted = _planted(drawn, ground)
    if len(last):
        drawn = _led(drawn, len(first), last)
    return _faded(drawn, first, last, planted, ground).astype(np.float32)


def fade_offsets(
    known: Array, later: Array, frames: int, fade: float, path: Array | None = None, hold: Array | None = None
) -> Array:
    """The offsets between known ones, as smooth as can be and soon nothing.

    Args:
        known: (K, D) offsets before.
        later: (L, D) offsets after; may be empty.
        frames: N, how many between.
        fade: frames in which an offset fades.
        path: (K + N + L, D) what the offsets are added to; with `hold`.
        hold: (K + N + L - 1,) for each step of `path` with offsets added, 0 to 1, how much it should be none.

    Returns:
        (N, D); the minimum of the sum in this module's description.
    """
    total = len(known) + frames + len(later)
    free = slice(len(known), len(known) + frames)
    fixed = np.concatenate([known, np.zeros((frames, known.shape[1])), later])
    third = _thirds(total)
    pull = np.full(frames, fade**-6)
    if hold is not None:
        rests = np.minimum(hold, np.append(hold[1:], hold[-1]))[free.start - 1 : free.stop - 1]
        pull *= 1 - 0.99 * rests  # an offset stays while the toe is planted and fades while it is in the air
    left = third[:, free].T @ third[:, free] + np.diag(pull)
    right = -third[:, free].T @ (third @ fixed)
    if path is not None and hold is not None:
        step = np.diff(np.eye(total), axis=0) * np.sqrt(_HOLD * hold)[:, None]
        left += step[:, free].T @ step[:, free]
        right -= step[:, free].T @ (step @ (path + fixed))
    return np.asarray(np.linalg.solve(left, right))


def _thirds(count: int) -> Array:
    """The matrix that makes third differences of `count` frames, or the highest there are of fewer than four."""
    return np.diff(np.eye(count), n=min(3, count - 1), axis=0)


def _cuts(window: Array, frames: int, before: Array, after: Array | None, slack: int) -> tuple[int, int]:
    """First of the window's frames that is new, and the first that is not: where pose, speed and feet fit best."""
    start, end = len(before), len(before) + frames
    slack = min(slack, frames // 3)
    if not slack:
        return start, end
    early = max(start - slack, min(CONTEXT, start))
    room = min(start + slack, len(window) - (frames if after is None else 0)) - early
    _, later = best_cut(before[-2 * CONTEXT :], window[early:], second_slack=max(room, 0))
    start = early + later
    if after is None:
        return start, start + frames
    most = min(end + slack, len(window) - min(len(after), CONTEXT))
    cut, _ = best_cut(window[:most], after[: 2 * CONTEXT], first_slack=most - (end - slack))
    return start, cut


def _stretch(window: Array, head: int, frames: int, tail: int) -> Array:
    """The frames between the first `head` and the last `tail`, brought to `frames`."""
    inner = len(window) - head - tail
    if inner == frames:
        return window
    at = head - 1 + np.arange(1, frames + 1) * ((inner + 1) / (frames + 1))
    middle = interpolate(window.astype(np.float64), at)
    return np.concatenate([window[:head], middle, window[len(window) - tail :]])


def _placed(drawn: Array, first: Array, ground: float) -> Array:
    """The drawn frames turned and moved so that pelvis and planted feet fit the last given frame before them."""
    at = len(first) - 1
    turned = rotate(drawn, yaw_of(first[-1]) - yaw_of(drawn[at]))
    away = first[-1] - turned[at]
    rests = [toe for (*_, toe), on in zip(LEGS, _planted(turned, ground)[at], strict=True) if on > 0.5]
    turned[..., [0, 2]] += away[[0, *rests, *rests]][:, [0, 2]].mean(axis=0)
    return turned


def _planted(drawn: Array, ground: float) -> Array:
    """(T - 1, 2) how much the left and the right toe rest in each step, 0 to 1."""
    toes = drawn[:, [toe for *_, toe in LEGS]]
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1)
    height = np.maximum(toes[1:, :, 1], toes[:-1, :, 1]) - ground
    rests = np.clip(2 - speed / PLANTED_SPEED, 0, 1) * np.clip(3 - 2 * height / PLANTED_HEIGHT, 0, 1)
    around = np.pad(rests, ((_PLANTED_STEPS, _PLANTED_STEPS), (0, 0)), mode="edge")
    return np.min([around[at : at + len(rests)] for at in range(2 * _PLANTED_STEPS + 1)], axis=0)


def _led(drawn: Array, head: int, last: Array) -> Array:
    """The drawn frames with their path turned and moved, step by step, so that they arrive at the frames `last`."""
    joints = [0, *(toe for *_, toe in LEGS)]
    arrival = len(drawn) - len(last)
    moves = np.linalg.norm(np.diff(drawn[:, joints][..., [0, 2]], axis=0), axis=-1).mean(axis=1)
    share = np.zeros(len(drawn))
    rate = averaged(moves[head - 1 : arrival] + 0.003, triangle(4), "held")
    rate = rate * np.minimum(1, np.minimum(np.arange(1, len(rate) + 1), np.arange(len(rate), 0, -1)) / 5)
    share[head : arrival + 1] = np.cumsum(rate) / rate.sum()
    share[arrival:] = 1
    turn = wrapped(yaw_of(last[0]) - yaw_of(drawn[arrival]))
    steps = np.diff(drawn[:, :1], axis=0, prepend=drawn[:1, :1])
    steps[0] = drawn[0, :1]
    between = share - np.diff(share, prepend=0) / 2
    path = np.cumsum(rotate(steps, turn * between[:, None]), axis=0)
    led = rotate(drawn - drawn[:, :1], turn * share[:, None]) + path
    miss = last[0, 0] - led[arrival, 0]
    led += share[:, None, None] * miss
    return led


def _faded(drawn: Array, first: Array, last: Array, planted: Array, ground: float) -> Array:
    """The new frames of `drawn` with the offsets of the given ones faded out, and feet that swing above the ground."""
    head, frames = len(first), len(drawn) - len(first) - len(last)
    new = slice(head, head + frames)
    given = np.concatenate([first, drawn[new], last])

    def fade(offset: Array, size: float = 1.0, path: Array | None = None, hold: Array | None = None) -> Array:
        farthest = size * np.linalg.norm(offset, axis=-1).max()
        over = float(np.clip(np.cbrt(farthest / _GENTLE), _MIN_FADE, _MAX_FADE))
        flat = offset.reshape(len(drawn), -1)
        faded = fade_offsets(flat[:head], flat[new.stop :], frames, over, path, hold)
        return faded.reshape(frames, *offset.shape[1:])

    root = drawn[new, 0] + fade(given[:, 0] - drawn[:, 0])
    turns = arc_vectors(bone_vectors(drawn), bone_vectors(given))
    turns[:head] = _unwound(turns[:head][::-1])[::-1]
    turns[new.stop :] = _unwound(turns[new.stop :])
    lengths = bone_lengths(given[[head - 1, -1 if len(last) else head - 1]])
    lengths = interpolate(lengths, np.linspace(0, 1, frames + 2)[1:-1])
    out = assemble(root, turned_by(bone_vectors(drawn[new]), fade(turns, _ARM)), lengths)
    for side, leg in enumerate(LEGS):
        _, _, ankle, toe = leg
        path = drawn[:, toe]
        away = given[:, toe] - path
        holds = planted[:, side] * (np.linalg.norm(away, axis=-1).max() < _NEAR)
        toes = path[new] + fade(away, 1.0, path, holds)
        toes[:, 1] += _lift(np.concatenate([given[:head, toe], toes, given[new.stop :, toe]]), ground, new)
        place_ankle(out, leg, toes - (out[:, toe] - out[:, ankle]), ground)
    return out


def _lift(toe: Array, ground: float, new: slice) -> Array:
    """(N,) metres by which to lift a toe (T, 3) in its new frames: drawn feet often brush along the ground.

    The lift comes as near to what a swinging toe lacks as small third differences allow; it is 0 in the given frames.
    """
    speed = np.linalg.norm(np.diff(toe[:, [0, 2]], axis=0, append=toe[-1:, [0, 2]]), axis=-1)
    swings = np.clip((speed - PLANTED_SPEED) / (_SWING_SPEED - PLANTED_SPEED), 0, 1)
    lacks = np.maximum(ground + _SWING_HEIGHT * swings - toe[:, 1], 0)[new]
    third = _thirds(len(toe))[:, new]
    return np.asarray(np.linalg.solve(third.T @ third + _FIRM * np.eye(len(lacks)), _FIRM * lacks))


def _unwound(turns: Array) -> Array:
    """(T, B, 3) the same turns, each the other way round where that is nearer to the one before it."""
    turns = turns.copy()
    for at in range(1, len(turns)):
        angle = np.linalg.norm(turns[at], axis=-1, keepdims=True)
        other = turns[at] * (1 - 2 * np.pi / np.maximum(angle, 1e-8))
        nearer = np.linalg.norm(other - turns[at - 1], axis=-1) < np.linalg.norm(turns[at] - turns[at - 1], axis=-1)
        turns[at] = np.where(nearer[:, None] & (angle > 1), other, turns[at])
    return turns
