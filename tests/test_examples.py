"""The examples run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from motiongpt3 import Motion

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("[0-9]*.py"))
MAKES = {
    "01_generate": ["walk.bvh", "walk.png"],
    "02_choose_among_samples": ["best_0.npz", "best_1.npz"],
    "03_read_and_change": ["changed.bvh"],
    "04_ask_the_service": ["served.bvh"],
    "05_take_it_away": ["cycle.bvh", "cycle.glb", "cycle.png", "cycle.smpl.npz", "hero.glb"],
    "06_open_the_app": [],
    "07_direct_it": ["directed.bvh", "directed.png"],
}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(
    example: Path,
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needs_model = "MODEL" in (example.read_text().split('"""')[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), *([str(tiny_model_dir)] if needs_model else [])])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == MAKES[example.stem]
    for path in tmp_path.iterdir():
        if path.suffix in (".bvh", ".npz"):
            assert len(Motion.load(path)) > 10
