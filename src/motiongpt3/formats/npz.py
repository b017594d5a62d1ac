"""npz and npy files of joint positions; ours have metres, y up, and optionally caption and name. AMASS is `smpl`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import Reading, ReadOptions, as_written
from motiongpt3.formats.arrays import read_array
from motiongpt3.motion.motion import Motion, require_humanml3d
from motiongpt3.serialization import atomic_path
from motiongpt3.untrusted import Npz, finite, read_npy

_POSITIONS = ("joints", "posed_joints", "joint_positions", "positions", "joints3d", "motion", "arr_0")
"""Under these names positions stand, the first one that is there: ours, Kimodo's, and what others use."""
_RATES = ("fps", "mocap_framerate", "mocap_frame_rate", "framerate", "frame_rate")
_KIMODO_FPS = 30.0
"""That of all its models; older files do not state it."""


def read(path: Path, options: ReadOptions) -> Reading:
    """Read an npz file of joint positions, see `motiongpt3.formats.arrays`; without `fps` it is 20.

    Files of ours say that y is up and positions are in metres, and come back as they were.

    Raises:
        MotionGPT3Error: no positions, a wrong shape, NaN, Python objects, a damaged file; AMASS without a body model.
    """
    with Npz(path) as file:
        key = next((key for key in _POSITIONS if key in file), None)
        if key is None or ("joints" not in file and "poses" in file and "trans" in file):
            if {"trans", "transl"} & file.keys and {"poses", "pose_body", "body_pose"} & file.keys:
                from motiongpt3.formats.smpl import read as read_amass

                return read_amass(path, options)
            keys = ", ".join(sorted(file.keys))[:120] or "nothing"
            raise MotionGPT3Error(f"{path.name} needs an array 'joints' (frames, 22, 3); it has {keys}")
        said: dict[str, Any] = {name: file.text(name) for name in ("up", "unit")}
        told = {name: value for name, value in said.items() if value and getattr(options, name) == "auto"}
        try:
            options = replace(options, **told)
        except MotionGPT3Error as error:
            raise MotionGPT3Error(f"{path.name} says of itself what cannot be: {error}") from None
        rate = next((rate for rate in _RATES if rate in file), None)
        fps = file.number(rate) if rate else _KIMODO_FPS if key == "posed_joints" else None
        texts = {"caption": file.text("caption"), "name": file.text("name") or path.stem}
        reading = read_array(file.numbers(key), f"{path.name}, {key}", options, fps, **texts)
    return replace(reading, notes=(f"{key!r} is read", *reading.notes)) if key != "joints" else reading


def write(motion: Motion, path: Path) -> None:
    """Write an npz file that `read` gives back exactly."""
    require_humanml3d(motion, "npz")
    arrays = {"joints": motion.joints, "fps": np.float64(motion.fps)}
    texts = {"caption": motion.caption, "name": motion.name, "up": "y", "unit": "m"}
    strings = {key: np.array(text) for key, text in texts.items() if text is not None}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, **strings)  # type: ignore[arg-type]


def read_humanml3d(path: Path, options: ReadOptions) -> Reading:
    """Read an npy file, see `motiongpt3.formats.arrays`, at 20 frames per second where nothing else is told.

    Raises:
        MotionGPT3Error: another shape, NaN, Python objects, a damaged file.
    """
    return read_array(finite(read_npy(path), path.name), path.name, options, name=path.stem)


def write_humanml3d(motion: Motion, path: Path) -> None:
    """Write the joints (T, 22, 3) as float32, at 20 frames per second: the file does not state its rate."""
    require_humanml3d(motion, "npy")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, as_written(motion, path).joints, allow_pickle=False)
