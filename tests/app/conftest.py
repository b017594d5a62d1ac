"""An engine on a model that can do everything, quickly."""

from engine_fixtures import engine, fake

__all__ = ["engine", "fake"]
