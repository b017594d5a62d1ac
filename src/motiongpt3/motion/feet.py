"""Feet that stand: which contacts can be held in their places without making a joint too quick.

A generated foot slides while it should stand. `fix_feet` finds the contacts (`motiongpt3.motion.contacts`) and holds
them (`motiongpt3.motion.hold`), fewer of them until no joint is too quick. Then it looks again: what still slides is
held for longer, or, where that would be too quick, lifted like a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.contacts import Contact, contacts, frames_of, slides
from motiongpt3.motion.hold import STEP, Plan, hold
from motiongpt3.motion.legs import legs_of
from motiongpt3.motion.motion import Motion

SLIDE = 0.01
"""Metres: what the toes of a held contact may slide."""
POP = 0.02
"""Metres that a joint of a fixed motion may move farther than it did, within 1/20 s."""
_ROUNDS = 12  # of finding what still slides
_TRIES = 2  # to hold the same contact
_LOST = 0.5  # how bad a frame is in which a foot no longer stands, against one in which it slides
_ATTEMPTS = 200  # in a round, to keep every joint slow enough
_WORK = 1_000_000  # frames in all attempts of all rounds, if they are not one round's: about 20 seconds
_SIGMAS = (0.25, 0.4, 0.15, 0.6)  # seconds over which the body's share of the correction is averaged, as far as tried
_BETWEEN = 0.5  # seconds between two lifts of one step


def fix_feet(motion: Motion, floor: float = 0.0) -> Motion:
    """The motion with standing feet held in their places, and no foot under the floor.

    The toes of each contact get one place, the middle of where they were. Where the feet slide the same way for some
    time the whole body goes along, the rest is done by bending the legs; nearly straight ones keep their length by a
    body that goes up or down and feet that tilt, and the pelvis gives way where a leg would be too short. In the air a
    correction passes smoothly into the next one. A contact that would need a foot faster than `hold.FASTEST`, or take
    any joint more than `POP` farther than it went, is shortened, or let go; toes that would slide then are lifted over
    the floor. As long as feet still slide, the body is tried with going along for a longer or shorter time. Bones keep
    their lengths.

    Args:
        motion: any frame rate.
        floor: height of the floor in metres.

    Returns:
        the same frames; the motion itself if no foot ever stands.
    """
    found = contacts(motion, floor)
    best, least = motion, np.inf
    attempts = iter(range(max(_ATTEMPTS, _WORK // max(len(motion), 1))))
    for sigma in _SIGMAS:
        fixed, cost = _fixed(motion, Plan(found, [], sigma), floor, attempts)
        if cost < least:
            best, least = fixed, cost
        if not least:
            break
    return best


def _fixed(motion: Motion, plan: Plan, floor: float, attempts: Iterator[int]) -> tuple[Motion, float]:
    """The motion with a plan's contacts held as far as can be, and how bad it is: 0 if all feet stand as they did."""
    tried = Counter(plan.held)
    stood = frames_of(plan.held)
    best, least = motion, np.inf
    for _ in range(_ROUNDS):
        fixed, plan = _settled(motion, plan, floor, attempts)
        again = contacts(fixed, floor)
        sliding = [c for c, slide in zip(again, slides(fixed, again), strict=True) if slide >= SLIDE]
        cost = frames_of(sliding) + _LOST * max(stood - frames_of(again), 0)
        if cost < least:
            best, least = fixed, cost
        more = _more(plan, sliding, tried, motion.fps)
        if (more.held, more.lifted) == (plan.held, plan.lifted):
            break
        plan = more
    return best, least


