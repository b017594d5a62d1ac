"""The diffusion head alone: network, loss, ancestral samples, and the tables of its noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from motiongpt3.models.diffusion_head import (
    DiffusionHead,
    HeadConfig,
    alpha_bars,
    kept_steps,
    make_scheduler,
    time_embedding,
)


@dataclass(frozen=True)
class Posterior:
    """Gaussian steps backwards over kept noise levels (Ho et al. 2020, formulas 6 and 7), each (steps,).

    mean = clean * x0 + noisy * x_t.
    """

    betas: NDArray[np.float64]
    variance: NDArray[np.float64]
    clean: NDArray[np.float64]
    noisy: NDArray[np.float64]

    @classmethod
    def of(cls, levels: NDArray[np.float64]) -> Posterior:
        """From the cumulative products of 1 - beta that are kept, rising in noise."""
        before = np.append(1.0, levels[:-1])
        betas = 1.0 - levels / before
        rest = 1.0 - levels
        return cls(
            betas, betas * (1 - before) / rest, betas * np.sqrt(before) / rest, np.sqrt(1 - betas) * (1 - before) / rest
        )


BAR = 1e-5
NAMES = {
    "net.cond_embed.hidden_embedding": "pool_token",
    "net.cond_embed.hid_pos.pe": "pool_positions",
    "net.cond_embed.hid_encoder_layer.": "pool.",
    "net.cond_embed.cond_proj.": "embed_condition.",
    "net.time_embed.mlp.": "embed_time.",
    "net.input_proj.": "embed_latent.",
    "net.final_layer.adaLN_modulation.": "final_modulation.",
    "net.final_layer.linear.": "final.",
    "net.res_blocks.": "blocks.",
    ".in_ln.": ".norm.",
    ".adaLN_modulation.": ".modulation.",
}
Read = Callable[[str], Any]
Close = Callable[..., None]


@pytest.fixture(scope="module")
def head(read: Read) -> DiffusionHead:
    """The recorded weights under our names."""
    state = {}
    for name, tensor in read("diffloss_tiny_weights.safetensors").items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        state[name] = tensor.squeeze(1) if name == "pool_positions" else tensor
    hidden = state["pool_token"].shape[1]
    queries = read("diffloss_tiny_io.safetensors")["z"].shape[1]
    config = HeadConfig(
        queries=queries,
        hidden=hidden,
        latent_tokens=1,
        latent_channels=state["embed_latent.weight"].shape[1],
        width=state["embed_latent.weight"].shape[0],
        depth=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        pool_mlp=state["pool.linear1.weight"].shape[0],
        positions=len(state["pool_positions"]),
        objective="epsilon",
        condition_dropping=0.0,
    )
    made = DiffusionHead(config).eval()
    made.load_state_dict({**state, "no_condition": torch.zeros(queries, hidden)})
    return made


@pytest.fixture(scope="module")
def record(read: Read) -> dict[str, Tensor]:
    return read("diffloss_tiny_io.safetensors")


@pytest.mark.parametrize("grad", [False, True])
def test_the_network(head: DiffusionHead, record: dict[str, Tensor], close: Close, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        condition = head.condition(record["z"])
        close(condition, record["cond_embed_out"].squeeze(1), BAR)
        close(head.embed_time(time_embedding(record["t"])), record["time_embed_out"], BAR)
        close(head.predict(record["xt"], record["t"], condition), record["net_out"], BAR)


def test_the_loss(
    head: DiffusionHead, record: dict[str, Tensor], close: Close, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = (record["loss_t"].double() + 0.5) / head.config.train_steps
    # First whether to drop the condition, then the time.
    uniform = iter([torch.ones(len(times)), times])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(uniform))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: record["loss_noise"])
    close(head.loss(record["z"], record["x0"], repeat=1).mean(), record["loss"][0], BAR)


@pytest.mark.parametrize(("name", "guidance"), [("cfg1", 1.0), ("cfg3", 3.0)])
def test_ancestral_samples(
    head: DiffusionHead,
    record: dict[str, Tensor],
    close: Close,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    guidance: float,
) -> None:
    start, steps = record[f"sample_{name}_init"], record[f"sample_{name}_steps"]
    rows = len(start)
    noises = iter(steps[:, :rows])
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(noises))
    hidden = record[f"sample_{name}_z" if guidance > 1 else "z"][:rows]
    close(head.sample(hidden, start, len(steps), guidance, "ddpm"), record[f"sample_{name}"][:rows], 1e-4)
    assert len(list(noises)) == 1  # none is added in the last step


def test_ancestral_sampling_without_noise(
    head: DiffusionHead, record: dict[str, Tensor], close: Close, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: torch.zeros(1))
    steps = len(record["sample_cfg1_steps"])
    found = head.sample(record["z"], record["sample_temp0_init"], steps, 1.0, "ddpm")
    close(found, record["sample_temp0"], 1e-4)


def test_the_tables_of_the_schedule(read: Read) -> None:
    """In float64, and the sampler computes with them."""
    record = read("diffusion_schedule.npz")
    config = replace(HeadConfig(objective="epsilon"), train_steps=len(record["train_betas"]))
    kept = kept_steps(config.train_steps, len(record["gen_timestep_map"]))
    assert kept.tolist() == record["gen_timestep_map"].tolist()
    levels = alpha_bars(config)
    posterior = Posterior.of(levels[kept])
    for ours, theirs in {
        "train_betas": Posterior.of(levels).betas,
        "train_alphas_cumprod": levels,
        "gen_alphas_cumprod": levels[kept],
        "gen_betas": posterior.betas,
        "gen_posterior_variance": posterior.variance,
        "gen_posterior_mean_coef1": posterior.clean,
        "gen_posterior_mean_coef2": posterior.noisy,
    }.items():
        assert abs(theirs - record[ours]).max() <= 1e-12, ours
    scheduler = make_scheduler(config, len(kept), "ddpm")
    assert scheduler.timesteps.tolist() == kept[::-1].tolist()
    assert abs(scheduler.alphas_cumprod.numpy() - levels).max() <= 1e-12
    for step, variance in zip(kept[1:].tolist(), record["gen_posterior_variance"][1:], strict=True):
        assert abs(scheduler._get_variance(step).item() - variance) <= 1e-12
