"""Sampling schedules of the diffusion head; the solvers are diffusers'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from motiongpt3.models.diffusion_head import HeadConfig


def make_scheduler(config: HeadConfig, steps: int, sampler: Literal["auto", "ddpm"] = "auto") -> Any:
    """A diffusers scheduler with its time steps set.

    Flow: Euler steps, evenly spaced. Epsilon: DPM-Solver++ (2M), or the paper's ancestral sampling, which keeps the
    steps round(i * (T - 1) / (steps - 1)) of the T training steps.
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
        kept = np.round(np.linspace(config.train_steps - 1, 0, min(steps, config.train_steps))).astype(int)
        ancestral.set_timesteps(timesteps=kept.tolist())
        return ancestral
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    solver = DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++", final_sigmas_type="zero")
    solver.set_timesteps(min(steps, config.train_steps - 1))  # more would repeat a time step: 0 / 0
    return solver
