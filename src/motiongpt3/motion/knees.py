"""Knees that don't snap: body and heels move a little, so that legs stay as long, and as folded, as they were.

Near its full length a leg's knee moves many times as far as its ankle, and one that is stretched too far points
backwards. Where a leg is folded, hip and ankle are so close that its knee swings around them both. A few millimetres
that a standing foot is moved would throw such a knee about. So the body goes up or down with the length that is needed,
and each foot tilts over its toes for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.average import averaged
from motiongpt3.motion.legs import Leg, folded, length
from motiongpt3.motion.poses import eased
from motiongpt3.motion.skeleton import Array

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
    return averaged(pull / stiff, _SMOOTH * fps, "held")


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
    straight = eased((reach / np.maximum(thigh + shin, 1e-8) - _BENT) / (_FULL - _BENT))
    near = folded(reach, thigh + shin)
    end = np.where(near[:, None] > 0, joints[:, knee], joints[:, hip])
    return end, np.where(near > 0, shin, reach), np.maximum(straight, near)
