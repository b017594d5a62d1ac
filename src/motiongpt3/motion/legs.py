"""Two-bone inverse kinematics: an ankle put somewhere, with the bones' lengths kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

LEGS = ((1, 4, 7, 10), (2, 5, 8, 11))
"""Hip, knee, ankle and toe of the left and the right leg."""


def bend(
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


def place_ankle(
    joints: Array, leg: tuple[int, int, int, int], target: Array, lengths: Array, ground: float | Array, facing: Array
) -> None:
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
    joints[:, knee], joints[:, ankle] = bend(joints[:, hip], line, reach, thigh, shin, pole)
    joints[:, toe] = joints[:, ankle] + foot
    length = lengths[..., toe - 1]
    lowest = np.clip(ground - joints[:, ankle, 1], -0.98 * length, 0)
    down = np.maximum(foot[:, 1], lowest)
    flat = np.linalg.norm(foot[:, [0, 2]], axis=-1)
    foot *= (np.sqrt(np.maximum(length**2 - down**2, 0)) / np.maximum(flat, 1e-6))[:, None]
    foot[:, 1] = down
    joints[:, toe] = joints[:, ankle] + foot
