"""Words to motion and motion to words, from the prompt to what comes out, with the recorded noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from motiongpt3.models.bimodal import KVCache, Tokens
from motiongpt3.official.holders import (
    END,
    MOTION_TOKENS,
    PADDED_TOKENS,
    START,
    OfficialRows,
    official_prompt,
    token_ids,
)
from motiongpt3.official.model import DECODING, OfficialMotionGPT3

BAR = 1e-4
Read = Callable[[str], Any]
Close = Callable[..., None]


@pytest.fixture
def record(read: Read) -> dict[str, Tensor]:
    content = read("lm_tiny_io.safetensors")
    return {name.removeprefix("gen."): tensor for name, tensor in content.items() if name.startswith("gen.")}


def captions(official: OfficialMotionGPT3, ids: Tensor, mask: Tensor) -> list[str]:
    """The captions in recorded prompts of words to motion."""
    before, _, after = official_prompt("t2m", "\0", 1, "official").partition(START)[0].partition("\0")
    rows = []
    for row, real in zip(ids, mask.bool(), strict=True):
        start = row.tolist().index(official.backbone.start_of_motion)
        assert real.sum() < PADDED_TOKENS
        text = official.backbone.tokenizer.decode(row[:start].tolist(), skip_special_tokens=False)
        assert text.startswith(before)
        assert text.endswith(after)
        rows.append(text[len(before) : -len(after)])
    return rows


@torch.no_grad()
def test_words_to_motion(
    official: OfficialMotionGPT3, record: dict[str, Tensor], close: Close, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, mask = record["t2m_input_ids"], record["t2m_attention_mask"]
    said = captions(official, ids, mask)
    whole = [
        token_ids(official.backbone, official_prompt("t2m", text, 4, "official") + "<|endoftext|>") for text in said
    ]
    padded = OfficialRows.of(official.backbone, whole, ids.shape[1])
    assert torch.equal(padded.ids, ids)
    hidden = official.run_holders(official.rows("t2m", said))  # neither padded nor continued: the same states
    close(hidden, record["t2m_hidden"], BAR)
    close(official.run_holders(padded), record["t2m_hidden"], BAR)
    steps = record["step_noise"].shape[0]
    noises = iter(record["step_noise"][:, : len(said)])
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(noises))
    latents = official.head.sample(hidden, record["init_noise"], steps, 3.0, "ddpm")
    latents = official.vae.denormalise_latents(latents)
    close(latents, record["t2m_latent"], BAR)
    frames = (record["t2m_feats"].abs().amax(-1) > 0).sum(1)
    close(official.vae.decode(latents, frames), record["t2m_feats"], BAR)
    assert len(list(noises)) == 1  # none is added in the last step


@torch.no_grad()
def test_motion_to_words(official: OfficialMotionGPT3, record: dict[str, Tensor], close: Close) -> None:
    given = list(record["m2t_motion_tokens"][:, 0])
    rows = official.rows("m2t", [""] * len(given))
    real = record["m2t_attention_mask"].bool()  # theirs are padded on the left to 192 tokens, ours not at all
    assert real.shape[1] == PADDED_TOKENS
    assert real.sum(1).tolist() == rows.mask.sum(1).tolist()
    assert torch.equal(rows.motion.long().flatten(), record["m2t_type_ids"][real])
    text, motion = rows.tokens(official.backbone, official.holders, given)
    assert motion is not None
    places = torch.arange(rows.ids.shape[1]).expand_as(rows.ids)
    assert torch.equal(places.flatten(), record["m2t_position_ids_prefill"][real])
    for tokens, name, is_motion in ((text, "text", False), (motion, "motion", True)):
        assert torch.equal(tokens.positions.flatten(), places[rows.motion == is_motion])
        own = record[f"m2t_embeds_{name}"][real].view(*rows.ids.shape, -1)
        close(tokens.embeddings.flatten(0, 1), own[rows.motion == is_motion], BAR)
    sequences = record["m2t_sequences"]
    decoding = replace(DECODING, max_tokens=sequences.shape[1])
    assert official.write(rows, given, decoding) == sequences.tolist()

    cache = KVCache()
    text, motion = rows.tokens(official.backbone, official.holders, given)
    states, _ = official.transformer(text, motion, cache)
    assert states is not None
    state = states[:, -1:]
    for step, scores in enumerate(record["m2t_step_logits"]):
        close(official.backbone.logits(state)[:, 0], scores, BAR)
        following = Tokens.of(official.backbone.embed(sequences[:, step : step + 1]), start=cache.next_position())
        found, _ = official.transformer(following, None, cache)
        assert found is not None
        state = found


def test_names_of_tokens_are_those_of_the_record(official: OfficialMotionGPT3) -> None:
    first = official.backbone.vocabulary
    names = [START, END, *MOTION_TOKENS]
    assert [token_ids(official.backbone, name) for name in names] == [[first + i] for i in range(len(names))]
