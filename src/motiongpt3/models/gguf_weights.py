"""Read a Llama-family GGUF file: config, weights and tokenizer, named as in `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL_TOKEN = 3


def convert_gguf(path: Path, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Tensor], Tokenizer]:
    """Config, weights (de-quantised in float32, then `dtype`) and tokenizer of a GGUF file: Llama, byte-level BPE.

    The file is trusted: check its hash first. Raises MotionGPT3Error for another architecture or tokenizer.
    """
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(path)

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    if value("general.architecture") != "llama" or value("tokenizer.ggml.pre") != "smollm":
        raise MotionGPT3Error(f"{path.name} is not a Llama model with the SmolLM tokenizer")
    heads, kv_heads = value("llama.attention.head_count"), value("llama.attention.head_count_kv")
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type)
        base = tensor.name.removesuffix(".weight")
        if base.startswith("blk."):
            _, index, kind = base.split(".")
            if kind in ("attn_q", "attn_k"):
                array = _halves_apart(array, heads if kind == "attn_q" else kv_heads)
            name = f"model.layers.{index}.{_LAYER_NAMES[kind]}.weight"
        else:
            name = f"{_NAMES[base]}.weight"
        weights[name] = torch.from_numpy(np.array(array, dtype=np.float32)).to(dtype)
    settings = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": value("llama.rope.dimension_count"),
        "hidden_act": "silu",
        # The file holds float32, whose nearest short decimal is what was meant.
        "rms_norm_eps": float(np.format_float_positional(np.float32(value("llama.attention.layer_norm_rms_epsilon")))),
        "rope_theta": value("llama.rope.freq_base"),
        "max_position_embeddings": value("llama.context_length"),
        "vocab_size": len(value("tokenizer.ggml.tokens")),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": value("tokenizer.ggml.eos_token_id"),
        "pad_token_id": value("tokenizer.ggml.padding_token_id"),
    }
    kinds = value("tokenizer.ggml.token_type")
    return settings, weights, _tokenizer(value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges"), kinds)


def _halves_apart(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a q or k projection: GGUF pairs rotary channels (2i, 2i + 1), `transformers` (i, i + size / 2)."""
    pairs = array.reshape(heads, -1, 2, array.shape[-1])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _tokenizer(tokens: list[str], merges: list[str], kinds: list[int]) -> Tokenizer:
    """Byte-level BPE that splits numbers into digits first, as SmolLM's."""
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    return tokenizer
