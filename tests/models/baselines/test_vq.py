"""The codebook finds clusters and revives dead codes; a VQ-VAE sees neither padding nor more than its codes."""

from __future__ import annotations

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.baselines.vq import Codebook, MotionVQ, VQConfig
from motiongpt3.models.vae import MotionVAE, VAEConfig

SIZES = VAEConfig(latent_tokens=2, latent_channels=4, width=16, layers=3, heads=2, mlp_width=16, max_frames=48)


@pytest.fixture
def vq() -> MotionVQ:
    torch.manual_seed(0)
    return MotionVQ(VQConfig(SIZES, codes=8, code_channels=4)).eval()


def test_the_nearest_code() -> None:
    book = Codebook(VQConfig(SIZES, codes=4, code_channels=2))
    book.vectors.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1], [5, 5]]))
    assert book.nearest(torch.tensor([[[0.1, 0.2], [0.9, 0.3]], [[0.2, 0.7], [9, 9]]])).tolist() == [[0, 1], [2, 3]]
    assert book.look_up(torch.tensor([[3]])).tolist() == [[[5, 5]]]


def test_codes_follow_clusters() -> None:
    torch.manual_seed(1)
    book = Codebook(VQConfig(SIZES, codes=6, code_channels=3, decay=0.9, least_use=0.1))
    centres = 4 * torch.randn(6, 3)
    for _ in range(200):
        picks = torch.randint(0, 7, (300,)).clamp(max=5)  # the last cluster twice as often
        real = torch.rand(300) < 0.8
        x = centres[picks] + 0.05 * torch.randn(300, 3)
        book.follow(torch.where(real[:, None], x, 100.0), real)  # padding lies elsewhere
    distance = torch.cdist(centres, book.vectors)
    assert distance.min(1).values.max() < 0.2
    used = book.uses[distance.argmin(1)]
    assert used[5] > 1.5 * used[:5].mean()
    assert (book.vectors.abs() < 50).all()


def test_dead_codes_come_back() -> None:
    torch.manual_seed(2)
    book = Codebook(VQConfig(SIZES, codes=4, code_channels=2, decay=0.5, least_use=0.5))
    everything = torch.ones(64, dtype=torch.bool)
    book.follow(torch.randn(64, 2), everything)
    for _ in range(10):
        book.follow(torch.randn(64, 2) + 50, everything)
    assert (book.vectors > 40).all()


def test_what_lies_past_the_end_does_not_matter(vq: MotionVQ) -> None:
    features, lengths = torch.randn(2, 30, 263), torch.tensor([30, 21])
    codes = vq.encode(features, lengths)
    assert codes.shape == (2, 8)
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
    before = vq.codebook.vectors.clone()
    vq(torch.randn(2, 24, 263), torch.tensor([24, 20]))
    assert torch.equal(before, vq.codebook.vectors)
    vq.train()(torch.randn(2, 24, 263), torch.tensor([24, 20]))
    assert not torch.equal(before, vq.codebook.vectors)


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


@pytest.mark.parametrize("changes", [{"codes": 1}, {"code_channels": 0}, {"decay": 1.0}])
def test_a_codebook_of_nothing_is_refused(changes: dict) -> None:
    with pytest.raises(MotionGPT3Error):
        VQConfig(SIZES, **changes)


def test_bits() -> None:
    config = VQConfig(SIZES, codes=512)
    assert (config.bits_per_code, config.slots) == (9, 12)
