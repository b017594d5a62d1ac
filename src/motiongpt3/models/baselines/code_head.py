"""From a hidden state to a patch's codes, book by book."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CodeHead(nn.Module):
    """Scores of the codes of each book, given a hidden state and the codes of the books before it.

    A light form of the depth transformer of RQ-Transformer (Lee et al. 2022): the codes so far come in as the sum of
    their embeddings, and one MLP serves all books. With one book this is a linear map.

    Args:
        width: of the hidden states.
        books: codes per patch.
        codes: of each book.
    """

    def __init__(self, width: int, books: int, codes: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(books, codes, width) * 0.02)
        self.scores = nn.ModuleList(nn.Linear(width, codes) for _ in range(books))
        self.mix: nn.Module | None = None
        if books > 1:
            self.mix = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

    def embed(self, codes: Tensor) -> Tensor:
        """Codes (..., books) -> (..., books, width)."""
        return torch.stack([table[codes[..., book]] for book, table in enumerate(self.table)], -2)

    def _score(self, hidden: Tensor, book: int) -> Tensor:
        if self.mix is not None:
            hidden = hidden + self.mix(hidden)
        scores: Tensor = self.scores[book](hidden)
        return scores

    def forward(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Hidden states (..., width) and the true codes (..., books) -> scores (..., books, codes)."""
        known = self.embed(codes).cumsum(-2)
        told = [hidden, *(hidden + known[..., book, :] for book in range(len(self.scores) - 1))]
        return torch.stack([self._score(x, book) for book, x in enumerate(told)], -2)

    def draw(self, hidden: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Hidden states (B, width) -> codes (B, books), each drawn after those of the books before it.

        A temperature of 0 takes the likeliest.
        """
        codes: list[Tensor] = []
        for book, table in enumerate(self.table):
            scores = self._score(hidden, book).float()
            if temperature:
                code = torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator).squeeze(-1)
            else:
                code = scores.argmax(-1)
            codes.append(code)
            hidden = hidden + table[code]
        return torch.stack(codes, -1)
