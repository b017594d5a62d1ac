"""The evaluation of a model on a data set under a protocol, from arguments to a report."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from motiongpt3.data.dataset import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.evaluators import NO_WORDS, check_evaluator
from motiongpt3.evaluation.measured import evaluator_facts
from motiongpt3.evaluation.metrics.bert import WordEncoder
from motiongpt3.evaluation.protocols import (
    FPS,
    Item,
    Protocol,
    TaskName,
    check_model,
    find_protocol,
    population,
    warn_of_size,
)
from motiongpt3.evaluation.provenance import clips_facts, files_hash, model_facts, versions
from motiongpt3.evaluation.repeats import Shelf, run_repeats, summarise
from motiongpt3.evaluation.session import Session
from motiongpt3.evaluation.workers import Recipe, Workers
from motiongpt3.models.config import MotionGPT3Config

FORMAT = "motiongpt3-evaluation-1"
MOST_SEED = 1_000_000
"""Each motion of each repeat has a seed of its own, made of this one."""


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how."""

    task: TaskName
    data: str
    protocol: str = "mocap"
    recipe: Recipe = field(default_factory=Recipe)
    split: str = "test"
    repeats: int | None = None
    """None: as many as the protocol says."""
    limit: int | None = None
    """Only so many clips, drawn with seed 0: for a look, not under the protocol."""
    seed: int = 0
    guidance: float | None = None
    steps: int | None = None
    processes: int = 1
    bertscore: str | None = None
    """Model of BERTScore, see `metrics.bert.WordEncoder`; None: it is not computed."""


@dataclass(frozen=True)
class Prepared:
    """A request whose inputs are there and fit one another."""

    request: Request
    protocol: Protocol
    pack: PackedClips
    items: list[Item]
    recipe: Recipe
    repeats: int
    words: WordEncoder | None = None


def prepare(request: Request, config: MotionGPT3Config | None) -> Prepared:
    """Check a request before anything heavy is loaded.

    Args:
        request: what is asked.
        config: the model's, where it is at hand.

    Raises:
        MotionGPT3Error: there is no such protocol or data set, or they do not fit each other, the evaluator or the
            model.
    """
    if not 0 <= request.seed <= MOST_SEED:
        raise MotionGPT3Error(f"the seed of an evaluation is 0 to {MOST_SEED}, not {request.seed}")
    protocol = find_protocol(request.protocol, request.task)
    check_evaluator(protocol, request.recipe.evaluator)
    pack = PackedClips.open(request.data)
    items = population(protocol, pack, request.split, request.task, request.limit)
    if config is not None:
        if config.fps != FPS:
            raise MotionGPT3Error(f"{protocol.name} is at {FPS:g} fps, and the model makes {config.fps:g}")
        if request.task == "m2t" and config.stage == 1:
            raise MotionGPT3Error("this model was trained for text to motion alone: it writes no captions")
        check_model(protocol, items, config.vae.max_frames)
    words = None if request.bertscore is None else WordEncoder(request.bertscore)
    recipe = Recipe(**{**asdict(request.recipe), "packed": protocol.packed})
    repeats = protocol.repeats[request.task] if request.repeats is None else request.repeats
    return Prepared(request, protocol, pack, items, recipe, repeats, words)


def evaluate(
    prepared: Prepared,
    report: Path | None = None,
    tools: Any = None,
    begin: Callable[[int, int], object] = lambda made, total: None,
    tick: Callable[[int], object] = lambda made: None,
) -> dict[str, Any]:
    """Run what is not yet done and report.

    Args:
        prepared: from `prepare`.
        report: the file the report will lie in; finished repeats are kept beside it, see `repeats.Shelf`. This function
            does not write it.
        tools: a thing with `model` and `evaluator` instead of what the request names; one process only.
        begin: told how many motions or captions are made already, and how many there will be.
        tick: told how many more were made.

    Returns:
        JSON: `task`, `protocol`, `model`, `evaluator`, `split`, `settings`, `versions`, what `repeats.summarise` says,
        and `each` repeat.

    Raises:
        MotionGPT3Error: what the model or the evaluator refuses, or repeats of another evaluation in the way.
    """
    request, protocol = prepared.request, prepared.protocol
    with Workers(tools or prepared.recipe, request.processes) as workers:
        evaluator = next(workers.map(evaluator_facts, [None]))
        if protocol.evaluator == "guo" and request.recipe.words is None:
            warnings.warn(NO_WORDS, stacklevel=2)
        warn_of_size(protocol, prepared.items, evaluator["channels"], request.task)
        identity = {
            "format": FORMAT,
            "task": request.task,
            "protocol": protocol.as_dict(),
            "model": model_facts(request.recipe.model) if tools is None else {"name": "given"},
            "evaluator": evaluator,
            "split": clips_facts(prepared.pack, request.split, [item.row for item in prepared.items]),
            "settings": {
                "seed": request.seed,
                "guidance": request.guidance,
                "steps": request.steps,
                "profile": request.recipe.profile,
                "limit": request.limit,
                "bertscore": prepared.words.facts if prepared.words else None,
                "words": _words_hash(request.recipe.words),
            },
        }
        shelf = Shelf(report, identity)
        session = Session(
            request.task,
            protocol,
            prepared.pack,
            prepared.items,
            workers,
            request.seed,
            request.guidance,
            request.steps,
            tick,
            prepared.words,
        )
        module = _module(request.task)
        work = module.work(session)
        begin(work * shelf.finished(prepared.repeats), work * prepared.repeats)
        with warnings.catch_warnings():
            # What metrics warn of in every repeat is said once: above, and in the report.
            warnings.filterwarnings("ignore", message=r"\w+: .*(undefined|left out)")
            each = run_repeats(partial(module.repeat, session), prepared.repeats, shelf)
    return {
        **identity,
        "repeats": prepared.repeats,
        "processes": request.processes,
        "device": request.recipe.device,
        "versions": versions(),
        **summarise(each),
        "clips": [item.name for item in prepared.items],
        "clip_classes": session.classes,
        "each": each,
    }


def _words_hash(folder: str | None) -> str | None:
    """sha256 of the word vectors and classes of Guo et al.'s evaluator."""
    return None if folder is None else files_hash([Path(folder) / "our_vab_data.npy", Path(folder) / "classes.json"])


def _module(task: TaskName) -> ModuleType:
    names: dict[TaskName, str] = {"t2m": "t2m", "m2t": "m2t", "predict": "continuation", "inbetween": "continuation"}
    return import_module(f"motiongpt3.evaluation.{names[task]}")
