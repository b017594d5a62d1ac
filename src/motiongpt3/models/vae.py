"""MotionVAE: a clip of motion features <-> a few continuous latent tokens.

The architecture of MLD's motion VAE, which MotionGPT3 uses: transformers with U-shaped skip connections on both
sides, learned distribution tokens in the encoder, position queries in the decoder. Ours, beyond it: `patch` frames
share one token (1 in the paper), which makes attention `patch` squared times cheaper, and unless there is one latent
token as wide as the transformer, latents are projected, and their sum is also added to every query.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import features_to_joints
from motiongpt3.serialization import load_weights, parse_config, read_config


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of a MotionVAE."""

    features: int = 263
    """Channels of one frame."""
    latent_tokens: int = 4
    """N: latent tokens of one clip."""
    latent_channels: int = 128
    """D: channels of one latent token."""
    width: int = 256
    """Channels inside the transformers."""
    layers: int = 7
    """Layers of the encoder and of the decoder, each; odd."""
    heads: int = 4
    """Attention heads."""
    mlp_width: int = 1024
    """Hidden channels of the feed-forward parts."""
    patch: int = 4
    """Frames per token."""
    positions: int = 64
    """Learned positions: at least 2 N + frames / patch."""
    max_frames: int = 200
    """Longest clip, in frames."""
    min_frames: int = 20
    """Shortest clip that is decoded, in frames; a shorter motion is the beginning of one of this length."""
    norm: Literal["pre", "post"] = "pre"
    """Where the layer norms are; the paper's are after the residual sum."""
    dropout: float = 0.0
    """Dropout while training."""


class SkipTransformer(nn.Module):
    """A stack of layers whose first half feeds its second half, last in first out, as in a U-Net.

    The k-th output block sees Linear(concat[x, the matching input block's output]).
    """

    def __init__(self, config: VAEConfig, decoder: bool) -> None:
        super().__init__()
        if config.layers % 2 == 0:
            raise MotionGPT3Error(f"a VAE's layers must be odd, not {config.layers}")
        if config.width % config.heads:
            raise MotionGPT3Error(f"a VAE's width {config.width} cannot be shared by {config.heads} heads")
        kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer

        def block() -> nn.Module:
            return kind(
                config.width,
                config.heads,
                config.mlp_width,
                config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=config.norm == "pre",
            )

        half = config.layers // 2
        self.decoder = decoder
        self.input_blocks = nn.ModuleList(block() for _ in range(half))
        self.middle_block = block()
        self.output_blocks = nn.ModuleList(block() for _ in range(half))
        self.linear_blocks = nn.ModuleList(nn.Linear(2 * config.width, config.width) for _ in range(half))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, padding: Tensor, memory: Tensor | None = None, absent: Tensor | None = None) -> Tensor:
        """x (B, n, width), padding (B, n) True where there is no token, memory (B, m, width) -> (B, n, width).

        `absent` (B, m) is True where the memory holds no token.
        """

        def run(block: nn.Module, x: Tensor) -> Tensor:
            if self.decoder:
                return block(x, memory, tgt_key_padding_mask=padding, memory_key_padding_mask=absent)
            return block(x, src_key_padding_mask=padding)

        skips = []
        for block in self.input_blocks:
            x = run(block, x)
            skips.append(x)
        x = run(self.middle_block, x)
        for block, linear in zip(self.output_blocks, self.linear_blocks, strict=True):
            x = run(block, linear(torch.cat([x, skips.pop()], dim=-1)))
        return self.norm(x)


