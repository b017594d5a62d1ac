"""`motiongpt3 evaluate t2m` and its like, from a packed folder to a table and a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from motiongpt3.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def packed(tiny_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder of `tiny_data_dir`."""
    out = tmp_path_factory.mktemp("packed") / "data"
    assert main(["data", "prepare", str(tiny_data_dir), str(out), "--no-layout"]) == 0
    return out


@pytest.fixture
def evaluate(here: Path, packed: Path, tiny_reader_dir: Path, tiny_evaluator_dir: Path) -> Callable[..., list[str]]:
    """`evaluate(task, word, …)`: the whole command on the four train clips."""

    def words(task: str, *more: str) -> list[str]:
        things = {"--model": tiny_reader_dir, "--data": packed, "--evaluator": tiny_evaluator_dir}
        named = [str(word) for pair in things.items() for word in pair if pair[0] not in more]
        return ["evaluate", task, *named, "--split", "train", *more]

    return words


def test_t2m_from_data_to_report(evaluate: Callable[..., list[str]], capsys: Capture) -> None:
    capsys.readouterr()
    assert main(evaluate("t2m", "--repeats", "2", "-o", "report.json")) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "t2m under mocap 1: 4 clips of split train; 2 repeats, mean ± 95 % confidence"
    assert lines[2].split() == ["generated", "real"]
    assert "4 clips hold no group of 32 of different labels: R-precision and MM-Dist are undefined" in err
    assert lines[-1].startswith("undefined: R-precision 1 (%), R-precision 2 (%), R-precision 3 (%), MM-Dist, FID, ")
    report = json.loads(Path("report.json").read_text())
    assert report["protocol"]["name"] == "mocap"
    assert report["protocol"]["version"] == 1
    assert report["versions"]["torch"]
    assert report["settings"]["seed"] == 0
    assert report["metrics"]["jitter"]["generated"]["repeats"] == 2
    assert report["metrics"]["fid"]["generated"] == {"mean": None, "ci95": None, "repeats": 0}
    jitter = next(line for line in lines if line.startswith("jitter"))
    assert f" {report['metrics']['jitter']['generated']['mean']:.1f} ± " in jitter
    before = Path("report.json").read_text()
    assert main(evaluate("t2m", "--repeats", "2", "-o", "report.json", "--processes", "1")) == 0
    assert Path("report.json").read_text() == before  # from the finished repeats


@pytest.mark.parametrize(
    ("task", "row", "pictures"),
    [
        ("t2m", "jitter", ["confusion.png", "distributions.png"]),
        ("m2t", "BLEU-4, lemmas", ["confusion.png", "distributions.png"]),
        ("predict", "ADE (m)", ["classes.png", "distributions.png", "joints.png"]),
        ("inbetween", "FDE (m)", ["classes.png", "distributions.png", "joints.png"]),
    ],
)
def test_tasks_and_their_pictures(
    evaluate: Callable[..., list[str]], capsys: Capture, task: str, row: str, pictures: list[str]
) -> None:
    split = ["--split", "test"] if task == "inbetween" else []  # needs clips of 3 s
    assert main([*evaluate(task, "--repeats", "1", "--plots", "pictures"), *split]) == 0
    out = capsys.readouterr().out
    assert f"{task} under mocap 1" in out
    assert f"\n{row} " in out
    assert sorted(path.name for path in Path("pictures").iterdir()) == pictures
    for name in pictures:
        width, height = Image.open(Path("pictures") / name).size
        assert width > 200
        assert height > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "mine"], "there is no protocol 'mine'; choose among mocap, humanml3d-strict"),
        (["--protocol", "humanml3d-strict"], "humanml3d-strict needs Guo et al.'s evaluator, and"),
        (["--data", "nowhere"], "there is no packed file nowhere"),
        (["--seed", "1000001"], "the seed of an evaluation is 0 to 1000000, not 1000001"),
        (["--repeats", "0"], "--repeats: needs a whole number above 0, not 0"),
        (["-o", "report.txt"], "the report is JSON: give -o a name that ends in .json, not 'report.txt'"),
        (["--plots", "notes.txt"], "--plots takes a folder, and notes.txt is a file"),
        (["--evaluator", "nowhere"], "there is no evaluator 'nowhere'"),
        (["--model", "nothing/here"], "no model 'nothing/here'"),
    ],
)
def test_bad_input_is_one_line(
    refused: Callable[..., str], evaluate: Callable[..., list[str]], capsys: Capture, words: list[str], message: str
) -> None:
    capsys.readouterr()
    assert message in refused(*evaluate("t2m", *words))


def test_guo_s_evaluator_is_asked_for(refused: Callable[..., str], packed: Path, tiny_model_dir: Path) -> None:
    line = refused(
        "evaluate", "t2m", "--data", str(packed), "--model", str(tiny_model_dir), "--protocol", "humanml3d-strict"
    )
    assert "convert the published weights with `motiongpt3 convert evaluator` and name the folder by --eval" in line
