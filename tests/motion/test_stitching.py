"""Drawn windows fitted to given frames: bones, seams, feet and where the path arrives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import LENGTHS, person

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import align, bone_vectors, heading
from motiongpt3.motion.quality import seam_jerk, skate_speed
from motiongpt3.motion.skeleton import LEGS
from motiongpt3.motion.stitching import fade_offsets, stitch

BAR = 0.14
"""Metres per frame^3: what 95 % of random points of recorded test clips stay below (`benchmarks/seams.py`)."""


def third(parts: list[np.ndarray], seam: int) -> float:
    return seam_jerk(Motion(np.concatenate(parts)), [seam], within=3) / 20**3


@pytest.mark.slow
@given(
    yaw=st.floats(-3.1, 3.1),
    x=st.floats(-9, 9),
    frames=st.integers(1, 60),
    speed=st.floats(0, 1.4),
    arm=st.floats(0, 2.5),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_it_carries_on_smoothly_whatever_was_drawn(
    yaw: float, x: float, frames: int, speed: float, arm: float, seed: int
) -> None:
    before = align(person(30, speed=1.2, seed=seed), (x, 1), yaw)
    window = person(30 + frames + 6, speed=speed, arm=arm, seed=seed + 1)
    new = stitch(window, frames, before, slack=6)
    assert new.shape == (frames, 22, 3)
    assert np.abs(np.linalg.norm(bone_vectors(new), axis=-1) - LENGTHS).max() < 1e-4
    bar = BAR if frames > 7 else 4 * BAR  # a foot that was drawn a metre away has no time to come
    assert third([before, new], 30) < bar


def test_the_true_window_comes_back_as_it_is() -> None:
    whole = align(person(100, speed=1.2), (3, -4), 2.0)
    new = stitch(align(whole, (0, 0), 0.0), 40, whole[:30], whole[70:], ground=float(whole[..., 1].min()))
    off = np.abs(new - whole[30:70])
    legs = [joint for _, *leg in LEGS for joint in leg]
    assert np.delete(off, legs, axis=1).max() < 0.03
    assert off[:, legs][..., [0, 2]].max() < 0.1, "the made-up feet brush along the ground: they are lifted"
    for *_, toe in LEGS:
        rise = new[:, toe, 1] - whole[30:70, toe, 1]
        assert rise.min() > -0.03
        assert np.abs(rise[whole[30:70, toe, 1] > 0.08]).max() < 0.03, "high ones stay"
    assert np.abs(new[:, 0] - whole[30:70, 0]).max() < 0.005


@pytest.mark.slow
@given(
    yaw=st.floats(-3.1, 3.1),
    x=st.floats(-1, 1),
    z=st.floats(0.5, 3),
    frames=st.integers(25, 60),
    late=st.integers(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_the_path_meets_the_end(yaw: float, x: float, z: float, frames: int, late: int) -> None:
    before = person(24, speed=1.2)
    after = align(person(24, speed=1.2, seed=3), tuple(before[-1, 0, [0, 2]] + [x, z]), yaw)
    new = stitch(person(48 + frames, speed=1.0, seed=5), frames, before, after, slack=6 * late)
    parts = [before, new, after]
    assert third(parts, 24) < 2 * BAR
    assert third(parts, 24 + frames) < 2 * BAR
    joined = np.concatenate(parts)
    assert np.linalg.norm(np.diff(joined[:, 0], axis=0), axis=-1).max() < 0.35, "the pelvis never jumps"
    turns = np.abs((np.diff(heading(joined)) + np.pi) % (2 * np.pi) - np.pi)
    assert turns.max() < 0.6, "nor does the heading"


def test_planted_feet_stay_where_they_are() -> None:
    before = person(30)
    window = person(80)
    drift = np.clip(np.arange(80) - 30, 0, 12) * 0.004  # 8 cm/s, a step long
    window = window + drift[:, None, None] * np.array([1.0, 0, 0])
    new = stitch(window, 24, before)
    assert skate_speed(Motion(window[30:42])) > 7
    assert skate_speed(Motion(new[:12])) < 3


def test_toes_that_swing_are_lifted_from_the_ground() -> None:
    """A drawn walk whose feet hardly leave the ground; who stands on them is not lifted."""
    whole = person(90, speed=1.2)
    low = whole.copy()
    for _, _, ankle, toe in LEGS:
        low[..., [ankle, toe], 1] -= np.maximum(whole[:, toe, 1] - 0.02, 0)[:, None]
    new = stitch(low, 40, whole[:30])
    for number, (_, _, _, toe) in enumerate(LEGS):
        speed = np.linalg.norm(np.diff(new[:, toe][:, [0, 2]], axis=0), axis=-1)
        swings, rests = speed > 0.08, speed < 0.01
        assert swings.sum() > 5, number
        assert low[30:69, toe, 1][swings].max() < 0.03
        assert np.median(new[:-1, toe, 1][swings]) > 0.045
        assert np.abs(new[:-1, toe, 1] - low[30:69, toe, 1])[rests].max() < 0.035
    assert third([whole[:30], new], 30) < BAR


def test_the_new_frames_have_the_given_bones() -> None:
    small = person(30, speed=1.0) * 0.7
    new = stitch(person(80, speed=1.0), 50, small)
    assert np.abs(np.linalg.norm(bone_vectors(new), axis=-1) - 0.7 * LENGTHS).max() < 1e-4
    assert np.linalg.norm(new[-1, 0] - new[0, 0]) == pytest.approx(0.7 * 49 / 20, rel=0.1), "strides fit the legs"
    grown = stitch(person(110, speed=1.0), 50, small, align(person(30, speed=1.0), (0, 4), 0.0))
    sizes = np.linalg.norm(bone_vectors(grown), axis=-1)[:, 1:] / LENGTHS[1:]
    assert np.all(np.diff(sizes, axis=0) > -1e-5)


@given(before=st.integers(1, 4), after=st.integers(0, 4), frames=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_few_frames_will_do(before: int, after: int, frames: int) -> None:
    first, last = person(4, speed=1.0)[:before], person(4, speed=1.0, seed=2)[:after]
    new = stitch(person(20, speed=1.0), frames, first, last if after else None, slack=3)
    assert new.shape == (frames, 22, 3)
    assert np.abs(np.linalg.norm(bone_vectors(new), axis=-1) - LENGTHS).max() < 1e-3
    assert np.linalg.norm(new[0, 0] - first[-1, 0]) < 0.25, "it goes on where the given frames end"


def test_offsets_settle() -> None:
    known = np.ones((3, 1))
    offset = fade_offsets(known, known[:0], 40, fade=2.0)
    assert np.abs(np.diff(np.concatenate([known, offset]), n=3, axis=0)).max() < 0.2
    assert np.abs(offset[20:]).max() < 0.01
    line = np.arange(3.0)[:, None]
    assert np.allclose(fade_offsets(line, line + 12, 9, fade=1e3), np.arange(3.0, 12)[:, None], atol=1e-3), (
        "no pull: a line"
    )


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MotionGPT3Error, match="does not hold 20 new frames beside 30 given"):
        stitch(person(40), 20, person(30))
    with pytest.raises(MotionGPT3Error, match="shape"):
        stitch(person(40), 5, person(30)[:, :5])
