"""What is kept of a motion, recorded or generated: its vector and its physical measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motiongpt3.instructions.prompt import clean_prompt
from motiongpt3.models.motiongpt3 import Job
from motiongpt3.models.request import check_drawing
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import measure
from motiongpt3.motion.skeleton import Float32

QUALITY = ("skate_ratio", "skate_speed", "penetration_mean", "floating", "jitter")
"""Physical measures of `motion.quality.Quality` that protocols report."""
FPS = 20.0


@dataclass(frozen=True)
class Measured:
    """N motions, in order; NaN throughout a row where a motion is not finite.

    Attributes:
        vectors: (N, D) of the evaluator.
        quality: (N, 5) of QUALITY.
    """

    vectors: Float32
    quality: NDArray[np.float64]

    @property
    def whole(self) -> list[bool]:
        """Which motions are finite."""
        return [bool(np.isfinite(row).all()) for row in self.vectors]

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """All of several."""
        vectors = np.concatenate([part.vectors for part in parts])
        return cls(vectors, np.concatenate([part.quality for part in parts]))


@dataclass(frozen=True)
class Wish:
    """A batch of motions that are asked for: a prompt and a duration in frames each."""

    prompts: tuple[str, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A batch of motions to draw, with a seed each; what the model conceived of the wish, if that is known."""

    wish: Wish
    seeds: tuple[int, ...]
    hidden: Float32 | None = None
    guidance: float | None = None
    steps: int | None = None


def draw(tools: Any, drawing: Drawing) -> tuple[Measured, Float32]:
    """Draw a batch of motions and measure them; also hidden states (B, K, width), the same for every seed."""
    model, wish = tools.model, drawing.wish
    guidance, steps = check_drawing(model.config, drawing.guidance, drawing.steps)
    if drawing.hidden is None:
        each = zip(wish.prompts, wish.frames, strict=True)
        hidden, _ = model.conceive([Job(prompt, clean_prompt(prompt), frames, 0) for prompt, frames in each])
    else:
        hidden = torch.from_numpy(drawing.hidden).to(model.queries.device)
    clips = model.realise(hidden, wish.frames, drawing.seeds, guidance, steps)
    return measured(tools, clips), hidden.cpu().numpy()


def measured(tools: Any, clips: Sequence[Float32]) -> Measured:
    """Measure motions, each (T, 22, 3) joints at 20 fps, embedded as one batch."""
    motions = [Motion(joints, FPS) if sound(joints) else None for joints in clips]
    whole = [motion for motion in motions if motion is not None]
    vectors = np.full((len(clips), tools.evaluator.channels), np.nan, np.float32)
    quality = np.full((len(clips), len(QUALITY)), np.nan)
    at = [number for number, motion in enumerate(motions) if motion is not None]
    if whole:
        vectors[at] = tools.evaluator.embed_motions(whole).cpu().numpy()
        quality[at] = [[getattr(measures, name) for name in QUALITY] for measures in map(measure, whole)]
    return Measured(vectors, quality)


def sound(joints: Float32) -> bool:
    """Whether joints are a motion: finite, and within 100 km."""
    return bool(np.isfinite(joints).all() and np.abs(joints).max() <= 1e5)


def embed_texts(tools: Any, texts: Sequence[str]) -> Float32:
    """(N, D) vectors of captions."""
    vectors: Float32 = tools.evaluator.embed_texts(list(texts)).float().cpu().numpy()
    return vectors


def evaluator_facts(tools: Any, _: None = None) -> dict[str, Any]:
    """What a report says about the evaluator."""
    evaluator = tools.evaluator
    return {"name": evaluator.name, "sha256": evaluator.sha256, "channels": evaluator.channels}
