"""Joint positions <-> HumanML3D features, batched and differentiable.

The features of Guo et al., "Generating Diverse and Natural 3D Human Motions from Text" (CVPR 2022), for any skeleton:
J joints give 12 J - 1 channels, 263 for the 22 joints of HumanML3D. All leading dimensions are batch dimensions;
lengths are in metres and frames, angles in radians.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import roma
import torch
import torch.nn.functional as F
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.kinematics import shortest_arc
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.signals import gaussian
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

CONTACT_THRESHOLD = 0.002
"""A foot touches the floor while its squared displacement per frame at 20 fps is below this (m^2); as in HumanML3D."""
SMOOTHING = 20.0
"""Standard deviation, in frames, of the Gaussian that smooths the facing direction; as in HumanML3D, as is its cut."""


class FeatureSlices(NamedTuple):
    """Where each of the seven groups of channels lies, in their order. J joints, C contact joints.

    Attributes:
        root_rotation: 1; half the turn about y to the next frame.
        root_velocity: 2; x and z step of the root to the next frame, in that frame's facing direction.
        root_height: 1; y of the root.
        positions: 3 (J - 1); joints 1.. without the root's x and z, turned to face +z.
        rotations: 6 (J - 1); first two columns of each bone's rotation relative to the bone before it in its chain.
        velocities: 3 J; step of every joint to the next frame, turned to face +z.
        contacts: C; 1 where the joint rests, else 0.
    """

    root_rotation: slice
    root_velocity: slice
    root_height: slice
    positions: slice
    rotations: slice
    velocities: slice
    contacts: slice


def feature_slices(skeleton: Skeleton = HUMANML3D) -> FeatureSlices:
    """The channels of each feature group for this skeleton."""
    joints = len(skeleton)
    ends = np.cumsum([0, 1, 2, 1, 3 * (joints - 1), 6 * (joints - 1), 3 * joints, len(skeleton.contacts)]).tolist()
    return FeatureSlices(*(slice(start, end) for start, end in itertools.pairwise(ends)))


def feature_size(skeleton: Skeleton = HUMANML3D) -> int:
    """Number of channels: 12 J - 1 with four contact joints."""
    return int(feature_slices(skeleton).contacts.stop)


def canonicalise(joints: Tensor, skeleton: Skeleton = HUMANML3D) -> Tensor:
    """Put a motion where every clip starts: floor at y = 0, root of frame 0 over the origin, frame 0 facing +z.

    Args:
        joints: (..., T, J, 3) positions in metres, y up, T >= 1.
        skeleton: tells which way the body faces.

    Returns:
        (..., T, J, 3); the floor is the lowest joint of the whole clip.
    """
    _check_joints(joints, skeleton)
    root = joints[..., :1, :1, :]
    floor = joints[..., 1].amin(dim=(-2, -1))[..., None, None]
    origin = torch.stack([root[..., 0], floor, root[..., 2]], dim=-1)
    forward = _forward(joints[..., :1, :, :], skeleton)
    return _turn(joints - origin, -torch.atan2(forward[..., 0], forward[..., 2])[..., None])


def joints_to_features(
    joints: Tensor, skeleton: Skeleton = HUMANML3D, *, drop_last: bool = False, fps: float = 20.0
) -> Tensor:
    """Features of joint positions as HumanML3D extracts them. The motion is taken as it lies: see `canonicalise`.

    Frame 0 counts as facing +z whatever the joints say, so recovery gives back the joints as they were turned. The
    contacts carry no gradient. One deviation from HumanML3D: its turn has the wrong sign in the frame where the
    facing direction passes -z; here it has the right one.

    Args:
        joints: (..., T, J, 3) positions in metres, y up, T >= 1.
        skeleton: J joints.
        drop_last: give T - 1 frames, as HumanML3D does. Otherwise the last frame keeps its own height, positions and
            rotations and repeats the velocities and contacts of the frame before it (zero and 1 when T is 1).
        fps: frame rate; only the contact threshold depends on it.

    Returns:
        (..., T or T - 1, F) features, not normalised.

    Raises:
        MotionGPT3Error: the joints do not fit the skeleton.
    """
    _check_joints(joints, skeleton)
    half = _half_heading(joints, skeleton)
    heading = (2 * half)[..., None]

    step = torch.diff(joints, dim=-3)
    turn = torch.diff(half, dim=-1)
    turn = (turn + math.pi / 2).remainder(math.pi) - math.pi / 2
    root_step = _turn(step[..., 0, :], 2 * half[..., 1:])[..., 0::2]
    joint_step = _turn(step, heading[..., :-1, :]).flatten(-2)
    threshold = CONTACT_THRESHOLD * (20.0 / fps) ** 2
    contact = (step[..., list(skeleton.contacts), :].square().sum(-1) < threshold).to(joints.dtype)
    moving = [turn[..., None], root_step, joint_step, contact]

    flat = torch.tensor([1.0, 0.0, 1.0], dtype=joints.dtype, device=joints.device)
    local = _turn(joints - joints[..., :1, :] * flat, heading)[..., 1:, :].flatten(-2)
    rotations = _chain_rotations(joints, half, skeleton)[..., :2].transpose(-1, -2).flatten(-3)
    posed = [joints[..., 0, 1:2], local, rotations]

    if drop_last:
        posed = [values[..., :-1, :] for values in posed]
    else:
        moving = [_repeat_last(values, empty) for values, empty in zip(moving, (0.0, 0.0, 0.0, 1.0), strict=True)]
    return torch.cat([*moving[:2], *posed, *moving[2:]], dim=-1)


def features_to_joints(features: Tensor, skeleton: Skeleton = HUMANML3D) -> Tensor:
    """Joint positions from features: the root is integrated, the joints are placed around it.

    Uses the root channels and the local positions; rotations, velocities and contacts are not read. Differentiable.

    Args:
        features: (..., T, F), not normalised.
        skeleton: J joints.

    Returns:
        (..., T, J, 3) positions in metres; frame 0 has its root at x = z = 0 and faces +z.

    Raises:
        MotionGPT3Error: the features do not fit the skeleton.
    """
    _check_features(features, skeleton)
    where = feature_slices(skeleton)
    before = F.pad(features[..., :-1, :], (0, 0, 1, 0))
    turn, step = before[..., where.root_rotation], before[..., where.root_velocity]
    angle = -2 * torch.cumsum(turn, dim=-2)[..., 0]
    step = torch.stack([step[..., 0], torch.zeros_like(step[..., 0]), step[..., 1]], dim=-1)
    root = torch.cumsum(_turn(step, angle), dim=-2)
    local = features[..., where.positions].unflatten(-1, (len(skeleton) - 1, 3))
    placed = _turn(local, angle[..., None]) + root[..., None, :]
    height = F.pad(features[..., where.root_height], (1, 1))
    return torch.cat([(root + height)[..., None, :], placed], dim=-2)


def mirror_features(features: Tensor, skeleton: Skeleton = HUMANML3D) -> Tensor:
    """Swap left and right: the features of the mirrored joints, without leaving feature space. Twice is the identity.

    Args:
        features: (..., F), not normalised.
        skeleton: J joints; its reference pose is symmetric.

    Returns:
        (..., F).
    """
    _check_features(features, skeleton)
    order, sign = _mirror(skeleton)
    return features[..., torch.from_numpy(order).to(features.device)] * torch.from_numpy(sign).to(features)


def _mirror(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """(F,) source channel and (F,) sign of each mirrored channel.

    x changes sign; of a rotation matrix, so do the entries with exactly one index x.
    """
    where, swap, contacts = feature_slices(skeleton), skeleton.mirror_permutation, skeleton.contacts
    feet = [contacts.index(int(swap[joint])) for joint in contacts]
    order, sign = np.arange(feature_size(skeleton)), np.ones(feature_size(skeleton), dtype=np.float32)
    for group, joints, signs in (
        (where.root_rotation, [0], [-1]),
        (where.root_velocity, [0], [-1, 1]),
        (where.positions, swap[1:] - 1, [-1, 1, 1]),
        (where.rotations, swap[1:] - 1, [1, -1, -1, -1, 1, 1]),
        (where.velocities, swap, [-1, 1, 1]),
        (where.contacts, feet, [1]),
    ):
        order[group] = order[group].reshape(-1, len(signs))[joints].reshape(-1)
        sign[group] = np.tile(signs, len(joints))
    return order, sign


def _check_joints(joints: Tensor, skeleton: Skeleton) -> None:
    if joints.dim() < 3 or joints.shape[-2:] != (len(skeleton), 3) or joints.shape[-3] < 1:
        raise MotionGPT3Error(
            f"joints must have shape (..., frames >= 1, {len(skeleton)}, 3), not {tuple(joints.shape)}"
        )


def _check_features(features: Tensor, skeleton: Skeleton) -> None:
    if features.dim() < 1 or features.shape[-1] != feature_size(skeleton):
        size = feature_size(skeleton)
        raise MotionGPT3Error(f"features of {len(skeleton)} joints have {size} channels, not {tuple(features.shape)}")


def _turn(vectors: Tensor, angle: Tensor) -> Tensor:
    """Rotate (..., 3) vectors about y by (...) radians; a positive angle takes +z towards +x."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y, z = vectors.unbind(-1)
    return torch.stack([cos * x + sin * z, y, cos * z - sin * x], dim=-1)


