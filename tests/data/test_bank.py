"""Batches: a function of seed and step alone, cut and mirrored as they say, zero past the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import Clip, PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.features import mirror_features

FRAMES = (24, 60, 8, 230)


def pack(path: Path, frames: tuple[int, ...] = FRAMES, name: str = "walk", license: str = "MIT") -> PackedClips:
    """Clip i's frame t holds 1000 i + t in every channel, so every frame says where it is from."""

    def clips():
        for split in ("train", "val"):
            for i, count in enumerate(frames):
                features = np.repeat(1000.0 * i + np.arange(count), 263).reshape(count, 263).astype(np.float32)
                clip = Clip(f"{name}_{split}_{i}", split, 0, count, ("a walk.",), (True,), license=license)
                yield clip, features + (0.5 if split == "val" else 0), np.zeros((count, 22, 3), np.float32)

    return PackedClips.write(path, clips())


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> ClipBank:
    return ClipBank([pack(tmp_path_factory.mktemp("pack") / "p.safetensors")], "train")


def test_a_batch_depends_on_seed_and_step_alone(bank: ClipBank, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = bank.batch(16, 3, 7)
    torch.manual_seed(2)
    bank.batch(16, 3, 6)
    again = ClipBank([pack(tmp_path / "p.safetensors")], "train").batch(16, 3, 7)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    for other in (bank.batch(16, 3, 8), bank.batch(16, 4, 7)):
        assert not torch.equal(other.clips, first.clips) or not torch.equal(other.lengths, first.lengths)


@pytest.mark.slow
def test_a_batch_is_what_it_says(bank: ClipBank) -> None:
    whole, mirrored, clips = 0, 0, Counter()
    lengths: dict[int, set[int]] = {i: set() for i in range(4)}
    starts: dict[int, set[int]] = {i: set() for i in range(4)}
    for step in range(20):
        batch = bank.batch(32, 0, step, max_frames=200)
        assert batch.features.shape == (32, int(batch.lengths.max()), 263)
        columns = (column.tolist() for column in (batch.lengths, batch.clips, batch.mirrored, batch.whole))
        for row, length, clip, swapped, entire in zip(batch.features, *columns, strict=True):
            real = mirror_features(row[:length]) if swapped else row[:length]
            start = int(real[0, 0]) - 1000 * clip
            expected = 1000 * clip + start + torch.arange(length)
            assert torch.equal(real, expected[:, None].expand(-1, 263).float())
            assert 0 <= start <= FRAMES[clip] - length
            assert (row[length:] == 0).all()
            assert entire == (length == FRAMES[clip])
            assert min(20, FRAMES[clip]) <= length <= 200
            lengths[clip].add(length)
            starts[clip].add(start)
            whole, mirrored = whole + entire, mirrored + swapped
            clips[clip] += 1
    assert 0.4 < mirrored / 640 < 0.6
    assert {20, 24} <= lengths[0]
    assert lengths[2] == {8}
    assert 200 in lengths[3]
    assert len(lengths[3]) > 20
    assert {0, 30} & starts[3]
    assert len(starts[3]) > 20
    assert clips[3] > clips[1] > clips[0] > clips[2] * 0.9  # longer clips hold more


def test_nothing_is_cut_unless_asked(bank: ClipBank) -> None:
    batch = bank.batch(64, 0, 0, max_frames=300, crop=0)
    assert batch.whole.all()
    assert batch.lengths.tolist() == [FRAMES[i] for i in batch.clips.tolist()]


def test_taking_by_hand(bank: ClipBank) -> None:
    clips, offsets, lengths = torch.tensor([3, 2]), torch.tensor([225, 0]), torch.tensor([5, 8])
    taken = bank.take(clips, offsets, lengths, torch.tensor([False, True]))
    assert taken.shape == (2, 8, 263)
    assert taken[0, :, 3].tolist() == [3225, 3226, 3227, 3228, 3229, 0, 0, 0]
    assert taken[1, :, 3].tolist() == list(range(2000, 2008))
    assert (taken[1, :, 1] == -taken[1, :, 3]).all()  # the step to the side


def test_the_split_is_kept_apart(tmp_path: Path) -> None:
    packed = pack(tmp_path / "p.safetensors")
    assert (ClipBank([packed], "val").features % 1 == 0.5).all()
    assert (ClipBank([packed], "train").features % 1 == 0).all()


def test_pools_and_sources_have_their_share(tmp_path: Path) -> None:
    packs = [pack(tmp_path / f"{n}.safetensors", name=n) for n in ("walk", "pool", "pool2")]
    bank = ClipBank(packs, "train", pool_share=0.3)
    assert bank.weights.sum() == pytest.approx(1)
    share = bank.weights.reshape(3, 4).sum(1)
    assert share.tolist() == pytest.approx([0.7, 0.15, 0.15])
    assert bank.weights[:4].tolist() == pytest.approx((0.7 * np.sqrt(FRAMES) / np.sqrt(FRAMES).sum()).tolist())
    alone = ClipBank(packs[:1], "train", pool_share=0.3)
    assert alone.weights.sum() == pytest.approx(1)
    ids = {bank.clips[i].id.split("_")[0] for i in bank.batch(64, 0, 0).clips.tolist()}
    assert ids == {"walk", "pool", "pool2"}


def test_licences(tmp_path: Path) -> None:
    packs = [pack(tmp_path / f"{name}.safetensors", name=name, license=name) for name in ("MIT", "CC0")]
    assert len(ClipBank(packs, "train", ["MIT", "CC0"])) == 8
    assert {c.license for c in ClipBank(packs[:1], "train", ["MIT"]).clips} == {"MIT"}
    with pytest.raises(MotionGPT3Error, match=r"no clips of split 'train' under the licences MIT alone"):
        ClipBank(packs[1:], "train", ["MIT"])
    both = pack(tmp_path / "both.safetensors", license="CC0 + MIT")
    assert len(ClipBank([both], "train", ["MIT", "CC0", "PDDL"])) == 4
    with pytest.raises(MotionGPT3Error, match="the licences CC0 alone"):
        ClipBank([both], "train", ["CC0"])
    with pytest.raises(MotionGPT3Error, match=r"no clips of split 'test'$"):
        ClipBank(packs, "test")


def test_clips_are_no_part_of_a_checkpoint(bank: ClipBank) -> None:
    assert bank.state_dict() == {}
