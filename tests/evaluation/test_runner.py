"""Evaluations of a tiny model: what is reported, resumed, left out, and that processes do not matter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.evaluation.metrics.retrieval import make_groups, r_precision
from motiongpt3.evaluation.protocols import PROTOCOLS
from motiongpt3.evaluation.runner import evaluate, prepare_evaluation
from motiongpt3.evaluation.session import EvaluationRequest, PreparedEvaluation
from motiongpt3.evaluation.tasks import EVALUATION_TASKS
from motiongpt3.evaluation.tmr import load_evaluator
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import skate_ratio

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = replace(PROTOCOLS["mocap"], group=4, diversity_pairs=20, varied_texts=3, varied_motions=4, varied_pairs=2)


@pytest.fixture(scope="module")
def tools(tiny_model_dir: Path, tiny_evaluator_dir: Path) -> Any:
    return SimpleNamespace(
        model=MotionGPT3.from_pretrained(tiny_model_dir), evaluator=load_evaluator(str(tiny_evaluator_dir))
    )


@pytest.fixture(scope="module")
def prepared(pack_dir: Path, tiny_model_dir: Path, tiny_evaluator_dir: Path) -> PreparedEvaluation:
    """Two repeats of text to motion."""
    load = {"model": str(tiny_model_dir), "evaluator": str(tiny_evaluator_dir)}
    ready = prepare_evaluation(EvaluationRequest("t2m", str(pack_dir), repeats=2, seed=5, **load), None)
    return replace(ready, protocol=SMALL)


@pytest.mark.slow
def test_numbers_are_those_of_the_motions(prepared: PreparedEvaluation, tools: Any) -> None:
    """The first repeat again, with the public methods of the model and the evaluator."""
    report = evaluate(prepared, tools=tools)
    model, evaluator = tools.model, tools.evaluator
    items, pack = prepared.items, prepared.pack
    words = [item.captions[number % len(item.captions)] for number, item in enumerate(items)]
    seeds = [(5 * 10_000) * 10 * 1_000_000 + number for number in range(len(items))]
    made = model.generate(words, seconds=[item.frames / 20 for item in items], seed=seeds)
    real = [Motion(pack.clip_joints(item.row)[: item.frames]) for item in items]
    text = evaluator.embed_texts(words)
    shorts = sorted({item.label for item in items})
    label = torch.tensor([shorts.index(item.label) for item in items])
    first = report["each"][0]
    for side, motions in (("generated", made), ("real", real)):
        wanted = r_precision(text, evaluator.embed_motions(motions), 4, 3, 5, label)
        for name in ("r_precision_1", "r_precision_3", "mm_dist"):
            assert first[side][name] == pytest.approx(float(wanted[name]), abs=1e-5)
        assert first[side]["skate_ratio"] == pytest.approx(np.mean([skate_ratio(one) for one in motions]), abs=1e-6)
        assert first[side]["fid_halves"] > 0
    assert first["real"]["fid"] is None
    assert first["generated"]["multimodality"] > 0
    right, total, own = (sum(counts) for counts in zip(*first["classes"].values(), strict=True))
    assert total == make_groups(len(items), 4, 5, label).numel()
    assert right == round(first["generated"]["r_precision_3"] * total)
    assert own == round(first["real"]["r_precision_3"] * total)
    assert set(first["classes"]) == {"walk forward", "jump", "wave left hand", "run forward", "turn left"}
    assert sum(count for *_, count in first["confusion"]) == len(items)
    values = [one["generated"]["mm_dist"] for one in report["each"]]
    assert report["metrics"]["mm_dist"]["generated"] == {
        "mean": pytest.approx(np.mean(values)),
        "ci95": pytest.approx(1.96 * abs(values[0] - values[1]) / 2),
        "repeats": 2,
    }


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(prepared: PreparedEvaluation, tmp_path: Path) -> None:
    one = evaluate(prepared, tmp_path / "one.json")
    two = evaluate(replace(prepared, request=replace(prepared.request, processes=2)), tmp_path / "two.json")
    for here, there in zip(one["each"], two["each"], strict=True):
        for side in ("generated", "real"):
            assert here[side] == pytest.approx(there[side], abs=1e-6)
        assert here["classes"] == there["classes"]
    assert one["model"] == two["model"]
    assert len(one["model"]["sha256"]) == len(one["split"]["sha256"]) == 64


@pytest.mark.slow
def test_finished_repeats_are_not_made_again(
    prepared: PreparedEvaluation, tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(prepared, tmp_path / "whole.json", tools)

    text_to_motion = EVALUATION_TASKS["t2m"]

    def interrupted(session: Any, number: int) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return text_to_motion(session, number)

    file = tmp_path / "report.json"
    with monkeypatch.context() as patch:
        patch.setitem(EVALUATION_TASKS, "t2m", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(prepared, file, tools)
    kept = tmp_path / "report.repeats"
    assert sorted(path.name for path in kept.iterdir()) == ["evaluation.json", "repeat_000.json"]
    told: list[tuple[int, int]] = []
    made: list[int] = []
    resumed = evaluate(prepared, file, tools, begin=lambda done, total: told.append((done, total)), tick=made.append)
    assert told == [(36, 72)]  # 24 clips and 3 x 4 motions for the multimodality
    assert sum(made) == 36
    assert resumed["each"] == whole["each"]  # to the last bit
    other = replace(prepared, request=replace(prepared.request, seed=6))
    with pytest.raises(MotionGPT3Error, match=r"report\.repeats holds repeats of another evaluation \(settings differ"):
        evaluate(other, file, tools)
    (kept / "repeat_001.json").write_text("{")
    with pytest.raises(MotionGPT3Error, match=r"repeat_001\.json is damaged .*: remove it"):
        evaluate(prepared, file, tools)


def test_what_is_not_finite_is_named_and_counted(
    prepared: PreparedEvaluation, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, again: Any = tools.model.draw_joints) -> list[np.ndarray]:
        clips = again(*arguments)
        clips[3][2, 5, 1] = np.nan
        clips[1][0] = 1e7
        return clips

    monkeypatch.setattr(tools.model, "draw_joints", broken)
    ready = replace(prepared, repeats=1, protocol=replace(SMALL, diversity_pairs=22))
    report = evaluate(ready, tools=tools)
    varied = prepared.items[np.sort(np.random.RandomState([5, 0]).permutation(24)[:3])[0]]
    names = [prepared.items[1].name, prepared.items[3].name, varied.name]  # the first four motions are of one text
    assert report["excluded"] == dict.fromkeys(names, 1)
    first = report["each"][0]
    assert first["columns"]["skate_ratio"].count(None) == 2
    usable = [value for value in first["columns"]["jitter"] if value is not None]
    assert first["generated"]["jitter"] == pytest.approx(np.mean(usable))
    assert first["generated"]["fid"] is not None  # 22 are enough
    assert json.loads(json.dumps(report, allow_nan=False)) == json.loads(json.dumps(report))
    assert first["generated"]["multimodality"] > 0  # of the other texts
