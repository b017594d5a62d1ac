"""Text to motion under a protocol: do motions fit their words, and are they like recorded ones?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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
from motiongpt3.evaluation.protocols import Item, Protocol, Take, TaskName
from motiongpt3.evaluation.session import (
    CLIPS_PER_BATCH,
    QUALITY,
    Drawing,
    Measured,
    Outcome,
    Session,
    Wish,
    batches,
    draw,
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


def t2m_size(session: Session) -> int:
    """Motions that a repeat makes."""
    texts, motions = _varied(session)
    return len(session.items) + texts * motions


def t2m_repeat(session: Session, number: int) -> Outcome:
    """Draw a motion for each clip's caption, with its length, and measure all beside the recordings."""
    takes = session.plan(number)
    real = session.real(takes)
    made = _drawn(session, takes, session.draws(number))
    text = session.texts([take.caption for take in takes])
    generated, ranked = retrieval(session, number, text, made.vectors)
    floor, own = retrieval(session, number, text, real.vectors)
    generated |= fids(session, number, made.vectors, real.vectors) | _diversity(session, number, made.vectors)
    floor |= fids(session, number, real.vectors, real.vectors, floor=True) | _diversity(session, number, real.vectors)
    generated["multimodality"], spoilt = _multimodality(session, takes, number)
    generated |= quality_means(made.quality)
    floor |= quality_means(real.quality)
    distance = (text.double() - torch.from_numpy(made.vectors).double()).norm(dim=1)
    recorded = (text.double() - torch.from_numpy(real.vectors).double()).norm(dim=1)
    columns = {"distance": distance.tolist(), "real distance": recorded.tolist()}
    for column, name in enumerate(QUALITY):
        columns[name] = made.quality[:, column].tolist()
        columns[f"real {name}"] = real.quality[:, column].tolist()
    labelled = any(session.classes)
    return Outcome(
        generated,
        floor,
        [name for name, good in zip(session.names, made.whole, strict=True) if not good or name in spoilt],
        per_class(session.classes, ranked, own) if labelled else {},
        nearest_classes(session.classes, torch.from_numpy(made.vectors), torch.from_numpy(real.vectors))
        if labelled
        else [],
        columns,
    )


def _drawn(session: Session, takes: Sequence[Take], first: int) -> Measured:
    """A motion of each take's caption and length; motion n is drawn with the seed `first` + n."""
    jobs = []
    for part in batches(range(len(takes)), CLIPS_PER_BATCH):
        wish = Wish(tuple(takes[n].caption for n in part), tuple(takes[n].frames for n in part))
        seeds = tuple(first + n for n in part)
        jobs.append(Drawing(wish, seeds, session.conceived(wish), session.guidance, session.steps))
    made = []
    for job, (one, hidden) in zip(jobs, session.workers.map(draw, jobs), strict=True):
        session.remember(job.wish, hidden)
        session.tick(len(one.vectors))
        made.append(one)
    return Measured.joined(made)


def _diversity(session: Session, number: int, vectors: Float32) -> dict[str, float]:
    metric = Diversity(session.protocol.diversity_pairs, session.seed + number, session.names)
    metric.update(torch.from_numpy(vectors), range(len(vectors)))
    return numbers(metric.compute(), ["diversity"])


def _multimodality(session: Session, takes: Sequence[Take], number: int) -> tuple[float, tuple[str, ...]]:
    """How far motions of one caption and length are apart, and the clips left out because one is not finite."""
    texts, motions = _varied(session)
    chosen = [takes[n] for n in np.sort(np.random.RandomState([session.seed, number]).permutation(len(takes))[:texts])]
    again = [take for take in chosen for _ in range(motions)]
    made = _drawn(session, again, session.draws(number, stream=1)).vectors
    metric = MultiModality(session.protocol.varied_pairs, session.seed + number, [take.item.name for take in chosen])
    metric.update(torch.from_numpy(made).unflatten(0, (texts, motions)), range(texts))
    return float(metric.compute()["multimodality"]), metric.excluded


def _varied(session: Session) -> tuple[int, int]:
    return min(session.protocol.varied_texts, len(session.items)), session.protocol.varied_motions


# Motion to text under a protocol: are captions like those that people wrote, and do they find their motions?

WORDING = ("bleu_1", "bleu_4", "rouge_l", "cider")


def m2t_size(session: Session) -> int:
    """Captions that a repeat writes, unless an earlier one has written them."""
    return len(session.items)


