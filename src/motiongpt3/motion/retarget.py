"""Joints onto another skeleton's proportions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.kinematics import set_bone_lengths
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton


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
