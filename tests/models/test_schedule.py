"""Sampling schedules: the paper's ancestral steps, and solvers that end at the clean sample."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from motiongpt3.models.diffusion_head import DiffusionHead, HeadConfig
from motiongpt3.models.schedule import alpha_bars, make_scheduler

EPSILON = HeadConfig(objective="epsilon")
FLOW = HeadConfig(objective="flow")


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
    assert torch.isfinite(head.sample(torch.zeros(1, 4, 8), torch.ones(1, 1, 2), steps, 1.0, sampler)).all()


def test_flow_steps_are_even() -> None:
    sigmas = make_scheduler(FLOW, 4).sigmas
    torch.testing.assert_close(sigmas, torch.tensor([1, 0.75, 0.5, 0.25, 0]))


def test_only_what_is_needed_is_read_from_the_configuration() -> None:
    config: Any = SimpleNamespace(objective="epsilon", train_steps=50, beta_start=1e-3, beta_end=0.1)
    assert make_scheduler(config, 5, "ddpm").timesteps.tolist() == [49, 37, 24, 12, 0]
