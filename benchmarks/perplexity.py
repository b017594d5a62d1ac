"""Plain-English perplexity of a model's text stream beside that of the untouched backbone.

python benchmarks/perplexity.py [--model FOLDER] [--text FILE]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import TextBackbone, load_backbone
from motiongpt3.models.bimodal import BimodalTransformer, Stream, Tokens
from motiongpt3.models.motiongpt3 import MotionGPT3

PAGE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "page.txt"
BAR = 1.10
"""Perplexity after training over that of the untouched backbone that a good model stays below."""


@torch.no_grad()
def perplexity(backbone: TextBackbone, text: str, window: int = 1024) -> float:
    """exp of the mean negative log-likelihood per token, in nats, of a text.

    Each window of tokens is read after the token that ends a text, so that its first token is predicted too. The two
    motion tokens take part in the softmax: what they take from words counts.

    Args:
        backbone: in evaluation mode.
        text: plain text, read as it is.
        window: most tokens read together; no more than the backbone has positions for.

    Raises:
        MotionGPT3Error: the text has no tokens, or the window is empty.
    """
    window = min(window, backbone.config.max_positions - 1)
    ids = torch.tensor(backbone.tokenize([text]))
    if not ids.shape[1] or window < 1:
        raise MotionGPT3Error("there is nothing to measure perplexity on: the text has no tokens")
    alone = BimodalTransformer(backbone.stream, Stream(backbone.config.for_motion(8, 8)), 0)
    start = torch.full((1, 1), backbone.eos_id, device=ids.device)
    total = 0.0
    for part in ids.split(window, 1):
        hidden, _ = alone(Tokens.of(backbone.embed(torch.cat([start, part[:, :-1]], 1))), None)
        assert hidden is not None
        total += F.cross_entropy(backbone.logits(hidden)[0].float(), part[0], reduction="sum").item()
    return math.exp(total / ids.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model folder; the one in the package if left out")
    parser.add_argument("--text", type=Path, default=PAGE)
    options = parser.parse_args()
    text = options.text.read_text(encoding="utf-8")
    model = MotionGPT3.from_pretrained(options.model)
    ours = perplexity(model.backbone, text)
    theirs = perplexity(load_backbone(model.config.backbone, dtype=torch.float32).freeze(), text)
    tokens = len(model.backbone.ids(text))
    print(f"{options.text.name}: {tokens} tokens")
    print(f"text stream {ours:.2f}, untouched backbone {theirs:.2f}, ratio {ours / theirs:.3f} (at most {BAR:g})")


if __name__ == "__main__":
    main()
