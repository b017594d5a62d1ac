"""Augmentation: the sentences it writes and the motions it makes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from motiongpt3.data.augment import (
    Captioned,
    PoolSizes,
    extend,
    find_locomotion,
    find_upper_body,
    join_captions,
    lasting_captions,
    layer_captions,
    make_extended_pool,
    make_joined_pool,
    make_layered_pool,
    make_pool,
    make_relaxed_pool,
    time_warp,
    warped_captions,
)
from motiongpt3.data.bank import ClipBank
from motiongpt3.data.captions import PHRASES, asked_pairs, gerund, parse
from motiongpt3.data.clips import Clip, PackedClips
from motiongpt3.data.labels import base_action
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.blend import best_cut, join
from motiongpt3.motion.features import features_to_joints, joints_to_features
from motiongpt3.motion.motion import mirror_text
from motiongpt3.motion.poses import bone_vectors
from motiongpt3.motion.skeleton import HUMANML3D

LENGTHS = HUMANML3D.bone_lengths[1:]
LEFTOVER = re.compile(
    r"(?<!\. )\b(and|then|afterwards|that|before|while) (someone|(a|an|the|this) (person|figure|human))\b"
)


@pytest.fixture(scope="module")
def clips(mocap_dir: Path) -> list[Captioned]:
    """Every fourth training clip of the real data."""
    with np.load(mocap_dir / "joints.npz") as arrays:
        root, offsets, unit = arrays["root"], arrays["offsets"], np.float32(arrays["metres_per_unit"])
    out = []
    for line in (mocap_dir / "clips.jsonl").read_text().splitlines()[::4]:
        record = json.loads(line)
        if record["split"] == "train":
            span = slice(record["offset"], record["offset"] + record["frames"])
            joints = root[span, None] + offsets[span] * unit
            out.append(Captioned(record["id"], record["short"], record["captions"], record["crop_safe"], joints))
    return out


def jerk(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(joints.astype(np.float64), n=3, axis=0), axis=-1).max(axis=1)


@pytest.mark.parametrize(
    ("caption", "subject", "predicate"),
    [
        ("a person walks forward.", "a person", "walks forward"),
        ("Someone is walking around a corner.", "someone", "walks around a corner"),
        ("a standing person waves both hands.", "a person", "waves both hands"),
        ("an individual frailly walks on.", "an individual", "frailly walks on"),
        ("the human figure runs, then stops.", "the human figure", "runs, then stops"),
    ],
)
def test_parse_takes_the_subject_off(caption: str, subject: str, predicate: str) -> None:
    assert parse(caption) == (subject, predicate)


@pytest.mark.parametrize(
    "caption",
    [
        "looking young and carefree, a human walks.",
        "after a short pause, a person waves.",
        "someone full of energy raises the right hand.",
        "someone who is tired walks.",
        "a man bends his knees.",
        "a person is kicking with the left foot and stepping back.",
        "",
        "walks",
    ],
)
def test_parse_refuses_what_it_cannot_cut(caption: str) -> None:
    assert parse(caption) is None


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("waves with the right hand", "waving with the right hand"),
        ("sits down", "sitting down"),
        ("lies down", "lying down"),
        ("reaches up", "reaching up"),
        ("goes for a run", "going for a run"),
        ("does a squat", "doing a squat"),
        ("raises the left arm", "raising the left arm"),
        ("hurries along", "hurrying along"),
        ("walks and turns", None),
        ("flurbs about", None),
    ],
)
def test_gerund(predicate: str, expected: str | None) -> None:
    assert gerund(predicate) == expected


def test_every_plain_phrase_has_a_gerund_and_every_asked_action_a_phrase() -> None:
    assert {action for pair in asked_pairs() for action in pair} <= set(PHRASES)
    for phrases in PHRASES.values():
        for phrase in phrases:
            assert gerund(phrase) or " while " in phrase, phrase
            assert parse(f"a person {phrase}.") == ("a person", phrase)


def test_joined_sentences_have_one_subject_and_keep_the_order() -> None:
    rng = np.random.default_rng(0)
    seen = {join_captions("a person walks forward.", "someone waves with the right hand.", rng) for _ in range(200)}
    assert None not in seen
    assert len(seen) >= 6
    for text in seen:
        assert text is not None
        assert "someone" not in text
        assert text.endswith(".")
        assert ".." not in text
        walk, wave = re.search(r"walk(s|ing)", text), re.search(r"wav(es|ing)", text)
        assert walk is not None
        assert wave is not None
        assert walk.start() < wave.start(), text
    assert "a person walks forward and then waves with the right hand." in seen
    assert join_captions("a person walks.", "looking happy, a human waves.", rng) is None


def test_layered_sentences_say_both_at_once() -> None:
    rng = np.random.default_rng(0)
    seen = {layer_captions("the person is walking forward.", "somebody waves both hands.", rng) for _ in range(200)}
    assert "the person walks forward while waving both hands." in seen
    assert "the person walks forward and waves both hands." in seen
    assert all(text is not None and "somebody" not in text for text in seen)
    assert not any(" then " in text for text in seen if text)
    assert layer_captions("a person walks, swinging both arms.", "somebody waves.", rng) is None
    assert layer_captions("a person walks.", "somebody waves while standing still.", rng) is None


def test_mirrored_sentences_still_parse() -> None:
    rng = np.random.default_rng(3)
    text = join_captions("a person turns left.", "a person waves the right hand.", rng)
    assert text is not None
    mirrored = mirror_text(text)
    assert "right" in mirrored.split("hand")[0]
    assert mirror_text(mirrored) == text


def test_captions_that_outlive_a_change_of_length() -> None:
    captions = ["a person waves.", "a person waves twice.", "a person slowly waves for six seconds."]
    assert lasting_captions(captions, [True, True, True], "repeat") == captions[:1]
    assert lasting_captions(captions, [False, True, True], "loop") == []
    assert warped_captions(captions, 1.1) == captions[:2]
    assert warped_captions(captions, 1.0) == captions


def test_base_action() -> None:
    assert base_action("run forward energetically") == "run forward"
    assert base_action("walk, turn left feebly") == base_action("walk and turn left") == "walk and turn left"


def test_groups_are_what_they_say(clips: list[Captioned]) -> None:
    legs, arms = find_locomotion(clips), find_upper_body(clips)
    assert {"walk forward", "run forward", "walk and turn left", "walk and turn right"} <= set(legs)
    assert set(arms) == {f"{verb} {side}" for verb in ("wave", "raise") for side in _SIDES}
    assert not any(clip.id.startswith("UIPRMD") for group in arms.values() for clip in group)


_SIDES = ("left hand", "right hand", "both hands")


@pytest.mark.parametrize("make", [make_joined_pool, make_layered_pool, make_extended_pool])
def test_pools_are_sound_and_deterministic(clips: list[Captioned], make) -> None:  # type: ignore[no-untyped-def]
    pool, again, other = make(clips, 60, 7), make(clips, 60, 7), make(clips, 60, 8)
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


def test_seams_are_as_smooth_as_the_clips(clips: list[Captioned]) -> None:
    groups = find_locomotion(clips) | find_upper_body(clips)
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


def test_layered_motions_move_and_raise_the_named_wrist(clips: list[Captioned]) -> None:
    checked = 0
    for joints, captions in make_layered_pool(clips, 60, 2):
        high = joints[:, [20, 21], 1] > joints[:, [16, 17], 1] - 0.05
        for side, word in ((0, "left hand"), (1, "right hand")):
            if any(word in text for text in captions) and "turn" not in captions[0]:
                assert high[:, side].sum() >= 4
                assert np.linalg.norm(joints[-1, 0, [0, 2]]) > 0.3
                checked += 1
    assert checked >= 10


def test_relaxed_arms_hang(clips: list[Captioned]) -> None:
    pool = make_relaxed_pool(clips, 20, 0)
    assert len(pool) == 20
    for joints, captions in pool:
        assert (joints[:, [20, 21], 1] < joints[:, [16, 17], 1]).all()
        assert not any("arm" in text or "hand" in text for text in captions)


def test_time_warp_keeps_ends_and_bones(clips: list[Captioned]) -> None:
    clip = find_locomotion(clips)["walk forward"][0].joints
    for factor in (0.85, 1.0, 1.15):
        warped = time_warp(clip, factor)
        assert len(warped) == round((len(clip) - 1) / factor) + 1
        assert np.abs(warped[[0, -1]] - clip[[0, -1]]).max() < 2e-3
        assert np.abs(np.linalg.norm(bone_vectors(warped), axis=-1) - LENGTHS).max() < 2e-3
    with pytest.raises(MotionGPT3Error, match="factor"):
        time_warp(clip, 0)


def test_extend_goes_on_walking_and_holds_gestures(clips: list[Captioned]) -> None:
    rng = np.random.default_rng(0)
    walk = next(clip.joints for clip in find_locomotion(clips)["walk forward"] if len(clip.joints) >= 40)[:60]
    longer = extend(walk, 100, rng)
    assert longer is not None
    joints, mode = longer
    assert (mode, len(joints)) == ("loop", 100)
    speeds = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1) * 20
    own = np.linalg.norm(np.diff(walk[:, 0, [0, 2]], axis=0), axis=-1) * 20
    assert speeds[-40:].mean() > 0.6 * own[10:].mean(), "it walks to the end"
    raised = next(clip.joints for clip in find_upper_body(clips)["raise right hand"] if len(clip.joints) < 50)
    held = extend(raised, 80, rng, "hold")
    assert held is not None
    assert len(held[0]) == 80
    assert (held[0][:, 21, 1] > held[0][:, 17, 1]).any()
    with pytest.raises(MotionGPT3Error, match="extend"):
        extend(walk, 10, rng)


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
