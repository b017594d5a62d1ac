"""Foot contacts: when a foot stands on the floor, how far it slides there, and how to hold it in its place.

A generated foot slides while it should stand. `fix_feet` finds the contacts, gives the toes of each one place, moves
the body a little where both feet slide the same way, tilts the feet and bends the legs so that all meet
(`motiongpt3.motion.knees`, `motiongpt3.motion.legs`). Then it looks again: what still slides is held for longer, or,
where that would be too quick, lifted like a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.average import averaged
from motiongpt3.motion.blend import eased
from motiongpt3.motion.contacts import HEIGHT, SHORTEST, Contact, contacts, frames_of, slides
from motiongpt3.motion.knees import rise, tilted_foot
from motiongpt3.motion.legs import legs_of, place_ankles
from motiongpt3.motion.lift import lift
from motiongpt3.motion.motion import Motion

Array = NDArray[np.floating[Any]]

SLIDE = 0.01
"""Metres: what the toes of a held contact may slide."""
FASTEST = 0.36
"""Metres per second that a correction may add to a foot in the air: 1.8 cm in 1/20 s."""
POP = 0.02
"""Metres that a joint of a fixed motion may move farther than it did, within 1/20 s."""
_ROUNDS = 12  # of finding what still slides
_TRIES = 2  # to hold the same contact
_LOST = 0.5  # how bad a frame is in which a foot no longer stands, against one in which it slides
_ATTEMPTS = 200  # in a round, to keep every joint slow enough
_WORK = 1_000_000  # frames in all attempts of all rounds, if they are not one round's: about 20 seconds
_FADE = 0.35  # seconds in which a correction starts before the first contact and ends after the last
_SIGMAS = (0.25, 0.4, 0.15, 0.6)  # seconds over which the body's share of the correction is averaged, as far as tried
_SETTLE = 0.01  # seconds over which a correction is averaged, so that a foot comes to rest in time
_RAMP = 0.3  # share of a passage in which a correction gets faster, and in which it gets slower
_STEEPEST = 1 / (1 - _RAMP)  # slope of `_passed` in the middle
_CLEAR = HEIGHT + 0.005  # metres at which a lifted toe travels
_BETWEEN = 0.5  # seconds between two lifts of one step
_STEP, _RISE = 0.3, 0.2  # seconds in which toes are lifted for a step, and from under the floor


@dataclass(frozen=True)
class _Plan:
    """What is done: the contacts held, the parts in which toes are lifted, seconds over which the body goes along."""

    held: list[Contact]
    lifted: list[Contact]
    sigma: float


def fix_feet(motion: Motion, floor: float = 0.0) -> Motion:
    """The motion with standing feet held in their places, and no foot under the floor.

    The toes of each contact get one place, the middle of where they were. Where the feet slide the same way for some
    time the whole body goes along, the rest is done by bending the legs; a nearly straight leg tilts its foot over the
    toes, and the pelvis gives way where a leg would be too short. In the air a correction passes smoothly into the next
    one. A contact that would need a foot faster than `FASTEST`, or take any joint more than `POP` farther than it went,
    is shortened, or let go; toes that would slide then are lifted over the floor. As long as feet still slide, the body
    is tried with going along for a longer or shorter time. Bones keep their lengths.

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
        fixed, cost = _fixed(motion, _Plan(found, [], sigma), floor, attempts)
        if cost < least:
            best, least = fixed, cost
        if not least:
            break
    return best


def _fixed(motion: Motion, plan: _Plan, floor: float, attempts: Iterator[int]) -> tuple[Motion, float]:
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


def _settled(motion: Motion, plan: _Plan, floor: float, attempts: Iterator[int]) -> tuple[Motion, _Plan]:
    """The motion with the plan carried out, and the plan as far as it could be, no joint being too quick."""
    for _ in islice(attempts, _ATTEMPTS):
        fixed, plan = _held(motion, plan, floor)
        quick = np.pad(added_way(motion, fixed) > POP, ((0, 1), (0, 0)))
        if not quick.any():
            return fixed, plan
        plan = _less(plan, quick, motion)
    return motion, replace(plan, held=[], lifted=[])


def _more(plan: _Plan, sliding: list[Contact], tried: Counter[Contact], fps: float) -> _Plan:
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


def _less(plan: _Plan, quick: NDArray[np.bool_], motion: Motion) -> _Plan:
    """The plan with the contacts shortened, or lifts left, nearest to a leg, or a body, that moves too quickly."""
    legs = legs_of(motion.skeleton)
    reach = round(_STEP * motion.fps)
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


