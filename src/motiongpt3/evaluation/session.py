"""An evaluation under way: what is evaluated, who computes, and what every task needs of recordings and captions.

`EvaluationRequest` says what is asked, `PreparedEvaluation` holds the inputs once they were checked. `Workers` run
functions on jobs, here or in several processes; each process has the `Tools`, the model and the evaluator, and gives
back arrays. The `Session` remembers what several repeats share. The functions at the end make numbers of vectors.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
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
from motiongpt3.evaluation.protocols import PROTOCOLS, EvaluationProtocol, Item, Take, TaskName, labels_of, plan
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.request import DrawOptions, MotionRequest, check_draw
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import measure
from motiongpt3.motion.skeleton import Float32

if TYPE_CHECKING:
    from motiongpt3.evaluation.tmr import TextMotionEvaluator
    from motiongpt3.models.config import Profile
    from motiongpt3.models.motiongpt3 import MotionGPT3

Argument = TypeVar("Argument")
Result = TypeVar("Result")

QUALITY = ("skate_ratio", "skate_speed", "penetration_mean", "floating", "jitter")
"""Physical measures of `motion.quality.Quality` that protocols report."""
CLIPS_PER_BATCH = 32
"""Motions that are drawn, and embedded, together: as many as a group of R-precision has."""
MAX_HIDDEN_BYTES = 1 << 28
"""Bytes of hidden states that are remembered: 256 MiB, a fraction of what a process takes with its model."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated, and how."""

    task: TaskName
    data: str
    protocol: str = "mocap"
    model: str | None = None
    """A folder, a hub id, or None for the model of this package."""
    evaluator: str | None = None
    """See `open_evaluator`."""
    words: str | None = None
    """Word vectors for Guo et al.'s evaluator."""
    profile: Profile | None = None
    device: str = "cpu"
    """Profile and device of the model."""
    split: str = "test"
    repeats: int | None = None
    """None: as many as the protocol says."""
    limit: int | None = None
    """Only so many clips, drawn with seed 0: for a look, not under the protocol."""
    seed: int = 0
    """Of everything that is drawn."""
    guidance: float | None = None
    steps: int | None = None
    """As in `MotionGPT3.generate`, of everything that is drawn; each motion has a seed of its own."""
    processes: int = 1
    bertscore: str | None = None
    """Model of BERTScore, see `metrics.language.WordEncoder`; None: it is not computed."""


@dataclass(frozen=True)
class PreparedEvaluation:
    """A request whose inputs are there and fit one another; `items` is the population, from short to long."""

    request: EvaluationRequest
    protocol: EvaluationProtocol
    pack: PackedClips
    items: list[Item]
    repeats: int
    word_encoder: WordEncoder | None = None


class Tools:
    """The model and the evaluator that a request names, loaded when they are first used."""

    def __init__(self, request: EvaluationRequest) -> None:
        self.request = request

    @cached_property
    def model(self) -> MotionGPT3:
        """The model, in eval mode."""
        from motiongpt3.models.motiongpt3 import MotionGPT3

        request = self.request
        return MotionGPT3.from_pretrained(request.model, device=request.device, profile=request.profile)

    @cached_property
    def evaluator(self) -> TextMotionEvaluator:
        """The evaluator, in eval mode, on the model's device."""
        from motiongpt3.evaluation.open_evaluator import open_evaluator

        request = self.request
        return open_evaluator(request.evaluator, request.words, PROTOCOLS[request.protocol].packed, request.device)


