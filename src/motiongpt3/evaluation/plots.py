"""Pictures of a report: distributions over clips, bars per class and per joint, confusion."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.serialization import atomic_path

MADE, REAL = "#2166ac", "#f4a582"
"""Colours of what the model made and of the recordings."""
MAX_CLASSES = 40
"""Classes of a picture: the most frequent ones."""


def draw_plots(report: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Draw what a report of `tasks.evaluate` holds as png files.

    Args:
        report: the report.
        folder: where to; made if it is not there.

    Returns:
        The files: of `distributions.png`, `classes.png`, `joints.png` and `confusion.png` those the report has numbers
        for. Distributions are those of the first repeat, everything else is over all repeats.

    Raises:
        MotionGPT3Error: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MotionGPT3Error(f"cannot write {folder}: {error.strerror or error}") from None
    title = f"{report['task']}, {report['protocol']['name']} {report['protocol']['version']}, {report['model']['name']}"
    confusion: Counter[tuple[str, str]] = Counter()
    for kept in report["each"]:
        confusion.update({(one, other): count for one, other, count in kept["confusion"]})
    figures = {
        "distributions": _distributions(report["each"][0]["columns"]),
        "classes": _classes(report),
        "joints": _joints([kept["joints"] for kept in report["each"] if kept["joints"]]),
        "confusion": _confusion(confusion) if confusion else None,
    }
    files = []
    for name, figure in figures.items():
        if figure is not None:
            figure.suptitle(title, fontsize=10)
            with atomic_path(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, dpi=120)
            files.append(folder / f"{name}.png")
    return files


def _distributions(columns: Mapping[str, Sequence[float | None]]) -> Figure | None:
    """A histogram of each column, over that of the recordings where there is one."""
    names = [name for name in columns if not name.startswith("real ")]
    if not names:
        return None
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(10, 2.6 * rows + 0.4), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, 3, number + 1)
        sides = {"generated": _finite(columns[name]), "real": _finite(columns.get(f"real {name}", []))}
        everything = np.concatenate(list(sides.values()))
        if len(everything):
            edges = np.linspace(everything.min(), max(np.percentile(everything, 99.5), everything.min() + 1e-9), 31)
            for (side, values), colour in zip(sides.items(), (MADE, REAL), strict=True):
                if len(values):
                    axes.hist(values.clip(max=edges[-1]), edges.tolist(), alpha=0.6, color=colour, label=side)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        if number == 0:
            axes.legend(fontsize=8)
    return figure


def _classes(report: Mapping[str, Any]) -> Figure | None:
    """R@3 per class, or the mean ADE per class."""
    real: dict[str, float] = {}
    if report["classes"]:
        values = {name: entry["share"] for name, entry in report["classes"].items()}
        real = {name: entry["real"] for name, entry in report["classes"].items()}
        weights = {name: entry["of"] for name, entry in report["classes"].items()}
        label = "share of texts whose motion is among the first three"
    elif any(report["clip_classes"]) and "ade" in report["each"][0]["columns"]:
        errors: dict[str, list[float]] = defaultdict(list)
        for kept in report["each"]:
            for name, error in zip(report["clip_classes"], kept["columns"]["ade"], strict=True):
                if error is not None:
                    errors[name].append(error)
        values = {name: float(np.mean(found)) for name, found in errors.items()}
        weights, label = {name: len(found) for name, found in errors.items()}, "ADE in metres"
    else:
        return None
    names = sorted(sorted(weights, key=lambda name: -weights[name])[:MAX_CLASSES], key=lambda name: values[name])
    return _bars(names, [values[name] for name in names], label, [real[name] for name in names] if real else [])


def _joints(repeats: Sequence[Mapping[str, float]]) -> Figure | None:
    """Mean error of each joint."""
    if not repeats:
        return None
    names = list(repeats[0])[::-1]
    return _bars(names, [float(np.mean([one[name] for one in repeats])) for name in names], "mean distance in metres")


def _bars(names: Sequence[str], values: Sequence[float], label: str, real: Sequence[float] = ()) -> Figure:
    """A bar for each name; marks where recordings are."""
    figure = Figure(figsize=(8, 0.22 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(names)), values, color=MADE, label="generated")
    if real:
        axes.plot(real, range(len(names)), "|", markersize=9, markeredgewidth=3, color=REAL, label="real")
        axes.legend(fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(label, fontsize=8)
    return figure


def _confusion(counts: Mapping[tuple[str, str], int]) -> Figure:
    """Rows: what it is; columns: what it is taken for; each row's shares."""
    totals: Counter[str] = Counter()
    for (name, _), count in counts.items():
        totals[name] += count
    rows = sorted(name for name, _ in totals.most_common(MAX_CLASSES))
    others = sorted({other for name, other in counts if name in rows and other not in rows})
    columns = rows + (["-"] if "-" in others else []) + (["other"] if set(others) - {"-"} else [])
    shares = np.zeros((len(rows), len(columns)))
    for (name, other), count in counts.items():
        if name in rows:
            shares[rows.index(name), columns.index(other if other in columns else "other")] += count / totals[name]
    size = 0.2 * len(rows) + 2.5
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=6)
    axes.set_yticks(range(len(rows)), rows, fontsize=6)
    axes.set_ylabel("is", fontsize=8)
    axes.set_xlabel("taken for", fontsize=8)
    return figure


def _finite(values: Sequence[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([value for value in values if value is not None], dtype=np.float64)
