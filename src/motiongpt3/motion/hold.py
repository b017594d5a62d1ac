"""Contacts held: toes in one place for as long, the body and the legs along with them.

The body goes along where both feet slide the same way, nearly straight and folded legs stay as they are
(`motiongpt3.motion.knees`), and the others bend (`motiongpt3.motion.legs`). In the air a correction passes smoothly
into the next one.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from motiongpt3.motion.average import averaged
from motiongpt3.motion.contacts import HEIGHT, SHORTEST, Contact
from motiongpt3.motion.knees import rise, tilted_foot
from motiongpt3.motion.legs import Leg, legs_of, length, place_ankles
from motiongpt3.motion.lift import lift
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.plans import Plan
from motiongpt3.motion.poses import eased
from motiongpt3.motion.skeleton import Array

FASTEST = 0.36
"""Metres per second that a correction may add to a foot in the air: 1.8 cm in 1/20 s."""
_STEP = 0.3  # seconds in which toes are lifted for a step
_FADE = 0.5  # seconds in which a correction starts before the first contact and ends after the last
_SETTLE = 0.01  # seconds over which a correction is averaged, so that a foot comes to rest in time
_FOLDED = 0.3  # metres from hip to ankle: in a leg folded to less, the toes should stand where they are
_NEAREST = 0.05  # metres: none counts as folded to less
_RAMP = 0.1  # share of a passage in which a correction gets faster, and in which it gets slower
_STEEPEST = 1 / (1 - _RAMP)  # slope of `_passed` in the middle
_CLEAR = HEIGHT + 0.005  # metres at which a lifted toe travels


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
        at = at + averaged(_correction(at, own, weights[side], fps), _SETTLE * fps, "held")
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
    dense = averaged(weight, sigma, "held")
    for _ in range(3):
        wanted = np.zeros_like(shift)
        for c in found:
            wanted[c.start : c.stop] += _away(joints[:, legs[c.side][3]] + shift, c, weights[c.side])
        shift += averaged(wanted, sigma, "held") / np.maximum(dense, 0.25)[:, None]
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
    shortest = max(2, round(SHORTEST * fps))
    at = 0
    while at < len(own) - 1:
        a, b = own[at : at + 2]
        jump = _away(toe, b, weight)[0] - _away(toe, a, weight)[-1]
        way = _STEEPEST * jump + shift[b.start] - shift[a.stop - 1]
        if np.linalg.norm(way) * fps / (b.start - a.stop + 1) <= FASTEST:
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
    out[: own[0].start] = (1 - eased(before / fade))[:, None] * out[own[0].start]
    out[own[-1].stop :] = (1 - eased(after / fade))[:, None] * out[own[-1].stop - 1]
    return out


def _passed(s: Array) -> Array:
    """How far along a passage is, 0 to 1, at the share `s` of its time: as slow as can be with a soft start and end."""
    edge = np.minimum(s, 1 - s)
    way = np.where(edge < _RAMP, edge**2 / (2 * _RAMP), edge - _RAMP / 2) * _STEEPEST
    return np.asarray(np.where(s < 0.5, way, 1 - way))
