"""Finishing the motions of requests: beside the model, a few at a time, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from motiongpt3.app.limits import MAX_FINISHED
from motiongpt3.app.schemas import Finish
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.finish import finish
from motiongpt3.motion.motion import Motion


class Finisher:
    """Finishes motions in threads of its own, so that neither the model nor other requests wait for it.

    When a request is cancelled, what it has not begun is dropped.

    Args:
        workers: most motions worked on at once.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="motiongpt3-finishing")

    async def finished(self, motions: Sequence[Motion], wishes: Finish | None) -> list[Motion]:
        """The motions as they are wished, in their order.

        Raises:
            MotionGPT3Error: they have more than MAX_FINISHED frames, or one of them cannot be finished so.
        """
        if wishes is None or wishes == Finish():
            return list(motions)
        frames = sum(round(motion.seconds * (wishes.fps or motion.fps)) for motion in motions)
        if frames > MAX_FINISHED:
            raise MotionGPT3Error(
                f"finishing takes at most {MAX_FINISHED} frames of one request, and these are {frames}: ask for less"
            )
        run = asyncio.get_running_loop().run_in_executor
        return [await run(self._workers, partial(finish, motion, **wishes.model_dump())) for motion in motions]
