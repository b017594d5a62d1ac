"""`motiongpt3 serve`."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt

from motiongpt3.cli.options import Parser, add_model_options, listen, load_model
from motiongpt3.errors import MotionGPT3Error

TOKEN = "MOTIONGPT3_TOKEN"
"""Environment variable with the token that clients must send."""

EXAMPLES = f"""
  motiongpt3 serve
      then http://127.0.0.1:8000/docs tells what can be asked for
  {TOKEN}=$(cat token) motiongpt3 serve --host 0.0.0.0 --device cuda --batch 32
"""

logger = logging.getLogger(__name__)


def serve(argv: Sequence[str]) -> int:
    """The HTTP service."""
    parser = Parser("serve", f"Serve a model over HTTP. If {TOKEN} is set, clients must send it.", EXAMPLES)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="port to listen on; 0: a free one")
    parser.add_argument("--batch", type=PositiveInt, default=8, metavar="B", help="most motions drawn at once")
    parser.add_argument(
        "--wait-ms", type=NonNegativeFloat, default=10.0, metavar="W", help="how long a motion waits for others to join"
    )
    parser.add_argument(
        "--queue", type=PositiveInt, default=256, metavar="N", help="most motions that wait, 64 or more"
    )
    parser.add_argument(
        "--time-limit", type=PositiveFloat, default=60.0, metavar="S", help="seconds a request may take"
    )
    parser.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web pages of this origin, such as https://example.org, may call the service; may be repeated",
    )
    add_model_options(parser)
    options = parser.parse_args(argv)
    token = os.environ.get(TOKEN)
    if token is not None and not re.fullmatch("[!-~]+", token):
        raise MotionGPT3Error(f"{TOKEN} must be one word of plain letters, digits and signs")

    import uvicorn

    from motiongpt3.service.engine import BatchQueue, Engine
    from motiongpt3.service.schemas import MAX_MOTIONS
    from motiongpt3.service.server import ServiceConfig, create_app

    if options.queue < MAX_MOTIONS:
        raise MotionGPT3Error(f"--queue must be at least {MAX_MOTIONS}, the motions of one request")
    with listen(options.host, options.port) as listener:
        model = load_model(options.model, options.device, options.profile)
        model.generate("a person stands")  # the first one is slow
        engine = Engine(model, BatchQueue(options.batch, options.wait_ms / 1000, options.queue))
        config = ServiceConfig(
            name=Path(options.model).name if options.model else "mini",
            time_limit=options.time_limit,
            token=token,
            cors_origins=tuple(options.cors_origin),
        )
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(engine, config),
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(options.time_limit) + 5,
            )
        )
        host, port = listener.getsockname()[:2]
        if token is None and not ip_address(host).is_loopback:
            logger.warning(f"anyone who reaches {host} can use this service; set {TOKEN} to change that")
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        try:
            server.run(sockets=[listener])
        finally:
            engine.close(finish=False)
    return 0


# `motiongpt3 app`.

EXAMPLES_app = """
  motiongpt3 app
      then open http://127.0.0.1:8080
  motiongpt3 app --model my_model --device cuda --port 0
"""


def app(argv: Sequence[str]) -> int:
    """The web app."""
    parser = Parser("app", "Make, watch and export motions in a browser.", EXAMPLES_app)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="port to listen on; 0: a free one")
    add_model_options(parser)
    options = parser.parse_args(argv)

    from motiongpt3.app.web import WebApp
    from motiongpt3.service.engine import Engine

    with listen(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        model = load_model(options.model, options.device, options.profile)
        model.generate("a person stands")  # the first one is slow
    engine = Engine(model)
    web = WebApp(engine, host, port, Path(options.model).name if options.model else "mini")
    if not ip_address(host).is_loopback:
        logger.warning(f"anyone who reaches {host} can use this app; it has no passwords")
    print(web.url, flush=True)
    try:
        threading.Event().wait()
    finally:
        web.stop()
        engine.close(finish=False)
    return 0
