"""The bimodal transformer on the official code's own training examples: states, scores and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from motiongpt3.models.bimodal import BimodalTransformer, Tokens
from motiongpt3.models.diffusion_head import DiffusionHead
from motiongpt3.official.holders import (
    END,
    INPUT_KIND,
    MASKED_KIND,
    MOTION_TOKENS,
    OUTPUT_KIND,
    START,
    OfficialRows,
    token_ids,
)
from motiongpt3.official.model import OfficialMotionGPT3

BAR = 1e-5
TASKS = ["t2m", "m2t", "pred", "mix", "inb"]
IGNORED = -100
LATENT_SCALE = 0.8457
Read = Callable[[str], Any]
Close = Callable[..., None]


def scatter(rows: OfficialRows, states: Tensor, motion: bool) -> Tensor:
    """States (B, m, width) of one stream's tokens at their columns (B, n, width), 0 elsewhere."""
    columns, real = rows.columns(motion)
    whole = states.new_zeros(*rows.ids.shape, states.shape[-1])
    return whole.scatter(1, columns[..., None].expand_as(states), states * real[..., None])


def text_loss(model: OfficialMotionGPT3, rows: OfficialRows, words: Tensor) -> Tensor:
    """The official code's loss: mean cross-entropy of the next token, wherever that is a word, START, or padding.

    Prompts count as answers do, and so does padding: about 170 of 187 tokens of a row padded to 192. A word after a
    motion token, which only START after a masked motion is, is predicted from a vector of zeros: its loss is the
    logarithm of the vocabulary's size. `words` are final hidden states (B, m, width) of the text tokens.
    """
    logits = model.backbone.logits(scatter(rows, words, motion=False)[:, :-1])
    following = rows.ids[:, 1:]
    counted = ~rows.motion[:, 1:] & (following != model.backbone.end_of_motion)
    return F.cross_entropy(logits[counted], following[counted])


@dataclass
class Example:
    """A recorded training batch as our model takes it."""

    rows: OfficialRows
    given: list[Tensor]
    """Latents (M, D) of each row's input motions, normalised."""
    asked: list[Tensor]
    """Latents (D,) of the motions to be made, of the rows that have one."""
    text: Tokens
    motion: Tokens | None


def example(model: OfficialMotionGPT3, record: dict[str, Tensor], task: str) -> Example:
    """Ids from the recorded labels, latents from the recorded samples, which are in the order of their motions."""
    labels, kinds = record[f"{task}.labels"], record[f"{task}.type_ids"].bool()
    first = model.backbone.vocabulary + 2
    ids = torch.where(labels == IGNORED, model.backbone.end_of_motion, labels)
    asked_rows = (record[f"{task}.inputs_embeds_motion"] - model.holders.rows[OUTPUT_KIND]).abs().amax(-1) == 0
    motion_ids = torch.where(labels == IGNORED, torch.where(asked_rows, OUTPUT_KIND, INPUT_KIND), MASKED_KIND) + first
    ids = torch.where(kinds, motion_ids, ids)
    rows = OfficialRows(ids, record[f"{task}.attention_mask"].bool(), first)
    samples = iter(record[f"{task}.vae_samples"].view(-1, model.config.vae.latent_channels) * LATENT_SCALE)
    given, asked = [], []
    for row in ids:
        count = int((row == first + INPUT_KIND).sum()) // model.config.queries
        given.append(torch.stack([next(samples) for _ in range(count)]) if count else torch.zeros(0, 1))
        if (row == first + OUTPUT_KIND).any():
            asked.append(next(samples))
    assert next(samples, None) is None
    sparse = [latents if len(latents) else latents.new_zeros(0, model.config.vae.latent_channels) for latents in given]
    return Example(rows, sparse, asked, *rows.tokens(model.backbone, model.holders, sparse))


@pytest.fixture(scope="module", params=TASKS)
def recorded(request: pytest.FixtureRequest, official: OfficialMotionGPT3, read: Read) -> tuple[str, Example]:
    record = read("lm_tiny_io.safetensors")
    if f"{request.param}.labels" not in record:
        pytest.skip(f"the set has no {request.param}")
    with torch.no_grad():
        return request.param, example(official, record, request.param)


