"""The diffusion head: its official size is the official head, guidance, batching, both objectives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from motiongpt3.models.diffusion_head import DiffusionHead, HeadConfig, time_embedding

TINY = HeadConfig(
    queries=3, hidden=12, latent_tokens=2, latent_channels=4, width=24, depth=2, pool_heads=2, pool_mlp=16, positions=4
)
OFFICIAL = HeadConfig(
    queries=4,
    hidden=64,
    latent_tokens=1,
    latent_channels=32,
    width=64,
    depth=3,
    pool_heads=4,
    pool_mlp=256,
    positions=500,
    objective="epsilon",
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


@pytest.fixture(scope="module")
def official(parity_dir: Path) -> tuple[DiffusionHead, dict[str, Tensor]]:
    """The recorded weights under our names."""
    weights = load_file(parity_dir / "diffloss_tiny_weights.safetensors")
    names = {
        "net.cond_embed.hid_encoder_layer.": "pool.",
        "net.cond_embed.cond_proj.": "embed_condition.",
        "net.time_embed.mlp.": "embed_time.",
        "net.input_proj.": "embed_latent.",
        "net.final_layer.adaLN_modulation.": "final_modulation.",
        "net.final_layer.linear.": "final.",
    }
    state = {"no_condition": torch.zeros(4, 64)}
    state["pool_token"] = weights.pop("net.cond_embed.hidden_embedding")
    state["pool_positions"] = weights.pop("net.cond_embed.hid_pos.pe").squeeze(1)
    for name, tensor in weights.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        name = name.replace("net.res_blocks.", "blocks.").replace("in_ln", "norm").replace("adaLN_mod", "mod")
        state[name] = tensor
    head = DiffusionHead(OFFICIAL).eval()
    head.load_state_dict(state)
    return head, load_file(parity_dir / "diffloss_tiny_io.safetensors")


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("grad", [False, True])
def test_the_official_size_equals_the_official_network(official: tuple, grad: bool) -> None:
    head, record = official
    with torch.set_grad_enabled(grad):
        condition = head.condition(record["z"])
        close(condition, record["cond_embed_out"].squeeze(1))
        close(head.embed_time(time_embedding(record["t"])), record["time_embed_out"])
        close(head.predict(record["xt"], record["t"], condition), record["net_out"])


def test_the_loss_equals_the_official_loss(official: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    head, record = official
    head = DiffusionHead(replace(OFFICIAL, condition_dropping=0.0)).eval()
    head.load_state_dict(official[0].state_dict())
    times = (record["loss_t"].double() + 0.5) / 1000
    # First whether to drop the condition, then the time.
    uniform: Iterator[Tensor] = iter([torch.ones(6), times])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(uniform))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: record["loss_noise"])
    close(head.loss(record["z"], record["x0"], repeat=1).mean(), record["loss"][0])


@pytest.mark.parametrize(("name", "guidance"), [("cfg1", 1.0), ("cfg3", 3.0)])
def test_ancestral_samples_equal_the_official_ones(
    official: tuple, monkeypatch: pytest.MonkeyPatch, name: str, guidance: float
) -> None:
    head, record = official
    start = record[f"sample_{name}_init"]
    rows = len(start)
    noises = iter(record[f"sample_{name}_steps"][:, :rows])
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(noises))
    hidden = record[f"sample_{name}_z" if guidance > 1 else "z"][:rows]
    made = head.sample(hidden, start, 100, guidance, "ddpm")
    close(made, record[f"sample_{name}"][:rows], 1e-3)
    assert len(list(noises)) == 1  # none is added in the last step


def test_ancestral_sampling_without_noise_equals_temperature_zero(
    official: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, record = official
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: torch.zeros(1))
    close(head.sample(record["z"], record["sample_temp0_init"], 100, 1.0, "ddpm"), record["sample_temp0"], 1e-3)


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
