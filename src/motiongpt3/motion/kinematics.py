"""Forward and inverse kinematics of a body whose every bone turns on its own; batched torch.

Bone j runs from the parent of joint j to joint j. Its rotation is relative to the bone of the parent joint, and
rotation 0 is the body's orientation, so with G_0 = R_0:

    G_j = G_parent(j) R_j        x_j = x_parent(j) + G_j offset_j

This is the convention behind the 6D rotations of HumanML3D. Siblings (hips and spine, collars and neck) need not be
rigid with one another, so any joint positions are reached exactly. `fit_t_pose` gives the rotations that take a T-pose
to a motion: what files and rigs of other programs are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import roma
import torch
import torch.nn.functional as F
from torch import Tensor

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import bone_vectors, unit
from motiongpt3.motion.skeleton import HUMANML3D, LEGS, Array, Float64, Skeleton

_TINY = 1e-8  # metres: a shorter vector has no direction in float32
_SPINE = (3, 6, 9)  # the joints above the root that both shoulders hang from


def world_rotations(rotations: Tensor, parents: Sequence[int] = HUMANML3D.parents) -> Tensor:
    """G of the formula above: (..., J, 3, 3) rotations relative to the parents -> the same in the world."""
    turned: list[Tensor] = []
    for joint, parent in enumerate(parents):
        own = rotations[..., joint, :, :]
        turned.append(own if parent < 0 else turned[parent] @ own)
    return torch.stack(turned, dim=-3)


def local_rotations(turned: Tensor, parents: Sequence[int] = HUMANML3D.parents) -> Tensor:
    """R of the formula above: what `world_rotations` takes, from what it gives."""
    above = turned[..., [max(parent, 0) for parent in parents], :, :].transpose(-1, -2) @ turned
    return torch.cat([turned[..., :1, :, :], above[..., 1:, :, :]], dim=-3)


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
    steps = (world_rotations(rotations, parents) @ offsets[..., None])[..., 0].unbind(-2)
    return _added_up([root, *steps[1:]], parents)


def pose_joints(rotations: Tensor, offsets: Tensor, parents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Forward kinematics as files have it: the rotation of a joint turns all that hangs from it.

    G_j = G_parent(j) R_j        x_j = x_parent(j) + G_parent(j) offset_j

    Args:
        rotations: (..., J, 3, 3) of each joint relative to its parent; they may also scale.
        offsets: (J, 3) or (..., J, 3) of each joint from its parent; that of a root is its position.
        parents: index of each joint's parent, which comes before it; -1 for a root.

    Returns:
        (..., J, 3, 3) rotations G and (..., J, 3) positions x in the world.
    """
    turned, offsets = world_rotations(rotations, parents), offsets.expand(*rotations.shape[:-2], 3)
    steps = (turned[..., [max(parent, 0) for parent in parents], :, :] @ offsets[..., None])[..., 0]
    roots = torch.tensor([parent < 0 for parent in parents], device=steps.device)
    return turned, _added_up(torch.where(roots[:, None], offsets, steps).unbind(-2), parents)


def inverse(joints: Tensor, rest: Tensor) -> Tensor:
    """Bone rotations that take the rest pose to the given joints.

    The root's orientation comes from the hips and the joints above them. Every other bone swings by the shortest
    arc from where its parent carries it, so it has no twist of its own; only the spine shares out the twist between
    hips and shoulders evenly over its bones. `forward` with the lengths of `joints` gives `joints` back.

    Args:
        joints: (..., 22, 3) positions.
        rest: (22, 3) offsets of the rest pose; only their directions matter.

    Returns:
        (..., 22, 3, 3) rotations, orthonormal with determinant 1.
    """
    rest = rest.to(joints)
    rest_joints = _added_up([torch.zeros_like(rest[0]), *rest[1:]], HUMANML3D.parents)
    vectors, resting = bone_vectors(joints), F.normalize(rest, dim=-1, eps=_TINY)
    turned: list[Tensor] = [_body_frame(joints) @ _body_frame(rest_joints).transpose(-1, -2)]
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        carried = (turned[parent] @ resting[joint][:, None])[..., 0]
        turned.append(shortest_arc(carried, _direction(vectors[..., joint, :], carried)) @ turned[parent])
        if joint == _SPINE[-1]:
            _share_twist(turned, joints, rest_joints, vectors)
    return local_rotations(torch.stack(turned, dim=-3))


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
    wanted = (torch.from_numpy(skeleton.bone_lengths) if lengths is None else lengths).to(joints)
    rest = F.normalize(torch.from_numpy(skeleton.rest_offsets).to(joints), dim=-1, eps=_TINY)
    placed = [joints[..., 0, :]]
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        start = placed[parent] if follow else joints[..., parent, :]
        direction = _direction(joints[..., joint, :] - start, rest[joint])
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
    other = torch.linalg.cross(start, F.one_hot(smallest, 3).to(start.dtype))
    half_turn = torch.cat([F.normalize(other, dim=-1, eps=_TINY), torch.zeros_like(cosine)], dim=-1)
    opposite = quaternion.norm(dim=-1, keepdim=True) < 1e-6
    chosen: Tensor = roma.unitquat_to_rotmat(roma.quat_normalize(torch.where(opposite, half_turn, quaternion)))
    return chosen


