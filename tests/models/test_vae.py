"""The motion VAE: padding and batching change nothing, any length decodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import (
    MotionDiscriminator,
    MotionVAE,
    SkipTransformer,
    VAEConfig,
    discriminator_loss,
    frame_mask,
    generator_loss,
    smooth,
)
from motiongpt3.motion.features import features_to_joints

TINY = VAEConfig(
    latent_tokens=2, latent_channels=8, width=16, layers=3, heads=2, mlp_width=24, patch=4, positions=20, max_frames=48
)


def make(**changes: object) -> MotionVAE:
    torch.manual_seed(0)
    vae = MotionVAE(replace(TINY, **changes))  # type: ignore[arg-type]
    with torch.no_grad():  # one-dimensional parameters start at 0 and 1, where mistakes do not show
        for parameter in vae.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return vae.eval()


def clips(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(lengths), max(lengths), 263, generator=generator)
    return features, torch.tensor(lengths)


VARIANTS = [
    {},
    {"norm": "post"},
    {"patch": 1, "positions": 60},
    {"latent_tokens": 1, "latent_channels": 16},
    {"layers": 1},
]


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("grad", [False, True])
def test_padding_and_batching_change_nothing(changes: dict, grad: bool) -> None:
    """Also between PyTorch's two code paths: with and without gradients."""
    vae = make(**changes)
    features, lengths = clips([48, 21, 4, 33])
    with torch.set_grad_enabled(grad):
        output, mean, log_variance = vae(features, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = vae(features[i : i + 1, :length], lengths[i : i + 1])
            torch.testing.assert_close(alone[1][0], mean[i], atol=1e-5, rtol=0)
            torch.testing.assert_close(alone[2][0], log_variance[i], atol=1e-5, rtol=0)
            torch.testing.assert_close(alone[0][0], output[i, :length], atol=1e-5, rtol=0)


@pytest.mark.parametrize("junk", [1e4, float("nan"), float("inf")])
def test_what_lies_past_the_end_does_not_matter(junk: float) -> None:
    vae = make()
    features, lengths = clips([48, 21])
    dirty = features.clone()
    dirty[1, 21:] = junk
    for clean, other in zip(vae.encode(features, lengths), vae.encode(dirty, lengths), strict=True):
        assert torch.equal(clean, other)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 47, 48])
def test_any_length_decodes_and_is_zero_past_the_end(frames: int) -> None:
    vae = make()
    latents = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(1))
    output = vae.decode(latents, torch.tensor([frames, 1]))
    assert output.shape == (2, frames, 263)
    assert (output[0].abs().amax(-1) > 0).all()
    assert (output[1, 0].abs() > 0).any()
    assert (output[1, 1:] == 0).all()


def test_every_frame_reaches_the_latent_and_every_latent_channel_every_frame() -> None:
    vae = make()
    features, _ = clips([22])
    features.requires_grad_(True)
    mean, log_variance = vae.encode(features, torch.tensor([22]))
    mean.square().sum().backward()
    assert features.grad is not None
    assert (features.grad.abs().amax(-1) > 0).all()
    latents = torch.randn(1, 2, 8).requires_grad_(True)
    for frame in (0, 13, 21):
        (gradient,) = torch.autograd.grad(vae.decode(latents, torch.tensor([22]))[0, frame].square().sum(), latents)
        assert (gradient.abs() > 0).all()
    assert log_variance.shape == mean.shape == (1, 2, 8)


def test_skips_are_last_in_first_out() -> None:
    torch.manual_seed(0)
    stack = SkipTransformer(replace(TINY, layers=5), decoder=False).eval()
    x, nothing = torch.randn(2, 6, 16), torch.zeros(2, 6, dtype=torch.bool)
    first = stack.input_blocks[0](x)
    second = stack.input_blocks[1](first)
    y = stack.middle_block(second)
    y = stack.output_blocks[0](stack.linear_blocks[0](torch.cat([y, second], -1)))
    y = stack.output_blocks[1](stack.linear_blocks[1](torch.cat([y, first], -1)))
    torch.testing.assert_close(stack(x, nothing), stack.norm(y), atol=1e-5, rtol=0)


def test_new_latents_are_nearly_free_of_noise() -> None:
    torch.manual_seed(0)
    _, log_variance = MotionVAE(TINY).encode(*clips([24]))
    assert log_variance.max() < -3


def test_noise_moves_the_latent_by_its_deviation() -> None:
    vae = make()
    features, lengths = clips([24, 12])
    mean, log_variance = vae.encode(features, lengths)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    expected = vae.decode(mean + (log_variance / 2).exp() * noise, lengths)
    torch.testing.assert_close(vae(features, lengths, noise)[0], expected)


def test_statistics_normalise_and_travel_with_the_weights() -> None:
    vae = make()
    vae.feature_mean.normal_()
    vae.feature_std.uniform_(0.5, 2)
    vae.latent_mean.normal_()
    vae.latent_std.uniform_(0.5, 2)
    features, lengths = clips([12])
    torch.testing.assert_close(vae.denormalise(vae.normalise(features)), features)
    latents = torch.randn(1, 2, 8)
    torch.testing.assert_close(vae.denormalise_latents(vae.normalise_latents(latents)), latents)
    assert torch.equal(vae.normalise_latents(vae.latent_mean[None]), torch.zeros(1, 2, 8))
    other = make()
    other.load_state_dict(vae.state_dict())
    joints = other.decode_joints(latents, lengths)
    assert joints.shape == (1, 12, 22, 3)
    raw = smooth(vae.decode(latents * vae.latent_std + vae.latent_mean, lengths), lengths)
    assert torch.equal(joints, features_to_joints(raw * vae.feature_std + vae.feature_mean))


def test_poses_are_not_rounded_under_autocast() -> None:
    vae = make()
    with torch.autocast("cpu", torch.bfloat16):
        output = vae.decode(torch.randn(1, 2, 8), torch.tensor([12]))
    assert output.dtype == torch.float32
    assert not torch.equal(output, output.bfloat16().float())


def test_frame_mask() -> None:
    assert frame_mask(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]


@pytest.mark.parametrize("changes", [{"layers": 4}, {"positions": 15}, {"heads": 3}])
def test_sizes_that_do_not_fit_are_refused(changes: dict) -> None:
    with pytest.raises(MotionGPT3Error):
        MotionVAE(replace(TINY, **changes))


def test_smoothing_knows_where_each_clip_ends() -> None:
    features = torch.tensor([[0.0, 4.0, 0.0, 8.0], [4.0, 8.0, 99.0, 99.0]]).unsqueeze(-1)
    expected = torch.tensor([[1.0, 2.0, 3.0, 6.0], [5.0, 7.0, 0.0, 0.0]]).unsqueeze(-1)
    assert torch.equal(smooth(features, torch.tensor([4, 2])), expected)


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


@pytest.mark.slow
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
