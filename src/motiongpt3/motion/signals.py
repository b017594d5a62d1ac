"""Numbers over time: averages, ramps from 0 to 1, and the frames in which something holds.

Own code, for scipy is no dependency and would be a heavy one: 140 MB, and importing its filters takes half a second.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.skeleton import Array, Float64


def averaged(values: Array, window: Float64, ends: Literal["held", "kept", "zero"] = "kept") -> Float64:
    """(T, ...) averaged over time with the weights of a window.

    Args:
        values: (T, ...), a number or more per frame.
        window: (2 R + 1,) weights, symmetric; their sum does not matter: `gaussian`, `triangle` or `box`.
        ends: what lies beyond the ends. "held": the end's value. "zero": nothing. "kept": the values mirrored in place
            and time, so that the first and the last value stay as they are and a straight line is not changed.
    """
    radius = len(window) // 2
    reach = min(radius, len(values) - 1) if ends == "kept" else radius
    if reach < 1:
        return values.astype(np.float64)
    window = window[radius - reach : radius + reach + 1]
    flat = values.reshape(len(values), -1).astype(np.float64)
    beyond = ((reach, reach), (0, 0))
    if ends == "kept":
        padded = np.pad(flat, beyond, "reflect", reflect_type="odd")
    else:
        padded = np.pad(flat, beyond, "edge" if ends == "held" else "constant")
    columns = [np.convolve(column, window / window.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=-1).reshape(values.shape)


def gaussian(sigma: float, cut: float = 3.0) -> Float64:
    """A window with a standard deviation of `sigma` frames, cut off after `cut` deviations, at least a frame."""
    reach = max(1, round(cut * sigma))
    return np.asarray(np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(sigma, 1e-3))))


def triangle(radius: int) -> Float64:
    """A window that falls evenly to nothing beyond `radius` frames."""
    return np.minimum(np.arange(1, 2 * radius + 2), np.arange(2 * radius + 1, 0, -1)).astype(np.float64)


def box(radius: int) -> Float64:
    """A window that is the same for all 2 x radius + 1 frames."""
    return np.ones(2 * radius + 1)


def interpolate(values: Array, at: Array) -> Array:
    """(N, ...) values (T, ...) at places from 0 to T - 1: on a line between the frames beside, in their precision."""
    last = len(values) - 1
    low = np.clip(np.floor(at).astype(np.int64), 0, max(last - 1, 0))
    weight = (at - low).reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return values[low] * (1 - weight) + values[np.minimum(low + 1, last)] * weight


def smoothstep(s: Array) -> Array:
    """0 to 1 with zero velocity at both ends: a cubic; 0 before and 1 after."""
    s = np.clip(s, 0, 1)
    return s * s * (3 - 2 * s)


def smootherstep(s: Array) -> Array:
    """0 to 1 with zero velocity and acceleration at both ends: a quintic; 0 before and 1 after."""
    s = np.clip(s, 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def spans(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, stop) of each run of True in (T,) flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