class Workers:
    """Runs jobs here, or in several processes; results come in the order of the jobs and do not depend on it.

    Use it as a context. The processes share this machine's cores evenly.

    Args:
        request: says what to load, and in how many processes.
        tools: a thing with `model` and `evaluator` instead of what the request names; one process only.

    Raises:
        MotionGPT3Error: no process, or several with tools that are given.
    """

    def __init__(self, request: EvaluationRequest, tools: Any = None) -> None:
        processes = request.processes
        if processes < 1:
            raise MotionGPT3Error(f"there must be a process at least, not {processes}")
        if processes > 1 and tools is not None:
            raise MotionGPT3Error("several processes load the model themselves: give its folder")
        self.tools = Tools(request) if tools is None else tools
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            threads = max(1, torch.get_num_threads() // processes)
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, spawn, _start_process, (request, threads))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def map(self, function: Callable[[Any, Argument], Result], jobs: Sequence[Argument]) -> Iterator[Result]:
        """function(tools, job) of each job. `function` is one of a module's, and its results are plain data.

        Raises:
            MotionGPT3Error: as `function` does, or a process died.
        """
        if self._pool is None:
            for job in jobs:
                yield function(self.tools, job)
            return
        try:
            yield from self._pool.map(partial(_run_in_process, function), jobs)
        except BrokenProcessPool:
            raise MotionGPT3Error("a process ended unexpectedly; is there memory for so many? Try fewer") from None


_TOOLS: list[Tools] = []
"""Of a process that `Workers` started: its tools."""


