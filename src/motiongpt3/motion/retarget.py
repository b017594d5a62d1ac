"""Onto another body: joints with other bone lengths, or a character's rig with a rest pose of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import roma
import torch
from numpy.typing import ArrayLike, NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.contacts import find_contacts
from motiongpt3.motion.kinematics import fit, set_bone_lengths, shortest_arc, t_pose
from motiongpt3.motion.leg_ik import place_ankles
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import heading, rotate
from motiongpt3.motion.signals import averaged, gaussian
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

_INDEX = {name: i for i, name in enumerate(HUMANML3D.names)}
REQUIRED = (
    "pelvis", "l_hip", "r_hip", "l_knee", "r_knee", "l_ankle", "r_ankle", "l_shoulder", "r_shoulder", "l_elbow",
    "r_elbow", "l_wrist", "r_wrist", "head",
)  # fmt: skip
"""The joints that every rig has to have; collars, neck, toes and joints of the spine may be missing."""
_SPINE = ("spine1", "spine2", "spine3")
_LIMBS = ("l_knee", "r_knee", "l_ankle", "r_ankle", "l_elbow", "r_elbow", "l_wrist", "r_wrist")
"""Joints at which the bones end whose direction in the rest pose depends on the pose: T, A or another."""
_STEADY = 1.0
"""Seconds over which the difference between where feet come to be and where they should be is averaged."""


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
    leg = leg_length(source, skeleton)
    if not np.isfinite(leg) or leg <= 0:
        raise MotionGPT3Error("cannot retarget: the legs have no length")
    scale = _skeleton_leg(skeleton) / leg
    rooted = source - source[:, :1] + source[:, :1] * scale
    placed: NDArray[np.float64] = set_bone_lengths(torch.from_numpy(rooted), skeleton=skeleton).numpy()
    feet = list(skeleton.contacts)
    placed[..., 1] += source[:, feet, 1].min() * scale - placed[:, feet, 1].min()
    return placed.astype(np.float32)


def leg_length(joints: ArrayLike, skeleton: Skeleton = HUMANML3D) -> float:
    """Length of thigh plus shin, the median over the frames of both sides' mean, in the joints' unit."""
    source = np.asarray(joints, dtype=np.float64)
    bones = [bone for hip in skeleton.hips for bone in _leg(skeleton, hip)]
    lengths = [np.linalg.norm(source[:, bone] - source[:, skeleton.parents[bone]], axis=-1) for bone in bones]
    return float(np.median(np.sum(lengths, axis=0))) / 2


def _skeleton_leg(skeleton: Skeleton) -> float:
    return sum(float(skeleton.bone_lengths[bone]) for hip in skeleton.hips for bone in _leg(skeleton, hip)) / 2


def _leg(skeleton: Skeleton, hip: int) -> tuple[int, int]:
    """Knee and ankle below a hip."""
    chain = next(chain for chain in skeleton.chains if hip in chain)
    knee = chain[chain.index(hip) + 1]
    ankle = chain[chain.index(hip) + 2]
    return knee, ankle


@dataclass(frozen=True)
class RestPose:
    """The rest pose of a character.

    Attributes:
        places: (22, 3) where its joints lie, y up, in its own unit; NaN for joints that it does not have.
        floor: height of the floor it stands on.
    """

    places: NDArray[np.float64]
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

    turns: torch.Tensor
    joints: NDArray[np.float64]
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
    fitted = fit(motion)
    bones = _world(fitted.rotations)
    joints = motion.joints.astype(np.float64)
    places = np.zeros((len(HUMANML3D), 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        offset = fitted.rest[joint]
        if parent in (0, _INDEX["spine3"]):
            turn = (bones[0] if parent == 0 else _chest(bones)).numpy()
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
        same_body: the character has the motion's own bone lengths (`own_rest`): its ankles go exactly where the
            source's are.

    The motion's bones turn from a T-pose (`motion.kinematics`). The character's arms and legs are first brought from
    its own rest pose into that T-pose, so T- and A-poses give the same; its trunk keeps the carriage that it has at
    rest. Way and heights are scaled by the legs. Then the legs are bent so that the ankles go where the source's do: a
    foot that stands there stands here, at the height at which it does at rest.

    Raises:
        MotionGPT3Error: a required joint is missing, or the rest pose is not upright or has no legs.
    """
    has = [name for name in HUMANML3D.names if np.isfinite(rest.places[_INDEX[name]]).all()]
    places, yaw = _facing_forward(rest, has)
    source = motion.joints.astype(np.float64)
    fitted = fit(motion)
    scale = leg_length(places[None]) / leg_length(source)
    toward = _into_t_pose(places, has, fitted.directions)
    turns = _turns(fitted.rotations, toward, has)
    joints = _placed(source[:, 0] * scale, turns, places, has)
    if same_body:
        ankles = [source[:, 7] * scale, source[:, 8] * scale]
    else:
        ankles = _ankles(motion, joints, places, scale, turns)
        joints += np.mean([a - joints[:, i] for a, i in zip(ankles, (7, 8), strict=True)], axis=(0, 1)) * [0, 1, 0]
    stood = np.asarray(place_ankles(_filled(joints, places), ankles, motion.fps), dtype=np.float64)
    for bones in (("l_hip", "l_knee", "l_ankle"), ("r_hip", "r_knee", "r_ankle")):
        for start, end in pairwise(bones):
            a, b = _INDEX[start], _INDEX[end]
            turns[:, a] = _swung(turns[:, a], places[b] - places[a], stood[:, b] - stood[:, a])
    joints = _placed(stood[:, 0], turns, places, has)
    errors = _errors(source, joints, has)
    back = torch.from_numpy(rotate(np.eye(3), -yaw).T.copy())
    return RiggedMotion(turns @ back, joints, scale, errors)


