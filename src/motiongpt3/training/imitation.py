"""Motions in the place of words: a motion's tokens learn the keys and values of the words of its label.

A frozen language model knows what to do with words, and nothing of motions. Where the motion tokens of a clip offer to
attention what the words "wave left hand" would offer in their place, it understands them at once; captions then teach
the rest. This costs the motion stream alone: the text stream reads each label once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.instructions.tasks import build
from motiongpt3.models.describing import question
from motiongpt3.models.layout import split_at_motion
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.reading import Motions
from motiongpt3.models.stream import Tokens

COMMON = 0.3
"""Weight of the difference that all motions share."""


class Imitation:
    """The loss of motion tokens against the words of labels.

    Args:
        model: its text stream must not change while this is used.
        labels: of all clips; "" stands for none.

    Raises:
        MotionGPT3Error: there is no label.
    """

    def __init__(self, model: MotionGPT3, labels: Sequence[str]) -> None:
        self.model = model
        self.known = {label: number for number, label in enumerate(dict.fromkeys(filter(None, labels)))}
        if not self.known:
            raise MotionGPT3Error("no clip has a label to imitate: set imitate to 0")
        prompt = build("motion_to_caption", model.config.prompt_style)
        heads, _ = split_at_motion([question(model, prompt)], model.backbone.start_of_motion)
        self.head = heads[0]
        self.targets = self._read([self._words(label) for label in self.known])
        spread = self.targets.float().var(0, unbiased=False)  # over labels: (layers, 2, kv heads, reads, head size)
        self.scale = spread.mean((2, 3, 4), keepdim=True).clamp(min=1e-6).rsqrt()

    def _words(self, label: str) -> list[int]:
        """As many token ids as a motion has tokens: the label's, then full stops."""
        encode, count = self.model.backbone.tokenizer.encode, self.model.config.reads
        ids = [*encode(f" {label}", add_special_tokens=False).ids, *encode(".", add_special_tokens=False).ids * count]
        return ids[:count]

    @torch.no_grad()
    def _read(self, labels: list[list[int]], size: int = 64) -> Tensor:
        """(labels, layers, 2, kv heads, reads, head size): keys and values of the labels' words behind the prompt."""
        parts = []
        for at in range(0, len(labels), size):
            cache, _ = self.model.read([self.head + words for words in labels[at : at + size]])
            both = [torch.stack(cache.text.at(layer), 1) for layer in sorted(cache.text.keys)]  # type: ignore[union-attr]
            parts.append(torch.stack(both, 1)[..., len(self.head) :, :].to(torch.bfloat16))
        return torch.cat(parts)

    def loss(self, motions: Motions, labels: Sequence[str]) -> Tensor:
        """Mean squared difference from the labels' keys and values, in units of their variance over labels.

        What all clips of the batch have wrong alike counts less (`COMMON`): it is large at first and would drown what
        tells one clip from another.

        Args:
            motions: B motions.
            labels: their labels; motions without one do not count.
        """
        kept = [row for row, label in enumerate(labels) if label]
        if not kept:
            return motions.latents.sum() * 0
        model = self.model
        with torch.no_grad():
            cache, start = model.read([self.head])
        cache = cache.select(start.new_zeros(len(kept)))
        read = Motions(motions.latents[kept], motions.frames[kept])
        model.transformer(None, Tokens.of(model.motion_inputs(read), start=start), cache)
        part = cache.parts()["motion"]
        offered = torch.stack([torch.stack(part.at(layer), 1) for layer in sorted(part.keys)], 1).float()
        wanted = self.targets[[self.known[labels[row]] for row in kept]].float()
        difference = (offered - wanted) * self.scale
        common = difference.mean(0)
        return (difference - common).square().mean() + COMMON * common.square().mean()
