"""Sizes of the whole model and the settings it generates with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Style
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.vae import VAEConfig
from motiongpt3.serialization import parse_config

Profile = Literal["default", "official"]
"""How a converted official checkpoint works: with our prompts and sampler, or with its own."""


@dataclass(frozen=True)
class MotionGPT3Config:
    """Sizes of a MotionGPT3 and the settings it generates with."""

    backbone: str = "smollm2-135m-instruct"
    """Name of the language model that is the text stream."""
    prompt_style: Style = "chatml"
    """How a caption is wrapped for the language model."""
    motion_width: int = 256
    """Channels of the motion stream."""
    motion_mlp: int = 512
    """Hidden channels of the motion stream's MLPs."""
    motion_dropout: float = 0.0
    """Dropout of the motion stream while training."""
    shared_layers: int | Literal["all"] = "all"
    """Layers in which the streams see each other: all, or the last so many."""
    queries: int = 4
    """K: motion tokens whose hidden states condition the diffusion head."""
    interface: Literal["queries", "holders"] = "queries"
    """How motions enter and leave the motion stream: ours, or that of the official checkpoints (`official.model`)."""
    profile: Profile = "default"
    """Prompts and sampler of an official checkpoint: the better ones of ours, or the official ones."""
    length_unit: int = 4
    """Frames per class of the length head."""
    stage: int = 1
    """The last training stage: 1 makes motions from words; from 2 on the model reads motions, too."""
    reads: int = 6
    """Motion tokens of a motion that is read."""
    read_width: int = 128
    """Hidden channels of the layer that makes them of the VAE's latent."""
    text_rank: int | None = None
    """Rank of the update that stage 3 gave the text stream's attention; None: the language model is as pretrained."""
    fps: float = 20.0
    """Frames per second of the motions."""
    vae: VAEConfig = field(default_factory=VAEConfig)
    """The motion VAE."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The diffusion head; its queries, hidden, latent_tokens and latent_channels follow the rest."""
    guidance: float = 3.0
    """Default scale of classifier-free guidance."""
    steps: int = 20
    """Default number of sampling steps."""
    candidates: int = 1
    """Default number of captions to draw of a motion, of which the best is kept (`models.captioning`)."""

    @property
    def max_seconds(self) -> float:
        """Longest motion the model makes."""
        return self.vae.max_frames / self.fps

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MotionGPT3Config:
        """The inverse of `dataclasses.asdict`; MotionGPT3Error when something is unknown or missing."""
        config = parse_config(cls, values)
        if not 0 < config.fps <= 1000:
            raise MotionGPT3Error(f"this model's configuration is not one of ours: fps is {config.fps}")
        return config
