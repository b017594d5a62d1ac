"""Populations, crops and captions of the protocols, and what they refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.protocols import (
    PROTOCOLS,
    check_model,
    find_protocol,
    labels_of,
    plan,
    population,
    warn_of_size,
)

MOCAP, STRICT, OFFICIAL = (PROTOCOLS[name] for name in ("mocap", "humanml3d-strict", "humanml3d-official"))
MakePack = Callable[..., PackedClips]


def test_mocap_cuts_long_clips_and_keeps_their_captions_that_stay_true(make_pack: MakePack) -> None:
    pack = make_pack([30, 19, 250, 200], captions=("a", "b", "c"), crop_safe=(False, True, False))
    items = population(MOCAP, pack, "test", "t2m")
    assert [(item.row, item.frames, item.captions) for item in items] == [
        (0, 30, ("a", "b", "c")),
        (2, 200, ("b",)),
        (3, 200, ("a", "b", "c")),
    ]
    unsafe = make_pack([250, 40], captions=("a",), crop_safe=(False,))
    assert [item.row for item in population(MOCAP, unsafe, "test", "t2m")] == [1]
    assert [item.row for item in population(MOCAP, unsafe, "test", "predict")] == [1, 0]


def test_strict_leaves_short_and_long_clips_out(make_pack: MakePack) -> None:
    pack = make_pack([39, 40, 199, 200, 60], name="{}")
    assert [item.frames for item in population(STRICT, pack, "test", "t2m")] == [40, 60, 199]
    assert [item.frames for item in population(OFFICIAL, pack, "test", "t2m")] == [39, 40, 60, 199]


@pytest.mark.parametrize("name", ["{}", "M{}", "{}_2-4.5"])
def test_names_of_humanml3d(make_pack: MakePack, name: str) -> None:
    assert len(population(STRICT, make_pack([40, 50], name=name), "test", "t2m")) == 2


def test_a_part_is_given_and_a_part_is_to_be_made(make_pack: MakePack) -> None:
    pack = make_pack([39, 40, 59, 60])
    frames = {task: [i.frames for i in population(MOCAP, pack, "test", task)] for task in ("predict", "inbetween")}
    assert frames == {"predict": [40, 59, 60], "inbetween": [60]}


@pytest.mark.parametrize(
    ("protocol", "changes", "message"),
    [
        ("humanml3d-strict", {}, "humanml3d-strict is for HumanML3D, and 2 of 2 clips are not of it .*'T_000000'"),
        ("humanml3d-official", {"name": "x{}"}, "humanml3d-official is for HumanML3D"),
        ("mocap", {"fps": 30.0}, "mocap needs the 22 joints of HumanML3D at 20 fps; .* has 22 at 30"),
        ("mocap", {"captions": (), "crop_safe": ()}, "no clip with captions of split test has the 20 to 200 frames"),
        ("mocap", {"short": ""}, "mocap groups clips by what they show, and 'T_000000' has no label"),
        ("mocap", {"captions": ("  ",), "crop_safe": (True,)}, "a caption of clip 'T_000000' cannot be used"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(
    make_pack: MakePack, protocol: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MotionGPT3Error, match=message):
        population(find_protocol(protocol, "t2m"), make_pack([40, 50], **changes), "test", "t2m")


def test_protocols_and_tasks_that_are_not_there(pack: PackedClips) -> None:
    with pytest.raises(MotionGPT3Error, match="no protocol 'mine'; choose among mocap, humanml3d-strict, humanml3d-o"):
        find_protocol("mine", "t2m")
    with pytest.raises(MotionGPT3Error, match=r"humanml3d-official does not define predict: .*use humanml3d-strict"):
        find_protocol("humanml3d-official", "predict")
    with pytest.raises(MotionGPT3Error, match="has no clips of split val"):
        population(MOCAP, pack, "val", "t2m")


def test_a_model_must_make_the_longest_clip(pack: PackedClips) -> None:
    items = population(MOCAP, pack, "test", "t2m")
    check_model(MOCAP, items, 93)
    with pytest.raises(MotionGPT3Error, match=r"clips of up to 4\.65 s \(T_000023\), and the model makes at most 4\.6"):
        check_model(MOCAP, items, 92)


def test_captions_take_turns(pack: PackedClips) -> None:
    items = population(MOCAP, pack, "test", "t2m")
    said: dict[str, Counter[str]] = {}
    for repeat in range(6):
        for take in plan(MOCAP, items, repeat, seed=0):
            assert (take.start, take.frames) == (0, take.item.frames)
            said.setdefault(take.item.name, Counter())[take.caption] += 1
    for item in items:
        assert said[item.name] == {text: 6 // len(item.captions) for text in item.captions}


@pytest.mark.slow
def test_official_crops(make_pack: MakePack) -> None:
    items = population(OFFICIAL, make_pack([101] * 300, name="{}"), "test", "t2m")
    takes = plan(OFFICIAL, items, 0, seed=0)
    assert takes == plan(OFFICIAL, items, 0, seed=0)
    assert takes != plan(OFFICIAL, items, 1, seed=0)
    lengths = Counter(take.frames for take in takes)
    assert set(lengths) == {96, 100}
    assert 60 < lengths[96] < 140  # a third of 300
    assert {take.start for take in takes if take.frames == 100} == {0, 1}
    assert {take.start for take in takes if take.frames == 96} == set(range(6))


def test_references(make_pack: MakePack) -> None:
    items = population(OFFICIAL, make_pack([40], name="{}", captions=("a", "b"), crop_safe=(True, True)), "test", "m2t")
    assert items[0].references(OFFICIAL) == ["a", "b", "a"]
    assert items[0].references(STRICT) == ["a", "b"]


def test_limit_draws_clips(pack: PackedClips) -> None:
    names = [item.name for item in population(MOCAP, pack, "test", "t2m", limit=5)]
    assert len(set(names)) == 5
    assert names != [item.name for item in population(MOCAP, pack, "test", "t2m")][:5]
    assert names == [item.name for item in population(MOCAP, pack, "test", "t2m", limit=5)]


def test_labels_are_numbers_by_name(pack: PackedClips) -> None:
    items = population(MOCAP, pack, "test", "t2m")
    numbers = labels_of(MOCAP, items)
    assert numbers is not None
    assert {(item.label, number) for item, number in zip(items, numbers, strict=True)} == {
        (label, number) for number, label in enumerate(sorted({item.label for item in items}))
    }
    assert labels_of(STRICT, items) is None


def test_few_clips_are_warned_of(pack: PackedClips) -> None:
    items = population(MOCAP, pack, "test", "t2m")
    with pytest.warns(UserWarning, match="undefined") as caught:
        warn_of_size(MOCAP, items, 24, "t2m")
    told = [str(one.message) for one in caught]
    assert told == [
        "24 clips hold no group of 32 of different labels: R-precision and MM-Dist are undefined",
        "24 clips are fewer than the 25 that FID needs in 24 dimensions: it is undefined",
        "24 clips are fewer than the 300 of a draw: diversity is undefined",
    ]
    enough = replace(MOCAP, group=6, diversity_pairs=24)
    warn_of_size(enough, items, 23, "t2m")  # a warning would fail the test
    with pytest.warns(UserWarning, match="no group of 7"):  # six labels
        warn_of_size(replace(enough, group=7), items, 23, "t2m")