def check_states(
    model: BimodalTransformer, found: Example, record: dict[str, Tensor], prefix: str, close: Close
) -> tuple[Tensor, Tensor | None]:
    """Every layer's hidden states at real positions; returns the last of both streams."""
    states = model.hidden_states(found.text, found.motion)
    states[-1] = model(found.text, found.motion)  # the record's last is after the final norm
    for depth, (words, moves) in enumerate(states):
        assert words is not None
        whole = scatter(found.rows, words, motion=False)
        if moves is not None:
            whole = whole + scatter(found.rows, moves, motion=True)
        real = found.rows.mask
        close(whole[real], record[f"{prefix}hidden_{depth}_routed"][real], BAR)
    assert f"{prefix}hidden_{len(states)}_routed" not in record
    return states[-1]  # type: ignore[return-value]


@torch.no_grad()
def test_hidden_states_scores_and_text_loss(
    recorded: tuple[str, Example], official: OfficialMotionGPT3, read: Read, close: Close
) -> None:
    task, found = recorded
    record = read("lm_tiny_io.safetensors")
    words, _ = check_states(official.transformer, found, record, f"{task}.", close)
    own = found.rows.mask & ~found.rows.motion
    scores = official.backbone.logits(scatter(found.rows, words, motion=False))
    close(scores[own], record[f"{task}.logits_text"][own], BAR)
    close(text_loss(official, found.rows, words), record[f"{task}.loss"][0], BAR)


@torch.no_grad()
def test_diffusion_targets_and_loss(
    recorded: tuple[str, Example],
    official: OfficialMotionGPT3,
    read: Read,
    close: Close,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, found = recorded
    record = read("lm_tiny_io.safetensors")
    if f"{task}.diff_t" not in record:
        assert not found.asked
        return
    hidden = official.run_holders(found.rows, found.given)
    repeat = len(record[f"{task}.diff_t"]) // len(found.asked)
    targets, hidden = torch.stack(found.asked)[:, None].repeat(repeat, 1, 1), hidden.repeat(repeat, 1, 1)
    close(targets, record[f"{task}.diff_target"], BAR)
    dropped = record[f"{task}.cfg_u"] < 0.1
    close(hidden.where(~dropped[:, None, None], official.head.no_condition), record[f"{task}.diff_z"], BAR)
    head = DiffusionHead(replace(official.head.config, condition_dropping=0.1)).eval()
    head.load_state_dict(official.head.state_dict())
    times = (record[f"{task}.diff_t"].double() + 0.5) / head.config.train_steps
    uniform = iter([record[f"{task}.cfg_u"], times])  # first whether to drop the condition, then the time
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(uniform))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: record[f"{task}.diff_noise"])
    close(head.loss(hidden, targets, repeat=1).mean(), record[f"{task}.diff_loss"][0], BAR)


@torch.no_grad()
def test_layers_that_are_apart(official: OfficialMotionGPT3, read: Read, close: Close) -> None:
    """Only the last two layers are shared; in the others a stream sees the other's places as bias."""
    record, inputs = read("lm_tiny_last2_io.safetensors"), read("lm_tiny_io.safetensors")
    found = example(official, inputs, "mix")
    model = BimodalTransformer(official.backbone.stream, official.motion, shared_layers=2, isolated="bias").eval()
    words, _ = check_states(model, found, record, "", close)
    own = found.rows.mask & ~found.rows.motion
    close(official.backbone.logits(scatter(found.rows, words, motion=False))[own], record["logits_text"][own], BAR)
    close(text_loss(official, found.rows, words), record["loss"][0], BAR)


def test_recorded_rows_are_what_their_text_encodes_to(
    recorded: tuple[str, Example], official: OfficialMotionGPT3
) -> None:
    """Words and names of tokens, put together as a text, are the recorded ids again."""
    _, found = recorded
    backbone = official.backbone
    names = {backbone.start_of_motion: START, backbone.end_of_motion: END}
    names |= {found.rows.motion_from + row: name for row, name in enumerate(MOTION_TOKENS)}
    for ids, mask in zip(found.rows.ids, found.rows.mask, strict=True):
        row, text, words = ids[mask].tolist(), "", []
        for number in [*row, None]:
            if number is not None and number not in names:
                words.append(number)
                continue
            text += backbone.tokenizer.decode(words, skip_special_tokens=False)
            text, words = text + names.get(number, ""), []
        assert token_ids(backbone, text) == row
