"""The spline goes through its samples and follows a smooth curve."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from motiongpt3.motion.spline import cubic


@given(count=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_goes_through_the_samples(count: int, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=(count, 2, 3))
    assert np.allclose(cubic(samples, np.arange(count)), samples)


def test_it_follows_a_curve_and_has_no_kinks() -> None:
    samples = np.sin(np.arange(40) / 3)[:, None]
    at = np.linspace(6, 33, 500)
    curve = cubic(samples, at)
    assert np.abs(curve[:, 0] - np.sin(at / 3)).max() < 2e-4
    bend = np.diff(curve[:, 0], n=2) / (at[1] - at[0]) ** 2
    assert np.abs(np.diff(bend)).max() < 0.01, "the second derivative is continuous"
