"""Motions as bare arrays, as research code writes them: which layout and skeleton it is, and the 22 joints in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import NPY_FPS, Reading, ReadOptions
from motiongpt3.motion.motion import MAX_FRAMES, Motion
from motiongpt3.motion.retarget import to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D, Float64, Skeleton
from motiongpt3.motion.upright import find_upright, is_person, on_floor

KIT_FPS = 12.5
"""That of KIT-ML as text-to-motion papers use it."""
FEATURES, KIT_FEATURES = 263, 251
Place = int | dict[int, float]
"""A joint of an array, or joints with weights that add up to 1."""


@dataclass(frozen=True)
class Order:
    """Which joint of an array is which of ours.

    Attributes:
        name: of the skeleton, for people.
        trunk: pelvis, spine1, spine2, spine3, neck, head.
        arms: left and right: collar, shoulder, elbow, wrist.
        legs: left and right: hip, knee, ankle, foot.
    """

    name: str
    trunk: tuple[Place, ...]
    arms: tuple[tuple[Place, ...], tuple[Place, ...]]
    legs: tuple[tuple[Place, ...], tuple[Place, ...]]

    @cached_property
    def places(self) -> dict[str, Place]:
        """{our joint: its place}."""
        found = dict(zip(("pelvis", "spine1", "spine2", "spine3", "neck", "head"), self.trunk, strict=True))
        for side, arm, leg in zip("lr", self.arms, self.legs, strict=True):
            found |= zip((f"{side}_collar", f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"), arm, strict=True)
            found |= zip((f"{side}_hip", f"{side}_knee", f"{side}_ankle", f"{side}_foot"), leg, strict=True)
        return found

    def joints(self, array: Float64) -> Float64:
        """(T, 22, 3) our joints out of (T, J, 3)."""
        weights = np.zeros((len(HUMANML3D), array.shape[1]))
        for row, joint in enumerate(HUMANML3D.names):
            place = self.places[joint]
            for index, weight in (place if isinstance(place, dict) else {place: 1.0}).items():
                weights[row, index] = weight
        return np.asarray(np.einsum("ij,tjk->tik", weights, array))


def _four(first: int) -> tuple[int, ...]:
    return tuple(range(first, first + 4))


_SMPL = {24: "SMPL", 45: "SMPL", 52: "SMPL-H", 55: "SMPL-X", 127: "SMPL-X", 144: "SMPL-X"}
"""Joints of body models whose first 22 are ours."""
_ORDERS = {
    21: Order(
        "KIT-ML",
        (0, 1, {1: 0.5, 2: 0.5}, 2, 3, 4),
        (({3: 0.6, 5: 0.4}, 5, 6, 7), ({3: 0.6, 8: 0.4}, 8, 9, 10)),
        (_four(11), _four(16)),
    ),
    27: Order("ARDY core", (0, 1, {2: 0.5, 3: 0.5}, 4, 5, 6), (_four(13), _four(7)), (_four(23), _four(19))),
    30: Order("SOMA", (0, 1, 2, 3, 4, 6), (_four(10), _four(16)), (_four(22), _four(26))),
    77: Order("SOMA", (0, 1, 2, 3, 4, 6), (_four(11), _four(39)), (_four(67), _four(72))),
    # A robot has no head, and its waist (17) is one point at the pelvis: the trunk goes on over the shoulders (18, 26).
    34: Order(
        "Unitree G1",
        (
            0,
            {17: 0.9, 18: 0.05, 26: 0.05},
            {17: 0.65, 18: 0.175, 26: 0.175},
            {17: 0.4, 18: 0.3, 26: 0.3},
            {17: -0.1, 18: 0.55, 26: 0.55},
            {17: -0.4, 18: 0.7, 26: 0.7},
        ),
        (({17: 0.2, 18: 0.6, 26: 0.2}, 18, 21, 24), ({17: 0.2, 18: 0.2, 26: 0.6}, 26, 29, 32)),
        ((1, 4, 6, 7), (8, 11, 13, 14)),
    ),
}
"""Other skeletons, by their number of joints; weights by eye where a joint of ours lies between theirs."""
_KNOWN = (len(HUMANML3D), *_SMPL, *_ORDERS)
_EXPECTED = (
    f"joints (frames, 22, 3) or of another known skeleton ({', '.join(map(str, sorted(_KNOWN)))} joints), or features "
    f"(frames, {FEATURES}) are expected"
)


def read_array(
    array: NDArray[np.float64], where: str, options: ReadOptions, fps: float | None = None, **texts: Any
) -> Reading:
    """A motion out of an array of finite numbers.

    Layouts: (T, J, 3), (J, 3, T), (T, 3 J) for 22 joints, features (T, 263) or (T, 251) that are not normalised; each
    also in a batch, of which `options.animation` chooses. J is ours (22), one of a body model whose first 22 joints
    are ours, or one of `_ORDERS`.

    Args:
        array: the numbers.
        where: how errors call it.
        options: axes, unit, rate and number in the batch, where told.
        fps: what the file says.
        texts: caption and name of the motion.

    Raises:
        MotionGPT3Error: another layout, a batch of which none is chosen, or normalised features.
    """
    motion, chosen = _one(array, where, options.animation)
    notes = list(chosen)
    if motion.ndim == 2:
        motion = _from_features(motion, where)
    frames, count = motion.shape[:2]
    if not 1 <= frames <= MAX_FRAMES:
        raise MotionGPT3Error(f"{where} has {frames} frames; a motion has 1 to {MAX_FRAMES}")
    order = _ORDERS.get(count)
    if order:
        notes.append(f"{count} joints are those of {order.name}: ours are taken or put between them")
        motion = order.joints(motion)
    elif count != len(HUMANML3D):
        notes.append(f"{count} joints are those of {_SMPL[count]}: the first 22 are ours")
        motion = motion[:, : len(HUMANML3D)]
    stands = find_upright(motion, None, options.up, options.unit, None if order else "m")
    placed = to_skeleton(stands.turned(motion)) if order else stands.placed(motion)
    # Where the file or the user says how it stands, it stands so.
    placed, raised = on_floor(placed) if stands.person and options.up == "auto" else (placed, ())
    rates = (options.fps, fps, KIT_FPS if count == len(_KIT) else NPY_FPS)
    found = Motion(placed, fps=next(rate for rate in rates if rate is not None), **texts)
    return Reading(found, (*notes, *stands.notes, *raised), stands.doubts, facts=stands.facts)


def _one(array: Float64, name: str, wanted: str | None) -> tuple[Float64, list[str]]:
    """One motion, (T, J, 3) or features (T, F), out of an array of any layout; with notes."""
    layouts = ((depth, layout) for depth in (0, 1, 2) if (layout := _layout(array, depth)))
    depth, found = next(layouts, (0, None))
    if not found:
        raise MotionGPT3Error(_refusal(array.shape, name))
    batch, told = found
    batch = batch.reshape(int(np.prod(batch.shape[:depth])), *batch.shape[depth:])
    count, frames = batch.shape[:2]
    if wanted is None and count != 1:
        raise MotionGPT3Error(
            f"{name} holds {count} motions of {frames} frames: choose one with --animation 1 to {count}"
        )
    number = int(wanted) if wanted is not None and wanted.isdecimal() and len(wanted) < 7 else 0 if wanted else 1
    if not 1 <= number <= count:
        raise MotionGPT3Error(
            f"{name} holds {count} motions, without names; --animation is 1 to {count}, not {wanted!r}"
        )
    notes = [f"its layout is {told}"] if told else []
    notes += [f"motion {number} of {count} is read"] if count > 1 else []
    return batch[number - 1], notes


def _layout(array: Float64, depth: int) -> tuple[Float64, str] | None:
    """The array as (…, T, J, 3) or (…, T, F), `depth` axes of a batch before, and what its layout is called."""
    shape, features = array.shape[depth:], (FEATURES, KIT_FEATURES)
    if len(shape) == 3:
        if shape[2] == 3 and shape[1] in _KNOWN:
            return array, ""
        ours = len(HUMANML3D)
        if shape[1] == 3 and (shape[0] == ours or (shape[0] in _KNOWN and shape[2] != ours)):
            return np.moveaxis(array, -1, depth), "(joints, 3, frames)"
        if shape[1] == 3 and shape[2] in _KNOWN:
            return np.swapaxes(array, -1, -2), "(frames, 3, joints)"
        if shape[1] == 1 and shape[0] in features:
            return np.swapaxes(array[..., 0, :], -1, -2), "(features, 1, frames)"
    if len(shape) == 2:
        if shape[1] in features:
            return array, ""
        if shape[1] == 3 * len(HUMANML3D):
            return array.reshape(*array.shape[:-1], len(HUMANML3D), 3), ""
        if shape[0] in features and not depth:
            return array.T, "(features, frames)"
    return None


def _refusal(shape: tuple[int, ...], name: str) -> str:
    """What is said of an array that is no motion, with a way on where it is known."""
    said = f"{name} has shape {shape}; {_EXPECTED}"
    if len(shape) > 1 and shape[-1] == 272:
        return f"{name} holds 272 features of rotations: save the joints that its own code recovers; {_EXPECTED}"
    if len(shape) > 1 and shape[-1] in (72, 75, 85, 156, 165, 168, 322):
        return f"{name} seems to hold body-model poses of shape {shape}, not positions; save its joints; {_EXPECTED}"
    if len(shape) > 2 and shape[-1] == 2:
        return f"{name} holds positions in a picture, shape {shape}: lift them to three dimensions first"
    return said


def _from_features(features: Float64, name: str) -> Float64:
    """(T, J, 3) joints of HumanML3D's or KIT-ML's features; refuses normalised ones."""
    import torch

    from motiongpt3.motion.features import features_to_joints

    skeleton = HUMANML3D if features.shape[1] == FEATURES else _KIT
    if not 1 <= len(features) <= MAX_FRAMES:
        raise MotionGPT3Error(f"{name} has {len(features)} frames; a motion has 1 to {MAX_FRAMES}")
    joints = np.asarray(features_to_joints(torch.from_numpy(features), skeleton).numpy(), dtype=np.float64)
    ours = joints if skeleton is HUMANML3D else _ORDERS[len(_KIT)].joints(joints)
    if not is_person(ours) and _is_normalised(features, len(skeleton)):
        raise MotionGPT3Error(
            f"{name} holds normalised features: undo it with the statistics of its data set, python -c "
            f"\"import numpy as np; x = np.load({name!r}); np.save('motion.npy', x * np.load('Std.npy') + "
            "np.load('Mean.npy'))\""
        )
    return joints


def _is_normalised(features: Float64, joints: int) -> bool:
    """Whether the pelvis is not over its toes: plain features have its height, normalised ones how unusual it is."""
    heights = features[:, 5 : 4 + 3 * (joints - 1) : 3]
    return bool(np.median(features[:, 3]) < 0.3 * np.ptp(heights) or np.median(heights) < 0)


_KIT = Skeleton(
    names=(
        "root", "BP", "BT", "BLN", "BUN", "LS", "LE", "LW", "RS", "RE", "RW", "LH", "LK", "LA", "LMrot", "LF", "RH",
        "RK", "RA", "RMrot", "RF",
    ),
    parents=(-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19),
    offsets=((0.0, 0.0, 0.0),) * 21,  # not needed: positions are read, no rotations
    chains=((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10)),
    pairs=((5, 8), (6, 9), (7, 10), (11, 16), (12, 17), (13, 18), (14, 19), (15, 20)),
    contacts=(14, 15, 19, 20),
    hips=(11, 16),
    shoulders=(5, 8),
)  # fmt: skip
"""The joints of KIT-ML."""
