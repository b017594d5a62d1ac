"""Training the motion VAE.

`AutoencoderTraining` is what anything that gives features back is trained with: the reconstruction loss and the
validation. The VAE adds the KL divergence of its latents and, if asked to, a discriminator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from motiongpt3.data.bank import ClipBank
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.reconstruction import joint_error, root_aligned
from motiongpt3.models.vae import (
    MotionAutoencoder,
    MotionDiscriminator,
    MotionVAE,
    VAEConfig,
    discriminator_loss,
    frame_mask,
    generator_loss,
    kl_divergence,
)
from motiongpt3.motion.features import feature_slices, features_to_joints
from motiongpt3.motion.skeleton import HUMANML3D
from motiongpt3.serialization import load_weights, parse_config, write_folder
from motiongpt3.training.trainer import FeatureTraining, FeatureTrainingConfig, device, fit

FPS = 20.0
"""Rate of HumanML3D's features: makes differences of frames velocities."""
DECODER = ("decoder", "from_latent", "latent_positions", "inject", "to_features")
"""How the names of the VAE's decoding parameters begin."""


@dataclass(frozen=True)
class VAELossWeights:
    """Weights of the terms of the VAE's loss."""

    features: float = 1.0
    """Smooth L1 of normalised features."""
    positions: float = 10.0
    """L1 of joint positions in the frame of the facing pelvis, metres."""
    velocities: float = 0.5
    """L1 of the velocities of these positions, metres per second."""
    path: float = 2.0
    """L1 of joint positions in the world, metres."""
    ramp: float = 0.3
    """Share of the run over which the weights of velocities and path grow from a twentieth. Their gradients go through
    the sum of all turns and steps before a frame, and at full weight they drown those of the pose in the beginning."""
    kl: float = 1e-4
    """KL divergence of the latent distribution from the standard normal, mean over channels."""
    adversarial: float = 0.0
    """Hinge loss of the discriminator; 0 trains without one."""


@dataclass(frozen=True)
class VAETrainingConfig(FeatureTrainingConfig):
    """One run that trains a VAE."""

    model: VAEConfig = field(default_factory=VAEConfig)
    loss: VAELossWeights = field(default_factory=VAELossWeights)
    _: KW_ONLY
    licenses: list[str] | None = None
    """Train only on clips under these licences."""
    decoder_only: bool = False
    """Leave the encoder and the statistics as they are: latents keep their meaning for whatever learnt them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_config(VAEConfig, asdict(self.model))


class AutoencoderTraining(FeatureTraining):
    """An autoencoder, its losses and its validation. A subclass has the network and `losses`.

    Args:
        config: the run; it has `loss`, the weights, too.
        licenses: see `ClipBank`.
    """

    def __init__(self, config: Any, licenses: list[str] | None = None) -> None:
        super().__init__(config, licenses)
        self.config = config

    @property
    def autoencoder(self) -> MotionAutoencoder:
        """The network that is trained."""
        raise NotImplementedError

    def losses(self, features: Tensor, lengths: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and what to log of it: normalised features (B, T, F), lengths (B,) frames."""
        raise NotImplementedError

    def step(self, seed: int) -> tuple[Tensor, dict[str, Tensor], Callable[[], Iterable[str]]]:
        """See `TrainingModule`."""
        config, longest = self.config, self.autoencoder.config.max_frames
        batch = self.bank.batch(config.batch, self.run.seed, self.global_step, longest, config.crop)
        loss, terms = self.losses(self.autoencoder.normalise(batch.features), batch.lengths, seed)
        return loss, terms, lambda: [self.bank.clips[i].id for i in batch.clips.tolist()]

    def weighted(self, terms: dict[str, Tensor], **more: float) -> Tensor:
        """The sum of terms, each times its weight at this step: that of the configuration, or one of `more`."""
        weights = asdict(self.config.loss) | more
        if weights["ramp"]:
            grown = min(1.0, 0.05 + self.global_step / self.run.steps / weights["ramp"])
            weights |= {name: weights[name] * grown for name in ("velocities", "path")}
        return sum((weights[name] * value for name, value in terms.items()), torch.zeros(()))

    @torch.no_grad()
    def validation_step(self, _: Any, index: int) -> None:
        """Reconstruction errors over the validation split."""
        errors = reconstruction_errors(self.autoencoder, self.held)
        self.log_dict({f"val/{name}": each.mean() for name, each in errors.items()}, prog_bar=True, batch_size=1)


