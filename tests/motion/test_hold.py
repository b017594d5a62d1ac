"""A plan is carried out as far as feet can be that quick."""

from __future__ import annotations

import numpy as np
from standing import standing

from motiongpt3.motion.contacts import HEIGHT, Contact, slides
from motiongpt3.motion.hold import FASTEST, hold
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.plans import Plan


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
    assert added[plan.held[0].stop : plan.held[1].start - 1].max() < FASTEST + 0.02


def test_lifted_toes_travel_above_the_floor() -> None:
    motion = sliding()
    fixed, _ = hold(motion, Plan([], [Contact(0, 30, 50)], 0.25, 0.2), 0.0)
    height = fixed.joints[:, 10, 1]
    assert height[30:50].min() > HEIGHT
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
