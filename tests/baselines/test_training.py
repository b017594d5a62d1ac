"""The comparison's networks learn, are judged while they learn, and are trained on the same batches."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from motiongpt3.baselines import validation
from motiongpt3.baselines.training import (
    ExperimentConfig,
    ExperimentTraining,
    VQTraining,
    VQTrainingConfig,
    train_experiment,
    train_vq,
)
from motiongpt3.baselines.vq import VQConfig
from motiongpt3.cli.main import main
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.vae import VAEConfig
from motiongpt3.training.autoencoder import VAELossWeights
from motiongpt3.training.trainer import fit


class FakeEvaluator:
    """Embeds a motion by means of its features, a text by its length."""

    def embed_features(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.stack([row[:n, :2].mean(0) for row, n in zip(features, lengths.tolist(), strict=True)])

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(text)), 0.0] for text in texts])


@pytest.fixture(autouse=True)
def evaluator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "load_evaluator", lambda name: FakeEvaluator())


@pytest.fixture
def vq_config(packed: Path, sizes: VAEConfig, run: Callable) -> Callable[..., VQTrainingConfig]:
    model, loss = VQConfig(sizes, books=2, codes=12, code_channels=4), VAELossWeights(ramp=0.0)
    return lambda name="vq", **changes: VQTrainingConfig(run(name, **changes), [packed], model, loss, batch=4)


@pytest.fixture(scope="session")
def vq_folder(packed: Path, vae_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VQ-VAE that took its encoder and decoder from the tiny VAE."""
    from motiongpt3.training.trainer import RunConfig

    run = RunConfig(
        tmp_path_factory.mktemp("vq"), 3, precision="32-true", accelerator="cpu", validate_every=3, warmup=1
    )
    sizes = json.loads((vae_folder / "config.json").read_text())["vae"]
    model = VQConfig(VAEConfig(**sizes), books=2, codes=12, code_channels=4)
    return train_vq(VQTrainingConfig(run, [packed], model, batch=4), start=vae_folder, progress=False)


@pytest.fixture
def config(
    packed: Path, vae_folder: Path, vq_folder: Path, tiny_backbone: Path, run: Callable
) -> Callable[..., ExperimentConfig]:
    """`config(name, streams, tokens, **changes of the run)`."""

    def make(name: str, streams: Any = "dual", tokens: str = "latents", **changes: Any) -> ExperimentConfig:
        model = MotionGPT3Config(
            backbone=str(tiny_backbone),
            prompt_style="plain",
            motion_width=16,
            motion_mlp=16,
            queries=2,
            head=HeadConfig(width=16, depth=1, pool_mlp=16, dropout=0.1),
            steps=2,
        )
        tokeniser = vae_folder if tokens == "latents" else vq_folder
        return ExperimentConfig(run(name, **changes), packed, tokeniser, streams, 1, model, batch=4, evaluator="fake")

    return make


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["latents", "codes"])
@pytest.mark.parametrize("streams", ["dual", "single"])
def test_a_run_from_start_to_report(config: Callable, streams: str, tokens: str) -> None:
    made = config("run", streams, tokens, steps=60, validate_every=20, log_every=5, warmup=5, checkpoint_minutes=9.0)
    folder = train_experiment(made, progress=False)
    rows = lines(folder)
    trained = [float(row["train/objective"]) for row in rows if row["train/objective"]]
    assert len(trained) == 12
    assert sum(trained[-4:]) < 0.97 * sum(trained[:4])
    held = [row for row in rows if row["val/objective"]]
    assert [int(row["step"]) for row in held] == [19, 39, 59]
    assert float(held[-1]["seconds"]) > float(held[0]["seconds"]) > 0
    assert all(row["val/fid"] == "nan" or float(row["val/fid"]) >= 0 for row in held)
    assert float(rows[0]["epoch_of_clips"]) == pytest.approx(5 * 4 / 9)
    final = json.loads((folder / "final.json").read_text())
    assert (final["streams"], final["tokens"], final["steps"]) == (streams, tokens, 60)
    assert set(final["val"]) == {"clips", "recorded", "reconstructed"} | (
        {"sampled"} if tokens == "codes" else {"guided", "unguided"}
    )
    samples = load_file(folder / "samples.safetensors")
    assert samples["features"].shape[2] == 263
    assert torch.isfinite(samples["features"]).all()


