"""Sampling schedules of the diffusion head; the solvers are diffusers'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from motiongpt3.models.diffusion_head import HeadConfig


def alpha_bars(config: HeadConfig) -> NDArray[np.float64]:
    """(train_steps,) cumulative products of 1 - beta, betas linear between beta_start and beta_end."""
    return np.cumprod(1.0 - np.linspace(config.beta_start, config.beta_end, config.train_steps), dtype=np.float64)


def kept_steps(train_steps: int, steps: int) -> NDArray[np.int64]:
    """The training steps of ancestral sampling, rising: round(i * (T - 1) / (steps - 1))."""
    return np.round(np.linspace(train_steps - 1, 0, min(steps, train_steps))).astype(int)[::-1]


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


def make_scheduler(config: HeadConfig, steps: int, sampler: Literal["auto", "ddpm"] = "auto") -> Any:
    """A diffusers scheduler with its time steps set.

    Flow: Euler steps, evenly spaced. Epsilon: DPM-Solver++ (2M), or the paper's ancestral sampling, which keeps the
    steps of `kept_steps` and the tables of `Posterior`, in float64 as the official code does.
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
