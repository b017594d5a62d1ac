"""Stages 2 and 3: what learns and what does not, resuming, validation, and what is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.backbone import load_backbone
from motiongpt3.models.config import MotionGPT3Config
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.lora import lora_layers
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.serialization import load_weights, parse_config, read_config, write_folder
from motiongpt3.training import stages_2_3 as align
from motiongpt3.training.stages_2_3 import AlignConfig, AlignTraining, train_align
from motiongpt3.training.trainer import fit

TASKS = {"caption": 1.0, "motion_to_caption": 2.0, "predict": 1.0, "inbetween_with_words": 1.0}
TALK = TASKS | {"plain_text": 1.0, "both_motion_and_text": 1.0, "length_to_caption": 1.0}


@pytest.fixture(scope="session")
def loud_backbone(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_backbone` with weights so large that it can be certain of a word, and made certain."""
    folder = tmp_path_factory.mktemp("loud")
    shutil.copytree(tiny_backbone, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if "norm" not in name:
            weights[name] = tensor * (20 if "embed" in name else 8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def stage1_folder(vae_folder: Path, loud_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of stage 1 as `train stage1` writes one; its VAE reads motions of 8 frames."""
    vae = replace(parse_config(VAEConfig, read_config(vae_folder)["vae"]), min_frames=8)
    head = HeadConfig(width=16, depth=1, pool_mlp=16)
    config = MotionGPT3Config(
        backbone=str(loud_backbone), motion_width=16, motion_mlp=16, queries=2, reads=3, vae=vae, head=head, steps=2
    )
    torch.manual_seed(5)
    model = MotionGPT3(config, load_backbone(str(loud_backbone)))
    load_weights(model.vae, vae_folder)
    folder = tmp_path_factory.mktemp("stage1")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def config(packed: Path, run: Callable) -> Callable[..., AlignConfig]:
    """`config(name, **changes)`: a tiny run; changes of the run or of the stage."""

    def make(name: str = "run", **changes: Any) -> AlignConfig:
        own = {key: value for key, value in changes.items() if key in AlignConfig.__dataclass_fields__}
        of_run = {key: value for key, value in changes.items() if key not in own}
        return AlignConfig(run(name, **of_run), [packed], **({"tasks": TASKS, "batch": 4} | own))

    return make


@pytest.fixture
def make(config: Callable[..., AlignConfig], stage1_folder: Path) -> Callable[..., AlignTraining]:
    return lambda *arguments, **changes: AlignTraining(config(*arguments, **changes), stage1_folder)


STAGE_3 = {"stage": "3", "text": "low-rank", "tasks": TALK, "text_rank": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16-mixed"}, STAGE_3],
    ids=["stage2-bf16", "stage3"],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    make: Callable, survives_a_kill: Callable, changes: dict[str, Any]
) -> None:
    survives_a_kill(lambda name: make(name, **changes))


def moved(module: AlignTraining) -> set[str]:
    """Names of the parameters that a run changes."""
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    fit(module, progress=False)
    assert all(torch.isfinite(p).all() for p in module.parameters())
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.slow
def test_stage_2_leaves_the_text_stream_and_the_vae_alone(make: Callable) -> None:
    module = make()
    found = moved(module)
    assert not any(name.startswith(("model.backbone.", "model.vae.")) for name in found)
    assert {name for name, p in module.named_parameters() if p.requires_grad} == found
    assert {"model.understand.0.weight", "model.shown", "model.queries", "model.head.final.weight"} <= found
    assert not any(name.startswith("model.backbone.") for name in module.state_dict())


@pytest.mark.slow
def test_stage_3_moves_low_rank_factors_and_special_rows_of_the_text_stream(make: Callable) -> None:
    module = make(**STAGE_3, steps=12, precision="bf16-mixed")
    found = {name for name in moved(module) if name.startswith("model.backbone.")}
    factors = {f"model.{name}.{part}" for name, _ in lora_layers(module.model) for part in ("down", "up")}
    assert len(factors) == 8
    assert found == factors | {"model.backbone.special"}
    assert {name for name in module.state_dict() if name.startswith("model.backbone.")} == found
    # Averages and small steps would be lost in bfloat16.
    assert all(p.dtype == torch.float32 for p in module.parameters() if p.requires_grad)
    assert module.model.backbone.embedding.dtype == torch.bfloat16


@pytest.mark.slow
def test_a_whole_text_stream_trains_and_is_written(
    make: Callable, config: Callable[..., AlignConfig], stage1_folder: Path, loud_backbone: Path
) -> None:
    settings = config(**(STAGE_3 | {"text": "whole", "precision": "bf16-mixed"}))
    model = MotionGPT3.from_pretrained(train_align(settings, start=stage1_folder, progress=False))
    untouched = load_backbone(str(loud_backbone), dtype=torch.float32)
    for (name, ours), theirs in zip(model.backbone.named_parameters(), untouched.parameters(), strict=True):
        assert (ours - theirs).abs().max() > 1e-4, name
    assert model.config.text_rank is None
    assert isinstance(model.caption(model.generate("a person walks", seconds=1)), str)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["frozen", "low-rank"])
def test_a_memorisable_set_is_learned(make: Callable, text: str) -> None:
    """Both kinds of loss fall, on other noise and phrasings than those of the run."""
    module = make(
        text=text, steps=70, learning_rate=8e-3, batch=8, parts=0, ema=0.9, checkpoint_minutes=60.0, validate_every=70
    )
    rows = torch.arange(0, len(module.bank), 2)

    def measured() -> dict[str, float]:
        found = {}
        with torch.no_grad():
            for in_words in (False, True):
                found |= module.losses(module.bank, module.bank.rows(rows), 99, in_words)
        return {name: float(value) for name, value in found.items()}

    before = measured()
    fit(module, progress=False)
    after = measured()
    assert before.keys() == {"words", "diffusion", "length"}
    assert after["words"] < 0.6 * before["words"]
    assert after["diffusion"] < 0.9 * before["diffusion"]
    assert after["length"] < 0.9 * before["length"]


@pytest.mark.slow
def test_every_trained_parameter_gets_a_gradient(make: Callable) -> None:
    for changes in ({}, STAGE_3, STAGE_3 | {"text": "whole"}):
        module = make(**changes)
        with torch.no_grad():
            module.model.head.no_condition.normal_()
            for _, layer in lora_layers(module.model):
                layer.up.normal_()
        rows = torch.arange(24) % len(module.bank)
        for seed, in_words in ((0, True), (0, False), (1, True), (1, False)):
            losses = module.losses(module.bank, module.bank.rows(rows), seed, in_words)
            assert ("diffusion" in losses) != in_words
            torch.stack(list(losses.values())).sum().backward()
        silent = {n for n, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
        assert silent == set()
        assert all(p.grad is None for p in module.parameters() if not p.requires_grad)


def test_reading_heads_apart_changes_no_loss(make: Callable) -> None:
    """A frozen text stream reads what stands before the first motion once; the losses are those of whole passes."""
    module = make()
    rows = torch.arange(12)
    for in_words in (True, False):
        losses = []
        for text in ("frozen", "low-rank"):
            module.config = replace(module.config, text=text)
            losses.append(module.losses(module.bank, module.bank.rows(rows), 3, in_words))
        assert losses[0].keys() <= losses[1].keys()
        for name in ("words",) if in_words else ("diffusion", "length"):
            torch.testing.assert_close(losses[0][name], losses[1][name], atol=2e-3, rtol=2e-3)  # bfloat16 text


def test_losses_are_means_over_words_and_motions(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """How sequences are grouped for padding does not matter."""
    module = make(**STAGE_3)
    rows = torch.arange(12)

    def losses(in_words: bool) -> dict[str, Tensor]:
        with torch.no_grad():
            found = module.losses(module.bank, module.bank.rows(rows), 5, in_words)
        return {name: found[name] for name in ("words",)}

    for in_words in (True, False):
        grouped = losses(in_words)
        monkeypatch.setattr(align, "by_length", lambda sequences, bounds: [sequences])
        together = losses(in_words)
        monkeypatch.undo()
        torch.testing.assert_close(grouped["words"], together["words"], atol=2e-3, rtol=2e-3)


@pytest.mark.slow
def test_validation_sees_both_kinds_and_changes_nothing(make: Callable) -> None:
    runs = [make(f"run{every}", validate_every=every) for every in (1, 6)]
    logged: list[dict[str, float]] = []
    for module in runs:
        module.log_dict = lambda values, **_: logged.append({k: float(v) for k, v in values.items()})
        fit(module, progress=False)
    one, other = (module.state_dict() for module in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    seen = [entry for entry in logged if any(name.startswith("val/") for name in entry)]
    assert len(seen) == 7
    assert all(entry.keys() == {"val/words", "val/diffusion", "val/length"} for entry in seen)
    still = make("still", learning_rate=0.0, steps=2, validate_every=1)
    logged.clear()
    still.log_dict = lambda values, **_: logged.append({k: float(v) for k, v in values.items()})
    fit(still, progress=False)
    first, second = (entry for entry in logged if "val/words" in entry)
    assert first == second


def test_validation_counts_every_clip_alike(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every batch: the last one is smaller."""
    module = make(tasks={"caption": 1.0})
    batches = [module.held.rows(torch.tensor(entries)) for entries in ([0, 2], [4])]
    losses = iter([{"diffusion": torch.tensor(1.0)}, {"diffusion": torch.tensor(4.0)}])
    monkeypatch.setattr(module.held, "whole_clips", lambda size: batches)
    monkeypatch.setattr(module, "losses", lambda *_: next(losses))
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.update(values))
    module.validation_step(None, 0)
    assert float(logged["val/diffusion"]) == 2.0


@pytest.mark.slow
def test_a_term_that_a_step_lacks_is_not_logged_as_zero(make: Callable) -> None:
    module = make(steps=8, checkpoint_minutes=60.0)
    had: list[set[str]] = []
    kept = module.losses
    module.losses = lambda *arguments: had.append(set(found := kept(*arguments))) or found
    fit(module, progress=False)
    assert {"diffusion" in names for names in had[:4]} == {True, False}
    lines = (module.run.out / "metrics" / "metrics.csv").read_text().splitlines()
    table = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    found = [float(row[f"train/{name}"] or 1) for row in table for name in ("words", "diffusion", "length")]
    assert min(found) > 0


@pytest.mark.slow
def test_from_stage_to_stage(config: Callable[..., AlignConfig], stage1_folder: Path, tmp_path: Path) -> None:
    """Stage 2 on stage 1, stage 3 on stage 2 and once more on stage 3; every model loads and does what it learned."""
    shared = {"latents": tmp_path / "latents.safetensors", "steps": 2}
    second = train_align(config("second", **shared), start=stage1_folder, progress=False)
    third = train_align(config("third", **shared, **STAGE_3), start=second, progress=False)
    fourth = train_align(config("fourth", **shared, **STAGE_3), start=third, progress=False)
    for folder, stage, rank in ((second, 2, None), (third, 3, 2), (fourth, 3, 2)):
        model = MotionGPT3.from_pretrained(folder)
        assert (model.config.stage, model.config.text_rank) == (stage, rank)
        motion = model.generate("a person walks", seconds=1)
        assert isinstance(model.caption(motion), str)
        assert model.chat([{"role": "user", "content": ["jumps", motion]}]) is not None
    before, after = (load_file(folder / "model.safetensors") for folder in (second, third))
    assert {name for name in after if name not in before} == {
        name for name in after if name.endswith((".down", ".up"))
    } & {name for name in after if name.startswith("backbone.stream.")}
    vae = {name for name in before if name.startswith("vae.")}
    assert all(torch.equal(before[name], after[name]) for name in vae)


def test_starting_from_what_does_not_fit(
    config: Callable[..., AlignConfig], stage1_folder: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    write_folder(tmp_path / "vae", {"format": 1, "vae": asdict(VAEConfig())}, {})
    for start, message in (
        (None, "stage 2 goes on from a trained model: give its folder with --start"),
        (tmp_path / "nowhere", "no model folder"),
        (tmp_path / "vae", "not one of ours"),
        (tiny_model_dir, "carries its own language model"),
    ):
        with pytest.raises(MotionGPT3Error, match=message) as caught:
            train_align(config(), start=start, progress=False)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"dance": 1.0}}, "there is no task 'dance'"),
        ({"tasks": {"plain_text": 1.0}}, "task plain_text has no motion"),
        ({"tasks": {"random_motion": 1.0}}, "random_motion is no task of stage 2"),
        ({"text_rank": 0}, "text_rank must be 1 to 1024, not 0"),
        ({"text_weight": -1.0}, "text_weight must be 0 to"),
        ({"pool_share": 1.5}, "pool_share must be 0 to 1"),
    ],
)
def test_settings_are_checked_before_anything_is_read(
    config: Callable[..., AlignConfig], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MotionGPT3Error, match=f"^{message}"):
        config(**changes)


def test_a_bad_batch_is_named(make: Callable) -> None:
    module = make()
    module.bank.mean[:] = float("nan")
    with pytest.raises(MotionGPT3Error, match=r"step 0 is not finite; the batch held clip_\d+, clip_\d+, ") as caught:
        fit(module, progress=False)
    assert "\n" not in str(caught.value)


def test_the_vae_is_read_with_the_lengths_of_the_model(make: Callable) -> None:
    """Beginnings and ends are there for clips that are long enough for two of 8 frames."""
    module = make()
    assert isinstance(module.model.vae, MotionVAE)
    frames = module.bank.frames[1:]
    assert frames[frames > 0].min() >= 8
    assert (frames > 0).any(1).all()
