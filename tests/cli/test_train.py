"""The training commands end to end: a VAE, then a model on it, which generates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from motiongpt3.cli.train import device, train_stage1, train_vae
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.vae import VAEConfig
from motiongpt3.training.stage1 import Stage1Config
from motiongpt3.training.vae import VAETraining, VAETrainingConfig


@pytest.fixture(autouse=True)
def few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred batches of latents would be most of the time here."""
    monkeypatch.setattr(VAETraining, "measure_latents", partialmethod(VAETraining.measure_latents, batches=5))


@pytest.fixture
def vae_config(packed: Path, sizes: VAEConfig, run: Callable) -> Callable[..., VAETrainingConfig]:
    return lambda name="vae", **changes: VAETrainingConfig(run(name, **changes), [packed], sizes, batch=4)


def test_from_clips_to_a_motion(vae_config: Callable, stage1: Callable[..., Stage1Config]) -> None:
    config = vae_config()
    vae = train_vae(config, progress=False)
    assert vae == config.run.out / "vae"
    assert json.loads((vae / "config.json").read_text()) == {"format": 1, "vae": asdict(config.model)}
    stored = load_file(vae / "model.safetensors")
    assert stored["latent_std"].min() > 0
    assert not torch.equal(stored["latent_std"], torch.ones(2, 4))

    folder = train_stage1(replace(stage1("stage1"), vae=vae), progress=False)
    assert folder == stage1("stage1").run.out / "model"
    model = MotionGPT3.from_pretrained(folder)
    for name, tensor in stored.items():
        assert torch.equal(model.vae.state_dict()[name], tensor)
    motion = model.generate("a person walks forward", seconds=1.5)
    assert motion.joints.shape == (30, 22, 3)
    # What is exported is what resuming the finished run exports.
    again = train_stage1(replace(stage1("stage1"), vae=vae), resume=True, progress=False)
    assert MotionGPT3.from_pretrained(again).generate("a person walks forward", seconds=1.5) == motion


def test_a_vae_can_start_from_another(vae_config: Callable) -> None:
    first = train_vae(vae_config("first"), progress=False)
    same = train_vae(vae_config("same", learning_rate=0.0), start=first, progress=False)
    weights, others = load_file(first / "model.safetensors"), load_file(same / "model.safetensors")
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_model_can_start_from_another_but_keeps_its_own_vae(
    vae_config: Callable, stage1: Callable[..., Stage1Config]
) -> None:
    """The latents that it learns are those of the VAE it was given, not of the one the start was trained with."""
    start = train_stage1(stage1("start"), progress=False)
    vae = train_vae(vae_config(), progress=False)
    folder = train_stage1(replace(stage1("next", learning_rate=0.0), vae=vae), start=start, progress=False)
    weights, before, own = (load_file(f / "model.safetensors") for f in (folder, start, vae))
    for name, tensor in weights.items():
        expected = own[name.removeprefix("vae.")] if name.startswith("vae.") else before[name]
        assert torch.equal(tensor, expected), name


def test_starting_from_what_does_not_fit(vae_config: Callable, stage1: Callable, tmp_path: Path) -> None:
    for train, config in ((train_vae, vae_config()), (train_stage1, stage1())):
        with pytest.raises(MotionGPT3Error, match="no model folder"):
            train(config, start=tmp_path / "nowhere", progress=False)
        with pytest.raises(MotionGPT3Error, match="nothing to resume"):
            train(config, resume=True, progress=False)


def test_device() -> None:
    assert device("cpu").type == "cpu"
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
