"""Random language models of a few words, as transformers makes them."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

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
