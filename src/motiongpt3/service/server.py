"""The service as an ASGI application: `create_app(engine, config)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from motiongpt3 import __version__
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.service.access import Access
from motiongpt3.service.engine import Busy, Closed, Engine
from motiongpt3.service.middleware import CountRequests, Guard, Metrics
from motiongpt3.service.reading import Readers, TooLarge, describe
from motiongpt3.service.routes import NotAcceptable, body_limits, state_routes, task_routes

DESCRIPTION = """Motions from sentences, and sentences from motions.

Where a motion is the answer, `Accept` chooses between JSON and a file: `application/x-npz`, `application/x-bvh` or
`model/gltf-binary`. A file holds one motion."""


@dataclass(frozen=True)
class ServiceConfig:
    """How the service behaves."""

    name: str = "model"
    """What the model is called."""
    time_limit: float = 60.0
    """Seconds that a request may take, waiting included."""
    token: str | None = None
    """Bearer token that clients must send; None: none."""
    access: Access = field(default_factory=Access)
    """The names that it answers to and the web pages that may call it from a browser."""


def create_app(engine: Engine, config: ServiceConfig | None = None, readers: Readers | None = None) -> FastAPI:
    """The application. It has routes for the tasks that the engine's model can do.

    Args:
        engine: the model behind its queue; closed at the application's end.
        config: how the service behaves.
        readers: what reads requests with motions; the caller closes them. None: its own.
    """
    config = config or ServiceConfig()
    reading = Readers() if readers is None else readers
    metrics = Metrics(lambda: engine.queue.length)
    engine.queue.observe = metrics.observe_batch

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if readers is None:
            reading.warm()
        yield
        await asyncio.to_thread(engine.close, False)
        if readers is None:
            await asyncio.to_thread(reading.close)

    app = FastAPIOffline(
        redoc_url=None,
        static_url="/docs/static",
        title="motiongpt3",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        dependencies=[Security(HTTPBearer(auto_error=False))] if config.token is not None else [],  # for the page alone
        swagger_ui_parameters={"validatorUrl": None},  # its default asks another host
    )
    app.include_router(state_routes(engine, config.name, metrics))
    app.include_router(task_routes(engine, reading))
    paths = frozenset(app.openapi()["paths"])
    app.add_middleware(
        Guard, time_limit=config.time_limit, token=config.token, body_limits=body_limits(), access=config.access
    )
    if config.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.access.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(CountRequests, metrics=metrics, paths=paths)
    for kind in _ANSWERS:
        app.add_exception_handler(kind, _handler(kind))
    return app


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": " ".join(detail.split())[:500]}, status, headers)


_ANSWERS: dict[type[Exception], Callable[[Any], JSONResponse]] = {
    MotionGPT3Error: lambda error: _error(422, str(error)),
    RequestValidationError: lambda error: _error(422, describe(error.errors(), skip=1)),
    HTTPException: lambda error: _error(error.status_code, str(error.detail), error.headers),
    TooLarge: lambda error: _error(413, str(error)),
    NotAcceptable: lambda error: _error(406, str(error)),
    Busy: lambda error: _error(429, f"{error}; try again later", {"Retry-After": str(max(1, ceil(error.retry_after)))}),
    Closed: lambda error: _error(503, "the service is stopping", {"Retry-After": "10"}),
    Exception: lambda error: _error(500, "internal error"),
}
"""What a client is told of an error."""


def _handler(kind: type[Exception]) -> Callable[[Request, Any], Awaitable[JSONResponse]]:
    async def answer(_: Request, error: Any) -> JSONResponse:
        return _ANSWERS[kind](error)

    return answer
