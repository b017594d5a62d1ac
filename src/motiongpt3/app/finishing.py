"""Finishing motions, for the service and the web app: bounded, and with what it changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from motiongpt3.app.limits import MAX_FINISHED
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.changes import Changes, changes
from motiongpt3.motion.finish import finish
from motiongpt3.motion.motion import Motion


class Finished(NamedTuple):
    """A motion as it was wished, and its measures before and after; no measures where nothing was wished."""

    motion: Motion
    changes: Changes | None


def finished(motion: Motion, wishes: Mapping[str, Any]) -> Finished:
    """A motion finished with these arguments of `motion.finish.finish`; itself without any."""
    if not any(wishes.values()):
        return Finished(motion, None)
    made = finish(motion, **wishes)
    return Finished(made, changes([motion], [made]))


def check_frames(motions: Sequence[Motion], wishes: Mapping[str, Any]) -> None:
    """MotionGPT3Error if more than MAX_FINISHED frames would have to be finished."""
    frames = sum(round(motion.seconds * (wishes.get("fps") or motion.fps)) for motion in motions)
    if any(wishes.values()) and frames > MAX_FINISHED:
        raise MotionGPT3Error(
            f"at most {MAX_FINISHED} frames are finished at once, and these are {frames}: ask for less"
        )


class Finisher:
    """Finishes the motions of requests in threads of its own, so that neither the model nor other requests wait.

    When a request is cancelled, what it has not begun is dropped.

    Args:
        workers: most motions worked on at once.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="motiongpt3-finishing")

    async def finished(self, motions: Sequence[Motion], wishes: Mapping[str, Any]) -> list[Finished]:
        """The motions as they are wished, in their order.

        Raises:
            MotionGPT3Error: they have more than MAX_FINISHED frames, or one of them cannot be finished so.
        """
        check_frames(motions, wishes)
        run = asyncio.get_running_loop().run_in_executor
        return [await run(self._workers, finished, motion, wishes) for motion in motions]
