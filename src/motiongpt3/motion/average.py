"""Averaging over time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


def averaged(
    values: NDArray[np.floating[Any]], sigma: float, ends: Literal["held", "kept"] = "kept"
) -> NDArray[np.float64]:
    """(T, ...) averaged over time with a Gaussian of `sigma` frames.

    Args:
        values: (T, ...), a number or more per frame.
        sigma: standard deviation in frames.
        ends: what lies beyond the ends. "held": the end's value. "kept": the values mirrored in place and time, so that
            the first and the last value stay as they are and a straight line is not changed.
    """
    reach = max(1, round(3 * sigma))
    if ends == "kept":
        reach = min(reach, len(values) - 1)
    if reach < 1:
        return values.astype(np.float64)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(sigma, 1e-3)))
    flat = values.reshape(len(values), -1).astype(np.float64)
    beyond = ((reach, reach), (0, 0))
    padded = np.pad(flat, beyond, "edge") if ends == "held" else np.pad(flat, beyond, "reflect", reflect_type="odd")
    found = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(found, axis=-1).reshape(values.shape)
