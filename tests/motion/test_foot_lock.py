"""Feet stand afterwards, without pops; bones and everything else are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import invented, recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from people import standing

from motiongpt3.motion.contacts import MAX_CONTACT_HEIGHT, Contact, find_contacts, slides
from motiongpt3.motion.foot_lock import (
    MAX_CORRECTION_SPEED,
    MAX_POP,
    Plan,
    added_way,
    alternatives,
    hold,
    lift,
    lock_feet,
    longer,
    shorter,
)
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.quality import measure, slip_speed
from motiongpt3.motion.resample import resampled
from motiongpt3.motion.skeleton import LEGS


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
    found = find_contacts(motion)
    assert found == [Contact(0, 0, 3 * fps), Contact(1, 0, 3 * fps)]
    before, after = slides(motion, found), slides(lock_feet(motion), found)
    assert before[0] > 0.05 > 1e-5 > before[1]
    assert after.max() < 0.001


def test_a_body_that_glides_stands_still_afterwards() -> None:
    """Nobody who glides half a metre on both feet can be helped by bending the legs: the body has to stay back."""
    joints = standing(100) + np.linspace(0, 0.5, 100)[:, None, None] * [0, 0, 1.0]
    fixed = lock_feet(Motion(joints))
    assert slip_speed(Motion(joints)) > 9
    assert slip_speed(fixed) < 2.5
    assert np.ptp(fixed.joints[:, 0, 2]) < 0.3


def test_toes_come_up_from_under_the_floor() -> None:
    joints = standing(40) - [0, 0.03, 0]
    fixed = lock_feet(Motion(joints))
    assert measure(fixed).penetration_max < 0.01
    head = fixed.joints[:, 15] - joints[:, 15]
    np.testing.assert_allclose(head[:, [0, 2]], 0, atol=1e-3)
    assert 0 < head[:, 1].min() <= head[:, 1].max() < 0.03, "straight legs lift the body, and bend a little"


def test_what_is_fixed_stays_as_it_is(mocap_dir: Path) -> None:
    motion = recorded(mocap_dir, "test", 12)[3]
    once = lock_feet(motion)
    assert np.abs(lock_feet(once).joints - once.joints).max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("fps", [20, 30, 60])
def test_real_motions(mocap_dir: Path, fps: int) -> None:
    """The bars: 1 cm of skate in a contact, found before or after, no joint faster by more than 2 cm in 1/20 s."""
    before, after, stood = [], [], 0
    for motion in recorded(mocap_dir, "test", 50):
        motion = motion if fps == motion.fps else resampled(motion, fps)
        fixed = lock_feet(motion)
        assert added_way(motion, fixed).max(initial=0) <= MAX_POP + 1e-6, motion.name
        assert fixed.joints[:, [10, 11], 1].min() > -1e-6, motion.name
        assert np.linalg.norm(fixed.joints - motion.joints, axis=-1).mean() < 0.03, motion.name
        np.testing.assert_allclose(bone_lengths(fixed.joints), bone_lengths(motion.joints), atol=1e-4)
        found, again = find_contacts(motion), find_contacts(fixed)
        before += list(slides(fixed, found) < 0.01)
        after += list(slides(fixed, again) < 0.01)
        stood += sum(c.stop - c.start for c in again) - sum(c.stop - c.start for c in found)
    assert len(before) > 150
    assert np.mean(before) > 0.99
    assert np.mean(after) == 1
    assert stood >= 0, "feet stand as long as before"


@pytest.mark.slow
@pytest.mark.parametrize("fps", [20, 60])
def test_a_foot_dragged_behind_steps(fps: int) -> None:
    """One foot slides 0.35 m in 1.3 s while the other stands: it stands, travels above the floor, and stands again."""
    joints = standing(4 * fps)
    way = 0.35 * np.clip(np.linspace(-1, 2, 4 * fps), 0, 1)[:, None] * [0, 0, 1.0]
    joints[:, [7, 10]] += way[:, None]
    joints[:, 4] += way / 2
    motion = Motion(joints, fps=fps)
    fixed = lock_feet(motion)
    again = find_contacts(fixed)
    left = [c for c in again if c.side == 0]
    assert slides(fixed, again).max() < 0.01
    assert len(left) > 1
    assert sum(c.stop - c.start for c in left) > 0.5 * len(motion)
    assert added_way(motion, fixed).max() <= MAX_POP + 1e-6


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


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([20, 60]), st.floats(0.05, 3))
def test_anything_is_survived(seed: int, frames: int, fps: float, wildness: float) -> None:
    motion = invented(seed, frames, fps, wildness)
    fixed = lock_feet(motion)
    assert len(fixed) == frames
    assert added_way(motion, fixed).max(initial=0) <= MAX_POP + 1e-6
    np.testing.assert_allclose(bone_lengths(fixed.joints), bone_lengths(motion.joints), atol=1e-4)


def sliding(frames: int = 80, way: float = 0.1) -> Motion:
    """Somebody whose left foot slides forward all the time."""
    joints = standing(frames)
    joints[:, [7, 10]] += np.linspace(0, way, frames)[:, None, None] * [0, 0, 1.0]
    return Motion(joints)


def test_held_contacts_stand_and_only_they() -> None:
    motion, held = sliding(), [Contact(0, 10, 40), Contact(0, 60, 80)]
    fixed, plan = hold(motion, Plan(held, [], 0.25, 0.2), 0.0)
    assert plan.held == held
    assert slides(motion, held).min() > 0.02
    assert slides(fixed, held).max() < 0.002
    assert slides(fixed, [Contact(0, 39, 61)])[0] > 0.05, "between them it goes from one place to the other"


def test_no_passage_is_quicker_than_a_foot_may_be() -> None:
    motion = sliding(80, 0.8)
    held = [Contact(0, 0, 40), Contact(0, 44, 80)]
    fixed, plan = hold(motion, Plan(held, [], 5.0, 0.2), 0.0)
    assert [c.side for c in plan.held] == [0, 0]
    assert plan.held[0].stop < 40 or plan.held[1].start > 44, "a contact is shortened"
    added = np.linalg.norm(np.diff(fixed.joints[:, 10] - motion.joints[:, 10], axis=0), axis=-1) * motion.fps
    assert added[plan.held[0].stop : plan.held[1].start - 1].max() < MAX_CORRECTION_SPEED + 0.02


def test_lifted_toes_travel_above_the_floor() -> None:
    motion = sliding()
    fixed, _ = hold(motion, Plan([], [Contact(0, 30, 50)], 0.25, 0.2), 0.0)
    height = fixed.joints[:, 10, 1]
    assert height[30:50].min() > MAX_CONTACT_HEIGHT
    assert np.abs(height[:20] - motion.joints[:20, 10, 1]).max() < 1e-3
    assert np.abs(np.diff(height)).max() < 0.03


def test_nothing_planned_nothing_done() -> None:
    motion = Motion(standing(40))
    fixed, plan = hold(motion, Plan([], [], 0.25, 0.2), 0.0)
    np.testing.assert_allclose(fixed.joints, motion.joints, atol=1e-5)
    assert plan == Plan([], [], 0.25, 0.2)


def test_toes_come_up_from_under_the_floor_or_stay_there() -> None:
    motion = Motion(standing(40) - [0, 0.02, 0])
    raised, _ = hold(motion, Plan([], [], 0.25, 0.2), 0.0)
    left, _ = hold(motion, Plan([], [], 0.25, None), 0.0)
    assert raised.joints[:, [10, 11], 1].min() > -1e-6
    np.testing.assert_allclose(left.joints, motion.joints, atol=1e-5)


def test_a_folded_leg_decides_where_its_foot_stands() -> None:
    """A foot slides 5 cm in a squat, in whose middle the leg is folded: it stands where it was then."""
    frames = 60
    joints = standing(frames)
    deep = np.exp(-(((np.arange(frames) - 30) / 6) ** 2))
    hips = joints[:, [1, 2]].mean(1, keepdims=True) - joints[:, [7, 8]].mean(1, keepdims=True)
    joints[:, [0, *range(1, 4), *range(6, 7), 9, *range(12, 22)]] -= 0.9 * deep[:, None, None] * hips
    way = np.linspace(0, 0.05, frames)
    joints[:, [7, 10]] += way[:, None, None] * [0, 0, 1.0]
    motion = Motion(joints)
    fixed, _ = hold(motion, Plan([Contact(0, 0, frames), Contact(1, 0, frames)], [], 5.0, 0.2), 0.0)
    moved = fixed.joints[:, 10, 2] - motion.joints[:, 10, 2] - (fixed.joints[:, 11, 2] - motion.joints[:, 11, 2])
    assert np.abs(moved[28:33]).max() < 0.006
    assert np.abs(moved).max() > 0.015


EDGES = (0, 0.25, 0.75, 1)
PLAN = Plan([Contact(0, 5, 20), Contact(0, 30, 40), Contact(1, 0, 50)], [], 0.25, 0.2)


def test_a_contact_is_held_as_one_with_those_it_overlaps() -> None:
    assert longer(PLAN, Contact(0, 18, 32)).held == [Contact(0, 5, 40), Contact(1, 0, 50)]
    assert longer(PLAN, Contact(0, 20, 30)).held == sorted(
        [*PLAN.held, Contact(0, 20, 30)], key=lambda c: (c.side, c.start)
    )


def test_the_contact_nearest_to_what_is_quick_gets_shorter_on_that_side() -> None:
    quick = np.zeros((59, 22), dtype=bool)
    quick[21, LEGS[0][3]] = True
    assert shorter(PLAN, quick).held == [Contact(0, 5, 19), *PLAN.held[1:]]
    quick[:] = False
    quick[27, LEGS[0][1]] = True
    assert shorter(PLAN, quick).held == [PLAN.held[0], Contact(0, 31, 40), PLAN.held[2]]


def test_a_quick_body_shortens_both_feet() -> None:
    quick = np.zeros((59, 22), dtype=bool)
    quick[50, 15] = True
    assert shorter(PLAN, quick).held == [PLAN.held[0], Contact(0, 30, 39), Contact(1, 0, 49)]


def test_what_gets_too_short_is_let_go() -> None:
    quick = np.zeros((59, 22), dtype=bool)
    quick[5:15, LEGS[0][1]] = True
    short = Plan([Contact(0, 9, 11), Contact(1, 9, 11)], [], 0.25, 0.2)
    assert shorter(short, quick).held == [Contact(1, 9, 11)]


def test_a_contact_is_tried_as_it_is_then_with_its_neighbours_then_in_parts() -> None:
    tried = list(alternatives(PLAN, Contact(0, 28, 44), EDGES))
    assert tried[0].held == PLAN.held
    assert tried[0].lifted == [Contact(0, 28, 30), Contact(0, 40, 44)]
    assert tried[1].held == [Contact(0, 5, 44), Contact(1, 0, 50)]
    parts = [[c for c in plan.held if c.side == 0 and c.start >= 28] for plan in tried[2:]]
    assert parts[0] == [Contact(0, 28, 44)]
    assert parts[-1] == []
    lengths = [sum(c.stop - c.start for c in part) for part in parts]
    assert lengths == sorted(lengths, reverse=True)


@given(st.integers(0, 40), st.integers(2, 20), st.integers(0, 1))
def test_every_frame_of_a_part_is_held_or_lifted(start: int, length: int, side: int) -> None:
    c = Contact(side, start, start + length)
    own = [h for h in PLAN.held if h.side == side]
    near = sum(h.stop <= c.start for h in own) > 0, sum(h.start >= c.stop for h in own) > 0
    for plan in list(alternatives(PLAN, c, EDGES))[1 + sum(near) :]:
        covered = np.zeros(60, dtype=int)
        for part in plan.held + plan.lifted:
            if part.side == side:
                covered[part.start : part.stop] += 1
        assert (covered[c.start : c.stop] == 1).all()
        assert [h for h in plan.held if h.side != side] == [h for h in PLAN.held if h.side != side]


def test_a_lift_is_smooth_and_enough() -> None:
    lacks = np.full(60, -0.05)
    lacks[20:30] = 0.04
    up = lift(lacks, 4)
    assert (up >= lacks).all()
    assert np.abs(np.diff(up)).max() < 0.02
    assert up[:15].max() == up[36:].max() == 0
