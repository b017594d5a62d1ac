"""An engine on a model that can do everything, quickly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_model import FakeModel

from motiongpt3.service.engine import BatchQueue, Engine


@pytest.fixture
def fake() -> FakeModel:
    return FakeModel()


@pytest.fixture
def engine(fake: FakeModel) -> Iterator[Engine]:
    """An engine of batches of 4 with room for 64."""
    engine = Engine(fake, BatchQueue(batch=4, wait=0.005, limit=64))
    yield engine
    fake.free.set()
    engine.close(finish=False)
