"""What all metrics share: any split over processes gives the same numbers; what is not finite is counted and named."""

from __future__ import annotations

import copy
import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics import Diversity

SCRIPT = Path(__file__).with_name("sharded.py")


@pytest.fixture(scope="module")
def sharded() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def whole(sharded: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The results of one process that sees all samples in order."""
    return sharded["results"](sharded["filled"](0, 1))


def test_every_number_is_defined(whole: dict[str, dict[str, float]]) -> None:
    for name, scores in whole.items():
        assert all(value == value for value in scores.values()), name
        assert scores["samples"] == (20 if name == "captions" else 19)
        assert scores["excluded"] == (0 if name == "captions" else 1)


def test_merged_states_give_the_same(sharded: dict[str, Any], whole: dict[str, dict[str, float]]) -> None:
    one, other = sharded["filled"](0, 2), sharded["filled"](1, 2)
    for name, metric in one.items():
        metric.merge_state(other[name])
    assert sharded["results"](one) == whole


@pytest.mark.slow
def test_two_processes_give_the_same(tmp_path: Path, whole: dict[str, dict[str, float]]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), str(rank), "2", str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            out, errors = process.communicate(timeout=1200)
            assert process.returncode == 0, errors
            report = json.loads(out)
            assert report["scores"] == whole
            assert all(names == ([] if name == "captions" else ["17"]) for name, names in report["excluded"].items())
    finally:
        for process in processes:
            process.kill()


def test_saved_states_go_on(sharded: dict[str, Any], whole: dict[str, dict[str, float]]) -> None:
    """An interrupted evaluation: half of the samples, a checkpoint, the rest."""
    first, second = sharded["filled"](0, 2), sharded["cases"]()
    for name, (metric, update) in second.items():
        first[name].persistent(True)
        metric.persistent(True)
        metric.load_state_dict(copy.deepcopy(first[name].state_dict()))
        if len(rest := sharded["share"](name, 1, 2)):
            update(metric, rest)
    assert sharded["results"]({name: metric for name, (metric, _) in second.items()}) == whole


def test_a_bad_prediction_is_counted_and_named() -> None:
    embedding = torch.randn(8, 3)
    embedding[2, 1], embedding[5, 0] = torch.nan, torch.inf
    metric = Diversity(pairs=4, names=[f"clip{i}" for i in range(8)])
    metric.update(embedding, torch.arange(8))
    with pytest.warns(UserWarning, match=r"2 predictions .* left out: clip2, clip5$"):
        result = metric.compute()
    assert metric.excluded == ("clip2", "clip5")
    assert (result["samples"], result["excluded"]) == (6, 2)
    assert result["diversity"].isfinite()


def test_the_same_index_for_two_samples() -> None:
    metric = Diversity(pairs=2)
    for _ in range(2):
        metric.update(torch.randn(3, 4), torch.arange(3))
    with pytest.raises(MotionGPT3Error, match="whole population"):
        metric.compute()


def test_a_repeated_sample_counts_once() -> None:
    metric = Diversity(pairs=2)
    embedding = torch.randn(3, 4)
    metric.update(embedding, torch.arange(3))
    metric.update(embedding[[1, 1]], [1, 1])
    assert metric.compute()["samples"] == 3


@pytest.mark.parametrize("index", [[0], [0, 1, 2], [-1, 0], [[0, 1]]])
def test_bad_indices(index: list[int]) -> None:
    with pytest.raises(MotionGPT3Error, match="index"):
        Diversity(pairs=2).update(torch.randn(2, 4), index)


def test_an_empty_batch_changes_nothing(sharded: dict[str, Any], whole: dict[str, dict[str, float]]) -> None:
    metrics = sharded["filled"](0, 1)
    for name, (_, update) in sharded["cases"]().items():
        update(metrics[name], torch.arange(0))
    assert sharded["results"](metrics) == whole


def test_no_samples_at_all(sharded: dict[str, Any]) -> None:
    for metric, _ in sharded["cases"]().values():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = metric.compute()
        assert any("undefined" in str(one.message) for one in caught), metric
        counts = {"samples", "samples_real", "excluded", "frames", "groups"}
        assert all(value.isnan() if key not in counts else value == 0 for key, value in result.items()), metric
