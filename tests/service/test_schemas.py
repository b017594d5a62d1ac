"""Requests as JSON: what is out of range, unknown or no JSON is one line, and every field is explained."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from service_requests import COMPOSE, INBETWEEN, POSE, PREDICT, WALK, refusal

from motiongpt3.motion.postprocess import UNITS
from motiongpt3.service.schemas import CaptionRequest


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        ("generate", {}, "prompt: Field required"),
        ("generate", {"prompt": ""}, "prompt"),
        ("generate", {"prompt": "?!"}, "no words"),
        ("generate", {"prompt": "w" * 301}, "300 characters"),
        ("generate", {"prompt": ["walk"] * 65}, "64"),
        ("generate", {"prompt": ["walk"] * 33, "samples": 2}, "66 motions"),
        ("generate", {"prompt": "\ud800 walk"}, "JSON"),
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


@pytest.mark.slow
def test_a_million_mistakes_are_one_line(client: TestClient) -> None:
    asked = {"motion": {"joints": [[["x"] * 3] * 22] * 12_000}}
    assert "number" in refusal(client.post("/v1/caption", json=asked), 422)
    with pytest.raises(ValidationError) as caught:
        CaptionRequest.model_validate(asked)
    assert caught.value.error_count() == 1, "the first mistake ends the search for more"
