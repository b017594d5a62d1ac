"""Reading mocap archives, HumanML3D folders and recordings: what is damaged is one line or one skipped clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from motiongpt3.data.clips import PackedClips
from motiongpt3.data.prepare import prepare
from motiongpt3.data.sources import SourceClip, open_source, parse_caption_line, read_numbers
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion


@pytest.mark.parametrize("broken", ["pickle", "truncated", "missing key", "wrong shape", "fps"])
def test_a_bad_archive_is_one_clear_line(write_mocap: Callable, tmp_path: Path, broken: str) -> None:
    folder = write_mocap(tmp_path / "in", fps=30.0 if broken == "fps" else 20.0)
    file = folder / "joints.npz"
    with np.load(file) as archive:
        arrays = dict(archive)
    if broken == "pickle":
        arrays["root"] = np.array([{"a": 1}], dtype=object)
    if broken == "missing key":
        del arrays["offsets"]
    if broken == "wrong shape":
        arrays["offsets"] = arrays["offsets"][:, :21]
    np.savez(file, **arrays)
    if broken == "truncated":
        file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(MotionGPT3Error) as error:
        prepare(folder, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [lambda f: None, lambda f: f.mkdir(), lambda f: f.write_text("x")])
def test_no_data_set_is_one_clear_line(tmp_path: Path, make) -> None:
    make(tmp_path / "in")
    with pytest.raises(MotionGPT3Error, match="holds no data set"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_recordings_are_resampled_and_put_in_place(tmp_path: Path, samples_dir: Path) -> None:
    pytest.importorskip("motiongpt3.formats.bvh")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("bandai1_bow_active_001.bvh", "bandai2_wave-right-hand_normal.bvh"):
        (folder / name).write_bytes((samples_dir / name).read_bytes())
    (folder / "bandai1_bow_active_001.txt").write_text("a person bows.\n")
    (folder / "broken.bvh").write_text("HIERARCHY\n")
    done = prepare(folder, tmp_path / "out")
    packed = PackedClips.open(tmp_path / "out")
    assert [clip.captions for clip in packed.clips] == [("a person bows.",), ()]
    assert [problem.file for problem in done.skipped] == ["broken.bvh"]
    for index in range(2):
        joints = packed.clip_joints(index)
        assert abs(joints[..., 1].min()) < 1e-4
        assert np.abs(joints[0, 0, [0, 2]]).max() < 1e-4
        assert 1.2 < joints[0, 15, 1] < 1.9


@pytest.mark.slow
def test_every_readable_file_is_taken_and_every_other_one_named(tmp_path: Path, walk: Callable) -> None:
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for name in ("a.bvh", "b.glb", "c.npz", "more/d.npy"):
        Motion(walk(40), caption=f"in {name}").save(folder / name)
    (folder / "a.txt").write_text("a person walks.\n")
    np.save(folder / "z.npy", walk(40)[..., [0, 2, 1]] * [1, -1, 1])
    for name in ("lonely.txt", "README.md", "e.fbx", "f.c3d"):
        (folder / name).write_text("x")
    np.save(folder / "odd.npy", np.ones((3, 3)))
    done = prepare(folder, tmp_path / "out")
    packed = PackedClips.open(tmp_path / "out")
    assert {clip.id: clip.captions for clip in packed.clips} == {
        "a": ("a person walks.",), "b": ("in b.glb",), "c": ("in c.npz",), "more_d": (), "z": (),
    }  # fmt: skip
    for index in range(len(packed.clips)):
        np.testing.assert_allclose(packed.clip_joints(index), walk(40), atol=0.002)
    reasons = {problem.file: problem.reason for problem in done.problems}
    assert set(reasons) == {"lonely.txt", "README.md", "e.fbx", "f.c3d", "odd.npy", "z.npy"}
    assert {problem.file for problem in done.skipped} == {"e.fbx", "f.c3d", "odd.npy"}
    assert "import_scene.fbx" in reasons["e.fbx"]
    assert "--up y" in reasons["z.npy"]


def test_clips_are_read_to_the_number(write_mocap: Callable, walk: Callable, tmp_path: Path) -> None:
    """Offsets are whole tenths of a millimetre; frames of two clips are warned of."""
    source = open_source(write_mocap(tmp_path / "in", [walk(24), walk(30, seed=1)], offset={1: 20}))
    first, second, *warnings = source.items
    assert source.total == 2
    assert isinstance(first, SourceClip)
    assert isinstance(second, SourceClip)
    np.testing.assert_allclose(first.joints, walk(24), atol=6e-5)
    np.testing.assert_allclose(second.joints[4:], walk(30, seed=1)[:26], atol=6e-5)
    assert (first.file, first.clip.start, first.features) == ("clips.jsonl:1 clip_0", 0, None)
    assert [str(warning) for warning in warnings] == [
        "warning: clips.jsonl: clip_0 and clip_1 share frames of joints.npz"
    ]


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("a person walks.#a/DET person/NOUN#0.0#0.0", ("a person walks.", 0, 0)),
        ("he jumps#x#1.5#3", ("he jumps", 1.5, 3)),
        ("he jumps#x#nan#nan", ("he jumps", 0, 0)),
        (" he jumps ", ("he jumps", 0, 0)),
    ],
)
def test_lines_of_captions(line: str, parsed: tuple[str, float, float]) -> None:
    assert parse_caption_line(line) == parsed


@pytest.mark.parametrize("line", ["#x#0#0", "he jumps#x#3#1", "he jumps#x#-1#1", "he jumps#x#a#b", "he jumps#x#0#1e9"])
def test_lines_that_are_no_captions(line: str) -> None:
    with pytest.raises(MotionGPT3Error, match=r"the seconds of caption|is empty or ends before it starts"):
        parse_caption_line(line)


def test_numbers_are_read_as_float32_and_nothing_else_is(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.arange(6, dtype=np.int16).reshape(2, 3))
    found = read_numbers(file)
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    np.save(file, np.array(["a"]))
    with pytest.raises(MotionGPT3Error, match="is not an array of numbers: it holds"):
        read_numbers(file)
    with pytest.raises(MotionGPT3Error, match="cannot be read: No such file"):
        read_numbers(tmp_path / "none.npy")
