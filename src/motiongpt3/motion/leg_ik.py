"""Inverse kinematics of legs: ankles put somewhere, bones keep their lengths, knees don't snap.

One formula, `two_bone_ik`, and two ways of using it. `place_ankle` bends one leg under a hip that stays and needs no
frame rate: for seams of some frames. `place_ankles` bends both legs of a whole motion, smoothly in time; where a leg is
too short the body gives way.

Near its full length a leg's knee moves many times as far as its ankle, and one that is stretched too far points
backwards. Where a leg is folded, hip and ankle are so close that its knee swings around them both. A few millimetres
that a standing foot is moved would throw such a knee about. So before `place_ankles` the body goes up or down with the
length that is needed (`body_lift`), and each foot tilts over its toes for the rest (`tilted_foot`). What each of these
is worth stands in docs/experiments.md, "Feet that stand, again" and "The last contacts"; numbers below without a source
were found by eye, or by the same runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motiongpt3.motion.poses import forward, heading, unit
from motiongpt3.motion.signals import averaged, gaussian, smootherstep, smoothstep
from motiongpt3.motion.skeleton import LEGS, Array, Float64, Leg

_MAX_STRETCH = 0.995  # share of its length to which a corrected leg stretches
_MIN_POLE = 0.06
"""Metres off the line from hip to ankle: a knee that is nearer points nowhere, and forward by so much on average ("The
last contacts": with 0.03 two motions of 14 sets failed)."""
_POLE_SECONDS, _TURN_SECONDS = 0.12, 0.05  # deviations, in which it is averaged where a knee points, and turns there
_BEND_RATE = 0.7  # a knee 1 + 1 / 0.7 times as far off that line as it was points where it does on average
_FOLDED, _BOWED = 0.2, 0.4  # shares of its length: a leg that is shorter is folded, one that is longer is not
_BENT, _STRAIGHT = 0.85, 0.95  # a leg that is shorter needs no help of body and heel, one that is longer all of it
_MAX_TILT = 0.12  # radians of a foot; more was no better ("The last contacts")
_STIFFNESS = 0.3  # legs' worth that holds the body at its height
_LIFT_SECONDS = 0.06  # deviation, over which the body's way up and down is averaged ("The last contacts": not 0.08)
_DAMPING = 0.04  # metres per radian: where tilting changes the leg by less it is of little use
_GIVE_SECONDS = 0.08  # deviation, over which the body's way to where legs are long enough is averaged


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
    line = unit(line)
    pole = unit(pole - (pole * line).sum(-1, keepdims=True) * line)
    along = _along(reach, thigh, shin)
    aside = np.sqrt(np.maximum(thigh**2 - along**2, 0))
    return hip + along[:, None] * line + aside[:, None] * pole, hip + reach[:, None] * line


def place_ankle(joints: Float64, leg: Leg, target: Array, ground: float) -> None:
    """Bend one leg of `joints`, in place, so that its ankle is at `target`, as far as it reaches.

    The hip stays, the foot keeps its direction, and the toes stay above ground. A leg that is too short stretches
    smoothly and is never quite straight. A leg that moves far bends its knee forward.

    Args:
        joints: (T, 22, 3) metres, changed.
        leg: hip, knee, ankle and toe.
        target: (T, 3) where the ankle should be.
        ground: its height.
    """
    hip, knee, ankle, toe = leg
    thigh, shin = length(joints, hip, knee), length(joints, knee, ankle)
    full = thigh + shin
    line = target - joints[:, hip]
    distance = np.linalg.norm(line, axis=-1)
    # Up to its own length, which is between 96 and 99.99 % of the full one, a leg follows; then it stretches ever less.
    free = length(joints, hip, ankle).clip(0.96 * full, 0.9999 * full)
    room = np.maximum(0.997 * full - free, 0.004)
    reach = np.minimum(distance, free) + room * (1 - np.exp(-np.maximum(distance - free, 0) / room))
    reach = np.clip(reach, abs(thigh - shin) + 1e-4, 0.9999 * full)
    ahead = forward(heading(joints))
    moved = np.linalg.norm(target - joints[:, ankle], axis=-1, keepdims=True)
    pole = joints[:, knee] - joints[:, hip] + ahead * np.minimum(4 * moved, 0.8)
    foot = joints[:, toe] - joints[:, ankle]
    joints[:, knee], joints[:, ankle] = two_bone_ik(joints[:, hip], line, reach, thigh, shin, pole)
    sole = np.linalg.norm(foot, axis=-1)
    lowest = np.clip(ground - joints[:, ankle, 1], -0.98 * sole, 0)
    down = np.maximum(foot[:, 1], lowest)
    flat = np.linalg.norm(foot[:, [0, 2]], axis=-1)
    foot *= (np.sqrt(np.maximum(sole**2 - down**2, 0)) / np.maximum(flat, 1e-6))[:, None]
    foot[:, 1] = down
    joints[:, toe] = joints[:, ankle] + foot


def place_ankles(joints: Array, ankles: Sequence[Array], fps: float) -> Float64:
    """The legs bent so that the ankles are where they are wanted; where a leg is too short, the body gives way.

    Args:
        joints: (T, 22, 3) metres.
        ankles: (T, 3) for the left and for the right ankle.
        fps: frames per second.

    Returns:
        (T, 22, 3) joints: feet keep their direction, knees point where they did, bones keep their lengths.
    """
    joints = joints + _give_way(joints, ankles, fps)[:, None]
    out = joints.copy()
    for target, leg in zip(ankles, LEGS, strict=True):
        hip, knee, ankle, toe = leg
        thigh, shin = length(joints, hip, knee), length(joints, knee, ankle)
        line = target - joints[:, hip]
        reach = np.minimum(np.linalg.norm(line, axis=-1), _max_reach(joints, leg))
        reach = np.clip(reach, np.abs(thigh - shin) + 1e-4, thigh + shin)
        pole = _steady_pole(joints, leg, reach, fps)
        out[:, knee], out[:, ankle] = two_bone_ik(joints[:, hip], line, reach, thigh, shin, pole)
        out[:, toe] = out[:, ankle] + (joints[:, toe] - joints[:, ankle])
    return out


def body_lift(joints: Array, toes: Sequence[Array], legs: Sequence[Leg], fps: float) -> Float64:
    """(T,) metres by which the body goes up, or down, so that straight and folded legs stay about as they were.

    Args:
        joints: (T, J, 3) metres.
        toes: (T, 3) for each leg, where its toes will be.
        legs: hip, knee, ankle and toe of each.
        fps: frames per second.
    """
    pull, stiff = np.zeros(len(joints)), np.full(len(joints), _STIFFNESS)
    for target, leg in zip(toes, legs, strict=True):
        end, wanted, share = _kept(joints, leg)
        line = end - target - joints[:, leg[2]] + joints[:, leg[3]]
        now = np.linalg.norm(line, axis=-1)
        upright = line[:, 1] / np.maximum(now, 1e-8)
        pull += share * upright * (wanted - now)
        stiff += share * upright**2
    return averaged(pull / stiff, gaussian(_LIFT_SECONDS * fps), "held")


def tilted_foot(joints: Array, leg: Leg, toes: Array, floor: float) -> Float64:
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
    angle = gain * (wanted - now) / (gain**2 + _DAMPING**2)
    angle = share * _MAX_TILT * np.tanh(angle / _MAX_TILT)
    high = toes[:, 1] + heel[:, 1]
    room = high - np.minimum(high, max(float(ankle[:, 1].min()), floor))
    drop = -angle * across[:, 1]
    angle = np.where(drop > room, angle * room / np.maximum(drop, 1e-8), angle)[:, None]
    return np.asarray(-(heel * np.cos(angle) + across * np.sin(angle)))


def folded(reach: Array, full: Array) -> Float64:
    """(T,) how folded a leg is that reaches so far of its full length, (T,) metres each.

    1 if hip and ankle are so near that its knee swings around them both, 0 if not.
    """
    return np.asarray(smoothstep((_BOWED - reach / np.maximum(full, 1e-8)) / (_BOWED - _FOLDED)), dtype=np.float64)


def length(joints: Array, a: int, b: int) -> Array:
    """(T,) metres between two joints."""
    return np.asarray(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1))


