"""Scores of a generator that trains: retrieval and distance in an evaluator's space, and texts that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motiongpt3.baselines.validation import read_texts, scores, write_texts
from motiongpt3.errors import MotionGPT3Error


def test_scores_of_embeddings() -> None:
    """Motions that lie where their texts are find them; those of others do not; the recorded ones have distance 0."""
    torch.manual_seed(0)
    texts, labels = torch.randn(70, 2), [f"label {n}" for n in range(70)]
    own, others = (scores(made, texts, texts, labels) for made in (texts, texts.roll(1, 0)))
    assert own["r_precision_1"] == 1
    assert own["fid"] == pytest.approx(0, abs=1e-6)
    assert others["r_precision_1"] < 0.2
    assert others["fid"] == pytest.approx(0, abs=1e-6)
    assert scores(texts + 3, texts, texts, labels)["fid"] == pytest.approx(18, rel=1e-4)


def test_texts_are_found_by_their_words(tmp_path: Path) -> None:
    file, table = tmp_path / "texts.safetensors", torch.randn(3, 5)
    write_texts(file, ["a", "b", "c"], table, "hash")
    with pytest.raises(MotionGPT3Error, match="another evaluator"):
        read_texts(file, ["a"], "other")
    assert torch.equal(read_texts(file, ["c", "a", "c"]), table[[2, 0, 2]])
    with pytest.raises(MotionGPT3Error, match="'d'"):
        read_texts(file, ["a", "d"])
    file.write_bytes(b"nothing")
    with pytest.raises(MotionGPT3Error, match="no text embeddings"):
        read_texts(file, ["a"])
