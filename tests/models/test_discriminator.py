"""The discriminator of motions scores stretches of frames, and its losses pull the two sides apart."""

from __future__ import annotations

import pytest
import torch

from motiongpt3.models.discriminator import MotionDiscriminator, discriminator_loss, generator_loss


@pytest.mark.parametrize("frames", [8, 9, 15, 16, 47])
def test_one_score_per_eight_frames(frames: int) -> None:
    assert MotionDiscriminator(263, 16)(torch.randn(2, frames, 263)).shape == (2, frames // 8)


def test_a_score_sees_its_stretch_only() -> None:
    torch.manual_seed(0)
    discriminator = MotionDiscriminator(12, 8).eval()
    features = torch.randn(1, 160, 12).requires_grad_(True)
    discriminator(features)[0, 10].backward()
    assert features.grad is not None
    seen = torch.nonzero(features.grad[0].abs().sum(-1))[:, 0]
    assert seen.min() <= 80
    assert seen.max() >= 87
    assert seen.max() - seen.min() < 48


def test_hinge_losses() -> None:
    real, fake = torch.tensor([[2.0, 0.0]]), torch.tensor([[-3.0, 1.0]])
    assert discriminator_loss(real, fake).item() == pytest.approx(0.5 + 1.0)
    assert discriminator_loss(real + 9, fake - 9).item() == 0
    assert generator_loss(fake).item() == pytest.approx(1.0)


def test_it_learns_to_tell_smooth_from_shaken() -> None:
    torch.manual_seed(0)
    discriminator = MotionDiscriminator(6, 16)
    optimizer = torch.optim.Adam(discriminator.parameters(), 5e-3)
    time = torch.arange(32) / 5
    for _ in range(60):
        smooth = torch.sin(time[None, :, None] + torch.rand(16, 1, 6) * 6)
        loss = discriminator_loss(discriminator(smooth), discriminator(smooth + torch.randn_like(smooth) * 0.5))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8  # 2 says nothing
