"""Whom a server on this machine answers: the names it is called by, and the web pages that may ask it.

A page of any site can have a browser send requests to 127.0.0.1, and a site can give its own name that address (DNS
rebinding). So the Host header must name this server, and an Origin header this server or a page that was allowed.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from motiongpt3.errors import MotionGPT3Error

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")


@dataclass(frozen=True)
class Access:
    """The names of a server and the pages that may ask it.

    Loopback names are always its own; so is `host`, and the host of each allowed page, which may be a reverse proxy's.
    A server that other machines reach also answers to its machine's name and to any plain address: an address cannot
    be rebound.
    """

    host: str = "127.0.0.1"
    """The address or name that it listens on."""
    origins: tuple[str, ...] = ()
    """Pages that may ask it beside its own, such as https://example.org."""

    def __post_init__(self) -> None:
        origins = tuple(origin.lower().rstrip("/") for origin in self.origins)
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise MotionGPT3Error(f"{origin[:100]!r} is no origin: write it as https://example.org, without a path")
        object.__setattr__(self, "origins", origins)

    def refusal(self, host: str | None, origin: str | None) -> str | None:
        """Why a request with these headers is refused, in one line; None where it is not."""
        called = _HOST.fullmatch((host or "").lower())
        if called is None:
            return "the Host header must name this server"
        if not self._own(called["name"].strip("[]").rstrip(".")):
            return "this server does not answer to that name: --host and --allow-origin say which it has"
        if origin is not None and not self._may_ask(origin.lower(), called[0]):
            return "pages of this origin may not ask this server: --allow-origin names those that may"
        return None

    def _own(self, name: str) -> bool:
        if name == "localhost" or name == self.host.lower() or name in map(_host_of, self.origins):
            return True
        try:
            return ip_address(name).is_loopback or not self._local
        except ValueError:
            return not self._local and name == socket.gethostname().lower()

    @property
    def _local(self) -> bool:
        """Whether this machine alone reaches the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def _may_ask(self, origin: str, host: str) -> bool:
        return origin in self.origins or (_ORIGIN.fullmatch(origin) is not None and urlsplit(origin).netloc == host)


def _host_of(origin: str) -> str:
    return urlsplit(origin).hostname or ""
