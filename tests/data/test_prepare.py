"""Preparing a data set: the layout, the round trip through it, bad clips, interruptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from motiongpt3.data import prepare as module
from motiongpt3.data.clips import PackedClips
from motiongpt3.data.prepare import prepare
from motiongpt3.errors import MotionGPT3Error


def test_a_mocap_folder_becomes_a_data_set(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    done = prepare(write_mocap(tmp_path / "in"), tmp_path / "out")
    assert done.clips == {"train": 3, "val": 1, "test": 1}
    assert done.problems == []
    out = tmp_path / "out"
    packed = PackedClips.open(out)
    assert done.frames == len(packed.features) == 24 + 25 + 26 + 27 + 28
    assert np.abs(packed.clip_joints(2) - walk(26, seed=2)).max() < 1e-4
    assert packed.clips[1].license == "CC0-1.0"
    assert packed.clips[1].crop_safe == (True, False)
    for index, clip in enumerate(packed.clips):
        assert np.array_equal(np.load(out / "new_joint_vecs" / f"{clip.id}.npy"), packed.clip_features(index))
        assert np.array_equal(np.load(out / "new_joints" / f"{clip.id}.npy"), packed.clip_joints(index))
    assert (out / "train.txt").read_text() == "clip_0\nclip_1\nclip_2\n"
    assert np.array_equal(np.load(out / "Std.npy"), packed.std)
    line = (out / "texts" / "clip_0.txt").read_text().splitlines()[1]
    assert line == "someone steps 1 ahead.#someone/OTHER steps/OTHER 1/OTHER ahead/OTHER#0.0#0.0"


def test_a_prepared_layout_can_be_prepared_again(write_mocap: Callable, tmp_path: Path) -> None:
    prepare(write_mocap(tmp_path / "in"), tmp_path / "first")
    first = PackedClips.open(tmp_path / "first")
    (tmp_path / "first" / "packed.safetensors").rename(tmp_path / "moved.safetensors")
    prepare(tmp_path / "first", tmp_path / "second", layout=False)
    second = PackedClips.open(tmp_path / "second")
    assert [clip.id for clip in second.clips] == [clip.id for clip in first.clips]
    assert np.array_equal(second.features, first.features)
    assert np.abs(second.joints - first.joints).max() < 1e-4
    assert np.array_equal(second.std, first.std)
    assert sorted(file.name for file in (tmp_path / "second").iterdir()) == ["packed.safetensors"]


def test_seconds_in_a_caption_cut_a_clip_of_its_own(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    prepare(write_mocap(tmp_path / "in", [walk(80, seed=i) for i in range(5)]), tmp_path / "first")
    text = tmp_path / "first" / "texts" / "clip_1.txt"
    text.write_text("whole#whole/NOUN#0.0#0.0\npart#part/NOUN#1.0#3.0\nbeyond#x/NOUN#90.0#95.0\n")
    done = prepare(tmp_path / "first", tmp_path / "second")
    packed = PackedClips.open(tmp_path / "second")
    ids = [clip.id for clip in packed.clips]
    part = ids.index("clip_1_1-3")
    assert packed.clips[part].captions == ("part",)
    whole = packed.clip_features(ids.index("clip_1"))
    assert np.array_equal(packed.clip_features(part), whole[20:60])
    assert np.abs(packed.clip_joints(part)[0, 0, [0, 2]]).max() == 0
    assert [problem.reason for problem in done.problems] == ["seconds 90 to 95 lie outside the clip"]


def test_licences_choose_the_clips(write_mocap: Callable, tmp_path: Path) -> None:
    done = prepare(write_mocap(tmp_path / "in"), tmp_path / "out", licenses=["MIT"], layout=False)
    assert done.left_out == 2
    assert {clip.license for clip in PackedClips.open(tmp_path / "out").clips} == {"MIT"}
    with pytest.raises(MotionGPT3Error, match="another licence"):
        prepare(tmp_path / "in", tmp_path / "none", licenses=["GPL"])
    assert not (tmp_path / "none").exists()


def test_bad_clips_are_skipped_with_their_reason(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    clips = [walk(24 + i, seed=i) for i in range(9)]
    clips[1][5, 0, 1] = np.nan
    clips[2] *= 100
    clips[3] = clips[3][..., [0, 2, 1]] * np.array([1, 1, 1], np.float32)
    clips[4] = clips[4][:10]
    changes = {"id": {5: "../../escape", 6: "clip_0"}, "split": {7: "dev"}}
    done = prepare(write_mocap(tmp_path / "in", clips, **changes), tmp_path / "out")
    assert [clip.id for clip in PackedClips.open(tmp_path / "out").clips] == ["clip_0", "clip_8"]
    reasons = [problem.reason for problem in done.skipped]
    wanted = ["NaN or infinite values, first in frame 5", "centimetres", "z is up", "has 10 frames", "file name",
              "second time", "split 'dev'"]  # fmt: skip
    assert len(reasons) == len(wanted)
    for reason, part in zip(reasons, wanted, strict=True):
        assert part in reason
    assert not (tmp_path.parent / "escape.npy").exists()


def test_damaged_records_do_not_stop_it(write_mocap: Callable, tmp_path: Path) -> None:
    folder = write_mocap(tmp_path / "in", offset={3: 10**9}, frames={4: -3})
    file = folder / "clips.jsonl"
    file.write_text(file.read_text() + '{"id": "x"}\nnot json\n[]\n' + "[" * 50_000 + "\n")
    done = prepare(folder, tmp_path / "out")
    assert sum(done.clips.values()) == 3
    assert len(done.skipped) == 6


def test_bad_files_of_a_layout_are_skipped(write_mocap: Callable, tmp_path: Path) -> None:
    prepare(write_mocap(tmp_path / "in"), tmp_path / "first")
    vecs = tmp_path / "first" / "new_joint_vecs"
    np.save(vecs / "clip_0.npy", np.zeros((30, 251), np.float32))
    np.save(vecs / "clip_1.npy", np.array([{}], dtype=object), allow_pickle=True)
    (vecs / "clip_2.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "first" / "texts" / "clip_3.txt").write_text("walk#walk/NOUN#a#b\n")
    (tmp_path / "first" / "val.txt").write_text("clip_3\n../x\nnone\n")
    done = prepare(tmp_path / "first", tmp_path / "second")
    assert done.clips == {"train": 0, "val": 0, "test": 1}
    assert len(done.skipped) == 6


def test_an_interrupted_run_leaves_nothing(
    write_mocap: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_mocap(tmp_path / "in")
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    original = module.joints_to_features
    monkeypatch.setattr(module, "joints_to_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_an_existing_folder_is_kept_unless_told(write_mocap: Callable, tmp_path: Path) -> None:
    folder = write_mocap(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    prepare(folder, out, layout=False)
    (out / "mine.txt").write_text("x")
    with pytest.raises(MotionGPT3Error, match="exists"):
        prepare(folder, out)
    assert (out / "mine.txt").exists()
    prepare(folder, out, overwrite=True)
    assert not (out / "mine.txt").exists()
    assert (out / "new_joints").is_dir()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out"]
