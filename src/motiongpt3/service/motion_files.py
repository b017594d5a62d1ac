"""Motions that come and go as bytes, and what is done to them on the way, within limits the service and the page share.

Files go through a temporary file with a name of ours, whatever their own name is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import load, save
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.postprocess import Changes, changes, postprocess

MAX_UPLOAD = 20_000_000
"""Bytes of an uploaded file."""
MAX_PROMPT = 300
"""Characters of a prompt: twice the longest training caption. One long prompt slows the whole batch it is in."""
MAX_SECONDS = 600
"""Seconds of a motion that is given or asked for, whatever the model could do."""
MAX_POSTPROCESSED_FRAMES = 20_000
"""Frames of one request that are finished, at the frame rate of the result: about a minute of work at worst."""
MAX_FPS = 240
"""Frames per second that can be asked for."""


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


class Postprocessed(NamedTuple):
    """A motion as it was wished, and its measures before and after; no measures where nothing was wished."""

    motion: Motion
    changes: Changes | None


def postprocessed(motion: Motion, wishes: Mapping[str, Any]) -> Postprocessed:
    """A motion finished with these arguments of `motion.postprocess.postprocess`; itself without any."""
    if not any(wishes.values()):
        return Postprocessed(motion, None)
    made = postprocess(motion, **wishes)
    return Postprocessed(made, changes([motion], [made]))


def check_frames(motions: Sequence[Motion], wishes: Mapping[str, Any]) -> None:
    """MotionGPT3Error if more than MAX_POSTPROCESSED_FRAMES frames would have to be finished."""
    frames = sum(round(motion.seconds * (wishes.get("fps") or motion.fps)) for motion in motions)
    if any(wishes.values()) and frames > MAX_POSTPROCESSED_FRAMES:
        raise MotionGPT3Error(
            f"at most {MAX_POSTPROCESSED_FRAMES} frames are finished at once, and these are {frames}: ask for less"
        )


class Postprocessor:
    """Finishes the motions of requests in threads of its own, so that neither the model nor other requests wait.

    When a request is cancelled, what it has not begun is dropped.

    Args:
        workers: most motions worked on at once.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="motiongpt3-finishing")

    async def run(self, motions: Sequence[Motion], wishes: Mapping[str, Any]) -> list[Postprocessed]:
        """The motions as they are wished, in their order.

        Raises:
            MotionGPT3Error: they have more than MAX_POSTPROCESSED_FRAMES frames, or one of them cannot be finished so.
        """
        check_frames(motions, wishes)
        run = asyncio.get_running_loop().run_in_executor
        return [await run(self._workers, postprocessed, motion, wishes) for motion in motions]
