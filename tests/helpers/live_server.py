"""The service on a real socket of this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from service_requests import readers

from motiongpt3.service.connections import Server
from motiongpt3.service.engine import Engine
from motiongpt3.service.server import ServiceConfig, create_app


@contextmanager
def serving(engine: Engine, config: ServiceConfig | None = None, **options: Any) -> Iterator[tuple[str, Server]]:
    """The address and the server; both are gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(create_app(engine, config, readers()), **options)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 300
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(300)
        assert not thread.is_alive()


def until(condition: Callable[[], Any]) -> None:
    """Wait for it; after five minutes it fails."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def connected(url: str) -> socket.socket:
    """A connection that has sent nothing."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=300)


def raw(url: str, head: str, body: bytes = b"", path: str = "/v1/generate") -> socket.socket:
    """A connection that has sent the beginning of a request."""
    connection = connected(url)
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", head]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection
