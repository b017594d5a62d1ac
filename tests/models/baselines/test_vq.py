"""A VQ-VAE sees neither padding nor more than its codes."""

from __future__ import annotations

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.baselines.vq import MotionVQ, VQConfig
from motiongpt3.models.vae import MotionVAE, VAEConfig

SIZES = VAEConfig(latent_tokens=2, latent_channels=4, width=16, layers=3, heads=2, mlp_width=16, max_frames=48)


@pytest.fixture(params=[1, 3])
def vq(request: pytest.FixtureRequest) -> MotionVQ:
    torch.manual_seed(0)
    return MotionVQ(VQConfig(SIZES, books=request.param, codes=8, code_channels=4)).eval()


def test_what_lies_past_the_end_does_not_matter(vq: MotionVQ) -> None:
    features, lengths = torch.randn(2, 30, 263), torch.tensor([30, 21])
    codes = vq.encode(features, lengths)
    assert codes.shape == (2, 8, vq.vq.books)
    assert vq.counts(lengths).tolist() == [8, 6]
    junk = features.clone()
    junk[1, 21:] = 100
    assert torch.equal(vq.encode(junk, lengths)[1, :6], codes[1, :6])
    alone = vq.encode(features[1:, :21], lengths[1:])
    assert torch.equal(alone[0], codes[1, :6])
    made = vq.decode(codes, lengths)
    assert made.shape == (2, 30, 263)
    assert not made[1, 21:].any()
    codes[1, 6:] = (codes[1, 6:] + 1) % 8
    torch.testing.assert_close(vq.decode(codes, lengths), made)
    torch.testing.assert_close(vq.decode(codes[1:, :6], lengths[1:])[0], made[1, :21])


def test_the_output_is_that_of_the_codes(vq: MotionVQ) -> None:
    features, lengths = torch.randn(2, 24, 263), torch.tensor([24, 20])
    output, codes, _ = vq(features, lengths)
    torch.testing.assert_close(output, vq.decode(codes, lengths))


def test_gradients_pass_the_codebook(vq: MotionVQ) -> None:
    features, lengths = torch.randn(2, 24, 263), torch.tensor([24, 20])
    output, _, _ = vq.train()(features, lengths)
    output.square().mean().backward()
    gradient = vq.embed.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    vq.zero_grad(set_to_none=False)
    vq(features, lengths)[2].backward()
    assert gradient.abs().sum() > 0


def test_only_training_moves_the_codebook(vq: MotionVQ) -> None:
    before = [book.vectors.clone() for book in vq.codebooks]
    vq(torch.randn(2, 24, 263), torch.tensor([24, 20]))
    assert all(torch.equal(old, book.vectors) for old, book in zip(before, vq.codebooks, strict=True))
    vq.train()(torch.randn(2, 24, 263), torch.tensor([24, 20]))
    assert not any(torch.equal(old, book.vectors) for old, book in zip(before, vq.codebooks, strict=True))


def test_a_start_from_a_vae(vq: MotionVQ) -> None:
    torch.manual_seed(4)
    vae = MotionVAE(SIZES)
    vae.feature_std.fill_(3)
    vq.start_from(vae)
    assert torch.equal(vq.encoder_positions, vae.encoder_positions[4:16])
    for name in ("embed", "encoder", "decoder", "to_features"):
        pairs = zip(getattr(vq, name).parameters(), getattr(vae, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert vq.denormalise(torch.ones(263)).unique().tolist() == [3]
    with pytest.raises(MotionGPT3Error, match="own sizes"):
        vq.start_from(MotionVAE(VAEConfig(width=32, layers=3, heads=2, mlp_width=16)))


@pytest.mark.parametrize("changes", [{"codes": 1}, {"books": 0}, {"code_channels": 0}, {"decay": 1.0}])
def test_a_codebook_of_nothing_is_refused(changes: dict) -> None:
    with pytest.raises(MotionGPT3Error):
        VQConfig(SIZES, **changes)


def test_bits() -> None:
    config = VQConfig(SIZES, books=2, codes=512)
    assert (config.bits_per_patch, config.slots) == (18, 12)
