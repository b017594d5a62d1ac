"""Plans hold more, or less, and try a contact in parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motiongpt3.motion.contacts import Contact
from motiongpt3.motion.legs import LEGS
from motiongpt3.motion.plans import Plan, longer, mends, shorter

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
    assert shorter(PLAN, quick, list(LEGS)).held == [Contact(0, 5, 19), *PLAN.held[1:]]
    quick[:] = False
    quick[27, LEGS[0][1]] = True
    assert shorter(PLAN, quick, list(LEGS)).held == [PLAN.held[0], Contact(0, 31, 40), PLAN.held[2]]


def test_a_quick_body_shortens_both_feet() -> None:
    quick = np.zeros((59, 22), dtype=bool)
    quick[50, 15] = True
    assert shorter(PLAN, quick, list(LEGS)).held == [PLAN.held[0], Contact(0, 30, 39), Contact(1, 0, 49)]


def test_what_gets_too_short_is_let_go() -> None:
    quick = np.zeros((59, 22), dtype=bool)
    quick[5:15, LEGS[0][1]] = True
    short = Plan([Contact(0, 9, 11), Contact(1, 9, 11)], [], 0.25, 0.2)
    assert shorter(short, quick, list(LEGS)).held == [Contact(1, 9, 11)]


def test_a_contact_is_tried_as_it_is_then_with_its_neighbours_then_in_parts() -> None:
    tried = list(mends(PLAN, Contact(0, 28, 44), EDGES))
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
    for plan in list(mends(PLAN, c, EDGES))[1 + sum(near) :]:
        covered = np.zeros(60, dtype=int)
        for part in plan.held + plan.lifted:
            if part.side == side:
                covered[part.start : part.stop] += 1
        assert (covered[c.start : c.stop] == 1).all()
        assert [h for h in plan.held if h.side != side] == [h for h in PLAN.held if h.side != side]
