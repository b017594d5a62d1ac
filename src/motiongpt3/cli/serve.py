"""The commands that stay and answer: serve, the HTTP service, and app, the web app."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import threading
from ipaddress import ip_address
from typing import Annotated

from jsonargparse.typing import NonNegativeFloat, PositiveInt

from motiongpt3.cli.options import CountArg, ModelOptions, SecondsArg
from motiongpt3.cli.parser import Arg
from motiongpt3.errors import MotionGPT3Error

TOKEN = "MOTIONGPT3_TOKEN"
"""Environment variable with the token that clients must send."""
AddressArg = Annotated[str, Arg("ADDRESS")]
PortArg = Annotated[int, Arg("N")]
OriginsArg = Annotated[list[str], Arg("ORIGIN", repeat=True)]

SWITCH_SECONDS = 0.0005
"""After which the model's thread lets the server's run, a tenth of Python's default: an answer takes ten such turns."""

logger = logging.getLogger(__name__)


def serve(
    *,
    host: AddressArg = "127.0.0.1",
    port: PortArg = 8000,
    batch: Annotated[int, Arg("B", PositiveInt)] = 8,
    wait_ms: Annotated[float, Arg("W", NonNegativeFloat)] = 10.0,
    queue: CountArg = 256,
    time_limit: SecondsArg = 60.0,
    allow_origin: OriginsArg | None = None,
    model: ModelOptions,
) -> None:
    """Serve a model over HTTP. If MOTIONGPT3_TOKEN is set, clients must send it.

    Args:
        host: address to listen on
        port: port to listen on; 0: a free one
        batch: most motions drawn at once
        wait_ms: how long a motion waits for others to join
        queue: most motions that wait, 64 or more
        time_limit: seconds a request may take
        allow_origin: web pages of this origin, such as https://example.org, may call the service, and it answers to
            that name; may be repeated

    Examples:
      motiongpt3 serve
          then http://127.0.0.1:8000/docs tells what can be asked for
      MOTIONGPT3_TOKEN=$(cat token) motiongpt3 serve --host 0.0.0.0 --device cuda --batch 32
    """
    token = os.environ.get(TOKEN)
    if token is not None and not re.fullmatch("[!-~]+", token):
        raise MotionGPT3Error(f"{TOKEN} must be one word of plain letters, digits and signs")

    from motiongpt3.service.access import Access
    from motiongpt3.service.connections import MessageLimit, Server
    from motiongpt3.service.engine import BatchQueue, Engine
    from motiongpt3.service.schemas import MAX_MOTIONS
    from motiongpt3.service.server import ServiceConfig, create_app

    if queue < MAX_MOTIONS:
        raise MotionGPT3Error(f"--queue must be at least {MAX_MOTIONS}, the motions of one request")
    access = Access(host, tuple(allow_origin or ()))
    with _listen(host, port) as listener:
        network = model.load()
        network.generate("a person stands")  # the first one is slow
        engine = Engine(network, BatchQueue(batch, wait_ms / 1000, queue))
        server = Server(create_app(engine, ServiceConfig(model.name, time_limit, token, access)), time_limit)
        host, port = listener.getsockname()[:2]
        if token is None and not ip_address(host).is_loopback:
            logger.warning(f"anyone who reaches {host} can use this service; set {TOKEN} to change that")
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addFilter(MessageLimit())
        sys.setswitchinterval(SWITCH_SECONDS)
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # uvicorn stops in order, then ends by the signal itself
            server.run(sockets=[listener])
        finally:
            engine.close(finish=False)


def app(
    *,
    host: AddressArg = "127.0.0.1",
    port: PortArg = 8080,
    allow_origin: OriginsArg | None = None,
    model: ModelOptions,
) -> None:
    """Make, watch and export motions in a browser.

    Args:
        host: address to listen on
        port: port to listen on; 0: a free one
        allow_origin: the address of a proxy in front of the app, such as https://example.org; may be repeated

    Examples:
      motiongpt3 app
          then open http://127.0.0.1:8080
      motiongpt3 app --model my_model --device cuda --port 0
    """
    from motiongpt3.app.web import WebApp
    from motiongpt3.service.access import Access
    from motiongpt3.service.connections import MessageLimit
    from motiongpt3.service.engine import Engine

    access = Access(host, tuple(allow_origin or ()))
    with _listen(host, port) as listener:
        host, port = listener.getsockname()[:2]
        network = model.load()
        network.generate("a person stands")  # the first one is slow
    engine = Engine(network)
    for name in ("websockets.server", "asyncio"):
        logging.getLogger(name).addFilter(MessageLimit())
    web = WebApp(engine, host, port, model.name, access)
    if not ip_address(host).is_loopback:
        logger.warning(f"anyone who reaches {host} can use this app; it has no passwords")
    print(web.url, flush=True)
    try:
        threading.Event().wait()
    finally:
        web.stop()
        engine.close(finish=False)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        MotionGPT3Error: there is no such address, or the port is taken or not allowed.
    """
    if not 0 <= port <= 65535:
        raise MotionGPT3Error(f"--port must be 0 to 65535, not {port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MotionGPT3Error(f"cannot listen on {host}, port {port}: {reason}") from None
    return listener
