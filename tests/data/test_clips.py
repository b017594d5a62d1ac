"""The packed file: what is written is read, lazily; damage is one clear line; nothing half-written stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from motiongpt3.data.clips import Clip, PackedClips, Statistics
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import joints_to_features


@pytest.fixture
def some_clips(walk: Callable) -> Callable:
    def make(count: int = 3):
        for number in range(count):
            joints = walk(20 + number, seed=number)
            features = joints_to_features(torch.from_numpy(joints)).numpy()
            split = "train" if number else "val"
            yield Clip(f"c{number}", split, 0, len(joints), ("a walk – é",), (True,), license="MIT"), features, joints

    return make


@pytest.fixture
def packed(some_clips: Callable, tmp_path: Path) -> PackedClips:
    return PackedClips.write(tmp_path / "p.safetensors", some_clips())


def test_everything_comes_back(some_clips: Callable, packed: PackedClips) -> None:
    again = PackedClips.open(packed.path)
    assert [clip.start for clip in again.clips] == [0, 20, 41]
    assert again.split("train") == [1, 2]
    assert again.split("test") == []
    assert (again.fps, len(again.skeleton)) == (20.0, 22)
    for index, (clip, features, joints) in enumerate(some_clips()):
        assert again.clips[index].captions == clip.captions
        assert np.array_equal(again.clip_features(index), features)
        assert np.array_equal(again.clip_joints(index), joints)


def test_arrays_are_mapped_and_read_only(packed: PackedClips) -> None:
    assert isinstance(packed.features, np.memmap)
    assert isinstance(packed.clip_joints(1), np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        packed.features[0, 0] = 1


def test_it_is_a_safetensors_file(packed: PackedClips) -> None:
    tensors = safetensors.numpy.load_file(packed.path)
    assert set(tensors) == {"features", "joints", "mean", "std"}
    assert np.array_equal(tensors["features"], packed.features)


def test_statistics_are_those_of_the_train_clips(some_clips: Callable, packed: PackedClips) -> None:
    train = np.concatenate([features for clip, features, _ in some_clips() if clip.split == "train"])
    assert np.allclose(packed.mean, train.mean(0), atol=1e-5)
    assert np.allclose(packed.std[4:67], train[:, 4:67].std(0).mean(), atol=1e-5)
    assert len({float(value) for value in packed.std}) <= 7
    assert packed.std.min() > 0


def test_a_group_that_never_changes_keeps_deviation_one() -> None:
    totals = Statistics()
    totals.add(np.ones((10, 263), np.float32), "train")
    mean, std = totals.result()
    assert np.array_equal(mean, np.ones(263, np.float32))
    assert np.array_equal(std, np.ones(263, np.float32))


def test_an_interrupted_write_leaves_the_old_file(some_clips: Callable, packed: PackedClips) -> None:
    before = packed.path.read_bytes()

    def interrupted():
        yield from some_clips(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PackedClips.write(packed.path, interrupted())
    assert packed.path.read_bytes() == before
    assert list(packed.path.parent.iterdir()) == [packed.path]


def test_clips_that_do_not_fit_are_refused(some_clips: Callable, tmp_path: Path) -> None:
    clip, features, joints = next(some_clips(1))
    with pytest.raises(MotionGPT3Error, match="must have shapes"):
        PackedClips.write(tmp_path / "p.safetensors", [(clip, features[1:], joints)])
    with pytest.raises(MotionGPT3Error, match="no clips"):
        PackedClips.write(tmp_path / "p.safetensors", [])
    assert not list(tmp_path.iterdir())


def damage(path: Path, change) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.pop("features"),
        lambda h: h.pop("__metadata__"),
        lambda h: h["__metadata__"].update(format="other"),
        lambda h: h["__metadata__"].update(clips="[{}]"),
        lambda h: h["__metadata__"].update(clips="[" * 100_000),
        lambda h: h["__metadata__"].update(fps="nan"),
        lambda h: h["__metadata__"].update(skeleton='{"names": ["a"]}'),
        lambda h: h["features"].update(shape=[10**12, 263]),
        lambda h: h["features"].update(dtype="F16"),
        lambda h: h["features"].update(data_offsets=[0, 2**62]),
        lambda h: h["joints"].update(data_offsets="ab"),
        lambda h: h["joints"].update(shape=[-1, 22, 3]),
        lambda h: h["__metadata__"].update(clips=h["__metadata__"]["clips"].replace('"frames": 21', '"frames": 2100')),
    ],
)
def test_a_damaged_file_is_one_clear_line(packed: PackedClips, change) -> None:
    damage(packed.path, change)
    with pytest.raises(MotionGPT3Error, match="damaged") as error:
        PackedClips.open(packed.path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_file_is_one_clear_line(packed: PackedClips, size: int) -> None:
    packed.path.write_bytes(packed.path.read_bytes()[:size])
    with pytest.raises(MotionGPT3Error, match="damaged"):
        PackedClips.open(packed.path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match="data prepare"):
        PackedClips.open(tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        {"id": "a", "split": "dev", "frames": 3},
        {"id": "a", "split": "train", "frames": 0},
        {"id": "a", "split": "train", "frames": "9"},
        {"id": 7, "split": "train", "frames": 3},
        {"id": "a", "split": "train", "frames": 3, "captions": "walk"},
        {"id": "a", "split": "train", "frames": 3, "captions": [1]},
        {"id": "a", "split": "train", "frames": 3, "captions": ["x"], "crop_safe": [True, True]},
        {"split": "train", "frames": 3},
    ],
)  # fmt: skip
def test_bad_records_are_refused(record: dict) -> None:
    with pytest.raises(MotionGPT3Error):
        Clip.from_record(record, start=0)
