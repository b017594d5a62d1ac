"""Perplexity of a text stream."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from perplexity import perplexity

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone, load_backbone

TEXT = "a person walks forward and then somebody runs left"
PAGE = Path(__file__).parents[1] / "golden" / "page.txt"


@pytest.fixture
def backbone(tiny_backbone: Path) -> TextBackbone:
    return load_backbone(str(tiny_backbone), dtype=torch.float32).freeze()


def test_it_is_that_of_transformers(tiny_backbone: Path, backbone: TextBackbone) -> None:
    """With the motion tokens' logits far down, transformers' own loss gives the same number."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        backbone.special.zero_()
    ids = torch.cat([torch.tensor([[backbone.eos_id]]), torch.tensor(backbone.tokenize([TEXT]))], 1)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(tiny_backbone)(ids).logits[0, :-1]
    logits = torch.cat([logits, torch.zeros(len(logits), 2)], 1)  # a zero row of the table gives a zero logit
    expected = math.exp(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item())
    assert perplexity(backbone, TEXT) == pytest.approx(expected, rel=1e-4)


def test_windows_start_anew(backbone: TextBackbone) -> None:
    words = TEXT.split()
    halves = [perplexity(backbone, " ".join(part)) for part in (words[:5], words[5:])]
    together = math.exp((5 * math.log(halves[0]) + (len(words) - 5) * math.log(halves[1])) / len(words))
    assert perplexity(backbone, TEXT, window=5) == pytest.approx(together, rel=1e-5)


def test_a_damaged_stream_is_worse_at_its_own_words(backbone: TextBackbone) -> None:
    """A stream that always expects the next word has a perplexity near 1; nudging its weights shows."""
    ids = torch.tensor(backbone.ids(TEXT))
    before = perplexity(backbone, TEXT)
    with torch.no_grad():
        backbone.embedding[ids] *= -3
    assert perplexity(backbone, TEXT) != pytest.approx(before, rel=0.01)


def test_no_text_is_one_line(backbone: TextBackbone) -> None:
    with pytest.raises(MotionGPT3Error, match="no tokens"):
        perplexity(backbone, "")


def test_the_page_is_a_page() -> None:
    assert 380 <= len(PAGE.read_text(encoding="utf-8").split()) <= 480
