"""An engine on a model that can do everything, quickly, and its service without a network."""

from collections.abc import Iterator

import pytest
from engine_fixtures import engine, fake
from fastapi.testclient import TestClient
from service_requests import asking

from motiongpt3.service.engine import Engine
from motiongpt3.service.server import ServiceConfig

__all__ = ["engine", "fake"]


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """Asks a service on `engine`; a defect is an answer with status 500."""
    with asking(engine, ServiceConfig(name="fake"), raise_server_exceptions=False) as client:
        yield client
