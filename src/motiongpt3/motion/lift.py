"""Toes lifted for as long as they are too low."""

from __future__ import annotations

import numpy as np

from motiongpt3.motion.skeleton import Array


def lift(lacks: Array, frames: float) -> Array:
    """(T,) metres by which to lift toes that lack (T,) metres, so that none lacks any, up and down in some frames."""
    out = np.zeros(len(lacks))
    reach = max(1, round(frames))
    for frame in np.flatnonzero(lacks > 0):
        near = slice(max(0, frame - reach), frame + reach + 1)
        fade = 1 - np.abs(np.arange(len(lacks))[near] - frame) / (reach + 1)
        out[near] = np.maximum(out[near], lacks[frame] * fade * fade * (3 - 2 * fade))
    return out
