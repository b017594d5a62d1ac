"""`motiongpt3 evaluate` from data to numbers: tasks under a protocol, checks, reconstruction, quality."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motiongpt3 import Motion
from motiongpt3.cli.main import main

Capture = pytest.CaptureFixture[str]
Refused = Callable[..., str]


@pytest.fixture
def evaluate(motions: Path, packed: Path, tiny_reader_dir: Path, tiny_evaluator_dir: Path) -> Callable[..., list[str]]:
    """`evaluate(task, word, …)`: the whole command on the four train clips."""

    def words(task: str, *more: str) -> list[str]:
        things = {"--model": tiny_reader_dir, "--data": packed, "--evaluator": tiny_evaluator_dir}
        named = [str(word) for pair in things.items() for word in pair if pair[0] not in more]
        return ["evaluate", task, *named, "--split", "train", *more]

    return words


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    refused: Refused, evaluate: Callable[..., list[str]], capsys: Capture, words: list[str], message: str
) -> None:
    capsys.readouterr()
    assert message in refused(*evaluate("t2m", *words))


def test_guo_s_evaluator_is_asked_for(refused: Refused, packed: Path, tiny_model_dir: Path) -> None:
    line = refused(
        "evaluate", "t2m", "--data", str(packed), "--model", str(tiny_model_dir), "--protocol", "humanml3d-strict"
    )
    assert "convert the published weights with `motiongpt3 convert evaluator` and name the folder by --eval" in line


@pytest.mark.slow
def test_evaluate_prompts(tiny_model_dir: Path, here: Path, capsys: Capture, refused: Refused) -> None:
    assert main(["evaluate", "prompts", "--model", str(tiny_model_dir), "--seeds", "1", "--json", "new/x.json"]) == 0
    out = capsys.readouterr().out
    report = json.loads(Path("new/x.json").read_text())
    assert 0 <= report["plain"]["score"] <= 1
    assert f"{report['plain']['score']:.1%} right" in out
    files = [(tiny_model_dir / name).read_bytes() for name in ("config.json", "model.safetensors")]
    assert report["made_with"]["model"]["sha256"] == sha256(b"".join(files)).hexdigest()
    assert report["made_with"]["versions"]["motiongpt3"]
    assert "no/such" in refused("evaluate", "prompts", "--json", "no/such/x.json")
    assert "--seeds" in refused("evaluate", "prompts", "--seeds", "0")


def test_evaluate_captions(
    packed: Path, tiny_model_dir: Path, here: Path, capsys: Capture, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motiongpt3.models.motiongpt3 import MotionGPT3

    seen: list[int] = []

    def caption(model: MotionGPT3, motions: list[Motion]) -> list[str]:
        seen.extend(len(motion) for motion in motions)
        return ["a person walks backward.", "a person jumps."][: len(motions)]

    monkeypatch.setattr(MotionGPT3, "caption", caption, raising=False)
    capsys.readouterr()
    words = ["evaluate", "captions", "--data", str(packed), "--model", str(tiny_model_dir)]
    assert main([*words, "--json", "new/x.json"]) == 0
    out = capsys.readouterr().out
    assert seen == [70, 75]
    assert "action word right: 50.0% of 2 captions" in out
    report = json.loads(Path("new/x.json").read_text())
    assert (report["clips"], report["distinct"], report["forward_backward"]) == (2, 2, 0.0)
    assert [entry["caption"] for entry in report["captions"]] == ["a person walks backward.", "a person jumps."]
    assert main([*words, "--clips", "1"]) == 0
    assert "1 clips" in capsys.readouterr().out
    assert "two actions" in refused(*words, "--judge")
    assert "missing: --data" in refused("evaluate", "captions")


@pytest.mark.slow
def test_evaluate_vae(
    packed: Path, tiny_vae_dir: Path, tiny_model_dir: Path, here: Path, capsys: Capture, refused: Refused
) -> None:
    capsys.readouterr()
    words = ["evaluate", "vae", "--data", str(packed)]
    assert main([*words, "--vae", str(tiny_vae_dir)]) == 0
    assert "studio A" in capsys.readouterr().out
    assert main([*words, "--vae", str(tiny_model_dir), "--split", "test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sources = found["sources"]
    assert found["made_with"]["split"] | {"sha256": ""} == {"name": "test", "clips": 2, "frames": 145, "sha256": ""}
    assert {name: numbers["clips"] for name, numbers in sources.items()} == {"studio A": 1, "studio B": 1, "all": 2}
    mean = np.mean([sources[name]["global_mm"] for name in ("studio A", "studio B")])
    assert sources["all"]["global_mm"] == pytest.approx(mean)
    assert "no model folder" in refused(*words, "--vae", str(packed))
    assert "missing: --data" in refused("evaluate", "vae")


def test_evaluate_quality(packed: Path, tiny_model_dir: Path, here: Path, capsys: Capture) -> None:
    capsys.readouterr()
    words = ["evaluate", "quality", "--data", str(packed), "--model", str(tiny_model_dir)]
    assert main([*words, "--clips", "9", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["clips"] == 2
    assert numbers["real"]["max_speed"] < numbers["generated"]["max_speed"]
    assert main([*words, "--clips", "1"]) == 0
    assert "skate_speed (cm/s)" in capsys.readouterr().out
