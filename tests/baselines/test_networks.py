"""Codes are written one after the other, each with those before it in sight and none after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motiongpt3.baselines.networks import (
    CodeNetwork,
    SingleStream,
    Streams,
    build_network,
    first_layers,
    trained_parameters,
)
from motiongpt3.baselines.vq import MotionVQ, VQConfig
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Tokens
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.network import Network
from motiongpt3.models.sequence import pad_ids
from motiongpt3.models.vae import MotionVAE, VAEConfig

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


def text_tokens(network: Network, rows: list[list[int]]) -> tuple[Tokens, torch.Tensor]:
    """Prompts as the text stream takes them, and their (B,) lengths."""
    ids, mask = pad_ids(rows)
    return Tokens.of(network.backbone.embed(ids), mask), mask.sum(1)


def logits(network: CodeNetwork, codes: torch.Tensor) -> torch.Tensor:
    """(B, n, books, codes) what is predicted for each of the codes (B, n, books), all of them at once."""
    words, start = text_tokens(network, network.tokens(CAPTIONS))
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


@pytest.mark.slow
def test_draws_have_the_predicted_chances(network: CodeNetwork) -> None:
    """The first patch's codes of many draws, each book given those before it."""
    tokens = network.tokens(CAPTIONS[:1]) * 4000
    frames = torch.full((4000,), 4)
    drawn = network.write(tokens, frames, 1.0)[:, 0]
    words, start = text_tokens(network, tokens[:1])
    _, hidden = network.transformer(words, Tokens.of(network.query_tokens(frames[:1]), start=start))
    chances = network.code_head(hidden[0, 1].expand(4000, -1), drawn).softmax(-1)
    for book in range(drawn.shape[1]):
        counts = drawn[:, book].bincount(minlength=20) / 4000
        assert (counts - chances[:, book].mean(0)).abs().max() < 0.04


@pytest.fixture
def config(tiny_backbone: Path) -> MotionGPT3Config:
    head = HeadConfig(width=16, depth=1, pool_mlp=16)
    return MotionGPT3Config(
        backbone=str(tiny_backbone), prompt_style="plain", motion_width=16, motion_mlp=16, queries=2, head=head, steps=2
    )


@pytest.fixture
def single(config: MotionGPT3Config) -> SingleStream:
    torch.manual_seed(0)
    single = build_network(config, MotionVAE(SIZES), "single", 2, 0.0)
    assert isinstance(single, SingleStream)
    return single.eval()


def test_words_and_motion_in_one_sequence(single: SingleStream) -> None:
    """Row by row without padding, all tokens in one call of the language model's stream."""
    tokens = single.tokens(CAPTIONS)
    frames = torch.tensor([30, 44])
    words, start = text_tokens(single, tokens)
    text, motion = single.transformer(words, Tokens.of(single.query_tokens(frames), start=start))
    stream = single.backbone.stream
    plain = BimodalTransformer(stream, stream)
    for row, ids in enumerate(tokens):
        own = single.enter(single.query_tokens(frames[row : row + 1]))
        inputs = torch.cat([single.backbone.embed(torch.tensor([ids])), own], 1)
        hidden, _ = plain(Tokens.of(inputs), None)
        torch.testing.assert_close(text[row, : len(ids)], hidden[0, : len(ids)])
        torch.testing.assert_close(motion[row], single.leave(hidden[0, len(ids) :]))


def test_motion_tokens_are_as_large_as_words(single: SingleStream) -> None:
    """However large their weights have grown."""
    words = single.backbone.embedding.square().mean().sqrt()
    frames = torch.tensor([30, 44])
    for _ in range(2):
        sizes = single.enter(single.query_tokens(frames)).square().mean(-1).sqrt()
        torch.testing.assert_close(sizes, words.expand_as(sizes), rtol=1e-2, atol=0)
        with torch.no_grad():
            single.queries.mul_(1000)


