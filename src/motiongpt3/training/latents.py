"""Latents of all training clips, computed once: the VAE does not run while the language model trains."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import PackedClips
from motiongpt3.data.labels import base_action
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.vae import MotionVAE
from motiongpt3.motion.motion import mirror_text
from motiongpt3.serialization import atomic_path
from motiongpt3.training.trainer import TrainingConfig, check_settings


@dataclass(frozen=True)
class LatentTrainingConfig(TrainingConfig):
    """What a run is told that learns from latents of clips."""

    _: KW_ONLY
    parts: int = 2
    """Random parts of each clip that are trained on, besides the whole."""
    balance: float = 0.5
    """0 draws clips alike, 1 draws actions alike."""
    pool_share: float = 0.4
    """Share of draws that go to the pools."""

    def __post_init__(self) -> None:
        check_settings(self, parts=(0, 1000), balance=(0, 10), pool_share=(0, 1))


@dataclass(frozen=True)
class LatentBatch:
    """B clips as latent distributions with one caption each.

    Attributes:
        entries: (B,) numbers of the bank's entries.
        mean, log_variance: (B, N, D), not normalised.
        frames: (B,) frames of the clip or of the part of it.
        whole: (B,) whether it is the whole clip, so that its duration says something.
        captions: B indices into the bank's `captions`.
        clips: B clip ids.
    """

    entries: Tensor
    mean: Tensor
    log_variance: Tensor
    frames: Tensor
    whole: Tensor
    captions: list[int]
    clips: list[str]


class LatentBank(nn.Module):
    """Latent distributions of clips, of their mirror images and of random parts of them: its entries.

    A part is described only by captions that are true of any part; a whole clip by all its captions and by its short
    label. Mirror images take the mirrored captions.

    Args:
        bank: the clips.
        vae: encodes them.
        parts: random parts of each clip, more of long ones.
        seed: decides the parts.
        balance: clips are drawn in proportion to (clips of the same action, styles aside) ** -balance.
        pool_share: of the draws, how many go to clips made by `data augment` (ids that begin with "pool").
        ends: also encode a random beginning and a random end of every entry, for prediction and in-betweening.
        cache: keep the latents in this file and take them from it.
        labels: a clip's short label is one of its captions.

    Attributes:
        mean, log_variance: (1, E, N, D), of E entries, not normalised; with `ends` (3, E, N, D): the whole entry, its
            beginning, its end.
        frames: (1, E) or (3, E) of each; 0 for beginnings and ends of what is too short to leave anything between.
        whole: (E,) whether the entry is a whole clip.
        captions: cleaned captions of all entries.
    """

    mean: Tensor
    log_variance: Tensor
    frames: Tensor
    whole: Tensor

    def __init__(
        self,
        bank: ClipBank,
        vae: MotionVAE,
        parts: int = 2,
        seed: int = 0,
        balance: float = 0.5,
        pool_share: float = 0.4,
        ends: bool = False,
        cache: Path | None = None,
        labels: bool = True,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        longest = vae.config.max_frames
        index: dict[str, int] = {}
        rows: list[tuple[int, int, int, bool, bool, int]] = []
        self._options: list[list[int]] = []
        for number, clip in enumerate(bank.clips):
            every = [*clip.captions, *([clip.short] if clip.short and labels else [])]
            safe = [text for text, fine in zip(clip.captions, clip.crop_safe, strict=True) if fine]
            pieces = [(0, clip.frames, True)] if every and clip.frames <= longest else []
            for _ in range(parts + clip.frames // longest * 2 if safe else 0):
                most = min(clip.frames, longest)
                length = int(rng.integers(min(most, max(20, int(0.4 * most))), most + 1))
                pieces.append((int(rng.integers(0, clip.frames - length + 1)), length, False))
            for offset, length, whole in pieces:
                texts = every if whole else safe
                for mirrored, said in ((False, texts), (True, [mirror_text(text) for text in texts])):
                    rows.append((number, offset, length, mirrored, whole, len(pieces)))
                    self._options.append([index.setdefault(clean_prompt(text), len(index)) for text in said])
        if not rows:
            split = bank.clips[0].split
            raise MotionGPT3Error(
                f"no {split} clip of at most {longest} frames has a caption: there is nothing to learn"
            )
        self.captions = list(index)
        table = np.array(rows)
        clips, offsets, lengths, mirror = table[:, :4].T
        self._ids = [bank.clips[number].id for number in clips]
        self._weights = torch.from_numpy(_weights(bank, table, balance, pool_share))
        spans, frames = [(offsets, lengths)], lengths[None]
        if ends:
            least = vae.config.min_frames
            parted = _ends(lengths, least, rng)
            frames = np.concatenate([frames, parted])
            first, last = np.where(parted > 0, parted, np.minimum(lengths, least))  # those of 0 are encoded, never used
            spans += [(offsets, first), (offsets + lengths - last, last)]
        wanted = np.concatenate([np.stack([clips, offset, length, mirror], 1) for offset, length in spans])
        mean, log_variance = self._stored(cache, bank, vae, torch.from_numpy(wanted))
        self.register_buffer("mean", mean.unflatten(0, (len(spans), -1)), persistent=False)
        self.register_buffer("log_variance", log_variance.unflatten(0, (len(spans), -1)), persistent=False)
        self.register_buffer("frames", torch.from_numpy(frames).to(mean.device), persistent=False)
        self.register_buffer("whole", torch.from_numpy(table[:, 4] == 1).to(mean.device), persistent=False)

    def _stored(self, file: Path | None, bank: ClipBank, vae: MotionVAE, table: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (E, N, D), from the file if it holds those of this table."""
        if file is None:
            return self._encode(bank, vae, table)
        digest = hashlib.sha256()
        for tensor in (table, bank.starts, bank.features, *vae.state_dict().values()):
            digest.update(memoryview(tensor.cpu().contiguous().numpy()))
        try:
            if file.is_file():
                with safe_open(file, "pt") as stored:
                    if (stored.metadata() or {}).get("of") == digest.hexdigest():
                        device = bank.features.device
                        return stored.get_tensor("mean").to(device), stored.get_tensor("log_variance").to(device)
                    if "of" not in (stored.metadata() or {}):
                        raise MotionGPT3Error(f"{file} holds no latents: name another file to keep them in")
            mean, log_variance = self._encode(bank, vae, table)
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as temporary:
                tensors = {"mean": mean.cpu(), "log_variance": log_variance.cpu()}
                save_file(tensors, temporary, metadata={"of": digest.hexdigest()})
        except (OSError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise MotionGPT3Error(f"cannot keep latents in {file} ({reason}): name another file") from None
        return mean, log_variance

    @torch.no_grad()
    def _encode(self, bank: ClipBank, vae: MotionVAE, table: Tensor, size: int = 256) -> tuple[Tensor, Tensor]:
        """Mean and log variance (E, N, D) of rows (clip, offset, length, mirrored) of the table."""
        device = bank.features.device
        table = table.to(device)
        shape = (len(table), vae.config.latent_tokens, vae.config.latent_channels)
        mean, log_variance = torch.empty(shape, device=device), torch.empty(shape, device=device)
        batches = table[:, 2].argsort().split(size)
        for rows in tqdm(batches, desc="latents", disable=None if len(batches) > 20 else True):
            clip, offset, length, mirror = table[rows].unbind(1)
            features = bank.take(clip, offset, length, mirror.bool())
            mean[rows], log_variance[rows] = vae.encode(vae.normalise(features), length)
        return mean, log_variance

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, size: int, seed: int, step: int) -> LatentBatch:
        """Batch number `step`, a function of seed and step alone."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        entries = torch.multinomial(self._weights, size, replacement=True, generator=generator)
        shares = torch.rand(size, generator=generator).tolist()
        options = [self._options[entry] for entry in entries.tolist()]
        return self.rows(entries, [some[int(share * len(some))] for some, share in zip(options, shares, strict=True)])

    def rows(self, entries: Tensor, captions: list[int] | None = None) -> LatentBatch:
        """Entries (B,) with the given captions, or with the first of each."""
        numbers = entries.tolist()
        entries = entries.to(self.mean.device)
        return LatentBatch(
            entries,
            self.mean[0, entries],
            self.log_variance[0, entries],
            self.frames[0, entries],
            self.whole[entries],
            [self._options[i][0] for i in numbers] if captions is None else captions,
            [self._ids[i] for i in numbers],
        )

    def whole_clips(self, size: int) -> Iterator[LatentBatch]:
        """Batches of all whole clips, unmirrored, each with its first caption: for validation."""
        for entries in torch.nonzero(self.whole)[::2, 0].split(size):
            yield self.rows(entries)


def latent_banks(
    config: LatentTrainingConfig,
    vae: MotionVAE,
    licenses: list[str] | None,
    cache: Path | None,
    ends: bool = False,
    labels: bool = True,
) -> tuple[LatentBank, LatentBank]:
    """The latents to train on and those of the validation split's whole clips, on the VAE's device.

    Args:
        config: the run.
        vae: encodes the clips.
        licenses: keep only clips that need no other licences than these; None keeps all.
        cache: file that keeps the training latents.
        ends, labels: see `LatentBank`.
    """
    packs, device = [PackedClips.open(path) for path in config.data], vae.feature_mean.device
    clips = ClipBank(packs, "train", licenses, config.pool_share).to(device)
    held = ClipBank(packs[:1], "val", licenses).to(device)
    draws = config.parts, config.run.seed, config.balance, config.pool_share
    bank = LatentBank(clips, vae, *draws, ends, cache, labels)
    return bank, LatentBank(held, vae, parts=0, ends=ends, labels=labels)


def sample_latents(vae: MotionVAE, mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """Normalised latents drawn from distributions that are not normalised; all (..., N, D)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    drawn = mean + torch.exp(0.5 * log_variance) * noise  # as `reparameterise`, then `normalise_latents`
    return (drawn - vae.latent_mean) / vae.latent_std


def _ends(frames: np.ndarray, least: int, rng: np.random.Generator) -> np.ndarray:
    """(2, E) lengths of a beginning and an end of E entries: a third to two thirds of the frames together.

    Each has at least `least` frames, and both are 0 where fewer than 5 frames would be left between them.
    """
    given = rng.uniform(1 / 3, 2 / 3, len(frames)) * frames
    share = rng.uniform(0.3, 0.7, len(frames))
    lengths = np.stack([given * share, given * (1 - share)]).astype(int).clip(min=least)
    return np.where(frames - lengths.sum(0) >= 5, lengths, 0)


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
