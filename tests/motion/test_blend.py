"""Joining and layering: what must stay exact, and how smooth the seam is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import LENGTHS, person

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.blend import best_cut, hold_pose, join, layer
from motiongpt3.motion.poses import align, bone_vectors, heading, smooth_heading


def jerk(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(joints.astype(np.float64), n=3, axis=0), axis=-1).max(axis=1)


def bone_error(joints: np.ndarray) -> float:
    return float(np.abs(np.linalg.norm(bone_vectors(joints), axis=-1) - LENGTHS).max())


@pytest.mark.slow
@given(
    first=st.floats(0, 2.5),
    second=st.floats(0, 2.5),
    arm=st.floats(-1, 3),
    yaw=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_join_keeps_first_bones_position_and_heading(
    first: float, second: float, arm: float, yaw: float, seed: int
) -> None:
    a = align(person(30, first, seed=seed), (1.0, -2.0), yaw)
    b = align(person(35, second, arm, seed=seed + 1), (7.0, 3.0), -yaw)
    out = join(a, b)
    assert out.shape == (65, 22, 3)
    assert out.dtype == np.float32
    assert np.array_equal(out[:30], a)
    assert bone_error(out) < 1e-4
    steps = np.linalg.norm(np.diff(out[:, 0, [0, 2]], axis=0), axis=-1) * 20
    assert steps[28:48].max() < max(first, second) * 1.5 + 0.5, "the pelvis is not thrown forward at the seam"
    yaws = np.unwrap(heading(out))
    assert np.abs(np.diff(yaws[27:50])).max() < 0.2
    assert out[30:, :, 1].min() > -0.02


def test_join_ends_as_the_second_motion_moved_rigidly() -> None:
    a, b = person(30, 1.2), person(40, 0.0, arm=2.5, seed=3)
    tail = join(a, b)[30 + 16 :]
    expected = align(b[16:], tail[0, 0, [0, 2]], float(heading(tail[:1])[0]))
    assert np.allclose(tail[..., [0, 2]], expected[..., [0, 2]], atol=1e-4)
    assert np.abs(tail[..., 1] - expected[..., 1]).max() < 0.02


def test_joining_a_cut_motion_with_its_rest_gives_it_back() -> None:
    whole = person(80, 1.3, arm=1.0)
    again = join(whole[:40], whole[40:])
    assert np.abs(again - whole).max() < 0.07
    assert jerk(again)[35:55].max() < 2 * jerk(whole).max() + 0.01


def test_a_standing_foot_stays_where_it_is() -> None:
    out = join(person(30), person(40, arm=2.0, seed=5))
    feet = out[:, [7, 8, 10, 11]]
    assert np.abs(feet - feet[:1]).max() < 0.01


def test_stairs_stay_stairs_and_small_differences_of_floor_vanish() -> None:
    high = person(30) + np.float32([0, 0.4, 0])
    out = join(high, person(40))
    assert abs(float(out[-1, :, 1].min()) - 0.4) < 1e-3


def test_best_cut_finds_the_phase_at_which_two_walks_fit() -> None:
    walk = person(80, 1.2)
    end, start = best_cut(walk[:50], walk[12:], 20, 20)
    assert 30 <= end <= 50
    assert 0 <= start <= 20
    assert (12 + start - end) % 20 in (18, 19, 0, 1, 2), "a cycle has 20 frames"
    assert best_cut(walk, walk) == (80, 0)


def test_layer_keeps_the_legs_and_the_upper_body_relative_to_the_pelvis() -> None:
    lower = align(person(40, 1.2), (1, 2), 0.9)
    upper = align(person(30, 0.0, arm=2.5), (0, 0), -2.0)
    out = layer(lower, upper)
    legs = [0, 1, 2, 4, 5, 7, 8, 10, 11]
    assert np.array_equal(out[:, legs], lower[:30, legs])
    assert bone_error(out) < 1e-4
    for frame in (0, 15, 29):
        kept = align((upper[frame] - upper[frame, :1])[None], (0, 0), 0.0)[0]
        got = align((out[frame] - out[frame, :1])[None], (0, 0), 0.0)[0]
        turn = smooth_heading(lower[:30])[frame] - heading(out[frame : frame + 1])[0]
        assert abs(turn) < 0.2
        above = [9, 12, 15, 19, 21]
        assert np.abs(got[above] - kept[above]).max() < 0.1
        assert np.allclose(got[above, 1], kept[above, 1], atol=1e-3)


def test_one_arm_eases_in_and_out_and_the_rest_is_the_walker() -> None:
    lower, upper = person(60, 1.2), person(30, arm=2.5)
    out = layer(lower, upper, "right arm", start=15)
    assert len(out) == 60
    others = [joint for joint in range(22) if joint not in (17, 19, 21)]
    assert np.abs(out[:, others] - lower[:, others]).max() < 1e-4
    assert np.abs(out[:15] - lower[:15]).max() < 1e-4
    assert np.abs(out[45:] - lower[45:]).max() < 1e-4
    assert out[38, 21, 1] > lower[38, 21, 1] + 0.5
    assert jerk(out).max() < 0.25


def test_hold_sways_a_little_and_keeps_bones() -> None:
    pose = person(5)[0]
    still = hold_pose(pose, 60, phase=1.0)
    assert np.allclose(still[0], pose, atol=1e-5)
    assert 1e-3 < np.abs(still[:, 15] - pose[15]).max() < 0.05
    assert np.abs(still[:, [10, 11]] - pose[[10, 11]]).max() < 0.005
    assert bone_error(still) < 1e-4


def test_short_and_bad_input() -> None:
    walk = person(30, 1.0)
    assert join(walk[:1], walk[:1]).shape == (2, 22, 3)
    assert np.isfinite(join(walk[:2], walk[:3])).all()
    for bad in (np.zeros((3, 21, 3)), np.zeros((0, 22, 3)), np.zeros((22, 3))):
        with pytest.raises(MotionGPT3Error, match="shape"):
            join(walk, bad)
    with pytest.raises(MotionGPT3Error, match="part"):
        layer(walk, walk, "tail")  # type: ignore[arg-type]
    with pytest.raises(MotionGPT3Error, match="start"):
        layer(walk, walk, start=30)
