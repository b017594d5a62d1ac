"""Toes are lifted far enough, smoothly, and only where they have to be."""

from __future__ import annotations

import numpy as np

from motiongpt3.motion.lift import lift


def test_a_lift_is_smooth_and_enough() -> None:
    lacks = np.full(60, -0.05)
    lacks[20:30] = 0.04
    up = lift(lacks, 4)
    assert (up >= lacks).all()
    assert np.abs(np.diff(up)).max() < 0.02
    assert up[:15].max() == up[36:].max() == 0
