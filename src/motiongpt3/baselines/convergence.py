"""How much sooner one kind of training run gets where another gets at its best.

A curve is smoothed by means over `window` points, steps and seconds as well as values. The slow
run's best smoothed value is the goal. The ratio is the steps at which the slow run first has it, divided by those at
which the fast run first has it, both between two points by a straight line. Other goals lie on the way: the slow run's
first value plus a share of what it gains from there to its best.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motiongpt3.errors import MotionGPT3Error

SHARES = (0.5, 0.75, 0.9, 1.0)
"""Goals, as shares of what the slow run gains; the last is its best."""


@dataclass(frozen=True)
class Measure:
    """A column of metrics.csv and how it is read."""

    column: str
    title: str
    window: int
    """Points of a mean."""
    rises: bool = False
    """Whether more is better."""


MEASURES = (
    Measure("train/objective", "training loss", 20),
    Measure("val/objective", "validation loss", 3),
    Measure("val/r_precision_1", "validation R@1", 3, rises=True),
    Measure("val/r_precision_3", "validation R@3", 3, rises=True),
    Measure("val/fid", "validation FID", 3),
)
"""Training losses are logged every few steps, the rest once in a validation."""


@dataclass(frozen=True)
class Curve:
    """Values (n,) at steps (n,), which took seconds (n,) of training."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def smooth(self, window: int) -> Curve:
        """Means over each `window` points that follow one another."""
        columns = (self.steps, self.values, self.seconds)
        return Curve(*(np.lib.stride_tricks.sliding_window_view(column, window).mean(-1) for column in columns))


def read_curve(run: str | Path, column: str) -> Curve:
    """A column of a run's metrics, without points where it was undefined; empty if the run never logged it.

    Raises:
        MotionGPT3Error: there is no such run, or its metrics are damaged.
    """
    file = Path(run) / "metrics" / "metrics.csv"
    rows = []
    try:
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if row.get(column) and row.get("seconds") and row[column] != "nan":
                    rows.append((float(row["step"]) + 1, float(row[column]), float(row["seconds"])))
    except FileNotFoundError:
        raise MotionGPT3Error(f"{run} is no training run: it has no metrics/metrics.csv") from None
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise MotionGPT3Error(f"{file} is damaged: {str(error)[:100]}") from None
    table = np.array(sorted(rows), dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(table).all():
        raise MotionGPT3Error(f"{file}: {column} holds values that are not finite")
    return Curve(*table.T)


def reach(curve: Curve, goal: float, rises: bool = False) -> tuple[float, float] | None:
    """Steps and seconds at which a curve first has a value, between two points by a straight line; None: never."""
    sign = 1 if rises else -1
    above = np.flatnonzero(sign * curve.values >= sign * goal)
    if not len(above):
        return None
    at = int(above[0])
    if at == 0:
        return float(curve.steps[0]), float(curve.seconds[0])
    before, after = curve.values[at - 1], curve.values[at]
    share = (goal - before) / (after - before)

    def between(x: NDArray[np.float64]) -> float:
        return float(x[at - 1] + share * (x[at] - x[at - 1]))

    return between(curve.steps), between(curve.seconds)


def compare(slow: Curve, fast: Curve, window: int, rises: bool = False) -> dict[str, Any]:
    """A pair of runs.

    Args:
        slow, fast: curves of one quantity.
        window: points of a mean.
        rises: whether more is better.

    Returns:
        `slow_best` and `fast_best`, and for each goal of SHARES its `value` and the `steps` and `seconds` of both; the
        `ratio` of the steps and that of the seconds, None where the fast run does not get there; `at_least` where it is
        there at its first mean, and so the ratios are too small.

    Raises:
        MotionGPT3Error: a curve has fewer points than a mean takes.
    """
    if min(len(slow.values), len(fast.values)) < window:
        raise MotionGPT3Error(f"a mean takes {window} points; the shorter curve has fewer")
    slow, fast = slow.smooth(window), fast.smooth(window)
    pick = np.max if rises else np.min
    first, best = float(slow.values[0]), float(pick(slow.values))
    goals = []
    for share in SHARES:
        value = best if share == 1 else first + share * (best - first)
        own, other = reach(slow, value, rises), reach(fast, value, rises)
        assert own is not None
        goals.append(
            {
                "share": share,
                "value": value,
                "steps": [own[0], other and other[0]],
                "seconds": [own[1], other and other[1]],
                "ratio": own[0] / other[0] if other else None,
                "ratio_seconds": own[1] / other[1] if other and other[1] else None,
                "at_least": bool(other and other[0] == fast.steps[0] < own[0]),
            }
        )
    return {"slow_best": best, "fast_best": float(pick(fast.values)), "goals": goals}


def convergence(slow: Sequence[str | Path], fast: Sequence[str | Path]) -> dict[str, Any]:
    """Pairs of runs, the first of `slow` with the first of `fast` and so on: same seed, same batches.

    Returns:
        By measure, `pairs` as from `compare` and `goals`: the mean, deviation, least and largest ratio over the pairs
        that get there, and how many do. A measure that a run lacks is left out.
    """
    if not slow or len(slow) != len(fast):
        raise MotionGPT3Error(f"runs go in pairs: {len(slow)} slow and {len(fast)} fast ones do not")
    result: dict[str, Any] = {}
    for measure in MEASURES:
        curves = [
            (read_curve(a, measure.column), read_curve(b, measure.column)) for a, b in zip(slow, fast, strict=True)
        ]
        if any(not len(curve.values) for pair in curves for curve in pair):
            continue
        pairs = [compare(a, b, measure.window, measure.rises) for a, b in curves]
        goals = []
        for number, share in enumerate(SHARES):
            summary: dict[str, Any] = {"share": share, "pairs": len(pairs)}
            for name in ("ratio", "ratio_seconds"):
                found = [pair["goals"][number][name] for pair in pairs]
                summary[name] = spread([ratio for ratio in found if ratio is not None])
            summary["at_least"] = any(pair["goals"][number]["at_least"] for pair in pairs)
            goals.append(summary)
        result[measure.column] = {"title": measure.title, "window": measure.window, "pairs": pairs, "goals": goals}
    if not result:
        raise MotionGPT3Error("the runs share no logged measure; were they made by `motiongpt3 train experiment`?")
    return result


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, sample deviation (NaN for one value), least and largest."""
    if not values:
        return {"count": 0}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return {
        "count": len(values),
        "mean": float(np.mean(values)),
        "deviation": deviation,
        "least": min(values),
        "largest": max(values),
    }


def plot(groups: dict[str, Sequence[str | Path]], file: Path) -> None:
    """Draw smoothed curves of groups of runs against steps; a panel for each measure, a colour for each group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(MEASURES), figsize=(4 * len(MEASURES), 3.4), layout="constrained")
    for axis, measure in zip(axes, MEASURES, strict=True):
        for number, (name, runs) in enumerate(groups.items()):
            for k, run in enumerate(runs):
                curve = read_curve(run, measure.column)
                if len(curve.values) >= measure.window:
                    curve = curve.smooth(measure.window)
                    axis.plot(curve.steps, curve.values, color=f"C{number}", lw=1.2, label=None if k else name)
        axis.set_title(measure.title, fontsize=10)
        axis.set_xlabel("steps")
        axis.grid(alpha=0.3)
        if not measure.rises:
            axis.set_yscale("log")
    axes[0].legend(fontsize=8)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
