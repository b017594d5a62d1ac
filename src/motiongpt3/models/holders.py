"""The motion tokens of the official checkpoints: holders, which stand for a latent to be read or to be drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MASKED_KIND, PADDING_KIND, OUTPUT_KIND, INPUT_KIND = range(4)
"""Rows of the official motion vocabulary that have a meaning."""
ROWS = 6
"""Rows that it has."""


class Holders(nn.Module):
    """Embeddings of motion tokens.

    A motion that is to be made is `count` times the same learned vector; a motion that is given is its latent,
    projected to `count` vectors. Positions are added afterwards, as to any token.

    Args:
        count: K, holders of one motion.
        channels: of the one latent token of a clip.
        width: of the motion stream.
    """

    def __init__(self, count: int, channels: int, width: int) -> None:
        super().__init__()
        self.count = count
        self.rows = nn.Parameter(torch.randn(ROWS, width))
        self.understand = nn.Linear(channels, count * width)

    def embed(self, kinds: Tensor, given: Sequence[Tensor] = ()) -> Tensor:
        """Embeddings (B, n, width) of motion tokens.

        Args:
            kinds: (B, n) MASKED_KIND, PADDING_KIND, OUTPUT_KIND or INPUT_KIND.
            given: of each of the B clips, the normalised latents (M, channels) of its M motions given, for M * K
                tokens INPUT_KIND; empty if there are none.
        """
        embedded = nn.functional.embedding(kinds, self.rows)
        for row, latents in enumerate(given):
            # Chunk by chunk over the motions, (m0 c0, m1 c0, m0 c1, ...), as the official weights were trained.
            chunks = self.understand(latents).unflatten(-1, (self.count, -1)).transpose(0, 1).flatten(0, 1)
            embedded[row, kinds[row] == INPUT_KIND] = chunks.to(embedded.dtype)
        return embedded
