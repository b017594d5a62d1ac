"""The paths of the service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np
from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.service.engine import Engine, Job
from motiongpt3.service.middleware import BODY_LIMIT, CONTENT_TYPE, Metrics
from motiongpt3.service.motion_files import MAX_SECONDS, MAX_UPLOAD, Postprocessed, Postprocessor, to_bytes
from motiongpt3.service.reading import Readers, parse
from motiongpt3.service.schemas import (
    MAX_MOTIONS,
    CaptionRequest,
    Captions,
    ComposeRequest,
    Error,
    Finish,
    GenerateRequest,
    InbetweenRequest,
    ModelInfo,
    Motions,
    PredictRequest,
    Status,
)

JSON = "application/json"
FILES = {"application/x-npz": "npz", "application/x-bvh": "bvh", "model/gltf-binary": "glb"}
"""Media types of the files that a client can ask for with Accept, and their suffixes."""


class NotAcceptable(Exception):
    """The client accepts nothing that the service can give."""


def media_type(accept: str | None) -> str:
    """JSON or the type of a file: what an Accept header likes best, JSON where it has no preference.

    Raises:
        NotAcceptable: nothing of it is on offer.
    """
    offers = (JSON, *FILES)
    wishes = _wishes(accept or "*/*")
    for kind in sorted(wishes, key=lambda kind: -wishes[kind]):
        for offer in offers:
            if kind in (offer, "*/*", offer.partition("/")[0] + "/*"):
                return offer
    raise NotAcceptable(f"this answer comes as {', '.join(offers)}")


def _wishes(accept: str) -> dict[str, float]:
    """Media ranges of an Accept header and their qualities, in its order."""
    wishes = {}
    for wish in accept.split(",")[:50]:
        kind, *options = (part.strip().lower() for part in wish.split(";"))
        text = next((option[2:] for option in options if option.startswith("q=")), "1")
        wishes[kind] = float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 0.0
    return {kind: quality for kind, quality in wishes.items() if quality > 0}


def as_json(made: Sequence[Postprocessed], seeds: Sequence[int]) -> bytes:
    """The `Motions` answer: positions in metres to six decimals, and what finishing changed."""
    return b"".join(_pieces(made, seeds))


_FRAMES = 100
"""Frames that are written at once: some milliseconds, for which no other thread of the service runs."""


def _pieces(made: Sequence[Postprocessed], seeds: Sequence[int]) -> Iterator[bytes]:
    for number, ((motion, changes), seed) in enumerate(zip(made, seeds, strict=True)):
        facts: dict[str, Any] = {"caption": motion.caption, "seed": seed, "frames": len(motion), "fps": motion.fps}
        facts |= {"seconds": motion.seconds, "finish": changes}
        yield b'{"motions":[' if number == 0 else b","
        yield _dumps(facts)[:-1] + b',"joints":['
        for first in range(0, len(motion), _FRAMES):
            joints = motion.joints[first : first + _FRAMES].astype(np.float64).round(6).tolist()
            yield (b"," if first else b"") + _dumps(joints)[1:-1]
        yield b"]}"
    yield b"]}"


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


R = TypeVar("R")
Accept = Annotated[str | None, Header(include_in_schema=False)]

_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Error, "description": why}
    for code, why in {
        400: "the body is no JSON",
        401: "the token is missing or wrong",
        406: "nothing that Accept names can be given",
        408: "the request took too long to arrive",
        413: "the request or a file in it is too large",
        415: "the body is not declared as JSON",
        422: "something in the request is wrong",
        429: "too much is waiting: come again after Retry-After seconds",
        500: "a defect of the service",
        503: "it took too long, or the service is stopping",
    }.items()
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_MOTIONS: dict[int | str, dict[str, Any]] = {
    **_ERRORS,
    200: {"model": Motions, "description": "the motions", "content": dict.fromkeys(FILES, _BINARY)},
}


def body_limits() -> dict[str, int]:
    """Bytes of a request's body, for paths that take motions."""
    one = MAX_UPLOAD * 4 // 3 + BODY_LIMIT
    return {"/v1/caption": one, "/v1/predict": one, "/v1/inbetween": 2 * one}


