"""How close are captions to what people wrote? BLEU, ROUGE-L and CIDEr-D."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.samples import SampleMetric

Tokens = Sequence[str]
Closeness = Literal["closest", "shortest"]


def raw_tokens(text: str) -> list[str]:
    """The words as written, split at spaces: "A man waves." -> A, man, waves. (with the full stop).

    Also right for texts that are tokens already, such as lemmas joined with spaces.
    """
    return text.split()


def lower_tokens(text: str) -> list[str]:
    """Lower-case runs of letters and digits: "A man's WAVE." -> a, man, s, wave. As rouge-score has it."""
    return re.findall(r"[a-z0-9]+", text.lower())


def lemma_tokens(text: str) -> list[str]:
    """Dictionary forms: "A man's waving." -> a, man, s, wave. Letters only; a hyphen joins what it stands between.

    Close to the tokens of HumanML3D's text files, which are spaCy's lemmas of nouns and verbs, and other words as they
    are; `simplemma` knows no parts of speech. As there, "left" is a side and stays.
    """
    from simplemma import lemmatize

    words = re.findall(r"[a-z]+", text.lower().replace("-", ""))
    return [word if word == "left" else lemmatize(word, lang="en").lower() for word in words]


class CaptionScores(SampleMetric):
    """BLEU, ROUGE-L and CIDEr-D of generated captions.

    `compute` returns `bleu_1`, `bleu_4`, `rouge_l` (0 to 1; papers print them times 100), `cider` (0 to 10, the scale
    of coco-caption), `samples` and `excluded`. An empty caption is a caption, a bad one. Without captions all are NaN,
    and CIDEr is NaN with fewer than two; a warning says so.

    The numbers depend strongly on the tokens and on the references; state both beside them.

    Args:
        tokenize: text -> tokens, the same for captions and references: `raw_tokens`, `lower_tokens`, or another.
        reference_length: of BLEU's brevity penalty, see `bleu`.
        names: see `SampleMetric`.

    Example::

        scores = CaptionScores(lower_tokens)
        scores.update(["a man waves"], [["a person waves his hand", "someone waves"]], index=[0])
        scores.compute()["bleu_1"]
    """

    higher_is_better = True

    def __init__(
        self,
        tokenize: Callable[[str], Tokens] = raw_tokens,
        reference_length: Closeness = "closest",
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(("size",), names)
        # The texts themselves, end to end, as UTF-8: CIDEr weighs words by their frequency in all references.
        self.add_state("text", [], dist_reduce_fx="cat")
        self.tokenize, self.reference_length = tokenize, reference_length

    def update(
        self, captions: Sequence[str], references: Sequence[Sequence[str]], index: Tensor | Sequence[int]
    ) -> None:
        """Add a batch.

        Args:
            captions: B texts.
            references: B lists of at least one text each.
            index: (B,) place of each caption in the population.

        Raises:
            MotionGPT3Error: lists that do not fit, a caption without references, or something that is not a text.
        """
        if isinstance(captions, str) or len(captions) != len(references):
            raise MotionGPT3Error(f"{len(captions)} captions and {len(references)} lists of references do not fit")
        blobs = []
        for number, (caption, others) in enumerate(zip(captions, references, strict=True)):
            texts = [caption] if isinstance(others, str) else [caption, *others]
            if len(texts) < 2 or not all(isinstance(text, str) for text in texts):
                raise MotionGPT3Error(f"caption {number} of the batch needs a text and a list of one reference or more")
            blobs.append(json.dumps(texts).encode())
        sizes = torch.tensor([len(blob) for blob in blobs], dtype=torch.long)
        self._keep(index, torch.ones(len(blobs), dtype=torch.bool), size=sizes)
        text = torch.frombuffer(bytearray(b"".join(blobs)), dtype=torch.uint8) if blobs else torch.zeros(0).byte()
        self._append("text", text.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """The scores as float64 scalars; see the class."""
        found = self._texts()
        table = self._samples()
        order = table["index"].tolist()
        captions = [list(self.tokenize(found[index][0])) for index in order]
        references = [[list(self.tokenize(text)) for text in found[index][1:]] for index in order]
        names = ("bleu_1", "bleu_4", "rouge_l", "cider")
        scores = dict.fromkeys(names, math.nan)
        if not order:
            self._warn(f"{', '.join(names)} are undefined: there are no captions")
        else:
            scores["bleu_1"] = bleu(captions, references, 1, self.reference_length)
            scores["bleu_4"] = bleu(captions, references, 4, self.reference_length)
            each = [
                max(rouge_l(one, other) for other in others) for one, others in zip(captions, references, strict=True)
            ]
            scores["rouge_l"] = math.fsum(each) / len(each)
        if len(order) == 1:
            self._warn("CIDEr is undefined for one caption: it weighs words by how few of the captions have them")
        if len(order) > 1:
            scores["cider"] = math.fsum(cider_d(captions, references)) / len(order)
        numbers = {name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}
        return {**numbers, **self._counts(table)}

    def _texts(self) -> dict[int, list[str]]:
        """Index -> caption and references. The same index with other texts raises MotionGPT3Error."""
        whole = self._cat("text").byte().numpy().tobytes()
        found: dict[int, list[str]] = {}
        start = 0
        for index, size in zip(self._cat("index").long().tolist(), self._cat("size").long().tolist(), strict=True):
            texts = json.loads(whole[start : start + size])
            start += size
            if found.setdefault(index, texts) != texts:
                raise MotionGPT3Error(
                    f"two different captions have the index {self.name(index)}; "
                    "number the captions over the whole population, not over a batch or a process"
                )
        return found


def ngrams(tokens: Tokens, n: int) -> Counter[tuple[str, ...]]:
    """How often each run of n tokens comes."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def bleu(
    captions: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    n: int = 4,
    reference_length: Closeness = "closest",
) -> float:
    """Corpus BLEU-n without smoothing (Papineni et al., ACL 2002).

    BLEU = min(1, exp(1 - r / c)) (p_1 ... p_n)^(1/n): p_k is the share of all captions' k-grams that are in a
    reference, each counted at most as often as in the reference that has most of it; c is the captions' length and r
    that of the references. 0 if some p_k is 0.

    Args:
        captions: N token lists.
        references: N lists of token lists.
        n: the longest n-grams.
        reference_length: which reference's length counts: the closest to the caption's, the shorter of two (the paper),
            or the shortest (tensorflow/nmt's script, which nlg-metricverse runs).
    """
    hits, totals = [0] * n, [0] * n
    written = wanted = 0
    for caption, others in zip(captions, references, strict=True):
        lengths = [len(other) for other in others]
        written += len(caption)
        closest = min(lengths, key=lambda length: (abs(length - len(caption)), length))
        wanted += closest if reference_length == "closest" else min(lengths)
        for k in range(n):
            most: Counter[tuple[str, ...]] = Counter()
            for other in others:
                most |= ngrams(other, k + 1)
            mine = ngrams(caption, k + 1)
            hits[k] += (mine & most).total()
            totals[k] += mine.total()
    if not all(hits):
        return 0.0
    precision = math.exp(math.fsum(math.log(hit / total) for hit, total in zip(hits, totals, strict=True)) / n)
    return min(1.0, math.exp(1 - wanted / written)) * precision


