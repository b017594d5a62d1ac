"""The dual-stream transformer: text and motion keep their own weights and share attention.

Each stream is a dense tensor of its own tokens. In a shared layer both streams compute queries, keys and values, which
are joined along the sequence, attended once under a mask built from positions, and split again (mixture of
transformers, arXiv 2411.04996, as used by MotionGPT3, arXiv 2506.24086). Every token is causal: it sees the tokens of
either modality whose position is not after its own.

From the bottom up: the tokens of one stream, what earlier tokens offer to attention (`KVCache`), one stream's
parameters (`Layer`, `Stream`; GPT-2 and Llama differ by a config, not by a class), attention, and the transformer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error

StreamName = Literal["text", "motion"]


class Places(NamedTuple):
    """Where tokens stand: positions on the line that both streams share, and mask (True: real), each (B, n)."""

    positions: Tensor
    mask: Tensor

    @staticmethod
    def join(parts: Sequence[Places]) -> Places:
        """One after the other along the sequence."""
        return parts[0] if len(parts) == 1 else Places(*(torch.cat(columns, 1) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Tokens:
    """Tokens of one stream.

    Args:
        embeddings: (B, n, width).
        positions: (B, n) long; places on the time line that both streams share, from 0.
        mask: (B, n) bool; True for a real token, False for padding.
    """

    embeddings: Tensor
    positions: Tensor
    mask: Tensor

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
        return Places(self.positions, self.mask)


@dataclass(frozen=True)
class StreamCache:
    """Earlier tokens of one stream: their places, and of each layer keys and values (B, kv_heads, n, head_size).

    Rotary angles are already in the keys.
    """

    places: Places
    keys: list[Tensor]
    values: list[Tensor]


class KVCache:
    """What earlier tokens of both streams offer to attention; `BimodalTransformer` reads and extends it.

    Text that comes before every motion token has keys and values that never depend on the motion stream: compute them
    once, keep `tensors()`, and rebuild with `from_tensors` as often as needed.
    """

    def __init__(self, text: StreamCache | None = None, motion: StreamCache | None = None) -> None:
        self.text = text
        self.motion = motion

    @classmethod
    def from_tensors(cls, keys: Tensor, values: Tensor, positions: Tensor, mask: Tensor) -> KVCache:
        """A cache of stored text tokens.

        Args:
            keys: (B, layers, n, kv_heads, head_size), rotary angles included.
            values: the same shape.
            positions: (B, n) long.
            mask: (B, n) bool, True for a real token.

        Raises:
            MotionGPT3Error: shapes disagree.
        """
        if keys.ndim != 5 or keys.shape != values.shape:
            raise MotionGPT3Error(
                "stored keys and values must have one shape (batch, layers, tokens, heads, head size), "
                f"not {tuple(keys.shape)} and {tuple(values.shape)}"
            )
        size = (keys.shape[0], keys.shape[2])
        if positions.shape != size or mask.shape != size:
            raise MotionGPT3Error(f"positions and mask of stored keys must have shape {size}")
        layers = [list(stored.transpose(2, 3).unbind(1)) for stored in (keys, values)]
        return cls(StreamCache(Places(positions, mask), *layers))

    def tensors(self) -> dict[str, Tensor]:
        """The text's part as `from_tensors` takes it; MotionGPT3Error when there is no text."""
        if self.text is None:
            raise MotionGPT3Error("the cache holds no text tokens")
        keys, values = (torch.stack(part, 1).transpose(2, 3) for part in (self.text.keys, self.text.values))
        return {"keys": keys, "values": values, **self.text.places._asdict()}

    def parts(self) -> dict[StreamName, StreamCache]:
        """The streams that have tokens, text first."""
        both: tuple[tuple[StreamName, StreamCache | None], ...] = (("text", self.text), ("motion", self.motion))
        return {name: part for name, part in both if part is not None}

    def append(self, stream: StreamName, places: Places, added: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Add a stream's new tokens: places and, for every layer, keys and values (B, kv_heads, n, head_size)."""
        keys, values = ([pair[part] for pair in added] for part in (0, 1))
        old = self.parts().get(stream)
        if old is not None:
            places = Places.join((old.places, places))
            keys = [torch.cat(pair, 2) for pair in zip(old.keys, keys, strict=True)]
            values = [torch.cat(pair, 2) for pair in zip(old.values, values, strict=True)]
        setattr(self, stream, StreamCache(places, keys, values))

    def select(self, rows: Tensor) -> KVCache:
        """The cache of some rows of the batch, in the order of `rows` (long); a row may appear several times."""
        picked: dict[str, StreamCache] = {}
        for name, part in self.parts().items():
            places = Places(*(column[rows] for column in part.places))
            picked[name] = StreamCache(places, [k[rows] for k in part.keys], [v[rows] for v in part.values])
        return KVCache(**picked)

    def next_position(self) -> Tensor:
        """(B,) long: the position after the last real token of each row, over both streams."""
        parts = self.parts().values()
        if not parts:
            raise MotionGPT3Error("the cache is empty")
        places = Places.join([part.places for part in parts])
        return torch.where(places.mask, places.positions + 1, 0).amax(1)


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


def visible(queries: Places, keys: Places) -> Tensor:
    """(B, Q, K) bool: which key each query sees: real and not later than the query.

    The last Q keys must be the queries' own; a query that would see nothing, which is padding, sees its own key,
    because a softmax over nothing is NaN.
    """
    seen = keys.positions[:, None] <= queries.positions[:, :, None]
    seen &= keys.mask[:, None]
    count = queries.mask.shape[1]
    own = torch.eye(count, dtype=torch.bool, device=seen.device) & ~seen.any(2, keepdim=True)
    seen[:, :, keys.mask.shape[1] - count :] |= own
    return seen


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention, (B, heads, Q, head_size).

    Args:
        query: (B, heads, Q, head_size).
        key: (B, kv_heads, K, head_size); the query heads of a group share a key head.
        value: as `key`.
        mask: (B, Q, K) bool.
    """
    dtype = torch.promote_types(query.dtype, key.dtype)
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    groups = query.shape[1] // key.shape[1]
    if groups == 1:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
    # The heads of a group become more queries of their key head: no copy of keys, and every kernel accepts it.
    folded = query.unflatten(1, (key.shape[1], groups)).flatten(2, 3)
    mask = mask[:, None, None].expand(-1, 1, groups, -1, -1).flatten(2, 3)
    result = F.scaled_dot_product_attention(folded, key, value, attn_mask=mask)
    return result.unflatten(2, (groups, query.shape[2])).flatten(1, 2)


class _AttentionCall(NamedTuple):
    """One attention call of a layer. Its keys are, in order: absent, earlier, the queries' own."""

    queries: tuple[StreamName, ...]
    earlier: tuple[StreamName, ...]
    absent: tuple[tuple[Places, Rotation | None], ...]
    mask: Tensor


def _layer_indices(shared: int | Sequence[int] | Literal["all"], layers: int) -> frozenset[int]:
    """ "all", the number of last layers, or indices, as a set of indices; MotionGPT3Error where a layer is missing."""
    if isinstance(shared, str):
        if shared != "all":
            raise MotionGPT3Error(f"shared_layers is all, a number or a list of layers, not {shared!r}")
        shared = layers
    if isinstance(shared, int):
        shared = range(layers - shared, layers) if shared >= 0 else (shared,)
    if any(not 0 <= index < layers for index in shared):
        raise MotionGPT3Error(f"shared_layers asks for layers outside 0 to {layers - 1}")
    return frozenset(shared)


class BimodalTransformer(nn.Module):
    """Two streams, one attention.

    ```
    model = BimodalTransformer(text, motion, shared_layers="all")
    cache = KVCache()
    model(Tokens.of(words), None, cache)                                    # the prompt, once
    _, hidden = model(None, Tokens.of(queries, start=lengths), cache)       # motion tokens after it, (B, K, width)
    ```

    Args:
        text: stream of the words; its final hidden states are those of the pretrained model.
        motion: stream of the motion tokens; same family, layers, heads and head size, its own widths.
        shared_layers: where the streams see each other: "all", the number of last layers, or the layers' indices.
        isolated: what a stream sees of the other in the remaining layers: nothing ("hidden"), or keys and values made
            of its own bias alone ("bias": the official code's behaviour, needed for its checkpoints).

    Raises:
        MotionGPT3Error: the streams do not fit together or a shared layer does not exist.
    """

    def __init__(
        self,
        text: Stream,
        motion: Stream,
        shared_layers: int | Sequence[int] | Literal["all"] = "all",
        isolated: Literal["hidden", "bias"] = "hidden",
    ) -> None:
        super().__init__()
        for name in ("family", "layers", "heads", "kv_heads", "head_size", "rope_theta"):
            ours, theirs = getattr(text.config, name), getattr(motion.config, name)
            if ours != theirs:
                raise MotionGPT3Error(f"both streams need the same {name}, not {ours} (text) and {theirs} (motion)")
        if isolated not in ("hidden", "bias"):
            raise MotionGPT3Error(f"isolated must be hidden or bias, not {isolated!r}")
        self.text = text
        self.motion = motion
        self.shared_layers = _layer_indices(shared_layers, text.config.layers)
        self.isolated = isolated

    def forward(
        self, text: Tokens | None, motion: Tokens | None, cache: KVCache | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Final hidden states, after each stream's norm: (B, n_text, W_text) and (B, n_motion, W_motion).

        A stream whose tokens are None is not run and yields None. The tokens see what `cache` holds as if it had been
        part of this call, and are added to it.
        """
        states = deque(self._run(text, motion, cache), maxlen=1).pop()
        final = {name: self._stream(name).norm(x) for name, x in states.items()}
        return final.get("text"), final.get("motion")

    def hidden_states(self, text: Tokens | None, motion: Tokens | None) -> list[tuple[Tensor | None, Tensor | None]]:
        """(text, motion) before the first layer and after each one, without the final norms."""
        return [(x.get("text"), x.get("motion")) for x in self._run(text, motion, None)]

    def _run(
        self, text: Tokens | None, motion: Tokens | None, cache: KVCache | None
    ) -> Iterator[dict[StreamName, Tensor]]:
        """Yield the states of the streams present before the first layer and after each."""
        both: tuple[tuple[StreamName, Tokens | None], ...] = (("text", text), ("motion", motion))
        tokens = {name: part for name, part in both if part is not None}
        if not tokens:
            raise MotionGPT3Error("nothing to do: give text tokens, motion tokens or both")
        places = {name: t.places for name, t in tokens.items()}
        earlier = cache.parts() if cache is not None else {}
        batches = {p.mask.shape[0] for p in places.values()} | {part.places.mask.shape[0] for part in earlier.values()}
        if len(batches) > 1:
            raise MotionGPT3Error(f"text, motion and cache must have one batch size, not {sorted(batches)}")

        rotations = {name: self._stream(name).rotation(p.positions) for name, p in places.items()}
        layers = range(self.text.config.layers)
        plans = {
            shared: self._plan(places, earlier, shared) for shared in {index in self.shared_layers for index in layers}
        }
        added: dict[StreamName, list[tuple[Tensor, Tensor]]] = {name: [] for name in tokens}
        x = {name: self._stream(name).enter(t) for name, t in tokens.items()}
        yield x
        for index in layers:
            layer = {name: self._stream(name).layer(index) for name in tokens}
            projected = {name: layer[name].project(x[name], rotations[name]) for name in tokens}
            attended: dict[StreamName, Tensor] = {}
            for call in plans[index in self.shared_layers]:
                queries = [projected[name][0] for name in call.queries]
                pairs = [layer[call.queries[0]].project_nothing(p.mask, r) for p, r in call.absent]
                pairs += [(earlier[name].keys[index], earlier[name].values[index]) for name in call.earlier]
                pairs += [projected[name][1:] for name in call.queries]
                keys, values = (torch.cat(column, 2) for column in zip(*pairs, strict=True))
                result = attend(torch.cat(queries, 2), keys, values, call.mask)
                attended.update(zip(call.queries, result.split([q.shape[2] for q in queries], 2), strict=True))
            x = {name: layer[name].finish(x[name], attended[name]) for name in tokens}
            for name in tokens:
                added[name].append(projected[name][1:])
            yield x
        if cache is not None:
            for name in tokens:
                cache.append(name, places[name], added[name])

    def _stream(self, name: StreamName) -> Stream:
        return self.text if name == "text" else self.motion

    def _plan(
        self, places: dict[StreamName, Places], earlier: dict[StreamName, StreamCache], shared: bool
    ) -> list[_AttentionCall]:
        """The attention calls of a layer.

        Shared: one call, everybody's queries on everybody's keys. Otherwise each stream on its own keys, and on the
        other's places if those count as bias.
        """
        calls = []
        names = tuple(places)
        for queries in [names] if shared else [(name,) for name in names]:
            own = Places.join([places[name] for name in queries])
            seen = tuple(name for name in earlier if shared or name in queries)
            others: list[Places] = []
            if self.isolated == "bias" and not shared:
                others = [part.places for name, part in earlier.items() if name not in queries]
                others += [p for name, p in places.items() if name not in queries]
            absent = tuple((p, self._stream(queries[0]).rotation(p.positions)) for p in others)
            keys = Places.join([*others, *(earlier[name].places for name in seen), own])
            calls.append(_AttentionCall(queries, seen, absent, visible(own, keys)))
        return calls
