"""Motion to text under a protocol: are captions like those that people wrote, and do they find their motions?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from motiongpt3.evaluation.caption_words import Directions, Labelled, action_of, actions, judge_captions
from motiongpt3.evaluation.metrics import CaptionScores, lemma_tokens, lower_tokens
from motiongpt3.evaluation.metrics.bert import bert_score
from motiongpt3.evaluation.protocols import Take
from motiongpt3.evaluation.session import Outcome, Session, per_class, retrieval
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import Float32

WORDING = ("bleu_1", "bleu_4", "rouge_l", "cider")
FPS = 20.0


def m2t_work(session: Session) -> int:
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


def write(tools: Any, clips: Sequence[Float32]) -> list[str]:
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
    for part, texts in zip(parts, session.workers.map(write, jobs), strict=True):
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
