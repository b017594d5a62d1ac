"""The evaluation of a model on a data set under a protocol: prepare, run the repeats, summarise.

`prepare_evaluation` checks a request before anything heavy is loaded, `evaluate` runs what is not yet done and reports.
Finished repeats are kept on disk in a `ResultCache`; the report is their mean with its confidence.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import FPS
from motiongpt3.evaluation.metrics.language import WordEncoder
from motiongpt3.evaluation.open_evaluator import NO_WORDS, check_evaluator
from motiongpt3.evaluation.protocols import check_model, find_protocol, population, warn_of_size
from motiongpt3.evaluation.provenance import clips_provenance, files_hash, model_provenance, versions
from motiongpt3.evaluation.session import EvaluationRequest, PreparedEvaluation, Session, Workers, evaluator_facts
from motiongpt3.evaluation.tasks import EVALUATION_TASKS, repeat_size
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.serialization import atomic_path

REPORT_FORMAT = "motiongpt3-evaluation-1"
"""Of reports and kept repeats; another layout gets another number."""
MAX_REPEAT_BYTES = 1 << 28
"""Of the largest file of a finished repeat that is read: 256 MiB, some ten times what 20,000 clips take."""
MAX_SEED = 1_000_000
"""Each motion of each repeat has a seed of its own, made of this one (`Session.first_seed`), within 64 bits."""

KeptOutcome = dict[str, Any]
"""An `Outcome` as JSON holds it."""


def prepare_evaluation(request: EvaluationRequest, config: MotionGPT3Config | None) -> PreparedEvaluation:
    """Check a request before anything heavy is loaded.

    Args:
        request: what is asked.
        config: the model's, where it is at hand.

    Raises:
        MotionGPT3Error: there is no such protocol or data set, or they do not fit each other, the evaluator or the
            model.
    """
    if not 0 <= request.seed <= MAX_SEED:
        raise MotionGPT3Error(f"the seed of an evaluation is 0 to {MAX_SEED}, not {request.seed}")
    protocol = find_protocol(request.protocol, request.task)
    check_evaluator(protocol, request.evaluator)
    pack = PackedClips.open(request.data)
    items = population(protocol, pack, request.split, request.task, request.limit)
    if config is not None:
        if config.fps != FPS:
            raise MotionGPT3Error(f"{protocol.name} is at {FPS:g} fps, and the model makes {config.fps:g}")
        if request.task == "m2t" and config.stage == 1:
            raise MotionGPT3Error("this model was trained for text to motion alone: it writes no captions")
        check_model(protocol, items, config.vae.max_frames)
    encoder = None if request.bertscore is None else WordEncoder(request.bertscore)
    repeats = protocol.repeats[request.task] if request.repeats is None else request.repeats
    return PreparedEvaluation(request, protocol, pack, items, repeats, encoder)


def evaluate(
    prepared: PreparedEvaluation,
    report: Path | None = None,
    tools: Any = None,
    begin: Callable[[int, int], object] = lambda made, total: None,
    tick: Callable[[int], object] = lambda made: None,
) -> dict[str, Any]:
    """Run what is not yet done and report.

    Args:
        prepared: from `prepare_evaluation`.
        report: the file the report will lie in; finished repeats are kept beside it, see `ResultCache`. This function
            does not write it.
        tools: a thing with `model` and `evaluator` instead of what the request names; one process only.
        begin: told how many motions or captions are made already, and how many there will be.
        tick: told how many more were made.

    Returns:
        JSON: `task`, `protocol`, `model`, `evaluator`, `split`, `settings`, `versions`, what `summarise` says, and
        `each` repeat.

    Raises:
        MotionGPT3Error: what the model or the evaluator refuses, or repeats of another evaluation in the way.
    """
    request, protocol, items = prepared.request, prepared.protocol, prepared.items
    words = request.words
    with Workers(request, tools) as workers:
        evaluator = next(workers.map(evaluator_facts, [None]))
        if protocol.evaluator == "guo" and words is None:
            warnings.warn(NO_WORDS, stacklevel=2)
        warn_of_size(protocol, items, evaluator["channels"], request.task)
        identity = {
            "format": REPORT_FORMAT,
            "task": request.task,
            "protocol": asdict(protocol),
            "model": model_provenance(request.model) if tools is None else {"name": "given"},
            "evaluator": evaluator,
            "split": clips_provenance(prepared.pack, request.split, [item.row for item in items]),
            "settings": {
                "seed": request.seed,
                "guidance": request.guidance,
                "steps": request.steps,
                "profile": request.profile,
                "limit": request.limit,
                "bertscore": prepared.word_encoder.facts if prepared.word_encoder else None,
                "words": words and files_hash([Path(words) / "our_vab_data.npy", Path(words) / "classes.json"]),
            },
        }
        cache = None if report is None else ResultCache(report, identity)
        session = Session(prepared, workers, tick)
        kept = [cache.get(number) if cache else None for number in range(prepared.repeats)]
        size = repeat_size(session)
        begin(size * (prepared.repeats - kept.count(None)), size * prepared.repeats)
        each = []
        with warnings.catch_warnings():
            # What metrics warn of in every repeat is said once: above, and in the report.
            warnings.filterwarnings("ignore", message=r"\w+: .*(undefined|left out)")
            for number, outcome in enumerate(kept):
                if outcome is None:
                    measured = EVALUATION_TASKS[request.task](session, number).as_dict()
                    outcome = json.loads(json.dumps(measured))  # as if it had been read
                    if cache:
                        cache.put(number, outcome)
                each.append(outcome)
    return {
        **identity,
        "repeats": prepared.repeats,
        "processes": request.processes,
        "device": request.device,
        "versions": versions(),
        **summarise(each),
        "clips": session.names,
        "clip_classes": session.classes,
        "each": each,
    }


class ResultCache:
    """Where finished repeats lie: a folder beside the report, for one evaluation only.

    Args:
        report: the report's file; repeats lie in `<its name without suffix>.repeats`.
        identity: what makes an evaluation what it is; everything but the number of repeats.

    Raises:
        MotionGPT3Error: the folder holds repeats of another evaluation, or cannot be written.
    """

    def __init__(self, report: Path, identity: Mapping[str, Any]) -> None:
        self.folder = report.with_name(f"{report.stem}.repeats")
        wanted = json.loads(json.dumps(identity))
        there = _read(self.folder / "evaluation.json")
        if there is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MotionGPT3Error(f"cannot write {self.folder}: {error.strerror or error}") from None
            _write(self.folder / "evaluation.json", wanted)
        elif there != wanted:
            names = [name for name in wanted if not isinstance(there, dict) or there.get(name) != wanted[name]]
            raise MotionGPT3Error(
                f"{self.folder} holds repeats of another evaluation ({', '.join(names) or 'settings'} differ): remove "
                "it, or write the report elsewhere"
            )

    def get(self, number: int) -> KeptOutcome | None:
        """A finished repeat, or None; MotionGPT3Error if its file is damaged."""
        kept = _read(self._file(number))
        if kept is not None and not (isinstance(kept, dict) and isinstance(kept.get("generated"), dict)):
            raise MotionGPT3Error(f"{self._file(number)} is damaged: remove it")
        return kept

    def put(self, number: int, outcome: KeptOutcome) -> None:
        """Keep a finished repeat."""
        _write(self._file(number), outcome)

    def _file(self, number: int) -> Path:
        return self.folder / f"repeat_{number:03}.json"


def summarise(repeats: Sequence[KeptOutcome]) -> dict[str, Any]:
    """Means over repeats.

    Returns:
        `metrics`: metric -> `generated` and `real`, each {mean, ci95, repeats} over the repeats that define it, mean
        None where none does, ci95 None with fewer than two; `undefined`: metrics no repeat defines; `classes`: class ->
        {right, of, share, real} over all repeats, the shares those of what is generated and of recordings; `excluded`:
        clip -> in how many repeats a prediction was not finite.
    """
    names = list(dict.fromkeys(name for kept in repeats for name in kept["generated"]))
    metrics = {
        name: {side: interval([kept[side].get(name) for kept in repeats]) for side in ("generated", "real")}
        for name in names
    }
    classes: dict[str, list[int]] = {}
    for kept in repeats:
        for name, counted in kept["classes"].items():
            classes[name] = [total + more for total, more in zip(classes.get(name, [0, 0, 0]), counted, strict=True)]
    return {
        "metrics": metrics,
        "undefined": [name for name in names if metrics[name]["generated"]["mean"] is None],
        "classes": {
            name: {"right": right, "of": of, "share": right / max(of, 1), "real": real / max(of, 1)}
            for name, (right, of, real) in sorted(classes.items())
        },
        "excluded": dict(Counter(name for kept in repeats for name in kept["excluded"])),
    }


def interval(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and half of the 95 % confidence interval: 1.96 s / sqrt(n), s the standard deviation with n - 1."""
    usable = [value for value in values if value is not None]
    mean = math.fsum(usable) / len(usable) if usable else None
    spread = 1.96 * float(np.std(usable, ddof=1)) / math.sqrt(len(usable)) if len(usable) > 1 else None
    return {"mean": mean, "ci95": spread, "repeats": len(usable)}


def _read(file: Path) -> Any:
    """What a JSON file holds; None if it is not there."""
    try:
        too_large = file.stat().st_size > MAX_REPEAT_BYTES
        content = None if too_large else json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise MotionGPT3Error(f"{file} is damaged ({str(error).splitlines()[0]}): remove it") from None
    if too_large:
        raise MotionGPT3Error(f"{file} is damaged: it is far too large; remove it")
    return content


def _write(file: Path, content: Any) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
