"""What is to be done to feet: contacts held, and parts in which they are lifted; with more, or with less of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.contacts import Contact
from motiongpt3.motion.legs import Leg


@dataclass(frozen=True)
class Plan:
    """What is done.

    Attributes:
        held: contacts.
        lifted: parts in which toes are lifted like a step.
        sigma: seconds over which the body goes along.
        rise: seconds in which toes come up from under the floor, or None if they stay there.
    """

    held: list[Contact]
    lifted: list[Contact]
    sigma: float
    rise: float | None


def longer(plan: Plan, c: Contact) -> Plan:
    """The plan with a contact held too, as one with those that it overlaps."""
    touched = [h for h in plan.held if not _apart(h, c)]
    whole = Contact(c.side, min(h.start for h in [c, *touched]), max(h.stop for h in [c, *touched]))
    return replace(plan, held=_sorted([h for h in plan.held if h not in touched] + [whole]))


def shorter(plan: Plan, quick: NDArray[np.bool_], legs: list[Leg]) -> Plan:
    """The plan with the contacts shortened that are nearest to a leg, or a body, that moves too quickly.

    Args:
        plan: what made them so.
        quick: (T - 1, J), which joints move too quickly from a frame on.
        legs: hip, knee, ankle and toe of the left and the right leg.
    """
    body = np.delete(quick, [joint for leg in legs for joint in leg[1:]], axis=1).any(axis=1)
    held = []
    for side, leg in enumerate(legs):
        own = [[c.start, c.stop] for c in plan.held if c.side == side]
        for frame in np.flatnonzero(body | quick[:, list(leg[1:])].any(axis=1)):
            if not own:
                break
            near = min(own, key=lambda c: max(c[0] - frame - 1, frame - c[1] + 1, 0))
            if abs(near[0] - frame) <= abs(near[1] - frame):
                near[0] += 1
            else:
                near[1] -= 1
            own = [c for c in own if c[1] - c[0] > 1]
        held += [Contact(side, start, stop) for start, stop in own]
    return replace(plan, held=held)


def mends(plan: Plan, c: Contact, edges: Sequence[float]) -> Iterator[Plan]:
    """Plans that may keep a contact from sliding.

    It is lifted where it is not held; held together with the contact before, or with the one after; held in part, the
    largest part first, or not at all, and lifted for the rest.

    Args:
        plan: which did not keep it from sliding.
        c: the contact.
        edges: shares of its time at which a part may begin or end, from 0 to 1.
    """
    own = [h for h in plan.held if h.side == c.side]
    touched = [h for h in own if not _apart(h, c)]
    held, lifted = ([o for o in some if _apart(o, c)] for some in (plan.held, plan.lifted))
    ends = [c.start, *(end for h in touched for end in (h.start, h.stop)), c.stop]
    gaps = [Contact(c.side, a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if b > a]
    yield replace(plan, lifted=lifted + gaps)
    for near in [h for h in own if h.stop <= c.start][-1:] + [h for h in own if h.start >= c.stop][:1]:
        both = Contact(c.side, min(c.start, near.start), max(c.stop, near.stop))
        yield replace(longer(plan, both), lifted=lifted)
    frames = sorted({c.start + round(edge * (c.stop - c.start)) for edge in edges})
    some = [(a, b) for a, b in combinations(frames, 2) if b - a > 1]
    for start, stop in [*sorted(some, key=lambda part: part[0] - part[1]), (c.stop, c.stop)]:
        rest = [Contact(c.side, a, b) for a, b in ((c.start, start), (stop, c.stop)) if b > a]
        part = [Contact(c.side, start, stop)] if stop > start else []
        yield replace(plan, held=_sorted(held + part), lifted=lifted + rest)


def _apart(a: Contact, b: Contact) -> bool:
    return a.side != b.side or a.stop <= b.start or b.stop <= a.start


def _sorted(contacts: list[Contact]) -> list[Contact]:
    return sorted(contacts, key=lambda c: (c.side, c.start))
