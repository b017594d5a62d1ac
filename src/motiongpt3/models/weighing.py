"""Which of several captions fits a motion: the one from which the model would soonest draw it.

Reading proposes, drawing decides (a noisy channel: Brown et al. 1993, "The Mathematics of Statistical Machine
Translation"). The model draws better than it reads, and left and right differ more in a motion than in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from motiongpt3.models.reading import Motions

if TYPE_CHECKING:
    from motiongpt3.models.motiongpt3 import MotionGPT3

LEVELS = 16
"""Noise levels at which the diffusion head is asked for the motion, from 0.15 to 0.85."""


@torch.inference_mode()
def misfit(model: MotionGPT3, captions: Sequence[str], given: Motions) -> Tensor:
    """(B,) how far the diffusion head, told a caption, is from the motion: the same noise for all.

    Args:
        model: of our own interface.
        captions: B sentences.
        given: B motions.
    """
    latents = given.latents
    texts = list(dict.fromkeys(captions))
    rows = torch.tensor([texts.index(text) for text in captions], device=latents.device)
    cache, start = model.read(model.tokens(texts))
    _, hidden = model.think(cache.select(rows), start[rows], given.frames)
    condition = model.head.condition(hidden)
    noise = torch.randn((LEVELS, *latents.shape[1:]), generator=torch.Generator().manual_seed(0)).to(latents)
    levels = torch.linspace(0.15, 0.85, LEVELS, device=latents.device)
    each = [
        model.head.errors(condition, latents, drawn.expand_as(latents), level.expand(len(latents)))
        for drawn, level in zip(noise, levels, strict=True)
    ]
    return torch.stack(each).mean(0)


def fittest(model: MotionGPT3, given: Motions, captions: Sequence[str]) -> str:
    """The best of the captions of one motion; empty if all are."""
    different = list(dict.fromkeys(filter(None, captions)))
    if len(different) < 2:
        return different[0] if different else ""
    count = len(different)
    repeated = Motions(given.latents.expand(count, -1, -1), given.frames.expand(count))
    return different[int(misfit(model, different, repeated).argmin())]
