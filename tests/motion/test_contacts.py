"""Feet stand where they are low and slow, and how far they slide there."""

from __future__ import annotations

import numpy as np
import pytest
from people import standing

from motiongpt3.motion.contacts import (
    MAX_CONTACT_HEIGHT,
    MAX_CONTACT_SLIDE,
    MAX_CONTACT_SPEED,
    Contact,
    find_contacts,
    frames_of,
    slides,
)
from motiongpt3.motion.motion import Motion


def test_a_foot_in_the_air_is_no_contact() -> None:
    joints = standing(40)
    joints[10:30, [7, 10], 1] += 0.2
    found = find_contacts(Motion(joints))
    assert [(c.start, c.stop) for c in found if c.side == 0] == [(0, 10), (30, 40)]
    assert [(c.start, c.stop) for c in found if c.side == 1] == [(0, 40)]


@pytest.mark.parametrize("fps", [20, 60])
def test_a_quick_foot_is_no_contact_unless_the_body_is_quicker(fps: int) -> None:
    steps = np.arange(2 * fps)[:, None, None] / fps * [0, 0, 1.0]
    quick = standing(2 * fps)
    quick[:, [7, 10]] += 1.2 * MAX_CONTACT_SPEED * steps
    assert {c.side for c in find_contacts(Motion(quick, fps=fps))} == {1}
    run = standing(2 * fps) + 3.0 * steps  # a body at 3 m/s, a foot that goes back under it, and is down for 0.2 s
    run[:, [7, 10]] -= 2.2 * steps
    run[:fps, [7, 10], 1] += 0.2
    run[fps + fps // 5 :, [7, 10], 1] += 0.2
    assert find_contacts(Motion(run, fps=fps)) == [Contact(0, fps, fps + fps // 5)]


def test_a_foot_dragged_far_stands_several_times() -> None:
    joints = standing(100)
    joints[:, [7, 10]] += np.linspace(0, 2.2 * MAX_CONTACT_SLIDE, 100)[:, None, None] * [0, 0, 1.0]
    left = [c for c in find_contacts(Motion(joints)) if c.side == 0]
    assert [c.start for c in left[1:]] == [c.stop for c in left[:-1]]
    assert len(left) == 3
    assert slides(Motion(joints), left).max() < MAX_CONTACT_SLIDE


def test_slides_are_measured_from_where_a_contact_began() -> None:
    joints = standing(30)
    joints[10:20, 10] += [0.03, 0, 0.04]
    joints[20:, 11, 1] += 1.01 * MAX_CONTACT_HEIGHT
    motion = Motion(joints)
    found = [Contact(0, 0, 30), Contact(0, 10, 20), Contact(1, 0, 30)]
    np.testing.assert_allclose(slides(motion, found), [0.05, 0, 0], atol=1e-6)
    assert frames_of(found) == 70
    assert [(c.start, c.stop) for c in find_contacts(motion) if c.side == 1] == [(0, 20)]
    assert find_contacts(motion[:2]) == []
