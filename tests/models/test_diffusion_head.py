"""The diffusion head: its official size is guidance, batching, both objectives."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from motiongpt3.models.diffusion_head import DiffusionHead, HeadConfig, alpha_bars, make_scheduler, time_embedding

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


@pytest.mark.slow
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


EPSILON = HeadConfig(objective="epsilon")
FLOW = HeadConfig(objective="flow")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "sampler", "steps"),
    [(FLOW, "auto", n) for n in (1, 2, 10, 1000)]
    + [(EPSILON, "auto", n) for n in (1, 2, 20, 1000)]
    + [(EPSILON, "ddpm", n) for n in (1, 2, 100, 1000)],
)
def test_a_perfect_network_leads_to_its_point(config: HeadConfig, sampler: Any, steps: int) -> None:
    """A network that knows the clean point is asked exactly `steps` times, at falling times from the noisiest."""
    clean = torch.tensor([[[0.3, -2.0, 5.0]]])
    x = torch.randn(1, 1, 3, generator=torch.Generator().manual_seed(0))
    levels = torch.from_numpy(alpha_bars(EPSILON)).float()
    scheduler = make_scheduler(config, steps, sampler)
    x = x * scheduler.init_noise_sigma
    times = [float(t) for t in scheduler.timesteps]
    assert len(times) == (999 if (sampler, steps, config.objective) == ("auto", 1000, "epsilon") else steps)
    assert times == sorted(set(times), reverse=True)
    assert times[0] >= 999
    for t in scheduler.timesteps:
        if config.objective == "flow":
            prediction = (x - clean) / (t / 1000)
        else:
            level = levels[int(t)]
            prediction = (x - level.sqrt() * clean) / (1 - level).sqrt()
        x = scheduler.step(prediction, t, x).prev_sample
    torch.testing.assert_close(x, clean, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["auto", "ddpm"])
@pytest.mark.parametrize("steps", [1, 49, 50, 51, 1000])
def test_more_steps_than_there_are_do_no_harm(sampler: Any, steps: int) -> None:
    config = HeadConfig(objective="epsilon", width=8, hidden=8, train_steps=50, latent_tokens=1, latent_channels=2)
    head = DiffusionHead(config).eval()

    def sample(steps: int) -> Tensor:
        noise = [torch.Generator().manual_seed(0)]
        return head.sample(torch.zeros(1, 4, 8), torch.ones(1, 1, 2), steps, 1.0, sampler, noise)

    assert torch.isfinite(sample(steps)).all()
    if steps > 50:
        torch.testing.assert_close(sample(steps), sample(50), msg="there are no more than 50")


def test_flow_steps_are_even() -> None:
    sigmas = make_scheduler(FLOW, 4).sigmas
    torch.testing.assert_close(sigmas, torch.tensor([1, 0.75, 0.5, 0.25, 0]))


def test_only_what_is_needed_is_read_from_the_configuration() -> None:
    config: Any = SimpleNamespace(objective="epsilon", train_steps=50, beta_start=1e-3, beta_end=0.1)
    assert make_scheduler(config, 5, "ddpm").timesteps.tolist() == [49, 37, 24, 12, 0]
