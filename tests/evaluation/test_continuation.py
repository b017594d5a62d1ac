"""Predictions and filled gaps of a tiny model under a protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from motiongpt3.data.dataset import PackedClips
from motiongpt3.errors import NotFiniteError
from motiongpt3.evaluation.evaluator import load_evaluator
from motiongpt3.evaluation.protocols import PROTOCOLS, TaskName
from motiongpt3.evaluation.tasks import Prepared, Request, evaluate, prepare
from motiongpt3.evaluation.workers import Recipe
from motiongpt3.models.motiongpt3 import MotionGPT3
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.quality import seam_jerk

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = replace(PROTOCOLS["mocap"], predictions=2)


@pytest.fixture(scope="module")
def tools(tiny_model_dir: Path, tiny_evaluator_dir: Path) -> Any:
    return SimpleNamespace(
        model=MotionGPT3.from_pretrained(tiny_model_dir), evaluator=load_evaluator(str(tiny_evaluator_dir))
    )


def ready(task: TaskName, pack_dir: Path) -> Prepared:
    prepared = prepare(Request(task, str(pack_dir), recipe=Recipe(), repeats=1, limit=4), None)
    return replace(prepared, protocol=SMALL)


@pytest.mark.parametrize("task", ["predict", "inbetween"])
def test_errors_are_of_the_made_frames_alone(task: TaskName, pack_dir: Path, pack: PackedClips, tools: Any) -> None:
    prepared = ready(task, pack_dir)
    found = evaluate(prepared, tools=tools)["each"][0]
    errors, last, apart, seams = [], [], [], []
    for place, item in enumerate(prepared.items):
        clip = Motion(pack.clip_joints(item.row))
        given = max(20, round((0.2 if task == "predict" else 0.25) * len(clip)))
        stop = len(clip) if task == "predict" else len(clip) - given
        made = []
        for k in range(2):
            seed = 1000 * place + 100 * k
            if task == "predict":
                made.append(tools.model.predict(clip[:given], (stop - given) / 20, seed=seed))
            else:
                made.append(tools.model.inbetween(clip[:given], clip[stop:], (stop - given) / 20, seed=seed))
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


def test_a_prediction_that_is_not_finite_is_named(pack_dir: Path, tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(motion: Motion, seconds: float, seed: int, again: Any = tools.model.predict, **asked: Any) -> Motion:
        if seed == 1100:
            raise NotFiniteError("joints contain NaN or infinite values")
        return again(motion, seconds, seed=seed, **asked)

    prepared = ready("predict", pack_dir)
    whole = evaluate(prepared, tools=tools)["each"][0]
    monkeypatch.setattr(tools.model, "predict", broken)
    report = evaluate(prepared, tools=tools)
    assert report["excluded"] == {prepared.items[1].name: 1}
    rest = [error for place, error in enumerate(whole["columns"]["ade"]) if place != 1]
    assert report["each"][0]["generated"]["ade"] == pytest.approx(np.mean(rest), abs=1e-5)
    assert report["each"][0]["columns"]["ade"][1] is None
