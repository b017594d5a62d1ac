"""Another frame rate along a smooth curve: joints on cubic splines, with bones that keep their lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motiongpt3.motion.motion import Motion
from motiongpt3.motion.poses import assemble, bone_lengths, bone_vectors
from motiongpt3.motion.signals import interpolate
from motiongpt3.motion.skeleton import Array

_SAME = 1e-6  # frames by which a place may be off a frame to be that frame: more than rounding loses


def resampled(motion: Motion, fps: float) -> Motion:
    """A motion of HumanML3D's skeleton at another frame rate; frames at the same times stay bit for bit.

    Raises:
        MotionGPT3Error: fps is not a number from MIN_FPS to 1000, or the motion would have too many frames.
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
        smooth = cubic(joints, at[between])
        lengths = interpolate(bone_lengths(joints.astype(np.float64)), at[between])
        poses[between] = assemble(smooth[:, 0], bone_vectors(smooth), lengths)
    return poses


def cubic(samples: Array, at: Array) -> Array:
    """The natural cubic spline through samples 0, 1, 2 … at other places.

    Its first and second derivatives are continuous; at the ends the second is zero.

    Args:
        samples: (T, ...).
        at: (N,) places from 0 to T - 1; outside, the end pieces go on.

    Returns:
        (N, ...) float64. A single sample is repeated.
    """
    samples = samples.astype(np.float64)
    if len(samples) < 2:
        return np.repeat(samples, len(at), axis=0)
    bend = _second_derivatives(samples)
    low = np.clip(np.floor(at).astype(np.int64), 0, len(samples) - 2)
    shape = (-1, *[1] * (samples.ndim - 1))
    t = (at - low).reshape(shape)
    s = 1 - t
    curve = ((s**3 - s) * bend[low] + (t**3 - t) * bend[low + 1]) / 6
    return np.asarray(s * samples[low] + t * samples[low + 1] + curve)


def _second_derivatives(samples: Array) -> Array:
    """(T, ...) of the spline at its samples: M[i-1] + 4 M[i] + M[i+1] = 6 x second difference, 0 at both ends."""
    bend = np.zeros_like(samples)
    right = 6 * np.diff(samples, n=2, axis=0)
    upper = np.zeros(len(right))
    for row in range(len(right)):  # the tridiagonal system, solved forwards and backwards
        pivot = 4 - (upper[row - 1] if row else 0)
        upper[row] = 1 / pivot
        right[row] = (right[row] - (right[row - 1] if row else 0)) / pivot
    for row in range(len(right) - 1, -1, -1):
        bend[row + 1] = right[row] - upper[row] * bend[row + 2]
    return bend