@pytest.fixture(autouse=True)
def no_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny clips have no test split: the validation split stands in."""
    kept = validation.HeldOutClips.__init__

    def init(self: Any, pack: Any, split: str, *rest: Any) -> None:
        kept(self, pack, "val", *rest)

    monkeypatch.setattr(validation.HeldOutClips, "__init__", init)


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "tokens"), [("dual", "latents"), ("single", "codes")])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    config: Callable, survives_a_kill: Callable, streams: str, tokens: str
) -> None:
    survives_a_kill(lambda name: ExperimentTraining(config(name, streams, tokens)))


@pytest.mark.slow
def test_a_killed_vq_goes_on_as_if_nothing_had_happened(vq_config: Callable, survives_a_kill: Callable) -> None:
    survives_a_kill(lambda name: VQTraining(vq_config(name)))


def test_both_networks_see_the_same_batches(config: Callable) -> None:
    dual, single, codes = (
        ExperimentTraining(config("a", streams, tokens))
        for streams, tokens in (("dual", "latents"), ("single", "latents"), ("dual", "codes"))
    )
    for step in range(5):
        batches = [module.bank.batch(8, 0, step) for module in (dual, single, codes)]
        assert batches[0].clips == batches[1].clips == batches[2].clips
        assert batches[0].captions == batches[1].captions == batches[2].captions
        assert torch.equal(batches[0].mean, batches[1].mean)
        assert torch.equal(batches[0].frames, batches[2].frames)
    assert dual.tokens == single.tokens == codes.tokens


@pytest.mark.slow
def test_the_learning_rate_stays_after_the_warm_up(config: Callable) -> None:
    module = ExperimentTraining(config("constant", steps=8, warmup=4, learning_rate=0.5))
    rates: list[float] = []
    kept = module.on_train_batch_start

    def watch(*arguments: Any) -> None:
        rates.append(module.trainer.optimizers[0].param_groups[0]["lr"])
        kept(*arguments)

    module.on_train_batch_start = watch  # type: ignore[method-assign]
    fit(module, progress=False)
    assert rates == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.5])
    cosine = ExperimentTraining(replace(config("cosine"), schedule="cosine")).configure_optimizers()
    assert cosine["lr_scheduler"]["scheduler"].__class__.__name__ == "SequentialLR"


@pytest.mark.slow
def test_validation_does_not_depend_on_when_it_is(config: Callable) -> None:
    module = ExperimentTraining(config("still", learning_rate=0.0, steps=4, validate_every=2))
    fit(module, progress=False)
    names = ("val/objective", "val/length", "val/mm_dist", "val/fid", "val/r_precision_3")
    held = [{name: row[name] for name in names} for row in lines(module.run.out) if row["val/objective"]]
    assert len(held) == 2
    assert held[0] == held[1]


def test_codes_of_padding_are_not_learned(config: Callable) -> None:
    module = ExperimentTraining(config("codes", "dual", "codes")).eval()
    batch = module.bank.batch(4, 0, 0)
    first = module.losses(batch, module.tokens, torch.Generator())["objective"]
    counts = module.network.vae.counts(batch.frames)  # type: ignore[union-attr]
    for row, count in enumerate(counts.tolist()):
        batch.mean[row, count:] = 5.0
    torch.testing.assert_close(module.losses(batch, module.tokens, torch.Generator())["objective"], first)


@pytest.mark.slow
def test_the_commands(config: Callable, vq_config: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """What is asked for in words is refused in one line where it makes no sense."""
    assert main(["train", "experiment", "--help"]) == 0
    assert "streams" in capsys.readouterr().out
    for words in (["train", "experiment"], ["train", "vq", "--run.out", str(tmp_path)]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1