def rouge_l(caption: Tokens, reference: Tokens, beta: float = 1.0) -> float:
    """F-measure of the longest common subsequence (Lin, ROUGE, 2004, section 3.1, equations 2 to 4).

    (1 + beta²) R P / (R + beta² P) with R = LCS / reference length and P = LCS / caption length. `CaptionScores` takes
    beta 1 and the best reference, as rouge-score does; coco-caption takes 1.2.
    """
    row = [0] * (len(reference) + 1)
    for word in caption:
        previous = row
        row = [0]
        for at, other in enumerate(reference):
            row.append(previous[at] + 1 if word == other else max(previous[at + 1], row[at]))
    if not row[-1]:
        return 0.0
    recall, precision = row[-1] / len(reference), row[-1] / len(caption)
    return (1 + beta**2) * recall * precision / (recall + beta**2 * precision)


def cider_d(captions: Sequence[Tokens], references: Sequence[Sequence[Tokens]], sigma: float = 6.0) -> list[float]:
    """CIDEr-D of each caption, 0 to 10, without stemming, as coco-caption has it (Vedantam et al., CVPR 2015).

    10 times the mean over n = 1 ... 4 and over references of exp(-(l - l')² / 2 sigma²) min(g, g') · g' / (|g| |g'|): g
    and g' are the caption's and the reference's n-gram counts times log(N / number of captions with the n-gram in a
    reference), l and l' their lengths, N the number of captions.
    """
    orders = range(1, 5)
    seen: Counter[tuple[str, ...]] = Counter()
    for others in references:
        seen.update({gram for other in others for n in orders for gram in ngrams(other, n)})
    top = math.log(len(captions))

    def vector(tokens: Tokens, n: int) -> dict[tuple[str, ...], float]:
        return {gram: count * (top - math.log(max(1, seen[gram]))) for gram, count in ngrams(tokens, n).items()}

    scores = []
    for caption, others in zip(captions, references, strict=True):
        total = 0.0
        for n in orders:
            mine = vector(caption, n)
            norm = math.hypot(*mine.values())
            for other in others:
                theirs = vector(other, n)
                norms = norm * math.hypot(*theirs.values())
                common = math.fsum(min(mine[gram], theirs[gram]) * theirs[gram] for gram in mine.keys() & theirs.keys())
                penalty = math.exp(-((len(caption) - len(other)) ** 2) / (2 * sigma**2))
                total += penalty * common / norms if norms else 0.0
        scores.append(10 * total / (len(orders) * len(others)))
    return scores
