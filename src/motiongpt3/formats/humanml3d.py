"""npy files as HumanML3D stores them: joints (T, 22, 3), or features (T, 263) that are not normalised."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path
from motiongpt3.formats.arrays import finite, read_npy
from motiongpt3.motion.motion import MAX_FRAMES, Motion, require_humanml3d
from motiongpt3.motion.skeleton import HUMANML3D

FPS = 20.0
"""HumanML3D's frame rate; npy files do not state one."""
FEATURES = 263


def read_humanml3d(path: Path) -> Motion:
    """Read joints (T, 22, 3), also as (1, T, 22, 3) or (T, 66), or features (T, 263), at 20 frames per second.

    Raises:
        MotionGPT3Error: another shape, NaN, Python objects, a damaged file.
    """
    array = finite(read_npy(path), path.name)
    if array.ndim in (3, 4) and array.shape[0] == 1 and array.shape[1:] not in {(len(HUMANML3D), 3)}:
        array = array[0]
    if array.ndim == 2 and array.shape[1] == len(HUMANML3D) * 3:
        array = array.reshape(-1, len(HUMANML3D), 3)
    if array.ndim == 2 and array.shape[1] == FEATURES and 1 <= len(array) <= MAX_FRAMES:
        import torch

        from motiongpt3.motion.features import features_to_joints

        array = features_to_joints(torch.from_numpy(array)).numpy()
    if array.ndim != 3:
        raise MotionGPT3Error(
            f"{path.name} has shape {array.shape}; joints (frames, {len(HUMANML3D)}, 3) or features "
            f"(frames, {FEATURES}) are expected"
        )
    return Motion(array, fps=FPS, name=path.stem)


def write_humanml3d(motion: Motion, path: Path) -> None:
    """Write the joints (T, 22, 3) as float32. The frame rate is not stored: resample to 20 first."""
    require_humanml3d(motion, "npy")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, motion.joints, allow_pickle=False)