def _start_process(request: EvaluationRequest, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the first process's to answer
    torch.set_num_threads(threads)
    _TOOLS[:] = [Tools(request)]


def _run_in_process(function: Callable[[Any, Any], Any], job: Any) -> Any:
    return function(_TOOLS[0], job)


@dataclass(frozen=True)
class Measured:
    """What is kept of N motions, recorded or generated, in order; NaN throughout a row where one is not finite.

    Attributes:
        vectors: (N, D) of the evaluator.
        quality: (N, 5) of QUALITY.
    """

    vectors: Float32
    quality: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """All of several."""
        vectors = np.concatenate([part.vectors for part in parts])
        return cls(vectors, np.concatenate([part.quality for part in parts]))


def measured(tools: Any, clips: Sequence[Float32]) -> Measured:
    """Measure motions, each (T, 22, 3) joints at 20 fps, embedded as one batch.

    Joints that are not finite, or farther than 100 km from the origin, are no motion.
    """
    at = [n for n, joints in enumerate(clips) if np.isfinite(joints).all() and np.abs(joints).max() <= 1e5]
    motions = [Motion(clips[n], FPS) for n in at]
    vectors = np.full((len(clips), tools.evaluator.channels), np.nan, np.float32)
    quality = np.full((len(clips), len(QUALITY)), np.nan)
    if motions:
        vectors[at] = tools.evaluator.embed_motions(motions).cpu().numpy()
        quality[at] = [[getattr(measures, name) for name in QUALITY] for measures in map(measure, motions)]
    return Measured(vectors, quality)


def draw(tools: Any, job: tuple[list[MotionRequest], Float32 | None, DrawOptions]) -> tuple[Measured, Float32]:
    """Draw a batch of motions and measure them; also hidden states (B, K, width), the same for every seed.

    A job is what is asked, what the model's queries read of it where that is known, and how it is drawn.
    """
    requests, known, options = job
    model = tools.model
    options = check_draw(model.config, options)
    hidden = model.encode_prompts(requests)[0] if known is None else torch.from_numpy(known).to(model.queries.device)
    frames, seeds = [request.frames for request in requests], [request.seed for request in requests]
    return measured(tools, model.draw_joints(hidden, frames, seeds, options)), hidden.cpu().numpy()


def embed_texts(tools: Any, texts: list[str]) -> Any:
    """(N, D) float32 vectors of captions."""
    return tools.evaluator.embed_texts(texts).float().cpu().numpy()


def evaluator_facts(tools: Any, _: None = None) -> dict[str, Any]:
    """What a report says about the evaluator."""
    evaluator = tools.evaluator
    return {"name": evaluator.name, "sha256": evaluator.sha256, "channels": evaluator.channels}


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
        """All of it, for JSON: what is not finite is null, columns have six digits."""

        def null(value: float) -> float | None:
            return value if math.isfinite(value) else None

        sides = {"generated": self.generated, "real": self.real}
        return {
            **asdict(self),
            **{side: {name: null(value) for name, value in values.items()} for side, values in sides.items()},
            "columns": {name: [null(round(v, 6)) for v in values] for name, values in self.columns.items()},
        }


class Session:
    """An evaluation under way, with what its repeats share.

    Args:
        prepared: what is evaluated.
        workers: who computes.
        tick: told how many motions or captions were made.
    """

    def __init__(self, prepared: PreparedEvaluation, workers: Workers, tick: Callable[[int], object]) -> None:
        self.request, self.protocol, self.pack = prepared.request, prepared.protocol, prepared.pack
        self.items, self.word_encoder = prepared.items, prepared.word_encoder
        self.workers, self.tick = workers, tick
        self.names = [item.name for item in self.items]
        self.classes = [base_action(item.label) for item in self.items]
        self.labelled = any(self.classes)
        self.parts = batches(range(len(self.items)), CLIPS_PER_BATCH)
        """Numbers of the clips, in batches of like length."""
        self.captions: dict[tuple[int, int, int], str] = {}
        self.scores: dict[tuple[str, ...], dict[str, float]] = {}
        self._texts: dict[str, Float32] = {}
        self._hidden: dict[tuple[tuple[str, int | None], ...], Float32] = {}
        self._real: tuple[list[tuple[int, int, int]], Measured] | None = None

    def plan(self, repeat: int) -> list[Take]:
        """How a repeat takes the clips."""
        return plan(self.protocol, self.items, repeat, self.request.seed)

    def first_seed(self, repeat: int, stream: int = 0) -> int:
        """The first of a million seeds that belong to one repeat and stream alone."""
        return ((self.request.seed * 10_000 + repeat) * 10 + stream) * 1_000_000

    def recorded(self, take: Take) -> Float32:
        """(T, 22, 3) joints of a take, a copy."""
        return self.pack.clip_joints(take.item.row)[take.start : take.start + take.frames].copy()

    def real(self, takes: Sequence[Take]) -> Measured:
        """The takes' recordings; embedded again only if they are others than before."""
        key = [take.key for take in takes]
        if self._real is None or self._real[0] != key:
            jobs = [[self.recorded(takes[n]) for n in part] for part in self.parts]
            self._real = key, Measured.joined(list(self.workers.map(measured, jobs)))
        return self._real[1]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) vectors of captions, each embedded once."""
        jobs = batches([text for text in dict.fromkeys(texts) if text not in self._texts], 8 * CLIPS_PER_BATCH)
        for job, vectors in zip(jobs, self.workers.map(embed_texts, jobs), strict=True):
            self._texts.update(zip(job, vectors, strict=True))
        return torch.from_numpy(np.stack([self._texts[text] for text in texts]))

    def drawn(self, takes: Sequence[Take], first: int) -> Measured:
        """A motion of each take's caption and length; motion n is drawn with the seed `first` + n.

        What the model's queries read is remembered while there is room, for a batch as a whole, so that it is the same
        to the last bit whichever repeats ran before.
        """
        options = DrawOptions(guidance=self.request.guidance, steps=self.request.steps)
        requests = [
            MotionRequest(take.caption, clean_prompt(take.caption), take.frames, first + n)
            for n, take in enumerate(takes)
        ]
        parts = batches(requests, CLIPS_PER_BATCH)
        keys = [tuple((request.prompt, request.frames) for request in part) for part in parts]
        jobs = [(part, self._hidden.get(key), options) for part, key in zip(parts, keys, strict=True)]
        made = []
        for key, (one, hidden) in zip(keys, self.workers.map(draw, jobs), strict=True):
            if sum(array.nbytes for array in self._hidden.values()) + hidden.nbytes <= MAX_HIDDEN_BYTES:
                self._hidden[key] = hidden
            self.tick(len(one.vectors))
            made.append(one)
        return Measured.joined(made)


def batches(values: Sequence[Argument], size: int) -> list[list[Argument]]:
    """Consecutive parts of at most `size`."""
    return [list(values[at : at + size]) for at in range(0, len(values), size)]


def quality_means(quality: NDArray[np.float64]) -> dict[str, float]:
    """(N, 5) of QUALITY -> the mean of each over motions that are finite."""
    usable = quality[np.isfinite(quality).all(axis=1)]
    means = usable.mean(axis=0) if len(usable) else np.full(len(QUALITY), np.nan)
    return dict(zip(QUALITY, means.tolist(), strict=True))


def fids(session: Session, repeat: int, made: Float32, real: Float32, floor: bool = False) -> dict[str, float]:
    """FID of all, and of one half of the clips beside the recordings of the other half, drawn anew in each repeat.

    `floor`: `made` are the recordings themselves; beside all of them their FID is 0 and says nothing.
    """

    def fid(mine: NDArray[np.intp], theirs: NDArray[np.intp]) -> float:
        metric = FID()
        metric.update(torch.from_numpy(made[mine]), mine.tolist())
        metric.update(torch.from_numpy(real[theirs]), theirs.tolist(), real=True)
        return float(metric.compute()["fid"])

    everything = np.arange(len(made))
    order = np.random.RandomState(session.request.seed + repeat).permutation(len(made))
    halves = (np.sort(part) for part in np.array_split(order, 2))
    return {"fid": math.nan if floor else fid(everything, everything), "fid_halves": fid(*halves)}


def numbers(scores: Mapping[str, Tensor]) -> dict[str, float]:
    """A metric's scores as numbers, without the counts beside them."""
    return {name: float(score) for name, score in scores.items() if score.is_floating_point()}


