"""Forward and inverse kinematics of a skeleton whose every bone turns on its own; batched torch.

Bone j runs from the parent of joint j to joint j. Its rotation is relative to the bone of the parent joint, and
rotation 0 is the body's orientation, so with G_0 = R_0:

    G_j = G_parent(j) R_j        x_j = x_parent(j) + G_j offset_j

This is the convention behind the 6D rotations of HumanML3D. Siblings (hips and spine, collars and neck) need not be
rigid with one another, so any joint positions are reached exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

if TYPE_CHECKING:
    from torch import Tensor


_TINY = 1e-8


def bone_vectors(joints: Tensor, skeleton: Skeleton = HUMANML3D) -> Tensor:
    """Joint minus parent: (..., J, 3) -> (..., J, 3); zero for the root."""
    parents = torch.tensor([max(parent, 0) for parent in skeleton.parents], device=joints.device)
    return joints - joints.index_select(-2, parents)


def forward(rotations: Tensor, offsets: Tensor, root: Tensor, parents: Sequence[int] = HUMANML3D.parents) -> Tensor:
    """Joint positions from bone rotations.

    Args:
        rotations: (..., J, 3, 3) rotation of each bone relative to its parent bone.
        offsets: (J, 3) or (..., J, 3) rest offset of each joint from its parent; the unit decides the result's.
        root: (..., 3) position of the root.
        parents: the tree: index of each joint's parent, which comes before it; -1 for the root.

    Returns:
        (..., J, 3) positions.
    """
    turned: list[Tensor] = []
    positions: list[Tensor] = []
    for joint, parent in enumerate(parents):
        local = rotations[..., joint, :, :]
        if parent < 0:
            turned.append(local)
            positions.append(root)
            continue
        turned.append(turned[parent] @ local)
        step = turned[joint] @ offsets[..., joint, :, None]
        positions.append(positions[parent] + step[..., 0])
    return torch.stack(positions, dim=-2)


def pose_joints(rotations: Tensor, offsets: Tensor, parents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Forward kinematics as files have it: the rotation of a joint turns all that hangs from it.

    G_j = G_parent(j) R_j        x_j = x_parent(j) + G_parent(j) offset_j

    Args:
        rotations: (..., J, 3, 3) of each joint relative to its parent; they may also scale.
        offsets: (J, 3) or (..., J, 3) of each joint from its parent; that of the root is its position.
        parents: index of each joint's parent, which comes before it; -1 for the root.

    Returns:
        (..., J, 3, 3) rotations G and (..., J, 3) positions x in the world.
    """
    offsets = offsets.expand(*rotations.shape[:-2], 3)
    turned: list[Tensor] = []
    positions: list[Tensor] = []
    for joint, parent in enumerate(parents):
        own, position = rotations[..., joint, :, :], offsets[..., joint, :]
        if parent >= 0:
            position = positions[parent] + (turned[parent] @ position[..., None])[..., 0]
            own = turned[parent] @ own
        turned.append(own)
        positions.append(position)
    return torch.stack(turned, dim=-3), torch.stack(positions, dim=-2)


def inverse(joints: Tensor, skeleton: Skeleton = HUMANML3D, rest: Tensor | None = None) -> Tensor:
    """Bone rotations that take the rest pose to the given joints.

    The root's orientation comes from the hips and the joints above them. Every other bone swings by the shortest
    arc from where its parent carries it, so it has no twist of its own; only the spine shares out the twist between
    hips and shoulders evenly over its bones. `forward` with the lengths of `joints` gives `joints` back.

    Args:
        joints: (..., J, 3) positions.
        skeleton: the tree.
        rest: (J, 3) offsets of the rest pose; only their directions matter. The skeleton's own unless given.

    Returns:
        (..., J, 3, 3) rotations, orthonormal with determinant 1.
    """
    own = torch.from_numpy(skeleton.rest_offsets) if rest is None else rest
    offsets = own.to(joints.device, joints.dtype)
    rest_joints = forward(_identities(joints.new_empty(len(skeleton))), offsets, joints.new_zeros(3), skeleton.parents)
    vectors, resting = bone_vectors(joints, skeleton), unit(offsets)
    spine = _spine(skeleton)

    turned: list[Tensor] = [_body_frame(joints, skeleton) @ _body_frame(rest_joints, skeleton).transpose(-1, -2)]
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        turned.append(_swing(turned[parent], resting[joint], vectors[..., joint, :]))
        if spine and joint == spine[-1]:
            _share_twist(turned, spine, joints, rest_joints, vectors, skeleton)

    local = [turned[0]]
    local += [turned[p].transpose(-1, -2) @ turned[j] for j, p in enumerate(skeleton.parents) if p >= 0]
    return torch.stack(local, dim=-3)


