"""A model's tasks as jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_model import FakeModel, TextOnly, standing
from hypothesis import given, settings
from hypothesis import strategies as st

from motiongpt3 import MotionGPT3, MotionGPT3Error
from motiongpt3.service.engine import TASKS, BatchQueue, Busy, Closed, Engine


@pytest.mark.slow
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
        assert len(job.result(300)) == 1
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
        assert len(job.result(300)) == 1
    assert fake.drawn == [
        ("predict", 3.0, 10), ("predict", 2.0, 5), ("inbetween", 0.0, 1), ("compose", 1.5, 10), ("compose", 2.0, 10)
    ]  # fmt: skip


@pytest.mark.slow
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
    assert [job.result(300) for job in jobs] == [
        [["1 frames, 0"]], [["2 frames, 0, of 4"]], [["3 frames, 0"]], [["4 frames, 0, of 4"]]
    ]  # fmt: skip
    assert sorted(fake.calls) == [["1 frames", "3 frames"], ["2 frames", "4 frames"]]


def test_captions_by_motion(engine: Engine) -> None:
    job = engine.caption([standing(3, 0), standing(5, 0)], samples=2)
    assert job.result(300) == [["3 frames, 0", "3 frames, 1"], ["5 frames, 0", "5 frames, 1"]]


def test_the_other_tasks(engine: Engine) -> None:
    assert engine.tasks == TASKS
    motion = standing(10, 1)
    (longer,) = engine.predict(motion, 1.0, "walk", seed=4).result(300)
    assert (len(longer), longer.joints[0, 0, 0], longer.caption) == (30, 4, "walk")
    (between,) = engine.inbetween(motion, motion, 0.5, seed=6).result(300)
    assert (len(between), between.joints[0, 0, 0]) == (30, 6)
    (composed,) = engine.compose([("walk", 1.0), ("jump", None)], seed=7).result(300)
    assert (len(composed), composed.joints[0, 0, 0]) == (40, 7)


def test_windows_are_progress_and_chances_to_stop(engine: Engine, fake: FakeModel) -> None:
    seen: list[tuple[int, int]] = []
    motion = standing(10, 1)
    engine.predict(motion, 1.0, "walk", on_progress=lambda *numbers: seen.append(numbers)).result(300)
    assert seen == [(0, 3), (1, 3), (2, 3), (1, 1)]
    fake.free.clear()
    fake.calls.clear()
    job = engine.compose([("walk", 1.0), ("jump", 1.0)])
    while not fake.calls:
        pass
    assert job.cancel()
    fake.free.set()
    assert len(engine.generate(["run"]).result(300)) == 1
    assert fake.calls == [["walk"], ["run"]]


def test_parts_of_a_long_motion_are_progress_and_chances_to_stop(engine: Engine, fake: FakeModel) -> None:
    seen: list[tuple[int, int]] = []
    long = standing(600, 1)
    found = engine.caption([long], on_progress=lambda *numbers: seen.append(numbers)).result(300)
    assert found == [["600 frames, 0"]]
    assert seen == [(0, 3), (1, 3), (2, 3), (1, 1)]
    fake.free.clear()
    fake.calls.clear()
    job = engine.caption([long, long])
    while not fake.calls:
        pass
    assert job.cancel()
    fake.free.set()
    assert engine.caption([standing(5, 1)]).result(300) == [["5 frames, 0"]]
    assert fake.calls == [["a part"], ["5 frames"]]


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


class Machine:
    """Work that remembers its batches; it stands still while `free` is not set."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append(list(items))
        assert self.free.wait(20)
        if "bad" in items:
            raise ValueError("bad")
        return [item * 10 for item in items]


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.free.set()


@pytest.fixture
def make(machine: Machine) -> Iterator[Callable[..., BatchQueue]]:
    queues: list[BatchQueue] = []

    def make(**options: Any) -> BatchQueue:
        queues.append(BatchQueue(**{"batch": 4, "wait": 0.0, "limit": 20, **options}))
        return queues[-1]

    yield make
    machine.free.set()
    for queue in queues:
        queue.close(finish=False)


def busy_with(machine: Machine, queue: BatchQueue) -> Any:
    """Let the queue work on one item until the machine is freed."""
    machine.free.clear()
    job = queue.submit([0], machine, "first")
    deadline = time.monotonic() + 300
    while not machine.batches and time.monotonic() < deadline:
        time.sleep(0.001)
    assert machine.batches
    return job


