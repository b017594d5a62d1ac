"""Text to motion under a protocol: do motions fit their words, and are they like recorded ones?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from motiongpt3.evaluation.measured import QUALITY, Drawing, Measured, Wish, draw
from motiongpt3.evaluation.metrics import Diversity, MultiModality
from motiongpt3.evaluation.protocols import Take
from motiongpt3.evaluation.session import (
    BATCH,
    Outcome,
    Session,
    fids,
    nearest_classes,
    numbers,
    per_class,
    quality_means,
    retrieval,
)
from motiongpt3.evaluation.workers import batches
from motiongpt3.motion.skeleton import Float32


def t2m_work(session: Session) -> int:
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
    for part in batches(range(len(takes)), BATCH):
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
