"""What the service does with many clients, slow and broken ones among them: python benchmarks/soak.py

Starts `motiongpt3 serve`, sends it what `KINDS` lists from 256 clients for a minute, asks for its health all the while
from another process, stops it in the middle of it all, and prints what came back. It ends with 1 where a limit is
broken: every whole request is answered or refused with a reason, health within 0.2 s, memory flat.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import numpy as np

from motiongpt3.motion.skeleton import HUMANML3D

HEALTH_SECONDS = 0.2
"""Within which health is answered."""
GROWTH = 1.15
"""How much more memory the last quarter may take than the second: allocators keep some."""
PATIENCE = 150
"""Seconds that a client waits for an answer: more than the service's time limit."""


@dataclass
class Found:
    """What came back."""

    answers: Counter[str] = field(default_factory=Counter)
    """By kind of request and status; "lost" where a whole request was not answered."""
    wrong: list[str] = field(default_factory=list)
    """Answers that do not say why, and unexpected ones."""


def joints(frames: int) -> list[list[list[float]]]:
    """Somebody who stands and sways, as JSON."""
    pose = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    sway = 0.1 * np.sin(np.arange(frames) / 30)[:, None, None] * pose[:, 1:2]
    found: list[list[list[float]]] = (pose + [0, 1, 0] + sway * [1, 0, 0]).round(4).tolist()
    return found


def bomb() -> str:
    """A small npz file of half a billion numbers."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (500000000, 1, 1), }\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("joints.npy", "w") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        for _ in range(500):
            file.write(bytes(1_000_000))
    return base64.b64encode(packed.getvalue()).decode()


def asked(path: str, body: bytes, kind: str = "application/json", host: str = "localhost") -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def generated(number: int) -> bytes:
    """A request for a motion."""
    prompt = ("a person walks forward", "a person jumps", "someone waves")[number % 3]
    return asked("/v1/generate", json.dumps({"prompt": prompt, "seconds": 1, "seed": number}).encode())


def upload(motion: object) -> bytes:
    """A request for a caption."""
    return asked("/v1/caption", json.dumps({"motion": motion, "candidates": 1}).encode())


def always(make: Callable[[], bytes]) -> Callable[[int], bytes]:
    """The same request each time, made once."""
    made = cache(make)
    return lambda _: made()


Make = Callable[[int], bytes]
WHOLE: dict[str, tuple[int, Make, frozenset[int]]] = {
    "generate": (60, generated, frozenset({200, 429, 503})),
    "caption": (10, always(lambda: upload({"joints": joints(40)})), frozenset({200, 429, 503})),
    "7 MB of JSON": (4, always(lambda: upload({"joints": joints(12_000), "fps": 1000})), frozenset({200, 429, 503})),
    "20 MB of zeros": (
        2,
        always(lambda: asked("/v1/caption", b'{"motion": {"joints": [' + b"0," * 10_000_000 + b"0]}}")),
        frozenset({413, 429, 503}),
    ),
    "npz bomb": (2, always(lambda: upload({"format": "npz", "data": bomb()})), frozenset({422, 429, 503})),
    "no JSON": (4, lambda _: asked("/v1/generate", b"[" * 100_000), frozenset({422, 429})),
    "1e999": (4, lambda _: asked("/v1/generate", b'{"prompt": "a", "seconds": 1e999}'), frozenset({422, 429})),
    "another type": (3, lambda _: asked("/v1/generate", b"a=b", "text/plain"), frozenset({415})),
    "another host": (3, lambda _: asked("/v1/generate", b"{}", host="rebound.example"), frozenset({403})),
    "no HTTP": (3, lambda _: b"\x16\x03\x01\x00\x05hello\r\n\r\n", frozenset({400})),
}
"""Requests that must be answered: how often, what is sent, and with which statuses."""
BROKEN = {"hangs up": 6, "half a head": 2, "half a body": 2, "says nothing": 3}
"""Clients that get no answer, or may: how often each."""


async def send(host: str, port: int, request: bytes, wait: bool = True) -> bytes:
    """What the service answers; nothing where the client hangs up at once."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        if not wait:
            await asyncio.sleep(0.2)
            return b""
        answer = asyncio.ensure_future(reader.read(-1))
        with suppress(OSError):  # it was refused while it was sent
            await writer.drain()
        return await answer
    finally:
        writer.close()


async def client(url: str, seed: int, end: Callable[[int], bool], found: Found) -> None:
    """Send one request after the other, of kinds and at times that a seed decides."""
    chance, place = random.Random(seed), urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    kinds = {name: weight for name, (weight, _, _) in WHOLE.items()} | BROKEN
    number = 0
    while not end(number):
        (kind,) = chance.choices(list(kinds), list(kinds.values()))
        number += 1
        try:
            if kind in BROKEN:
                whole = generated(seed * 1000 + number)
                part = {"half a head": whole[:30], "half a body": whole[:-5], "says nothing": b""}.get(kind, whole)
                async with asyncio.timeout(5 if kind != "hangs up" else PATIENCE):
                    await send(place.hostname, place.port, part, wait=kind != "hangs up")
                found.answers[f"{kind}: -"] += 1
                continue
            _, make, right = WHOLE[kind]
            async with asyncio.timeout(PATIENCE):
                answer = await send(place.hostname, place.port, make(seed * 1000 + number))
        except OSError as error:  # TimeoutError is one
            if kind in BROKEN:
                found.answers[f"{kind}: -"] += 1
            else:
                found.answers[f"{kind}: lost"] += 1
                found.wrong.append(f"{kind}: {error!r}")
            continue
        _judge(kind, answer, right, found)