def test_what_waits_is_joined_by_key(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make()
    first = busy_with(machine, queue)
    jobs = [queue.submit([k, k + 100], machine, key) for k, key in enumerate("abaab")]
    alone = [queue.submit([7, 8], machine, None)]
    machine.free.set()
    assert first.result(300) == [0]
    assert [job.result(300) for job in jobs] == [[10 * k, 10 * k + 1000] for k in range(5)]
    assert alone[0].result(300) == [70, 80]
    assert machine.batches == [[0], [0, 100, 2, 102], [1, 101, 4, 104], [3, 103], [7], [8]]


def test_an_item_waits_for_company_until_the_batch_is_full(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make(wait=100_000)
    jobs = [queue.submit([item], machine, "a") for item in (1, 2, 3)]
    time.sleep(0.05)
    assert machine.batches == []
    jobs.append(queue.submit([4], machine, "a"))
    assert [job.result(300) for job in jobs] == [[10], [20], [30], [40]]
    assert machine.batches == [[1, 2, 3, 4]]


def test_an_item_without_company_is_done_alone(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    assert make(wait=0.05).submit([1], machine, "a").result(300) == [10]
    assert machine.batches == [[1]]


def test_a_full_queue_refuses_and_a_cancelled_job_makes_room(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make()
    first = busy_with(machine, queue)
    waiting = queue.submit(list(range(15)), machine, "a")
    with pytest.raises(Busy) as caught:
        queue.submit(list(range(6)), machine, "a")
    assert caught.value.retry_after > 0
    assert queue.length == 15
    assert waiting.cancel()
    assert queue.length == 0
    after = queue.submit(list(range(20)), machine, "a")
    machine.free.set()
    assert first.result(300) == [0]
    assert after.result(300) == [10 * k for k in range(20)]
    assert [len(batch) for batch in machine.batches] == [1, 4, 4, 4, 4, 4]
    with pytest.raises(CancelledError):
        waiting.result(0)


def test_cancelling_what_runs_forgets_it(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make()
    running = busy_with(machine, queue)
    long = queue.submit(list(range(8)), machine, "a")
    assert running.cancel()
    machine.free.set()
    assert long.result(300) == [10 * k for k in range(8)]
    assert not long.cancel()
    machine.free.clear()
    half = queue.submit(list(range(8)), machine, "a", on_progress=lambda done, total: half.cancel())
    machine.free.set()
    after = queue.submit([1], machine, "b")
    assert after.result(300) == [10]
    assert half.cancelled()
    assert half.finished == 4


def test_a_failing_job_fails_alone(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make()
    busy_with(machine, queue)
    good, bad, other = (queue.submit(items, machine, "a") for items in ([1], ["bad", "late"], [2]))
    machine.free.set()
    assert (good.result(300), other.result(300)) == ([10], [20])
    with pytest.raises(ValueError, match="bad"):
        bad.result(300)
    assert queue.submit([3], machine, "a").result(300) == [30]


def test_a_wrong_number_of_results_is_an_error(make: Callable[..., BatchQueue]) -> None:
    with pytest.raises(RuntimeError, match="2 items gave 1 results"):
        make().submit([1, 2], lambda items: [1], "a").result(300)


def test_progress(machine: Machine, make: Callable[..., BatchQueue], caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int]] = []
    observed: list[int] = []
    queue = make()
    queue.observe = lambda items, seconds: observed.append(items)
    job = queue.submit(list(range(10)), machine, "a", on_progress=lambda *numbers: seen.append(numbers))
    job.result(300)
    assert seen == [(4, 10), (8, 10), (10, 10)]

    def broken(done: int, total: int) -> None:
        raise ZeroDivisionError

    assert queue.submit([1], machine, "a", on_progress=broken).result(300) == [10]
    assert "progress" in caplog.text
    queue.close()
    assert observed == [4, 4, 2, 1]


@pytest.mark.parametrize("finish", [True, False])
def test_closing(finish: bool, machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make()
    running = busy_with(machine, queue)
    waiting = queue.submit([1], machine, "a")
    closing = threading.Thread(target=queue.close, args=(finish,))
    closing.start()
    time.sleep(0.02)
    assert closing.is_alive()
    with pytest.raises(Closed):
        queue.submit([2], machine, "a")
    machine.free.set()
    closing.join(5)
    assert running.result(0) == [0]
    assert waiting.result(0) == [10] if finish else waiting.cancelled()
    assert not queue.open
    queue.close()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(), min_size=1, max_size=6), st.sampled_from(["a", "b", None])), max_size=12
    ),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.002]),
)
def test_everybody_gets_their_own(jobs: list[tuple[list[int], str | None]], batch: int, wait: float) -> None:
    sizes: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return [item * 10 for item in items]

    queue = BatchQueue(batch, wait, 100)
    try:
        submitted = [queue.submit(items, work, key) for items, key in jobs]
        for (items, _), job in zip(jobs, submitted, strict=True):
            assert job.result(300) == [item * 10 for item in items]
    finally:
        queue.close()
    assert sum(sizes) == sum(len(items) for items, _ in jobs)
    assert max(sizes, default=0) <= batch
