"""What the service counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
