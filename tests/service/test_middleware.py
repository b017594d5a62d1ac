"""What stands before every request: the token, the size of the body, its kind, its time, and the count of it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from fake_model import FakeModel
from fastapi.testclient import TestClient
from service_requests import WALK, asking, refusal

from motiongpt3.service import middleware as guard
from motiongpt3.service import routes
from motiongpt3.service.engine import Engine
from motiongpt3.service.server import ServiceConfig


def test_metrics(client: TestClient) -> None:
    for prompt in (["walk", "jump"], ""):
        client.post("/v1/generate", json={"prompt": prompt})
    client.get("/v1/made-up")
    text = client.get("/metrics").text
    assert 'motiongpt3_requests_total{path="/v1/generate",status="200"} 1.0' in text
    assert 'motiongpt3_requests_total{path="/v1/generate",status="422"} 1.0' in text
    assert 'motiongpt3_requests_total{path="other",status="404"} 1.0' in text
    assert "motiongpt3_batch_items_sum 2.0" in text
    assert "motiongpt3_queue_items 0.0" in text
    assert "made-up" not in text


def test_only_declared_json(client: TestClient, fake: FakeModel) -> None:
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        refusal(client.post("/v1/generate", content=json.dumps(WALK), headers={"Content-Type": kind}), 415)
    refusal(client.post("/v1/generate", content=json.dumps(WALK)), 415)
    assert fake.calls == []


def test_too_much(client: TestClient, fake: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "1 MB" in refusal(client.post("/v1/generate", json={"prompt": ["a person walks"] * 100_000}), 413)
    big = {"Content-Type": "application/json", "Content-Length": "2000000000"}
    assert "1 MB" in refusal(client.post("/v1/generate", content=b"{", headers=big), 413)
    refusal(client.post("/v1/generate", json=WALK, headers={"Content-Length": "9" * 5000}), 413)

    def endless() -> Iterator[bytes]:
        for _ in range(2000):
            yield b" " * 1000

    chunked = {"Content-Type": "application/json"}
    refusal(client.post("/v1/generate", content=endless(), headers=chunked), 413)
    assert routes.body_limits()["/v1/caption"] > 20_000_000 * 4 / 3
    data = base64.b64encode(bytes(20_000_001)).decode()
    refusal(client.post("/v1/caption", json={"motion": {"format": "bvh", "data": data}}), 413)
    monkeypatch.setattr(guard, "HELD_LIMIT", 10)
    assert refusal(held := client.post("/v1/generate", json=WALK), 429)
    assert int(held.headers["retry-after"]) > 0
    monkeypatch.undo()
    assert client.post("/v1/generate", json=WALK).status_code == 200
    assert len(fake.calls) == 1


@pytest.mark.slow
def test_the_time_limit(engine: Engine, fake: FakeModel) -> None:
    with asking(engine, ServiceConfig(time_limit=0.2)) as client:
        fake.free.clear()
        running = client.post("/v1/generate", json=WALK)
        assert "too long" in refusal(running, 503)
        assert "retry-after" in running.headers
        refusal(client.post("/v1/generate", json={"prompt": "wait"}), 503)
        assert engine.queue.length == 0
        fake.free.set()
        assert client.post("/v1/generate", json=WALK).status_code == 200
    assert ["wait"] not in fake.calls


@pytest.mark.slow
def test_the_token(engine: Engine, fake: FakeModel) -> None:
    with asking(engine, ServiceConfig(token="s3cret")) as client:
        wrong: list[dict[str, str]] = [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer s3cre"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer s\u00e9cret"},
        ]
        for headers in wrong:
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            answer = client.post("/v1/generate", json=WALK, headers=encoded)
            refusal(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            for path in ("/v1/model", "/metrics", "/v1/nothing"):
                refusal(client.get(path, headers=encoded), 401)
        for path in ("/v1/health", "/v1/ready", "/docs", "/openapi.json", "/docs/static/swagger-ui.css"):
            assert client.get(path).status_code == 200
        assert fake.calls == []
        for scheme in ("Bearer", "bearer"):
            right = {"Authorization": f"{scheme} s3cret"}
            assert client.post("/v1/generate", json=WALK, headers=right).status_code == 200
            assert client.get("/metrics", headers=right).status_code == 200
        assert "HTTPBearer" in client.get("/openapi.json").json()["components"]["securitySchemes"]


def ask(app: Any, messages: list[dict[str, Any]], **more: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an ASGI application's answer to a POST that arrives as these messages."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "headers": [(b"content-type", b"application/json")],
        **more,
    }
    sent: list[dict[str, Any]] = []
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await asyncio.Future()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(each.get("body", b"") for each in sent[1:])


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was sent."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_the_application_sees_the_whole_body_in_its_pieces() -> None:
    guarded = guard.Guard(echo, 5)
    assert ask(guarded, [piece(b"ab", True), piece(b"", True), piece(b"cd")])[::2] == (200, b"abcd")


def test_the_bound_of_a_path_is_to_the_byte() -> None:
    guarded = guard.Guard(echo, 5, body_limits={"/x": 4})
    assert ask(guarded, [piece(b"abcd")])[0] == 200
    assert ask(guarded, [piece(b"abc", True), piece(b"de")])[0] == 413
    assert ask(guarded, [piece(b"abcde")], path="/y")[0] == 200, "another path has the usual bound"


def test_bodies_in_memory_are_counted_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HELD_LIMIT", 4)
    guarded = guard.Guard(echo, 5)
    for _ in range(3):
        assert ask(guarded, [piece(b"abcd")])[0] == 200
        status, headers, _ = ask(guarded, [piece(b"abc", True), piece(b"de")])
        assert (status, headers[b"retry-after"]) == (429, b"5")


def test_what_arrives_or_works_too_long_is_stopped() -> None:
    async def sleeper(*_: Any) -> None:
        await asyncio.Future()

    status, headers, _ = ask(guard.Guard(sleeper, 0.05), [piece(b"{}")])
    assert (status, headers[b"retry-after"]) == (503, b"5")
    status, headers, _ = ask(guard.Guard(echo, 0.05), [piece(b"{", True), {"type": "http.disconnect"}])
    assert status == 200, "who hangs up while sending is not waited for"


def test_a_client_that_does_not_wait_and_a_defect_are_counted_as_such() -> None:
    metrics = guard.Metrics(lambda: 3)

    async def silent(*_: Any) -> None:
        return

    async def broken(*_: Any) -> None:
        raise ValueError

    for inner, expected in ((silent, nullcontext()), (broken, pytest.raises(ValueError))):
        counting = guard.CountRequests(inner, metrics, {"/x"})
        with expected:
            asyncio.run(counting({"type": "http", "path": "/x"}, None, None))  # type: ignore[arg-type]
    metrics.observe_batch(5, 0.3)
    text = metrics.render().decode()
    for status in (499, 500):
        assert f'motiongpt3_requests_total{{path="/x",status="{status}"}} 1.0' in text
    assert "motiongpt3_queue_items 3.0" in text
    assert 'motiongpt3_batch_items_bucket{le="4.0"} 0.0' in text
    assert 'motiongpt3_batch_items_bucket{le="8.0"} 1.0' in text
