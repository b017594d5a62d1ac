"""The text stream is the pretrained model: equal to `transformers`, from memory and from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from language_models import tiny, tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models import backbone_files
from motiongpt3.models.backbone import TextBackbone, load_backbone, stream_config
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, Tokens
from motiongpt3.models.sequence import pad_ids


def both(backbone: TextBackbone) -> BimodalTransformer:
    return BimodalTransformer(backbone.stream, Stream(backbone.config.for_motion(8, 8))).eval()


@torch.no_grad()
def compare(model: Any, backbone: TextBackbone, ids: Tensor, mask: Tensor, tolerance: float) -> None:
    """Hidden states after every layer and logits, at every real token."""
    tokens = Tokens.of(backbone.embed(ids), mask)
    theirs = model(ids, attention_mask=mask.long(), position_ids=tokens.positions, output_hidden_states=True)
    transformer = both(backbone)
    final, _ = transformer(tokens, None)
    ours = [*(text for text, _ in transformer.hidden_states(tokens, None)[:-1]), final]
    for x, y in zip(theirs.hidden_states, ours, strict=True):
        assert (x - y)[mask].abs().max() <= tolerance * max(1.0, x[mask].abs().max().item())
    assert (theirs.logits - backbone.logits(final)[..., : backbone.vocabulary])[mask].abs().max() <= tolerance * 10


@pytest.mark.parametrize("family", ["gpt2", "llama", "llama-untied"])
def test_random_models_equal_transformers(family: str) -> None:
    model = tiny(family)
    backbone = TextBackbone.from_transformers(model, tokenizer())
    ids = torch.randint(0, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12)[None] < torch.tensor([12, 7, 1])[:, None]
    compare(model, backbone, ids, mask, 1e-5)
    compare(model, backbone, ids.flip(1), mask.flip(1), 1e-5)


def test_weights_are_copies() -> None:
    model = tiny("llama")
    backbone = TextBackbone.from_transformers(model, tokenizer())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(p.abs().max() > 0 for p in backbone.parameters())


def test_the_special_tokens_are_rows_of_their_own() -> None:
    backbone = TextBackbone.from_transformers(tiny("llama"), tokenizer())
    assert (backbone.start_of_motion, backbone.end_of_motion) == (60, 61)
    ids = torch.tensor([[1, 60, 61, 2]])
    embedded = backbone.embed(ids)
    torch.testing.assert_close(embedded[0, 1], backbone.embedding[[4, 5, 6]].mean(0))
    torch.testing.assert_close(embedded[0, ::3], backbone.embedding[[1, 2]])
    assert backbone.logits(embedded).shape == (1, 4, 62)
    backbone.freeze().special.requires_grad_(True)
    backbone.train()
    assert not backbone.stream.training
    final, _ = both(backbone)(Tokens.of(backbone.embed(ids)), None)
    backbone.logits(final).square().mean().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is not None] == ["special"]


def test_tokens_and_text() -> None:
    backbone = TextBackbone.from_transformers(tiny("gpt2"), tokenizer())
    assert backbone.tokenize(["a person walks", "", "walks"]) == [[1, 2, 3], [], [3]]
    assert backbone.ids("a person") == [1, 2]
    assert backbone.decode(torch.tensor([1, 60, 2, 61])) == "a person"


def test_a_folder_is_a_backbone_and_its_identity_brings_it_back(backbone_folder: Path) -> None:
    backbone = load_backbone(str(backbone_folder), dtype=torch.float32)
    ids = torch.arange(12).reshape(2, 6)
    compare(tiny("llama"), backbone, ids, torch.ones_like(ids, dtype=torch.bool), 1e-5)
    again = load_backbone(**backbone.identity)
    assert again.embedding.dtype == torch.bfloat16
    with pytest.raises(MotionGPT3Error, match="sha256"):
        load_backbone(str(backbone_folder), sha256="0" * 64)


def test_variants_that_need_other_formulas_are_refused() -> None:
    for change in ({"activation_function": "relu"}, {"scale_attn_by_inverse_layer_idx": True}):
        with pytest.raises(MotionGPT3Error, match="not supported"):
            stream_config(tiny("gpt2").config.to_dict() | change)


@pytest.mark.slow
def test_the_default_backbone_equals_transformers(smollm: TextBackbone) -> None:
    files = backbone_files.find_backbone("smollm2-135m-instruct")
    settings, weights, _ = files.read()
    config = LlamaConfig(**settings)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    full = {name: tensor.float() for name, tensor in weights.items()}
    model.load_state_dict(full | {"lm_head.weight": full["model.embed_tokens.weight"]}, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its frequencies are in no file
    ids, mask = pad_ids(smollm.tokenize(["a person walks forward and waves with the right hand", "somebody jumps"]))
    compare(model.eval(), smollm, ids, mask, 1e-4)


@torch.no_grad()
def test_the_default_backbone_knows_language(smollm: TextBackbone) -> None:
    assert smollm.identity["sha256"].startswith("b179c952")
    assert (smollm.vocabulary, smollm.config.layers, smollm.config.kv_heads) == (49152, 30, 3)
    ids, mask = pad_ids(smollm.tokenize(["a person walks forward and waves", "The capital of France is"]))
    assert ids[0].tolist() == [81, 1055, 16028, 3703, 284, 6147]
    cache = KVCache()
    model = both(smollm)
    final, _ = model(Tokens.of(smollm.embed(ids), mask), None, cache)
    last = smollm.logits_after(final, mask)
    assert smollm.decode(last[1:].argmax(-1)) == " Paris"
    text = "turn 12  degrees\n 3.5 m, <|im_end|> é ½"
    assert smollm.decode(smollm.ids(text)) == text.replace("<|im_end|>", "")
    assert smollm.ids("<|im_end|>") == [smollm.eos_id]
