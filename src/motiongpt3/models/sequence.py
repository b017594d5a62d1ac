"""Words and motions in one line: where every token of a batch of sequences stands, and which of them are learned.

A sequence is a row of pieces: text, motions that the model reads (input) and motions that it makes (output). A motion
is enclosed by <start_of_motion> and <end_of_motion>, which are text tokens; its own tokens belong to the motion stream.
`pack` turns rows of pieces into tensors, which `Network.forward` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

IGNORE = -100
"""Target of a token that nothing is learned from: what PyTorch's cross entropy leaves out."""


@dataclass(frozen=True)
class TextPiece:
    """Text tokens; `learn`: the model is trained to write them."""

    ids: tuple[int, ...]
    learn: bool = False


@dataclass(frozen=True)
class InputMotion:
    """A motion that is read: number `motion` of the batch's input motions.

    `opened`: <start_of_motion> stands before it already.
    """

    motion: int
    opened: bool = False


@dataclass(frozen=True)
class OutputMotion:
    """A motion that is made: number `motion` of the batch's output motions; `opened` as in `InputMotion`.

    `learn`: the model is trained to write <start_of_motion>, that is, to decide that a motion follows.
    """

    motion: int
    learn: bool = False
    opened: bool = False


Piece = TextPiece | InputMotion | OutputMotion
Row = Sequence[Piece]


@dataclass(frozen=True)
class MotionTokens:
    """What `pack` must know of a model: its two special tokens, and the tokens of an input and of an output motion."""

    start: int
    end: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class PackedSequences:
    """B sequences, padded on the right.

    Attributes:
        ids: (B, T) text tokens.
        positions: (B, T) their places on the line both streams share.
        mask: (B, T) True for a real token.
        targets: (B, T) the id that follows each text token where it is learned, else IGNORE.
        slots: (B, M) index of each motion token among all input motions' tokens, then all output ones'.
        slot_positions: (B, M).
        slot_mask: (B, M).
        outputs: (R, tokens of an output motion) where each output motion's tokens lie in the flattened (B * M).
        ends: (B,) the next free place of each sequence.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    slots: Tensor
    slot_positions: Tensor
    slot_mask: Tensor
    outputs: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> PackedSequences:
        """The same on another device."""
        return PackedSequences(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def pack(rows: Sequence[Row], tokens: MotionTokens, starts: Sequence[int] | None = None) -> PackedSequences:
    """Place the tokens of rows one after the other.

    An output motion at the end of a row is left open: no token sees its <end_of_motion>.

    Args:
        rows: B sequences; every output motion of the batch appears once.
        tokens: of the model.
        starts: (B,) place of each row's first token; None: 0.
    """
    starts = [0] * len(rows) if starts is None else starts
    inputs = 1 + max((p.motion for row in rows for p in row if isinstance(p, InputMotion)), default=-1)
    first_output = inputs * tokens.inputs
    lines = [_spell(row, tokens, first_output) for row in rows]
    text, motion = [], []
    for start, line in zip(starts, lines, strict=True):
        following = [*line, (False, 0, False)][1:]
        places = range(start, start + len(line))
        text.append(
            [
                (number, place, after if is_text and learn else IGNORE)
                for place, (mine, number, _), (is_text, after, learn) in zip(places, line, following, strict=True)
                if mine
            ]
        )
        motion.append([(slot, place) for place, (is_text, slot, _) in zip(places, line, strict=True) if not is_text])
    ids, mask = pad_ids([[number for number, _, _ in row] for row in text])
    positions, _ = pad_ids([[place for _, place, _ in row] for row in text])
    targets, _ = pad_ids([[target for _, _, target in row] for row in text], IGNORE)
    slots, slot_mask = pad_ids([[slot for slot, _ in row] for row in motion])
    slot_positions, _ = pad_ids([[place for _, place in row] for row in motion])
    made = ((slots >= first_output) & slot_mask).flatten().nonzero()[:, 0]
    outputs = made[slots.flatten()[made].argsort()].view(-1, tokens.outputs)
    ends = torch.tensor([start + len(line) for start, line in zip(starts, lines, strict=True)])
    return PackedSequences(ids, positions, mask, targets, slots, slot_positions, slot_mask, outputs, ends)


def _spell(row: Row, tokens: MotionTokens, first_output: int) -> list[tuple[bool, int, bool]]:
    """Every token of a row in order: whether it is text, its id or its slot, and whether it is learned."""
    line: list[tuple[bool, int, bool]] = []
    for number, piece in enumerate(row, start=1):
        if isinstance(piece, TextPiece):
            line += [(True, token, piece.learn) for token in piece.ids]
            continue
        output = isinstance(piece, OutputMotion)
        if not piece.opened:
            line.append((True, tokens.start, isinstance(piece, OutputMotion) and piece.learn))
        count, offset = (tokens.outputs, first_output) if output else (tokens.inputs, 0)
        line += [(False, offset + piece.motion * count + k, False) for k in range(count)]
        if not (output and number == len(row)):
            line.append((True, tokens.end, False))
    return line


def pack_outputs(starts: Tensor, count: int) -> PackedSequences:
    """One opened output motion of `count` tokens in each row, from the places `starts` (B,) on."""
    slots = torch.arange(len(starts) * count, device=starts.device).view(-1, count)
    mask = torch.ones_like(slots, dtype=torch.bool)
    places = starts.unsqueeze(1) + torch.arange(count, device=starts.device)
    nothing = slots[:, :0]
    return PackedSequences(nothing, nothing, mask[:, :0], nothing, slots, places, mask, slots, starts + count)


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


def pad_ids(rows: Sequence[Sequence[int]], filler: int = 0) -> tuple[Tensor, Tensor]:
    """(B, longest) long, filled up on the right, and (B, longest) bool: what is real."""
    longest = max(map(len, rows), default=0)
    table = torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows])
    return table.view(len(rows), longest), torch.arange(longest) < lengths.unsqueeze(1)