def retrieval(
    session: Session, repeat: int, text: Tensor, vectors: Float32
) -> tuple[dict[str, float], tuple[Tensor, Tensor]]:
    """R-precision and MM-Dist of captions and motions, NaN without vectors, and the rank of each ranked sample.

    The groups are those of the repeat, whoever made the captions or the motions.
    """
    metric = RPrecision(session.protocol.group, seed=session.request.seed + repeat)
    metric.update(text, torch.from_numpy(vectors), range(len(text)), labels_of(session.protocol, session.items))
    return numbers(metric.compute()), metric.ranked


def per_class(session: Session, ranked: tuple[Tensor, Tensor], floor: tuple[Tensor, Tensor]) -> dict[str, list[int]]:
    """Class -> [right, of, right of recordings] of the texts whose own motion is among the first three.

    Args:
        session: with the class of each clip; without any there is nothing to count.
        ranked: places and ranks of `RPrecision.ranked`.
        floor: the same of recordings.
    """
    if not session.labelled:
        return {}
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for column, (places, ranks) in ((0, ranked), (2, floor)):
        for place, rank in zip(places.tolist(), ranks.tolist(), strict=True):
            counts[session.classes[place]][column] += rank < 3
            counts[session.classes[place]][1] += column == 0
    return dict(sorted(counts.items()))


def nearest_classes(session: Session, generated: Float32, real: Float32) -> list[tuple[str, str, int]]:
    """(class, class of the nearest recording, how often) of generated motions; their own clips do not count."""
    if not session.labelled or len(real) < 2:
        return []
    usable = np.flatnonzero(np.isfinite(generated).all(axis=1))
    distance = torch.cdist(torch.from_numpy(generated[usable]).double(), torch.from_numpy(real).double())
    distance[torch.arange(len(usable)), torch.from_numpy(usable)] = torch.inf
    nearest = distance.argmin(dim=1).tolist()
    counts = Counter((session.classes[n], session.classes[k]) for n, k in zip(usable.tolist(), nearest, strict=True))
    return [(one, other, count) for (one, other), count in sorted(counts.items())]
