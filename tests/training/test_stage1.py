"""Stage 1: the motion side learns, the language model and the VAE do not move, resuming changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.bimodal import KVCache
from motiongpt3.models.diffusion_head import HeadConfig
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.models.vae import VAEConfig
from motiongpt3.serialization import write_folder
from motiongpt3.training.autoencoder import VAETraining, VAETrainingConfig, train_vae
from motiongpt3.training.stage1 import PromptCache, Stage1Config, Stage1Training, build_model, hash_tokens, train_stage1
from motiongpt3.training.trainer import fit

Make = Callable[..., Stage1Training]


@pytest.fixture
def make(stage1: Callable) -> Make:
    return lambda *arguments, **changes: Stage1Training(stage1(*arguments, **changes))


EPSILON = HeadConfig(width=16, depth=1, pool_mlp=16, objective="epsilon", dropout=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"motion_dropout": 0.2, "head": EPSILON}, {"text_cache": "disk", "precision": "bf16-mixed"}],
    ids=["dropout-epsilon", "disk-bf16"],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    make: Make, survives_a_kill: Callable, changes: dict[str, Any]
) -> None:
    survives_a_kill(lambda name: make(name, **changes))


@pytest.mark.slow
def test_only_the_motion_side_learns(make: Make) -> None:
    module = make()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    modes: list[tuple[bool, ...]] = []
    kept = module.losses

    def watch(*arguments: Any) -> Any:
        parts = (module.model.backbone, module.model.backbone.stream, module.model.vae, module.model.motion)
        modes.append(tuple(part.training for part in parts))
        return kept(*arguments)

    module.losses = watch  # type: ignore[method-assign]
    fit(module, progress=False)
    for name, parameter in module.named_parameters():
        frozen = name.startswith(("model.backbone.", "model.vae."))
        assert parameter.requires_grad != frozen
        assert torch.isfinite(parameter).all()
        assert torch.equal(parameter, before[name]) == frozen, name
        assert not frozen or parameter.grad is None
    # Six steps, and a validation after the fourth.
    training, validating = (False, False, False, True), (False, False, False, False)
    assert modes == [training] * 4 + [validating] + [training] * 2


def test_every_trained_parameter_gets_a_gradient(make: Make) -> None:
    module = make()
    with torch.no_grad():
        module.model.head.no_condition.normal_()
    generator = torch.Generator().manual_seed(0)
    losses = module.losses(module.bank.batch(32, 0, 0), module.prompts, generator)
    (losses["diffusion"] + losses["length"]).backward()
    silent = {n for n, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert silent == set()
    assert all(p.grad is None for p in [*module.model.backbone.parameters(), *module.model.vae.parameters()])


@pytest.mark.slow
def test_the_language_model_is_in_no_checkpoint(make: Make) -> None:
    module = make()
    names = set(module.state_dict())
    assert not any(name.startswith("model.backbone.") for name in names)
    assert {"model.queries", "model.head.final.weight", "model.vae.latent_std"} <= names
    fit(module, progress=False)
    saved = torch.load(Path(module.run.out) / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == names


@pytest.mark.slow
def test_overfitting_lowers_the_loss(make: Make) -> None:
    module = make(steps=80, checkpoint_minutes=60.0, learning_rate=5e-3, batch=8, ema=0.9)
    generator = torch.Generator().manual_seed(0)
    batch = module.bank.batch(64, 9, 0)
    with torch.no_grad():
        before = module.losses(batch, module.prompts, generator)
    fit(module, progress=False)
    with torch.no_grad():
        after = module.losses(batch, module.prompts, generator.manual_seed(0))
    assert after["diffusion"] < 0.9 * before["diffusion"]
    assert after["length"] < 0.9 * before["length"]


def test_the_length_head_is_taught_by_whole_clips_alone(make: Make) -> None:
    from dataclasses import replace

    module = make()
    batch = module.bank.batch(16, 0, 0)
    assert 0 < batch.whole.sum() < 16

    def loss(whole: Tensor) -> Tensor:
        return module.losses(replace(batch, whole=whole), module.prompts, torch.Generator().manual_seed(0))["length"]

    with torch.no_grad():
        cache, start = module.prompts.read(batch.captions)
        logits, _ = module.model.run_queries(cache, start, batch.frames)
        classes = (batch.frames + 3) // 4 - 1
        each = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
        assert loss(batch.whole).item() == pytest.approx(each[batch.whole].mean().item(), rel=1e-5)
        assert loss(torch.zeros_like(batch.whole)).item() == 0
        # The class that is taught is the one that means this duration.
        certain = torch.nn.functional.one_hot(classes, logits.shape[1])
        frames = module.model.predicted_frames(certain)
    assert (frames - batch.frames).min() >= 0
    assert (frames - batch.frames).max() < 4


@pytest.mark.slow
def test_validation_is_the_same_each_time(make: Make) -> None:
    module = make(learning_rate=0.0, steps=4, validate_every=2)
    logged: list[dict[str, float]] = []
    module.log = lambda name, value, **_: logged.append({name: float(torch.as_tensor(value).detach())})  # type: ignore[method-assign]
    fit(module, progress=False)
    seen = [entry for entry in logged if next(iter(entry)).startswith("val/")]
    assert len(seen) == 4
    assert seen[:2] == seen[2:]


def test_a_bad_batch_is_named(make: Make) -> None:
    module = make()
    module.bank.mean[:] = float("nan")
    with pytest.raises(MotionGPT3Error, match=r"step 0 is not finite; the batch held clip_\d+, clip_\d+, ") as caught:
        fit(module, progress=False)
    assert "\n" not in str(caught.value)


def test_sizes_follow_the_vae(make: Make, vae_folder: Path) -> None:
    model = make().model
    assert model.config.vae.latent_channels == 4
    assert (model.config.head.latent_tokens, model.config.head.latent_channels) == (2, 4)
    assert (model.config.head.queries, model.config.head.hidden) == (2, 16)
    assert model.vae.latent_std.unique().tolist() == [0.5]


@pytest.mark.parametrize("config", [{}, {"vae": 3}, {"vae": {"layers": "x"}}, {"vae": {"colour": 1}}])
def test_a_folder_that_is_no_vae_is_one_line(stage1: Callable, tmp_path: Path, config: dict[str, Any]) -> None:
    write_folder(tmp_path / "vae", config, {})
    with pytest.raises(MotionGPT3Error) as caught:
        build_model(stage1().model, tmp_path / "vae")
    assert "\n" not in str(caught.value)


CAPTIONS = ["a person walks.", "jumps.", "somebody runs left and then waves right .", "a person jumps and jumps."]


@pytest.fixture
def model(stage1: Callable) -> MotionGPT3:
    config = stage1()
    return build_model(config.model, config.vae).eval()


@pytest.fixture
def fills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts were computed each time a store was filled."""
    seen: list[int] = []
    fill = PromptCache._fill
    monkeypatch.setattr(PromptCache, "_fill", lambda self, store: (seen.append(len(self.tokens)), fill(self, store))[1])
    return seen


