"""One modality's parameters: everything of a causal transformer except the embedding table and the attention itself.

GPT-2 and Llama differ here by a config, not by a class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.kv_cache import Places

INIT_STD = 0.02
"""Standard deviation of new weights, as in GPT-2."""


@dataclass(frozen=True)
class StreamConfig:
    """Sizes of one stream.

    Args:
        family: "gpt2" (LayerNorm, learned positions, GELU MLP, biases) or "llama" (RMSNorm, rotary positions, SwiGLU,
            no biases).
        layers: number of layers.
        width: channels of a token.
        heads: query heads; both streams of a model have the same.
        kv_heads: key/value heads; divides `heads`.
        head_size: channels of a head.
        mlp_width: hidden channels of the MLP.
        norm_eps: epsilon of the norms.
        rope_theta: base of the rotary frequencies (llama).
        max_positions: number of learned positions (gpt2).
        dropout: on the embeddings and on both branches of a layer, in training. The attention weights have none: the
            streams share one attention call, and a frozen stream must stay free of dropout.

    Raises:
        MotionGPT3Error: the numbers do not fit together.
    """

    family: Literal["gpt2", "llama"]
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_width: int
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_positions: int = 1024
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in ("gpt2", "llama"):
            raise MotionGPT3Error(f"a stream's family is gpt2 or llama, not {self.family!r}")
        for name in ("layers", "width", "heads", "kv_heads", "head_size", "mlp_width", "max_positions"):
            if getattr(self, name) < 1:
                raise MotionGPT3Error(f"a stream's {name} must be at least 1, not {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise MotionGPT3Error(f"{self.heads} query heads cannot share {self.kv_heads} key heads evenly")
        if self.family == "llama" and self.head_size % 2:
            raise MotionGPT3Error(f"rotary positions need an even head size, not {self.head_size}")
        if not 0 <= self.dropout < 1:
            raise MotionGPT3Error(f"dropout must be in [0, 1), not {self.dropout}")

    def for_motion(self, width: int, mlp_width: int, dropout: float = 0.0) -> StreamConfig:
        """The motion twin: its own widths, everything that attention needs to agree on unchanged."""
        return replace(self, width=width, mlp_width=mlp_width, dropout=dropout)


@dataclass(frozen=True)
class Tokens:
    """Tokens of one stream.

    Args:
        embeddings: (B, n, width).
        positions: (B, n) long; places on the time line that both streams share, from 0.
        mask: (B, n) bool; True for a real token, False for padding.
        segments: (B, n) long; tokens see only their own segment, so several sequences can be packed in one row.
            None: one segment per row.
    """

    embeddings: Tensor
    positions: Tensor
    mask: Tensor
    segments: Tensor | None = None

    @classmethod
    def of(cls, embeddings: Tensor, mask: Tensor | None = None, start: Tensor | int = 0) -> Tokens:
        """Consecutive tokens whose first real one has position `start` (an int or (B,)); padding may be on any side.

        `mask` is (B, n); None means that every token is real.
        """
        batch, count, _ = embeddings.shape
        if mask is None:
            mask = torch.ones(batch, count, dtype=torch.bool, device=embeddings.device)
        begin = torch.as_tensor(start, dtype=torch.long, device=embeddings.device).reshape(-1, 1)
        return cls(embeddings, (mask.cumsum(1) - 1).clamp(min=0) + begin, mask)

    @property
    def places(self) -> Places:
        """Where the tokens stand, without what they are."""
        segments = self.segments if self.segments is not None else torch.zeros_like(self.positions)
        return Places(self.positions, self.mask, segments)


class Rotation(NamedTuple):
    """Cosines and sines of rotary positions, each (B, n, 1, head_size) float32."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, head_size: int, theta: float) -> Rotation:
        """Angles position · theta^(-2i / head_size) for i < head_size / 2, twice (RoFormer, arXiv 2104.09864)."""
        exponent = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.int64).float() / head_size
        angles = positions[..., None].float() * (1.0 / theta**exponent)
        angles = torch.cat((angles, angles), -1)[:, :, None]
        return cls(angles.cos(), angles.sin())

    def turn(self, heads: Tensor) -> Tensor:
        """Rotate (B, n, heads, head_size); channel i is paired with i + head_size / 2."""
        first, second = heads.chunk(2, -1)
        return heads * self.cos.to(heads.dtype) + torch.cat((-second, first), -1) * self.sin.to(heads.dtype)


