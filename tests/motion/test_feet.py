"""Feet stand afterwards, without pops; bones and everything else are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from standing import standing

from motiongpt3.motion.contacts import Contact, contacts, slides
from motiongpt3.motion.feet import POP, added_way, fix_feet
from motiongpt3.motion.kinematics import bone_vectors
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import measure, slip_speed
from motiongpt3.motion.rate import resampled


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    import torch

    return bone_vectors(torch.from_numpy(np.asarray(joints, dtype=np.float64))).norm(dim=-1).numpy()


@pytest.mark.parametrize("fps", [20, 30, 120])
def test_one_foot_that_slides_is_held_and_the_other_stays(fps: int) -> None:
    joints = standing(3 * fps)
    slide = 0.05 * np.sin(np.linspace(0, 9, 3 * fps))[:, None] * [1, 0, 0.5]
    joints[:, [7, 10]] += slide[:, None]
    joints[:, 4] += slide / 2
    motion = Motion(joints, fps=fps)
    found = contacts(motion)
    assert found == [Contact(0, 0, 3 * fps), Contact(1, 0, 3 * fps)]
    before, after = slides(motion, found), slides(fix_feet(motion), found)
    assert before[0] > 0.05 > 1e-5 > before[1]
    assert after.max() < 0.001


def test_a_body_that_glides_stands_still_afterwards() -> None:
    """Nobody who glides half a metre on both feet can be helped by bending the legs: the body has to stay back."""
    joints = standing(100) + np.linspace(0, 0.5, 100)[:, None, None] * [0, 0, 1.0]
    fixed = fix_feet(Motion(joints))
    assert slip_speed(Motion(joints)) > 9
    assert slip_speed(fixed) < 2.5
    assert np.ptp(fixed.joints[:, 0, 2]) < 0.3


def test_toes_come_up_from_under_the_floor() -> None:
    joints = standing(40) - [0, 0.03, 0]
    fixed = fix_feet(Motion(joints))
    assert measure(fixed).penetration_max < 0.01
    head = fixed.joints[:, 15] - joints[:, 15]
    np.testing.assert_allclose(head[:, [0, 2]], 0, atol=1e-3)
    assert 0 < head[:, 1].min() <= head[:, 1].max() < 0.03, "straight legs lift the body, and bend a little"


def test_what_is_fixed_stays_as_it_is(mocap_dir: Path) -> None:
    motion = recorded(mocap_dir, "test", 12)[3]
    once = fix_feet(motion)
    assert np.abs(fix_feet(once).joints - once.joints).max() < 0.02


@pytest.mark.parametrize("fps", [20, 30, 60])
def test_real_motions(mocap_dir: Path, fps: int) -> None:
    """The bars: 1 cm of skate in a contact, found before or after, no joint faster by more than 2 cm in 1/20 s."""
    before, after, stood = [], [], 0
    for motion in recorded(mocap_dir, "test", 50):
        motion = motion if fps == motion.fps else resampled(motion, fps)
        fixed = fix_feet(motion)
        assert added_way(motion, fixed).max(initial=0) <= POP + 1e-6, motion.name
        assert fixed.joints[:, [10, 11], 1].min() > -1e-6, motion.name
        assert np.linalg.norm(fixed.joints - motion.joints, axis=-1).mean() < 0.03, motion.name
        np.testing.assert_allclose(bone_lengths(fixed.joints), bone_lengths(motion.joints), atol=1e-4)
        found, again = contacts(motion), contacts(fixed)
        before += list(slides(fixed, found) < 0.01)
        after += list(slides(fixed, again) < 0.01)
        stood += sum(c.stop - c.start for c in again) - sum(c.stop - c.start for c in found)
    assert len(before) > 150
    assert np.mean(before) > 0.99
    assert np.mean(after) == 1
    assert stood >= 0, "feet stand as long as before"


@pytest.mark.parametrize("fps", [20, 60])
def test_a_foot_dragged_behind_steps(fps: int) -> None:
    """One foot slides 0.35 m in 1.3 s while the other stands: it stands, travels above the floor, and stands again."""
    joints = standing(4 * fps)
    way = 0.35 * np.clip(np.linspace(-1, 2, 4 * fps), 0, 1)[:, None] * [0, 0, 1.0]
    joints[:, [7, 10]] += way[:, None]
    joints[:, 4] += way / 2
    motion = Motion(joints, fps=fps)
    fixed = fix_feet(motion)
    again = contacts(fixed)
    left = [c for c in again if c.side == 0]
    assert slides(fixed, again).max() < 0.01
    assert len(left) > 1
    assert sum(c.stop - c.start for c in left) > 0.5 * len(motion)
    assert added_way(motion, fixed).max() <= POP + 1e-6


def test_the_way_added_is_that_of_a_twentieth_of_a_second() -> None:
    """A joint that is 3 m/s faster goes 15 cm farther in 1/20 s: in 6 frames at 120 fps, in half of one at 10 fps."""
    for fps, way in ((120, 0.15), (20, 0.15), (10, 0.15), (30, 0.1)):
        still = Motion(np.zeros((40, 22, 3)), fps=fps)
        faster = Motion(np.arange(40)[:, None, None] / fps * np.full((22, 3), [0, 3.0, 0]), fps=fps)
        added = added_way(still, faster)
        assert added.shape == (39, 22)
        np.testing.assert_allclose(added[:30], way, rtol=1e-5)
        assert added_way(faster, still).max() < 0
    there_and_back = np.zeros((40, 22, 3))
    there_and_back[10, 5] = [0.04, 0, 0]
    added = added_way(Motion(np.zeros((40, 22, 3)), fps=60), Motion(there_and_back, fps=60))
    np.testing.assert_allclose(added.max(), 0.04, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([20, 60]), st.floats(0.05, 3))
def test_anything_is_survived(seed: int, frames: int, fps: float, wildness: float) -> None:
    motion = invented(seed, frames, fps, wildness)
    fixed = fix_feet(motion)
    assert len(fixed) == frames
    assert added_way(motion, fixed).max(initial=0) <= POP + 1e-6
    np.testing.assert_allclose(bone_lengths(fixed.joints), bone_lengths(motion.joints), atol=1e-4)
