"""A small temporal discriminator of motions, for the VAE's optional adversarial loss."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MotionDiscriminator(nn.Module):
    """Strided 1D convolutions over frames; one score per eight frames, so that every stretch must look real."""

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
