"""Sentence vectors: batches change nothing, the right words are read, and what is missing is said in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import sentences
from motiongpt3.evaluation.sentences import SentenceEncoder, load_sentences

TEXTS = ["a person walks forward", "somebody waves", "a person turns left and then right and then left", "unknown"]


def test_a_sentence_has_one_vector_in_any_batch(tiny_sentences: Path) -> None:
    encoder = load_sentences(str(tiny_sentences))
    together = encoder(TEXTS)
    assert together.shape == (4, encoder.channels) == (4, 32)
    for text, vector in zip(TEXTS[:3], together, strict=False):
        torch.testing.assert_close(encoder([text])[0], vector)
        torch.testing.assert_close(encoder([*TEXTS, text], batch=2)[-1], vector)
        torch.testing.assert_close(vector.reshape(2, 16).norm(dim=1), torch.ones(2))
    assert torch.isfinite(together).all()
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_it_is_transformers_bert(tiny_sentences: Path) -> None:
    from transformers import BertModel

    bert = BertModel.from_pretrained(tiny_sentences).eval()
    encoder = SentenceEncoder(tiny_sentences)
    ids = torch.tensor([encoder.tokenizer.encode(TEXTS[0]).ids])
    with torch.no_grad():
        states = bert(ids, output_hidden_states=True).hidden_states
    expected = [torch.nn.functional.normalize(states[layer].mean(1), dim=-1) for layer in (1, 2)]
    torch.testing.assert_close(encoder(TEXTS[:1]), torch.cat(expected, dim=-1))


def test_an_endless_sentence_is_cut(tiny_sentences: Path) -> None:
    encoder = SentenceEncoder(tiny_sentences)
    torch.testing.assert_close(encoder(["walks " * 5000]), encoder(["walks " * 32]))


def test_other_weights_are_refused(tiny_sentences: Path) -> None:
    digest = SentenceEncoder(tiny_sentences).sha256
    assert SentenceEncoder(tiny_sentences, digest).sha256 == digest
    with pytest.raises(MotionGPT3Error, match="another sha256"):
        SentenceEncoder(tiny_sentences, "0" * 64)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_damaged_files(tiny_sentences: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sentences"
    shutil.copytree(tiny_sentences, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size // 2])
    with pytest.raises(MotionGPT3Error) as damaged:
        SentenceEncoder(folder)
    assert "\n" not in str(damaged.value)
    (folder / name).unlink()
    with pytest.raises(MotionGPT3Error):
        SentenceEncoder(folder)


def test_weights_of_another_size(tiny_sentences: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sentences"
    shutil.copytree(tiny_sentences, folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 24', '"intermediate_size": 25'))
    with pytest.raises(MotionGPT3Error, match="damaged"):
        SentenceEncoder(folder)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "find_spec", lambda _: None)
    with pytest.raises(MotionGPT3Error, match=r'pip install "motiongpt3\[evaluate\]"'):
        load_sentences()
