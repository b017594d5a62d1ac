"""The service on a real socket: clients that hang up, dawdle or come all at once, and the end of it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
import schemathesis
from fake_model import FakeModel
from hypothesis import HealthCheck, Phase, given, settings
from live_server import serving
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from motiongpt3.service.engine import BatchQueue, Engine
from motiongpt3.service.server import ServiceConfig

WALK = {"prompt": "a person walks", "seconds": 0.5}


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def raw(url: str, head: str, body: bytes = b"") -> socket.socket:
    """A connection that has sent the beginning of a request to generate."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port), timeout=300)
    lines = ["POST /v1/generate HTTP/1.1", "Host: localhost", "Content-Type: application/json", head]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


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


def test_a_body_that_never_comes(engine: Engine) -> None:
    with serving(engine, ServiceConfig(time_limit=0.3)) as (url, _), raw(url, "Content-Length: 100", b"{") as slow:
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


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


class Command:
    """A running `motiongpt3 serve`."""

    def __init__(self, *words: str, **environment: str) -> None:
        import os

        command = [sys.executable, "-m", "motiongpt3.cli.main", "serve", "--port", "0", *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env={**os.environ, **environment}, **pipes)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_the_command(tiny_model_dir: Path) -> None:
    """On this machine alone, with a token; a TERM lets what runs be finished."""
    with Command("--model", str(tiny_model_dir), "--batch", "4", MOTIONGPT3_TOKEN="s3cret") as command:
        assert command.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{command.url}/v1/model").status_code == 401
        headers = {"Authorization": "Bearer s3cret"}
        model = httpx.get(f"{command.url}/v1/model", headers=headers)
        assert model.json()["name"] == tiny_model_dir.name
        assert str(tiny_model_dir.parent) not in model.text
        assert "server" not in model.headers
        answers: list[httpx.Response] = []
        asked = {"prompt": ["walks", "jumps"], "samples": 32, "steps": 100, "seconds": 1}

        def ask() -> None:
            answers.append(httpx.post(f"{command.url}/v1/generate", json=asked, headers=headers, timeout=300))

        client = threading.Thread(target=ask)
        client.start()
        until(
            lambda: "motiongpt3_batch_items_count 0.0" not in httpx.get(f"{command.url}/metrics", headers=headers).text
        )
        command.process.send_signal(signal.SIGTERM)
        client.join(30)
        assert len(json.loads(answers[0].content)["motions"]) == 64
        _, err = command.process.communicate(timeout=300)
        assert command.process.returncode in (0, -signal.SIGTERM)
        assert err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--port", "99999"], "--port must be 0 to 65535, not 99999"),
        (["--queue", "8"], "--queue must be at least 64"),
        (["--model", "gone/"], "gone"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_the_command_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    from motiongpt3.cli.main import main

    assert main(["serve", "--port", "0", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_taken_port_and_a_bad_token(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from motiongpt3.cli.main import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
        assert "in use" in capsys.readouterr().err
    for token in ("", "two words", "caf\u00e9", " x"):
        monkeypatch.setenv("MOTIONGPT3_TOKEN", token)
        assert main(["serve", "--port", "0"]) == 2
        assert "MOTIONGPT3_TOKEN must be one word" in capsys.readouterr().err


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
