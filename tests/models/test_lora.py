"""Low-rank updates: nothing at first, the same merged or not, and part of what is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.bimodal import Stream, StreamConfig, Tokens
from motiongpt3.models.lora import LoRALinear, add_lora, lora_layers, merge_lora
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.sequence import pad_ids


@pytest.fixture
def model(tiny_model_dir: Path, tiny_backbone: Path) -> MotionGPT3:
    """With updates that are not zero, its language model named, not carried along."""
    config = MotionGPT3.from_pretrained(tiny_model_dir).config
    torch.manual_seed(3)
    made = MotionGPT3(replace(config, stage=3, text_rank=2), load_backbone(str(tiny_backbone))).float()
    for _, layer in lora_layers(made):
        torch.nn.init.normal_(layer.up, std=0.3)
    return made.eval()


def words(model: MotionGPT3) -> torch.Tensor:
    """Logits of a sentence."""
    ids, mask = pad_ids(model.backbone.tokenize(["a person walks forward and then jumps ."]))
    with torch.no_grad():
        hidden, _ = model.transformer(Tokens.of(model.backbone.embed(ids), mask), None)
        return model.backbone.logits(hidden)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_update_starts_as_nothing(family: str) -> None:
    torch.manual_seed(0)
    stream = Stream(StreamConfig(family, 2, 16, 2, 2, 8, 24))  # type: ignore[arg-type]
    x = torch.randn(3, 5, 16)
    before = [getattr(layer, name)(x) for layer in stream.layers for name in ("qkv", "out")]
    add_lora(stream, 3)
    assert [name for name, _ in lora_layers(stream)] == [f"layers.{n}.{p}" for n in (0, 1) for p in ("qkv", "out")]
    for (_, layer), expected in zip(lora_layers(stream), before, strict=True):
        assert torch.equal(layer(x), expected)
        assert layer.down.any()  # or up could never learn


def test_merged_is_unmerged_and_merging_twice_is_once(model: MotionGPT3) -> None:
    apart = words(model)
    bare = {name: layer.weight.clone() for name, layer in lora_layers(model)}
    merge_lora(model)
    torch.testing.assert_close(words(model), apart, atol=1e-5, rtol=0)
    once = {name: layer.weight.clone() for name, layer in lora_layers(model)}
    merge_lora(model)
    for name, layer in lora_layers(model):
        assert torch.equal(layer.weight, once[name])
        assert (layer.weight - bare[name]).abs().max() > 1e-3
    assert torch.equal(words(model), words(model))


def test_gradients_reach_the_update_alone() -> None:
    torch.manual_seed(0)
    base = torch.nn.Linear(6, 4).requires_grad_(False)
    layer = LoRALinear(base, 2)
    torch.nn.init.normal_(layer.up)
    layer(torch.randn(5, 6)).square().sum().backward()
    assert layer.weight.grad is None
    assert layer.weight is base.weight
    assert all(part.grad is not None and part.grad.any() for part in (layer.down, layer.up))


def test_a_frozen_bfloat16_layer_takes_a_float32_update() -> None:
    torch.manual_seed(0)
    layer = LoRALinear(torch.nn.Linear(6, 4).bfloat16().requires_grad_(False), 2)
    torch.nn.init.normal_(layer.up)
    x = torch.randn(5, 6).bfloat16()
    assert layer.down.dtype == torch.float32
    result = layer(x)
    assert result.dtype == torch.bfloat16
    exact = x.float() @ (layer.weight.float() + layer.up @ layer.down).T + layer.bias.float()
    torch.testing.assert_close(result.float(), exact, atol=0.05, rtol=0.05)


def test_a_model_keeps_its_updates_and_not_the_language_model(model: MotionGPT3, tmp_path: Path) -> None:
    """Saved, loaded (and merged) and saved again: bit for bit the same; and it computes what it did."""
    model.save_pretrained(tmp_path / "one")
    stored = load_file(tmp_path / "one" / "model.safetensors")
    updates = {f"{name}.{part}" for name, _ in lora_layers(model) for part in ("down", "up")}
    kept = {name for name in stored if name.startswith("backbone.")}
    assert kept == updates | {"backbone.special"}
    loaded = MotionGPT3.from_pretrained(tmp_path / "one")
    assert loaded.config.text_rank == 2
    assert all(layer.merged for _, layer in lora_layers(loaded))
    torch.testing.assert_close(words(loaded), words(model), atol=1e-5, rtol=0)
    loaded.save_pretrained(tmp_path / "two")
    again = load_file(tmp_path / "two" / "model.safetensors")
    assert again.keys() == stored.keys()
    assert all(torch.equal(again[name], stored[name]) for name in stored)
    assert (tmp_path / "one" / "config.json").read_bytes() == (tmp_path / "two" / "config.json").read_bytes()


def test_a_language_model_that_goes_along_has_its_updates_in_it(model: MotionGPT3, tmp_path: Path) -> None:
    expected = words(model)
    model.save_pretrained(tmp_path / "whole", include_backbone=True)
    stored = load_file(tmp_path / "whole" / "model.safetensors")
    assert not any(name.endswith(("qkv.down", "qkv.up", "out.down", "out.up")) for name in stored)
    loaded = MotionGPT3.from_pretrained(tmp_path / "whole")
    assert loaded.config.text_rank is None
    torch.testing.assert_close(words(loaded), expected, atol=1e-5, rtol=0)
    # The model that was saved is none the worse, and can still be saved the other way.
    torch.testing.assert_close(words(model), expected, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "named")
    torch.testing.assert_close(words(MotionGPT3.from_pretrained(tmp_path / "named")), expected, atol=1e-5, rtol=0)


def test_updates_of_another_rank_are_one_line(model: MotionGPT3, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    for rank in ("3", "null"):
        (tmp_path / "config.json").write_text(text.replace('"text_rank": 2', f'"text_rank": {rank}'))
        with pytest.raises(MotionGPT3Error, match="does not fit this model") as caught:
            MotionGPT3.from_pretrained(tmp_path)
        assert "\n" not in str(caught.value)
