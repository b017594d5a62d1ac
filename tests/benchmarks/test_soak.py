"""Many clients, slow and broken ones among them, against a service whose model is quick."""

from __future__ import annotations

import asyncio

import pytest
from fake_model import FakeModel
from live_server import serving
from soak import BROKEN, attack

from motiongpt3.service.engine import Engine


@pytest.mark.slow
def test_every_whole_request_is_answered_or_refused_with_a_reason() -> None:
    with serving(Engine(FakeModel())) as (url, _):
        found = asyncio.run(attack(url, clients=24, seed=3, end=lambda sent: sent >= 4))
    assert found.wrong == []
    assert sum(found.answers.values()) == 96
    assert not [name for name in found.answers if name.endswith("lost")]
    assert {name.split(":")[0] for name in found.answers} & set(BROKEN)