def set_bone_lengths(
    joints: Tensor, lengths: Tensor | None = None, skeleton: Skeleton = HUMANML3D, follow: bool = False
) -> Tensor:
    """The same pose with other bone lengths; the root stays.

    Args:
        joints: (..., J, 3) positions.
        lengths: (J,) or (..., J) bone lengths; the skeleton's own unless given.
        skeleton: the tree.
        follow: False keeps the direction of every bone. True aims every bone from where its parent came to lie at
            where the joint was, so that differences of length add up along a limb only where it is straight.

    Returns:
        (..., J, 3) positions. A bone without length keeps its rest direction.
    """
    wanted = torch.from_numpy(skeleton.bone_lengths) if lengths is None else lengths
    wanted = wanted.to(joints.device, joints.dtype)
    rest = unit(torch.from_numpy(skeleton.rest_offsets).to(joints.device, joints.dtype))
    placed: list[Tensor] = []
    for joint, parent in enumerate(skeleton.parents):
        if parent < 0:
            placed.append(joints[..., joint, :])
            continue
        start = placed[parent] if follow else joints[..., parent, :]
        direction = unit(joints[..., joint, :] - start, otherwise=rest[joint])
        placed.append(placed[parent] + direction * wanted[..., joint, None])
    return torch.stack(placed, dim=-2)


def shortest_arc(start: Tensor, end: Tensor) -> Tensor:
    """The rotation by the smallest angle that takes unit vectors `start` to `end`: (..., 3), (..., 3) -> (..., 3, 3).

    Opposite vectors turn by 180 degrees about an axis at right angles.
    """
    start, end = torch.broadcast_tensors(start, end)
    cosine = (start * end).sum(-1, keepdim=True)
    quaternion = torch.cat([torch.linalg.cross(start, end), 1 + cosine], dim=-1)
    smallest = start.abs().argmin(dim=-1)
    other = torch.linalg.cross(start, torch.nn.functional.one_hot(smallest, 3).to(start.dtype))
    half_turn = torch.cat([unit(other), torch.zeros_like(cosine)], dim=-1)
    opposite = quaternion.norm(dim=-1, keepdim=True) < 1e-6
    chosen: Tensor = roma.unitquat_to_rotmat(roma.quat_normalize(torch.where(opposite, half_turn, quaternion)))
    return chosen


