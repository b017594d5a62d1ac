"""The service without a network: what it answers, and what it says when something is wrong."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_model import FakeModel, TextOnly, standing
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_model import swinging
from pydantic import ValidationError

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.motion.postprocess import UNITS, changes, postprocess
from motiongpt3.service import middleware as guard
from motiongpt3.service import routes
from motiongpt3.service.engine import BatchQueue, Engine
from motiongpt3.service.routes import NotAcceptable, media_type
from motiongpt3.service.schemas import CaptionRequest
from motiongpt3.service.server import ServiceConfig, create_app

FILES = {"application/x-npz": "npz", "application/x-bvh": "bvh", "model/gltf-binary": "glb"}
WALK = {"prompt": "a person walks", "seconds": 0.5}
POSE = {"joints": [[[0.0, 0.0, 0.0]] * 22]}
PREDICT = {"motion": POSE, "seconds": 1}
INBETWEEN = {"start": POSE, "end": POSE, "seconds": 1}
COMPOSE = {"parts": [{"prompt": "walk", "seconds": 1.5}, {"prompt": "jump"}]}


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(engine, ServiceConfig(name="fake")), raise_server_exceptions=False) as client:
        yield client


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


# ------------------------------------------------------------------------------------------------------------- answers


def test_generate(client: TestClient, fake: FakeModel) -> None:
    asked = {"prompt": ["a person walks", "jumps"], "seconds": 0.5, "samples": 2, "seed": 7, "guidance": 1.5}
    answer = client.post("/v1/generate", json=asked).json()["motions"]
    assert [(m["caption"], m["seed"]) for m in answer] == [
        ("a person walks", 7), ("a person walks", 8), ("jumps", 7), ("jumps", 8)
    ]  # fmt: skip
    for motion in answer:
        assert (motion["frames"], motion["fps"], motion["seconds"]) == (10, 20, 0.5)
        assert np.asarray(motion["joints"]).shape == (10, 22, 3)
        assert motion["joints"][3][0][0] == motion["seed"]
    assert fake.calls == [["a person walks", "a person walks", "jumps", "jumps"]]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_by_accept(kind: str, client: TestClient, tmp_path: Path) -> None:
    answer = client.post(
        "/v1/generate", json={**WALK, "seed": 2}, headers={"Accept": f"{kind}, application/json;q=0.5"}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    file = tmp_path / re.fullmatch(r'attachment; filename="(motion\.\w+)"', answer.headers["content-disposition"])[1]  # type: ignore[index]
    assert file.suffix == f".{FILES[kind]}"
    file.write_bytes(answer.content)
    found = Motion.load(file)
    assert (len(found), found.fps) == (10, 20)
    assert found.joints[0, 0, 0] == pytest.approx(2, abs=1e-4), "the place tells the seed"


def test_a_file_holds_one_motion(client: TestClient, fake: FakeModel) -> None:
    for more in ({"samples": 2}, {"prompt": ["walk", "jump"]}):
        answer = client.post("/v1/generate", json=WALK | more, headers={"Accept": "application/x-bvh"})
        assert "one motion" in refusal(answer, 406)
    assert "application/x-bvh" in refusal(client.post("/v1/generate", json=WALK, headers={"Accept": "text/html"}), 406)
    assert fake.calls == []


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0.2, model/gltf-binary;q=0.7", "model/gltf-binary"),
        ("MODEL/*", "model/gltf-binary"),
        ("application/x-npz; q=1.0", "application/x-npz"),
        ("application/x-bvh;q=0, application/json", "application/json"),
    ],
)
def test_accept(accept: str | None, kind: str) -> None:
    assert media_type(accept) == kind


@settings(max_examples=50)
@given(st.text())
def test_any_accept_is_answered_or_refused(accept: str) -> None:
    with suppress(NotAcceptable):
        assert media_type(accept) in ("application/json", *FILES)


@pytest.mark.parametrize("kind", ["joints", "bvh", "glb", "npz", "npy"])
def test_motions_go_in(kind: str, client: TestClient, tmp_path: Path) -> None:
    made = client.post("/v1/generate", json=WALK).json()["motions"][0]
    given = made if kind == "joints" else as_file(Motion(made["joints"], made["fps"]), kind, tmp_path)
    assert client.post("/v1/caption", json={"motion": given, "samples": 2}).json() == {
        "captions": ["10 frames, 0", "10 frames, 1"]
    }
    (longer,) = client.post("/v1/predict", json={"motion": given, "seconds": 1, "seed": 3}).json()["motions"]
    assert (longer["frames"], longer["seed"], longer["joints"][0][0][0]) == (30, 3, 3)
    answer = client.post("/v1/inbetween", json={"start": given, "end": given, "seconds": 1, "prompt": "turns"})
    assert answer.json()["motions"][0]["frames"] == 40


def test_compose(client: TestClient) -> None:
    parts = [{"prompt": "walk", "seconds": 1.5}, {"prompt": "jump"}]
    answer = client.post("/v1/compose", json={"parts": parts, "seed": 5}, headers={"Accept": "application/x-npz"})
    assert answer.headers["content-type"] == "application/x-npz"
    assert client.post("/v1/compose", json={"parts": parts}).json()["motions"][0]["frames"] == 50


@pytest.mark.parametrize(
    ("path", "asked"), [("generate", WALK), ("predict", PREDICT), ("inbetween", INBETWEEN), ("compose", COMPOSE)]
)
def test_how_to_draw(path: str, asked: dict[str, Any], client: TestClient, fake: FakeModel) -> None:
    for more in ({}, {"guidance": 3, "steps": 4}, {"guidance": None, "steps": 50}):
        assert client.post(f"/v1/{path}", json=asked | more).status_code == 200
    assert fake.drawn == [(path, 2.0, 10), (path, 3.0, 4), (path, 2.0, 50)]


def moving(frames: int) -> np.ndarray:
    """(T, 22, 3) that JSON gives back exactly."""
    return swinging(frames).round(4)


MOVING: dict[str, Any] = {"joints": moving(40).tolist(), "fps": 20.0}


class Mover(FakeModel):
    """Gives motions back, or some that move."""

    def generate(self, prompt: Sequence[str], seconds: Sequence[float | None], **options: Any) -> list[Motion]:
        return [Motion(moving(round((s or 2) * 20)), 20, words) for words, s in zip(prompt, seconds, strict=True)]

    def predict(self, motion: Motion, seconds: float, *arguments: Any, **options: Any) -> Motion:
        return motion

    def inbetween(self, start: Motion, end: Motion, seconds: float, *arguments: Any, **options: Any) -> Motion:
        return Motion(moving(len(start) + len(end)), start.fps)

    def compose(self, prompts: Sequence[Any], *, progress: Any, **options: Any) -> Motion:
        return Motion(moving(40), 20)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("generate", {"prompt": ["a person walks", "jumps"], "seconds": 2}),
        ("predict", {"motion": MOVING, "seconds": 1}),
        ("inbetween", {"start": MOVING, "end": MOVING, "seconds": 1}),
        ("compose", COMPOSE),
    ],
)
def test_finish(path: str, asked: dict[str, Any]) -> None:
    """The service finishes as Python does, and not at all unless it is asked."""
    with TestClient(create_app(Engine(Mover()))) as client:

        def ask(**more: Any) -> list[dict[str, Any]]:
            answer = client.post(f"/v1/{path}", json=asked | more)
            assert answer.status_code == 200, answer.text
            motions: list[dict[str, Any]] = answer.json()["motions"]
            return motions

        raw = ask()
        assert all(motion["finish"] is None for motion in raw)
        assert ask(finish=None) == ask(finish={}) == ask(finish={"loop": False, "fps": None}) == raw
        options: list[dict[str, Any]] = [
            {"fps": 60}, {"in_place": True, "smooth": 0.2}, {"loop": True}, {"fix_feet": True, "fps": 30, "loop": True}
        ]  # fmt: skip
        for wishes in options:
            made = ask(finish=wishes)
            assert len(made) == len(raw)
            for before, after in zip(raw, made, strict=True):
                wanted = postprocess(Motion(before["joints"], before["fps"]), **wishes)
                assert (after["frames"], after["fps"]) == (len(wanted), wanted.fps)
                assert (after["caption"], after["seed"]) == (before["caption"], before["seed"])
                np.testing.assert_allclose(after["joints"], wanted.joints, atol=1e-4)
                assert after["joints"] != before["joints"]
                measured = changes([Motion(before["joints"], before["fps"])], [wanted])
                for name, both in after["finish"].items():
                    assert both == pytest.approx(measured.pop(name), abs=0.05), name
                assert not measured, "what the commands tell is missing"


def test_a_finished_file(tmp_path: Path) -> None:
    with TestClient(create_app(Engine(Mover()))) as client:
        asked = {"motion": MOVING, "seconds": 1, "finish": {"fps": 30, "in_place": True}}
        answer = client.post("/v1/predict", json=asked, headers={"Accept": "application/x-npz"})
    (tmp_path / "a.npz").write_bytes(answer.content)
    assert Motion.load(tmp_path / "a.npz").fps == 30


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


def test_finishing_does_not_hold_up_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that takes long to finish runs out of time; what it has not begun is dropped, others are served."""
    begun: list[Motion] = []
    free = threading.Event()

    def slowly(motion: Motion, **_: Any) -> Motion:
        begun.append(motion)
        assert free.wait(20)
        return motion

    monkeypatch.setattr("motiongpt3.service.motion_files.postprocess", slowly)
    with TestClient(create_app(engine, ServiceConfig(time_limit=0.5))) as client:
        try:
            asked = {"prompt": ["walk"] * 5, "seconds": 1, "finish": {"fix_feet": True}}
            assert "too long" in refusal(client.post("/v1/generate", json=asked), 503)
            assert client.post("/v1/generate", json=WALK).status_code == 200
        finally:
            free.set()
    assert len(begun) == 1


