"""Body and heels move so that a straight leg keeps its length, and a folded one its knee; a bent one does not care."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motiongpt3.motion.knees import rise, tilted_foot
from motiongpt3.motion.legs import LEGS
from motiongpt3.motion.skeleton import HUMANML3D

LEG = LEGS[0]


def leg(share: float, frames: int = 5) -> np.ndarray:
    """(frames, 22, 3) a left leg whose hip and ankle are a share of its length apart, the foot flat on the floor."""
    thigh, shin, foot = (float(HUMANML3D.bone_lengths[joint]) for joint in LEG[1:])
    joints = np.zeros((frames, 22, 3))
    reach = share * (thigh + shin)
    along = (thigh**2 - shin**2 + reach**2) / (2 * reach)
    joints[:, LEG[0]] = [0, 0.06 + reach, 0]
    joints[:, LEG[1]] = [0, 0.06 + reach - along, np.sqrt(max(thigh**2 - along**2, 0))]
    joints[:, LEG[2]] = [0, 0.06, 0]
    joints[:, LEG[3]] = [0, 0, np.sqrt(foot**2 - 0.06**2)]
    return joints


def reach(joints: np.ndarray, foot: np.ndarray, toes: np.ndarray) -> np.ndarray:
    """(T,) metres from hip to ankle when the toes are at `toes`."""
    return np.asarray(np.linalg.norm(toes - foot - joints[:, LEG[0]], axis=-1))


@pytest.mark.parametrize("way", [(0, 0, 0.03), (0.05, 0, 0), (0, 0, -0.03), (0, -0.006, 0)])
def test_a_straight_leg_stays_about_as_long(way: tuple[float, float, float]) -> None:
    joints = leg(0.99)
    toes = joints[:, LEG[3]] + way
    before = reach(joints, joints[:, LEG[3]] - joints[:, LEG[2]], joints[:, LEG[3]])
    untilted = reach(joints, joints[:, LEG[3]] - joints[:, LEG[2]], toes)
    tilted = reach(joints, tilted_foot(joints, LEG, toes, 0.0), toes)
    assert (np.abs(tilted - before) < 0.3 * np.abs(untilted - before)).all()


@pytest.mark.parametrize("way", [(0, 0, 0.1), (0.1, 0, 0), (0, 0.01, 0), (0, -0.01, 0)])
def test_the_body_goes_with_a_straight_leg(way: tuple[float, float, float]) -> None:
    joints = leg(0.99, 30)
    foot = joints[:, LEG[3]] - joints[:, LEG[2]]
    toes = joints[:, LEG[3]] + way
    before, untouched = reach(joints, foot, joints[:, LEG[3]]), reach(joints, foot, toes)
    moved = joints + rise(joints, [toes], [LEG], 20)[:, None, None] * [0, 1, 0]
    after = reach(moved, foot, toes)
    assert (np.abs(after - before) < 0.5 * np.abs(untouched - before)).all()


def test_the_body_stays_over_bent_legs_and_where_nothing_moves() -> None:
    bent, straight = leg(0.8), leg(0.99)
    np.testing.assert_allclose(rise(bent, [bent[:, LEG[3]] + [0, 0, 0.1]], [LEG], 20), 0, atol=1e-12)
    np.testing.assert_allclose(rise(straight, [straight[:, LEG[3]]], [LEG], 20), 0, atol=1e-12)


def shin(joints: np.ndarray, foot: np.ndarray, toes: np.ndarray) -> np.ndarray:
    """(T,) metres from the knee, where it is, to the ankle of toes at `toes`."""
    return np.asarray(np.linalg.norm(toes - foot - joints[:, LEG[1]], axis=-1))


def squat(frames: int) -> np.ndarray:
    """A folded left leg, the hip behind the ankle, the shin leaning forward by half a right angle."""
    joints = leg(0.15, frames)
    angle, ankle = np.radians(-45), joints[:, [LEG[2]]].copy()
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    joints[:, LEG[:2]] = (joints[:, LEG[:2]] - ankle) @ turn.T + ankle
    return joints


@pytest.mark.parametrize("way", [(0, 0, 0.01), (0, 0, -0.01), (0, 0.005, 0.01), (0, 0.01, 0)])
def test_the_knee_of_a_folded_leg_may_stay(way: tuple[float, float, float]) -> None:
    """With body and foot moved its shin is about as long as it is, so the knee needs not move."""
    joints = squat(30)
    foot, toes = joints[:, LEG[3]] - joints[:, LEG[2]], joints[:, LEG[3]] + way
    before, untouched = shin(joints, foot, joints[:, LEG[3]]), shin(joints, foot, toes)
    moved = joints + rise(joints, [toes], [LEG], 20)[:, None, None] * [0, 1, 0]
    after = shin(moved, tilted_foot(moved, LEG, toes, 0.0), toes)
    assert (np.abs(after - before) < 0.3 * np.abs(untouched - before) + 1e-4).all()


def test_a_bent_leg_s_foot_keeps_its_direction() -> None:
    joints = leg(0.8)
    foot = joints[:, LEG[3]] - joints[:, LEG[2]]
    np.testing.assert_allclose(tilted_foot(joints, LEG, joints[:, LEG[3]] + [0, 0.01, 0.05], 0.0), foot, atol=1e-12)


def test_no_heel_goes_lower_than_it_was_or_than_the_floor() -> None:
    """Toes that go up, or under a leg that is too short by then, would let the heel sink."""
    joints = leg(0.99)
    for floor, up, lowest in ((0.0, 0.006, 0.06), (0.07, 0.03, 0.07)):
        toes = joints[:, LEG[3]] + [0, up, 0]
        assert (toes - tilted_foot(joints, LEG, toes, floor))[:, 1].min() > lowest - 1e-4


def test_a_heel_that_may_not_sink_may_still_go_up() -> None:
    """A foot that is as low as it ever was, under a leg that is too long by 5 mm, lifts its heel."""
    joints = leg(0.99)
    toes = joints[:, LEG[3]] + [0, -0.005, 0]
    assert (toes - tilted_foot(joints, LEG, toes, 0.0))[:, 1].min() > 0.055 + 0.003


def test_nothing_moved_nothing_tilted() -> None:
    joints = leg(0.99)
    foot = joints[:, LEG[3]] - joints[:, LEG[2]]
    np.testing.assert_allclose(tilted_foot(joints, LEG, joints[:, LEG[3]], 0.0), foot, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1))
def test_a_foot_keeps_its_length_and_tilts_a_little(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(6, 22, 3))
    foot = joints[:, LEG[3]] - joints[:, LEG[2]]
    tilted = tilted_foot(joints, LEG, joints[:, LEG[3]] + size * rng.normal(size=(6, 3)), 0.0)
    np.testing.assert_allclose(np.linalg.norm(tilted, axis=-1), np.linalg.norm(foot, axis=-1), rtol=1e-9)
    cosine = (tilted * foot).sum(-1) / (foot * foot).sum(-1)
    assert (cosine > np.cos(0.121)).all()
