"""Training batches. Batch k is a function of the seed and k alone, so a resumed run sees what it would have seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from motiongpt3.data.clips import PackedClips
from motiongpt3.data.labels import base_action
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import mirror_features

SOURCE_WEIGHTS = {"UIPRMD": 0.35}
"""Sources of many near-identical clips are drawn less often; by the first part of the clip id."""


@dataclass(frozen=True)
class MotionBatch:
    """A padded batch of clips.

    Attributes:
        features: (B, T, F) not normalised, zero past each clip's end.
        lengths: (B,) frames.
        clips: (B,) index of each clip in the bank.
        mirrored: (B,) whether left and right were swapped.
        whole: (B,) whether the clip was taken from its first to its last frame.
    """

    features: Tensor
    lengths: Tensor
    clips: Tensor
    mirrored: Tensor
    whole: Tensor


class ClipBank(nn.Module):
    """All clips of one split as one tensor, on the device that trains.

    Args:
        packs: packed files, the first the recorded clips, then pools made from them.
        split: which split to take; a pool's clips carry the split they were made from.
        licenses: keep only clips that need no other licences than these; None keeps all.
        pool_share: of the draws, how many go to the second and later packs together.
        balance: clips are drawn in proportion to (clips of the same action, styles aside, at least 10) ** -balance.
    """

    features: Tensor
    starts: Tensor
    frames: Tensor
    weights: Tensor

    def __init__(
        self,
        packs: Sequence[PackedClips],
        split: str,
        licenses: Sequence[str] | None = None,
        pool_share: float = 0.4,
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        self.clips = []
        rows, frames, weights = [], [], []
        for number, pack in enumerate(packs):
            kept = [pack.clips[i] for i in pack.split(split)]
            kept = [clip for clip in kept if clip.allowed(licenses)]
            if not kept:
                under = f" under the licences {', '.join(licenses)} alone" if licenses is not None else ""
                raise MotionGPT3Error(f"{pack.path} has no clips of split {split!r}{under}")
            counts = Counter(base_action(clip.short) for clip in kept)
            rare = np.array([max(counts[base_action(clip.short)], 10) ** -balance for clip in kept])
            # Longer clips hold more, near-identical ones less.
            each = [SOURCE_WEIGHTS.get(clip.id.split("_")[0], 1.0) * min(clip.frames, 1000) ** 0.5 for clip in kept]
            weight = rare * np.array(each)
            share = 1.0 if len(packs) == 1 else pool_share / (len(packs) - 1) if number else 1 - pool_share
            weights.append(share * weight / weight.sum())
            rows += [pack.features[clip.rows] for clip in kept]
            frames += [clip.frames for clip in kept]
            self.clips += kept
        self.register_buffer("features", torch.from_numpy(np.concatenate(rows)), persistent=False)
        self.register_buffer("starts", torch.tensor(np.cumsum([0, *frames[:-1]])), persistent=False)
        self.register_buffer("frames", torch.tensor(frames), persistent=False)
        self.register_buffer("weights", torch.from_numpy(np.concatenate(weights)), persistent=False)

    def __len__(self) -> int:
        return len(self.clips)

    def take(self, clips: Tensor, offsets: Tensor, lengths: Tensor, mirrored: Tensor) -> Tensor:
        """Frames offsets .. offsets + lengths of the clips (all (B,)) -> (B, max length, F), zero past the end."""
        at = torch.arange(int(lengths.max()), device=lengths.device)
        inside = at < lengths.unsqueeze(1)
        index = self.starts[clips].unsqueeze(1) + offsets.unsqueeze(1) + at
        features = self.features[torch.where(inside, index, self.starts[clips].unsqueeze(1))]
        features = torch.where(mirrored[:, None, None], mirror_features(features), features)
        return features * inside.unsqueeze(-1)

    def batch(self, size: int, seed: int, step: int, max_frames: int = 200, crop: float = 0.5) -> MotionBatch:
        """Batch number `step`: clips drawn by weight, mirrored half of the time.

        Args:
            size: B, clips in the batch.
            seed: of the run.
            step: number of the batch.
            max_frames: longer clips are cut at a random place.
            crop: how often a clip is cut to a random length of at least 20 frames.
        """
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        clips = torch.multinomial(self.weights.cpu(), size, replacement=True, generator=generator)
        frames = self.frames.cpu()[clips]
        draw = torch.rand(4, size, generator=generator)
        longest = frames.clamp(max=max_frames)
        shortest = longest.clamp(max=20)
        cropped = (shortest + draw[0] * (longest - shortest + 1)).long().clamp(max=longest)
        lengths = torch.where(draw[1] < crop, cropped, longest)
        offsets = (draw[2] * (frames - lengths + 1)).long().clamp(max=frames - lengths)
        device = self.features.device
        picked = [t.to(device, non_blocking=True) for t in (clips, offsets, lengths, draw[3] < 0.5)]
        return MotionBatch(self.take(*picked), picked[2], picked[0], picked[3], (lengths == frames).to(device))
