"""The quantised baseline: a VQ-VAE with one code, or a few that refine each other, per patch of frames.

Its encoder and decoder are those of `MotionVAE`, size by size, so that what differs is the bottleneck: codes for every
patch, as in T2M-GPT and MotionGPT (one code) or MoMask (several), instead of a few continuous tokens for a clip.

A codebook follows the encoder by moving averages (van den Oord et al. 2017, appendix A.1), and codes that fall out of
use are set anew on encodings of the batch (Dhariwal et al. 2020, "Jukebox"). Books after the first stand for residuals
(Zeghidour et al. 2021, "SoundStream").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import (
    MotionAutoencoder,
    MotionVAE,
    SkipTransformer,
    VAEConfig,
    frame_mask,
    sinusoids,
    smooth,
)


class Codebook(nn.Module):
    """Vectors that stand for encodings. Nothing here is trained by gradients.

    Args:
        codes: vectors.
        channels: of each.
        decay: of the moving averages.
        least_use: a code that a batch uses less often than this, on average, is set anew.
    """

    vectors: Tensor
    uses: Tensor
    sums: Tensor

    def __init__(self, codes: int, channels: int, decay: float, least_use: float) -> None:
        super().__init__()
        self.decay, self.least_use = decay, least_use
        self.register_buffer("vectors", torch.randn(codes, channels))
        self.register_buffer("uses", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, channels))

    def nearest(self, x: Tensor) -> Tensor:
        """Encodings (..., C) -> (...,) numbers of the nearest codes; in float64, whatever the precision around it."""
        flat, vectors = x.reshape(-1, x.shape[-1]).double(), self.vectors.double()
        with torch.autocast(x.device.type, enabled=False):
            distance = vectors.square().sum(1) - 2 * flat @ vectors.T
        return distance.argmin(1).view(x.shape[:-1])

    def look_up(self, codes: Tensor) -> Tensor:
        """(...,) numbers -> (..., C)."""
        return F.embedding(codes, self.vectors)

    @torch.no_grad()
    def follow(self, x: Tensor, real: Tensor) -> None:
        """Move the codes towards a batch of encodings.

        Args:
            x: (n, C) encodings; at the very first call the codes are set on them.
            real: (n,) bool; the others are padding. Shapes do not depend on it, so nothing waits for the device.
        """
        x = x.float()
        picks = torch.multinomial(real.float() + 1e-9, len(self.vectors), replacement=True)
        fresh = x[picks] + 0.01 * torch.randn_like(self.vectors) * x.std()
        first = self.uses.sum() == 0
        vectors = torch.where(first, fresh, self.vectors)
        self.vectors.copy_(vectors)
        chosen = self.nearest(x)
        weight = real.to(x.dtype)
        count = torch.zeros_like(self.uses).index_add_(0, chosen, weight)
        total = torch.zeros_like(self.sums).index_add_(0, chosen, x * weight.unsqueeze(1))
        keep = torch.where(first, 0.0, self.decay)
        self.uses.mul_(keep).add_(count * (1 - keep))
        self.sums.mul_(keep).add_(total * (1 - keep))
        dead = (self.uses < self.least_use).unsqueeze(1)
        self.vectors.copy_(torch.where(dead, fresh, self.sums / self.uses.clamp(min=1e-6).unsqueeze(1)))
        self.uses.copy_(torch.where(dead.squeeze(1), 2 * self.least_use, self.uses))
        self.sums.copy_(torch.where(dead, fresh * 2 * self.least_use, self.sums))

    @property
    def perplexity(self) -> Tensor:
        """2 to the power of the entropy of its use: how many codes are in use, if alike often."""
        share = self.uses / self.uses.sum().clamp(min=1e-9)
        return torch.exp(torch.special.entr(share).sum())


class ResidualCodebooks(nn.Module):
    """Books one after the other; an encoding is the sum of one code of each."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        each = config.codes, config.code_channels, config.decay, config.least_use
        self.books = nn.ModuleList(Codebook(*each) for _ in range(config.books))

    def __iter__(self) -> Iterator[Codebook]:
        return iter(cast(Sequence[Codebook], self.books))

    def nearest(self, x: Tensor) -> Tensor:
        """Encodings (..., C) -> (..., books) codes, each the nearest to what those before it left."""
        rest, codes = x.float(), []
        for book in self:
            codes.append(book.nearest(rest))
            rest = rest - book.look_up(codes[-1])
        return torch.stack(codes, -1)

    def look_up(self, codes: Tensor) -> Tensor:
        """(..., books) codes -> (..., C)."""
        return torch.stack([book.look_up(codes[..., number]) for number, book in enumerate(self)]).sum(0)

    @torch.no_grad()
    def follow(self, x: Tensor, real: Tensor) -> Tensor:
        """Move each book towards what those before it leave of a batch, and give the codes, as `nearest` then does.

        Arguments as of `Codebook.follow`; (n, books) codes.
        """
        rest, codes = x.float(), []
        for book in self:
            book.follow(rest, real)
            codes.append(book.nearest(rest))
            rest = rest - book.look_up(codes[-1])
        return torch.stack(codes, -1)