def added_way(before: Motion, after: Motion) -> NDArray[np.float64]:
    """(T - 1, J) metres that each joint moves farther than it did, from each frame on within 1/20 s.

    The most over one frame, two frames and so on, as many as fit into 1/20 s, but at least one. Of a frame that lasts
    longer it is the share of 1/20 s.
    """
    old, new = (motion.joints.astype(np.float64) for motion in (before, after))
    most = np.full((len(old) - 1, old.shape[1]), -np.inf)
    for step in range(1, max(1, int(before.fps / 20)) + 1):
        gone, went = (np.linalg.norm(at[step:] - at[:-step], axis=-1) for at in (new, old))
        most[: len(gone)] = np.maximum(most[: len(gone)], gone - went)
    return most * min(1.0, before.fps / 20)


def _settled(motion: Motion, plan: Plan, floor: float, attempts: Iterator[int]) -> tuple[Motion, Plan]:
    """The motion with the plan carried out, and the plan as far as it could be, no joint being too quick."""
    for _ in islice(attempts, _ATTEMPTS):
        fixed, plan = hold(motion, plan, floor)
        quick = np.pad(added_way(motion, fixed) > POP, ((0, 1), (0, 0)))
        if not quick.any():
            return fixed, plan
        plan = _less(plan, quick, motion)
    return motion, replace(plan, held=[], lifted=[])


def _more(plan: Plan, sliding: list[Contact], tried: Counter[Contact], fps: float) -> Plan:
    """The plan with sliding contacts held, if that has not been tried, and otherwise lifted where they are not held."""
    held, lifted = list(plan.held), list(plan.lifted)
    for c in sliding:
        touched = [
            h for h in sorted(held, key=lambda h: h.start) if h.side == c.side and h.start < c.stop and c.start < h.stop
        ]
        wanted = Contact(c.side, min([c.start, *(h.start for h in touched)]), max([c.stop, *(h.stop for h in touched)]))
        if tried[wanted] < _TRIES:
            tried[wanted] += 1
            held = [h for h in held if h not in touched] + [wanted]
            continue
        edges = [c.start, *(edge for h in touched for edge in (h.start, h.stop)), c.stop]
        gaps = [Contact(c.side, a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
        lifted += [gap for gap in gaps if gap not in lifted]
    lifted = _joined(lifted, held, round(_BETWEEN * fps))
    return replace(plan, held=sorted(held, key=lambda h: (h.side, h.start)), lifted=lifted)


def _joined(lifted: list[Contact], held: list[Contact], near: int) -> list[Contact]:
    """The lifts with those made one that are nearer than some frames, where no contact is held between."""
    out: list[Contact] = []
    for c in sorted(lifted, key=lambda c: (c.side, c.start)):
        last = out[-1] if out else None
        if (
            last is None
            or last.side != c.side
            or c.start - last.stop > near
            or any(h.side == c.side and h.start < c.start and last.stop < h.stop for h in held)
        ):
            out.append(c)
        else:
            out[-1] = Contact(c.side, last.start, max(last.stop, c.stop))
    return out


def _less(plan: Plan, quick: NDArray[np.bool_], motion: Motion) -> Plan:
    """The plan with the contacts shortened, or lifts left, nearest to a leg, or a body, that moves too quickly."""
    legs = legs_of(motion.skeleton)
    reach = round(STEP * motion.fps)
    body = np.delete(quick, [joint for leg in legs for joint in leg[1:]], axis=1).any(axis=1)
    held, lifted = [], list(plan.lifted)
    for side, leg in enumerate(legs):
        own = [[c.start, c.stop] for c in plan.held if c.side == side]
        for frame in np.flatnonzero(body | quick[:, list(leg[1:])].any(axis=1)):
            high = [c for c in lifted if c.side == side and c.start - reach <= frame + 1 and frame <= c.stop + reach]
            if high:
                lifted = [c for c in lifted if c not in high]
            elif own:
                near = min(own, key=lambda c: max(c[0] - frame - 1, frame - c[1] + 1, 0))
                if abs(near[0] - frame) <= abs(near[1] - frame):
                    near[0] += 1
                else:
                    near[1] -= 1
                own = [c for c in own if c[1] - c[0] > 1]
        held += [Contact(side, start, stop) for start, stop in own]
    return replace(plan, held=held, lifted=lifted)
