"""Latents of all training clips, computed once: the VAE does not run while the language model trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from motiongpt3.data.augment import base_action
from motiongpt3.data.batch import ClipBank
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.vae import MotionVAE
from motiongpt3.motion.motion import mirror_text


@dataclass(frozen=True)
class LatentBatch:
    """B clips as latent distributions with one caption each.

    Attributes:
        mean, log_variance: (B, N, D), not normalised.
        frames: (B,) frames of the clip or of the part of it.
        whole: (B,) whether it is the whole clip, so that its duration says something.
        captions: B indices into the bank's `captions`.
        clips: B clip ids.
    """

    mean: Tensor
    log_variance: Tensor
    frames: Tensor
    whole: Tensor
    captions: list[int]
    clips: list[str]


class LatentBank(nn.Module):
    """Latent distributions of clips, of their mirror images and of random parts of them.

    A part is described only by captions that are true of any part; a whole clip by all its captions and by its short
    label. Mirror images take the mirrored captions.

    Args:
        bank: the clips.
        vae: encodes them.
        parts: random parts of each clip, more of long ones.
        seed: decides the parts.
        balance: clips are drawn in proportion to (clips of the same action, styles aside) ** -balance.
        pool_share: of the draws, how many go to clips made by `data augment` (ids that begin with "pool").
    """

    mean: Tensor
    log_variance: Tensor

    def __init__(
        self,
        bank: ClipBank,
        vae: MotionVAE,
        parts: int = 2,
        seed: int = 0,
        balance: float = 0.5,
        pool_share: float = 0.4,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        longest = vae.config.max_frames
        index: dict[str, int] = {}
        rows, self._options, self._ids = [], [], []

        def options(captions: Sequence[str]) -> list[int]:
            return [index.setdefault(clean_prompt(text), len(index)) for text in captions]

        for number, clip in enumerate(bank.clips):
            whole = [*clip.captions, *([clip.short] if clip.short else [])]
            safe = [text for text, fine in zip(clip.captions, clip.crop_safe, strict=True) if fine]
            pieces = [(0, clip.frames, True)] if whole and clip.frames <= longest else []
            for _ in range(parts + clip.frames // longest * 2 if safe else 0):
                shortest = min(clip.frames, longest, max(20, int(0.4 * min(clip.frames, longest))))
                length = int(rng.integers(shortest, min(clip.frames, longest) + 1))
                pieces.append((int(rng.integers(0, clip.frames - length + 1)), length, False))
            for offset, length, is_whole in pieces:
                for mirrored in (False, True):
                    texts = whole if is_whole else safe
                    rows.append((number, offset, length, mirrored, is_whole, len(pieces)))
                    self._options.append(options([mirror_text(t) for t in texts] if mirrored else texts))
                    self._ids.append(clip.id)
        if not rows:
            split = bank.clips[0].split
            raise MotionGPT3Error(
                f"no {split} clip of at most {longest} frames has a caption: there is nothing to learn"
            )
        self.captions = list(index)
        table = np.array(rows)
        self._frames, self._whole = torch.from_numpy(table[:, 2]), torch.from_numpy(table[:, 4].astype(bool))
        self._weights = torch.from_numpy(_weights(bank, table, balance, pool_share))
        self._encode(bank, vae, torch.from_numpy(table))

    @torch.no_grad()
    def _encode(self, bank: ClipBank, vae: MotionVAE, table: Tensor, size: int = 256) -> None:
        device = bank.features.device
        table = table.to(device)
        shape = (len(table), vae.config.latent_tokens, vae.config.latent_channels)
        mean, log_variance = torch.empty(shape, device=device), torch.empty(shape, device=device)
        for rows in table[:, 2].argsort().split(size):
            clips, offsets, lengths, mirrored = table[rows, :4].unbind(1)
            features = bank.take(clips, offsets, lengths, mirrored.bool())
            mean[rows], log_variance[rows] = vae.encode(vae.normalise(features), lengths)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("log_variance", log_variance, persistent=False)

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, size: int, seed: int, step: int) -> LatentBatch:
        """Batch number `step`, a function of seed and step alone."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        picked = torch.multinomial(self._weights, size, replacement=True, generator=generator)
        draw = torch.rand(size, generator=generator).tolist()
        return self.rows(picked, [options[int(u * len(options))] for u, options in self._choices(picked, draw)])

    def rows(self, picked: Tensor, captions: list[int]) -> LatentBatch:
        """Entries (B,) with the given captions."""
        device = self.mean.device
        there = picked.to(device)
        return LatentBatch(
            self.mean[there],
            self.log_variance[there],
            self._frames[picked].to(device),
            self._whole[picked].to(device),
            captions,
            [self._ids[i] for i in picked.tolist()],
        )

    def first_captions(self, picked: Tensor) -> list[int]:
        """The first caption of each entry (B,): what validation uses."""
        return [self._options[i][0] for i in picked.tolist()]

    def whole_clips(self) -> Tensor:
        """Entries that are whole clips, unmirrored."""
        return torch.nonzero(self._whole)[::2, 0]

    def _choices(self, picked: Tensor, draw: list[float]) -> list[tuple[float, list[int]]]:
        return [(u, self._options[i]) for u, i in zip(draw, picked.tolist(), strict=True)]


def _weights(bank: ClipBank, table: np.ndarray, balance: float, pool_share: float) -> np.ndarray:
    """How often each entry is drawn: by action, half of a clip's draws to the whole clip."""
    clips = table[:, 0]
    actions = [base_action(clip.short) for clip in bank.clips]
    counts = Counter(actions)
    of_clip = np.array([counts[action] ** -balance for action in actions])
    pool = np.array([clip.id.startswith("pool") for clip in bank.clips])
    if pool.any() and not pool.all():
        of_clip = np.where(
            pool, of_clip * pool_share / of_clip[pool].sum(), of_clip * (1 - pool_share) / of_clip[~pool].sum()
        )
    pieces = table[:, 5]
    share = np.where(pieces == 1, 1.0, np.where(table[:, 4] == 1, 0.5, 0.5 / np.maximum(pieces - 1, 1)))
    return of_clip[clips] * share