def _along(reach: Array, thigh: Array | float, shin: Array | float) -> Array:
    """(T,) metres from the hip, on the line to the ankle, to the foot of the knee's height over it (law of cosines)."""
    return (thigh**2 - shin**2 + reach**2) / (2 * reach)


def _give_way(joints: Array, ankles: Sequence[Array], fps: float) -> Float64:
    """(T, 3) smooth way of the body to where each leg reaches its ankle to half a millimetre, in 12 rounds at most."""
    move = np.zeros((len(joints), 3))
    reaches = [_max_reach(joints, leg) for leg in LEGS]
    for _ in range(12):
        need = np.zeros_like(move)
        for target, leg, reach in zip(ankles, LEGS, reaches, strict=True):
            line = target - joints[:, leg[0]] - move
            distance = np.linalg.norm(line, axis=-1)
            short = distance - reach
            need += np.where(short > 0, short / np.maximum(distance, 1e-8), 0)[:, None] * line
        if np.abs(need).max() < 5e-4:
            break
        move += averaged(need, gaussian(_GIVE_SECONDS * fps), "held") * 1.5
    return move


def _max_reach(joints: Array, leg: Leg) -> Array:
    """(T,) how far a leg may stretch: nearly straight, or as straight as it was."""
    hip, knee, ankle, _ = leg
    full = length(joints, hip, knee) + length(joints, knee, ankle)
    return np.maximum(_MAX_STRETCH * full, length(joints, hip, ankle))


