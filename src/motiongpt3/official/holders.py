"""Official prompts as token ids, and token ids as tokens of the two streams.

Facts: OpenMotionLab/MotionGPT3, commit cf5bab7. A prompt is words with names of tokens among them; a motion is a row of
K holders between <start_of_motion> and <end_of_motion>, which stand for a latent to be read or to be drawn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.bimodal import Tokens
from motiongpt3.models.config import Profile

OfficialTask = Literal["t2m", "m2t", "predict", "inbetween"]

START, END, TEXT_END = "<start_of_motion>", "<end_of_motion>", "<|endoftext|>"
MOTION_TOKENS = ("<masked_motion>", "<pad_motion>", "<motion_latent_holder_output>", "<motion_latent_holder>")
"""Names of the motion vocabulary, in the order of its rows."""
MASKED_KIND, PADDING_KIND, OUTPUT_KIND, INPUT_KIND = range(4)
"""Rows of the motion vocabulary: a missing motion, padding, a motion that is to be made, a motion that is given."""
VOCABULARY_ROWS = 6
"""Rows that the motion vocabulary has; the last two have no meaning."""
PADDED_TOKENS = 192
"""Tokens of a row that the official code pads or cuts to, in training and evaluation."""
QUESTIONS = {
    "t2m": "Generate motion: {given}",
    "m2t": "Generate text: {given}",
    "predict": "Predict motion: {given}",
    "inbetween": "Complete the masked motion: {given}",
}
"""What the official evaluation says around what is given."""
_NAMES = re.compile("(" + "|".join(map(re.escape, (START, END, TEXT_END, *MOTION_TOKENS))) + ")")


def given_motion(holders: int) -> str:
    """A motion that the model reads."""
    return START + MOTION_TOKENS[INPUT_KIND] * holders + END


def asked_motion(holders: int) -> str:
    """A motion that the model makes."""
    return START + MOTION_TOKENS[OUTPUT_KIND] * holders + END


def official_prompt(task: OfficialTask, caption: str, holders: int, profile: Profile) -> str:
    """What the model continues: with the holders of a motion after START, or with words.

    official: the words of the official evaluation. default: as in training, where a text is `INPUT \\n
    OUTPUT<|endoftext|>`; what the evaluation asks has one " \\n" more and words that training never saw.
    """
    motion, hidden = given_motion(holders), MOTION_TOKENS[MASKED_KIND] * holders
    asked = {"t2m": caption, "inbetween": motion + hidden + motion}.get(task, motion)
    if profile == "official" or task in ("predict", "inbetween"):
        asked = QUESTIONS[task].format(given=asked)
    asked += " \n \n" if profile == "official" else " \n"
    return asked if task == "m2t" else f"{asked} {asked_motion(holders)}"


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
        self.rows = nn.Parameter(torch.randn(VOCABULARY_ROWS, width))
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


def token_ids(backbone: TextBackbone, text: str) -> list[int]:
    """Ids of a text in which tokens are named, as in `official_prompt`.

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
        mask: (B, n) bool, False for padding, which is on the right.
        motion_from: the first id of the motion vocabulary.
    """

    ids: Tensor
    mask: Tensor
    motion_from: int

    @classmethod
    def of(cls, backbone: TextBackbone, rows: Sequence[Sequence[int]], padded: int = 0) -> OfficialRows:
        """Rows of ids filled with the end of text to `padded` tokens or the longest."""
        length = max(padded, *map(len, rows))
        ids = torch.full((len(rows), length), backbone.eos_id)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
        device = backbone.embedding.device
        return cls(ids.to(device), mask.to(device), backbone.vocabulary + 2)

    @cached_property
    def motion(self) -> Tensor:
        """(B, n) bool: tokens of the motion stream."""
        return self.ids >= self.motion_from

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
        text = Tokens(backbone.embed(ids), columns, self.mask.gather(1, columns) & real)
        if not self.motion.any():
            return text, None
        columns, real = self.columns(motion=True)
        kinds = (self.ids.gather(1, columns) - self.motion_from).where(real, PADDING_KIND)
        return text, Tokens(holders.embed(kinds, given), columns, self.mask.gather(1, columns) & real)
