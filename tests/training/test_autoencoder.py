"""Training the VAE: the losses' formulas, both sides of the adversarial loss, resuming, statistics of the latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import VAEConfig, discriminator_loss
from motiongpt3.motion.features import features_to_joints
from motiongpt3.training.autoencoder import (
    VAELossWeights,
    VAETraining,
    VAETrainingConfig,
    kl_divergence,
    reconstruction_errors,
    reconstruction_losses,
)
from motiongpt3.training.trainer import fit

Make = Callable[..., VAETraining]


@pytest.fixture
def make(packed: Path, sizes: VAEConfig, run: Callable) -> Make:
    def build(name: str = "run", loss: VAELossWeights | None = None, model: VAEConfig = sizes, **changes: Any) -> Any:
        return VAETraining(VAETrainingConfig(run(name, **changes), [packed], model, loss or VAELossWeights(), batch=4))

    return build


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"model": "dropout"}, {"loss": VAELossWeights(adversarial=0.1), "precision": "bf16-mixed"}],
    ids=["dropout", "adversarial-bf16"],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    make: Make, sizes: VAEConfig, survives_a_kill: Callable, changes: dict[str, Any]
) -> None:
    if changes.get("model"):
        changes = {"model": replace(sizes, dropout=0.2)}
    survives_a_kill(lambda name: make(name, **changes))


@pytest.mark.slow
def test_training_reconstructs_better_and_writes_what_it_measures(make: Make) -> None:
    module = make(steps=60, validate_every=30, checkpoint_minutes=60.0)
    before = reconstruction_errors(module.vae, module.bank)
    fit(module, progress=False)
    after = reconstruction_errors(module.vae, module.bank)
    for name in ("root_aligned_mm", "global_mm"):
        assert after[name].shape == (9,)
        assert after[name].mean() < 0.85 * before[name].mean()
    header = (Path(module.run.out) / "metrics" / "metrics.csv").read_text().splitlines()[0].split(",")
    terms = ("features", "positions", "velocities", "path", "kl")
    assert {"train/loss", *(f"train/{t}" for t in terms), "val/root_aligned_mm", "val/global_mm"} <= set(header)


def test_a_bad_batch_is_named(make: Make) -> None:
    module = make()
    module.bank.features[:] = float("nan")
    with pytest.raises(MotionGPT3Error, match=r"step 0 is not finite; the batch held clip_\d+, clip_\d+, ") as caught:
        fit(module, progress=False)
    assert "\n" not in str(caught.value)


def test_losses_are_means_over_real_frames(make: Make) -> None:
    """Each term by its formula, clip by clip without padding; what lies past the end does not matter."""
    module = make()
    vae = module.vae
    batch = module.bank.batch(3, 0, 0)
    features = vae.normalise(batch.features)
    generator = torch.Generator().manual_seed(0)
    output = features + 0.1 * torch.randn(features.shape, generator=generator)
    mean, log_variance = torch.randn(2, 3, 2, 4, generator=generator)
    terms = reconstruction_losses(vae, output, features, batch.lengths)
    sums = dict.fromkeys(("features", "positions", "velocities", "path"), 0.0)
    for out, real, length in zip(output, features, batch.lengths.tolist(), strict=True):
        difference = (out - real)[:length]
        metres = (vae.denormalise(out) - vae.denormalise(real))[:length, 3:67]
        joints = [features_to_joints(vae.denormalise(x)[:length]) for x in (out, real)]
        sums["features"] += torch.nn.functional.smooth_l1_loss(difference, difference * 0, reduction="sum").item() / 263
        sums["positions"] += metres.abs().sum().item() / 64
        sums["velocities"] += torch.diff(metres, dim=0).abs().sum().item() * 20 / 64
        sums["path"] += (joints[0] - joints[1]).abs().sum().item() / 66
    frames = int(batch.lengths.sum())
    for name, total in sums.items():
        count = frames - 3 if name == "velocities" else frames
        assert terms[name].item() == pytest.approx(total / count, rel=1e-4)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    assert kl_divergence(mean, log_variance).item() == pytest.approx(expected.item(), rel=1e-5)
    assert kl_divergence(mean * 0, log_variance * 0).item() == 0

    junk = output.clone()
    for row, length in zip(junk, batch.lengths.tolist(), strict=True):
        row[length:] = 1e3
    again = reconstruction_losses(vae, junk, features, batch.lengths)
    for name, value in terms.items():
        torch.testing.assert_close(again[name], value)
    nothing = reconstruction_losses(vae, features, features, batch.lengths)
    assert [value.item() for value in nothing.values()] == [0] * 4


def test_both_sides_of_the_adversarial_loss_learn(make: Make) -> None:
    module = make(loss=VAELossWeights(adversarial=0.5))
    assert module.discriminator is not None
    judge = module.discriminator.eval()  # no power iterations, so that calls can be compared
    real = module.vae.normalise(module.bank.batch(4, 0, 0).features)
    fake = torch.randn_like(real).requires_grad_(True)
    terms: dict[str, Tensor] = {}
    loss = module._adversarial(real, fake, terms)
    assert loss.item() == pytest.approx(0.5 * terms["adversarial"].item() + terms["discriminator"].item(), rel=1e-5)
    parameters = list(judge.parameters())
    assert all(p.requires_grad for p in parameters)
    to_fake, *to_judge = torch.autograd.grad(loss, [fake, *parameters])
    # The generator's term does not teach the judge, nor the judge's term the generator.
    torch.testing.assert_close(to_fake, torch.autograd.grad(-0.5 * judge(fake).mean(), fake)[0])
    alone = torch.autograd.grad(discriminator_loss(judge(real), judge(fake.detach())), parameters)
    for ours, theirs in zip(to_judge, alone, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.abs().max() > 0 or ours.numel() == 1
    assert to_fake.abs().max() > 0


@pytest.mark.slow
def test_adversarial_training_moves_both_networks(make: Make) -> None:
    module = make(loss=VAELossWeights(adversarial=0.5))
    assert module.discriminator is not None
    before = state(module.vae), state(module.discriminator)
    fit(module, progress=False)
    for old, network in zip(before, (module.vae, module.discriminator), strict=True):
        for name, parameter in network.named_parameters():
            assert torch.isfinite(parameter).all()
            assert not torch.equal(parameter, old[name]), name
    header = (Path(module.run.out) / "metrics" / "metrics.csv").read_text().splitlines()[0]
    assert "train/adversarial" in header
    assert "train/discriminator" in header
    assert make("plain").discriminator is None


def test_long_terms_grow_over_the_first_part_of_the_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make(steps=100)
    weights = []
    for step in (0, 15, 30, 99):
        monkeypatch.setattr(VAETraining, "global_step", step)
        one = torch.ones(())
        weights.append(tuple(module.weighted({name: one}).item() for name in ("path", "velocities", "features")))
    loss = module.config.loss
    share = [0.05, 0.55, 1.0, 1.0]
    expected = [(s * loss.path, s * loss.velocities, loss.features) for s in share]
    assert [w for row in weights for w in row] == pytest.approx([w for row in expected for w in row])


def test_latent_statistics_are_those_of_sampled_latents(make: Make) -> None:
    module = make()
    with torch.no_grad():
        module.vae.to_log_variance.bias.fill_(0.3)
    module.measure_latents(size=8, batches=6)
    samples = []
    with torch.no_grad():
        for step in range(6):
            batch = module.bank.batch(8, module.run.seed + 1, step, 48, module.config.crop)
            mean, log_variance = module.vae.encode(module.vae.normalise(batch.features), batch.lengths)
            samples.append(mean + (log_variance / 2).exp() * torch.randn(500, *mean.shape))
    latents = module.vae.normalise_latents(torch.cat([s.flatten(0, 1) for s in samples]))
    torch.testing.assert_close(latents.mean(0), torch.zeros(2, 4), atol=0.05, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(2, 4), atol=0.05, rtol=0)


def test_errors_are_millimetres_of_real_frames(make: Make, packed: Path) -> None:
    """Against each clip alone; and a shift of everything by a centimetre is a global error alone."""
    module = make()
    bank = ClipBank([PackedClips.open(packed)], "val")
    together = reconstruction_errors(module.vae, bank, size=2)
    for i in range(len(bank)):
        length = bank.frames[i : i + 1].clamp(max=48)
        features = bank.take(torch.tensor([i]), torch.tensor([0]), length, torch.tensor([False]))
        with torch.no_grad():
            output, _, _ = module.vae(module.vae.normalise(features), length)
        made, real = (features_to_joints(x)[0] for x in (module.vae.denormalise(output), features))
        error = (made - real).norm(dim=-1).mean() * 1000
        aligned = ((made - made[:, :1]) - (real - real[:, :1])).norm(dim=-1).mean() * 1000
        assert together["global_mm"][i].item() == pytest.approx(error.item(), rel=1e-3)
        assert together["root_aligned_mm"][i].item() == pytest.approx(aligned.item(), rel=1e-3)

    class Raised(torch.nn.Module):
        config = module.vae.config
        normalise = staticmethod(lambda x: x)
        denormalise = staticmethod(lambda x: x)

        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, None, None]:
            shift = torch.zeros(263)
            shift[3] = shift[5:67:3] = 0.01  # the heights of all joints
            return features + shift, None, None

    shifted = reconstruction_errors(Raised(), bank)  # type: ignore[arg-type]
    assert shifted["global_mm"].tolist() == pytest.approx([10.0] * 3, rel=1e-3)
    assert shifted["root_aligned_mm"].max() < 1e-2


def test_the_statistics_of_the_data_are_in_the_vae(make: Make, packed: Path) -> None:
    pack = PackedClips.open(packed)
    module = make()
    assert torch.equal(module.vae.feature_mean, torch.from_numpy(pack.mean))
    assert torch.equal(module.vae.feature_std, torch.from_numpy(pack.std))
    assert {clip.split for clip in module.bank.clips} == {"train"}
    assert {clip.split for clip in module.held.clips} == {"val"}
