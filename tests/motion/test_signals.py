"""Averages, windows, ramps and spans of numbers over time."""

from __future__ import annotations

import numpy as np
import pytest

from motiongpt3.motion.signals import averaged, box, gaussian, interpolate, smootherstep, smoothstep, spans, triangle


def test_averaging_keeps_a_line_and_its_ends() -> None:
    line = np.linspace(0, 5, 30)[:, None] * [1, 2]
    np.testing.assert_allclose(averaged(line, gaussian(4)), line, atol=1e-9)
    wave = np.sin(np.arange(30.0))
    np.testing.assert_allclose(averaged(wave, gaussian(4))[[0, -1]], wave[[0, -1]], atol=1e-9)
    assert np.abs(averaged(wave, gaussian(4), "held")[5:-5]).max() < 0.2


def test_what_lies_beyond_the_ends_is_held_or_nothing() -> None:
    flat = np.full((6, 2), 3.0)
    np.testing.assert_allclose(averaged(flat, box(2), "held"), flat)
    np.testing.assert_allclose(averaged(flat[:, 0], box(1), "zero"), [2, 3, 3, 3, 3, 2])
    np.testing.assert_allclose(averaged(np.array([0.0, 0, 4, 0, 0]), triangle(1), "zero"), [0, 1, 2, 1, 0])


def test_windows() -> None:
    assert triangle(2).tolist() == [1, 2, 3, 2, 1]
    assert box(1).tolist() == [1, 1, 1]
    assert len(gaussian(4)) == 25
    assert len(gaussian(0)) == 3, "at least a frame on each side"
    np.testing.assert_allclose(gaussian(2)[[4, 6, 8]], np.exp([-0.5, 0, -0.5]))


def test_values_between_frames_lie_on_a_line() -> None:
    values = np.array([[0.0, 10], [2, 10], [4, 0]], np.float32)
    found = interpolate(values, np.array([0, 0.25, 1.5, 2]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 10], [0.5, 10], [3, 5], [4, 0]])
    assert interpolate(values[:1], np.array([0.0])).tolist() == [[0, 10]]


def test_ramps_start_and_end_without_velocity() -> None:
    s = np.array([-1, 0, 0.25, 0.5, 1, 2])
    np.testing.assert_allclose(smoothstep(s), [0, 0, 0.15625, 0.5, 1, 1])
    np.testing.assert_allclose(smootherstep(s), [0, 0, 0.103515625, 0.5, 1, 1])
    step = 1e-3
    for ramp, power in ((smoothstep, 2), (smootherstep, 3)):
        assert ramp(np.array([step]))[0] == pytest.approx(0, abs=11 * step**power)


def test_spans_are_the_runs_of_true() -> None:
    assert spans(np.array([True, True, False, True, False, True])) == [(0, 2), (3, 4), (5, 6)]
    assert spans(np.zeros(3, bool)) == []
    assert spans(np.ones(3, bool)) == [(0, 3)]
