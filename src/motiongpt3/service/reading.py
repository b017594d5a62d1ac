"""Requests with motions are read in processes of their own: `python -m motiongpt3.service.reading`.

Parsing JSON holds Python's lock for as long as it takes, and a hostile file may take memory and time. In another
process neither touches the service: what comes back is small and checked, and a process that takes too much ends alone.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import queue
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

WORKERS = 2
"""Processes: reading is rare beside drawing, and each takes 250 MB once it has read a file."""
READ_SECONDS = 20
"""What one request may take: ten times what the largest file of each format takes on a slow core."""
READ_BYTES = 2**30
"""Memory that reading one request may take: twice the largest array that a file may hold (MAX_ARRAY_BYTES)."""
MAX_VALUES = 1_600_000
"""Values in the JSON of a request: two motions of 12,000 frames of 66 numbers, and 16,000 for all the rest."""


class TooLarge(MotionGPT3Error):
    """An upload is larger than the service reads."""


def describe(errors: Sequence[Any], skip: int = 0) -> str:
    """What is wrong with a request, at the first place where something is.

    Args:
        errors: of pydantic.
        skip: leading parts of their places that are not the client's.
    """
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"][skip:])
    return f"{place}: {first['msg']}" if place else first["msg"]


def parse(kind: type[M], body: bytes) -> M:
    """A request from its JSON.

    Raises:
        TooLarge: a file in it is.
        MotionGPT3Error: it is no JSON, or something in it is wrong.
    """
    if body.count(b",") > MAX_VALUES:
        raise TooLarge(f"a request has at most {MAX_VALUES} values")
    try:
        given = from_json(body)
    except ValueError:
        raise MotionGPT3Error("the body is not JSON") from None
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        reason = errors[0].get("ctx", {}).get("error")
        if isinstance(reason, MotionGPT3Error):  # a motion's reader says it best
            raise reason from None
        raise MotionGPT3Error(describe(errors)) from None


class Readers:
    """Processes that read requests, started when they are first needed.

    ```python
    readers = Readers()
    asked = readers.submit(CaptionRequest, body).result()
    readers.close()
    ```

    Args:
        workers: requests read at once.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        self.workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="motiongpt3-reading")
        self._resting: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for _ in range(workers):
            self._resting.put(_Process())

    def submit(self, kind: type[M], body: bytes) -> Future[M]:
        """A future of the request with its motions, or of what `parse` raises."""
        return self._threads.submit(self._read, kind, body)

    def warm(self) -> None:
        """Start the processes now, beside what else goes on: the first requests need not wait for that."""
        processes = [self._resting.get() for _ in range(self.workers)]
        for process in processes:
            self._threads.submit(self._warm, process)

    def close(self) -> None:
        """End the processes once they are done with what they read."""
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self.workers):
            self._resting.get().end()

    def _warm(self, process: _Process) -> None:
        try:
            process.start()
        finally:
            self._resting.put(process)

    def _read(self, kind: type[M], body: bytes) -> M:
        process = self._resting.get()
        try:
            fields, motions = process.ask(kind.__name__, body)
        finally:
            self._resting.put(process)
        return kind.model_validate(fields | motions)


class _Process:
    """One process, started again after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """The process, once it is ready to read."""
        if self._process is None:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            command = [sys.executable, "-m", "motiongpt3.service.reading"]
            # Ctrl-C is for the service alone: what it has accepted is read to the end.
            self._process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
            try:
                assert self._process.stdout is not None
                _read(self._process.stdout)
            except EOFError:
                self.end()
                raise RuntimeError("the process that reads requests does not start") from None
        return self._process

    def ask(self, kind: str, body: bytes) -> tuple[dict[str, Any], dict[str, Motion]]:
        """A request's fields, and its motions by the names of theirs; raises what `parse` does."""
        process = self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(READ_SECONDS, process.kill)
        late.start()
        try:
            _write(process.stdin, kind.encode(), body)
            header, *arrays = _read(process.stdout)
        except (OSError, EOFError):
            self.end()
            raise MotionGPT3Error("reading this takes too much memory or time") from None
        finally:
            late.cancel()
        answer = json.loads(header)
        if "defect" in answer:
            raise RuntimeError(f"reading a request failed: {answer['defect']}")
        if "error" in answer:
            raise (TooLarge if answer["too_large"] else MotionGPT3Error)(answer["error"])
        motions = {
            name: Motion(np.frombuffer(array, np.float32).reshape(shape), **facts)
            for (name, shape, facts), array in zip(answer["motions"], arrays, strict=True)
        }
        return answer["fields"], motions

    def end(self) -> None:
        """Kill the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _write(file: IO[bytes], *parts: bytes) -> None:
    file.write(struct.pack(f"<I{len(parts)}Q", len(parts), *map(len, parts)))
    for part in parts:
        file.write(part)
    file.flush()


def _read(file: IO[bytes]) -> list[bytes]:
    (count,) = struct.unpack("<I", _exactly(file, 4))
    return [_exactly(file, size) for size in struct.unpack(f"<{count}Q", _exactly(file, 8 * count))]


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _answer(kind: type[BaseModel], body: bytes) -> list[bytes]:
    """What the process says: a JSON header, and the joints of each motion."""
    try:
        asked = parse(kind, body)
    except MotionGPT3Error as error:
        return [json.dumps({"error": str(error), "too_large": isinstance(error, TooLarge)}).encode()]
    except MemoryError:
        return [json.dumps({"error": "reading this takes too much memory", "too_large": False}).encode()]
    except Exception:  # a defect of ours: the service's log tells of it
        return [json.dumps({"defect": traceback.format_exc()}).encode()]
    motions = {name: value for name, value in asked if isinstance(value, Motion)}
    facts = [
        (name, m.joints.shape, {"fps": m.fps, "caption": m.caption, "name": m.name}) for name, m in motions.items()
    ]
    header = {"fields": json.loads(asked.model_dump_json(exclude=set(motions))), "motions": facts}
    return [json.dumps(header).encode(), *(motion.joints.tobytes() for motion in motions.values())]


def _limit_memory() -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows: the readers' own limits remain
        return
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:
        used = int((file.read().split() or ["0"])[0]) * resource.getpagesize()
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + READ_BYTES, used + READ_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Read requests from stdin, answer on stdout, end with stdin."""
    import motiongpt3.formats.bvh
    import motiongpt3.formats.glb  # noqa: F401  # what readers load must not count as a request's memory
    from motiongpt3.service import schemas

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write there
    gc.freeze()
    gc.disable()  # numbers in lists have no cycles, and looking for some takes longer than reading them
    _limit_memory()
    if hasattr(os, "nice"):
        os.nice(10)  # the service and its model come first
    _write(answers, b"ready")
    while True:
        try:
            kind, body = _read(sys.stdin.buffer)
        except EOFError:
            return
        _write(answers, *_answer(getattr(schemas, kind.decode()), body))
        del body
        gc.collect()


if __name__ == "__main__":
    from motiongpt3.service import reading  # the module that the schemas know, not a second one called __main__

    reading.main()
