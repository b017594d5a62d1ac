"""Two-bone inverse kinematics: an ankle put somewhere, with the bones' lengths kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.poses import unit
from motiongpt3.motion.signals import averaged, gaussian, smootherstep, smoothstep
from motiongpt3.motion.skeleton import HUMANML3D, Array, Skeleton

Leg = tuple[int, int, int, int]
"""Hip, knee, ankle and toe."""

_STRAIGHT = 0.995  # of a leg's length: how far a corrected leg stretches
_POINTS = 0.06  # metres off the line from hip to ankle: a knee that is nearer points nowhere
_USUAL = 0.12  # seconds over which it is averaged where a knee points
_TURNS = 0.05  # seconds in which a knee turns there
_FOLDED, _BOWED = 0.2, 0.4  # shares of its length: a leg that is shorter is folded, one that is longer is not
_MORE = 0.7  # a knee that is 1 + 1 / _MORE times as far off that line as it was points where it does on average


def legs_of(skeleton: Skeleton) -> list[Leg]:
    """Hip, knee, ankle and toes of the left and of the right leg."""
    found = []
    for ankle, toe in (skeleton.contacts[:2], skeleton.contacts[2:]):
        knee = skeleton.parents[ankle]
        found.append((skeleton.parents[knee], knee, ankle, toe))
    return found


LEGS = tuple(legs_of(HUMANML3D))
"""Hip, knee, ankle and toe of the left and the right leg of the usual skeleton."""


def two_bone_ik(
    hip: Array, line: Array, reach: Array, thigh: Array | float, shin: Array | float, pole: Array
) -> tuple[Array, Array]:
    """Knee and ankle, (T, 3) each, of legs whose ankle lies `reach` away from the hip.

    Args:
        hip: (T, 3) metres.
        line: (T, 3) direction from hip to ankle, of any length above 0.
        reach: (T,) metres, from |thigh - shin| to thigh + shin.
        thigh: (T,) metres, or one length for all frames.
        shin: (T,) metres, or one length for all frames.
        pole: (T, 3) where the knee points, of any length; what lies along `line` does not count.
    """
    line = line / np.maximum(np.linalg.norm(line, axis=-1), 1e-8)[:, None]
    pole = pole - (pole * line).sum(-1, keepdims=True) * line
    pole = pole / np.maximum(np.linalg.norm(pole, axis=-1, keepdims=True), 1e-8)
    along = (thigh**2 - shin**2 + reach**2) / (2 * reach)
    aside = np.sqrt(np.maximum(thigh**2 - along**2, 0))
    return hip + along[:, None] * line + aside[:, None] * pole, hip + reach[:, None] * line


def place_ankle(joints: Array, leg: Leg, target: Array, lengths: Array, ground: float | Array, facing: Array) -> None:
    """Bend one leg of `joints`, in place, so that its ankle is at `target`, as far as it reaches.

    The hip stays, the foot keeps its direction, and the toes stay above ground. A leg that is too short stretches
    smoothly and is never quite straight.

    Args:
        joints: (T, 22, 3) float64 in metres, changed.
        leg: hip, knee, ankle and toe.
        target: (T, 3) where the ankle should be.
        lengths: (21,) or (T, 21) of the bones.
        ground: its height, one or (T,).
        facing: (T,) yaw of the body in radians, where knees bend to.
    """
    hip, knee, ankle, toe = leg
    thigh, shin = lengths[..., knee - 1], lengths[..., ankle - 1]
    line = target - joints[:, hip]
    distance = np.linalg.norm(line, axis=-1)
    full = thigh + shin
    free = np.linalg.norm(joints[:, ankle] - joints[:, hip], axis=-1).clip(0.96 * full, 0.9999 * full)
    room = np.maximum(0.997 * full - free, 0.004)
    over = np.maximum(distance - free, 0)
    reach = np.minimum(distance, free) + room * (1 - np.exp(-over / room))
    reach = np.clip(reach, abs(thigh - shin) + 1e-4, 0.9999 * full)
    pole = joints[:, knee] - joints[:, hip]
    ahead = np.stack([np.sin(facing), 0 * facing, np.cos(facing)], axis=-1)
    moved = np.linalg.norm(target - joints[:, ankle], axis=-1, keepdims=True)
    pole = pole + ahead * np.minimum(4 * moved, 0.8)  # a leg that moves far bends its knee forward
    foot = joints[:, toe] - joints[:, ankle]
    joints[:, knee], joints[:, ankle] = two_bone_ik(joints[:, hip], line, reach, thigh, shin, pole)
    joints[:, toe] = joints[:, ankle] + foot
    length = lengths[..., toe - 1]
    lowest = np.clip(ground - joints[:, ankle, 1], -0.98 * length, 0)
    down = np.maximum(foot[:, 1], lowest)
    flat = np.linalg.norm(foot[:, [0, 2]], axis=-1)
    foot *= (np.sqrt(np.maximum(length**2 - down**2, 0)) / np.maximum(flat, 1e-6))[:, None]
    foot[:, 1] = down
    joints[:, toe] = joints[:, ankle] + foot


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
    legs = legs_of(skeleton)
    joints = joints + _give_way(joints, ankles, legs, fps)[:, None]
    out = joints.copy()
    for target, (hip, knee, ankle, toe) in zip(ankles, legs, strict=True):
        foot = joints[:, toe] - joints[:, ankle]
        out[:, knee], out[:, ankle] = _bent(joints, target, hip, knee, ankle, toe, fps)
        out[:, toe] = out[:, ankle] + foot
    return out


def _give_way(joints: Array, ankles: Sequence[Array], legs: list[Leg], fps: float) -> Array:
    """(T, 3) smooth move of the body after which each leg reaches its ankle."""
    move = np.zeros((len(joints), 3))
    width = 0.08 * fps
    most = [_most(joints, *leg[:3]) for leg in legs]
    for _ in range(12):
        need = np.zeros_like(move)
        for target, leg, reach in zip(ankles, legs, most, strict=True):
            line = target - joints[:, leg[0]] - move
            distance = np.linalg.norm(line, axis=-1)
            short = distance - reach
            need += np.where(short > 0, short / np.maximum(distance, 1e-8), 0)[:, None] * line
        if np.abs(need).max() < 5e-4:
            break
        move += averaged(need, gaussian(width), "held") * 1.5
    return move


def _most(joints: Array, hip: int, knee: int, ankle: int) -> Array:
    """(T,) how far a leg may stretch: nearly straight, or as straight as it was."""
    full = length(joints, hip, knee) + length(joints, knee, ankle)
    return np.maximum(_STRAIGHT * full, length(joints, hip, ankle))


def _bent(joints: Array, target: Array, hip: int, knee: int, ankle: int, toe: int, fps: float) -> tuple[Array, Array]:
    """Knee and ankle of a leg, the ankle at its target as far as it reaches; the knee points where it did.

    Where a straight knee points changes from frame to frame, or is nowhere. As far as such a leg is bent more than
    it was, its knee points where it did on average, or where the foot does. The knee of a folded leg, whose line from
    hip to ankle turns far when the ankle moves, stays as near as it can to where it was.
    """
    thigh, shin = length(joints, hip, knee), length(joints, knee, ankle)
    line = target - joints[:, hip]
    reach = np.minimum(np.linalg.norm(line, axis=-1), _most(joints, hip, knee, ankle))
    reach = np.clip(reach, np.abs(thigh - shin) + 1e-4, thigh + shin)
    old = joints[:, ankle] - joints[:, hip]
    pole = joints[:, knee] - joints[:, hip]
    pole = pole - old * ((pole * old).sum(-1) / np.maximum((old * old).sum(-1), 1e-8))[:, None]
    size = np.linalg.norm(pole, axis=-1, keepdims=True)
    bent = np.sqrt(np.maximum(thigh**2 - ((thigh**2 - shin**2 + reach**2) / (2 * reach)) ** 2, 0))[:, None]
    more = averaged(np.clip(_MORE * (bent / np.maximum(size, 1e-6) - 1), 0, 1), gaussian(_TURNS * fps), "held")
    usual = averaged(
        pole + np.maximum(_POINTS - size, 0) * unit(joints[:, toe] - joints[:, ankle]), gaussian(_USUAL * fps)
    )
    toward = (1 - more) * unit(pole) + more * unit(usual)
    near = folded(length(joints, hip, ankle), thigh + shin)[:, None]
    toward = (1 - near) * toward + near * (joints[:, knee] - joints[:, hip]) / np.maximum(size, 1e-6)
    return two_bone_ik(joints[:, hip], line, reach, thigh, shin, toward)


def folded(reach: Array, full: Array) -> NDArray[np.float64]:
    """(T,) how folded a leg is that reaches so far of its full length, (T,) metres each.

    1 if hip and ankle are so near that its knee swings around them both, 0 if not.
    """
    share = reach / np.maximum(full, 1e-8)
    return np.asarray(smoothstep((_BOWED - share) / (_BOWED - _FOLDED)), dtype=np.float64)


def length(joints: Array, a: int, b: int) -> Array:
    """(T,) metres between two joints."""
    return np.asarray(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1))


# Knees that don't snap: body and heels move a little, so that legs stay as long, and as folded, as they were.
#
# Near its full length a leg's knee moves many times as far as its ankle, and one that is stretched too far points
# backwards. Where a leg is folded, hip and ankle are so close that its knee swings around them both. A few millimetres
# that a standing foot is moved would throw such a knee about. So the body goes up or down with the length that is
# needed, and each foot tilts over its toes for the rest.

_BENT, _FULL = 0.85, 0.95  # shares of its length: a leg that is shorter needs no help, one that is longer all of it
_MOST = 0.12  # radians
_STIFF = 0.3  # legs' worth: what holds the body at its height
_SMOOTH = 0.06  # seconds over which its way is averaged
_DAMPED = 0.04  # metres per radian: where tilting changes the leg by less it is of little use


def rise(joints: Array, toes: Sequence[Array], legs: Sequence[Leg], fps: float) -> NDArray[np.float64]:
    """(T,) metres by which the body goes up, or down, so that straight and folded legs stay about as they were.

    Args:
        joints: (T, J, 3) metres.
        toes: (T, 3) for each leg, where its toes will be.
        legs: hip, knee, ankle and toe of each.
        fps: frames per second.
    """
    pull, stiff = np.zeros(len(joints)), np.full(len(joints), _STIFF)
    for target, leg in zip(toes, legs, strict=True):
        end, wanted, share = _kept(joints, leg)
        line = end - target - joints[:, leg[2]] + joints[:, leg[3]]
        now = np.linalg.norm(line, axis=-1)
        upright = line[:, 1] / np.maximum(now, 1e-8)
        pull += share * upright * (wanted - now)
        stiff += share * upright**2
    return averaged(pull / stiff, gaussian(_SMOOTH * fps), "held")


def tilted_foot(joints: Array, leg: Leg, toes: Array, floor: float) -> NDArray[np.float64]:
    """(T, 3) from ankle to toes, tilted over the toes so that straight and folded legs are about as they were.

    One damped step of Newton's method for the angle. A foot tilts in the plane of its toes, its ankle and the hip, or
    the knee of a folded leg, by no more than 0.12 radians. A bent leg's foot keeps its direction.

    Args:
        joints: (T, J, 3) metres.
        leg: hip, knee, ankle and toe.
        toes: (T, 3) where the toes will be.
        floor: its height in metres; no heel goes under it, nor lower than it ever was.
    """
    end, wanted, share = _kept(joints, leg)
    ankle = joints[:, leg[2]]
    heel = ankle - joints[:, leg[3]]
    long = np.linalg.norm(heel, axis=-1)
    line = toes + heel - end
    now = np.linalg.norm(line, axis=-1)
    across = line / np.maximum(now, 1e-8)[:, None]
    across = across - heel * ((across * heel).sum(-1) / np.maximum(long**2, 1e-8))[:, None]
    gain = long * np.linalg.norm(across, axis=-1)
    across = across / np.maximum(gain, 1e-8)[:, None] * (long**2)[:, None]
    angle = gain * (wanted - now) / (gain**2 + _DAMPED**2)
    angle = share * _MOST * np.tanh(angle / _MOST)
    high = toes[:, 1] + heel[:, 1]
    room = high - np.minimum(high, max(float(ankle[:, 1].min()), floor))
    drop = -angle * across[:, 1]
    angle = np.where(drop > room, angle * room / np.maximum(drop, 1e-8), angle)
    return np.asarray(-(heel * np.cos(angle)[:, None] + across * np.sin(angle)[:, None]))


def _kept(joints: Array, leg: Leg) -> tuple[Array, Array, Array]:
    """What must stay as far from the ankle as it was, (T, 3), how far that is, (T,), and how much so, (T,) 0 to 1.

    The hip of a leg that is nearly straight; the knee of one that is folded.
    """
    hip, knee, ankle, _ = leg
    thigh, shin, reach = length(joints, hip, knee), length(joints, knee, ankle), length(joints, hip, ankle)
    straight = smootherstep((reach / np.maximum(thigh + shin, 1e-8) - _BENT) / (_FULL - _BENT))
    near = folded(reach, thigh + shin)
    end = np.where(near[:, None] > 0, joints[:, knee], joints[:, hip])
    return end, np.where(near > 0, shin, reach), np.maximum(straight, near)