def test_candidates(client: TestClient) -> None:
    for more, said in (({"candidates": 5}, "1 frames, 0, of 5"), ({"candidates": None}, "1 frames, 0")):
        assert client.post("/v1/caption", json={"motion": POSE} | more).json() == {"captions": [said]}


def test_the_page_tells_what_fields_are(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("Generate", "Predict", "Inbetween", "Compose"):
        fields = schemas[f"{name}Request"]["properties"]
        assert fields["steps"]["description"].startswith("Sampling steps")
        assert fields["seed"]["description"] == "The same seed gives the same motion."
        assert "given frames" in fields["finish"]["description"]
    finish = schemas["Finish"]["properties"]
    assert list(finish) == ["smooth", "fps", "loop", "fix_feet", "in_place"]
    assert all(field["description"] for field in finish.values())
    assert list(schemas["Changes"]["properties"]) == list(UNITS)
    for name, field in schemas["Changes"]["properties"].items():
        assert field["description"].startswith("Share of frames" if UNITS[name] == "of frames" else f"{UNITS[name]}: ")
    assert finish["fps"]["anyOf"][0] == {"type": "number", "minimum": 1, "maximum": 240}


def test_state(client: TestClient, engine: Engine, fake: FakeModel) -> None:
    assert client.get("/v1/health").json() == {"status": "ok"}
    assert client.get("/v1/ready").json() == {"status": "ready"}
    model = client.get("/v1/model").json()
    assert model["name"] == "fake"
    assert model["tasks"] == ["generate", "caption", "predict", "inbetween", "compose"]
    assert (model["max_seconds"], model["steps"], model["max_upload_bytes"]) == (10, 10, 20_000_000)
    fake.free.clear()
    running = engine.generate(["run"])
    while not fake.calls:
        pass
    engine.generate(["walk"] * 64)
    refusal(client.get("/v1/ready"), 503)
    assert client.get("/v1/health").status_code == 200
    fake.free.set()
    running.result(5)


def test_metrics(client: TestClient) -> None:
    for prompt in (["walk", "jump"], ""):
        client.post("/v1/generate", json={"prompt": prompt})
    client.get("/v1/made-up")
    text = client.get("/metrics").text
    assert 'motiongpt3_requests_total{path="/v1/generate",status="200"} 1.0' in text
    assert 'motiongpt3_requests_total{path="/v1/generate",status="422"} 1.0' in text
    assert 'motiongpt3_requests_total{path="other",status="404"} 1.0' in text
    assert "motiongpt3_batch_items_sum 2.0" in text
    assert "motiongpt3_queue_items 0.0" in text
    assert "made-up" not in text


def test_only_what_the_model_can_do() -> None:
    with TestClient(create_app(Engine(TextOnly()))) as client:
        assert client.get("/v1/model").json()["tasks"] == ["generate"]
        assert client.post("/v1/generate", json=WALK).status_code == 200
        assert client.post("/v1/compose", json={"parts": [{"prompt": "walk"}]}).status_code == 404
        assert "/v1/caption" not in client.get("/openapi.json").json()["paths"]


def test_the_page_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    for link in links:
        assert link.startswith("/docs/"), link
        assert client.get(link).status_code == 200
    assert not re.search(r"https?://", page)
    assert '"validatorUrl": null' in page


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        ("generate", {}, "prompt: Field required"),
        ("generate", {"prompt": ""}, "prompt"),
        ("generate", {"prompt": "?!"}, "no words"),
        ("generate", {"prompt": "w" * 301}, "300 characters"),
        ("generate", {"prompt": ["walk"] * 65}, "64"),
        ("generate", {"prompt": ["walk"] * 33, "samples": 2}, "66 motions"),
        ("generate", {"prompt": "\ud800 walk"}, "prompt"),
        ("generate", {"prompt": 3}, "prompt"),
        ("generate", {**WALK, "seconds": 11}, "at most 10"),
        ("generate", {**WALK, "seconds": "4"}, "seconds"),
        ("generate", {**WALK, "seconds": float("nan")}, "seconds: Input should be a finite number"),
        ("generate", {**WALK, "guidance": float("inf")}, "guidance"),
        ("generate", {**WALK, "seed": -1}, "seed"),
        ("generate", {**WALK, "seed": 2**60}, "seed"),
        ("generate", {**WALK, "seed": True}, "seed"),
        ("generate", {**WALK, "steps": 101}, "steps"),
        ("generate", {**WALK, "step": 10}, "step: Extra inputs"),
        ("generate", {"prompt": "refuse"}, "the model does not like this"),
        ("generate", [], "dictionary"),
        ("caption", {"motion": {"joints": []}}, "joints"),
        ("caption", {"motion": {"joints": [[[0, 0, 0]] * 21]}}, "22"),
        ("caption", {"motion": {"joints": [[[0, 0, 0]] * 21 + [[0, 0]]]}}, "3"),
        ("caption", {"motion": {"joints": [[[0, 0, float("nan")]] * 22]}}, "finite"),
        ("caption", {"motion": {"joints": [[[0, 0, 1e300]] * 22]}}, "infinite"),
        ("caption", {"motion": {"joints": [[[0, 0, 0]] * 22] * 12_001}}, "12000"),
        ("caption", {"motion": {"joints": [[[0, 0, 0]] * 22] * 100, "fps": 0.1}}, "1000 seconds"),
        ("caption", {"motion": {"format": "bvh", "data": "no base64!"}}, "base64"),
        ("caption", {"motion": {"format": "bvh", "data": "AAAA"}}, "motion.bvh is not a text file"),
        ("caption", {"motion": {"format": "npz", "data": "AAAA"}}, "motion.npz is not a complete npz file"),
        ("caption", {"motion": {"format": "glb", "data": "AAAA"}}, "motion.glb is no GLB file"),
        ("caption", {"motion": {"format": "glb", "data": "Z2xURgIAAAD/////"}}, "motion.glb is cut short"),
        ("caption", {"motion": {"format": "amc", "data": "AAAA"}}, "format"),
        ("caption", {"motion": {"format": "../../x.npz", "data": "AAAA"}}, "format"),
        ("caption", {"motion": "/etc/passwd"}, "motion"),
        ("caption", {"motion": None}, "motion"),
        ("predict", {"motion": {"joints": [[[0, 0, 0]] * 22]}, "seconds": 0}, "seconds"),
        ("inbetween", {"start": {"joints": [[[0, 0, 0]] * 22]}, "seconds": 1}, "end"),
        ("compose", {"parts": []}, "parts"),
        ("compose", {"parts": [{"prompt": "walk", "seconds": 400}] * 2}, "at most 600 seconds"),
        ("compose", {"parts": [{"prompt": "walk"}] * 17}, "16"),
        ("predict", {**PREDICT, "guidance": -1}, "guidance"),
        ("predict", {**PREDICT, "steps": 0}, "steps"),
        ("inbetween", {**INBETWEEN, "steps": 2.5}, "steps"),
        ("inbetween", {**INBETWEEN, "guidance": "2"}, "guidance"),
        ("compose", {**COMPOSE, "guidance": float("nan")}, "guidance"),
        ("compose", {**COMPOSE, "steps": 101}, "steps"),
        ("compose", {"parts": [{"prompt": "walk", "steps": 5}]}, "steps: Extra inputs"),
        ("generate", {**WALK, "finish": True}, "finish"),
        ("generate", {**WALK, "finish": {"fix_feet": 1}}, "finish.fix_feet"),
        ("generate", {**WALK, "finish": {"fix-feet": True}}, "finish.fix-feet: Extra inputs"),
        ("predict", {**PREDICT, "finish": {"fps": 0}}, "finish.fps"),
        ("predict", {**PREDICT, "finish": {"fps": 241}}, "finish.fps"),
        ("inbetween", {**INBETWEEN, "finish": {"fps": float("nan")}}, "finish.fps"),
        ("inbetween", {**INBETWEEN, "finish": [{"fps": 30}]}, "finish"),
        ("compose", {**COMPOSE, "finish": {"smooth": 0}}, "finish.smooth"),
        ("compose", {**COMPOSE, "finish": {"smooth": 5.5}}, "finish.smooth"),
        ("compose", {**COMPOSE, "finish": {"loop": None}}, "finish.loop"),
        ("caption", {"motion": POSE, "finish": {}}, "finish: Extra inputs"),
        ("caption", {"motion": POSE, "candidates": 0}, "candidates"),
        ("caption", {"motion": POSE, "candidates": 17}, "candidates"),
        ("caption", {"motion": POSE, "candidates": 4.5}, "candidates"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(path: str, asked: Any, message: str, client: TestClient) -> None:
    answer = client.post(f"/v1/{path}", content=json.dumps(asked), headers={"Content-Type": "application/json"})
    assert message in refusal(answer, 422)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b'{"prompt": ' + b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}", b"nul"]
)
def test_what_is_no_json(content: bytes, client: TestClient) -> None:
    answer = client.post("/v1/generate", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    refusal(answer, answer.status_code)


def test_a_million_mistakes_are_one_line(client: TestClient) -> None:
    asked = {"motion": {"joints": [[["x"] * 3] * 22] * 12_000}}
    assert "number" in refusal(client.post("/v1/caption", json=asked), 422)
    with pytest.raises(ValidationError) as caught:
        CaptionRequest.model_validate(asked)
    assert caught.value.error_count() == 1, "the first mistake ends the search for more"


def test_only_declared_json(client: TestClient, fake: FakeModel) -> None:
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        refusal(client.post("/v1/generate", content=json.dumps(WALK), headers={"Content-Type": kind}), 415)
    refusal(client.post("/v1/generate", content=json.dumps(WALK)), 415)
    assert fake.calls == []


def test_too_much(client: TestClient, fake: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "1 MB" in refusal(client.post("/v1/generate", json={"prompt": ["a person walks"] * 100_000}), 413)
    big = {"Content-Type": "application/json", "Content-Length": "2000000000"}
    assert "1 MB" in refusal(client.post("/v1/generate", content=b"{", headers=big), 413)
    refusal(client.post("/v1/generate", json=WALK, headers={"Content-Length": "9" * 5000}), 413)

    def endless() -> Iterator[bytes]:
        for _ in range(2000):
            yield b" " * 1000

    chunked = {"Content-Type": "application/json"}
    refusal(client.post("/v1/generate", content=endless(), headers=chunked), 413)
    assert routes.body_limits()["/v1/caption"] > 20_000_000 * 4 / 3
    monkeypatch.setattr("motiongpt3.service.routes.MAX_UPLOAD", 100)
    data = base64.b64encode(bytes(101)).decode()
    refusal(client.post("/v1/caption", json={"motion": {"format": "bvh", "data": data}}), 413)
    monkeypatch.setattr(guard, "HELD_LIMIT", 10)
    assert refusal(held := client.post("/v1/generate", json=WALK), 429)
    assert int(held.headers["retry-after"]) > 0
    monkeypatch.undo()
    assert client.post("/v1/generate", json=WALK).status_code == 200
    assert len(fake.calls) == 1


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


def test_wrong_paths_and_methods(client: TestClient) -> None:
    refusal(client.get("/v1/nothing"), 404)
    refusal(client.get("/../../etc/passwd"), 404)
    refusal(client.get("/docs/static/../../../etc/passwd"), 404)
    assert refusal(answer := client.get("/v1/generate"), 405)
    assert answer.headers["allow"] == "POST"


# ---------------------------------------------------------------------------------------------------- when all is bad


def test_a_defect_tells_nothing(client: TestClient) -> None:
    assert refusal(client.post("/v1/generate", json={"prompt": "explode"}), 500) == "internal error"
    assert client.post("/v1/generate", json=WALK).status_code == 200


def test_a_full_queue(client: TestClient, engine: Engine, fake: FakeModel) -> None:
    fake.free.clear()
    engine.generate(["run"])
    while not fake.calls:
        pass
    waiting = engine.generate(["walk"] * 64)
    answer = client.post("/v1/generate", json=WALK)
    refusal(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    waiting.cancel()
    fake.free.set()
    assert client.post("/v1/generate", json=WALK).status_code == 200


def test_the_time_limit(engine: Engine, fake: FakeModel) -> None:
    with TestClient(create_app(engine, ServiceConfig(time_limit=0.2))) as client:
        fake.free.clear()
        running = client.post("/v1/generate", json=WALK)
        assert "too long" in refusal(running, 503)
        assert "retry-after" in running.headers
        refusal(client.post("/v1/generate", json={"prompt": "wait"}), 503)
        assert engine.queue.length == 0
        fake.free.set()
        assert client.post("/v1/generate", json=WALK).status_code == 200
    assert ["wait"] not in fake.calls


def test_a_closed_engine(client: TestClient, engine: Engine) -> None:
    engine.close()
    assert "stopping" in refusal(client.post("/v1/generate", json=WALK), 503)
    refusal(client.get("/v1/ready"), 503)


# -------------------------------------------------------------------------------------------------- who may, from where


def test_the_token(engine: Engine, fake: FakeModel) -> None:
    with TestClient(create_app(engine, ServiceConfig(token="s3cret"))) as client:
        wrong: list[dict[str, str]] = [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer s3cre"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer s\u00e9cret"},
        ]
        for headers in wrong:
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            answer = client.post("/v1/generate", json=WALK, headers=encoded)
            refusal(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            for path in ("/v1/model", "/metrics", "/v1/nothing"):
                refusal(client.get(path, headers=encoded), 401)
        for path in ("/v1/health", "/v1/ready", "/docs", "/openapi.json", "/docs/static/swagger-ui.css"):
            assert client.get(path).status_code == 200
        assert fake.calls == []
        for scheme in ("Bearer", "bearer"):
            right = {"Authorization": f"{scheme} s3cret"}
            assert client.post("/v1/generate", json=WALK, headers=right).status_code == 200
            assert client.get("/metrics", headers=right).status_code == 200
        assert "HTTPBearer" in client.get("/openapi.json").json()["components"]["securitySchemes"]


@pytest.mark.parametrize("allowed", [True, False])
def test_other_origins(allowed: bool, engine: Engine) -> None:
    origin = "https://example.org"
    config = ServiceConfig(token="x", cors_origins=(origin,) if allowed else ())
    with TestClient(create_app(engine, config)) as client:
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asking["Access-Control-Request-Headers"] = "authorization,content-type"
        before = client.options("/v1/generate", headers=asking)
        assert before.headers.get("access-control-allow-origin") == (origin if allowed else None)
        for headers in ({"Origin": origin}, {"Origin": origin, "Authorization": "Bearer x"}):
            answer = client.post("/v1/generate", json=WALK, headers=headers)
            assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        other = client.get("/v1/health", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


# ----------------------------------------------------------------------------------------------------------- all of it


def test_batches_come_from_several_requests(fake: FakeModel) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine(fake, BatchQueue(batch=8, wait=10))
    with TestClient(create_app(engine)) as client, ThreadPoolExecutor(8) as pool:
        ask: Callable[[int], Any] = lambda k: client.post("/v1/generate", json={**WALK, "seed": k}).json()  # noqa: E731
        for k, answer in enumerate(pool.map(ask, range(8))):
            assert answer["motions"][0]["joints"][0][0][0] == k
    assert [len(call) for call in fake.calls] == [8]


@pytest.fixture(scope="module")
def reader(tiny_reader_dir: Path) -> MotionGPT3:
    return MotionGPT3.from_pretrained(tiny_reader_dir)


@pytest.fixture(scope="module")
def reading_client(reader: MotionGPT3) -> Iterator[TestClient]:
    engine = Engine(reader, BatchQueue(batch=4, wait=0.2))
    with TestClient(create_app(engine), raise_server_exceptions=False) as reading_client:
        yield reading_client
    engine.close()


@pytest.mark.parametrize("kind", ["bvh", "glb", "npz", "npy"])
def test_every_kind_of_file_is_described(
    kind: str, reading_client: TestClient, reader: MotionGPT3, tmp_path: Path
) -> None:
    given = as_file(Motion(swinging(60)), kind, tmp_path)
    wanted = reader.caption(Motion.load(tmp_path / f"x.{kind}"))
    assert reading_client.post("/v1/caption", json={"motion": given}).json() == {"captions": [wanted]}


def test_what_is_generated_is_described(reading_client: TestClient, reader: MotionGPT3) -> None:
    """Several samples are drawn by seed, and a beam is another search."""
    made = reading_client.post("/v1/generate", json={"prompt": "a person walks", "seconds": 2}).json()["motions"][0]
    motion = Motion(made["joints"], made["fps"])
    asked = {"motion": made, "samples": 3, "seed": 5}
    assert reading_client.post("/v1/caption", json=asked).json()["captions"] == reader.caption(
        [motion], samples=3, seed=5
    )
    answer = reading_client.post("/v1/caption", json={"motion": made, "beams": 3})
    assert answer.json()["captions"] == reader.caption([motion], beams=3)


def test_one_that_cannot_be_described_spoils_no_other(reading_client: TestClient, reader: MotionGPT3) -> None:
    """Two clients in one batch: the one is answered, the other told why not."""
    motions = [Motion(swinging(60)), standing(5, 0)]
    asked = [{"motion": {"joints": motion.joints.tolist(), "fps": motion.fps}} for motion in motions]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda each: reading_client.post("/v1/caption", json=each), asked))
    assert answers[0].json() == {"captions": [reader.caption(motions[0])]}
    assert "0.25 s; the model reads 1 s or more" in refusal(answers[1], 422)


def test_a_model_of_stage_1_has_no_such_path(tiny_model_dir: Path) -> None:
    engine = Engine(MotionGPT3.from_pretrained(tiny_model_dir))
    with TestClient(create_app(engine)) as reading_client:
        assert "caption" not in reading_client.get("/v1/model").json()["tasks"]
        assert reading_client.post("/v1/caption", json={}).status_code == 404
    engine.close()
