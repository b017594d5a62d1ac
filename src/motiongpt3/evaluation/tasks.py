"""What the repeats of an evaluation measure: text to motion, motion to text, prediction and in-between.

Each task is a function from a `Session` and a repeat's number to an `Outcome`; `EVALUATION_TASKS` at the end names
them, and `repeat_size` says how much a repeat makes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from motiongpt3.evaluation.metrics.language import bert_score
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
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import seam_jerk
from motiongpt3.motion.skeleton import HUMANML3D, Float32


def t2m_repeat(session: Session, number: int) -> Outcome:
    """Text to motion: do motions fit their words, and are they like recorded ones?

    A motion is drawn for each clip's caption, with its length, and all are measured beside the recordings.
    """
    takes = session.plan(number)
    real = session.real(takes)
    made = session.drawn(takes, session.first_seed(number))
    text = session.texts([take.caption for take in takes])
    varied, spoilt = _multimodality(session, takes, number)
    scores, ranks = [], []
    columns: dict[str, list[float]] = {}
    for prefix, side in (("", made), ("real ", real)):
        vectors = torch.from_numpy(side.vectors)
        found, ranked = retrieval(session, number, text, side.vectors)
        diversity = Diversity(session.protocol.diversity_pairs, session.request.seed + number)
        diversity.update(vectors, range(len(vectors)))
        found |= fids(session, number, side.vectors, real.vectors, floor=side is real) | numbers(diversity.compute())
        scores.append(found | ({"multimodality": varied} if side is made else {}) | quality_means(side.quality))
        ranks.append(ranked)
        columns[f"{prefix}distance"] = (text.double() - vectors.double()).norm(dim=1).tolist()
    for column, name in enumerate(QUALITY):
        columns[name], columns[f"real {name}"] = made.quality[:, column].tolist(), real.quality[:, column].tolist()
    whole = [bool(np.isfinite(row).all()) for row in made.vectors]
    return Outcome(
        scores[0],
        scores[1],
        [name for name, good in zip(session.names, whole, strict=True) if not good or name in spoilt],
        per_class(session, *ranks),
        nearest_classes(session, made.vectors, real.vectors),
        columns,
    )


def _varied_texts(session: Session) -> int:
    return min(session.protocol.varied_texts, len(session.items))


def _multimodality(session: Session, takes: Sequence[Take], number: int) -> tuple[float, tuple[str, ...]]:
    """How far motions of one caption and length are apart, and the clips left out because one is not finite."""
    seed, texts, motions = session.request.seed, _varied_texts(session), session.protocol.varied_motions
    chosen = [takes[n] for n in np.sort(np.random.RandomState([seed, number]).permutation(len(takes))[:texts])]
    again = [take for take in chosen for _ in range(motions)]
    made = session.drawn(again, session.first_seed(number, stream=1)).vectors
    metric = MultiModality(session.protocol.varied_pairs, seed + number, [take.item.name for take in chosen])
    metric.update(torch.from_numpy(made).unflatten(0, (texts, motions)), range(texts))
    return float(metric.compute()["multimodality"]), metric.excluded


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
        metric = CaptionScores(tokens)
        metric.update(captions, targets, kept)
        scores |= {f"{prefix}{name}": value for name, value in numbers(metric.compute()).items()}
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


class CompletionJob(NamedTuple):
    """A clip (T, 22, 3) of which the frames before `start` and from `stop` on are given, and how each is predicted."""

    joints: Float32
    start: int
    stop: int
    draws: list[dict[str, Any]]


class CompletedClip(NamedTuple):
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


def completion_repeat(session: Session, number: int) -> Outcome:
    """Prediction and in-between: how far is the made part from what was recorded?

    The part that is not given of each clip is made several times and compared with the recording.
    """
    protocol, request = session.protocol, session.request
    jobs = []
    for place, item in enumerate(session.items):
        joints = session.pack.clip_joints(item.row)[: item.frames].copy()
        first = session.first_seed(number) + 1000 * place
        options = {"guidance": request.guidance, "steps": request.steps}
        seeds = range(first, first + 100 * protocol.predictions, 100)  # windows of one clip take seeds in turn
        draws = [{"seed": seed, **options} for seed in seeds]
        jobs.append(CompletionJob(joints, *made_span(protocol, item, request.task), draws))
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
            **numbers(errors.compute()),
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
    made = np.full((len(job.draws), job.stop - job.start, *job.joints.shape[1:]), np.nan, np.float32)
    jerks = np.full(len(job.draws), np.nan)
    for number, draw in enumerate(job.draws):
        try:
            motion = make(*ends, seconds, **draw)
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


EVALUATION_TASKS: dict[TaskName, Callable[[Session, int], Outcome]] = {
    "t2m": t2m_repeat,
    "m2t": m2t_repeat,
    "predict": completion_repeat,
    "inbetween": completion_repeat,
}
"""What each task measures in a repeat."""


def repeat_size(session: Session) -> int:
    """Motions that a repeat makes, or captions it writes unless an earlier one has written them."""
    protocol, clips = session.protocol, len(session.items)
    if session.request.task == "t2m":  # one for each clip, and several for some
        return clips + _varied_texts(session) * protocol.varied_motions
    return clips * (1 if session.request.task == "m2t" else protocol.predictions)
