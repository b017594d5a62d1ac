"""Feet that stand: which contacts can be held in their places without making a joint too quick.

A generated foot slides while it should stand. `lock_feet` finds the contacts (`motiongpt3.motion.contacts`) and holds
them (`motiongpt3.motion.foot_lock`), fewer of them until no joint is too quick. Then it looks again: what still slides
is held for longer, or, where that would be too quick, held in part and lifted like a step for the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, pairwise

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.contacts import (
    MAX_CONTACT_HEIGHT,
    MIN_CONTACT_SECONDS,
    Contact,
    find_contacts,
    frames_of,
    slides,
)
from motiongpt3.motion.leg_ik import Leg, legs_of, length, place_ankles, rise, tilted_foot
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.signals import averaged, gaussian, smootherstep, smoothstep
from motiongpt3.motion.skeleton import Array

# What is to be done to feet: contacts held, and parts in which they are lifted; with more, or with less of it.


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


# Toes lifted for as long as they are too low.


def lift(lacks: Array, frames: float) -> Array:
    """(T,) metres by which to lift toes that lack (T,) metres, so that none lacks any, up and down in some frames."""
    out = np.zeros(len(lacks))
    reach = max(1, round(frames))
    for frame in np.flatnonzero(lacks > 0):
        near = slice(max(0, frame - reach), frame + reach + 1)
        fade = 1 - np.abs(np.arange(len(lacks))[near] - frame) / (reach + 1)
        out[near] = np.maximum(out[near], lacks[frame] * smoothstep(fade))
    return out


# Contacts held: toes in one place for as long, the body and the legs along with them.
#
# The body goes along where both feet slide the same way, nearly straight and folded legs stay as they are
# (`motiongpt3.motion.leg_ik`), and the others bend (`motiongpt3.motion.leg_ik`). In the air a correction passes
# smoothly into the next one.

MAX_CORRECTION_SPEED = 0.36
"""Metres per second that a correction may add to a foot in the air: 1.8 cm in 1/20 s."""
_STEP = 0.3  # seconds in which toes are lifted for a step
_FADE = 0.5  # seconds in which a correction starts before the first contact and ends after the last
_SETTLE = 0.01  # seconds over which a correction is averaged, so that a foot comes to rest in time
_FOLDED = 0.3  # metres from hip to ankle: in a leg folded to less, the toes should stand where they are
_NEAREST = 0.05  # metres: none counts as folded to less
_RAMP = 0.1  # share of a passage in which a correction gets faster, and in which it gets slower
_STEEPEST = 1 / (1 - _RAMP)  # slope of `_passed` in the middle
_CLEAR = MAX_CONTACT_HEIGHT + 0.005  # metres at which a lifted toe travels


def hold(motion: Motion, plan: Plan, floor: float) -> tuple[Motion, Plan]:
    """The motion with the plan carried out, and the plan with contacts shortened where feet had been too quick."""
    joints, fps = motion.joints.astype(np.float64), motion.fps
    legs = legs_of(motion.skeleton)
    weights = [np.clip(length(joints, leg[0], leg[2]), _NEAREST, _FOLDED) ** -4 for leg in legs]
    shift = _body_shift(joints, plan.held, legs, weights, plan.sigma * fps)
    joints = joints + shift[:, None]
    toes, held = [], []
    for side, (_, _, _, toe) in enumerate(legs):
        at = joints[:, toe]
        own = _bridgeable(at, [c for c in plan.held if c.side == side], weights[side], shift, fps)
        held += own
        at = at + averaged(_correction(at, own, weights[side], fps), gaussian(_SETTLE * fps), "held")
        lacks = np.zeros(len(at))
        for c in plan.lifted:
            if c.side == side:
                lacks[c.start : c.stop] = floor + _CLEAR - at[c.start : c.stop, 1]
        at[:, 1] += lift(lacks, _STEP * fps)
        if plan.rise is not None:
            at[:, 1] += lift(floor - at[:, 1], plan.rise * fps)
        toes.append(at)
    joints[..., 1] += rise(joints, toes, legs, fps)[:, None]
    ankles = []
    for leg, at in zip(legs, toes, strict=True):
        foot = tilted_foot(joints, leg, at, -np.inf if plan.rise is None else floor)
        joints[:, leg[3]] = joints[:, leg[2]] + foot
        ankles.append(at - foot)
    fixed = motion.replace(joints=place_ankles(joints, ankles, fps, motion.skeleton).astype(np.float32))
    return fixed, replace(plan, held=held)


def _body_shift(joints: Array, found: list[Contact], legs: list[Leg], weights: list[Array], sigma: float) -> Array:
    """(T, 3) horizontal move of the whole body that takes up what the standing feet slide together."""
    shift = np.zeros((len(joints), 3))
    weight = np.zeros(len(joints))
    for c in found:
        weight[c.start : c.stop] += 1
    dense = averaged(weight, gaussian(sigma), "held")
    for _ in range(3):
        wanted = np.zeros_like(shift)
        for c in found:
            wanted[c.start : c.stop] += _away(joints[:, legs[c.side][3]] + shift, c, weights[c.side])
        shift += averaged(wanted, gaussian(sigma), "held") / np.maximum(dense, 0.25)[:, None]
    return shift


def _away(toe: Array, c: Contact, weight: Array) -> Array:
    """(frames, 3) from the toes of a contact to the place where they are to stand, along the floor: their mean place.

    The frames of a folded leg weigh more. Its knee swings far when its ankle moves, so it should move then the least.
    """
    at, share = toe[c.start : c.stop], weight[c.start : c.stop, None]
    return ((share * at).sum(0) / share.sum() - at) * [1, 0, 1]


def _bridgeable(toe: Array, own: list[Contact], weight: Array, shift: Array, fps: float) -> list[Contact]:
    """The contacts of one foot, shortened or dropped until the correction between them is slow enough.

    The correction is that of the foot, eased, and that of the body along with it.
    """
    own = list(own)
    shortest = max(2, round(MIN_CONTACT_SECONDS * fps))
    at = 0
    while at < len(own) - 1:
        a, b = own[at : at + 2]
        jump = _away(toe, b, weight)[0] - _away(toe, a, weight)[-1]
        way = _STEEPEST * jump + shift[b.start] - shift[a.stop - 1]
        if np.linalg.norm(way) * fps / (b.start - a.stop + 1) <= MAX_CORRECTION_SPEED:
            at += 1
            continue
        if a.stop - a.start >= b.stop - b.start:
            own[at] = Contact(a.side, a.start, a.stop - 1)
        else:
            own[at + 1] = Contact(b.side, b.start + 1, b.stop)
        own = [c for c in own if c.stop - c.start >= shortest]
        at = max(at - 1, 0)
    return own


def _correction(toe: Array, own: list[Contact], weight: Array, fps: float) -> Array:
    """(T, 3) what to add to the toes of one foot: all of the way in a contact, eased from one to the next between."""
    out = np.zeros((len(toe), 3))
    if not own:
        return out
    for c in own:
        out[c.start : c.stop] = _away(toe, c, weight)
    for a, b in pairwise(own):
        first, last = a.stop - 1, b.start
        part = _passed(np.arange(1, last - first) / (last - first))[:, None]
        out[first + 1 : last] = out[first] + part * (out[last] - out[first])
    fade = max(1, round(_FADE * fps))
    before, after = np.arange(own[0].start, 0, -1), np.arange(1, len(toe) - own[-1].stop + 1)
    out[: own[0].start] = (1 - smootherstep(before / fade))[:, None] * out[own[0].start]
    out[own[-1].stop :] = (1 - smootherstep(after / fade))[:, None] * out[own[-1].stop - 1]
    return out


def _passed(s: Array) -> Array:
    """How far along a passage is, 0 to 1, at the share `s` of its time: as slow as can be with a soft start and end."""
    edge = np.minimum(s, 1 - s)
    way = np.where(edge < _RAMP, edge**2 / (2 * _RAMP), edge - _RAMP / 2) * _STEEPEST
    return np.asarray(np.where(s < 0.5, way, 1 - way))


MAX_SLIDE = 0.01
"""Metres: what the toes of a held contact may slide."""
MAX_POP = 0.02
"""Metres that a joint of a fixed motion may move farther than it did, within 1/20 s."""
_SIGMAS = ((0.25, 0.4, 0.15, 0.6), (0.1, 0.3, 0.2, 0.5), (0.05, 0.8, 0.35, 1.2))
"""Seconds over which the body goes along, as far as tried, in groups."""
_RISES = (0.2, 0.4, 0.8)  # seconds in which toes come up from under the floor, the first that is slow enough
_ROUNDS = 12  # of finding what still slides
_TRIES = 2  # to hold the same contact
_EDGES = (0, 0.12, 0.25, 0.5, 0.75, 0.88, 1)  # shares of a contact, between which it is held in part
_LOST = 0.5  # how bad a frame is in which a foot no longer stands, against one in which it slides
_ATTEMPTS = 200  # in a round, to keep every joint slow enough
_FEW = 20  # of them where a contact is held in part
_WORK = 2_000_000  # frames in all attempts together, if they are not one round's: about 30 seconds
_SHARES = 8  # one of them is what may be spent on mending one try


def lock_feet(motion: Motion, floor: float = 0.0) -> Motion:
    """The motion with standing feet held in their places, and no foot under the floor.

    The toes of each contact get one place, the middle of where they were. Where the feet slide the same way for some
    time the whole body goes along, the rest is done by bending the legs; nearly straight and folded ones stay as they
    are by a body that goes up or down and feet that tilt, and the pelvis gives way where a leg would be too short. In
    the air a correction passes smoothly into the next one. A contact that would need a foot faster than
    `MAX_CORRECTION_SPEED`, or take any joint more than `MAX_POP` farther than it went, is shortened, or let go. What
    slides then is held together with its neighbour, or in part, the toes lifted over the floor for the rest. As long as
    feet still slide, the body is tried with going along for a longer or shorter time. Feet that come up from under the
    floor do so in a time in which no joint is too quick, or stay there. Bones keep their lengths.

    Args:
        motion: any frame rate.
        floor: height of the floor in metres.

    Returns:
        the same frames.
    """
    search = _Search(motion, floor)
    tries: list[_Try] = []
    for sigmas in _SIGMAS:
        fresh = []
        for sigma in sigmas:
            fresh.append(search.held(sigma))
            if not fresh[-1].cost:
                return fresh[-1].motion
        for tried in sorted(fresh, key=lambda t: t.cost):
            tries.append(search.mended(tried))
            if not tries[-1].sliding:
                return tries[-1].motion
    return min(tries, key=lambda t: t.cost).motion


@dataclass(frozen=True)
class _Try:
    """A motion with a plan carried out, the contacts that slide in it, and how bad it is: 0 if all feet stand."""

    motion: Motion
    plan: Plan
    sliding: list[Contact]
    cost: float


class _Search:
    """A search for the plan that leaves the fewest frames in which a foot slides."""

    def __init__(self, motion: Motion, floor: float) -> None:
        self.motion, self.floor = motion, floor
        self.found = find_contacts(motion, floor)
        self.ways = _ways(motion)
        attempts = max(_ATTEMPTS, _WORK // max(len(motion), 1))
        self.attempts, self.share = iter(range(attempts)), attempts // _SHARES
        slow = (rise for rise in _RISES if not self._quick(hold(motion, Plan([], [], 1.0, rise), floor)[0]).any())
        self.rise = next(slow, None)

    def held(self, sigma: float) -> _Try:
        """The best of some rounds of holding what slides."""
        plan = Plan(self.found, [], sigma, self.rise)
        often = Counter(plan.held)
        best = now = self._tried(plan, islice(self.attempts, _ATTEMPTS))
        for _ in range(_ROUNDS):
            plan = now.plan
            for c in now.sliding:
                more = longer(plan, c)
                new = [h for h in more.held if h not in plan.held]
                if all(often[h] < _TRIES for h in new):
                    often.update(new)
                    plan = more
            if plan.held == now.plan.held:
                break
            now = self._tried(plan, islice(self.attempts, _ATTEMPTS))
            best = min(best, now, key=lambda t: t.cost)
        return best

    def mended(self, best: _Try) -> _Try:
        """The best try with as many of its sliding contacts as can be held in part and lifted for the rest."""
        share = islice(self.attempts, self.share)
        better: _Try | None = best
        while better:
            best, better = better, None
            for plan in (plan for c in best.sliding for plan in mends(best.plan, c, _EDGES)):
                now = self._tried(plan, islice(share, _FEW))
                if now.cost < best.cost:
                    better = now
                    break
        return best

    def _tried(self, plan: Plan, attempts: Iterator[int]) -> _Try:
        """What comes of a plan, shortened in some attempts until no joint is too quick."""
        fixed, plan = self._settled(plan, attempts)
        again = find_contacts(fixed, self.floor)
        sliding = [c for c, slide in zip(again, slides(fixed, again), strict=True) if slide >= MAX_SLIDE]
        lost = max(frames_of(self.found) - frames_of(again), 0)
        return _Try(fixed, plan, sliding, frames_of(sliding) + _LOST * lost)

    def _settled(self, plan: Plan, attempts: Iterator[int]) -> tuple[Motion, Plan]:
        for _ in attempts:
            fixed, plan = hold(self.motion, plan, self.floor)
            quick = self._quick(fixed)
            if not quick.any():
                return fixed, plan
            plan = shorter(plan, quick, legs_of(self.motion.skeleton))
        return self.motion, replace(plan, held=[], lifted=[])

    def _quick(self, fixed: Motion) -> NDArray[np.bool_]:
        """(T - 1, J) which joints go more than `MAX_POP` farther than they did."""
        return _farther(self.ways, _ways(fixed), fixed.fps) > MAX_POP


def added_way(before: Motion, after: Motion) -> NDArray[np.float64]:
    """(T - 1, J) metres that each joint moves farther than it did, from each frame on within 1/20 s.

    The most over one frame, two frames and so on, as many as fit into 1/20 s, but at least one. Of a frame that lasts
    longer it is the share of 1/20 s.
    """
    return _farther(_ways(before), _ways(after), before.fps)


def _ways(motion: Motion) -> list[NDArray[np.float64]]:
    """(T - n, J) metres that each joint moves from each frame on within n frames, for each n of `added_way`."""
    joints = motion.joints.astype(np.float64)
    steps = range(1, max(1, int(motion.fps / 20)) + 1)
    return [np.asarray(np.linalg.norm(joints[n:] - joints[:-n], axis=-1)) for n in steps]


def _farther(old: list[NDArray[np.float64]], new: list[NDArray[np.float64]], fps: float) -> NDArray[np.float64]:
    """`added_way` from the ways of a motion before and after."""
    most = np.full(old[0].shape, -np.inf)
    for went, gone in zip(old, new, strict=True):
        most[: len(gone)] = np.maximum(most[: len(gone)], gone - went)
    return most * min(1.0, fps / 20)
