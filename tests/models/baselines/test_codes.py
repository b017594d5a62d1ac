"""Codes are written one after the other, each with those before it in sight and none after."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.baselines.build import Streams, build_network
from motiongpt3.models.baselines.codes import CodeNetwork
from motiongpt3.models.baselines.vq import MotionVQ, VQConfig
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.stream import Tokens
from motiongpt3.models.vae import VAEConfig

SIZES = VAEConfig(latent_tokens=2, latent_channels=4, width=16, layers=3, heads=2, mlp_width=16, max_frames=48)
CAPTIONS = ["a person walks", "somebody jumps and then waves"]
FRAMES = torch.tensor([30, 45])


@pytest.fixture(params=[("dual", 1), ("single", 1), ("dual", 3)], ids=str)
def network(request: pytest.FixtureRequest, tiny_backbone: Path) -> CodeNetwork:
    torch.manual_seed(0)
    streams: Streams = request.param[0]
    vq = VQConfig(SIZES, books=request.param[1], codes=20, code_channels=4)
    config = MotionGPT3Config(
        backbone=str(tiny_backbone), prompt_style="plain", motion_width=16, motion_mlp=16, head=HeadConfig(width=16)
    )
    network = build_network(config, MotionVQ(vq), streams, 2, 0.0)
    assert isinstance(network, CodeNetwork)
    with torch.no_grad():
        network.code_head.table.normal_()
        for scores in network.code_head.scores:
            torch.nn.init.normal_(scores.get_parameter("weight"))
    return network.eval()


def logits(network: CodeNetwork, codes: torch.Tensor) -> torch.Tensor:
    """(B, n, books, codes) what is predicted for each of the codes (B, n, books), all of them at once."""
    words, start = network.text_tokens(network.tokens(CAPTIONS))
    inputs = torch.cat([network.query_tokens(FRAMES), network.code_tokens(codes[:, :-1], FRAMES)], 1)
    _, hidden = network.transformer(words, Tokens.of(inputs, start=start))
    return network.code_head(hidden[:, 1:], codes)


def test_what_is_written_is_what_is_predicted(network: CodeNetwork) -> None:
    """The likeliest codes, written step by step with a cache, are the likeliest under teacher forcing."""
    codes = network.write(network.tokens(CAPTIONS), FRAMES, temperature=0)
    assert codes.shape == (2, 12, network.vae.vq.books)
    assert torch.equal(logits(network, codes).argmax(-1), codes)


def test_no_code_is_seen_before_it_is_written(network: CodeNetwork) -> None:
    """Not those of patches to come, and not those of this patch's later books."""
    books = network.vae.vq.books
    codes = torch.randint(0, 20, (2, 12, books), generator=torch.Generator().manual_seed(1))
    before = logits(network, codes)
    for book in range(books):
        other = codes.clone()
        other[:, 5, book] = (other[:, 5, book] + 1) % 20
        after = logits(network, other)
        torch.testing.assert_close(before[:, :5], after[:, :5])
        torch.testing.assert_close(before[:, 5, : book + 1], after[:, 5, : book + 1])
        assert book + 1 == books or (before[:, 5, book + 1 :] - after[:, 5, book + 1 :]).abs().amax((0, 2)).min() > 1e-3
        assert (before[:, 6:] - after[:, 6:]).abs().max() > 1e-3


def test_the_words_and_the_duration_matter(network: CodeNetwork) -> None:
    codes = torch.zeros(2, 12, network.vae.vq.books, dtype=torch.long)
    first = logits(network, codes)
    assert (first[0] - first[1]).abs().max() > 1e-4


def test_draws_follow_the_seed(network: CodeNetwork) -> None:
    tokens = network.tokens(CAPTIONS)
    first, again, other = (network.write(tokens, FRAMES, 1.0, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(MotionGPT3Error, match="temperature"):
        network.write(tokens, FRAMES, -1.0)


def test_draws_have_the_predicted_chances(network: CodeNetwork) -> None:
    """The first patch's codes of many draws, each book given those before it."""
    tokens = network.tokens(CAPTIONS[:1]) * 4000
    frames = torch.full((4000,), 4)
    drawn = network.write(tokens, frames, 1.0)[:, 0]
    words, start = network.text_tokens(tokens[:1])
    _, hidden = network.transformer(words, Tokens.of(network.query_tokens(frames[:1]), start=start))
    chances = network.code_head(hidden[0, 1].expand(4000, -1), drawn).softmax(-1)
    for book in range(drawn.shape[1]):
        counts = drawn[:, book].bincount(minlength=20) / 4000
        assert (counts - chances[:, book].mean(0)).abs().max() < 0.04
