"""The backbone in bfloat16: the same network, kept, and made again when the weights change."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch

from motiongpt3.models.backbone import TextBackbone
from motiongpt3.models.half import half_precision
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.stream import Tokens


@pytest.fixture
def backbone(reader: MotionGPT3) -> TextBackbone:
    return copy.deepcopy(reader.backbone)


def test_it_is_the_same_network_rounded(backbone: TextBackbone) -> None:
    half = half_precision(backbone)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}
    for (name, weight), (other, rounded) in zip(backbone.named_parameters(), half.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(rounded.float(), weight, rtol=2**-8, atol=0)
    ids = torch.tensor([[3, 4, backbone.start_of_motion]])
    assert half.embed(ids).dtype == torch.bfloat16
    assert half.tokenizer.to_str() == backbone.tokenizer.to_str()
    assert half_precision(half) is half
    assert Tokens.of(half.embed(ids)).embeddings.shape == (1, 3, backbone.config.width)


def test_it_is_kept_until_the_weights_change(backbone: TextBackbone) -> None:
    half = half_precision(backbone)
    assert half_precision(backbone) is half
    with torch.no_grad():
        backbone.special.add_(1)
    changed = half_precision(backbone)
    assert changed is not half
    torch.testing.assert_close(changed.special.float(), backbone.special.detach(), rtol=2**-8, atol=0)
    backbone.special = torch.nn.Parameter(torch.zeros_like(backbone.special))
    assert not half_precision(backbone).special.any()


def test_it_does_not_outlive_the_backbone(reader: MotionGPT3) -> None:
    backbone = copy.deepcopy(reader.backbone)
    half = weakref.ref(half_precision(backbone))
    del backbone
    gc.collect()
    assert half() is None
