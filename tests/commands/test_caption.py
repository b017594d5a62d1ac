"""`motiongpt3 caption` from files to lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from motiongpt3.cli import main
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion

Capture = pytest.CaptureFixture[str]


@pytest.mark.usefixtures("here")
def test_what_is_printed_is_what_the_model_says(tiny_reader_dir: Path, capsys: Capture) -> None:
    model = MotionGPT3.from_pretrained(tiny_reader_dir)
    walk, long = (Motion.load(name) for name in ("walk.npz", "long.npz"))
    command = ["caption", "--model", str(tiny_reader_dir)]
    assert main([*command, "walk.npz"]) == 0
    assert capsys.readouterr().out == f"{model.caption(walk)}\n"
    Motion.load("walk.npz").save("walk.glb")
    assert main([*command, "walk.glb"]) == 0
    assert capsys.readouterr().out == f"{model.caption(Motion.load('walk.glb'))}\n"
    assert main([*command, "walk.npz", "long.npz", "--beams", "2"]) == 0
    lines = [f"walk.npz: {model.caption(walk, beams=2)}", f"long.npz (in 3 parts): {model.caption(long, beams=2)}"]
    assert capsys.readouterr().out.splitlines() == lines
    assert main([*command, "walk.npz", "long.npz", "--samples", "2", "--seed", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    texts = model.caption([walk, long], samples=2, seed=4)
    assert found == [
        {"file": "walk.npz", "captions": texts[:2], "parts": 1},
        {"file": "long.npz", "captions": texts[2:], "parts": 3},
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing: FILE"),
        (["nowhere.npz"], "nowhere.npz"),
        (["notes.txt"], "notes.txt"),
        (["walk.npz", "short.npz"], "the motion has 0.5 s; the model reads 1 s or more"),
        (["walk.npz", "--samples", "0"], "--samples: needs a whole number above 0, not 0"),
        (["walk.npz", "--samples", "101"], "samples must be a whole number from 1 to 100, not 101"),
        (["walk.npz", "--beams", "65"], "beams must be a whole number from 1 to 64, not 65"),
        (["walk.npz", "--beams", "2", "--samples", "2"], "several captions of a motion are drawn"),
        (["walk.npz", "--model", "nothing/here"], "no model 'nothing/here'"),
    ],
)
def test_bad_input_is_one_line(
    refused: Callable[..., str], tiny_reader_dir: Path, words: list[str], message: str
) -> None:
    model = [] if "--model" in words else ["--model", str(tiny_reader_dir)]
    assert message in refused("caption", *words, *model)


def test_a_model_of_stage_1_says_so(refused: Callable[..., str], tiny_model_dir: Path) -> None:
    line = refused("caption", "walk.npz", "--model", str(tiny_model_dir))
    assert line == "motiongpt3: this model was trained for text to motion alone: it cannot read motions\n"
