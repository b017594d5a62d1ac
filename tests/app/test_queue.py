"""Jobs are joined, bounded, cancelled and isolated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motiongpt3.app.queue import BatchQueue, Busy, Closed


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
    deadline = time.monotonic() + 5
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
    assert first.result(5) == [0]
    assert [job.result(5) for job in jobs] == [[10 * k, 10 * k + 1000] for k in range(5)]
    assert alone[0].result(5) == [70, 80]
    assert machine.batches == [[0], [0, 100, 2, 102], [1, 101, 4, 104], [3, 103], [7], [8]]


def test_an_item_waits_for_company_but_not_long(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make(wait=0.3)
    first = queue.submit([1], machine, "a")
    time.sleep(0.05)
    second = queue.submit([2], machine, "a")
    start = time.monotonic()
    assert (first.result(5), second.result(5)) == ([10], [20])
    assert 0.15 < time.monotonic() - start < 2
    full = queue.submit([1, 2, 3, 4], machine, "a")
    start = time.monotonic()
    full.result(5)
    assert time.monotonic() - start < 0.25
    assert machine.batches == [[1, 2], [1, 2, 3, 4]]


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
    assert first.result(5) == [0]
    assert after.result(5) == [10 * k for k in range(20)]
    assert [len(batch) for batch in machine.batches] == [1, 4, 4, 4, 4, 4]
    with pytest.raises(CancelledError):
        waiting.result(0)


def test_cancelling_what_runs_forgets_it(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make()
    running = busy_with(machine, queue)
    long = queue.submit(list(range(8)), machine, "a")
    assert running.cancel()
    machine.free.set()
    assert long.result(5) == [10 * k for k in range(8)]
    assert not long.cancel()
    machine.free.clear()
    half = queue.submit(list(range(8)), machine, "a", on_progress=lambda done, total: half.cancel())
    machine.free.set()
    after = queue.submit([1], machine, "b")
    assert after.result(5) == [10]
    assert half.cancelled()
    assert half.finished == 4


def test_a_failing_job_fails_alone(machine: Machine, make: Callable[..., BatchQueue]) -> None:
    queue = make()
    busy_with(machine, queue)
    good, bad, other = (queue.submit(items, machine, "a") for items in ([1], ["bad", "late"], [2]))
    machine.free.set()
    assert (good.result(5), other.result(5)) == ([10], [20])
    with pytest.raises(ValueError, match="bad"):
        bad.result(5)
    assert queue.submit([3], machine, "a").result(5) == [30]


def test_a_wrong_number_of_results_is_an_error(make: Callable[..., BatchQueue]) -> None:
    with pytest.raises(RuntimeError, match="2 items gave 1 results"):
        make().submit([1, 2], lambda items: [1], "a").result(5)


def test_progress(machine: Machine, make: Callable[..., BatchQueue], caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, int]] = []
    observed: list[int] = []
    queue = make()
    queue.observe = lambda items, seconds: observed.append(items)
    job = queue.submit(list(range(10)), machine, "a", on_progress=lambda *numbers: seen.append(numbers))
    job.result(5)
    assert seen == [(4, 10), (8, 10), (10, 10)]

    def broken(done: int, total: int) -> None:
        raise ZeroDivisionError

    assert queue.submit([1], machine, "a", on_progress=broken).result(5) == [10]
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
            assert job.result(5) == [item * 10 for item in items]
    finally:
        queue.close()
    assert sum(sizes) == sum(len(items) for items, _ in jobs)
    assert max(sizes, default=0) <= batch