def m2t_repeat(session: Session, number: int) -> Outcome:
    """Caption each recording and score it beside what a person wrote about it.

    The person's caption is scored against the other references of its clip, which are one fewer.
    """
    takes = session.plan(number)
    written = _written(session, takes)
    people = [take.caption for take in takes]
    others = [[text for text in take.item.references(session.protocol) if text != take.caption] for take in takes]
    references = [take.item.references(session.protocol) for take in takes]
    recorded = session.real(takes).vectors
    generated, ranked = retrieval(session, number, session.texts(written), recorded)
    generated |= _wording(session, written, references) | _judged(session, takes, written, references)
    real, own = retrieval(session, number, session.texts(people), recorded)
    real |= _wording(session, people, others) | _judged(session, takes, people, others)
    labelled = any(session.classes)
    return Outcome(
        generated,
        real,
        classes=per_class(session.classes, ranked, own) if labelled else {},
        confusion=_confusion(takes, written),
        columns={"words": [float(len(text.split())) for text in written],
                 "real words": [float(len(text.split())) for text in people]},
        texts=written,
    )  # fmt: skip


def write_captions(tools: Any, clips: Sequence[Float32]) -> list[str]:
    """Captions of motions, each (T, 22, 3) joints at 20 fps."""
    captions: list[str] = tools.model.caption([Motion(joints, FPS) for joints in clips])
    return captions


def _written(session: Session, takes: Sequence[Take]) -> list[str]:
    """The model's caption of each take; the same motion is described once."""
    keys = [(take.item.row, take.start, take.frames) for take in takes]
    parts = [[n for n in part if keys[n] not in session.captions] for part in session.parts()]
    parts = [part for part in parts if part]
    jobs = [[session.recorded(takes[n]).copy() for n in part] for part in parts]
    session.tick(len(takes) - sum(map(len, parts)))
    for part, texts in zip(parts, session.workers.map(write_captions, jobs), strict=True):
        session.captions.update(zip([keys[n] for n in part], texts, strict=True))
        session.tick(len(part))
    return [session.captions[key] for key in keys]


