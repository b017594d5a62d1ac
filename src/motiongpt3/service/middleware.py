"""What stands before every request: who may ask, the size of the body, the time it may take, and a count of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from motiongpt3.service.access import Access

BODY_LIMIT = 1_000_000
"""Bytes of the body of a request without a motion: 64 prompts need less, however they are escaped."""
HELD_LIMIT = 256_000_000
"""Bytes of all bodies that are in memory at once."""
MAX_REQUESTS = 256
"""Requests that are worked on at once: as many as the queue's default lets wait."""
OPEN = ("/v1/health", "/v1/ready", "/docs", "/openapi.json")
"""Paths that need no token; nor do those below /docs/."""
_LINGER_SECONDS, _LINGER_BYTES = 2.0, 64_000_000


class _Refusal(Exception):
    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


@dataclass
class _Body:
    """What has been read of a request's body, and whether that is all."""

    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.chunks))


class Guard:
    """ASGI middleware that refuses or stops what should not go on.

    Refused are requests to another name or from a foreign page (403), without the token (401), with too large a body
    (413), with a body that is no JSON (415) or when the bodies in memory or the requests in work are too many (429).
    Stopped are those that take too long, while they arrive (408) or are worked on (503), and those whose client has
    hung up: their task is cancelled, and with it the job it waits for. The body is read before the application sees
    the request.

    Args:
        app: what answers.
        time_limit: seconds of a request, reading its body included.
        token: what clients must send as `Authorization: Bearer TOKEN`; None: nothing.
        body_limits: bytes by path, where they are not BODY_LIMIT.
        access: the names of the service and the pages that may ask it; None: any.
    """

    def __init__(
        self,
        app: ASGIApp,
        time_limit: float,
        token: str | None = None,
        body_limits: Mapping[str, int] | None = None,
        access: Access | None = None,
    ) -> None:
        self.app, self.time_limit, self.token, self.access = app, time_limit, token, access
        self.body_limits = dict(body_limits or {})
        self._held = self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self._stranger(dict(scope["headers"])) is not None:
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: a refusal with status 403
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self.time_limit
        body = _Body()
        try:
            self._check(scope)
            try:
                async with asyncio.timeout_at(deadline):
                    await self._read(scope, receive, body)
            except TimeoutError:
                raise _Refusal(408, "the request took too long to arrive") from None
            with self._place(scope):
                await self._answer(scope, receive, send, body, deadline)
        except _Refusal as refusal:
            await _refuse(refusal, receive, send, linger=not body.complete)
        finally:
            self._held -= len(body)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        path = scope["path"]
        if (stranger := self._stranger(headers)) is not None:
            raise _Refusal(403, stranger)
        if self.token is not None and path not in OPEN and not path.startswith("/docs/"):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.token.encode()):
                raise _Refusal(
                    401, "this service needs a token: Authorization: Bearer …", **{"WWW-Authenticate": "Bearer"}
                )
        if scope["method"] == "POST":
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                raise _Refusal(415, "send JSON, as Content-Type: application/json")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._limit(path):
            raise self._too_large(path)

    def _stranger(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Why whoever sends these headers is not answered."""
        if self.access is None:
            return None
        host, origin = (headers[name].decode("latin-1") if name in headers else None for name in (b"host", b"origin"))
        return self.access.refusal(host, origin)

    @contextmanager
    def _place(self, scope: Scope) -> Iterator[None]:
        """A request's place among those in work. What only looks (GET) is done at once and always has one."""
        if self._working >= MAX_REQUESTS and scope["method"] == "POST":
            raise _Refusal(429, "too many requests at once", **{"Retry-After": "5"})
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    def _limit(self, path: str) -> int:
        return self.body_limits.get(path, BODY_LIMIT)

    def _too_large(self, path: str) -> _Refusal:
        return _Refusal(413, f"the request is too large: at most {self._limit(path) / 1e6:g} MB")

    async def _read(self, scope: Scope, receive: Receive, body: _Body) -> None:
        size, limit = 0, self._limit(scope["path"])
        while not body.complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                body.complete = True
                return
            chunk = message.get("body", b"")
            body.complete = not message.get("more_body", False)
            size += len(chunk)
            if size > limit:
                raise self._too_large(scope["path"])
            if self._held + len(chunk) > HELD_LIMIT:
                raise _Refusal(429, "too many uploads at once", **{"Retry-After": "5"})
            self._held += len(chunk)
            body.chunks.append(chunk)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, body: _Body, deadline: float) -> None:
        started = False
        unread = iter(body.chunks)
        left = len(body.chunks)

        async def replay() -> Message:
            nonlocal left
            if left == 0:
                await asyncio.Future()  # the client says nothing more
            left -= 1
            return {"type": "http.request", "body": next(unread), "more_body": left > 0}

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        answer = asyncio.ensure_future(self.app(scope, replay, note))
        hung_up = asyncio.ensure_future(_hung_up(receive))
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.wait((answer, hung_up), return_when=asyncio.FIRST_COMPLETED)
                if started or answer.done():
                    await answer
        except TimeoutError:
            if not started:
                raise _Refusal(503, "this took too long: ask for less, or later", **{"Retry-After": "5"}) from None
        finally:
            answer.cancel()
            hung_up.cancel()
            await asyncio.wait((answer, hung_up))


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(refusal: _Refusal, receive: Receive, send: Send, linger: bool) -> None:
    """Send a refusal. Most clients read an answer only when all of their upload is gone: take some of it, unseen."""
    content = json.dumps({"detail": refusal.detail}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **refusal.headers}
    if linger:
        headers["Connection"] = "close"
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content, "more_body": linger})
    if linger:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                taken = 0
                while taken < _LINGER_BYTES and (message := await receive()).get("more_body", False):
                    taken += len(message.get("body", b""))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one service, in a registry of their own.

    Args:
        waiting: tells how many motions wait.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("motiongpt3_requests", "Answered requests", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "motiongpt3_request_seconds", "Time of a request", ["path"], buckets=_SECONDS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "motiongpt3_batch_seconds", "Time of a batch", buckets=_SECONDS, registry=self.registry
        )
        self.batch_items = Histogram(
            "motiongpt3_batch_items", "Items of a batch", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )
        Gauge("motiongpt3_queue_items", "Items that wait", registry=self.registry).set_function(waiting)

    def observe_batch(self, items: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_items.observe(items)
        self.batch_seconds.observe(seconds)

    def render(self) -> bytes:
        """All of it as Prometheus' text format."""
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware: count requests by path and status. 499 stands for a client that did not wait for the answer.

    Args:
        app: what answers.
        metrics: where to count.
        paths: those that are counted by name; all others are "other", so that clients cannot invent labels.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        start, status = time.perf_counter(), 499

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            status = 500
            raise
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start)