def _forward(joints: Tensor, skeleton: Skeleton, hips: int = 1) -> Tensor:
    """(..., T, 3) horizontal direction the body faces: y cross (left to right of shoulders plus `hips` times hips)."""
    (left_hip, right_hip), (left, right) = skeleton.hips, skeleton.shoulders
    across = joints[..., right, :] - joints[..., left, :]
    across = F.normalize(across + hips * (joints[..., right_hip, :] - joints[..., left_hip, :]), dim=-1, eps=1e-8)
    return torch.stack([across[..., 2], torch.zeros_like(across[..., 0]), -across[..., 0]], dim=-1)


def _half_heading(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """(..., T) half the angle about y that turns each frame to face +z, from the smoothed direction; 0 in frame 0.

    HumanML3D swaps the hips here (not in frame 0, see `canonicalise`): the direction is that of the shoulders minus
    the hips. It is kept, since the published features and every model trained on them have it.
    """
    forward = _smooth(_forward(joints, skeleton, hips=-1))
    half = -0.5 * torch.atan2(forward[..., 0], forward[..., 2])
    return torch.cat([torch.zeros_like(half[..., :1]), half[..., 1:]], dim=-1)


def _smooth(values: Tensor) -> Tensor:
    """Gaussian filter over the time axis of (..., T, C), cut at four deviations, the ends repeated outwards."""
    window = gaussian(SMOOTHING, cut=4.0)
    radius, weight = len(window) // 2, torch.from_numpy(window / window.sum()).to(values)
    rows = values.transpose(-1, -2)
    padded = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (radius, radius), mode="replicate")
    return F.conv1d(padded, weight[None, None]).reshape(rows.shape).transpose(-1, -2)


