"""Knees that don't snap: body and heels move a little so that a nearly straight leg stays as long as it was.

Near its full length a leg's knee moves many times as far as its ankle, and one that is stretched too far points
backwards. A few millimetres that a standing foot is moved would throw it about. So the body goes up or down with the
length that is needed, and each foot tilts over its toes for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.average import averaged
from motiongpt3.motion.blend import eased
from motiongpt3.motion.legs import Leg, length

Array = NDArray[np.floating[Any]]

_BENT, _FULL = 0.85, 0.95  # shares of its length: a leg that is shorter needs no help, one that is longer all of it
_MOST = 0.12  # radians
_STIFF = 0.5  # legs' worth: what holds the body at its height
_SMOOTH = 0.08  # seconds over which its way is averaged
_DAMPED = 0.04  # metres per radian: where tilting changes the leg by less it is of little use


def rise(joints: Array, toes: Sequence[Array], legs: Sequence[Leg], fps: float) -> NDArray[np.float64]:
    """(T,) metres by which the body goes up, or down, so that nearly straight legs stay about as long as they were.

    Args:
        joints: (T, J, 3) metres.
        toes: (T, 3) for each leg, where its toes will be.
        legs: hip, knee, ankle and toe of each.
        fps: frames per second.
    """
    pull, stiff = np.zeros(len(joints)), np.full(len(joints), _STIFF)
    for target, (hip, knee, ankle, toe) in zip(toes, legs, strict=True):
        reach, share = _reach(joints, hip, knee, ankle)
        line = joints[:, hip] - target - joints[:, ankle] + joints[:, toe]
        now = np.linalg.norm(line, axis=-1)
        upright = line[:, 1] / np.maximum(now, 1e-8)
        pull += share * upright * (reach - now)
        stiff += share * upright**2
    return averaged(pull / stiff, _SMOOTH * fps, "held")


def tilted_foot(joints: Array, leg: Leg, toes: Array, floor: float) -> NDArray[np.float64]:
    """(T, 3) from ankle to toes, tilted over the toes so that hip and ankle are about as far apart as they were.

    One damped step of Newton's method for the angle. A bent leg's foot keeps its direction, and no foot tilts by more
    than 0.12 radians.

    Args:
        joints: (T, J, 3) metres.
        leg: hip, knee, ankle and toe.
        toes: (T, 3) where the toes will be.
        floor: its height in metres; no heel goes under it, nor lower than it ever was.
    """
    reach, share = _reach(joints, *leg[:3])
    hip, _, ankle, toe = (joints[:, joint] for joint in leg)
    heel = ankle - toe
    flat = np.linalg.norm(heel[:, [0, 2]], axis=-1)
    up = np.stack([-heel[:, 0] * heel[:, 1], flat**2, -heel[:, 2] * heel[:, 1]], axis=-1)
    up = up / np.maximum(flat, 1e-8)[:, None]
    line = toes + heel - hip
    now = np.linalg.norm(line, axis=-1)
    gain = (up * line).sum(-1) / np.maximum(now, 1e-8)
    angle = gain * (reach - now) / (gain**2 + _DAMPED**2)
    high = toes[:, 1] + heel[:, 1]
    lowest = np.minimum(high, max(float(ankle[:, 1].min()), floor))
    angle = np.maximum(angle, (lowest - high) / np.maximum(flat, 1e-8))
    angle = share * _MOST * np.tanh(angle / _MOST)
    return np.asarray(-(heel * np.cos(angle)[:, None] + up * np.sin(angle)[:, None]))


def _reach(joints: Array, hip: int, knee: int, ankle: int) -> tuple[Array, Array]:
    """(T,) metres from hip to ankle, and how straight a leg is: 0 for a bent one, 1 for one that is nearly straight."""
    reach, full = length(joints, hip, ankle), length(joints, hip, knee) + length(joints, knee, ankle)
    return reach, eased((reach / np.maximum(full, 1e-8) - _BENT) / (_FULL - _BENT))
