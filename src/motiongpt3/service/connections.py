"""The service's sockets: uvicorn, with the limits that it leaves to a proxy in front of it.

A connection must send a request soon, connections are counted, messages about bad clients are counted, too, and at the
end everything that has arrived is answered while nothing else is waited for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEAD_SECONDS = 10
"""What the head of a request may take: as long as the page's library (websockets) gives a handshake."""
GRACE_SECONDS = 1
"""What a request may still take to arrive once the service is stopping."""
MAX_CONNECTIONS = 1024
"""Connections that are open at once: four for each request that is worked on (see MAX_REQUESTS)."""
BACKLOG = 256
"""Connections that the system keeps until they are taken; asyncio takes as many at once."""
_MESSAGES, _MESSAGES_SECONDS = 20, 60


class State(ServerState):
    """What the connections of one server share."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.stopping = False


class Connection(H11Protocol):
    """A connection that is refused or closed when no request comes, or when it is one too many."""

    server_state: State

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._idle_since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def _idle(self) -> bool:
        """Whether no request is being read or worked on."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _waiting(self) -> bool:
        """Whether all of a request has still to come."""
        return self._idle or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the time, and the number of connections."""
        super().connection_made(transport)
        self._keep_time()
        self._make_room()
        if self.server_state.stopping:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Keep the time of a request's head, however slowly it comes."""
        super().data_received(data)
        self._keep_time()
        if self.server_state.stopping and not self._idle:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        super().connection_lost(exc)
        self._forget_time()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Forget the time: the connection is another protocol's."""
        self._forget_time()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Note since when the connection is idle."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """As every other refusal."""
        self._refuse(400, "this is no HTTP request")

    def shutdown(self) -> None:
        """Answer what has arrived; wait a moment for what is on its way, and for nothing else."""
        if not self._idle:
            self.cycle.keep_alive = False
        if self._waiting:
            self.loop.call_later(GRACE_SECONDS, self._give_up, 503, "the service is stopping")

    def _keep_time(self) -> None:
        if not self._idle or self.transport.get_protocol() is not self:
            self._forget_time()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up, 408, "the request took too long")

    def _forget_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self, status: int, detail: str) -> None:
        """Close, unless a request has arrived meanwhile."""
        if self._waiting and self.transport.get_protocol() is self:
            self._refuse(status, detail)

    def _make_room(self) -> None:
        """Of too many connections close the one that has waited longest for a request; this one if all are at work."""
        there = [each for each in self.connections if not each.transport.is_closing()]
        if len(there) > self.server_state.limit:
            waiting = [each for each in there if isinstance(each, Connection) and each._waiting and each is not self]
            oldest = min(waiting, key=lambda each: each._idle_since, default=self)
            oldest._refuse(429, "too many connections")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with an error, unless an answer has begun, and close."""
        if self.transport.is_closing():
            return
        begun = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not begun and (self.cycle is not None or self.conn.trailing_data[0] or status != 408):
            content = json.dumps({"detail": detail})
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(content)}\r\nConnection: close\r\n"
            head += "Retry-After: 5\r\n" if status in (429, 503) else ""
            self.transport.write(f"{head}\r\n{content}".encode())
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn with `Connection`s; whoever has connected before it is stopped is answered.

    Args:
        app: what answers.
        time_limit: seconds of a request; stopping takes little longer.
        limit: most connections; None: as many as the process may open, MAX_CONNECTIONS at most.
    """

    def __init__(self, app: ASGIApp, time_limit: float = 60.0, limit: int | None = None) -> None:
        files = _raise_file_limit()
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                backlog=min(BACKLOG, files // 4),
                timeout_graceful_shutdown=round(time_limit) + 5,
            )
        )
        self.server_state: State = State(limit or min(MAX_CONNECTIONS, files // 2))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take those who have connected, and end when they are answered."""
        await asyncio.sleep(0.05)  # a few rounds of the loop: the system has them already
        self.server_state.stopping = True
        await super().shutdown(sockets)


def _raise_file_limit() -> int:
    """Files that the process may have open, as many as it may ask for; a socket is one."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 2 * MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 4 * MAX_CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


class MessageLimit(logging.Filter):
    """Lets so many messages a minute pass, and says with the next one how many were left out."""

    def __init__(self, messages: int = _MESSAGES, seconds: float = _MESSAGES_SECONDS) -> None:
        super().__init__()
        self._messages, self._seconds = messages, seconds
        self._since, self._passed, self._left_out = time.monotonic(), 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a message."""
        now = time.monotonic()
        if now - self._since > self._seconds:
            if self._left_out:
                record.msg = f"{record.getMessage()} ({self._left_out} messages before this one were left out)"
                record.args = None
            self._since, self._passed, self._left_out = now, 0, 0
        self._passed += 1
        self._left_out += self._passed > self._messages
        return self._passed <= self._messages
