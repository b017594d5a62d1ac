"""Motions in words: the captions that the model writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.prompt import Prompt, Style, turn_end
from motiongpt3.instructions.templates import build
from motiongpt3.models.bimodal import BimodalTransformer, KVCache
from motiongpt3.models.decoding import GenerationConfig, TextDecoder, half_precision, logits_after
from motiongpt3.models.network import EncodedMotions, encode_motions, readable
from motiongpt3.models.request import Progress
from motiongpt3.models.sequence import InputMotion, Piece, TextPiece, pack
from motiongpt3.motion.motion import Motion

if TYPE_CHECKING:
    from motiongpt3.models.backbone import TextBackbone
    from motiongpt3.models.config import MotionGPT3Config
    from motiongpt3.models.motiongpt3 import MotionGPT3


# Which of several captions fits a motion: the one from which the model would soonest draw it.
#
# Reading proposes, drawing decides (a noisy channel: Brown et al. 1993, "The Mathematics of Statistical Machine
# Translation"). The model draws better than it reads, and left and right differ more in a motion than in a sentence.

LEVELS = 16
"""Noise levels at which the diffusion head is asked for the motion, from 0.15 to 0.85."""


@torch.inference_mode()
def drawing_errors(model: MotionGPT3, captions: Sequence[str], given: EncodedMotions) -> Tensor:
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


def rerank(model: MotionGPT3, given: EncodedMotions, captions: Sequence[str]) -> str:
    """The best of the captions of one motion; empty if all are."""
    different = list(dict.fromkeys(filter(None, captions)))
    if len(different) < 2:
        return different[0] if different else ""
    count = len(different)
    repeated = EncodedMotions(given.latents.expand(count, -1, -1), given.frames.expand(count))
    return different[int(drawing_errors(model, different, repeated).argmin())]


BATCH = 32
"""Motions that are read together."""
MAX_SAMPLES = 100
"""Most captions of one motion."""
SAMPLED = GenerationConfig(temperature=0.8, top_k=50, top_p=0.9)
"""How several captions of one motion are drawn."""


def caption(
    model: MotionGPT3,
    motions: Sequence[Motion],
    samples: int = 1,
    beams: int = 1,
    seed: int = 0,
    decoding: GenerationConfig | None = None,
    candidates: int | None = None,
    progress: Progress = iter,
) -> list[list[str]]:
    """See `MotionGPT3.caption`: for each motion its captions."""
    decoding, candidates = check_caption(model.config, motions, samples, beams, seed, decoding, candidates)
    pieces = [split(motion, model.config) for motion in motions]
    parts = [part for mine in pieces for part in mine]
    written: list[list[str]] = [[] for _ in parts]
    if candidates > 1:
        for texts, part in zip(written, progress(parts), strict=True):
            texts.append(best_candidate(model, part, decoding, candidates))
    else:
        jobs = [(place, sample) for place in range(len(parts)) for sample in range(samples)]
        for batch in progress([jobs[at : at + BATCH] for at in range(0, len(jobs), BATCH)]):
            seeds = [decoding.seed + sample for _, sample in batch]
            drawn = model.describe([parts[place] for place, _ in batch], decoding, seeds)
            for (place, _), text in zip(batch, drawn, strict=True):
                written[place].append(text)
    waiting = iter(written)
    each = [[next(waiting) for _ in mine] for mine in pieces]
    return [[" ".join(texts) for texts in zip(*mine, strict=True)] for mine in each]


def check_caption(
    config: MotionGPT3Config,
    motions: Sequence[Motion],
    samples: int = 1,
    beams: int = 1,
    seed: int = 0,
    decoding: GenerationConfig | None = None,
    candidates: int | None = None,
) -> tuple[GenerationConfig, int]:
    """How captions are written and of how many the best is kept, or a refusal.

    Raises:
        MotionGPT3Error: no motion, one that is too short or of another skeleton, a number out of range, or several
            captions of which each would be the same.
    """
    if not motions:
        raise MotionGPT3Error("there is no motion to describe")
    plain = samples == 1 and beams == 1 and decoding is None
    chosen = (config.candidates if plain else 1) if candidates is None else candidates
    for name, value in (("samples", samples), ("candidates", chosen)):
        if not isinstance(value, int) or not 1 <= value <= MAX_SAMPLES:
            raise MotionGPT3Error(f"{name} must be a whole number from 1 to {MAX_SAMPLES}, not {value!r}")
    if chosen > 1 and not plain:
        raise MotionGPT3Error("candidates are drawn and one is kept: leave out samples, beams and decoding")
    if chosen > 1 and config.interface == "holders":
        raise MotionGPT3Error("a converted model cannot weigh candidates: leave candidates out")
    if decoding is None:
        decoding = replace(SAMPLED if max(samples, chosen) > 1 else GenerationConfig(), beams=beams, seed=seed)
    if samples > 1 and (decoding.beams > 1 or not decoding.temperature):
        raise MotionGPT3Error("several captions of a motion are drawn: use a temperature above 0 and no beams")
    for motion in motions:
        readable(motion, config, "the motion")
    return decoding, chosen


def split(motion: Motion, config: MotionGPT3Config) -> list[Motion]:
    """A motion at the model's rate in as few parts of like length as the model can read."""
    there = readable(motion, config, "the motion")
    count = -(-len(there) // config.vae.max_frames)
    ends = [len(there) * number // count for number in range(count + 1)]
    return [there[first:last] for first, last in pairwise(ends)]


@torch.inference_mode()
def describe(
    model: MotionGPT3, motions: Sequence[Motion], decoding: GenerationConfig, seeds: Sequence[int]
) -> list[str]:
    """See `MotionGPT3.describe`."""
    logits, cache, places = start_captions(model, encode_motions(model.vae, motions, model.config.fps))
    return write_captions(TextDecoder(model.backbone, model.transformer), model, logits, cache, places, decoding, seeds)


@torch.inference_mode()
def best_candidate(model: MotionGPT3, motion: Motion, decoding: GenerationConfig, count: int) -> str:
    """Of `count` captions of a motion the one that fits best (`models.weighing`).

    The motion is read once for all. They are written in bfloat16, since what weighs them is not: that reads half as
    much memory per token. A motion is always described by itself, so that its caption never depends on others.
    """
    given = encode_motions(model.vae, [motion], model.config.fps)
    logits, cache, places = start_captions(model, given)
    rows = torch.zeros(count, dtype=torch.long, device=logits.device)
    text = half_precision(model.backbone)
    writer = TextDecoder(text, BimodalTransformer(text.stream, model.motion, model.config.shared_layers))
    seeds = range(decoding.seed, decoding.seed + count)
    captions = write_captions(writer, model, logits[rows], cache.select(rows), places[rows], decoding, seeds)
    return rerank(model, given, captions)


def start_captions(model: MotionGPT3, given: EncodedMotions) -> tuple[torch.Tensor, KVCache, torch.Tensor]:
    """Read motions and the question what happens in them; returns what `start_writing` does."""
    prompt = build("motion_to_caption", model.config.prompt_style)
    return start_writing(model, [question(model, prompt, number) for number in range(len(given.frames))], given)


def write_captions(
    writer: TextDecoder,
    model: MotionGPT3,
    logits: torch.Tensor,
    cache: KVCache,
    places: torch.Tensor,
    decoding: GenerationConfig,
    seeds: Sequence[int],
) -> list[str]:
    """Sentences behind `start_captions`, without motions among the words."""
    special = model.backbone.start_of_motion, model.backbone.end_of_motion
    decoding = replace(decoding, forbidden=(*decoding.forbidden, *special))
    ends = stops(model.backbone, model.config.prompt_style)
    answers = writer.write(logits, cache, places, decoding, ends, seeds)
    return [sentence(model.backbone.decode(ids)) for ids in answers]


def question(model: MotionGPT3, prompt: Prompt, first: int = 0) -> list[Piece]:
    """The pieces of a prompt's question, its motions numbered from `first`."""
    row: list[Piece] = []
    for piece in prompt.question:
        if isinstance(piece, str):
            row.append(TextPiece(tuple(model.backbone.ids(piece))))
        else:
            row.append(InputMotion(first + sum(isinstance(other, InputMotion) for other in row)))
    return row


def start_writing(
    model: MotionGPT3, rows: Sequence[Sequence[Piece]], given: EncodedMotions
) -> tuple[torch.Tensor, KVCache, torch.Tensor]:
    """Read rows that end in words: logits (B, vocabulary + 2) of what follows, the cache, and (B,) its place."""
    cache = KVCache()
    layout = pack(rows, model.motion_tokens).to(given.latents.device)
    words, _ = model(layout, given, None, cache)
    return logits_after(model.backbone, words, layout.mask), cache, layout.ends


def stops(backbone: TextBackbone, style: Style) -> list[int]:
    """Tokens that end an answer."""
    ids = backbone.ids(turn_end(style))
    return [*ids[:1], backbone.eos_id]


def sentence(text: str) -> str:
    """Words as a sentence: a capital, single spaces."""
    words = " ".join(text.split())
    return words[:1].upper() + words[1:]
