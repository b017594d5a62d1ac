"""The diffusion head: its official size is guidance, batching, both objectives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from motiongpt3.models.diffusion_head import DiffusionHead, HeadConfig, time_embedding

TINY = HeadConfig(
    queries=3, hidden=12, latent_tokens=2, latent_channels=4, width=24, depth=2, pool_heads=2, pool_mlp=16, positions=4
)
Objective = Literal["epsilon", "flow"]
OBJECTIVES: list[Objective] = ["epsilon", "flow"]


def make(objective: Objective = "flow", **changes: Any) -> DiffusionHead:
    torch.manual_seed(0)
    head = DiffusionHead(replace(TINY, objective=objective, **changes))
    with torch.no_grad():
        head.no_condition.normal_()
    return head.eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_time_embedding() -> None:
    embedded = time_embedding(torch.tensor([0.0, 7.0]), 8)
    assert embedded[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    frequencies = 10000 ** -(torch.arange(4) / 4)
    torch.testing.assert_close(embedded[1], torch.cat([(7 * frequencies).cos(), (7 * frequencies).sin()]))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_batch_does_not_matter(objective: Objective) -> None:
    head = make(objective)
    hidden, noise = draw(5, 3, 12), draw(5, 2, 4, seed=1)
    together = head.sample(hidden, noise, 6, 2.5)
    for i in range(5):
        torch.testing.assert_close(head.sample(hidden[i : i + 1], noise[i : i + 1], 6, 2.5), together[i : i + 1])
    assert torch.equal(head.sample(hidden, noise, 6, 2.5), together)


def test_ancestral_noise_belongs_to_the_clip() -> None:
    head = make("epsilon")
    hidden, noise = draw(3, 3, 12), draw(3, 2, 4, seed=1)

    def sample(rows: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(i) for i in rows]
        return head.sample(hidden[rows], noise[rows], 8, 2.0, "ddpm", generators)

    together = sample([0, 1, 2])
    torch.testing.assert_close(sample([2])[0], together[2])
    torch.testing.assert_close(sample([1, 0]), together[[1, 0]])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_guidance(objective: Objective) -> None:
    """At 1 the stand-in is not read; at 0 the condition is not; in one step the rest is on the line through both."""
    head = make(objective)
    hidden, noise = draw(2, 3, 12), draw(2, 2, 4, seed=1)
    one, nothing = head.sample(hidden, noise, 1, 1.0), head.sample(hidden, noise, 1, 0.0)
    torch.testing.assert_close(head.sample(hidden, noise, 1, 1.0 + 1e-7), one)
    torch.testing.assert_close(head.sample(hidden, noise, 1, 3.0), nothing + 3 * (one - nothing), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(head.sample(hidden.flip(0), noise, 1, 0.0), nothing)
    assert not torch.allclose(one, nothing)
    with torch.no_grad():
        head.no_condition.normal_()
    assert torch.equal(head.sample(hidden, noise, 1, 1.0), one)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_is_per_clip_and_repeatable(objective: Objective) -> None:
    head = make(objective)
    hidden, latents = draw(4, 3, 12), draw(4, 2, 4, seed=1)

    def loss(repeat: int = 3, latents: Tensor = latents) -> Tensor:
        return head.loss(hidden, latents, repeat, torch.Generator().manual_seed(5))

    first = loss()
    assert first.shape == (4,)
    assert torch.equal(loss(), first)
    other = latents.clone()
    other[2] += 1
    changed = (loss(latents=other) - first).abs() > 1e-6
    assert changed.tolist() == [False, False, True, False]


def test_conditions_are_dropped_as_often_as_asked() -> None:
    hidden, latents = draw(50, 3, 12).requires_grad_(True), draw(50, 2, 4, seed=1)
    for share in (0.0, 0.3, 1.0):
        head = make(condition_dropping=share)
        hidden.grad = head.no_condition.grad = None
        head.loss(hidden, latents, 1, torch.Generator().manual_seed(0)).sum().backward()
        assert hidden.grad is not None
        assert head.no_condition.grad is not None
        given = (hidden.grad.abs().amax((1, 2)) > 0).float().mean().item()
        assert given == pytest.approx(1 - share, abs=0.2 if 0 < share < 1 else 0)
        assert bool(head.no_condition.grad.abs().max() > 0) == (share > 0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_head_learns_which_condition_means_which_latent(objective: Objective) -> None:
    """Overfitting two clips: the loss falls, and sampling gives each its latent back, whatever the noise."""
    torch.manual_seed(0)
    head = DiffusionHead(replace(TINY, objective=objective, width=64, train_steps=1000, condition_dropping=0.05))
    hidden, latents = draw(2, 3, 12), draw(2, 2, 4, seed=1)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(250):
        loss = head.loss(hidden, latents, 32, generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(torch.isfinite(torch.tensor(losses)))
    assert sum(losses[-20:]) < 0.25 * sum(losses[:5]) * 4
    head.eval()
    for seed in (2, 3):
        made = head.sample(hidden, draw(2, 2, 4, seed=seed), 20)
        assert (made - latents).abs().mean() < 0.25
        assert (made - latents.flip(0)).abs().mean() > 0.5
