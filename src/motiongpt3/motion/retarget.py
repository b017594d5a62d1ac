"""Onto another body: joints with other bone lengths, or a character's rig with a rest pose of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import roma
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.contacts import find_contacts
from motiongpt3.motion.kinematics import fit_t_pose, set_bone_lengths, shortest_arc, t_pose, world_rotations
from motiongpt3.motion.leg_ik import length, place_ankles
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import forward, heading, rotate, unit, yaw_of
from motiongpt3.motion.signals import averaged, gaussian
from motiongpt3.motion.skeleton import HUMANML3D, LEGS, Array, Float64, Skeleton, nearest_above

_INDEX = {name: i for i, name in enumerate(HUMANML3D.names)}
REQUIRED = (
    "pelvis", "l_hip", "r_hip", "l_knee", "r_knee", "l_ankle", "r_ankle", "l_shoulder", "r_shoulder", "l_elbow",
    "r_elbow", "l_wrist", "r_wrist", "head",
)  # fmt: skip
"""The joints that every rig has to have; collars, neck, toes and joints of the spine may be missing."""
_SPINE = ("spine1", "spine2", "spine3")
_TURNED_BY = {
    "pelvis": "pelvis", "spine1": "spine2", "spine2": "spine3", "spine3": "spine3", "neck": "head", "head": "head",
    "l_hip": "l_knee", "l_knee": "l_ankle", "l_ankle": "l_foot", "l_foot": "l_foot",
    "r_hip": "r_knee", "r_knee": "r_ankle", "r_ankle": "r_foot", "r_foot": "r_foot",
    "l_collar": "l_shoulder", "l_shoulder": "l_elbow", "l_elbow": "l_wrist", "l_wrist": "l_wrist",
    "r_collar": "r_shoulder", "r_shoulder": "r_elbow", "r_elbow": "r_wrist", "r_wrist": "r_wrist",
}  # fmt: skip
"""The bone, by the joint at its end, that turns with each joint."""
_LIMBS = ("l_knee", "r_knee", "l_ankle", "r_ankle", "l_elbow", "r_elbow", "l_wrist", "r_wrist")
"""Joints at which the bones end whose direction in the rest pose depends on the pose: T, A or another."""
_CHEST_WEIGHTS = {"neck": 0.8, "l_collar": 0.2, "r_collar": 0.2, "l_shoulder": 0.4, "r_shoulder": 0.4}
"""How much each bone of the chest says about its turn: the spine most, collars, which shrug, least; by eye."""
_STEADY_SECONDS = 1.0  # deviation, over which feet's distance from where they should be is averaged: more than a step


def to_skeleton(joints: ArrayLike, skeleton: Skeleton = HUMANML3D) -> NDArray[np.float32]:
    """Give joints the bone lengths of a skeleton, keeping the direction of every bone.

    The root's path is scaled by the ratio of the leg lengths, so the stride fits the legs, as HumanML3D's
    preparation does. The floor stays the floor: the height of the lowest foot joint over the clip is scaled, too.

    Args:
        joints: (T, J, 3) positions, y up, in any unit.
        skeleton: whose bone lengths the result has.

    Returns:
        (T, J, 3) float32 positions in the skeleton's unit (metres).

    Raises:
        MotionGPT3Error: not (T, J, 3), or the legs have no length.
    """
    source = np.asarray(joints, dtype=np.float64)
    if source.ndim != 3 or source.shape[1:] != (len(skeleton), 3) or not len(source):
        raise MotionGPT3Error(f"joints to retarget must have shape (frames, {len(skeleton)}, 3), not {source.shape}")
    ours = sum(float(skeleton.bone_lengths[bone]) for _, *bones, _ in skeleton.legs for bone in bones) / 2
    scale = ours / leg_length(source, skeleton)
    rooted = source - source[:, :1] + source[:, :1] * scale
    placed: Float64 = set_bone_lengths(torch.from_numpy(rooted), skeleton=skeleton).numpy()
    feet = list(skeleton.contacts)
    placed[..., 1] += source[:, feet, 1].min() * scale - placed[:, feet, 1].min()
    return placed.astype(np.float32)


def leg_length(joints: Array, skeleton: Skeleton = HUMANML3D) -> float:
    """Length of thigh plus shin, the median over the frames of both sides' mean, in the joints' unit.

    Raises:
        MotionGPT3Error: it is not above 0.
    """
    joints = joints.astype(np.float64)
    legs = [length(joints, a, b) for leg in skeleton.legs for a, b in pairwise(leg[:3])]
    median = float(np.median(np.sum(legs, axis=0))) / 2
    if not 0 < median < np.inf:
        raise MotionGPT3Error("cannot retarget: the legs have no length")
    return median


@dataclass(frozen=True)
class RestPose:
    """The rest pose of a character.

    Attributes:
        places: (22, 3) where its joints lie, y up, in its own unit; NaN for joints that it does not have.
        floor: height of the floor it stands on.
    """

    places: Float64
    floor: float


@dataclass(frozen=True)
class RiggedMotion:
    """A motion as a character plays it.

    Attributes:
        turns: (T, 22, 3, 3) by which each joint's axes turn in the world from the rest pose, for the joints it has.
        joints: (T, 22, 3) where its joints come to be, in its own unit; NaN for those that it does not have.
        scale: its legs' length over that of the source's legs: the stride is scaled by it.
        errors: degrees between the directions of each bone and the source's, mean over the frames, by the joint at
            the bone's end. Where the pelvis lies between the hips is a matter of taste: the line across them is
            compared, as "hips".
    """

    turns: Tensor
    joints: Float64
    scale: float
    errors: dict[str, float]

    @property
    def error(self) -> float:
        """Mean of `errors` in degrees."""
        return float(np.mean(list(self.errors.values())))


def own_rest_pose(motion: Motion) -> RestPose:
    """The person of a motion as a rig of its own: a T-pose on the floor with the mean lengths of its bones.

    Where several bones start at one joint (pelvis, chest) their directions are the means over the clip, so that a rig
    in which they are rigid with one another misses least.
    """
    fitted = fit_t_pose(motion)
    turned = world_rotations(fitted.rotations)
    joints = motion.joints.astype(np.float64)
    places = np.zeros((len(HUMANML3D), 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        offset = fitted.rest[joint]
        if parent in (0, _INDEX["spine3"]):
            turn = (turned[:, 0] if parent == 0 else _chest(turned)).numpy()
            mean = (np.swapaxes(turn, -1, -2) @ (joints[:, joint] - joints[:, parent])[..., None])[..., 0].mean(0)
            offset = mean if np.linalg.norm(mean) > 0.5 * np.linalg.norm(offset) else offset
        places[joint] = places[parent] + offset
    places[:, 1] -= places[:, 1].min()
    return RestPose(places, 0.0)


def to_rig(motion: Motion, rest: RestPose, same_body: bool = False) -> RiggedMotion:
    """Put a motion onto a character.

    Args:
        motion: of HumanML3D's skeleton.
        rest: the character.
        same_body: the character has the motion's own bone lengths (`own_rest_pose`): its ankles go exactly where the
            source's are.

    The motion's bones turn from a T-pose (`motion.kinematics`). The character's arms and legs are first brought from
    its own rest pose into that T-pose, so T- and A-poses give the same; its trunk keeps the carriage that it has at
    rest. Way and heights are scaled by the legs. Then the legs are bent so that the ankles go where the source's do: a
    foot that stands there stands here, at the height at which it does at rest.

    Raises:
        MotionGPT3Error: a required joint is missing, or the rest pose is not upright or has no legs.
    """
    has = [joint for joint, place in enumerate(rest.places) if np.isfinite(place).all()]
    places, yaw = _facing_forward(rest, has)
    source = motion.joints.astype(np.float64)
    fitted = fit_t_pose(motion)
    scale = leg_length(places[None]) / leg_length(source)
    turns = _turns(fitted.rotations, _into_t_pose(places, has, fitted.directions), has)
    joints = _placed(source[:, 0] * scale, turns, places, has)
    if same_body:
        ankles = [source[:, ankle] * scale for _, _, ankle, _ in LEGS]
    else:
        ankles = _ankles(motion, joints, places, scale, turns)
        away = [wanted - joints[:, ankle] for wanted, (_, _, ankle, _) in zip(ankles, LEGS, strict=True)]
        joints += np.mean(away, axis=(0, 1)) * [0, 1, 0]
    stood = place_ankles(_with_toes(joints), ankles, motion.fps)
    for leg in LEGS:
        for a, b in pairwise(leg[:3]):
            now = turns[:, a] @ torch.from_numpy(unit(places[b] - places[a]))
            turns[:, a] = shortest_arc(now, torch.from_numpy(unit(stood[:, b] - stood[:, a]))) @ turns[:, a]
    joints = _placed(stood[:, 0], turns, places, has)
    back = torch.from_numpy(rotate(np.eye(3), -yaw).T.copy())
    return RiggedMotion(turns @ back, joints, scale, _errors(source, joints, has))


def _facing_forward(rest: RestPose, has: list[int]) -> tuple[Float64, float]:
    """(22, 3) the rest pose above the origin, on the floor and facing +z, and the yaw that it faced."""
    missing = [name for name in REQUIRED if _INDEX[name] not in has]
    if missing:
        raise MotionGPT3Error(f"the rig has no {', '.join(missing)}: name the bones in a YAML file (--bones)")
    places = rest.places - [0, rest.floor, 0]
    (left_hip, right_hip), (left, right) = places[list(HUMANML3D.hips)], places[list(HUMANML3D.shoulders)]
    up, across = (left + right) / 2 - (left_hip + right_hip) / 2, left_hip - right_hip + left - right
    if up[1] < 0.8 * np.linalg.norm(up) or np.linalg.norm(across) < 1e-6:
        raise MotionGPT3Error(
            "the rig's rest pose does not stand upright with y up: apply its rotation before exporting"
        )
    yaw = yaw_of(places)
    return np.asarray(rotate(places - places[0] * [1, 0, 1], -yaw)), yaw


def _into_t_pose(places: Float64, has: list[int], directions: Float64) -> dict[int, Tensor]:
    """{joint at a bone's end: (3, 3) rotation that brings the bone from the rest pose into the T-pose}.

    Feet turn about the vertical only: their slope is that of the sole's.
    """

    def arc(start: Float64, end: Float64) -> Tensor:
        return shortest_arc(*(torch.from_numpy(vector / np.linalg.norm(vector)) for vector in (start, end)))

    found = {}
    for end in map(_INDEX.__getitem__, _LIMBS):
        found[end] = arc(places[end] - places[HUMANML3D.parents[end]], directions[end])
    for _, _, ankle, toe in LEGS:
        foot = (places[toe] - places[ankle]) * [1, 0, 1]
        if toe in has:
            flat = np.linalg.norm(foot) > 1e-9
            found[toe] = arc(foot, np.array([0.0, 0, 1])) if flat else torch.eye(3, dtype=torch.float64)
    return found


def _turns(local: Tensor, toward: dict[int, Tensor], has: list[int]) -> Tensor:
    """(T, 22, 3, 3) by which the joints of a rig turn in the world from its rest pose facing +z."""
    turned = world_rotations(local)
    turns = turned.clone()
    for joint, bone in ((_INDEX[joint], _INDEX[bone]) for joint, bone in _TURNED_BY.items()):
        turns[:, joint] = turned[:, bone] @ toward[bone] if bone in toward else turned[:, bone]
    spine = [joint for joint in map(_INDEX.__getitem__, _SPINE) if joint in has]
    if spine:
        turns[:, spine[-1]] = _chest(turned)
    return turns


def _chest(turned: Tensor) -> Tensor:
    """(T, 3, 3) the turn of the chest: the one that serves the neck and both shoulders best, of (T, 22, 3, 3)."""
    directions = torch.from_numpy(t_pose())
    wanted = torch.zeros_like(turned[:, 0])
    for name, weight in _CHEST_WEIGHTS.items():
        bone, resting = _INDEX[name], directions[_INDEX[name]]
        wanted = wanted + weight * (turned[:, bone] @ resting)[..., :, None] * resting
    chosen: Tensor = roma.special_procrustes(wanted)
    return chosen


def _placed(root: Float64, turns: Tensor, places: Float64, has: list[int]) -> Float64:
    """(T, 22, 3) where the joints of a rig come to be; NaN for those that it does not have."""
    joints = np.full((len(root), len(places), 3), np.nan)
    joints[:, 0] = root
    for joint in has[1:]:
        above = nearest_above(joint, HUMANML3D.parents, has)
        joints[:, joint] = joints[:, above] + (turns[:, above].numpy() @ (places[joint] - places[above]))
    return joints


def _ankles(motion: Motion, joints: Float64, places: Float64, scale: float, turns: Tensor) -> list[Float64]:
    """Where the ankles go, (T, 3) left and right: on the source's scaled ways, beside them by what differs for long.

    Heights are those of the source's toes above where they stand before and after, added to their height at rest.
    """
    found = []
    contacts = find_contacts(motion)
    for side, (_, _, ankle, toe) in enumerate(LEGS):
        own = motion.joints[:, toe].astype(np.float64)
        middles = [(c.start + c.stop) / 2 for c in contacts if c.side == side]
        levels = [float(np.median(own[c.start : c.stop, 1])) for c in contacts if c.side == side]
        ground = np.interp(np.arange(len(own)), middles, levels) if levels else own[:, 1].min()
        tip = places[toe] if np.isfinite(places[toe]).all() else places[ankle] + [0, -places[ankle, 1], 0.15 * scale]
        foot = turns[:, ankle].numpy() @ (tip - places[ankle])
        wanted = own * scale - foot
        wanted[:, 1] = np.maximum(own[:, 1] - ground, 0) * scale + tip[1] - foot[:, 1]
        aside = averaged(joints[:, ankle] - wanted, gaussian(_STEADY_SECONDS * motion.fps)) * [1, 0, 1]
        found.append(wanted + aside)
    return found


def _with_toes(joints: Float64) -> Float64:
    """The joints with a foot, a unit long, where a rig has no toes, so that the leg can be bent."""
    filled = joints.copy()
    ahead = forward(heading(np.nan_to_num(joints)))
    for _, _, ankle, toe in LEGS:
        filled[:, toe] = np.where(np.isfinite(joints[:, toe]), joints[:, toe], joints[:, ankle] + ahead)
    return filled


def _errors(source: Float64, joints: Float64, has: list[int]) -> dict[str, float]:
    """Degrees between bones of the rig and of the source, between the same joints, by the joint at the end."""
    ends = {"hips": HUMANML3D.hips}
    for joint in has[1:]:
        if joint not in HUMANML3D.hips:
            ends[HUMANML3D.names[joint]] = (nearest_above(joint, HUMANML3D.parents, has), joint)
    found = {}
    for name, (start, end) in ends.items():
        one, other = joints[:, end] - joints[:, start], source[:, end] - source[:, start]
        size = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        cosine = (one * other).sum(-1) / np.maximum(size, 1e-12)
        found[name] = float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())
    return found
