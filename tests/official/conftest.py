"""A small official checkpoint of random weights, under the official names, and the model that it becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from official_checkpoint import LAYERS, WIDTH, official_tensors
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from motiongpt3.models.backbone import write_backbone
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.official.convert import convert_official, read_tokenizer_folder
from motiongpt3.official.model import OfficialMotionGPT3
from motiongpt3.serialization import write_folder

WORDS = "a person man somebody walks walk jumps runs waves wave Generate motion text Predict Complete the masked"


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tokenizer of whole words, as that of a GPT-2, with its config.json."""
    folder = tmp_path_factory.mktemp("tokenizer")
    vocabulary = {word: number for number, word in enumerate(["<unk>", *WORDS.split(), "<|endoftext|>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 2, "n_positions": 256, "vocab_size": len(vocabulary)}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def checkpoint(tokenizer_folder: Path) -> dict[str, Tensor]:
    """The state dict of a small official model, as its class would save it."""
    return official_tensors(read_tokenizer_folder(tokenizer_folder)[0].get_vocab_size())


@pytest.fixture(scope="session")
def official_folder(
    checkpoint: dict[str, Tensor], tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder that converting it makes."""
    tokenizer, heads = read_tokenizer_folder(tokenizer_folder)
    made = convert_official(checkpoint, torch.zeros(263), torch.ones(263), tokenizer, heads)
    folder = tmp_path_factory.mktemp("official")
    write_folder(folder, made.config, made.tensors)
    write_backbone(folder, made.backbone, tokenizer)
    return folder


@pytest.fixture(scope="session")
def official(official_folder: Path) -> OfficialMotionGPT3:
    """The model itself, with the official profile."""
    model = MotionGPT3.from_pretrained(official_folder, profile="official")
    assert isinstance(model, OfficialMotionGPT3)
    return model


@pytest.fixture
def no_explosion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whatever a test does, no bomb goes off, and no temporary file stays."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    assert not (tmp_path / "exploded").exists()
    assert not list(scratch.iterdir())