class MotionAutoencoder(nn.Module):
    """What autoencoders of features share: patches of frames as tokens, and the statistics that normalise features.

    The statistics are buffers, so they travel with the weights. A subclass has the layers `embed` and `to_features`.
    """

    feature_mean: Tensor
    feature_std: Tensor
    embed: nn.Linear
    to_features: nn.Linear

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_std", torch.ones(config.features))

    def normalise(self, features: Tensor) -> Tensor:
        """HumanML3D features (..., F) -> (features - mean) / std."""
        return (features - self.feature_mean) / self.feature_std

    def denormalise(self, features: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return features * self.feature_std + self.feature_mean

    def counts(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) patches."""
        return torch.div(lengths + self.config.patch - 1, self.config.patch, rounding_mode="floor")

    def embed_patches(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalised features (B, T, F) -> tokens (B, patches, width); what lies past a clip's length counts as 0."""
        batch, frames, size = features.shape
        features = features.masked_fill(~frame_mask(lengths, frames).unsqueeze(-1), 0)
        x = F.pad(features, (0, 0, 0, -frames % self.config.patch)).reshape(batch, -1, self.config.patch * size)
        return self.embed(x)

    def to_frames(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Tokens (B, patches, width) -> normalised features (B, max length, F), 0 past each clip's end."""
        frames = int(lengths.max())
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round poses to millimetres
            x = self.to_features(x.float())
        features = x.reshape(len(x), -1, self.config.features)[:, :frames]
        return features * frame_mask(lengths, frames).unsqueeze(-1)


class MotionVAE(MotionAutoencoder):
    """Encode clips of normalised features into N latent tokens of D channels, and decode them at any length.

    The statistics that normalise latents, too, are buffers.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        tokens, channels, width = config.latent_tokens, config.latent_channels, config.width
        if config.positions < 2 * tokens + -(-config.max_frames // config.patch):
            raise MotionGPT3Error("a VAE's positions must cover 2 * latent_tokens + max_frames / patch")
        self.embed = nn.Linear(config.patch * config.features, width)
        self.distribution_tokens = nn.Parameter(torch.randn(2 * tokens, width))
        self.encoder_positions = nn.Parameter(sinusoids(config.positions, width))
        self.decoder_positions = nn.Parameter(sinusoids(config.positions, width))
        self.encoder = SkipTransformer(config, decoder=False)
        self.decoder = SkipTransformer(config, decoder=True)
        self.project = channels != width or tokens > 1
        if self.project:
            self.to_latent = nn.Linear(width, channels)
            self.to_log_variance = nn.Linear(width, channels)
            self.from_latent = nn.Linear(channels, width)
            self.latent_positions = nn.Parameter(torch.randn(tokens, width) * 0.02)
            self.inject = nn.Linear(tokens * channels, width)
            with torch.no_grad():  # Little noise at first: unit noise would hide what the latents say.
                self.to_log_variance.weight.mul_(0.1)
                self.to_log_variance.bias.fill_(-5.0)
        self.to_features = nn.Linear(width, config.patch * config.features)
        self.register_buffer("latent_mean", torch.zeros(tokens, channels))
        self.register_buffer("latent_std", torch.ones(tokens, channels))

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features to the latent distribution.

        Args:
            features: (B, T, F) normalised; what lies past a clip's length does not matter.
            lengths: (B,) frames of each clip.

        Returns:
            mean and log variance, each (B, N, D).
        """
        tokens, x = self.config.latent_tokens, self.embed_patches(features, lengths)
        x = torch.cat([self.distribution_tokens.expand(len(x), -1, -1), x], dim=1)
        used = 2 * tokens + self.counts(lengths)
        x = self.encoder(x + self.encoder_positions[: x.shape[1]], ~frame_mask(used, x.shape[1]))
        mean, log_variance = x[:, :tokens], x[:, tokens : 2 * tokens]
        if self.project:
            mean, log_variance = self.to_latent(mean), self.to_log_variance(log_variance)
        return mean, log_variance

    def decode(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Latents to features of any length.

        Args:
            latents: (B, N, D), not normalised.
            lengths: (B,) frames.

        Returns:
            (B, max length, F) normalised features, 0 past each clip's end.
        """
        slots = -(-int(lengths.max()) // self.config.patch)
        memory = self.from_latent(latents) + self.latent_positions if self.project else latents
        queries = self.decoder_positions[:slots].to(memory.dtype).expand(len(latents), -1, -1)
        if self.project:
            queries = queries + self.inject(latents.flatten(1)).unsqueeze(1)
        return self.to_frames(self.decoder(queries, ~frame_mask(self.counts(lengths), slots), memory), lengths)

    def forward(self, features: Tensor, lengths: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct: normalised features (B, T, F) -> reconstruction (B, T, F), mean and log variance (B, N, D).

        The latent is mean + exp(log variance / 2) * noise; no noise (B, N, D) means the mean itself.
        """
        mean, log_variance = self.encode(features, lengths)
        latents = mean if noise is None else reparameterise(mean, log_variance, noise)
        return self.decode(latents, lengths), mean, log_variance

    def normalise_latents(self, latents: Tensor) -> Tensor:
        """Latents (..., N, D) -> zero mean and unit deviation over the training set; what the diffusion head draws."""
        return (latents - self.latent_mean) / self.latent_std

    def denormalise_latents(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise_latents`."""
        return latents * self.latent_std + self.latent_mean

    def decode_features(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Normalised latents (B, N, D) and lengths (B,) -> features (B, max length, F), not normalised.

        Patches meet with small steps, which (1, 2, 1) / 4 over frames takes away; one frame per token has none.
        """
        features = self.decode(self.denormalise_latents(latents), lengths)
        if self.config.patch > 1:
            features = smooth(features, lengths)
        return self.denormalise(features.float())

    def decode_joints(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Normalised latents (B, N, D) and lengths (B,) -> joints (B, max length, J, 3) in metres."""
        return features_to_joints(self.decode_features(latents, lengths))


def reparameterise(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw from Gaussians: mean + exp(log variance / 2) * noise, all of one shape."""
    return mean + torch.exp(0.5 * log_variance) * noise


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over channels of the KL divergence of Gaussians, of any one shape, from the standard normal."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def smooth(features: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, F) -> the mean (1, 2, 1) / 4 of each frame and its neighbours; both ends repeat outwards."""
    at = torch.arange(features.shape[1], device=features.device).expand(len(features), -1)
    after = torch.minimum(at + 1, lengths.unsqueeze(1) - 1).clamp(min=0)
    before = (at - 1).clamp(min=0)
    near = [features.gather(1, index.unsqueeze(-1).expand_as(features)) for index in (before, after)]
    return (features * 2 + near[0] + near[1]) / 4 * frame_mask(lengths, features.shape[1]).unsqueeze(-1)


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """lengths (B,) -> (B, frames), True where there is a frame."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def sinusoids(positions: int, width: int) -> Tensor:
    """(positions, width) sines and cosines of Vaswani et al. 2017: where the learned positions start."""
    angles = torch.arange(positions).unsqueeze(1) * torch.exp(-torch.arange(0, width, 2) / width * 9.21)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(positions, -1)[:, :width]


class MotionDiscriminator(nn.Module):
    """A small temporal discriminator, for the VAE's optional adversarial loss.

    Strided 1D convolutions over frames; one score per eight frames, so that every stretch must look real.
    """

    def __init__(self, features: int, width: int = 128) -> None:
        super().__init__()
        sizes = (features, width, width, width)
        self.layers = nn.Sequential()
        for before, after in pairwise(sizes):
            convolution = nn.utils.parametrizations.spectral_norm(nn.Conv1d(before, after, 4, stride=2, padding=1))
            self.layers.extend([convolution, nn.LeakyReLU(0.2)])
        self.score = nn.Conv1d(width, 1, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features (B, T, F), T >= 8 -> scores (B, T // 8): high for real, low for reconstructed."""
        return self.score(self.layers(features.transpose(1, 2))).squeeze(1)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss: mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake))."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Hinge loss of the side that wants to be taken for real: - mean D(fake)."""
    return -torch.mean(fake)


def load_vae(folder: str | Path) -> MotionVAE:
    """The VAE of a folder that `train vae` wrote or of a whole model's folder, frozen.

    Raises:
        MotionGPT3Error: there is none, or it is damaged.
    """
    config = read_config(folder)
    sizes = parse_config(VAEConfig, config.get("vae"))
    with torch.device("meta"):  # sizes that the file does not hold cost nothing
        vae = MotionVAE(sizes)
    load_weights(vae, folder, prefix="vae." if "motion_width" in config else "", assign=True)
    return vae.float().requires_grad_(False).eval()
