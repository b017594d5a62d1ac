"""Motions as the transformer reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import MotionVAE, reparameterise
from motiongpt3.motion.features import canonicalise, joints_to_features
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.retarget import to_skeleton
from motiongpt3.motion.skeleton import HUMANML3D

if TYPE_CHECKING:
    from motiongpt3.models.config import MotionGPT3Config


class Motions(NamedTuple):
    """Normalised latents (R, N, D) and durations in frames (R,)."""

    latents: Tensor
    frames: Tensor


@torch.no_grad()
def encode(vae: MotionVAE, motions: Sequence[Motion], fps: float, noise: Tensor | None = None) -> Motions:
    """The means of motions' latent distributions, normalised, or draws from these.

    Args:
        vae: encodes them.
        motions: of any bone lengths and rate, lying anywhere.
        fps: the VAE's rate.
        noise: (R, N, D) standard normal, for draws.

    Raises:
        MotionGPT3Error: a motion is shorter or longer than the VAE reads, or is of another skeleton.
    """
    device, config = vae.feature_mean.device, vae.config
    features = [motion_features(motion, fps).to(device) for motion in motions]
    frames = torch.tensor([len(f) for f in features], dtype=torch.long, device=device)
    for length in frames.tolist():
        if not config.min_frames <= length <= config.max_frames:
            span = f"{config.min_frames / fps:g} to {config.max_frames / fps:g} seconds"
            raise MotionGPT3Error(f"the model reads motions of {span}, not of {length / fps:g}: cut or extend it")
    if not features:
        return Motions(torch.zeros(0, config.latent_tokens, config.latent_channels, device=device), frames)
    mean, log_variance = vae.encode(vae.normalise(pad_sequence(features, batch_first=True)), frames)
    latents = mean if noise is None else reparameterise(mean, log_variance, noise.to(device))
    return Motions(vae.normalise_latents(latents), frames)


def motion_features(motion: Motion, fps: float) -> Tensor:
    """(T, F) HumanML3D features of a motion brought to a rate, to the skeleton's bone lengths and to the origin."""
    there = motion.resample(fps)
    joints = torch.from_numpy(to_skeleton(there.joints, there.skeleton))
    return joints_to_features(canonicalise(joints, there.skeleton), there.skeleton, fps=fps)


def readable(motion: Any, config: MotionGPT3Config, name: str) -> Motion:
    """The motion at the model's rate.

    Raises:
        MotionGPT3Error: it is no motion, too short or of another skeleton; `name` says which one.
    """
    if not isinstance(motion, Motion):
        raise MotionGPT3Error(f"{name} must be a Motion, not {type(motion).__name__}")
    if motion.skeleton != HUMANML3D:
        raise MotionGPT3Error(f"{name} has another skeleton than the 22 joints of HumanML3D")
    there = motion.resample(config.fps)
    if len(there) < config.vae.min_frames:
        least = config.vae.min_frames / config.fps
        raise MotionGPT3Error(f"{name} has {there.seconds:.3g} s; the model reads {least:g} s or more")
    return there
