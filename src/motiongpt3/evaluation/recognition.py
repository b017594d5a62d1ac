"""Does an evaluator recognise recorded motions? Captions against the motions they were written for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from motiongpt3.data.clips import Clip
from motiongpt3.evaluation.checks.caption_check import other_direction, other_side
from motiongpt3.evaluation.metrics.retrieval import r_precision


def recognition(
    clips: Sequence[Clip],
    motion: Tensor,
    mirrored: Tensor,
    embed_texts: Callable[[Sequence[str]], Tensor],
    repeats: int = 10,
    group: int = 32,
) -> dict[str, Tensor]:
    """How well captions find their own clips.

    In each repeat every clip has one of its captions, drawn with another seed. Groups hold at most one clip of each
    label, so that nothing has to be told from its twin.

    Args:
        clips: N clips with captions.
        motion: (N, D) their vectors, of length 1.
        mirrored: (N, D) those of their mirror images.
        embed_texts: captions -> (M, D), of length 1.
        repeats: R draws of captions and groups.
        group: clips of a group, fewer where there are fewer labels.

    Returns:
        For each measure (R,) values; a measure that is not defined on these clips is left out.
        `r_precision_1` ... `r_precision_3`, `mm_dist`, `groups`: see `RPrecision`.
        `side`: share of captions with left or right that are closer to the motion than with the sides swapped.
        `direction`: the same for forward and backward.
        `mirror`: share of captions with left or right that are closer to the motion than to its mirror image.
    """
    motion, mirrored = motion.cpu(), mirrored.cpu()
    labels = {label: number for number, label in enumerate(dict.fromkeys(clip.label for clip in clips))}
    label = torch.tensor([labels[clip.label] for clip in clips])
    group = min(group, len(labels))
    scores: dict[str, list[float]] = {}

    def note(name: str, value: Tensor) -> None:
        scores.setdefault(name, []).append(float(value))

    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        said = [clip.captions[int(rng.integers(len(clip.captions)))] for clip in clips]
        text = embed_texts(said).cpu()
        right = (motion * text).sum(-1)
        if group > 1:
            for name, value in r_precision(text, motion, group, min(3, group), seed, label).items():
                note(name, value)
        for name, change in (("side", other_side), ("direction", other_direction)):
            opposites = {row: wrong for row, sentence in enumerate(said) if (wrong := change(sentence))}
            if opposites:
                rows = list(opposites)
                contrary = (motion[rows] * embed_texts(list(opposites.values())).cpu()).sum(-1)
                note(name, (right[rows] > contrary).double().mean())
                if name == "side":
                    note("mirror", (right[rows] > (mirrored[rows] * text[rows]).sum(-1)).double().mean())
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in scores.items()}