def test_a_cache_changes_nothing(single: SingleStream) -> None:
    tokens, frames = single.tokens(CAPTIONS), torch.tensor([30, 44])
    words, start = text_tokens(single, tokens)
    _, motion = single.transformer(words, Tokens.of(single.query_tokens(frames), start=start))
    cache, begin = single.encode_text(tokens)
    logits, hidden = single.run_queries(cache, begin, frames)
    torch.testing.assert_close(hidden, motion[:, 1:])
    torch.testing.assert_close(logits, single.predict_length(motion[:, 0]))
    piece, at = KVCache(), single.query_tokens(frames)
    single.transformer(words, None, piece)
    _, first = single.transformer(None, Tokens.of(at[:, :1], start=start), piece)
    _, rest = single.transformer(None, Tokens.of(at[:, 1:], start=start + 1), piece)
    torch.testing.assert_close(torch.cat([first, rest], 1), motion)


def test_one_parameter_set(config: MotionGPT3Config, single: SingleStream) -> None:
    """Layers of one kind and two projections; the dual stream has a stream more and the same rest."""
    dual = build_network(config, MotionVAE(SIZES), "dual", 2, 0.0)
    of_single, of_dual = trained_parameters(single), trained_parameters(dual)
    stream = sum(p.numel() for p in single.backbone.stream.parameters())
    assert of_single.pop("layers") == stream + 2 * 16 * 32
    assert of_dual.pop("layers") == stream + sum(p.numel() for p in dual.motion.parameters())
    assert of_single == of_dual


def test_everything_learns_but_the_tokeniser(single: SingleStream) -> None:
    for parameter in single.vae.parameters():
        parameter.requires_grad_(False)
    words, start = text_tokens(single, single.tokens(CAPTIONS))
    frames = torch.tensor([30, 44])
    _, hidden = single.transformer(words, Tokens.of(single.query_tokens(frames), start=start))
    loss = single.head.loss(hidden[:, 1:], torch.randn(2, 2, 4), 60).mean() + single.predict_length(hidden[:, 0]).sum()
    loss.backward()
    still = [n for n, p in single.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []


def test_dropout_is_the_same_everywhere(config: MotionGPT3Config) -> None:
    single = build_network(config, MotionVAE(SIZES), "dual", 2, 0.25)
    parts = [m for n, m in single.named_modules() if isinstance(m, torch.nn.Dropout) and not n.startswith("vae.")]
    assert {part.p for part in parts} == {0.25}
    assert len(parts) > 6


def test_fewer_layers(tiny_backbone: Path) -> None:
    """The first layers, as they are; what comes out is the hidden state after them, normalised."""
    whole = load_backbone(str(tiny_backbone), dtype=torch.float32)
    cut = first_layers(load_backbone(str(tiny_backbone), dtype=torch.float32), 1)
    words = Tokens.of(whole.embed(torch.tensor([[3, 4, 5]])))
    states = BimodalTransformer(whole.stream, whole.stream).hidden_states(words, None)
    hidden, _ = BimodalTransformer(cut.stream, cut.stream)(words, None)
    torch.testing.assert_close(hidden, whole.stream.norm(states[1][0]))
    for layers in (0, 3):
        with pytest.raises(MotionGPT3Error, match="2 layers"):
            first_layers(load_backbone(str(tiny_backbone)), layers)


def test_a_network_is_what_it_was(config: MotionGPT3Config, tiny_backbone: Path) -> None:
    """The dual stream of the comparison is `Network` itself."""
    torch.manual_seed(3)
    ours = build_network(config, MotionVAE(SIZES), "dual", 2, 0.0)
    assert type(ours) is Network
    torch.manual_seed(3)
    MotionVAE(SIZES)
    other = Network(replace(config, vae=SIZES), load_backbone(str(tiny_backbone), dtype=torch.float32))
    for (name, a), b in zip(ours.named_parameters(), other.parameters(), strict=True):
        assert name.startswith("vae.") or torch.equal(a, b), name
