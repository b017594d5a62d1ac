"""Low-rank updates of the text stream: what stage 3 trains where a whole update would be too big.

From Hu et al., arXiv 2106.09685. W becomes W + up · down. An update of rank r costs r · (in + out) numbers, so a model
that names its language model can carry it along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motiongpt3.models.bimodal import Stream

UPDATED = ("qkv", "out")
"""The projections of a layer that get an update: those of attention."""


class LoRALinear(nn.Linear):
    """A frozen linear layer with an update: x W' + bias + x down' up'.

    Args:
        base: the layer; its weight and bias are taken over, not copied.
        rank: of the update, which starts as zero.
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        device = base.weight.device
        self.down = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        if not self.down.is_meta:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        result = super().forward(x)
        if self.merged:
            return result
        return result + F.linear(F.linear(x.to(self.down.dtype), self.down), self.up).to(result.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the update to the weight, once; `down` and `up` stay for saving."""
        if not self.merged:
            self.weight.requires_grad_(False)
            self.weight += (self.up.float() @ self.down.float()).to(self.weight.dtype)
            self.merged = True


def add_lora(stream: Stream, rank: int) -> None:
    """Give the attention projections of a stream updates of this rank, in place."""
    for layer in stream.layers:
        for name in UPDATED:
            setattr(layer, name, LoRALinear(getattr(layer, name), rank))


def lora_layers(module: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """The layers with an update, by name."""
    return ((name, part) for name, part in module.named_modules() if isinstance(part, LoRALinear))


def merge_lora(module: nn.Module) -> None:
    """Add all updates to the weights they belong to."""
    for _, layer in lora_layers(module):
        layer.merge()
