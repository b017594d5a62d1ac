"""The web app: a server whose every browser gets a page of its own."""

from __future__ import annotations

import http
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from typing import Any
from unittest.mock import patch

import viser
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from motiongpt3.app.controls import add_choice, add_playback
from motiongpt3.app.page import Page
from motiongpt3.app.panels import add_panels
from motiongpt3.app.uploads import refuse_large_uploads
from motiongpt3.service.access import Access
from motiongpt3.service.engine import Engine


class _Server(viser.ViserServer):
    """A viser server that nobody can make public: a page could ask it to open a tunnel through another host."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


@contextmanager
def _checking(access: Access) -> Iterator[None]:
    """A viser server that is started within checks who asks before it answers.

    viser has no way to say so, and foreign pages could open its websocket: it starts `websockets`' server, and what
    that asks about each request (`process_request`) is wrapped here.
    """
    serve = websockets.asyncio.server.serve

    def guarded(*arguments: Any, process_request: Callable[..., Any], **options: Any) -> Any:
        def check(connection: ServerConnection, request: Request) -> Response | None:
            host, origin = (next(iter(request.headers.get_all(name)), None) for name in ("Host", "Origin"))
            refusal = access.refusal(host, origin)
            if refusal is not None:
                return connection.respond(http.HTTPStatus.FORBIDDEN, f"{refusal}\n")
            return process_request(connection, request)  # type: ignore[no-any-return]

        return serve(*arguments, process_request=check, **options)

    with patch.object(websockets.asyncio.server, "serve", guarded):
        yield


class WebApp:
    """The app on a port, until `stop`.

    ```python
    app = WebApp(Engine(MotionGPT3.from_pretrained()), port=8080)
    print(app.url)
    app.stop()
    ```

    Args:
        engine: the model behind its queue; the caller closes it.
        host: address to listen on.
        port: where it is taken, the next free one is used; see `url`.
        name: what the model is called.
        access: the names that it answers to and the pages that may open it; None: those of `host`.
    """

    def __init__(
        self,
        engine: Engine,
        host: str = "127.0.0.1",
        port: int = 8080,
        name: str = "mini",
        access: Access | None = None,
    ) -> None:
        self._engine = engine
        self._workshop = ThreadPoolExecutor(max_workers=1, thread_name_prefix="motiongpt3-workshop")
        self._pages: dict[int, Page] = {}
        self._lock = threading.Lock()
        with redirect_stdout(io.StringIO()), _checking(access or Access(host)):  # it announces itself, commands do too
            self._server = _Server(host=host, port=port, label=f"motiongpt3 · {name}", verbose=False)
        self._server.scene.set_up_direction("+y")
        self._server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(62, 108, 176))
        self._server.gui.main_panel.float(x=-15, y=15, width=410)
        self._server.initial_camera.position = (0.75, 1.7, 3.4)
        self._server.initial_camera.look_at = (0.0, 0.85, 0.0)
        self._server.initial_camera.fov = 0.75
        self._server.on_client_connect(self._open)
        self._server.on_client_disconnect(self._close)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = self._server.get_host()
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.get_port()}"

    @property
    def browsers(self) -> int:
        """Number of pages that are open."""
        with self._lock:
            return len(self._pages)

    def stop(self) -> None:
        """Close all pages and the port."""
        self._server.stop()
        with self._lock:
            pages = list(self._pages.values())
        for page in pages:
            page.close()
        self._workshop.shutdown(wait=False, cancel_futures=True)

    def _open(self, client: viser.ClientHandle) -> None:
        page = Page(client, self._engine, self._workshop)
        refuse_large_uploads(client, lambda reason: page.post(lambda: page.say(reason, "failed")))
        add_panels(page)
        add_choice(page)
        add_playback(page)
        page.say("Write what somebody does, and generate it.")
        with self._lock:
            self._pages[client.client_id] = page
        page.start()

    def _close(self, client: viser.ClientHandle) -> None:
        with self._lock:
            page = self._pages.pop(client.client_id, None)
        if page is not None:
            page.close()
