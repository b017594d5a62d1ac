"""The doctor finds each kind of fault, names the file, and finds nothing where nothing is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from motiongpt3.data.check import check
from motiongpt3.data.clips import PackedClips
from motiongpt3.data.prepare import prepare


@pytest.fixture
def prepared(write_mocap: Callable, tmp_path: Path) -> Path:
    return prepare(write_mocap(tmp_path / "in"), tmp_path / "out").folder


def found(folder: Path) -> list[tuple[str, str]]:
    return [(problem.severity, problem.reason) for problem in check(folder)]


def test_healthy_folders_have_no_problem(prepared: Path, tmp_path: Path) -> None:
    assert check(tmp_path / "in") == []
    assert check(prepared) == []
    (prepared / "packed.safetensors").unlink()
    assert check(prepared) == []


def nan(clip):
    clip[3, 4, 1] = np.nan


def centimetres(clip):
    clip *= 100


def z_up(clip):
    clip[:] = clip[..., [0, 2, 1]]


def jump(clip):
    clip[10:] += np.array([3, 0, 0])


def elsewhere(clip):
    clip += np.array([1, 0, 0])


def sideways(clip):
    clip[:] = clip[..., [2, 1, 0]] * np.array([1, 1, -1])


def sunk(clip):
    clip -= np.array([0, 0.5, 0])


@pytest.mark.parametrize(
    ("spoil", "severity", "reason"),
    [
        (centimetres, "error", "the unit is probably centimetres"),
        (z_up, "error", "z is up"),
        (jump, "warning", "a joint moves at 60 m/s between frames 9 and 10"),
        (elsewhere, "warning", "the pelvis starts 1.00 m away"),
        (sideways, "warning", "frame 0 faces 90 degrees"),
        (sunk, "warning", "the lowest joint is at -0.50 m"),
    ],
)
def test_a_spoilt_clip_is_named(
    walk: Callable, write_mocap: Callable, tmp_path: Path, spoil: Callable, severity: str, reason: str
) -> None:
    clips = [walk(24 + i, seed=i) for i in range(5)]
    spoil(clips[2])
    problems = check(write_mocap(tmp_path / "in", clips))
    assert [(p.severity, p.file) for p in problems] == [(severity, "clips.jsonl:3 clip_2")]
    assert reason in problems[0].reason


def test_nan_is_named_with_its_frame(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    clips = [walk(24 + i, seed=i) for i in range(5)]
    clips[1][7, 0, 0] = np.nan
    assert found(write_mocap(tmp_path / "in", clips)) == [("error", "NaN or infinite values, first in frame 7")]


def test_a_person_who_lies_down_is_not_z_up(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    clips = [walk(24 + i, seed=i) for i in range(5)]
    lying = clips[0][..., [0, 2, 1]] * np.array([-1, 1, 1])
    lying = lying - lying[:1, :1] * np.array([1, 0, 1])
    lying[..., 1] -= lying[..., 1].min()
    clips[0] = lying.astype(np.float32)
    assert not [p for p in check(write_mocap(tmp_path / "in", clips)) if p.severity == "error"]


def test_clips_that_all_stand_along_z_are_z_up(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    """Put on the floor as if they lay there, each could lie; most people stand."""
    clips = []
    for seed in range(4):
        lying = walk(30 + seed, seed=seed)[..., [0, 2, 1]] * np.array([1, -1, 1])
        lying = lying - lying[:1, :1] * np.array([1, 0, 1])
        clips.append((lying - [0, lying[..., 1].min(), 0]).astype(np.float32))
    errors = [p.reason for p in check(write_mocap(tmp_path / "in", clips)) if p.severity == "error"]
    assert "4 of 4 clips stand along z, so z is up; y should be" in errors


def test_a_motion_in_two_splits_leaks(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    clips = [walk(24, seed=i) for i in range(5)]
    clips[3] = clips[0].copy()
    clips[2] = clips[1].copy()
    assert sorted(found(write_mocap(tmp_path / "in", clips))) == [
        ("error", "clip_0 and clip_3 are the same motion, one in train, one in val: the split leaks"),
        ("warning", "clip_1 and clip_2 are the same motion, both in train"),
    ]


def test_faulty_records_are_named(write_mocap: Callable, tmp_path: Path) -> None:
    folder = write_mocap(tmp_path / "in", id={4: "clip_0"}, captions={0: [], 1: ["", "x"], 2: ["a"]}, crop_safe={0: []})
    assert sorted(found(folder)) == [
        ("error", "an empty caption"),
        ("error", "clip 'clip_2' needs one true or false in crop_safe for each caption"),
        ("error", "clip_0 is in train and again in test"),
        ("warning", "has frames that belong to no readable clip"),
        ("warning", "no captions"),
    ]


def test_a_wrong_frame_rate_is_named(write_mocap: Callable, tmp_path: Path) -> None:
    assert "30 frames per second, not 20" in check(write_mocap(tmp_path / "in", fps=30))[0].reason
    prepare(write_mocap(tmp_path / "other", fps=30), tmp_path / "out", fps=30)
    assert "30 frames per second, not 20" in check(tmp_path / "out")[0].reason


def test_no_data_set_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    assert "holds no data set" in check(tmp_path)[0].reason
    assert "holds no data set" in check(tmp_path / "nowhere")[0].reason


def shift_joints(folder: Path) -> None:
    file = folder / "new_joints" / "clip_2.npy"
    np.save(file, np.load(file) + 0.1)


def append(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text) and None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "new_joint_vecs" / "clip_1.npy").unlink(), "cannot be read: No such file"),
        (lambda f: (f / "texts" / "clip_1.txt").unlink(), "is missing: a clip without captions"),
        (lambda f: (f / "texts" / "ghost.txt").write_text("a#a/X#0#0\n"), "captions without a clip"),
        (lambda f: (f / "texts" / "clip_1.txt").write_text(""), "no captions"),
        (lambda f: (f / "test.txt").unlink(), "is missing"),
        (lambda f: np.save(f / "Std.npy", np.load(f / "Std.npy") * 2), "the deviation of channel"),
        (lambda f: np.save(f / "Mean.npy", np.load(f / "Mean.npy") + 1), "the mean of channel"),
        (lambda f: np.save(f / "Mean.npy", np.full(263, np.nan)), "the mean of channel 0 is nan"),
        (lambda f: np.save(f / "Mean.npy", np.zeros(251)), "statistics have shapes (251,)"),
        (append("val.txt", "clip_0\n"), "clip_0 is already in train.txt: the split leaks"),
        (
            lambda f: np.save(f / "new_joints" / "clip_2.npy", np.load(f / "new_joints" / "clip_2.npy") + 0.1),
            "m away from the stored ones",
        ),
        (lambda f: np.save(f / "new_joints" / "clip_2.npy", np.zeros((29, 22, 3))), "26 frames of features"),
        (lambda f: np.save(f / "new_joint_vecs" / "clip_2.npy", np.full((26, 263), np.nan)), "NaN or infinite feat"),
    ],
)
@pytest.mark.parametrize("with_packed", [True, False])
def test_a_spoilt_layout_is_named(
    prepared: Path, spoil: Callable[[Path], None], reason: str, with_packed: bool
) -> None:
    if not with_packed:
        (prepared / "packed.safetensors").unlink()
    spoil(prepared)
    assert any(reason in problem.reason for problem in check(prepared)), check(prepared)


def test_the_mirror_image_in_another_split_leaks(prepared: Path) -> None:
    (prepared / "packed.safetensors").unlink()
    for kind, suffix in (("new_joint_vecs", "npy"), ("new_joints", "npy"), ("texts", "txt")):
        for old, new in (("clip_0", "000001"), ("clip_4", "M000001")):
            (prepared / kind / f"{old}.{suffix}").rename(prepared / kind / f"{new}.{suffix}")
    (prepared / "train.txt").write_text("000001\nclip_1\nclip_2\n")
    (prepared / "test.txt").write_text("M000001\n")
    assert found(prepared) == [("error", "M000001 mirrors 000001 of train.txt: the split leaks")]


def test_a_packed_file_of_other_clips_is_named(prepared: Path) -> None:
    packed = PackedClips.open(prepared)
    kept = [(packed.clips[i], np.array(packed.clip_features(i)), np.array(packed.clip_joints(i))) for i in range(1, 5)]
    PackedClips.write(prepared / "packed.safetensors", kept, statistics=(packed.mean, packed.std * 3))
    reasons = [reason for _, reason in found(prepared)]
    assert "clip_0 is only in the split lists; prepare the folder again" in reasons
    assert any("the deviation of channel" in reason for reason in reasons)


def test_a_damaged_packed_file_is_named(prepared: Path) -> None:
    (prepared / "packed.safetensors").write_bytes(b"x" * 50)
    assert "damaged" in found(prepared)[0][1]


@pytest.mark.slow
def test_the_real_recordings_have_no_error(mocap_dir: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (mocap_dir / "clips.jsonl").read_text().splitlines()]
    kept = [record for record in records if record["id"].startswith(("CMU_14", "AD_", "DM_"))]
    (tmp_path / "clips.jsonl").write_text("\n".join(json.dumps(record) for record in kept))
    (tmp_path / "joints.npz").symlink_to((mocap_dir / "joints.npz").resolve())
    problems = check(tmp_path)
    assert not [problem for problem in problems if problem.severity == "error"]
    assert any("CMU_14_31 and CMU_14_36 are the same motion" in problem.reason for problem in problems)
