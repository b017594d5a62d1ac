"""The language model in bfloat16, for words that are drafts."""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import torch
from torch import nn

from motiongpt3.models.backbone import TextBackbone

_COPIES: WeakKeyDictionary[TextBackbone, tuple[list[tuple[int, int]], TextBackbone]] = WeakKeyDictionary()


def half_precision(backbone: TextBackbone) -> TextBackbone:
    """The backbone with bfloat16 weights; itself if that is what it has.

    The copy is kept as long as the backbone lives, and made again when its weights have changed.
    """
    weights = list(backbone.parameters())
    if all(weight.dtype == torch.bfloat16 for weight in weights):
        return backbone
    # A tensor counts its changes in place, unless it was made for inference and so has none.
    now = [(id(weight), 0 if weight.is_inference() else weight._version) for weight in weights]
    known = _COPIES.get(backbone)
    if known is None or known[0] != now:
        halves = {id(weight): nn.Parameter(weight.to(torch.bfloat16), requires_grad=False) for weight in weights}
        known = now, copy.deepcopy(backbone, halves)  # a memo of what is copied already
        _COPIES[backbone] = known
    return known[1]