def same(a: tuple[KVCache, torch.Tensor], b: tuple[KVCache, torch.Tensor], tolerance: float) -> None:
    assert a[1].tolist() == b[1].tolist()
    first, second = a[0].tensors(), b[0].tensors()
    mask = first["mask"]
    assert torch.equal(mask, second["mask"])
    assert torch.equal(first["positions"][mask], second["positions"][mask])
    for name in ("keys", "values"):
        for x, y in zip(first[name].transpose(1, 2)[mask], second[name].transpose(1, 2)[mask], strict=True):
            torch.testing.assert_close(x.float(), y.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("rows", [[0], [2, 0], [1, 1, 3, 2]])
def test_what_is_stored_is_what_would_be_computed(model: MotionGPT3, tmp_path: Path, rows: list[int]) -> None:
    stored, computed = PromptCache(model, CAPTIONS, tmp_path / "t.bin"), PromptCache(model, CAPTIONS, None)
    same(stored.read(rows), computed.read(rows), 2e-2)  # bfloat16
    same(computed.read(rows), model.encode_text(model.tokens([CAPTIONS[i] for i in rows])), 0)
    frames = torch.full((len(rows),), 24)
    with torch.no_grad():
        hidden = [model.run_queries(*cache.read(rows), frames)[1] for cache in (stored, computed)]
    torch.testing.assert_close(hidden[0], hidden[1], atol=5e-2, rtol=5e-2)


def test_it_is_computed_once(model: MotionGPT3, tmp_path: Path, fills: list[int]) -> None:
    file = tmp_path / "folder" / "t.bin"
    first = PromptCache(model, CAPTIONS, file).read([0, 1, 2, 3])
    same(PromptCache(model, CAPTIONS, file).read([0, 1, 2, 3]), first, 0)
    assert fills == [4]


def test_other_captions_make_it_anew(model: MotionGPT3, tmp_path: Path, fills: list[int]) -> None:
    """Also captions with as many tokens, fewer captions, and more."""
    file = tmp_path / "t.bin"
    PromptCache(model, CAPTIONS, file)
    for captions in (CAPTIONS[::-1], CAPTIONS[:1], ["a person runs."], [*CAPTIONS, *CAPTIONS]):
        rows = list(range(len(captions)))
        same(PromptCache(model, captions, file).read(rows), PromptCache(model, captions, None).read(rows), 2e-2)
    assert fills == [4, 4, 1, 1, 8]


def test_another_language_model_makes_it_anew(model: MotionGPT3, tmp_path: Path, fills: list[int]) -> None:
    PromptCache(model, CAPTIONS, tmp_path / "t.bin")
    model.backbone.sha256 = "0" * 64
    with torch.no_grad():
        model.backbone.embedding.mul_(-1)
    same(
        PromptCache(model, CAPTIONS, tmp_path / "t.bin").read([0, 1]),
        PromptCache(model, CAPTIONS, None).read([0, 1]),
        2e-2,
    )
    assert fills == [4, 4]


def test_one_that_was_interrupted_is_made_anew(
    model: MotionGPT3, tmp_path: Path, fills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the store of these captions was being overwritten by another's."""
    file = tmp_path / "t.bin"
    PromptCache(model, CAPTIONS, file)
    encode_text = MotionGPT3.encode_text

    def dies(self: MotionGPT3, tokens: list) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MotionGPT3, "encode_text", dies)
    with pytest.raises(KeyboardInterrupt):
        PromptCache(model, ["jumps."], file)
    monkeypatch.setattr(MotionGPT3, "encode_text", encode_text)
    same(PromptCache(model, CAPTIONS, file).read([0, 1]), PromptCache(model, CAPTIONS, None).read([0, 1]), 2e-2)
    assert fills == [4, 1, 4]


def test_no_gradient_reaches_the_language_model(model: MotionGPT3, tmp_path: Path) -> None:
    for file in (tmp_path / "t.bin", None):
        cache, _ = PromptCache(model, CAPTIONS, file).read([0, 1])
        assert not any(tensor.requires_grad for tensor in cache.tensors().values())


def test_fingerprints() -> None:
    rows = [[1, 2], [3]]
    assert hash_tokens(rows) == hash_tokens([(1, 2), (3,)])
    assert len({hash_tokens(r) for r in (rows, [[1], [2, 3]], [[12], [3]], [[3], [1, 2]], [[1, 2, 3]])}) == 5


@pytest.fixture
def few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred batches of latents would be most of the time here."""
    monkeypatch.setattr(VAETraining, "measure_latents", partialmethod(VAETraining.measure_latents, batches=5))


@pytest.fixture
def vae_config(packed: Path, sizes: VAEConfig, run: Callable, few_batches: None) -> Callable[..., VAETrainingConfig]:
    return lambda name="vae", **changes: VAETrainingConfig(run(name, **changes), [packed], sizes, batch=4)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_vae_can_start_from_another(vae_config: Callable) -> None:
    first = train_vae(vae_config("first"), progress=False)
    same = train_vae(vae_config("same", learning_rate=0.0), start=first, progress=False)
    weights, others = load_file(first / "model.safetensors"), load_file(same / "model.safetensors")
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.slow
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


@pytest.mark.slow
def test_starting_from_what_does_not_fit(vae_config: Callable, stage1: Callable, tmp_path: Path) -> None:
    for train, config in ((train_vae, vae_config()), (train_stage1, stage1())):
        with pytest.raises(MotionGPT3Error, match="no model folder"):
            train(config, start=tmp_path / "nowhere", progress=False)
        with pytest.raises(MotionGPT3Error, match="nothing to resume"):
            train(config, resume=True, progress=False)
