"""Poses as joints and as bones: where a person faces, what a pose is made of, how it is put together again.

All arrays are (T, 22, 3) joint positions in metres, y up, in the order of `HUMANML3D`; yaw 0 faces +z, and a positive
yaw turns +z towards +x (the person's left).
"""

from __future__ import annotations

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.signals import averaged, triangle
from motiongpt3.motion.skeleton import HUMANML3D, Array

PARENTS = np.array(HUMANML3D.parents[1:])


def heading(joints: Array) -> Array:
    """(T,) yaw of the facing direction in radians: up x (right minus left, hips plus shoulders), as HumanML3D does."""
    (l_hip, r_hip), (l_shoulder, r_shoulder) = HUMANML3D.hips, HUMANML3D.shoulders
    across = joints[:, r_hip] - joints[:, l_hip] + joints[:, r_shoulder] - joints[:, l_shoulder]
    return np.arctan2(across[:, 2], -across[:, 0])


def rotate(vectors: Array, yaw: Array | float) -> Array:
    """Vectors (..., 3) turned about the vertical axis by `yaw` radians (broadcast over the leading axes)."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.stack([x * cos + z * sin, y + 0 * x * cos, z * cos - x * sin], axis=-1)


def align(joints: Array, to_position_xz: Array | tuple[float, float], to_heading: float) -> Array:
    """Move a motion rigidly about the vertical axis.

    Returns (T, 22, 3): the pelvis of the first frame is at x, z = `to_position_xz`, its facing has yaw `to_heading`.
    """
    joints = checked_joints(joints)
    turned = rotate(joints, to_heading - float(heading(joints[:1])[0]))
    turned[..., [0, 2]] += np.asarray(to_position_xz) - turned[0, 0, [0, 2]]
    return turned.astype(np.float32)


def bone_vectors(joints: Array) -> Array:
    """(T, 21, 3) vectors from each joint's parent to the joint, in metres."""
    return joints[:, 1:] - joints[:, PARENTS]


def assemble(root: Array, vectors: Array, lengths: Array) -> Array:
    """(T, 22, 3) joints from pelvis positions (T, 3), bone directions (T, 21, 3) and lengths (21,) or (T, 21)."""
    vectors = unit(vectors) * lengths[..., None]
    joints = np.empty((len(root), 22, 3))
    joints[:, 0] = root
    for joint, parent in enumerate(PARENTS, start=1):
        joints[:, joint] = joints[:, parent] + vectors[:, joint - 1]
    return joints


def unit(vectors: Array) -> Array:
    """Vectors (..., 3) scaled to length 1; those without length stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)


def smooth_heading(joints: Array, radius: int = 4) -> Array:
    """(T,) heading in radians, unwrapped, averaged over 2 x radius + 1 frames with triangular weights."""
    return averaged(np.unwrap(heading(joints)), triangle(radius), "held")


def end_velocity(values: Array, *, at_end: bool) -> Array:
    """Per-frame change at one end of (T, ...)."""
    if len(values) < 2:
        return np.zeros_like(values[0])
    return values[-1] - values[-2] if at_end else values[1] - values[0]


def ground_height(joints: Array, *, at_end: bool) -> float:
    """Height of the ground at one end: the lowest joint of the clip, or of that end if the person stands elsewhere."""
    lowest = joints[..., 1].min(axis=1)
    near = lowest[-15:] if at_end else lowest[:15]
    whole, local = float(lowest.min()), float(near.min())
    return whole if local - whole < 0.08 else local


def checked_joints(joints: Array) -> Array:
    joints = np.asarray(joints)
    if joints.ndim != 3 or joints.shape[1:] != (22, 3) or not len(joints):
        raise MotionGPT3Error(f"joints must have shape (frames, 22, 3), not {joints.shape}")
    return joints
