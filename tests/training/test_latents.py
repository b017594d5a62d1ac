"""Latents computed once: of the right frames, with captions that are true of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import Clip, PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.models.vae import MotionVAE, VAEConfig
from motiongpt3.motion.features import mirror_features
from motiongpt3.training.latents import LatentBank

VAE = VAEConfig(
    latent_tokens=2, latent_channels=4, width=8, layers=1, heads=2, mlp_width=8, positions=24, max_frames=60
)
CLIPS = [
    Clip("a_0", "train", 0, 40, ("She turns LEFT", "a person walks"), (False, True), short="walk, turn left"),
    Clip("a_1", "train", 0, 40, ("a jump to the right.",), (False,), short="jump"),
    Clip("a_2", "train", 0, 130, ("someone runs", "then they wave"), (True, False), short="run"),
    Clip("a_3", "train", 0, 30, (), (), short="stand"),
    Clip("a_4", "train", 0, 30),
    Clip("a_5", "train", 0, 130, ("he runs and stops",), (False,)),
    Clip("a_6", "train", 0, 12, ("a hop",), (True,)),
]


def make(path: Path, clips: list[Clip] = CLIPS) -> ClipBank:
    def records():
        for i, clip in enumerate(clips):
            rng = np.random.default_rng(i)
            yield (
                clip,
                rng.normal(size=(clip.frames, 263)).astype(np.float32),
                np.zeros((clip.frames, 22, 3), np.float32),
            )

    return ClipBank([PackedClips.write(path, records())], "train")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipBank:
    return make(tmp_path_factory.mktemp("pack") / "p.safetensors")


@pytest.fixture(scope="module")
def vae() -> MotionVAE:
    torch.manual_seed(0)
    made = MotionVAE(VAE).eval()
    made.feature_mean.normal_()
    return made


@pytest.fixture(scope="module")
def bank(clips: ClipBank, vae: MotionVAE) -> LatentBank:
    return LatentBank(clips, vae, parts=2)


def test_captions_are_true_of_what_they_describe(bank: LatentBank) -> None:
    """Parts take only captions true of any part; whole clips all and the label; mirror images mirrored ones."""
    seen: dict[tuple[str, bool], set[str]] = {}
    for step in range(60):
        batch = bank.batch(64, 0, step)
        for clip, whole, caption in zip(batch.clips, batch.whole.tolist(), batch.captions, strict=True):
            seen.setdefault((clip, whole), set()).add(bank.captions[caption])
    assert seen == {
        ("a_0", True): {f"{what} {side}." for what in ("she turns", "walk, turn") for side in ("left", "right")}
        | {"a person walks."},
        ("a_0", False): {"a person walks."},
        ("a_1", True): {"a jump to the right.", "a jump to the left.", "jump."},
        ("a_2", False): {"someone runs."},
        ("a_3", True): {"stand."},
        ("a_6", True): {"a hop."},
        ("a_6", False): {"a hop."},
    }  # fmt: skip


def test_mirror_images_take_mirrored_captions(clips: ClipBank, vae: MotionVAE, bank: LatentBank) -> None:
    """The latent tells whether the features were mirrored; the caption must agree."""
    features = clips.take(*(torch.tensor([n]) for n in (1, 0, 40)), torch.tensor([False]))
    means = [
        vae.encode(vae.normalise(x), torch.tensor([40]))[0][0].detach() for x in (features, mirror_features(features))
    ]
    checked = set()
    for step in range(20):
        batch = bank.batch(64, 1, step)
        for mean, clip, caption in zip(batch.mean, batch.clips, batch.captions, strict=True):
            side = bank.captions[caption].split()[-1]
            if clip == "a_1" and side != "jump.":
                distances = [(mean - other).abs().max().item() for other in means]
                assert min(distances) < 1e-5
                assert (distances[0] < distances[1]) == (side == "right.")
                checked.add(side)
    assert checked == {"right.", "left."}


def test_latents_are_those_of_the_frames(clips: ClipBank, vae: MotionVAE, bank: LatentBank) -> None:
    (batch,) = bank.whole_clips(8)
    assert [len(part.clips) for part in bank.whole_clips(3)] == [3, 1]
    assert batch.clips == ["a_0", "a_1", "a_3", "a_6"]
    assert batch.whole.all()
    assert [bank.captions[i] for i in batch.captions] == ["she turns left.", "a jump to the right.", "stand.", "a hop."]
    for i, number in enumerate((0, 1, 3, 6)):
        frames = clips.frames[number : number + 1]
        assert batch.frames[i] == frames[0]
        features = clips.take(torch.tensor([number]), torch.zeros(1, dtype=torch.long), frames, torch.tensor([False]))
        mean, log_variance = vae.encode(vae.normalise(features), frames)
        torch.testing.assert_close(batch.mean[i], mean[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(batch.log_variance[i], log_variance[0], atol=1e-5, rtol=1e-5)


def test_parts_are_no_longer_than_the_vae_reads(bank: LatentBank) -> None:
    batch = bank.rows(torch.arange(len(bank)))
    assert batch.frames.max() <= 60
    assert batch.frames[~batch.whole].min() >= 12
    long = [n for n, clip in zip(batch.frames.tolist(), batch.clips, strict=True) if clip == "a_2"]
    assert len(long) == 2 * (2 + 130 // 60 * 2)
    assert len(set(long)) > 2


def test_a_batch_depends_on_seed_and_step_alone(clips: ClipBank, vae: MotionVAE, bank: LatentBank) -> None:
    torch.manual_seed(1)
    first = bank.batch(16, 3, 7)
    torch.manual_seed(2)
    again = LatentBank(clips, vae, parts=2).batch(16, 3, 7)
    assert (again.captions, again.clips) == (first.captions, first.clips)
    for name in ("mean", "log_variance", "frames", "whole"):
        assert torch.equal(getattr(again, name), getattr(first, name))
    assert bank.batch(16, 3, 8).captions != first.captions
    other = LatentBank(clips, vae, parts=2, seed=1)
    assert not torch.equal(other.frames, bank.frames)


def test_no_parts_leaves_whole_clips(clips: ClipBank, vae: MotionVAE) -> None:
    held = LatentBank(clips, vae, parts=0)
    (batch,) = held.whole_clips(8)
    assert torch.equal(held.mean[0, batch.entries], batch.mean)
    assert batch.clips == ["a_0", "a_1", "a_3", "a_6"]


def test_actions_and_pools_are_balanced(vae: MotionVAE, tmp_path: Path) -> None:
    kinds = ["walk"] * 8 + ["jump"]
    clips = [Clip(f"a_{i}", "train", 0, 24, ("x y",), (False,), short=kind) for i, kind in enumerate(kinds)]
    clips += [Clip(f"pool_joined_{i}", "train", 0, 24, ("x y",), (False,)) for i in range(3)]
    bank = make(tmp_path / "p.safetensors", clips)

    def shares(balance: float, pool_share: float) -> list[float]:
        made = LatentBank(bank, vae, 0, balance=balance, pool_share=pool_share)
        drawn = Counter(clip for step in range(40) for clip in made.batch(100, 0, step).clips)
        groups = (["a_8"], [f"a_{i}" for i in range(8)], [f"pool_joined_{i}" for i in range(3)])
        return [sum(drawn[name] for name in group) / 4000 for group in groups]

    assert shares(0.0, 0.4) == pytest.approx([0.6 / 9, 0.6 * 8 / 9, 0.4], abs=0.03)
    assert shares(1.0, 0.1) == pytest.approx([0.45, 0.45, 0.1], abs=0.03)


def test_clips_without_words_are_refused(vae: MotionVAE, tmp_path: Path) -> None:
    bank = make(tmp_path / "p.safetensors", [CLIPS[4]])
    with pytest.raises(MotionGPT3Error, match="no train clip of at most 60 frames has a caption"):
        LatentBank(bank, vae)


def test_latents_are_no_part_of_a_checkpoint(bank: LatentBank) -> None:
    assert bank.state_dict() == {}


READING = replace(VAE, min_frames=8)


@pytest.fixture(scope="module")
def reader() -> MotionVAE:
    """A VAE for which a beginning of 8 frames is enough."""
    torch.manual_seed(0)
    return MotionVAE(READING).eval()


def test_beginnings_and_ends_are_those_of_the_entry(clips: ClipBank, reader: MotionVAE) -> None:
    """A third to two thirds of it together, something left between, and encoded as clips of their own."""
    bank = LatentBank(clips, reader, parts=2, ends=True)
    rows = torch.arange(len(bank))
    whole, ends = bank.rows(rows), bank.frames[1:]
    assert bank.mean.shape == bank.log_variance.shape == (3, len(bank), 2, 4)
    assert ends.shape == (2, len(bank))
    given = ends.sum(0)
    there = given > 0
    assert (ends.gt(0).all(0) == there).all()  # both or none
    assert ends[:, there].min() >= 8
    assert (whole.frames - given)[there].min() >= 5
    assert (given <= (2 / 3 * whole.frames).clamp(min=16))[there].all()
    assert not there[whole.frames < 21].any()
    assert there[whole.frames > 40].all()
    for row in [0, 1, int(there.nonzero()[-1])]:
        clip = [c.id for c in clips.clips].index(bank._ids[row])
        offset = next(
            o
            for o in range(int(clips.frames[clip]))
            if torch.allclose(encoded(clips, reader, clip, o, int(whole.frames[row]), row), whole.mean[row], atol=1e-5)
        )
        for side, length in enumerate(ends[:, row].tolist()):
            at = offset if side == 0 else offset + int(whole.frames[row]) - length
            mean = encoded(clips, reader, clip, at, length, row)
            torch.testing.assert_close(bank.mean[1 + side, row], mean, atol=1e-5, rtol=1e-5)


def encoded(clips: ClipBank, vae: MotionVAE, clip: int, offset: int, length: int, row: int) -> torch.Tensor:
    """The mean of some frames; every second row is mirrored."""
    offset = min(offset, int(clips.frames[clip]) - length)
    picked = [torch.tensor([value]) for value in (clip, offset, length)]
    with torch.no_grad():
        features = vae.normalise(clips.take(*picked, torch.tensor([row % 2 == 1])))
        return vae.encode(features, picked[2])[0][0]


def test_ends_do_not_change_what_else_is_drawn(clips: ClipBank, reader: MotionVAE) -> None:
    plain, more = (LatentBank(clips, reader, parts=2, ends=ends) for ends in (False, True))
    first, second = plain.batch(16, 3, 7), more.batch(16, 3, 7)
    assert (first.clips, first.captions) == (second.clips, second.captions)
    torch.testing.assert_close(first.mean, second.mean)


def test_labels_can_be_left_out(clips: ClipBank, vae: MotionVAE) -> None:
    bank = LatentBank(clips, vae, parts=2, labels=False)
    assert "jump." not in bank.captions
    assert "walk, turn left." not in bank.captions
    assert "a_3" not in bank._ids  # a clip that has nothing but its label
    assert set(bank.captions) < set(LatentBank(clips, vae, parts=2).captions)


def test_latents_are_kept_while_nothing_changes(
    clips: ClipBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    kept = LatentBank._encode
    monkeypatch.setattr(LatentBank, "_encode", lambda *arguments: runs.append(1) or kept(*arguments))
    file = tmp_path / "new" / "latents.safetensors"

    def made(seed: int = 0, bank: ClipBank = clips, std: float = 1.0, **changes: float) -> LatentBank:
        torch.manual_seed(1)
        vae = MotionVAE(READING).eval()
        with torch.no_grad():
            for name, value in changes.items():
                vae.get_parameter(name).view(-1)[:2] += value * torch.tensor([1.0, -1.0])  # the sum stays
            vae.feature_std.fill_(std)
        return LatentBank(bank, vae, parts=1, seed=seed, ends=True, cache=file)

    first, again = made(), made()
    assert len(runs) == 1
    for name in ("mean", "log_variance"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.batch(8, 0, 0).captions == again.batch(8, 0, 0).captions
    weight = next(name for name, p in MotionVAE(READING).named_parameters() if p.numel() > 8)
    other = make(tmp_path / "p.safetensors")
    other.features[5] += 1  # as long, with the same names, of other frames
    for changes in ({"seed": 1}, {weight: 0.5}, {"bank": other}, {"std": 2.0}, {}):
        before = len(runs)
        made(**changes)  # type: ignore[arg-type]
        made(**changes)  # type: ignore[arg-type]
        assert len(runs) == before + 1, changes


def test_a_file_that_holds_no_latents_is_left_alone(clips: ClipBank, vae: MotionVAE, tmp_path: Path) -> None:
    weights, junk = tmp_path / "model.safetensors", tmp_path / "junk.safetensors"
    save_file({"mean": torch.zeros(3)}, weights)
    junk.write_bytes(b"\0" * 100)
    for file, message in ((weights, "holds no latents"), (junk, "cannot keep latents"), (tmp_path, "cannot write")):
        before = file.read_bytes() if file.is_file() else None
        with pytest.raises(MotionGPT3Error, match=message) as caught:
            LatentBank(clips, vae, parts=0, cache=file)
        assert "\n" not in str(caught.value)
        assert before is None or file.read_bytes() == before
