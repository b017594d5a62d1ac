"""The single stream computes what one causal transformer over words and motion computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.baselines.build import build_network, first_layers, trained_parameters
from motiongpt3.models.baselines.single_stream import SingleStream
from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.network import Network
from motiongpt3.models.stream import Tokens
from motiongpt3.models.vae import MotionVAE, VAEConfig

SIZES = VAEConfig(latent_tokens=2, latent_channels=4, width=16, layers=3, heads=2, mlp_width=16, max_frames=48)


@pytest.fixture
def config(tiny_backbone: Path) -> MotionGPT3Config:
    head = HeadConfig(width=16, depth=1, pool_mlp=16)
    return MotionGPT3Config(
        backbone=str(tiny_backbone), prompt_style="plain", motion_width=16, motion_mlp=16, queries=2, head=head, steps=2
    )


@pytest.fixture
def network(config: MotionGPT3Config) -> SingleStream:
    torch.manual_seed(0)
    network = build_network(config, MotionVAE(SIZES), "single", 2, 0.0)
    assert isinstance(network, SingleStream)
    return network.eval()


CAPTIONS = ["a person walks", "somebody jumps and then waves"]


def test_words_and_motion_in_one_sequence(network: SingleStream) -> None:
    """Row by row without padding, all tokens in one call of the language model's stream."""
    tokens = network.tokens(CAPTIONS)
    frames = torch.tensor([30, 44])
    words, start = network.text_tokens(tokens)
    text, motion = network.transformer(words, Tokens.of(network.query_tokens(frames), start=start))
    stream = network.backbone.stream
    plain = BimodalTransformer(stream, stream)
    for row, ids in enumerate(tokens):
        own = network.enter(network.query_tokens(frames[row : row + 1]))
        inputs = torch.cat([network.backbone.embed(torch.tensor([ids])), own], 1)
        hidden, _ = plain(Tokens.of(inputs), None)
        torch.testing.assert_close(text[row, : len(ids)], hidden[0, : len(ids)])
        torch.testing.assert_close(motion[row], network.leave(hidden[0, len(ids) :]))


def test_motion_tokens_are_as_large_as_words(network: SingleStream) -> None:
    """However large their weights have grown."""
    words = network.backbone.embedding.square().mean().sqrt()
    frames = torch.tensor([30, 44])
    for _ in range(2):
        sizes = network.enter(network.query_tokens(frames)).square().mean(-1).sqrt()
        torch.testing.assert_close(sizes, words.expand_as(sizes), rtol=1e-2, atol=0)
        with torch.no_grad():
            network.queries.mul_(1000)


def test_a_cache_changes_nothing(network: SingleStream) -> None:
    tokens, frames = network.tokens(CAPTIONS), torch.tensor([30, 44])
    words, start = network.text_tokens(tokens)
    _, motion = network.transformer(words, Tokens.of(network.query_tokens(frames), start=start))
    cache, begin = network.read(tokens)
    logits, hidden = network.think(cache, begin, frames)
    torch.testing.assert_close(hidden, motion[:, 1:])
    torch.testing.assert_close(logits, network.predict_length(motion[:, 0]))
    piece, at = KVCache(), network.query_tokens(frames)
    network.transformer(words, None, piece)
    _, first = network.transformer(None, Tokens.of(at[:, :1], start=start), piece)
    _, rest = network.transformer(None, Tokens.of(at[:, 1:], start=start + 1), piece)
    torch.testing.assert_close(torch.cat([first, rest], 1), motion)


def test_one_parameter_set(config: MotionGPT3Config, network: SingleStream) -> None:
    """Layers of one kind and two projections; the dual stream has a stream more and the same rest."""
    single = trained_parameters(network)
    dual_network = build_network(config, MotionVAE(SIZES), "dual", 2, 0.0)
    dual = trained_parameters(dual_network)
    stream = sum(p.numel() for p in network.backbone.stream.parameters())
    assert single["layers"] == stream + 2 * 16 * 32
    assert dual["layers"] == stream + sum(p.numel() for p in dual_network.motion.parameters())
    assert {k: v for k, v in single.items() if k != "layers"} == {k: v for k, v in dual.items() if k != "layers"}


def test_everything_learns_but_the_tokeniser(network: SingleStream) -> None:
    for parameter in network.vae.parameters():
        parameter.requires_grad_(False)
    words, start = network.text_tokens(network.tokens(CAPTIONS))
    frames = torch.tensor([30, 44])
    _, hidden = network.transformer(words, Tokens.of(network.query_tokens(frames), start=start))
    loss = (
        network.head.loss(hidden[:, 1:], torch.randn(2, 2, 4), 60).mean() + network.predict_length(hidden[:, 0]).sum()
    )
    loss.backward()
    still = [n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []


def test_dropout_is_the_same_everywhere(config: MotionGPT3Config) -> None:
    network = build_network(config, MotionVAE(SIZES), "dual", 2, 0.25)
    parts = [m for n, m in network.named_modules() if isinstance(m, torch.nn.Dropout) and not n.startswith("vae.")]
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
