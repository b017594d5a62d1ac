"""Cached keys and values: the same as computed anew, made again whenever the prompts or the language model change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from motiongpt3.models.kv_cache import KVCache
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.training.stage1 import build_model
from motiongpt3.training.text_cache import TextCache, hash_tokens

CAPTIONS = ["a person walks.", "jumps.", "somebody runs left and then waves right .", "a person jumps and jumps."]


@pytest.fixture
def model(stage1: Callable) -> MotionGPT3:
    config = stage1()
    return build_model(config.model, config.vae).eval()


@pytest.fixture
def fills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts were computed each time a store was filled."""
    seen: list[int] = []
    fill = TextCache._fill
    monkeypatch.setattr(TextCache, "_fill", lambda self, store: (seen.append(len(self.tokens)), fill(self, store))[1])
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
    stored, computed = TextCache(model, CAPTIONS, tmp_path / "t.bin"), TextCache(model, CAPTIONS, None)
    same(stored.read(rows), computed.read(rows), 2e-2)  # bfloat16
    same(computed.read(rows), model.read(model.tokens([CAPTIONS[i] for i in rows])), 0)
    frames = torch.full((len(rows),), 24)
    with torch.no_grad():
        hidden = [model.think(*cache.read(rows), frames)[1] for cache in (stored, computed)]
    torch.testing.assert_close(hidden[0], hidden[1], atol=5e-2, rtol=5e-2)


def test_it_is_computed_once(model: MotionGPT3, tmp_path: Path, fills: list[int]) -> None:
    file = tmp_path / "folder" / "t.bin"
    first = TextCache(model, CAPTIONS, file).read([0, 1, 2, 3])
    same(TextCache(model, CAPTIONS, file).read([0, 1, 2, 3]), first, 0)
    assert fills == [4]


def test_other_captions_make_it_anew(model: MotionGPT3, tmp_path: Path, fills: list[int]) -> None:
    """Also captions with as many tokens, fewer captions, and more."""
    file = tmp_path / "t.bin"
    TextCache(model, CAPTIONS, file)
    for captions in (CAPTIONS[::-1], CAPTIONS[:1], ["a person runs."], [*CAPTIONS, *CAPTIONS]):
        rows = list(range(len(captions)))
        same(TextCache(model, captions, file).read(rows), TextCache(model, captions, None).read(rows), 2e-2)
    assert fills == [4, 4, 1, 1, 8]


def test_another_language_model_makes_it_anew(model: MotionGPT3, tmp_path: Path, fills: list[int]) -> None:
    TextCache(model, CAPTIONS, tmp_path / "t.bin")
    model.backbone.sha256 = "0" * 64
    with torch.no_grad():
        model.backbone.embedding.mul_(-1)
    same(
        TextCache(model, CAPTIONS, tmp_path / "t.bin").read([0, 1]), TextCache(model, CAPTIONS, None).read([0, 1]), 2e-2
    )
    assert fills == [4, 4]


def test_one_that_was_interrupted_is_made_anew(
    model: MotionGPT3, tmp_path: Path, fills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the store of these captions was being overwritten by another's."""
    file = tmp_path / "t.bin"
    TextCache(model, CAPTIONS, file)
    read = MotionGPT3.read

    def dies(self: MotionGPT3, tokens: list) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MotionGPT3, "read", dies)
    with pytest.raises(KeyboardInterrupt):
        TextCache(model, ["jumps."], file)
    monkeypatch.setattr(MotionGPT3, "read", read)
    same(TextCache(model, CAPTIONS, file).read([0, 1]), TextCache(model, CAPTIONS, None).read([0, 1]), 2e-2)
    assert fills == [4, 1, 4]


def test_no_gradient_reaches_the_language_model(model: MotionGPT3, tmp_path: Path) -> None:
    for file in (tmp_path / "t.bin", None):
        cache, _ = TextCache(model, CAPTIONS, file).read([0, 1])
        assert not any(tensor.requires_grad for tensor in cache.tensors().values())


def test_fingerprints() -> None:
    rows = [[1, 2], [3]]
    assert hash_tokens(rows) == hash_tokens([(1, 2), (3,)])
    assert len({hash_tokens(r) for r in (rows, [[1], [2, 3]], [[12], [3]], [[3], [1, 2]], [[1, 2, 3]])}) == 5
