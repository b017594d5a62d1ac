"""Knees that don't snap: a foot tilts over its toes so that a nearly straight leg stays as long as it was.

Near its full length a leg's knee moves many times as far as its ankle, and one that is stretched too far points
backwards. A few millimetres that a standing foot is moved would throw it about; the heel takes them up instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.blend import eased

Array = NDArray[np.floating[Any]]

_BENT, _FULL = 0.85, 0.95  # shares of its length: a leg that is shorter needs no help, one that is longer all of it
_MOST = 0.12  # radians
_DAMPED = 0.04  # metres per radian: where tilting changes the leg by less it is of little use


def tilted_foot(joints: Array, leg: tuple[int, int, int, int], toes: Array, floor: float) -> NDArray[np.float64]:
    """(T, 3) from ankle to toes, tilted over the toes so that hip and ankle are about as far apart as they were.

    One damped step of Newton's method for the angle. A bent leg's foot keeps its direction, and no foot tilts by more
    than 0.12 radians.

    Args:
        joints: (T, J, 3) metres.
        leg: hip, knee, ankle and toe.
        toes: (T, 3) where the toes will be.
        floor: its height in metres; no heel goes under it, nor lower than it ever was.
    """
    hip, knee, ankle, toe = (joints[:, joint] for joint in leg)
    reach = np.linalg.norm(ankle - hip, axis=-1)
    full = np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)
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
    share = np.clip((reach / np.maximum(full, 1e-8) - _BENT) / (_FULL - _BENT), 0, 1)
    angle = eased(share) * _MOST * np.tanh(angle / _MOST)
    return np.asarray(-(heel * np.cos(angle)[:, None] + up * np.sin(angle)[:, None]))
