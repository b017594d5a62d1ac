"""Keys and values of tokens already seen, per stream and layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error

StreamName = Literal["text", "motion"]


class Places(NamedTuple):
    """Where tokens stand: positions, mask (True: real) and segments, each (B, n)."""

    positions: Tensor
    mask: Tensor
    segments: Tensor

    @staticmethod
    def join(parts: Sequence[Places]) -> Places:
        """One after the other along the sequence."""
        return parts[0] if len(parts) == 1 else Places(*(torch.cat(columns, 1) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class StreamCache:
    """Earlier tokens of one stream: their places, and by layer their keys and values (B, kv_heads, n, head_size).

    Rotary angles are already in the keys.
    """

    places: Places
    keys: dict[int, Tensor]
    values: dict[int, Tensor]

    def at(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer; MotionGPT3Error if that layer was not kept."""
        if layer not in self.keys:
            raise MotionGPT3Error(f"the cache holds no keys of layer {layer}; build it from that layer too")
        return self.keys[layer], self.values[layer]


class KVCache:
    """What earlier tokens of both streams offer to attention; `BimodalTransformer` reads and extends it.

    Text that comes before every motion token has keys and values that never depend on the motion stream: compute them
    once, keep `tensors()`, and rebuild with `from_tensors` as often as needed.
    """

    def __init__(self, text: StreamCache | None = None, motion: StreamCache | None = None) -> None:
        self.text = text
        self.motion = motion

    @classmethod
    def from_tensors(
        cls,
        keys: Tensor,
        values: Tensor,
        positions: Tensor,
        mask: Tensor,
        segments: Tensor | None = None,
        layers: Sequence[int] | None = None,
        stream: StreamName = "text",
    ) -> KVCache:
        """A cache of one stream's stored tokens.

        Args:
            keys: (B, L, n, kv_heads, head_size), rotary angles included.
            values: the same shape.
            positions: (B, n) long.
            mask: (B, n) bool, True for a real token.
            segments: (B, n) long for packed rows; None: one segment.
            layers: the L layers' indices; None: 0 to L - 1. Text that motion tokens follow is needed in the shared
                layers alone.
            stream: whose tokens they are.

        Raises:
            MotionGPT3Error: shapes disagree.
        """
        if keys.ndim != 5 or keys.shape != values.shape:
            raise MotionGPT3Error(
                "stored keys and values must have one shape (batch, layers, tokens, heads, head size), "
                f"not {tuple(keys.shape)} and {tuple(values.shape)}"
            )
        indices = range(keys.shape[1]) if layers is None else layers
        if len(indices) != keys.shape[1]:
            raise MotionGPT3Error(f"{keys.shape[1]} stored layers but {len(indices)} layer indices")
        size = (keys.shape[0], keys.shape[2])
        segments = torch.zeros_like(positions) if segments is None else segments
        places = Places(positions, mask, segments)
        if any(tuple(column.shape) != size for column in places):
            raise MotionGPT3Error(f"positions, mask and segments of stored keys must have shape {size}")
        part = StreamCache(
            places,
            {layer: keys[:, i].transpose(1, 2) for i, layer in enumerate(indices)},
            {layer: values[:, i].transpose(1, 2) for i, layer in enumerate(indices)},
        )
        return cls(text=part) if stream == "text" else cls(motion=part)

    def tensors(self, stream: StreamName = "text") -> dict[str, Tensor]:
        """What `from_tensors` takes: keys, values (B, L, n, kv_heads, head_size), positions, mask, segments (B, n).

        The layers are those kept, in order. Raises MotionGPT3Error when the stream has no tokens.
        """
        part = self.parts().get(stream)
        if part is None:
            raise MotionGPT3Error(f"the cache holds no {stream} tokens")
        order = sorted(part.keys)
        keys = torch.stack([part.keys[layer].transpose(1, 2) for layer in order], 1)
        values = torch.stack([part.values[layer].transpose(1, 2) for layer in order], 1)
        return {"keys": keys, "values": values, **part.places._asdict()}

    def parts(self) -> dict[StreamName, StreamCache]:
        """The streams that have tokens, text first."""
        both: tuple[tuple[StreamName, StreamCache | None], ...] = (("text", self.text), ("motion", self.motion))
        return {name: part for name, part in both if part is not None}

    def append(self, stream: StreamName, places: Places, added: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Add a stream's new tokens: places and, for every layer, keys and values (B, kv_heads, n, head_size)."""
        keys = {layer: pair[0] for layer, pair in enumerate(added)}
        values = {layer: pair[1] for layer, pair in enumerate(added)}
        old = self.parts().get(stream)
        if old is not None:
            places = Places.join((old.places, places))
            keys = {layer: torch.cat((old.keys[layer], keys[layer]), 2) for layer in old.keys}
            values = {layer: torch.cat((old.values[layer], values[layer]), 2) for layer in old.values}
        setattr(self, stream, StreamCache(places, keys, values))

    def select(self, rows: Tensor) -> KVCache:
        """The cache of some rows of the batch, in the order of `rows` (long); a row may appear several times."""

        def pick(part: StreamCache | None) -> StreamCache | None:
            if part is None:
                return None
            return StreamCache(
                Places(*(column[rows] for column in part.places)),
                {layer: tensor[rows] for layer, tensor in part.keys.items()},
                {layer: tensor[rows] for layer, tensor in part.values.items()},
            )

        return KVCache(pick(self.text), pick(self.motion))

    def next_position(self) -> Tensor:
        """(B,) long: the position after the last real token of each row, over both streams."""
        parts = self.parts().values()
        if not parts:
            raise MotionGPT3Error("the cache is empty")
        places = Places.join([part.places for part in parts])
        return torch.where(places.mask, places.positions + 1, 0).amax(1)
