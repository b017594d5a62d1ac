"""A VQ-VAE sees neither padding nor more than its codes."""

from __future__ import annotations

import itertools

import pytest
import torch

from motiongpt3.baselines.vq import Codebook, MotionVQ, ResidualCodebooks, VQConfig
from motiongpt3.errors import MotionGPT3Error
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


def test_the_nearest_code() -> None:
    book = Codebook(4, 2, 0.99, 0.5)
    book.vectors.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1], [5, 5]]))
    assert book.nearest(torch.tensor([[[0.1, 0.2], [0.9, 0.3]], [[0.2, 0.7], [9, 9]]])).tolist() == [[0, 1], [2, 3]]
    assert book.look_up(torch.tensor([[3]])).tolist() == [[[5, 5]]]


def test_codes_follow_clusters() -> None:
    torch.manual_seed(1)
    book = Codebook(6, 3, decay=0.9, least_use=0.1)
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
    book = Codebook(4, 2, decay=0.5, least_use=0.5)
    everything = torch.ones(64, dtype=torch.bool)
    book.follow(torch.randn(64, 2), everything)
    for _ in range(10):
        book.follow(torch.randn(64, 2) + 50, everything)
    assert (book.vectors > 40).all()


def test_perplexity() -> None:
    book = Codebook(4, 2, 0.99, 0.5)
    book.uses.copy_(torch.tensor([5.0, 5, 0, 0]))
    torch.testing.assert_close(book.perplexity, torch.tensor(2.0))


def test_books_refine() -> None:
    """Two books of four by hand: the second says which way from the first."""
    books = ResidualCodebooks(VQConfig(SIZES, 2, 4, 2, 0.99, 0.5))
    first, second = books
    first.vectors.copy_(torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]]))
    second.vectors.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1], [-1, -1]]))
    x = torch.tensor([[10.9, 0.1], [-0.8, 9.3], [0.2, 0.9]])
    codes = books.nearest(x)
    assert codes.tolist() == [[1, 1], [2, 3], [0, 2]]
    assert books.look_up(codes).tolist() == [[11, 0], [-1, 9], [0, 1]]


def test_each_book_leaves_less() -> None:
    torch.manual_seed(3)
    x, everything = torch.randn(512, 8), torch.ones(512, dtype=torch.bool)
    books = ResidualCodebooks(VQConfig(SIZES, 4, 32, 8, decay=0.5, least_use=0.1))
    for _ in range(20):
        followed = books.follow(x, everything)
    codes, left = books.nearest(x), []
    assert torch.equal(followed, codes), "following gives the codes of the moved books"
    for number in range(5):
        known = sum((book.look_up(codes[:, n]) for n, book in enumerate(books) if n < number), torch.zeros_like(x))
        left.append(float((x - known).square().mean()))
    ratios = [after / before for before, after in itertools.pairwise(left)]
    assert all(ratio < 0.8 for ratio in ratios), left


def test_one_book_is_a_codebook() -> None:
    torch.manual_seed(4)
    books, x = ResidualCodebooks(VQConfig(SIZES, 1, 6, 3, 0.9, 0.1)), torch.randn(2, 5, 3)
    (book,) = books
    assert torch.equal(books.nearest(x).squeeze(-1), book.nearest(x))
    assert torch.equal(books.look_up(books.nearest(x)), book.look_up(book.nearest(x)))