def arc_vectors(start: Array, end: Array) -> Float64:
    """(..., 3) rotation vectors in radians of the smallest turns from directions `start` to `end`, of any length."""
    one, other = (torch.from_numpy(unit(vectors.astype(np.float64))) for vectors in (start, end))
    found: Float64 = roma.rotmat_to_rotvec(shortest_arc(one, other)).numpy()
    return found


def turned_by(vectors: Array, turns: Array) -> Float64:
    """(..., 3) vectors turned by rotation vectors (..., 3) in radians."""
    quaternions = roma.rotvec_to_unitquat(torch.from_numpy(turns.astype(np.float64)))
    found: Float64 = roma.quat_action(quaternions, torch.from_numpy(vectors.astype(np.float64))).numpy()
    return found


def _direction(vectors: Tensor, otherwise: Tensor) -> Tensor:
    """Vectors scaled to length 1: (..., 3) -> (..., 3); those without length become `otherwise`."""
    length = vectors.norm(dim=-1, keepdim=True)
    return torch.where(length < _TINY, otherwise.expand_as(vectors), vectors / length.clamp_min(_TINY))


def _flat(vectors: Tensor, normal: Tensor) -> Tensor:
    """Vectors (..., 3) without what lies along unit vectors `normal`."""
    return vectors - (vectors * normal).sum(-1, keepdim=True) * normal


def _added_up(steps: Sequence[Tensor], parents: Sequence[int]) -> Tensor:
    """(..., J, 3) joint positions from the root's position and the steps (..., 3) from parents to joints."""
    positions: list[Tensor] = []
    for step, parent in zip(steps, parents, strict=True):
        positions.append(step if parent < 0 else positions[parent] + step)
    return torch.stack(positions, dim=-2)


def _body_frame(joints: Tensor) -> Tensor:
    """(..., 3, 3) with columns left, up, forward: left along the hips, up from the hips to the lowest spine joint."""
    left_hip, right_hip = (joints[..., hip, :] for hip in HUMANML3D.hips)
    axes = torch.eye(3, dtype=joints.dtype, device=joints.device)
    up = _direction(joints[..., _SPINE[0], :] - (left_hip + right_hip) / 2, axes[1])
    spare = _flat(torch.where(up[..., :1].abs() < 0.9, axes[0], axes[2]), up)
    left = _direction(_flat(left_hip - right_hip, up), F.normalize(spare, dim=-1, eps=_TINY))
    return torch.stack([left, up, torch.linalg.cross(left, up)], dim=-1)


def _share_twist(turned: list[Tensor], joints: Tensor, rest: Tensor, vectors: Tensor) -> None:
    """Twist the spine's bones about themselves, each a little more, until the last one faces as the shoulders do."""
    left, right = HUMANML3D.shoulders
    along = F.normalize(vectors, dim=-1, eps=_TINY)
    axis = along[..., _SPINE[-1], :]
    wanted = joints[..., left, :] - joints[..., right, :]
    carried = (turned[_SPINE[-1]] @ (rest[left] - rest[right])[:, None])[..., 0]
    sine = (torch.linalg.cross(carried, wanted) * axis).sum(-1)
    cosine = (carried * wanted).sum(-1) - (carried * axis).sum(-1) * (wanted * axis).sum(-1)
    known = torch.hypot(sine, cosine) > _TINY
    angle = torch.where(known, torch.atan2(sine, torch.where(known, cosine, torch.ones_like(cosine))), 0.0)
    for count, joint in enumerate(_SPINE, start=1):
        twist = roma.rotvec_to_rotmat(along[..., joint, :] * (angle * count / len(_SPINE))[..., None])
        turned[joint] = twist @ turned[joint]


_T_POSE = {
    "l_hip": (0.91, -0.41, 0.02), "r_hip": (-0.91, -0.41, 0.02), "l_knee": (0, -1, 0), "r_knee": (0, -1, 0),
    "l_ankle": (0, -1, 0), "r_ankle": (0, -1, 0),
    "spine3": (0, 1, 0.1), "neck": (0, 1, 0.1), "head": (0, 1, 0.2),
    "l_collar": (0.5, 0.86, 0.05), "r_collar": (-0.5, 0.86, 0.05),
    "l_shoulder": (0.97, 0.07, -0.22), "r_shoulder": (-0.97, 0.07, -0.22),
    "l_elbow": (1, 0, 0), "r_elbow": (-1, 0, 0), "l_wrist": (1, 0, 0), "r_wrist": (-1, 0, 0),
}  # fmt: skip
"""Directions of the bones in the rest pose; those not named point up. Limbs make a T; the trunk is as in people who
stand, so that a skin made for the T-pose fits these without bending. Rounded by eye."""
_PITCH = 0.5  # how far a foot of length 1 goes down to its toes where no frame tells; recordings have 0.2 to 0.65


