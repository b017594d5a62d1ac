"""What commands share: files that are written, tables and bars."""

from __future__ import annotations

from pathlib import Path

import pytest

from motiongpt3.cli.options import bar, output_files, table


def test_a_folder_made_for_nothing_goes_again(tmp_path: Path) -> None:
    def fail() -> None:
        with output_files(tmp_path / "new/a.txt", None) as paths:
            assert paths == [tmp_path / "new/a.txt"]
            assert paths[0].parent.is_dir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with output_files(tmp_path / "new/a.txt") as (path,):
        path.write_text("made")
    assert path.read_text() == "made"


def test_columns() -> None:
    assert table(["name", "x"], [["a", 1.5], ["longer", "-"]]) == "name        x\na       1.500\nlonger      -"


def test_long_work_says_how_far_it_is_where_there_is_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(bar("reading", "batch")(range(2))) == [0, 1]
    assert capsys.readouterr().err == "", "short work"
    monkeypatch.setattr("motiongpt3.cli.options.LINE_SECONDS", -1)
    assert list(bar("reading", "batch")(range(2))) == [0, 1]
    assert capsys.readouterr().err == "motiongpt3: reading: 0 of 2\nmotiongpt3: reading: 1 of 2\n"
