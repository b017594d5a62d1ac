"""Where tokens stand and which are learned; one pass, a cache, a batch and padding all give the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.network import EncodedMotions
from motiongpt3.models.sequence import (
    IGNORE,
    InputMotion,
    MotionTokens,
    OutputMotion,
    PackedSequences,
    Piece,
    TextPiece,
    pack,
    split_at_motion,
)

TOKENS = MotionTokens(start=30, end=31, inputs=3, outputs=4)

words = st.builds(TextPiece, st.lists(st.integers(1, 19), min_size=1, max_size=4).map(tuple), st.booleans())
kinds = st.lists(st.one_of(words, st.sampled_from(["shown", "drawn", "learned"])), max_size=4)


def numbered(drafts: list[tuple[TextPiece, list[TextPiece | str]]]) -> list[list[Piece]]:
    """Rows that begin with words, their motions numbered over the batch."""
    shown = drawn = 0
    rows: list[list[Piece]] = []
    for first, rest in drafts:
        row: list[Piece] = [first]
        for kind in rest:
            if isinstance(kind, TextPiece):
                row.append(kind)
            elif kind == "shown":
                row.append(InputMotion(shown))
                shown += 1
            else:
                row.append(OutputMotion(drawn, learn=kind == "learned"))
                drawn += 1
        rows.append(row)
    return rows


batches = st.lists(st.tuples(words, kinds), min_size=1, max_size=4).map(numbered)


def symbols(row: list[Piece], tokens: MotionTokens, shown: int) -> list[tuple[str, int, bool]]:
    """A row spelt out: ("text", id, learned) and ("motion", slot, False) in order."""
    line: list[tuple[str, int, bool]] = []
    for number, piece in enumerate(row):
        if isinstance(piece, TextPiece):
            line += [("text", i, piece.learn) for i in piece.ids]
            continue
        drawn = isinstance(piece, OutputMotion)
        line.append(("text", tokens.start, isinstance(piece, OutputMotion) and piece.learn))
        count, offset = (tokens.outputs, shown * tokens.inputs) if drawn else (tokens.inputs, 0)
        line += [("motion", offset + piece.motion * count + k, False) for k in range(count)]
        if not drawn or number < len(row) - 1:
            line.append(("text", tokens.end, False))
    return line


@pytest.mark.slow
@given(batches, st.integers(0, 5))
def test_every_token_stands_where_its_row_says(rows: list[list[Piece]], start: int) -> None:
    starts = [start + number for number in range(len(rows))]
    packed = pack(rows, TOKENS, starts)
    shown = sum(isinstance(piece, InputMotion) for row in rows for piece in row)
    drawn: dict[int, list[tuple[int, int]]] = {}
    for number, row in enumerate(rows):
        line = symbols(row, TOKENS, shown)
        text, motion = packed.mask[number], packed.slot_mask[number]
        assert text.tolist() == sorted(text.tolist(), reverse=True)  # padded on the right
        found = dict(zip(packed.positions[number][text].tolist(), packed.ids[number][text].tolist(), strict=True))
        slots = dict(
            zip(packed.slot_positions[number][motion].tolist(), packed.slots[number][motion].tolist(), strict=True)
        )
        assert not found.keys() & slots.keys()
        spelt = [(found | slots).get(starts[number] + k) for k in range(len(line))]
        assert spelt == [value for _, value, _ in line]
        assert len(found) + len(slots) == len(line)
        assert packed.ends[number] == starts[number] + len(line)
        # A text token learns the next token where that is text, too, and learned.
        following = [*line[1:], ("text", 0, False)]
        wanted = [
            value if kind == "text" and learned else IGNORE
            for (own, _, _), (kind, value, learned) in zip(line, following, strict=True)
            if own == "text"
        ]
        assert packed.targets[number][text].tolist() == wanted
        assert (packed.targets[number][~text] == IGNORE).all()
        order = [slot for kind, slot, _ in line if kind == "motion"]
        for k, slot in enumerate(order):
            if slot >= shown * TOKENS.inputs:
                drawn.setdefault((slot - shown * TOKENS.inputs) // TOKENS.outputs, []).append((number, k))
    width = packed.slots.shape[1]
    assert packed.outputs.tolist() == [[row * width + k for row, k in drawn[motion]] for motion in sorted(drawn)]


def test_an_open_motion_and_the_token_behind_a_motion_are_not_learned() -> None:
    """By hand: a question of two words, an answer of a motion and a word; and one that ends with its motion."""
    rows = [
        [TextPiece((4, 5)), OutputMotion(0, learn=True), TextPiece((6, 7), learn=True)],
        [TextPiece((8,)), OutputMotion(1, learn=True)],
    ]
    packed = pack(rows, TOKENS)
    assert packed.ids.tolist() == [[4, 5, 30, 31, 6, 7], [8, 30, 0, 0, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 7, 8, 9], [0, 1, 0, 0, 0, 0]]
    ignored = [IGNORE] * 4
    assert packed.targets.tolist() == [[IGNORE, 30, IGNORE, 6, 7, IGNORE], [30, IGNORE, *ignored]]
    assert packed.slot_positions.tolist() == [[3, 4, 5, 6], [2, 3, 4, 5]]
    assert packed.outputs.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert packed.ends.tolist() == [10, 6]


def given_to(model: MotionGPT3, rows: list[list[Piece]]) -> tuple[EncodedMotions, Tensor | None]:
    """Random motions to read, and durations of those to draw."""
    counts = [sum(isinstance(piece, kind) for row in rows for piece in row) for kind in (InputMotion, OutputMotion)]
    generator = torch.Generator().manual_seed(5)
    vae = model.config.vae
    latents = torch.randn(counts[0], vae.latent_tokens, vae.latent_channels, generator=generator)
    frames = torch.randint(20, 100, (sum(counts),), generator=generator)
    return EncodedMotions(latents, frames[: counts[0]]), frames[counts[0] :] if counts[1] else None


def parts_of(rows: list[list[Piece]], number: int, kind: type) -> slice:
    """Which of the batch's motions of a kind are in one row."""
    before = sum(isinstance(piece, kind) for row in rows[:number] for piece in row)
    return slice(before, before + sum(isinstance(piece, kind) for piece in rows[number]))


def told(model: MotionGPT3, frames: Tensor | None) -> Tensor | None:
    """Tokens of motions to draw."""
    return None if frames is None else model.query_tokens(frames)


@torch.no_grad()
def run(
    model: MotionGPT3, rows: list[list[Piece]], packed: PackedSequences | None = None
) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Logits of each row's text tokens, hidden states of the drawn motions, and those told."""
    read, asked = given_to(model, rows)
    packed = packed or pack(rows, model.motion_tokens)
    said, hidden = model(packed, read, told(model, asked))
    logits = [model.backbone.logits(line[mask]) for line, mask in zip(said, packed.mask, strict=True)]
    return logits, hidden, asked


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(rows=batches)
def test_a_batch_gives_what_each_row_gives_alone(reader: MotionGPT3, rows: list[list[Piece]]) -> None:
    """Logits within 1e-4; and what padding holds is never read."""
    logits, hidden, asked = run(reader, rows)
    packed = pack(rows, reader.motion_tokens)
    junk = replace(
        packed,
        ids=packed.ids.where(packed.mask, torch.tensor(7)),
        positions=packed.positions.where(packed.mask, torch.tensor(3)),
        slot_positions=packed.slot_positions.where(packed.slot_mask, torch.tensor(1)),
    )
    others, hidden_2, _ = run(reader, rows, junk)
    torch.testing.assert_close(hidden_2, hidden, atol=1e-4, rtol=0)
    read, _ = given_to(reader, rows)
    for number, row in enumerate(rows):
        torch.testing.assert_close(others[number], logits[number], atol=1e-4, rtol=0)
        shown, drawn = (parts_of(rows, number, kind) for kind in (InputMotion, OutputMotion))
        alone = [
            piece if isinstance(piece, TextPiece) else replace(piece, motion=piece.motion - part.start)
            for piece in row
            for part in (shown if isinstance(piece, InputMotion) else drawn,)
        ]
        durations = asked[drawn] if asked is not None and drawn.stop > drawn.start else None
        one = pack([alone], reader.motion_tokens)
        with torch.no_grad():
            said, thought = reader(
                one, EncodedMotions(read.latents[shown], read.frames[shown]), told(reader, durations)
            )
        torch.testing.assert_close(reader.backbone.logits(said[0]), logits[number], atol=1e-4, rtol=0)
        torch.testing.assert_close(thought, hidden[drawn], atol=1e-4, rtol=0)


@settings(max_examples=12, deadline=None)
@given(rows=batches.filter(lambda rows: any(not isinstance(piece, TextPiece) for row in rows for piece in row)))
def test_what_precedes_the_first_motion_can_be_read_apart(reader: MotionGPT3, rows: list[list[Piece]]) -> None:
    logits, hidden, asked = run(reader, rows)
    heads, tails = split_at_motion(rows, reader.backbone.start_of_motion)
    read, _ = given_to(reader, rows)
    with torch.no_grad():
        cache, starts = reader.encode_text(heads)
        packed = pack(tails, reader.motion_tokens, starts.tolist())
        said, thought = reader(packed, read, told(reader, asked), cache)
    torch.testing.assert_close(thought, hidden, atol=1e-4, rtol=0)
    for number, head in enumerate(heads):
        if said is not None and packed.mask[number].any():
            behind = reader.backbone.logits(said[number][packed.mask[number]])
            torch.testing.assert_close(behind, logits[number][len(head) :], atol=1e-4, rtol=0)
        assert len(head) + int(packed.mask[number].sum()) == len(logits[number])
