"""A model that can do everything, quickly, and tells what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from motiongpt3 import HUMANML3D, Motion, MotionGPT3Error

FPS = 20.0
Windows = Callable[[Sequence[Any]], Iterator[Any]]


def standing(frames: int, x: float) -> Motion:
    """A person in the rest pose, recognised by where they stand."""
    pose = np.zeros((22, 3), np.float32)
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    return Motion(np.broadcast_to(pose + np.array([x, 1, 0]), (frames, 22, 3)), FPS)


class FakeModel:
    """A MotionGPT3 with all tasks. A person's place in x is the seed; "explode" breaks, "refuse" is refused.

    Attributes:
        calls: the words of each batch.
        drawn: task, guidance and steps of each call of a task that draws motions.
        seeds: of the motions that were drawn.
    """

    def __init__(self) -> None:
        self.config = SimpleNamespace(fps=FPS, max_seconds=10.0, guidance=2.0, steps=10)
        self.calls: list[list[str]] = []
        self.drawn: list[tuple[str, float, int]] = []
        self.seeds: list[int] = []
        self.free = threading.Event()
        self.free.set()

    def generate(
        self,
        prompt: Sequence[str],
        seconds: Sequence[float | None],
        seed: Sequence[int],
        guidance: float,
        steps: int,
    ) -> list[Motion]:
        self.drawn.append(("generate", guidance, steps))
        self.seeds.extend(seed)
        self._work(list(prompt))
        each = zip(prompt, seconds, seed, strict=True)
        return [standing(round((s or 1) * FPS), number).replace(caption=words) for words, s, number in each]

    def caption(
        self,
        motions: list[Motion],
        samples: int,
        beams: int,
        seed: int,
        candidates: int | None = None,
        progress: Windows = iter,
    ) -> list[str]:
        for _ in progress(range(round(motions[0].seconds / 10))) if motions[0].seconds > 10 else ():
            self._work(["a part"])
        self._work([f"{len(m)} frames" for m in motions])
        kept = f", of {candidates}" if candidates else ""
        return [f"{len(m)} frames, {seed + k}{kept}" for m in motions for k in range(samples)]

    def predict(
        self,
        motion: Motion,
        seconds: float,
        prompt: str | None = None,
        *,
        seed: int,
        guidance: float,
        steps: int,
        progress: Windows = iter,
    ) -> Motion:
        self.drawn.append(("predict", guidance, steps))
        self.seeds.append(seed)
        for _ in progress([1, 2, 3]):
            self._work([str(prompt)])
        return standing(len(motion) + round(seconds * FPS), seed).replace(caption=prompt)

    def inbetween(
        self,
        start: Motion,
        end: Motion,
        seconds: float,
        prompt: str | None = None,
        *,
        seed: int,
        guidance: float,
        steps: int,
        progress: Windows = iter,
    ) -> Motion:
        self.drawn.append(("inbetween", guidance, steps))
        self.seeds.append(seed)
        for _ in progress([1]):
            self._work([str(prompt)])
        return standing(len(start) + round(seconds * FPS) + len(end), seed)

    def compose(
        self,
        prompts: Sequence[str | tuple[str, float]],
        *,
        seed: int,
        guidance: float,
        steps: int,
        progress: Windows = iter,
    ) -> Motion:
        self.drawn.append(("compose", guidance, steps))
        self.seeds.append(seed)
        parts = [(part, 1.0) if isinstance(part, str) else part for part in prompts]
        for words, _ in progress(parts):
            self._work([words])
        return standing(round(sum(seconds for _, seconds in parts) * FPS), seed)

    def _work(self, words: list[str]) -> None:
        self.calls.append(words)
        assert self.free.wait(20)
        if any("explode" in w for w in words):
            raise RuntimeError("a bug in /home/someone/secret.py, version 1.2.3")
        if any("refuse" in w for w in words):
            raise MotionGPT3Error("the model does not like this")


class TextOnly:
    """A model that can only generate."""

    def __init__(self) -> None:
        self._model = FakeModel()
        self.config = self._model.config

    def generate(self, *arguments: Any, **options: Any) -> list[Motion]:
        return self._model.generate(*arguments, **options)
