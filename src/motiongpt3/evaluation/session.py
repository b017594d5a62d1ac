"""What the tasks of the evaluation share: clips, workers, seeds, and the vectors of recordings and captions."""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from motiongpt3.data.clips import PackedClips
from motiongpt3.data.labels import base_action
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import FPS
from motiongpt3.evaluation.metrics import FID, RPrecision
from motiongpt3.evaluation.metrics.language import WordEncoder
from motiongpt3.evaluation.protocols import Item, Protocol, Take, TaskName, labels_of, plan
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.request import DrawOptions, MotionRequest, check_draw
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import measure
from motiongpt3.motion.skeleton import Float32

if TYPE_CHECKING:
    from motiongpt3.evaluation.tmr import TextMotionEvaluator
    from motiongpt3.models.config import Profile
    from motiongpt3.models.motiongpt3 import MotionGPT3


# Work over processes: each has the model and the evaluator, takes batches and gives back arrays.

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
        from motiongpt3.evaluation.open_evaluator import open_evaluator

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


# What is kept of a motion, recorded or generated: its vector and its physical measures.

QUALITY = ("skate_ratio", "skate_speed", "penetration_mean", "floating", "jitter")
"""Physical measures of `motion.quality.Quality` that protocols report."""


@dataclass(frozen=True)
class Measured:
    """N motions, in order; NaN throughout a row where a motion is not finite.

    Attributes:
        vectors: (N, D) of the evaluator.
        quality: (N, 5) of QUALITY.
    """

    vectors: Float32
    quality: NDArray[np.float64]

    @property
    def whole(self) -> list[bool]:
        """Which motions are finite."""
        return [bool(np.isfinite(row).all()) for row in self.vectors]

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """All of several."""
        vectors = np.concatenate([part.vectors for part in parts])
        return cls(vectors, np.concatenate([part.quality for part in parts]))


