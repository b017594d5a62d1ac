"""Pictures of a report: which are drawn, and what their bars and cells stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation import plots

REPEAT: dict[str, Any] = {
    "columns": {"jitter": [1.0, 2.0, None], "real jitter": [1.0, 1.5, 2.0]},
    "confusion": [["walk", "walk", 3], ["walk", "jump", 1], ["jump", "jump", 1]],
    "joints": {},
}
REPORT: dict[str, Any] = {
    "task": "t2m",
    "protocol": {"name": "mocap", "version": 1},
    "model": {"name": "mini"},
    "classes": {"walk": {"share": 0.75, "real": 0.9, "of": 4}, "jump": {"share": 0.5, "real": 1.0, "of": 2}},
    "clip_classes": ["walk", "walk", "jump"],
    "each": [REPEAT, REPEAT],
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures that are written, by the name of the picture; no file is made."""
    figures: dict[str, Figure] = {}
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: figures.setdefault(path.name[1:5], figure))
    return figures


def bars(figure: Figure) -> dict[str, float]:
    """Length of each bar by its label."""
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, [bar.get_width() for bar in axes.patches], strict=True))  # type: ignore[attr-defined]


def test_shares_per_class_and_confusion_over_all_repeats(drawn: dict[str, Figure], tmp_path: Path) -> None:
    files = plots.draw_plots(REPORT, tmp_path)
    assert [file.stem for file in files] == ["distributions", "classes", "confusion"]
    assert bars(drawn["clas"]) == {"jump": 0.5, "walk": 0.75}
    (axes,) = drawn["conf"].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["jump", "walk"]
    assert axes.images[0].get_array().tolist() == [[1, 0], [0.25, 0.75]]  # type: ignore[union-attr]
    assert [axes.get_title() for axes in drawn["dist"].axes] == ["jitter"]
    assert sum(bar.get_height() for bar in drawn["dist"].axes[0].patches) == 2 + 3  # type: ignore[attr-defined]
    assert drawn["clas"].get_suptitle() == "t2m, mocap 1, mini"


def test_errors_per_class_and_joint_are_means_over_all_repeats(drawn: dict[str, Figure], tmp_path: Path) -> None:
    each = [
        {"columns": {"ade": [0.1, 0.3, None]}, "confusion": [], "joints": {"pelvis": 0.1, "head": 0.2}},
        {"columns": {"ade": [0.2, 0.6, 0.5]}, "confusion": [], "joints": {"pelvis": 0.3, "head": 0.2}},
    ]
    files = plots.draw_plots(REPORT | {"classes": {}, "each": each}, tmp_path)
    assert [file.stem for file in files] == ["distributions", "classes", "joints"]
    assert bars(drawn["clas"]) == pytest.approx({"walk": 0.3, "jump": 0.5})
    assert bars(drawn["join"]) == pytest.approx({"head": 0.2, "pelvis": 0.2})


def test_rare_classes_go_together(drawn: dict[str, Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MAX_CLASSES", 1)
    plots.draw_plots(REPORT, tmp_path)
    (axes,) = drawn["conf"].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["walk", "other"]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25]]  # type: ignore[union-attr]
    assert bars(drawn["clas"]) == {"walk": 0.75}


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MotionGPT3Error, match=r"cannot write .*file"):
        plots.draw_plots(REPORT, tmp_path / "file")
