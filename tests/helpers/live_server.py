"""The service on a real socket of this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from motiongpt3.service.engine import Engine
from motiongpt3.service.server import ServiceConfig, create_app


@contextmanager
def serving(engine: Engine, config: ServiceConfig | None = None) -> Iterator[tuple[str, uvicorn.Server]]:
    """The address and the server; both are gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(engine, config), log_level="critical", server_header=False))
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
