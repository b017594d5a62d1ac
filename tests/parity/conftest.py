"""Recorded inputs and outputs of the official code, and the small official model converted."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from motiongpt3.models.backbone import write_backbone
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.official.convert import convert_official, read_tokenizer_folder
from motiongpt3.official.model import OfficialMotionGPT3
from motiongpt3.serialization import write_folder

Read = Callable[[str], Any]


@pytest.fixture(scope="session")
def read(parity_file: Callable[[str], Path]) -> Read:
    """The content of a recorded file by its name, or its path for a folder; a missing one skips the test."""

    @cache
    def content(name: str) -> Any:
        path = parity_file(name)
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            return dict(np.load(path))
        return json.loads(path.read_text()) if path.suffix == ".json" else path

    return content


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    """Assert that no difference is larger than a share of max(1, largest reference value)."""

    def check(ours: Any, theirs: Any, bar: float) -> None:
        ours, theirs = torch.as_tensor(ours).detach().double(), torch.as_tensor(theirs).double()
        assert ours.shape == theirs.shape
        worst = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
        assert worst <= bar * max(1.0, float(theirs.abs().max()) if theirs.numel() else 0.0)

    return check


@pytest.fixture(scope="session")
def checkpoint(read: Read) -> dict[str, Tensor]:
    """The state dict of the small official model, as its class would save it."""
    state = {f"lm.{name}": tensor for name, tensor in read("lm_tiny_weights.safetensors").items()}
    state |= {f"lm.{name}": state[f"lm.{same}"] for name, same in read("lm_tiny_aliases.json").items()}
    return state | {f"vae.{name}": tensor for name, tensor in read("vae_tiny_weights.safetensors").items()}


@pytest.fixture(scope="session")
def official_folder(checkpoint: dict[str, Tensor], read: Read, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that converting it makes."""
    tokenizer, heads = read_tokenizer_folder(read("mot-tiny"))
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
