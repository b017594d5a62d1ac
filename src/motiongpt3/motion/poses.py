"""Poses as joints and as bones: where a person faces, what a pose is made of, how it is put together again.

Joints are (T, 22, 3) positions in metres, y up, in the order of `HUMANML3D`; yaw 0 faces +z, and a positive yaw turns
+z towards +x (the person's left). The same with gradients is in `motion.features` and `motion.kinematics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.signals import averaged, triangle
from motiongpt3.motion.skeleton import HUMANML3D, Array, Float64, Skeleton

if TYPE_CHECKING:
    from torch import Tensor

Angle = TypeVar("Angle", float, Array)
ArrayOrTensor = TypeVar("ArrayOrTensor", Array, Float64, "Tensor")
_STEP_HEIGHT = 0.08  # metres: ground at one end that is not higher above the clip's lowest joint is its floor; by eye


def checked_joints(joints: Array) -> Array:
    """The joints, if they are (T, 22, 3) with T > 0; otherwise raises MotionGPT3Error."""
    joints = np.asarray(joints)
    if joints.ndim != 3 or joints.shape[1:] != (22, 3) or not len(joints):
        raise MotionGPT3Error(f"joints must have shape (frames, 22, 3), not {joints.shape}")
    return joints


def heading(joints: Array) -> Array:
    """(T,) yaw of the facing direction in radians: up x (right minus left, hips plus shoulders), as HumanML3D does."""
    (l_hip, r_hip), (l_shoulder, r_shoulder) = HUMANML3D.hips, HUMANML3D.shoulders
    across = joints[:, r_hip] - joints[:, l_hip] + joints[:, r_shoulder] - joints[:, l_shoulder]
    return np.arctan2(across[:, 2], -across[:, 0])


def forward(yaw: Array) -> Array:
    """(T, 3) unit vectors along the floor that face (T,) radians."""
    return np.stack([np.sin(yaw), 0 * yaw, np.cos(yaw)], axis=-1)


def yaw_of(pose: Array) -> float:
    """Yaw in radians that one pose (22, 3) faces."""
    return float(heading(pose[None])[0])


def smooth_heading(joints: Array, radius: int = 4) -> Array:
    """(T,) heading in radians, unwrapped, averaged over 2 x radius + 1 frames with triangular weights."""
    return averaged(np.unwrap(heading(joints)), triangle(radius), "held")


def wrapped(angle: Angle) -> Angle:
    """An angle in radians, or an array of them, from -pi to pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


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
    turned = rotate(joints, to_heading - yaw_of(joints[0]))
    turned[..., [0, 2]] += np.asarray(to_position_xz) - turned[0, 0, [0, 2]]
    return turned.astype(np.float32)


def bone_vectors(joints: ArrayOrTensor, skeleton: Skeleton = HUMANML3D) -> ArrayOrTensor:
    """Joint minus parent: (..., J, 3) -> (..., J, 3), of arrays and of tensors; zero for the root."""
    return joints - joints[..., [max(parent, 0) for parent in skeleton.parents], :]


def bone_lengths(joints: Array) -> Array:
    """(T, 22) metres; zero for the root."""
    return np.asarray(np.linalg.norm(bone_vectors(joints), axis=-1))


def assemble(root: Array, vectors: Array, lengths: Array) -> Float64:
    """(T, 22, 3) joints from pelvis positions (T, 3), bone directions (T, 22, 3) and lengths (22,) or (T, 22).

    What `vectors` and `lengths` have for the root does not count.
    """
    joints = (unit(vectors) * lengths[..., None]).astype(np.float64)
    joints[:, 0] = root
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        joints[:, joint] += joints[:, parent]
    return joints


def unit(vectors: Array) -> Array:
    """Vectors (..., 3) scaled to length 1; those without length stay zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8))


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
    return whole if local - whole < _STEP_HEIGHT else local
