"""The service on a real socket: clients that hang up, dawdle or come all at once, and the end of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest
import schemathesis
from fake_model import FakeModel
from hypothesis import HealthCheck, Phase, given, settings
from live_server import raw, serving, until
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_requests import WALK

from motiongpt3.service.engine import BatchQueue, Engine
from motiongpt3.service.server import ServiceConfig


@pytest.mark.slow
def test_a_client_that_hangs_up_is_forgotten(engine: Engine, fake: FakeModel) -> None:
    with serving(engine) as (url, _):
        fake.free.clear()
        running = raw(url, "Content-Length: 17", b'{"prompt": "run"}')
        until(lambda: fake.calls)
        waiting = raw(url, "Content-Length: 18", b'{"prompt": "wait"}')
        until(lambda: engine.queue.length == 1)
        waiting.close()
        until(lambda: engine.queue.length == 0)
        running.close()
        until(lambda: 'status="499"} 2.0' in httpx.get(f"{url}/metrics").text)
        fake.free.set()
        assert httpx.post(f"{url}/v1/generate", json=WALK).status_code == 200
        assert fake.calls == [["run"], ["a person walks"]]


@pytest.mark.slow
def test_a_body_that_never_comes(engine: Engine) -> None:
    with serving(engine, ServiceConfig(time_limit=0.3)) as (url, _), raw(url, "Content-Length: 100", b"{") as slow:
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.slow
def test_two_gigabytes(engine: Engine) -> None:
    """The client reads its answer, whether it announces the size or not, and the service never holds the upload."""
    with serving(engine) as (url, _):
        for head in ("Content-Length: 2000000000", "Transfer-Encoding: chunked"):
            piece = b"2000\r\n" + b" " * 0x2000 + b"\r\n" if "chunked" in head else b" " * 0x2000
            with raw(url, head) as connection:
                sent = 0
                try:
                    while sent < 40_000_000:
                        sent += connection.send(piece)
                except OSError:
                    pass
                assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert httpx.get(f"{url}/v1/ready").status_code == 200


@pytest.mark.slow
def test_64_clients_lose_nothing() -> None:
    """Each gets its own motions; the batches are joined; nothing is left behind."""
    fake = FakeModel()
    engine = Engine(fake, BatchQueue(batch=8, wait=0.01, limit=64))
    with serving(engine) as (url, server), ThreadPoolExecutor(64) as pool:

        def one(number: int) -> None:
            with httpx.Client(base_url=url, timeout=300) as client:
                for k in range(2):
                    seed = 10 * number + k
                    answer = client.post("/v1/generate", json={**WALK, "seed": seed})
                    assert answer.status_code == 200
                    (motion,) = answer.json()["motions"]
                    assert motion["joints"][9][0][0] == seed == motion["seed"]

        list(pool.map(one, range(64)))
        assert sum(map(len, fake.calls)) == 128
        assert len(fake.calls) < 100
        until(lambda: not server.server_state.tasks)
        assert engine.queue.length == 0


@pytest.mark.slow
def test_what_runs_is_finished_before_the_end(engine: Engine, fake: FakeModel) -> None:
    with ThreadPoolExecutor(1) as pool, serving(engine) as (url, server):
        fake.free.clear()
        answer = pool.submit(httpx.post, f"{url}/v1/generate", json=WALK, timeout=300)
        until(lambda: fake.calls)
        server.should_exit = True
        time.sleep(0.3)
        assert not answer.done()
        fake.free.set()
        assert answer.result(10).status_code == 200
    assert not engine.queue.open


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
POSTS = ("generate", "caption", "predict", "inbetween", "compose")
GETS = ("/v1/health", "/v1/ready", "/v1/model", "/metrics")


@pytest.fixture(scope="module")
def schema() -> Iterator[Any]:
    fake = FakeModel()
    fake.config.max_seconds = 600.0  # as the page says
    with serving(Engine(fake, BatchQueue(wait=0.0))) as (url, _):
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_operation_is_tried(schema: Any) -> None:
    found = {f"{o.ok().method} {o.ok().path}" for o in schema.get_all_operations()}
    assert found == {f"post /v1/{name}" for name in POSTS} | {f"get {path}" for path in GETS}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", POSTS)
def test_invented_requests(name: str, mode: GenerationMode, schema: Any) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(schema[f"/v1/{name}"]["POST"].as_strategy(generation_mode=mode))
    def invent(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=300)

    invent()


@pytest.mark.parametrize("path", GETS)
def test_what_can_only_be_read(path: str, schema: Any) -> None:
    schema[path]["GET"].Case().call_and_validate(checks=CHECKS)
