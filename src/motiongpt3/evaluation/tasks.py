"""What the repeats of an evaluation measure: text to motion, motion to text, prediction and in-between.

Each task is a function from a `Session` and a repeat's number to an `Outcome`, with another that says how much a repeat
makes; `EVALUATION_TASKS` at the end names them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from motiongpt3.errors import NotFiniteError
from motiongpt3.evaluation import FPS
from motiongpt3.evaluation.checks.caption_check import Directions, Labelled, action_of, actions, judge_captions
from motiongpt3.evaluation.metrics import (
    CaptionScores,
    Diversity,
    MultiModality,
    PredictionErrors,
    lemma_tokens,
    lower_tokens,
    span,
)
from motiongpt3.evaluation.metrics.language import SCORES, bert_score
from motiongpt3.evaluation.protocols import EvaluationProtocol, Item, Take, TaskName
from motiongpt3.evaluation.session import (
    QUALITY,
    Measured,
    Outcome,
    Session,
    fids,
    measured,
    nearest_classes,
    numbers,
    per_class,
    quality_means,
    retrieval,
)
from motiongpt3.models.request import DrawOptions
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import seam_jerk
from motiongpt3.motion.skeleton import HUMANML3D, Float32


def t2m_size(session: Session) -> int:
    """Motions that a repeat makes: one for each clip, and several for some."""
    return len(session.items) + _varied_texts(session) * session.protocol.varied_motions


def t2m_repeat(session: Session, number: int) -> Outcome:
    """Text to motion: do motions fit their words, and are they like recorded ones?

    A motion is drawn for each clip's caption, with its length, and all are measured beside the recordings.
    """
    takes = session.plan(number)
    real = session.real(takes)
    made = session.drawn(takes, session.first_seed(number))
    text = session.texts([take.caption for take in takes])
    generated, ranked = retrieval(session, number, text, made.vectors)
    floor, own = retrieval(session, number, text, real.vectors)
    generated |= fids(session, number, made.vectors, real.vectors) | _diversity(session, number, made.vectors)
    floor |= fids(session, number, real.vectors, real.vectors, floor=True) | _diversity(session, number, real.vectors)
    generated["multimodality"], spoilt = _multimodality(session, takes, number)
    generated |= quality_means(made.quality)
    floor |= quality_means(real.quality)
    whole = [bool(np.isfinite(row).all()) for row in made.vectors]
    columns: dict[str, list[float]] = {}
    for prefix, side in (("", made), ("real ", real)):
        columns[f"{prefix}distance"] = (text.double() - torch.from_numpy(side.vectors).double()).norm(dim=1).tolist()
    for column, name in enumerate(QUALITY):
        columns[name] = made.quality[:, column].tolist()
        columns[f"real {name}"] = real.quality[:, column].tolist()
    return Outcome(
        generated,
        floor,
        [name for name, good in zip(session.names, whole, strict=True) if not good or name in spoilt],
        per_class(session, ranked, own),
        nearest_classes(session, made.vectors, real.vectors),
        columns,
    )


def _varied_texts(session: Session) -> int:
    return min(session.protocol.varied_texts, len(session.items))


def _diversity(session: Session, number: int, vectors: Float32) -> dict[str, float]:
    metric = Diversity(session.protocol.diversity_pairs, session.request.seed + number, session.names)
    metric.update(torch.from_numpy(vectors), range(len(vectors)))
    return numbers(metric.compute(), ["diversity"])


def _multimodality(session: Session, takes: Sequence[Take], number: int) -> tuple[float, tuple[str, ...]]:
    """How far motions of one caption and length are apart, and the clips left out because one is not finite."""
    seed, texts, motions = session.request.seed, _varied_texts(session), session.protocol.varied_motions
    chosen = [takes[n] for n in np.sort(np.random.RandomState([seed, number]).permutation(len(takes))[:texts])]
    again = [take for take in chosen for _ in range(motions)]
    made = session.drawn(again, session.first_seed(number, stream=1)).vectors
    metric = MultiModality(session.protocol.varied_pairs, seed + number, [take.item.name for take in chosen])
    metric.update(torch.from_numpy(made).unflatten(0, (texts, motions)), range(texts))
    return float(metric.compute()["multimodality"]), metric.excluded


def m2t_size(session: Session) -> int:
    """Captions that a repeat writes, unless an earlier one has written them."""
    return len(session.items)


def m2t_repeat(session: Session, number: int) -> Outcome:
    """Motion to text: are captions like those that people wrote, and do they find their motions?

    Each recording is captioned and scored beside what a person wrote about it. The person's caption is scored against
    the other references of its clip, which are one fewer.
    """
    takes = session.plan(number)
    written = _written(session, takes)
    people = [take.caption for take in takes]
    references = [take.item.references(session.protocol) for take in takes]
    others = [[text for text in texts if text != own] for texts, own in zip(references, people, strict=True)]
    recorded = session.real(takes).vectors
    sides, ranks = [], []
    for texts, against in ((written, references), (people, others)):
        scores, ranked = retrieval(session, number, session.texts(texts), recorded)
        sides.append(scores | _wording(session, texts, against) | _judged(session, takes, texts, against))
        ranks.append(ranked)
    return Outcome(
        sides[0],
        sides[1],
        classes=per_class(session, *ranks),
        confusion=_confusion(takes, written),
        columns={
            "words": [float(len(text.split())) for text in written],
            "real words": [float(len(text.split())) for text in people],
        },
        texts=written,
    )


def write_captions(tools: Any, clips: Sequence[Float32]) -> list[str]:
    """Captions of motions, each (T, 22, 3) joints at 20 fps."""
    captions: list[str] = tools.model.caption([Motion(joints, FPS) for joints in clips])
    return captions


def _written(session: Session, takes: Sequence[Take]) -> list[str]:
    """The model's caption of each take; the same motion is described once."""
    parts = [[n for n in part if takes[n].key not in session.captions] for part in session.parts]
    parts = [part for part in parts if part]
    jobs = [[session.recorded(takes[n]) for n in part] for part in parts]
    session.tick(len(takes) - sum(map(len, parts)))
    for part, texts in zip(parts, session.workers.map(write_captions, jobs), strict=True):
        session.captions.update(zip([takes[n].key for n in part], texts, strict=True))
        session.tick(len(part))
    return [session.captions[take.key] for take in takes]


