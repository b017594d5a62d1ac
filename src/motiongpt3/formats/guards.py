"""Checks that every format shares."""

from __future__ import annotations

from pathlib import Path

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D


def read_text(path: Path, limit: int) -> str:
    """The text of a file of at most `limit` bytes; raises MotionGPT3Error when it is larger or no text."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise MotionGPT3Error(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > limit:
        raise MotionGPT3Error(f"{path.name} is larger than {limit // 2**20} MB: too long for one motion")
    if b"\0" in data[:4096]:
        raise MotionGPT3Error(f"{path.name} is not a text file")
    return data.decode("utf-8", errors="replace")


def require_humanml3d(motion: Motion, kind: str) -> None:
    """Raises MotionGPT3Error unless the motion has the 22 joints of HumanML3D."""
    if motion.skeleton.names != HUMANML3D.names:
        raise MotionGPT3Error(f"{kind} files hold the 22 joints of HumanML3D; this motion has other joints")


def snap_fps(fps: float) -> float:
    """The whole number of frames per second that a rounded frame time such as 0.0083333 stands for."""
    return float(round(fps)) if abs(fps - round(fps)) < 1e-4 * fps else fps