def _chain_rotations(joints: Tensor, half: Tensor, skeleton: Skeleton) -> Tensor:
    """(..., T, J - 1, 3, 3) rotation of each bone relative to the bone before it in its chain.

    A bone's own rotation is the shortest one from its reference direction. Every chain starts from the rotation that
    turns the body to face +z, also the arm chains, which start at the chest.
    """
    before = list(range(len(skeleton)))
    for chain in skeleton.chains:
        for parent, child in itertools.pairwise(chain):
            before[child] = 0 if parent == chain[0] else parent
    reference = torch.from_numpy(skeleton.rest_offsets).to(joints)
    start, end = (F.normalize(bones, dim=-1, eps=1e-8) for bones in (reference, bone_vectors(joints, skeleton)))
    own = shortest_arc(start, end)[..., 1:, :, :]
    axis = torch.tensor([0.0, 2.0, 0.0], dtype=joints.dtype, device=joints.device)
    facing = roma.rotvec_to_rotmat(half[..., None] * axis)[..., None, :, :]
    rotations = torch.cat([facing, own], dim=-3)
    return rotations[..., before[1:], :, :].transpose(-1, -2) @ own


def _repeat_last(values: Tensor, empty: float) -> Tensor:
    """(..., T - 1, C) -> (..., T, C); a frame of `empty` where there is nothing to repeat."""
    if values.shape[-2]:
        return torch.cat([values, values[..., -1:, :]], dim=-2)
    return values.new_full((*values.shape[:-2], 1, values.shape[-1]), empty)
