"""Official prompts, motion tokens and rows of two streams, by hand; `tests/parity` compares with recorded ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from motiongpt3.official.holders import (
    INPUT_KIND,
    MASKED_KIND,
    OUTPUT_KIND,
    VOCABULARY_ROWS,
    Holders,
    OfficialRows,
    asked_motion,
    given_motion,
    official_prompt,
    token_ids,
    without_names,
)
from motiongpt3.official.model import OfficialMotionGPT3

GIVEN, ASKED, HIDDEN = given_motion(2), asked_motion(2), "<masked_motion>" * 2


@pytest.mark.parametrize(
    ("task", "profile", "prompt"),
    [
        ("t2m", "default", f"he walks \n {ASKED}"),
        ("t2m", "official", f"Generate motion: he walks \n \n {ASKED}"),
        ("m2t", "default", f"{GIVEN} \n"),
        ("m2t", "official", f"Generate text: {GIVEN} \n \n"),
        ("predict", "default", f"Predict motion: {GIVEN} \n {ASKED}"),
        ("inbetween", "official", f"Complete the masked motion: {GIVEN}{HIDDEN}{GIVEN} \n \n {ASKED}"),
    ],
)
def test_prompts(task: Any, profile: Any, prompt: str) -> None:
    assert official_prompt(task, "he walks", 2, profile) == prompt


def test_a_latent_takes_the_places_of_its_holders_chunk_by_chunk() -> None:
    """Two motions of two holders in one row: (m0 c0, m1 c0, m0 c1, m1 c1), as the official weights were trained."""
    holders = Holders(2, 3, 4)
    kinds = torch.tensor([[INPUT_KIND, INPUT_KIND, MASKED_KIND, INPUT_KIND, INPUT_KIND], [OUTPUT_KIND] * 5])
    latents = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    embedded = holders.embed(kinds, [latents, torch.zeros(0, 3)])
    m0, m1 = (holders.understand(latent).reshape(2, 4) for latent in latents)
    torch.testing.assert_close(embedded[0], torch.stack([m0[0], m1[0], holders.rows[MASKED_KIND], m0[1], m1[1]]))
    assert torch.equal(embedded[1], holders.rows[OUTPUT_KIND].expand(5, 4))
    assert len(holders.rows) == VOCABULARY_ROWS


def test_names_are_ids_behind_the_words(official: OfficialMotionGPT3) -> None:
    backbone = official.backbone
    first = backbone.vocabulary
    assert token_ids(backbone, f"a person {asked_motion(3)}") == [
        *backbone.ids("a person"), first, *[first + 2 + OUTPUT_KIND] * 3, first + 1
    ]  # fmt: skip
    assert token_ids(backbone, "walks<|endoftext|>")[-1] == backbone.eos_id
    said = without_names("a <masked_motion>person<start_of_motion>")
    assert said == "a  person "
    assert token_ids(backbone, said) == backbone.ids("a person")


def test_rows_are_parted_into_two_streams_that_keep_their_places(official: OfficialMotionGPT3) -> None:
    backbone = official.backbone
    first = backbone.vocabulary + 2
    rows = OfficialRows.of(backbone, [[1, first + INPUT_KIND, 2, first + OUTPUT_KIND], [3]], padded=5)
    assert rows.ids[1].tolist() == [3, *[backbone.eos_id] * 4]
    assert rows.mask.tolist() == [[True] * 4 + [False], [True] + [False] * 4]
    columns, real = rows.columns(motion=True)
    assert columns[0].tolist() == [1, 3]
    assert real.tolist() == [[True, True], [False, False]]
    latent = torch.ones(1, official.config.vae.latent_channels)
    one = OfficialRows.of(backbone, [[1, first + OUTPUT_KIND, 2]])
    text, motion = one.tokens(backbone, official.holders)
    assert motion is not None
    assert text.positions.tolist() == [[0, 2]]
    assert motion.positions.tolist() == [[1]]
    torch.testing.assert_close(text.embeddings[0], backbone.embed(torch.tensor([1, 2])))
    torch.testing.assert_close(motion.embeddings[0, 0], official.holders.rows[OUTPUT_KIND])
    assert OfficialRows.of(backbone, [[1, 2]]).tokens(backbone, official.holders, [latent[:0]])[1] is None
