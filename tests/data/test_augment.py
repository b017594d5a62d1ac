"""Augmentation: the motions it makes, with their captions, and pools of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from motiongpt3.data.augment import Captioned, Groups, Kind, PoolSizes, by_action, make_examples, make_pool
from motiongpt3.data.bank import ClipBank
from motiongpt3.data.clips import Clip, PackedClips
from motiongpt3.data.labels import GESTURE, LOCOMOTION
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.blend import best_cut, join
from motiongpt3.motion.features import features_to_joints, joints_to_features
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.skeleton import HUMANML3D

LENGTHS = HUMANML3D.bone_lengths
LEFTOVER = re.compile(
    r"(?<!\. )\b(and|then|afterwards|that|before|while) (someone|(a|an|the|this) (person|figure|human))\b"
)


def jerk(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(joints.astype(np.float64), n=3, axis=0), axis=-1).max(axis=1)


def groups_of(clips: list[Captioned], actions: re.Pattern[str]) -> Groups:
    return {action: group for action, group in by_action(clips).items() if actions.fullmatch(action)}


def test_groups_are_what_they_say(real_clips: list[Captioned]) -> None:
    legs, arms = groups_of(real_clips, LOCOMOTION), groups_of(real_clips, GESTURE)
    assert {"walk forward", "run forward", "walk and turn left", "walk and turn right"} <= set(legs)
    sides = ("left hand", "right hand", "both hands")
    assert set(arms) == {f"{verb} {side}" for verb in ("wave", "raise") for side in sides}
    assert not any(clip.id.startswith("UIPRMD") for group in arms.values() for clip in group)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["joined", "layered", "extended"])
def test_examples_are_sound_and_deterministic(real_clips: list[Captioned], kind: Kind) -> None:
    pool, again, other = (make_examples(real_clips, kind, 60, seed) for seed in (7, 7, 8))
    assert len(pool) == 60
    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(pool, again, strict=True))
    assert any(a[1] != b[1] for a, b in zip(pool, other, strict=True))
    for joints, captions in pool:
        assert joints.dtype == np.float32
        assert joints.shape[1:] == (22, 3)
        assert 20 <= len(joints) <= 200
        assert np.isfinite(joints).all()
        assert abs(float(joints[..., 1].min())) < 1e-5
        assert np.abs(joints[0, 0, [0, 2]]).max() < 1e-5
        assert np.abs(np.linalg.norm(bone_vectors(joints), axis=-1) - LENGTHS).max() < 2e-3
        assert captions
        for text in captions:
            assert text.endswith("."), text
            assert not LEFTOVER.search(text), text


@pytest.mark.slow
def test_seams_are_as_smooth_as_the_clips(real_clips: list[Captioned]) -> None:
    groups = by_action(real_clips)
    rng = np.random.default_rng(0)
    names = [
        ("walk forward", "wave right hand"),
        ("wave both hands", "walk forward"),
        ("raise left hand", "run forward"),
    ]
    at_seam, elsewhere = [], []
    for first, second in names * 15:
        a, b = (groups[name][int(rng.integers(len(groups[name])))].joints[:60] for name in (first, second))
        end, start = best_cut(a, b, 15 if "walk" in first else 0, 15 if "hand" not in second else 0)
        joined = join(a[:end], b[start:])
        at_seam.append(jerk(joined)[end - 4 : end + 16].max())
        elsewhere.append(max(jerk(a).max(), jerk(b).max()))
    assert np.median(at_seam) < 1.5 * np.median(elsewhere)
    assert np.mean(np.array(at_seam) < 2 * np.array(elsewhere)) > 0.8


@pytest.mark.slow
def test_layered_motions_move_and_raise_the_named_wrist(real_clips: list[Captioned]) -> None:
    checked = 0
    for joints, captions in make_examples(real_clips, "layered", 60, 2):
        high = joints[:, [20, 21], 1] > joints[:, [16, 17], 1] - 0.05
        for side, word in ((0, "left hand"), (1, "right hand")):
            if any(word in text for text in captions) and "turn" not in captions[0]:
                assert high[:, side].sum() >= 4
                assert np.linalg.norm(joints[-1, 0, [0, 2]]) > 0.3
                checked += 1
    assert checked >= 10


def test_relaxed_arms_hang(real_clips: list[Captioned]) -> None:
    pool = make_examples(real_clips, "relaxed", 20, 0)
    assert len(pool) == 20
    for joints, captions in pool:
        assert (joints[:, [20, 21], 1] < joints[:, [16, 17], 1]).all()
        assert not any("arm" in text or "hand" in text for text in captions)


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


@pytest.mark.slow
def test_a_pool_is_the_same_whoever_makes_it(
    source: PackedClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spawned workers hash words differently each time, so this also shows that no order depends on it."""
    made = [make_pool(source.path, tmp_path / "two.safetensors", SIZES, seed=3, workers=2)]
    monkeypatch.setattr("motiongpt3.data.augment.ProcessPoolExecutor", lambda *_, **__: Here(Here))
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
    monkeypatch.setattr("motiongpt3.data.augment.ProcessPoolExecutor", lambda *_, **__: Here(Here))
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
