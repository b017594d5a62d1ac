"""A cycle out of a motion: the part whose end fits its start best, cut out and closed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import assemble, bone_lengths, bone_vectors, heading, rotate, wrapped, yaw_of
from motiongpt3.motion.signals import smootherstep
from motiongpt3.motion.skeleton import Array, Float64

# All by eye.
MIN_LOOP_SECONDS = 0.5
"""Seconds of the shortest cycle."""
_FADE_SECONDS = 0.4  # over which the end passes into what came before the start
_WHOLE = 0.3  # metres of misfit that the whole clip is worth against a cycle of no length
_KINK, _VELOCITY = 1.0, 0.15  # metres of misfit that 1 m/s of a kink, and of a difference between the ends is worth
_MAX_CHOICES = 240  # frames tried as start, and as end: 12 s at 20 fps; a bound for long clips
_MIN_TURN, _MIN_TRAVEL = np.deg2rad(30), 0.25
"""A cycle that turns less is made straight, and one that goes less far (metres) is brought back."""


def loop(motion: Motion) -> Motion:
    """A seamless cycle: the last pose is the first again, and the motion goes on with the velocity it began with.

    Of all parts of the clip of at least `MIN_LOOP_SECONDS` that one is taken whose ends differ least in pose and
    velocity, a longer one rather than a shorter one. Its last 0.4 s pass into what came before its first frame. A walk
    goes on from where it is, and a turn of more than 30 degrees goes on turning: the poses agree relative to where
    the person stands and faces. `motion.postprocess.without_path` makes a cycle that stays.

    Returns:
        a shorter motion at the same frame rate; its last frame shows the pose of the first one.

    Raises:
        MotionGPT3Error: the clip is shorter than 1 s.
    """
    joints, fps = motion.joints.astype(np.float64), motion.fps
    if motion.seconds < 2 * MIN_LOOP_SECONDS or len(joints) < 8:
        raise MotionGPT3Error(f"a loop is cut out of at least 1 s of motion; this one has {motion.seconds:.2f} s")
    start, end = _ends(joints, fps)
    return motion.replace(joints=_straightened(closed(joints, start, end, fps)))


def closed(joints: Float64, start: int, end: int, fps: float) -> Float64:
    """(end - start + 1, 22, 3) the frames start to end, where the last one shows the pose of the first.

    The last 0.4 s turn into those before `start`, moved and turned to where the person is at `end`.
    """
    cycle = joints[start : end + 1].copy()
    fade = min(_fade_frames(fps), start, len(cycle) - 1)
    before = _moved(joints[start - fade : start + 1], joints[start], joints[end])
    weight = smootherstep(np.linspace(0, 1, fade + 1))[:, None, None]
    tail = cycle[-fade - 1 :]
    mixed = (1 - weight) * bone_vectors(tail) + weight * bone_vectors(before)
    root = (1 - weight[:, 0]) * tail[:, 0] + weight[:, 0] * before[:, 0]
    cycle[-fade - 1 :] = assemble(root, mixed, bone_lengths(tail).mean(0))
    cycle[-1] = before[-1]
    return cycle


def tiled(joints: Array, times: int) -> Array:
    """A cycle (N, 22, 3) several times, each from where the one before arrived: (times (N - 1) + 1, 22, 3)."""
    parts, last = [joints], joints[-1]
    for _ in range(times - 1):
        parts.append(_moved(joints, joints[0], last)[1:])
        last = parts[-1][-1]
    return np.concatenate(parts)


def kinks(joints: Array) -> Array:
    """(T - 4, J) metres per frame by which the velocity of a joint changes otherwise than on the frames beside.

    The change of velocity on a frame is compared with those on the frames before and after: 0 where it lies between
    the two, so that what speeds up or slows down evenly has no kink.
    """
    change = np.diff(joints, n=2, axis=0)
    before, at, after = change[:-2], change[1:-1], change[2:]
    span = after - before
    part = ((at - before) * span).sum(-1) / np.maximum((span * span).sum(-1), 1e-12)
    return np.asarray(np.linalg.norm(at - before - np.clip(part, 0, 1)[..., None] * span, axis=-1))


def in_sight_of(pose: Array, vectors: Array) -> Array:
    """Vectors (..., 3) turned by the heading of a pose (22, 3): as the person sees them."""
    return rotate(vectors, -yaw_of(pose))


def _fade_frames(fps: float) -> int:
    return max(2, round(_FADE_SECONDS * fps))


def _moved(joints: Array, pose: Array, onto: Array) -> Array:
    """Joints turned and moved along the floor as it takes `pose` (22, 3) to where `onto` stands and faces."""
    turned = rotate(joints - pose[0] * [1, 0, 1], yaw_of(onto) - yaw_of(pose))
    return turned + onto[0] * [1, 0, 1]


def _ends(joints: Array, fps: float) -> tuple[int, int]:
    """First and last frame of the cycle whose ends fit best."""
    last = len(joints) - 1
    half = last // 2
    starts, ends = _spread(min(_fade_frames(fps), half), half), _spread(half + 1, last)
    yaw = heading(joints)[:, None]
    pose = rotate(joints - joints[:, :1] * [1, 0, 1], -yaw)
    velocity = rotate(np.gradient(joints, axis=0) * fps, -yaw)
    signature = np.concatenate([pose, _VELOCITY * velocity], axis=1).reshape(last + 1, -1)
    misfit = np.linalg.norm(signature[starts][:, None] - signature[ends][None], axis=-1) / np.sqrt(22)
    length = ends[None] - starts[:, None]
    hard = np.pad(kinks(joints).max(axis=1), 2, mode="edge") * fps
    cost = misfit + _WHOLE * (1 - length / last) + np.where(length < MIN_LOOP_SECONDS * fps, np.inf, 0)
    cost = cost + _KINK * hard[starts][:, None]
    row, column = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(starts[row]), int(ends[column])


def _spread(first: int, last: int) -> NDArray[np.int64]:
    """Frames from the first to the last, all, or `_MAX_CHOICES` of them."""
    return np.unique(np.linspace(first, last, min(_MAX_CHOICES, last - first + 1)).round().astype(np.int64))


def _straightened(cycle: Array) -> Array:
    """The cycle without the small turn or the small way that one round of it makes; larger ones stay."""
    part = np.arange(len(cycle)) / (len(cycle) - 1)
    turn = wrapped(yaw_of(cycle[-1]) - yaw_of(cycle[0]))
    root = cycle[:, 0].copy()
    if abs(turn) < _MIN_TURN:
        back = -turn * part
        cycle = rotate(cycle - cycle[:, :1], back[:, None])
        root[1:] = root[0] + np.cumsum(rotate(np.diff(root, axis=0), (back[1:] + back[:-1]) / 2), axis=0)
        cycle = cycle + root[:, None]
    way = (root[-1] - root[0]) * [1, 0, 1]
    return cycle - part[:, None, None] * way if np.linalg.norm(way) < _MIN_TRAVEL else cycle
