"""A codebook finds clusters and revives dead codes; books after the first refine what those before them left."""

from __future__ import annotations

import itertools

import torch

from motiongpt3.models.baselines.codebook import Codebook, ResidualCodebooks


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
    books = ResidualCodebooks(2, 4, 2, 0.99, 0.5)
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
    books = ResidualCodebooks(4, 32, 8, decay=0.5, least_use=0.1)
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
    books, x = ResidualCodebooks(1, 6, 3, 0.9, 0.1), torch.randn(2, 5, 3)
    (book,) = books
    assert torch.equal(books.nearest(x).squeeze(-1), book.nearest(x))
    assert torch.equal(books.look_up(books.nearest(x)), book.look_up(book.nearest(x)))
