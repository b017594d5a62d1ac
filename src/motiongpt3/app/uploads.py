"""Files that a browser sends: bounded while they arrive, and read with care."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import viser
from viser._messages import FileTransferPart, FileTransferPartAck, FileTransferStartUpload

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.service.motion_files import MAX_UPLOAD, from_bytes

SUFFIXES = ("bvh", "glb", "npz", "npy")
"""Files that are read, by suffix."""


def read_upload(name: str, data: bytes) -> Motion:
    """The motion in a file; of its name only the suffix counts.

    Raises:
        MotionGPT3Error: it is too large, of another kind, or damaged.
    """
    if len(data) > MAX_UPLOAD:
        raise MotionGPT3Error(too_large(len(data)))
    suffix = PurePath(name).suffix.lower().lstrip(".")
    if suffix not in SUFFIXES:
        raise MotionGPT3Error(f"a motion is read from {', '.join(SUFFIXES)}; this file is none of them")
    return from_bytes(data, suffix)


def too_large(size: int) -> str:
    """What is said of a file of so many bytes."""
    return f"the file has {size / 1e6:.0f} MB; at most {MAX_UPLOAD // 10**6} MB are read"


def refuse_large_uploads(client: viser.ClientHandle, refused: Callable[[str], None]) -> None:
    """Drop files over MAX_UPLOAD bytes while they arrive, rather than when all of them is in memory.

    viser has no limit of its own and no public way to set one, so this listens to its messages.

    Args:
        client: the browser.
        refused: called with what is to be said, in the server's thread.
    """
    arriving: dict[str, Any] = client.gui._current_file_upload_states

    def drop(transfer: str, size: int, button: str | None) -> None:
        if arriving.pop(transfer, None) is not None:
            refused(too_large(size))
            told = FileTransferPartAck(button, transfer, transferred_bytes=size, total_bytes=size)
            client.gui._websock_interface.queue_message(told)  # otherwise the page waits for it for ever

    def begins(_: int, message: FileTransferStartUpload) -> None:
        if message.size_bytes > MAX_UPLOAD:
            drop(message.transfer_uuid, message.size_bytes, message.source_component_uuid)

    def goes_on(_: int, message: FileTransferPart) -> None:
        state = arriving.get(message.transfer_uuid)
        if state is not None and state["transferred_bytes"] > MAX_UPLOAD:
            drop(message.transfer_uuid, state["transferred_bytes"], message.source_component_uuid)

    client.gui._websock_interface.register_handler(FileTransferStartUpload, begins)
    client.gui._websock_interface.register_handler(FileTransferPart, goes_on)
