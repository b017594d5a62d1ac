"""Checks that every format shares."""

from __future__ import annotations

from pathlib import Path

from motiongpt3.errors import MotionGPT3Error


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


def snap_fps(fps: float) -> float:
    """The whole number of frames per second that a rounded frame time such as 0.0083333 stands for."""
    return float(round(fps)) if abs(fps - round(fps)) < 1e-4 * fps else fps
