"""The registry: suffixes, cheap import, and files that are no files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clips import invented

from motiongpt3 import formats
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion


def test_importing_loads_nothing_heavy() -> None:
    heavy = "('torch', 'roma', 'PIL', 'imageio_ffmpeg')"
    code = f"import sys, motiongpt3.formats; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_suffixes() -> None:
    assert set(formats.readable_suffixes()) == {".npz", ".npy", ".bvh", ".amc", ".glb"}
    assert set(formats.writable_suffixes()) == {
        ".npz", ".smpl.npz", ".npy", ".bvh", ".glb", ".mp4", ".gif", ".png"
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".bvh", ".BVH", ".Npz", ".GLB"])
def test_what_is_saved_can_be_loaded(tmp_path: Path, suffix: str) -> None:
    motion = invented()
    path = tmp_path / f"deep.name{suffix}"
    assert motion.save(path) == path
    assert abs(Motion.load(path).joints - motion.joints).max() < 1e-3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["clip.xyz", "clip", "clip.mp4", ".bvh"])
def test_unknown_suffixes_are_listed_when_reading(tmp_path: Path, name: str) -> None:
    with pytest.raises(MotionGPT3Error, match=r"readable are \.npz, \.npy, \.bvh, \.amc, \.glb$"):
        formats.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "way_on"),
    [
        ("a.fbx", "import_scene.fbx"), ("a.c3d", "markers, not joints"), ("a.trc", "markers, not joints"),
        ("a.pkl", "numpy.save"), ("a.asf", "give the .amc"), ("a.usdz", "usd_import"),
    ],
)  # fmt: skip
def test_formats_that_others_read_name_the_way_on(name: str, way_on: str) -> None:
    with pytest.raises(MotionGPT3Error, match=way_on):
        formats.load(name)


def test_fbx_is_written_by_blender() -> None:
    with pytest.raises(MotionGPT3Error, match=r"motiongpt3 export MOTION --fbx clip\.fbx"):
        formats.save(invented(), "clip.fbx")


@pytest.mark.parametrize("name", ["clip.xyz", "clip", "clip.amc"])
def test_unknown_suffixes_are_listed_when_writing(tmp_path: Path, name: str) -> None:
    with pytest.raises(MotionGPT3Error, match=r"writable are .*\.mp4"):
        formats.save(invented(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", formats.readable_suffixes())
def test_files_that_are_none(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MotionGPT3Error, match="No such file"):
        formats.load(tmp_path / f"missing{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(MotionGPT3Error, match="is a folder"):
        formats.load(tmp_path / f"folder{suffix}")
    (tmp_path / f"empty{suffix}").touch()
    with pytest.raises(MotionGPT3Error, match="is empty"):
        formats.load(tmp_path / f"empty{suffix}")
    with (tmp_path / f"huge{suffix}").open("wb") as file:
        file.truncate(formats.MAX_BYTES + 1)
    with pytest.raises(MotionGPT3Error, match="refused"):
        formats.load(tmp_path / f"huge{suffix}")
    (tmp_path / f"noise{suffix}").write_bytes(bytes(range(256)) * 50)
    with pytest.raises(MotionGPT3Error) as caught:
        formats.load(tmp_path / f"noise{suffix}")
    assert "\n" not in str(caught.value)


def test_a_path_with_a_null_byte_is_one_clear_line() -> None:
    with pytest.raises(MotionGPT3Error, match="cannot read"):
        formats.load("a\0b.npz")


def test_a_skeleton_alone_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MotionGPT3Error, match=r"give the \.amc"):
        formats.load(tmp_path / "09.asf")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".bvh", ".glb"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MotionGPT3Error, match="cannot write"):
        formats.save(invented(), tmp_path / "missing" / f"clip{suffix}")
    (tmp_path / f"dir{suffix}").mkdir()
    with pytest.raises(MotionGPT3Error, match="is a folder"):
        formats.save(invented(), tmp_path / f"dir{suffix}")
