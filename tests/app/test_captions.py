"""Captions over HTTP by a real model: what it says of each kind of file, and motions that it cannot describe."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_model import standing
from fastapi.testclient import TestClient
from moving_model import swinging
from test_service import as_file, refusal

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.app.engine import Engine
from motiongpt3.app.queue import BatchQueue
from motiongpt3.app.service import create_app


@pytest.fixture(scope="module")
def reader(tiny_reader_dir: Path) -> MotionGPT3:
    return MotionGPT3.from_pretrained(tiny_reader_dir)


@pytest.fixture(scope="module")
def client(reader: MotionGPT3) -> Iterator[TestClient]:
    engine = Engine(reader, BatchQueue(batch=4, wait=0.2))
    with TestClient(create_app(engine), raise_server_exceptions=False) as client:
        yield client
    engine.close()


@pytest.mark.parametrize("kind", ["bvh", "glb", "npz", "npy"])
def test_every_kind_of_file_is_described(kind: str, client: TestClient, reader: MotionGPT3, tmp_path: Path) -> None:
    given = as_file(Motion(swinging(60)), kind, tmp_path)
    wanted = reader.caption(Motion.load(tmp_path / f"x.{kind}"))
    assert client.post("/v1/caption", json={"motion": given}).json() == {"captions": [wanted]}


def test_what_is_generated_is_described(client: TestClient, reader: MotionGPT3) -> None:
    """Several samples are drawn by seed, and a beam is another search."""
    made = client.post("/v1/generate", json={"prompt": "a person walks", "seconds": 2}).json()["motions"][0]
    motion = Motion(made["joints"], made["fps"])
    asked = {"motion": made, "samples": 3, "seed": 5}
    assert client.post("/v1/caption", json=asked).json()["captions"] == reader.caption([motion], samples=3, seed=5)
    answer = client.post("/v1/caption", json={"motion": made, "beams": 3})
    assert answer.json()["captions"] == reader.caption([motion], beams=3)


def test_one_that_cannot_be_described_spoils_no_other(client: TestClient, reader: MotionGPT3) -> None:
    """Two clients in one batch: the one is answered, the other told why not."""
    motions = [Motion(swinging(60)), standing(5, 0)]
    asked = [{"motion": {"joints": motion.joints.tolist(), "fps": motion.fps}} for motion in motions]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda each: client.post("/v1/caption", json=each), asked))
    assert answers[0].json() == {"captions": [reader.caption(motions[0])]}
    assert "0.25 s; the model reads 1 s or more" in refusal(answers[1], 422)


def test_a_model_of_stage_1_has_no_such_path(tiny_model_dir: Path) -> None:
    engine = Engine(MotionGPT3.from_pretrained(tiny_model_dir))
    with TestClient(create_app(engine)) as client:
        assert "caption" not in client.get("/v1/model").json()["tasks"]
        assert client.post("/v1/caption", json={}).status_code == 404
    engine.close()
