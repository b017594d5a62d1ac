"""Legs bend: bones keep their lengths, ankles get where they should, knees stay about where they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import standing

from motiongpt3.motion.leg_ik import body_lift, folded, length, place_ankles, tilted_foot, two_bone_ik
from motiongpt3.motion.skeleton import HUMANML3D, LEGS

THIGH, SHIN = (float(HUMANML3D.bone_lengths[joint]) for joint in LEGS[0][1:3])


def squatting(share: float, frames: int = 20, lean: float = -0.6) -> np.ndarray:
    """(frames, 22, 3) somebody whose hips and ankles are a share of a leg's length apart, shins leaning forward."""
    joints = standing(frames)
    along = np.array([0, np.cos(lean), np.sin(lean)])
    before = joints[:, LEGS[0][0]].copy()
    for hip, knee, ankle, _ in LEGS:
        reach = np.full(frames, share * (THIGH + SHIN))
        start = joints[:, ankle] + reach[:, None] * along
        joints[:, hip] = start
        pole = np.tile([0, 0, 1.0], (frames, 1))
        joints[:, knee], _ = two_bone_ik(start, -np.tile(along, (frames, 1)), reach, THIGH, SHIN, pole)
    body = [joint for joint in range(22) if joint not in {joint for leg in LEGS for joint in leg}]
    joints[:, body] += (joints[:, LEGS[0][0]] - before)[:, None]
    return joints


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_a_bent_leg_has_its_bones_and_its_ankle_its_reach(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hip, line, pole = rng.normal(size=(3, 5, 3))
    thigh, shin = rng.uniform(0.2, 0.6, (2, 5))
    reach = rng.uniform(np.abs(thigh - shin) + 1e-3, thigh + shin - 1e-3)
    knee, ankle = two_bone_ik(hip, line, reach, thigh, shin, pole)
    np.testing.assert_allclose(np.linalg.norm(knee - hip, axis=-1), thigh)
    np.testing.assert_allclose(np.linalg.norm(ankle - knee, axis=-1), shin)
    np.testing.assert_allclose(np.linalg.norm(ankle - hip, axis=-1), reach)
    np.testing.assert_allclose(np.cross(ankle - hip, line), 0, atol=1e-9)
    axis = (ankle - hip) / reach[:, None]
    aside = knee - hip - ((knee - hip) * axis).sum(-1, keepdims=True) * axis
    assert ((aside * pole).sum(-1) > 0).all(), "the knee is on the side that it should point to"


@pytest.mark.parametrize("share", [0.15, 0.3, 0.6, 0.9])
def test_ankles_get_there_with_feet_and_bones_as_they_were(share: float) -> None:
    joints = squatting(share)
    wanted = [joints[:, leg[2]] + way for leg, way in zip(LEGS, ([0.02, 0, 0.01], [0, 0.01, -0.02]), strict=True)]
    out = place_ankles(joints, wanted, 20)
    for (hip, knee, ankle, toe), target in zip(LEGS, wanted, strict=True):
        np.testing.assert_allclose(out[:, ankle], target, atol=2e-3)
        np.testing.assert_allclose(out[:, toe] - out[:, ankle], joints[:, toe] - joints[:, ankle], atol=1e-9)
        np.testing.assert_allclose(length(out, hip, knee), THIGH)
        np.testing.assert_allclose(length(out, knee, ankle), SHIN)


@pytest.mark.parametrize("lean", [-0.9, -0.3, 0.3])
@pytest.mark.parametrize("way", [(0.006, 0, 0), (0, 0.006, 0), (0, 0, 0.006), (0.003, -0.003, -0.004)])
def test_the_knee_of_a_folded_leg_stays_as_near_as_it_can(lean: float, way: tuple[float, float, float]) -> None:
    """No other knee that both bones reach is nearer to where it was."""
    joints = squatting(0.12, lean=lean)
    out = place_ankles(joints, [joints[:, leg[2]] + way for leg in LEGS], 20)
    for hip, knee, ankle, _ in LEGS:
        moved = length(np.stack([out[0, knee], joints[0, knee]])[None], 0, 1)[0]
        angles = np.linspace(-np.pi, np.pi, 721)
        line = out[0, ankle] - out[0, hip]
        side = np.cross(line, [1.0, 0.2, 0.1])
        side /= np.linalg.norm(side)
        up = np.cross(line / np.linalg.norm(line), side)
        poles = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up
        many = np.ones((len(angles), 1))
        reach = np.full(len(angles), np.linalg.norm(line))
        knees, _ = two_bone_ik(out[0, hip] * many, line * many, reach, THIGH, SHIN, poles)
        assert moved < np.linalg.norm(knees - joints[0, knee], axis=-1).min() + 1e-4


def test_how_folded_a_leg_is() -> None:
    hip, _, ankle, _ = LEGS[0]
    reaches = [length(squatting(share, 3), hip, ankle)[0] for share in (0.15, 0.2, 0.3, 0.4, 0.9)]
    by_share = folded(np.array(reaches), np.full(5, THIGH + SHIN))
    np.testing.assert_allclose(by_share, [1, 1, 0.5, 0, 0], atol=1e-6)


def test_a_straight_leg_that_trembles_keeps_its_knee_quiet() -> None:
    """Where a straight knee points is noise: a leg that gets shorter by 1 cm bends the same way in every frame."""
    rng = np.random.default_rng(0)
    joints = squatting(0.9999, 40, lean=0.0)
    for _, knee, _, _ in LEGS:
        joints[:, knee] += rng.normal(0, 0.001, (40, 3)) * [1, 0, 1]
    out = place_ankles(joints, [joints[:, leg[2]] + [0, 0.01, 0] for leg in LEGS], 20)
    for hip, knee, _, _ in LEGS:
        ahead = (out[:, knee] - out[:, hip])[:, 2]
        assert ahead.min() > 0.03
        assert np.ptp(ahead) < 0.03


def test_a_leg_that_is_too_short_takes_the_body_along() -> None:
    joints = squatting(0.98, 40, lean=0.0)
    out = place_ankles(joints, [joints[:, leg[2]] - [0, 0.05, 0] for leg in LEGS], 20)
    assert (out[:, 0, 1] < joints[:, 0, 1] - 0.02).all()
    for leg in LEGS:
        np.testing.assert_allclose(out[:, leg[2]], joints[:, leg[2]] - [0, 0.05, 0], atol=2e-3)


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
    moved = joints + body_lift(joints, [toes], [LEG], 20)[:, None, None] * [0, 1, 0]
    after = reach(moved, foot, toes)
    assert (np.abs(after - before) < 0.5 * np.abs(untouched - before)).all()


def test_the_body_stays_over_bent_legs_and_where_nothing_moves() -> None:
    bent, straight = leg(0.8), leg(0.99)
    np.testing.assert_allclose(body_lift(bent, [bent[:, LEG[3]] + [0, 0, 0.1]], [LEG], 20), 0, atol=1e-12)
    np.testing.assert_allclose(body_lift(straight, [straight[:, LEG[3]]], [LEG], 20), 0, atol=1e-12)


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
    moved = joints + body_lift(joints, [toes], [LEG], 20)[:, None, None] * [0, 1, 0]
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
