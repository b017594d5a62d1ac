"""`motiongpt3 app`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from motiongpt3.commands.listen import listen
from motiongpt3.commands.options import Parser, add_model_options, load_model

EXAMPLES = """
  motiongpt3 app
      then open http://127.0.0.1:8080
  motiongpt3 app --model my_model --device cuda --port 0
"""

logger = logging.getLogger(__name__)


def app(argv: Sequence[str]) -> int:
    """The web app."""
    parser = Parser("app", "Make, watch and export motions in a browser.", EXAMPLES)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="port to listen on; 0: a free one")
    add_model_options(parser)
    options = parser.parse_args(argv)

    from motiongpt3.app.engine import Engine
    from motiongpt3.app.web import WebApp

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
