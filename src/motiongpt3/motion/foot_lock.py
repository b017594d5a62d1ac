"""Foot lock: feet that slide while they should stand are held in one place, without making a joint too quick.

In four steps, from below to `lock_feet`:

- find: `motion.contacts` says when feet stand.
- plan: a `Plan` lists the contacts to be held, and the parts in which toes are lifted like a step instead. `longer`,
  `shorter` and `alternatives` give plans with more or less of it.
- hold: `hold` carries a plan out. The toes stay in one place for as long as a contact lasts. The body goes along where
  both feet slide the same way; nearly straight and folded legs stay as they are (`motion.leg_ik`), the others bend. In
  the air a correction passes smoothly into the next one.
- search: a plan that makes a joint too quick (a pop) is made shorter. What still slides is held for longer, or, where
  that would be too quick, held in part and lifted for the rest.

Numbers come from docs/experiments.md, "Feet that stand, again: it was the knees" and "The last contacts".
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
from motiongpt3.motion.leg_ik import body_lift, length, place_ankles, tilted_foot
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.signals import averaged, gaussian, smootherstep, smoothstep
from motiongpt3.motion.skeleton import LEGS, Array, Float64

MAX_SLIDE = 0.01
"""Metres: what the toes of a held contact may slide; the bar of both experiments."""
MAX_POP = 0.02
"""Metres that a joint of a fixed motion may move farther than it did, within 1/20 s; the bar of both experiments."""
MAX_CORRECTION_SPEED = 0.36
"""Metres per second that a correction may add to a foot in the air: 1.8 cm in 1/20 s, a little less than `MAX_POP`."""
_LIFT_SECONDS = 0.3  # in which toes are lifted for a step; by eye
_LIFT_HEIGHT = MAX_CONTACT_HEIGHT + 0.005  # metres at which they travel: just too high for a contact
_FADE_SECONDS = 0.5  # before the first contact and after the last in which a correction fades ("The last contacts")
_SETTLE_SECONDS = 0.01  # deviation, over which corrections are averaged; feet rest in time then ("Feet that stand")
_FOLDED_REACH, _MIN_REACH = 0.3, 0.05
"""Metres from hip to ankle: in a leg folded to less than the first, toes should stand where they are ("The last
contacts"); how much less than the second makes no difference. Both by eye."""
_RAMP = 0.1  # share of a passage in which a correction gets faster, and in which it gets slower ("The last contacts")
_PEAK_SPEED = 1 / (1 - _RAMP)  # slope in the middle of a passage that takes a time of 1
_SIGMAS = ((0.25, 0.4, 0.15, 0.6), (0.1, 0.3, 0.2, 0.5), (0.05, 0.8, 0.35, 1.2))
"""Seconds over which the body goes along, in groups: four first ("Feet that stand"), more where feet still slide."""
_RISES = (0.2, 0.4, 0.8)
"""Seconds in which toes come up from under the floor, the first that is slow enough ("The last contacts")."""
_EDGES = (0, 0.12, 0.25, 0.5, 0.75, 0.88, 1)
"""Shares of a contact between which it is held in part: finer at the ends ("The last contacts")."""
_MAX_ROUNDS, _MAX_TRIES = 12, 2  # of finding what still slides with one sigma; of holding the same contact; by eye
_LOST_COST = 0.5  # how bad a frame is in which a foot no longer stands, against one in which it slides; by eye
_ATTEMPTS, _MEND_ATTEMPTS = 200, 20
"""At a plan, and at one with a contact held in part, to keep every joint slow enough ("Feet that stand": not 40)."""
_MAX_FRAMES = 2_000_000  # in all attempts together, if they are not one round's: about 30 seconds ("Feet that stand")
_SHARES = 8  # one of them is what may be spent on mending one sigma's motion ("The last contacts")


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
    touched = [c, *(h for h in plan.held if h.overlaps(c))]
    whole = Contact(c.side, min(h.start for h in touched), max(h.stop for h in touched))
    return replace(plan, held=sorted([h for h in plan.held if h not in touched] + [whole]))


def shorter(plan: Plan, quick: NDArray[np.bool_]) -> Plan:
    """The plan with the contacts shortened that are nearest to a leg, or a body, that moves too quickly.

    Args:
        plan: what made them so.
        quick: (T - 1, 22), which joints move too quickly from a frame on.
    """
    body = np.delete(quick, [joint for leg in LEGS for joint in leg[1:]], axis=1).any(axis=1)
    held = []
    for side, leg in enumerate(LEGS):
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


def alternatives(plan: Plan, c: Contact, edges: Sequence[float] = _EDGES) -> Iterator[Plan]:
    """Plans that may keep a contact from sliding.

    It is lifted where it is not held; held together with the contact before, or with the one after; held in part, the
    largest part first, or not at all, and lifted for the rest.

    Args:
        plan: which did not keep it from sliding.
        c: the contact.
        edges: shares of its time at which a part may begin or end, from 0 to 1.
    """

    def parts(*bounds: tuple[int, int]) -> list[Contact]:
        return [Contact(c.side, start, stop) for start, stop in bounds if stop > start]

    own = [h for h in plan.held if h.side == c.side]
    held, lifted = ([o for o in some if not o.overlaps(c)] for some in (plan.held, plan.lifted))
    ends = [c.start, *(end for h in own if h.overlaps(c) for end in (h.start, h.stop)), c.stop]
    yield replace(plan, lifted=lifted + parts(*zip(ends[::2], ends[1::2], strict=True)))
    for near in [h for h in own if h.stop <= c.start][-1:] + [h for h in own if h.start >= c.stop][:1]:
        both = Contact(c.side, min(c.start, near.start), max(c.stop, near.stop))
        yield replace(longer(plan, both), lifted=lifted)
    frames = sorted({c.start + round(edge * (c.stop - c.start)) for edge in edges})
    inner = sorted(((a, b) for a, b in combinations(frames, 2) if b - a > 1), key=lambda part: part[0] - part[1])
    for start, stop in [*inner, (c.stop, c.stop)]:
        rest = parts((c.start, start), (stop, c.stop))
        yield replace(plan, held=sorted(held + parts((start, stop))), lifted=lifted + rest)


def hold(motion: Motion, plan: Plan, floor: float) -> tuple[Motion, Plan]:
    """The motion with the plan carried out, and the plan with contacts shortened where feet had been too quick."""
    joints, fps = motion.joints.astype(np.float64), motion.fps
    weights = [np.clip(length(joints, hip, ankle), _MIN_REACH, _FOLDED_REACH) ** -4 for hip, _, ankle, _ in LEGS]
    shift = _body_shift(joints, plan, weights, fps)
    joints = joints + shift[:, None]
    toes, held = [], []
    for side, (*_, toe) in enumerate(LEGS):
        at = joints[:, toe]
        own = _bridgeable(at, [c for c in plan.held if c.side == side], weights[side], shift, fps)
        held += own
        at = at + averaged(_correction(at, own, weights[side], fps), gaussian(_SETTLE_SECONDS * fps), "held")
        lacks = np.zeros(len(at))
        for c in plan.lifted:
            if c.side == side:
                lacks[c.start : c.stop] = floor + _LIFT_HEIGHT - at[c.start : c.stop, 1]
        at[:, 1] += lift(lacks, _LIFT_SECONDS * fps)
        if plan.rise is not None:
            at[:, 1] += lift(floor - at[:, 1], plan.rise * fps)
        toes.append(at)
    joints[..., 1] += body_lift(joints, toes, LEGS, fps)[:, None]
    ankles = []
    for leg, at in zip(LEGS, toes, strict=True):
        foot = tilted_foot(joints, leg, at, -np.inf if plan.rise is None else floor)
        joints[:, leg[3]] = joints[:, leg[2]] + foot
        ankles.append(at - foot)
    return motion.replace(joints=place_ankles(joints, ankles, fps)), replace(plan, held=held)


def lift(lacks: Array, frames: float) -> Float64:
    """(T,) metres by which to lift toes that lack (T,) metres, so that none lacks any, up and down in some frames."""
    out = np.zeros(len(lacks))
    reach = max(1, round(frames))
    for frame in np.flatnonzero(lacks > 0):
        near = slice(max(0, frame - reach), frame + reach + 1)
        fade = 1 - np.abs(np.arange(len(lacks))[near] - frame) / (reach + 1)
        out[near] = np.maximum(out[near], lacks[frame] * smoothstep(fade))
    return out


def _body_shift(joints: Array, plan: Plan, weights: list[Array], fps: float) -> Float64:
    """(T, 3) horizontal move of the whole body that takes up what the standing feet slide together."""
    window = gaussian(plan.sigma * fps)
    shift = np.zeros((len(joints), 3))
    standing = np.zeros(len(joints))
    for c in plan.held:
        standing[c.start : c.stop] += 1
    dense = averaged(standing, window, "held")
    for _ in range(3):
        wanted = np.zeros_like(shift)
        for c in plan.held:
            wanted[c.start : c.stop] += _away(joints[:, LEGS[c.side][3]] + shift, c, weights[c.side])
        shift += averaged(wanted, window, "held") / np.maximum(dense, 0.25)[:, None]
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
        way = _PEAK_SPEED * jump + shift[b.start] - shift[a.stop - 1]
        if np.linalg.norm(way) * fps / (b.start - a.stop + 1) <= MAX_CORRECTION_SPEED:
            at += 1
            continue
        if a.stop - a.start >= b.stop - b.start:
            own[at] = replace(a, stop=a.stop - 1)
        else:
            own[at + 1] = replace(b, start=b.start + 1)
        own = [c for c in own if c.stop - c.start >= shortest]
        at = max(at - 1, 0)
    return own


def _correction(toe: Array, own: list[Contact], weight: Array, fps: float) -> Float64:
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
    fade = max(1, round(_FADE_SECONDS * fps))
    before, after = np.arange(own[0].start, 0, -1), np.arange(1, len(toe) - own[-1].stop + 1)
    out[: own[0].start] = (1 - smootherstep(before / fade))[:, None] * out[own[0].start]
    out[own[-1].stop :] = (1 - smootherstep(after / fade))[:, None] * out[own[-1].stop - 1]
    return out


def _passed(s: Array) -> Array:
    """How far along a passage is, 0 to 1, at the share `s` of its time: as slow as can be with a soft start and end."""
    edge = np.minimum(s, 1 - s)
    way = np.where(edge < _RAMP, edge**2 / (2 * _RAMP), edge - _RAMP / 2) * _PEAK_SPEED
    return np.asarray(np.where(s < 0.5, way, 1 - way))


def added_way(before: Motion, after: Motion) -> Float64:
    """(T - 1, J) metres that each joint moves farther than it did, from each frame on within 1/20 s.

    The most over one frame, two frames and so on, as many as fit into 1/20 s, but at least one. Of a frame that lasts
    longer it is the share of 1/20 s.
    """
    return _added(_ways(before), after)


def _ways(motion: Motion) -> list[Float64]:
    """(T - n, J) metres that each joint moves from each frame on within n frames, for each n of `added_way`."""
    joints = motion.joints.astype(np.float64)
    steps = range(1, max(1, int(motion.fps / 20)) + 1)
    return [np.asarray(np.linalg.norm(joints[n:] - joints[:-n], axis=-1)) for n in steps]


def _added(ways: list[Float64], after: Motion) -> Float64:
    """`added_way` from the ways of the motion before."""
    most = np.full(ways[0].shape, -np.inf)
    for went, goes in zip(ways, _ways(after), strict=True):
        most[: len(goes)] = np.maximum(most[: len(goes)], goes - went)
    return most * min(1.0, after.fps / 20)


@dataclass(frozen=True)
class _Try:
    """A motion with a plan carried out, the contacts that slide in it, and how bad it is: 0 if all feet stand."""

    motion: Motion
    plan: Plan
    sliding: list[Contact]
    cost: float


class _Search:
    """A search for the plan that leaves the fewest frames in which a foot slides. All tries share some attempts."""

    def __init__(self, motion: Motion, floor: float) -> None:
        self.motion, self.floor = motion, floor
        self.found = find_contacts(motion, floor)
        self.ways = _ways(motion)
        attempts = max(_ATTEMPTS, _MAX_FRAMES // len(motion))
        self.attempts, self.share = iter(range(attempts)), attempts // _SHARES
        slow = (rise for rise in _RISES if not self._quick(hold(motion, Plan([], [], 1.0, rise), floor)[0]).any())
        self.rise = next(slow, None)

    def hold_all(self, sigma: float) -> _Try:
        """The best of some rounds of holding what slides."""
        plan = Plan(self.found, [], sigma, self.rise)
        often = Counter(plan.held)
        best = now = self._try(plan, islice(self.attempts, _ATTEMPTS))
        for _ in range(_MAX_ROUNDS):
            plan = now.plan
            for c in now.sliding:
                more = longer(plan, c)
                new = [h for h in more.held if h not in plan.held]
                if all(often[h] < _MAX_TRIES for h in new):
                    often.update(new)
                    plan = more
            if plan.held == now.plan.held:
                break
            now = self._try(plan, islice(self.attempts, _ATTEMPTS))
            best = min(best, now, key=lambda t: t.cost)
        return best

    def mend(self, best: _Try) -> _Try:
        """The best try with as many of its sliding contacts as can be held in part and lifted for the rest."""
        share = islice(self.attempts, self.share)
        better: _Try | None = best
        while better:
            best, better = better, None
            for plan in (plan for c in best.sliding for plan in alternatives(best.plan, c)):
                now = self._try(plan, islice(share, _MEND_ATTEMPTS))
                if now.cost < best.cost:
                    better = now
                    break
        return best

    def _try(self, plan: Plan, attempts: Iterator[int]) -> _Try:
        """What comes of a plan, shortened in some attempts until no joint is too quick; or nothing done."""
        fixed, done = self.motion, replace(plan, held=[], lifted=[])
        for _ in attempts:
            held, plan = hold(self.motion, plan, self.floor)
            quick = self._quick(held)
            if not quick.any():
                fixed, done = held, plan
                break
            plan = shorter(plan, quick)
        again = find_contacts(fixed, self.floor)
        sliding = [c for c, slide in zip(again, slides(fixed, again), strict=True) if slide >= MAX_SLIDE]
        lost = max(frames_of(self.found) - frames_of(again), 0)
        return _Try(fixed, done, sliding, frames_of(sliding) + _LOST_COST * lost)

    def _quick(self, fixed: Motion) -> NDArray[np.bool_]:
        """(T - 1, J) which joints go more than `MAX_POP` farther than they did."""
        return _added(self.ways, fixed) > MAX_POP


def lock_feet(motion: Motion, floor: float = 0.0) -> Motion:
    """The motion with standing feet held in their places, and no foot under the floor.

    The toes of each contact get one place, the middle of where they were. A contact that would need a foot faster than
    `MAX_CORRECTION_SPEED`, or take any joint more than `MAX_POP` farther than it went, is shortened, or let go. As long
    as feet still slide, the body is tried with going along for a longer or shorter time. Feet that come up from under
    the floor do so in a time in which no joint is too quick, or stay there; the pelvis gives way where a leg would be
    too short. Bones keep their lengths.

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
            fresh.append(search.hold_all(sigma))
            if not fresh[-1].cost:
                return fresh[-1].motion
        for tried in sorted(fresh, key=lambda t: t.cost):
            tries.append(search.mend(tried))
            if not tries[-1].sliding:
                return tries[-1].motion
    return min(tries, key=lambda t: t.cost).motion
