"""A model's tasks as jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_model import FakeModel, TextOnly, standing

from motiongpt3 import MotionGPT3, MotionGPT3Error
from motiongpt3.app.engine import TASKS, Engine
from motiongpt3.app.queue import BatchQueue


def test_a_motion_is_the_same_whatever_it_is_drawn_with(tiny_model_dir: Path) -> None:
    model = MotionGPT3.from_pretrained(tiny_model_dir)
    batches: list[int] = []
    engine = Engine(model, BatchQueue(batch=8, wait=0.5))
    engine.queue.observe = lambda items, seconds: batches.append(items)
    asked: list[dict[str, Any]] = [
        {"prompts": ["a person walks", "jumps"], "seconds": 1.5, "seed": 3},
        {"prompts": ["a person walks"], "seconds": [0.5], "samples": 3, "seed": [5]},
        {"prompts": ["waves"], "seed": 4},
    ]
    try:
        jobs = [engine.generate(**request) for request in asked]
        together = [job.result(30) for job in jobs]
    finally:
        engine.close()
    assert batches == [6]
    for request, motions in zip(asked, together, strict=True):
        words = request.pop("prompts")
        alone = model.generate(words, **request)
        assert [len(m) for m in motions] == [len(m) for m in alone]
        assert [(m.caption, m.name) for m in motions] == [(m.caption, m.name) for m in alone]
        for a, b in zip(motions, alone, strict=True):
            np.testing.assert_allclose(a.joints, b.joints, atol=1e-5)


def test_settings_of_the_whole_batch_are_not_mixed(engine: Engine, fake: FakeModel) -> None:
    fake.free.clear()
    options: list[dict[str, Any]] = [{"guidance": 3.0}, {}, {"steps": 5}, {"guidance": 2.0, "steps": 10}]
    jobs = [engine.generate([f"walk {k}"], **given) for k, given in enumerate(options)]
    fake.free.set()
    for job in jobs:
        assert len(job.result(5)) == 1
    assert sorted(fake.calls) == [["walk 0"], ["walk 1", "walk 3"], ["walk 2"]]


def test_tasks_that_run_alone_take_settings_and_never_share_them(engine: Engine, fake: FakeModel) -> None:
    motion = standing(10, 1)
    fake.free.clear()
    jobs = [
        engine.predict(motion, 1.0, guidance=3.0),
        engine.predict(motion, 1.0, steps=5),
        engine.inbetween(motion, motion, 1.0, guidance=0, steps=1),
        engine.compose([("walk", 1.0)], guidance=1.5),
        engine.compose([("walk", 1.0)]),
    ]
    fake.free.set()
    for job in jobs:
        assert len(job.result(5)) == 1
    assert fake.drawn == [
        ("predict", 3.0, 10), ("predict", 2.0, 5), ("inbetween", 0.0, 1), ("compose", 1.5, 10), ("compose", 2.0, 10)
    ]  # fmt: skip


def test_settings_reach_the_model(tiny_model_dir: Path) -> None:
    model = MotionGPT3.from_pretrained(tiny_model_dir)
    engine = Engine(model)
    walk = model.generate("a person walks", seconds=1.5)
    try:
        plain, wild = (engine.predict(walk, 1.0, guidance=g, steps=3).result(30)[0] for g in (None, 20.0))
    finally:
        engine.close()
    assert wild == model.predict(walk, 1.0, guidance=20.0, steps=3)
    assert wild != plain


def test_captions_of_other_candidates_are_not_mixed(engine: Engine, fake: FakeModel) -> None:
    fake.free.clear()
    counts = [None, 4, None, 4]
    jobs = [engine.caption([standing(k + 1, 0)], candidates=count) for k, count in enumerate(counts)]
    fake.free.set()
    assert [job.result(5) for job in jobs] == [
        [["1 frames, 0"]], [["2 frames, 0, of 4"]], [["3 frames, 0"]], [["4 frames, 0, of 4"]]
    ]  # fmt: skip
    assert sorted(fake.calls) == [["1 frames", "3 frames"], ["2 frames", "4 frames"]]


def test_captions_by_motion(engine: Engine) -> None:
    job = engine.caption([standing(3, 0), standing(5, 0)], samples=2)
    assert job.result(5) == [["3 frames, 0", "3 frames, 1"], ["5 frames, 0", "5 frames, 1"]]


def test_the_other_tasks(engine: Engine) -> None:
    assert engine.tasks == TASKS
    motion = standing(10, 1)
    (longer,) = engine.predict(motion, 1.0, "walk", seed=4).result(5)
    assert (len(longer), longer.joints[0, 0, 0], longer.caption) == (30, 4, "walk")
    (between,) = engine.inbetween(motion, motion, 0.5, seed=6).result(5)
    assert (len(between), between.joints[0, 0, 0]) == (30, 6)
    (composed,) = engine.compose([("walk", 1.0), ("jump", None)], seed=7).result(5)
    assert (len(composed), composed.joints[0, 0, 0]) == (40, 7)


def test_windows_are_progress_and_chances_to_stop(engine: Engine, fake: FakeModel) -> None:
    seen: list[tuple[int, int]] = []
    motion = standing(10, 1)
    engine.predict(motion, 1.0, "walk", on_progress=lambda *numbers: seen.append(numbers)).result(5)
    assert seen == [(0, 3), (1, 3), (2, 3), (1, 1)]
    fake.free.clear()
    fake.calls.clear()
    job = engine.compose([("walk", 1.0), ("jump", 1.0)])
    while not fake.calls:
        pass
    assert job.cancel()
    fake.free.set()
    assert len(engine.generate(["run"]).result(5)) == 1
    assert fake.calls == [["walk"], ["run"]]


def test_what_a_model_cannot_do() -> None:
    engine = Engine(TextOnly())
    try:
        assert engine.tasks == ("generate",)
        with pytest.raises(MotionGPT3Error, match="this model cannot caption"):
            engine.caption([standing(3, 0)])
    finally:
        engine.close()


def test_a_model_may_know_better_what_it_can_do(engine: Engine, fake: FakeModel) -> None:
    fake.tasks = ("generate", "compose", "dance")  # type: ignore[attr-defined]
    assert engine.tasks == ("generate", "compose")
    with pytest.raises(MotionGPT3Error, match="this model cannot predict"):
        engine.predict(standing(3, 0), 1.0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.generate([""]),
        lambda engine: engine.generate(["walk"], seconds=11),
        lambda engine: engine.generate(["walk", "jump"], seed=[1]),
        lambda engine: engine.generate([]),
        lambda engine: engine.predict(standing(3, 0), 1.0, guidance=101.0),
        lambda engine: engine.inbetween(standing(3, 0), standing(3, 0), 1.0, steps=0),
        lambda engine: engine.compose([("walk", 1.0)], steps=2.5),
        lambda engine: engine.compose([("walk", 1.0)], seed=-1),
    ],
)
def test_bad_requests_never_reach_the_queue(ask: Callable[[Engine], object], engine: Engine, fake: FakeModel) -> None:
    with pytest.raises(MotionGPT3Error):
        ask(engine)
    assert engine.queue.length == 0
    assert fake.calls == []
