"""DiffusionHead: hidden states of the motion stream -> the latent tokens of a clip.

As in MotionGPT3: attention pooling over the K hidden states, a residual MLP with adaptive layer norm, classifier-free
guidance inside the head with a learned stand-in for the condition. The objective is noise prediction (the paper) or
rectified flow (Liu et al. 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from motiongpt3.errors import MotionGPT3Error


def alpha_bars(config: HeadConfig) -> NDArray[np.float64]:
    """(train_steps,) cumulative products of 1 - beta, betas linear between beta_start and beta_end."""
    return np.cumprod(1.0 - np.linspace(config.beta_start, config.beta_end, config.train_steps), dtype=np.float64)


def kept_steps(train_steps: int, steps: int) -> NDArray[np.int64]:
    """The training steps of ancestral sampling, rising: round(i * (T - 1) / (steps - 1))."""
    return np.round(np.linspace(train_steps - 1, 0, min(steps, train_steps))).astype(int)[::-1]


def make_scheduler(config: HeadConfig, steps: int, sampler: Literal["auto", "ddpm"] = "auto") -> Any:
    """A diffusers scheduler with its time steps set.

    Flow: Euler steps, evenly spaced. Epsilon: DPM-Solver++ (2M), or the paper's ancestral sampling, which keeps the
    steps of `kept_steps`, with tables in float64 as the official code has them.
    """
    if config.objective == "flow":
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

        flow = FlowMatchEulerDiscreteScheduler(num_train_timesteps=config.train_steps)
        flow.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
        flow.init_noise_sigma = 1.0
        return flow
    shared = {
        "num_train_timesteps": config.train_steps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": "linear",
    }
    if sampler == "ddpm":
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        ancestral = DDPMScheduler(**shared, clip_sample=False, variance_type="fixed_small")
        ancestral.alphas_cumprod = torch.from_numpy(alpha_bars(config))  # diffusers' own are float32
        ancestral.set_timesteps(timesteps=kept_steps(config.train_steps, steps)[::-1].tolist())
        return ancestral
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    solver = DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++", final_sigmas_type="zero")
    solver.set_timesteps(min(steps, config.train_steps - 1))  # more would repeat a time step: 0 / 0
    return solver


ROWS_AT_ONCE = 256
"""Steps times rows whose modulations are computed together while sampling: fewer passes over the weights."""


@dataclass(frozen=True)
class HeadConfig:
    """Sizes and objective of a DiffusionHead."""

    queries: int = 4
    """K: hidden states per clip."""
    hidden: int = 256
    """Channels of one hidden state."""
    latent_tokens: int = 4
    """N: latent tokens drawn together."""
    latent_channels: int = 128
    """D: channels of one latent token."""
    width: int = 512
    """Channels of the residual MLP."""
    depth: int = 3
    """Residual blocks."""
    pool_heads: int = 4
    """Heads of the attention pooling."""
    pool_mlp: int = 1024
    """Feed-forward channels of the attention pooling."""
    positions: int = 8
    """Learned positions of the pooling: at least K + 1."""
    dropout: float = 0.0
    """Dropout of the attention pooling while training."""
    objective: Literal["epsilon", "flow"] = "flow"
    """What the network predicts: the noise, or the velocity noise - latent of rectified flow."""
    train_steps: int = 1000
    """Steps of the noise schedule (epsilon)."""
    beta_start: float = 0.00085
    """First beta of the linear schedule (epsilon)."""
    beta_end: float = 0.012
    """Last beta of the linear schedule (epsilon)."""
    condition_dropping: float = 0.1
    """How often the condition is replaced by the learned stand-in while training; 0 for a head without guidance."""


class AdaptiveBlock(nn.Module):
    """x + gate * MLP(scale, shift of LayerNorm(x)); shift, scale and gate are `modulation` of time and condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x (B, width), modulation (B, 3 width) -> (B, width)."""
        shift, scale, gate = modulation.chunk(3, dim=-1)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)


class DiffusionHead(nn.Module):
    """Draws the N latent tokens of a clip from K hidden states, all N together."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, config.hidden
        if config.positions < config.queries + 1:
            raise MotionGPT3Error(f"a head with {config.queries} queries needs {config.queries + 1} positions")
        if hidden % config.pool_heads:
            raise MotionGPT3Error(f"a head's {hidden} hidden channels cannot be shared by {config.pool_heads} heads")
        target = config.latent_tokens * config.latent_channels
        self.pool_token = nn.Parameter(torch.randn(1, hidden) * 0.02)
        self.pool_positions = nn.Parameter(torch.randn(config.positions, hidden) * 0.02)
        self.pool = nn.TransformerEncoderLayer(
            hidden, config.pool_heads, config.pool_mlp, config.dropout, activation="gelu", batch_first=True
        )
        self.embed_condition = nn.Linear(hidden, width)
        self.embed_time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_latent = nn.Linear(target, width)
        self.blocks = nn.ModuleList(AdaptiveBlock(width) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.final = nn.Linear(width, target)
        self.no_condition = nn.Parameter(torch.zeros(config.queries, hidden))

    def condition(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, K, hidden) -> one condition vector (B, width), by attention pooling."""
        token = self.pool_token.expand(len(hidden), 1, -1)
        x = torch.cat([token, hidden], dim=1) + self.pool_positions[: hidden.shape[1] + 1]
        return self.embed_condition(self.pool(x)[:, 0])

    def predict(self, latents: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """One network pass: noisy latents (B, N, D), time (B,) in 0..train_steps, condition (B, width) -> (B, N, D)."""
        return self.denoise(latents, self.modulations(time, condition))

    def modulations(self, time: Tensor, condition: Tensor) -> list[Tensor]:
        """What every block and the last layer are told, (..., 3 width) each and (..., 2 width).

        It does not depend on the latent, so many steps can be asked at once: time (..., ) and condition (..., width)
        are broadcast.
        """
        told = self.embed_time(time_embedding(time.flatten()).to(condition.dtype)).view(*time.shape, -1)
        y = condition + told
        return [*(cast(AdaptiveBlock, block).modulation(y) for block in self.blocks), self.final_modulation(y)]

    def denoise(self, latents: Tensor, modulations: list[Tensor]) -> Tensor:
        """Noisy latents (B, N, D) and `modulations` of B rows -> (B, N, D)."""
        x = self.embed_latent(latents.flatten(1))
        for block, modulation in zip(self.blocks, modulations, strict=False):
            x = block(x, modulation)
        shift, scale = modulations[-1].chunk(2, dim=-1)
        return self.final(self.final_norm(x) * (1 + scale) + shift).view_as(latents)

    def loss(
        self, hidden: Tensor, latents: Tensor, repeat: int = 4, generator: torch.Generator | None = None
    ) -> Tensor:
        """Training loss: (B,) mean squared error of each clip.

        Args:
            hidden: (B, K, hidden) last hidden states of the motion stream.
            latents: (B, N, D) normalised target latents.
            repeat: noise levels per clip; each has its own noise.
            generator: source of randomness.
        """
        batch, device = len(latents), latents.device
        total = batch * repeat

        def uniform(size: int) -> Tensor:
            return torch.rand(size, generator=generator, device=device)

        noise = torch.randn((total, *latents.shape[1:]), generator=generator, device=device)
        dropped = uniform(total) < self.config.condition_dropping
        conditions = self.condition(torch.cat([hidden, self.no_condition.to(hidden.dtype).unsqueeze(0)]))
        given = conditions[:batch].repeat_interleave(repeat, dim=0)
        condition = torch.where(dropped.unsqueeze(1), conditions[batch:], given)
        clean = latents.repeat_interleave(repeat, dim=0)
        # Logit-normal times (Esser et al. 2024) for flow: the middle of the path is where the work is.
        flow = self.config.objective == "flow"
        level = torch.sigmoid(torch.randn(total, generator=generator, device=device)) if flow else uniform(total)
        return self.errors(condition, clean, noise, level).view(batch, repeat).mean(1)

    def errors(self, condition: Tensor, latents: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """How far off the prediction is at one noise level of each clip: (B,) mean squared errors.

        Args:
            condition: (B, width), from `condition`.
            latents: (B, N, D) normalised.
            noise: (B, N, D) standard normal.
            level: (B,) from 0, the latents alone, to 1, noise.
        """
        if self.config.objective == "flow":
            t = level.view(-1, 1, 1)
            noisy, target = (1 - t) * latents + t * noise, noise - latents
            time = level * self.config.train_steps
        else:
            time = (level * self.config.train_steps).long().clamp(max=self.config.train_steps - 1)
            alpha = torch.from_numpy(alpha_bars(self.config)).float().to(level.device)[time].view(-1, 1, 1)
            noisy, target = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, noise
        error = F.mse_loss(self.predict(noisy, time, condition).float(), target, reduction="none")
        return error.flatten(1).mean(1)

    @torch.no_grad()
    def sample(
        self,
        hidden: Tensor,
        noise: Tensor,
        steps: int,
        guidance: float = 1.0,
        sampler: Literal["auto", "ddpm"] = "auto",
        generators: list[torch.Generator] | None = None,
    ) -> Tensor:
        """Draw normalised latents.

        Args:
            hidden: (B, K, hidden).
            noise: (B, N, D) standard normal, where the path starts.
            steps: network evaluations.
            guidance: scale s of u + s (c - u), where u sees the learned stand-in; 1 is none.
            sampler: auto is Euler for flow and DPM-Solver++ for epsilon; ddpm is the paper's ancestral sampling.
            generators: one per clip, for the noise that ancestral sampling adds.

        Returns:
            (B, N, D).
        """
        scheduler = make_scheduler(self.config, steps, sampler)
        condition = self.condition(hidden)
        if guidance != 1.0:
            stand_in = self.condition(self.no_condition.to(hidden.dtype).unsqueeze(0)).expand_as(condition)
            condition = torch.cat([condition, stand_in])
        x = noise * scheduler.init_noise_sigma
        extra = {"generator": generators} if sampler == "ddpm" else {}
        for steps_at_once in scheduler.timesteps.split(max(1, ROWS_AT_ONCE // len(condition))):
            times = steps_at_once.to(x.device, torch.float32).unsqueeze(1)
            told = self.modulations(times, condition)
            for k, t in enumerate(steps_at_once):
                double = x.repeat(len(condition) // len(x), 1, 1)
                prediction = self.denoise(double, [part[k] for part in told])
                if guidance != 1.0:
                    given, free = prediction.chunk(2)
                    prediction = free + guidance * (given - free)
                x = scheduler.step(prediction, t, x, **extra).prev_sample
        return x


def time_embedding(time: Tensor, size: int = 256) -> Tensor:
    """(B,) times -> (B, size): cosines, then sines, of size / 2 frequencies from 1 to 1 / 10000."""
    frequencies = torch.exp(-math.log(10000) * torch.arange(size // 2, device=time.device) / (size // 2))
    angles = time.float().unsqueeze(1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
