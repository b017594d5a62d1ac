"""Ratios of curves whose answer is known, and the runs they are read from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motiongpt3.baselines.convergence import Curve, compare, convergence, reach, read_curve, spread
from motiongpt3.cli.main import main
from motiongpt3.errors import MotionGPT3Error


def curve(values: np.ndarray, every: int = 10, seconds_per_step: float = 0.5) -> Curve:
    steps = every * np.arange(1, len(values) + 1, dtype=float)
    return Curve(steps, np.asarray(values, dtype=float), steps * seconds_per_step)


def falling(constant: float, noise: float = 0.0, points: int = 400) -> np.ndarray:
    """1 + exp(-step / constant) at steps 10, 20, …"""
    rng = np.random.default_rng(0)
    return 1 + np.exp(-10 * np.arange(1, points + 1) / constant) + noise * rng.normal(size=points)


def test_a_curve_three_times_as_fast_has_ratio_three() -> None:
    """exp(-s / 1500) at the end of 4000 steps is exp(-s / 500) at a third of them."""
    result = compare(curve(falling(1500)), curve(falling(500)), window=1)
    last = result["goals"][-1]
    assert last["steps"][0] == 4000
    assert last["ratio"] == pytest.approx(3, rel=1e-3)
    assert last["value"] == result["slow_best"] == pytest.approx(1 + np.exp(-4000 / 1500))


def test_smoothing_keeps_the_ratio_of_noisy_curves() -> None:
    result = compare(curve(falling(1500, 0.05)), curve(falling(500, 0.05)), window=20)
    assert result["goals"][1]["ratio"] == pytest.approx(3, rel=0.15)


def test_a_rising_measure() -> None:
    slow, fast = np.linspace(0, 0.5, 100), np.linspace(0, 1.0, 100)
    result = compare(curve(slow), curve(fast), window=1, rises=True)
    assert result["goals"][-1]["value"] == 0.5
    assert result["goals"][-1]["ratio"] == pytest.approx(1000 / 505)
    assert result["fast_best"] == 1


def test_a_best_in_the_middle() -> None:
    """What comes after the best does not count, nor does how the fast one goes on."""
    slow = np.concatenate([np.linspace(2, 1, 50), np.linspace(1, 3, 50)])
    fast = np.concatenate([np.linspace(2, 1, 25), np.full(75, 1.5)])
    last = compare(curve(slow), curve(fast), window=1)["goals"][-1]
    assert last["steps"] == [500, 250]


def test_a_fast_run_that_is_there_from_the_start_bounds_the_ratio() -> None:
    slow, fast = np.linspace(0, 0.1, 100), np.linspace(0.2, 1.0, 100)
    last = compare(curve(slow), curve(fast), window=1, rises=True)["goals"][-1]
    assert last["at_least"]
    assert last["ratio"] == 100
    assert not compare(curve(falling(1500)), curve(falling(500)), window=1)["goals"][-1]["at_least"]


def test_seconds_count_by_themselves() -> None:
    """Half the steps at twice the time for each is no gain in seconds."""
    result = compare(curve(falling(1000), seconds_per_step=1), curve(falling(500), seconds_per_step=2), window=1)
    assert result["goals"][-1]["ratio"] == pytest.approx(2, rel=1e-3)
    assert result["goals"][-1]["ratio_seconds"] == pytest.approx(1, rel=1e-3)


def test_never() -> None:
    result = compare(curve(falling(500)), curve(falling(500) + 1), window=1)
    assert [goal["ratio"] for goal in result["goals"]] == [None] * 4
    assert result["goals"][-1]["steps"][1] is None


def test_a_mean_lies_where_its_points_do() -> None:
    smooth = curve(np.array([4.0, 2, 6, 8])).smooth(3)
    assert smooth.values.tolist() == pytest.approx([4, 16 / 3])
    assert smooth.steps.tolist() == [20, 30]
    assert smooth.seconds.tolist() == [10, 15]
    with pytest.raises(MotionGPT3Error, match="3 points"):
        compare(curve(np.ones(2)), curve(np.ones(9)), window=3)


def test_between_two_points() -> None:
    line = curve(np.array([3.0, 1.0]))
    assert reach(line, 1.5) == (17.5, 8.75)
    assert reach(line, 3.5) == (10, 5)
    assert reach(line, 0.5) is None


def test_spread() -> None:
    assert spread([1.0, 3.0]) == {"count": 2, "mean": 2, "deviation": pytest.approx(2**0.5), "least": 1, "largest": 3}
    assert spread([]) == {"count": 0}


def write_run(folder: Path, constant: float) -> Path:
    """A run as Lightning logs it: a line has either training or validation values."""
    lines = ["epoch,seconds,step,train/objective,val/objective,val/r_precision_3"]
    for number, value in enumerate(falling(constant, points=100)):
        step = 10 * number + 9
        lines.append(f"0,{step / 10},{step},{value},,")
        if number % 10 == 9:
            lines.append(f"0,{step / 10},{step},,{value + 1},{2 - value if number > 20 else 'nan'}")
    (folder / "metrics").mkdir(parents=True)
    (folder / "metrics" / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_runs_in_pairs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    slow = [write_run(tmp_path / f"slow_{k}", constant) for k, constant in enumerate((800, 1000))]
    fast = [write_run(tmp_path / f"fast_{k}", 200) for k in range(2)]
    result = convergence(slow, fast)
    assert set(result) == {"train/objective", "val/objective", "val/r_precision_3"}  # no FID was logged
    ratio = result["train/objective"]["goals"][-1]["ratio"]
    assert ratio["count"] == 2
    assert ratio["least"] < ratio["mean"] < ratio["largest"]
    assert read_curve(slow[0], "val/r_precision_3").steps.tolist() == list(range(300, 1001, 100))
    assert read_curve(slow[0], "val/objective").steps.tolist() == list(range(100, 1001, 100))

    words = ["evaluate", "convergence", "--slow", *map(str, slow), "--fast", *map(str, fast)]
    assert main([*words, "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")]) == 0
    assert json.loads((tmp_path / "r.json").read_text()) == result
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "validation R@3" in capsys.readouterr().out


def test_what_is_no_pair_of_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = str(write_run(tmp_path / "run", 300))
    bad = write_run(tmp_path / "bad", 300)
    (bad / "metrics" / "metrics.csv").write_text("step,seconds,train/objective\n9,0.9,x\n")
    for slow, fast in (([run, run], [run]), ([run], [str(tmp_path / "none")]), ([run], [str(bad)])):
        assert main(["evaluate", "convergence", "--slow", *slow, "--fast", *fast]) == 2
        assert capsys.readouterr().err.count("\n") == 1
