"""The single-stream baseline: motion tokens run through the language model's own layers.

What differs from the dual stream is only where motion tokens find their parameters. The queries, the length head, the
diffusion head and the VAE are the same, at the same widths; two projections lead into the language model and out of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.network import Network
from motiongpt3.models.stream import Stream, Tokens


class SingleStreamTransformer(nn.Module):
    """One stream for both modalities, called like `BimodalTransformer`; words and motion share every matrix product.

    Args:
        stream: the language model's layers.
        enter: motion tokens to the language model's width.
        leave: final hidden states of motion tokens to the motion width.
    """

    def __init__(self, stream: Stream, enter: nn.Module, leave: nn.Module) -> None:
        super().__init__()
        self.blocks = BimodalTransformer(stream, stream)
        self.enter = enter
        self.leave = leave

    def forward(
        self, text: Tokens | None, motion: Tokens | None, cache: KVCache | None = None, extend: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """As `BimodalTransformer.forward`; the cache holds all tokens as text."""
        words = [] if text is None else [text]
        moves = [] if motion is None else [replace(motion, embeddings=self.enter(motion.embeddings))]
        hidden, _ = self.blocks(_join([*words, *moves]) if words or moves else None, None, cache, extend)
        assert hidden is not None
        count = 0 if text is None else text.mask.shape[1]
        return (
            None if text is None else hidden[:, :count],
            None if motion is None else self.leave(hidden[:, count:]),
        )


class Scaled(nn.Module):
    """Tokens (..., width) brought to one root mean square: that of the words.

    Left to themselves motion tokens grow to thirty times the size of words within 700 steps, and what attention adds to
    them, all they know of the words, is lost beside it.
    """

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, scaled."""
        return functional.rms_norm(tokens, tokens.shape[-1:]) * self.size


class SingleStream(Network):
    """A `Network` without a motion stream; `motion_mlp`, `motion_dropout` and `shared_layers` mean nothing here."""

    def _make_streams(self) -> None:
        width = self.backbone.stream.config.width
        size = float(self.backbone.embedding.detach().float().square().mean().sqrt())
        self.enter = nn.Sequential(nn.Linear(self.config.motion_width, width, bias=False), Scaled(size))
        self.leave = nn.Linear(width, self.config.motion_width, bias=False)

    @property
    def transformer(self) -> BimodalTransformer:
        """The language model's stream, between the two projections; it owns no parameters of its own."""
        return cast(BimodalTransformer, SingleStreamTransformer(self.backbone.stream, self.enter, self.leave))


def _join(parts: list[Tokens]) -> Tokens:
    """One after the other along the sequence; their positions say who sees whom."""
    if len(parts) == 1:
        return parts[0]
    segments = None
    if any(part.segments is not None for part in parts):
        segments = torch.cat([part.places.segments for part in parts], 1)
    return Tokens(
        torch.cat([part.embeddings.to(parts[0].embeddings.dtype) for part in parts], 1),
        torch.cat([part.positions for part in parts], 1),
        torch.cat([part.mask for part in parts], 1),
        segments,
    )