def unit(vectors: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """Vectors scaled to length 1: (..., 3) -> (..., 3); those without length become `otherwise`, or stay zero."""
    length = vectors.norm(dim=-1, keepdim=True)
    scaled = vectors / length.clamp_min(_TINY)
    if otherwise is None:
        return scaled
    return torch.where(length < _TINY, otherwise.expand_as(scaled), scaled)


def _identities(like: Tensor) -> Tensor:
    return torch.eye(3, dtype=like.dtype, device=like.device).expand(*like.shape, 3, 3)


def _swing(parent: Tensor, rest: Tensor, bone: Tensor) -> Tensor:
    carried = (parent @ rest[..., None])[..., 0]
    return shortest_arc(carried, unit(bone, otherwise=carried)) @ parent


def _spine(skeleton: Skeleton) -> list[int]:
    """The joints above the root that both shoulders hang from, lowest first."""

    def ancestors(joint: int) -> list[int]:
        path = [joint]
        while skeleton.parents[path[-1]] >= 0:
            path.append(skeleton.parents[path[-1]])
        return path[::-1]

    left, right = (ancestors(joint) for joint in skeleton.shoulders)
    return [a for a, b in zip(left, right, strict=False) if a == b][1:]


def _body_frame(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """(..., 3, 3) with columns left, up, forward: left along the hips, up from the hips to the lowest spine joint."""
    left_hip, right_hip = (joints[..., hip, :] for hip in skeleton.hips)
    root = joints[..., 0, :]
    above = [j for j, parent in enumerate(skeleton.parents) if parent == 0 and j not in skeleton.hips]
    upper = joints[..., above, :].mean(-2) if above else root
    axes = torch.eye(3, dtype=joints.dtype, device=joints.device)
    up = unit(upper - (left_hip + right_hip) / 2, otherwise=axes[1])
    across = left_hip - right_hip
    across = across - (across * up).sum(-1, keepdim=True) * up
    spare = torch.where(up[..., :1].abs() < 0.9, axes[0], axes[2])
    spare = spare - (spare * up).sum(-1, keepdim=True) * up
    left = unit(across, otherwise=unit(spare))
    return torch.stack([left, up, torch.linalg.cross(left, up)], dim=-1)


def _share_twist(
    turned: list[Tensor], spine: list[int], joints: Tensor, rest: Tensor, vectors: Tensor, skeleton: Skeleton
) -> None:
    """Twist the spine's bones about themselves, each a little more, until the last one faces as the shoulders do."""
    left, right = skeleton.shoulders
    top = spine[-1]
    axis = unit(vectors[..., top, :])
    wanted = joints[..., left, :] - joints[..., right, :]
    carried = (turned[top] @ (rest[left] - rest[right])[..., None])[..., 0]
    sine = (torch.linalg.cross(carried, wanted) * axis).sum(-1)
    cosine = (carried * wanted).sum(-1) - (carried * axis).sum(-1) * (wanted * axis).sum(-1)
    known = torch.hypot(sine, cosine) > _TINY
    angle = torch.where(known, torch.atan2(sine, torch.where(known, cosine, torch.ones_like(cosine))), 0.0)
    for count, joint in enumerate(spine, start=1):
        about = unit(vectors[..., joint, :])
        twist = roma.rotvec_to_rotmat(about * (angle * count / len(spine))[..., None])
        turned[joint] = twist @ turned[joint]


# The T-pose and the rotations that take it to a motion: what files and rigs of other programs are made of.

_T_POSE = {
    "l_hip": (0.91, -0.41, 0.02), "r_hip": (-0.91, -0.41, 0.02), "l_knee": (0, -1, 0), "r_knee": (0, -1, 0),
    "l_ankle": (0, -1, 0), "r_ankle": (0, -1, 0),
    "spine3": (0, 1, 0.1), "neck": (0, 1, 0.1), "head": (0, 1, 0.2),
    "l_collar": (0.5, 0.86, 0.05), "r_collar": (-0.5, 0.86, 0.05),
    "l_shoulder": (0.97, 0.07, -0.22), "r_shoulder": (-0.97, 0.07, -0.22),
    "l_elbow": (1, 0, 0), "r_elbow": (-1, 0, 0), "l_wrist": (1, 0, 0), "r_wrist": (-1, 0, 0),
}  # fmt: skip
"""Directions of the bones in the rest pose; those not named point up. Limbs make a T; the trunk is as in people who
stand, so that a skin made for the T-pose fits these without bending."""
_LEGS = ((4, 7, 10), (5, 8, 11))
"""Joints at which thigh, shin and foot end."""
_PITCH = 0.5
"""How far a foot of length 1 goes down from ankle to toes where no frame tells."""


@dataclass(frozen=True)
class Fitted:
    """A motion as turns from the T-pose.

    Attributes:
        directions: (22, 3) unit vectors along the bones in the T-pose; that of the root is of no use.
        rest: (22, 3) offset of each joint from its parent in the T-pose in metres; zero for the root.
        root: (T, 3) position of the hips in metres.
        rotations: (T, 22, 3, 3) rotation of each bone relative to its parent bone; all are identities in the T-pose.
    """

    directions: NDArray[np.float64]
    rest: NDArray[np.float64]
    root: NDArray[np.float64]
    rotations: torch.Tensor


def fit(motion: Motion) -> Fitted:
    """Rest offsets and rotations for a motion of HumanML3D's skeleton.

    A bone has one length: the mean over the clip. Each joint is aimed at where it was, so what the lengths lose
    hardly adds up along a limb. Knees and ankles are hinges: see `_hinge_legs`.
    """
    joints = torch.from_numpy(motion.joints.astype(np.float64))
    lengths = torch.linalg.norm(bone_vectors(joints), dim=-1).mean(0)
    directions = t_pose(standing_pitch(motion))
    rest = torch.from_numpy(directions)
    fitted = set_bone_lengths(joints, lengths, follow=True)
    turned = _hinge_legs(inverse(fitted, rest=rest), rest)
    return Fitted(directions, (rest * lengths[:, None]).numpy(), fitted[:, 0].numpy(), turned)


def t_pose(pitch: float = _PITCH) -> NDArray[np.float64]:
    """(22, 3) unit vectors along the bones in the T-pose, whose feet go down by `pitch` per length; (0, 1, 0) for the
    root."""
    directions = np.array([_T_POSE.get(name, (0, 1, 0)) for name in HUMANML3D.names], dtype=np.float64)
    directions[[_LEGS[0][2], _LEGS[1][2]]] = (0, -pitch, np.sqrt(1 - pitch**2))
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def standing_pitch(motion: Motion) -> float:
    """How far down a foot of length 1 goes from ankle to toes while it stands: the median over both feet.

    Recordings put these joints at other places of the foot, from 0.2 to 0.65, and soles are to be flat in all.
    """
    downs = []
    for _, ankle, toes in _LEGS:
        ends = motion.joints[:, [ankle, toes]].astype(np.float64)
        step = np.diff(ends, axis=0, append=ends[-1:])
        slow = np.linalg.norm(step, axis=-1).max(-1) * motion.fps < 0.15
        low = ends[:, 1, 1] < motion.joints[..., 1].min() + 0.06
        bone = ends[:, 1] - ends[:, 0]
        down = -bone[:, 1] / np.maximum(np.linalg.norm(bone, axis=-1), 1e-8)
        downs.append(down[slow & low & (down > 0.1) & (down < 0.8)])
    standing = np.concatenate(downs)
    return float(np.median(standing)) if len(standing) else _PITCH


def _hinge_legs(local: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """Twist thighs, shins and feet about themselves until one axis across serves them all: (T, 22, 3, 3) -> the same.

    `inverse` gives bones no twist, so a foot that is turned outwards would roll onto its edge. The axis stands on
    shin and foot; as far as these are in line (a pointed foot), the bend of the knee and then the axis that the bones
    had without twist decide. No joint moves.
    """
    turned: list[torch.Tensor] = []
    for joint, parent in enumerate(HUMANML3D.parents):
        turned.append(local[:, joint] if parent < 0 else turned[parent] @ local[:, joint])
    across = torch.tensor([1.0, 0.0, 0.0], dtype=local.dtype)
    for bones in _LEGS:
        thigh, shin, foot = ((turned[bone] @ rest[bone][:, None])[..., 0] for bone in bones)
        by_foot = torch.linalg.cross(foot, shin)
        in_line = (1 - by_foot.norm(dim=-1, keepdim=True) / 0.5).clamp(min=0)
        by_knee = torch.linalg.cross(thigh, shin)
        axis = by_foot + in_line * (by_knee + 0.1 * turned[bones[1]][..., 0])
        for bone, along in zip(bones, (thigh, shin, foot), strict=True):
            flat = axis - (axis * along).sum(-1, keepdim=True) * along
            side = unit(flat, otherwise=turned[bone][..., 0])
            posed = torch.stack([side, along, torch.linalg.cross(side, along)], dim=-1)
            resting = torch.stack([across, rest[bone], torch.linalg.cross(across, rest[bone])], dim=-1)
            turned[bone] = posed @ resting.T
    changed = local.clone()
    for bones in _LEGS:
        for parent, bone in pairwise([HUMANML3D.parents[bones[0]], *bones]):
            changed[:, bone] = turned[parent].transpose(-1, -2) @ turned[bone]
    return changed