class Layer(nn.Module):
    """One stream's parameters of one layer: everything of a transformer block except the attention itself."""

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self.config = config
        bias = config.family == "gpt2"
        inner = config.heads * config.head_size
        self.norm_1 = _norm(config)
        self.qkv = nn.Linear(config.width, inner + 2 * config.kv_heads * config.head_size, bias=bias)
        self.out = nn.Linear(inner, config.width, bias=bias)
        self.norm_2 = _norm(config)
        self.up = nn.Linear(config.width, config.mlp_width * (1 if bias else 2), bias=bias)
        self.down = nn.Linear(config.mlp_width, config.width, bias=bias)
        self.dropout = nn.Dropout(config.dropout)

    def project(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, n, width) to queries (B, heads, n, head_size) and keys, values (B, kv_heads, n, head_size)."""
        return self._heads(self.qkv(self.norm_1(x)), rotation)

    def project_nothing(self, like: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor]:
        """Keys and values of a token that this stream does not hold: what is left of the projection is its bias.

        `like` (B, n) gives the shape.
        """
        size = (*like.shape, self.qkv.out_features)
        bias = self.qkv.bias if self.qkv.bias is not None else self.qkv.weight.new_zeros(size[-1])
        return self._heads(bias.expand(size), rotation)[1:]

    def _heads(self, qkv: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        heads, kv_heads = self.config.heads, self.config.kv_heads
        qkv = qkv.unflatten(-1, (heads + 2 * kv_heads, self.config.head_size))
        query_key, value = qkv.split((heads + kv_heads, kv_heads), 2)
        if rotation is not None:
            query_key = rotation.turn(query_key)
        query, key = query_key.split((heads, kv_heads), 2)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention brought, (B, heads, n, head_size), and the MLP to x (B, n, width)."""
        attended = attended.transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(attended.to(x.dtype)))
        hidden = self.up(self.norm_2(x))
        if self.config.family == "gpt2":
            hidden = F.gelu(hidden, approximate="tanh")
        else:
            gate, hidden = hidden.chunk(2, -1)
            hidden = F.silu(gate) * hidden
        return x + self.dropout(self.down(hidden))


class Stream(nn.Module):
    """One modality's parameters for every layer, with its final norm and, for gpt2, its learned positions.

    New weights are N(0, 0.02²); the two projections that write to the residual are divided by sqrt(2 · layers).
    """

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self.config = config
        self.frozen = False
        size = (config.max_positions, config.width)
        self.positions = nn.Parameter(torch.empty(size)) if config.family == "gpt2" else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = _norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.is_meta:  # about to be loaded
                continue
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                scale = math.sqrt(2 * self.config.layers) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=INIT_STD / scale)

    def freeze(self, frozen: bool = True) -> Stream:
        """Stop (or resume) training: no gradients, and evaluation mode whatever `train()` is called above."""
        self.frozen = frozen
        self.requires_grad_(not frozen)
        return self.train(not frozen)

    def train(self, mode: bool = True) -> Stream:
        super().train(mode and not self.frozen)
        return self

    def enter(self, tokens: Tokens) -> Tensor:
        """Embeddings with their positions added, (B, n, width), as the first layer takes them."""
        x = tokens.embeddings
        if x.ndim != 3 or x.shape[-1] != self.config.width:
            raise MotionGPT3Error(
                f"embeddings must have shape (batch, tokens, {self.config.width}), not {tuple(x.shape)}"
            )
        if self.positions is not None:
            limit = self.config.max_positions
            if x.device.type == "cpu" and tokens.positions.numel() and int(tokens.positions.max()) >= limit:
                raise MotionGPT3Error(f"the sequence is longer than the {limit} positions of this model; shorten it")
            x = x + F.embedding(tokens.positions, self.positions)
        return self.dropout(x)

    def layer(self, index: int) -> Layer:
        """The parameters of one layer."""
        return cast(Layer, self.layers[index])

    def rotation(self, positions: Tensor) -> Rotation | None:
        """Rotary angles at positions (B, n); None for gpt2."""
        if self.config.family == "gpt2":
            return None
        return Rotation.at(positions, self.config.head_size, self.config.rope_theta)


def _norm(config: StreamConfig) -> nn.Module:
    norm = nn.LayerNorm if config.family == "gpt2" else nn.RMSNorm
    return norm(config.width, eps=config.norm_eps)