class VAETraining(AutoencoderTraining):
    """The VAE, its losses and its validation."""

    config: VAETrainingConfig

    def __init__(self, config: VAETrainingConfig) -> None:
        super().__init__(config, config.licenses)
        self.vae = self.with_statistics(MotionVAE(config.model))
        if config.decoder_only:
            for name, parameter in self.vae.named_parameters():
                parameter.requires_grad_(name.startswith(DECODER))
        self.discriminator = MotionDiscriminator(config.model.features) if config.loss.adversarial else None

    @property
    def autoencoder(self) -> MotionVAE:
        """The VAE."""
        return self.vae

    def losses(self, features: Tensor, lengths: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction of sampled latents, their divergence from the prior, and what the discriminator thinks."""
        generator = torch.Generator(self.device).manual_seed(seed)
        shape = (len(features), self.config.model.latent_tokens, self.config.model.latent_channels)
        noise = torch.randn(shape, generator=generator, device=self.device)
        with self.attention():
            output, mean, log_variance = self.vae(features, lengths, noise)
        terms = reconstruction_losses(self.vae, output, features, lengths)
        terms["kl"] = kl_divergence(mean, log_variance)
        loss = self.weighted(terms)
        if self.discriminator is not None:
            loss = loss + self._adversarial(features, output, terms)
        return loss, terms

    def _adversarial(self, real: Tensor, fake: Tensor, terms: dict[str, Tensor]) -> Tensor:
        """Both sides of the hinge loss in one backward pass: each sees the other without gradients."""
        assert self.discriminator is not None
        self.discriminator.requires_grad_(False)
        terms["adversarial"] = generator_loss(self.discriminator(fake))
        self.discriminator.requires_grad_(True)
        terms["discriminator"] = discriminator_loss(self.discriminator(real), self.discriminator(fake.detach()))
        return self.config.loss.adversarial * terms["adversarial"] + terms["discriminator"]

    @torch.no_grad()
    def measure_latents(self, size: int = 64, batches: int = 200) -> None:
        """Store the mean and deviation of training latents in the VAE, over `batches` batches."""
        self.vae.eval()
        sums = []
        for step in range(batches):
            batch = self.bank.batch(size, self.run.seed + 1, step, self.config.model.max_frames, self.config.crop)
            mean, log_variance = self.vae.encode(self.vae.normalise(batch.features), batch.lengths)
            second = mean.square() + log_variance.exp()
            sums.append(torch.stack([mean.mean(0), second.mean(0)]))
        mean, second = torch.stack(sums).double().mean(0)
        self.vae.latent_mean.copy_(mean)
        self.vae.latent_std.copy_((second - mean.square()).sqrt())


def reconstruction_losses(
    autoencoder: MotionAutoencoder, output: Tensor, features: Tensor, lengths: Tensor
) -> dict[str, Tensor]:
    """The terms of the reconstruction loss, each a mean over real frames only.

    Args:
        autoencoder: for its statistics.
        output: (B, T, F) reconstruction, normalised.
        features: (B, T, F) target, normalised.
        lengths: (B,) frames.
    """
    mask = frame_mask(lengths, features.shape[1]).unsqueeze(-1).float()
    steps = mask[:, 1:] * mask[:, :-1]

    def average(error: Tensor, mask: Tensor = mask) -> Tensor:
        error = error.flatten(2)
        return (error * mask).sum() / (mask.sum() * error.shape[-1])

    with torch.autocast(output.device.type, enabled=False):
        output = output.float()
        made, real = autoencoder.denormalise(output), autoencoder.denormalise(features)
        slices = feature_slices(HUMANML3D)
        pose = slice(slices.root_height.start, slices.positions.stop)
        error = made[..., pose] - real[..., pose]
        return {
            "features": average(F.smooth_l1_loss(output, features, reduction="none")),
            "positions": average(error.abs()),
            "velocities": average((error[:, 1:] - error[:, :-1]).abs() * FPS, steps),
            "path": average((features_to_joints(made) - features_to_joints(real)).abs()),
        }


@torch.no_grad()
def reconstruction_errors(autoencoder: MotionAutoencoder, bank: ClipBank, size: int = 64) -> dict[str, Tensor]:
    """Errors of encode-and-decode per clip in millimetres; clips longer than the autoencoder's maximum are cut there.

    Returns:
        root_aligned_mm: (C,) mean joint error with the pelvis moved onto the real one in every frame.
        global_mm: (C,) mean joint error as it is, first frames facing the same way from the same place.
    """
    local, world = [], []
    for first in range(0, len(bank), size):
        clips = torch.arange(first, min(first + size, len(bank)), device=bank.frames.device)
        lengths = bank.frames[clips].clamp(max=autoencoder.config.max_frames)
        nothing = torch.zeros_like(clips)
        features = bank.take(clips, nothing, lengths, nothing.bool())
        output, _, _ = autoencoder(autoencoder.normalise(features), lengths)
        made, real = features_to_joints(autoencoder.denormalise(output.float())), features_to_joints(features)
        mask = frame_mask(lengths, features.shape[1])
        aligned = joint_error(root_aligned(made), root_aligned(real))
        local.append((aligned * mask).sum(1) / lengths * 1000)
        world.append((joint_error(made, real) * mask).sum(1) / lengths * 1000)
    return {"root_aligned_mm": torch.cat(local), "global_mm": torch.cat(world)}


def train_vae(
    config: VAETrainingConfig, resume: bool = False, start: Path | None = None, progress: bool = True
) -> Path:
    """Train a motion VAE.

    Args:
        config: the run.
        resume: go on from the run's last checkpoint.
        start: a VAE folder to start from instead of random weights.
        progress: show a progress bar.

    Returns:
        The folder with the trained VAE: config.json and model.safetensors.
    """
    if config.decoder_only and start is None:
        raise MotionGPT3Error("decoder_only needs a trained VAE to start from: give its folder with --start")
    module = VAETraining(config)
    if start is not None:
        load_weights(module.vae, start)
    fit(module, resume, progress)
    if not config.decoder_only:
        module.to(device(config.run.accelerator)).measure_latents()
    folder = Path(config.run.out) / "vae"
    write_folder(folder, {"format": 1, "vae": asdict(config.model)}, module.vae.state_dict())
    return folder
