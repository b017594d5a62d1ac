"""Requests with motions are read elsewhere: what comes back, and what a hostile one costs."""

from __future__ import annotations

import base64
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fake_model import FakeModel
from fastapi.testclient import TestClient
from live_server import raw, serving, until
from service_requests import PREDICT, asking, readers, refusal

from motiongpt3 import Motion, MotionGPT3Error
from motiongpt3.service import reading
from motiongpt3.service.engine import Engine
from motiongpt3.service.reading import Readers, TooLarge, parse
from motiongpt3.service.schemas import CaptionRequest, InbetweenRequest, PredictRequest

JOINTS = np.round(np.random.default_rng(0).normal(size=(7, 22, 3)), 4)
GIVEN = {"joints": JOINTS.tolist(), "fps": 25.0}


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.slow
def test_what_comes_back_is_what_parsing_gives() -> None:
    asked = body(start=GIVEN, end=GIVEN, seconds=2, prompt="turn", finish={"fps": 30}, seed=5)
    here, there = parse(InbetweenRequest, asked), readers().submit(InbetweenRequest, asked).result()
    assert there == here
    assert there.finish is not None
    assert there.finish.fps == 30
    assert there.start == Motion(JOINTS, 25.0)


@pytest.mark.slow
def test_errors_come_back_as_they_are() -> None:
    wrong = body(motion={**GIVEN, "fps": 0}, seconds=1)
    with pytest.raises(MotionGPT3Error, match=r"motion\.joints\.fps"):
        readers().submit(PredictRequest, wrong).result()
    data = base64.b64encode(bytes(20_000_001)).decode()
    with pytest.raises(TooLarge, match="20 MB"):
        readers().submit(CaptionRequest, body(motion={"format": "npz", "data": data})).result()


@pytest.fixture
def pair() -> Iterator[Readers]:
    own = Readers(workers=1)
    yield own
    own.close()


@pytest.mark.slow
def test_a_process_that_dies_or_takes_too_long_is_started_again(pair: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = body(motion=GIVEN, seconds=1)
    assert pair.submit(PredictRequest, asked).result().motion == Motion(JOINTS, 25.0)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "READ_SECONDS", 0)
        patch.setattr(reading, "_write", lambda *_: None)  # it waits for what never comes
        with pytest.raises(MotionGPT3Error, match="too much memory or time"):
            pair.submit(PredictRequest, asked).result()
    assert pair.submit(PredictRequest, asked).result().seconds == 1


@pytest.mark.slow
def test_a_place_is_held_until_the_work_ends(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that hang up do not let others begin more than there are places."""
    begun: list[bytes] = []
    free = threading.Event()
    shared = readers()

    def slowly(kind: Any, given: bytes) -> Any:
        begun.append(given)
        assert free.wait(300)
        return parse(kind, given)

    monkeypatch.setattr(shared, "_read", slowly)
    text = json.dumps(PREDICT)
    with serving(engine) as (url, _):
        for count in range(1, 5):
            client = raw(url, f"Content-Length: {len(text)}", text.encode(), path="/v1/predict")
            until(lambda count=count: len(begun) >= min(count, 2))  # type: ignore[misc]
            client.close()
        until(lambda: 'status="499"} 4.0' in httpx.get(f"{url}/metrics").text)
        assert len(begun) == 2
        free.set()
        assert httpx.post(f"{url}/v1/predict", json=PREDICT, timeout=300).status_code == 200


def bomb() -> str:
    """Half a megabyte that says it is half a billion numbers."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (500000000, 1, 1)}"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("joints.npy", "w") as file:
        file.write(start)
        for _ in range(500):
            file.write(bytes(1_000_000))
    return base64.b64encode(packed.getvalue()).decode()


@pytest.mark.slow
def test_hostile_motions_are_one_line(fake: FakeModel) -> None:
    huge, deep = "9" * 5000, "[" * 100_000
    texts = [
        body(motion={"format": "npz", "data": bomb()}),
        f'{{"motion": {{"joints": {deep}'.encode(),
        f'{{"motion": {{"joints": {json.dumps(GIVEN["joints"])}, "fps": {huge}}}}}'.encode(),
        f'{{"motion": {{"joints": [[[{huge}, 0, 0]]]}}}}'.encode(),
        f'{{"motion": {{"joints": {json.dumps(GIVEN["joints"])}, "fps": 1e999}}}}'.encode(),
        b'{"motion": {"joints": [[[1e999, 0, 0]]]}}',
        b'{"motion": {"format": "bvh", "data": "\\ud800AAA"}}',
        b'{"motion": {"format": "bvh", "data": "\xe9\xe9\xe9\xe9"}}',
        json.dumps({"motion": GIVEN}).encode("utf-16"),
        b'{"motion": {"joints": [' + b"0," * 10_000_000 + b"0]}}",
    ]
    with asking(Engine(fake), raise_server_exceptions=False) as client:
        for text in texts:
            answer = client.post("/v1/caption", content=text, headers={"Content-Type": "application/json"})
            refusal(answer, 413 if len(text) > 10_000_000 else 422)
    assert fake.calls == []


def test_no_answer_has_a_number_that_is_none(client: TestClient) -> None:
    for path in ("/v1/health", "/v1/model", "/openapi.json"):
        json.loads(client.get(path).text, parse_constant=pytest.fail)