@dataclass(frozen=True)
class Wish:
    """A batch of motions that are asked for: a prompt and a duration in frames each."""

    prompts: tuple[str, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A batch of motions to draw, with a seed each; what the model conceived of the wish, if that is known."""

    wish: Wish
    seeds: tuple[int, ...]
    hidden: Float32 | None = None
    guidance: float | None = None
    steps: int | None = None


def draw(tools: Any, drawing: Drawing) -> tuple[Measured, Float32]:
    """Draw a batch of motions and measure them; also hidden states (B, K, width), the same for every seed."""
    model, wish = tools.model, drawing.wish
    options = check_draw(model.config, DrawOptions(guidance=drawing.guidance, steps=drawing.steps))
    if drawing.hidden is None:
        each = zip(wish.prompts, wish.frames, strict=True)
        hidden, _ = model.encode_prompts(
            [MotionRequest(prompt, clean_prompt(prompt), frames, 0) for prompt, frames in each]
        )
    else:
        hidden = torch.from_numpy(drawing.hidden).to(model.queries.device)
    clips = model.draw_joints(hidden, wish.frames, drawing.seeds, options)
    return measured(tools, clips), hidden.cpu().numpy()


def measured(tools: Any, clips: Sequence[Float32]) -> Measured:
    """Measure motions, each (T, 22, 3) joints at 20 fps, embedded as one batch."""
    motions = [Motion(joints, FPS) if sound(joints) else None for joints in clips]
    whole = [motion for motion in motions if motion is not None]
    vectors = np.full((len(clips), tools.evaluator.channels), np.nan, np.float32)
    quality = np.full((len(clips), len(QUALITY)), np.nan)
    at = [number for number, motion in enumerate(motions) if motion is not None]
    if whole:
        vectors[at] = tools.evaluator.embed_motions(whole).cpu().numpy()
        quality[at] = [[getattr(measures, name) for name in QUALITY] for measures in map(measure, whole)]
    return Measured(vectors, quality)


def sound(joints: Float32) -> bool:
    """Whether joints are a motion: finite, and within 100 km."""
    return bool(np.isfinite(joints).all() and np.abs(joints).max() <= 1e5)


def embed_texts(tools: Any, texts: Sequence[str]) -> Float32:
    """(N, D) vectors of captions."""
    vectors: Float32 = tools.evaluator.embed_texts(list(texts)).float().cpu().numpy()
    return vectors


def evaluator_facts(tools: Any, _: None = None) -> dict[str, Any]:
    """What a report says about the evaluator."""
    evaluator = tools.evaluator
    return {"name": evaluator.name, "sha256": evaluator.sha256, "channels": evaluator.channels}


CLIPS_PER_BATCH = 32
"""Motions that are drawn, and embedded, together."""
RETRIEVAL = ("r_precision_1", "r_precision_2", "r_precision_3", "mm_dist")
MAX_HIDDEN_BYTES = 1 << 28
"""Bytes of hidden states that are remembered."""


@dataclass
class Outcome:
    """What one repeat measured.

    Attributes:
        generated: metric -> value; NaN where it is undefined.
        real: the same of recordings in place of what the model made.
        excluded: names of the clips whose prediction is not finite.
        classes: class -> [right, of, right of recordings]: texts whose motion is among the first three.
        confusion: (class, taken for) -> how often.
        columns: name -> a number for each clip of the population, for plots.
        joints: joint -> its error in metres, where there is one.
        texts: what was written about each clip.
    """

    generated: dict[str, float]
    real: dict[str, float] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    classes: dict[str, list[int]] = field(default_factory=dict)
    confusion: list[tuple[str, str, int]] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)
    joints: dict[str, float] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON: what is not finite is null."""
        return {
            "generated": {name: _null(value) for name, value in self.generated.items()},
            "real": {name: _null(value) for name, value in self.real.items()},
            "excluded": self.excluded,
            "classes": self.classes,
            "confusion": self.confusion,
            "columns": {name: [_null(round(v, 6)) for v in values] for name, values in self.columns.items()},
            "joints": self.joints,
            "texts": self.texts,
        }


class Session:
    """An evaluation under way.

    Args:
        task: what.
        protocol: how.
        pack: the data set.
        items: the population, from short to long.
        workers: who computes.
        seed: of everything that is drawn.
        guidance, steps: as in `MotionGPT3.generate`.
        tick: told how many motions or captions were made.
        words: what BERTScore is computed with; None: it is not.
    """

    def __init__(
        self,
        task: TaskName,
        protocol: Protocol,
        pack: PackedClips,
        items: Sequence[Item],
        workers: Workers,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        tick: Callable[[int], object] = lambda made: None,
        words: WordEncoder | None = None,
    ) -> None:
        self.task, self.protocol = task, protocol
        self.pack, self.items, self.workers = pack, list(items), workers
        self.seed, self.guidance, self.steps, self.tick, self.words = seed, guidance, steps, tick, words
        self.names = [item.name for item in self.items]
        self.classes = [base_action(item.label) for item in self.items]
        self.captions: dict[tuple[int, int, int], str] = {}
        self.scores: dict[tuple[str, ...], dict[str, float]] = {}
        self._texts: dict[str, Float32] = {}
        self._conceived: dict[Wish, Float32] = {}
        self._real: tuple[tuple[tuple[int, int, int], ...], Measured] | None = None

    def plan(self, repeat: int) -> list[Take]:
        """How a repeat takes the clips."""
        return plan(self.protocol, self.items, repeat, self.seed)

    def draws(self, repeat: int, stream: int = 0) -> int:
        """The first of a million seeds that belong to one repeat and stream alone."""
        return ((self.seed * 10_000 + repeat) * 10 + stream) * 1_000_000

    def recorded(self, take: Take) -> NDArray[np.float32]:
        """(T, 22, 3) joints of a take."""
        return self.pack.clip_joints(take.item.row)[take.start : take.start + take.frames]

    def real(self, takes: Sequence[Take]) -> Measured:
        """The takes' recordings; embedded again only if they are others than before."""
        key = tuple((take.item.row, take.start, take.frames) for take in takes)
        if self._real is None or self._real[0] != key:
            jobs = [[np.array(self.recorded(takes[n])) for n in part] for part in self.parts()]
            self._real = key, Measured.joined(list(self.workers.map(measured, jobs)))
        return self._real[1]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) vectors of captions, each embedded once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        jobs = [[new[n] for n in part] for part in batches(range(len(new)), 8 * CLIPS_PER_BATCH)]
        for job, vectors in zip(jobs, self.workers.map(embed_texts, jobs), strict=True):
            self._texts.update(zip(job, vectors, strict=True))
        return torch.from_numpy(np.stack([self._texts[text] for text in texts]))

    def conceived(self, wish: Wish) -> Float32 | None:
        """What the model conceived of a batch, if it is remembered.

        Batches are known as a whole, so that they are the same to the last bit whichever repeats ran before.
        """
        return self._conceived.get(wish)

    def remember(self, wish: Wish, hidden: Float32) -> None:
        """Keep what was conceived while there is room."""
        if sum(array.nbytes for array in self._conceived.values()) + hidden.nbytes <= MAX_HIDDEN_BYTES:
            self._conceived[wish] = hidden

    def parts(self) -> list[list[int]]:
        """Numbers of the clips, in batches of like length."""
        return batches(range(len(self.items)), CLIPS_PER_BATCH)