def state_routes(engine: Engine, name: str, metrics: Metrics) -> APIRouter:
    """Health, readiness, the model, and the metrics."""
    router = APIRouter(tags=["state"])
    few: dict[int | str, dict[str, Any]] = {code: _ERRORS[code] for code in (401, 413)}

    @router.get("/v1/health")
    async def health() -> Status:
        """The process is alive."""
        return Status(status="ok")

    @router.get("/v1/ready", responses={503: _ERRORS[503], 413: _ERRORS[413]}, response_model=Status)
    async def ready() -> Any:
        """There is room in the queue."""
        if not engine.queue.open or engine.queue.length >= engine.queue.limit:
            return Response(Error(detail="not ready").model_dump_json(), 503, media_type=JSON)
        return Status(status="ready")

    @router.get("/v1/model", responses=few)
    async def model() -> ModelInfo:
        """What is served."""
        config = engine.model.config
        return ModelInfo(
            name=name,
            tasks=list(engine.tasks),
            max_seconds=config.max_seconds,
            fps=config.fps,
            guidance=config.guidance,
            steps=config.steps,
        )

    @router.get("/metrics", responses={**few, 200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def prometheus() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return router


class BodyReader:
    """Reads the bodies of requests beside the event loop.

    Those with motions are read in processes, few at once: a place is free again when its process has done its work,
    whether or not the client is still there.
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._places = asyncio.Semaphore(readers.workers)

    async def read(self, kind: type[BaseModel], request: Request) -> BaseModel:
        """A request's body as `kind`; raises what `reading.parse` does."""
        if not any(field.annotation is Motion for field in kind.model_fields.values()):
            return await asyncio.to_thread(parse, kind, await request.body())
        await self._places.acquire()
        try:
            reading = self._readers.submit(kind, await request.body())
        except BaseException:
            self._places.release()
            raise
        loop = asyncio.get_running_loop()
        reading.add_done_callback(lambda _: loop.call_soon_threadsafe(self._places.release))
        return await asyncio.wrap_future(reading)

    def route(self) -> type[APIRoute]:
        """Routes whose request is read so; all else is FastAPI's."""
        read = self.read

        class Route(APIRoute):
            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                answer = super().get_route_handler()
                kind = get_type_hints(self.endpoint)["asked"]

                async def handler(request: Request) -> Response:
                    return await answer(_Read(request, await read(kind, request)))

                return handler

        return Route


class _Read(Request):
    """A request whose body has been read and checked."""

    def __init__(self, request: Request, asked: BaseModel) -> None:
        super().__init__(request.scope, request.receive)
        self._asked = asked

    async def body(self) -> bytes:
        return b"{}"  # it is there

    async def json(self) -> Any:
        return self._asked


def task_routes(engine: Engine, readers: Readers) -> APIRouter:
    """What the model can do."""
    router = APIRouter(prefix="/v1", tags=["tasks"], route_class=BodyReader(readers).route())
    postprocessor = Postprocessor()

    async def answer(job: Job[Motion], kind: str, seeds: Sequence[int], wishes: Finish | None) -> Response:
        asked = wishes.model_dump() if wishes is not None else {}
        return await _answer(await postprocessor.run(await _wait(job), asked), kind, seeds)

    if "generate" in engine.tasks:

        @router.post("/generate", responses=_MOTIONS, response_model=None)
        async def generate(asked: GenerateRequest, accept: Accept = None) -> Response:
            """Motions from sentences."""
            prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
            count = len(prompts) * asked.samples
            if count > MAX_MOTIONS:
                raise MotionGPT3Error(f"that is {count} motions; one request makes at most {MAX_MOTIONS}")
            kind = _kind(accept, count)
            job = engine.generate(prompts, asked.seconds, asked.samples, **vars(asked.draw_options))
            seeds = [asked.seed + k for _ in prompts for k in range(asked.samples)]
            return await answer(job, kind, seeds, asked.finish)

    if "caption" in engine.tasks:

        @router.post("/caption", responses=_ERRORS)
        async def caption(asked: CaptionRequest) -> Captions:
            """Sentences about a motion."""
            job = engine.caption([asked.motion], asked.samples, asked.beams, asked.seed, asked.candidates)
            return Captions(captions=(await _wait(job))[0])

    if "predict" in engine.tasks:

        @router.post("/predict", responses=_MOTIONS, response_model=None)
        async def predict(asked: PredictRequest, accept: Accept = None) -> Response:
            """The motion as it was, unless finished, and how it goes on."""
            kind = _kind(accept)
            job = engine.predict(asked.motion, asked.seconds, asked.prompt, **vars(asked.draw_options))
            return await answer(job, kind, [asked.seed], asked.finish)

    if "inbetween" in engine.tasks:

        @router.post("/inbetween", responses=_MOTIONS, response_model=None)
        async def inbetween(asked: InbetweenRequest, accept: Accept = None) -> Response:
            """The first motion, what leads to the second, and the second: as they were, unless finished."""
            kind = _kind(accept)
            drawing = vars(asked.draw_options)
            job = engine.inbetween(asked.start, asked.end, asked.seconds, asked.prompt, **drawing)
            return await answer(job, kind, [asked.seed], asked.finish)

    if "compose" in engine.tasks:

        @router.post("/compose", responses=_MOTIONS, response_model=None)
        async def compose(asked: ComposeRequest, accept: Accept = None) -> Response:
            """One action after the other, as one motion."""
            kind = _kind(accept)
            if sum(part.seconds or 0 for part in asked.parts) > MAX_SECONDS:
                raise MotionGPT3Error(f"one motion has at most {MAX_SECONDS} seconds; ask for less")
            parts = [(part.prompt, part.seconds) for part in asked.parts]
            job = engine.compose(parts, **vars(asked.draw_options))
            return await answer(job, kind, [asked.seed], asked.finish)

    return router


async def _wait(job: Job[R]) -> list[R]:
    """The results of a job; it is cancelled when the request is."""
    return await asyncio.wrap_future(job)


async def _answer(made: Sequence[Postprocessed], kind: str, seeds: Sequence[int]) -> Response:
    if kind == JSON:
        return Response(await asyncio.to_thread(as_json, made, seeds), media_type=JSON)
    suffix = FILES[kind]
    content = await asyncio.to_thread(to_bytes, made[0].motion, suffix)
    return Response(
        content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="motion.{suffix}"'}
    )


def _kind(accept: str | None, motions: int = 1) -> str:
    kind = media_type(accept)
    if kind != JSON and motions > 1:
        raise NotAcceptable(f"a file holds one motion, and these are {motions}: ask for {JSON}, or one by one")
    return kind
