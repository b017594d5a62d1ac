"""Words out of the text stream: greedy, sampled or by beams, one token at a time behind a cache.

Drafts may be written by a copy of the language model in bfloat16 (`half_precision`), which reads half as much memory
for every token.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Style, turn_end
from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.bimodal import BimodalTransformer, KVCache, Tokens
from motiongpt3.models.request import check_seed

if TYPE_CHECKING:
    from transformers import LogitsProcessor


@dataclass(frozen=True)
class GenerationConfig:
    """How words are chosen."""

    max_tokens: int = 60
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token; above, tokens are drawn."""
    top_k: int = 0
    """Draw among this many likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that make up this probability."""
    repetition_penalty: float = 1.0
    """Divides the odds of tokens that the answer holds already; 1: does not."""
    beams: int = 1
    """Answers kept side by side; above 1 nothing is drawn, and only `max_tokens` and `forbidden` count besides."""
    seed: int = 0
    """Of the draws."""
    forbidden: tuple[int, ...] = ()
    """Tokens that are never written."""

    def __post_init__(self) -> None:
        for name, least, most in (("max_tokens", 1, 10_000), ("top_k", 0, 10**6), ("beams", 1, 64)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise MotionGPT3Error(f"{name} must be a whole number from {least} to {most}, not {value!r}")
        for name, low, high in (("temperature", 0.0, 100.0), ("top_p", 1e-6, 1.0), ("repetition_penalty", 0.01, 100.0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise MotionGPT3Error(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
        check_seed(self.seed)


class TextDecoder:
    """Continues the text behind a cache.

    Args:
        backbone: embeddings and output weights.
        transformer: runs the text stream.
    """

    def __init__(self, backbone: TextBackbone, transformer: BimodalTransformer) -> None:
        self.backbone = backbone
        self.transformer = transformer

    @torch.inference_mode()
    def step(self, ids: Tensor, places: Tensor, cache: KVCache) -> Tensor:
        """Run one token of each row; logits (B, vocabulary + 2) of the next one.

        Args:
            ids: (B,) tokens.
            places: (B,) their positions.
            cache: what stands before; extended.
        """
        hidden, _ = self.transformer(Tokens.of(self.backbone.embed(ids[:, None]), start=places), None, cache)
        assert hidden is not None
        return self.backbone.logits(hidden[:, 0]).float()

    @torch.inference_mode()
    def generate(
        self,
        logits: Tensor,
        cache: KVCache,
        places: Tensor,
        config: GenerationConfig,
        stop: Sequence[int],
        seeds: Sequence[int] | None = None,
    ) -> list[tuple[list[int], int | None]]:
        """Answers of B rows, and the token that ended each (None: the answer grew too long), which is no part of it.

        Args:
            logits: (B, vocabulary + 2) of the first token.
            cache: what stands before; extended by what is written. Behind a single answer that a token ended, it holds
                exactly that answer.
            places: (B,) position of the first token.
            config: how tokens are chosen.
            stop: tokens that end an answer.
            seeds: (B,) of the rows' draws; None: `config.seed` + row.
        """
        if config.beams > 1:
            return self._beam_search(logits, cache, places, config, stop)
        choose = _chooser(config, seeds or range(config.seed, config.seed + len(logits)))
        written = torch.zeros(len(logits), 0, dtype=torch.long, device=logits.device)
        ends = torch.tensor(list(stop), device=logits.device)
        open_ = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        for count in range(config.max_tokens):
            ids = torch.where(open_, choose(written, logits), ends[0])
            written = torch.cat([written, ids[:, None]], 1)
            open_ &= ~torch.isin(ids, ends)
            if not open_.any() or count + 1 == config.max_tokens:
                break
            logits = self.step(ids, places + count, cache)
        return [_cut(row, stop) for row in written.tolist()]

    def _beam_search(
        self, logits: Tensor, cache: KVCache, places: Tensor, config: GenerationConfig, stop: Sequence[int]
    ) -> list[tuple[list[int], int | None]]:
        """Beam search by mean log probability of a token, each row on its own."""
        beams, rows = min(config.beams, logits.shape[1]), len(logits)
        scores = _forbid(logits, config).log_softmax(-1)
        total, first = scores.topk(beams, -1)  # (rows, beams)
        written = first[..., None]
        table = cache.select(torch.arange(rows, device=logits.device).repeat_interleave(beams))
        ends = torch.tensor(list(stop), device=logits.device)
        done = torch.isin(first, ends)
        lengths = torch.ones_like(total)
        for count in range(config.max_tokens - 1):
            if done.all():
                break
            flat = written[..., -1].flatten()
            following = self.step(flat, places.repeat_interleave(beams) + count, table)
            gain = _forbid(following, config).log_softmax(-1).view(rows, beams, -1)
            closed = torch.full_like(gain, -torch.inf)
            closed[..., ends[0]] = 0.0  # a finished answer stays as it is
            gain = torch.where(done[..., None], closed, gain)
            grown = (lengths + (~done).float())[..., None]
            _, best = ((total[..., None] + gain) / grown).flatten(1).topk(beams, -1)
            parent, token = best // gain.shape[-1], best % gain.shape[-1]
            at = torch.arange(rows, device=logits.device)[:, None]
            total = total[at, parent] + gain[at, parent, token]
            lengths, was_done = grown[..., 0][at, parent], done[at, parent]
            written = torch.cat([written[at, parent], token[..., None]], -1)
            done = was_done | torch.isin(token, ends)
            table = table.select((at * beams + parent).flatten())
        winner = (total / lengths).argmax(-1)
        return [_cut(written[row, k].tolist(), stop) for row, k in enumerate(winner.tolist())]


def _forbid(logits: Tensor, config: GenerationConfig) -> Tensor:
    if config.forbidden:
        logits = logits.index_fill(1, torch.tensor(config.forbidden, device=logits.device), -torch.inf)
    return logits


def _chooser(config: GenerationConfig, seeds: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
    """(written (B, n), logits (B, V)) -> the next ids (B,), by transformers' logits processors.

    The `top_k` likeliest tokens are cut out instead of masked: sorting a whole vocabulary takes as long as a layer.
    """
    penalty: LogitsProcessor | None = None
    nucleus: LogitsProcessor | None = None
    if config.repetition_penalty != 1.0:
        from transformers import RepetitionPenaltyLogitsProcessor

        penalty = RepetitionPenaltyLogitsProcessor(config.repetition_penalty)
    if config.temperature and config.top_p < 1:
        from transformers import TopPLogitsWarper

        nucleus = TopPLogitsWarper(config.top_p)
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(written: Tensor, logits: Tensor) -> Tensor:
        logits = _forbid(logits, config)
        if penalty is not None:
            logits = penalty(written, logits)
        if not config.temperature:
            return logits.argmax(-1)
        ids: Tensor | None = None
        logits = logits / config.temperature
        if config.top_k:
            logits, ids = logits.topk(min(config.top_k, logits.shape[1]))
        if nucleus is not None:
            logits = nucleus(written, logits)
        shares = logits.softmax(-1).cpu()
        picked = torch.stack([torch.multinomial(p, 1, generator=g) for p, g in zip(shares, draws, strict=True)])
        picked = picked.to(logits.device)
        return (picked if ids is None else ids.gather(1, picked))[:, 0]

    return choose


def _cut(ids: list[int], stop: Sequence[int]) -> tuple[list[int], int | None]:
    """The tokens before the first that stops, and that one."""
    end = next((i for i, number in enumerate(ids) if number in stop), len(ids))
    return ids[:end], ids[end] if end < len(ids) else None


def stop_tokens(backbone: TextBackbone, style: Style) -> list[int]:
    """Tokens that end an answer in words."""
    return [*backbone.ids(turn_end(style))[:1], backbone.eos_id]


def sentence(text: str) -> str:
    """Words as a sentence: a capital, single spaces."""
    words = " ".join(text.split())
    return words[:1].upper() + words[1:]


_COPIES: WeakKeyDictionary[TextBackbone, tuple[list[tuple[int, int]], TextBackbone]] = WeakKeyDictionary()
"""Of each backbone its weights, as they were when its copy in bfloat16 was made, and that copy."""


def half_precision(backbone: TextBackbone) -> TextBackbone:
    """The backbone with bfloat16 weights; itself if that is what it has.

    The copy is kept as long as the backbone lives, and made again when its weights have changed.
    """
    weights = list(backbone.parameters())
    if all(weight.dtype == torch.bfloat16 for weight in weights):
        return backbone
    # A tensor counts its changes in place, unless it was made for inference and so has none.
    now = [(id(weight), 0 if weight.is_inference() else weight._version) for weight in weights]
    known = _COPIES.get(backbone)
    if known is None or known[0] != now:
        halves = {id(weight): nn.Parameter(weight.to(torch.bfloat16), requires_grad=False) for weight in weights}
        known = now, copy.deepcopy(backbone, halves)  # a memo of what is copied already
        _COPIES[backbone] = known
    return known[1]
