"""Motions as bytes and finished motions: what is written, bounded, and leaves nothing behind."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_model import FakeModel, standing
from fastapi.testclient import TestClient
from moving_model import swinging
from service_requests import WALK, as_file, asking, refusal

from motiongpt3 import Motion, MotionGPT3Error
from motiongpt3.motion.postprocess import report
from motiongpt3.service.engine import Engine
from motiongpt3.service.motion_files import check_frames, from_bytes, postprocessed, to_bytes
from motiongpt3.service.server import ServiceConfig


@pytest.mark.slow
def test_what_cannot_be_finished(client: TestClient, fake: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(finish: dict[str, Any], **more: Any) -> Any:
        return client.post("/v1/generate", json={**WALK, **more, "finish": finish})

    assert "at least 1 s" in refusal(ask({"loop": True}), 422)
    assert len(fake.calls) == 1
    many = {"prompt": ["walk"] * 64, "seconds": 10}
    assert "at most 20000 frames" in refusal(ask({"fps": 60}, **many), 422)
    assert client.post("/v1/generate", json=many).status_code == 200
    monkeypatch.setattr("motiongpt3.service.motion_files.MAX_POSTPROCESSED_FRAMES", 30)
    assert ask({"fps": 60}).status_code == 200
    assert "these are 31" in refusal(ask({"fps": 62}), 422)


@pytest.mark.slow
def test_finishing_does_not_hold_up_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that takes long to finish runs out of time; what it has not begun is dropped, others are served."""
    begun: list[Motion] = []
    free = threading.Event()

    def slowly(motion: Motion, **_: Any) -> Motion:
        begun.append(motion)
        assert free.wait(20)
        return motion

    monkeypatch.setattr("motiongpt3.service.motion_files.postprocess", slowly)
    with asking(engine, ServiceConfig(time_limit=0.5)) as client:
        try:
            asked = {"prompt": ["walk"] * 5, "seconds": 1, "finish": {"fix_feet": True}}
            assert "too long" in refusal(client.post("/v1/generate", json=asked), 503)
            assert client.post("/v1/generate", json=WALK).status_code == 200
        finally:
            free.set()
    assert len(begun) == 1


@pytest.mark.parametrize("kind", ["bvh", "glb"])
def test_uploads_leave_no_files(kind: str, client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    motion = as_file(standing(5, 1), kind, tmp_path)
    (tmp_path / f"x.{kind}").unlink()
    assert client.post("/v1/caption", json={"motion": motion}).status_code == 200
    motion["format"] = "npz"
    refusal(client.post("/v1/caption", json={"motion": motion}), 422)
    assert client.post("/v1/generate", json=WALK, headers={"Accept": "application/x-bvh"}).status_code == 200
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("wishes", "told"), [({}, False), ({"loop": True}, False), ({"fps": 240.0}, True)])
def test_what_is_finished_is_bounded(wishes: dict[str, Any], told: bool) -> None:
    long = Motion(np.zeros((2000, 22, 3)), 20)
    with pytest.raises(MotionGPT3Error, match="these are 24000") if told else nullcontext():
        check_frames([long], wishes)


@pytest.mark.parametrize("suffix", ["bvh", "glb", "npz", "npy"])
def test_bytes_and_back(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    motion = Motion(swinging(30), 20)
    again = from_bytes(to_bytes(motion, suffix), suffix)
    assert (len(again), again.fps) == (30, 20)
    assert np.abs(again.joints - motion.joints).max() < 0.02
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(MotionGPT3Error, match=r"^motion\.glb is cut short") as caught:
        from_bytes(b"glTF\2\0\0\0\0\0\0\1", "glb")
    assert str(tmp_path) not in str(caught.value)


def test_measures_are_those_before_and_after() -> None:
    motion = Motion(swinging(60), 20)
    assert postprocessed(motion, {"loop": False, "fps": None}) == (motion, None)
    made, measured = postprocessed(motion, {"in_place": True})
    assert measured is not None
    for side, one in (("before", motion), ("after", made)):
        assert measured["travel"][side] == pytest.approx(report(one)["travel"])
    assert measured["travel"]["after"] < 0.01 < 1 < measured["travel"]["before"]