def _held(motion: Motion, plan: _Plan, floor: float) -> tuple[Motion, _Plan]:
    """The motion with the plan carried out, and the plan with contacts shortened where feet had been too quick."""
    joints, fps = motion.joints.astype(np.float64), motion.fps
    legs = legs_of(motion.skeleton)
    joints = joints + _body_shift(joints, plan.held, legs, plan.sigma * fps)[:, None]
    toes, held = [], []
    for side, (_, _, _, toe) in enumerate(legs):
        at = joints[:, toe]
        own = _bridgeable(at, [c for c in plan.held if c.side == side], fps)
        held += own
        at = at + averaged(_correction(at, own, fps), _SETTLE * fps, "held")
        lacks = np.zeros(len(at))
        for c in plan.lifted:
            if c.side == side:
                lacks[c.start : c.stop] = floor + _CLEAR - at[c.start : c.stop, 1]
        at[:, 1] += lift(lacks, _STEP * fps)
        at[:, 1] += lift(floor - at[:, 1], _RISE * fps)
        toes.append(at)
    joints[..., 1] += rise(joints, toes, legs, fps)[:, None]
    ankles = []
    for leg, at in zip(legs, toes, strict=True):
        foot = tilted_foot(joints, leg, at, floor)
        joints[:, leg[3]] = joints[:, leg[2]] + foot
        ankles.append(at - foot)
    fixed = motion.replace(joints=place_ankles(joints, ankles, fps, motion.skeleton).astype(np.float32))
    return fixed, replace(plan, held=held)


def _body_shift(joints: Array, found: list[Contact], legs: list[tuple[int, int, int, int]], sigma: float) -> Array:
    """(T, 3) horizontal move of the whole body that takes up what the standing feet slide together."""
    shift = np.zeros((len(joints), 3))
    weight = np.zeros(len(joints))
    for c in found:
        weight[c.start : c.stop] += 1
    dense = averaged(weight, sigma, "held")
    for _ in range(3):
        wanted = np.zeros_like(shift)
        for c in found:
            wanted[c.start : c.stop] += _away(joints[:, legs[c.side][3]] + shift, c)
        shift += averaged(wanted, sigma, "held") / np.maximum(dense, 0.25)[:, None]
    return shift


def _away(toe: Array, c: Contact) -> Array:
    """(frames, 3) from the toes of a contact to the place where they are to stand, along the floor."""
    at = toe[c.start : c.stop]
    return (at.mean(0) - at) * [1, 0, 1]


def _bridgeable(toe: Array, own: list[Contact], fps: float) -> list[Contact]:
    """The contacts of one foot, shortened or dropped until the correction between them is slow enough."""
    own = list(own)
    shortest = max(2, round(SHORTEST * fps))
    at = 0
    while at < len(own) - 1:
        a, b = own[at : at + 2]
        jump = _away(toe, b)[0] - _away(toe, a)[-1]
        if _STEEPEST * np.linalg.norm(jump) * fps / (b.start - a.stop + 1) <= FASTEST:
            at += 1
            continue
        if a.stop - a.start >= b.stop - b.start:
            own[at] = Contact(a.side, a.start, a.stop - 1)
        else:
            own[at + 1] = Contact(b.side, b.start + 1, b.stop)
        own = [c for c in own if c.stop - c.start >= shortest]
        at = max(at - 1, 0)
    return own


def _correction(toe: Array, own: list[Contact], fps: float) -> Array:
    """(T, 3) what to add to the toes of one foot: all of the way in a contact, eased from one to the next between."""
    out = np.zeros((len(toe), 3))
    if not own:
        return out
    for c in own:
        out[c.start : c.stop] = _away(toe, c)
    for a, b in pairwise(own):
        first, last = a.stop - 1, b.start
        part = _passed(np.arange(1, last - first) / (last - first))[:, None]
        out[first + 1 : last] = out[first] + part * (out[last] - out[first])
    fade = max(1, round(_FADE * fps))
    before, after = np.arange(own[0].start, 0, -1), np.arange(1, len(toe) - own[-1].stop + 1)
    out[: own[0].start] = (1 - eased(before / fade))[:, None] * out[own[0].start]
    out[own[-1].stop :] = (1 - eased(after / fade))[:, None] * out[own[-1].stop - 1]
    return out


def _passed(s: Array) -> Array:
    """How far along a passage is, 0 to 1, at the share `s` of its time: as slow as can be with a soft start and end."""
    edge = np.minimum(s, 1 - s)
    way = np.where(edge < _RAMP, edge**2 / (2 * _RAMP), edge - _RAMP / 2) * _STEEPEST
    return np.asarray(np.where(s < 0.5, way, 1 - way))
