"""Sockets: who sends no request is not kept, who is one too many is told, and the end waits for nobody else."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx2 as httpx
import pytest
from fake_model import FakeModel
from live_server import connected, raw, serving, until
from service_requests import WALK

from motiongpt3.service import connections
from motiongpt3.service.connections import MessageLimit
from motiongpt3.service.engine import Engine

pytestmark = pytest.mark.slow
HEAD = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n"


def told(connection: socket.socket) -> bytes:
    """All that the service sends before it closes."""
    found = b""
    while piece := connection.recv(10_000):
        found += piece
    return found


def healthy(connection: socket.socket) -> bool:
    """Whether the answer is all there and right."""
    found = b""
    while not found.endswith(b"}"):
        found += connection.recv(10_000)
    return found.startswith(b"HTTP/1.1 200 ")


@contextmanager
def opened(*those: socket.socket) -> Iterator[None]:
    with ExitStack() as stack:
        for each in those:
            stack.enter_context(each)
        yield


def test_the_head_of_a_request_has_its_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly it comes, and after an answer, too; a connection that said nothing is closed without a word."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with serving(engine) as (url, server):
        silent, slow, again = connected(url), connected(url), connected(url)
        with opened(silent, slow, again):
            slow.sendall(HEAD)
            again.sendall(HEAD + b"\r\n")
            assert healthy(again)
            again.sendall(HEAD)
            for _ in range(3):
                slow.sendall(b"X: y\r\n")
            assert told(silent) == b""
            for connection in (slow, again):
                assert told(connection).startswith(b"HTTP/1.1 408 ")
        until(lambda: not server.server_state.connections)


def test_a_request_that_is_worked_on_has_no_such_time(
    engine: Engine, fake: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    fake.free.clear()
    with (
        serving(engine) as (url, _),
        raw(url, "Content-Length: 17\r\nConnection: close", b'{"prompt": "run"}') as asked,
    ):
        until(lambda: fake.calls)
        time.sleep(0.3)
        fake.free.set()
        assert told(asked).startswith(b"HTTP/1.1 200 ")


def test_silent_connections_make_room(engine: Engine) -> None:
    """The oldest that has not sent a whole request goes first; who has is answered."""
    with serving(engine, limit=4) as (url, server), ExitStack() as stack:
        silent = [stack.enter_context(connected(url)) for _ in range(3)]
        until(lambda: len(server.server_state.connections) == 3)
        half = stack.enter_context(raw(url, "Content-Length: 100", b"{"))
        until(lambda: len(server.server_state.connections) == 4)
        for number in range(4):
            assert httpx.get(f"{url}/v1/health").status_code == 200, number
        for connection in silent[:1]:
            assert told(connection).startswith(b"HTTP/1.1 429 ")
        more = [stack.enter_context(connected(url)) for _ in range(10)]
        assert b"Retry-After" in told(half)
        assert httpx.get(f"{url}/v1/health").status_code == 200
        assert len(server.server_state.connections) <= 5
        assert more


def test_one_too_many_is_told(engine: Engine, fake: FakeModel) -> None:
    fake.free.clear()
    with serving(engine, limit=2) as (url, server), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(raw(url, "Content-Length: 17", b'{"prompt": "run"}'))
        until(lambda: sum(not each._waiting for each in server.server_state.connections) == 2)
        with connected(url) as third:
            assert told(third).startswith(b"HTTP/1.1 429 ")
        fake.free.set()


def test_no_http(engine: Engine) -> None:
    with serving(engine) as (url, _):
        for rubbish in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nA: " + b"a" * 200_000, b"\r\n\r\n\0"):
            with connected(url) as connection:
                connection.sendall(rubbish)
                connection.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):  # there was more of it than was read
                    assert told(connection).startswith(b"HTTP/1.1 400 ")
        assert httpx.get(f"{url}/v1/health").status_code == 200


def test_all_that_have_arrived_are_answered_at_the_end(engine: Engine, fake: FakeModel) -> None:
    """Those in work, those behind them and those only just sent; half of a request delays nothing."""
    fake.free.clear()
    with ThreadPoolExecutor(12) as pool, serving(engine) as (url, server):
        keeping = connected(url)
        keeping.sendall(HEAD + b"\r\n")
        assert healthy(keeping)
        half, silent = raw(url, "Content-Length: 100", b"{"), connected(url)
        answers = [pool.submit(httpx.post, f"{url}/v1/generate", json=WALK, timeout=300) for _ in range(10)]
        until(lambda: sum(map(len, fake.calls)) + engine.queue.length == 10)
        late = raw(url, "Content-Length: 18", b'{"prompt": "last"}')
        server.should_exit = True
        keeping.sendall(HEAD + b"\r\n")  # on its way when the end began
        assert healthy(keeping)
        fake.free.set()
        assert [answer.result(300).status_code for answer in answers] == [200] * 10
        assert told(late).startswith(b"HTTP/1.1 200 ")
        assert told(half).startswith(b"HTTP/1.1 503 ")
        assert told(silent).startswith((b"", b"HTTP/1.1 503 "))
        for connection in (keeping, half, silent, late):
            connection.close()


def test_messages_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("motiongpt3.service.connections.time.monotonic", lambda: clock)
    limit = MessageLimit(messages=3, seconds=60)

    def passes(text: str) -> Any:
        record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", (text,), None)
        return limit.filter(record) and record.getMessage()

    assert [passes(str(k)) for k in range(5)] == ["0", "1", "2", False, False]
    clock = 61.0
    assert passes("next") == "next (2 messages before this one were left out)"
    assert passes("more") == "more"