def _judge(kind: str, answer: bytes, right: frozenset[int], found: Found) -> None:
    head, _, content = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        found.answers[f"{kind}: lost"] += 1
        found.wrong.append(f"{kind}: an answer of {len(answer)} bytes")
        return
    status = int(head[9:12])
    found.answers[f"{kind}: {status}"] += 1
    if status not in right:
        found.wrong.append(f"{kind}: {answer[:300]!r}")
    elif status >= 400 and not json.loads(content)["detail"]:
        found.wrong.append(f"{kind}: {status} without a reason")
    elif status == 429 and b"retry-after" not in head.lower():
        found.wrong.append(f"{kind}: 429 without Retry-After")


async def attack(url: str, clients: int, seed: int, end: Callable[[int], bool]) -> Found:
    """All clients at once.

    Args:
        url: the service.
        clients: their number.
        seed: of what they send.
        end: told how many requests a client has sent; whether that was the last.
    """
    found = Found()
    await asyncio.gather(*(client(url, seed * clients + k, end, found) for k in range(clients)))
    return found


def probe(url: str) -> None:
    """Ask for health ten times a second on connections of its own, until stdin ends; print the seconds of each."""
    import http.client
    import selectors

    place = urlsplit(url)
    assert place.hostname is not None
    times, waiting = [], selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    while not waiting.select(0.1):
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=PATIENCE)
        start = time.perf_counter()
        connection.request("GET", "/v1/health")
        if connection.getresponse().status != 200:
            raise SystemExit("the service is ill")
        times.append(time.perf_counter() - start)
        connection.close()
    json.dump(times, sys.stdout)


def memory_mb(process: int) -> float:
    """Resident memory of a process and of those that it started, in MB (Linux)."""
    pids = [process]
    for pid in pids:
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        for task in Path(f"/proc/{pid}/task").iterdir():
            if task.name != str(pid):
                pids += map(int, (task / "children").read_text().split())
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


async def soak(url: str, process: int, clients: int, seconds: float, seed: int) -> tuple[Found, list[float]]:
    """What came back, and the service's memory in MB while it did."""
    stop = time.monotonic() + seconds
    memory: list[float] = []

    async def watch() -> None:
        while True:
            memory.append(memory_mb(process))
            await asyncio.sleep(0.5)

    watching = asyncio.ensure_future(watch())
    found = await attack(url, clients, seed, lambda _: time.monotonic() > stop)
    watching.cancel()
    return found, memory


async def last_words(url: str, process: int, count: int) -> Counter[str]:
    """The answers to requests that have just been sent when the service is told to end."""
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    sent = [
        asyncio.ensure_future(
            send(place.hostname, place.port, generated(number) if number % 2 else upload({"joints": joints(40)}))
        )
        for number in range(count)
    ]
    half = asyncio.ensure_future(send(place.hostname, place.port, generated(0)[:-5]))
    await asyncio.sleep(0.2)
    os.kill(process, signal.SIGTERM)
    answers = await asyncio.gather(*sent, return_exceptions=True)
    await asyncio.gather(half, return_exceptions=True)
    return Counter(a[9:12].decode() if isinstance(a, bytes) and a else "lost" for a in answers)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what came back; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a folder or a hub id; the model of this package if left out")
    parser.add_argument("--probe", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.probe:
        probe(options.probe)
        return 0
    words = [sys.executable, "-m", "motiongpt3.cli.main", "serve", "--port", "0"]
    words += ["--model", options.model] if options.model else []
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as service:
        assert service.stdout is not None
        assert service.stderr is not None
        url = service.stdout.readline().strip()
        asyncio.run(attack(url, 8, 10**6, lambda sent: sent >= 4))  # what is slow the first time
        health = subprocess.Popen([sys.executable, __file__, "--probe", url], stdin=pipe, stdout=pipe, text=True)
        found, memory = asyncio.run(soak(url, service.pid, options.clients, options.seconds, options.seed))
        times = json.loads(health.communicate()[0])
        begun = time.monotonic()
        ends = asyncio.run(last_words(url, service.pid, 12))
        said = service.stderr.read()
        service.wait()
        ended = time.monotonic() - begun
    quarter = max(len(memory) // 4, 1)
    second, last = median(memory[quarter : 2 * quarter] or memory), median(memory[-quarter:])
    lost = sum(count for name, count in found.answers.items() if name.endswith("lost")) + ends["lost"]
    lines = [f"{name:32}{count:8}" for name, count in sorted(found.answers.items())]
    high = quantiles(times, n=100)[-1]
    lines += [
        f"health, of {len(times)}: median {median(times):.3f}, p99 {high:.3f}, most {max(times):.3f} s",
        f"memory of all processes: second quarter {second:.0f}, last quarter {last:.0f}, most {max(memory):.0f} MB",
        f"at SIGTERM, of 12 requests: {dict(ends)}; ended after {ended:.1f} s with {service.returncode}",
        f"messages: {len(said)} bytes, such as {said[:200]!r}",
        f"whole requests lost: {lost}; wrong answers: {len(found.wrong)}",
        f"{options.clients} clients for {options.seconds:g} s, {os.cpu_count()} cores, {platform.machine()}",
        *found.wrong[:5],
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(lost > 0 or bool(found.wrong) or max(times) > HEALTH_SECONDS or last > GROWTH * second)


if __name__ == "__main__":
    sys.exit(main())
