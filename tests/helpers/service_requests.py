"""Requests to the service, and what a refusal looks like."""

from __future__ import annotations

import atexit
import base64
import re
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from motiongpt3 import Motion
from motiongpt3.service.engine import Engine
from motiongpt3.service.reading import Readers
from motiongpt3.service.server import ServiceConfig, create_app

WALK = {"prompt": "a person walks", "seconds": 0.5}
POSE = {"joints": [[[0.0, 0.0, 0.0]] * 22]}
PREDICT = {"motion": POSE, "seconds": 1}
INBETWEEN = {"start": POSE, "end": POSE, "seconds": 1}
COMPOSE = {"parts": [{"prompt": "walk", "seconds": 1.5}, {"prompt": "jump"}]}


@cache
def readers() -> Readers:
    """One pair of processes for all services of a test run: each takes seconds to start."""
    found = Readers()
    atexit.register(found.close)
    return found


def asking(engine: Engine, config: ServiceConfig | None = None, **options: Any) -> TestClient:
    """A client of a service on this engine."""
    return TestClient(create_app(engine, config, readers()), base_url="http://localhost", **options)


def as_file(motion: Motion, kind: str, folder: Path) -> dict[str, str]:
    """A motion as a client uploads it."""
    return {"format": kind, "data": base64.b64encode(motion.save(folder / f"x.{kind}").read_bytes()).decode()}


def refusal(response: Any, status: int) -> str:
    """The one line of a refusal; it gives nothing away."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    detail = response.json()["detail"]
    assert isinstance(detail, str)
    assert "\n" not in detail
    assert len(detail) <= 500
    for leak in (r"/(home|tmp|usr|root|opt|var)\b", r"\.py\b", "Traceback", r"\b1\.2\.3\b", "Error"):
        assert not re.search(leak, detail), detail
    assert list(response.json()) == ["detail"]
    return detail