@dataclass(frozen=True)
class VQConfig:
    """Sizes of a MotionVQ."""

    sizes: VAEConfig = field(default_factory=VAEConfig)
    """Encoder and decoder, as of the VAE; its latent tokens and channels and its dropout mean nothing here."""
    books: int = 1
    """Codes per patch of frames, each from a book of its own that stands for what the books before it left."""
    codes: int = 512
    """Codes of a book."""
    code_channels: int = 64
    """Channels of a code."""
    decay: float = 0.99
    """Of the books' moving averages."""
    least_use: float = 0.5
    """A code that a batch uses less often than this, on average, is set anew."""

    def __post_init__(self) -> None:
        if self.books < 1 or self.codes < 2 or self.code_channels < 1:
            raise MotionGPT3Error(
                f"{self.books} codebooks of {self.codes} codes of {self.code_channels} channels say nothing"
            )
        if not 0 <= self.decay < 1:
            raise MotionGPT3Error(f"the codebook's decay must be in [0, 1), not {self.decay}")

    @property
    def slots(self) -> int:
        """Patches of the longest clip."""
        return -(-self.sizes.max_frames // self.sizes.patch)

    @property
    def bits_per_patch(self) -> float:
        """Bits of a patch's codes if all are alike likely."""
        return self.books * math.log2(self.codes)


class MotionVQ(MotionAutoencoder):
    """Encode clips of normalised features into codes for each patch of frames, and decode them."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__(config.sizes)
        self.vq, sizes = config, config.sizes
        self.embed = nn.Linear(sizes.patch * sizes.features, sizes.width)
        self.encoder_positions = nn.Parameter(sinusoids(config.slots, sizes.width))
        self.decoder_positions = nn.Parameter(sinusoids(config.slots, sizes.width))
        self.encoder = SkipTransformer(sizes, decoder=False)
        self.decoder = SkipTransformer(sizes, decoder=True)
        self.to_code = nn.Linear(sizes.width, config.code_channels)
        self.from_code = nn.Linear(config.code_channels, sizes.width)
        self.to_features = nn.Linear(sizes.width, sizes.patch * sizes.features)
        self.codebooks = ResidualCodebooks(config)

    @torch.no_grad()
    def start_from(self, vae: MotionVAE) -> None:
        """Take encoder, decoder and statistics of a trained VAE of the same sizes; the rest is new."""
        if any(getattr(vae.config, name) != getattr(self.config, name) for name in ("width", "layers", "patch")):
            raise MotionGPT3Error("a VQ-VAE can start from a VAE of its own sizes only")
        for name in ("embed", "encoder", "decoder", "to_features"):
            getattr(self, name).load_state_dict(getattr(vae, name).state_dict())
        slots, first = self.vq.slots, 2 * vae.config.latent_tokens  # distribution tokens come before the frames there
        self.encoder_positions.copy_(vae.encoder_positions[first : first + slots])
        self.decoder_positions.copy_(vae.decoder_positions[:slots])
        self.feature_mean.copy_(vae.feature_mean)
        self.feature_std.copy_(vae.feature_std)

    def encodings(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalised features (B, T, F) and lengths (B,) -> what is quantised, (B, S, C), S patches."""
        x = self.embed_patches(features, lengths)
        slots = x.shape[1]
        return self.to_code(self.encoder(x + self.encoder_positions[:slots], ~frame_mask(self.counts(lengths), slots)))

    def encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalised features (B, T, F) and lengths (B,) -> codes (B, S, books) long, S patches.

        They mean nothing past a clip's end.
        """
        return self.codebooks.nearest(self.encodings(features, lengths))

    def decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Codes (B, S, books) and lengths (B,) -> (B, max length, F) normalised features, 0 past each clip's end."""
        return self.decode_vectors(self.codebooks.look_up(codes), lengths)

    def decode_vectors(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """As `decode`, from vectors (B, S, C)."""
        slots = -(-int(lengths.max()) // self.config.patch)
        absent = ~frame_mask(self.counts(lengths), slots)
        x = self.from_code(vectors[:, :slots]) + self.decoder_positions[:slots]
        return self.to_frames(self.decoder(x, absent, x, absent), lengths)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct: normalised features (B, T, F) -> the same again, codes (B, S, books) and the commitment loss.

        Gradients pass the codebooks as if they were not there. In training the books follow the encodings first.
        """
        x = self.encodings(features, lengths)
        real = frame_mask(self.counts(lengths), x.shape[1])
        if self.training:
            codes = self.codebooks.follow(x.detach().flatten(0, 1), real.flatten()).view(*x.shape[:2], -1)
        else:
            codes = self.codebooks.nearest(x.detach())
        vectors = self.codebooks.look_up(codes)
        error = (x.float() - vectors).square().mean(-1)
        commitment = (error * real).sum() / real.sum()
        output = self.decode_vectors(x + (vectors - x).detach(), lengths)
        return output[:, : features.shape[1]], codes, commitment

    def decode_features(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Codes (B, S, books) and lengths (B,) -> (B, max length, F) features, not normalised, patches smoothed."""
        features = self.decode(codes, lengths)
        return self.denormalise(smooth(features, lengths) if self.config.patch > 1 else features)
