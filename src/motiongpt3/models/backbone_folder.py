"""A text stream inside a model's own folder: what rebuilds it beside the weights, which are the model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from motiongpt3.files import atomic_path
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.backbone_sources import read_json, read_tokenizer

SETTINGS, TOKENIZER = "backbone.json", "tokenizer.json"


def write_backbone(folder: str | Path, settings: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Write what `read_backbone` needs; `settings` are a `transformers` config.json of GPT-2 or Llama."""
    with atomic_path(Path(folder) / SETTINGS) as path:
        path.write_text(json.dumps(settings, indent=2) + "\n")
    with atomic_path(Path(folder) / TOKENIZER) as path:
        tokenizer.save(str(path))


def read_backbone(folder: str | Path, name: str = "", sha256: str = "") -> TextBackbone:
    """The text stream of a folder that `write_backbone` wrote to; its weights have no memory yet.

    Raises:
        MotionGPT3Error: a file is missing or damaged, or describes a model that is not supported.
    """
    settings = read_json(Path(folder) / SETTINGS)
    return TextBackbone.blank(settings, read_tokenizer(Path(folder) / TOKENIZER), name, sha256)


def backbone_settings(backbone: TextBackbone) -> dict[str, Any]:
    """The inverse of `stream_config`: a config.json of a text stream as `transformers` would write it."""
    config = backbone.config
    shared = {"vocab_size": backbone.vocabulary, "eos_token_id": backbone.eos_id, "pad_token_id": backbone.pad_id}
    shared["tie_word_embeddings"] = backbone.head is None
    if config.family == "gpt2":
        return shared | {
            "model_type": "gpt2",
            "n_layer": config.layers,
            "n_embd": config.width,
            "n_head": config.heads,
            "n_inner": config.mlp_width,
            "n_positions": config.max_positions,
            "layer_norm_epsilon": config.norm_eps,
            "activation_function": "gelu_new",
        }
    return shared | {
        "model_type": "llama",
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
    }
