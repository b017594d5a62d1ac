"""Official prompts as token ids, and token ids as tokens of the two streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from motiongpt3.instructions.official import END, MOTION_TOKENS, START, TEXT_END
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.holders import Holders
from motiongpt3.models.stream import Tokens

_NAMES = re.compile("(" + "|".join(map(re.escape, (START, END, TEXT_END, *MOTION_TOKENS))) + ")")
PADDED = 192
"""Tokens of a row that the official code pads or cuts to, in training and evaluation."""


def token_ids(backbone: TextBackbone, text: str) -> list[int]:
    """Ids of a text in which tokens are named, as in `instructions.official`.

    Words have the text vocabulary's ids, then come <start_of_motion> and <end_of_motion>, then the motion vocabulary.
    """
    first = backbone.vocabulary
    named = {START: first, END: first + 1, TEXT_END: backbone.eos_id}
    named |= {name: first + 2 + row for row, name in enumerate(MOTION_TOKENS)}
    ids: list[int] = []
    for piece in _NAMES.split(text):
        if piece in named:
            ids.append(named[piece])
        elif piece:
            ids += backbone.ids(piece)
    return ids


def without_names(text: str) -> str:
    """A user's words without the names of special tokens, which `token_ids` would take for these."""
    return _NAMES.sub(" ", text)


@dataclass(frozen=True)
class OfficialRows:
    """Rows of token ids, and where the tokens of each stream stand in them.

    Args:
        ids: (B, n), as `token_ids` makes them.
        mask: (B, n) bool, False for padding.
        motion_from: the first id of the motion vocabulary.
    """

    ids: Tensor
    mask: Tensor
    motion_from: int

    @classmethod
    def of(
        cls, backbone: TextBackbone, rows: Sequence[Sequence[int]], padded: int = 0, left: bool = False
    ) -> OfficialRows:
        """Rows of ids filled with the end of text, on the right or on the left, to `padded` tokens or the longest."""
        length = max(padded, *map(len, rows))
        ids = torch.full((len(rows), length), backbone.eos_id)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows):
            at = slice(length - len(row), length) if left else slice(0, len(row))
            ids[i, at], mask[i, at] = torch.tensor(row), True
        device = backbone.embedding.device
        return cls(ids.to(device), mask.to(device), backbone.vocabulary + 2)

    @cached_property
    def motion(self) -> Tensor:
        """(B, n) bool: tokens of the motion stream."""
        return self.ids >= self.motion_from

    @cached_property
    def positions(self) -> Tensor:
        """(B, n) long: from 0 at the first real token, whichever side the padding is on."""
        first = self.mask.int().argmax(1, keepdim=True)
        return (torch.arange(self.ids.shape[1], device=self.ids.device) - first).clamp(min=0)

    def columns(self, motion: bool) -> tuple[Tensor, Tensor]:
        """Columns (B, m) of one stream's tokens in each row, in order, and which of them (B, m) are in the row."""
        own = self.motion if motion else ~self.motion
        counts = own.sum(1)
        order = torch.argsort(~own, dim=1, stable=True)[:, : int(counts.max())]
        return order, torch.arange(order.shape[1], device=order.device) < counts[:, None]

    def tokens(
        self, backbone: TextBackbone, holders: Holders, given: Sequence[Tensor] = ()
    ) -> tuple[Tokens, Tokens | None]:
        """The two streams' own tokens; motion is None where no row has any. `given` is as in `Holders.embed`."""
        columns, real = self.columns(motion=False)
        ids = self.ids.gather(1, columns).where(real, backbone.eos_id)
        text = Tokens(backbone.embed(ids), self.positions.gather(1, columns), self.mask.gather(1, columns) & real)
        if not self.motion.any():
            return text, None
        columns, real = self.columns(motion=True)
        kinds = (self.ids.gather(1, columns) - self.motion_from).where(real, 1)
        embeddings = holders.embed(kinds, given)
        return text, Tokens(embeddings, self.positions.gather(1, columns), self.mask.gather(1, columns) & real)

    def scatter(self, states: Tensor, motion: bool) -> Tensor:
        """States (B, m, width) of one stream's tokens at their columns (B, n, width), 0 elsewhere."""
        columns, real = self.columns(motion)
        whole = states.new_zeros(*self.ids.shape, states.shape[-1])
        index = columns[..., None].expand_as(states)
        return whole.scatter(1, index, states * real[..., None])
