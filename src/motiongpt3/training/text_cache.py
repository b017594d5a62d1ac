"""Keys and values of prompts. The text stream is frozen and comes first, so they never change: compute them once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.motiongpt3 import MotionGPT3


class TextCache:
    """What motion queries see of each prompt.

    Args:
        model: its text stream reads the prompts.
        captions: cleaned captions.
        file: keep keys and values of all captions in this memory-mapped file (about 23 kB a token for SmolLM2-135M);
            None computes them anew each time, which is what an accelerator does faster.
    """

    def __init__(self, model: MotionGPT3, captions: Sequence[str], file: Path | None) -> None:
        self.model = model
        self.tokens = model.tokens(captions)
        self.file = file
        self.starts = torch.tensor([0, *[len(t) for t in self.tokens]]).cumsum(0)
        if file is not None:
            self.store = self._open(file)

    def _open(self, file: Path) -> Tensor:
        """The stored tensor (tokens, 2, layers, kv heads, head size), filled first if it is not there yet."""
        config = self.model.backbone.stream.config
        shape = (int(self.starts[-1]), 2, config.layers, config.kv_heads, config.head_size)
        size = shape[0] * shape[1] * shape[2] * shape[3] * shape[4]
        done = file.with_suffix(".done")
        file.parent.mkdir(parents=True, exist_ok=True)
        fingerprint = f"{shape} {hash_tokens(self.tokens)} {self.model.backbone.sha256}"
        store = torch.from_file(str(file), shared=True, size=size, dtype=torch.bfloat16).view(shape)
        if not (done.is_file() and done.read_text() == fingerprint):
            done.unlink(missing_ok=True)
            self._fill(store)
            done.write_text(fingerprint)
        return store

    @torch.no_grad()
    def _fill(self, store: Tensor, size: int = 64) -> None:
        order = sorted(range(len(self.tokens)), key=lambda i: len(self.tokens[i]))
        batches: Iterable[list[int]] = [order[i : i + size] for i in range(0, len(order), size)]
        for rows in tqdm(batches, desc="text cache", disable=None):
            cache, lengths = self.model.read([self.tokens[i] for i in rows])
            tensors = cache.tensors()
            both = torch.stack([tensors["keys"], tensors["values"]], dim=1)
            for row, (i, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
                part = both[row, :, :, :length].permute(2, 0, 1, 3, 4)
                store[self.starts[i] : self.starts[i + 1]] = part.to(store)

    @torch.no_grad()
    def read(self, captions: Sequence[int]) -> tuple[KVCache, Tensor]:
        """As `MotionGPT3.read`, for captions by their index."""
        if self.file is None:
            return self.model.read([self.tokens[i] for i in captions])
        device = self.model.queries.device
        lengths = torch.tensor([len(self.tokens[i]) for i in captions])
        at = torch.arange(int(lengths.max()))
        mask = at < lengths.unsqueeze(1)
        index = torch.where(mask, self.starts[list(captions)].unsqueeze(1) + at, 0)
        both = self.store[index].to(device).permute(2, 0, 3, 1, 4, 5)
        positions = at.expand_as(index).to(device)
        return KVCache.from_tensors(both[0], both[1], positions, mask.to(device)), lengths.to(device)


def hash_tokens(tokens: Sequence[Sequence[int]]) -> str:
    """A fingerprint of all prompts, to know whether a stored cache is theirs."""
    import hashlib

    digest = hashlib.sha256()
    for row in tokens:
        digest.update(",".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()[:16]
