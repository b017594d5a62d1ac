"""Plain-English perplexity of a model's text stream beside that of the untouched backbone.

python benchmarks/perplexity.py [--model FOLDER] [--text FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from motiongpt3.evaluation.perplexity import BAR, perplexity
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.motiongpt3 import MotionGPT3

PAGE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "page.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model folder; the one in the package if left out")
    parser.add_argument("--text", type=Path, default=PAGE)
    options = parser.parse_args()
    text = options.text.read_text(encoding="utf-8")
    model = MotionGPT3.from_pretrained(options.model)
    ours = perplexity(model.backbone, text)
    theirs = perplexity(load_backbone(model.config.backbone, dtype=torch.float32).freeze(), text)
    tokens = len(model.backbone.tokenize([text])[0][0])
    print(f"{options.text.name}: {tokens} tokens")
    print(f"text stream {ours:.2f}, untouched backbone {theirs:.2f}, ratio {ours / theirs:.3f} (at most {BAR:g})")


if __name__ == "__main__":
    main()
