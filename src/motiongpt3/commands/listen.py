"""A port to listen on, or one line that says why not."""

from __future__ import annotations

import os
import socket

from motiongpt3.errors import MotionGPT3Error


def listen(host: str, port: int) -> socket.socket:
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