def _steady_pole(joints: Array, leg: Leg, reach: Array, fps: float) -> Array:
    """(T, 3) where the knee of a leg points when its ankle lies `reach` (T,) away: where it did.

    Where a straight knee points changes from frame to frame, or is nowhere. As far as such a leg is bent more than
    it was, its knee points where it did on average, or where the foot does. The knee of a folded leg, whose line from
    hip to ankle turns far when the ankle moves, stays as near as it can to where it was.
    """
    hip, knee, ankle, toe = leg
    thigh, shin = length(joints, hip, knee), length(joints, knee, ankle)
    own = joints[:, knee] - joints[:, hip]
    old = joints[:, ankle] - joints[:, hip]
    pole = own - old * ((own * old).sum(-1) / np.maximum((old * old).sum(-1), 1e-8))[:, None]
    size = np.linalg.norm(pole, axis=-1, keepdims=True)
    bent = np.sqrt(np.maximum(thigh**2 - _along(reach, thigh, shin) ** 2, 0))[:, None]
    more = np.clip(_BEND_RATE * (bent / np.maximum(size, 1e-6) - 1), 0, 1)
    more = averaged(more, gaussian(_TURN_SECONDS * fps), "held")
    forward = np.maximum(_MIN_POLE - size, 0) * unit(joints[:, toe] - joints[:, ankle])
    usual = averaged(pole + forward, gaussian(_POLE_SECONDS * fps))
    toward = (1 - more) * unit(pole) + more * unit(usual)
    near = folded(length(joints, hip, ankle), thigh + shin)[:, None]
    return np.asarray((1 - near) * toward + near * own / np.maximum(size, 1e-6))


def _kept(joints: Array, leg: Leg) -> tuple[Array, Array, Array]:
    """What must stay as far from the ankle as it was, (T, 3), how far that is, (T,), and how much so, (T,) 0 to 1.

    The hip of a leg that is nearly straight; the knee of one that is folded.
    """
    hip, knee, ankle, _ = leg
    thigh, shin, reach = length(joints, hip, knee), length(joints, knee, ankle), length(joints, hip, ankle)
    straight = smootherstep((reach / np.maximum(thigh + shin, 1e-8) - _BENT) / (_STRAIGHT - _BENT))
    near = folded(reach, thigh + shin)
    end = np.where(near[:, None] > 0, joints[:, knee], joints[:, hip])
    return end, np.where(near > 0, shin, reach), np.maximum(straight, near)
