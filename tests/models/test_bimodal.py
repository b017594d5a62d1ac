"""Two streams, one attention: who sees whom, and that packing, padding and caching change nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, StreamConfig, Tokens

TOLERANCE = 1e-5
FAMILIES = ("gpt2", "llama")
RIPPLE = torch.linspace(-2, 3, 32).sin()
"""A change to a token that no norm removes."""


def small(family: str, shared: object = "all", isolated: str = "hidden", layers: int = 3) -> BimodalTransformer:
    torch.manual_seed(0)
    kv_heads = 4 if family == "gpt2" else 2
    config = StreamConfig(family, layers, 32, 4, kv_heads, 8, 48, max_positions=64)  # type: ignore[arg-type]
    model = BimodalTransformer(Stream(config), Stream(config.for_motion(24, 40)), shared, isolated)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():  # weights large enough that a leak would show
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def inputs(text: int, motion: int, batch: int = 2, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, text, 32, generator=generator), torch.randn(batch, motion, 24, generator=generator)


def close(left: Tensor | None, right: Tensor | None) -> None:
    assert left is not None
    assert right is not None
    torch.testing.assert_close(left, right, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_motion_does_not_see_the_future_and_text_before_it_does_not_see_motion(family: str) -> None:
    model = small(family)
    text, motion = inputs(4, 5)
    words, moves = model(Tokens.of(text), Tokens.of(motion, start=4))
    changed = motion.clone()
    changed[:, 3:] += RIPPLE[:24]
    words_2, moves_2 = model(Tokens.of(text), Tokens.of(changed, start=4))
    close(words, words_2)
    close(moves[:, :3], moves_2[:, :3])
    assert (moves[:, 3:] - moves_2[:, 3:]).abs().amax(-1).min() > 1e-2
    other = text.clone()
    other[:, 0] += RIPPLE
    assert (model(Tokens.of(other), Tokens.of(motion, start=4))[1] - moves).abs().amax(-1).min() > 1e-3


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    order=st.lists(st.booleans(), min_size=2, max_size=9).filter(lambda o: any(o) and not all(o)),
    changed=st.integers(0, 8),
    family=st.sampled_from(FAMILIES),
)
def test_any_order_of_modalities_is_causal(order: list[bool], changed: int, family: str) -> None:
    """A token changes exactly the tokens of both modalities that are not before it."""
    changed %= len(order)
    model = small(family)
    is_motion = torch.tensor(order)
    places = {m: (is_motion == m).nonzero()[:, 0] for m in (False, True)}
    text, motion = inputs(len(places[False]), len(places[True]), batch=1)

    def run() -> dict[bool, Tensor]:
        tokens = [
            Tokens(x, p[None], torch.ones_like(p[None], dtype=torch.bool))
            for x, p in ((text, places[False]), (motion, places[True]))
        ]
        return dict(zip((False, True), model(*tokens), strict=True))

    before = run()
    stream = motion if order[changed] else text
    stream[0, int((places[order[changed]] == changed).nonzero())] += RIPPLE[: stream.shape[-1]]
    after = run()
    for modality in (False, True):
        difference = (before[modality] - after[modality]).abs().amax(-1)[0]
        assert ((difference > TOLERANCE) == (places[modality] >= changed)).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shared", ["all", 1])
def test_padding_changes_nothing(family: str, shared: object) -> None:
    model = small(family, shared)
    text, motion = inputs(4, 5)
    words, moves = model(Tokens.of(text), Tokens.of(motion, start=4))
    junk = torch.full((2, 3, 32), 7.0)
    left = torch.tensor([[False] * 3 + [True] * 4] * 2)
    for padded, mask, real in (
        (torch.cat((junk, text), 1), left, slice(3, 7)),
        (torch.cat((text, junk), 1), left.flip(1), slice(0, 4)),
    ):
        more = torch.cat((motion, torch.full((2, 2, 24), 5.0)), 1)
        keep = torch.tensor([[True] * 5 + [False] * 2] * 2)
        words_2, moves_2 = model(Tokens.of(padded, mask), Tokens.of(more, keep, start=4))
        close(words, words_2[:, real])
        close(moves, moves_2[:, :5])
        assert torch.isfinite(words_2).all()
        assert torch.isfinite(moves_2).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("shared", "isolated"), [("all", "hidden"), (2, "hidden"), ((0,), "bias")])
def test_decoding_with_a_cache_equals_the_whole_pass(family: str, shared: object, isolated: str) -> None:
    """Text, then motion one by one, then text one by one: as understanding a motion does."""
    model = small(family, shared, isolated)
    text, motion = inputs(6, 5)
    places = torch.tensor([[0, 1, 2, 8, 9, 10]]).expand(2, -1)
    everything = torch.ones(2, 6, dtype=torch.bool)
    words, moves = model(Tokens(text, places, everything), Tokens.of(motion, start=3))
    cache = KVCache()
    close(model(Tokens.of(text[:, :3]), None, cache)[0], words[:, :3])
    for i in range(5):
        close(model(None, Tokens.of(motion[:, i : i + 1], start=3 + i), cache)[1], moves[:, i : i + 1])
    for i in range(3, 6):
        close(model(Tokens.of(text[:, i : i + 1], start=cache.next_position()), None, cache)[0], words[:, i : i + 1])
    picked = cache.select(torch.tensor([1, 1, 0]))
    for name, part in picked.parts().items():
        whole = cache.parts()[name]
        for ours, theirs in ((part.keys, whole.keys), (part.values, whole.values), (part.places, whole.places)):
            for one, all_ in zip(ours, theirs, strict=True):
                assert torch.equal(one, all_[[1, 1, 0]])


def test_a_stored_cache_serves_as_the_cache() -> None:
    model = small("llama", 2)
    text, motion = inputs(4, 5)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    lengths = mask.sum(1)
    _, moves = model(Tokens.of(text, mask), Tokens.of(motion, start=lengths))
    cache = KVCache()
    model(Tokens.of(text, mask), None, cache)
    assert cache.next_position().tolist() == [4, 2]
    stored = cache.tensors()
    assert stored["keys"].shape == (2, 3, 4, 2, 8)
    kept = KVCache.from_tensors(**stored)
    close(model(None, Tokens.of(motion, start=lengths), kept)[1], moves)
    for name, tensor in stored.items():
        assert torch.equal(kept.tensors()[name], tensor)
    for name in ("values", "positions", "mask"):
        with pytest.raises(MotionGPT3Error, match="shape"):
            KVCache.from_tensors(**stored | {name: stored[name][:, :1]})


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_only_what_trains(family: str) -> None:
    model = small(family).train()
    model.text.freeze()
    model.train()
    assert not any(module.training for module in model.text.modules())
    assert model.motion.training
    text, motion = inputs(4, 5)
    cache = KVCache()
    with torch.no_grad():
        model(Tokens.of(text), None, cache)
    stored = {
        name: tensor.bfloat16().float() if tensor.is_floating_point() else tensor
        for name, tensor in cache.tensors().items()
    }
    _, moves = model(None, Tokens.of(motion, start=4), KVCache.from_tensors(**stored))
    moves.square().mean().backward()
    assert all(p.grad is None for p in model.text.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.motion.parameters())
    model.text.freeze(False)
    assert model.text.training
    # From the words after a motion the gradient reaches both streams, through the shared attention.
    model.zero_grad()
    words, _ = model(Tokens.of(text, start=5), Tokens.of(motion))
    words.square().mean().backward()
    assert all(p.grad is not None for p in model.text.parameters())
    assert model.motion.layers[0].qkv.weight.grad.abs().max() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("shared", [0, 1, (0, 2), "all"])
def test_shared_layers(shared: int | tuple[int, ...] | str) -> None:
    """Motion learns of the text in the first shared layer, not before."""
    model = small("llama", shared)
    text, motion = inputs(4, 5)
    before = model.hidden_states(Tokens.of(text), Tokens.of(motion, start=4))
    after = model.hidden_states(Tokens.of(text + RIPPLE), Tokens.of(motion, start=4))
    first = {0: 99, 1: 2, (0, 2): 0, "all": 0}[shared]
    assert len(before) == 4
    for depth, (x, y) in enumerate(zip(before, after, strict=True)):
        assert ((x[1] - y[1]).abs().max() > TOLERANCE) == (depth > first)
    alone, _ = model(Tokens.of(text), None)
    close(alone, model.text.norm(before[-1][0]))


def test_mixed_precision_of_a_frozen_text_stream() -> None:
    """bfloat16 text beside float32 motion: each stream keeps its own type."""
    model = small("llama")
    text, motion = inputs(4, 5)
    words, moves = model(Tokens.of(text), Tokens.of(motion, start=4))
    model.text.to(torch.bfloat16)
    low_words, low_moves = model(Tokens.of(text.bfloat16()), Tokens.of(motion, start=4))
    assert low_words.dtype == torch.bfloat16
    assert low_moves.dtype == torch.float32
    assert (low_moves - moves).abs().mean() < 0.1 * moves.abs().mean()
    assert (low_words - words).abs().mean() < 0.1 * words.abs().mean()
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        model(None, Tokens.of(motion))[1].float().sum().backward()
    assert torch.isfinite(model.motion.layers[0].qkv.weight.grad).all()  # type: ignore[union-attr]


def test_dropout_only_in_training() -> None:
    config = StreamConfig("llama", 2, 16, 2, 1, 8, 32)
    model = BimodalTransformer(Stream(config), Stream(config.for_motion(16, 32, dropout=0.5)))
    tokens = Tokens.of(torch.randn(1, 4, 16))
    assert not torch.equal(model(None, tokens)[1], model(None, tokens)[1])
    model.eval()
    assert torch.equal(model(None, tokens)[1], model(None, tokens)[1])


def test_new_streams_start_small() -> None:
    torch.manual_seed(0)
    stream = Stream(StreamConfig("gpt2", 8, 64, 4, 4, 16, 256))
    assert stream.layer(3).qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert stream.layer(3).out.weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert stream.layer(3).down.weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert stream.layer(3).qkv.bias.abs().max() == 0


def test_clear_errors() -> None:
    config = StreamConfig("llama", 2, 16, 2, 1, 8, 32)
    model = BimodalTransformer(Stream(config), Stream(config.for_motion(8, 8)))
    short = Stream(StreamConfig("gpt2", 1, 16, 2, 2, 8, 32, max_positions=4))
    tokens = Tokens.of(torch.zeros(1, 2, 16))
    for call in (
        lambda: StreamConfig("bert", 2, 16, 2, 1, 8, 32),  # type: ignore[arg-type]
        lambda: StreamConfig("llama", 2, 16, 3, 2, 8, 32),
        lambda: BimodalTransformer(Stream(config), Stream(StreamConfig("llama", 3, 16, 2, 1, 8, 32))),
        lambda: BimodalTransformer(model.text, model.motion, shared_layers=3),
        lambda: BimodalTransformer(model.text, model.motion, shared_layers=[2]),
        lambda: model(None, None),
        lambda: model(None, tokens),
        lambda: model(tokens, Tokens.of(torch.zeros(2, 2, 8))),
        lambda: short.enter(Tokens.of(tokens.embeddings, start=3)),
        lambda: KVCache().tensors(),
        lambda: KVCache().next_position(),
    ):
        with pytest.raises(MotionGPT3Error) as caught:
            call()
        assert "\n" not in str(caught.value)
