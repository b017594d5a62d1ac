"""MotionGPT3 as a whole: prompt and seed alone decide; folders bring a model back or say why not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import VAE, build

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion

PROMPTS = ["a person walks forward", "jumps", "somebody runs left and then waves ."]


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> MotionGPT3:
    return build(tiny_backbone)


@pytest.fixture
def folder(model: MotionGPT3, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def distance(a: Motion, b: Motion) -> float:
    return float(np.abs(a.joints - b.joints).max())


def test_one_prompt_is_one_motion(model: MotionGPT3) -> None:
    motion = model.generate("A person walks", seconds=1.5)
    assert isinstance(motion, Motion)
    assert motion.joints.shape == (30, 22, 3)
    assert motion.fps == 20
    assert motion.caption == "A person walks"
    for several in (model.generate(["a person walks"], 1), model.generate("a person walks", 1, samples=2)):
        assert isinstance(several, list)
    assert len(model.generate(["jumps"], 1, 3)) == 3


def test_a_flat_list_prompt_by_prompt(model: MotionGPT3) -> None:
    together = model.generate(PROMPTS, seconds=1, samples=2, seed=5)
    assert [m.caption for m in together] == [p for p in PROMPTS for _ in range(2)]
    for i, prompt in enumerate(PROMPTS):
        for k in range(2):
            alone = model.generate(prompt, seconds=1, seed=5 + k)
            assert distance(alone, together[2 * i + k]) < 1e-4
    everything = [m.joints for m in together]
    assert min(np.abs(a - b).max() for i, a in enumerate(everything) for b in everything[:i]) > 1e-3


def test_more_than_one_batch(model: MotionGPT3) -> None:
    """Prompts and samples in batches of 32 are still prompt by prompt, and progress sees the batches."""
    seen: list[int] = []

    def watch(batches: Any) -> Any:
        seen.extend(len(batch) for batch in batches)
        return iter(batches)

    together = model.generate(PROMPTS, seconds=0.5, samples=15, seed=2, steps=1, progress=watch)
    assert seen == [32, 13]
    for number in (0, 14, 15, 31, 32, 44):
        alone = model.generate(PROMPTS[number // 15], 0.5, seed=2 + number % 15, steps=1)
        assert distance(alone, together[number]) < 1e-4


def test_every_prompt_may_have_its_own_duration_and_seed(model: MotionGPT3) -> None:
    seconds, seeds = [1.5, None, 0.5, None], [7, 0, 7, 3]
    prompts = ["walks", "jumps", "walks", "walks"]
    together = model.generate(prompts, seconds=seconds, seed=seeds, samples=2)
    for number, motion in enumerate(together):
        i, k = divmod(number, 2)
        alone = model.generate(prompts[i], seconds=seconds[i], seed=seeds[i] + k)
        assert len(alone) == len(motion)
        assert distance(alone, motion) < 1e-4
        assert (motion.caption, motion.name) == (prompts[i], f"seed {seeds[i] + k}")


def test_the_same_seed_gives_the_same_motion(model: MotionGPT3) -> None:
    first = model.generate("jumps", seed=3)
    torch.manual_seed(99)
    assert np.array_equal(model.generate("jumps", seed=3).joints, first.joints)
    assert not np.array_equal(model.generate("jumps", seed=4).joints[: len(first)], first.joints)


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.5, 1.0, 1.02, 2.999, 3])
def test_the_duration_is_exact_to_a_frame(model: MotionGPT3, seconds: float) -> None:
    assert len(model.generate("walks", seconds=seconds)) == max(1, round(seconds * 20))


def test_length_words_are_followed_where_no_seconds_are_given(model: MotionGPT3) -> None:
    """In one call with prompts that leave the length open, and in their order."""
    prompts = ["walks for two seconds", "jumps", "sits with 25 frames", "takes three steps"]
    motions = model.generate(prompts, seed=4, samples=2)
    assert [m.caption for m in motions] == [p for p in prompts for _ in range(2)]
    assert [len(m) for m in motions[:2] + motions[4:6]] == [40, 40, 25, 25]
    for prompt, motion in zip(prompts, motions[::2], strict=True):
        assert distance(model.generate(prompt, seed=4), motion) < 1e-4
    assert len(model.generate("walks for two seconds", seconds=1)) == 20
    with pytest.raises(MotionGPT3Error, match=r"in the prompt 'walks for one minute.' must be .* at most 3, not 60"):
        model.generate(["jumps", "walks for one minute"])


def test_a_short_motion_starts_as_a_longer_one_of_a_second(model: MotionGPT3) -> None:
    """Shorter than a second is not in the training data: a second is made and cut."""
    assert distance(model.generate("walks", 0.3), model.generate("walks", 1.0)[:6]) < 1e-6


@pytest.mark.parametrize("wanted", [3, 9, 14])
def test_the_length_head_decides_when_nobody_else_does(model: MotionGPT3, wanted: int) -> None:
    kept = model.predict_length.bias.detach().clone()
    try:
        with torch.no_grad():
            model.predict_length.bias[wanted] += 1000
        for motion in model.generate(PROMPTS):
            assert len(motion) == 4 * (wanted + 1)
            assert distance(motion, model.generate(motion.caption, seconds=(wanted + 1) / 5)) < 1e-4 or wanted < 4
    finally:
        with torch.no_grad():
            model.predict_length.bias.copy_(kept)


def test_asking_for_the_predicted_length_changes_nothing(model: MotionGPT3) -> None:
    with torch.no_grad():
        tokens = model.tokens(PROMPTS)
        logits, hidden = model.run_queries(*model.encode_text(tokens), None)
        again, same = model.run_queries(*model.encode_text(tokens), model.predicted_frames(logits))
        other, different = model.run_queries(*model.encode_text(tokens), model.predicted_frames(logits) % 50 + 9)
    torch.testing.assert_close(again, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(same, hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other, logits, atol=1e-5, rtol=1e-5)  # the length is decided before it is known
    assert not torch.allclose(different, hidden, atol=1e-3)


def test_the_words_decide_what_motion_queries_become(model: MotionGPT3) -> None:
    with torch.no_grad():
        tokens = model.tokens(PROMPTS)
        frames = torch.tensor([20, 40, 60])
        _, together = model.run_queries(*model.encode_text(tokens), frames)
        for i in range(3):
            _, alone = model.run_queries(*model.encode_text(tokens[i : i + 1]), frames[i : i + 1])
            torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-4)
        _, swapped = model.run_queries(*model.encode_text(tokens[1:] + tokens[:1]), frames)
    assert (swapped - together).abs().amax((1, 2)).min() > 1e-3
    assert all(row[-1] == model.backbone.start_of_motion for row in tokens)


def test_guidance_and_steps_count(model: MotionGPT3) -> None:
    base = model.generate("jumps", 1)
    assert distance(model.generate("jumps", 1, guidance=model.config.guidance, steps=model.config.steps), base) == 0
    assert distance(model.generate("jumps", 1, guidance=1.0), base) > 1e-4
    assert distance(model.generate("jumps", 1, steps=7), base) > 1e-4


def test_bones_have_their_lengths(model: MotionGPT3) -> None:
    motion = model.generate("jumps", 2)
    bones = np.linalg.norm(motion.joints[:, 1:] - motion.joints[:, list(motion.skeleton.parents[1:])], axis=-1)
    np.testing.assert_allclose(bones, np.broadcast_to(motion.skeleton.bone_lengths[1:], bones.shape), atol=1e-4)


def test_a_folder_brings_the_model_back_bitwise(model: MotionGPT3, folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    stored = load_file(folder / "model.safetensors")
    assert {name for name in stored if name.startswith("backbone.")} == {"backbone.special"}
    again = MotionGPT3.from_pretrained(folder)
    assert not again.training
    assert again.config == model.config
    state, other = model.state_dict(), again.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) and not other[name].is_meta for name in state)
    assert {t.dtype for t in other.values()} == {torch.float32}
    a, b = (m.generate(PROMPTS, samples=2) for m in (model, again))
    assert a == b
    again.save_pretrained(folder.parent / "again")
    for name in ("config.json", "model.safetensors"):
        assert (folder.parent / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_the_language_model_can_be_included_trained_or_not(tiny_backbone: Path, tmp_path: Path) -> None:
    model = build(tiny_backbone)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 1e-3)  # no longer bfloat16 numbers
    model.save_pretrained(tmp_path, include_backbone=True)
    again = MotionGPT3.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_make_nearly_the_same_motion(
    model: MotionGPT3, tmp_path: Path, dtype: torch.dtype
) -> None:
    model.save_pretrained(tmp_path / "full")
    model.save_pretrained(tmp_path / "half", dtype=dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    again = MotionGPT3.from_pretrained(tmp_path / "half")
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert distance(again.generate("jumps", 1), model.generate("jumps", 1)) < 0.2


@pytest.mark.parametrize("damage", ["truncated", "nan", "missing", "shape", "extra", "config", "json", "pickle"])
def test_a_damaged_folder_is_one_line(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "config":
        (folder / "config.json").unlink()
    elif damage == "json":
        (folder / "config.json").write_text('{"format": 1,')
    elif damage == "pickle":
        torch.save({"queries": torch.zeros(1)}, path)
    else:
        tensors = load_file(path)
        name = "head.final.weight"
        if damage == "nan":
            tensors[name][0, 0] = float("nan")
        elif damage == "missing":
            del tensors[name]
        elif damage == "shape":
            tensors[name] = tensors[name][1:].clone()
        else:
            tensors["head.virus"] = torch.zeros(1)
        save_file(tensors, path)
    with pytest.raises(MotionGPT3Error) as caught:
        MotionGPT3.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_another_language_model_is_refused(model: MotionGPT3, folder: Path, tiny_backbone: Path) -> None:
    other = folder.parent / "backbone"
    shutil.copytree(tiny_backbone, other)
    weights = load_file(other / "model.safetensors")
    next(iter(weights.values())).add_(1)
    save_file(weights, other / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"backbone": str(other)}))
    with pytest.raises(MotionGPT3Error, match="sha256"):
        MotionGPT3.from_pretrained(folder)


def test_no_such_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (tmp_path / "nowhere", "no-one/no-such-model"):
        with pytest.raises(MotionGPT3Error, match="no model") as caught:
            MotionGPT3.from_pretrained(name)
        assert "\n" not in str(caught.value)


def test_pushing_to_the_hub_sends_a_folder_that_loads(
    model: MotionGPT3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    class Repo:
        repo_id = "me/mine"

    def upload(self: HfApi, *, folder_path: Path, **options: Any) -> str:
        shutil.copytree(folder_path, tmp_path / "hub")
        return options["repo_id"]

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: Repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    model.push_to_hub("me/mine", token="hf_none")
    assert MotionGPT3.from_pretrained(tmp_path / "hub").config == model.config


def test_pushing_sends_what_was_asked_for(model: MotionGPT3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    class Repo:
        repo_id = "me/mine"

    def upload(self: HfApi, *, folder_path: str, **options: Any) -> str:
        shutil.copytree(folder_path, tmp_path / "hub")
        return options["repo_id"]

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: Repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    model.save_pretrained(
        tmp_path / "here", include_backbone=True, dtype=torch.float16, push_to_hub=True, repo_id="me/mine"
    )
    here, hub = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("here", "hub"))
    assert here == hub


def test_a_hub_out_of_reach_is_one_line(model: MotionGPT3, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(HfApi, "create_repo", fail)
    with pytest.raises(MotionGPT3Error, match=r"^cannot push to 'me/mine' on the hub \(no\)$"):
        model.push_to_hub("me/mine", token="hf_none")


def test_no_such_device(folder: Path) -> None:
    for device in ("cuda:77", "abacus"):
        with pytest.raises(MotionGPT3Error, match="cannot use the device"):
            MotionGPT3.from_pretrained(folder, device=device)


@pytest.mark.parametrize("least", [4, 20, 5000])
def test_a_moment_is_the_beginning_of_a_longer_motion(tiny_backbone: Path, least: int) -> None:
    model = build(tiny_backbone, vae=replace(VAE, min_frames=least))
    moment = model.generate("jumps", seconds=0.15)
    whole = model.generate("jumps", seconds=max(3, min(least, 60)) / 20)
    assert len(moment) == 3
    assert np.abs(moment.joints - whole.joints[:3]).max() < 1e-4 or least == 4
