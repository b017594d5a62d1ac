"""The pool of made examples: the same whatever the number of workers, and a packed file like any other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from motiongpt3.data.batch import ClipBank
from motiongpt3.data.dataset import Clip, PackedClips
from motiongpt3.data.pool import PoolSizes, make_pool
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import features_to_joints, joints_to_features

SHORTS = ["walk forward", "run forward", "wave right hand", "jump", "squat", "stand"]


SIZES = PoolSizes(joined=2, layered=1, extended=101, relaxed=1)


@pytest.fixture
def source(walk: Callable, tmp_path: Path) -> PackedClips:
    """Two clips of each of six actions, and one of the val split that must not be used."""

    def records():
        for i, short in enumerate([*SHORTS, *SHORTS, "walk forward"]):
            joints = walk(50 + i, seed=i)
            features = joints_to_features(torch.from_numpy(joints)).numpy()
            verb = short.split()[0]
            captions = (f"a person {verb}s.", f"someone {verb}s.")
            split, license = "train" if i < 12 else "val", "MIT" if i < 6 else "CC0-1.0"
            clip = Clip(f"c_{i}", split, 0, len(joints), captions, (True, True), "s", license, short, short)
            yield clip, features, joints

    return PackedClips.write(tmp_path / "packed.safetensors", records())


class Here(nullcontext):
    """In place of worker processes: this one."""

    map = staticmethod(map)


def test_a_pool_is_the_same_whoever_makes_it(
    source: PackedClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spawned workers hash words differently each time, so this also shows that no order depends on it."""
    made = [make_pool(source.path, tmp_path / "two.safetensors", SIZES, seed=3, workers=2)]
    monkeypatch.setattr("motiongpt3.data.pool.ProcessPoolExecutor", lambda *_, **__: Here(Here))
    made += [make_pool(source.path, tmp_path / "none.safetensors", SIZES, seed=3)]
    assert made[0].path.read_bytes() == made[1].path.read_bytes()
    pool = made[0]
    kinds = [clip.label for clip in pool.clips]
    assert kinds.count("extended") == 101
    assert kinds.count("joined") == 2
    assert len({clip.id for clip in pool.clips}) == len(pool)
    assert all(clip.id.startswith(f"pool_{clip.label}_") for clip in pool.clips)
    assert {clip.split for clip in pool.clips} == {"train"}
    assert np.array_equal(pool.mean, source.mean)
    assert np.array_equal(pool.std, source.std)
    for i, clip in enumerate(pool.clips):
        assert clip.captions
        assert not any(clip.crop_safe)
        assert clip.frames <= 200
        features, joints = torch.from_numpy(pool.clip_features(i).copy()), torch.from_numpy(pool.clip_joints(i).copy())
        assert torch.isfinite(features).all()
        if i % 20 == 0:
            torch.testing.assert_close(features_to_joints(features), joints, atol=2e-2, rtol=0)
    # Chunks of a hundred are different examples, not the same again.
    extended = [pool.clip_joints(i) for i, clip in enumerate(pool.clips) if clip.label == "extended"]
    assert not any(np.array_equal(extended[0], other) for other in extended[100:])


def test_a_pool_carries_the_licences_of_what_it_was_made_from(
    source: PackedClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motiongpt3.data.pool.ProcessPoolExecutor", lambda *_, **__: Here(Here))
    few = PoolSizes(joined=1, layered=0, extended=1, relaxed=0)
    both = make_pool(source.path, tmp_path / "both.safetensors", few)
    assert {clip.license for clip in both.clips} == {"CC0-1.0 + MIT"}
    free = make_pool(source.path, tmp_path / "free.safetensors", few, licenses=["CC0-1.0"])
    assert {clip.license for clip in free.clips} == {"CC0-1.0"}
    assert len(ClipBank([source, free], "train", ["CC0-1.0"])) == 6 + len(free)
    with pytest.raises(MotionGPT3Error, match="both"):
        ClipBank([source, both], "train", ["CC0-1.0"])


def test_licences_without_clips(source: PackedClips, tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="no train clips"):
        make_pool(source.path, tmp_path / "pool.safetensors", SIZES, licenses=["GPL"])
    assert [path.name for path in tmp_path.iterdir()] == ["packed.safetensors"]
