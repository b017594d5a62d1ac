"""What the service does under load, on loopback: python benchmarks/service.py

Starts `motiongpt3 serve` and prints the time of one request, of eight at once with and without batching, then a soak:
many clients for some time, with requests per second, p50 and p95, lost requests and the service's memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx2 as httpx

PROMPTS = (
    "a person walks forward",
    "a person jumps",
    "someone squats down",
    "a person runs and turns left",
    "a person waves with the right hand",
    "a person bows",
    "somebody sits down",
    "a person kicks",
)


@contextmanager
def service(batch: int, model: str | None) -> Iterator[tuple[str, int]]:
    """Address and process id of a running service."""
    words = [
        sys.executable,
        "-m",
        "motiongpt3.cli.main",
        "serve",
        "--port",
        "0",
        "--batch",
        str(batch),
        "--time-limit",
        "120",
    ]
    process = subprocess.Popen([*words, *(["--model", model] if model else [])], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("the service did not start")
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(150)


def ask(client: httpx.Client, number: int) -> float:
    """Seconds of one request; the answer must be the motion that was asked for."""
    start = time.perf_counter()
    answer = client.post(
        "/v1/generate", json={"prompt": PROMPTS[number % len(PROMPTS)], "seconds": 4, "seed": number}, timeout=150
    )
    taken = time.perf_counter() - start
    (motion,) = answer.raise_for_status().json()["motions"]
    if (motion["seed"], motion["frames"], motion["caption"]) != (number, 80, PROMPTS[number % len(PROMPTS)]):
        raise RuntimeError("the answer to another request")
    return taken


def together(url: str, count: int) -> float:
    """Seconds until `count` requests, sent at once, are all answered."""
    clients = [httpx.Client(base_url=url) for _ in range(count)]
    gate = threading.Barrier(count + 1)

    def one(number: int) -> None:
        clients[number].get("/v1/health")  # connected before the clock starts
        gate.wait()
        ask(clients[number], number)

    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(one, number) for number in range(count)]
        gate.wait()
        start = time.perf_counter()
        for answer in answers:
            answer.result()
        taken = time.perf_counter() - start
    for client in clients:
        client.close()
    return taken


def memory_mb(process: int) -> float:
    """Resident memory of a process (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def soak(url: str, process: int, clients: int, seconds: float) -> dict[str, float]:
    """Clients that ask again as soon as they have their answer."""
    end = time.perf_counter() + seconds
    times: list[float] = []
    lost: list[str] = []
    memory: list[float] = []

    def one(number: int) -> None:
        with httpx.Client(base_url=url) as client:
            k = 0
            while time.perf_counter() < end:
                try:
                    times.append(ask(client, number * 10_000 + k))
                except (httpx.HTTPError, RuntimeError) as error:
                    lost.append(repr(error))
                k += 1

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = [pool.submit(one, number) for number in range(clients)]
        while time.perf_counter() < end:
            time.sleep(min(1.0, seconds / 20))
            memory.append(memory_mb(process))
        for answer in answers:
            answer.result()
    taken = time.perf_counter() - start
    for line in sorted(set(lost))[:5]:
        sys.stderr.write(f"lost: {line}\n")
    quarter = max(len(memory) // 4, 1)
    return {
        "requests": len(times),
        "lost": len(lost),
        "requests per second": len(times) / taken,
        "p50 s": median(times),
        "p95 s": quantiles(times, n=20)[-1],
        "memory, median of the 2nd quarter, MB": median(memory[quarter : 2 * quarter] or memory),
        "memory, median of the last quarter, MB": median(memory[-quarter:]),
    }


def show(title: str, numbers: dict[str, float]) -> None:
    """Print some numbers."""
    sys.stdout.write(f"{title}\n")
    for name, value in numbers.items():
        sys.stdout.write(f"  {name:40}{value:10.3f}\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the soak with batching; without it, a quarter")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--model", help="a folder or a hub id; the model of this package if left out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    results = {}
    for title, batch in (("batches of 8", 8), ("no batching", 1)):
        with service(batch, options.model) as (url, process):
            together(url, 8)
            pairs = [(together(url, 1), together(url, 8)) for _ in range(options.repeats)]
            one, eight = (median(column) for column in zip(*pairs, strict=True))
            numbers = {"one request s": one, "eight at once s": eight, "eight / one": median(b / a for a, b in pairs)}
            numbers |= soak(url, process, options.clients, options.seconds / (1 if batch > 1 else 4))
        results[title] = numbers
        if not options.json:
            show(title, numbers)
    if options.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
