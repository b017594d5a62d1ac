"""Two-bone inverse kinematics: where the knee goes when hip and ankle are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


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
