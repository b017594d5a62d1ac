"""What a tiny model is scored with: its captions, and the frames it makes where a part of a clip is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from motiongpt3.data.clips import PackedClips
from motiongpt3.errors import MotionGPT3Error, NotFiniteError
from motiongpt3.evaluation.metrics import CaptionScores, lemma_tokens, lower_tokens
from motiongpt3.evaluation.metrics.retrieval import r_precision
from motiongpt3.evaluation.protocols import PROTOCOLS, TaskName, labels_of
from motiongpt3.evaluation.runner import evaluate, prepare_evaluation
from motiongpt3.evaluation.session import EvaluationRequest, PreparedEvaluation
from motiongpt3.evaluation.tmr import load_evaluator
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import seam_jerk

pytestmark = pytest.mark.usefixtures("one_thread")

TWO_PREDICTIONS = replace(PROTOCOLS["mocap"], predictions=2)


@pytest.fixture(scope="module")
def tools(tiny_reader_dir: Path, tiny_evaluator_dir: Path) -> Any:
    return SimpleNamespace(
        model=MotionGPT3.from_pretrained(tiny_reader_dir), evaluator=load_evaluator(str(tiny_evaluator_dir))
    )


@pytest.fixture(scope="module")
def prepared(pack_dir: Path, tiny_reader_dir: Path, tiny_evaluator_dir: Path) -> PreparedEvaluation:
    load = {"model": str(tiny_reader_dir), "evaluator": str(tiny_evaluator_dir)}
    ready = prepare_evaluation(EvaluationRequest("m2t", str(pack_dir), repeats=2, **load), None)
    return replace(ready, protocol=replace(PROTOCOLS["mocap"], group=4))


@pytest.mark.slow
def test_scores_are_those_of_the_captions(
    prepared: PreparedEvaluation, pack: PackedClips, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(motions: list[Motion], again: Any = tools.model.caption) -> list[str]:
        asked.append(len(motions))
        return again(motions)

    monkeypatch.setattr(tools.model, "caption", counted)
    ticks: list[int] = []
    report = evaluate(prepared, tools=tools, tick=ticks.append)
    assert sum(asked) == 24  # the second repeat has the same motions, and no need to ask
    assert sum(ticks) == 48
    monkeypatch.undo()
    items, protocol = prepared.items, prepared.protocol
    motions = [Motion(pack.clip_joints(item.row)) for item in items]
    written = tools.model.caption(motions)
    first, second = report["each"]
    assert first["texts"] == second["texts"] == written
    people = [item.captions[number % len(item.captions)] for number, item in enumerate(items)]
    label = torch.tensor(labels_of(protocol, items))
    for side, texts in (("generated", written), ("real", people)):
        scores = r_precision(tools.evaluator.embed_texts(texts), tools.evaluator.embed_motions(motions), 4, 3, 0, label)
        assert first[side]["r_precision_2"] == pytest.approx(float(scores["r_precision_2"]))
        assert first[side]["mm_dist"] == pytest.approx(float(scores["mm_dist"]), abs=1e-5)
    for prefix, tokens in (("", lower_tokens), ("lemma_", lemma_tokens)):
        metric = CaptionScores(tokens)
        metric.update(written, [list(item.captions) for item in items], range(len(items)))
        for name in ("bleu_1", "rouge_l", "cider"):
            assert first["generated"][prefix + name] == pytest.approx(float(metric.compute()[name]))
        metric.reset()
        each = zip(people, items, strict=True)
        pairs = [(text, [other for other in item.captions if other != text]) for text, item in each]
        pairs = [(text, others) for text, others in pairs if others]
        assert len(pairs) == 16  # a third of the clips have one caption
        metric.update([text for text, _ in pairs], [others for _, others in pairs], range(16))
        assert first["real"][prefix + "bleu_1"] == pytest.approx(float(metric.compute()["bleu_1"]))
    assert first["generated"]["distinct"] == len(set(text.lower() for text in written)) / 24
    assert first["real"]["action"] < 1  # captions are dealt to labels at random
    assert {one for one, *_ in first["confusion"]} <= {"walk", "run", "jump", "wave", "turn"}
    assert report["metrics"]["bleu_1"]["generated"]["ci95"] == 0


def test_a_model_of_stage_1_is_refused(pack_dir: Path, tiny_model_dir: Path, prepared: PreparedEvaluation) -> None:
    stage1 = MotionGPT3.from_pretrained(tiny_model_dir).config
    with pytest.raises(MotionGPT3Error, match="trained for text to motion alone: it writes no captions"):
        prepare_evaluation(prepared.request, stage1)


@pytest.fixture(scope="module")
def completion_tools(tiny_model_dir: Path, tiny_evaluator_dir: Path) -> Any:
    return SimpleNamespace(
        model=MotionGPT3.from_pretrained(tiny_model_dir), evaluator=load_evaluator(str(tiny_evaluator_dir))
    )


def ready(task: TaskName, pack_dir: Path) -> PreparedEvaluation:
    prepared = prepare_evaluation(EvaluationRequest(task, str(pack_dir), repeats=1, limit=4), None)
    return replace(prepared, protocol=TWO_PREDICTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["predict", "inbetween"])
def test_errors_are_of_the_made_frames_alone(
    task: TaskName, pack_dir: Path, pack: PackedClips, completion_tools: Any
) -> None:
    prepared = ready(task, pack_dir)
    found = evaluate(prepared, tools=completion_tools)["each"][0]
    errors, last, apart, seams = [], [], [], []
    for place, item in enumerate(prepared.items):
        clip = Motion(pack.clip_joints(item.row))
        given = max(20, round((0.2 if task == "predict" else 0.25) * len(clip)))
        stop = len(clip) if task == "predict" else len(clip) - given
        made = []
        for k in range(2):
            seed = 1000 * place + 100 * k
            if task == "predict":
                made.append(completion_tools.model.predict(clip[:given], (stop - given) / 20, seed=seed))
            else:
                made.append(completion_tools.model.inbetween(clip[:given], clip[stop:], (stop - given) / 20, seed=seed))
        assert all(len(one) == len(clip) for one in made)
        off = np.stack([np.linalg.norm(one.joints - clip.joints, axis=-1)[given:stop].mean(-1) for one in made])
        errors.append(off.mean())
        last.append(off[:, -1].mean())
        apart.append(np.linalg.norm(made[0].joints - made[1].joints, axis=-1)[given:stop].mean())
        seams.append(np.mean([seam_jerk(one, [given] if task == "predict" else [given, stop]) for one in made]))
    assert found["generated"]["ade"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["generated"]["fde"] == pytest.approx(np.mean(last), rel=1e-5)
    assert found["generated"]["apd"] == pytest.approx(np.mean(apart), rel=1e-5)
    assert found["generated"]["seam_jerk"] == pytest.approx(np.mean(seams), rel=1e-4)
    assert found["columns"]["ade"] == pytest.approx(errors, abs=1e-5)
    assert np.mean(list(found["joints"].values())) == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["real"].keys() == {"fid", "fid_halves", "seam_jerk"} | {
        "skate_ratio", "skate_speed", "penetration_mean", "floating", "jitter",
    }  # fmt: skip


@pytest.mark.slow
def test_a_prediction_that_is_not_finite_is_named(
    pack_dir: Path, completion_tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(
        motion: Motion, seconds: float, seed: int, again: Any = completion_tools.model.predict, **asked: Any
    ) -> Motion:
        if seed == 1100:
            raise NotFiniteError("joints contain NaN or infinite values")
        return again(motion, seconds, seed=seed, **asked)

    prepared = ready("predict", pack_dir)
    whole = evaluate(prepared, tools=completion_tools)["each"][0]
    monkeypatch.setattr(completion_tools.model, "predict", broken)
    report = evaluate(prepared, tools=completion_tools)
    assert report["excluded"] == {prepared.items[1].name: 1}
    rest = [error for place, error in enumerate(whole["columns"]["ade"]) if place != 1]
    assert report["each"][0]["generated"]["ade"] == pytest.approx(np.mean(rest), abs=1e-5)
    assert report["each"][0]["columns"]["ade"][1] is None
