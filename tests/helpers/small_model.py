"""A MotionGPT3 so small that a test makes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.vae import VAEConfig

VAE = VAEConfig(
    latent_tokens=2, latent_channels=8, width=16, layers=3, heads=2, mlp_width=16, positions=24, max_frames=60
)
HEAD = HeadConfig(width=16, depth=1, pool_heads=2, pool_mlp=16, positions=5)


def build(backbone: Path, **changes: Any) -> MotionGPT3:
    """A model of random weights, the same each time, on a folder's language model; `changes` are settings."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "motion_width": 16,
        "motion_mlp": 16,
        "queries": 3,
        "vae": VAE,
        "head": HEAD,
        "steps": 3,
    }
    made = MotionGPT3(MotionGPT3Config(backbone=str(backbone), **(settings | changes)), load_backbone(str(backbone)))
    with torch.no_grad():
        for parameter in made.motion.parameters():  # new streams are nearly the identity: make mistakes show
            parameter.mul_(8)
        made.vae.feature_std.fill_(0.01)
        made.vae.latent_mean.normal_()
        made.head.no_condition.normal_()
    return made.to(torch.float32).eval()
