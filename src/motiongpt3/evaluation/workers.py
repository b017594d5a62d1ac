"""Work over processes: each has the model and the evaluator, takes batches and gives back arrays."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from motiongpt3.errors import MotionGPT3Error

if TYPE_CHECKING:
    from motiongpt3.evaluation.evaluator import TextMotionEvaluator
    from motiongpt3.models.config import Profile
    from motiongpt3.models.motiongpt3 import MotionGPT3

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Recipe:
    """What every process loads.

    Attributes:
        model: a folder, a hub id, or None for the model of this package.
        evaluator: see `evaluators.open_evaluator`.
        words: word vectors for Guo et al.'s evaluator.
        packed: see `Protocol.packed`.
        profile, device: of the model.
    """

    model: str | None = None
    evaluator: str | None = None
    words: str | None = None
    packed: bool = True
    profile: Profile | None = None
    device: str = "cpu"


class Tools:
    """The model and the evaluator of a recipe, loaded when they are first used."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @cached_property
    def model(self) -> MotionGPT3:
        """The model, in eval mode."""
        from motiongpt3.models.motiongpt3 import MotionGPT3

        return MotionGPT3.from_pretrained(self.recipe.model, device=self.recipe.device, profile=self.recipe.profile)

    @cached_property
    def evaluator(self) -> TextMotionEvaluator:
        """The evaluator, in eval mode, on the model's device."""
        from motiongpt3.evaluation.evaluators import open_evaluator

        recipe = self.recipe
        return open_evaluator(recipe.evaluator, recipe.words, recipe.packed, recipe.device)


class Workers:
    """Runs jobs here, or in several processes; results come in the order of the jobs and do not depend on it.

    Use it as a context. The processes share this machine's cores evenly.

    Args:
        tools: a recipe, or the things themselves, which only one process can use.
        processes: how many.

    Raises:
        MotionGPT3Error: no process, or several without a recipe.
    """

    def __init__(self, tools: Recipe | Any, processes: int = 1) -> None:
        if processes < 1:
            raise MotionGPT3Error(f"there must be a process at least, not {processes}")
        if processes > 1 and not isinstance(tools, Recipe):
            raise MotionGPT3Error("several processes load the model themselves: give its folder")
        self.recipe = tools
        self.processes = processes
        self.tools: Any = Tools(tools) if isinstance(tools, Recipe) else tools
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.processes > 1:
            threads = max(1, torch.get_num_threads() // self.processes)
            self._pool = ProcessPoolExecutor(
                self.processes, multiprocessing.get_context("spawn"), _start, (self.recipe, threads)
            )
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
            self._pool = None

    def map(self, function: Callable[[Any, Argument], Result], jobs: Sequence[Argument]) -> Iterator[Result]:
        """function(tools, job) of each job. `function` is one of a module's, and its results are plain data.

        Raises:
            MotionGPT3Error: as `function` does, or a process died.
        """
        if self._pool is None:
            for job in jobs:
                yield function(self.tools, job)
            return
        waiting: list[Future[Result]] = [self._pool.submit(_run, function, job) for job in jobs]
        try:
            for future in waiting:
                yield future.result()
        except BrokenProcessPool:
            raise MotionGPT3Error("a process ended unexpectedly; is there memory for so many? Try fewer") from None
        finally:
            for future in waiting:
                future.cancel()


def batches(numbers: Sequence[int], size: int) -> list[list[int]]:
    """Consecutive parts of at most `size`."""
    return [list(numbers[at : at + size]) for at in range(0, len(numbers), size)]


def flat(parts: Iterable[Sequence[Result]]) -> list[Result]:
    """The elements of all parts."""
    return [one for part in parts for one in part]


_TOOLS: list[Tools] = []
"""Of a process that `Workers` started: its tools."""


def _start(recipe: Recipe, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the first process's to answer
    torch.set_num_threads(threads)
    _TOOLS[:] = [Tools(recipe)]


def _run(function: Callable[[Any, Any], Any], job: Any) -> Any:
    return function(_TOOLS[0], job)
