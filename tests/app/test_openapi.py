"""Schemathesis invents requests from the OpenAPI page: none breaks the service, and the page says what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fake_model import FakeModel
from hypothesis import HealthCheck, Phase, given, settings
from live_server import serving
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from motiongpt3.app.engine import Engine
from motiongpt3.app.queue import BatchQueue

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
POSTS = ("generate", "caption", "predict", "inbetween", "compose")
GETS = ("/v1/health", "/v1/ready", "/v1/model", "/metrics")


@pytest.fixture(scope="module")
def schema() -> Iterator[Any]:
    fake = FakeModel()
    fake.config.max_seconds = 600.0  # as the page says
    with serving(Engine(fake, BatchQueue(wait=0.0))) as (url, _):
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_every_operation_is_tried(schema: Any) -> None:
    found = {f"{o.ok().method} {o.ok().path}" for o in schema.get_all_operations()}
    assert found == {f"post /v1/{name}" for name in POSTS} | {f"get {path}" for path in GETS}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", POSTS)
def test_invented_requests(name: str, mode: GenerationMode, schema: Any) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(schema[f"/v1/{name}"]["POST"].as_strategy(generation_mode=mode))
    def invent(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    invent()


@pytest.mark.parametrize("path", GETS)
def test_what_can_only_be_read(path: str, schema: Any) -> None:
    schema[path]["GET"].Case().call_and_validate(checks=CHECKS)
