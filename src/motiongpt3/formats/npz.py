"""Our npz files: joints (T, 22, 3) in metres, fps, and optionally caption and name. AMASS files go to `amass`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import Reading, ReadOptions
from motiongpt3.motion.motion import MAX_FRAMES, Motion, require_humanml3d
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.serialization import atomic_path
from motiongpt3.untrusted import Npz, finite, read_npy


def read(path: Path, options: ReadOptions) -> Reading:
    """Read an npz file; without `fps` it is 20.

    Raises:
        MotionGPT3Error: no `joints`, a wrong shape, NaN, Python objects, a damaged file; or AMASS without a body model.
    """
    with Npz(path) as file:
        if "poses" in file and "trans" in file and "joints" not in file:
            from motiongpt3.formats.smpl import read as read_amass

            return read_amass(path, options)
        if "joints" not in file:
            keys = ", ".join(sorted(file.keys))[:120] or "nothing"
            raise MotionGPT3Error(f"{path.name} needs an array 'joints' (frames, 22, 3); it has {keys}")
        motion = Motion(
            file.numbers("joints"),
            fps=options.fps or (file.number("fps") if "fps" in file else 20.0),
            caption=file.text("caption"),
            name=file.text("name") or path.stem,
        )
        return Reading(motion)


def write(motion: Motion, path: Path) -> None:
    """Write an npz file that `read` gives back exactly."""
    require_humanml3d(motion, "npz")
    arrays = {"joints": motion.joints, "fps": np.float64(motion.fps)}
    texts = {"caption": motion.caption, "name": motion.name}
    strings = {key: np.array(text) for key, text in texts.items() if text is not None}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, **strings)  # type: ignore[arg-type]


# npy files as HumanML3D stores them: joints (T, 22, 3), or features (T, 263) that are not normalised.

FPS = 20.0
"""HumanML3D's frame rate; npy files do not state one."""
FEATURES = 263


def read_humanml3d(path: Path, options: ReadOptions) -> Reading:
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
    return Reading(Motion(array, fps=options.fps or FPS, name=path.stem))


def write_humanml3d(motion: Motion, path: Path) -> None:
    """Write the joints (T, 22, 3) as float32. The frame rate is not stored: resample to 20 first."""
    require_humanml3d(motion, "npy")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, motion.joints, allow_pickle=False)
