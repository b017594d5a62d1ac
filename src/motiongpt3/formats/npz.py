"""Our npz files: joints (T, 22, 3) in metres, fps, and optionally caption and name. AMASS files go to `amass`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path
from motiongpt3.formats.arrays import Npz
from motiongpt3.motion.motion import Motion, require_humanml3d


def read(path: Path) -> Motion:
    """Read an npz file; without `fps` it is 20.

    Raises:
        MotionGPT3Error: no `joints`, a wrong shape, NaN, Python objects, a damaged file; or AMASS without a body model.
    """
    with Npz(path) as file:
        if "poses" in file and "trans" in file and "joints" not in file:
            from motiongpt3.formats.amass import read as read_amass

            return read_amass(path)
        if "joints" not in file:
            keys = ", ".join(sorted(file.keys))[:120] or "nothing"
            raise MotionGPT3Error(f"{path.name} needs an array 'joints' (frames, 22, 3); it has {keys}")
        return Motion(
            file.numbers("joints"),
            fps=file.number("fps") if "fps" in file else 20.0,
            caption=file.text("caption"),
            name=file.text("name") or path.stem,
        )


def write(motion: Motion, path: Path) -> None:
    """Write an npz file that `read` gives back exactly."""
    require_humanml3d(motion, "npz")
    arrays = {"joints": motion.joints, "fps": np.float64(motion.fps)}
    texts = {"caption": motion.caption, "name": motion.name}
    strings = {key: np.array(text) for key, text in texts.items() if text is not None}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, **strings)  # type: ignore[arg-type]
