"""Folders the tests read; each can be moved by an environment variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set {variable}")
    return folder


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Inputs, weights and outputs of the official architecture."""
    return _folder("PARITY_DIR", SHARED / "parity")


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Raw motion files as their sources publish them."""
    return _folder("SAMPLES_DIR", SHARED / "data" / "raw_samples")


@pytest.fixture(scope="session")
def mocap_dir() -> Path:
    """The captioned motion capture that `mini` is trained on."""
    return _folder("MOCAP_DIR", SHARED / "data" / "mocap")
