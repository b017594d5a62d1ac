"""How close are captions to what people wrote? BLEU, ROUGE-L, CIDEr-D and BERTScore.

BLEU is own code, for sacrebleu and torchmetrics know the closest reference's length alone, not the shortest one's.
BERTScore is own code, for torchmetrics 1.9 pairs texts of different lengths wrongly (it sorts both sides by length and
sorts again to undo it), and cannot weigh the words of unrelated captions, the baseline, by all references. Both are
oracles in the tests.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.samples import SampleMetric
from motiongpt3.evaluation.provenance import files_hash
from motiongpt3.evaluation.tmr import MAX_TOKENS, MINILM, hidden_states, minilm_folder
from motiongpt3.models.backbone_files import read_tokenizer

TokenList = Sequence[str]
Closeness = Literal["closest", "shortest"]

SCORES = ("bleu_1", "bleu_4", "rouge_l", "cider")
"""What `CaptionScores` reports."""


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
        tokenize: Callable[[str], TokenList] = raw_tokens,
        reference_length: Closeness = "closest",
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__((), names)
        # The texts themselves, end to end, as UTF-8: CIDEr weighs words by their frequency in all references.
        for state in ("size", "text"):
            self.add_state(state, [], dist_reduce_fx="cat")
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

    def _scores(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        found = self._texts()
        order = table["index"].tolist()
        captions = [list(self.tokenize(found[index][0])) for index in order]
        references = [[list(self.tokenize(text)) for text in found[index][1:]] for index in order]
        scores = dict.fromkeys(SCORES, math.nan)
        if not order:
            self._warn(f"{', '.join(SCORES)} are undefined: there are no captions")
        else:
            for n in (1, 4):
                scores[f"bleu_{n}"] = bleu(captions, references, n, self.reference_length)
            pairs = zip(captions, references, strict=True)
            each = [max(rouge_l(one, other) for other in others) for one, others in pairs]
            scores["rouge_l"] = math.fsum(each) / len(each)
        if len(order) == 1:
            self._warn("CIDEr is undefined for one caption: it weighs words by how few of the captions have them")
        if len(order) > 1:
            scores["cider"] = math.fsum(cider_d(captions, references)) / len(order)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}

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


def ngrams(tokens: TokenList, n: int) -> Counter[tuple[str, ...]]:
    """How often each run of n tokens comes."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def bleu(
    captions: Sequence[TokenList],
    references: Sequence[Sequence[TokenList]],
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


def rouge_l(caption: TokenList, reference: TokenList, beta: float = 1.0) -> float:
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


def cider_d(
    captions: Sequence[TokenList], references: Sequence[Sequence[TokenList]], sigma: float = 6.0
) -> list[float]:
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

    def vector(tokens: TokenList, n: int) -> dict[tuple[str, ...], float]:
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


PAIRS = 2000
"""Pairs of unrelated captions whose mean score is the baseline: scores that differ by 0.1 leave an error of 0.002."""


class TokenVectors(NamedTuple):
    """A text's tokens: ids and their vectors (n, D) of length 1."""

    ids: tuple[int, ...]
    vectors: Tensor


class WordEncoder:
    """Vectors of words in context, of a layer 70 % up a language model: 17 of roberta-large's 24, as BERTScore has it.

    Args:
        model: "minilm" for the sentence encoder that comes with `motiongpt3[evaluate]`, or a folder with config.json,
            tokenizer.json and model.safetensors, such as a copy of roberta-large.

    Raises:
        MotionGPT3Error: there is no such model, or it is damaged.
    """

    def __init__(self, model: str = MINILM) -> None:
        from transformers import AutoModel

        folder = minilm_folder() if model == MINILM else Path(model)
        if not (folder / "model.safetensors").is_file():
            raise MotionGPT3Error(f"BERTScore needs a folder with model.safetensors, or {MINILM}; {folder} has none")
        self.tokenizer = read_tokenizer(folder / "tokenizer.json")
        try:
            self.network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
            self.layer = round(0.7 * self.network.config.num_hidden_layers)
            positions = int(self.network.config.max_position_embeddings)
        except Exception as error:  # the library raises too many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MotionGPT3Error(f"{folder} holds no language model that can be used ({reason[:200]})") from None
        self.tokenizer.enable_truncation(min(MAX_TOKENS, positions - 2))
        self.tokenizer.enable_padding()
        self.facts: dict[str, Any] = {
            "name": MINILM if model == MINILM else folder.name,
            "layer": self.layer,
            "sha256": files_hash([folder / "model.safetensors"]),
        }

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], batch: int = 64) -> dict[str, TokenVectors]:
        """Text -> its words, without the marks of start and end."""
        known: dict[str, TokenVectors] = {}
        unique = list(dict.fromkeys(texts))
        for rows, tokens, _, states in hidden_states(self.network, self.tokenizer, unique, batch):
            for n, one, vectors in zip(rows, tokens, normalize(states[self.layer].float(), dim=-1), strict=True):
                kept = [at for at, special in enumerate(one.special_tokens_mask) if not special]
                known[unique[n]] = TokenVectors(tuple(one.ids[at] for at in kept), vectors[kept])
        return known


def bert_score(
    encode: WordEncoder, captions: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0
) -> tuple[float, float]:
    """BERTScore (Zhang et al., ICLR 2020): rescaled F1 and the baseline it is rescaled with.

    Each word's best match counts with the word's inverse document frequency among all references; F1 is the harmonic
    mean of both ways, the best reference of a caption counts, and captions are averaged. Rescaled is
    (F1 - b) / (1 - b); b is the mean F1 of references of different captions, drawn here, where the published baselines
    are those of other texts.

    Args:
        encode: makes the vectors.
        captions: N texts.
        references: N lists of one text or more.
        seed: of the draw of pairs.

    Returns:
        the score, 1 at best and about 0 for unrelated captions, and b; NaN with fewer than two captions.
    """
    if len(captions) < 2:
        return math.nan, math.nan
    words = encode([*captions, *(text for others in references for text in others)])
    documents = [set(words[text].ids) for others in references for text in others]
    counts = Counter(token for document in documents for token in document)

    def weighted(similarity: Tensor, ids: Sequence[int]) -> float:
        weights = torch.tensor([math.log((len(documents) + 1) / (counts[token] + 1)) for token in ids])
        return float((similarity * weights).sum() / weights.sum().clamp(min=1e-9))

    def f1(first: str, second: str) -> float:
        one, other = words[first], words[second]
        if not one.ids or not other.ids:
            return 0.0
        similarity = one.vectors @ other.vectors.T
        precision, recall = weighted(similarity.amax(1), one.ids), weighted(similarity.amax(0), other.ids)
        return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0

    pairs = zip(captions, references, strict=True)
    score = float(np.mean([max(f1(text, other) for other in others) for text, others in pairs]))
    random = np.random.RandomState(seed)
    unrelated = []
    for _ in range(min(PAIRS, len(captions) * (len(captions) - 1))):
        a, b = random.choice(len(references), 2, replace=False)
        unrelated.append(f1(*(references[n][random.randint(len(references[n]))] for n in (a, b))))
    baseline = float(np.mean(unrelated))
    return (score - baseline) / (1 - baseline), baseline
