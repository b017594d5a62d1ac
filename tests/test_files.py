"""Files are whole or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.files import atomic_path


def test_the_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "clip.tar.npz"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        temporary.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert os.listdir(tmp_path) == ["clip.tar.npz"]
    with atomic_path(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "half"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MotionGPT3Error, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "clip.npz"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error("no")

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["clip.npz"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "clip.npz"):
            raise OSError(28, "No space left on device")

    with pytest.raises(MotionGPT3Error, match=r"cannot write .*clip.npz: No space left on device") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["missing/clip.npz", "file/clip.npz", "folder", "x" * 300 + ".npz"])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    def write() -> None:
        with atomic_path(tmp_path / place) as temporary:
            temporary.write_text("new")

    with pytest.raises(MotionGPT3Error, match="cannot write"):
        write()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "clip.npz") as temporary:
            temporary.write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "clip.npz").stat().st_mode) == 0o640
