"""Training the quantised baseline: the VAE's data, losses and validation, with codebooks in the middle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from motiongpt3.data.batch import ClipBank
from motiongpt3.data.dataset import PackedClips
from motiongpt3.models.baselines.vq import MotionVQ, VQConfig
from motiongpt3.models.bimodal import attention_kernel
from motiongpt3.training.loop import RunConfig, TrainingModule, check_settings
from motiongpt3.training.vae import VAELossWeights, loss_weight, reconstruction_errors, vae_losses


@dataclass(frozen=True)
class VQTrainingConfig:
    """One run that trains a VQ-VAE."""

    run: RunConfig
    data: list[Path]
    """Packed files: the recorded clips first, then pools made from them."""
    model: VQConfig = field(default_factory=VQConfig)
    loss: VAELossWeights = field(default_factory=VAELossWeights)
    """As of the VAE; `kl` and `adversarial` mean nothing here."""
    commitment: float = 0.1
    """Weight of the squared distance of encodings to their codes."""
    batch: int = 128
    """Clips per step."""
    crop: float = 0.5
    """How often a clip is cut to a random length."""
    pool_share: float = 0.4
    """Share of draws that go to the pools."""
    balance: float = 0.0
    """0 draws clips by their length, 1 draws actions alike."""

    def __post_init__(self) -> None:
        check_settings(self, commitment=(0, 1e6), batch=(1, 10**6), crop=(0, 1), pool_share=(0, 1), balance=(0, 10))


class VQTraining(TrainingModule):
    """The VQ-VAE, its losses and its validation."""

    def __init__(self, config: VQTrainingConfig) -> None:
        super().__init__(config.run)
        self.config = config
        torch.manual_seed(config.run.seed)
        packs = [PackedClips.open(path) for path in config.data]
        self.bank = ClipBank(packs, "train", None, config.pool_share, config.balance)
        self.validation = ClipBank(packs[:1], "val")
        self.vq = MotionVQ(config.model)
        self.vq.feature_mean.copy_(torch.from_numpy(packs[0].mean.copy()))
        self.vq.feature_std.copy_(torch.from_numpy(packs[0].std.copy()))

    def training_step(self, _: object, index: int) -> Tensor:
        """One step on batch number `global_step`."""
        sizes = self.config.model.sizes
        batch = self.bank.batch(self.config.batch, self.run.seed, self.global_step, sizes.max_frames, self.config.crop)
        features = self.vq.normalise(batch.features)
        with attention_kernel(self.kernel):
            output, _, commitment = self.vq(features, batch.lengths)
        terms = vae_losses(self.vq, output, features, batch.lengths)
        loss = self.config.commitment * commitment
        for name, value in terms.items():
            loss = loss + loss_weight(self.config.loss, name, self.global_step / self.run.steps) * value
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=1)
        in_use = torch.stack([book.perplexity for book in self.vq.codebooks]).mean()
        self.log_dict({"train/commitment": commitment, "train/codes": in_use}, batch_size=1)
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        clips = batch.clips
        return self.guard(loss, lambda: ", ".join(self.bank.clips[i].id for i in clips.tolist()))

    @torch.no_grad()
    def validation_step(self, _: object, index: int) -> None:
        """Reconstruction errors over the validation split."""
        errors = reconstruction_errors(self.vq, self.validation)
        self.log("val/root_aligned_mm", errors["root_aligned_mm"].mean(), prog_bar=True, batch_size=1)
        self.log("val/global_mm", errors["global_mm"].mean(), prog_bar=True, batch_size=1)
