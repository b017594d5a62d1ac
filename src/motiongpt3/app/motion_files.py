"""Motion files as bytes: they go through a temporary file with a name of ours, whatever their own name is."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from motiongpt3.app.limits import MAX_SECONDS
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, save
from motiongpt3.motion.motion import Motion


def from_bytes(data: bytes, suffix: str) -> Motion:
    """The motion in a file with this suffix, such as "bvh".

    Raises:
        MotionGPT3Error: the reader of the format refuses it, or it is longer than MAX_SECONDS.
    """
    with TemporaryDirectory(prefix="motiongpt3-") as folder:
        path = Path(folder) / f"motion.{suffix}"
        path.write_bytes(data)
        try:
            motion = load(path)
        except MotionGPT3Error as error:
            raise MotionGPT3Error(str(error).replace(str(path), path.name)) from None
    check_length(motion)
    return motion


def check_length(motion: Motion) -> None:
    """MotionGPT3Error if the motion is longer than MAX_SECONDS."""
    if motion.seconds > MAX_SECONDS:
        raise MotionGPT3Error(f"the motion has {motion.seconds:.4g} seconds; at most {MAX_SECONDS} are read")


def to_bytes(motion: Motion, suffix: str) -> bytes:
    """A motion file with this suffix."""
    with TemporaryDirectory(prefix="motiongpt3-") as folder:
        return save(motion, Path(folder) / f"motion.{suffix}").read_bytes()
