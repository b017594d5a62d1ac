"""Motions in words: how a motion of any length gets its captions, and which of several candidates is kept.

`Network.describe` writes a caption of what the model reads at once. Here longer motions are split, and where there are
candidates the one is kept that fits the motion best: the one from which the model would soonest draw it. Reading
proposes, drawing decides (a noisy channel: Brown et al. 1993, "The Mathematics of Statistical Machine Translation").
The model draws better than it reads, and left and right differ more in a motion than in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypedDict

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.bimodal import BimodalTransformer
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, half_precision
from motiongpt3.models.network import BATCH, EncodedMotions, Network, encode_motions, readable
from motiongpt3.models.request import Progress
from motiongpt3.motion.motion import Motion

LEVELS = 16
"""Noise levels at which the diffusion head is asked for the motion, from 0.15 to 0.85: round numbers."""
MAX_SAMPLES = 100
"""Maximum captions per motion: a round number."""
SAMPLED = GenerationConfig(temperature=0.8, top_k=50, top_p=0.9)
"""How several captions of one motion are drawn; from "Captions weighed by the motion they lead to" in
docs/experiments.md."""


@dataclass(frozen=True)
class CaptionOptions:
    """How captions are written."""

    beams: int = 1
    """Width of the beam search."""
    seed: int = 0
    """Of the draws; sample k is drawn with seed + k."""
    decoding: GenerationConfig | None = None
    """How words are chosen, instead of `beams` and `seed`."""
    candidates: int | None = None
    """Captions to draw, of which the one is kept that fits the motion best (see `captioning`); 1 takes the likeliest
    word each time. None: as many as the model's configuration says, and 1 with samples, beams or decoding."""
    progress: Progress = iter
    """Wraps the list of batches, for a progress bar."""


class CaptionKeywords(TypedDict, total=False):
    """The fields of `CaptionOptions` as keyword arguments."""

    beams: int
    seed: int
    decoding: GenerationConfig | None
    candidates: int | None
    progress: Progress


def caption(model: Network, motions: Sequence[Motion], samples: int, options: CaptionOptions) -> list[list[str]]:
    """See `MotionGPT3.caption`: for each motion its captions."""
    decoding, candidates = _check(model.config, motions, samples, options)
    pieces = [split(motion, model.config) for motion in motions]
    parts = [part for mine in pieces for part in mine]
    written: list[list[str]] = [[] for _ in parts]
    if candidates > 1:
        for texts, part in zip(written, options.progress(parts), strict=True):
            texts.append(best_candidate(model, part, decoding, candidates))
    else:
        jobs = [(place, sample) for place in range(len(parts)) for sample in range(samples)]
        for batch in options.progress([jobs[at : at + BATCH] for at in range(0, len(jobs), BATCH)]):
            seeds = [decoding.seed + sample for _, sample in batch]
            drawn = model.describe([parts[place] for place, _ in batch], decoding, seeds)
            for (place, _), text in zip(batch, drawn, strict=True):
                written[place].append(text)
    waiting = iter(written)
    each = [[next(waiting) for _ in mine] for mine in pieces]
    return [[" ".join(texts) for texts in zip(*mine, strict=True)] for mine in each]


def _check(
    config: MotionGPT3Config, motions: Sequence[Motion], samples: int, options: CaptionOptions
) -> tuple[GenerationConfig, int]:
    """How captions are written and of how many the best is kept, or a refusal.

    Raises:
        MotionGPT3Error: no motion, a number out of range, or several captions of which each would be the same.
    """
    if not motions:
        raise MotionGPT3Error("there is no motion to describe")
    beams, decoding = options.beams, options.decoding
    plain = samples == 1 and beams == 1 and decoding is None
    chosen = (config.candidates if plain else 1) if options.candidates is None else options.candidates
    for name, value in (("samples", samples), ("candidates", chosen)):
        if not isinstance(value, int) or not 1 <= value <= MAX_SAMPLES:
            raise MotionGPT3Error(f"{name} must be a whole number from 1 to {MAX_SAMPLES}, not {value!r}")
    if chosen > 1 and not plain:
        raise MotionGPT3Error("candidates are drawn and one is kept: leave out samples, beams and decoding")
    if chosen > 1 and config.interface == "holders":
        raise MotionGPT3Error("a converted model cannot weigh candidates: leave candidates out")
    if decoding is None:
        decoding = replace(SAMPLED if max(samples, chosen) > 1 else GenerationConfig(), beams=beams, seed=options.seed)
    if samples > 1 and (decoding.beams > 1 or not decoding.temperature):
        raise MotionGPT3Error("several captions of a motion are drawn: use a temperature above 0 and no beams")
    return decoding, chosen


def split(motion: Motion, config: MotionGPT3Config) -> list[Motion]:
    """A motion at the model's rate in as few parts of like length as the model can read.

    Raises:
        MotionGPT3Error: it is too short or of another skeleton.
    """
    there = readable(motion, config, "the motion")
    count = -(-len(there) // config.vae.max_frames)
    ends = [len(there) * number // count for number in range(count + 1)]
    return [there[first:last] for first, last in pairwise(ends)]


@torch.inference_mode()
def best_candidate(model: Network, motion: Motion, decoding: GenerationConfig, count: int) -> str:
    """Of `count` captions of a motion the one that fits best.

    The motion is read once for all. They are written in bfloat16, since what reranks them is not: that reads half as
    much memory per token. A motion is always described by itself, so that its caption never depends on others.
    """
    given = encode_motions(model.vae, [motion], model.config.fps)
    logits, cache, places = model.start_captions(given)
    rows = torch.zeros(count, dtype=torch.long, device=logits.device)
    text = half_precision(model.backbone)
    decoder = TextDecoder(text, BimodalTransformer(text.stream, model.motion, model.config.shared_layers))
    seeds = range(decoding.seed, decoding.seed + count)
    captions = model.write_captions(decoder, logits[rows], cache.select(rows), places[rows], decoding, seeds)
    return rerank(model, given, captions)


def rerank(model: Network, given: EncodedMotions, captions: Sequence[str]) -> str:
    """The caption that fits one motion best; empty if all are."""
    different = list(dict.fromkeys(filter(None, captions)))
    if len(different) < 2:
        return different[0] if different else ""
    count = len(different)
    repeated = EncodedMotions(given.latents.expand(count, -1, -1), given.frames.expand(count))
    return different[int(drawing_errors(model, different, repeated).argmin())]


@torch.inference_mode()
def drawing_errors(model: Network, captions: Sequence[str], given: EncodedMotions) -> Tensor:
    """(B,) how far the diffusion head, told a caption, is from the motion: the same noise for all.

    Args:
        model: of our own interface.
        captions: B sentences.
        given: B motions.
    """
    latents = given.latents
    texts = list(dict.fromkeys(captions))
    rows = torch.tensor([texts.index(text) for text in captions], device=latents.device)
    cache, start = model.encode_text(model.tokens(texts))
    _, hidden = model.run_queries(cache.select(rows), start[rows], given.frames)
    condition = model.head.condition(hidden)
    noise = torch.randn((LEVELS, *latents.shape[1:]), generator=torch.Generator().manual_seed(0)).to(latents)
    levels = torch.linspace(0.15, 0.85, LEVELS, device=latents.device)
    each = [
        model.head.errors(condition, latents, drawn.expand_as(latents), level.expand(len(latents)))
        for drawn, level in zip(noise, levels, strict=True)
    ]
    return torch.stack(each).mean(0)
