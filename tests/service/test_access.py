"""Which names a server answers to, and which pages may ask it."""

from __future__ import annotations

import socket

import pytest

from motiongpt3 import MotionGPT3Error
from motiongpt3.service.access import Access

LOCAL = Access()
OPEN = Access("0.0.0.0", ("https://Motions.Example.org/",))


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "localhost.", "127.0.0.1:1", "127.9.9.9", "[::1]:80"])
@pytest.mark.parametrize("access", [LOCAL, OPEN, Access("::1"), Access("localhost")])
def test_this_machine_is_always_known(host: str, access: Access) -> None:
    assert access.refusal(host, None) is None
    assert access.refusal(host, f"http://{host.lower()}") is None


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "localhost.evil.example:80",
        "127.0.0.1.evil.example",
        "evil@localhost",
        "localhost/x",
        "localhost:x",
        "[::1",
        "10.0.0.1",
        "caf\u00e9",
        "localhost\n",
        "0.0.0.0",
    ],
)
def test_other_names_are_refused(host: str | None) -> None:
    assert LOCAL.refusal(host, None) is not None


def test_a_server_that_others_reach() -> None:
    """Addresses cannot be rebound; names are its own or a proxy's."""
    for host in ("10.0.0.1:8000", "[fe80::1]:8000", "motions.example.org", socket.gethostname()):
        assert OPEN.refusal(host, None) is None
    for host in ("evil.example", "example.org", "x.motions.example.org"):
        assert OPEN.refusal(host, None) is not None
    assert Access("studio.lan").refusal("studio.lan:8000", "http://studio.lan:8000") is None


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        ("http://localhost:8000", True),
        ("https://localhost:8000", True),
        ("https://motions.example.org", True),
        ("HTTPS://MOTIONS.example.org", True),
        ("http://motions.example.org", False),
        ("http://localhost:9000", False),
        ("http://localhost", False),
        ("http://127.0.0.1:8000", False),
        ("https://evil.example", False),
        ("null", False),
        ("", False),
        ("localhost:8000", False),
    ],
)
def test_pages(origin: str, may: bool) -> None:
    assert (OPEN.refusal("localhost:8000", origin) is None) == may


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/page", "*", "", "https://a b", "ftp://x"])
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(MotionGPT3Error, match="is no origin"):
        Access(origins=(origin,))
