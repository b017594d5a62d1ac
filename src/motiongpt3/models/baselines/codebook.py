"""Codebooks: vectors that stand for encodings, one book or several that each refine what those before it left.

A book follows the encoder by moving averages (van den Oord et al. 2017, appendix A.1), and codes that fall out of use
are set anew on encodings of the batch (Dhariwal et al. 2020, "Jukebox"). Books after the first stand for residuals
(Zeghidour et al. 2021, "SoundStream").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Codebook(nn.Module):
    """Vectors that stand for encodings. Nothing here is trained by gradients.

    Args:
        codes: vectors.
        channels: of each.
        decay: of the moving averages.
        least_use: a code that a batch uses less often than this, on average, is set anew.
    """

    vectors: Tensor
    uses: Tensor
    sums: Tensor

    def __init__(self, codes: int, channels: int, decay: float, least_use: float) -> None:
        super().__init__()
        self.decay, self.least_use = decay, least_use
        self.register_buffer("vectors", torch.randn(codes, channels))
        self.register_buffer("uses", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, channels))

    def nearest(self, x: Tensor) -> Tensor:
        """Encodings (..., C) -> (...,) numbers of the nearest codes; in float64, whatever the precision around it."""
        flat, vectors = x.reshape(-1, x.shape[-1]).double(), self.vectors.double()
        with torch.autocast(x.device.type, enabled=False):
            distance = vectors.square().sum(1) - 2 * flat @ vectors.T
        return distance.argmin(1).view(x.shape[:-1])

    def look_up(self, codes: Tensor) -> Tensor:
        """(...,) numbers -> (..., C)."""
        return F.embedding(codes, self.vectors)

    @torch.no_grad()
    def follow(self, x: Tensor, real: Tensor) -> None:
        """Move the codes towards a batch of encodings.

        Args:
            x: (n, C) encodings; at the very first call the codes are set on them.
            real: (n,) bool; the others are padding. Shapes do not depend on it, so nothing waits for the device.
        """
        x = x.float()
        picks = torch.multinomial(real.float() + 1e-9, len(self.vectors), replacement=True)
        fresh = x[picks] + 0.01 * torch.randn_like(self.vectors) * x.std()
        first = self.uses.sum() == 0
        vectors = torch.where(first, fresh, self.vectors)
        self.vectors.copy_(vectors)
        chosen = self.nearest(x)
        weight = real.to(x.dtype)
        count = torch.zeros_like(self.uses).index_add_(0, chosen, weight)
        total = torch.zeros_like(self.sums).index_add_(0, chosen, x * weight.unsqueeze(1))
        keep = torch.where(first, 0.0, self.decay)
        self.uses.mul_(keep).add_(count * (1 - keep))
        self.sums.mul_(keep).add_(total * (1 - keep))
        dead = (self.uses < self.least_use).unsqueeze(1)
        self.vectors.copy_(torch.where(dead, fresh, self.sums / self.uses.clamp(min=1e-6).unsqueeze(1)))
        self.uses.copy_(torch.where(dead.squeeze(1), 2 * self.least_use, self.uses))
        self.sums.copy_(torch.where(dead, fresh * 2 * self.least_use, self.sums))

    @property
    def perplexity(self) -> Tensor:
        """2 to the power of the entropy of its use: how many codes are in use, if alike often."""
        share = self.uses / self.uses.sum().clamp(min=1e-9)
        return torch.exp(torch.special.entr(share).sum())


class ResidualCodebooks(nn.Module):
    """Books one after the other; an encoding is the sum of one code of each.

    Args:
        books: how many.
        codes, channels, decay, least_use: of each, as of `Codebook`.
    """

    def __init__(self, books: int, codes: int, channels: int, decay: float, least_use: float) -> None:
        super().__init__()
        self.books = nn.ModuleList(Codebook(codes, channels, decay, least_use) for _ in range(books))

    def __iter__(self) -> Iterator[Codebook]:
        return iter(cast(Sequence[Codebook], self.books))

    def nearest(self, x: Tensor) -> Tensor:
        """Encodings (..., C) -> (..., books) codes, each the nearest to what those before it left."""
        rest, codes = x.float(), []
        for book in self:
            codes.append(book.nearest(rest))
            rest = rest - book.look_up(codes[-1])
        return torch.stack(codes, -1)

    def look_up(self, codes: Tensor) -> Tensor:
        """(..., books) codes -> (..., C)."""
        return torch.stack([book.look_up(codes[..., number]) for number, book in enumerate(self)]).sum(0)

    @torch.no_grad()
    def follow(self, x: Tensor, real: Tensor) -> Tensor:
        """Move each book towards what those before it leave of a batch, and give the codes, as `nearest` then does.

        Arguments as of `Codebook.follow`; (n, books) codes.
        """
        rest, codes = x.float(), []
        for book in self:
            book.follow(rest, real)
            codes.append(book.nearest(rest))
            rest = rest - book.look_up(codes[-1])
        return torch.stack(codes, -1)
