"""Another frame rate along a smooth curve: joints on cubic splines, with bones that keep their lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import assemble, bones
from motiongpt3.motion.skeleton import Array
from motiongpt3.motion.spline import cubic

_SAME = 1e-6
"""Frames by which a place may be off a frame to be that frame."""


def resampled(motion: Motion, fps: float) -> Motion:
    """A motion of HumanML3D's skeleton at another frame rate; frames at the same times stay bit for bit.

    Raises:
        MotionGPT3Error: fps is not a number in (0, 1000], or the motion would have too many frames.
    """
    return motion if fps == motion.fps else motion.replace(joints=poses_at(motion.joints, motion.places(fps)), fps=fps)


def poses_at(joints: Array, at: Array) -> NDArray[np.float32]:
    """Poses between frames.

    Args:
        joints: (T, 22, 3) metres.
        at: (N,) places from 0 to T - 1.

    Returns:
        (N, 22, 3); a frame where a place is one, and otherwise the directions of the bones along a spline through all
        frames, their lengths on a line between the two frames beside.
    """
    near = np.clip(np.round(at), 0, len(joints) - 1).astype(np.int64)
    poses: NDArray[np.float32] = joints[near].astype(np.float32)
    between = np.abs(at - near) > _SAME
    if between.any():
        at = at[between]
        smooth = cubic(joints, at)
        sizes = np.linalg.norm(bones(joints.astype(np.float64)), axis=-1)
        low = np.clip(np.floor(at).astype(np.int64), 0, len(joints) - 2)
        weight = np.clip(at - low, 0, 1)[:, None]
        lengths = sizes[low] * (1 - weight) + sizes[low + 1] * weight
        poses[between] = assemble(smooth[:, 0], bones(smooth), lengths)
    return poses
