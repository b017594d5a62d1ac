"""The service without a network: what it answers, and what it says when something is wrong."""

from __future__ import annotations

import re
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
from service_requests import COMPOSE, INBETWEEN, POSE, PREDICT, WALK, as_file, asking, refusal

from motiongpt3 import Motion, MotionGPT3
from motiongpt3.motion.postprocess import changes, postprocess
from motiongpt3.service.access import Access
from motiongpt3.service.engine import BatchQueue, Engine
from motiongpt3.service.routes import NotAcceptable, media_type
from motiongpt3.service.server import ServiceConfig

FILES = {"application/x-npz": "npz", "application/x-bvh": "bvh", "model/gltf-binary": "glb"}


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


@pytest.mark.slow
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
    with asking(Engine(Mover())) as client:

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
    with asking(Engine(Mover())) as client:
        asked = {"motion": MOVING, "seconds": 1, "finish": {"fps": 30, "in_place": True}}
        answer = client.post("/v1/predict", json=asked, headers={"Accept": "application/x-npz"})
    (tmp_path / "a.npz").write_bytes(answer.content)
    assert Motion.load(tmp_path / "a.npz").fps == 30


def test_candidates(client: TestClient) -> None:
    for more, said in (({"candidates": 5}, "1 frames, 0, of 5"), ({"candidates": None}, "1 frames, 0")):
        assert client.post("/v1/caption", json={"motion": POSE} | more).json() == {"captions": [said]}


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


def test_only_what_the_model_can_do() -> None:
    with asking(Engine(TextOnly())) as client:
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


def test_wrong_paths_and_methods(client: TestClient) -> None:
    refusal(client.get("/v1/nothing"), 404)
    refusal(client.get("/../../etc/passwd"), 404)
    refusal(client.get("/docs/static/../../../etc/passwd"), 404)
    assert refusal(answer := client.get("/v1/generate"), 405)
    assert answer.headers["allow"] == "POST"


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


def test_a_closed_engine(client: TestClient, engine: Engine) -> None:
    engine.close()
    assert "stopping" in refusal(client.post("/v1/generate", json=WALK), 503)
    refusal(client.get("/v1/ready"), 503)


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [True, False])
def test_other_origins(allowed: bool, engine: Engine) -> None:
    origin = "https://example.org"
    config = ServiceConfig(token="x", access=Access(origins=(origin,) if allowed else ()))
    with asking(engine, config) as client:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization,content-type"
        before = client.options("/v1/generate", headers=asked)
        assert before.headers.get("access-control-allow-origin") == (origin if allowed else None)
        for headers in ({"Origin": origin}, {"Origin": origin, "Authorization": "Bearer x"}):
            answer = client.post("/v1/generate", json=WALK, headers=headers)
            assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        other = client.get("/v1/health", headers={"Origin": "https://evil.example"})
        assert "may not ask" in refusal(other, 403)
        assert "access-control-allow-origin" not in other.headers
        assert (client.get("/v1/health", headers={"Host": "example.org"}).status_code == 200) == allowed


def test_another_name(client: TestClient, fake: FakeModel) -> None:
    """A site that gives its own name the address 127.0.0.1 gets nothing."""
    for path in ("/v1/health", "/docs", "/openapi.json"):
        assert "name" in refusal(client.get(path, headers={"Host": "rebound.example:8000"}), 403)
    refusal(client.post("/v1/generate", json=WALK, headers={"Host": "rebound.example"}), 403)
    assert fake.calls == []


def test_batches_come_from_several_requests(fake: FakeModel) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine(fake, BatchQueue(batch=8, wait=10))
    with asking(engine) as client, ThreadPoolExecutor(8) as pool:
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
    with asking(engine, raise_server_exceptions=False) as reading_client:
        yield reading_client
    engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bvh", "glb", "npz", "npy"])
def test_every_kind_of_file_is_described(
    kind: str, reading_client: TestClient, reader: MotionGPT3, tmp_path: Path
) -> None:
    given = as_file(Motion(swinging(60)), kind, tmp_path)
    wanted = reader.caption(Motion.load(tmp_path / f"x.{kind}"))
    assert reading_client.post("/v1/caption", json={"motion": given}).json() == {"captions": [wanted]}


@pytest.mark.slow
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


@pytest.mark.slow
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
    with asking(engine) as reading_client:
        assert "caption" not in reading_client.get("/v1/model").json()["tasks"]
        assert reading_client.post("/v1/caption", json={}).status_code == 404
    engine.close()
