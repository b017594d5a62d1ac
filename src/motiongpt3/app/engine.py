"""The tasks of a model as jobs: what the service and the web app ask for, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple, Protocol

from motiongpt3.app.queue import BatchQueue, Job, Progress
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.request import check_drawing, check_request, check_seed
from motiongpt3.motion.motion import Motion

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
        seed: int | Sequence[int] = 0,
        guidance: float | None = None,
        steps: int | None = None,
        on_progress: Progress | None = None,
    ) -> Job[Motion]:
        """As `MotionGPT3.generate`: the motions prompt by prompt, sample k with seed + k.

        Raises:
            MotionGPT3Error: what `MotionGPT3.generate` refuses.
            Busy: there are too many jobs.
            Closed: the engine is closed.
        """
        asked = check_request(self.model.config, prompts, seconds, samples, seed, guidance, steps)
        lengths = list(seconds) if isinstance(seconds, Sequence) else [seconds] * len(prompts)
        each = zip(prompts, lengths, asked.seeds, strict=True)
        wishes = [_Wish(prompt, length, first + k) for prompt, length, first in each for k in range(asked.samples)]

        def draw(wishes: Sequence[_Wish]) -> list[Motion]:
            words, lengths, seeds = (list(column) for column in zip(*wishes, strict=True))
            motions: list[Motion] = self.model.generate(
                words, seconds=lengths, seed=seeds, guidance=asked.guidance, steps=asked.steps
            )
            return motions

        return self.queue.submit(wishes, draw, ("generate", asked.guidance, asked.steps), on_progress)

    def caption(
        self,
        motions: Sequence[Motion],
        samples: int = 1,
        beams: int = 1,
        seed: int = 0,
        candidates: int | None = None,
        on_progress: Progress | None = None,
    ) -> Job[list[str]]:
        """The captions of each motion; raises as `generate` does, and MotionGPT3Error without such a task."""
        task = self._task("caption")

        def describe(motions: Sequence[Motion]) -> list[list[str]]:
            flat = task(list(motions), samples=samples, beams=beams, seed=seed, candidates=candidates)
            return [list(flat[i : i + samples]) for i in range(0, len(flat), samples)]

        return self.queue.submit(motions, describe, ("caption", samples, beams, seed, candidates), on_progress)

    def predict(
        self,
        motion: Motion,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        on_progress: Progress | None = None,
    ) -> Job[Motion]:
        """A motion and how it goes on, as a list of one; raises as `caption` does."""
        drawing = self._drawing(seed, guidance, steps)
        return self._one("predict", on_progress, motion, seconds, prompt=prompt, **drawing)

    def inbetween(
        self,
        start: Motion,
        end: Motion,
        seconds: float,
        prompt: str | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        on_progress: Progress | None = None,
    ) -> Job[Motion]:
        """`start`, what leads to `end`, and `end`, as a list of one; raises as `caption` does."""
        drawing = self._drawing(seed, guidance, steps)
        return self._one("inbetween", on_progress, start, end, seconds, prompt=prompt, **drawing)

    def compose(
        self,
        parts: Parts,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        on_progress: Progress | None = None,
    ) -> Job[Motion]:
        """One motion that does one (prompt, seconds) after the other, as a list of one; raises as `caption` does."""
        given = [prompt if seconds is None else (prompt, seconds) for prompt, seconds in parts]
        return self._one("compose", on_progress, given, **self._drawing(seed, guidance, steps))

    def _drawing(self, seed: int, guidance: float | None, steps: int | None) -> dict[str, Any]:
        """How a task is to draw, checked; the model's own settings for None."""
        guidance, steps = check_drawing(self.model.config, guidance, steps)
        return {"seed": check_seed(seed), "guidance": guidance, "steps": steps}

    def _one(self, name: str, on_progress: Progress | None, *arguments: Any, **options: Any) -> Job[Motion]:
        """A task that draws one window after the other; between two of them it tells how far it is, or stops."""
        task = self._task(name)
        jobs: list[Job[Motion]] = []

        def watch(windows: Sequence[Any]) -> Iterator[Any]:
            for number, window in enumerate(windows):
                if jobs and jobs[0].cancelled():
                    raise CancelledError
                if on_progress is not None:
                    on_progress(number, len(windows))
                yield window

        job = self.queue.submit([None], lambda _: [task(*arguments, **options, progress=watch)], None, on_progress)
        jobs.append(job)
        return job

    def _task(self, name: str) -> Callable[..., Any]:
        if name not in self.tasks:
            raise MotionGPT3Error(f"this model cannot {name}")
        task: Callable[..., Any] = getattr(self.model, name)
        return task
