"""The tasks of a model as jobs: what the service and the web app ask for, one batch at a time.

`BatchQueue` is a bounded queue in front of something that works best on several things at once; `Engine` puts a model
behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, Unpack

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.request import DrawKeywords, DrawOptions, check_draw, check_generate, check_seed
from motiongpt3.models.request import Progress as Watch
from motiongpt3.motion.motion import Motion

logger = logging.getLogger(__name__)

R = TypeVar("R")
Work = Callable[[Sequence[Any]], Sequence[R]]
"""What is done with items: a result for each."""
Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all items, in the queue's thread."""


class Busy(Exception):
    """The queue is full; `retry_after` says in about how many seconds it will have room."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too much is waiting already")
        self.retry_after = retry_after


class Closed(Exception):
    """The queue takes nothing more."""


class Job(Future[list[R]], Generic[R]):
    """Items of one caller on their way through a queue; a Future of their results, in the order of the items.

    `cancel()` takes out what still waits and forgets what runs; it is too late only when all is done.

    Attributes:
        total: number of items.
        finished: number of items that are done, for a progress bar.
    """

    def __init__(self, items: Sequence[Any], work: Work[R], key: Hashable | None, on_progress: Progress | None) -> None:
        super().__init__()
        self.total = len(items)
        self.finished = 0
        self._items = items
        self._work = work
        self._key = key
        self._results: list[R | None] = [None] * len(items)
        self._on_progress = on_progress

    def _store(self, numbers: Sequence[int], results: Sequence[R]) -> None:
        for number, result in zip(numbers, results, strict=True):
            self._results[number] = result
        self.finished += len(numbers)
        if self._on_progress is not None and not self.cancelled():
            try:
                self._on_progress(self.finished, self.total)
            except Exception:  # a broken display is no reason to lose a result
                logger.exception("a progress callback failed")
        if self.finished == self.total and self.set_running_or_notify_cancel():
            self.set_result(self._results)  # type: ignore[arg-type]

    def _fail(self, error: BaseException) -> None:
        if not self.done() and self.set_running_or_notify_cancel():
            self.set_exception(error)


@dataclass(frozen=True)
class _Waiting:
    """An item of a job, and when it came."""

    job: Job[Any]
    number: int
    since: float


class BatchQueue:
    """One thread that works through jobs, oldest first, and joins items of different jobs with equal keys.

    A batch starts when `batch` items are there or the oldest has waited for `wait` seconds, so whatever arrives while
    a batch runs is taken together by the next one. Where a joint batch fails, its jobs are run one by one, so that a
    job never fails because of another.

    Args:
        batch: most items worked on at once.
        wait: seconds that an item waits for company.
        limit: most items that wait.

    Attributes:
        observe: called after each batch with its number of items and its seconds, in the queue's thread.
    """

    def __init__(self, batch: int = 8, wait: float = 0.01, limit: int = 256) -> None:
        self.batch, self.wait, self.limit = batch, wait, limit
        self.observe: Callable[[int, float], None] = lambda items, seconds: None
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_per_item = 0.1  # a guess until the first batch
        self._thread = threading.Thread(target=self._run, name="motiongpt3-queue", daemon=True)
        self._thread.start()

    def submit(
        self,
        items: Sequence[Any],
        work: Work[R],
        key: Hashable | None = None,
        on_progress: Progress | None = None,
    ) -> Job[R]:
        """Queue items.

        Args:
            items: at least one, and at most `limit`.
            work: called in the queue's thread with some items; returns a result for each.
            key: items of jobs with equal keys may be given to one of their `work`s together; None: one by one.
            on_progress: called after each batch.

        Raises:
            Busy: there is no room for all of them now.
            Closed: the queue is closed.
        """
        job: Job[R] = Job(items, work, key, on_progress)
        now = time.monotonic()
        with self._changed:
            if self._closed:
                raise Closed("the queue is closed")
            self._forget_cancelled()
            if len(self._waiting) + len(items) > self.limit:
                raise Busy(max(len(self._waiting), 1) * self._seconds_per_item)
            self._waiting.extend(_Waiting(job, number, now) for number in range(len(items)))
            self._changed.notify()
        return job

    @property
    def length(self) -> int:
        """Number of items that wait."""
        with self._changed:
            self._forget_cancelled()
            return len(self._waiting)

    @property
    def open(self) -> bool:
        """Whether jobs are taken and worked on."""
        return not self._closed and self._thread.is_alive()

    def close(self, finish: bool = True) -> None:
        """Take nothing more, and return when the thread has ended.

        Args:
            finish: work through what waits; otherwise only what runs is finished, and the rest is cancelled.
        """
        with self._changed:
            self._closed = True
            if not finish:
                for waiting in self._waiting:
                    waiting.job.cancel()
            self._changed.notify()
        self._thread.join()

    def _forget_cancelled(self) -> None:
        if any(waiting.job.done() for waiting in self._waiting):
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.job.done())

    def _run(self) -> None:
        while batch := self._take():
            start = time.monotonic()
            jobs = list(dict.fromkeys(waiting.job for waiting in batch))
            try:
                self._work(batch)
            except Exception as error:  # whatever it is, it is the job's and not the queue's
                if len(jobs) == 1:
                    jobs[0]._fail(error)
                else:
                    self._one_by_one(batch, jobs)
            seconds = time.monotonic() - start
            self._seconds_per_item += 0.2 * (seconds / len(batch) - self._seconds_per_item)
            self.observe(len(batch), seconds)

    def _one_by_one(self, batch: list[_Waiting], jobs: list[Job[Any]]) -> None:
        for job in jobs:
            try:
                self._work([waiting for waiting in batch if waiting.job is job])
            except Exception as error:  # see above
                job._fail(error)

    def _work(self, batch: list[_Waiting]) -> None:
        results = batch[0].job._work([waiting.job._items[waiting.number] for waiting in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"{len(batch)} items gave {len(results)} results")
        by_job: dict[Job[Any], tuple[list[int], list[Any]]] = {}
        for waiting, result in zip(batch, results, strict=True):
            numbers, own = by_job.setdefault(waiting.job, ([], []))
            numbers.append(waiting.number)
            own.append(result)
        for job, (numbers, own) in by_job.items():
            job._store(numbers, own)

    def _take(self) -> list[_Waiting]:
        """The next batch, once it is due; empty when the queue is closed and nothing waits."""
        with self._changed:
            while True:
                self._forget_cancelled()
                if not self._waiting:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                first = self._waiting[0]
                key = first.job._key
                batch = [w for w in self._waiting if w.job._key == key][: self.batch if key is not None else 1]
                left = first.since + self.wait - time.monotonic()
                if key is None or len(batch) == self.batch or left <= 0 or self._closed:
                    taken = set(map(id, batch))
                    self._waiting = deque(waiting for waiting in self._waiting if id(waiting) not in taken)
                    return batch
                self._changed.wait(left)


TASKS = ("generate", "caption", "predict", "inbetween", "compose")
"""What a model may be able to do: the names of its methods."""

Parts = Sequence[tuple[str, float | None]]


class Model(Protocol):
    """What the engine needs of a `MotionGPT3`: `generate` and whichever other of the `TASKS` it has."""

    @property
    def config(self) -> Any: ...

    @property
    def generate(self) -> Callable[..., Any]: ...


class _Wish(NamedTuple):
    """One motion to generate."""

    prompt: str
    seconds: float | None
    seed: int


class Engine:
    """A model behind a queue. Every task returns at once, with a `Job` to wait for, to watch or to cancel.

    Requests are checked before they are queued. Prompts of different jobs with the same guidance and steps are drawn
    together; a motion is the same, to rounding errors of float32, whatever it is drawn with.

    ```python
    engine = Engine(MotionGPT3.from_pretrained())
    job = engine.generate(["a person walks", "a person jumps"], on_progress=lambda done, total: print(done, total))
    walk, jump = job.result(timeout=60)
    engine.close()
    ```

    Args:
        model: it is called from the queue's thread alone.
        queue: None makes one with its own defaults. `close` closes it.
    """

    def __init__(self, model: Model, queue: BatchQueue | None = None) -> None:
        self.model = model
        self.queue = queue if queue is not None else BatchQueue()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those of `TASKS` that the model has a method for and, where it has an attribute `tasks`, that stand there."""
        known = getattr(self.model, "tasks", TASKS)
        return tuple(name for name in TASKS if name in known and callable(getattr(self.model, name, None)))

    def close(self, finish: bool = True) -> None:
        """Take no more jobs, finish what runs and, unless told otherwise, what waits."""
        self.queue.close(finish)

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float | Sequence[float | None] | None = None,
        samples: int = 1,
        on_progress: Progress | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Job[Motion]:
        """As `MotionGPT3.generate`: the motions prompt by prompt, sample k with seed + k.

        Raises:
            MotionGPT3Error: what `MotionGPT3.generate` refuses.
            Busy: there are too many jobs.
            Closed: the engine is closed.
        """
        requests, options = check_generate(self.model.config, prompts, seconds, samples, DrawOptions(**draw))
        lengths = list(seconds) if isinstance(seconds, Sequence) else [seconds] * len(prompts)
        wishes = [_Wish(request.prompt, lengths[n // samples], request.seed) for n, request in enumerate(requests)]

        def work(wishes: Sequence[_Wish]) -> list[Motion]:
            words, lengths, seeds = (list(column) for column in zip(*wishes, strict=True))
            motions: list[Motion] = self.model.generate(
                words, seconds=lengths, seed=seeds, guidance=options.guidance, steps=options.steps
            )
            return motions

        return self.queue.submit(wishes, work, ("generate", options.guidance, options.steps), on_progress)

    def caption(
        self,
        motions: Sequence[Motion],
        samples: int = 1,
        beams: int = 1,
        seed: int = 0,
        candidates: int | None = None,
        on_progress: Progress | None = None,
    ) -> Job[list[str]]:
        """The captions of each motion; raises as `generate` does, and MotionGPT3Error without such a task.

        Motions longer than the model reads at once are described part by part: one by one, and stopped between two
        parts when the job is cancelled.
        """
        task = self._task("caption")

        def describe(motions: Sequence[Motion], **progress: Any) -> list[list[str]]:
            flat = task(list(motions), samples=samples, beams=beams, seed=seed, candidates=candidates, **progress)
            return [list(flat[i : i + samples]) for i in range(0, len(flat), samples)]

        if any(motion.seconds > self.model.config.max_seconds for motion in motions):
            return self._watched(motions, lambda watch: partial(describe, progress=watch), on_progress)
        return self.queue.submit(motions, describe, ("caption", samples, beams, seed, candidates), on_progress)

    def predict(
        self,
        motion: Motion,
        seconds: float,
        prompt: str | None = None,
        on_progress: Progress | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Job[Motion]:
        """A motion and how it goes on, as a list of one; raises as `caption` does."""
        return self._one("predict", on_progress, DrawOptions(**draw), motion, seconds, prompt=prompt)

    def inbetween(
        self,
        start: Motion,
        end: Motion,
        seconds: float,
        prompt: str | None = None,
        on_progress: Progress | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Job[Motion]:
        """`start`, what leads to `end`, and `end`, as a list of one; raises as `caption` does."""
        return self._one("inbetween", on_progress, DrawOptions(**draw), start, end, seconds, prompt=prompt)

    def compose(
        self,
        parts: Parts,
        on_progress: Progress | None = None,
        **draw: Unpack[DrawKeywords],
    ) -> Job[Motion]:
        """One motion that does one (prompt, seconds) after the other, as a list of one; raises as `caption` does."""
        given = [prompt if seconds is None else (prompt, seconds) for prompt, seconds in parts]
        return self._one("compose", on_progress, DrawOptions(**draw), given)

    def _one(
        self, name: str, on_progress: Progress | None, draw: DrawOptions, *arguments: Any, **options: Any
    ) -> Job[Motion]:
        """A task that draws one window after the other; between two of them it tells how far it is, or stops."""
        draw = check_draw(self.model.config, draw)
        check_seed(draw.seed)
        task = self._task(name)

        def work(watch: Watch) -> Work[Motion]:
            return lambda _: [task(*arguments, **options, **vars(replace(draw, progress=watch)))]

        return self._watched([None], work, on_progress)

    def _watched(self, items: Sequence[Any], work: Callable[[Watch], Work[R]], on_progress: Progress | None) -> Job[R]:
        """Queue items whose work goes through a list: between two parts of it, it tells how far it is, or stops."""
        jobs: list[Job[R]] = []

        def watch(parts: Sequence[Any]) -> Iterator[Any]:
            for number, part in enumerate(parts):
                if jobs and jobs[0].cancelled():
                    raise CancelledError
                if on_progress is not None and len(items) == 1:
                    on_progress(number, len(parts))
                yield part

        jobs.append(self.queue.submit(items, work(watch), None, on_progress))
        return jobs[0]

    def _task(self, name: str) -> Callable[..., Any]:
        if name not in self.tasks:
            raise MotionGPT3Error(f"this model cannot {name}")
        task: Callable[..., Any] = getattr(self.model, name)
        return task
