"""Feet that stand: which contacts can be held in their places without making a joint too quick.

A generated foot slides while it should stand. `fix_feet` finds the contacts (`motiongpt3.motion.contacts`) and holds
them (`motiongpt3.motion.hold`), fewer of them until no joint is too quick. Then it looks again: what still slides is
held for longer, or, where that would be too quick, held in part and lifted like a step for the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.contacts import Contact, contacts, frames_of, slides
from motiongpt3.motion.hold import hold
from motiongpt3.motion.legs import legs_of
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.plans import Plan, longer, mends, shorter

SLIDE = 0.01
"""Metres: what the toes of a held contact may slide."""
POP = 0.02
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


def fix_feet(motion: Motion, floor: float = 0.0) -> Motion:
    """The motion with standing feet held in their places, and no foot under the floor.

    The toes of each contact get one place, the middle of where they were. Where the feet slide the same way for some
    time the whole body goes along, the rest is done by bending the legs; nearly straight and folded ones stay as they
    are by a body that goes up or down and feet that tilt, and the pelvis gives way where a leg would be too short. In
    the air a correction passes smoothly into the next one. A contact that would need a foot faster than `hold.FASTEST`,
    or take any joint more than `POP` farther than it went, is shortened, or let go. What slides then is held together
    with its neighbour, or in part, the toes lifted over the floor for the rest. As long as feet still slide, the body
    is tried with going along for a longer or shorter time. Feet that come up from under the floor do so in a time in
    which no joint is too quick, or stay there. Bones keep their lengths.

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
        self.found = contacts(motion, floor)
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
        again = contacts(fixed, self.floor)
        sliding = [c for c, slide in zip(again, slides(fixed, again), strict=True) if slide >= SLIDE]
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
        """(T - 1, J) which joints go more than `POP` farther than they did."""
        return _farther(self.ways, _ways(fixed), fixed.fps) > POP


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