def _facing_forward(rest: RestPose, has: list[str]) -> tuple[NDArray[np.float64], float]:
    """(22, 3) the rest pose above the origin, on the floor and facing +z, and the yaw that it faced."""
    missing = [name for name in REQUIRED if name not in has]
    if missing:
        raise MotionGPT3Error(f"the rig has no {', '.join(missing)}: name the bones in a YAML file (--bones)")
    places = rest.places - [0, rest.floor, 0]
    hips, shoulders = places[[1, 2]].mean(0), places[[16, 17]].mean(0)
    up, across = shoulders - hips, places[1] - places[2] + places[16] - places[17]
    if up[1] < 0.8 * np.linalg.norm(up) or np.linalg.norm(across) < 1e-6 or not leg_length(places[None]) > 0:
        raise MotionGPT3Error(
            "the rig's rest pose does not stand upright with y up: apply its rotation before exporting"
        )
    yaw = float(heading(np.nan_to_num(places)[None])[0])
    return np.asarray(rotate(places - places[0] * [1, 0, 1], -yaw), dtype=np.float64), yaw


def _into_t_pose(
    places: NDArray[np.float64], has: list[str], directions: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """{joint at a bone's end: (3, 3) rotation that brings the bone from the rest pose into the T-pose}."""
    found = {}
    for end in _LIMBS:
        bone = places[_INDEX[end]] - places[HUMANML3D.parents[_INDEX[end]]]
        found[end] = _arc(bone, directions[_INDEX[end]])
    for side in ("l_", "r_"):
        if side + "foot" in has:  # feet turn about the vertical only: their slope is that of the sole's
            foot = (places[_INDEX[side + "foot"]] - places[_INDEX[side + "ankle"]]) * [1, 0, 1]
            found[side + "foot"] = _arc(foot, np.array([0.0, 0, 1])) if np.linalg.norm(foot) > 1e-9 else np.eye(3)
    return found


def _turns(local: torch.Tensor, toward: dict[str, NDArray[np.float64]], has: list[str]) -> torch.Tensor:
    """(T, 22, 3, 3) by which the joints that a rig has turn in the world from its rest pose facing +z."""
    bones = _world(local)
    turns = torch.eye(3, dtype=local.dtype).expand(len(local), len(HUMANML3D), 3, 3).clone()

    def turn(joint: str, bone: str) -> None:
        fixed = toward.get(bone)
        whole = bones[_INDEX[bone]]
        turns[:, _INDEX[joint]] = whole if fixed is None else whole @ torch.from_numpy(fixed)

    turn("pelvis", "pelvis")
    spine = [name for name in _SPINE if name in has]
    for part, bone in zip(_SPINE, ("spine2", "spine3", "spine3"), strict=True):
        turn(part, bone)
    if spine:
        turns[:, _INDEX[spine[-1]]] = _chest(bones)
    for part in ("neck", "head"):
        turn(part, "head")
    for side in ("l_", "r_"):
        for part, bone in (
            ("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("foot", "foot"),
            ("collar", "shoulder"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "wrist"),
        ):  # fmt: skip
            turn(side + part, side + bone)
    return turns


def _world(local: torch.Tensor) -> list[torch.Tensor]:
    """22 turns (T, 3, 3) of the bones from the T-pose in the world, of (T, 22, 3, 3) relative to the bone above."""
    bones: list[torch.Tensor] = []
    for joint, parent in enumerate(HUMANML3D.parents):
        bones.append(local[:, joint] if parent < 0 else bones[parent] @ local[:, joint])
    return bones


def _chest(bones: list[torch.Tensor]) -> torch.Tensor:
    """(T, 3, 3) the turn of the chest: the one that serves the neck and both shoulders best."""
    directions = torch.from_numpy(t_pose())
    wanted = torch.zeros_like(bones[0])
    for bone, weight in (("neck", 0.8), ("l_collar", 0.2), ("r_collar", 0.2), ("l_shoulder", 0.4), ("r_shoulder", 0.4)):
        resting = directions[_INDEX[bone]]
        wanted = wanted + weight * (bones[_INDEX[bone]] @ resting)[..., :, None] * resting
    chosen: torch.Tensor = roma.special_procrustes(wanted)
    return chosen


def _placed(
    root: NDArray[np.float64], turns: torch.Tensor, places: NDArray[np.float64], has: list[str]
) -> NDArray[np.float64]:
    """(T, 22, 3) where the joints of a rig come to be; NaN for those that it does not have."""
    joints = np.full((len(root), len(places), 3), np.nan)
    joints[:, 0] = root
    for name in has[1:]:
        joint = _INDEX[name]
        above = _above(joint, has)
        joints[:, joint] = joints[:, above] + (turns[:, above].numpy() @ (places[joint] - places[above]))
    return joints


def _above(joint: int, has: list[str]) -> int:
    """The nearest joint above one that the rig has."""
    above = HUMANML3D.parents[joint]
    while HUMANML3D.names[above] not in has:
        above = HUMANML3D.parents[above]
    return above


def _ankles(
    motion: Motion, joints: NDArray[np.float64], places: NDArray[np.float64], scale: float, turns: torch.Tensor
) -> list[NDArray[np.float64]]:
    """Where the ankles go, (T, 3) left and right: on the source's scaled ways, beside them by what differs for long.

    Heights are those of the source's toes above where they stand before and after, added to their height at rest.
    """
    found = []
    stands = find_contacts(motion)
    for side, (ankle, toe) in enumerate(((7, 10), (8, 11))):
        own = motion.joints[:, toe].astype(np.float64)
        own_stands = [c for c in stands if c.side == side]
        middles = [(c.start + c.stop) / 2 for c in own_stands]
        levels = [float(np.median(own[c.start : c.stop, 1])) for c in own_stands]
        ground = np.interp(np.arange(len(own)), middles, levels) if levels else own[:, 1].min()
        tip = places[toe] if np.isfinite(places[toe]).all() else places[ankle] + [0, -places[ankle, 1], 0.15 * scale]
        foot = turns[:, ankle].numpy() @ (tip - places[ankle])
        wanted = own * scale - foot
        wanted[:, 1] = np.maximum(own[:, 1] - ground, 0) * scale + tip[1] - foot[:, 1]
        aside = averaged(joints[:, ankle] - wanted, gaussian(_STEADY * motion.fps)) * [1, 0, 1]
        found.append(wanted + aside)
    return found


def _filled(joints: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The joints with a foot where a rig has no toes, so that the leg can be bent."""
    filled = joints.copy()
    for ankle, toe in ((7, 10), (8, 11)):
        if not np.isfinite(places[toe]).all():
            yaw = heading(np.nan_to_num(joints))
            filled[:, toe] = joints[:, ankle] + np.stack([np.sin(yaw), 0 * yaw, np.cos(yaw)], axis=-1)
    return filled


def _swung(turn: torch.Tensor, resting: NDArray[np.float64], wanted: NDArray[np.float64]) -> torch.Tensor:
    """(T, 3, 3) turns that take a bone (3,) to directions (T, 3), by the shortest way from what they were."""
    now = turn @ torch.from_numpy(resting / np.linalg.norm(resting))
    goal = torch.from_numpy(wanted / np.linalg.norm(wanted, axis=-1, keepdims=True))
    return shortest_arc(now, goal) @ turn


def _arc(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) the rotation by the smallest angle between two directions of any length."""
    one, other = (torch.from_numpy(vector / np.linalg.norm(vector)) for vector in (start, end))
    found: NDArray[np.float64] = shortest_arc(one, other).numpy()
    return found


def _errors(source: NDArray[np.float64], joints: NDArray[np.float64], has: list[str]) -> dict[str, float]:
    """Degrees between bones of the rig and of the source, between the same joints, by the joint at the end."""
    ends = {name: (_above(_INDEX[name], has), _INDEX[name]) for name in has[1:] if name not in ("l_hip", "r_hip")}
    found = {}
    for name, (start, end) in {"hips": HUMANML3D.hips, **ends}.items():
        one, other = joints[:, end] - joints[:, start], source[:, end] - source[:, start]
        size = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        cosine = (one * other).sum(-1) / np.maximum(size, 1e-12)
        found[name] = float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())
    return found