def quality_means(quality: NDArray[np.float64]) -> dict[str, float]:
    """(N, 5) of QUALITY -> the mean of each over motions that are finite."""
    usable = quality[np.isfinite(quality).all(axis=1)]
    means = usable.mean(axis=0) if len(usable) else np.full(len(QUALITY), np.nan)
    return dict(zip(QUALITY, means.tolist(), strict=True))


def fids(session: Session, repeat: int, made: Float32, real: Float32, floor: bool = False) -> dict[str, float]:
    """FID of all, and of one half of the clips beside the recordings of the other half, drawn anew in each repeat.

    `floor`: `made` are the recordings themselves; beside all of them their FID is 0 and says nothing.
    """
    everything = np.arange(len(made))
    order = np.random.RandomState(session.seed + repeat).permutation(len(made))
    mine, theirs = (np.sort(part) for part in np.array_split(order, 2))
    whole = float("nan") if floor else _fid(session, made, real, everything, everything)
    return {"fid": whole, "fid_halves": _fid(session, made, real, mine, theirs)}


def _fid(session: Session, made: Float32, real: Float32, mine: NDArray[np.intp], theirs: NDArray[np.intp]) -> float:
    metric = FID(names=session.names)
    metric.update(torch.from_numpy(made[mine]), mine.tolist())
    metric.update(torch.from_numpy(real[theirs]), theirs.tolist(), real=True)
    return float(metric.compute()["fid"])


def numbers(scores: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, float]:
    """Some of a metric's results as numbers."""
    return {name: float(scores[name]) for name in names}


def retrieval(
    session: Session, number: int, text: Tensor, vectors: Float32
) -> tuple[dict[str, float], tuple[Tensor, Tensor]]:
    """R-precision and MM-Dist of captions and motions, and the rank of each ranked sample.

    The groups are those of the repeat, whoever made the captions or the motions.
    """
    metric = RPrecision(session.protocol.group, seed=session.seed + number, names=session.names)
    if text.isfinite().all():  # else there are no vectors of captions, and a warning has said so
        metric.update(text, torch.from_numpy(vectors), range(len(text)), labels_of(session.protocol, session.items))
        return numbers(metric.compute(), RETRIEVAL), metric.ranked
    return dict.fromkeys(RETRIEVAL, float("nan")), metric.ranked


def per_class(
    classes: Sequence[str], ranked: tuple[Tensor, Tensor], floor: tuple[Tensor, Tensor]
) -> dict[str, list[int]]:
    """Class -> [right, of, right of recordings] of the texts whose own motion is among the first three.

    Args:
        classes: of each clip of the population.
        ranked: places and ranks of `RPrecision.ranked`.
        floor: the same of recordings.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for place, rank in zip(*(one.tolist() for one in ranked), strict=True):
        counts[classes[place]][0] += rank < 3
        counts[classes[place]][1] += 1
    for place, rank in zip(*(one.tolist() for one in floor), strict=True):
        counts[classes[place]][2] += rank < 3
    return dict(sorted(counts.items()))


def nearest_classes(classes: Sequence[str], generated: Tensor, real: Tensor) -> list[tuple[str, str, int]]:
    """(class, class of the nearest recording, how often) of generated motions; their own clips do not count."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    usable = generated.isfinite().all(dim=1).nonzero().flatten()
    if len(real) < 2:
        return []
    distance = torch.cdist(generated[usable].double(), real.double())
    distance[torch.arange(len(usable)), usable] = torch.inf
    for place, nearest in zip(usable.tolist(), distance.argmin(dim=1).tolist(), strict=True):
        counts[classes[place], classes[nearest]] += 1
    return [(one, other, count) for (one, other), count in sorted(counts.items())]


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None
