"""Words and motions in one line: where every token of a batch of sequences stands, and which of them are learned.

A sequence is a row of pieces. A motion, shown or drawn, is enclosed by <start_of_motion> and <end_of_motion>, which are
text tokens; its own tokens belong to the motion stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

IGNORE = -100
"""Target of a token that nothing is learned from."""


@dataclass(frozen=True)
class TextPiece:
    """Text tokens; `learn`: the model is trained to write them."""

    ids: tuple[int, ...]
    learn: bool = False


@dataclass(frozen=True)
class InputMotion:
    """A motion that is read: number `motion` of the batch's shown motions.

    `opened`: <start_of_motion> stands before it already.
    """

    motion: int
    opened: bool = False


@dataclass(frozen=True)
class OutputMotion:
    """A motion that is made: number `motion` of the batch's drawn motions; `opened` as in `InputMotion`.

    `learn`: the model is trained to write <start_of_motion>, that is, to decide that a motion follows.
    """

    motion: int
    learn: bool = False
    opened: bool = False


Piece = TextPiece | InputMotion | OutputMotion
Row = Sequence[Piece]


@dataclass(frozen=True)
class MotionTokens:
    """What a layout must know about a model: its two special tokens and how many motion tokens a motion takes."""

    start: int
    end: int
    shown: int
    drawn: int


@dataclass(frozen=True)
class PackedSequences:
    """B sequences, padded on the right.

    Attributes:
        ids: (B, T) text tokens.
        positions: (B, T) their places on the line both streams share.
        mask: (B, T) True for a real token.
        targets: (B, T) the id that follows each text token where it is learned, else IGNORE.
        slots: (B, M) index of each motion token among all shown motions' tokens, then all drawn ones'.
        slot_positions: (B, M).
        slot_mask: (B, M).
        drawn: (R, tokens of a drawn motion) where each drawn motion's tokens lie in the flattened (B * M).
        ends: (B,) the next free place of each sequence.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    slots: Tensor
    slot_positions: Tensor
    slot_mask: Tensor
    drawn: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> PackedSequences:
        """The same on another device."""
        return PackedSequences(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def pack(rows: Sequence[Row], tokens: MotionTokens, starts: Sequence[int] | None = None) -> PackedSequences:
    """Place the tokens of rows one after the other.

    A drawn motion at the end of a row is left open: no token sees its <end_of_motion>.

    Args:
        rows: B sequences; every drawn motion of the batch appears once.
        tokens: of the model.
        starts: (B,) place of each row's first token; None: 0.
    """
    shown = 1 + max((p.motion for row in rows for p in row if isinstance(p, InputMotion)), default=-1)
    lines = [_Line(start, tokens, shown * tokens.shown) for start in starts or [0] * len(rows)]
    for line, row in zip(lines, rows, strict=True):
        for number, piece in enumerate(row, start=1):
            line.add(piece, number == len(row))
    width = max((len(line.slots) for line in lines), default=0)
    spans = {}
    for number, line in enumerate(lines):
        for motion, first in line.drawn.items():
            spans[motion] = [number * width + first + k for k in range(tokens.drawn)]
    drawn = torch.tensor([spans[motion] for motion in sorted(spans)], dtype=torch.long)
    ids, mask = _pad([line.ids for line in lines])
    slots, slot_mask = _pad([line.slots for line in lines])
    return PackedSequences(
        ids,
        _pad([line.positions for line in lines])[0],
        mask,
        _pad([line.targets for line in lines], IGNORE)[0],
        slots,
        _pad([line.slot_positions for line in lines])[0],
        slot_mask,
        drawn.view(-1, tokens.drawn),
        torch.tensor([line.place for line in lines]),
    )


def split_at_motion(rows: Sequence[Row], start: int) -> tuple[list[list[int]], list[list[Piece]]]:
    """Each row cut behind its first <start_of_motion>: token ids up to there, and the pieces after it.

    What comes before the first motion never depends on the motion stream, so a frozen text stream can read it apart.
    """
    heads: list[list[int]] = []
    tails: list[list[Piece]] = []
    for row in rows:
        at = next((i for i, piece in enumerate(row) if not isinstance(piece, TextPiece)), len(row))
        words = [i for piece in row[:at] if isinstance(piece, TextPiece) for i in piece.ids]
        first = [replace(piece, opened=True) for piece in row[at : at + 1] if not isinstance(piece, TextPiece)]
        heads.append([*words, start] if first else words)
        tails.append([*first, *row[at + 1 :]])
    return heads, tails


class _Line:
    """One sequence being written."""

    def __init__(self, start: int, tokens: MotionTokens, first_drawn: int) -> None:
        self.place = start
        self.tokens = tokens
        self.first_drawn = first_drawn
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.targets: list[int] = []
        self.slots: list[int] = []
        self.slot_positions: list[int] = []
        self.drawn: dict[int, int] = {}

    def add(self, piece: Piece, last: bool) -> None:
        if isinstance(piece, TextPiece):
            for number in piece.ids:
                self._word(number, piece.learn)
            return
        if not piece.opened:
            self._word(self.tokens.start, isinstance(piece, OutputMotion) and piece.learn)
        count = self.tokens.drawn if isinstance(piece, OutputMotion) else self.tokens.shown
        offset = self.first_drawn if isinstance(piece, OutputMotion) else 0
        if isinstance(piece, OutputMotion):
            self.drawn[piece.motion] = len(self.slots)
        self.slots += [offset + piece.motion * count + k for k in range(count)]
        self.slot_positions += [self.place + k for k in range(count)]
        self.place += count
        if not (last and isinstance(piece, OutputMotion)):
            self._word(self.tokens.end, False)

    def _word(self, number: int, learn: bool) -> None:
        """Append a token; the token before it learns to predict it, if that is a text token too."""
        if learn and self.positions and self.positions[-1] == self.place - 1:
            self.targets[-1] = number
        self.ids.append(number)
        self.positions.append(self.place)
        self.targets.append(IGNORE)
        self.place += 1


def _pad(rows: Sequence[Sequence[int]], filler: int = 0) -> tuple[Tensor, Tensor]:
    """(B, longest) long, filled up on the right, and (B, longest) bool: what is real."""
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max()) if len(rows) else 0
    table = torch.full((len(rows), width), filler, dtype=torch.long)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = torch.tensor(row, dtype=torch.long)
    return table, torch.arange(width) < lengths.unsqueeze(1)
