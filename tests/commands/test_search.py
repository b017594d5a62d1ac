"""`motiongpt3 search`: the order is the evaluator's, and what cannot be read is named and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from motiongpt3.cli import main
from motiongpt3.evaluation.evaluator import load_evaluator
from motiongpt3.motion.motion import Motion

Capture = pytest.CaptureFixture[str]


def test_files_come_in_the_evaluator_s_order(here: Path, tiny_evaluator_dir: Path, capsys: Capture) -> None:
    (here / "more").mkdir()
    Motion.load("walk.npz").mirror().save("more/other.BVH")
    evaluator = load_evaluator(str(tiny_evaluator_dir))
    files = ["long.npz", "more/other.BVH", "short.npz", "walk.npz"]
    query = evaluator.embed_texts(["somebody walks"])[0]
    expected = {file: float(evaluator.embed_motions([Motion.load(file)])[0] @ query) for file in files}
    command = ["search", "somebody walks", "--in", ".", "--evaluator", str(tiny_evaluator_dir)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found] == sorted(files, key=lambda file: -expected[file])
    assert {one["file"]: one["similarity"] for one in found} == pytest.approx(expected, abs=1e-5)
    assert {one["file"]: one["seconds"] for one in found}["long.npz"] == 12
    assert main([*command, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "seconds", "similarity"]
    assert [line.split()[0] for line in lines[1:]] == [one["file"] for one in found[:2]]


def test_unreadable_files_are_named_and_skipped(here: Path, tiny_evaluator_dir: Path, capsys: Capture) -> None:
    Path("broken.bvh").write_text("HIERARCHY of nothing")
    Path("empty.npy").touch()
    assert main(["search", "somebody walks", "--in", ".", "--evaluator", str(tiny_evaluator_dir)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    skipped = sorted(err.splitlines())
    assert [line.split(":")[1] for line in skipped] == [" skipped broken.bvh", " skipped empty.npy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["somebody walks"], "missing: --in"),
        (["--in", "."], "missing: TEXT"),
        (["somebody walks", "--in", "nowhere"], "nowhere is no folder"),
        (["somebody walks", "--in", "walk.npz"], "walk.npz is no folder"),
        (["somebody walks", "--in", ".", "--evaluator", "nothing"], "there is no evaluator 'nothing'"),
        (["somebody walks", "--in", ".", "--top", "0"], "--top: needs a whole number above 0"),
        (["", "--in", "."], "empty"),
    ],
)
def test_bad_input_is_one_line(refused: Callable[..., str], words: list[str], message: str) -> None:
    assert message in refused("search", *words)


def test_a_folder_without_motions(refused: Callable[..., str], here: Path, tiny_evaluator_dir: Path) -> None:
    for file in here.glob("*.npz"):
        file.unlink()
    assert "holds no motion files" in refused("search", "somebody walks", "--in", ".")


def test_no_file_can_be_read(here: Path, tiny_evaluator_dir: Path, capsys: Capture) -> None:
    (here / "bad").mkdir()
    Path("bad/broken.bvh").write_text("nothing")
    command = ["search", "somebody walks", "--in", "bad", "--evaluator", str(tiny_evaluator_dir)]
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "motiongpt3: none of the files can be read as a motion"
