"""The dual-stream transformer: text and motion keep their own weights and share attention.

Each stream is a dense tensor of its own tokens. In a shared layer both streams compute queries, keys and values, which
are joined along the sequence, attended once under a mask built from positions, and split again (mixture of
transformers, arXiv 2411.04996, as used by MotionGPT3, arXiv 2506.24086). Every token is causal: it sees the tokens of
either modality whose position is not after its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.kv_cache import KVCache, Places, StreamCache, StreamName
from motiongpt3.models.stream import Rotation, Stream, StreamConfig, Tokens

__all__ = ["BimodalTransformer", "KVCache", "Stream", "StreamConfig", "Tokens", "attend", "attention_kernel", "visible"]


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
        self, text: Tokens | None, motion: Tokens | None, cache: KVCache | None = None, extend: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """Final hidden states, after each stream's norm: (B, n_text, W_text) and (B, n_motion, W_motion).

        A stream whose tokens are None is not run and yields None. The tokens see what `cache` holds as if it had been
        part of this call, and are added to it unless `extend` is False.
        """
        states = deque(self._run(text, motion, cache, extend), maxlen=1).pop()
        final = {name: self._stream(name).norm(x) for name, x in states.items()}
        return final.get("text"), final.get("motion")

    def hidden_states(
        self, text: Tokens | None, motion: Tokens | None, cache: KVCache | None = None
    ) -> list[tuple[Tensor | None, Tensor | None]]:
        """(text, motion) before the first layer and after each one, without the final norms; the cache is only read."""
        return [(x.get("text"), x.get("motion")) for x in self._run(text, motion, cache, extend=False)]

    def _run(
        self, text: Tokens | None, motion: Tokens | None, cache: KVCache | None, extend: bool
    ) -> Iterator[dict[StreamName, Tensor]]:
        """Yield the states of the streams present before the first layer and after each."""
        tokens: dict[StreamName, Tokens] = {}
        if text is not None:
            tokens["text"] = text
        if motion is not None:
            tokens["motion"] = motion
        if not tokens:
            raise MotionGPT3Error("nothing to do: give text tokens, motion tokens or both")
        places = {name: t.places for name, t in tokens.items()}
        earlier = cache.parts() if cache is not None else {}
        batches = {p.mask.shape[0] for p in places.values()} | {part.places.mask.shape[0] for part in earlier.values()}
        if len(batches) > 1:
            raise MotionGPT3Error(f"text, motion and cache must have one batch size, not {sorted(batches)}")

        rotations = {name: self._stream(name).rotation(p.positions) for name, p in places.items()}
        together, apart = self._plan_together(places, earlier), self._plan_apart(places, earlier)
        added: dict[StreamName, list[tuple[Tensor, Tensor]]] = {name: [] for name in tokens}
        x = {name: self._stream(name).enter(t) for name, t in tokens.items()}
        yield x
        for index in range(self.text.config.layers):
            layers = {name: self._stream(name).layer(index) for name in tokens}
            projected = {name: layers[name].project(x[name], rotations[name]) for name in tokens}
            attended: dict[StreamName, Tensor] = {}
            for call in together if index in self.shared_layers else apart:
                queries = [projected[name][0] for name in call.queries]
                pairs = [layers[call.queries[0]].project_nothing(p.mask, r) for p, r in call.absent]
                pairs += [earlier[name].at(index) for name in call.earlier]
                pairs += [projected[name][1:] for name in call.queries]
                keys, values = (torch.cat(column, 2) for column in zip(*pairs, strict=True))
                result = attend(torch.cat(queries, 2), keys, values, call.mask)
                attended.update(zip(call.queries, result.split([q.shape[2] for q in queries], 2), strict=True))
            x = {name: layers[name].finish(x[name], attended[name]) for name in tokens}
            if extend and cache is not None:
                for name in tokens:
                    added[name].append(projected[name][1:])
            yield x
        if extend and cache is not None:
            for name in tokens:
                cache.append(name, places[name], added[name])

    def _stream(self, name: StreamName) -> Stream:
        return self.text if name == "text" else self.motion

    def _plan_together(
        self, places: dict[StreamName, Places], earlier: dict[StreamName, StreamCache]
    ) -> list[_AttentionCall]:
        """A shared layer: one call, everybody's queries on everybody's keys."""
        if not self.shared_layers:
            return []
        own = Places.join(list(places.values()))
        keys = Places.join([*(part.places for part in earlier.values()), own])
        return [_AttentionCall(tuple(places), tuple(earlier), (), visible(own, keys))]

    def _plan_apart(
        self, places: dict[StreamName, Places], earlier: dict[StreamName, StreamCache]
    ) -> list[_AttentionCall]:
        """An isolated layer: each stream on its own keys, and on the other's places if those count as bias."""
        if len(self.shared_layers) == self.text.config.layers:
            return []
        calls = []
        for name, own in places.items():
            others: list[Places] = []
            if self.isolated == "bias":
                others = [part.places for other, part in earlier.items() if other != name]
                others += [p for other, p in places.items() if other != name]
            seen: tuple[StreamName, ...] = (name,) if name in earlier else ()
            keys = Places.join([*others, *(earlier[s].places for s in seen), own])
            absent = tuple((p, self._stream(name).rotation(p.positions)) for p in others)
            calls.append(_AttentionCall((name,), seen, absent, visible(own, keys)))
        return calls


class _AttentionCall(NamedTuple):
    """One attention call of a layer. Its keys are, in order: absent, earlier, the queries' own."""

    queries: tuple[StreamName, ...]
    earlier: tuple[StreamName, ...]
    absent: tuple[tuple[Places, Rotation | None], ...]
    mask: Tensor


def visible(queries: Places, keys: Places) -> Tensor:
    """(B, Q, K) bool: which key each query sees: real, not later than the query, of the same segment.

    The last Q keys must be the queries' own; a query that would see nothing, which is padding, sees its own key,
    because a softmax over nothing is NaN.
    """
    seen = keys.positions[:, None] <= queries.positions[:, :, None]
    seen &= keys.mask[:, None]
    seen &= keys.segments[:, None] == queries.segments[:, :, None]
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


@contextmanager
def attention_kernel(name: Literal["auto", "math"]) -> Iterator[None]:
    """Choose the attention kernel inside a `with`: "auto" is PyTorch's choice, "math" the plain formula.

    Use "math" to train in bfloat16 on a CPU: the fused kernel's backward pass is many times slower there.
    """
    if name not in ("auto", "math"):
        raise MotionGPT3Error(f"the attention kernel is auto or math, not {name!r}")
    with sdpa_kernel(SDPBackend.MATH) if name == "math" else nullcontext():
        yield


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
