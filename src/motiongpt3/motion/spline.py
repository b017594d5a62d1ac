"""Cubic splines: a smooth curve through samples, for changing the frame rate without kinks."""

from __future__ import annotations

import numpy as np

from motiongpt3.motion.skeleton import Array


def cubic(samples: Array, at: Array) -> Array:
    """The natural cubic spline through samples 0, 1, 2 … at other places.

    Its first and second derivatives are continuous; at the ends the second is zero.

    Args:
        samples: (T, ...).
        at: (N,) places from 0 to T - 1; outside, the end pieces go on.

    Returns:
        (N, ...) float64. A single sample is repeated.
    """
    samples = samples.astype(np.float64)
    if len(samples) < 2:
        return np.repeat(samples, len(at), axis=0)
    bend = _second_derivatives(samples)
    low = np.clip(np.floor(at).astype(np.int64), 0, len(samples) - 2)
    shape = (-1, *[1] * (samples.ndim - 1))
    t = (at - low).reshape(shape)
    s = 1 - t
    curve = ((s**3 - s) * bend[low] + (t**3 - t) * bend[low + 1]) / 6
    return np.asarray(s * samples[low] + t * samples[low + 1] + curve)


def _second_derivatives(samples: Array) -> Array:
    """(T, ...) of the spline at its samples: M[i-1] + 4 M[i] + M[i+1] = 6 x second difference, 0 at both ends."""
    bend = np.zeros_like(samples)
    right = 6 * np.diff(samples, n=2, axis=0)
    upper = np.zeros(len(right))
    for row in range(len(right)):  # the tridiagonal system, solved forwards and backwards
        pivot = 4 - (upper[row - 1] if row else 0)
        upper[row] = 1 / pivot
        right[row] = (right[row] - (right[row - 1] if row else 0)) / pivot
    for row in range(len(right) - 1, -1, -1):
        bend[row + 1] = right[row] - upper[row] * bend[row + 2]
    return bend