@dataclass(frozen=True)
class Fitted:
    """A motion as turns from the T-pose.

    Attributes:
        directions: (22, 3) unit vectors along the bones in the T-pose; that of the root is of no use.
        rest: (22, 3) offset of each joint from its parent in the T-pose in metres; zero for the root.
        root: (T, 3) position of the hips in metres.
        rotations: (T, 22, 3, 3) rotation of each bone relative to its parent bone; all are identities in the T-pose.
    """

    directions: Float64
    rest: Float64
    root: Float64
    rotations: Tensor


def fit_t_pose(motion: Motion) -> Fitted:
    """Rest offsets and rotations for a motion of HumanML3D's skeleton.

    A bone has one length: the mean over the clip. Each joint is aimed at where it was, so what the lengths lose
    hardly adds up along a limb. Knees and ankles are hinges: see `_hinge_legs`.
    """
    joints = torch.from_numpy(motion.joints.astype(np.float64))
    lengths = torch.linalg.norm(bone_vectors(joints), dim=-1).mean(0)
    directions = t_pose(standing_pitch(motion))
    rest = torch.from_numpy(directions)
    fitted = set_bone_lengths(joints, lengths, follow=True)
    turned = _hinge_legs(inverse(fitted, rest), rest)
    return Fitted(directions, (rest * lengths[:, None]).numpy(), fitted[:, 0].numpy(), turned)


def t_pose(pitch: float = _PITCH) -> Float64:
    """(22, 3) unit vectors along the bones in the T-pose, whose feet go down by `pitch` per length; up for the root."""
    directions = np.array([_T_POSE.get(name, (0, 1, 0)) for name in HUMANML3D.names], dtype=np.float64)
    directions[[toe for *_, toe in LEGS]] = (0, -pitch, np.sqrt(1 - pitch**2))
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def standing_pitch(motion: Motion) -> float:
    """How far down a foot of length 1 goes from ankle to toes while it stands: the median over both feet.

    A foot stands where ankle and toes are slower than 0.15 m/s and the toes within 6 cm of the lowest joint (by eye).
    Recordings put these joints at other places of the foot, from 0.2 to 0.65, and soles are to be flat in all.
    """
    downs = []
    for _, _, ankle, toe in LEGS:
        ends = motion.joints[:, [ankle, toe]].astype(np.float64)
        step = np.diff(ends, axis=0, append=ends[-1:])
        slow = np.linalg.norm(step, axis=-1).max(-1) * motion.fps < 0.15
        low = ends[:, 1, 1] < motion.joints[..., 1].min() + 0.06
        down = -unit(ends[:, 1] - ends[:, 0])[:, 1]
        downs.append(down[slow & low & (down > 0.1) & (down < 0.8)])
    standing = np.concatenate(downs)
    return float(np.median(standing)) if len(standing) else _PITCH


def _hinge_legs(local: Tensor, rest: Tensor) -> Tensor:
    """Twist thighs, shins and feet about themselves until one axis across serves them all: (T, 22, 3, 3) -> the same.

    `inverse` gives bones no twist, so a foot that is turned outwards would roll onto its edge. The axis stands on
    shin and foot; as far as these are in line (a pointed foot), the bend of the knee and then the axis that the bones
    had without twist decide. No joint moves.
    """
    turned = list(world_rotations(local).unbind(1))
    across = torch.tensor([1.0, 0.0, 0.0], dtype=local.dtype)
    changed = local.clone()
    for hip, *bones in LEGS:
        thigh, shin, foot = ((turned[bone] @ rest[bone][:, None])[..., 0] for bone in bones)
        by_foot = torch.linalg.cross(foot, shin)
        in_line = (1 - by_foot.norm(dim=-1, keepdim=True) / 0.5).clamp(min=0)
        axis = by_foot + in_line * (torch.linalg.cross(thigh, shin) + 0.1 * turned[bones[1]][..., 0])
        for bone, along in zip(bones, (thigh, shin, foot), strict=True):
            side = _direction(_flat(axis, along), turned[bone][..., 0])
            posed = torch.stack([side, along, torch.linalg.cross(side, along)], dim=-1)
            resting = torch.stack([across, rest[bone], torch.linalg.cross(across, rest[bone])], dim=-1)
            turned[bone] = posed @ resting.T
        for parent, bone in pairwise([hip, *bones]):
            changed[:, bone] = turned[parent].transpose(-1, -2) @ turned[bone]
    return changed