def _wording(session: Session, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr on words and on lemmas, and BERTScore if asked, over the clips that have a reference."""
    if (known := session.scores.get(tuple(texts))) is not None:
        return known
    kept = [n for n, others in enumerate(references) if others]
    scores: dict[str, float] = {}
    for prefix, tokens in (("", lower_tokens), ("lemma_", lemma_tokens)):
        metric = CaptionScores(tokens, names=session.names)
        if kept:
            metric.update([texts[n] for n in kept], [list(references[n]) for n in kept], kept)
        found = metric.compute()
        scores |= {f"{prefix}{name}": float(found[name]) for name in WORDING}
    if session.words is not None:
        few = [texts[n] for n in kept], [references[n] for n in kept]
        scores["bert_score"], scores["bert_baseline"] = bert_score(session.words, *few)
    session.scores[tuple(texts)] = scores
    return scores


def _judged(
    session: Session, takes: Sequence[Take], texts: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Whether the words for the action and for directions are right, where the list of synonyms knows them."""
    if not any(session.classes):
        return {}
    kept = [n for n, others in enumerate(references) if others]
    if not kept:
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
    return {name: float("nan") if share is None else share for name, share in shares.items()}


def _confusion(takes: Sequence[Take], texts: Sequence[str]) -> list[tuple[str, str, int]]:
    """(action of the clip, action its caption names, how often); "-" where it names none of the list."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for take, text in zip(takes, texts, strict=True):
        action = action_of(take.item.label)
        if action is not None:
            named = action if action.named_in(text) else next((one for one in actions() if one.named_in(text)), None)
            counts[action.name, named.name if named else "-"] += 1
    return [(one, other, count) for (one, other), count in sorted(counts.items())]


# Prediction and in-between under a protocol: how far is the made part from what was recorded?

ERRORS = ("ade", "fde", "ade_best", "fde_best", "apd", "apd_norm")


@dataclass(frozen=True)
class Continuing:
    """A clip (T, 22, 3) of which the frames before `start` and from `stop` on are given, and a seed per prediction."""

    joints: Float32
    start: int
    stop: int
    seeds: tuple[int, ...]
    guidance: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Continued:
    """What came of it.

    Attributes:
        made: (S, n, 22, 3) the made frames of each prediction; NaN throughout one that is not finite.
        measures: of the made frames alone, as motions.
        seams: (S,) jerk at the seams, m/s³.
        real: of the recorded frames in their place.
        real_seam: the recording's jerk at the same frames.
    """

    made: Float32
    measures: Measured
    seams: NDArray[np.float64]
    real: Measured
    real_seam: float


def completion_size(session: Session) -> int:
    """Motions that a repeat makes."""
    return len(session.items) * session.protocol.predictions


def completion_repeat(session: Session, number: int) -> Outcome:
    """Make the part that is not given of each clip, several times, and compare it with the recording."""
    protocol = session.protocol
    jobs = []
    for place, item in enumerate(session.items):
        joints = session.pack.clip_joints(item.row)[: item.frames].copy()
        first = session.draws(number) + 1000 * place
        seeds = tuple(first + 100 * k for k in range(protocol.predictions))  # windows of one clip take seeds in turn
        jobs.append(
            Continuing(joints, *made_span(protocol, item, session.task), seeds, session.guidance, session.steps)
        )
    errors = PredictionErrors(protocol.predictions, session.names)
    done: list[Continued] = []
    columns: dict[str, list[float]] = {"ade": [], "fde": [], "seam_jerk": [], "real seam_jerk": []}
    by_joint = []
    for place, (job, one) in enumerate(zip(jobs, session.workers.map(make, jobs), strict=True)):
        session.tick(protocol.predictions)
        done.append(one)
        target = torch.from_numpy(job.joints)
        whole = target.repeat(protocol.predictions, 1, 1, 1)
        whole[:, job.start : job.stop] = torch.from_numpy(one.made)
        errors.update(whole[None], target[None], span(job.start, job.stop, len(target)), [place])
        distance = np.linalg.norm(one.made - job.joints[None, job.start : job.stop], axis=-1)  # (S, n, 22)
        by_joint.append(distance.mean(axis=(0, 1)))
        columns["ade"].append(float(distance.mean()))
        columns["fde"].append(float(distance[:, -1].mean()))
        columns["seam_jerk"].append(float(one.seams.mean()))
        columns["real seam_jerk"].append(one.real_seam)
    found = errors.compute()
    made = Measured.joined([one.measures for one in done])
    real = Measured.joined([one.real for one in done])
    first_made = made.vectors[:: protocol.predictions]
    per_joint = np.array(by_joint)
    per_joint = per_joint[np.isfinite(per_joint).all(axis=1)]
    return Outcome(
        {
            **{name: float(found[name]) for name in ERRORS if name in found},
            **fids(session, number, first_made, real.vectors),
            "seam_jerk": _mean(columns["seam_jerk"]),
            **quality_means(made.quality),
        },
        {
            **fids(session, number, real.vectors, real.vectors, floor=True),
            "seam_jerk": _mean(columns["real seam_jerk"]),
            **quality_means(real.quality),
        },
        list(errors.excluded),
        columns=columns | {name: made.quality[:: protocol.predictions, k].tolist() for k, name in enumerate(QUALITY)},
        joints=dict(zip(HUMANML3D.names, per_joint.mean(axis=0).tolist(), strict=True)) if len(per_joint) else {},
    )


def made_span(protocol: Protocol, item: Item, task: TaskName) -> tuple[int, int]:
    """The first frame that is made and the first one after it."""
    share = protocol.given_share if task == "predict" else protocol.sides_share
    given = max(protocol.least_given, round(share * item.frames))
    return given, item.frames if task == "predict" else item.frames - given


def make(tools: Any, job: Continuing) -> Continued:
    """Make the part of a clip that is not given, once for each seed."""
    model, recording = tools.model, Motion(job.joints, FPS)
    before, after = recording[: job.start], recording[job.stop :] if job.stop < len(recording) else None
    seconds = (job.stop - job.start) / FPS
    seams = [job.start] if after is None else [job.start, job.stop]
    made = np.full((len(job.seeds), job.stop - job.start, *job.joints.shape[1:]), np.nan, np.float32)
    jerks = np.full(len(job.seeds), np.nan)
    for number, seed in enumerate(job.seeds):
        try:
            if after is None:
                motion = model.predict(before, seconds, seed=seed, guidance=job.guidance, steps=job.steps)
            else:
                motion = model.inbetween(before, after, seconds, seed=seed, guidance=job.guidance, steps=job.steps)
        except NotFiniteError:
            continue
        made[number] = motion.joints[job.start : job.stop]
        jerks[number] = seam_jerk(motion, seams)
    return Continued(
        made,
        measured(tools, list(made)),
        jerks,
        measured(tools, [job.joints[job.start : job.stop]]),
        seam_jerk(recording, seams),
    )


def _mean(values: Sequence[float]) -> float:
    usable = [value for value in values if np.isfinite(value)]
    return float(np.mean(usable)) if usable else float("nan")


@dataclass(frozen=True)
class EvaluationTask:
    """One task: how many motions or captions a repeat makes, and what it measured."""

    size: Callable[[Session], int]
    repeat: Callable[[Session, int], Outcome]


EVALUATION_TASKS: dict[TaskName, EvaluationTask] = {
    "t2m": EvaluationTask(t2m_size, t2m_repeat),
    "m2t": EvaluationTask(m2t_size, m2t_repeat),
    "predict": EvaluationTask(completion_size, completion_repeat),
    "inbetween": EvaluationTask(completion_size, completion_repeat),
}