def _wording(session: Session, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr on words and on lemmas, and BERTScore if asked, over the clips that have a reference."""
    if (known := session.scores.get(tuple(texts))) is not None:
        return known
    kept = [n for n, others in enumerate(references) if others]
    captions, targets = [texts[n] for n in kept], [references[n] for n in kept]
    scores: dict[str, float] = {}
    for prefix, tokens in (("", lower_tokens), ("lemma_", lemma_tokens)):
        metric = CaptionScores(tokens, names=session.names)
        metric.update(captions, targets, kept)
        scores |= {f"{prefix}{name}": value for name, value in numbers(metric.compute(), SCORES).items()}
    if session.word_encoder is not None:
        scores["bert_score"], scores["bert_baseline"] = bert_score(session.word_encoder, captions, targets)
    session.scores[tuple(texts)] = scores
    return scores


def _judged(
    session: Session, takes: Sequence[Take], texts: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Whether the words for the action and for directions are right, where the list of synonyms knows them."""
    kept = [n for n, others in enumerate(references) if others]
    if not session.labelled or not kept:
        return {}
    clips = [Labelled(references[n], takes[n].item.label) for n in kept]
    everyone = Directions([Labelled(take.item.captions, take.item.label) for take in takes])
    report = judge_captions([texts[n] for n in kept], clips, everyone)
    shares = {
        "action": report.action,
        "left_right": report.left_right,
        "forward_backward": report.forward_backward,
        "distinct": report.distinct / len(kept),
    }
    return {name: math.nan if share is None else share for name, share in shares.items()}


def _confusion(takes: Sequence[Take], texts: Sequence[str]) -> list[tuple[str, str, int]]:
    """(action of the clip, action its caption names, how often); "-" where it names none of the list."""
    counts: Counter[tuple[str, str]] = Counter()
    for take, text in zip(takes, texts, strict=True):
        action = action_of(take.item.label)
        if action is not None:
            named = action if action.named_in(text) else next((one for one in actions() if one.named_in(text)), None)
            counts[action.name, named.name if named else "-"] += 1
    return [(one, other, count) for (one, other), count in sorted(counts.items())]


ERRORS = ("ade", "fde", "ade_best", "fde_best", "apd", "apd_norm")
"""Those of `PredictionErrors` that are reported, where they are defined."""


@dataclass(frozen=True)
class CompletionJob:
    """A clip (T, 22, 3) of which the frames before `start` and from `stop` on are given, and a seed per prediction."""

    joints: Float32
    start: int
    stop: int
    seeds: tuple[int, ...]
    draw: DrawOptions


@dataclass(frozen=True)
class CompletedClip:
    """What came of it.

    Attributes:
        made: (S, n, 22, 3) the made frames of each prediction; NaN throughout one that is not finite.
        measures: of the made frames alone, as motions.
        seam: mean jerk at the seams, m/s³.
        real: of the recorded frames in their place.
        real_seam: the recording's jerk at the same frames.
    """

    made: Float32
    measures: Measured
    seam: float
    real: Measured
    real_seam: float


def completion_size(session: Session) -> int:
    """Motions that a repeat makes."""
    return len(session.items) * session.protocol.predictions


def completion_repeat(session: Session, number: int) -> Outcome:
    """Prediction and in-between: how far is the made part from what was recorded?

    The part that is not given of each clip is made several times and compared with the recording.
    """
    protocol, request = session.protocol, session.request
    jobs = []
    for place, item in enumerate(session.items):
        joints = session.pack.clip_joints(item.row)[: item.frames].copy()
        first = session.first_seed(number) + 1000 * place
        seeds = tuple(first + 100 * k for k in range(protocol.predictions))  # windows of one clip take seeds in turn
        made_frames = made_span(protocol, item, request.task)
        jobs.append(CompletionJob(joints, *made_frames, seeds, request.draw))
    errors = PredictionErrors(protocol.predictions, session.names)
    done: list[CompletedClip] = []
    distances = []
    for place, (job, one) in enumerate(zip(jobs, session.workers.map(complete, jobs), strict=True)):
        session.tick(protocol.predictions)
        done.append(one)
        target = torch.from_numpy(job.joints)
        whole = target.repeat(protocol.predictions, 1, 1, 1)
        whole[:, job.start : job.stop] = torch.from_numpy(one.made)
        errors.update(whole[None], target[None], span(job.start, job.stop, len(target)), [place])
        distances.append(np.linalg.norm(one.made - job.joints[None, job.start : job.stop], axis=-1))  # (S, n, 22)
    found = errors.compute()
    made = Measured.joined([one.measures for one in done])
    real = Measured.joined([one.real for one in done])
    first_made = slice(None, None, protocol.predictions)
    columns = {
        "ade": [float(distance.mean()) for distance in distances],
        "fde": [float(distance[:, -1].mean()) for distance in distances],
        "seam_jerk": [one.seam for one in done],
        "real seam_jerk": [one.real_seam for one in done],
        **{name: made.quality[first_made, column].tolist() for column, name in enumerate(QUALITY)},
    }
    per_joint = np.array([distance.mean(axis=(0, 1)) for distance in distances])
    per_joint = per_joint[np.isfinite(per_joint).all(axis=1)]
    return Outcome(
        {
            **numbers(found, [name for name in ERRORS if name in found]),
            **fids(session, number, made.vectors[first_made], real.vectors),
            "seam_jerk": _finite_mean(columns["seam_jerk"]),
            **quality_means(made.quality),
        },
        {
            **fids(session, number, real.vectors, real.vectors, floor=True),
            "seam_jerk": _finite_mean(columns["real seam_jerk"]),
            **quality_means(real.quality),
        },
        list(errors.excluded),
        columns=columns,
        joints=dict(zip(HUMANML3D.names, per_joint.mean(axis=0).tolist(), strict=True)) if len(per_joint) else {},
    )


def made_span(protocol: EvaluationProtocol, item: Item, task: TaskName) -> tuple[int, int]:
    """The first frame that is made and the first one after it."""
    share = protocol.given_share if task == "predict" else protocol.sides_share
    given = max(protocol.least_given, round(share * item.frames))
    return given, item.frames if task == "predict" else item.frames - given


def complete(tools: Any, job: CompletionJob) -> CompletedClip:
    """Make the part of a clip that is not given, once for each seed."""
    recording = Motion(job.joints, FPS)
    ends = [recording[: job.start]] + ([recording[job.stop :]] if job.stop < len(recording) else [])
    make = tools.model.predict if len(ends) == 1 else tools.model.inbetween
    seams = [job.start, job.stop][: len(ends)]
    seconds = (job.stop - job.start) / FPS
    made = np.full((len(job.seeds), job.stop - job.start, *job.joints.shape[1:]), np.nan, np.float32)
    jerks = np.full(len(job.seeds), np.nan)
    for number, seed in enumerate(job.seeds):
        try:
            motion = make(*ends, seconds, seed=seed, guidance=job.draw.guidance, steps=job.draw.steps)
        except NotFiniteError:
            continue
        made[number] = motion.joints[job.start : job.stop]
        jerks[number] = seam_jerk(motion, seams)
    return CompletedClip(
        made,
        measured(tools, list(made)),
        float(jerks.mean()),
        measured(tools, [job.joints[job.start : job.stop]]),
        seam_jerk(recording, seams),
    )


def _finite_mean(values: Sequence[float]) -> float:
    usable = [value for value in values if math.isfinite(value)]
    return float(np.mean(usable)) if usable else math.nan


@dataclass(frozen=True)
class EvaluationTask:
    """One task: how many motions or captions a repeat makes, and what it measures."""

    size: Callable[[Session], int]
    repeat: Callable[[Session, int], Outcome]


EVALUATION_TASKS: dict[TaskName, EvaluationTask] = {
    "t2m": EvaluationTask(t2m_size, t2m_repeat),
    "m2t": EvaluationTask(m2t_size, m2t_repeat),
    "predict": EvaluationTask(completion_size, completion_repeat),
    "inbetween": EvaluationTask(completion_size, completion_repeat),
}
