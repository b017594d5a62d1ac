"""How well a text stream predicts plain English: what training on motions must not cost."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.stream import Stream, Tokens

BAR = 1.10
"""Perplexity after training over that of the untouched backbone that a good model stays below."""


@torch.no_grad()
def perplexity(backbone: TextBackbone, text: str, window: int = 1024) -> float:
    """exp of the mean negative log-likelihood per token, in nats, of a text.

    Each window of tokens is read after the token that ends a text, so that its first token is predicted too. The two
    motion tokens take part in the softmax: what they take from words counts.

    Args:
        backbone: in evaluation mode.
        text: plain text, read as it is.
        window: most tokens read together; no more than the backbone has positions for.

    Raises:
        MotionGPT3Error: the text has no tokens, or the window is empty.
    """
    window = min(window, backbone.config.max_positions - 1)
    ids, _ = backbone.tokenize([text])
    if not ids.shape[1] or window < 1:
        raise MotionGPT3Error("there is nothing to measure perplexity on: the text has no tokens")
    alone = BimodalTransformer(backbone.stream, Stream(backbone.config.for_motion(8, 8)), 0)
    start = torch.full((1, 1), backbone.eos_id, device=ids.device)
    total = 0.0
    for part in ids.split(window, 1):
        hidden, _ = alone(Tokens.of(backbone.embed(torch.cat([start, part[:, :-1]], 1))), None)
        assert hidden is not None
        total += F.cross_entropy(backbone.logits(hidden)[0].float(), part[0], reduction="sum").item()
    return math.exp(total / ids.shape[1])
