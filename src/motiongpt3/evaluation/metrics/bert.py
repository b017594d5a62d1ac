"""BERTScore: how alike are the words of captions and references, by the vectors a language model gives them?

Zhang et al., BERTScore: Evaluating Text Generation with BERT, ICLR 2020.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.provenance import files_hash
from motiongpt3.evaluation.sentences import MINILM, minilm_folder
from motiongpt3.models.backbone_sources import read_tokenizer

PAIRS = 2000
"""Pairs of unrelated captions whose mean score is the baseline."""


@dataclass(frozen=True)
class Words:
    """A text's tokens: ids and their vectors (n, D) of length 1."""

    ids: tuple[int, ...]
    vectors: Tensor


class WordEncoder:
    """Vectors of words in context, of one layer of a language model.

    Args:
        model: "minilm" for the sentence encoder that comes with `motiongpt3[evaluate]`, or a folder with config.json,
            tokenizer.json and model.safetensors, such as a copy of roberta-large.
        layer: whose output; None: about 70 % up, which is 17 of roberta-large's 24, as BERTScore has it.

    Raises:
        MotionGPT3Error: there is no such model, or it is damaged.
    """

    def __init__(self, model: str = MINILM, layer: int | None = None) -> None:
        from transformers import AutoModel

        folder = minilm_folder() if model == MINILM else Path(model)
        if not (folder / "model.safetensors").is_file():
            raise MotionGPT3Error(f"BERTScore needs a folder with model.safetensors, or {MINILM}; {folder} has none")
        self.tokenizer = read_tokenizer(folder / "tokenizer.json")
        try:
            self.network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
            layers = int(self.network.config.num_hidden_layers)
            positions = int(self.network.config.max_position_embeddings)
        except Exception as error:  # the library raises too many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MotionGPT3Error(f"{folder} holds no language model that can be used ({reason[:200]})") from None
        self.layer = round(0.7 * layers) if layer is None else layer
        if not 1 <= self.layer <= layers:
            raise MotionGPT3Error(f"the layer of a model of {layers} is 1 to {layers}, not {layer}")
        self.tokenizer.enable_truncation(min(256, positions - 2))
        self.tokenizer.enable_padding()
        self.facts: dict[str, Any] = {
            "name": MINILM if model == MINILM else folder.name,
            "layer": self.layer,
            "sha256": files_hash([folder / "model.safetensors"]),
        }

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], batch: int = 64) -> dict[str, Words]:
        """Text -> its words, without the marks of start and end."""
        known: dict[str, Words] = {}
        unique = sorted(set(texts), key=len)
        for at in range(0, len(unique), batch):
            part = unique[at : at + batch]
            tokens = self.tokenizer.encode_batch(part)
            ids = torch.tensor([one.ids for one in tokens])
            mask = torch.tensor([one.attention_mask for one in tokens])
            states = self.network(ids, attention_mask=mask, output_hidden_states=True).hidden_states[self.layer]
            for text, one, row in zip(part, tokens, normalize(states.float(), dim=-1), strict=True):
                kept = [n for n, special in enumerate(one.special_tokens_mask) if not special]
                known[text] = Words(tuple(one.ids[n] for n in kept), row[kept])
        return known


def bert_score(
    encode: WordEncoder, captions: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0
) -> tuple[float, float]:
    """Rescaled F1 and the baseline it is rescaled with.

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
    idf = {token: math.log((len(documents) + 1) / (count + 1)) for token, count in counts.items()}
    rare = math.log(len(documents) + 1)

    def weights(one: Words) -> Tensor:
        return torch.tensor([idf.get(token, rare) for token in one.ids])

    def f1(first: str, second: str) -> float:
        one, other = words[first], words[second]
        if not one.ids or not other.ids:
            return 0.0
        similarity = one.vectors @ other.vectors.T
        mine, theirs = weights(one), weights(other)
        precision = float((similarity.amax(1) * mine).sum() / mine.sum().clamp(min=1e-9))
        recall = float((similarity.amax(0) * theirs).sum() / theirs.sum().clamp(min=1e-9))
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
